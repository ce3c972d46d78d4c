"""Results as pictures.  Matplotlib is imported when a picture is drawn, never before.

As in ``report.tables``, each function takes the object that the command
prints with ``--json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from accelsim.errors import one_of, refuse

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS: Final = (".png", ".svg", ".pdf")
#: Okabe and Ito's colours, which colour-blind readers tell apart; grey is the baseline's.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
BASELINE: Final = "#9A9A9A"


def speedup_figure(comparison: Mapping[str, Any], path: str | Path) -> Path:
    """Draw speedup and relative energy of designs over the baseline by length; returns the file.

    A column of panels a model, a group of bars a length, a colour a design, as
    the evaluation of FuseMax (MICRO 2024) shows them.  The ending of ``path``
    chooses the format; folders that are missing are made.
    """
    target = Path(path)
    if target.suffix not in FORMATS:
        raise refuse(f"no picture of the format of {target}", one_of(FORMATS))
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise refuse("pictures need Matplotlib", "pip install 'accelsim[plot]'") from None

    rows: Sequence[Mapping[str, Any]] = comparison["rows"]
    models = list(dict.fromkeys(row["model"] for row in rows))
    lengths = list(dict.fromkeys(str(row["seq"]) for row in rows))
    width = max(6.4, 0.9 + len(models) * max(2.2, 0.62 * len(lengths)))
    figure = Figure(figsize=(width, 5.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
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
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    return target


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
