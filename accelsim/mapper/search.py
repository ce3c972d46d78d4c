"""The best mapping of one fused group over all its frames: best-first branch and bound.

Every point of every frame's grid gets a bound that holds for all mappings there
(``Space.bounds``; of one Einsum ``chains`` by energy, and ``pace`` by latency and
by the product), and a closer one when its turn comes (``Closer.bounds``).
Points are solved in the order of their bounds; one whose bound is no better than
the best mapping found is given up, and since all after it have no better bounds
either, so are they.  What is found is then the best of the space, unless a point
had to be cut short.  Points that a shorter sequence of loops has too are left
out (``Space.doubles``).

Ties of the objective are settled by the second figure among the points that
are worth a look, ``MOST_TIES`` at most.  The order is fixed, so the same
question gets the same answer.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from accelsim.errors import Fault, InputError
from accelsim.mapper.bound import floor
from accelsim.mapper.chains import Chains, covers
from accelsim.mapper.closer import Closer
from accelsim.mapper.evaluate import Numbers
from accelsim.mapper.frame import MOST_LOOPS, frame, frames
from accelsim.mapper.goal import EQUAL, Figures, Goal, better
from accelsim.mapper.nests import Bounded
from accelsim.mapper.pace import Pace
from accelsim.mapper.point import Choice, Point
from accelsim.mapper.short import Array
from accelsim.mapper.space import Space, Task
from accelsim.mapper.stow import Tally
from accelsim.mapper.ties import dearer

#: Points that are solved for the second figure alone.
MOST_TIES = 24

#: Points whose bounds are made closer at a time.
BLOCK = 1024

#: Points of which the most promising is solved before all others.
FIRST = 256

#: The same of one Einsum, where bounds of points are close.
FEW = 16

#: Blocks of each space that are kept for the points that wait.
BLOCKS = 4

#: How far above the lowest bound it is looked for, one share after the other.
SHARES = (0.02, 0.5, math.inf)

#: Loops of the frames of one Einsum among which the first point is looked for.
FEW_LOOPS = 3

#: Called with points done and points in all.
Progress = Callable[[int, int], None]


@dataclass
class Found:
    """What the search of one group found, and what it looked at.

    ``points`` are all points of all grids, ``solved`` those looked into.
    """

    choice: Choice | None = None
    points: int = 0
    solved: int = 0
    mappings: int = 0
    tally: Tally = field(default_factory=Tally)
    stopped: bool = False

    @property
    def shown(self) -> bool:
        """Whether the choice was shown to be the best of its space."""
        return not (self.stopped or self.tally.cut_short)


def spaces(task: Task, einsums: Sequence[str], loops: int = MOST_LOOPS) -> tuple[Space, ...]:
    """The mapspaces of all frames of a group that the wishes leave; none where none is legal.

    Raises InputError where frames are legal but the wishes leave none.
    """
    found: list[Space] = []
    faults: list[Fault] = []
    for one in frames(task.cascade, einsums, loops):
        try:
            found.append(Space(task, one))
        except InputError as error:
            faults += error.faults
    if faults and not found:
        raise InputError(faults)
    return tuple(found)


def search(
    task: Task,
    einsums: Sequence[str],
    goal: Goal,
    progress: Progress | None = None,
    worst: Figures = (math.inf, math.inf),
    gap: float = 0.0,
    most: int | None = None,
    loops: int = MOST_LOOPS,
    second: bool = True,
) -> Found:
    """The best mapping of a group that is better than ``worst``.

    Points that could improve the objective by no more than the share ``gap``
    are given up too: what is found is then within that share of the best.  No
    more than ``most`` points are solved, if that is given.  Frames have at most
    so many ``loops``, batch loops aside.  Ties are told apart by the ``second``
    figure unless it says otherwise.

    >>> from accelsim.load.arch import load_architecture
    >>> from accelsim.load.cascade import load_cascade
    >>> c, a = load_cascade("matmul"), load_architecture("teaching")
    >>> found = search(Task(c, {"M": 4, "N": 4, "K": 4}, a), ("C",), Goal("latency"))
    >>> found.choice.latency_s, found.shown
    (1.2e-08, True)
    """
    found = Found()
    front = _front(task, einsums, goal, found, loops)
    least = goal.value(*floor(task, einsums))[1] if second else math.inf
    ties = 0
    try:
        first = front.promising()
        if first is not None:
            found.choice = Point(*first, goal, found.tally).solve(worst)
            found.solved += 1
        if found.choice is not None:
            worst = goal.value(found.choice.latency_s, found.choice.energy_j)
        front.fill(found.choice, worst[0] * _slack(worst, least, gap), gap)
        while (point := front.next(worst[0] * _slack(worst, least, gap))) is not None:
            bound, tie, space, closer, number = point
            if progress is not None:
                progress(found.points - front.left, found.points)
            if most is not None and found.solved >= most:
                found.tally.cut_short = True
                break
            if bound >= worst[0] * (1 - max(gap, EQUAL)):
                if ties >= MOST_TIES:
                    break
                if tie >= worst[1] * (1 - EQUAL):
                    continue
                ties += 1
            choice = Point(space, closer, number, goal, found.tally).solve(worst)
            found.solved += 1
            if choice is not None:
                figures = goal.value(choice.latency_s, choice.energy_j)
                if better(figures, worst):
                    found.choice, worst = choice, figures
    except KeyboardInterrupt:
        found.stopped = True
    return found


def _slack(worst: Figures, least: float, gap: float) -> float:
    """The share of the best figure known up to which bounds are worth a look.

    Ties are not where no second figure can be better: where it is the least of all.
    """
    return 1 - max(gap, EQUAL) if worst[1] <= least * (1 + EQUAL) else 1 + EQUAL


@dataclass
class _Field:
    """Points of one frame that wait, in the order of their bounds.

    ``pace``: seconds that no mapping of each is below, if known (``pace.Pace``).
    """

    made: Callable[[], Space]
    numbers: Numbers
    first: Array
    pace: Array | None = None

    @cached_property
    def space(self) -> Space:
        """The mapspace of the frame."""
        return self.made()


class _Front:
    """Points of all frames in the order of their bounds, each bound made closer before it counts.

    The cheap bounds of all points are known from the start.  When a point comes
    to the front by its cheap bound, the closer bounds of it and of the next
    ``BLOCK`` points of its space are worked out, and they queue by these.
    """

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.fields: list[_Field] = []
        self.heap: list[tuple[float, float, int, int, bool]] = []
        self.closers: dict[int, list[tuple[Numbers, Closer]]] = {}
        self.left = 0

    def add(self, some: _Field) -> None:
        """Let the points of a frame wait."""
        self.fields.append(some)
        self.left += len(some.numbers)
        self._queue(len(self.fields) - 1, 0)

    def fill(self, known: Choice | None, most: float, gap: float) -> None:
        """Let all points wait whose bound is at most so much."""

    def _queue(self, n: int, at: int) -> None:
        """Queue a frame by the cheap bound of its next point."""
        first = self.fields[n].first
        if at < len(first) and math.isfinite(first[at]):
            heapq.heappush(self.heap, (float(first[at]), 0.0, n, at, False))

    def promising(self) -> tuple[Space, Closer, int] | None:
        """The best point by its closer bound among the first of the space with the least bound.

        Solved first of all, it tells which points are worth a closer look.
        """
        return self._best(self.fields[self.heap[0][2]]) if self.heap else None

    def _best(self, some: _Field, first: int = FIRST) -> tuple[Space, Closer, int]:
        few = np.flatnonzero(np.isfinite(some.first[:first]))
        closer, one, two = self._closely(some, few)
        return some.space, closer, int(np.lexsort((two, one))[0])

    def _closely(self, some: _Field, few: Numbers) -> tuple[Closer, Array, Array]:
        """A closer look at some points of a frame, with their bounds."""
        closer = Closer(some.space, some.numbers[few])
        latency, energy = closer.bounds(self.goal)
        if some.pace is not None:
            latency = np.maximum(latency, some.pace[few])
        one, two = self.goal.value(latency, energy)
        if self.goal.name == "edp":
            one = np.maximum(one, some.first[few])
        return closer, one, two

    def next(self, most: float) -> tuple[float, float, Space, Closer, int] | None:
        """The next point with its bounds; None where no bound left is at most so much."""
        while self.heap:
            first, second, n, at, close = heapq.heappop(self.heap)
            if first > most:
                return None
            if close:
                self.left -= 1
                return first, second, self.fields[n].space, *self._closer(n, at)
            self._look(n, at, most)
        return None

    def _look(self, n: int, at: int, most: float) -> None:
        """Work out the closer bounds of the next points of a frame."""
        some = self.fields[n]
        few = at + np.flatnonzero(some.first[at : at + BLOCK] <= most)
        closer, one, two = self._closely(some, few)
        closer.forget()
        block = some.numbers[few]
        for i, j, number in zip(one, two, block, strict=True):
            if i <= most and math.isfinite(i):
                heapq.heappush(self.heap, (float(i), float(j), n, int(number), True))
        self.closers[n] = [(block, closer), *self.closers.get(n, [])][:BLOCKS]
        self._queue(n, at + BLOCK)

    def _closer(self, n: int, number: int) -> tuple[Closer, int]:
        """The closer look at a point of a space, and its number there."""
        for block, closer in self.closers.get(n, []):
            found = np.flatnonzero(block == number)
            if len(found):
                return closer, int(found[0])
        return Closer(self.fields[n].space, np.array([number])), 0


class _Chained(_Front):
    """Points of one Einsum by energy, or by the product of latency and energy.

    Only those with good bounds are ever written down.
    """

    def __init__(self, goal: Goal, chains: Chains) -> None:
        super().__init__(goal)
        self.chains = chains
        self.bounds = chains if goal.name == "energy" else Pace(chains)

    def promising(self) -> tuple[Space, Closer, int] | None:
        """The best point by its closer bound of the frame of few loops with the least bound."""
        orders = [order for order in self.chains.orders if len(order) <= FEW_LOOPS]
        for served in self.chains.served:
            least = self.bounds.lowest(served)
            for share in SHARES if math.isfinite(least) else ():
                found = self.bounds.points(orders, least * (1 + share), (served,))
                if len(found.bounds) and math.isfinite(found.bounds.min()):
                    order = int(found.points.order[found.bounds.argmin()])
                    some = found.at(found.points.order == order)
                    return self._best(self._field(order, some), FEW)
        return None

    def fill(self, known: Choice | None, most: float, gap: float) -> None:
        """Let all points wait whose bound is at most so much.

        Where energies are so much that ties count, of those that are no better by more
        than the share ``gap`` only such as may be faster than what is known: the
        points whose bound at dearer prices leaves that possible (``ties``).
        """
        other = None
        if known is not None and self.goal.name == "energy" and most > known.energy_j:
            other = dearer(known)
        good = self.bounds.good(most)
        found = self.bounds.points(self.chains.orders, most, good)
        if known is not None and other is not None and len(found.bounds):
            few = found.bounds < known.energy_j * (1 - max(gap, EQUAL))
            dear = self.chains.dearer(other.prices, good)
            found = found.at(few | (dear.at(found.points, other.most) <= other.most))
        for order, some in found.by_order():
            self.add(self._field(order, some))

    def _field(self, order: int, some: Bounded) -> _Field:
        by = np.argsort(some.bounds, kind="stable")
        made = partial(self.chains.space, self.chains.orders[order])
        return _Field(made, some.numbers[by], some.bounds[by])


def _itself(space: Space) -> Space:
    return space


def _front(task: Task, einsums: Sequence[str], goal: Goal, found: Found, loops: int) -> _Front:
    """The points that a group is searched in; of one Einsum those of chains, or with its pace."""
    pace: Pace | None = None
    if len(einsums) == 1 and not task.wishes.extents:
        base = Space(task, frame(task.cascade, einsums, ()))
        if covers(base):
            chains = Chains(base, loops)
            if goal.name != "latency":
                for order in chains.orders:
                    points, mappings = chains.size(order)
                    found.points, found.mappings = found.points + points, found.mappings + mappings
                return _Chained(goal, chains)
            pace = Pace(chains)
    front = _Front(goal)
    for space in spaces(task, einsums, loops):
        latency, energy = space.bounds(goal)
        paced = None if pace is None else pace.of(space)
        if paced is not None:
            latency = np.maximum(latency, paced)
        one, two = goal.value(latency, energy)
        found.mappings += space.size
        found.points += len(one)
        one = np.where(space.doubles, np.inf, one)
        by = np.lexsort((np.asarray(two), one))
        paced = None if paced is None else paced[by]
        front.add(_Field(partial(_itself, space), by, one[by], paced))
    return front
