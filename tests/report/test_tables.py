"""Tables from results: what must be readable in them.  The pictures beside them."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from accelsim.errors import InputError
from accelsim.report import numbers, plots, prose, tables


def text(renderables: Iterable[RenderableType], width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width)
    for renderable in renderables:
        console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row(design: str, seq: str, speedup: float, ratio: float, model: str = "BERT") -> dict[str, Any]:
    return {
        "design": design,
        "model": model,
        "seq": seq,
        "latency_s": 0.02 / speedup,
        "energy_j": 30.0 * ratio,
        "speedup": speedup,
        "energy_ratio": ratio,
        "utilisation": {"array_2d": 0.9648, "array_1d": 1.0},
        "bound_by": "array_1d",
    }


COMPARISON: dict[str, Any] = {
    "baseline": "flat",
    "linear": False,
    "rows": [
        row(design, seq, speedup, ratio)
        for seq in ("1K", "4K")
        for design, speedup, ratio in (("flat", 1.0, 1.0), ("fusemax", 7.211, 0.7769))
    ],
    "averages": {
        "flat": {"speedup": 1.0, "energy_ratio": 1.0},
        "fusemax": {"speedup": 7.211, "energy_ratio": 0.7769},
    },
}

ESTIMATE: dict[str, Any] = {
    "cascade": "attention-1pass",
    "arch": "fusemax-cloud",
    "mapping": "fusemax",
    "sizes": {"B": 64, "M": 4096},
    "latency_s": 0.0297,
    "energy_j": 30.0,
    "area_mm2": 500.123,
    "traffic_bytes": {"dram": 1610612736.0, "buffer": 5e10},
    "utilisation": {"array_2d": 0.9648},
    "peak_bytes": {"dram": 0.0, "buffer": 8 * 2.0**20},
    "capacity_bytes": {"dram": None, "buffer": 16 * 2.0**20},
    "bound_by": "array_1d",
    "einsums": [{"name": "QK", "unit": "array_2d", "busy_s": 0.0134, "utilisation": 0.4507}],
    "energy_by_j": {"dram": 6.0, "buffer": 24.0},
    "groups": [
        {
            "name": "attention",
            "stages": [
                {"einsums": ["QK", "LM"], "latency_s": 0.01, "stall_s": {}},
                {"einsums": ["RM"], "latency_s": 0.01, "stall_s": {"waits for RM": 0.002}},
            ],
        }
    ],
}

FIGURE: dict[str, Any] = {
    "workload": "BERT 1K",
    "quantity": "latency",
    "published": 0.002013140,
    "ours": 0.002013140,
    "error": 0.0,
    "tolerance": 1e-6,
    "holds": True,
    "note": "",
}
VALIDATION: dict[str, Any] = {
    "paper": "FuseMax",
    "holds": False,
    "tables": [
        {
            "name": "attn-binding",
            "about": "FuseMax itself",
            "holds": False,
            "mean_error": {"latency": 0.0, "energy": 0.02, "area": 0.5},
            "max_error": {"latency": 0.0, "energy": 0.02, "area": 0.5},
            "rows": [
                FIGURE,
                FIGURE
                | {"quantity": "energy", "error": 0.02, "tolerance": 0.01, "holds": False}
                | {"note": "dram 20 %, buffer 80 %"},
                FIGURE | {"quantity": "area", "error": 0.5, "tolerance": None, "holds": None},
                FIGURE | {"quantity": "traffic", "error": -0.5, "tolerance": None, "holds": True},
            ],
        }
    ],
    "averages": [
        {
            "name": "attention energy against FLAT",
            "published": 0.787,
            "ours": 0.7869,
            "tolerance": 0.01,
            "error": -0.0001,
            "holds": True,
            "physical": 0.81,
        }
    ],
}


def test_comparison_says_speedup_energy_utilisation_and_bound() -> None:
    shown = text(tables.comparison(COMPARISON))
    for word in ("fusemax", "7.21x", "77.7 %", "96.5 %", "array_1d", "2.774 ms", "1K", "4K"):
        assert word in shown
    assert shown.count("BERT") == 1  # once a block of rows
    assert "Mean over the rows" in shown


def test_comparison_fits_a_narrow_terminal() -> None:
    assert max(map(len, text(tables.comparison(COMPARISON), 100).splitlines())) <= 100


def test_estimate_shows_every_part() -> None:
    shown = text(tables.estimate(ESTIMATE))
    for word in ("29.7 ms", "30 J", "500.1 mm2", "array_1d", "1.5 GiB", "50.0 %", "45.1 %"):
        assert word in shown, shown
    for word in ("QK LM", "2 ms", "80.0 %", "B=64 M=4096"):
        assert word in shown, shown


def test_validation_shows_rows_and_marks_what_fails() -> None:
    shown = text(tables.validation(VALIDATION))
    assert "0.00201314" in shown
    assert "NO" in shown
    assert "not above" in shown
    assert "dram 20 %, buffer 80 %" in shown
    assert "attention energy against FLAT" in shown


def test_brief_validation_has_one_line_a_quantity() -> None:
    shown = text(tables.validation(VALIDATION, brief=True))
    assert "BERT 1K" not in shown
    assert "2.00 %" in shown
    assert "0.787" in shown


def test_listing_groups_by_family() -> None:
    entries = [
        {"name": "attention-3pass", "about": "as PyTorch has it", "family": "attention"},
        {"name": "matmul", "about": "[plain]", "family": ""},
    ]
    shown = text(tables.listing({"cascades": entries}))
    assert "as PyTorch has it" in shown
    assert "[plain]" in shown  # not taken for markup
    assert shown.count("attention\n") or "attention " in shown


def test_passes_without_bound_are_said() -> None:
    result = {"cascade": "rnn", "passes": {"M": None}, "why": {"M": ["a pass for each step of T"]}}
    assert prose.passes(result).splitlines()[1] == "  unbounded passes over M"


def test_failed_check_is_plain() -> None:
    result = {"cascade": "a", "equals": "b", "equal": False, "max_abs_error": None}
    assert "DOES NOT EQUAL b" in prose.check(result | {"sizes": {}, "seed": 0})


@pytest.mark.parametrize(("value", "shown"), [(0.0, "0"), (2e-7, "2.0e-07"), (-0.013, "-1.30 %")])
def test_deviation(value: float, shown: str) -> None:
    assert numbers.deviation(value) == shown


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_figure_is_drawn(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    path = plots.speedup_figure(COMPARISON, tmp_path / "new" / f"speedup.{ending}")
    assert path.stat().st_size > 4000


def test_figure_without_matplotlib_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="pictures need Matplotlib"):
        plots.speedup_figure(COMPARISON, tmp_path / "a.png")


def test_figure_of_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture of the format"):
        plots.speedup_figure(COMPARISON, tmp_path / "a.gif")


def test_figure_of_rows_with_gaps(tmp_path: Path) -> None:
    """A design without a row at some length leaves a gap, not an error."""
    pytest.importorskip("matplotlib")
    rows = [*COMPARISON["rows"], row("other", "4K", 2.0, 0.9), row("flat", "4K", 1, 1, "XLM")]
    path = plots.speedup_figure(COMPARISON | {"rows": rows}, tmp_path / "gaps.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
