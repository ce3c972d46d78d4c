"""A GPU file from measured rows, and one clear sentence where it cannot be made."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from statistics import fmean

import pytest
import yaml

import accelsim
from accelsim.errors import InputError
from accelsim.explore.calibrate import calibrate
from accelsim.gpu import ceilings, counters, device, waits
from accelsim.gpu.device import GpuError
from accelsim.gpu.record import read, write
from accelsim.load.gpu import load_gpu

RUNS = Path(accelsim.__file__).resolve().parent.parent / "validation" / "runs"
SECOND = RUNS / "h100-sxm" / "calibration"
FOLDERS = [RUNS / "h100-sxm", SECOND, RUNS / "h200-sxm"]


def rows(folder: Path, name: str, what: str) -> list[dict]:
    return [row for row in read(folder / f"{name}.json").rows if row["what"] == what]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_what_was_measured_is_what_is_written(tmp_path, folder: Path) -> None:
    """Numbers of the file beside the rows, worked out here by themselves."""
    found = calibrate(tmp_path / "mine.yaml", source=folder, name="mine").gpu
    assert found.name == "mine"
    assert found.basis == "measured"
    device = read(folder / "ceilings.json").device
    assert found.multiprocessors == device["multiprocessors"] == 132
    assert found.clock_hz == 1.98e9
    for what, ours in (("read", found.memory.read), ("write", found.memory.write)):
        best = max(r["per_s"] for r in rows(folder, "ceilings", f"hbm.{what}")
                   if r["buffer_bytes"] == 4 << 30)  # fmt: skip
        assert ours == pytest.approx(best, rel=1e-3)
    assert found.tensor_rate("mma", "bf16") == 2730
    assert found.tensor_rate("wgmma", "bf16") == 4096
    assert found.rate("ex2") == 16
    assert found.waits.barrier == pytest.approx(13.25, abs=0.01)
    assert found.waits.barrier_warp == pytest.approx(2, abs=0.01)
    awake = rows(folder, "energy", ceilings.AWAKE)[0]["power_w"]
    assert found.power.awake_w == pytest.approx(awake, rel=1e-3)
    (row,) = rows(folder, "energy", "hbm.read")
    each = (row["power_w"] - awake) / row["per_s"]
    clock = row["sustained"]["sm_hz"]
    assert found.joules("read", clock) == pytest.approx(each, rel=2e-2)
    assert all(source.strip() for _, source in found.sources)


def test_waits_and_the_cap_where_they_were_measured(tmp_path) -> None:
    old = calibrate(tmp_path / "old.yaml", source=RUNS / "h100-sxm").gpu
    new = calibrate(tmp_path / "new.yaml", source=SECOND).gpu
    assert (old.waits.mma, old.power.peak_w) == (0, 700)
    assert 20 < new.waits.mma < 40
    assert 15 < new.waits.ex2 < 40
    assert 700 < new.power.peak_w < 1000
    assert 0.02 < new.power.response_s < 0.1


def test_the_shipped_file_says_what_calibrate_says(tmp_path) -> None:
    """h100-sxm.yaml is written by hand from the same rows."""
    ours = calibrate(tmp_path / "mine.yaml", source=SECOND).gpu
    shipped = load_gpu("h100-sxm")
    assert dict(ours.tensor) == dict(shipped.tensor)
    for name, rate in ours.operations:
        assert shipped.rate(name) == pytest.approx(rate, rel=0.01)
    assert shipped.memory.read == pytest.approx(ours.memory.read, rel=0.01)
    assert shipped.memory.write == pytest.approx(ours.memory.write, rel=0.01)
    assert shipped.l2_bandwidth == pytest.approx(ours.l2_bandwidth, rel=0.01)
    for name, joules in ours.energy:
        assert shipped.joules(name, joules.clock_hz) == pytest.approx(joules.energy_j, rel=0.02)


def test_memory_and_the_start_of_blocks_are_their_record(tmp_path) -> None:
    """What the shipped files cite, and what calibrate makes of such rows among the others."""
    for name in ("h100-sxm", "h200-sxm"):
        records = [read(path) for path in sorted((RUNS / name).glob("memory*.json"))]
        found = load_gpu(name)
        best = {  # the mean of the boards
            what: fmean(
                max(r["per_s"] for r in record.rows if r["what"] == what and keep(r))
                for record in records
            )
            for what, keep in (
                ("hbm.copy", lambda r: r["buffer_bytes"] == 4 << 30),
                ("hbm.panels", lambda r: r["pitch_bytes"] == ceilings.PITCH),
                ("launch.blocks", lambda r: True),
            )
        }
        assert found.memory.copy == pytest.approx(best["hbm.copy"], rel=1e-3)
        assert found.memory.panels == pytest.approx(best["hbm.panels"], rel=1e-3)
        assert found.launch.blocks_hz == pytest.approx(best["launch.blocks"], rel=1e-3)
    own = [
        r for name in ("memory", "acting") for r in read(RUNS / "h100-sxm" / f"{name}.json").rows
    ]
    for name in ("ceilings", "energy"):
        more = own if name == "ceilings" else ()
        kept = read(SECOND / f"{name}.json")
        write(tmp_path / f"{name}.json", {**kept.about, "rows": [*kept.rows, *more]})
    mine = calibrate(tmp_path / "mine.yaml", source=tmp_path).gpu
    shipped = load_gpu("h100-sxm")
    assert mine.memory.panels == pytest.approx(shipped.memory.panels, rel=1e-3)
    assert mine.launch.blocks_hz == pytest.approx(shipped.launch.blocks_hz, rel=1e-3)
    assert mine.power.acts_s == pytest.approx(shipped.power.acts_s, rel=1e-3)


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm"])
@pytest.mark.parametrize(
    "op", ["mma.sync.m16n8k16.{}", "wgmma.m64n128k16.{}.shared"], ids=["mma", "wgmma"]
)
def test_energy_of_a_type_is_that_of_the_other_times_what_both_take_in_turn(name, op) -> None:
    record, gpu = read(RUNS / "h100-sxm" / "half-energy.json"), load_gpu(name)
    each = {}
    for kind in ("bf16", "f16"):
        rows = [r for r in record.rows if r["what"] == op.format(kind)]
        assert len(rows) == 5
        drawn = fmean(r["joules_each"] * (1 - gpu.power.awake_w / r["power_w"]) for r in rows)
        each[kind] = drawn / fmean(r["sustained"]["sm_hz"] for r in rows) ** 2
    path = op.split(".")[0]
    shipped = [gpu.joules(f"{path}.{kind}", 1.6e9) for kind in ("f16", "bf16")]
    assert shipped[0] / shipped[1] == pytest.approx(each["f16"] / each["bf16"], rel=0.003)


def test_the_cap_acts_from_when_it_was_seen_to() -> None:
    rows = read(RUNS / "h100-sxm" / "acting.json").rows
    for name in ("h100-sxm", "h200-sxm"):
        power = load_gpu(name).power
        assert power.acts_s == pytest.approx(waits.acts_s(rows), rel=1e-3)
        assert power.acts_s < power.response_s
    assert waits.acts_s([]) is None


def test_the_command_writes_the_file(tmp_path) -> None:
    out = tmp_path / "my_gpu.yaml"
    words = [sys.executable, "-m", "accelsim", "calibrate", "--out", str(out), "--json"]
    ran = subprocess.run([*words, "--from", str(SECOND)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["device"] == "NVIDIA H100 80GB HBM3"
    text = yaml.safe_load(out.read_text())
    assert text["tensor"]["wgmma"]["bf16"]["value"] == 4096
    assert "driver 580" in text["sources"]["ceilings"]


def test_without_cupy_the_command_says_so_and_writes_nothing(tmp_path, monkeypatch) -> None:
    (tmp_path / "cupy.py").write_text("raise ModuleNotFoundError('no cupy', name='cupy')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "my_gpu.yaml"
    words = [sys.executable, "-m", "accelsim", "calibrate", "--out", str(out)]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[0] == (
        "gpu: running on a GPU needs CuPy, which is not installed"
    )
    assert not out.exists()


def without(folder: Path, to: Path, **dropped: str) -> Path:
    """A copy of a run's records without the rows whose names begin so."""
    for name in ("ceilings", "energy"):
        record = read(folder / f"{name}.json")
        start = dropped.get(name, "?")
        kept = [row for row in record.rows if not row["what"].startswith(start)]
        write(to / f"{name}.json", {**record.about, "rows": kept})
    return to


