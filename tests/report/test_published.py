"""The layout of ``validate published``, and its command."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from accelsim.cli.app import app
from accelsim.explore.validate_published import validate_published
from accelsim.report.published import validation


def printed(result: dict[str, Any], brief: bool = False) -> str:
    console = Console(file=io.StringIO(), width=200)
    for part in validation(result, brief=brief):
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_rows_verdict_and_causes_are_shown() -> None:
    text = printed(validate_published("dynamic-mask").to_dict())
    assert "claim above ours" in text
    assert "no kernel skips more than the products" in text
    assert "how sure: primary text" in text
    assert "bounded; contradicted" in text
    assert "three numbers for four lengths" in text
    assert text.count("no kernel skips more") == 1
    assert "as above" in text
    assert "Kernel times" not in text


def test_brief_leaves_rows_out() -> None:
    result = validate_published("s2-attention").to_dict()
    assert "32K V 16" in printed(result)
    text = printed(result, brief=True)
    assert "32K V 16" not in text
    assert "timed, median error" in text


@pytest.mark.parametrize(("paper", "status"), [("zipcache", 0), ("sale", 1), ("nobody", 2)])
def test_the_exit_status_goes_with_the_tolerance(paper: str, status: int) -> None:
    found = CliRunner().invoke(app, ["validate", "published", "--paper", paper, "--json"])
    assert found.exit_code == status
    if status < 2:
        result = json.loads(found.stdout)
        assert result["holds"] is (status == 0)
        assert result["verdicts"][0]["paper"] == paper
