"""Which Einsums to fuse: the best way to cut a cascade into groups.

Groups run one after the other, so latency and energy of a mapping are sums over
its groups, and the best cut is a shortest path from the first Einsum to the
end, an edge for each run of Einsums that may be a group.  An edge is priced by
``search`` only when it lies on the path that is shortest with the bounds of
edges not priced yet (``bound.floor``).  When all edges of the shortest path are
priced, every other path is at least as long: their edges weigh their price, or
a bound that is no more.

Groups that cut a rank which the cascade itself splits have the same parts of it.  So
Einsums over tiles alone are a group only with some that run over all of its parts, or
where the split is given.  If the groups of the shortest path split the rank alike, no
other cut is better; if not, the path is found anew with the split of one of them.

The product of latency and energy is no sum.  For it the paths are tried one by
one while the product of a path's bounds is less than the best product known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from accelsim.errors import Fault, InputError
from accelsim.mapper import infeasible
from accelsim.mapper.bound import connected, floor
from accelsim.mapper.frame import MOST_LOOPS, bent
from accelsim.mapper.goal import Figures, Goal, better
from accelsim.mapper.plan import own_splits
from accelsim.mapper.point import Choice
from accelsim.mapper.search import Found, search
from accelsim.mapper.space import Task

#: Einsums of a cascade that every cut is looked at for; of more, one group or one an Einsum.
MOST_EINSUMS = 12

#: Called with a group's name, points done and points in all.
Progress = Callable[[str, int, int], None]

Edge = tuple[int, int]


@dataclass
class Result:
    """What a search found: a choice for each group, and what it looked at."""

    choices: tuple[Choice, ...]
    goal: Goal
    floor: Figures
    groups: dict[tuple[str, ...], Found] = field(default_factory=dict)
    shown: bool = True
    stopped: bool = False

    @property
    def latency_s(self) -> float:
        """Latency of all groups."""
        return sum(c.latency_s for c in self.choices)

    @property
    def energy_j(self) -> float:
        """Energy of all groups."""
        return sum(c.energy_j for c in self.choices)


class _Cuts:
    """The runs of Einsums that may be groups, with their bounds and what was found for them."""

    def __init__(
        self, task: Task, goal: Goal, progress: Progress | None, gap: float, loops: int
    ) -> None:
        self.task, self.goal, self.progress, self.gap = task, goal, progress, gap
        self.loops = loops
        self.einsums = tuple(e.name for e in task.cascade.einsums if e.reads)
        self.found: dict[Edge, Found] = {}
        self.stopped = False
        n = len(self.einsums)
        runs = [(i, j) for i in range(n) for j in range(i + 1, n + 1)]
        if n > MOST_EINSUMS:
            runs = [(i, i + 1) for i in range(n)] + [(0, n)]
        self.runs = [edge for edge in runs if connected(task.cascade, self.names(edge))]
        self.bounds = {
            edge: floor(task, self.names(edge))
            for edge in self.runs
            if _whole(task, self.names(edge))
        }

    def names(self, edge: Edge) -> tuple[str, ...]:
        """The Einsums of a run."""
        return self.einsums[edge[0] : edge[1]]

    def figures(self, edge: Edge) -> tuple[float, float]:
        """Latency and energy of a run: what was found, or its bounds."""
        found = self.found.get(edge)
        if found is None:
            return self.bounds[edge]
        if found.choice is None:
            return math.inf, math.inf
        return found.choice.latency_s, found.choice.energy_j

    def solve(self, edge: Edge) -> None:
        """Search the mappings of a run."""
        names = self.names(edge)
        progress = self.progress
        title = f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]
        told = None if progress is None else lambda done, of: progress(title, done, of)
        try:
            self.found[edge] = search(
                self.task, names, self.goal, told, gap=self.gap, loops=self.loops
            )
        except InputError:  # the wishes leave none; why is told if there is no other cut
            self.found[edge] = Found()
        self.stopped |= self.found[edge].stopped

    def shortest(self) -> list[Edge] | None:
        """The shortest path by the goal; of equals the one with the fewest edges."""
        best: list[tuple[tuple[float, float], int, list[Edge]] | None] = [None] * (
            len(self.einsums) + 1
        )
        best[0] = ((0.0, 0.0), 0, [])
        for i, j in sorted(self.bounds):
            here = best[i]
            if here is None:
                continue
            first, second = self.goal.value(*self.figures((i, j)))
            total = here[0][0] + first, here[0][1] + second
            known = best[j]
            if not math.isfinite(total[0]):
                continue
            if known is None or (_rounded(total[0]), here[1] + 1, total[1]) < (
                _rounded(known[0][0]),
                known[1],
                known[0][1],
            ):
                best[j] = total, here[1] + 1, [*here[2], (i, j)]
        return best[-1][2] if best[-1] is not None else None

    def paths(self) -> list[list[Edge]]:
        """All paths, those with the fewest edges first."""
        found: list[list[list[Edge]]] = [[] for _ in range(len(self.einsums) + 1)]
        found[0] = [[]]
        for i, j in sorted(self.bounds):
            found[j] += [[*path, (i, j)] for path in found[i]]
        return sorted(found[-1], key=len)


def _whole(task: Task, einsums: Sequence[str]) -> bool:
    """Whether Einsums have all parts of each of the cascade's own splits that they have any of.

    Or the split is given: the tiles alone do not say how long they are.
    """
    known = {*task.sizes, *task.wishes.extents}
    ranks = {rank for e in einsums for rank in task.cascade.boxes[e]}
    return all(
        not ranks & {*parts} or ranks >= {*parts} or len(known & {*parts}) >= len(parts) - 1
        for _, parts in task.cascade.splits
    )


def _rounded(value: float) -> float:
    """A figure to the digits in which equals agree."""
    return float(f"{value:.9e}")


def fuse(
    task: Task,
    goal: Goal,
    progress: Progress | None = None,
    gap: float = 0.0,
    loops: int = MOST_LOOPS,
) -> Result:
    """The best mapping of a cascade over all ways to cut it into groups.

    Frames have at most so many ``loops``, batch loops aside.
    Raises InputError for a cascade that frames do not cover (windows and the
    like), and where no mapping fits or is allowed.
    """
    refused = [
        Fault(a.place, f"{e.name} reads {a.tensor} through a window, a quotient or a selection",
              "plain indices: map does not search such cascades yet")
        for e in task.cascade.einsums if e.reads
        for a in bent(task.cascade, e.name)
    ]  # fmt: skip
    if refused:
        raise InputError(refused)
    cuts = _Cuts(task, goal, progress, gap, loops)
    asked = task.wishes.holds or task.wishes.spreads or task.wishes.extents
    if asked and (faults := infeasible.hopeless(task, [cuts.names(run) for run in cuts.runs])):
        raise InputError(faults)
    path = _by_product(cuts) if goal.name == "edp" else _by_sum(cuts)
    if path is None:
        known = [f.choice for f in cuts.found.values() if f.choice is not None]
        found = _alike(task, cuts, known)
        if found is None:
            raise _nothing(task, cuts)
        return replace(found, floor=floor(task, cuts.einsums), shown=False)
    choices = tuple(c for edge in path if (c := cuts.found[edge].choice) is not None)
    sums = goal.name != "edp" or len(cuts.einsums) == 1  # a product of sums is no sum of products
    shown = sums and all(found.shown for found in cuts.found.values())
    result = Result(choices, goal, floor(task, cuts.einsums), shown=shown, stopped=cuts.stopped)
    result.groups = {cuts.names(edge): found for edge, found in cuts.found.items()}
    return _together(result, task, cuts)


def _by_sum(cuts: _Cuts) -> list[Edge] | None:
    """The shortest path, its edges priced."""
    while True:
        path = cuts.shortest()
        if path is None:
            return None
        open_ = [edge for edge in path if edge not in cuts.found]
        if not open_:
            return path
        if cuts.stopped:
            known = {e for e, f in cuts.found.items() if f.choice is not None}
            cuts.bounds = {e: b for e, b in cuts.bounds.items() if e in known}
            continue
        cuts.solve(open_[0])


def _by_product(cuts: _Cuts) -> list[Edge] | None:
    """The path with the least product of latency and energy."""
    best: list[Edge] | None = None
    worst: Figures = (math.inf, math.inf)

    def value(path: Sequence[Edge]) -> Figures:
        figures = [cuts.figures(edge) for edge in path]
        if not all(math.isfinite(f[0]) for f in figures):
            return math.inf, math.inf
        total: Figures = cuts.goal.value(sum(f[0] for f in figures), sum(f[1] for f in figures))
        return total

    for path in cuts.paths():
        for edge in path:
            if cuts.stopped or not better(value(path), worst):
                break
            if edge not in cuts.found:
                cuts.solve(edge)
        if all(edge in cuts.found for edge in path) and better(value(path), worst):
            best, worst = path, value(path)
    return best


def _together(result: Result, task: Task, cuts: _Cuts) -> Result:
    """The result, or where its groups split a rank of the cascade's own differently another.

    It has the split of one of these groups or of all Einsums in one, whichever is the
    best; it is legal, but no longer shown to be the best.
    """
    try:
        own_splits(result.choices)
    except InputError:
        one = cuts.found.get((0, len(cuts.einsums)), Found()).choice
        best = _alike(task, cuts, [*result.choices, *([] if one is None else [one])])
        if best is None:
            raise
        groups = {**result.groups, **best.groups}
        return replace(best, floor=result.floor, groups=groups, shown=False)
    return result


def _alike(task: Task, cuts: _Cuts, choices: Iterable[Choice]) -> Result | None:
    """The best cut into groups of which all have the split of one of some choices, if any fits."""
    best: Result | None = None
    for split in dict.fromkeys(tuple(own_splits([choice]).items()) for choice in choices):
        if dict(split).items() <= task.sizes.items():
            continue
        fixed = replace(task, sizes={**task.sizes, **dict(split)})
        try:
            found = fuse(fixed, cuts.goal, cuts.progress, cuts.gap, cuts.loops)
        except InputError:
            continue
        figures = cuts.goal.value(found.latency_s, found.energy_j)
        if best is None or better(figures, cuts.goal.value(best.latency_s, best.energy_j)):
            best = found
    return best


def _nothing(task: Task, cuts: _Cuts) -> InputError:
    """Why there is no mapping: of the Einsums that have none by themselves, or of all."""
    alone = [edge for edge in sorted(cuts.bounds) if edge[1] == edge[0] + 1]
    without = [cuts.names(edge) for edge in alone if cuts.figures(edge)[0] == math.inf]
    return InputError(infeasible.reasons(task, without or [cuts.einsums]))


def summed(result: Result) -> tuple[int, int, int]:
    """Mappings in the spaces that were looked at, points of their grids, and points solved."""
    found = result.groups.values()
    return (
        sum(f.mappings for f in found), sum(f.points for f in found), sum(f.solved for f in found)
    )  # fmt: skip
