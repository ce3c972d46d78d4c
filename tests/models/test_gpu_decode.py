"""Decoding: what was counted of its kernel, and what the model makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.explore import gpu_records
from accelsim.explore.estimate_gpu import predict
from accelsim.gpu.decode import WALKS
from accelsim.load.gpu import load_gpu
from accelsim.load.kernel import load_kernel
from accelsim.models import gpu_decode
from accelsim.models.gpu_decode import Decode, Walk, decode, pooled
from accelsim.models.gpu_pipeline import Stage, lane_cycles

KERNEL = load_kernel("decode-split")
COUNTED = gpu_records.rows("h100-sxm", "decode-counters")


def test_every_walk_was_counted() -> None:
    caches = [row["case"]["cache"] for row, _ in COUNTED]
    assert {(c["bits"], c["E"]) for c in caches} == set(WALKS)


@pytest.mark.parametrize("row", [row for row, _ in COUNTED], ids=lambda r: str(r["case"]["cache"]))
def test_the_descriptor_has_the_counts(row) -> None:
    """Of long caches: a block's end is a hundredth of its instructions."""
    cache, found = row["case"]["cache"], row["kernels"][0]
    sizes = str(cache["bits"]), cache["E"]
    tile = KERNEL.tile({"bits": cache["bits"], "E": cache["E"]})
    walk = WALKS[cache["bits"], cache["E"]]
    assert (tile.columns, tile.blocks, tile.stages == 2) == (walk.tokens, walk.blocks, walk.ahead)
    steps = cache["B"] * cache["HK"] * cache["M"] / tile.columns
    each = KERNEL.overhead + KERNEL.counted(*sizes) * tile.columns / 32
    assert each == pytest.approx(found["instructions"] / steps, rel=0.02)
    share = found["alu_instructions"] / found["instructions"]
    assert KERNEL.in_alu(*sizes) == pytest.approx(share, abs=0.01)


#: Cycles that an instruction keeps a scheduler's integer lanes, if it goes there.
LANES = lane_cycles(load_gpu("h100-sxm"), "alu", 1)
STAGES = st.builds(
    lambda share, issue, **more: Stage("keys", issue=issue, alu=share * LANES * issue, **more),
    st.floats(0, 1),
    st.floats(1, 2000),
    memory=st.floats(1, 9000),
    wait=st.floats(0, 2000),
)


@given(STAGES, st.floats(1, 6), st.floats(0, 900))
def test_no_station_gives_more_than_its_time(step, warps, late) -> None:
    cycles = pooled(step, warps, 4, late)
    assert cycles >= 0.999 * warps * max(step.issue, step.alu, step.memory)
    assert cycles >= 0.999 * (step.issue + step.wait + step.memory / 4 + late)
    asked = replace(step, beside=True)
    assert pooled(asked, warps, 4, late) <= 1.001 * cycles
    assert pooled(replace(step, alu=step.alu + 500), warps, 4, late) >= 0.999 * cycles


@pytest.mark.parametrize("gpu", ["h100-sxm", "h200-sxm"])
def test_long_caches_come_at_memorys_rate(gpu) -> None:
    """Of 16 bits, whatever the head dimension: lines are asked for whole."""
    found = [
        m.case.predicted(load_gpu(gpu)).latency_s / m.seconds - 1
        for m in gpu_records.measured(gpu)
        if m.group == "decode-grid" and dict(m.case.options)["bits"] == 16 and m.seconds > 5e-5
    ]
    assert len(found) > 6
    assert max(map(abs, found)) < 0.05


def test_what_fits_l2_comes_from_there() -> None:
    """A cache that the launch before has read is nearer, and no shorter cache takes longer."""
    gpu = load_gpu("h100-sxm")
    tile = KERNEL.tile({"bits": 16, "E": 128})
    sizes = [Decode(8, 8, 8, keys, 128, 16) for keys in (1152, 1216, 1344, 1408)]
    cycles = [decode(gpu, KERNEL, tile, one)[0].cycles for one in sizes]
    assert sizes[1].cache_bytes < gpu.l2_reach_bytes < sizes[2].cache_bytes
    assert cycles[2] > 1.3 * cycles[1]
    assert cycles == sorted(cycles)


def test_waves_end_together_at_first_and_apart_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """One to three full waves; a few keys behind whole rounds cost a round's work."""
    gpu, took = load_gpu("h100-sxm"), dict[tuple[int, int], tuple[float, float]]()
    for row, case in gpu_records.rows("h100-sxm", "decode-waves"):
        assert case is not None
        walk = Walk(row["cache"]["B"], 1, row["splits"], row["length"])
        monkeypatch.setattr(gpu_decode, "_walk", lambda *_, walk=walk: walk)
        options, tile = dict(case.options), dict(case.tile)
        found = predict(gpu, KERNEL, dict(case.sizes), options, tile).latency_s
        assert found == pytest.approx(row["median_s"], rel=0.08 if row["waves"] == 1 else 0.05)
        took[row["waves"], row["length"]] = row["median_s"], found
    assert len(took) == 21
    for which in (0, 1):  # measured, predicted
        second, third = (took[n, 2560][which] - took[n - 1, 2560][which] for n in (2, 3))
        assert 0.5e-6 < second - third < 3e-6
        for waves in (2, 3):
            more = took[waves, 1296][which] - took[waves, 1280][which]
            assert 1.5e-6 * (waves - 1) < more < 5e-6
