"""A bound on two statements together: one word may serve points of both, but not for nothing.

``traffic`` bounds statement by statement, and two bounds add only if they
count the traffic of different tensors.  In fused attention both products read
Q and K (AV through its fresh scores), so the larger bound alone would count.
Here points of both are counted at once.

**Blocks.**  Give each point of statement i the weight a_i > 0.  For each needed
point take one execution whose result reaches an output, of all statements in
one order of time, and cut it: a block is the shortest run of points that weighs
more than n.  It weighs n + max a_i at most, so there are B = floor(sum_i a_i
F_i / (n + max a_i)) whole blocks, F_i the needed points.  Words that the points
of a block touch are on chip when the block before ends (S at most) or arrive
between the two ends.  If points that touch at most S + A words weigh n at most,
more than A arrive in each block, and S more in the first: at first nothing is
on chip.  So S + B A words move.  Recomputed points only come on top.

**How much points weigh.**  Points of a statement are of several kinds
(``account``), each with a Hölder-Brascamp-Lieb bound on its own terms.  Tensors
that the same kinds count form a *class*; words of two classes are different
words, so with x_c words of class c, sum_c x_c <= S + A.  For given x a kind has
at most ``prod_c prod_(j in c) (x_c s_j / (sigma_c w_j)) ** s_j`` points (the
weighted inequality of the means in each class, sigma_c the sum of its s_j), so
n is the greatest value of a sum of such products over a simplex.  It grows
with every x_c, so over a box its value in the upper corner bounds it; boxes
that may hold the greatest value are halved until the bound is close to a value
that is taken.  Partial sums of a tensor are of its own class, since a word on
chip at a block's begin may be a partial sum for one statement and a score for
another; those on chip at its end come on top (``traffic``, Results).

For attention with S < E^2 this is about the sum of both products' bounds; for
larger S it tends to MP(E+F)^2/S (Dao et al., 2022; Saha and Ye, 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Final

import numpy as np

from accelsim.analysis.account import PARTIAL, Account, Kind
from accelsim.analysis.hbl import SLACK, Array

#: Classes at most, pairs of accounts at most, and how closely and how often boxes are halved.
MOST_CLASSES: Final = 4
MOST_PAIRS: Final = 6
CLOSE: Final = 1.02
ROUNDS: Final = 6
MOST_BOXES: Final = 6000
#: Arrivals that are tried, in parts of S, and factors on the weights that balance the statements.
ARRIVALS: Final = (2.0, 1.0, 1.5, 3.0)
FACTORS: Final = (0.75, 0.9, 1.15, 1.4, 3.0)


@dataclass(frozen=True, slots=True)
class Found:
    """Words moved at least: blocks that weigh more than ``weight`` need ``arrivals``.

    ``shares``: the weight of a point of each statement.
    """

    words: float
    weight: float
    arrivals: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Joint:
    """Accounts of different statements that count some of the same tensors."""

    accounts: tuple[Account, ...]

    @cached_property
    def classes(self) -> tuple[frozenset[str], ...]:
        """Tensors grouped by the kinds that count them; partial sums with their tensor."""
        kinds = [kind for a in self.accounts for kind in a.kinds]
        seen: dict[str, frozenset[int]] = {}
        joined: dict[str, set[str]] = {}
        for n, kind in enumerate(kinds):
            for term in kind.terms:
                names = {t.removesuffix(PARTIAL) for t in term.tensors}
                group: set[str] = set().union(names, *(joined.get(t, set()) for t in names))
                for t in group:
                    joined[t] = group
                    seen[t] = seen.get(t, frozenset()) | {n}
        alike: dict[frozenset[int], set[str]] = {}
        for same in {frozenset(g) for g in joined.values()}:
            signature = frozenset(n for t in same for n in seen[t])
            alike.setdefault(signature, set()).update(same)
        return tuple(frozenset(group) for group in sorted(alike.values(), key=sorted))

    @property
    def tensors(self) -> frozenset[str]:
        """All tensors whose words some account counts."""
        return frozenset(t for a in self.accounts for t in a.tensors)

    def least(self, capacity: int) -> Found | None:
        """The words that must move with ``capacity`` words on chip; None where nothing is forced.

        Weights are those with which each statement alone fills a block, then
        better ones, with arrivals in between.
        """
        if self._moved(capacity, 1.0, self._balanced(capacity, capacity)) is None:
            return None
        tried = [self._moved(capacity, a, self._balanced(capacity, a * capacity)) for a in ARRIVALS]
        best = max((f for f in tried if f is not None), key=lambda f: f.words)
        for factor in FACTORS:
            shares = (best.shares[0], *(s * factor for s in best.shares[1:]))
            found = self._moved(capacity, best.arrivals / capacity, shares)
            if found is not None and found.words > best.words:
                best = found
        return best

    def _balanced(self, capacity: int, arrivals: float) -> tuple[float, ...]:
        """Weights with which the points of each statement alone weigh the same in a block."""
        alone = []
        for n in range(len(self.accounts)):
            only = [float(n == i) for i in range(len(self.accounts))]
            alone.append(max(self.heaviest(capacity, arrivals + capacity, only), 1.0))
        return tuple(alone[0] / most for most in alone)

    def _moved(self, capacity: int, part: float, shares: tuple[float, ...]) -> Found | None:
        arrivals = max(np.floor(part * capacity), 1.0)
        most = self.heaviest(capacity, arrivals + capacity, shares) * (1 + SLACK)
        total = sum(w * a.points for w, a in zip(shares, self.accounts, strict=True))
        blocks = np.floor(total / (most + max(shares)))
        if blocks < 1:
            return None
        return Found(float(capacity + blocks * arrivals), most, float(arrivals), shares)

    def heaviest(self, capacity: int, words: float, shares: Sequence[float]) -> float:
        """The most that points weigh that touch ``words`` words (``capacity`` of them on chip).

        Never less: see the module's text.
        """

        def value(at: Array) -> Array:
            found = np.zeros(len(at))
            for share, kinds in zip(shares, self._kinds, strict=True):
                for kind in kinds if share else ():
                    found = found + share * kind.most(at * words, capacity)
            return found

        return _greatest(value, len(self.classes))

    @cached_property
    def _kinds(self) -> list[list[_Products]]:
        return [[_Products.of(kind, self.classes) for kind in a.kinds] for a in self.accounts]


@dataclass(frozen=True)
class _Products:
    """A kind's points as products of powers of the words of each class: the least row counts."""

    constant: Array
    powers: Array  # a row of exponents by classes
    beside: Array  # words of each class that come on top, for a word on chip

    @staticmethod
    def of(kind: Kind, classes: Sequence[frozenset[str]]) -> _Products:
        """The products of a kind: exponents of its terms summed by class."""
        s, weights = kind.most.s, np.array([t.weight for t in kind.terms])
        constant = kind.most.t @ kind.most.extents
        powers = np.zeros((len(s), len(classes)))
        beside = np.zeros(len(classes))
        home = [
            next(c for c, its in enumerate(classes) if _name(t.tensors) in its) for t in kind.terms
        ]
        for c in range(len(classes)):
            own = np.array([h == c for h in home])
            if own.any():
                powers[:, c] = s[:, own].sum(axis=1)
                constant = constant + _shared_out(s[:, own], weights[own])
        if kind.doubled:
            beside[home[-1]] = kind.terms[-1].weight
        return _Products(constant, powers, beside)

    def most(self, words: Array, capacity: int) -> Array:
        """The most points for each row of ``words`` of the classes."""
        logs = np.log(np.maximum(words + capacity * self.beside, 1e-300))
        found: Array = np.exp(np.minimum((logs @ self.powers.T + self.constant).min(axis=1), 690.0))
        return found


