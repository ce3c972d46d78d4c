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
chip has no such label.  Then an element whose whole reduction lies inside the
block needs whole rows of operands there.  Of any other, the executions inside
the block either leave it in part (on chip at its last point, or stored: S
words more), or are the last of that element and join what came before (on
chip at the first point, or loaded; as that happens in one block an element,
and each was stored before, at most as often as partial sums are stored).  So
stores of partial sums, counted twice, bound what arrives.

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

**Together.**  Bounds on the traffic of disjoint sets of tensors add; where two
products count the same tensors, ``joint`` bounds both at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil, inf
from typing import Final

import numpy as np

from accelsim.analysis.account import Account, accounts
from accelsim.analysis.flow import Flow
from accelsim.analysis.hbl import SLACK, Array, Term
from accelsim.analysis.joint import Joint, pairs
from accelsim.analysis.reread import rereads
from accelsim.analysis.statement import Program

#: Weights tried for the words of one tensor.
WEIGHTS: Final = (1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.1, 0.05, 0.02)
#: Weights are tried where the bound without them is between these parts of what is compulsory,
#: and for so many tensors at most.
PROMISING: Final = (0.2, 4.0)
MOST_WEIGHTED: Final = 5
#: Parts into which words are split between two kinds of points.
PARTS: Final = (0.0, 0.01, 0.03, 0.06, *(n / 20 for n in range(2, 20)), 0.97, 1.0)
#: Shares of a tensor's traffic that an argument may claim, where several want some.
SHARES: Final = (0.125, 0.875)
#: Arguments are combined exactly up to this number; of more each is taken if it fits.
MOST_COMBINED: Final = 14


@dataclass(frozen=True, slots=True)
class Argument:
    """A bound on words moved: ``gain`` words more than the compulsory ones, and why.

    ``claims``: for each tensor the share of its traffic that is counted.
    """

    einsum: str
    claims: tuple[tuple[str, float], ...]
    gain: float
    text: str


@dataclass(frozen=True, slots=True)
class Lower:
    """The fewest words that any schedule moves with ``capacity_words`` on chip, and why."""

    capacity_words: int
    compulsory_words: int
    words: int
    arguments: tuple[Argument, ...]


