"""Predictions beside what a GPU measured, as pictures, from the object of ``validate gpu``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from accelsim.report.numbers import amount
from accelsim.report.plots import BASELINE, COLOURS, INK, canvas, frame, saved
from accelsim.report.roofline_plots import family, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result: TypeAlias = Mapping[str, Any]

#: Errors beyond this stand in the histogram's last bars.
WIDEST: Final = 0.5
#: Width of a bar of the histogram.
BAR: Final = 0.05
#: Seconds below which an error is told apart: launch overhead and timer, not the kernel.
SHORT: Final = 20e-6
#: Colours of the histogram: rows that the model was built with, rows that it was not.
_KINDS: Final = (COLOURS[0], COLOURS[1], COLOURS[2])


def measured_figure(results: Mapping[str, Result], path: str | Path) -> Path:
    """Draw predicted against measured times beside the histogram of errors.

    ``results``: validations of one GPU by name, as ``recorded`` and
    ``unseen``; those after the first are hollow.
    """
    target, figure_of = canvas(path)
    figure = figure_of(9.2, 4.2)
    left, right = figure.subplots(1, 2)
    _scatter(left, results)
    _histogram(right, results)
    return saved(figure, target)


def scatter_figure(results: Mapping[str, Result], path: str | Path) -> Path:
    """Draw predicted against measured times alone."""
    target, figure_of = canvas(path)
    figure = figure_of(4.8, 4.4)
    _scatter(figure.subplots(), results)
    return saved(figure, target)


def histogram_figure(results: Mapping[str, Result], path: str | Path) -> Path:
    """Draw the histogram of errors alone."""
    target, figure_of = canvas(path)
    figure = figure_of(4.8, 4.4)
    _histogram(figure.subplots(), results)
    return saved(figure, target)


def _scatter(axes: Axes, results: Mapping[str, Result]) -> None:
    from matplotlib.ticker import FuncFormatter

    times = [row["measured_s"] for found in results.values() for row in found["rows"]]
    ends = (min(times, default=1e-6) / 2, max(times, default=1.0) * 2)
    axes.plot(ends, ends, color=INK, linewidth=0.9, zorder=0)
    axes.fill_between(ends, [0.9 * x for x in ends], [1.1 * x for x in ends], color=BASELINE,
                      alpha=0.35, linewidth=0, zorder=0, label="within 10 %")  # fmt: skip
    shown: set[str] = set()
    for number, found in enumerate(results.values()):
        for name in dict.fromkeys(family(row["kernel"]) for row in found["rows"]):
            own = [row for row in found["rows"] if family(row["kernel"]) == name]
            look = {**style(name), "alpha": 0.7, "label": None if name in shown else name}
            if number:
                look["markerfacecolor"] = "none"
            axes.plot([r["measured_s"] for r in own], [r["predicted_s"] for r in own], **look)
            shown.add(name)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    seconds = FuncFormatter(lambda value, _: amount(value, "seconds"))
    axes.xaxis.set_major_formatter(seconds)
    axes.yaxis.set_major_formatter(seconds)
    axes.set(xlabel="measured time", ylabel="predicted time")
    title = " and ".join(f"{name}{' (hollow)' if n else ''}" for n, name in enumerate(results))
    axes.set_title(f"{_gpu(results)}: {title}", fontsize=10, fontweight="bold")
    axes.legend(fontsize=7.5, frameon=False)
    frame(axes)


def _histogram(axes: Axes, results: Mapping[str, Result]) -> None:
    edges = [-WIDEST + n * BAR for n in range(round(2 * WIDEST / BAR) + 1)]
    columns = {name: _errors(found["rows"]) for name, found in results.items()}
    labels = [
        f"{name}: {len(own)} rows, mean {sum(map(abs, own)) / max(len(own), 1):.1%}".replace(
            "%", " %"
        )
        for name, own in columns.items()
    ]
    last = WIDEST - BAR / 2
    inside = [[min(max(e, -last), last) for e in own] for own in columns.values()]
    axes.hist(inside, bins=edges, stacked=True, color=_KINDS[: len(inside)], label=labels,
              edgecolor="white", linewidth=0.5)  # fmt: skip
    axes.axvline(0.0, color=INK, linewidth=0.9)
    shares = [-0.5, -0.25, 0.0, 0.25, 0.5]
    words = ["-50 %\nor less", "-25 %", "0", "+25 %", "+50 %\nor more"]
    axes.set_xticks(shares, words)
    axes.set(xlabel=f"error of the predicted time, rows of {amount(SHORT, 'seconds')} and more",
             ylabel="rows")  # fmt: skip
    axes.set_title(f"{_gpu(results)}: errors", fontsize=10, fontweight="bold")
    axes.margins(y=0.2)
    axes.legend(fontsize=7.5, frameon=False, loc="upper left")
    frame(axes)


def _errors(rows: Sequence[Result]) -> list[float]:
    """Relative errors of rows that are not short."""
    return [row["error"] for row in rows if row["measured_s"] >= SHORT]


def _gpu(results: Mapping[str, Result]) -> str:
    return str(next(iter(results.values()))["gpu"])
