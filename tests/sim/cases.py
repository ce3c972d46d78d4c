"""Random machines with ports, random schedules and longer loops, around ``tests.models.nests``."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from hypothesis import assume
from hypothesis import strategies as st

from accelsim.ir.arch import Level, Unit
from accelsim.ir.mapping import Group, Leaf, Loop, Node, Stage, Tree, leaves
from accelsim.ir.problem import bind
from accelsim.mapper.legal import legal
from tests.models.nests import Case, cases

BANDWIDTHS = (0.5, 1.0, 2.0, 3.0, 8.0, 64.0)
#: Trips that loops are given instead of their own; some long enough to repeat.
TRIPS = (2, 4, 7, 13)


@st.composite
def timed(draw: st.DrawFn, names: tuple[str, ...], most: int = 5, points: int = 4000) -> Case:
    """A case whose levels have ports, whose schedule has stages and whose loops may be long."""
    case = draw(cases(names, most))
    assume(not legal(case.problem.cascade, case.mapping))
    rate = st.sampled_from(BANDWIDTHS)
    buffer = Level("buffer")
    if draw(st.booleans()):
        buffer = Level("buffer", read_bandwidth=draw(rate), write_bandwidth=draw(rate))
    levels = (Level("dram", bandwidth=draw(rate)), buffer, Level("registers"))
    fill = draw(st.sampled_from((0.0, 3.0)))
    units = tuple(replace(u, fill_cycles=fill) for u in case.arch.units)
    groups = tuple(replace(g, stages=draw(staged(g))) for g in case.mapping.groups)
    case = Case(
        case.problem,
        replace(case.arch, levels=levels, units=units),
        replace(case.mapping, groups=groups),
    )
    if "G" not in case.problem.cascade.ranks and draw(st.booleans()):
        trips = {p: n for p, n in case.mapping.extent.items() if n > 1}
        case = longer(case, {p: draw(st.sampled_from((n, *TRIPS))) for p, n in trips.items()})
    assume(prod(case.mapping.extent.values()) <= points)
    assume(not legal(case.problem.cascade, case.mapping))  # longer loops enclose more
    return case


@st.composite
def staged(draw: st.DrawFn, group: Group) -> tuple[Stage, ...]:
    """The Einsums of a group in one stage or several, in the order of the nest."""
    stages: list[list[str]] = [[]]
    for leaf in leaves(group.tree):
        if stages[-1] and not draw(st.integers(0, 3)):
            stages.append([])
        stages[-1].append(leaf.einsum)
    return tuple(Stage(tuple(names)) for names in stages)


def longer(case: Case, trips: dict[str, int]) -> Case:
    """The case with other trips of some loops."""

    def loops(found: tuple[Loop, ...]) -> tuple[Loop, ...]:
        return tuple(Loop(p.part, trips.get(p.part, p.trips)) for p in found)

    def tree(found: Tree) -> Tree:
        if isinstance(found, Leaf):
            return replace(
                found, loops=loops(found.loops), rows=loops(found.rows), cols=loops(found.cols)
            )
        return Node(loops(found.loops), found.holds, tuple(map(tree, found.children)))

    parts = tuple((rank, loops(found)) for rank, found in case.mapping.parts)
    sizes = {rank: prod(p.trips for p in found) for rank, found in parts}
    windows = {"X": ("P", "W"), "Y": ("Q", "V")}
    for rank in set(case.problem.cascade.ranks) - set(sizes):  # long enough for any window
        place, within = (sizes[r] for r in windows[rank])
        sizes[rank] = 5 * place + 2 * within
    groups = tuple(replace(g, tree=tree(g.tree)) for g in case.mapping.groups)
    return Case(
        bind(case.problem.cascade, sizes),
        case.arch,
        replace(case.mapping, parts=parts, groups=groups),
    )


def doubled(case: Case) -> Case:
    """The case with two buffers of every tile, room for each, and one stage a group."""

    def tree(found: Tree) -> Tree:
        if isinstance(found, Leaf):
            return found
        holds = tuple(replace(h, copies=2, shares="") for h in found.holds)
        return Node(found.loops, holds, tuple(map(tree, found.children)))

    groups = tuple(
        replace(
            g,
            tree=tree(g.tree),
            stages=(Stage(tuple(e for stage in g.stages for e in stage.einsums)),),
        )
        for g in case.mapping.groups
    )
    return replace(case, mapping=replace(case.mapping, groups=groups))


def slower(case: Case, times: int) -> Case:
    """The case on a machine whose cycles are so much shorter that rounding to them is not felt."""

    def unit(found: Unit) -> Unit:
        operations = tuple(
            (name, replace(o, cycles=o.cycles * times)) for name, o in found.operations
        )
        return replace(found, operations=operations, fill_cycles=0.0)

    levels = tuple(
        replace(
            level,
            bandwidth=level.bandwidth / times,
            read_bandwidth=level.read_bandwidth / times,
            write_bandwidth=level.write_bandwidth / times,
        )
        for level in case.arch.levels
    )
    units = tuple(map(unit, case.arch.units))
    return replace(case, arch=replace(case.arch, levels=levels, units=units))
