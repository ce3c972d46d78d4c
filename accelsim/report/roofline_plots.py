"""Rooflines: operations a second against operations a byte, under every ceiling of a machine.

Each function takes a part of the object that ``accelsim report --json``
prints and returns the file that it drew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from accelsim.report.numbers import amount
from accelsim.report.plots import BASELINE, COLOURS, INK, MARKERS, canvas, frame, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ceilings: TypeAlias = Mapping[str, Any]

#: Families of GPU kernels: what a name begins with, and what pictures call them.
FAMILIES: Final = {
    "attention-": "attention, ours",
    "flash-attention": "attention, libraries",
    "cudnn-attention": "attention, libraries",
    "decode-": "decoding",
    "linear-": "linear attention",
    "cublas-gemm": "matrix products",
    "gemv": "matrix products",
}
ROWS: Final = "softmax, norms, copies"
#: Styles of flat lines.
LINES: Final = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))


def family(kernel: str) -> str:
    """The family of a kernel.

    >>> family("attention-1pass-mma"), family("layernorm")
    ('attention, ours', 'softmax, norms, copies')
    """
    return next((name for start, name in FAMILIES.items() if kernel.startswith(start)), ROWS)


def style(name: str) -> dict[str, Any]:
    """Marker and colour of a family, the same in every picture."""
    number = [*dict.fromkeys([*FAMILIES.values(), ROWS])].index(name)
    return {
        "marker": MARKERS[number],
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": "",
        "markersize": 4,
        "markeredgewidth": 0.6,
    }


def roofline_figure(rooflines: Sequence[Ceilings], path: str | Path) -> Path:
    """Draw a panel a machine: bandwidths as slopes, units and operations as ceilings.

    Full lines are units at one operation a PE and cycle, dashed ones all units
    at one class of operation that takes them longer, and the band of a
    design's colour is what its own Einsums allow, shared out at best.  A design
    stands over the bytes of each level whose bandwidth the machine states.
    """
    target, figure_of = canvas(path)
    machines = list(dict.fromkeys(r["arch"] for r in rooflines))
    columns = min(len(machines), 3)
    rows = -(-len(machines) // columns)
    figure = figure_of(max(4.8, 3.9 * columns), 4.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, machine in zip(panels, machines, strict=False):
        _array(axes, machine, [r for r in rooflines if r["arch"] == machine])
    for axes in panels[len(machines) :]:
        axes.axis("off")
    return saved(figure, target)


def _array(axes: Axes, machine: str, designs: Sequence[Ceilings]) -> None:
    first = designs[0]
    slopes: Mapping[str, float] = first["slopes"]
    units: Mapping[str, float] = first["ceilings"]
    known = list(units.values())
    slower = {
        f"{name} alone": rate
        for name, rate in first["classes"].items()
        if all(abs(rate / other - 1) > 0.1 for other in known)
    }
    at = [i for d in designs for n, i in d["intensity"].items() if n in slopes]
    low, high = _reach(at, slopes, max(known))
    rates = [*known, *slower.values(), *(d["rate"] for d in designs)]
    _flat(axes, {**units, **slower}, "Tops/s")
    _slopes(axes, slopes, low, high, max(known))
    for n, design in enumerate(designs):
        colour = COLOURS[(n + 1) % len(COLOURS)]
        bandwidth = min(slopes.values(), default=float("inf"))
        knee = min(max(design["mix"] / bandwidth, low), high)
        roof = [min(design["mix"], x * bandwidth) for x in (low, knee, high)]
        label = f"{design['design']}'s Einsums, {design['mix'] / 1e12:.4g} Tops/s"
        axes.plot([low, knee, high], roof, color=colour, linewidth=5, alpha=0.3, label=label)
        inside = [i for name, i in design["intensity"].items() if name in slopes]
        marker = MARKERS[n % len(MARKERS)]
        axes.plot(inside, [design["rate"]] * len(inside), linestyle="", color=colour,
                  marker=marker, markersize=7, label=design["design"])  # fmt: skip
    axes.set(xlim=(low, high), ylim=(min(*rates, low * min(slopes.values(), default=1e300)) / 4,
                                     max(rates) * 3))  # fmt: skip
    _labelled(axes, "operations a byte", "operations a second", machine)


def gpu_roofline_figure(rooflines: Sequence[Ceilings], path: str | Path) -> Path:
    """Draw a panel a width of heads: measured attention kernels under a GPU's ceilings.

    The exponential unit's ceiling is the FLOP of both products that its
    exponentials allow; it rises with the width.
    """
    target, figure_of = canvas(path)
    figure = figure_of(max(4.8, 3.9 * len(rooflines)), 4.6)
    panels = figure.subplots(1, max(len(rooflines), 1), squeeze=False)[0]
    for axes, found in zip(panels, rooflines, strict=False):
        _gpu(axes, found)
    return saved(figure, target)


def _gpu(axes: Axes, found: Ceilings) -> None:
    ceilings, slopes, points = found["ceilings"], found["slopes"], found["points"]
    top = max(ceilings.values())
    low, high = _reach([p["intensity"] for p in points], slopes, top)
    _flat(axes, ceilings, "TFLOP/s")
    _slopes(axes, slopes, low, high, top)
    for name in dict.fromkeys(family(p["kernel"]) for p in points):
        own = [p for p in points if family(p["kernel"]) == name]
        axes.plot([p["intensity"] for p in own], [p["measured"] for p in own], alpha=0.7,
                  label=name, **style(name))  # fmt: skip
    least = min(*(p["measured"] for p in points), *ceilings.values())
    axes.set(xlim=(low, high), ylim=(least / 3, top * 3))
    title = f"{found['gpu']}, heads of {found['width']}"
    _labelled(axes, "FLOP a compulsory byte", "FLOP a second, measured", title)


def _reach(at: Iterable[float], slopes: Mapping[str, float], top: float) -> tuple[float, float]:
    """The intensities that a picture shows: points and knees with some room."""
    found = [*at, *(top / slope for slope in slopes.values())] or [1.0]
    return min(found) / 8, max(found) * 8


def _flat(axes: Axes, ceilings: Mapping[str, float], unit: str) -> None:
    """Ceilings as flat lines, each in a style of its own; the legend names them."""
    for n, (name, rate) in enumerate(ceilings.items()):
        label = f"{name}, {rate / 1e12:.4g} {unit}"
        axes.axhline(rate, color=INK, linewidth=1.2, linestyle=LINES[n % len(LINES)], label=label)


def _slopes(axes: Axes, slopes: Mapping[str, float], low: float, high: float, top: float) -> None:
    """Bandwidths as slopes up to the highest ceiling; the legend names them."""
    for n, (name, slope) in enumerate(slopes.items()):
        end = min(top / slope, high)
        label = f"{name}, {amount(slope, 'bytes')}/s"
        axes.plot([low, end], [low * slope, end * slope], linewidth=1.4, label=label,
                  color=INK if n == 0 else BASELINE, zorder=1.5)  # fmt: skip


def _labelled(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=11, fontweight="bold")
    frame(axes)
    axes.legend(
        fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2
    )
