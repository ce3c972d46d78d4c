"""The picture of a cascade in bands of passes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from accelsim.cli.app import app
from accelsim.report.plots import _cells, _places, _rows

pytest.importorskip("matplotlib")
CASCADES = ("attention-3pass", "attention-1pass", "encoder-linear-layers", "variance")


@pytest.mark.parametrize("cascade", CASCADES)
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_is_drawn(cascade: str, ending: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / f"graph.{ending}"
    found = CliRunner().invoke(app, ["passes", cascade, "--plot", str(target), "--json"])
    assert found.exit_code == 0, found.output
    assert target.stat().st_size > 5000
    result = json.loads(found.stdout)
    assert set(result["bands"]) == set(result["passes"])
    if ending == "svg":
        text = target.read_text()
        assert all(f"<!-- {name} -->" in text for name in result["reads"])


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["passes", "variance", "--plot", str(tmp_path / "x.gif")])
    assert found.exit_code == 2
    assert "no picture of the format of" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_two_einsums_stand_in_one_place() -> None:
    reads = {"A": (), "B": ("A",), "C": ("A",), "D": ("B", "C")}
    column = {"A": 1, "B": 1, "C": 1, "D": 2}
    row = _rows(reads, column)
    assert row == {"A": 0, "B": 1, "C": 1, "D": 2}
    assert _cells(row, column)[1, 1] == ["B", "C"]
    places = _places(row, column)
    assert len(set(places.values())) == 4
    assert all(abs(x - column[name]) < 0.5 for name, (x, _) in places.items())
