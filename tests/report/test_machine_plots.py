"""Pictures of a machine at work: drawn from the objects that the commands print."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from accelsim.cli.app import app
from accelsim.errors import InputError
from accelsim.explore.estimate import estimate
from accelsim.explore.evaluations import validate
from accelsim.report.machine_plots import errors_figure, schedule_figure


def texts(svg: Path) -> str:
    """The picture's own comments, in which Matplotlib names each text that it draws."""
    return svg.read_text()


@pytest.mark.parametrize(
    ("design", "shown"),
    [("fusemax", "SLNV"), ("unfused", "waits for dram"), ("fusemax-architecture", "array_1d")],
)
def test_a_schedule_names_what_runs_and_what_waits(tmp_path: Path, design: str, shown: str) -> None:
    found = estimate(design=design, model="BERT", seq="64K").to_dict()
    drawn = schedule_figure(found, tmp_path / "deep" / "s.svg")
    assert f"<!-- {shown} -->" in texts(drawn)


def test_errors_name_every_quantity(tmp_path: Path) -> None:
    found = validate("fusemax").to_dict()
    drawn = texts(errors_figure(found, tmp_path / "e.svg"))
    for quantity in {row["quantity"] for table in found["tables"] for row in table["rows"]}:
        assert f"<!-- {quantity} -->" in drawn


def test_no_picture_of_another_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture of the format of"):
        errors_figure({"tables": []}, tmp_path / "e.gif")
    assert not list(tmp_path.iterdir())


def test_systems_are_drawn_from_the_command_line(tmp_path: Path) -> None:
    drawn = tmp_path / "s.svg"
    result = CliRunner().invoke(app, ["systems", "sqa", "--seq", "4K", "--plot", str(drawn)])
    assert result.exit_code == 0, result.output
    for text in ("sqa, prefill", "sqa, decode", "h100-sxm", "speedup over dense attention"):
        assert f"<!-- {text} -->" in texts(drawn)
    alone = CliRunner().invoke(app, ["systems", "fusemax", "--seq", "4K", "--plot", str(drawn)])
    assert alone.exit_code == 0, alone.output
    assert "<!-- fusemax-cloud -->" in texts(drawn)
