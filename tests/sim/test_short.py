"""Short last tiles in the simulator: bytes, bounds, the shortcut, and tensors as computed."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.mapping import Group, Leaf, Loop, Mapping, Node, Stage
from accelsim.ir.problem import bind
from accelsim.models.nest import Nest
from accelsim.sim import nest
from accelsim.sim.run import simulate
from tests.models.nests import CASCADES, Case
from tests.sim.cases import timed
from tests.sim.test_random import bounded, executed, replayed

SLOW = list(HealthCheck)
LINEAR = ("matmul", "batched", "square")


@st.composite
def shortened(draw: st.DrawFn, most: int, points: int) -> Case:
    """A drawn case of one Einsum, of which ranks are shorter than their parts multiply to."""
    case = draw(timed(LINEAR, most, points))
    sizes = {}
    for rank, parts in case.mapping.parts:
        whole = prod(p.trips for p in parts)
        sizes[rank] = draw(st.integers(whole - whole // max(1, parts[0].trips) + 1, whole))
    case = replace(case, problem=bind(case.problem.cascade, sizes))
    try:
        for group in case.mapping.groups:
            Nest(case.problem, case.mapping, group)
    except InputError:  # loops over a rank that are out of order
        reject()
    return case


def test_bounds_bytes_and_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
    @given(shortened(8, 2000), st.sampled_from((1, 16, 256)))
    def check(case: Case, shortest: int) -> None:
        monkeypatch.setattr(nest, "SHORTEST_STEP", shortest)
        bounded(case)

    check()


def test_bytes_equal_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
    @given(shortened(6, 300), st.sampled_from((1, 16)))
    def check(case: Case, shortest: int) -> None:
        monkeypatch.setattr(nest, "SHORTEST_STEP", shortest)
        replayed(case)

    check()


def test_executed_tensors_equal_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
    @given(shortened(6, 300), st.sampled_from((1, 16)))
    def check(case: Case, shortest: int) -> None:
        monkeypatch.setattr(nest, "SHORTEST_STEP", shortest)
        executed(case)

    check()


def test_fused_einsums_with_a_short_tile_are_refused() -> None:
    loops = (Loop("I1", 2), Loop("I0", 2), Loop("K", 2))
    tree = Node((), (), (Leaf("Y", "grid", loops), Leaf("Z", "grid", loops)))
    mapping = Mapping(
        "t", (Group("g", tree, (Stage(("Y", "Z")),)),), (("I", loops[:2]), ("K", loops[2:]))
    )
    from accelsim.ir.arch import Architecture, Unit
    from tests.models.nests import _LEVELS, _OPERATIONS

    arch = Architecture("m", 1.0, 1.0, _LEVELS, (Unit("grid", 1, 1, _OPERATIONS),))
    problem = bind(CASCADES["siblings"], {"I": 3, "K": 2})
    with pytest.raises(InputError, match="g fuses Einsums, but the last tile of I is short"):
        simulate(problem, arch, mapping)
