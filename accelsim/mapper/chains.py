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
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import combinations, product
from typing import Any, TypeAlias

import numpy as np

from accelsim.ir.rule import divisors
from accelsim.mapper.cuts import Cuts, tile_sizes
from accelsim.mapper.evaluate import BACKING, Numbers
from accelsim.mapper.frame import MOST_LOOPS, Use, batch_ranks, frame, loop_ranks, sequences
from accelsim.mapper.goal import EQUAL
from accelsim.mapper.grid import cuts_of
from accelsim.mapper.holds import levels_between
from accelsim.mapper.nests import Bounded, Nests, Order, Points, Spots
from accelsim.mapper.short import Array
from accelsim.mapper.space import Space
from accelsim.mapper.touched import Prices, Served, Touched

#: For ways to serve the tensors two tables by last loop and innermost extents: a bound,
#: and how often what holds take beyond the least comes to it.
Ways: TypeAlias = Mapping[Served, tuple[Array, Array]]


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
        self._numbers = {order: n for n, order in enumerate(self.orders)}
        self.lasts = tuple(dict.fromkeys(last(order) for order in self.orders))
        self._last = np.array([self.lasts.index(last(order)) for order in self.orders])
        self._words = [words / self.batch for words in self.touched.words]
        buffers = self.task.wishes.buffers
        self._copies = (buffers if self.batch > 1 else 1, buffers)
        self._counted: dict[tuple[int, int], int] = {}
        self._worth: dict[tuple[Served, str], Array] = {}
        self._holds: dict[Served, Array] = {}
        self._full: dict[Served, Any] = {}

    def dearer(self, prices: Prices, served: tuple[Served, ...]) -> Chains:
        """The same where words cost more joules, for mappings that serve the tensors so."""
        other = object.__new__(Chains)
        other.__dict__ |= {k: v for k, v in self.__dict__.items() if k != "ways"}
        other.touched, other._worth, other._holds = self.touched.priced(prices), {}, {}
        other.__dict__["served"] = served
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

    # -- points of frames --------------------------------------------------------------------

    @cached_property
    def nests(self) -> Nests:
        """The points of all frames."""
        sizes, needs = self.task.sizes, [use.needs for use in self.uses]
        return Nests(self.orders, sizes, self.extents, self._cuts, needs)

    def _cuts(self, rank: str, loops: int) -> Cuts:
        """The ways to cut a rank by so many loops."""
        return cuts_of(self.task.sizes[rank], loops + 1, self.sides)

    def _tile_sizes(self, rank: str) -> Sequence[int]:
        """Extents that tiles of a rank may have."""
        size = self.task.sizes[rank]
        return divisors(size) if self.sides is None else tile_sizes(size, self.sides)

    def space(self, order: Sequence[str]) -> Space:
        """The mapspace of a frame."""
        return Space(self.task, frame(self.base.cascade, (self.einsum,), order))

    def size(self, order: Sequence[str]) -> tuple[int, int]:
        """Points of a frame's grid, those of shorter sequences among them, and its mappings."""
        number = self._numbers[tuple(order)]
        points = self.nests.size(number)
        mappings = 2 * points * self._spreads
        for n, spots in enumerate(self.nests.places(number)):
            mappings *= self._sets(n, spots)
        return points, mappings

    def _sets(self, n: int, spots: int) -> int:
        """Sets of holds of a tensor at so many spots."""
        if (n, spots) not in self._counted:
            sets = self.levels_of(self.uses[n])
            found = sum(math.comb(spots + len(some) - 1, len(some)) for some in sets)
            self._counted[n, spots] = found
        return self._counted[n, spots]

    @cached_property
    def _spreads(self) -> int:
        return self.base.spreads_of(self.einsum)

    def points(self, orders: Sequence[Order], most: float, some: Iterable[Served]) -> Bounded:
        """Points of frames whose bound is at most so many joules.

        It is one on mappings that serve the tensors in some of the ways.

        >>> from accelsim.explore.map import task_for
        >>> from accelsim.mapper.frame import frame
        >>> task, _ = task_for("matmul", arch="teaching", shape="M=4,N=4,K=4")
        >>> chains = Chains(Space(task, frame(task.cascade, ("C",), ())))
        >>> len(chains.points([("M",)], math.inf, chains.served).numbers), chains.size(("M",))[0]
        (2, 3)
        """
        return self.among(orders, self._ways(some), most, touched=True)

    def lowest(self, served: Served) -> float:
        """Joules that no mapping is below which serves the tensors so."""
        return self.lowest_of(served, *self._ways((served,))[served])

    def lowest_of(self, served: Served, least: Array, rate: Array) -> float:
        """The least of a bound by innermost extents, with what holds bring to it."""
        return float((least + self._more(served) * rate).min())

    def at(self, points: Points, most: float) -> Array:
        """Bounds of some points; infinite where above so many joules."""
        return self._at(points, self._ways(self.served), most, touched=True)

    def _ways(self, some: Iterable[Served]) -> Ways:
        """The tables of some ways to serve the tensors."""
        return {
            s: (np.stack([self._least(s, rank) for rank in self.lasts]), np.ones(1)) for s in some
        }

    def among(
        self,
        orders: Sequence[Order],
        ways: Ways,
        most: float,
        touched: bool = False,
    ) -> Bounded:
        """Points of frames with a bound of at most so much, the least of several ways.

        Each has a bound by innermost extents; to this comes what holds take beyond
        ``least``, so many times.  With ``touched`` it is put in place of that what the
        PEs touch at the points.
        """
        kept, bounds = [self.nests.none], [np.zeros(0)]
        ways = {
            served: (np.where(least + self._more(served) * rate <= most, least, np.inf), rate)
            for served, (least, rate) in ways.items()
        }
        for points in self.nests.points(*self._pairs(orders, ways, most)):
            found = self._at(points, ways, most, touched)
            few = np.flatnonzero(found <= most)
            if len(few):
                kept.append(points.at(few))
                bounds.append(found[few])
        return self.nests.sorted(kept, np.concatenate(bounds))

    def _at(self, points: Points, ways: Ways, most: float, touched: bool) -> Array:
        """Bounds of some points; infinite where above so much."""
        rho, tile = self.nests.walk(points, self._words)
        places = dict.fromkeys(at for served in ways for at in enumerate(served))
        alone = {(n, v): self._alone(n, v, rho[:, n], tile[:, n]) for n, v in places}
        shape = len(self.lasts), *self._shape
        where = np.ravel_multi_index((self._last[points.order], *points.inside), shape)
        best = np.full(len(points.order), np.inf)
        for served, tables in ways.items():
            least, rate = (np.broadcast_to(t, shape).ravel()[where] for t in tables)
            more = sum(alone[at] for at in enumerate(served)) - self.least(served)
            few = np.flatnonzero(least + more * rate <= most)
            if len(few):
                here = points.order[few], rho[..., few], tile[..., few]
                spots = self.nests.spots(*here, self._copies)
                held = self._held(spots, served)
                found = least[few] + (held - self.least(served)) * rate[few]
                if touched:
                    close = found <= most
                    inside, rhos = points.inside[:, few[close]], spots.rho[-1][:, close]
                    found[close] = self.touched.at(served, list(inside), rhos) + held[close]
                best[few] = np.minimum(best[few], found)
        return best

    def _pairs(self, orders: Sequence[Order], ways: Ways, most: float) -> tuple[Numbers, Numbers]:
        """Pairs of an order and innermost extents that may be good in some way.

        As numbers of orders, and of extents by rank.
        """
        good = np.zeros((len(self.lasts), *self._shape), dtype=bool)
        for least, _ in ways.values():
            good |= least <= most
        numbers = np.array([self._numbers[order] for order in orders], dtype=np.int64)
        pair, *inside = np.nonzero(good[self._last[numbers]])
        return numbers[pair], np.array(inside)

    def _alone(self, n: int, level: int, rho: Array, tile: Array) -> Array:
        """Joules of holds of a tensor that end at a level, with no other tensor there.

        ``rho`` and ``tile`` inside each loop: the outermost tile that fits is brought least.
        """
        if level == BACKING:
            return np.full(rho.shape[-1], float(self.held(n, level, 1.0)))
        most = self.task.room(level)[1]
        found: Any = np.inf
        for here, words in zip(rho[::-1], tile[::-1], strict=True):
            found = np.where(words <= most, here, found)
        return np.asarray(self.held(n, level, found))

    def good(self, most: float) -> tuple[Served, ...]:
        """Ways to serve the tensors of which a bound by innermost extents is somewhere so low."""
        return tuple(
            served
            for served in self.served
            if any(
                self.least(served) + self.touched.least(served, rank).min() <= most
                and self._least(served, rank).min() <= most
                for rank in self.lasts
            )
        )

    def _least(self, served: Served, last: str) -> Array:
        """Bounds by innermost extents if the tensors are served so, before a last loop."""
        if (served, last) not in self._worth:
            bound = self.least(served) + self.touched.least(served, last)
            bound = np.where(self.crowded(served), np.inf, bound)
            self._worth[served, last] = np.broadcast_to(bound, self._shape)
        return self._worth[served, last]

    def _more(self, served: Served) -> Array:
        """Joules beyond ``least`` that no holds are below which serve the tensors so.

        By innermost extents.  Of the tensors that are held, take the one whose spot is the
        outermost.  Its tile fits, beside a word of each other tensor at its level, and rho
        of all others is at least what it would be there, which the extents inside say.
        """
        if served not in self._holds:
            total: Any = np.zeros(self._shape)
            fits: Any = np.bool_(all(level == BACKING for level in served))
            for n, level in enumerate(served):
                rho, tile = self._tiles(n)
                total = total + self.held(n, level, rho if level != BACKING else 1.0)
                if level != BACKING:
                    room, most = self.task.room(level)
                    words = tile * np.where(tile < self._words[n], *self._copies[::-1])
                    fits = fits | (tile <= most) & (words <= room - served.count(level) + 1)
            found = np.where(fits, total * (1 - EQUAL) - self.least(served), np.inf)
            for axis in range(found.ndim):  # a spot's extents are no less than the innermost
                found = np.flip(np.minimum.accumulate(np.flip(found, axis), axis), axis)
            self._holds[served] = found
        return self._holds[served]

    def _tiles(self, n: int) -> tuple[Any, Any]:
        """Rho and words of full tiles of a tensor by the extents inside the loops around."""
        rho: Any = np.float64(1.0)
        tile: Any = np.float64(1.0)
        for rank, extents in self.extents.items():
            if rank in self.uses[n].needs:
                tile = tile * self.touched.axis(rank, extents)
            else:
                rho = rho * self.touched.tiles[rank]
        return rho, tile

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        """How many innermost extents each rank has."""
        return tuple(len(e) for e in self.extents.values())

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

    def _held(self, spots: Spots, served: Served) -> Array:
        """Joules of holds that serve the tensors so, at the least; infinite where none fit."""
        held = [n for n, level in enumerate(served) if level != BACKING]
        total: Any = np.zeros(spots.rho.shape[-1])
        rooms: dict[int, Any] = {}
        for axis, n in enumerate(held):
            level, most = served[n], self.task.room(served[n])[1]
            joules = self.held(n, level, spots.rho[:, n])
            joules = np.where(spots.tile[:, n] <= most, joules, np.inf)
            apart = (-1, *[1] * (len(held) - axis - 1), joules.shape[-1])  # an axis a tensor
            total = total + joules.reshape(apart)
            rooms[level] = rooms.get(level, 0.0) + spots.room[:, n].reshape(apart)
        for level, words in rooms.items():
            total = np.where(words > self.task.room(level)[0], np.inf, total)
        return np.asarray(total.reshape(-1, total.shape[-1]).min(axis=0))


def last(order: Order) -> str:
    """The rank of the last loop; without loops it is empty."""
    return order[-1] if order else ""
