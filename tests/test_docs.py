"""The documentation: what it shows is what the commands print, and it builds without a warning.

``ACCELSIM_UPDATE_GOLDEN=1 pytest tests/test_docs.py`` writes the outputs into the pages anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_house import CONSOLE, ROOT, ROUNDING, SHOWN_COLUMNS, UPDATE, again

PAGES = sorted(p.name for p in (ROOT / "docs").glob("*.md"))
SHOWN = [p for p in PAGES if CONSOLE.search((ROOT / "docs" / p).read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", SHOWN)
def test_a_page_shows_what_the_commands_print(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", SHOWN_COLUMNS)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(ROOT)
    path = ROOT / "docs" / page
    text = path.read_text(encoding="utf-8")
    if UPDATE:
        for block in CONSOLE.findall(text):
            text = text.replace(block, again(block))
        path.write_text(text, encoding="utf-8")
    for block in CONSOLE.findall(text):
        assert ROUNDING.sub("tiny", block) == ROUNDING.sub("tiny", again(block))


def test_walk_throughs_run_something() -> None:
    assert {"tour.md", "architect.md", "kernel-writer.md", "reader.md"} <= set(SHOWN)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # of the theme, about a later MkDocs
    found = subprocess.run(
        command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "WARNING" not in found.stderr
    language = (tmp_path / "language.html").read_text(encoding="utf-8")
    assert "generated:" not in language
    for word in ("dequant", "topk", "attention-1pass", "RELATION"):
        assert re.search(word, language), word
    assert "accelsim sweep" in (tmp_path / "commands.html").read_text(encoding="utf-8")
    assert "accelsim.explore.sweep.sweep" in (tmp_path / "api.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["fusemax", "passes"])
def test_a_notebook_runs_from_top_to_bottom(name: str) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "docs" / "notebooks" / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert len(outputs) >= 3
    assert all(o.output_type in ("stream", "execute_result") for o in outputs)
