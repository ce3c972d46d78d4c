"""Closer bounds at some points of a grid, many points at a time.

*Of any frame.*  Every access is counted with the fewest words that any spread of
its Einsum touches, and every tensor with the cheapest of its sets of holds, each
by itself.  Words of different tensors add up, so no mapping at the point is
below the sum.

*Of one Einsum, where energy counts.*  Holds and spreads are then all there is,
and the bound is what the best of them takes, for holds that fit together: joules
of a set of holds do not depend on the spread, and what the spread touches
depends on a set only through the level that serves the access.  So the cheapest
sets that fit are found once for every combination of serving levels, and each
spread is added to each of these combinations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from accelsim.mapper.evaluate import Array, Counts, Keep, Moved, Numbers, Words
from accelsim.mapper.frame import Use
from accelsim.mapper.goal import Goal
from accelsim.mapper.space import Space
from accelsim.mapper.spreads import spreads

#: Combinations of sets of holds that are looked at together for one Einsum.
MOST_TOGETHER = 4096

#: Words of an Einsum's accesses for one spread over one unit.
Touched = tuple[str, Mapping[Use, Words]]


@dataclass(frozen=True, slots=True)
class _Row:
    """A set of holds of one tensor at some points: what it moves, and where it serves."""

    keeps: tuple[Keep, ...]
    serves: Mapping[str, int]
    moved: Moved
    joules: Any
    bad: Any


class Closer:
    """Some points of a space's grid, by their numbers."""

    def __init__(self, space: Space, numbers: Numbers) -> None:
        self.space, self.size = space, len(numbers)
        shape = space.grid.shape
        trips = {p: np.broadcast_to(t, shape).ravel()[numbers] for p, t in space.grid.trips.items()}
        self.counts = Counts(space.cascade, space.frame, space.arch, trips)
        self.points = {
            e: np.broadcast_to(n, shape).ravel()[numbers] for e, n in space.points.items()
        }
        self.seconds: Array = space.least[numbers]
        self.touched = {e: self._touched(e) for e in space.units}
        self.rows = {t: [self._row(t, keeps) for keeps in s] for t, s in space.options.items()}

    def _touched(self, einsum: str) -> list[Touched]:
        """Words of all accesses of an Einsum, for every unit and spread."""
        counts = self.counts
        found = counts.uses_by_einsum(einsum)
        return [
            (unit, {use: counts.leaf(use, spread) for use in found})
            for unit in self.space.units[einsum]
            for spread in spreads(counts, einsum, unit, self.space.wanted(einsum))
        ]

    def _row(self, tensor: str, keeps: tuple[Keep, ...]) -> _Row:
        counts = self.counts
        moved = counts.moves(tensor, keeps)
        serves = {u.einsum: counts.serves(tensor, keeps, u.spot) for u in counts.uses[tensor]}
        joules = self.space.task.joules(moved)
        return _Row(keeps, serves, moved, joules, ~self.space.fits(counts, tensor, keeps))

    def bounds(self, goal: Goal) -> tuple[Array, Array]:
        """Latency and energy that no mapping at these points is below.

        For energy, the latency is that of the operations alone.

        >>> from accelsim.load.arch import load_architecture
        >>> from accelsim.load.cascade import load_cascade
        >>> from accelsim.mapper.frame import frame
        >>> from accelsim.mapper.space import Task
        >>> c, a = load_cascade("matmul"), load_architecture("teaching")
        >>> space = Space(Task(c, {"M": 4, "N": 4, "K": 4}, a), frame(c, ("C",), ()))
        >>> latency, energy = Closer(space, np.array([0])).bounds(Goal("energy"))
        >>> float(latency[0])
        4e-09
        """
        space = self.space
        alone = len(self.touched) == 1 and goal.name == "energy"
        if alone and math.prod(map(len, self.rows.values())) <= MOST_TOGETHER:
            return self.seconds, self._together() + np.zeros(self.size)
        joules: Any = 0.0
        for e in space.units:
            joules = joules + space.least_joules(e) * self.points[e]
        least = {
            use: _fewest(words[use] for _, words in found)
            for found in self.touched.values()
            for use in found[0][1]
        }
        seconds, moved = self._apart(least, goal)
        return np.maximum(seconds, self.seconds), joules + moved + np.zeros(self.size)

    def _apart(self, least: Mapping[Use, Words], goal: Goal) -> tuple[Any, Any]:
        """Seconds and joules with the cheapest set of holds of each tensor, each by itself."""
        task, counts = self.space.task, self.counts
        levels = range(counts.levels)
        joules: Any = 0.0
        total: list[list[Any]] = [[0.0 for _ in levels], [0.0 for _ in levels]]
        for tensor, rows in self.rows.items():
            cheapest: Any = np.inf
            low: list[list[Any]] = [[np.inf for _ in levels], [np.inf for _ in levels]]
            for row in rows:
                moved = row.moved
                for use in counts.uses[tensor]:
                    moved = moved + counts.touches(use, least[use], row.serves[use.einsum])
                cost = np.where(row.bad, np.inf, task.joules(moved))
                cheapest = np.minimum(cheapest, cost)
                if goal.name == "energy":
                    continue
                for n in levels:
                    low[0][n] = np.minimum(low[0][n], np.where(row.bad, np.inf, moved.reads[n]))
                    low[1][n] = np.minimum(low[1][n], np.where(row.bad, np.inf, moved.writes[n]))
            joules = joules + cheapest
            if goal.name != "energy":
                total = [
                    [a + b for a, b in zip(x, y, strict=True)]
                    for x, y in zip(total, low, strict=True)
                ]
        return task.seconds(Moved(tuple(total[0]), tuple(total[1]))), joules

    # -- one Einsum --------------------------------------------------------------------------

    def _together(self) -> Any:
        """Joules of the best holds that fit together and the best spread of one Einsum."""
        ((einsum, touched),) = self.touched.items()
        tensors = list(self.rows)
        rooms = {t: [self._rooms(t, row) for row in self.rows[t]] for t in tensors}
        cheapest: dict[tuple[int, ...], Any] = {}
        for some in product(*(range(len(self.rows[t])) for t in tensors)):
            rows = [self.rows[t][n] for t, n in zip(tensors, some, strict=True)]
            served = tuple(row.serves[einsum] for row in rows)
            held = [rooms[t][n] for t, n in zip(tensors, some, strict=True)]
            joules = sum(row.joules for row in rows)
            joules = np.where(self._over(held, rows), np.inf, joules)
            cheapest[served] = np.minimum(cheapest.get(served, np.inf), joules)
        best: Any = np.inf
        for unit, words in touched:
            each = self.space.point_joules(einsum, unit) * self.points[einsum]
            costs = {t: self._by_level(t, words) for t in tensors}
            for served, joules in cheapest.items():
                total = joules + each
                for t, level in zip(tensors, served, strict=True):
                    total = total + costs[t][level]
                best = np.minimum(best, total)
        return best

    def _by_level(self, tensor: str, words: Mapping[Use, Words]) -> list[Any]:
        """Joules of what an Einsum touches of a tensor, for each level that may serve it."""
        found = []
        for read, write in self.space.task.word_joules:
            total: Any = 0.0
            for use in self.counts.uses[tensor]:
                some = words[use]
                if use.writes:
                    total = total + read * (some.visits - some.first) + write * some.visits
                else:
                    total = total + read * some.visits
            found.append(total)
        return found

    def _rooms(self, tensor: str, row: _Row) -> dict[int, Any]:
        """Words of a set of holds by level, with the copies that are asked for."""
        found: dict[int, Any] = {}
        for keep in row.keeps:
            tile = self.counts.held(tensor, keep.spot)
            copies = self.space.copies(self.counts, tensor, keep, row.keeps)
            found[keep.level] = found.get(keep.level, 0.0) + tile.tile * copies
        return found

    def _over(self, held: Sequence[Mapping[int, Any]], rows: Sequence[_Row]) -> Any:
        """Whether holds do not fit, alone or together."""
        found: Any = np.bool_(False)
        for row in rows:
            found = found | row.bad
        for level in {level for some in held for level in some}:
            room = self.space.task.room(level)[0]
            if math.isfinite(room):
                found = found | (sum(some.get(level, 0.0) for some in held) > room)
        return found


def _fewest(words: Iterable[Words]) -> Words:
    """The fewest visits, with the fewest that come again."""
    visits: Any = np.inf
    again: Any = np.inf
    for some in words:
        visits = np.minimum(visits, some.visits)
        again = np.minimum(again, some.visits - some.first)
    return Words(visits, visits, visits - again)
