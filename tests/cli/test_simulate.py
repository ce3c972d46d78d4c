"""``simulate`` and ``compare --study`` from outside: keys, tables, traces, status, messages."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest

from accelsim.explore.simulate import Witnessed
from tests.cli.test_app import answer, run

GOLDEN = Path(__file__).parent.parent / "golden" / "simulate.txt"
ONE = ("simulate", "--design", "fusemax", "--model", "BERT", "--seq", "1K")
SMALL = (
    "simulate",
    "--design",
    "flat",
    "--arch",
    "teaching",
    "--shape",
    "B=1,H=2,P=16,M=16,E=4,F=4",
)


def test_keys_of_the_json_object() -> None:
    found = answer(*ONE)
    assert {"cycles", "traffic_bytes", "peak_bytes", "stalls"} <= found.keys()
    assert {"latency_s", "busy_cycles", "idle_cycles", "estimate_cycles", "holds"} <= found.keys()
    assert found["cycles"] == 1_915_306
    assert found["traffic_bytes"]["dram"] == found["estimate_traffic_bytes"]["dram"]


def test_golden_table() -> None:
    out, err = run(*ONE)
    assert not err
    if os.environ.get("ACCELSIM_UPDATE_GOLDEN"):
        GOLDEN.write_text(out, encoding="utf-8")
    assert out == GOLDEN.read_text(encoding="utf-8")


def test_full_and_executed_runs_take_the_same_cycles() -> None:
    found = answer(*SMALL)
    assert found["cycles"] == answer(*SMALL, "--full")["cycles"]
    executed = answer(*SMALL, "--execute")
    assert executed["cycles"] == found["cycles"]
    assert executed["max_rel_error"] < 1e-12
    assert "tensors     largest relative error" in run(*SMALL, "--execute")[0]


def test_the_trace_is_written(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    out, err = run(*SMALL, "--trace", str(file), "--json")
    assert json.loads(out)["cycles"] > 0
    assert err == f"wrote {file}\n"
    assert json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    below = file / "t.json"
    _, err = run(*SMALL, "--trace", str(below), status=2)
    assert err.startswith(f"{below}: cannot be written: Not a directory\n")


def test_disagreement_ends_with_status_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Witnessed, "holds", property(lambda _: False))
    out, _ = run(*SMALL, status=1)
    assert "agrees      NO" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attention-1pass",), "simulate needs arch and mapping"),
        (("--design", "nosuch", "--model", "BERT", "--seq", "1K"), "unknown design 'nosuch'"),
        (("--design", "fusemax", "--model", "BERT"), "seq"),
        (
            ("--design", "fusemax", "--model", "BERT", "--seq", "64K", "--execute"),
            "points are too many to execute one tile after the other",
        ),
        (
            (*ONE[1:], "--set", "buffer.capacity=64KiB"),
            "more than its 64 KiB",
        ),
    ],
)
def test_bad_input_is_told(arguments: tuple[str, ...], message: str) -> None:
    out, err = run("simulate", *arguments, status=2)
    assert not out
    assert message in err


# -- studies ---------------------------------------------------------------------------------------


def test_binding_goes_step_by_step() -> None:
    found = answer("compare", "--study", "binding", "--seq", "1K", "--simulate")
    rows = found["rows"]
    assert [r["design"] for r in rows] == [
        "unfused", "FLAT", "+Cascade", "+Architecture", "+Binding",
    ]  # fmt: skip
    for before, row in itertools.pairwise(rows):
        assert row["gain"] == pytest.approx(before["latency_s"] / row["latency_s"])
        assert row["speedup"] == pytest.approx(rows[0]["latency_s"] / row["latency_s"])
        assert row["simulated_s"] >= row["latency_s"] * (1 - 1e-9)
    out, _ = run("compare", "--study", "binding", "--seq", "1K")
    assert "Step by step" in out
    assert "+Binding" in out


def test_ours_is_a_file_or_a_search(tmp_path: Path) -> None:
    ours = answer("compare", "--study", "binding", "--seq", "1K", "--ours", "map")["rows"][-1]
    assert ours["design"] == "ours"
    assert ours["gain"] >= 1
    file = tmp_path / "m.yaml"
    run("map", "attention-1pass", "--arch", "fusemax-cloud", "--model", "BERT", "--seq", "1K",
        "--out", str(file))  # fmt: skip
    same = answer("compare", "--study", "binding", "--seq", "1K", "--ours", str(file))["rows"][-1]
    assert same["latency_s"] == pytest.approx(ours["latency_s"])


def test_resources_are_doubled_one_at_a_time(tmp_path: Path) -> None:
    picture = tmp_path / "r.png"
    out, err = run(
        "compare", "--study", "resources", "--seq", "64K", "--plot", str(picture), "--json"
    )
    found = json.loads(out)
    assert err == f"drawn: {picture}\n"
    assert picture.stat().st_size > 1000
    gains = {(r["design"], r["change"]): r["speedup"] for r in found["rows"]}
    assert gains["flat", "array_1d rate"] == pytest.approx(2.0, rel=1e-6)  # bound by it alone
    assert gains["fusemax", "dram bandwidth"] == 1.0  # far from the bound
    assert 1.2 < gains["unfused", "dram bandwidth"] < 1.3
    assert min(gains.values()) >= 1 - 1e-9
    assert found["left_out"][0] == "unfused, buffer bandwidth: unfused-cloud gives no limit"
    table, _ = run("compare", "flat", "--study", "resources", "--seq", "64K")
    assert "array_1d rate              2.00x" in table
    assert "left out: flat, array_2d columns, BERT 64K" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--study", "nosuch"), "no study 'nosuch'"),
        (("flat", "--study", "binding"), "the study 'binding' has its own designs"),
        (("--study", "resources", "--ours", "map"), "--ours belongs to the study 'binding'"),
        (("--ours", "map"), "--ours and --simulate belong to a study"),
        (("--study", "binding", "--seq", ","), "a study needs at least one model and one length"),
        (("--study", "binding", "--ours", "nosuch.yaml"), "nosuch.yaml"),
        (("--study", "resources", "--plot", "r.gif", "--seq", "1K"), "no picture of the format"),
    ],
)
def test_bad_studies_are_told(arguments: tuple[str, ...], message: str) -> None:
    _, err = run("compare", *arguments, status=2)
    assert message in err
