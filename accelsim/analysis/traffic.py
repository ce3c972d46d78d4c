"""How little a cascade can move between memory and the chip, whatever the schedule.

**The machine.**  Memory holds the inputs at first and must hold the outputs
at last; the chip holds S words.  A point of an Einsum is computed when its
operands and the word that it accumulates into are on chip together (a partial
sum in place, a first one beside them).  A word moved either way costs one.  Computing again,
dropping, any order, any number of partial sums of one element and any fusion
are free.  (Algebra is not: a schedule computes the cascade's points.)
Tensor predicates (``where Keep[i,j]``) are counted as if all were true.

**Compulsory.**  Inputs that are read once, outputs once.

**Blocks.**  Take one statement; for each of its F needed points one execution
whose result reaches an output; in order of time.  Cut the sequence into
blocks of n points, the last of one the first of the next: B = (F-1) // (n-1)
blocks, whose *insides*, the times from just after the first point of a block
to its last, do not overlap.  Words that the n points touch are on chip at the
first point (at most S) or arrive inside the block.  If n points touch more
than S + A words, more than A arrive in each block, and before the last point
of the first block S more: at first nothing is on chip.  Hong and Kung (STOC
1981) with the segments of Irony, Toledo and Tiskin (2004) and of Smith,
Lowery, Langou and van de Geijn (2019); that neighbours share a point is ours,
and what makes small S exact: two points of a matrix product share one operand
at most, so with S = 3 every point after the first costs two words.

**Words touched.**  ``hbl``: n <= prod_j d_j ** s_j, d_j the distinct words
touched of operand j.  For a matrix product n <= sqrt(d_A d_B d_C) <= (X/3) **
1.5 for X words in all, which gives 2MNK/sqrt(S) - S (X = 3S): the constant of
Smith et al. and of Kwasniewski et al. (SC 2019), whose further +MN does not
hold for short K: a product of a column and a row at K = 1 moves less.

**Results.**  A word of a result, told by its *label* (``flow.ways``), is on
chip at the first point, or loaded, or *new*.  If it is new in a block after
one in which it was touched, its value then left the chip: a store in between;
and the last one is stored at the end.  So stores >= new words, and a new
word counts as an arrival though it is not loaded.  An intermediate that may be consumed on
chip has no such label; then (``_inner``) an element whose whole reduction
lies inside the block needs whole rows of operands there, and any other
crosses the start or the end of the block: on chip then (2S in place of S),
loaded or stored.

**Operands that are intermediates.**  ``flow.sources``: in a block each is
there because a word of its cluster was (at the first point, or loaded), or is
fresh: then all that its reductions read was there.  Points are of one kind or
another, so n is at most the sum over the kinds.  For attention's AV: n <=
sqrt(c v o) + sqrt(q k v o)/E with rows of Q and K counted whole, which gives
MP(E+F)^2/S for large S (FlashAttention's order, optimal for S >= E^2 by Saha
and Ye 2024) and 2MPF/sqrt(S) for small S.

**Weights.**  With a weight 0 < w <= 1 for the words of each tensor, arrivals
count w; the rest, 1 - w of what is compulsory for it, is added: Q = w Q + (1-w)
Q.  For a matrix product with K < sqrt(S) that gives MN(1 + K^2/S), which is
what holding K x (S/K) of one factor moves.

**Together.**  Bounds on the traffic of disjoint sets of tensors add.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, floor, prod
from typing import Final

import numpy as np

from accelsim.analysis.flow import Flow, apart
from accelsim.analysis.hbl import SLACK, Array, Exponents, Term, exponents
from accelsim.analysis.reread import rereads
from accelsim.analysis.statement import Program, Projection, Statement

#: Weights tried for the words of one tensor.
WEIGHTS: Final = (1.0, 0.8, 0.6, 0.45, 0.33, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.01)
#: Weights are tried where the bound without them is this part of what is compulsory, and for
#: so many tensors at most.
PROMISING: Final = 0.2
MOST_WEIGHTED: Final = 5
#: Sizes of what is touched, evenly in their logarithm, for which exponents are looked for.
LEVELS: Final = 5
#: At most so many intermediate operands of one statement are resolved; others are left out.
MOST_RESOLVED: Final = 2
#: Statements whose bounds are combined exactly; of more the best are taken one by one.
MOST_COMBINED: Final = 14


@dataclass(frozen=True, slots=True)
class Argument:
    """A bound on the words moved of some tensors.

    ``words`` in all, ``compulsory`` of them since the inputs and outputs
    among ``tensors`` move once; ``text``: why.
    """

    einsum: str
    tensors: frozenset[str]
    words: float
    compulsory: int
    text: str

    @property
    def gain(self) -> float:
        """Words beyond the compulsory ones."""
        return self.words - self.compulsory


@dataclass(frozen=True, slots=True)
class Lower:
    """The fewest words that any schedule moves with ``capacity_words`` on chip, and why."""

    capacity_words: int
    compulsory_words: int
    words: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class _Kind:
    """One kind of points of a statement: what they touch.  ``doubled``: see ``_inner``."""

    terms: tuple[Term, ...]
    most: Exponents
    doubled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Account:
    """A statement with its kinds of points, and the tensors whose words are counted."""

    statement: Statement
    points: int
    kinds: tuple[_Kind, ...]
    inputs: tuple[str, ...]
    chain: frozenset[str]
    outputs: tuple[str, ...]

    @property
    def tensors(self) -> frozenset[str]:
        """All tensors whose words some kind counts."""
        found = {t for kind in self.kinds for term in kind.terms for t in term.tensors}
        return frozenset(found)


class Traffic:
    """Lower bounds on the traffic of a problem; everything that no capacity changes is kept."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.flow = Flow(program)

    @cached_property
    def compulsory(self) -> int:
        """Words that every schedule moves: inputs that are surely needed once, outputs once."""
        return sum(self.flow.sure.values()) + sum(self.program.written.values())

    def lower(self, capacity_words: int) -> Lower:
        """The bound for S = ``capacity_words``, the largest sum of arguments that share nothing."""
        found = [a for account in self._accounts if (a := self._best(account, capacity_words))]
        found += [
            Argument(r.einsum, r.tensors, r.words + self._once(r.tensors), self._once(r.tensors), r.text)
            for r in rereads(self.flow, capacity_words)
        ]
        chosen = _packed([a for a in found if a.gain > 0])
        words = self.compulsory + sum(a.gain for a in chosen)
        return Lower(capacity_words, self.compulsory, ceil(words * (1 - SLACK)), tuple(chosen))

    def _once(self, tensors: Iterable[str]) -> int:
        known = self.flow.sure | self.program.written
        return sum(known.get(t, 0) for t in tensors)

    # -- accounts: what the points of each statement touch ------------------------------------

    @cached_property
    def _accounts(self) -> list[_Account]:
        found = []
        for s in self.program.statements:
            points = self.flow.needed(s)
            if points < 2 or not s.reads or self._seen_later(s):
                continue
            for kinds, chain in self._formulations(s):
                found += self._account(s, points, kinds, chain)
        return found

    def _seen_later(self, s: Statement) -> bool:
        """Whether a statement further on computes at least the points of this one."""
        passing = self.flow.ways[s.output.tensor].passing
        return any(s.sizes.keys() <= after.sizes.keys() for after in passing if after is not s)

    def _account(
        self,
        s: Statement,
        points: int,
        kinds: list[tuple[tuple[Term, ...], frozenset[str]]],
        chain: frozenset[str],
    ) -> Iterator[_Account]:
        if not all(terms for terms, _ in kinds):
            return
        solved = tuple(
            _Kind(terms, self._exponents(s, terms), doubled) for terms, doubled in kinds
        )
        tensors = {t for terms, _ in kinds for term in terms for t in term.tensors}
        yield _Account(
            s,
            points,
            solved,
            tuple(t for t in self.program.inputs if t in tensors),
            chain,
            tuple(t for t in self.program.outputs if t in chain),
        )

    def _exponents(self, s: Statement, terms: tuple[Term, ...]) -> Exponents:
        whole = [float(np.log(s.span(t.variables))) for t in terms]
        costs = [whole]
        for words in np.linspace(0.3, max(whole), LEVELS):
            costs.append([min(w, max(words - np.log(t.weight), 0.0)) for w, t in zip(whole, terms)])
        return exponents(terms, s.sizes, costs)

    def _formulations(
        self, s: Statement
    ) -> Iterator[tuple[list[tuple[tuple[Term, ...], frozenset[str]]], frozenset[str]]]:
        """Ways to count the words that points of a statement touch, each a list of kinds."""
        operands = self._operands(s)
        tensors = {t for choice in operands for terms in choice for x in terms for t in x.tensors}
        way = self.flow.ways[s.output.tensor]
        label = way.label & frozenset(s.sizes)
        result = [Term(_rows(label), 1.0, way.chain)] if label else []
        if way.chain & tensors:
            result = []
        kinds = [(apart([*_flat(c), *result]), frozenset[str]()) for c in product(*operands)]
        yield kinds, way.chain if result else frozenset()
        own = frozenset([s.output.tensor])
        if s.reduced and label != s.output.variables and not own & tensors and s.output.plain:
            yield self._inner(s, operands, own), frozenset()

    def _inner(
        self, s: Statement, operands: list[list[list[Term]]], own: frozenset[str]
    ) -> list[tuple[tuple[Term, ...], frozenset[str]]]:
        """Kinds of points by where in a block the reduction that they belong to lies.

        Wholly inside: whole rows of operands were there.  Otherwise a partial
        sum of the element is on chip at the first point of the block or at the
        last, or is loaded or stored inside it: words of the result count, and
        S of them more than arrive.
        """
        inside = [term for read in s.reads for term in self.flow.rows(s, read)]
        across = Term(_rows(s.output.variables), 1.0, own)
        kinds = [(apart(inside), frozenset[str]())]
        kinds += [(apart([*_flat(c), across]), own) for c in product(*operands)]
        return kinds

    def _operands(self, s: Statement) -> list[list[list[Term]]]:
        """For each operand that counts: its words, or those of each kind (there, or fresh)."""
        found: list[list[list[Term]]] = []
        resolved = 0
        seen: set[Projection] = set()
        for read in sorted(s.reads, key=lambda r: -s.span(r.variables)):
            if read in seen:
                continue
            seen.add(read)
            if read.tensor in self.program.inputs:
                if read.rows:
                    found.append([[Term(read.rows, 1.0, frozenset([read.tensor]))]])
                continue
            source = self.flow.source(read)
            if source is None or not source.label or resolved == MOST_RESOLVED:
                continue
            resolved += 1
            there = [Term(_rows(source.label), 1.0, source.cluster)]
            found.append([there] if source.fresh is None else [there, list(source.fresh)])
        return found

    # -- the best bound of one account ---------------------------------------------------------

    def _best(self, account: _Account, capacity: int) -> Argument | None:
        """The account's bound with the weights that make it largest, one tensor after another."""
        groups = [*account.inputs, *(["="] if account.outputs else [])]
        weights = dict.fromkeys(groups, 1.0)
        once = self._once(account.tensors)
        best, arrivals = self._words(account, capacity, weights)
        promising = best > PROMISING * once and len(groups) <= MOST_WEIGHTED
        for _ in range(2 if promising else 0):
            for group in groups:
                for w in WEIGHTS:
                    trial = weights | {group: w}
                    words, each = self._words(account, capacity, trial)
                    if words > best * (1 + 1e-9):
                        best, arrivals, weights = words, each, trial
        if best <= once:
            return None
        text = self._text(account, capacity, weights, arrivals)
        return Argument(account.statement.name, account.tensors, best, once, text)

    def _words(
        self, account: _Account, capacity: int, weights: dict[str, float]
    ) -> tuple[float, tuple[float, int]]:
        """Words moved at least, and of the best blocks: arrivals and points that they need."""

        def weight(term: Term) -> float:
            return min(
                (weights["="] if account.outputs else 1.0)
                if t in account.chain
                else weights.get(t, 1.0)
                for t in term.tensors
            )

        heaviest = max(weight(t) for kind in account.kinds for t in kind.terms)
        whole = all(w == 1.0 for w in weights.values()) and all(
            t.weight == int(t.weight) for kind in account.kinds for t in kind.terms
        )
        held = capacity * heaviest
        arrivals = _grid(capacity)
        points = np.zeros_like(arrivals)
        for kind in account.kinds:
            own = np.array([t.weight * weight(t) for t in kind.terms])
            offset = held + (capacity if kind.doubled else 0)
            points += kind.most.most(arrivals + offset, own)
        steps = np.maximum(np.floor(points * (1 + SLACK) + SLACK), 1)
        more = arrivals + 1 if whole else arrivals
        left = account.points - 1
        blocks = np.floor(left / steps)
        rest = left - blocks * steps
        last = np.searchsorted(steps, rest, side="right") - 1
        tail = np.where((rest > 0) & (last >= 0), more[np.maximum(last, 0)], 0.0)
        total = np.where(blocks > 0, held + blocks * more + tail, 0.0)
        best = int(np.argmax(total))
        spared = sum(
            (1 - w) * self._once(account.outputs if group == "=" else [group])
            for group, w in weights.items()
        )
        return float(total[best]) + spared, (float(more[best]), int(steps[best]))

    @staticmethod
    def _text(
        account: _Account, capacity: int, weights: dict[str, float], each: tuple[float, int]
    ) -> str:
        s = account.statement
        rows = " + ".join(
            " * ".join(_said(t) for t in kind.terms) or "all" for kind in account.kinds
        )
        shared = ", ".join(
            f"{w:g} of {'/'.join(account.outputs) if g == '=' else g}"
            for g, w in weights.items()
            if w < 1
        )
        return (
            f"{s.name}: of {account.points} points any {each[1] + 1} in a row touch more words "
            f"({rows}) than {capacity} on chip and {each[0]:.0f} that arrive"
            + (f", counting {shared}" if shared else "")
        )


