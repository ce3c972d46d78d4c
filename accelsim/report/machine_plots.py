"""Pictures of a machine at work: its schedule in time, its errors against published truth.

Each function takes the object that the command prints with ``--json`` and
returns the file that it drew; the ending of the path chooses the format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from accelsim.report.plots import BASELINE, COLOURS, INK, MARKERS, canvas, frame, saved

#: What is asked of a published figure that is predicted, and what a picture calls it.
ASKED: Final = {"within": "to be reproduced", "timing": "kernel times"}

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def schedule_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw a mapping's steady state in time: units downwards, stages from left to right.

    Bars are the work of a unit in a stage over the whole run, hatched where the
    stage waits, dotted where a group waits for a memory level; groups follow
    each other.  ``result`` is an estimate.
    """
    target, figure_of = canvas(path)
    units = list(result["utilisation"])
    groups = result["groups"]
    figure = figure_of(7.2, 1.3 + 0.65 * len(units))
    axes = figure.subplots()
    unit_s = max(sum(g["latency_s"] for g in groups), 1e-30)
    start, number = 0.0, 0
    for group in groups:
        for stage in group["stages"]:
            colour = COLOURS[number % len(COLOURS)]
            number += 1
            for unit, seconds in stage["unit_s"].items():
                row = units.index(unit)
                axes.barh(row, seconds, left=start, height=0.62, color=colour, edgecolor="white")
                if seconds > 0.06 * unit_s:
                    own = [n for n in stage["einsums"] if result_unit(result, n) == unit]
                    axes.text(start + seconds / 2, row, _short(own, seconds / unit_s), ha="center",
                              va="center", fontsize=7, color="white")  # fmt: skip
            waits = sum(stage["stall_s"].values())
            if waits:
                for row in range(len(units)):
                    axes.barh(row, waits, left=start + stage["latency_s"] - waits, height=0.62,
                              color="none", edgecolor=BASELINE, hatch="////")  # fmt: skip
            start += stage["latency_s"]
            axes.axvline(start, color="#B8BEC8", linewidth=0.7, linestyle=":")
        end = sum(g["latency_s"] for g in groups[: groups.index(group) + 1])
        if end - start > 1e-3 * unit_s:
            slowest = max((seconds, name) for name, seconds in group["memory_s"].items())[1]
            middle = (len(units) - 1) / 2
            axes.barh(middle, end - start, left=start, height=len(units) - 0.38, color="none",
                      edgecolor=BASELINE, hatch="....")  # fmt: skip
            axes.text((start + end) / 2, middle, f"waits for {slowest}", ha="center", va="center",
                      fontsize=7, rotation=90 if end - start < 0.2 * unit_s else 0)  # fmt: skip
        start = end
        axes.axvline(start, color=INK, linewidth=1.0)
    axes.set_yticks(range(len(units)), units)
    axes.invert_yaxis()
    axes.set_xlim(0, unit_s)
    axes.set_xlabel("time, s: stages in proportion to their share of the run")
    title = f"{result['cascade']} on {result['arch']}, mapping {result['mapping']}"
    axes.set_title(title, fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    return saved(figure, target)


def result_unit(result: Mapping[str, Any], einsum: str) -> str:
    """The unit that an estimate's Einsum runs on.

    >>> result_unit({"einsums": [{"name": "QK", "unit": "array_2d"}]}, "QK")
    'array_2d'
    """
    return next(str(e["unit"]) for e in result["einsums"] if e["name"] == einsum)


def _short(names: Sequence[str], share: float) -> str:
    """As many names as a bar of that share of the width has room for."""
    room, shown = int(share * 110), ""
    for name in names:
        if len(shown) + len(name) + 1 > room:
            return shown + " …" if shown else ""
        shown = f"{shown} {name}".strip()
    return shown


def errors_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw predicted against true figures and the histogram of errors.

    ``result`` is a validation: rows of tables with ``published`` and ``ours``.
    A colour is a quantity or, where rows say what is asked of them in words,
    what is asked; bounds and rows that are only shown are left out then.  Axes
    are relative to each quantity's median, so that seconds and bytes share one
    picture.
    """
    target, figure_of = canvas(path)
    figure = figure_of(9.2, 4.0)
    left, right = figure.subplots(1, 2)
    _published(left, _predictions(result))
    _errors(right, _predictions(result))
    return saved(figure, target)


def published_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw predicted against published figures alone."""
    target, figure_of = canvas(path)
    figure = figure_of(4.8, 4.4)
    _published(figure.subplots(), _predictions(result))
    return saved(figure, target)


def deviations_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw the histogram of errors against published figures alone."""
    target, figure_of = canvas(path)
    figure = figure_of(4.8, 4.4)
    _errors(figure.subplots(), _predictions(result))
    return saved(figure, target)


def _predictions(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows in which a figure is predicted, with the median of their quantity."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in (row for table in result["tables"] for row in table["rows"]):
        predicted = ASKED.get(row["asked"]) if "asked" in row else row["quantity"]
        if predicted and row["published"] > 0 and row["ours"] > 0:
            found.setdefault(row["quantity"], []).append({**row, "group": predicted})
    medians = {name: sorted(r["published"] for r in rows) for name, rows in found.items()}
    return [
        {**row, "median": medians[name][len(rows) // 2]}
        for name, rows in found.items()
        for row in rows
    ]


def _published(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    groups = list(dict.fromkeys(row["group"] for row in rows))
    for n, group in enumerate(groups):
        own = [row for row in rows if row["group"] == group]
        axes.plot([row["published"] / row["median"] for row in own],
                  [row["ours"] / row["median"] for row in own], linestyle="",
                  marker=MARKERS[n % len(MARKERS)], markersize=4, alpha=0.75,
                  color=COLOURS[n % len(COLOURS)], label=group)  # fmt: skip
    ends = axes.get_xlim()
    axes.plot(ends, ends, color=BASELINE, linewidth=0.9, zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="published, over its quantity's median",
             ylabel="predicted, over the same")  # fmt: skip
    axes.legend(fontsize=7, frameon=False)
    frame(axes)


def _errors(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    by: dict[str, list[float]] = {}
    words = any("asked" in row for row in rows)
    for row in rows:
        error = math.log10(max(abs(row["ours"] / row["published"] - 1), 1e-9))
        by.setdefault(row["group"] if words else "", []).append(error)
    axes.hist(list(by.values()), bins=[x / 2 for x in range(-18, 3)], stacked=True,
              color=COLOURS[: len(by)], label=list(by), edgecolor="white")  # fmt: skip
    axes.set_xticks(range(-9, 2, 2), [f"1e{x}" if x < -2 else f"{100 * 10.0**x:g} %"
                                      for x in range(-9, 2, 2)])  # fmt: skip
    axes.set(xlabel="relative error", ylabel="rows")
    if words:
        axes.legend(fontsize=7, frameon=False)
    frame(axes)
