"""Energy that no mapping of one Einsum is below, for the points of all its frames at once.

The loops of a frame of one Einsum stand one in the other, so that everything
has a closed form.  Of a point whose loops all have more than one trip (any
other is a point of a shorter sequence, ``Frame.idle``), let *rho* of a tensor
at a spot be the product of the trips of all loops above it that the tensor
does not need.  A tile is held at spots that ``holds`` does not leave out: the
tensor needs the spot's loop, and not the next one.  Then its fills bring the
whole tensor rho times (``evaluate.fetches``: a loop that it needs stands inside
each of those loops), and the tile is the tensor less the trips that it needs so
far.  What the PEs touch is in ``touched``.

*Held*: given the level that serves each tensor, its holds take at least what
the cheapest set takes that has rho there and 1 at all levels further out.
The sum over tensors, the least over spots whose tiles fit together in the
levels that serve, is below every mapping of the point that serves them so.

*Touched*: the least over all runs of the Einsum, every tensor at its level.

Both parts add up, and the least over all ways to serve the tensors is the bound.
Ways and innermost extents that are above what is asked for with rho 1, or whose
innermost tiles do not fit, are left out before spots are looked at: rho and
tiles of spots further out are no less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations, product
from typing import Any, TypeAlias

import numpy as np

from accelsim.ir.rule import divisors
from accelsim.mapper.cuts import Cuts, tile_sizes
from accelsim.mapper.evaluate import BACKING, Array, Numbers
from accelsim.mapper.frame import MOST_LOOPS, Use, batch_ranks, frame, loop_ranks, sequences
from accelsim.mapper.grid import cuts_of
from accelsim.mapper.holds import levels_between
from accelsim.mapper.space import Space
from accelsim.mapper.touched import Prices, Served, Touched


class _Cut:
    """A rank cut by loops of more than one trip each.

    ``trips`` of each loop; ``tiles``: extents of full tiles, the whole first; the places
    ``at`` of the innermost extents among all, and ``numbers`` of the rows in a grid
    that has ``of``.
    """

    def __init__(self, table: Cuts, size: int, known: Array) -> None:
        good = np.all(table.trips[:, :-1] > 1, axis=1)
        self.of = len(table.trips)
        self.numbers = np.flatnonzero(good)
        self.trips = [np.ascontiguousarray(t) for t in table.trips[good, :-1].T]
        inside = np.cumprod(table.full[good, ::-1], axis=1)[:, ::-1]
        inside[:, 0] = size
        self.tiles = [np.ascontiguousarray(t) for t in inside.T]
        self.at = np.searchsorted(known, inside[:, -1])


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop at some points: its rank and trips, and a full tile of the rank around and in it."""

    rank: str
    trips: Any
    around: Any
    inside: Any


#: What some points come to: of their bounds, places of innermost extents, and loops.
Figure: TypeAlias = Callable[[Array, Sequence[Numbers], Sequence[Loop]], Array]


@dataclass(frozen=True, slots=True)
class _Spot:
    """A spot that may hold a tensor: rho, and words of the tile with all its copies."""

    rho: Any
    tile: Any
    copies: int


def covers(base: Space) -> bool:
    """Whether the closed forms cover the Einsum of a frame without loops.

    They do for one plain access a tensor, over ranks that the cascade neither
    splits nor recurs along, where no extent of a part is asked for.
    """
    cascade, task = base.cascade, base.task
    split = {p for _, parts in cascade.splits for p in parts} | set(cascade.iterative.values())
    ranks = {r for r, _ in base.frame.parts}
    return (
        len(base.frame.einsums) == 1
        and not task.wishes.extents
        and not split & ranks
        and ranks <= set(task.sizes)
        and bool(ranks - set(batch_ranks(cascade, base.frame.einsums)))
        and all(len(found) == 1 for found in base.counts.uses.values())
        and all(sorted(u.tile) == sorted(u.needs) for (u,) in base.counts.uses.values())
        and not any(base.counts.inside(t) for t in base.counts.uses)
    )


