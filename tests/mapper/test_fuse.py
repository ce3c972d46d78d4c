"""The cut into groups against all cuts, and tiles of groups that have to go together."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.ir.mapping import Loop
from accelsim.load.cascade import cascade_from_text
from accelsim.mapper.bound import connected, floor
from accelsim.mapper.fuse import fuse
from accelsim.mapper.goal import Goal
from accelsim.mapper.legal import legal
from accelsim.mapper.plan import _Parts, bound_mapping, own_splits
from accelsim.mapper.search import search
from accelsim.mapper.space import Task, Wishes
from accelsim.models.estimate import estimate
from tests.mapper.drawn import einsums, tasks
from tests.models.nests import CASCADES


def best_cut(task: Task, goal: Goal) -> float:
    """The least figure over all ways to cut the Einsums into runs, each searched by itself."""
    names = einsums(task)
    known: dict[tuple[str, ...], tuple[float, float]] = {}
    best = math.inf
    for n in range(len(names)):
        for cuts in combinations(range(1, len(names)), n):
            ends = (0, *cuts, len(names))
            latency = energy = 0.0
            for a, b in pairwise(ends):
                run = names[a:b]
                if run not in known:
                    choice = (
                        search(task, run, goal).choice if connected(task.cascade, run) else None
                    )
                    known[run] = (
                        (math.inf, math.inf)
                        if choice is None
                        else (choice.latency_s, choice.energy_j)
                    )
                latency, energy = latency + known[run][0], energy + known[run][1]
            if math.isfinite(latency):
                best = min(best, float(goal.value(latency, energy)[0]))
    return best


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_cut_is_the_best_of_all_cuts(data: st.DataObject) -> None:
    task = data.draw(tasks(("siblings", "chain"), 4))
    goal = Goal(data.draw(st.sampled_from(["latency", "energy"])))
    found = fuse(task, goal)
    value = float(goal.value(found.latency_s, found.energy_j)[0])
    if found.shown:
        assert value == pytest.approx(best_cut(task, goal), rel=1e-9)
    assert float(goal.value(*floor(task, einsums(task)))[0]) <= value * (1 + 1e-9)
    mapping = bound_mapping(found.choices, "found")
    assert legal(task.cascade, mapping) == ()
    problem = task.problem({p: n for p, n in mapping.extent.items() if p in task.cascade.whole})
    price = estimate(problem, task.arch, mapping)
    assert price.latency_s == pytest.approx(found.latency_s, rel=1e-9)
    assert price.energy_j == pytest.approx(found.energy_j, rel=1e-9)


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_product_is_no_worse_than_any_cut(data: st.DataObject) -> None:
    task = data.draw(tasks(("siblings", "chain"), 3))
    found = fuse(task, Goal("edp"))
    names = einsums(task)
    for cut in range(1, len(names)):
        parts = [search(task, run, Goal("edp")).choice for run in (names[:cut], names[cut:])]
        chosen = [c for c in parts if c is not None]
        if len(chosen) == 2 and found.shown:
            latency = sum(c.latency_s for c in chosen)
            energy = sum(c.energy_j for c in chosen)
            assert found.latency_s * found.energy_j <= latency * energy * (1 + 1e-9)


def test_the_product_is_shown_to_be_the_best_of_one_einsum_alone() -> None:
    """The best products of groups are not the best of their sums."""
    operations = tuple((w, Operation(1.0, 1.0)) for w in ("mac", "mul", "add"))
    levels = (Level("dram", bandwidth=1.0, read_energy_j=9.0), Level("buffer", 64.0))
    arch = Architecture("m", 1.0, 1.0, levels, (Unit("u", 1, 2, operations),))
    sizes = {"I": 4, "J": 2, "K": 4, "L": 2}
    assert fuse(Task(CASCADES["matmul"], dict(list(sizes.items())[:3]), arch), Goal("edp")).shown
    assert not fuse(Task(CASCADES["chain"], sizes, arch), Goal("edp")).shown


class Fake:
    """A choice as far as the parts of a mapping go: P of 12 in tiles."""

    def __init__(self, tile: int) -> None:
        frame = type("F", (), {"parts": (("P", ("P1", "P0")),)})
        splits = (("P", ("P1", "P0")),)
        cascade = type("C", (), {"splits": splits, "ranks": ("P",), "whole": {}})
        task = type("T", (), {"sizes": {"P": 12}})
        self.space = type("S", (), {"frame": frame, "cascade": cascade, "task": task})
        self.trips = {"P1": 12 // tile, "P0": tile}


def test_groups_that_split_a_rank_of_the_cascade_differently_are_refused_by_name() -> None:
    assert own_splits([Fake(4), Fake(4)]) == {"P1": 3, "P0": 4}  # type: ignore[list-item]
    with pytest.raises(InputError, match="groups split P into P1 = 3 and 4"):
        own_splits([Fake(4), Fake(3)])  # type: ignore[list-item]


def test_groups_that_cut_a_rank_differently_have_parts_of_their_own() -> None:
    names = ("P", ("P1", "P0"))
    loops = [Loop("P2", 3), Loop("P1", 2), Loop("P0", 2)]
    one = _Parts([Fake(4), Fake(2)])  # type: ignore[list-item]
    assert one.parts == {"P": tuple(loops)}
    assert one.own == [{}, {}]
    two = _Parts([Fake(4), Fake(3), Fake(4)])  # type: ignore[list-item]
    assert two.parts == {"P": (Loop("P1", 3), Loop("P0", 4))}
    assert two.own == [{}, {"P": (Loop("P1_2", 4), Loop("P0_2", 3))}, {}]
    found = two.of(1, Fake(3))  # type: ignore[arg-type]
    assert [found[p] for p in names[1]] == [(Loop("P1_2", 4),), (Loop("P0_2", 3),)]


def test_a_cut_that_the_wishes_leave_nothing_of_is_no_cut() -> None:
    """Alone, S has all its ranks in loops outside; beside Z it may be spread over J."""
    text = """
cascade: pair
ranks: [I, J, L]
inputs: {A: [I, J], B: [I, J], C: [J, L]}
output: Z
einsums:
  - S[i,j] = A[i,j] * B[i,j]
  - Z[i,l] = S[i,j] * C[j,l]
"""
    operations = tuple((w, Operation(1.0, 1.0)) for w in ("mac", "mul", "add"))
    levels = (Level("dram", bandwidth=1.0, read_energy_j=9.0), Level("buffer", 64.0))
    arch = Architecture("m", 1.0, 1.0, levels, (Unit("u", 1, 2, operations),))
    wishes = Wishes(spreads={"S": ("", "J")})
    task = Task(cascade_from_text(text), {"I": 2, "J": 4, "L": 2}, arch, wishes)
    (choice,) = fuse(task, Goal("energy")).choices
    assert choice.runs["S"].spread.cols
    alone = replace(task, wishes=Wishes(spreads={"S": ("", "L")}))
    with pytest.raises(InputError, match="S cannot have L along columns of u"):
        fuse(alone, Goal("energy"))