def _name(tensors: Iterable[str]) -> str:
    return min(tensors).removesuffix(PARTIAL)


def _shared_out(s: Array, weights: Array) -> Array:
    """``sum_j s_j log(s_j / (sigma w_j))`` of each row: how words of a class are best shared."""
    sigma = s.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.where(s > 0, s * np.log(s / (sigma * weights)), 0.0).sum(axis=1)
    return found


def _greatest(value: Callable[[Array], Array], count: int) -> float:
    """A number that ``value`` exceeds nowhere on the simplex of ``count`` shares.

    ``value`` takes rows of shares and grows with each of them.
    """
    sides = 2 if count < MOST_CLASSES else 1
    corners = np.array(list(product((0.0, 1.0), repeat=count)))
    width = 1.0
    low = np.zeros((1, count))
    best, above = 0.0, np.inf
    for _ in range(ROUNDS + sides):
        width /= 2
        low = (low[:, None, :] + width * corners[None]).reshape(-1, count)
        total = low.sum(axis=1)
        low = low[(total <= 1) & (total + count * width >= 1)]
        most = value(np.minimum(low + width, 1.0))
        inside = low + (1 - low.sum(axis=1, keepdims=True)) / count
        best = max(best, float(value(inside).max()))
        above = float(most.max())
        low = low[most > best * CLOSE]
        if not len(low):
            return max(above if above <= best * CLOSE else 0.0, best * CLOSE)
        if len(low) > MOST_BOXES:
            break
    return above


def pairs(accounts: Sequence[Account]) -> Iterator[Joint]:
    """Pairs of accounts of different products that count some of the same tensors.

    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.analysis.account import accounts
    >>> from accelsim.analysis.flow import Flow
    >>> from accelsim.analysis.statement import program
    >>> sizes = {"B": 1, "H": 1, "P": 64, "M": 64, "E": 8, "F": 8}
    >>> flow = Flow(program(bind(load_cascade("attention-3pass"), sizes)))
    >>> both = list(pairs(accounts(flow)))[-1]
    >>> [a.statement.name for a in both.accounts], both.least(16).words
    (['QK', 'AV'], 21040.0)
    """
    """Pairs of accounts of different products that count some of the same tensors."""
    found = 0
    for one, other in combinations(accounts, 2):
        its = one.statement, other.statement
        if its[0] is its[1] or not (its[0].contracts and its[1].contracts):
            continue
        if found < MOST_PAIRS and one.tensors & other.tensors:
            joint = Joint((one, other) if one.points >= other.points else (other, one))
            if len(joint.classes) <= MOST_CLASSES:
                found += 1
                yield joint
