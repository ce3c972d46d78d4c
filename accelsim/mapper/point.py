"""The best mapping at one point of a grid: holds, units, spreads and overlap.

With all trips known, ``stow`` lists choices of holds, best bound first.  For
each one all combinations of runs (a unit and a spread for every Einsum) are
priced at once, overlapping and in turns, and the best that fits is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from accelsim.mapper.closer import Closer
from accelsim.mapper.evaluate import Counts, Moved, Numbers, Words
from accelsim.mapper.frame import Use
from accelsim.mapper.goal import EQUAL, Figures, Goal, better
from accelsim.mapper.schedule import (
    BY_SEGMENT,
    IN_TURNS,
    TOGETHER,
    After,
    Trail,
    lags,
    orders,
    segments,
)
from accelsim.mapper.short import Array
from accelsim.mapper.space import Space
from accelsim.mapper.spreads import Run, runs
from accelsim.mapper.stow import Held, Kept, Stow, Tally

#: Combinations of runs that are looked at together.
MOST_RUNS = 4096


@dataclass(frozen=True)
class Choice:
    """A complete mapping of a group: trips, runs, holds, schedule, and its figures.

    ``trips`` are those of full tiles; ``counts`` are those of its point.
    """

    space: Space = field(repr=False)
    trips: Mapping[str, int]
    runs: Mapping[str, Run]
    kept: tuple[Kept, ...]
    way: str
    latency_s: float
    energy_j: float
    counts: Counts | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Picks:
    """Combinations of runs: a number for each Einsum, seconds by way, joules of operations."""

    table: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    seconds: Mapping[str, Array]
    joules: Array


@dataclass(frozen=True)
class Worth:
    """Some combinations of runs, by number: seconds, joules, and words of each access.

    ``lags`` are numbers of the lags of each in ``trails``.
    """

    picks: Numbers
    seconds: Array
    joules: Array
    visits: Mapping[Use, tuple[Array, Array]]
    lags: Numbers
    trails: tuple[Trail, ...]


class Point:
    """One point of a space's grid."""

    def __init__(self, space: Space, closer: Closer, number: int, goal: Goal, tally: Tally) -> None:
        self.space, self.goal, self.tally = space, goal, tally
        self.task, self.arch = space.task, space.arch
        self.counts = closer.counts.at(lambda v: v if np.ndim(v) == 0 else v[number])
        self.einsums = space.frame.einsums
        self.uses = {e: self.counts.uses_by_einsum(e) for e in self.einsums}
        self.seconds = {way: float(s[number]) for way, s in closer.seconds.items()}
        self.points = {e: float(closer.points[e][number]) for e in self.einsums}
        self.rows = closer.rows_at(number)
        least, way = closer.least_at(number), closer.leanest
        self.stow = Stow(space, self.counts, goal, tally, self.rows, least, way)
        self.worst: list[Figures] = [(math.inf, math.inf)]
        self.floor = 0.0
        self.fewer = False

    def solve(self, worst: Figures) -> Choice | None:
        """The best choice that is better than ``worst``, or None.

        >>> from accelsim.load.arch import load_architecture
        >>> from accelsim.load.cascade import load_cascade
        >>> from accelsim.mapper.frame import frame
        >>> from accelsim.mapper.space import Task
        >>> c, a = load_cascade("matmul"), load_architecture("teaching")
        >>> space = Space(Task(c, {"M": 4, "N": 4, "K": 4}, a), frame(c, ("C",), ()))
        >>> point = Point(space, Closer(space, np.array([0])), 0, Goal("latency"), Tally())
        >>> point.solve((math.inf, math.inf)).latency_s
        1.2e-08
        """
        self.worst = [worst]
        least = sum(
            min(self.space.point_joules(e, u) for u in self.space.units[e]) * self.points[e]
            for e in self.einsums
        )
        if not self.stow.possible:
            self.tally.room += 1
            return None
        if next(self.stow.choices(min(self.seconds.values()), least, self.worst), None) is None:
            return None
        self.floor = least + sum(min(h.joules for h in some) for some in self.stow.sets)
        best = self._search()
        if self.fewer and best is not None:
            del self.lists, self.picks, self._visits
            best = self._search() or best
        self.tally.cut_short |= self.fewer
        return best

    def _search(self) -> Choice | None:
        """The best choice that beats the best known; fewer runs are looked at if there are many."""
        self.fewer = False
        best: Choice | None = None
        if not all(self.lists):  # a wanted spread that a short last tile does not allow
            return None
        touched = self._least_touched()
        least = float(self.picks.joules.min())
        lists = {
            e: [
                (some[i], self._joules(e, some[i]))
                for i in sorted(set(self.picks.table[n].tolist()))
            ]
            for n, (e, some) in enumerate(zip(self.einsums, self.lists, strict=True))
        }
        for way, seconds in self.picks.seconds.items():
            if not better(self.goal.value(float(seconds.min()), least), self.worst[0]):
                continue
            runs = self._worth(way)
            if not len(runs.picks):
                continue
            stow = Stow(
                self.space, self.counts, self.goal, self.tally, self.rows, touched, way,
                lists, runs.trails,
            )  # fmt: skip
            for chosen in stow.choices(float(seconds.min()), least, self.worst):
                choice = self._finish(chosen, way, stow, runs)
                if choice is not None:
                    best = choice
                    self.worst[0] = self.goal.value(choice.latency_s, choice.energy_j)
        return best

    # -- runs --------------------------------------------------------------------------------

    @cached_property
    def lists(self) -> list[list[Run]]:
        """Runs of each Einsum on all units that can do it, less those that cannot be best."""
        found = []
        for e in self.einsums:
            some = [
                run
                for unit in self.space.units[e]
                for run in runs(self.counts, e, unit, self._free(e), self.space.wanted(e))
            ]
            if self.goal.name == "energy":
                some = self._cheapest(e, some)
            most = self.worst[0][0] * (1 + EQUAL)
            clock = self.arch.clock_hz
            beats = [self.goal.value(r.cycles / clock, self.floor)[0] <= most for r in some]
            found.append([r for r, good in zip(some, beats, strict=True) if good] or some[:1])
        return found

    def _free(self, einsum: str) -> frozenset[str]:
        """Tensors that registers serve to an Einsum whatever is chosen."""
        inner = self.task.inner
        sets = {s[0].tensor: s for s in self.stow.sets}
        return frozenset(
            u.tensor
            for u in self.uses[einsum]
            if inner is not None
            and all(
                self.counts.serves(u.tensor, h.keeps, u.spot) == inner.level for h in sets[u.tensor]
            )
        )

    def _cheapest(self, einsum: str, some: list[Run]) -> list[Run]:
        """Runs that no other is below in operations' energy and in words of every tensor.

        Where energy is the objective the unit matters for nothing else; of
        equals the fastest stays.
        """

        def key(run: Run) -> tuple[float, ...]:
            joules = self.space.point_joules(einsum, run.spread.unit)
            free = self._free(einsum)
            pairs = zip(self.uses[einsum], run.touched, strict=True)
            return (joules, *(float(w.visits) for u, w in pairs if u.tensor not in free))

        kept: list[Run] = []
        for run in sorted(some, key=lambda r: (r.cycles, key(r))):
            if not any(all(a <= b for a, b in zip(key(k), key(run), strict=True)) for k in kept):
                kept.append(run)
        return kept

    @cached_property
    def picks(self) -> Picks:
        """All combinations of runs, or the most promising of each unit where they are too many."""
        numbers = [list(range(len(some))) for some in self.lists]
        while math.prod(map(len, numbers)) > MOST_RUNS:
            self.fewer = True
            numbers = self._fewer(numbers)
        table = np.stack([m.ravel() for m in np.meshgrid(*numbers, indexing="ij")])
        units = list(self.arch.unit)
        parts = segments(self.space.frame)
        loads = np.zeros((len(parts), len(units), table.shape[1]))
        joules, fill = np.zeros(table.shape[1]), np.zeros(table.shape[1])
        for n, (e, some) in enumerate(zip(self.einsums, self.lists, strict=True)):
            cycles = np.array([r.cycles for r in some])[table[n]]
            where = np.array([units.index(r.spread.unit) for r in some])[table[n]]
            segment = next(i for i, es in enumerate(parts) if e in es)
            for u in range(len(units)):
                loads[segment, u] += np.where(where == u, cycles, 0.0)
            joules += np.array([self._joules(e, r) for r in some])[table[n]]
            fills = np.array([self.arch.unit[r.spread.unit].fill_cycles for r in some])
            fill = np.maximum(fill, fills[table[n]])
        cycles_of = {TOGETHER: loads.sum(axis=0).max(axis=0)}
        if len(self.einsums) > 1:
            cycles_of[IN_TURNS] = loads.sum(axis=(0, 1))
        if len(parts) > 1:
            cycles_of[BY_SEGMENT] = loads.max(axis=1).sum(axis=0)
        seconds = {way: (c + fill) / self.arch.clock_hz for way, c in cycles_of.items()}
        return Picks(table, seconds, joules)

    def _joules(self, einsum: str, run: Run) -> float:
        """Energy of the operations of an Einsum's run."""
        return self.space.point_joules(einsum, run.spread.unit) * self.points[einsum]

    def _fewer(self, left: list[list[int]]) -> list[list[int]]:
        """Fewer runs where there are too many: of each unit the fastest, or the leanest.

        First one a unit; then, for the lightest Einsum with several, one.
        """

        def rank(n: int, i: int) -> Figures:
            run = self.lists[n][i]
            touched = float(sum(float(w.visits) for w in run.touched))
            return (run.cycles, touched) if self.goal.name != "energy" else (touched, run.cycles)

        found = []
        for n, some in enumerate(left):
            best: dict[str, int] = {}
            for _, i in sorted((rank(n, i), i) for i in some):
                best.setdefault(self.lists[n][i].spread.unit, i)
            found.append(sorted(best.values()))
        if found == left:
            several = [n for n, some in enumerate(left) if len(some) > 1]
            n = min(several, key=lambda n: max(self.lists[n][i].cycles for i in left[n]))
            found[n] = [min(left[n], key=lambda i: rank(n, i))]
        return found

    def _least_touched(self) -> dict[Use, Words]:
        """For each access the least words that any run touches."""
        return {
            use: min((r.touched[n] for r in some), key=lambda w: float(w.visits))
            for e, some in zip(self.einsums, self.lists, strict=True)
            for n, use in enumerate(self.uses[e])
        }

    # -- complete mappings -------------------------------------------------------------------

    def _worth(self, way: str) -> Worth:
        """Combinations of runs that might beat the best known if no word were moved."""
        least, _ = self.goal.value(self.picks.seconds[way], self.picks.joules)
        few = np.flatnonzero(least <= self.worst[0][0] * (1 + EQUAL))
        numbers, trails = self._lagging(few, way)
        few, numbers = few[numbers >= 0], numbers[numbers >= 0]
        visits = {use: (every[few], again[few]) for use, (every, again) in self._visits.items()}
        return Worth(
            few, self.picks.seconds[way][few], self.picks.joules[few], visits, numbers, trails
        )

    def _lagging(self, picks: Numbers, way: str) -> tuple[Numbers, tuple[Trail, ...]]:
        """The number of the lags of each combination of runs, negative where it has none, and all.

        They depend on its units alone.
        """
        if not len(picks):
            return picks, ()
        units = list(self.arch.unit)
        every = [np.array([units.index(r.spread.unit) for r in some]) for some in self.lists]
        table = self.picks.table[:, picks]
        chosen = np.stack([u[row] for u, row in zip(every, table, strict=True)])
        distinct, which = np.unique(chosen, axis=1, return_inverse=True)
        trails: list[Trail] = []
        numbers = np.empty(distinct.shape[1], dtype=np.int64)
        for n, column in enumerate(distinct.T):
            one = {e: (units[u],) for e, u in zip(self.einsums, column, strict=True)}
            trail = lags(self.space.frame, self._after, one, way)
            if trail is not None and trail not in trails:
                trails.append(trail)
            numbers[n] = -1 if trail is None else trails.index(trail)
        return numbers[which.ravel()], tuple(trails)

    def _finish(self, chosen: Sequence[Held], way: str, stow: Stow, runs: Worth) -> Choice | None:
        """The best mapping with these holds that overlaps so, if it beats the best known."""
        fits = stow.fitting(chosen)
        self.tally.room += int(np.sum(~fits))
        few = np.flatnonzero(fits[runs.lags])
        if not len(few):
            return None
        moved, joules = self._moved(chosen, runs)
        energy = runs.joules + joules
        latency = np.maximum(runs.seconds, self.task.seconds(moved))
        first, second = self.goal.value(latency, energy)
        good = few[first[few] <= self.worst[0][0] * (1 + EQUAL)]
        self.tally.bound += len(few) - len(good)
        if not len(good):
            return None
        self.tally.priced += 1
        i = int(good[np.lexsort((second[good], first[good]))[0]])
        if not better((float(first[i]), float(second[i])), self.worst[0]):
            return None
        pick = int(runs.picks[i])
        some = {
            e: self.lists[n][int(self.picks.table[n, pick])] for n, e in enumerate(self.einsums)
        }
        trips = {p: int(n) for p, n in self.counts.full.items()}
        figures = float(latency[i]), float(energy[i])
        kept = stow.kept(chosen, int(runs.lags[i]))
        return Choice(self.space, trips, some, kept, way, *figures, self.counts)

    @cached_property
    def _visits(self) -> dict[Use, tuple[Array, Array]]:
        """Words of each access, all and those not for the first time, for all combinations."""
        found = {}
        for n, (e, some) in enumerate(zip(self.einsums, self.lists, strict=True)):
            for at, use in enumerate(self.uses[e]):
                words = [r.touched[at] for r in some]
                every = np.array([float(w.visits) for w in words])
                again = np.array([float(w.visits - w.first) for w in words])
                row = self.picks.table[n]
                found[use] = every[row], again[row]
        return found

    def _moved(self, chosen: Sequence[Held], runs: Worth) -> tuple[Moved, Array]:
        """Words moved at every level and their energy, for each of some combinations of runs."""
        total = np.zeros((2, len(self.arch.levels), len(runs.picks)))
        for held in chosen:
            for n in range(len(self.arch.levels)):
                total[0, n] += held.row.moved.reads[n]
                total[1, n] += held.row.moved.writes[n]
            for use in self.counts.uses[held.tensor]:
                every, again = runs.visits[use]
                level = held.row.serves[use.einsum]
                total[0, level] += again if use.writes else every
                if use.writes:
                    total[1, level] += every
        moved = Moved(tuple(total[0]), tuple(total[1]))
        return moved, self.task.joules(moved)

    @cached_property
    def _after(self) -> tuple[After, ...]:
        return orders(self.counts)
