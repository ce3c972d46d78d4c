"""Short last tiles in the simulator: bytes, bounds, the shortcut, and tensors as computed."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.problem import bind
from accelsim.models.counts import group_transfers
from accelsim.models.nest import Nest
from accelsim.sim import nest
from tests.models.nests import Case
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
