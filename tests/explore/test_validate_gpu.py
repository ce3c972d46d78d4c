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
from accelsim.explore.gpu_rows import BANDS, LIBRARY, Pair, Row, banded, spread
from accelsim.explore.gpu_verdicts import nearer, ordered, verdicts
from accelsim.explore.validate_gpu import (
    GpuValidation,
    fitted,
    roofline,
    unseen,
    validate_gpu,
)
from accelsim.load import catalog
from accelsim.load.gpu import load_gpu


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
        assert counted == sum((r["kernel"] in LIBRARY) == (kind == "library") for r in rows)


def test_every_measured_kernel_is_described_or_told_to_be_something_else() -> None:
    for name in gpu_records.TIMED:
        for row, case in gpu_records.rows("h100-sxm", name):
            assert case is not None, row.get("name")


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
    found = hidden(gpu)
    assert len(found.rows) > 200
    assert all(row.group.startswith(("judged-", "fresh-", "later-")) for row in found.rows)
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


@cache
def hidden(gpu: str) -> GpuValidation:
    return unseen(gpu)


def family(found: GpuValidation, name: str) -> list[Row]:
    return [r for r in found.rows if r.family == name and r.measured_s >= 20e-6]


@pytest.mark.parametrize(
    ("name", "mean", "most"),
    [("neighbourhood", 0.05, 0.07), ("estimation", 0.07, 0.10), ("linear-full", 0.10, 0.14)],
)
def test_families_described_from_their_sources(name: str, mean: float, most: float) -> None:
    """Nothing of these kernels was fitted: their errors are what the ceilings and sources give."""
    found = spread([abs(r.error) for r in family(replayed(), name)])
    assert found["rows"] >= 6
    assert found["mean"] <= mean
    assert found["max"] <= most


def test_a_strided_window_is_predicted_to_be_faster_than_one_that_slides() -> None:
    rows = {r.what: r for r in family(replayed(), "neighbourhood")}
    slides = next(r for what, r in rows.items() if "X=16384 WX=1024 SX=1" in what)
    strided = next(r for what, r in rows.items() if "X=16384 WX=1024 SX=256" in what)
    measured = slides.measured_s / strided.measured_s
    assert slides.predicted_s / strided.predicted_s == pytest.approx(measured, rel=0.1)


def test_unseen_counters_are_read() -> None:
    found = hidden("h100-sxm").to_dict()["quantities"]
    assert found["dram_bytes"]["rows"] == found["l2_bytes"]["rows"] >= 25
    assert found["dram_bytes"]["mean"] <= 0.03
    assert found["l2_bytes"]["mean"] <= 0.10


def test_stages_of_systems_stand_beside_the_kernels_that_run_them() -> None:
    stages = told()["by_system"]
    names = {stage["system"] for stage in stages}
    assert names <= set(catalog.names("system"))
    wanted = {"sale", "hip", "s2-attention", "fna", "gna", "lightning-attention-2", "zipcache"}
    assert wanted | {"duo-attention", "flash-attention"} <= names
    duo = {s["stage"] for s in stages if s["system"] == "duo-attention"}
    assert len(duo) == 3
    counted = {(s["system"], s["kernel"]): s for s in stages}
    sale = counted["sale", "score-estimation"]
    four = [
        r for r in replayed().rows if r.family == "estimation" and ("bits", 4) in r.case.options
    ]
    assert sale["errors"]["ours"]["rows"] + sale["short"] == len(four) >= 5
    windows = [s for s in stages if s["system"] in ("fna", "gna")]
    rows = sum(s["short"] + s["errors"]["ours"]["rows"] for s in windows)
    assert rows == sum(r.family == "neighbourhood" for r in replayed().rows)


def row(error: float, seconds: float = 1e-4, kernel: str = "softmax") -> Row:
    """A row of so much error, beside a baseline that says twice the time."""
    case = gpu_records.Case(kernel, (("M", 1), ("N", 1)), (), (), 1.0, 1.0)
    return Row("g", case, seconds, seconds * (1 + error), (("baseline", 2 * seconds),))


def verdict(line: str, rows: list[Row], pairs: list[Pair], transferred: bool = False) -> Any:
    [found] = [v for v in verdicts(rows, pairs, transferred) if v.line == line]
    return found


