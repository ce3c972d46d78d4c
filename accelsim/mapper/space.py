"""The mapspace of one frame of a fused group on a machine.

A mapping of the space is: trips of every part (``cuts``); for each
Einsum a unit that can do it and a spread over that unit's sides; for each
tensor a set of holds; and whether the units overlap from step to step or work
in turns.  ``frame`` and ``holds`` say which frames and sets of holds there are
and prove what they leave out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from accelsim.analysis.work import work
from accelsim.errors import Fault, InputError, Place, one_of
from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Cascade
from accelsim.ir.problem import Problem, bind, relevant
from accelsim.mapper.evaluate import Counts, Keep, Moved, Words, cost
from accelsim.mapper.frame import Frame, Use
from accelsim.mapper.goal import EQUAL, Goal
from accelsim.mapper.grid import Grid, grid
from accelsim.mapper.holds import Registers, options, registers, shares
from accelsim.mapper.masks import masked_points
from accelsim.mapper.schedule import (
    BY_SEGMENT,
    IN_TURNS,
    TOGETHER,
    After,
    in_flight,
    lags,
    orders,
    segments,
)
from accelsim.mapper.short import Array
from accelsim.mapper.spreads import Sides, least_cycles, spreads, units_for


@dataclass(frozen=True)
class Wishes:
    """What a person has decided beforehand.

    ``units`` of Einsums, ``holds`` of tensors by level name, ``extents`` of
    parts; ``buffers``: tiles that are filled again and again have so many
    copies, so that one is filled while another is used; ``spreads`` of Einsums,
    the ranks along rows and columns.
    """

    units: Mapping[str, str] = field(default_factory=dict)
    holds: Mapping[str, str] = field(default_factory=dict)
    extents: Mapping[str, int] = field(default_factory=dict)
    buffers: int = 2
    spreads: Mapping[str, Sides] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A cascade with sizes on a machine, and what is decided already."""

    cascade: Cascade
    sizes: Mapping[str, int]
    arch: Architecture
    wishes: Wishes = Wishes()

    @cached_property
    def inner(self) -> Registers | None:
        """The machine's registers."""
        return registers(self.arch)

    def sides(self, einsums: Sequence[str]) -> tuple[int, ...] | None:
        """Sides of the arrays, where ranks may have a short last tile; None where they may not.

        They may where a group's Einsums use each tensor in one way and by plain
        indices, slots of recurrences aside.
        """
        cascade, tiles = self.cascade, dict[str, set[tuple[str, ...]]]()
        for name in einsums:
            for access in (*cascade.operands[name], cascade.steps[name].output):
                positions = cascade.geometry[id(access)].positions
                if any(at is not None for _, at in positions):
                    return None
                ranks = tuple(rank for rank, _ in positions)
                tiles.setdefault(access.tensor, set()).add(ranks)
        if any(len(some) > 1 for some in tiles.values()):
            return None
        return self.lengths

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Sides of all arrays, each once, in rising order."""
        return tuple(sorted({n for u in self.arch.units for n in (u.rows, u.cols) if n > 1}))

    def room(self, level: int) -> tuple[float, float]:
        """Words that a level takes in all, and of one tile."""
        if self.inner is not None and level == self.inner.level:
            return self.inner.words, min(self.inner.words, self.inner.words_a_tile)
        words = self.arch.levels[level].capacity_bytes / self.arch.word_bytes
        return words, words

    @cached_property
    def word_joules(self) -> tuple[tuple[float, float], ...]:
        """Joules to read and to write a word, by level."""
        word = self.arch.word_bytes
        return tuple((v.joules(word, 0.0), v.joules(0.0, word)) for v in self.arch.levels)

    def joules(self, moved: Moved) -> Any:
        """Energy of words moved."""
        total: Any = 0.0
        for (read, write), r, w in zip(self.word_joules, moved.reads, moved.writes, strict=True):
            total = total + read * r + write * w
        return total

    def seconds(self, moved: Moved) -> Any:
        """Time that the busiest level's ports need for words moved."""
        longest: Any = 0.0
        word = self.arch.word_bytes
        for level, r, w in zip(self.arch.levels, moved.reads, moved.writes, strict=True):
            ports = (r + w, level.bandwidth), (r, level.read_bandwidth), (w, level.write_bandwidth)
            for words, rate in ports:
                if math.isfinite(rate):
                    longest = np.maximum(longest, words * (word / rate))
        return longest

    @cached_property
    def _problems(self) -> dict[tuple[tuple[str, int], ...], Problem]:
        return {}

    def problem(self, extents: Mapping[str, int]) -> Problem:
        """The problem with parts of the cascade's own splits bound, of which the last may be short.

        Splits of which nothing is known have one tile: nothing that is asked for depends on it.
        """
        own = {p: extents[p] for _, parts in self.cascade.splits for p in parts if p in extents}
        known = {**self.sizes, **own}
        for rank, parts in self.cascade.splits:
            if rank in self.sizes and not known.keys() & {*parts}:
                known |= dict.fromkeys(parts[:-1], 1)
        key = tuple(own.items())
        if key not in self._problems:
            sizes = relevant(self.cascade, known)
            self._problems[key] = bind(self.cascade, sizes, imperfect=dict(self.cascade.splits))
        return self._problems[key]

    @cached_property
    def whole(self) -> Problem:
        """The problem with one tile of each of the cascade's own splits, whatever is wished."""
        parts = dict[str, int]()
        for rank, its in self.cascade.splits:
            parts |= dict.fromkeys(its[:-1], 1) | {its[-1]: self.coarsest.extent(rank)}
        return bind(self.cascade, relevant(self.cascade, {**self.sizes, **parts}))

    @cached_property
    def coarsest(self) -> Problem:
        """The problem with as few parts of the cascade's own splits as the sizes allow."""
        return self.problem({})

    @cached_property
    def fewest(self) -> dict[str, float]:
        """The fewest points of Einsums that were asked for (``masks.least_points``)."""
        return {}


