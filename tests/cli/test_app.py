"""The command line from outside: exit status, JSON keys, messages, streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import accelsim
from accelsim.cli.app import app

CASCADE = """\
cascade: rowsum
about: the sum of each row
ranks: [I, J]
inputs: {X: [I, J]}
output: Y
equals: matmul
einsums:
  - Y[i] = X[i,j]
"""


def run(*arguments: str, status: int = 0) -> tuple[str, str]:
    """Standard output and standard error of a command that ends with ``status``."""
    result = CliRunner().invoke(app, list(arguments), prog_name="accelsim")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result.stdout, result.stderr


def answer(*arguments: str, status: int = 0) -> dict[str, Any]:
    """The JSON object of a command, which is all that it prints."""
    out, err = run(*arguments, "--json", status=status)
    found = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert isinstance(found, dict)
    assert not err
    return found


#: The keys of the design, section 5; others may stand beside them.
KEYS: dict[tuple[str, ...], set[str]] = {
    ("passes", "attention-1pass"): {"cascade", "passes", "why"},
    ("check", "attention-1pass", "--shape", "M=8,M0=4"): {"equal", "max_abs_error"},
    ("estimate", "--design", "fusemax", "--model", "BERT", "--seq", "4096"): {
        *("latency_s", "energy_j", "area_mm2", "traffic_bytes", "utilisation"),
        *("peak_bytes", "bound_by", "einsums"),
    },
    ("compare", "flat", "fusemax", "--seq", "1K,4K"): {"baseline", "rows", "averages"},
    ("validate", "fusemax"): {"holds", "tables", "averages"},
    ("validate", "published"): {"holds", "tables", "averages"},
    ("list", "cascades"): {"cascades"},
    ("list", "archs"): {"archs"},
    ("list", "models"): {"models"},
    ("list", "designs"): {"designs"},
    ("list", "mappings"): {"mappings"},
    ("list", "systems"): {"systems"},
    ("systems", "sqa", "--seq", "4K"): {"name", "passes_k", "passes_v", "cells", "bits", "sure"},
    ("show", "attention-1pass"): {"file", "text"},
    ("schema", "arch"): {"$schema", "title", "type", "properties"},
    ("schema", "cascade"): {"$schema", "title", "type", "properties"},
    ("schema", "mapping"): {"$schema", "title", "type", "properties"},
    ("schema", "design"): {"$schema", "title", "type", "properties"},
    ("schema", "system"): {"$schema", "title", "type", "properties"},
}


@pytest.mark.parametrize("arguments", KEYS, ids=" ".join)
def test_json_is_one_object_with_the_keys_of_the_design(arguments: tuple[str, ...]) -> None:
    assert KEYS[arguments] <= set(answer(*arguments))


@pytest.mark.parametrize("arguments", KEYS, ids=" ".join)
def test_people_get_text_without_json(arguments: tuple[str, ...]) -> None:
    out, err = run(*arguments)
    assert out.strip()
    assert out.startswith("{") is (arguments[0] == "schema")
    assert not err


def test_keys_inside_an_estimate() -> None:
    found = answer("estimate", "--design", "fusemax", "--model", "BERT", "--seq", "4K")
    assert {"name", "unit", "busy_s"} <= set(found["einsums"][0])
    assert found["traffic_bytes"]["dram"] == 1610612736
    assert found["bound_by"] in {*found["utilisation"], *found["traffic_bytes"]}
    assert all(0 <= share <= 1 + 1e-9 for share in found["utilisation"].values())
    assert sum(found["energy_by_j"].values()) == pytest.approx(found["energy_j"])


def test_keys_of_a_comparison_row() -> None:
    found = answer("compare", "flat", "fusemax", "--seq", "1K")
    keys = {"design", "model", "seq", "latency_s", "energy_j", "speedup", "energy_ratio"}
    assert all(keys | {"utilisation", "bound_by"} <= set(row) for row in found["rows"])
    assert found["rows"][0]["speedup"] == 1.0


def test_keys_of_a_validation_row() -> None:
    found = answer("validate", "fusemax")
    assert found["holds"] is True
    for table in found["tables"]:
        assert {"name", "rows", "mean_error", "max_error"} <= set(table)
        keys = {"quantity", "published", "ours", "error", "tolerance", "holds"}
        assert all(keys <= set(row) for row in table["rows"])


@pytest.mark.parametrize(
    ("cascade", "rank", "passes"),
    [
        ("attention-3pass", "M", 3),
        ("attention-3pass-deferred", "M", 2),
        ("attention-2pass", "M1", 2),
        ("attention-1pass", "M1", 1),
        ("attention-1pass", "M0", 2),
        ("linear-attention", "M", 1),
    ],
)
def test_passes_of_the_families(cascade: str, rank: str, passes: int) -> None:
    found = answer("passes", cascade, "--rank", rank)
    assert found["passes"] == {rank: passes}
    assert len(found["why"][rank]) == passes - 1


def test_python_verbs_have_the_same_names() -> None:
    for verb in ("show", "passes", "check", "estimate", "compare", "validate", "schema"):
        assert callable(getattr(accelsim, verb))
        assert verb in dir(accelsim)
    assert accelsim.passes("attention-3pass")["M"] == 3
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        accelsim.nothing  # noqa: B018


def test_module_form_and_version() -> None:
    command = [sys.executable, "-m", "accelsim", "--version"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == f"accelsim {accelsim.__version__}\n"


def test_set_is_a_what_if() -> None:
    arguments = ("estimate", "--design", "fusemax", "--model", "BERT", "--seq", "4K")
    base = answer(*arguments)["latency_s"]
    assert answer(*arguments, "--set", "clock=1880 MHz")["latency_s"] == pytest.approx(base / 2)


def test_plot_is_drawn_and_said_on_standard_error(tmp_path: Path) -> None:
    target = tmp_path / "out" / "speedup.png"
    out, err = run("compare", "flat", "fusemax", "--seq", "1K", "--json", "--plot", str(target))
    json.loads(out)
    assert str(target) in err
    assert target.read_bytes()[:4] == b"\x89PNG"


def test_plot_of_an_unknown_format_is_bad_input(tmp_path: Path) -> None:
    _, err = run("compare", "flat", "--seq", "1K", "--plot", str(tmp_path / "a.xyz"), status=2)
    assert "png" in err


def test_failing_check_exits_with_1(tmp_path: Path) -> None:
    wrong = run("show", "attention-3pass")[0].replace("SN[b,h,m,p] / SD", "SN[b,h,m,p] * SD")
    file = tmp_path / "wrong.yaml"
    file.write_text(wrong, encoding="utf-8")
    assert answer("check", str(file), status=1)["equal"] is False
    assert "DOES NOT EQUAL" in run("check", str(file), status=1)[0]


def test_show_is_the_identity(tmp_path: Path) -> None:
    for kind in ("cascades", "archs", "mappings", "designs"):
        for entry in answer("list", kind)[kind]:
            word = kind[:-1]
            text = run("show", entry["name"], "--kind", word)[0]
            again = tmp_path / f"{entry['name']}.yaml"
            again.write_text(text, encoding="utf-8")
            assert run("show", str(again), "--kind", word)[0] == text


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compre",), "Did you mean 'compare'?"),
        (("passes",), "Missing argument 'cascade'"),
        (("passes", "attention-1pass", "--jsn"), "No such option: --jsn"),
        (("passes", "attention-1pas"), "attention-1pass"),
        (("passes", "attention-1pass", "--rank", "Z"), "has no rank 'Z'"),
        (("show", "nothing.yaml"), "no document 'nothing.yaml'"),
        (("show", "flat", "--kind", "chip"), "no kind of document 'chip'"),
        (("list", "chips"), "no list of 'chips'"),
        (("schema", "chip"), "no schema of 'chip'"),
        (("validate", "nothing"), "no evaluation 'nothing'"),
        (("estimate",), "estimate needs"),
        (("estimate", "--design", "fusemx"), "fusemax"),
        (("estimate", "--design", "fusemax", "--model", "BRT", "--seq", "1K"), "BERT"),
        (("estimate", "--design", "fusemax", "--model", "BERT", "--seq", "1 furlong"), "furlong"),
        (("estimate", "--design", "fusemax", "--shape", "M"), "M"),
        (("check", "attention-1pass", "--seed", "x"), "'--seed'"),
        (("check", "attention-3pass", "--model", "BERT", "--seq", "1M"), "too many to execute"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_arguments_exit_with_2_and_say_what_is_allowed(
    arguments: tuple[str, ...], said: str
) -> None:
    out, err = run(*arguments, status=2)
    assert not out
    assert said in " ".join(err.replace("│", " ").split())


def test_bad_override_names_the_path() -> None:
    arguments = ("estimate", "--design", "fusemax", "--model", "BERT", "--seq", "4K", "--set")
    for override, said in (
        ("buffer.capcity=8MiB", "capcity"),
        ("buffer.capacity=8", "without a unit"),
        ("dram.bandwidth=-1 GB/s", "negative"),
        ("clock", "path=value"),
    ):
        assert said in run(*arguments, override, status=2)[1]


def test_over_capacity_says_by_how_much() -> None:
    arguments = ("estimate", "--design", "fusemax", "--model", "BERT", "--seq", "4K", "--set")
    _, err = run(*arguments, "buffer.capacity=64 KiB", status=2)
    assert "KiB" in err


def test_faults_of_a_file_come_all_at_once_with_line_and_caret(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    wrong = CASCADE.replace("X[i,j]", "X[i,z]") + "  - Z[i] = Y[i] + W[i]\n  - Y[i] = X[i,j\n"
    file.write_text(wrong, encoding="utf-8")
    lines = run("show", str(file), status=2)[1].splitlines()
    for number in (8, 9, 10):
        assert any(line.startswith(f"{file}:{number}:") for line in lines)
    assert sum(line.strip() == "^" for line in lines) >= 3


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"cascade:\n\t- x", b"x" * 100_000, b"[" * 100_000, b"a: 1\n" * 9]
)
def test_strange_files_are_bad_input(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "strange.yaml"
    file.write_bytes(content)
    for verb in ("show", "passes", "check"):
        assert str(file) in run(verb, str(file), status=2)[1]


def test_document_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(CASCADE, encoding="utf-8")
    _, err = run("show", str(file), "--kind", "arch", status=2)
    assert f"{file}:1:1: a document of kind cascade, not arch" in err
    file.write_text("cascades: []\n", encoding="utf-8")
    _, err = run("show", str(file), status=2)
    assert "no document of accelsim" in err
    assert "cascade:, design:, format:, gpu:, kernel:, mapping:, sweep:, system:" in err


def test_folder_is_no_document(tmp_path: Path) -> None:
    assert "directory" in run("show", str(tmp_path), status=2)[1].lower()


# -- streams ----------------------------------------------------------------------------------


def test_closed_pipe_is_no_traceback() -> None:
    """`accelsim list | head -0` as a shell would run it."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "accelsim", "list", "cascades", "--json"]
    found = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert found.returncode == 141
    assert not found.stderr


#: Jobs that a shell started in the background ignore Ctrl-C, and so would their children.
HEEDFUL = """\
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = "accelsim"
runpy.run_module("accelsim", run_name="__main__")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupt_is_no_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "never.yaml"  # nobody writes: the command waits
    os.mkfifo(fifo)
    command = [sys.executable, "-c", HEEDFUL, "show", str(fifo)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with open(fifo, "wb"):  # as soon as the command reads
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
