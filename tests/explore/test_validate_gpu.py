"""The replay of recorded runs: errors no larger than they were, and what stands beside them."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from statistics import fmean
from typing import Any

import pytest

from accelsim.errors import InputError
from accelsim.explore import gpu_records
from accelsim.explore.validate_gpu import (
    BANDS,
    GpuValidation,
    fitted,
    roofline,
    unseen,
    validate_gpu,
)
from accelsim.load.gpu import load_gpu

#: Measured kernels that no descriptor describes yet.
UNDESCRIBED = ("linear-full", "neighbourhood")


@cache
def replayed() -> GpuValidation:
    return validate_gpu("h100-sxm")


@cache
def told() -> dict[str, Any]:
    return replayed().to_dict()


def half(row: Any) -> int:
    """Which of two halves a row falls into, by what it is and not by what was measured."""
    return hashlib.sha256(row.what.encode()).digest()[0] % 2


@pytest.mark.parametrize("part", [0, 1])
def test_fused_attention_of_ours(part: int) -> None:
    """The model was built looking at both halves alike: neither may be worse than it was."""
    rows = [
        r
        for r in replayed().rows
        if r.group == "attention-grid" and r.measured_s >= 20e-6 and half(r) == part
    ]
    sizes = [abs(r.error) for r in rows]
    assert len(sizes) >= 60
    assert fmean(sizes) <= 0.06
    assert sum(size <= 0.12 for size in sizes) >= 0.88 * len(sizes)


def test_ours_beats_the_baselines_in_every_band_above_20_us() -> None:
    for kind, bands in told()["errors"].items():
        for band, models in bands.items():
            if band != "under 20 us":
                for name in ("data sheet", "three numbers"):
                    assert models["ours"]["mean"] < models[name]["mean"], (kind, band)


def test_library_kernels_that_were_only_described() -> None:
    found = told()["by_kernel"]
    for name in ("flash-attention-2", "cudnn-attention", "cublas-gemm"):
        assert found[name]["ours"]["mean"] <= 0.12, name


def test_bytes_energy_clock_and_speedups() -> None:
    found = told()["quantities"]
    assert found["dram_bytes"]["mean"] <= 0.05
    assert found["l2_bytes"]["mean"] <= 0.10
    assert found["energy_j"]["mean"] <= 0.08
    assert found["sm_hz"]["mean"] <= 0.05
    for name, errors in found.items():
        if " over " in name:
            assert errors["mean"] <= 0.20, name
    for pair in told()["pairs"]:
        if " over " in pair["quantity"] and not 0.9 < pair["measured"] < 1.1:
            assert (pair["measured"] > 1) == (pair["predicted"] > 1), pair


def test_the_object_that_json_prints() -> None:
    found = told()
    assert set(found) >= {"gpu", "holds", "asked", "errors", "by_kernel", "quantities", "rows"}
    json.dumps(found, allow_nan=False)
    rows = found["rows"]
    assert len(rows) > 400
    for kind in ("ours", "library"):
        bands = found["errors"][kind]
        counted = sum(bands[b]["ours"]["rows"] for b in BANDS if b in bands)
        assert counted == sum(
            (r["kernel"] in replayed_library()) == (kind == "library") for r in rows
        )


def replayed_library() -> tuple[str, ...]:
    from accelsim.explore.validate_gpu import LIBRARY

    return LIBRARY


def test_every_measured_kernel_is_described_or_told_to_be_something_else() -> None:
    for name in gpu_records.TIMED:
        for row, case in gpu_records.rows("h100-sxm", name):
            assert case is not None or row.get("name") in UNDESCRIBED, row.get("name")


def test_three_numbers_are_fitted_well() -> None:
    """A copy's roofline is bandwidth and a fixed cost: three numbers describe it."""
    gpu = load_gpu("h100-sxm")
    rows = [m for m in gpu_records.measured("h100-sxm") if m.case.kernel == "torch-copy"]
    numbers = fitted(gpu, rows)
    errors = [abs(roofline(gpu, m.case, *numbers) / m.seconds - 1) for m in rows]
    assert fmean(errors) < 0.06


def test_no_records_of_a_gpu() -> None:
    with pytest.raises(InputError, match="no recorded runs of 'rtx4090'"):
        validate_gpu("rtx4090")
    with pytest.raises(InputError, match="teaching is no GPU"):
        validate_gpu("teaching")


@pytest.mark.parametrize("gpu", ["h100-sxm", "h200-sxm"])
def test_unseen_rows_are_none_of_those_built_with(gpu: str) -> None:
    found = unseen(gpu)
    assert len(found.rows) > 200
    assert all(row.group.startswith(("judged-", "final-")) for row in found.rows)
    built = {gpu_records.key(m.case) for m in gpu_records.measured(gpu)}
    folder = gpu_records.folder(gpu) / "unseen"
    drawn = [m for m in gpu_records.measured(folder) if "attention-grid" in m.group]
    again = [m for m in drawn if gpu_records.key(m.case) in built]
    assert len(drawn) > 100
    assert len(again) < len(drawn) / 20
    assert any(name == "h100-sxm measured" for r in found.rows for name, _ in r.baselines) == (
        gpu == "h200-sxm"
    )


def test_no_unseen_runs_is_one_sentence() -> None:
    with pytest.raises(InputError, match="no recorded runs of 'teaching'"):
        unseen("teaching")
