"""Mutated documents through the command line: exit status 0, 1 or 2, and never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from accelsim.cli.app import app
from accelsim.load import catalog
from tests.explore.test_exchange import ARCH, FORGE, LOOP, SIMBA, TEAAL

SHIPPED = {
    kind: [path.read_text(encoding="utf-8") for path in catalog.files(kind).values()]
    for kind in ("cascade", "arch", "mapping", "design", "kernel", "sweep", "system", "format")
}
SHIPPED["foreign"] = [TEAAL, FORGE, LOOP, ARCH, SIMBA]
#: What a document consists of, and what it must not: drawn when something is put in.
WORDS = [
    *("[", "]", "{", "}", "(", ")", ":", "::", ",", "- ", "  ", "\t", "\n", "#", "'", '"', "&a "),
    *("*a", "!!python/object:os.system", "~", "null", "-inf", ".nan", "1e999", "-1", "0", "1e-5"),
    *("99999999999999999999", "+", "*", "/", "//", "=", "<=", "max(m)", "topk(j -> r)", "exp("),
    *("QK", "M", "m", "m1+1", "M1", "0", "16 MiB", "-3 pJ", "5 furlong", "where", "split", "value"),
    *("source", "\ufeff", "\x00", "\u2028", "é", "𝄞", "a" * 200, "(" * 80, "[" * 200),
]


@st.composite
def mutated(draw: st.DrawFn, texts: list[str]) -> str:
    """A shipped document with up to six cuts, doublings, swaps or foreign words."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 6))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["cut", "double", "replace", "insert", "line", "other"])):
            case "cut":
                text = text[:begin] + text[end:]
            case "double":
                text = text[:end] + text[begin:]
            case "replace":
                text = text[:begin] + draw(st.sampled_from(WORDS)) + text[end:]
            case "insert":
                text = text[:begin] + draw(st.sampled_from(WORDS)) + text[begin:]
            case "line":
                lines = text.split("\n")
                at, to = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
                lines[at], lines[to] = lines[to], lines[at]
                text = "\n".join(lines)
            case _:
                text = text[:begin] + draw(st.text(max_size=8)) + text[begin:]
    return text


def holds(*arguments: str) -> None:
    """The command ends as it may; bad input is told on standard error, and as JSON where asked."""
    result = CliRunner().invoke(app, list(arguments), prog_name="accelsim")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2)
    assert "Traceback" not in result.output
    if result.exit_code == 2:
        assert result.stderr.strip()
        if "--json" not in arguments:
            assert not result.stdout
        elif result.stdout:  # else the option is some other option's value
            assert json.loads(result.stdout)["faults"]


def commands(kind: str, file: Path) -> list[tuple[str, ...]]:
    """Everything that reads a document of that kind."""
    name = str(file)
    show = ("show", name, "--kind", kind)
    small = ("--shape", "B=1,H=1,P=512,M=512,E=64,F=64")
    fusemax = ("estimate", "--design", "fusemax", *small)
    run = ("simulate", "--design", "fusemax", *small)
    tile = ("--shape", "B=1,H=2,P=512,M=512,E=64,F=64")
    one_pass = ("estimate", "attention-1pass", *tile)
    return {
        "kernel": [show, (*one_pass, "--arch", "h100-sxm", "--kernel", name)],
        "sweep": [show],
        "system": [show, ("systems", name)],
        "format": [show],
        "foreign": [("import", name), ("import", name, "--kind", "accelforge-arch")],
        "cascade": [show, ("passes", name), ("check", name)],
        "arch": [
            show,
            (*fusemax, "--arch", name),
            (*run, "--arch", name),
            (*one_pass, "--arch", name, "--kernel", "attention-1pass-mma"),
        ],
        "mapping": [show, (*fusemax, "--mapping", name), (*run, "--mapping", name)],
        "design": [
            show,
            ("estimate", "--design", name, *small),
            ("simulate", "--design", name, *small),
        ],
    }[kind]


def fuzz(kind: str, text: str, folder: Path) -> None:
    file = folder / "mutated.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    for arguments in commands(kind, file):
        holds(*arguments)
    os.remove(file)


OPTIONS = ("--set", "--shape", "--model", "--seq", "--json")
KINDS = pytest.mark.parametrize("kind", list(SHIPPED))
FIXTURES = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


@KINDS
@settings(max_examples=40, deadline=None, suppress_health_check=FIXTURES)
@given(data=st.data())
def test_mutated_document_never_ends_in_a_traceback(
    kind: str, tmp_path: Path, data: st.DataObject
) -> None:
    fuzz(kind, data.draw(mutated(SHIPPED[kind])), tmp_path)


@pytest.mark.long
@KINDS
@settings(max_examples=1200, deadline=None, suppress_health_check=FIXTURES)
@given(data=st.data())
def test_mutated_document_never_ends_in_a_traceback_long(
    kind: str, tmp_path: Path, data: st.DataObject
) -> None:
    fuzz(kind, data.draw(mutated(SHIPPED[kind])), tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, *OPTIONS]), max_size=6))
def test_strange_arguments_never_end_in_a_traceback(arguments: list[str]) -> None:
    for verb in ("estimate", "passes", "compare", "list", "show"):
        holds(verb, *arguments)
