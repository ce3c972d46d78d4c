"""The best mapping of one fused group over all its frames: best-first branch and bound.

Every point of every frame's grid gets a bound that holds for all mappings there
(``Space.bounds``), and a closer one when its turn comes (``Closer.bounds``).
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

import numpy as np

from accelsim.errors import Fault, InputError
from accelsim.mapper.closer import Closer
from accelsim.mapper.evaluate import Array, Numbers
from accelsim.mapper.frame import frames
from accelsim.mapper.goal import EQUAL, Figures, Goal, better
from accelsim.mapper.point import Choice, Point
from accelsim.mapper.space import Space, Task
from accelsim.mapper.stow import Tally

#: Points that are solved for the second figure alone.
MOST_TIES = 24

#: Points whose bounds are made closer at a time.
BLOCK = 1024

#: Points of which the most promising is solved before all others.
FIRST = 256

#: Blocks of each space that are kept for the points that wait.
BLOCKS = 4

#: Called with points done and points in all.
Progress = Callable[[int, int], None]


@dataclass
class Found:
    """What the search of one group found, and what it looked at.

    ``points`` are all points of all grids, ``solved`` those looked into;
    ``bound`` is what no mapping of the space is below.
    """

    choice: Choice | None = None
    points: int = 0
    solved: int = 0
    mappings: int = 0
    bound: float = math.inf
    tally: Tally = field(default_factory=Tally)
    stopped: bool = False

    @property
    def shown(self) -> bool:
        """Whether the choice was shown to be the best of its space."""
        return not (self.stopped or self.tally.cut_short)


def spaces(task: Task, einsums: Sequence[str]) -> tuple[Space, ...]:
    """The mapspaces of all frames of a group that the wishes leave; none where none is legal.

    Raises InputError where frames are legal but the wishes leave none.
    """
    found: list[Space] = []
    faults: list[Fault] = []
    for frame in frames(task.cascade, einsums):
        try:
            found.append(Space(task, frame))
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
) -> Found:
    """The best mapping of a group that is better than ``worst``.

    Points that could improve the objective by no more than the share ``gap``
    are given up too: what is found is then within that share of the best.  No
    more than ``most`` points are solved, if that is given.

    >>> from accelsim.load.arch import load_architecture
    >>> from accelsim.load.cascade import load_cascade
    >>> c, a = load_cascade("matmul"), load_architecture("teaching")
    >>> found = search(Task(c, {"M": 4, "N": 4, "K": 4}, a), ("C",), Goal("latency"))
    >>> found.choice.latency_s, found.shown
    (1.2e-08, True)
    """
    found = Found()
    known = spaces(task, einsums)
    if not known:
        return found
    front = _Front(known, goal, found)
    ties = 0
    try:
        first = front.promising()
        if first is not None:
            found.choice = Point(*first, goal, found.tally).solve(worst)
            found.solved += 1
        if found.choice is not None:
            worst = goal.value(found.choice.latency_s, found.choice.energy_j)
        while (point := front.next(worst)) is not None:
            bound, second, space, closer, number = point
            if progress is not None:
                progress(found.points - front.left, found.points)
            if most is not None and found.solved >= most:
                found.tally.cut_short = True
                break
            if bound >= worst[0] * (1 - max(gap, EQUAL)):
                if ties >= MOST_TIES:
                    break
                if second >= worst[1] * (1 - EQUAL):
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


class _Front:
    """Points of all spaces in the order of their bounds, each bound made closer before it counts.

    The cheap bounds of all points are known from the start.  When a point comes
    to the front by its cheap bound, the closer bounds of it and of the next
    ``BLOCK`` points of its space are worked out, and they queue by these.
    """

    def __init__(self, known: Sequence[Space], goal: Goal, found: Found) -> None:
        self.known, self.goal = known, goal
        self.order: list[Numbers] = []
        self.heap: list[tuple[float, float, int, int, bool]] = []
        self.first: list[Array] = []
        for n, space in enumerate(known):
            first, second = goal.value(*space.bounds(goal))
            found.mappings += space.size
            found.points += len(first)
            found.bound = min(found.bound, float(first.min()))
            first, second = np.where(space.doubles, np.inf, first), np.asarray(second)
            self.first.append(first)
            self.order.append(np.lexsort((second, first)))
            self._queue(n, 0)
        self.left = found.points
        self.closers: dict[int, list[tuple[Numbers, Closer]]] = {}

    def _queue(self, n: int, at: int) -> None:
        """Queue a space by the cheap bound of its next point."""
        if at < len(self.order[n]):
            heapq.heappush(self.heap, (float(self.first[n][self.order[n][at]]), 0.0, n, at, False))

    def promising(self) -> tuple[Space, Closer, int] | None:
        """The best point by its closer bound among the first of the space with the least bound.

        Solved first of all, it tells which points are worth a closer look.
        """
        if not self.heap:
            return None
        n = self.heap[0][2]
        block = self.order[n][:FIRST]
        block = block[np.isfinite(self.first[n][block])]
        if not len(block):
            return None
        closer = Closer(self.known[n], block)
        one, two = self.goal.value(*closer.bounds(self.goal))
        best = int(np.lexsort((two, one))[0])
        return self.known[n], closer, best

    def next(self, worst: Figures) -> tuple[float, float, Space, Closer, int] | None:
        """The next point with its bounds; None where no bound left is worth a look."""
        while self.heap:
            first, second, n, at, close = heapq.heappop(self.heap)
            if first > worst[0] * (1 + EQUAL) or not math.isfinite(first):
                return None
            if close:
                self.left -= 1
                return first, second, self.known[n], *self._closer(n, at)
            block = self.order[n][at : at + BLOCK]
            block = block[self.first[n][block] <= worst[0] * (1 + EQUAL)]
            block = block[np.isfinite(self.first[n][block])]
            if not len(block):
                continue
            closer = Closer(self.known[n], block)
            one, two = self.goal.value(*closer.bounds(self.goal))
            closer.forget()
            for i, j, number in zip(one, two, block, strict=True):
                if i <= worst[0] * (1 + EQUAL) and math.isfinite(i):
                    heapq.heappush(self.heap, (float(i), float(j), n, int(number), True))
            self.closers[n] = [(block, closer), *self.closers.get(n, [])][:BLOCKS]
            self._queue(n, at + BLOCK)
        return None

    def _closer(self, n: int, number: int) -> tuple[Closer, int]:
        """The closer look at a point of a space, and its number there."""
        for block, closer in self.closers.get(n, []):
            found = np.flatnonzero(block == number)
            if len(found):
                return closer, int(found[0])
        return Closer(self.known[n], np.array([number])), 0
