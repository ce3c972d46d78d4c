"""What must be live on chip for a cascade to touch memory once, as a formula in the rank sizes.

**Schedule.**  One rank is *streamed*: that with most passes.  Its passes are
made one after the other; within a position the remaining ranks are loops in
the order in which the cascade declares them, parts of a split rank from the
outermost inwards.  Ranks that every value of the chain of passes carries (the
batch, the head, the query) are *in flight*: each of their points is a
computation of its own, and the formula is for one of them.  Nothing is
computed twice and nothing returns to memory.

**What stays.**  A tensor is held over a rank of its own if

- it is read in a later pass over the rank than that in which it is first
  there: its whole fiber, with all that lies inside; or
- it has no coordinate along a loop further out in which it is read or
  written: a sum that grows, an operand that is used again, the state of a
  recurrence.  (Its slots take one place, or two where one Einsum reads slot t
  and slot t+1, as the correction of a running maximum does.)

Otherwise one element of it is there at a time.  In a pass that ends one fiber
and begins another (SN takes the place of QK) elements of the two add up to
one fiber, so that the most is needed where a pass begins or ends.  The
footprint is the greatest of these sums.  It is what this schedule needs, with
every value of a position counted as if all were there at once: not a lower
bound on other schedules, which may trade room for recomputation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, prod

from accelsim.analysis.fibers import Plan, roots
from accelsim.analysis.proof import steps
from accelsim.analysis.sweeps import Sweeps
from accelsim.ir.cascade import Cascade


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor on chip during passes ``first`` to ``last`` over the streamed rank.

    ``whole``: the ranks over which it is held where a pass carries it on to
    the next; ``passing``: those over which it is held while it passes;
    ``flight``: the ranks in flight that it has; ``places``: how often.
    """

    tensor: str
    first: float
    last: float
    whole: tuple[str, ...]
    passing: tuple[str, ...]
    flight: tuple[str, ...]
    places: int = 1

    def ranks(self, number: float, *, begins: bool) -> tuple[str, ...] | None:
        """The ranks over which it is held where a pass begins or ends; None: not there."""
        if not self.first <= number <= self.last:
            return None
        carried = self.first < number if begins else number < self.last
        return self.whole if carried else self.passing


@dataclass(frozen=True, slots=True)
class Words:
    """A sum of products of rank sizes: ``((ranks, times), ...)``, the largest products first."""

    terms: tuple[tuple[tuple[str, ...], int], ...]

    @staticmethod
    def of(products: Iterable[tuple[str, ...]]) -> Words:
        """The sum of some products.

        >>> print(Words.of([("M",), (), ("E",), ("M",), ()]))
        2*M + E + 2
        """
        counts: dict[tuple[str, ...], int] = {}
        for ranks in products:
            counts[ranks] = counts.get(ranks, 0) + 1
        return Words(tuple(sorted(counts.items(), key=lambda t: (-len(t[0]), -t[1], t[0]))))

    def __str__(self) -> str:
        """The sum as text."""
        said = (
            "*".join(([str(n)] if n > 1 or not ranks else []) + list(ranks))
            for ranks, n in self.terms
        )
        return " + ".join(said) or "0"

    def within(self, other: Words) -> bool:
        """Whether this is no more than ``other`` at any sizes from 1 up, product by product.

        Each product here is laid under one of ``other`` that has its ranks.

        >>> Words.of([("M",), ()]).within(Words.of([("M",), ("E",)]))
        True
        """
        free = dict(reversed(other.terms))
        for ranks, times in self.terms:
            left = times
            for above, room in free.items():
                if set(ranks) <= set(above):
                    free[above] -= min(left, room)
                    left -= min(left, room)
            if left:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Footprint:
    """The live words of a cascade for one point of the ranks ``in_flight``.

    ``streamed``: the rank whose passes order the computation.  ``parts``:
    split ranks, by whose parts ``formula`` writes them.
    """

    cascade: str
    streamed: str
    passes: float
    in_flight: tuple[str, ...]
    held: tuple[Held, ...]
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def moments(self) -> tuple[tuple[float, bool], ...]:
        """The moments at which most may be live: (pass, whether it begins or ends)."""
        numbers = sorted({n for h in self.held for n in (h.first, h.last)})
        return tuple((n, begins) for n in numbers for begins in (True, False))

    @property
    def sums(self) -> tuple[Words, ...]:
        """The live words at each moment, less those that are never more than another's."""
        found = [
            Words.of(
                self._joined(ranks)
                for h in self.held
                if (ranks := h.ranks(n, begins=begins)) is not None
                for _ in range(h.places)
            )
            for n, begins in self.moments
        ]
        unlike = list(dict.fromkeys(found))
        return tuple(w for w in unlike if not any(w != o and w.within(o) for o in unlike))

    @property
    def formula(self) -> str:
        """The footprint in words, for one point in flight: ``max(..., ...)`` where sizes decide."""
        said = [str(w) for w in self.sums]
        return said[0] if len(said) == 1 else f"max({', '.join(said)})"

    def words(self, sizes: Mapping[str, int], in_flight: Mapping[str, int] | None = None) -> int:
        """The footprint in words at given sizes of ranks and parts.

        ``in_flight``: how many points of each of those ranks are in flight at
        once, 1 where not given; a tensor without the rank is shared by them.
        """
        at_once = in_flight or {}
        most = 0
        for n, begins in self.moments:
            total = 0
            for h in self.held:
                ranks = h.ranks(n, begins=begins)
                if ranks is not None:
                    total += (
                        h.places
                        * prod(sizes[r] for r in ranks)
                        * prod(at_once.get(r, 1) for r in h.flight)
                    )
            most = max(most, total)
        return most

    def _joined(self, ranks: tuple[str, ...]) -> tuple[str, ...]:
        """A product of sizes with the whole rank for all its parts."""
        for whole, parts in self.parts:
            if set(parts) <= set(ranks):
                ranks = (whole, *(r for r in ranks if r not in parts))
        return ranks


