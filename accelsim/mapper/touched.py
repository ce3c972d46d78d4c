"""What the PEs of one Einsum touch, in closed form for all points of all its frames.

The PEs touch the whole of a tensor *sigma* times.  Where the tile that the leaf
works on takes several steps, sigma is the product of the trips of all loops
around the leaf that the tensor does not need and of the rounds and own loops of
the leaf that bring other words (``evaluate.fetches``: a loop that it needs stands
inside).  It then depends on the extents that no loop around the leaf cuts, and
on nothing else.  Where the tile takes one step, only the loops count that stand
around the last one that the tensor needs: all, if it needs the last loop; else
they are rho of that loop (``chains``), which is at least 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from accelsim.analysis.work import work
from accelsim.mapper.evaluate import Counts, Numbers, Spread, cost, fetches
from accelsim.mapper.frame import Use
from accelsim.mapper.short import Array, Short
from accelsim.mapper.space import Space
from accelsim.mapper.spreads import spreads

#: The level that serves each tensor.
Served = tuple[int, ...]

#: Joules to read and to write a word, by level.
Prices = tuple[tuple[float, float], ...]

#: For each tensor whether its tile takes several steps, and sigma if all loops around count.
_Leaf = list[tuple[Any, Any]]

#: Costs by run, and for each tensor several steps or not, and sigma.
_Stack = tuple[list[Array], list[tuple[Array, Array]]]

#: Values of a run that are compared before all others are.
SAMPLED = 16


class Touched:
    """Joules of operations and of accesses by the PEs, by the extents inside all loops.

    ``base`` is the space without loops, ``extents`` are those of each rank that
    loops may cut: arrays that are answered have an axis for each.
    """

    def __init__(self, base: Space, extents: Mapping[str, Array], prices: Prices) -> None:
        self.base, self.extents, self.prices = base, extents, prices
        (self.einsum,) = base.frame.einsums
        sizes = base.task.sizes
        self.uses = tuple(u for (u,) in base.counts.uses.values())
        self.words = [float(math.prod(sizes[r] for r in u.needs)) for u in self.uses]
        self._least: dict[tuple[Served, str], Array] = {}
        self._sums: dict[tuple[tuple[int, bool], ...], Array] = {}
        self._sigmas: dict[tuple[int, bool], Array] = {}

    def priced(self, prices: Prices) -> Touched:
        """The same at other prices."""
        other = Touched(self.base, self.extents, prices)
        other.__dict__["_runs"], other._sigmas = self._runs, self._sigmas
        return other

    def axis(self, rank: str, values: Array) -> Array:
        """Values along the axis of a rank."""
        view = [1] * len(self.extents)
        view[list(self.extents).index(rank)] = -1
        return values.reshape(view)

    def least(self, served: Served, last: str) -> Array:
        """Joules that no run is below, where the last loop is over a rank (none: empty).

        >>> from accelsim.explore.map import task_for
        >>> from accelsim.mapper.frame import frame
        >>> task, _ = task_for("matmul", arch="teaching", shape="M=4,N=4,K=4")
        >>> space = Space(task, frame(task.cascade, ("C",), ()))
        >>> extents = {r: np.array([1.0, 2.0, 4.0]) for r in "MNK"}
        >>> touched = Touched(space, extents, task.word_joules)
        >>> touched.least((1, 1, 1), "").shape
        (3, 3, 3)
        """
        if (served, last) not in self._least:
            pairs = zip(self.uses, served, strict=True)
            ways = tuple((level, not last or last in use.needs) for use, level in pairs)
            self._least[served, last] = self._sum(ways).min(axis=0)
        return self._least[served, last]

    def _sum(self, ways: tuple[tuple[int, bool], ...]) -> Array:
        """Joules by run and extents, with the first tensors at their levels.

        ``ways`` are these levels, each with whether all loops around count.
        """
        if not ways:
            return self._runs[0][0]
        if ways not in self._sums:
            n, (level, all_count) = len(ways) - 1, ways[-1]
            a, b = self._price(n, level)
            total = self._sum(ways[:-1]) + (a * self._sigma(n, all_count) + b)
            if len(ways) == len(self.uses):
                return total
            self._sums[ways] = total
        return self._sums[ways]

    def at(self, served: Served, inside: Sequence[Numbers], rhos: Sequence[Any]) -> Array:
        """Joules of the best run at some points; ``rhos`` are those of last loops needed."""
        total: Any = self._runs[0][0].reshape(-1, 1)
        for n, (level, rho) in enumerate(zip(served, rhos, strict=True)):
            a, b = self._price(n, level)
            several, sigma = (_taken(v, inside) for v in self._runs[1][n])
            total = total + (a * np.where(several, sigma, rho) + b)
        return np.asarray(total.min(axis=0))

    def _price(self, n: int, level: int) -> tuple[float, float]:
        """Joules of a tensor at a level: so many times sigma, and so many more."""
        read, write = self.prices[level]
        if self.uses[n].writes:
            return self.words[n] * (read + write), -self.words[n] * read
        return self.words[n] * read, 0.0

    def _sigma(self, n: int, all_count: bool) -> Array:
        """Sigma of a tensor by run and extents; at the least, unless all loops around count."""
        several, sigma = self._runs[1][n]
        if all_count:
            return sigma
        if (n, all_count) not in self._sigmas:
            self._sigmas[n, all_count] = np.where(several, sigma, 1.0)
        return self._sigmas[n, all_count]

    @cached_property
    def cycles(self) -> Array:
        """Cycles of each run that is nowhere beaten, fill included, by extents."""
        return self._paced[0][0]

    def joules(self, served: Served, last: str) -> Any:
        """Joules of each such run if the tensors are served so, by extents (see ``least``)."""
        total: Any = self._paced[0][1]
        for n, (use, level) in enumerate(zip(self.uses, served, strict=True)):
            a, b = self._price(n, level)
            visits = self.visits(n, not last or last in use.needs)
            total = total + (a * (visits / self.words[n]) + b)
        return total

    def visits(self, n: int, all_count: bool) -> Any:
        """Words of a tensor that each such run touches; at the least, unless all loops count."""
        several, sigma = self._paced[1][n]
        return self.words[n] * (sigma if all_count else np.where(several, sigma, 1.0))

    @cached_property
    def _paced(self) -> _Stack:
        """Cycles and joules by run and extents, and of each tensor what ``_runs`` has."""
        space, counts = self.base, self._counts
        around: Any = np.float64(1.0)
        for rank in self.extents:
            around = around * self.tiles[rank]
        found = []
        for spread, leaf in self._every_run:
            unit = space.arch.unit[spread.unit]
            each = cost(unit, work(space.cascade.steps[self.einsum]))[0]
            steps = counts.steps(self.einsum, spread) * around
            cycles = steps * each + unit.fill_cycles
            found.append(((cycles, self._operations[spread.unit]), leaf))
        return self._distinct(found)

    @cached_property
    def _operations(self) -> dict[str, float]:
        """Joules of all operations by unit."""
        space, einsum = self.base, self.einsum
        points = float(np.max(space.points[einsum]))
        return {u: space.point_joules(einsum, u) * points for u in space.units[einsum]}

    @cached_property
    def _runs(self) -> _Stack:
        """Joules of operations by run; for each tensor several steps or not, and sigma.

        Sigma is that where all loops around count.
        """
        found = [((self._operations[spread.unit],), leaf) for spread, leaf in self._every_run]
        return self._distinct(found)

    def _distinct(self, some: Sequence[tuple[tuple[Any, ...], _Leaf]]) -> _Stack:
        """Costs of runs beside each other, and what they touch of each tensor.

        Runs that are nowhere better than another are left out: neither a cost of theirs
        nor sigma of any tensor is less, be it that where all loops around count or
        that at the least (rho, which stands for sigma where the tile takes one
        step, is between these two).
        """
        found: dict[bytes, tuple[tuple[Any, ...], _Leaf]] = {}
        for each, leaf in some:
            values = (*each, *(v for pair in leaf for v in pair))
            found.setdefault(b"".join(np.asarray(v).tobytes() for v in values), (each, leaf))
        wide = (1,) * len(self.extents)
        costs = [_stacked(each, wide) for each in zip(*(e for e, _ in found.values()), strict=True)]
        leaves = [leaf for _, leaf in found.values()]
        pairs = [
            (_stacked([leaf[n][0] for leaf in leaves], wide),
             _stacked([leaf[n][1] for leaf in leaves], wide))
            for n in range(len(self.uses))
        ]  # fmt: skip
        best = _best([*costs, *(v for m, s in pairs for v in (s, np.where(m, s, 1.0)))])
        pairs = [(several[best], sigma[best]) for several, sigma in pairs]
        return [each[best] for each in costs], pairs

    @cached_property
    def _every_run(self) -> list[tuple[Spread, _Leaf]]:
        """Every run, and what it touches of each tensor."""
        space = self.base
        return [
            (spread, [self._leaf(use, spread) for use in self.uses])
            for unit in space.units[self.einsum]
            for spread in spreads(space.counts, self.einsum, unit, space.wanted(self.einsum))
        ]

    @cached_property
    def tiles(self) -> dict[str, Array]:
        """Tiles of every rank that loops may cut, by extents."""
        sizes = self.base.task.sizes
        return {r: np.ceil(sizes[r] / self.axis(r, e)) for r, e in self.extents.items()}

    @cached_property
    def _counts(self) -> Counts:
        """Counts of the frame without loops, each extent along its axis in place of a size."""
        base, sizes = self.base, self.base.task.sizes
        trips: dict[str, Any] = {r: np.float64(sizes[r]) for r, _ in base.frame.parts}
        trips |= {r: sizes[r] / n for r, n in self.tiles.items()}
        full = {r: self.axis(r, e) for r, e in self.extents.items()}
        last = {r: sizes[r] - (n - 1) * full[r] for r, n in self.tiles.items()}
        cut_short = any(np.any(last[r] != full[r]) for r in full)
        short = Short(full, last, self.tiles, {}) if cut_short else None
        return Counts(base.cascade, base.frame, base.arch, trips, short)

    def _leaf(self, use: Use, spread: Spread) -> tuple[Any, Any]:
        """Whether a tensor's tile takes several steps, and sigma if all loops around count."""
        loops = self._counts.rounds(self.base.arch.unit[spread.unit], spread)
        loops += [(r, self._counts.trips[r]) for r in spread.loops if r in self.extents]
        count, different = fetches((r in use.needs, n) for r, n in loops)
        around: Any = np.float64(1.0)
        for rank in self.extents:
            if rank not in use.needs:
                around = around * self.tiles[rank]
        return different > 1, count / different * around


