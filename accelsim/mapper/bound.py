"""What no mapping at all is below, fused or not, whatever its tiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsim.analysis.work import work
from accelsim.ir.cascade import Cascade
from accelsim.ir.problem import Problem
from accelsim.mapper.evaluate import cost
from accelsim.mapper.masks import least_points
from accelsim.mapper.space import Task
from accelsim.mapper.spreads import units_for

#: Einsums whose choice of units is looked at; more would only raise the bound.
HEAVIEST = 14


def floor(task: Task, einsums: Sequence[str]) -> tuple[float, float]:
    """Latency and energy that no mapping of these Einsums is below, in seconds and joules.

    An Einsum runs on one unit, whose PEs do one point each at a time: it takes
    at least its points times the cycles of one over the PEs.  Units at best
    work at once, so that the least load of the busiest unit over all choices,
    with the fill of the slowest unit that is used, is a bound.  Every word that
    comes from outside is read from the backing level at least once, and every
    one that is wanted outside written at least once: the time of its ports is
    another bound, and their energy with that of all operations, each on its
    cheapest unit, is one on energy.

    >>> from accelsim.load.arch import load_architecture
    >>> from accelsim.load.cascade import load_cascade
    >>> c, a = load_cascade("matmul"), load_architecture("teaching")
    >>> floor(Task(c, {"M": 16, "N": 16, "K": 16}, a), ("C",))[0]
    2.64e-07
    """
    problem = task.coarsest
    cascade, arch = task.cascade, task.arch
    units = list(arch.unit)
    joules, times = 0.0, {}
    for e in einsums:
        step = cascade.steps[e]
        able = units_for(cascade, e, arch, task.wishes.units)
        prices = {u: cost(arch.unit[u], work(step)) for u in able}
        points = least_points(task, e)
        joules += min(j for _, j in prices.values()) * points
        times[e] = {u: points * c / arch.unit[u].pes for u, (c, _) in prices.items()}
    heavy = sorted(einsums, key=lambda e: -max(times[e].values()))[:HEAVIEST]
    loads, fill = np.zeros((1, len(units))), np.zeros(1)
    for e in heavy:
        grown, fills = [], []
        for u, cycles in times[e].items():
            more = loads.copy()
            more[:, units.index(u)] += cycles
            grown.append(more)
            fills.append(np.maximum(fill, arch.unit[u].fill_cycles))
        loads, fill = np.concatenate(grown), np.concatenate(fills)
    seconds = float((loads.max(axis=1) + fill).min()) / arch.clock_hz
    comes, goes = crossing(cascade, einsums)
    word = arch.word_bytes
    reads = sum(_elements(problem, t) for t in comes) * word
    writes = sum(_elements(problem, t) for t in goes) * word
    outer = arch.backing
    return max(seconds, outer.seconds(reads, writes)), joules + outer.joules(reads, writes)


def crossing(cascade: Cascade, einsums: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tensors that a group reads from outside, and those it makes that are wanted outside.

    >>> from accelsim.load.cascade import load_cascade
    >>> crossing(load_cascade("attention-3pass"), ("QK", "GM"))
    (('Q', 'K'), ('QK', 'GM'))
    """
    group = set(einsums)
    made = [cascade.steps[e].output.tensor for e in einsums]
    read = dict.fromkeys(a.tensor for e in einsums for a in cascade.steps[e].reads)
    goes = [t for t in dict.fromkeys(made) if t in cascade.outputs or not cascade.users[t] <= group]
    return tuple(t for t in read if t not in made), tuple(goes)


def _elements(problem: Problem, tensor: str) -> float:
    """Elements of a tensor that are defined; of a state those of one slot."""
    along = problem.cascade.iterative.get(tensor)
    if along is None:
        return float(problem.defined_elements(tensor))
    ranks = problem.cascade.tensors[tensor]
    return float(np.prod([problem.extent(r) for r in ranks if r != along] or [1]))


def connected(cascade: Cascade, einsums: Sequence[str]) -> bool:
    """Whether each Einsum after the first shares a tensor with one before it."""
    known: set[str] = set()
    for n, e in enumerate(einsums):
        step = cascade.steps[e]
        own = {step.output.tensor, *(a.tensor for a in step.reads)}
        if n and not own & known:
            return False
        known |= own
    return True
