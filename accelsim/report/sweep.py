"""A sweep for people: its Pareto front, what each axis does, and the front as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from accelsim.report.numbers import amount
from accelsim.report.plots import COLOURS, canvas, saved
from accelsim.report.tables import _table

#: Rows of a front that are shown; the rest are in the files.
SHOWN: Final = 40
#: The dimension of a figure, by the ending of its name.
_ENDINGS: Final = {"_s": "seconds", "_j": "joules", "_bytes": "bytes"}
#: What an axis of a picture says, and what its numbers are multiplied by.
_TITLES: Final = {
    "latency_s": ("latency, s", 1.0),
    "energy_j": ("energy, J", 1.0),
    "edp_js": ("energy times latency, J s", 1.0),
    "area_mm2": ("area, mm2", 1.0),
    "dram_bytes": ("DRAM traffic, GB", 1e-9),
    "peak_bytes": ("peak on-chip, MiB", 2.0**-20),
}


def figure(name: str, value: float) -> str:
    """A figure with its unit.

    >>> figure("latency_s", 0.0297), figure("area_mm2", 1302.25), figure("edp_js", 0.5)
    ('29.7 ms', '1302 mm2', '0.5 J s')
    """
    for ending, dimension in _ENDINGS.items():
        if name.endswith(ending):
            return amount(value, dimension)  # type: ignore[arg-type]
    return f"{value:.4g} {'mm2' if name.endswith('mm2') else 'J s'}"


def sweep(result: Mapping[str, Any]) -> Iterable[RenderableType]:
    """How many points, the front, and one table an axis of what its values do."""
    failed = f", {result['failed']} without figures" if result["failed"] else ""
    kept = f", {result['resumed']} of them from before" if result["resumed"] else ""
    yield Text(f"{result['points']} points{failed}{kept}, in {result['folder']}")
    yield _front(result)
    for axis, effects in result["what_if"].items():
        yield _effects(axis, effects, result["objectives"])


def _front(result: Mapping[str, Any]) -> Table:
    rows: Sequence[Mapping[str, Any]] = result["front"]
    objectives, by = result["objectives"], result["by"]
    axes = [n for n in (rows[0] if rows else {}) if n in by or _is_field(n)]
    moving = [n for n in axes if n not in by and len({str(row[n]) for row in rows}) > 1]
    title = "Pareto front of " + " and ".join(_TITLES[name][0].split(",")[0] for name in objectives)
    title += f" (the first {SHOWN} of {len(rows)})" if len(rows) > SHOWN else ""
    table = _table(title, *by, *moving, *objectives, "bound by", left=len(by) + len(moving))
    for row in rows[:SHOWN]:
        table.add_row(
            *(escape(str(row[name])) for name in (*by, *moving)),
            *(figure(name, row[name]) for name in objectives),
            escape(str(row["bound_by"])),
        )
    return table


def _is_field(name: str) -> bool:
    """Whether a column is a field of an axis."""
    own = ("design", "cascade", "arch", "mapping", "model", "seq")
    return name in own or name.split(".", maxsplit=1)[0] in ("shape", "set", "choose")


def _effects(axis: str, effects: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> Table:
    table = _table(f"What if: {axis}", "value", "pairs", *objectives)
    for row in effects:
        ratios = ("-" if row[name] is None else f"{row[name]:.4g}x" for name in objectives)
        table.add_row(escape(row["value"]), str(row["pairs"]), *ratios)
    return table


def front_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw the front of the first two objectives, a line for each value of ``by``, log scales."""
    target, figure_of = canvas(path)
    x, y = (*result["objectives"], *result["objectives"])[:2]
    drawing = figure_of(4.8, 3.6)
    axes = drawing.subplots()
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in result["front"]:
        name = ", ".join(str(row[field]) for field in result["by"])
        lines.setdefault(name, []).append((row[x] * _TITLES[x][1], row[y] * _TITLES[y][1]))
    for n, (name, points) in enumerate(lines.items()):
        marker = "osD^vPX*"[n % 8]
        axes.plot(*zip(*sorted(points), strict=True), marker=marker, label=name or result["sweep"],
                  color=COLOURS[n % len(COLOURS)], markersize=4, linewidth=1.2)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=_TITLES[x][0], ylabel=_TITLES[y][0])
    axes.set_title(f"{result['sweep']}: Pareto front", fontsize=11)
    axes.grid(True, which="major", linewidth=0.4, color="#D5DAE1")
    axes.legend(fontsize=8, frameon=False)
    return saved(drawing, target)
