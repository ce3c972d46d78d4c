"""How long the simulator takes; printed, not asserted."""

from __future__ import annotations

import time

import pytest

from accelsim.explore.estimate import bind
from accelsim.sim.run import simulate

pytestmark = pytest.mark.bench


@pytest.mark.parametrize("design", ["fusemax", "flat", "unfused", "linear-layers"])
@pytest.mark.parametrize("seq", ["64K", "1M"])
def test_a_run(design: str, seq: str) -> None:
    problem, machine, mapping = bind(design=design, model="BERT", seq=seq)
    start = time.process_time()
    found = simulate(problem, machine, mapping)
    seconds = time.process_time() - start
    steps = sum(g.steps for g in found.groups)
    run = steps - sum(g.skipped for g in found.groups)
    print(
        f"\nsimulate {design}, BERT {seq}: {found.cycles:,} cycles of {steps:,} steps, "
        f"{run:,} run one by one, in {seconds:.2f} s"
    )
