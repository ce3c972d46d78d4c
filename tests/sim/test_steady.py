"""The steady state against the model: what one more iteration costs, and where it costs more.

The model lets compute and every level's traffic overlap, step by step.  A run reaches that where
each tile has two buffers, all Einsums share a stage, and every step asks the same of every port;
then an iteration more takes what the model says, of one Einsum or of a chain of them.  Where a
tile has one buffer, it waits for it, and says so.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings

from accelsim.explore.estimate import bind
from accelsim.models.estimate import estimate
from accelsim.models.turns import in_turn_s
from accelsim.sim import nest
from accelsim.sim.choose import compiled
from accelsim.sim.run import simulate
from tests.models.nests import Case, exact
from tests.sim.cases import doubled, longer, slower, timed
from tests.sim.test_random import FAMILIES

SHAPE = "B=2,H=2,E=16,F=32,M=1024,P=512"


#: Trips of a loop between which its further iterations are counted: long enough that a schedule
#: has filled its pipeline in both.
FEW, MANY = 72, 216


def more(case: Case, part: str) -> float:
    """Simulated over modelled cycles of further iterations of a loop, step by step."""
    found = []
    for trips in (FEW, MANY):
        own = longer(case, {part: trips})
        bound = own.problem, own.arch, own.mapping
        model = in_turn_s(*bound, estimate(*bound)) * own.arch.clock_hz
        seen = simulate(*bound).cycles
        assert seen >= model * (1 - 1e-9)
        found.append((seen, model))
    (few, less), (many, greater) = found
    return (many - few) / (greater - less)


def evenly(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """An iteration more of a lone step loop takes what the model says, within 2 %."""
    monkeypatch.setattr(nest, "SHORTEST_STEP", 1)
    assume(exact(case) and len(case.mapping.groups) == 1)
    case = slower(doubled(case), 256)
    steps = compiled(case.problem, case.arch, case.mapping, case.mapping.groups[0]).steps
    assume(len(steps) == 1 and steps[0] in case.mapping.groups[0].tree.loops)
    assert more(case, steps[0].part) <= 1.02


#: Of chains so many that some stall with a poor schedule, or where tiles pass before arrays.
EXAMPLES = {"linear": 12, "chains": 60, "states": 30}


@pytest.mark.parametrize("family", EXAMPLES)
def test_an_iteration_more_takes_what_the_model_says(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=EXAMPLES[family], deadline=None, suppress_health_check=list(HealthCheck))
    @given(timed(FAMILIES[family], 4, 300))
    def check(case: Case) -> None:
        evenly(case, monkeypatch)

    check()


@pytest.mark.long
@pytest.mark.parametrize(
    ("family", "examples"), [("linear", 500), ("chains", 500), ("states", 500)]
)
def test_an_iteration_more_takes_what_the_model_says_long(
    family: str, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(timed(FAMILIES[family], 4, 300))
    def check(case: Case) -> None:
        evenly(case, monkeypatch)

    check()


LENGTHS = [
    "4K",
    pytest.param("64K", marks=pytest.mark.long),
    pytest.param("1M", marks=pytest.mark.long),
]


@pytest.mark.parametrize("model", ["BERT", "XLM"])
@pytest.mark.parametrize("seq", LENGTHS)
@pytest.mark.parametrize("design", ["fusemax", "unfused", "linear-layers"])
def test_published_designs_are_within_two_percent(design: str, model: str, seq: str) -> None:
    problem, machine, mapping = bind(design=design, model=model, seq=seq)
    priced = estimate(problem, machine, mapping)
    seen = simulate(problem, machine, mapping)
    cycles = priced.latency_s * machine.clock_hz
    assert cycles * (1 - 1e-9) <= seen.cycles <= 1.02 * cycles
    assert seen.traffic_bytes == pytest.approx(priced.traffic_bytes, rel=1e-9)


@pytest.mark.parametrize(("seq", "over"), [("4K", 0.0), ("64K", 0.3125)])
def test_one_block_of_scores_cannot_overlap(seq: str, over: float) -> None:
    """FLAT at 64K fills the buffer with one block of scores: QK and AV wait for the softmax.

    The published overlap of the two arrays needs room for a second block; without it each
    block takes the time of both, QK and AV at 1/4 + 1/16 of the softmax beside it.
    """
    problem, machine, mapping = bind(design="flat", model="BERT", seq=seq)
    cycles = estimate(problem, machine, mapping).latency_s * machine.clock_hz
    seen = simulate(problem, machine, mapping)
    assert seen.cycles == pytest.approx((1 + over) * cycles, rel=1e-3)
    waits = seen.total("stalls").get("array_2d: AV waits for A", 0) / seen.cycles
    assert (waits > 0.2) == bool(over)


def test_double_buffers_hide_what_one_buffer_shows() -> None:
    """Keys held once are waited for at each block; held twice they are not."""
    ratios = []
    for buffers in (1, 2):
        problem, machine, mapping = bind(
            design="fusemax", model="XLM", seq="1K", choose={"buffers": buffers}
        )
        cycles = estimate(problem, machine, mapping).latency_s * machine.clock_hz
        seen = simulate(problem, machine, mapping)
        ratios.append(seen.cycles / cycles)
        assert ("dram: waits for K, held once" in seen.total("stalls")) == (buffers == 1)
    assert 1.02 < ratios[0] < 1.03
    assert 1.0 <= ratios[1] < 1.001
