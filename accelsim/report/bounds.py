"""Bounds of a cascade as tables, and the ski slope as a picture, from the ``--json`` object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from accelsim.report.numbers import amount, ratio
from accelsim.report.plots import BASELINE, COLOURS, canvas, saved

if TYPE_CHECKING:
    from rich.console import RenderableType


def bounds(result: Mapping[str, Any]) -> Iterable[RenderableType]:
    """The three numbers of traffic with the argument and the mapping, the work, and the curve.

    >>> traffic = {f"{name}_bytes": 2048.0 for name in ("compulsory", "lower", "attainable")}
    >>> rest = {"gap": 1.0, "ops": 10, "ops_by_class": {"mac": 10}, "arguments": [], "mapping": []}
    >>> live = {"formula": "M", "streamed": "M", "in_flight": [], "keeps": "all", "tensors": {}}
    >>> rest |= {"live": {"formula": "M", "keeps": "", "in_flight": []}, "live_bytes": 8.0}
    >>> size = {"capacity_bytes": 64.0, "word_bytes": 2.0, "sizes": {"M": 4}, "curve": []}
    >>> len(list(bounds({"cascade": "c", **traffic, **rest, **size})))
    1
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    sizes = " ".join(f"{rank}={size}" for rank, size in result["sizes"].items())
    table.add_row("cascade", "", escape(f"{result['cascade']}  {sizes}"))
    word = amount(result["word_bytes"], "bytes")
    table.add_row("capacity", amount(result["capacity_bytes"], "bytes"), f"words of {word}")
    table.add_row(
        "compulsory", amount(result["compulsory_bytes"], "bytes"), "each input, output once"
    )
    why = result["arguments"] or ["nothing forces more than what is compulsory"]
    table.add_row("lower bound", amount(result["lower_bytes"], "bytes"), escape(why[0]))
    for more in why[1:]:
        table.add_row("", "", escape(more))
    how = result["mapping"] or ["no mapping of the space fits"]
    table.add_row("attainable", amount(result["attainable_bytes"], "bytes"), escape(how[0]))
    for more in how[1:]:
        table.add_row("", "", escape(more))
    table.add_row("gap", ratio(result["gap"]), "attainable over lower bound")
    live = result["live"]
    flight = f" for each {','.join(live['in_flight'])} in flight" if live["in_flight"] else ""
    room = f"to touch memory once: {live['keeps']} ({live['formula']} words{flight})"
    table.add_row("live footprint", amount(result["live_bytes"], "bytes"), escape(room))
    classes = ", ".join(f"{n:.4g} {name}" for name, n in result["ops_by_class"].items())
    table.add_row("operations", f"{result['ops']:.4g}", classes)
    yield table
    if result["curve"]:
        yield _curve(result)


def _curve(result: Mapping[str, Any]) -> Table:
    """The ski slope, a row a capacity."""
    table = Table(title="Traffic by capacity", title_justify="left", pad_edge=False)
    for name in ("capacity", "lower bound", "attainable", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in result["curve"]:
        moved = point["attainable_bytes"]
        table.add_row(
            amount(point["capacity_bytes"], "bytes"),
            amount(point["lower_bytes"], "bytes"),
            amount(moved, "bytes"),
            ratio(None if moved is None else moved / point["lower_bytes"]),
        )
    return table


def slope_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw attainable traffic, the lower bound and compulsory traffic against capacity.

    Both axes are logarithmic, in bytes.  The ending of ``path`` chooses the
    format; folders that are missing are made.  Returns the file.
    """
    target, figure_of = canvas(path)
    from matplotlib.ticker import FuncFormatter

    figure = figure_of(4.8, 3.6)
    axes = figure.subplots()
    curve = result["curve"]
    known = [p for p in curve if p["attainable_bytes"] is not None]
    at = [p["capacity_bytes"] for p in known]
    moved = [p["attainable_bytes"] for p in known]
    every = [p["capacity_bytes"] for p in curve]
    low = [p["lower_bytes"] for p in curve]
    axes.fill_between(every, low, color=COLOURS[0], alpha=0.10, linewidth=0)
    axes.plot(at, moved, color=COLOURS[5], marker="o", markersize=3, label="attainable")
    axes.plot(every, low, color=COLOURS[0], label="lower bound")
    axes.axhline(result["compulsory_bytes"], color=BASELINE, linestyle="--", label="compulsory")
    axes.axvline(result["capacity_bytes"], color="#444444", linewidth=0.8, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    shown = FuncFormatter(lambda value, _: amount(value, "bytes"))
    axes.xaxis.set_major_formatter(shown)
    axes.yaxis.set_major_formatter(shown)
    axes.set_xlabel("on-chip capacity")
    axes.set_ylabel("traffic")
    axes.set_title(str(result["cascade"]), fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    return saved(figure, target)