def test_verdicts_on_time() -> None:
    line = "time of our kernels"
    assert verdict(line, [row(0.04), row(-0.058)], []).held
    assert not verdict(line, [row(0.05), row(-0.06)], []).held
    assert verdict(line, [row(0.05), row(9.0, 1e-5)], []).rows == 1, "shorter ones do not count"
    assert not verdict("our rows within 12%", [row(0.0)] * 149, []).held, "150 are asked"
    assert verdict("our rows within 12%", [row(0.0)] * 143 + [row(0.2)] * 7, []).held
    assert not verdict("our rows within 12%", [row(0.0)] * 142 + [row(0.2)] * 8, []).held
    assert verdict("time of library kernels", [row(0.079, kernel="torch-copy")], []).held
    all_of_them = "time of all kernels, only memory figures exchanged"
    assert verdict(all_of_them, [row(0.065), row(0.065, kernel="torch-copy")], [], True).held
    assert not [v for v in verdicts([row(0.0)], []) if v.line == all_of_them]


def test_verdicts_on_quantities_and_speedups() -> None:
    assert verdict("DRAM bytes", [], [Pair("", "dram_bytes", 1.0, 1.0299)]).held
    assert not verdict("DRAM bytes", [], [Pair("", "dram_bytes", 1.0, 1.031)]).held
    line, name = "speedup of causal over full", "causal over full"
    assert verdict(line, [], [Pair("", name, 2.0, 1.81)]).held
    assert not verdict(line, [], [Pair("", name, 2.0, 1.79)]).held
    assert not verdict(line, [], [Pair("", name, 1.05, 0.99)]).held, "near, but the wrong order"
    assert ordered(Pair("", name, 1.01, 0.99)), "a tie has no order"


def test_verdicts_on_baselines_look_at_every_band_and_kind() -> None:
    line = "better than baseline in every band"
    apart = "better than baseline, ours and libraries apart"
    for one in (line, apart):
        assert verdict(one, [row(0.5), row(0.9, 3e-5), row(-0.4, 1.0)], []).held
        assert not verdict(one, [row(0.5), row(1.0, 3e-5)], []).held
        assert verdict(one, [row(0.5), row(2.0, 1e-5)], []).held, "shorter ones do not count"
    worse = [row(0.5), row(1.0, 3e-5)]
    assert "20 to 50 us: 100.0% against 100.0%" in verdict(line, worse, []).got
    assert "20 to 50 us (ours): 100.0% against 100.0%" in verdict(apart, worse, []).got
    mixed = [row(0.1), row(0.1), row(1.5, kernel="torch-copy")]
    assert verdict(line, mixed, []).held
    assert not verdict(apart, mixed, []).held, "a library's rows are looked at by themselves"


def test_where_a_baseline_is_nearer_is_said() -> None:
    [found] = nearer([row(1.1), row(1.3), row(0.1, 1.0), row(5.0, 1e-6)])
    assert (found["family"], found["band"], found["baseline"]) == (
        "rows",
        "50 to 500 us",
        "baseline",
    )
    assert (found["rows"], found["theirs"], found["ours"]) == (2, 1.0, pytest.approx(1.2))


def test_every_line_of_acceptance_has_a_verdict() -> None:
    lines = {v["line"]: v for v in hidden("h100-sxm").to_dict()["acceptance"]}
    for name in ("our kernels", "library kernels"):
        assert f"time of {name}" in lines
    for name in ("DRAM bytes", "L2 bytes", "energy, back to back", "clock, back to back"):
        assert name in lines
    speedups = [name for name in lines if name.startswith("speedup of")]
    assert len(speedups) == 6
    for name in ("data sheet", "three numbers"):
        assert lines[f"better than {name} in every band"]["held"]
        assert lines[f"better than {name}, ours and libraries apart"]["held"]
    assert told()["holds"] == all(v["held"] for v in told()["acceptance"])
    there = {v["line"]: v for v in hidden("h200-sxm").to_dict()["acceptance"]}
    assert "time of all kernels, only memory figures exchanged" in there
    nearest = there["better than h100-sxm measured in every band"]
    bands = banded(hidden("h200-sxm").rows, lambda _: "")[""]
    means = {b: (m["ours"]["mean"], m["h100-sxm measured"]["mean"]) for b, m in bands.items()}
    for band in ("20 to 50 us", "50 to 500 us"):
        assert means[band][0] < means[band][1]
    assert nearest["held"] == all(means[n][0] < means[n][1] for n in [*BANDS][1:] if n in means)
    assert "better than h100-sxm measured, ours and libraries apart" in there


def test_bands_leave_no_row_out() -> None:
    found = banded(replayed().rows, lambda r: r.family)
    for name, bands in found.items():
        counted = sum(models["ours"]["rows"] for band, models in bands.items() if band in BANDS)
        assert counted == sum(r.family == name for r in replayed().rows)