def test_records_that_lack_what_a_file_needs(tmp_path) -> None:
    out = tmp_path / "x.yaml"
    with pytest.raises(GpuError, match=r"^gpu: the record of ceilings has no row of hbm.copy\n"):
        calibrate(out, source=without(SECOND, tmp_path, ceilings="hbm.copy"))
    with pytest.raises(GpuError) as found:
        calibrate(out, source=without(SECOND, tmp_path, energy="bar"))
    assert str(found.value) == (
        "gpu: the board of NVIDIA H100 80GB HBM3 counts no energy, which a GPU file needs\n"
        "  allowed: a board with an energy counter (NVML)"
    )
    assert not out.exists()


def test_records_of_two_gpus() -> None:
    mixed = [read(SECOND / "ceilings.json"), read(RUNS / "h200-sxm" / "energy.json")]
    with pytest.raises(GpuError) as found:
        ceilings.listed(mixed)
    assert str(found.value) == (
        "gpu: the ceilings are of NVIDIA H100 80GB HBM3, the energies of NVIDIA H200\n"
        "  allowed: one GPU"
    )
    with pytest.raises(GpuError, match=r"^gpu: the recorded run has no energies of operations\n"):
        ceilings.listed(mixed[:1])


def test_a_gpu_that_nothing_is_known_of() -> None:
    with pytest.raises(GpuError, match=r"^gpu: nothing is known of compute capability 7.0\n"):
        ceilings.limits({"capability": "7.0"})


