"""The search for a schedule that does not stall: schedules are run, and the fastest is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple, TypeAlias

from accelsim.sim.schedule import Choice, Schedule, Solver

#: Steps by which a consumer may trail what it reads, where other lags are tried.
TRIED = (0, 1, 2, 3)
#: Schedules that are looked at first, and those of them that are tried first.
MOST_LOOKED, MOST_FIRST = 400, 12
#: Schedules of whole steps that are tried at most; turns in an iteration of all others.
MOST_WHOLE, MOST_TURNS = 200, 1000
#: Turns in an iteration of a schedule of which they change places, at most.
MOST_MOVED = 32
#: Times that the beginning of an iteration is moved on.
MOST_ROTATED = 96


class Trial(NamedTuple):
    """Cycles of a run and of each iteration, and whether the busiest unit or port takes fewer."""

    cycles: float
    each: float
    stalls: bool


#: How long a schedule takes, if it takes less than so many cycles.
Try: TypeAlias = Callable[[Schedule, float], Trial]


class Search:
    """Looks for the fastest schedule near the one that a solver has found.

    One that does not stall is taken.  Those whose iterations are the shortest
    with all tiles there are tried first, then those around the fastest as long
    as one is faster; where the fastest stalls, steps are cut into turns, and
    iterations begin between them (of groups of several stages only where units
    wait for one another).  Then the fastest is tried with turns at
    other places.  Last some of the ``yielding`` Einsums begin behind tiles that
    pass the ports of their words, in schedules with short iterations first.
    """

    def __init__(self, solver: Solver, trial: Try, yielding: Sequence[str] = ()) -> None:
        self.solver, self.trial, self.choice = solver, trial, solver.choice
        self.yielding = yielding
        start = solver.chosen(self.choice)
        assert start is not None
        self.fastest, self.least = start, trial(start, inf)
        self.tried, self.turns = [start], False

    def run(self) -> Schedule:
        """The fastest schedule that is found."""
        self._around()
        # turns run over into no other stage: where units wait for tiles alone, they are of no use
        alone = len(self.solver.group.stages) == 1
        if self.least.stalls and (alone or self.fastest.takes > self.fastest.busy):
            self.turns = True
            self._around()
        moved = True
        while moved:
            moved = any(map(self._faster, self._moved()))
        while any(map(self._faster, self._yielded())):
            pass
        return self.fastest

    def _around(self) -> None:
        """Try those whose iterations are the shortest, then what is near the fastest."""
        first = moved = True
        while moved:
            moved = first
            for choice in self._shortest() if first else self._near(self.choice):
                found = self.solver.chosen(choice)
                if found is not None and self._faster(found):
                    self.choice, moved = choice, True
            first = False

    def _faster(self, found: Schedule) -> bool:
        """Try a schedule, unless the fastest does not stall, and keep it if it is faster."""
        if not self.least.stalls or found in self.tried:
            return False
        whole = [s for s in self.tried if not s.cuts]
        spent = sum(s.turns for s in self.tried if s.cuts)
        if spent >= MOST_TURNS if found.cuts else len(whole) > MOST_WHOLE:
            return False
        self.tried.append(found)
        seen = self.trial(found, self.least.cycles)
        if seen.cycles >= self.least.cycles:
            return False
        self.fastest, self.least = found, seen
        return True

    def _yielded(self) -> Iterator[Schedule]:
        """The fastest schedule, and the shortest that were tried, with one more that yields."""
        if not self.least.stalls or not self.yielding:
            return
        rest = sorted(self.tried, key=lambda s: s.takes)
        for schedule in [self.fastest, *rest[:MOST_FIRST]]:
            for einsum in self.yielding:
                yield replace(schedule, yields=schedule.yields ^ {einsum})

    def _near(self, choice: Choice) -> Iterator[Choice]:
        """What differs in one pair, or in all pairs of one consumer.

        With ``turns`` also what differs in how steps are cut, or in who goes first.
        """
        solver, cuts = self.solver, range(len(self.solver.cuts) if self.turns else 1)
        pairs = [(o.before, o.after) for o in solver.orders if o.why == "data" and not o.steps]
        for einsum in solver.stage:
            own = [pair for pair in pairs if pair[1] == einsum]
            for some in [own, *([pair] for pair in own if len(own) > 1)]:
                for steps in TRIED if some else ():
                    trailing = choice.trailing | dict.fromkeys(some, steps)
                    yield Choice(trailing)
                    for cut in cuts:
                        yield Choice(trailing, True, cut, choice.first)
            for cut in cuts if self.turns else ():
                yield Choice(choice.trailing, True, cut, choice.first ^ {einsum})

    def _shortest(self) -> list[Choice]:
        """Of the choices around the present one those with the shortest iterations, best first.

        The shortest that was found so far is looked around first.  With
        ``turns`` the iterations of the shortest begin at other places, too,
        unless so many are as short as can be that only they are tried.
        """
        known = {schedule.key for schedule in self.tried}
        found = list[tuple[int, int, Choice]]()
        left = [(self.fastest.takes, 0, self.choice)]

        def new(choice: Choice) -> bool:
            schedule = self.solver.chosen(choice)
            if schedule is None or schedule.key in known:
                return False
            found.append((schedule.takes, len(known), choice))
            known.add(schedule.key)
            return True

        most = len(known) + MOST_LOOKED
        while left and len(known) < most and self.least.stalls:
            _, _, choice = heappop(left)
            for other in self._near(choice):
                if new(other):
                    heappush(left, found[-1])
        for _, _, choice in sorted(found)[:MOST_FIRST] if self.turns else ():
            if sum(takes <= self.fastest.busy for takes, _, _ in found) < MOST_FIRST:
                for other in self._rotated(choice):
                    new(other)
        return [choice for _, _, choice in sorted(found)[:MOST_FIRST]]

    def _rotated(self, choice: Choice) -> Iterator[Choice]:
        """A choice with the beginning of its iterations moved on, turn by turn."""
        found: Choice | None = choice._replace(listed=True)
        for _ in range(MOST_ROTATED):
            found = self.solver.rotated(found) if found else None
            if found is None:
                return
            yield found

    def _moved(self) -> Iterator[Schedule]:
        """The fastest schedule with one turn of a unit at another place.

        Those whose iterations cannot be shorter are left out.
        """
        fastest, least = self.fastest, self.least
        if fastest.turns > MOST_MOVED or not least.stalls:
            return
        for n, stage in enumerate(fastest.order):
            for k, (unit, einsums) in enumerate(stage):
                for i, e in enumerate(einsums):
                    rest = einsums[:i] + einsums[i + 1 :]
                    for j in range(len(einsums)):
                        there = (*rest[:j], e, *rest[j:])
                        units = (*stage[:k], (unit, there), *stage[k + 1 :])
                        order = (*fastest.order[:n], units, *fastest.order[n + 1 :])
                        found = self.solver.ordered(fastest.lags, self.choice, order)
                        if found is not None and found.takes < least.each:
                            yield found
