"""Results as pictures.  Matplotlib is imported when a picture is drawn, never before.

As in ``report.tables``, each function takes the object that the command
prints with ``--json``.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from accelsim.errors import one_of, refuse
from accelsim.files import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS: Final = (".png", ".svg", ".pdf")
#: Okabe and Ito's colours, which colour-blind readers tell apart; grey is the baseline's.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
BASELINE: Final = "#9A9A9A"
INK: Final = "#444444"
MARKERS: Final = "oDs^vPX*"


def canvas(path: str | Path) -> tuple[Path, Callable[[float, float], Figure]]:
    """The file to draw to, and what makes a figure of a width and height in inches."""
    target = Path(path)
    if target.suffix not in FORMATS:
        raise refuse(f"no picture of the format of {target}", one_of(FORMATS))
    needed()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def figure_of(width: float, height: float) -> Figure:
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        return figure

    return target, figure_of


def see_through() -> AbstractContextManager[None]:
    """While it lasts, figures are saved without a background of their own."""
    needed()
    from matplotlib import rc_context

    found: AbstractContextManager[None] = rc_context({"savefig.transparent": True})
    return found


def needed() -> None:
    """Refuse to draw where Matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise refuse("pictures need Matplotlib", "pip install 'accelsim[plot]'") from None


def saved(figure: Figure, target: Path) -> Path:
    """Write a figure in the format of the file's ending, with the folders that are missing."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=target.suffix[1:])
    return write(target, drawn.getvalue())


def frame(axes: Axes) -> None:
    """Leave the axes at the left and below, and a faint grid behind what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)


def speedup_figure(comparison: Mapping[str, Any], path: str | Path) -> Path:
    """Draw speedup and relative energy of designs over the baseline by length; returns the file.

    A column of panels a model, a group of bars a length, a colour a design, as
    the evaluation of FuseMax (MICRO 2024) shows them.  The ending of ``path``
    chooses the format; folders that are missing are made.
    """
    target, figure_of = canvas(path)
    rows: Sequence[Mapping[str, Any]] = comparison["rows"]
    models = list(dict.fromkeys(row["model"] for row in rows))
    lengths = list(dict.fromkeys(str(row["seq"]) for row in rows))
    width = max(4.8, 0.9 + len(models) * max(2.2, 0.62 * len(lengths)))
    figure = figure_of(width, 5.0)
    panels = figure.subplots(2, len(models), squeeze=False, sharex=True, sharey="row")
    for column, model in enumerate(models):
        own = [row for row in rows if row["model"] == model]
        top, bottom = panels[0][column], panels[1][column]
        _bars(top, own, lengths, "speedup", comparison["baseline"], "{:.1f}")
        _bars(bottom, own, lengths, "energy_ratio", comparison["baseline"], "{:.2f}")
        top.set_title(str(model), fontsize=11, fontweight="bold")
        bottom.set_xlabel("sequence length")
    panels[0][0].set_ylabel(f"speedup over {comparison['baseline']}")
    panels[1][0].set_ylabel(f"energy relative to {comparison['baseline']}")
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    return saved(figure, target)


def _bars(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    lengths: Sequence[str],
    key: str,
    baseline: str,
    label: str,
) -> None:
    """A group of bars a length, one a design numbered but the baseline's."""
    designs = list(dict.fromkeys(row["design"] for row in rows))
    others = [d for d in designs if d != baseline]
    bar = 0.84 / len(designs)
    value = {(row["design"], str(row["seq"])): row[key] for row in rows}
    for position, design in enumerate(designs):
        shown = [(i, value[design, n]) for i, n in enumerate(lengths) if (design, n) in value]
        at = [i + (position - (len(designs) - 1) / 2) * bar for i, _ in shown]
        colour = COLOURS[others.index(design) % len(COLOURS)] if design in others else BASELINE
        drawn = axes.bar(at, [y for _, y in shown], bar * 0.94, color=colour, label=design)
        if design != baseline:
            axes.bar_label(drawn, fmt=label, fontsize=6.5, padding=1.5, color="#444444")
    axes.set_xticks(range(len(lengths)), list(lengths))
    axes.margins(x=0.02, y=0.12)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)


def passes_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw a cascade's Einsums in bands of passes over the rank that needs most; returns the file.

    A row for each step of dependence, an arrow from each Einsum to those that
    read it, red where the chain runs that forces a new pass.
    """
    target, figure_of = canvas(path)
    counts: Mapping[str, float | None] = result["passes"]
    rank = max(counts, key=lambda r: (counts[r] is None, counts[r] or 0))
    band: Mapping[str, int | None] = result["bands"][rank]
    finite = [n for n in band.values() if n is not None]
    last = max(finite, default=1)
    column = {name: (last + 1 if n is None else n) for name, n in band.items()}
    row = _rows(result["reads"], column)
    forced = {pair for chain in result["chains"][rank] for pair in itertools.pairwise(chain)}
    widest = max(len(names) for names in _cells(row, column).values())
    wide, high = max(column.values()), max(row.values()) + 1
    figure = figure_of(max(4.8, 1.9 * wide * max(1.0, 0.62 * widest)), max(3.2, 0.75 * high))
    axes = figure.subplots()
    at = _places(row, column)
    for number in range(1, wide + 1):
        shade = "#F3F5F8" if number % 2 else "#E6EAF0"
        axes.axvspan(number - 0.5, number + 0.5, color=shade, zorder=0)
        title = f"pass {number}" if number <= last else "no number of passes"
        axes.text(number, -0.75, title, ha="center", va="center", fontsize=10, fontweight="bold")
    for name, sources in result["reads"].items():
        for source in sources:
            if source in at and name in at and source != name:
                colour = "#C1272D" if (source, name) in forced else "#8A94A3"
                axes.annotate(
                    "",
                    at[name],
                    at[source],
                    arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 11, "shrinkB": 11},
                )
    for name, (x, y) in at.items():
        box = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": COLOURS[0]}
        axes.text(x, y, name, ha="center", va="center", fontsize=9, bbox=box, zorder=3)
    axes.set_xlim(0.5, wide + 0.5)
    axes.set_ylim(high - 0.4, -1.2)
    axes.axis("off")
    axes.set_title(f"{result['cascade']}: passes over {rank}", fontsize=11)
    return saved(figure, target)


def _rows(reads: Mapping[str, Sequence[str]], column: Mapping[str, int]) -> dict[str, int]:
    """Steps of dependence: one below the lowest Einsum above in text order that is read."""
    found: dict[str, int] = {}
    for name, sources in reads.items():
        if name in column:
            found[name] = 1 + max((found[s] for s in sources if s in found), default=-1)
    return found


def _cells(row: Mapping[str, int], column: Mapping[str, int]) -> dict[tuple[int, int], list[str]]:
    """Einsums that share a row and a band."""
    found: dict[tuple[int, int], list[str]] = {}
    for name in row:
        found.setdefault((row[name], column[name]), []).append(name)
    return found


def _places(row: Mapping[str, int], column: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Where each Einsum stands: those of one cell beside each other within the band."""
    found = {}
    for (y, x), names in _cells(row, column).items():
        for n, name in enumerate(names):
            found[name] = (x + (n + 1) / (len(names) + 1) - 0.5, float(y))
    return found
