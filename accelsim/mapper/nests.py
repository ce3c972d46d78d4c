"""Points of all frames of one Einsum at once, laid out by the extents inside all loops.

The loops of such a frame stand one in the other: it is an order of ranks, and a point
is a way to cut each rank by its loops.  Each rank has one table of all ways to cut it,
by the number of loops, then by the extent inside them, so that the points of many
orders with given innermost extents are runs of rows in these tables, and what is worked
out at them takes a few operations on arrays for all orders together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from accelsim.mapper.cuts import Cuts
from accelsim.mapper.evaluate import Numbers
from accelsim.mapper.short import Array

#: Ranks of a frame's loops, outermost first.
Order: TypeAlias = tuple[str, ...]

#: Points that are worked on together.
TOGETHER = 1 << 13


@dataclass(frozen=True, slots=True)
class Points:
    """Some points: numbers of their orders, and by rank of innermost extents and table rows."""

    order: Numbers
    inside: Numbers
    rows: Numbers

    def at(self, few: Any) -> Points:
        """Some of them."""
        return Points(self.order[few], self.inside[:, few], self.rows[:, few])


@dataclass(frozen=True, slots=True)
class Bounded:
    """Some points by order and number: their numbers in the grids of frames, and bounds."""

    points: Points
    numbers: Numbers
    bounds: Array

    def at(self, few: Any) -> Bounded:
        """Some of them."""
        return Bounded(self.points.at(few), self.numbers[few], self.bounds[few])

    def by_order(self) -> Iterator[tuple[int, Bounded]]:
        """Each order that has any, by its number, and the points of it."""
        for order in np.flatnonzero(np.bincount(self.points.order)):
            yield int(order), self.at(np.flatnonzero(self.points.order == order))


@dataclass(frozen=True, slots=True)
class Spots:
    """Spots that may hold each of some tensors at some points, by spot, tensor and point.

    Outermost first, the last again where there are fewer: ``rho``, words of the full
    ``tile``, and its ``room`` with all copies.
    """

    rho: Array
    tile: Array
    room: Array


class _Table:
    """All ways to cut a rank by at most so many loops of more than one trip each.

    ``trips`` of each loop, ``tiles`` the extents of full tiles around each loop, inside
    the last as well, each by row; ``numbers`` of the rows in the grid of frames with so
    many loops, which has ``of``.  ``begin`` and ``count`` of rows by loops and extent.
    """

    def __init__(self, cuts: Sequence[Cuts], size: int, known: Array) -> None:
        most, rows = len(cuts), []
        self.of = [len(c.trips) for c in cuts]
        for c in cuts:
            good = np.flatnonzero(np.all(c.trips[:, :-1] > 1, axis=1))
            tiles = np.cumprod(c.full[good, ::-1], axis=1)[:, ::-1]
            tiles[:, 0] = size
            at = np.searchsorted(known, tiles[:, -1])
            by = np.argsort(at, kind="stable")
            trips, more = np.ones((len(by), most)), most - tiles.shape[1]
            trips[:, : tiles.shape[1] - 1] = c.trips[good, :-1][by]
            tiles = np.pad(tiles[by], ((0, 0), (0, more + 1)), mode="edge")
            rows.append((trips, tiles, good[by], np.bincount(at, minlength=len(known))))
        self.trips = np.concatenate([r[0] for r in rows]).T
        self.tiles = np.concatenate([r[1] for r in rows]).T
        self.numbers = np.concatenate([r[2] for r in rows])
        self.count = np.stack([r[3] for r in rows])
        self.begin = (np.cumsum(self.count) - self.count.ravel()).reshape(self.count.shape)


class Nests:
    """The points of some orders of loops.

    ``cuts`` gives the ways to cut a rank by so many loops, ``extents`` each rank's
    innermost extents in rising order; ``needs`` are the ranks of each tensor.
    """

    def __init__(
        self,
        orders: Sequence[Order],
        sizes: Mapping[str, int],
        extents: Mapping[str, Array],
        cuts: Callable[[str, int], Cuts],
        needs: Sequence[frozenset[str]],
    ) -> None:
        self.orders, self.ranks = orders, list(extents)
        self.depth = max(map(len, orders))
        self.times = np.array([[o.count(r) for r in self.ranks] for o in orders])
        self.tables = [
            _Table([cuts(r, n) for n in range(most + 1)], sizes[r], extents[r])
            for r, most in zip(self.ranks, self.times.max(axis=0), strict=True)
        ]
        self.needs = needs

    def size(self, order: int) -> int:
        """Points of an order's grid, those with loops of one trip among them."""
        pairs = zip(self.tables, self.times[order], strict=True)
        return math.prod(table.of[n] for table, n in pairs)

    def places(self, order: int) -> list[int]:
        """How many spots may hold each tensor."""
        return [len(set(some)) for some in self._at[:, :, order].T.tolist()]

    @cached_property
    def _loops(self) -> tuple[Numbers, Numbers]:
        """By position and order the loop's rank, and where its rows begin in the flat tables.

        Beyond the last loop of an order a loop of the first table that has one trip.
        """
        shape = self.depth, len(self.orders)
        sizes = [t.trips.size for t in self.tables]
        first = np.cumsum([0, *sizes[:-1]])
        many = [t.trips.shape[1] for t in self.tables]
        rank = np.zeros(shape, dtype=np.int64)
        begin = np.full(shape, sizes[0] - many[0])
        for n, order in enumerate(self.orders):
            for at, r in enumerate(order):
                rank[at, n] = i = self.ranks.index(r)
                begin[at, n] = first[i] + order[:at].count(r) * many[i]
        return rank, begin

    @cached_property
    def _own(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each loop of each order brings another tile of each tensor."""
        found = np.zeros((self.depth, len(self.needs), len(self.orders)), dtype=bool)
        for n, order in enumerate(self.orders):
            for at, r in enumerate(order):
                found[at, :, n] = [r in ranks for ranks in self.needs]
        return found

    @cached_property
    def _at(self) -> Numbers:
        """The spots that may hold each tensor, by order, the last again where there are fewer.

        The tensor needs the spot's loop, and not the next one.
        """
        shape = self.depth // 2 + 1, len(self.needs), len(self.orders)
        found = np.empty(shape, dtype=np.int64)
        for n, order in enumerate(self.orders):
            for t, needs in enumerate(self.needs):
                own = [True, *(r in needs for r in order), False]
                spots = [s for s in range(len(order) + 1) if own[s] and not own[s + 1]]
                found[:, t, n] = spots[-1]
                found[: len(spots), t, n] = spots
        return found

    @cached_property
    def _flat(self) -> tuple[Array, Array, Array]:
        """Of all tables one after the other trips, and tiles around and inside, by loop."""
        trips = [t.trips.ravel() for t in self.tables]
        outer = [t.tiles[:-1].ravel() for t in self.tables]
        inner = [t.tiles[1:].ravel() for t in self.tables]
        return np.concatenate(trips), np.concatenate(outer), np.concatenate(inner)

    def points(self, order: Numbers, inside: Numbers) -> Iterator[Points]:
        """All points of some pairs of an order and innermost extents, so many at a time."""
        pairs = list(zip(self.tables, self.times[order].T, inside, strict=True))
        begin = np.array([table.begin[n, at] for table, n, at in pairs])
        count = np.array([table.count[n, at] for table, n, at in pairs])
        many = np.prod(count, axis=0)
        end = np.cumsum(many)
        for first in range(0, int(many.sum()), TOGETHER):
            which = np.arange(first, min(first + TOGETHER, int(end[-1])))
            pair = np.searchsorted(end, which, side="right")
            left = which - (end - many)[pair]
            rows, radix = begin[:, pair], count[:, pair]
            for n in reversed(range(len(rows))):
                left, at = np.divmod(left, radix[n])
                rows[n] += at
            yield Points(order[pair], inside[:, pair], rows)

    def sorted(self, some: Sequence[Points], bounds: Array) -> Bounded:
        """Some points with their bounds, by order and number."""
        order = np.concatenate([p.order for p in some])
        inside = np.concatenate([p.inside for p in some], axis=1)
        rows = np.concatenate([p.rows for p in some], axis=1)
        numbers = np.zeros(len(order), dtype=np.int64)
        for n, table in enumerate(self.tables):
            numbers = numbers * np.array(table.of)[self.times[order, n]] + table.numbers[rows[n]]
        by = np.lexsort((numbers, order))
        return Bounded(Points(order, inside, rows), numbers, bounds).at(by)

    @property
    def none(self) -> Points:
        """No points."""
        empty = np.zeros((len(self.tables), 0), dtype=np.int64)
        return Points(empty[0], empty, empty)

    def walk(self, points: Points, words: Sequence[float]) -> tuple[Array, Array]:
        """Rho and words of full tiles above all loops and inside each, by tensor and point.

        The tensors have so many ``words`` each.
        """
        order, many = points.order, len(points.order)
        rank, begin = self._loops
        trips, outer, inner = self._flat
        rows, columns = points.rows.ravel(), np.arange(many)
        rho = np.ones((self.depth + 1, len(words), many))
        tile = np.empty(rho.shape)
        tile[0] = np.array(words)[:, None]
        for n in range(self.depth):
            at = begin[n, order] + rows[rank[n, order] * many + columns]
            needed = self._own[n][:, order]
            rho[n + 1] = rho[n] * np.where(needed, 1.0, trips[at])
            tile[n + 1] = np.where(needed, tile[n] * inner[at] / outer[at], tile[n])
        return rho, tile

    def spots(self, order: Numbers, rho: Array, tile: Array, buffers: tuple[int, int]) -> Spots:
        """The spots that may hold the tensors at some points of orders, with what ``walk`` gives.

        ``buffers``: copies of tiles that stand above all loops, and of others.
        """
        spots = self._at[:, :, order]
        rho, tile = np.take_along_axis(rho, spots, 0), np.take_along_axis(tile, spots, 0)
        return Spots(rho, tile, tile * np.where(spots == 0, *map(float, buffers)))