def test_such_a_gpu_is_refused_before_anything_is_measured(monkeypatch, tmp_path) -> None:
    old = types.SimpleNamespace(name="V100", as_dict=lambda: {"capability": "7.0"})
    monkeypatch.setattr(device, "device", lambda: old)
    with pytest.raises(GpuError, match=r"^gpu: nothing is known of compute capability 7.0\n"):
        calibrate(tmp_path / "x.yaml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "source", "message"),
    [
        ("x.txt", "", "x.txt: a GPU file is YAML\n  allowed: a name ending in .yaml"),
        ("no/x.yaml", "", "no: is no folder"),
        ("x.yaml", "nowhere", "nowhere: is no folder of a recorded run"),
        ("x.yaml", ".", "ceilings.json: cannot be read: No such file or directory"),
    ],
)
def test_names_that_are_refused(tmp_path, monkeypatch, out: str, source: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as found:
        calibrate(out, source=source or None)
    assert str(found.value) == message


def test_memory_that_is_full(monkeypatch) -> None:
    class OutOfMemoryError(MemoryError):
        pass

    memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    runtime = types.SimpleNamespace(memGetInfo=lambda: (3 << 29, 80 << 30))
    fake = types.SimpleNamespace(cuda=types.SimpleNamespace(memory=memory, runtime=runtime))
    monkeypatch.setattr(device, "cupy", lambda: fake)
    monkeypatch.setattr(device, "device", lambda: types.SimpleNamespace(name="H100"))
    with pytest.raises(GpuError) as found, device.within_memory("calibrating"):
        raise OutOfMemoryError
    assert str(found.value) == (
        "gpu: calibrating needs more than the 1.5 GiB of memory that are free on H100\n"
        "  allowed: a GPU that nothing else uses"
    )


def test_no_profiler(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GpuError) as found:
        counters.profiler()
    assert str(found.value) == (
        "gpu: bytes are counted by Nsight Compute, and there is no ncu here\n"
        "  allowed: ncu on the PATH (it comes with the CUDA toolkit)"
    )


def test_a_profiler_that_counts(monkeypatch, tmp_path) -> None:
    fake = tmp_path / "ncu"
    line = '"7","1","p","h","split","1","7","(1,)","(2,)","0","9.0","S","smsp__inst_executed.sum"'
    fake.write_text(f"#!/bin/sh\necho '==PROF== Connected'\necho '{line},\"i\",\"2,048\"'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (found,) = counters.counted(["program"], ["split"])
    assert found == {"kernel": "split", "grid": "(2,)", "instructions": 2048}
    fake.write_text("#!/bin/sh\necho '==ERROR== no permission to read counters'\nexit 1\n")
    with pytest.raises(GpuError) as error:
        counters.counted(["program"], ["split"])
    assert str(error.value) == "gpu: Nsight Compute failed: no permission to read counters"


def test_response_of_the_cap() -> None:
    assert waits.response_s([1.0] * 20) is None
    assert waits.response_s([1.0, 1.0, 1.0, 1.1, 1.1, 1.1]) == 3.0
    assert waits.response_s([1.0, 1.0, 1.0, 1.2, 1.0, 1.0, 1.0]) is None
