"""``validate gpu`` on the GPU that is here, with recorded rows in its place."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

import accelsim
from accelsim.cli.app import app
from accelsim.errors import InputError
from accelsim.explore import gpu_records, measure_gpu
from accelsim.explore.measure_gpu import validate_here
from accelsim.gpu import device, fresh, measure
from accelsim.gpu.device import Device, GpuError
from accelsim.gpu.record import read

H100 = Device("NVIDIA H100 80GB HBM3", "9.0", 132, 1.98e9, 2.6e9, 5120, 80 << 30, 50 << 20,
              228 << 10, 227 << 10, 65536, 2048, "0000:00:06.0")  # fmt: skip
RUNS = Path(accelsim.__file__).resolve().parent.parent / "validation" / "runs" / "h100-sxm"


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """An H100 whose measurements are those of the recorded grids of seed 1."""
    grids = {name: read(RUNS / f"{name}.json") for name in ("attention-grid", "decode-grid")}

    def attention(case, seed):
        wanted = case.as_dict()
        return next(
            dict(r) for r in grids["attention-grid"].rows if all(r[k] == wanted[k] for k in wanted)
        )

    def decode(cache, seed):
        wanted = dataclasses.asdict(cache)
        return next(dict(r) for r in grids["decode-grid"].rows if r["cache"] == wanted)

    def document(what, rows, **more):
        return {**grids["attention-grid"].about, "what": what, **more, "rows": rows}

    here = [H100]
    for module in (fresh, device):
        monkeypatch.setattr(module, "device", lambda: here[0])
    monkeypatch.setattr(fresh, "attention_row", attention)
    monkeypatch.setattr(fresh, "decode_row", decode)
    monkeypatch.setattr(fresh, "document", document)
    monkeypatch.setattr(fresh, "within_memory", lambda _: nullcontext())
    monkeypatch.setattr(fresh, "Problem", lambda *_: None)
    monkeypatch.setattr(fresh.attention, "run_of", lambda *_: None)
    monkeypatch.setattr(
        measure, "sustained", lambda *_: measure.Sustained(1.0, 2e-3, 500.0, 1.7e9, 9, 1.0, ())
    )
    monkeypatch.setenv("PATH", str(tmp_path))  # no profiler
    return here


def test_a_grid_measured_here_is_compared(recorded, tmp_path) -> None:
    said: list[str] = []
    found = validate_here(rows=12, seed=1, keep=tmp_path, tell=said.append)
    assert found.gpu == "h100-sxm"
    groups = [row.group for row in found.rows]
    assert groups.count("attention-grid") == 12
    assert groups.count("decode-grid") == 3
    first = read(RUNS / "attention-grid.json").rows[0]
    assert found.rows[0].measured_s == first["hot"]["median_s"]
    assert {p.quantity for p in found.pairs} >= {"energy_j", "sm_hz"}
    assert said[0] == "cases drawn from seed 1"
    assert "bytes are not counted: bytes are counted by Nsight Compute, and there is no" in said[-2]
    assert sorted(p.name for p in tmp_path.glob("*.json")) == [
        "attention-grid.json", "decode-grid.json", "energy-kernels.json",
    ]  # fmt: skip


def test_every_run_draws_other_cases_unless_told(recorded, monkeypatch, tmp_path) -> None:
    drawn = []
    monkeypatch.setattr(fresh, "grid", lambda folder, seed, *_: drawn.append(seed))
    monkeypatch.setattr(measure_gpu, "validate_gpu", lambda *_: None)
    for _ in range(2):
        validate_here(keep=tmp_path)
    assert drawn[0] != drawn[1]


def test_what_cannot_be_measured(recorded) -> None:
    with pytest.raises(InputError, match=r"no library 'jax'\n  allowed: torch$"):
        validate_here(library="jax")
    with pytest.raises(InputError, match=r"a grid of 0 rows\n  allowed: 1 or more$"):
        validate_here(rows=0)
    recorded[0] = dataclasses.replace(H100, name="NVIDIA L40S", capability="8.9")
    with pytest.raises(InputError) as found:
        validate_here()
    assert str(found.value).endswith(
        "there is no GPU file for NVIDIA L40S (l40s)\n"
        "  allowed: accelsim calibrate --out l40s.yaml, then --gpu l40s.yaml"
    )


def test_only_tiles_whose_instructions_are_there(recorded) -> None:
    assert any("wgmma" in c.variant.name for c in fresh.cases(1, 40))
    recorded[0] = dataclasses.replace(H100, capability="8.0")
    cases = fresh.cases(1, 40)
    assert len(cases) == 40
    assert not any("wgmma" in c.variant.name for c in cases)
    recorded[0] = dataclasses.replace(H100, memory_bytes=1 << 30)
    assert max(c.shape.compulsory_bytes for c in fresh.cases(1, 40)) < 1 << 29


def test_a_kernel_that_is_wrong(recorded) -> None:
    check = {"holds": False, "relative_error": 0.5, "unwritten": 3, "tolerance": 6e-3}
    with pytest.raises(GpuError) as found:
        fresh.right({"check": check}, "attention-1pass-mma")
    assert str(found.value) == (
        "gpu: attention-1pass-mma is wrong on NVIDIA H100 80GB HBM3: error 5.0e-01,"
        " 3 numbers left unwritten\n  allowed: an error of 0.006 at most"
    )


def test_without_a_gpu_the_recorded_runs_stand_in(monkeypatch) -> None:
    def missing():
        raise GpuError("no NVIDIA GPU answers here")

    monkeypatch.setattr(device, "device", missing)
    monkeypatch.setattr(gpu_records, "TIMED", ("persistent",))
    ran = CliRunner().invoke(app, ["validate", "gpu", "--brief"])
    assert ran.exit_code in (0, 1)
    assert ran.stderr == ("no NVIDIA GPU answers here: the recorded runs of h100-sxm instead\n")
    assert "Error of time" in ran.stdout
    ran = CliRunner().invoke(app, ["validate", "gpu", "--here"])
    assert ran.exit_code == 2
    assert ran.stderr == "gpu: no NVIDIA GPU answers here\n"
