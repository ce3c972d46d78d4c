"""Published systems as a picture: predicted speedups, by machine and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from accelsim.report.plots import COLOURS, INK, MARKERS, canvas, frame, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result: TypeAlias = Mapping[str, Any]


def systems_figure(result: Result, path: str | Path) -> Path:
    """Draw the predicted speedup of every system and phase: a column a machine, a mark a length.

    ``result`` is the object of ``systems --json``.  Hollow marks are bounds:
    no kernel is described, so the speedup is at most that.  Machines that only
    one system has (its own hardware) are left to the table.
    """
    target, figure_of = canvas(path)
    lines = [
        (row["name"], phase, [c for c in row["cells"] if c["phase"] == phase])
        for row in result["systems"]
        for phase in dict.fromkeys(c["phase"] for c in row["cells"])
    ]
    seen = [one["machine"] for _, _, cells in lines for c in cells[:1] for one in c["predicted"]]
    machines = [name for name in dict.fromkeys(seen) if seen.count(name) > 1 or len(lines) == 1]
    figure = figure_of(3.0 + 2.6 * len(machines), 1.2 + 0.19 * len(lines))
    columns = figure.subplots(1, max(1, len(machines)), sharey=True, squeeze=False)[0]
    for axes, machine in zip(columns, machines, strict=False):
        _column(axes, machine, lines)
    columns[0].set_yticks(range(len(lines)), [f"{name}, {phase}" for name, phase, _ in lines])
    columns[0].tick_params(axis="y", labelsize=7.5)
    columns[0].set_ylim(len(lines) - 0.4, -0.6)
    if machines:
        columns[0].legend(fontsize=7, frameon=False, loc="lower right")
    return saved(figure, target)


def _column(axes: Axes, machine: str, lines: Sequence[tuple[str, str, Sequence[Result]]]) -> None:
    """Marks of one machine."""
    lengths = list(dict.fromkeys(c["seq"] for _, _, cells in lines for c in cells))
    for number, length in enumerate(lengths):
        colour = COLOURS[number % len(COLOURS)]
        points = [
            (one["speedup"], at, one["how"] == "bound")
            for at, (_, _, cells) in enumerate(lines)
            for c in cells
            if c["seq"] == length
            for one in c["predicted"]
            if one["machine"] == machine
        ]
        for hollow in (False, True):
            own = [(x, at) for x, at, bound in points if bound == hollow]
            label = f"{length // 1024}K" if length % 1024 == 0 else str(length)
            axes.scatter(
                [x for x, _ in own], [at for _, at in own], s=22,
                marker=MARKERS[number % len(MARKERS)], facecolor="none" if hollow else colour,
                edgecolor=colour, linewidth=1.0, label=None if hollow else label, zorder=3,
            )  # fmt: skip
    axes.axvline(1.0, color=INK, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("speedup over dense attention")
    axes.set_title(machine, fontsize=10, fontweight="bold")
    frame(axes)
