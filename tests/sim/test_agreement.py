"""The simulator against the model: bytes of every level, and time that is never below it."""

from __future__ import annotations

import pytest

from accelsim.analysis.work import work
from accelsim.explore.estimate import bind
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from accelsim.models.estimate import estimate
from accelsim.sim.points import operations
from accelsim.sim.run import simulate

SMALL = "B=2,H=2,E=8,F=8,M=32,P=16"
CASES = [
    ("fusemax", "fusemax-cloud", "B=2,H=2,E=16,F=32,M=1024,P=512"),
    ("fusemax", "teaching", SMALL),
    ("fusemax-architecture", "teaching", SMALL),
    ("fusemax-cascade", "teaching", SMALL),
    ("flat", "flat-cloud", "B=1,H=2,E=64,F=64,M=1024,P=1024"),
    ("flat", "teaching", SMALL),
    ("unfused", "teaching", SMALL),
    ("linear-layers", "teaching", "B=2,H=2,E=8,F=8,M=16,P=16,D=16,S=32"),
]


@pytest.mark.parametrize(("design", "arch", "shape"), CASES)
def test_the_witness_agrees(design: str, arch: str, shape: str) -> None:
    problem, machine, mapping = bind(design=design, arch=arch, shape=shape)
    model = estimate(problem, machine, mapping)
    seen = simulate(problem, machine, mapping)
    assert seen.traffic_bytes == pytest.approx(model.traffic_bytes, rel=1e-12)
    assert seen.cycles >= model.latency_s * machine.clock_hz * (1 - 1e-9)


def test_the_steady_state_is_the_model() -> None:
    problem, machine, mapping = bind(design="fusemax", model="BERT", seq="4K")
    model = estimate(problem, machine, mapping).latency_s * machine.clock_hz
    seen = simulate(problem, machine, mapping).cycles
    assert model <= seen <= 1.02 * model


def test_the_shortcut_equals_the_full_run() -> None:
    problem, machine, mapping = bind(
        design="fusemax", arch="teaching", shape="B=2,H=3,E=8,F=8,M=64,P=32"
    )
    short, full = (simulate(problem, machine, mapping, full=f) for f in (False, True))
    assert short.cycles == full.cycles
    assert short.traffic_bytes == full.traffic_bytes


@pytest.mark.parametrize("name", catalog.names("cascade"))
def test_the_witness_counts_the_same_operations(name: str) -> None:
    for einsum in load_cascade(name).einsums:
        assert operations(einsum) == work(einsum), einsum.name