def footprint(cascade: Cascade, streamed: str = "") -> Footprint:
    """What a cascade must hold on chip to touch memory once, one point in flight.

    ``streamed``: the rank, or outermost part of one, whose passes order the
    computation; that with most passes where not given.

    >>> from accelsim.ir.cascade import Access, Einsum, Index, Map, Reduction, Tensor
    >>> m = Index((("m", 1),))
    >>> x, g, y = Access("X", (m,)), Access("G"), Access("Y", (m,))
    >>> total = Einsum(g, x, (Reduction("sum", ("m",)),))
    >>> share = Einsum(y, Map("div", (x, g)))
    >>> c = Cascade("share", ("M",), (Tensor("X", ("M",)),), (total, share), ("Y",))
    >>> footprint(c).formula, footprint(c).words({"M": 100})
    ('M + 2', 102)
    """
    return _Layout(Plan(cascade), streamed).footprint()


class _Layout:
    """The order of loops, the pass of each Einsum over each rank, and what stays for how long."""

    def __init__(self, plan: Plan, streamed: str = "") -> None:
        self.plan = plan
        self.along = plan.cascade.iterative
        self.bands: dict[str, dict[int, float]] = {}
        self.chain: dict[str, set[str]] = {}
        for root in roots(plan):
            sweeps = Sweeps(plan, root)
            if sweeps.most > 1:
                bands = self.bands.setdefault(root.rank, {})
                for (n, _), level in sweeps.levels.items():
                    bands[n] = max(bands.get(n, 1), *level.values())
                chain = {name for step in steps(sweeps) for name in step.chain}
                self.chain.setdefault(root.rank, set()).update(chain)
        self.streamed = streamed or self._streamed()
        self.flight = self._flight()
        self.nest = self._nest()

    def _band(self, rank: str, n: int) -> float:
        return self.bands.get(rank, {}).get(n, 1)

    def _passes(self, rank: str) -> float:
        return max(self.bands.get(rank, {}).values(), default=1)

    def _streamed(self) -> str:
        """The rank, or outermost part, with most passes; of equals one stepped over or summed."""
        cascade = self.plan.cascade
        outer = [cascade.parts[r][0] for r in cascade.ranks]
        summed = {v.upper() for n in self.plan.needed for v in cascade.einsums[n].reduced}
        stepped = set(self.along.values())
        return max(outer, key=lambda r: (self._passes(r), r in stepped, r in summed), default="")

    def _flight(self) -> tuple[str, ...]:
        """Ranks that every value of the chain carries, or every value where there is no chain."""
        whole = self.plan.cascade.whole
        own = set(self.plan.cascade.parts.get(whole.get(self.streamed, ""), ()))
        chain = next((self.chain[r] for r in (self.streamed, *own) if r in self.chain), None)
        carried = [
            {r for r in self.plan.ranks[self.plan.target[n]] if r}
            for n in self.plan.needed
            if chain is None or self.plan.names[n] in chain
        ]
        common = set.intersection(*carried) if carried else set()
        return tuple(r for r in whole if r in common - own - set(self.along.values()))

    def _nest(self) -> tuple[str, ...]:
        """The loops of one point in flight, outermost first: the streamed rank, then the others."""
        whole = self.plan.cascade.whole
        parts = self.plan.cascade.parts.get(whole.get(self.streamed, ""), ())
        return (*parts, *(r for r in whole if r not in parts and r not in self.flight))

    def footprint(self) -> Footprint:
        tensors = dict.fromkeys(
            [
                *(r.tensor for n in self.plan.needed for r in self.plan.reads[n]),
                *(self.plan.target[n] for n in self.plan.needed),
            ]
        )
        return Footprint(
            self.plan.cascade.name,
            self.streamed,
            self._passes(self.streamed),
            self.flight,
            tuple(self._held(t) for t in tensors),
            self.plan.cascade.splits,
        )

    def _held(self, tensor: str) -> Held:
        ranks = [r for r in self.plan.ranks[tensor] if r]
        first, last = self._span(tensor, self.streamed)
        inner = tuple(r for r in self.nest if r in ranks and r != self.streamed)
        state = self.along.get(tensor)
        passing: list[str] = []
        inside = False
        for rank in inner:
            began, ended = self._span(tensor, rank)
            inside = inside or ended > began or ended == inf or self._outside(tensor, rank)
            if inside and rank != state:
                passing.append(rank)
        whole = tuple(passing)
        if self.streamed in ranks and not self._only_last(tensor, first):
            whole = (self.streamed, *inner)
        flight = tuple(r for r in self.flight if r in ranks)
        return Held(tensor, first, last, whole, tuple(passing), flight, self._places(tensor))

    def _places(self, tensor: str) -> int:
        """Slots of a recurrence that are there at once; 1 of any other tensor."""
        state = self.along.get(tensor)
        if state is None:
            return 1
        at = self.plan.ranks[tensor].index(state)
        reads = (
            {r.at[at].offset for r in self.plan.reads[n] if r.tensor == tensor and r.at[at].plain}
            for n in self.plan.graph.readers.get(tensor, ())
        )
        return max((len(slots) for slots in reads), default=1) or 1

    def _only_last(self, tensor: str, first: float) -> bool:
        """Whether later passes read no other slot of a recurrence than the last."""
        if self.along.get(tensor) != self.streamed:
            return False
        at = self.plan.ranks[tensor].index(self.streamed)
        return all(
            read.at[at].last
            for n in self.plan.graph.readers.get(tensor, ())
            for read in self.plan.reads[n]
            if read.tensor == tensor and self._band(self.streamed, n) > first
        )

    def _span(self, tensor: str, rank: str) -> tuple[float, float]:
        """The passes over a rank in which a tensor is first there, and last read."""
        writes = [n for n in self.plan.needed if self.plan.target[n] == tensor]
        reads = self.plan.graph.readers.get(tensor, ())
        first = min(self._band(rank, n) for n in (writes or reads))
        return first, max(self._band(rank, n) for n in (*reads, *writes))

    def _outside(self, tensor: str, rank: str) -> bool:
        """Whether a loop outside that of ``rank`` uses the tensor, which does not run over it."""
        own = {r for r in self.plan.ranks[tensor] if r} - {self.along.get(tensor)}
        users = [
            n
            for n in self.plan.needed
            if self.plan.target[n] == tensor or any(r.tensor == tensor for r in self.plan.reads[n])
        ]
        outer = self.nest[: self.nest.index(rank)]
        return any(
            q not in own and q.lower() in self.plan.variables[n] for q in outer for n in users
        )
