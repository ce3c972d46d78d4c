"""The best mapping of one fused group over all its frames: best-first branch and bound.

Every point of every frame's grid gets a bound that holds for all mappings
there (``Space.bounds``).  Points are solved in the order of their bounds; one
whose bound is no better than the best mapping found is given up, and since all
after it have no better bounds either, so are they.  What is found is then the
best of the space, unless a point had to be cut short.

Ties of the objective are settled by the second figure among the points that
are worth a look, ``MOST_TIES`` at most.  The order is fixed, so the same
question gets the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from accelsim.errors import Fault, InputError
from accelsim.mapper.frame import frames
from accelsim.mapper.goal import EQUAL, Figures, Goal, better
from accelsim.mapper.point import Choice, Point
from accelsim.mapper.space import Space, Task
from accelsim.mapper.stow import Tally

#: Points that are solved for the second figure alone.
MOST_TIES = 24

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
    firsts, seconds = [], []
    for space in known:
        one, two = goal.value(*space.bounds())
        firsts.append(one)
        seconds.append(two)
        found.mappings += space.size
    if not known:
        return found
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    starts = np.cumsum([0, *(len(f) for f in firsts)])
    found.points = len(first)
    found.bound = float(first.min())
    order = np.lexsort((second, first))
    ties = 0
    try:
        for done, n in enumerate(order):
            if progress is not None:
                progress(done, len(order))
            if first[n] > worst[0] * (1 + EQUAL) or not np.isfinite(first[n]):
                break
            if most is not None and found.solved >= most:
                found.tally.cut_short = True
                break
            if first[n] >= worst[0] * (1 - max(gap, EQUAL)):
                if ties >= MOST_TIES or second[n] >= worst[1] * (1 - EQUAL):
                    continue
                ties += 1
            at = int(np.searchsorted(starts, n, side="right")) - 1
            choice = Point(known[at], int(n - starts[at]), goal, found.tally).solve(worst)
            found.solved += 1
            if choice is not None:
                figures = goal.value(choice.latency_s, choice.energy_j)
                if better(figures, worst):
                    found.choice, worst = choice, figures
    except KeyboardInterrupt:
        found.stopped = True
    return found
