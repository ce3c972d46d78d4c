"""Short last tiles in the simulator: bytes, bounds, the shortcut, and tensors as computed."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.arch import Architecture, Level, Unit
from accelsim.ir.cascade import rank_of
from accelsim.ir.mapping import Group, Leaf, Loop, Mapping, Node, Stage
from accelsim.ir.problem import bind, relevant
from accelsim.models.counts import group_transfers
from accelsim.models.estimate import estimate
from accelsim.models.nest import Nest
from accelsim.sim import nest
from accelsim.sim.run import simulate
from tests.models.nests import _OPERATIONS, CASCADES, Case
from tests.sim.cases import timed
from tests.sim.test_random import bounded, executed, replayed

SLOW = list(HealthCheck)
FAMILIES = {
    "linear": ("matmul", "batched", "square"),
    "fused": ("siblings", "chain", "softmax"),
    "states": ("running", "state"),
}


@st.composite
def shortened(draw: st.DrawFn, family: str, most: int, points: int) -> Case:
    """A drawn case of which ranks are shorter than their parts multiply to."""
    case = draw(timed(FAMILIES[family], most, points))
    sizes = {}
    for rank, parts in case.mapping.parts:
        whole = prod(p.trips for p in parts)
        sizes[rank] = draw(st.integers(whole - whole // max(1, parts[0].trips) + 1, whole))
    case = replace(case, problem=bind(case.problem.cascade, sizes))
    try:
        for group in case.mapping.groups:
            group_transfers(Nest(case.problem, case.mapping, group), case.arch, {})
    except InputError:  # out of order, or along a recurrence
        reject()
    return case


@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_bytes_and_shortcut(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
    @given(shortened(family, 5, 2000), st.sampled_from((1, 16, 256)))
    def check(case: Case, shortest: int) -> None:
        monkeypatch.setattr(nest, "SHORTEST_STEP", shortest)
        bounded(case)

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_equal_the_replay(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
    @given(shortened(family, 4, 300), st.sampled_from((1, 16)))
    def check(case: Case, shortest: int) -> None:
        monkeypatch.setattr(nest, "SHORTEST_STEP", shortest)
        replayed(case)

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_executed_tensors_equal_the_interpreter(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
    @given(shortened(family, 4, 300), st.sampled_from((1, 16)))
    def check(case: Case, shortest: int) -> None:
        monkeypatch.setattr(nest, "SHORTEST_STEP", shortest)
        executed(case)

    check()


@pytest.mark.parametrize(
    ("name", "short"), [("convolution", "P"), ("convolution", "F"), ("heads", "P"), ("state", "M")]
)
def test_windows_quotients_and_recurrences_along_a_short_rank_are_refused(
    name: str, short: str
) -> None:
    found = CASCADES[name]
    sizes = {r: {"G": 2, "HK": 1, "X": 9}.get(r, 2) for r in found.ranks} | {short: 3}
    problem = bind(found, relevant(found, sizes))
    ranks = sorted({rank_of(v) for e in found.einsums for v in e.variables})
    cut = {r: (Loop(r, problem.extent(r)),) for r in ranks}
    cut[short] = (Loop(f"{short}1", 2), Loop(f"{short}0", 2))
    steps = [e for e in found.einsums if e.reads]
    tree = [
        Leaf(e.name, "grid", tuple(p for r in ranks if r.lower() in e.variables for p in cut[r]))
        for e in steps
    ]
    stage = Stage(tuple(e.name for e in steps))
    groups = tuple(Group(e.name, Node((), (), (leaf,)), (Stage((e.name,)),))
                   for e, leaf in zip(steps, tree, strict=True))  # fmt: skip
    if name == "state":
        groups = (Group("g", Node((), (), tuple(tree)), (stage,)),)
    arch = Architecture("m", 1.0, 1.0, (Level("dram"),), (Unit("grid", 1, 1, _OPERATIONS),))
    mapping = Mapping("t", groups, tuple(cut.items()))
    message = f"a window, a quotient or a recurrence along it where the last tile of {short} is"
    with pytest.raises(InputError, match=message):
        simulate(problem, arch, mapping)
    with pytest.raises(InputError, match=message):
        estimate(problem, arch, mapping)
