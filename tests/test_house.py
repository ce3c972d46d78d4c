"""The house: what README shows is what the commands print.

``ACCELSIM_UPDATE_GOLDEN=1 pytest tests/test_house.py`` writes the outputs into README anew.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import accelsim
from accelsim.cli.app import app

ROOT = Path(accelsim.__file__).resolve().parent.parent
UPDATE = os.environ.get("ACCELSIM_UPDATE_GOLDEN")
#: A fenced block of commands, each after "$ ", with what it prints below it.
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What another processor rounds otherwise.
ROUNDING = re.compile(r"\b0\b(?= *$)|\d(\.\d+)?e-1[4-9]", re.MULTILINE)
SHOWN_COLUMNS = "100"


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def printed(command: str) -> str:
    """What a command of README prints; ``| head -N`` and ``| tail -N`` may follow it."""
    words = shlex.split(command)
    kept = slice(None)
    if "|" in words:
        at = words.index("|")
        number = int(words[at + 2])
        kept = {"head": slice(-number), "tail": slice(number, None)}[words[at + 1]]
        words = words[:at]
    assert words[0] == "accelsim", command
    result = CliRunner().invoke(app, words[1:], prog_name="accelsim")
    assert result.exit_code == 0, f"{command}\n{result.output}"
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    return "".join(f"{line}\n" for line in lines[kept])


def again(block: str) -> str:
    """A console block with the output of each of its commands as it is now."""
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return "".join(f"$ {command}\n{printed(command)}" for command in commands)


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not a checkout")
def test_readme_shows_what_the_commands_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", SHOWN_COLUMNS)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(ROOT)
    text = readme()
    blocks = CONSOLE.findall(text)
    assert len(blocks) >= 6
    if UPDATE:
        for block in blocks:
            text = text.replace(block, again(block))
        (ROOT / "README.md").write_text(text, encoding="utf-8")
    for block in CONSOLE.findall(text):
        assert ROUNDING.sub("tiny", block) == ROUNDING.sub("tiny", again(block))


def test_files_that_the_readme_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", readme()):
        assert (ROOT / target).exists(), target


def test_ci_runs_what_a_person_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert re.findall(r"^make .*", text, re.MULTILINE) == [
        "make --no-print-directory lint",
        "make --no-print-directory test",
    ]


def test_python_example_runs() -> None:
    script = ROOT / "examples" / "what_if.py"
    found = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 5
