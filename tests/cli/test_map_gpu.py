"""``accelsim map`` and ``validate tiles`` on a GPU, from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_app import answer, run

ASKED = ("attention-1pass", "--arch", "h100-sxm", "--shape", "B=1,H=16,P=2048,M=2048,E=64,F=64")


def test_people_get_the_loop_nest_what_was_refused_and_what_would_help() -> None:
    out, _ = run("map", *ASKED)
    assert "for b in 1, h in 16, p1 in " in out
    assert "shared memory holds K[" in out
    assert "candidates" in out
    assert "registers a thread of" in out
    assert "Taken, and what comes next" in out
    assert "What twice of it would bring" in out


def test_what_is_written_is_estimated_the_same(tmp_path: Path) -> None:
    file = tmp_path / "k.yaml"
    _, err = run("map", *ASKED, "-o", str(file))
    wrote, again = err.splitlines()
    assert wrote == f"wrote {file}"
    words = again.split()
    assert words[:2] == ["accelsim", "estimate"]
    found, back = answer("map", *ASKED), answer(*words[1:])
    assert [found[k] for k in ("latency_s", "energy_j", "dram_bytes")] == [
        back[k] for k in ("latency_s", "energy_j", "dram_bytes")
    ]
    assert back["kernel"] == "attention-1pass-h100-sxm"
    shown = answer("estimate", *ASKED)
    assert shown["latency_s"] == found["latency_s"]


def test_a_causal_mask_is_told_to_the_written_kernel(tmp_path: Path) -> None:
    file = tmp_path / "k.yaml"
    asked = ("attention-causal-1pass", *ASKED[1:])
    _, err = run("map", *asked, "-o", str(file))
    assert err.endswith("--set causal=true\n")
    assert (
        answer(*err.splitlines()[1].split()[1:])["latency_s"] == answer("map", *asked)["latency_s"]
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [("--unit", "QK=a"), ("--hold", "K=l2"), ("--tile", "M0=64"), ("--spread", "QK=E/M")],
)
def test_wishes_of_spatial_machines_are_refused(option: str, value: str) -> None:
    _, err = run("map", *ASKED, option, value, status=2)
    assert f"{option} is for spatial machines" in err


def test_fronts_are_refused() -> None:
    _, err = run("map", *ASKED, "--pareto", status=2)
    assert "--pareto is for spatial machines" in err


def test_what_fits_no_block_says_what_binds_and_by_how_much() -> None:
    wide = ("attention-1pass", "--arch", "h100-sxm", "--shape", "M=64,E=1024,F=1024")
    _, err = run("map", *wide, status=2)
    assert "tiles of attention-1pass-wgmma, attention-1pass-mma" in err
    assert "registers a thread of" in err


def test_recorded_tiles() -> None:
    found = answer("validate", "tiles")
    assert found["holds"]
    assert found["within"] <= len(found["rows"])
    out, _ = run("validate", "tiles", "--gpu", "h200-sxm")
    assert "within 5.0 % of the fastest: 12 of 12" in out


def test_a_gpu_without_recorded_tiles() -> None:
    _, err = run("validate", "tiles", "--gpu", "rtx4090", status=2)
    assert "rtx4090" in err
