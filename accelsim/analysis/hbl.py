"""How many points of an iteration space can be computed from few elements: Hölder-Brascamp-Lieb.

For a finite set V of points and linear maps f_j, with exponents s_j >= 0 such
that ``dim H <= sum_j s_j * dim f_j(H)`` for every subspace H,

    |V| <= prod_j |f_j(V)| ** s_j

(Bennett, Carbery, Christ and Tao 2010; Christ, Demmel, Knight, Scanlon and
Yelick 2013, theorem 3.2, for lattices).  It suffices to ask it of the
subspaces in the lattice that the kernels of the f_j generate under sum and
intersection (Valdimarsson 2010; Christ et al., section 5), and of each
independent block of variables apart, since the inequality for a direct sum
follows from those of its summands (Fubini).  Where every f_j is a projection
onto a subset of the variables that leaves one condition a variable: the f_j
that contain it have exponents that sum to at least 1 (their theorem 6.6; for
three planes in space this is Loomis and Whitney's inequality of 1949).

The extent N_x of each variable joins as one more map, the projection onto x
with at most N_x values: that keeps the bound right where a rank is short
(Dinh and Demmel, SPAA 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from accelsim.analysis.statement import Row

Array: TypeAlias = npt.NDArray[np.float64]

#: A block of variables whose kernels generate more subspaces than this is bounded by extents only.
MOST_SUBSPACES = 200
#: Steps of Frank-Wolfe, and points of a line, by which exponents are refined.
STEPS = 6
#: Relative slack against rounding: a bound on points is never rounded down.
SLACK = 1e-9


@dataclass(frozen=True)
class Term:
    """Elements touched: the image of the points under ``rows``, ``weight`` words for each.

    ``tensors``: whose words they are.
    """

    rows: tuple[Row, ...]
    weight: float
    tensors: frozenset[str]

    @property
    def variables(self) -> frozenset[str]:
        """Variables that the rows depend on."""
        return frozenset(v for row in self.rows for v, _ in row)


@dataclass(frozen=True)
class Exponents:
    """Exponents that satisfy the condition: ``s[k, j]`` of term j, ``t[k, x]`` of extent x."""

    s: Array
    t: Array
    extents: Array  # log N_x

    def most(self, touched: Array, weights: Array) -> Array:
        """For each number of ``touched`` words the most points that can be computed from them.

        With ``sum_j w_j d_j <= X`` for d_j = |f_j(V)|, the product of the d_j
        to the s_j is greatest where ``w_j d_j = X s_j / sum(s)`` (weighted
        inequality of the means), for each row of exponents; the least over
        the rows is a bound.

        >>> of = Exponents(np.array([[0.5, 0.5]]), np.array([[0.5]]), np.log([16.0]))
        >>> of.most(np.array([4.0, 8.0]), np.ones(2)).round(6).tolist()
        [8.0, 16.0]
        """
        every = np.ones(self.s.shape[1], dtype=bool)
        log = (self.t @ self.extents)[:, None] + self._log(touched, weights, every)
        found: Array = np.exp(np.minimum(log.min(axis=0), 690.0))
        return found

    def most_apart(self, first: Array, rest: Array, weights: Array) -> Array:
        """``most`` where term 0 has ``first`` words and the other terms have ``rest`` in all.

        >>> of = Exponents(np.array([[0.5, 0.5]]), np.array([[0.0]]), np.log([8.0]))
        >>> of.most_apart(np.array([4.0]), np.array([9.0]), np.ones(2)).round(6).tolist()
        [6.0]
        """
        own = np.arange(self.s.shape[1]) == 0
        log = (self.t @ self.extents)[:, None]
        log = log + self._log(first, weights, own) + self._log(rest, weights, ~own)
        found: Array = np.exp(np.minimum(log.min(axis=0), 690.0))
        return found

    def _log(self, words: Array, weights: Array, among: npt.NDArray[np.bool_]) -> Array:
        """The logarithm of the greatest product over some terms that have ``words`` in all."""
        s = self.s[:, among]
        sigma = s.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(s > 0, s * np.log(s / (sigma[:, None] * weights[None, among])), 0.0)
        found: Array = share.sum(axis=1)[:, None] + sigma[:, None] * np.log(
            np.maximum(words, 1e-300)
        )
        return found


def exponents(
    terms: Sequence[Term], sizes: Mapping[str, int], costs: Iterable[Sequence[float]]
) -> Exponents:
    """Exponents by linear programs, one for each vector of ``costs`` (log d_j of each term).

    Each program is ``min sum_j s_j cost_j + sum_x t_x log N_x`` over the
    polytope of the module's text.  Frank-Wolfe steps from there towards the
    least ``most`` add points inside the polytope.  Any of them is valid, so
    none of this can make the bound wrong.

    The three planes of a matrix product, of each 100 words at most, hold 1000
    points at most (Loomis and Whitney); under 300 words in all as many.

    >>> sides = (("m", "k"), ("k", "n"), ("m", "n"))
    >>> planes = [Term(tuple(((v, 1),) for v in s), 1.0, frozenset(s)) for s in sides]
    >>> found = exponents(planes, {"m": 99, "n": 99, "k": 99}, [[np.log(100)] * 3])
    >>> found.most(np.array([300.0]), np.ones(3)).round(2).tolist()
    [1000.0]
    """
    names = tuple(sizes)
    rows = tuple(term.rows for term in terms)
    matrix, right = _conditions(rows, names)
    extents = np.log(np.array([sizes[v] for v in names], dtype=float))
    j = len(terms)
    found = [np.concatenate([np.zeros(j), np.ones(len(names))])]
    for logs in costs:
        cost = np.asarray(logs, dtype=float)
        here = _solve(np.concatenate([cost, extents]), matrix, right)
        found.append(here)
        for _ in range(STEPS):
            s = here[:j]
            sigma = s.sum()
            if sigma <= 0:
                break
            slope = cost + np.log(np.maximum(s / sigma, 1e-6))
            there = _solve(np.concatenate([slope, extents]), matrix, right)
            blends = [here + a * (there - here) for a in (1.0, 0.75, 0.5, 0.25, 0.1)]
            values = [_value(b[:j], b[j:], cost, extents) for b in blends]
            best = int(np.argmin(values))
            if values[best] >= _value(here[:j], here[j:], cost, extents) - 1e-9:
                break
            here = blends[best]
            found += [there, here]
    pool = np.unique(np.round(np.array(found), 6), axis=0)
    lacking = right[None, :] - pool @ matrix.T  # what rounding and the solver's tolerance left out
    scale = 1 + np.maximum(lacking / right[None, :], 0).max(axis=1, initial=0.0) + 1e-11
    pool = pool * scale[:, None]
    return Exponents(pool[:, :j], pool[:, j:], extents)


def _value(s: Array, t: Array, cost: Array, extents: Array) -> float:
    """``log most`` where each term alone may have ``exp(cost_j)`` times its share."""
    sigma = s.sum()
    if sigma <= 0:
        return float(t @ extents)
    share = np.where(s > 0, s * np.log(np.maximum(s, 1e-300) / sigma), 0.0).sum()
    return float(s @ cost + t @ extents + share)


def _solve(cost: Array, matrix: Array, right: Array) -> Array:
    """The least of ``cost @ x`` with ``matrix @ x >= right`` and x >= 0."""
    from scipy.optimize import linprog  # type: ignore[import-untyped, unused-ignore]

    result: Any = linprog(
        np.maximum(cost, 0.0), A_ub=-matrix, b_ub=-right, bounds=(0, None), method="highs"
    )
    found: Array = np.ones(len(cost)) if result.x is None else np.asarray(result.x, dtype=float)
    return np.maximum(found, 0.0)


@lru_cache(maxsize=512)
def _conditions(rows: tuple[tuple[Row, ...], ...], names: tuple[str, ...]) -> tuple[Array, Array]:
    """The polytope ``matrix @ (s, t) >= right``: one line a subspace of each block."""
    lines: list[list[float]] = []
    right: list[float] = []
    for block in _blocks(rows, names):
        spaces = _lattice(rows, block)
        if spaces is None:  # too many: extents alone must cover these variables
            for v in block:
                lines.append([0.0] * len(rows) + [float(v == n) for n in names])
                right.append(1.0)
            continue
        for space in spaces:
            ranks = [float(_image(space, _matrix(r, block))) for r in rows]
            axes = [
                float(_image(space, ((tuple(Fraction(int(v == n)) for v in block)),)))
                if n in block
                else 0.0
                for n in names
            ]
            lines.append(ranks + axes)
            right.append(float(len(space)))
    return np.array(lines), np.array(right)


# -- subspaces over the rationals: bases in reduced row echelon form -------------------------

Space: TypeAlias = tuple[tuple[Fraction, ...], ...]


def _blocks(rows: Iterable[Iterable[Row]], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Variables grouped so that every row has variables of one group only."""
    group = {v: {v} for v in names}
    for row in (r for term in rows for r in term):
        joined = set().union(*(group[v] for v, _ in row))
        for v in joined:
            group[v] = joined
    return list(dict.fromkeys(tuple(v for v in names if v in group[u]) for u in names))


