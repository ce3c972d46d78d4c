"""Studies of mappings as tables and pictures, from the ``--json`` object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from accelsim.report.numbers import amount, percent, ratio
from accelsim.report.plots import COLOURS, canvas, saved, speedup_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType

Row = Mapping[str, Any]


def study(result: Mapping[str, Any]) -> Iterable[RenderableType]:
    """The study's table or tables, and what was left out.

    >>> row = {"design": "unfused", "change": "three kernels", "model": "BERT", "seq": "4K",
    ...        "latency_s": 1.0, "energy_j": 2.0, "speedup": 1.0, "energy_ratio": 1.0,
    ...        "gain": 1.0, "bound_by": "array_1d", "simulated_s": None}
    >>> [t.title for t in study({"study": "binding", "baseline": "unfused", "rows": [row],
    ...                          "left_out": []})]
    ['Step by step']
    """
    if result["study"] == "binding":
        yield _steps(result["rows"])
    else:
        for model, seq in dict.fromkeys((r["model"], r["seq"]) for r in result["rows"]):
            own = [r for r in result["rows"] if (r["model"], r["seq"]) == (model, seq)]
            yield _resources(f"{model} {seq}", own)
    if result["left_out"]:
        yield Text("\n".join(f"left out: {reason}" for reason in result["left_out"]))


def _table(title: str, columns: Sequence[str], left: int) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for n, name in enumerate(columns):
        table.add_column(name, justify="left" if n < left else "right", no_wrap=n >= left)
    return table


def _steps(rows: Sequence[Row]) -> Table:
    simulated = any(row["simulated_s"] is not None for row in rows)
    columns = ["model", "length", "step", "what is new", "latency", "gain", "speedup", "energy"]
    columns += ["simulated"] if simulated else []
    table = _table("Step by step", [*columns, "bound by"], 4)
    previous = None
    for row in rows:
        workload = (row["model"], row["seq"])
        cells = [
            *(workload if workload != previous else ("", "")),
            row["design"],
            escape(row["change"]),
            amount(row["latency_s"], "seconds"),
            ratio(row["gain"]),
            ratio(row["speedup"]),
            percent(row["energy_ratio"]),
        ]
        cells += [amount(row["simulated_s"], "seconds")] if simulated else []
        table.add_row(*cells, row["bound_by"])
        previous = workload
    return table


def _resources(title: str, rows: Sequence[Row]) -> Table:
    """Speedup of each design on each larger machine; what bounds it as it is."""
    designs = list(dict.fromkeys(row["design"] for row in rows))
    found = {(row["change"], row["design"]): row for row in rows}
    table = _table(title, ["speedup from twice the", *designs], 1)
    first = rows[0]["change"]
    for change in dict.fromkeys(row["change"] for row in rows):
        cells = []
        for design in designs:
            row = found.get((change, design))
            if row is None:
                cells.append("-")
            elif change == first:
                cells.append(amount(row["latency_s"], "seconds"))
            else:
                cells.append(ratio(row["speedup"]))
        table.add_row(change, *cells)
    return table


def study_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw a study: speedups by length, or by resource; returns the file."""
    if result["study"] == "binding":
        return speedup_figure(result, path)
    target, figure_of = canvas(path)
    rows: Sequence[Row] = result["rows"]
    workloads = list(dict.fromkeys((r["model"], r["seq"]) for r in rows))
    changes = [c for c in dict.fromkeys(r["change"] for r in rows) if c != result["baseline"]]
    figure = figure_of(max(6.4, 1.1 + 0.8 * len(changes)), 0.8 + 2.4 * len(workloads))
    panels = figure.subplots(len(workloads), 1, squeeze=False, sharex=True)
    for (axes,), (model, seq) in zip(panels, workloads, strict=True):
        own = [r for r in rows if (r["model"], r["seq"]) == (model, seq)]
        _bars(axes, own, changes)
        axes.set_title(f"{model} {seq}", fontsize=10, fontweight="bold")
        axes.set_ylabel("speedup")
    panels[-1][0].set_xticks(range(len(changes)), changes, rotation=30, ha="right", fontsize=8)
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    return saved(figure, target)


def _bars(axes: Axes, rows: Sequence[Row], changes: Sequence[str]) -> None:
    """A group of bars a resource, one a design, from the line where nothing is gained."""
    designs = list(dict.fromkeys(row["design"] for row in rows))
    bar = 0.84 / len(designs)
    value = {(row["design"], row["change"]): row["speedup"] for row in rows}
    for n, design in enumerate(designs):
        shown = [(i, value[design, c]) for i, c in enumerate(changes) if (design, c) in value]
        at = [i + (n - (len(designs) - 1) / 2) * bar for i, _ in shown]
        gains = [y - 1 for _, y in shown]
        colour = COLOURS[n % len(COLOURS)]
        axes.bar(at, gains, bar * 0.94, bottom=1.0, color=colour, label=design)
    axes.axhline(1.0, color="#444444", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
