"""``estimate --kernel``, ``estimate --batch`` of kernels, and ``validate gpu`` as commands."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from accelsim.cli.app import app

COPY = ("estimate", "--kernel", "torch-copy", "--arch", "h100-sxm", "--shape", "M=8192,N=8192")


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def test_estimate_kernel_as_json_and_as_a_table() -> None:
    found = json.loads(run(*COPY, "--json"))
    assert {"latency_s", "dram_bytes", "l2_bytes", "energy_j", "sm_hz", "launches"} <= set(found)
    text = run(*COPY)
    for word in ("torch-copy", "latency", "DRAM", "bound by", "memory"):
        assert word in text


def test_a_prediction_names_the_systems_that_it_is_of() -> None:
    arguments = (
        "estimate", "--kernel", "score-estimation", "--arch", "h100-sxm", "--set", "bits=4",
        "--shape", "B=1,H=16,M=16384,P=16384,E=128",
    )  # fmt: skip
    assert json.loads(run(*arguments, "--json"))["realises"] == [
        {"system": "sale", "stage": "scores that choose blocks"}
    ]
    assert "sale: scores that choose blocks" in run(*arguments)


def test_kernel_options_from_the_command_line() -> None:
    arguments = (
        "estimate", "--kernel", "attention-1pass-wgmma", "--arch", "h100-sxm", "--json",
        "--shape", "B=1,H=16,M=16384,P=16384,E=128,F=128",
    )  # fmt: skip
    full = json.loads(run(*arguments))
    causal = json.loads(run(*arguments, "--set", "causal=true", "--set", "dtype=bf16"))
    assert causal["options"]["causal"] is True
    assert 0.45 < causal["latency_s"] / full["latency_s"] < 0.65


def test_batch_of_kernels(tmp_path: Path) -> None:
    line = {"kernel": "torch-copy", "arch": "h100-sxm", "shape": "M=64,N=64"}
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join([json.dumps(line)] * 3), encoding="utf-8")
    answers = [json.loads(text) for text in run("estimate", "--batch", str(file)).splitlines()]
    assert len(answers) == 3
    assert len({a["latency_s"] for a in answers}) == 1


def test_bad_kernel_requests_end_with_status_2() -> None:
    assert "unknown kernel 'x'" in run("estimate", "--kernel", "x", "--arch", "h100-sxm", status=2)
    assert "no recorded runs of 'a100-sxm'" in run("validate", "gpu", "--gpu", "a100-sxm", status=2)


def test_validate_gpu_prints_what_it_found_and_draws_it(tmp_path: Path) -> None:
    drawn = tmp_path / "errors.svg"
    arguments = ["validate", "gpu", "--gpu", "h100-sxm", "--brief", "--plot", str(drawn)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code in (0, 1)
    for text in ("h100-sxm: recorded", "attention, ours", "decoding", "measured time"):
        assert f"<!-- {text} -->" in drawn.read_text(encoding="utf-8")
    words = ("three numbers", "data sheet", "20 us and above", "energy_j", "sm_hz")
    for word in (
        *words,
        "published system",
        "duo-attention",
        "Asked and got",
        "time of our kernels",
    ):
        assert word in result.output


def test_what_has_no_picture_is_refused(tmp_path: Path) -> None:
    plot = ("--plot", str(tmp_path / "x.svg"))
    sizes = ("--model", "BERT", "--seq", "1K")
    for command in (COPY, ("estimate", "attention-1pass", "--arch", "h100-sxm", *sizes)):
        assert "there is no timeline to draw" in run(*command, *plot, status=2)
    assert "validate tiles draws nothing" in run("validate", "tiles", *plot, status=2)
    assert not list(tmp_path.iterdir())


def test_gpus_and_kernels_are_listed_and_shown() -> None:
    assert "h100-sxm" in run("list", "archs")
    assert "cudnn-attention" in run("list", "kernels")
    assert run("show", "h100-sxm").startswith("gpu: h100-sxm")
    assert run("show", "cudnn-attention").startswith("kernel: cudnn-attention")
    for kind in ("gpu", "kernel"):
        assert json.loads(run("schema", kind))["title"] == f"accelsim {kind}"
