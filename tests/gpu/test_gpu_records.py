"""Sources of the kernels, grids, and the recorded runs that everything later is judged by."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import accelsim
from accelsim.errors import InputError
from accelsim.gpu import grid, kernel, measure, microbench, record, wgmma_text

RUNS = Path(accelsim.__file__).resolve().parent.parent / "validation" / "runs"
RECORDS = sorted(RUNS.rglob("*.json"))
SOURCES = sorted(kernel.SOURCES.glob("*.cu*"))


def test_sources_need_no_header_of_cuda() -> None:
    """NVRTC gets no include path."""
    assert len(SOURCES) >= 12
    for source in SOURCES:
        assert "#include <" not in source.read_text(encoding="utf-8"), source.name
    for source in kernel.SOURCES.glob("*.cu"):
        for name, _ in kernel.texts(source.name)[1:]:
            assert name.endswith(".cuh")


def test_wgmma_header_is_what_is_written() -> None:
    assert (kernel.SOURCES / "wgmma.cuh").read_text(encoding="utf-8") == wgmma_text.text()


def test_operations_have_their_numbers_in_the_source() -> None:
    text = (kernel.SOURCES / "microbench.cu").read_text(encoding="utf-8")
    numbers = {int(n): name for name, n in re.findall(r"^#define ([A-Z0-9_]+) (\d+)$", text, re.M)}
    words = {
        "shared": "SHARED",
        "registers": "REGISTERS",
        "s8": "S8",
        "e4m3": "E4M3",
        "ex2": "EX2",
        "lop3": "LOGIC",
    }
    of_type = {(op.number, op.name.endswith(".f16.shared")) for op in microbench.OPS}
    assert len(of_type) == len(microbench.OPS) == 23
    for op in microbench.OPS:
        name = numbers[op.number]
        assert name.split("_")[0] in ("MMA", "WGMMA") or op.name.startswith(("ex2", "fma", "max",
            "add", "cvt", "lop3", "shfl", "ldmatrix", "ld.", "st.", "bar"))  # fmt: skip
        for word in op.name.split("."):
            assert words.get(word, "") in name or name == "WGMMA_WIDE" or "wgmma" in op.name


def test_work_of_a_launch() -> None:
    ops = {op.name: op for op in microbench.OPS}
    assert microbench.work(ops["ex2.approx.f32"], 256, 10) == 32 * 8 * 16 * 10 * 8
    assert microbench.work(ops["bar.sync"], 256, 10) == 8 * 10
    wide = ops["wgmma.m64n256k16.bf16.shared"]
    assert microbench.work(wide, 256, 10) == 2 * 64 * 256 * 16 * 32 * 10 * 2


def test_a_seed_gives_the_same_cases() -> None:
    cases = grid.attention_cases(1, 220)
    assert cases[:50] == grid.attention_cases(1, 50)
    assert not set(cases) & set(grid.attention_cases(2, 220))
    for case in cases:
        shape = case.shape
        assert shape.flops <= grid.ROOM.flops
        assert min(shape.P, shape.M) >= 128
        assert max(shape.P, shape.M) <= 65536
        assert 1 <= shape.B <= 64
    odd = sum(case.shape.M % 128 != 0 for case in cases)
    assert 60 < odd < 160
    assert {c.variant.passes for c in cases} == {1, 2, 3}
    assert {c.shape.E for c in cases} == {64, 96, 128}


def test_timing_of_repeats() -> None:
    found = measure.Timing.of([[4e-6, 1e-6, 3e-6, 2e-6]])
    assert found.median_s == pytest.approx(2.5e-6)
    assert (found.least_s, found.most_s, found.repeats) == (1e-6, 4e-6, 4)
    assert found.spread == pytest.approx((3.25 - 1.75) / 2.5)
    assert measure.Timing.of([[1e-6]]).spread == 0


def test_a_record_comes_back(tmp_path) -> None:
    given = {"schema": record.SCHEMA, "what": "x", "made": "now", "device": {"name": "H100"},
             "board": {}, "versions": {}, "method": {}, "seed": 3,
             "rows": [{"a": 1}, {"a": 2.5e-6}]}  # fmt: skip
    path = tmp_path / "x.json"
    record.write(path, given)
    assert json.loads(path.read_text()) == given
    found = record.read(path)
    assert (found.what, found.device["name"], found.about["seed"]) == ("x", "H100", 3)
    assert found.rows == ({"a": 1}, {"a": 2.5e-6})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON: Expecting property name"),
        ("[]", f"is not a record of a GPU run (None)\n  allowed: {record.SCHEMA}"),
        ('{"schema": "other"}', "is not a record of a GPU run ('other')"),
        (f'{{"schema": "{record.SCHEMA}", "what": "x", "rows": []}}',
         "a record without made, device, board, versions, method"),
    ],
)  # fmt: skip
def test_files_that_are_no_records(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError) as found:
        record.read(path)
    assert str(found.value).startswith(f"{path}: {message}")


def test_a_record_that_is_not_there(tmp_path) -> None:
    with pytest.raises(InputError, match=r"nothing\.json: cannot be read: No such file"):
        record.read(tmp_path / "nothing.json")


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_recorded_runs(path: Path) -> None:
    """Every row was right, and every time is one."""
    found = record.read(path)
    assert found.rows
    assert found.about["board"]["power_limit_w"] > 0
    assert found.about["board"]["driver"]
    for row in found.rows:
        if "check" in row:
            check = row["check"]
            assert check["relative_error"] <= check["tolerance"]
            assert not check["unwritten"]
            assert not check["overrun"]
        for kind in ("hot", "cold", "time"):
            if row.get(kind):
                time = row[kind]
                assert 0 < time["least_s"] <= time["median_s"] <= time["most_s"] < 10
        if row.get("sustained"):
            assert 50 < row["sustained"]["power_w"] < 800


def test_recorded_grids_are_the_cases_of_their_seed() -> None:
    found = record.read(RUNS / "h100-sxm" / "attention-grid.json")
    cases = grid.attention_cases(found.about["seed"], len(found.rows))
    assert len(cases) == 220
    for case, row in zip(cases, found.rows, strict=True):
        assert {k: row[k] for k in case.as_dict()} == case.as_dict()
    steps = record.read(RUNS / "h100-sxm" / "decode-grid.json")
    for cache, row in zip(grid.decode_cases(steps.about["seed"], 60), steps.rows, strict=True):
        assert row["cache"] == {k: getattr(cache, k) for k in row["cache"]}


def test_one_pass_reaches_flash_attention_2_and_more() -> None:
    """b1 h16 n16384 d128: at least 350 TFLOP/s on mma.sync, more on wgmma."""
    rates = {
        row["tile"]["path"]: 4 * 16 * 16384**2 * 128 / row["time"]["median_s"]
        for row in sorted(
            record.read(RUNS / "h100-sxm" / "tiles.json").rows,
            key=lambda row: -row["time"]["median_s"],
        )
        if row["dim"] == 128 and not row["causal"]
    }
    assert rates["mma"] > 350e12
    assert rates["wgmma"] > 600e12