class Chains:
    """All frames of one Einsum, of at most so many loops; ``base`` is the space without loops."""

    def __init__(self, base: Space, loops: int = MOST_LOOPS) -> None:
        self.base, self.task = base, base.task
        (self.einsum,) = base.frame.einsums
        self.sides = self.task.sides((self.einsum,))
        cascade, sizes = base.cascade, base.task.sizes
        batch = batch_ranks(cascade, (self.einsum,))
        self.batch = math.prod(sizes[r] for r in batch)
        ranks = [r for r, _ in base.frame.parts if r not in batch]
        self.orders = tuple(sequences(loop_ranks(cascade, (self.einsum,)), loops))
        self.extents = {r: np.array(self._tile_sizes(r), dtype=np.float64) for r in ranks}
        self.touched = Touched(base, self.extents, self.task.word_joules)
        self.uses = self.touched.uses
        self.levels = levels_between(self.task.arch)
        self._cuts: dict[tuple[str, int], _Cut] = {}
        self._worth: dict[tuple[str, float, Served | None], list[tuple[Served, Array]]] = {}
        self._full: dict[Served, Any] = {}

    def dearer(self, prices: Prices, most: float) -> Chains:
        """The same where words cost more joules, for mappings that cost at most so many here."""
        lasts = ("", *self.extents)
        worth = {served for last in lasts for served, _ in self._good(last, most, None)}
        other = object.__new__(Chains)
        other.__dict__ |= {k: v for k, v in self.__dict__.items() if k != "ways"}
        other.touched, other._worth = self.touched.priced(prices), {}
        other.__dict__["served"] = tuple(s for s in self.served if s in worth)
        return other

    # -- ways to serve the tensors -----------------------------------------------------------

    def levels_of(self, use: Use) -> list[tuple[int, ...]]:
        """Levels at which a tensor may be held together, outermost first."""
        asked = self.task.wishes.holds.get(use.tensor)
        names = [level.name for level in self.task.arch.levels]
        return [
            some
            for n in range(len(self.levels) + 1)
            for some in combinations(self.levels, n)
            if asked is None or asked in [names[v] for v in some]
        ]

    @cached_property
    def ways(self) -> tuple[dict[int, list[tuple[float, float]]], ...]:
        """For each tensor and level that may serve it the joules of sets of holds.

        As pairs (a, b): a set takes a * rho + b, with rho of the spot at that level
        and 1 further out.
        """
        prices, every = self.touched.prices, []
        for use, words in zip(self.uses, self.touched.words, strict=True):
            found: dict[int, list[tuple[float, float]]] = {}
            for some in self.levels_of(use):
                a = b = 0.0
                for outer, level in zip((BACKING, *some), some, strict=False):
                    fill, drain = prices[outer][0] + prices[level][1], 0.0
                    b += a
                    if use.writes:
                        drain = prices[outer][1] + prices[level][0]
                        b -= words * fill
                    a = words * (fill + drain)
                found.setdefault(some[-1] if some else BACKING, []).append((a, b))
            every.append(found)
        return tuple(every)

    def held(self, n: int, level: int, rho: Any) -> Any:
        """Joules of the cheapest set of holds of a tensor that ends at a level with rho there."""
        found: Any = np.inf
        for a, b in self.ways[n][level]:
            found = np.minimum(found, a * rho + b)
        return found

    def least(self, served: Served) -> float:
        """Joules that no holds are below which serve the tensors so."""
        return sum(float(self.held(n, level, 1.0)) for n, level in enumerate(served))

    @cached_property
    def served(self) -> tuple[Served, ...]:
        """Every way to serve the tensors, the most promising first."""
        found = list(product(*self.ways))
        hope = {s: self.least(s) + float(self.touched.least(s, "").min()) for s in found}
        return tuple(sorted(found, key=lambda s: (hope[s], s)))

    # -- points of a frame -------------------------------------------------------------------

    def cut(self, rank: str, times: int) -> _Cut:
        """A rank cut by so many loops."""
        if (rank, times) not in self._cuts:
            size, tiles = self.task.sizes[rank], self.task.wishes.tiles.get(rank, ())
            table = cuts_of(size, times + 1, tiles, self.sides)
            self._cuts[rank, times] = _Cut(table, size, self.extents[rank])
        return self._cuts[rank, times]

    def _tile_sizes(self, rank: str) -> Sequence[int]:
        """Extents that tiles of a rank may have."""
        size = self.task.sizes[rank]
        if self.sides is None or rank in self.task.wishes.tiles:
            return divisors(size)
        return tile_sizes(size, self.sides)

    def space(self, order: Sequence[str]) -> Space:
        """The mapspace of a frame."""
        return Space(self.task, frame(self.base.cascade, (self.einsum,), order))

    def size(self, order: Sequence[str]) -> tuple[int, int]:
        """Points of a frame's grid, those of shorter sequences among them, and its mappings."""
        points = math.prod(self.cut(r, order.count(r)).of for r in self.extents)
        mappings = 2 * points * self._spreads
        for n, use in enumerate(self.uses):
            spots = len(self._spots(n, [Loop(r, 1.0, 1.0, 1.0) for r in order]))
            mappings *= sum(math.comb(spots + len(s) - 1, len(s)) for s in self.levels_of(use))
        return points, mappings

    @cached_property
    def _spreads(self) -> int:
        return self.base.spreads_of(self.einsum)

    def points(
        self, order: Sequence[str], most: float, only: Served | None = None
    ) -> tuple[Numbers, Array]:
        """Numbers of points of a frame whose bound is at most so many joules, and their bounds.

        With ``only`` one way to serve the tensors is looked at, and the bound is
        one on mappings that serve them so.

        >>> from accelsim.explore.map import task_for
        >>> from accelsim.mapper.frame import frame
        >>> task, _ = task_for("matmul", arch="teaching", shape="M=4,N=4,K=4")
        >>> chains = Chains(Space(task, frame(task.cascade, ("C",), ())))
        >>> numbers, joules = chains.points(("M",), math.inf)
        >>> len(numbers), chains.size(("M",))[0]
        (2, 3)
        """
        ways = self._good(order[-1] if order else "", most, only)
        return self.among(order, [(b, partial(self._served, s, most)) for s, b in ways], most)

    def among(
        self, order: Sequence[str], ways: Sequence[tuple[Array, Figure]], most: float
    ) -> tuple[Numbers, Array]:
        """Numbers of points of a frame with a figure of at most so much, and their figures.

        That is the least of several ways: of each a bound by innermost extents, and
        what it comes to at some points, given their bounds, places of extents and loops.
        """
        cuts = {r: self.cut(r, order.count(r)) for r in self.extents}
        places = [c.at for c in cuts.values()]
        if not ways:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        best = np.full([len(p) for p in places], np.inf)
        for least, figure in ways:
            at = np.nonzero(least[np.ix_(*places)] <= most)
            if len(at[0]):
                inside = [p[i] for p, i in zip(places, at, strict=True)]
                loops = self._loops(order, cuts, dict(zip(cuts, at, strict=True)))
                found = figure(least[tuple(inside)], inside, loops)
                best[at] = np.minimum(best[at], found)
        few = np.nonzero(best <= most)
        rows = [c.numbers[i] for c, i in zip(cuts.values(), few, strict=True)]
        return np.ravel_multi_index(rows, [c.of for c in cuts.values()]), best[few]

    def _served(
        self,
        served: Served,
        most: float,
        least: Array,
        inside: Sequence[Numbers],
        loops: Sequence[Loop],
    ) -> Array:
        """Bounds of some points if the tensors are served so; infinite where above so many joules.

        ``least`` are their bounds by innermost extents, of which ``inside`` gives the
        places, of ``loops``.
        """
        spots = [self._spots(n, loops) for n in range(len(self.uses))]
        found = np.full(len(least), np.inf)
        held = self._held(spots, served, len(least))
        close = np.flatnonzero(least - self.least(served) + held <= most)
        if len(close):
            rhos = [np.broadcast_to(s[-1].rho, held.shape)[close] for s in spots]
            touched = self.touched.at(served, [i[close] for i in inside], rhos)
            found[close] = touched + held[close]
        return found

    def more(self, served: Served, loops: Sequence[Loop], count: int) -> Array:
        """Joules of holds at some points, beyond ``least``, if the tensors are served so."""
        spots = [self._spots(n, loops) for n in range(len(self.uses))]
        return self._held(spots, served, count) - self.least(served)

    def _good(self, last: str, most: float, only: Served | None) -> list[tuple[Served, Array]]:
        """Ways to serve the tensors, with a bound by innermost extents that is somewhere so low."""
        key = last, most if only is None else math.inf, only
        if key not in self._worth:
            self._worth[key] = []
            for served in self.served if only is None else (only,):
                bound = self.least(served) + self.touched.least(served, last)
                if only is not None or bound.min() <= most:
                    bound = np.where(self.crowded(served), np.inf, bound)
                    self._worth[key].append((served, bound))
        return self._worth[key]

    def crowded(self, served: Served) -> Any:
        """Whether innermost tiles do not fit the levels that serve them, by innermost extents."""
        if served in self._full:
            return self._full[served]
        over: Any = np.bool_(False)
        for level in {v for v in served if v != BACKING}:
            words: Any = 0.0
            for use, at in zip(self.uses, served, strict=True):
                tile: Any = 1.0
                for rank in (r for r in self.extents if r in use.needs and at == level):
                    tile = tile * self.touched.axis(rank, self.extents[rank])
                words = words + (tile if at == level else 0.0)
            over = over | (words > self.task.room(level)[0])
        self._full[served] = over
        return over

    def _loops(
        self, order: Sequence[str], cuts: Mapping[str, _Cut], at: Mapping[str, Numbers]
    ) -> list[Loop]:
        """Each loop, outermost first, at some points."""
        found = []
        for n, rank in enumerate(order):
            cut, depth, here = cuts[rank], order[:n].count(rank), at[rank]
            around, inside = cut.tiles[depth][here], cut.tiles[depth + 1][here]
            found.append(Loop(rank, cut.trips[depth][here], around, inside))
        return found

    def _spots(self, n: int, loops: Sequence[Loop]) -> list[_Spot]:
        """The spots that may hold a tensor, outermost first."""
        needs, rho = self.uses[n].needs, np.float64(1.0)
        tile: Any = self.touched.words[n] / self.batch
        copies = self.task.wishes.buffers if self.batch > 1 else 1
        found = []
        for at in range(len(loops) + 1):
            own = at == 0 or loops[at - 1].rank in needs
            if at and own:
                tile = tile * loops[at - 1].inside / loops[at - 1].around
                copies = self.task.wishes.buffers
            elif at:
                rho = rho * loops[at - 1].trips
            if own and (at == len(loops) or loops[at].rank not in needs):
                found.append(_Spot(rho, tile, copies))
        return found

    def _held(self, spots: Sequence[Sequence[_Spot]], served: Served, count: int) -> Array:
        """Joules of holds that serve the tensors so, at the least; infinite where none fit."""
        choices = []
        for n, level in enumerate(served):
            most = self.task.room(level)[1] if level != BACKING else math.inf
            choices.append([
                (level, s.tile * s.copies,
                 self.held(n, level, s.rho) + np.where(s.tile <= most, 0.0, np.inf))
                for s in (spots[n] if level != BACKING else ())
            ])  # fmt: skip
        best = np.full(count, np.inf)
        for chosen in product(*(c for c in choices if c)):
            room: dict[int, Any] = {}
            total: Any = 0.0
            for level, words, joules in chosen:
                room[level] = room.get(level, 0.0) + words
                total = total + joules
            over: Any = np.bool_(False)
            for level, words in room.items():
                over = over | (words > self.task.room(level)[0])
            best = np.minimum(best, np.where(over, np.inf, total))
        return best
