"""The program of a group: its first schedule, or the fastest that is found where that stalls.

Others are tried one after the other, the cheapest to try first, until one does
not stall: Einsums side by side (``sim.pairs``), and a search near the first schedule
(``sim.search``).  Where steps may not overlap, or are so short that ports, which
round up to whole cycles, may be felt, longer steps are tried, in which each child
of a fork is whole before the next; but none within which a state goes round, which
is handed on from step to step, or in which stages meet at a finer tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from accelsim.errors import InputError
from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Group, Node, walk
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.problem import Problem
from accelsim.sim.compile import Compiler, Scheduled
from accelsim.sim.engine import Engine
from accelsim.sim.nest import SHORTEST_STEP, Nest, several
from accelsim.sim.program import Program, rates
from accelsim.sim.schedule import Schedule
from accelsim.sim.search import Search, Trial
from accelsim.sim.steady import ends, run, tried

#: Iterations that make a steady state; of fewer no schedules are searched.
ENOUGH = 24


def compiled(problem: Problem, arch: Architecture, mapping: BoundMapping, group: Group) -> Program:
    """The program of one group.

    Raises InputError where tiles do not fit, a unit lacks an operation, or
    the schedule has no room to repeat.
    """
    compiler = Compiler(Nest(problem, arch, mapping, group))
    first = compiler.scheduled()
    fastest = compiler.program(first.schedule)
    least = tried(fastest, rates(arch))
    if math.isinf(least.cycles):
        return fastest
    alone = first.solver is None or least.each < SHORTEST_STEP
    whole = _whole(compiler, mapping) if alone else None
    cycles = _cycles(fastest, rates(arch)) if whole else least.cycles
    for other, found in _others(compiler, first, whole):
        if least.stalls or other is whole:
            schedule, seen = _searched(other, found)
            program = other.program(schedule)
            takes = _cycles(program, rates(arch)) if whole else seen.cycles
            if takes < cycles:
                fastest, least, cycles = program, seen, takes
    return fastest


def _whole(compiler: Compiler, mapping: BoundMapping) -> Compiler | None:
    """What compiles steps in which each child of a fork is whole; None where there are none.

    Nor where a state goes round within them, or where several stages work on a tile
    finer than they are: the next begins when all of the step's have come and gone.
    """
    nest = compiler.nest
    whole = Nest(nest.problem, nest.arch, mapping, nest.group, whole=True)
    if whole.steps == nest.steps:
        return None
    for state, rank in nest.cascade.iterative.items():
        if nest.users(state) and any(p not in whole.steps for p in several(nest.parts[rank])):
            return None
    return None if _meet(whole) else Compiler(whole)


def _meet(nest: Nest) -> bool:
    """Whether Einsums of several stages work on a tile finer than a step."""
    return any(
        len({nest.stage[e] for e in nest.users(hold.tensor, node)}) > 1
        for node, above in walk(nest.group.tree)
        if isinstance(node, Node) and nest.around((*above, node))[1]
        for hold in node.holds
    )


def _cycles(program: Program, ports: Mapping[tuple[str, str], float]) -> float:
    """Cycles of a program that is run to its end; infinitely many if it stops before."""
    engine = Engine(program, ports)
    try:
        run(engine)
    except InputError:
        return math.inf
    return engine.time


def _others(
    compiler: Compiler, first: Scheduled, whole: Compiler | None
) -> Iterator[tuple[Compiler, Scheduled]]:
    """What is tried besides the first schedule, each with what it is compiled by."""
    for other, beside in ((compiler, True), (whole, True), (whole, False)):
        if other is None:
            continue
        try:
            found = other.scheduled(cut=False, beside=beside)
        except InputError:
            continue
        if found.schedule.pairs or not beside:
            yield other, found
    yield compiler, first


def _searched(compiler: Compiler, found: Scheduled) -> tuple[Schedule, Trial]:
    """The fastest schedule near one, where others may be tried."""
    ports = rates(compiler.arch)

    def trial(schedule: Schedule, most: float = math.inf) -> Trial:
        return tried(compiler.program(schedule), ports, most)

    if found.solver is None or compiler.nest.bodies[0] < ENOUGH:
        return found.schedule, trial(found.schedule)
    search = Search(found.solver, trial, tuple(compiler.yielding))
    fastest = search.run()
    if fastest.cuts and not ends(compiler.program(fastest), ports):
        return _searched(compiler, compiler.scheduled(cut=False))  # turns do not go together
    return fastest, search.least
