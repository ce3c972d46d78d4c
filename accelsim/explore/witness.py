"""The simulator as a witness of a found mapping, and another mapping where it stalls."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from accelsim.errors import InputError
from accelsim.explore.mapped import Mapped, Progress, best
from accelsim.mapper.evaluate import Counts
from accelsim.mapper.frame import MOST_LOOPS
from accelsim.mapper.point import Choice
from accelsim.mapper.space import Task
from accelsim.mapper.spreads import least_cycles
from accelsim.sim.run import simulate

#: A simulation that takes this share longer than the model's time stalls.
STALLS: Final = 0.005
#: Einsums that are given another unit, one after the other.
MOST_MOVED: Final = 3
#: Loops that frames have at most where a mapping with short last tiles stalls.
FEW_LOOPS: Final = (1, 2)
#: An Einsum is misplaced where another unit would take this many times fewer cycles.
SLOWER: Final = 2.0


def simulated(found: Mapped) -> float | None:
    """Seconds that the simulator takes for a mapping; None where it refuses to run it.

    >>> from accelsim.explore.map import task_for
    >>> task, _ = task_for("matmul", arch="teaching", shape="M=8,N=8,K=8")
    >>> found = best(task, "latency")
    >>> simulated(found) >= found.value
    True
    """
    try:
        run = simulate(found.problem, found.task.arch, found.mapping)
    except InputError:
        return None
    return run.cycles / found.task.arch.clock_hz


def misplaced(choice: Choice) -> tuple[tuple[str, str], ...]:
    """Einsums of a group that another unit would do in far fewer cycles, the longest first."""
    space = choice.space
    counts = choice.counts
    if counts is None:
        trips = {part: np.asarray(float(n)) for part, n in choice.trips.items()}
        counts = Counts(space.cascade, space.frame, space.arch, trips)
    found: list[tuple[float, str, str]] = []
    for einsum, run in choice.runs.items():
        for unit in space.units[einsum]:
            cycles = float(least_cycles(counts, einsum, unit, space.wanted(einsum)))
            if cycles * SLOWER <= run.cycles:
                found.append((-run.cycles, einsum, unit))
    return tuple((einsum, unit) for _, einsum, unit in sorted(found))


def witnessed(found: Mapped, gap: float, progress: Progress | None = None) -> Mapped:
    """The mapping, or one that is faster in simulation where it stalls there.

    The model has no stalls but those that are named; the simulator lays out a
    steady state of its own.  Where it needs more than the share ``STALLS`` longer,
    the Einsums that another unit would do much faster are given to that unit,
    the longest first, and what is fastest in simulation is taken.  Where last tiles are
    short, mappings of fewer loops are tried as well: many are as fast by the model.
    """
    seconds = simulated(found)
    found = replace(found, simulated_s=seconds)
    if seconds is None or found.result.stopped or _runs(found):
        return found
    fastest, tried, units = found, found, dict(found.task.wishes.units)
    for _ in range(MOST_MOVED):
        moves = [m for c in tried.result.choices for m in misplaced(c) if m[0] not in units]
        if not moves:
            break
        units[moves[0][0]] = moves[0][1]
        task = replace(found.task, wishes=replace(found.task.wishes, units=units))
        try:
            tried = _tried(found, task, gap, progress)
        except InputError:
            break
        fastest = _faster(tried, fastest)
        if _runs(tried):
            break
    if not _runs(fastest) and any(c.counts and c.counts.short for c in found.result.choices):
        for loops in FEW_LOOPS:
            try:
                tried = _tried(found, found.task, gap, progress, loops)
            except InputError:
                continue
            fastest = _faster(tried, fastest)
            if _runs(tried):
                break
    if fastest is found:
        return found
    return replace(fastest, task=found.task, set_aside=found)


def _tried(
    found: Mapped, task: Task, gap: float, progress: Progress | None, loops: int = MOST_LOOPS
) -> Mapped:
    """The best mapping of a task by the objective of the one found, simulated."""
    tried = best(task, found.goal.name, gap, progress, found.workload, loops)
    return replace(tried, simulated_s=simulated(tried))


def _faster(tried: Mapped, fastest: Mapped) -> Mapped:
    """Which of two is the faster in simulation; the second where the first does not run."""
    better = tried.simulated_s is not None and tried.simulated_s < (fastest.simulated_s or 0.0)
    return tried if better else fastest


def _runs(found: Mapped) -> bool:
    """Whether the simulation takes hardly longer than the model's time."""
    latency = found.estimate.latency_s
    return found.simulated_s is not None and found.simulated_s <= latency * (1 + STALLS)