def _said(term: Term) -> str:
    names = ",".join(
        "+".join(v if c == 1 else f"{c}{v}" for v, c in row) for row in term.rows
    )
    weight = f"{term.weight:g} " if term.weight != 1 else ""
    return f"{weight}{'/'.join(sorted(term.tensors))}[{names}]"


def _rows(variables: Iterable[str]) -> tuple[tuple[tuple[str, int], ...], ...]:
    return tuple(((v, 1),) for v in sorted(variables))


def _flat(parts: Sequence[list[Term]]) -> list[Term]:
    return [term for part in parts for term in part]


def _grid(capacity: int) -> Array:
    """Numbers of arriving words to try: small ones, and from a part of S to a great many."""
    small = np.arange(0, 65, dtype=float)
    shares = np.geomspace(0.02, 2.0**40, 160)
    near = np.linspace(0.25, 8.0, 63)
    found: Array = np.unique(
        np.floor(np.concatenate([small, shares * max(capacity, 1), near * max(capacity, 1)]))
    )
    return found


def _packed(arguments: list[Argument]) -> list[Argument]:
    """Arguments about disjoint tensors with the largest sum of gains."""
    arguments = sorted(arguments, key=lambda a: -a.gain)
    best: tuple[float, list[Argument]] = (0.0, [])

    def grow(at: int, taken: list[Argument], used: frozenset[str], gain: float) -> None:
        nonlocal best
        if gain > best[0]:
            best = gain, list(taken)
        if at == len(arguments) or gain + sum(a.gain for a in arguments[at:]) <= best[0]:
            return
        if not arguments[at].tensors & used:
            grow(
                at + 1,
                [*taken, arguments[at]],
                used | arguments[at].tensors,
                gain + arguments[at].gain,
            )
        if len(arguments) <= MOST_COMBINED or arguments[at].tensors & used:
            grow(at + 1, taken, used, gain)

    grow(0, [], frozenset(), 0.0)
    return best[1]
