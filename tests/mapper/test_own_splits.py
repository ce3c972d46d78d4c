"""Splits of a cascade's own whose last tile is short, in the search: counts, bounds, groups."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Cascade
from accelsim.load.arch import load_architecture
from accelsim.load.cascade import cascade_from_text
from accelsim.mapper.bound import floor
from accelsim.mapper.closer import Closer
from accelsim.mapper.frame import frame, frames
from accelsim.mapper.fuse import fuse
from accelsim.mapper.goal import OBJECTIVES, Goal
from accelsim.mapper.plan import own_splits
from accelsim.mapper.point import Point
from accelsim.mapper.search import search
from accelsim.mapper.space import Space, Task, Wishes
from accelsim.mapper.spreads import runs
from accelsim.mapper.stow import Tally
from tests.mapper.drawn import einsums, machines
from tests.mapper.test_cuts import checked, read_back, unbeaten
from tests.mapper.test_exhaustive import every_fused, every_mapping, machine
from tests.models.test_ends import SPLIT

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def small(name: str, inputs: str, output: str, *steps: str, more: str = "P, M") -> Cascade:
    """A cascade that splits M into M1 and M0."""
    text = "".join(f"  - {step}\n" for step in steps)
    return cascade_from_text(
        f"cascade: {name}\nranks: [{more}]\ninputs: {{{inputs}}}\noutputs: [{output}]\n"
        f"split: {{M: [M1, M0]}}\neinsums:\n{text}"
    )


TILES = small("tiles", "S: [M, P]", "L", "L[m1,p] = S[m1,m0,p] :: max(m0)")
PRODUCT = small(
    "product", "A: [P, M], B: [M, F]", "T", "T[p,f] = A[p,m1,m0] * B[m1,m0,f]", more="P, M, F"
)
TURNED = small(
    "turned", "S: [M, P]", "Y", "D[m0,m1,p] = S[m1,m0,p] * S[m1,m0,p]", "Y[p] = D[m0,m1,p]"
)
LOCAL = small(
    "local", "S: [M, P]", "Z",
    "L[m1,p] = S[m1,m0,p] :: max(m0)",
    "E[m0,m1,p] = exp(S[m1,m0,p] - L[m1,p])",
    "Z[m1,p] = E[m0,m1,p] / L[m1,p]",
)  # fmt: skip
COPIED = small(  # a copy takes no cycles
    "copied", "S: [M, P]", "D, Y", "D[p] = S[m1,m0,p]", "Y[m1,m0,p] = S[m1,m0,p]"
)
EVERY = (SPLIT, LOCAL, TILES, PRODUCT, TURNED, COPIED)


def test_a_copy_is_not_spread_where_its_last_tile_would_come_out_of_order() -> None:
    machine = load_architecture("teaching")
    task = Task(COPIED, {"P": 2, "M": 7, "M0": 4}, machine)
    counts = Space(task, frame(COPIED, ("D", "Y"), ())).counts.at(float)
    for run in runs(counts, "Y", "array_2d", frozenset()):
        assert not {"M1"} & {*run.spread.rows, *run.spread.cols}


def test_the_bound_has_no_points_beyond_the_end() -> None:
    free = Task(PRODUCT, {"P": 2, "M": 7, "F": 2}, machine(9.0, 1.0, 2))
    fixed = replace(free, sizes={**free.sizes, "M0": 4})
    assert floor(fixed, ("T",)) == floor(free, ("T",))


@st.composite
def own_tasks(draw: st.DrawFn, cascades: tuple[Cascade, ...], most: int = 300) -> Task:
    """A cascade with a split of its own that mostly leaves a short last tile."""
    found = draw(st.sampled_from(cascades))
    sizes = {r: draw(st.sampled_from([1, 2, 5, 7])) for r in found.ranks}
    sizes["M"] = draw(st.sampled_from([3, 5, 7, 10, 11, 13, 17]))
    while math.prod(sizes.values()) > most:
        sizes[max((r for r in sizes if r != "M"), key=lambda r: sizes[r])] = 2
    if draw(st.booleans()) and draw(st.booleans()):
        sizes["M0"] = draw(st.integers(1, sizes["M"]))
    return Task(found, sizes, draw(machines()), Wishes(buffers=draw(st.integers(1, 2))))


@pytest.mark.parametrize("examples", [15, pytest.param(300, marks=pytest.mark.long)])
def test_figures_of_a_point_are_those_of_models_replay_and_simulator(examples: int) -> None:
    @settings(max_examples=examples, **QUIET)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        task = data.draw(own_tasks(EVERY))
        try:
            space = Space(task, data.draw(st.sampled_from(frames(task.cascade, einsums(task), 3))))
        except InputError:  # the last of the tiles that are asked for is cut less than others
            reject()
        for number in data.draw(st.permutations(list(np.flatnonzero(~space.doubles))))[:3]:
            goal = Goal(data.draw(st.sampled_from(OBJECTIVES)))
            closer = Closer(space, np.array([number]))
            choice = Point(space, closer, 0, goal, Tally()).solve((math.inf, math.inf))
            if choice is not None:
                checked(task, choice)
                read_back(task, choice)
                figures = goal.value(choice.latency_s, choice.energy_j)[0]
                assert goal.value(*closer.bounds(goal))[0][0] <= figures * (1 + 1e-9)
                assert goal.value(*floor(task, einsums(task)))[0] <= figures * (1 + 1e-9)

    check()


@pytest.mark.parametrize("examples", [6, pytest.param(100, marks=pytest.mark.long)])
def test_no_mapping_beats_the_search(examples: int) -> None:
    @settings(max_examples=examples, **QUIET)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        task = data.draw(own_tasks(EVERY, 120))
        try:
            unbeaten(data, task, 6)
        except InputError:
            reject()

    check()


CASES = [
    (TILES, {"P": 2, "M": 11}, machine(9.0, 2.0, 2)),
    (TILES, {"P": 5, "M": 7}, machine(5.0, 1.0, 3)),
    (PRODUCT, {"P": 2, "M": 7, "F": 1}, machine(7.0, 1.0, 2)),
    (PRODUCT, {"P": 5, "M": 7, "M0": 4, "F": 1}, machine(7.0, 1.0, 4)),  # all of B fits just so
]


@pytest.mark.parametrize(("cascade", "sizes", "arch"), CASES)
def test_the_search_equals_enumeration(
    cascade: Cascade, sizes: dict[str, int], arch: Architecture
) -> None:
    task = Task(cascade, sizes, arch, Wishes(buffers=1))
    einsum = cascade.einsums[0].name
    known = frames(cascade, (einsum,), 1)
    prices = [p for f in known for p in every_mapping(task, f, einsum)]
    equals(task, prices)


SIBLINGS = small(
    "siblings", "S: [M, P]", "Y, Z",
    "Y[m1,p] = S[m1,m0,p] :: max(m0)", "Z[p] = S[m1,m0,p] * S[m1,m0,p]",
)  # fmt: skip


@pytest.mark.parametrize(("keys", "capacity"), [(11, 6.0), (7, 9.0), (13, 4.0)])
def test_the_search_of_a_fused_group_equals_enumeration(keys: int, capacity: float) -> None:
    task = Task(SIBLINGS, {"P": 2, "M": keys}, machine(capacity, 2.0, 2), Wishes(buffers=1))
    known = frames(task.cascade, ("Y", "Z"), 1)
    equals(task, [p for f in known for p in every_fused(task, f)])


def equals(task: Task, prices: list[tuple[float, float]]) -> None:
    """The search of a task, in frames of one loop, finds the least of these prices."""
    for objective in ("latency", "energy", "edp"):
        goal = Goal(objective)
        found = search(task, einsums(task), goal, loops=1)
        assert found.choice is not None
        assert found.shown
        figures = goal.value(found.choice.latency_s, found.choice.energy_j)
        assert figures[0] == pytest.approx(min(goal.value(*p)[0] for p in prices), rel=1e-9)


MASKED = small(
    "masked", "S: [M, P], T: [M, P]", "Z, D",
    "L[m1,m0,p] = S[m1,m0,p] * T[m1,m0,p] where m1*M0+m0 <= p",
    "Y[m1,p] = L[m1,m0,p] :: max(m0)",
    "X[m1,p] = Y[m1,p] * Y[m1,p] where m1 == p // M0",
    "Z[p] = X[m1,p] :: max(m1)",
    "A[m1,m0,p] = S[m1,m0,p] * T[m1,m0,p] where m1 == p // M0",
    "D[p] = A[m1,m0,p]",
)  # fmt: skip


@settings(max_examples=15, **QUIET)
@given(st.data())
def test_masked_points_end_with_the_rank(data: st.DataObject) -> None:
    """Points at each split are those counted one by one; figures are those of the models."""
    task = data.draw(own_tasks((MASKED,)))
    task = replace(task, sizes={"M": task.sizes["M"], "P": data.draw(st.integers(1, 9))})
    space = Space(task, data.draw(st.sampled_from(frames(task.cascade, einsums(task), 2))))
    keys, queries = (range(task.sizes[r]) for r in "MP")
    for number in data.draw(st.permutations(range(space.grid.size)))[:4]:
        counts = space.counts_at(number)
        tile = int(counts.full["M0"])
        scores = {(m, p) for m, p in product(keys, queries) if m <= p}
        own = {(m // tile, p) for m, p in scores if m // tile == p // tile}
        found = {e: float(np.broadcast_to(n, space.grid.shape).flat[number])
                 for e, n in space.points.items()}  # fmt: skip
        assert (found["L"], found["Y"]) == (len(scores), len(scores))
        assert found["X"] == len(own)
        near = [p for m, p in product(keys, queries) if m // tile == p // tile]
        assert found["A"] == found["D"] == len(near)
        closer = Closer(space, np.array([number]))
        choice = Point(space, closer, 0, Goal("energy"), Tally()).solve((math.inf, math.inf))
        if choice is not None:
            checked(task, choice)
            assert floor(task, einsums(task))[1] <= choice.energy_j * (1 + 1e-9)


SCALED = small(
    "scaled", "S: [M, P]", "D",
    "L[m1,p] = S[m1,m0,p] :: max(m0)",
    "N[m1,p] = L[m1,p] * L[m1,p]",
    "D[m1,m0,p] = S[m1,m0,p] * N[m1,p]",
)  # fmt: skip

#: Cuts into groups of which none runs over tiles alone.
GROUPS = ((("L", "N", "D"),), (("L", "N"), ("D",)), (("L",), ("N", "D")))


@pytest.mark.parametrize("examples", [8, pytest.param(100, marks=pytest.mark.long)])
def test_groups_have_one_split_and_the_best_cut_is_found(examples: int) -> None:
    found_alike = set[bool]()

    @settings(max_examples=examples, **QUIET)
    @given(own_tasks((SCALED,), 60))
    def check(task: Task) -> None:
        goal = Goal("energy")
        task = replace(task, sizes={r: n for r, n in task.sizes.items() if r != "M0"})
        found = fuse(task, goal)
        split = own_splits(found.choices)
        assert split["M1"] == -(-task.sizes["M"] // split["M0"])
        checked(task, *found.choices)
        read_back(task, *found.choices)
        found_alike.add(found.shown)
        best = math.inf
        for tile in tiles_of(task):
            fixed = replace(task, sizes={**task.sizes, "M0": tile})
            for groups in GROUPS:
                some = [search(fixed, group, goal).choice for group in groups]
                best = min(best, sum(math.inf if c is None else c.energy_j for c in some))
        assert found.energy_j >= best * (1 - 1e-9)
        assert not found.shown or found.energy_j <= best * (1 + 1e-9)
        assert not found.shown or ("N",) not in found.groups

    check()
    assert True in found_alike


def tiles_of(task: Task) -> set[int]:
    """Sizes of tiles that the search has for a split, all with the last cut as others are."""
    counts = Space(task, frame(task.cascade, ("D",), ())).counts
    return {int(n) for n in np.ravel(counts.full["M0"])}