#: Einsums whose choice of units the bound on latency looks at.
HEAVIEST = 11


class Space:
    """The mapspace of one frame."""

    def __init__(self, task: Task, frame: Frame) -> None:
        self.task, self.frame = task, frame
        self.cascade, self.arch = task.cascade, task.arch
        wishes = task.wishes
        sides = task.sides(frame.einsums)
        self.grid: Grid = grid(task.cascade, frame, task.sizes, wishes.extents, sides)
        self.counts = Counts(task.cascade, frame, task.arch, self.grid.trips, self.grid.short)
        self.units = {
            e: units_for(task.cascade, e, task.arch, task.wishes.units) for e in frame.einsums
        }
        self.options: dict[str, tuple[tuple[Keep, ...], ...]] = {
            t: options(self.counts, t, task.inner, task.wishes.holds.get(t))
            for t in self.counts.uses
        }
        for e in frame.einsums:
            self._spreadable(e)
        self.shares = shares(self.counts)
        self._trails: dict[str, dict[int, dict[str, int]]] = {}

    def wanted(self, einsum: str) -> Sides | None:
        """Ranks that an Einsum is wanted to have along rows and columns."""
        return self.task.wishes.spreads.get(einsum)

    def _spreadable(self, einsum: str) -> None:
        """Refuse a frame in which an Einsum cannot be spread as it is wanted."""
        wanted = self.wanted(einsum)
        if wanted is not None and not self.spreads_of(einsum):
            sides = zip(wanted, ("rows", "columns"), strict=True)
            said = " and ".join(f"{rank} along {side}" for rank, side in sides if rank)
            message = f"{einsum} cannot have {said} of {one_of(self.units[einsum])}"
            allowed = "sides that a unit has, and ranks that some tensor does without"
            raise InputError([Fault(Place("--spread"), message, allowed)])

    @cached_property
    def size(self) -> int:
        """Mappings in the space, those that a proof leaves out of ``options`` not among them."""
        found = 2 * self.grid.size
        for e in self.units:
            found *= self.spreads_of(e)
        return found * math.prod(len(sets) for sets in self.options.values())

    def counts_at(self, numbers: Any) -> Counts:
        """The counts of some points of the grid, or of one, by number."""
        shape = self.grid.shape
        return self.counts.at(lambda v: np.broadcast_to(v, shape).ravel()[numbers])

    def spreads_of(self, einsum: str) -> int:
        """Ways to spread an Einsum over the units that can do it."""
        units = self.units[einsum]
        return sum(1 for u in units for _ in spreads(self.counts, einsum, u, self.wanted(einsum)))

    @cached_property
    def points(self) -> dict[str, Any]:
        """Points of every Einsum, for every point of the grid."""
        return {e: self._points(e) for e in self.frame.einsums}

    def _points(self, einsum: str) -> Any:
        found = masked_points(self.task, einsum, self.counts.full)
        return self.counts.mean(self.counts.ranks[einsum], ()) if found is None else found

    # -- bounds ------------------------------------------------------------------------------

    def pes(self, einsum: str) -> int:
        """PEs of the largest unit that may run an Einsum."""
        return max(self.arch.unit[u].pes for u in self.units[einsum])

    def point_joules(self, einsum: str, unit: str) -> float:
        """Energy of the operations of one point of an Einsum on a unit."""
        return cost(self.arch.unit[unit], work(self.cascade.steps[einsum]))[1]

    def least_seconds(self, einsums: Sequence[str]) -> Array:
        """A time that no choice of units and spreads is faster than, for every point.

        Every Einsum runs on one unit, there at the speed of its fastest spread.
        Of all choices of units the one with the least time on its busiest unit
        is at least as fast as any mapping.  (Only the ``HEAVIEST`` Einsums are
        counted, which only makes the bound lower.)
        """
        units = list(self.arch.unit)
        cycles = {(e, u): c for (e, u), c in self._cycles.items() if e in einsums}
        table = np.array(list(cycles.values()))
        where = np.arange(table.shape[1])
        if len(einsums) > 3:
            table, where = np.unique(table, axis=1, return_inverse=True)
        rows = dict(zip(cycles, table, strict=True))
        heavy = sorted(einsums, key=lambda e: -max(rows[e, u].max() for u in self.units[e]))
        loads = np.zeros((1, len(units), table.shape[1]))
        for e in heavy[:HEAVIEST]:
            grown = []
            for u in self.units[e]:
                more = loads.copy()
                more[:, units.index(u)] += rows[e, u]
                grown.append(more)
            loads = np.concatenate(grown)
        longest = loads.max(axis=1).min(axis=0)
        return np.asarray(longest[where] / self.arch.clock_hz)

    @cached_property
    def _cycles(self) -> dict[tuple[str, str], Array]:
        """Cycles of the fastest spread of each Einsum on each unit, point by point."""
        return {
            (e, u): np.broadcast_to(
                least_cycles(self.counts, e, u, self.wanted(e)), self.grid.shape
            ).ravel()
            for e, us in self.units.items()
            for u in us
        }

    @cached_property
    def least(self) -> dict[str, Array]:
        """For each way to overlap a time that no runs are below, point by point.

        Segments follow one another, and so do all Einsums in turns: their times add up.
        """
        found = {TOGETHER: self.least_seconds(self.frame.einsums)}
        parts = segments(self.frame)
        if len(parts) > 1:
            found[BY_SEGMENT] = sum((self.least_seconds(p) for p in parts), np.zeros(1))
        if len(self.units) > 1:
            found[IN_TURNS] = sum((self.least_seconds((e,)) for e in self.units), np.zeros(1))
        return found

    @cached_property
    def after(self) -> tuple[After, ...]:
        """What must come after what within a step, whatever the trips."""
        return tuple(o for o in orders(self.counts) if not o.old)

    def trail(self, way: str) -> dict[int, dict[str, int]]:
        """The least lags of Einsums at each spot, whatever their units."""
        if way not in self._trails:
            self._trails[way] = lags(self.frame, self.after, self.units, way) or {}
        return self._trails[way]

    def least_moved(self, least: Mapping[Use, Words], goal: Goal) -> tuple[Any, Any]:
        """Seconds and joules that no choice of holds is below, for every point of the grid.

        ``least`` are words that an Einsum touches at the least.  Time and energy
        of a tensor are the least over its sets of holds, each by itself; a set
        of which one tile alone does not fit is none.  Where energy is the
        objective, the time is not worked out.
        """
        counts, levels = self.counts, range(len(self.arch.levels))
        joules: Any = 0.0
        total: list[list[Any]] = [[0.0 for _ in levels], [0.0 for _ in levels]]
        for tensor, sets in self.options.items():
            cheapest: Any = np.inf
            low: list[list[Any]] = [[np.inf for _ in levels], [np.inf for _ in levels]]
            for keeps in sets:
                moved = counts.moves(tensor, keeps)
                for use in counts.uses[tensor]:
                    level = counts.serves(tensor, keeps, use.spot)
                    moved = moved + counts.touches(use, least[use], level)
                bad = np.where(self.fits(counts, tensor, keeps), 0.0, np.inf)
                cheapest = np.minimum(cheapest, self.task.joules(moved) + bad)
                for n in levels if goal.name != "energy" else ():
                    low[0][n] = np.minimum(low[0][n], moved.reads[n] + bad)
                    low[1][n] = np.minimum(low[1][n], moved.writes[n] + bad)
            joules = joules + cheapest
            if goal.name != "energy":
                total = [
                    [a + b for a, b in zip(*s, strict=True)] for s in zip(total, low, strict=True)
                ]
        return self.task.seconds(Moved(tuple(total[0]), tuple(total[1]))), joules

    def fits(self, counts: Counts, tensor: str, keeps: tuple[Keep, ...]) -> Any:
        """Whether each tile of a set of holds fits its level by itself."""
        found: Any = np.bool_(True)
        for keep in keeps:
            words = counts.held(tensor, keep.spot).tile
            found = found & (words <= self.task.room(keep.level)[1])
        return found

    def bounds(self, goal: Goal) -> tuple[Array, Array]:
        """Latency and energy that no mapping of the space is below, for every point of the grid.

        For energy, the latency is that of the operations alone.  What an Einsum
        touches is the least for its units' PEs (``Counts.least``).
        """
        counts = self.counts
        least = {
            use: counts.least(use, self.pes(use.einsum))
            for found in counts.uses.values()
            for use in found
        }
        seconds, joules = self.least_moved(least, goal)
        latency = np.maximum(self.least[TOGETHER].reshape(self.grid.shape), seconds)
        for e in self.units:
            joules = joules + self.least_joules(e) * self.points[e]
        shape = self.grid.shape
        return np.broadcast_to(latency, shape).ravel(), np.broadcast_to(joules, shape).ravel()

    @cached_property
    def doubles(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Points whose mappings are all in the space of a shorter sequence of loops."""
        found: Any = np.zeros(self.grid.shape, dtype=bool)
        for part in self.frame.idle:
            found = found | (self.grid.trips[part] == 1)
        return np.asarray(found).ravel()

    def least_joules(self, einsum: str) -> float:
        """Energy of the operations of a point on the unit where they take the least."""
        return min(self.point_joules(einsum, unit) for unit in self.units[einsum])

    def copies(
        self, counts: Counts, tensor: str, keep: Keep, keeps: tuple[Keep, ...], way: str = IN_TURNS
    ) -> Any:
        """The fewest copies of a tile where units overlap in some way.

        As many as the wishes say where it is filled again and again, and as many
        as are in flight between its writer and its readers.
        """
        flying = in_flight(counts, (tensor,), keep.spot, self.after, self.trail(way))
        return np.maximum(flying, self.filled(counts, tensor, keep, keeps))

    def filled(self, counts: Counts, tensor: str, keep: Keep, keeps: tuple[Keep, ...]) -> Any:
        """Copies of a tile that is filled from further out, however units overlap."""
        inner = self.task.inner
        if keep == counts.home(tensor, keeps) or (inner is not None and keep.level == inner.level):
            return 1.0
        tile = counts.held(tensor, keep.spot)
        again = tile.visits > tile.tile * (1 + EQUAL)
        return np.where(again, float(self.task.wishes.buffers), 1.0)
