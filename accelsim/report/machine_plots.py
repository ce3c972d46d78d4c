"""Pictures of a machine at work: its roofline, its schedule in time, its errors against truth.

Each function takes the object that the command prints with ``--json`` and
returns the file that it drew; the ending of the path chooses the format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from accelsim.report.numbers import amount
from accelsim.report.plots import BASELINE, COLOURS, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS: Final = "oDs^vPX*"


def roofline_figure(rooflines: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Draw operations a second against operations a byte, a panel a machine.

    Slopes are the bandwidths of its levels, flat lines its units at one
    operation a PE and cycle; a design stands once over each level's bytes.
    """
    target, figure_of = canvas(path)
    machines = list(dict.fromkeys(r["arch"] for r in rooflines))
    columns = min(len(machines), 3)
    rows = -(-len(machines) // columns)
    figure = figure_of(max(4.8, 3.9 * columns), 3.7 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes, machine in zip(panels, machines, strict=False):
        _roofline(axes, machine, [r for r in rooflines if r["arch"] == machine])
    for axes in list(panels)[len(machines) :]:
        axes.axis("off")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    return target


def _roofline(axes: Axes, machine: str, designs: Sequence[Mapping[str, Any]]) -> None:
    ceilings: Mapping[str, float] = designs[0]["ceilings"]
    slopes: Mapping[str, float] = designs[0]["slopes"]
    top = max(ceilings.values())
    at = [i for r in designs for n, i in r["intensity"].items() if n in slopes]
    knees = [top / s for s in slopes.values()]
    low, high = min([*at, *knees]) / 8, max([*at, *knees]) * 8
    for name, rate in ceilings.items():
        axes.axhline(rate, color="#444444", linewidth=1.0)
        label = f"{name}, {rate / 1e12:.3g} Tops/s"
        axes.text(high / 1.2, rate * 1.12, label, ha="right", fontsize=7.5)
    for n, (name, slope) in enumerate(slopes.items()):
        end = top / slope
        colour = COLOURS[n % len(COLOURS)]
        axes.plot([low, end], [low * slope, top], color=colour, linewidth=1.4)
        label = f"{name}, {amount(slope, 'bytes')}/s"
        axes.text(low * 1.2, low * slope * 1.6, label, fontsize=7.5, color=colour)
    for n, design in enumerate(designs):
        inside = {k: v for k, v in design["intensity"].items() if k in slopes}
        axes.plot(
            list(inside.values()),
            [design["rate"]] * len(inside),
            linestyle="",
            marker=_MARKERS[n % len(_MARKERS)],
            color=COLOURS[(n + 1) % len(COLOURS)],
            markersize=7,
            label=design["design"],
        )
    least = min(
        *ceilings.values(), *(d["rate"] for d in designs), low * min(slopes.values(), default=1.0)
    )
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(least / 4, top * 12))
    axes.set_xlabel("operations a byte")
    axes.set_ylabel("operations a second")
    axes.set_title(machine, fontsize=11, fontweight="bold")
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)


def schedule_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw a mapping's steady state in time: units downwards, stages from left to right.

    Bars are the work of a unit in a stage over the whole run, hatched where the
    stage waits, dotted where a group waits for a memory level; groups follow
    each other.  ``result`` is an estimate.
    """
    target, figure_of = canvas(path)
    units = list(result["utilisation"])
    groups = result["groups"]
    figure = figure_of(8.4, 1.5 + 0.75 * len(units))
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
        axes.axvline(start, color="#444444", linewidth=1.0)
    axes.set_yticks(range(len(units)), units)
    axes.invert_yaxis()
    axes.set_xlim(0, unit_s)
    axes.set_xlabel("time, s: stages in proportion to their share of the run")
    title = f"{result['cascade']} on {result['arch']}, mapping {result['mapping']}"
    axes.set_title(title, fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    return target


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
    """Draw predicted against true figures, a colour a quantity, and the histogram of errors.

    ``result`` is a validation: rows of tables with ``published`` (or
    ``measured``) and ``ours``.  Axes are relative to each quantity's median,
    so that seconds and bytes share one picture.
    """
    target, figure_of = canvas(path)
    rows = [row for table in result["tables"] for row in table["rows"]]
    by: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["published"] > 0 and row["ours"] > 0:
            by.setdefault(row["quantity"], []).append((row["published"], row["ours"]))
    figure = figure_of(9.2, 4.0)
    left, right = figure.subplots(1, 2)
    for n, (quantity, pairs) in enumerate(by.items()):
        middle = sorted(p for p, _ in pairs)[len(pairs) // 2]
        left.plot([p / middle for p, _ in pairs], [q / middle for _, q in pairs], linestyle="",
                  marker=_MARKERS[n % len(_MARKERS)], markersize=4, alpha=0.75,
                  color=COLOURS[n % len(COLOURS)], label=quantity)  # fmt: skip
    ends = left.get_xlim()
    left.plot(ends, ends, color=BASELINE, linewidth=0.9, zorder=0)
    left.set(xscale="log", yscale="log", xlabel="published, over its median",
             ylabel="predicted, over the same")  # fmt: skip
    left.legend(fontsize=7, frameon=False)
    errors = [math.log10(max(abs(q / p - 1), 1e-9)) for pairs in by.values() for p, q in pairs]
    right.hist(errors, bins=[x / 2 for x in range(-18, 3)], color=COLOURS[0], edgecolor="white")
    right.set_xticks(range(-9, 2, 2), [f"1e{x}" if x < -2 else f"{100 * 10.0**x:g} %"
                                       for x in range(-9, 2, 2)])  # fmt: skip
    right.set(xlabel="relative error", ylabel="rows")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#E6E6E6", linewidth=0.6)
        axes.set_axisbelow(True)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    return target
