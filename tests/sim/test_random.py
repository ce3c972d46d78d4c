"""The simulator on random small mappings: bytes, bounds, and the shortcut."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from accelsim import units
from accelsim.errors import InputError
from accelsim.ir.reference import random_inputs
from accelsim.models.estimate import estimate
from accelsim.models.turns import in_turn_s
from accelsim.sim import nest
from accelsim.sim.execute import Executor, largest_difference
from accelsim.sim.run import simulate
from tests.models.nests import Case, exact
from tests.oracle.nest import replay
from tests.sim.cases import timed

SLOW = list(HealthCheck)
FAMILIES = {
    "linear": ("matmul", "batched", "square", "siblings"),
    "bent": ("convolution", "strided", "dilated", "gaps", "convolution 2-D", "heads"),
    "chains": ("chain", "softmax"),
    "states": ("running", "state"),
}


def bounded(case: Case) -> None:
    """Estimate <= in turn <= simulated <= no overlap, the same bytes, the shortcut the same.

    Simulated steps that are longer than the mapping's own may do what is beside those piece by
    piece: then the estimate alone is below.
    """
    found = simulate(case.problem, case.arch, case.mapping)
    every = simulate(case.problem, case.arch, case.mapping, full=True)
    for one, other in zip(found.groups, every.groups, strict=True):
        assert replace(one, skipped=0) == replace(other, skipped=0)
        assert one.cycles == one.compute_cycles + sum(one.stalls.values())
        for unit, busy in one.busy_cycles.items():
            assert one.cycles == busy + sum(one.idle_cycles[unit].values())
    assert found.cycles <= found.serial_cycles
    if exact(case):
        priced = estimate(case.problem, case.arch, case.mapping)
        assert found.total("reads") == pytest.approx(priced.read_bytes, rel=1e-12)
        assert found.total("writes") == pytest.approx(priced.write_bytes, rel=1e-12)
        turns = in_turn_s(case.problem, case.arch, case.mapping, priced)
        assert turns >= priced.latency_s
        least = turns if nest.SHORTEST_STEP == 1 else priced.latency_s
        assert found.cycles >= least * case.arch.clock_hz * (1 - 1e-9)


def replayed(case: Case) -> None:
    """The same bytes as the replay element by element, which knows neither model nor simulator."""
    if not exact(case):
        return
    found = simulate(case.problem, case.arch, case.mapping)
    for group, ran in zip(case.mapping.groups, found.groups, strict=True):
        done = replay(case.problem, case.mapping, group, case.arch)
        reads: Counter[str] = Counter()
        writes: Counter[str] = Counter()
        for (level, _, _), words in done.reads.items():
            reads[level] += words
        for (level, _, _), words in done.writes.items():
            writes[level] += words
        assert ran.reads == {level: reads[level] for level in case.arch.level}
        assert ran.writes == {level: writes[level] for level in case.arch.level}


def executed(case: Case) -> None:
    """Tensors computed task by task, in the order of the run, equal the interpreter's."""
    inputs = random_inputs(case.problem)
    executor = Executor(case.problem, case.mapping, inputs)
    simulate(case.problem, case.arch, case.mapping, execute=executor.task)
    names = case.problem.cascade.tensors
    assert largest_difference(case.problem, inputs, executor.tensors, names) <= 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_bytes_and_shortcut(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
    @given(timed(FAMILIES[family]), st.sampled_from((1, 16, 256)))
    def check(case: Case, shortest: int) -> None:
        monkeypatch.setattr(nest, "SHORTEST_STEP", shortest)
        bounded(case)

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_executed_tensors_equal_the_interpreter(family: str) -> None:
    @settings(max_examples=10, deadline=None, suppress_health_check=SLOW)
    @given(timed(FAMILIES[family], 3, 300))
    def check(case: Case) -> None:
        executed(case)

    check()


@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(timed((*FAMILIES["linear"], *FAMILIES["chains"]), 4, 600), st.floats(0.1, 1.3))
def test_capacity_is_never_exceeded(case: Case, share: float) -> None:
    """What does not fit is refused, with the tile's level; what runs stays within."""
    room = simulate(case.problem, case.arch, case.mapping).peak_bytes["buffer"]
    assume(room)
    least = math.ceil(share * room)
    levels = tuple(
        replace(level, capacity_bytes=least) if level.name == "buffer" else level
        for level in case.arch.levels
    )
    found, told = None, ""
    try:
        found = simulate(case.problem, replace(case.arch, levels=levels), case.mapping)
    except InputError as error:
        told = str(error)
    if found is None:
        assert "holds in buffer" in told
        assert f"more than its {units.show(least, 'bytes')}" in told
    else:
        assert found.peak_bytes["buffer"] <= least


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_equal_the_replay(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=SLOW)
    @given(timed(FAMILIES[family], 3, 300), st.sampled_from((1, 16)))
    def check(case: Case, shortest: int) -> None:
        monkeypatch.setattr(nest, "SHORTEST_STEP", shortest)
        replayed(case)

    check()


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_bytes_and_shortcut_long(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=1000, deadline=None, suppress_health_check=SLOW)
    @given(timed(FAMILIES[family]), st.sampled_from((1, 16, 256)))
    def check(case: Case, shortest: int) -> None:
        monkeypatch.setattr(nest, "SHORTEST_STEP", shortest)
        bounded(case)

    check()