def _matrix(rows: Iterable[Row], block: Sequence[str]) -> Space:
    """The rows over the variables of a block; those of other blocks are left out."""
    return tuple(
        tuple(Fraction(dict(row).get(v, 0)) for v in block)
        for row in rows
        if any(v in block for v, _ in row)
    )


def _lattice(rows: Iterable[Iterable[Row]], block: tuple[str, ...]) -> list[Space] | None:
    """The subspaces that the kernels generate under sum and intersection, not the trivial one.

    None where there are too many.
    """
    n = len(block)
    unit: Space = tuple(tuple(Fraction(int(i == k)) for k in range(n)) for i in range(n))
    if n == 1:
        return [unit]
    kernels = [_kernel(_matrix(r, block), n) for r in rows] + [_kernel((u,), n) for u in unit]
    found = dict.fromkeys([unit, *kernels])
    todo = list(found)
    while todo:
        a = todo.pop()
        for b in list(found):
            for c in (_reduced(a + b), _meet(a, b, n)):
                if c not in found:
                    found[c] = None
                    todo.append(c)
                    if len(found) > MOST_SUBSPACES:
                        return None
    return [space for space in found if space]


def _reduced(vectors: Space) -> Space:
    """The reduced row echelon form of the span of vectors."""
    basis: list[list[Fraction]] = [list(v) for v in vectors]
    width = len(basis[0]) if basis else 0
    done = 0
    for column in range(width):
        pivot = next((i for i in range(done, len(basis)) if basis[i][column]), None)
        if pivot is None:
            continue
        basis[done], basis[pivot] = basis[pivot], basis[done]
        head = basis[done][column]
        basis[done] = [x / head for x in basis[done]]
        for i in range(len(basis)):
            if i != done and basis[i][column]:
                factor = basis[i][column]
                basis[i] = [x - factor * y for x, y in zip(basis[i], basis[done], strict=True)]
        done += 1
    return tuple(tuple(v) for v in basis[:done])


def _kernel(matrix: Space, n: int) -> Space:
    """The null space of a matrix with n columns."""
    reduced = _reduced(matrix)
    pivots = [next(k for k, x in enumerate(v) if x) for v in reduced]
    free = [k for k in range(n) if k not in pivots]
    vectors = []
    for f in free:
        v = [Fraction(0)] * n
        v[f] = Fraction(1)
        for row, pivot in zip(reduced, pivots, strict=True):
            v[pivot] = -row[f]
        vectors.append(tuple(v))
    return _reduced(tuple(vectors))


def _meet(a: Space, b: Space, n: int) -> Space:
    """The intersection of two subspaces: the kernel of both their annihilators."""
    return _kernel(_kernel(a, n) + _kernel(b, n), n)


def _image(space: Space, matrix: Space) -> int:
    """The dimension of the image of a subspace."""
    images = tuple(
        tuple(sum((x * y for x, y in zip(v, row, strict=True)), Fraction(0)) for row in matrix)
        for v in space
    )
    return len(_reduced(images)) if matrix else 0