class Traffic:
    """Lower bounds on the traffic of a program; everything that no capacity changes is kept.

    Three words force two more for every point of a matrix product after the first:

    >>> from accelsim.analysis.statement import program
    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> bound = Traffic(program(bind(load_cascade("matmul"), {"M": 4, "N": 4, "K": 4})))
    >>> bound.compulsory, bound.lower(3).words, bound.lower(48).words
    (48, 129, 48)
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.flow = Flow(program)

    @cached_property
    def compulsory(self) -> int:
        """Words that every schedule moves: inputs that are surely needed once, outputs once."""
        return sum(self.flow.sure.values()) + sum(self.program.written.values())

    def lower(self, capacity_words: int, attained: float = inf) -> Lower:
        """The bound for S = ``capacity_words``: the largest sum of arguments that share nothing.

        ``attained``: words that some schedule moves with no more on chip.  If
        they are what is compulsory, that is the bound and nothing is sought.
        """
        if attained == self.compulsory:
            return Lower(capacity_words, self.compulsory, self.compulsory, ())
        found, contested = [], []
        for account in self._accounts:
            argument = self._best(account, capacity_words, {})
            if argument is not None:
                found.append(argument)
                contested.append(account)
        for account in contested:
            others = {t for a in contested if a is not account for t in a.inputs}
            wanted = [t for t in account.inputs if t in others]
            for share in SHARES if wanted else ():
                argument = self._best(account, capacity_words, dict.fromkeys(wanted, share))
                found += [argument] if argument is not None else []
        found += [a for a in (self._jointly(j, capacity_words) for j in self._joints) if a]
        for r in rereads(self.flow, capacity_words):
            claims = tuple((t, 1.0) for t in sorted(r.tensors))
            found.append(Argument(r.einsum, claims, r.words, r.text))
        chosen = packed(found)
        words = self.compulsory + sum(a.gain for a in chosen)
        return Lower(capacity_words, self.compulsory, ceil(words * (1 - SLACK)), tuple(chosen))

    @cached_property
    def _accounts(self) -> list[Account]:
        return accounts(self.flow)

    @cached_property
    def _joints(self) -> list[Joint]:
        return list(pairs(self._accounts))

    def _jointly(self, joint: Joint, capacity: int) -> Argument | None:
        """The bound on two statements at once, if it forces more than what is compulsory."""
        found = joint.least(capacity)
        once = self._once(joint.tensors & {*self.program.inputs, *self.program.outputs})
        if found is None or found.words <= once:
            return None
        names = [a.statement.name for a in joint.accounts]
        weighed = ", ".join(f"{w:.3g} for {n}" for w, n in zip(found.shares, names, strict=True))
        text = (
            f"{' and '.join(names)}: points that weigh more than {found.weight:.4g} ({weighed}) "
            f"touch more words than the {capacity} on chip and {found.arrivals:.0f} that arrive"
        )
        claims = tuple((t, 1.0) for t in sorted(joint.tensors))
        return Argument(" ".join(names), claims, found.words - once, text)

    def _once(self, tensors: Iterable[str]) -> int:
        known = {**self.flow.sure, **self.program.written}
        return sum(known.get(t, 0) for t in tensors)

    def _best(self, account: Account, capacity: int, share: Mapping[str, float]) -> Argument | None:
        """The account's bound with the weights that make it largest, one tensor after another.

        ``share``: how much of the traffic of some inputs it may count.
        """
        groups = [*account.inputs, *(["="] if account.outputs else [])]
        limit = {g: share.get(g, 1.0) for g in groups}
        once = sum(limit[t] * self._once([t]) for t in account.inputs)
        once += self._once(account.outputs)
        weights = dict(limit)
        best, each = self._words(account, capacity, weights, limit)
        low, high = (part * once for part in PROMISING)
        if low < best < high and len(groups) <= MOST_WEIGHTED:
            for group in (*groups, *groups):
                for w in WEIGHTS:
                    trial = weights | {group: w * limit[group]}
                    words, found = self._words(account, capacity, trial, limit)
                    if words > best * (1 + SLACK):
                        best, each, weights = words, found, trial
        closer, its = self._words(account, capacity, weights, limit, closely=True)
        if closer > best:
            best, each = closer, its
        if best <= once:
            return None
        claims = {t: share.get(t, 1.0) for t in account.tensors}
        text = _text(account, capacity, weights, each)
        return Argument(account.statement.name, tuple(sorted(claims.items())), best - once, text)

    def _words(
        self,
        account: Account,
        capacity: int,
        weights: Mapping[str, float],
        limit: Mapping[str, float],
        closely: bool = False,
    ) -> tuple[float, tuple[float, int]]:
        """Words moved at least, and of the best blocks: arrivals and points that they need.

        ``closely``: see ``_apart``.
        """

        def weight(term: Term) -> float:
            return min(
                weights.get("=", 1.0) if t in account.chain else weights.get(t, 1.0)
                for t in term.tensors
            )

        terms = [t for kind in account.kinds for t in kind.terms]
        whole = all(t.weight * weight(t) == int(t.weight) for t in terms)
        held = capacity * max(weight(t) * min(t.weight, 1.0) for t in terms)
        arrivals = _grid(capacity)
        own = [np.array([t.weight * weight(t) for t in kind.terms]) for kind in account.kinds]
        points = np.zeros_like(arrivals)
        for kind, w in zip(account.kinds, own, strict=True):
            points += kind.most.most(arrivals + held + capacity * w[-1] * kind.doubled, w)
        if closely and account.apart:
            points = np.minimum(points, _apart(account, arrivals + held, own))
        steps = np.maximum(np.floor(points * (1 + SLACK) + SLACK), 1)
        more = arrivals + 1 if whole else arrivals
        blocks = np.floor((account.points - 1) / steps)
        rest = account.points - 1 - blocks * steps
        last = np.searchsorted(steps, rest, side="right") - 1
        tail = np.where((rest > 0) & (last >= 0), more[np.maximum(last, 0)], 0.0)
        total = np.where(blocks > 0, held + blocks * more + tail, 0.0)
        best = int(np.argmax(total))
        spared = sum(
            (limit[g] - w) * self._once(account.outputs if g == "=" else [g])
            for g, w in weights.items()
        )
        return float(total[best]) + spared, (float(more[best]), int(steps[best]))


def _apart(account: Account, touched: Array, weights: list[Array]) -> Array:
    """Points of an account of two kinds, the first of which alone has its first term.

    If that term has a share c of the words, c between two neighbours a and b
    of a grid, then it has b of them at most, and all others 1-a: the most over
    the grid of what these allow.
    """
    there, fresh = account.kinds
    found = np.zeros_like(touched)
    for a, b in pairwise(PARTS):
        first = there.most.most_apart(touched * b, touched * (1 - a), weights[0])
        found = np.maximum(found, first + fresh.most.most(touched * (1 - a), weights[1]))
    return found


def _text(
    account: Account, capacity: int, weights: Mapping[str, float], each: tuple[float, int]
) -> str:
    """The argument in words."""
    kinds = "; or ".join(" * ".join(_said(t) for t in kind.terms) for kind in account.kinds)
    counted = ", ".join(
        f"{w:.3g} of {'/'.join(account.outputs) if g == '=' else g}"
        for g, w in weights.items()
        if w < 1
    )
    return (
        f"{account.statement.name}: of {account.points} points any {each[1] + 1} in a row touch "
        f"more words than the {capacity} on chip and {each[0]:.0f} that arrive ({kinds})"
        + (f", counting {counted}" if counted else "")
    )


def _said(term: Term) -> str:
    names = ",".join(
        "+".join(v if c == 1 else f"{c}{v}" for v, c in row).replace("+-1", "-")
        for row in term.rows
    )
    weight = f"{term.weight:g} " if term.weight != 1 else ""
    return f"{weight}{'/'.join(sorted(term.tensors))}[{names}]"


def _grid(capacity: int) -> Array:
    """Numbers of arriving words to try: small ones, and from a part of S to a great many."""
    small = np.arange(0, 65, dtype=float)
    shares = np.geomspace(0.02, 2.0**40, 160)
    near = np.linspace(0.25, 8.0, 63)
    found: Array = np.unique(
        np.floor(np.concatenate([small, shares * max(capacity, 1), near * max(capacity, 1)]))
    )
    return found


def packed(arguments: Iterable[Argument]) -> list[Argument]:
    """The arguments with the largest sum of gains whose claims on each tensor sum to 1 at most.

    >>> a = Argument("Y", (("X", 1.0), ("Y", 1.0)), 10.0, "")
    >>> b = Argument("Z", (("X", 0.5), ("Z", 1.0)), 8.0, "")
    >>> c = Argument("W", (("X", 0.5), ("W", 1.0)), 7.0, "")
    >>> [x.einsum for x in packed([a, b, c])]
    ['Z', 'W']
    """
    ordered = sorted((a for a in arguments if a.gain > 0), key=lambda a: -a.gain)
    best: tuple[float, list[Argument]] = (0.0, [])

    def grow(at: int, taken: list[Argument], used: dict[str, float], gain: float) -> None:
        nonlocal best
        if gain > best[0]:
            best = gain, taken
        if at == len(ordered) or gain + sum(a.gain for a in ordered[at:]) <= best[0]:
            return
        argument = ordered[at]
        fits = all(used.get(t, 0.0) + share <= 1 for t, share in argument.claims)
        if fits:
            after = used | {t: used.get(t, 0.0) + share for t, share in argument.claims}
            grow(at + 1, [*taken, argument], after, gain + argument.gain)
        if not fits or len(ordered) <= MOST_COMBINED:
            grow(at + 1, taken, used, gain)

    grow(0, [], {}, 0.0)
    return best[1]
