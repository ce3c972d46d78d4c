"""Sweeps: rows equal single estimates, whatever prices them and however often it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.explore.estimate import estimate
from accelsim.explore.map import map_
from accelsim.explore.pareto import front, undominated, what_if
from accelsim.explore.rows import write_rows
from accelsim.explore.sweep import export_rows, rows_of, sweep

SPEC = """
sweep: small
axes:
- set.parameters.edge: [64, 256]
- {set.levels.buffer.capacity: {from: 1 MiB, to: 4 MiB, times: 2}}
- set.levels.dram.bandwidth: [100 GB/s, 400 GB/s, 1600 GB/s]
- model: [BERT, XLM]
- {design: [fusemax, flat], seq: [4K, 16K]}
front: {objectives: [latency_s, energy_j], by: [model]}
"""
#: Some thousand points of one design: long enough to be killed on the way.
LONG = SPEC.replace("times: 2", "step: 0.05").replace(
    "fusemax, flat], seq: [4K, 16K]", "fusemax], seq: [4K]"
)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SPEC)
    return path


def test_rows_equal_single_estimates(spec: Path, tmp_path: Path) -> None:
    found = sweep(spec, tmp_path / "out", workers=1)
    assert (found.points, found.resumed) == (72, 0)
    rows = rows_of(tmp_path / "out")
    for n in range(0, 72, 5):
        row = {name: column[n] for name, column in rows.items()}
        sets = [f"{name[4:]}={row[name]}" for name in rows if name.startswith("set.")]
        if row["fault"] is not None:
            with pytest.raises(InputError) as caught:
                estimate(design=row["design"], model=row["model"], seq=row["seq"], sets=sets)
            assert row["fault"] == caught.value.faults[0].message
            continue
        one = estimate(design=row["design"], model=row["model"], seq=row["seq"], sets=sets)
        assert row["latency_s"] == one.latency_s
        assert row["energy_j"] == one.energy_j
        assert row["edp_js"] == one.latency_s * one.energy_j
        assert row["area_mm2"] == sum(one.area_by_m2.values()) * 1e6
        assert row["dram_bytes"] == row["traffic_bytes.dram"] == one.traffic_bytes["dram"]
        assert row["peak_bytes.buffer"] == one.peak_bytes["buffer"]
        assert row["utilisation.array_1d"] == one.utilisation["array_1d"]
        assert row["bound_by"] == one.bound_by


def run(spec: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "accelsim", "sweep", str(spec), "--out", str(out)]
    return subprocess.Popen([*command, "--workers", "2"], start_new_session=True)


def test_a_killed_sweep_goes_on_and_has_the_same_rows(tmp_path: Path) -> None:
    spec = tmp_path / "long.yaml"
    spec.write_text(LONG)
    for wanted in (2, 5):
        process = run(spec, tmp_path / "out")
        while len(list((tmp_path / "out").glob("part-*"))) < wanted:
            assert process.poll() is None, "the sweep ended before it could be killed"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (tmp_path / "out" / ".part-00009.parquet.partial").write_bytes(b"half")
    found = sweep(spec, tmp_path / "out", workers=2)
    assert 0 < found.resumed < found.points
    sweep(spec, tmp_path / "whole", workers=1)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")
    assert not list((tmp_path / "out").glob(".*"))
    again = sweep(spec, tmp_path / "out")
    assert again.resumed == again.points


def test_a_cluster_gives_the_same_rows_though_a_worker_is_killed(tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    spec = tmp_path / "long.yaml"
    spec.write_text(LONG)
    killed: list[int] = []
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, protocol="tcp"
        ) as cluster,
        Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())

        def progress(done: int, total: int) -> None:
            if not killed and 0 < done < total:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        sweep(spec, tmp_path / "out", scheduler=cluster.scheduler_address, progress=progress)
    assert killed
    sweep(spec, tmp_path / "alone", workers=1)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "alone")


def test_a_folder_of_another_sweep_is_refused(spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep(spec, out, workers=1)
    spec.write_text(SPEC.replace("XLM", "TrXL"))
    with pytest.raises(InputError, match="holds another sweep"):
        sweep(spec, out)
    assert sweep(spec, out, workers=1, restart=True).resumed == 0
    manifest = json.loads((out / "sweep.json").read_text())
    manifest["digest"]["fusemax.yaml"] = "0"
    (out / "sweep.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="this sweep with documents that have changed since"):
        sweep(spec, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="mine is not empty and holds no sweep"):
        sweep(spec, tmp_path / "mine", restart=True)
    with pytest.raises(InputError, match="is no folder"):
        sweep(spec, tmp_path / "mine" / "thesis.tex")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("BERT", "BIRD", "no model is called 'BIRD'"),
        ("fusemax, flat", "fusemux, flat", "unknown design 'fusemux'"),
        ("parameters.edge", "parameters.adge", "--set parameters.adge names nothing in the file"),
        ("design: [fusemax, flat], seq", "arch: [a, b], seq", "a point needs cascade and mapping"),
    ],
)
def test_names_that_there_are_not_stop_a_sweep_before_it_writes(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text(SPEC.replace(old, new))
    with pytest.raises(InputError, match=message):
        sweep(spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_mapping_of_each_point_can_be_searched(tmp_path: Path) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text(
        "sweep: s\nsearch: latency\naxes:\n- set.levels.buffer.capacity: [512 B, 4 KiB]\n"
        "- {cascade: matmul, arch: teaching, shape.M: 16, shape.N: 16, shape.K: 16}\n"
    )
    sweep(spec, tmp_path / "out", workers=1)
    rows = rows_of(tmp_path / "out")
    for n, capacity in enumerate(rows["set.levels.buffer.capacity"]):
        sets = [f"levels.buffer.capacity={capacity}"]
        found = map_("matmul", arch="teaching", shape="M=16,N=16,K=16", sets=sets)
        assert rows["latency_s"][n] == found.estimate.latency_s
        assert rows["energy_j"][n] == found.estimate.energy_j


def test_no_scheduler_is_one_sentence(spec: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Dask scheduler answers at 'nonsense'"):
        sweep(spec, tmp_path / "out", scheduler="nonsense")


def test_rows_as_one_file(spec: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    sweep(spec, tmp_path / "out", workers=1)
    lines = export_rows(tmp_path / "out", tmp_path / "deep" / "rows.csv").read_text().splitlines()
    assert len(lines) == 73
    assert lines[0].startswith("schema,set.parameters.edge,set.levels.buffer.capacity,")
    table = rows_of(tmp_path / "out")
    whole = pyarrow.parquet.read_table(export_rows(tmp_path / "out", tmp_path / "rows.parquet"))
    assert {name: whole[name].to_pylist() for name in table} == table
    said = json.loads(export_rows(tmp_path / "out", tmp_path / "rows.json").read_text())
    assert said["schema"] == 1
    assert [row["latency_s"] for row in said["rows"]] == table["latency_s"]
    with pytest.raises(InputError, match="no rows in the format of"):
        export_rows(tmp_path / "out", tmp_path / "rows.xlsx")


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    write_rows([{"a": 1}], tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "schema,a\n1,1\n"


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)), min_size=1))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int, int]]) -> None:
    kept = {points[n] for n in undominated(np.array(points, dtype=float))}
    beats = lambda a, b: a != b and all(x <= y for x, y in zip(a, b, strict=True))  # noqa: E731
    assert kept == {p for p in points if not any(beats(q, p) for q in points)}


def test_a_front_for_each_model_and_what_an_axis_does() -> None:
    table = {
        "model": ["a", "a", "b", "b"],
        "edge": [1, 2, 1, 2],
        "latency_s": [4.0, 2.0, 8.0, 2.0],
        "fault": [None, None, None, None],
    }
    assert [(r["model"], r["edge"]) for r in front(table, ["latency_s"], ["model"])] == [
        ("a", 2),
        ("b", 2),
    ]
    effects = what_if(table, [("model",), ("edge",)], ["latency_s"])
    assert effects["edge"][1] == {
        "value": "2", "pairs": 2, "latency_s": pytest.approx((1 / 2 * 1 / 4) ** 0.5),
    }  # fmt: skip