def _stacked(some: Sequence[Any], wide: tuple[int, ...]) -> Array:
    """Arrays beside each other along a new first axis, axes of one extent as they are."""
    shape = np.broadcast_shapes(wide, *(np.shape(v) for v in some))
    return np.stack([np.broadcast_to(v, shape) for v in some])


def _best(columns: Sequence[Array]) -> Numbers:
    """Numbers along the first axis that no other is as good as in all values; of equals the first.

    >>> _best([np.array([[1.0, 2.0], [1.0, 3.0], [0.0, 4.0]])])
    array([0, 2])
    """
    flat = [v.reshape(len(v), -1) for v in columns]
    few = np.concatenate([v[:, :: max(1, v.shape[1] // SAMPLED)] for v in flat], axis=1)
    maybe = np.all(few[:, None] <= few[None, :], axis=2)
    left = list(range(len(few)))
    for n in range(len(few)):
        for k in left:
            if k != n and maybe[k, n] and all(np.all(v[k] <= v[n]) for v in flat):
                if k > n and all(np.all(v[k] == v[n]) for v in flat):
                    continue
                left.remove(n)
                break
    return np.array(left)


def _taken(values: Array, inside: Sequence[Numbers]) -> Array:
    """Values at some places, along the axes after the first."""
    pairs = zip(inside, values.shape[1:], strict=True)
    where: list[Any] = [np.zeros_like(i) if n == 1 else i for i, n in pairs]
    return np.asarray(values[(slice(None), *where)])
