"""The simulator as a witness of a found mapping, and another mapping where it stalls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

import numpy as np

from accelsim.errors import InputError
from accelsim.explore.mapped import Mapped, Progress, best
from accelsim.ir.arch import Architecture
from accelsim.load import catalog
from accelsim.load.design import load_design
from accelsim.load.mapping import load_mapping
from accelsim.mapper.evaluate import Counts
from accelsim.mapper.frame import MOST_LOOPS
from accelsim.mapper.legal import legal
from accelsim.mapper.point import Choice
from accelsim.mapper.space import Task, Wishes
from accelsim.mapper.spreads import least_cycles
from accelsim.models.estimate import estimate as price
from accelsim.sim.run import simulate

#: A simulation that takes this share longer than the model's time stalls.
STALLS: Final = 0.005
#: Einsums that are given another unit, one after the other.
MOST_MOVED: Final = 3
#: Loops that frames have at most where a mapping stalls.
FEW_LOOPS: Final = (1, 2)
#: Shares of the room of levels in which mappings are searched where one stalls.
ROOMS: Final = (0.5, 0.25)
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
    """The mapping, or one that is better in simulation where it stalls there.

    The model has no stalls but those that are named; the simulator lays out a
    steady state of its own.  Where it needs more than the share ``STALLS`` longer,
    others are simulated as well, and the best by the objective with simulated
    seconds is taken: mappings of shipped designs of the cascade, and mappings of
    other searches (``_searched``), until one takes no longer than the model has
    for the best.  No mapping that was tried is better in simulation.
    """
    found = replace(found, simulated_s=simulated(found))
    if found.simulated_s is None or found.result.stopped or _runs(found, found):
        return found
    fastest = found
    for tried in chain(_shipped(found), _searched(found, gap, progress)):
        fastest = _better(tried, fastest)
        if _runs(fastest, found):
            break
    if fastest is found:
        return found
    return replace(fastest, task=found.task, set_aside=found)


def _shipped(found: Mapped) -> Iterator[Mapped]:
    """Mappings of shipped designs of the cascade on the machine, where nothing is wished for."""
    task = found.task
    if task.wishes != Wishes():
        return
    for name in catalog.names("design"):
        design = load_design(name)
        if design.cascade != task.cascade.name:
            continue
        try:
            rules = load_mapping(design.mapping)
            problem, mapping = rules.bind(task.cascade, task.sizes, task.arch, dict(design.choose))
            if legal(task.cascade, mapping):
                continue
            priced = price(problem, task.arch, mapping)
        except InputError:  # its rules want another machine
            continue
        other = replace(found, problem=problem, mapping=mapping, estimate=priced, design=name)
        yield replace(other, simulated_s=simulated(other))


def _searched(found: Mapped, gap: float, progress: Progress | None) -> Iterator[Mapped]:
    """Mappings of other searches by the same objective.

    Einsums that another unit would do much faster are given to that unit, one
    after the other, the longest first.  Tiles that take less room let steps
    overlap, where those of Einsums one after the other fill a level in turn.
    Frames of fewer loops have mappings that are often as fast by the model.
    """
    task, tried, units = found.task, found, dict(found.task.wishes.units)
    for _ in range(MOST_MOVED):
        moves = [m for c in tried.result.choices for m in misplaced(c) if m[0] not in units]
        if not moves:
            break
        units[moves[0][0]] = moves[0][1]
        moved = replace(task, wishes=replace(task.wishes, units=dict(units)))
        others = list(_tried(found, moved, gap, progress))
        yield from others
        if not others or _runs(others[0], others[0]):
            break
        tried = others[0]
    for room in ROOMS:
        yield from _tried(found, replace(task, arch=smaller(task.arch, room)), gap, progress)
    for loops in FEW_LOOPS:
        yield from _tried(found, task, gap, progress, loops)


def smaller(arch: Architecture, room: float) -> Architecture:
    """The machine with a share of the room of each level.

    >>> from accelsim.load.arch import load_architecture
    >>> smaller(load_architecture("teaching"), 0.5).level["buffer"].capacity_bytes
    2048.0
    """
    levels = (replace(x, capacity_bytes=x.capacity_bytes * room) for x in arch.levels)
    return replace(arch, levels=tuple(levels))


def _tried(
    found: Mapped, task: Task, gap: float, progress: Progress | None, loops: int = MOST_LOOPS
) -> Iterator[Mapped]:
    """The best mapping of a task by the objective of the one found, simulated; none if none fits.

    It is one of the machine of the mapping found.
    """
    try:
        tried = best(task, found.goal.name, gap, progress, found.workload, loops)
    except InputError:
        return
    priced = price(tried.problem, found.task.arch, tried.mapping)
    tried = replace(tried, estimate=priced, task=replace(task, arch=found.task.arch))
    yield replace(tried, simulated_s=simulated(tried))


def _better(tried: Mapped, fastest: Mapped) -> Mapped:
    """Which of two is better in simulation; the second where the first does not run."""
    return tried if tried.simulated_s is not None and _figure(tried) < _figure(fastest) else fastest


def _figure(found: Mapped) -> tuple[float, float]:
    """The objective with simulated seconds, and what tells equals apart."""
    one, two = found.goal.value(found.simulated_s, found.estimate.energy_j)
    return float(one), float(two)


def _runs(found: Mapped, judge: Mapped) -> bool:
    """Whether simulation takes one mapping hardly longer than the model's time of another."""
    latency = judge.estimate.latency_s
    return found.simulated_s is not None and found.simulated_s <= latency * (1 + STALLS)
