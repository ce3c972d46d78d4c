"""The pictures of the report: which there are, what each is called, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from accelsim.report.bounds import slope_figure
from accelsim.report.gpu_plots import histogram_figure, scatter_figure
from accelsim.report.machine_plots import deviations_figure, published_figure, schedule_figure
from accelsim.report.plots import passes_figure, speedup_figure
from accelsim.report.roofline_plots import gpu_roofline_figure, roofline_figure
from accelsim.report.sweep import front_figure
from accelsim.report.systems_plots import systems_figure

Result: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a section: the stem of its file, what it shows, and what draws it to a path."""

    section: str
    name: str
    caption: str
    draw: Callable[[Path], Path]


def pictures(result: Result) -> Iterator[Picture]:
    """Every picture of what ``explore.report`` gathered, in the order of the page.

    Each is narrow enough for a phone, or as wide as its subject needs.

    >>> nothing = {"comparison": {"rows": []}, "rooflines": [], "estimates": {}, "passes": {}}
    >>> list(pictures({**nothing, "bounds": {}}))
    []
    """
    yield from _designs(result)
    for key, about in (("validation", "FuseMax's evaluation"), ("published", "papers' tables")):
        if key in result:
            beside, errors = (
                partial(published_figure, result[key]),
                partial(deviations_figure, result[key]),
            )
            yield Picture(key, key, f"Each figure of {about} beside ours", beside)
            yield Picture(key, f"{key}-errors", f"Errors against {about}", errors)
    if "gpu" in result:
        yield from _gpu(result["gpu"])
    if "systems" in result:
        caption = "Predicted speedup over dense attention; hollow where it is a bound"
        yield Picture("systems", "systems", caption, partial(systems_figure, result["systems"]))
    if "front" in result:
        front = result["front"]
        caption = f"{front['sweep']}: what none of {front['points']} points beats"
        yield Picture("front", "front", caption, partial(front_figure, front))


def _designs(result: Result) -> Iterator[Picture]:
    """Speedups by model, rooflines by machine, schedules, passes, and traffic by cascade."""
    comparison = result["comparison"]
    for model in dict.fromkeys(row["model"] for row in comparison["rows"]):
        own = {**comparison, "rows": [r for r in comparison["rows"] if r["model"] == model]}
        caption = f"{model}: speedup and energy by length"
        yield Picture("speedup", f"speedup-{model}", caption, partial(speedup_figure, own))
    for arch in dict.fromkeys(r["arch"] for r in result["rooflines"]):
        under = [r for r in result["rooflines"] if r["arch"] == arch]
        caption = f"{', '.join(r['design'] for r in under)} under every ceiling"
        yield Picture("roofline", f"roofline-{arch}", caption, partial(roofline_figure, under))
    for design, found in result["estimates"].items():
        caption = f"{design}: work of each unit by stage"
        yield Picture("schedule", f"schedule-{design}", caption, partial(schedule_figure, found))
    for cascade, found in result["passes"].items():
        caption = f"{cascade}: Einsums in bands of passes"
        yield Picture("passes", f"passes-{cascade}", caption, partial(passes_figure, found))
    for cascade, found in result["bounds"].items():
        caption = f"{cascade}: traffic against capacity"
        yield Picture("traffic", f"traffic-{cascade}", caption, partial(slope_figure, found))


def _gpu(found: Result) -> Iterator[Picture]:
    """A GPU's recorded runs beside predictions, and under its ceilings."""
    scatter, errors = (
        partial(draw, found["validations"]) for draw in (scatter_figure, histogram_figure)
    )
    yield Picture("gpu", "gpu-times", "Each recorded time beside the predicted one", scatter)
    yield Picture("gpu", "gpu-errors", "Errors of the predicted times", errors)
    for one in found["rooflines"]:
        caption = f"Attention kernels with heads of {one['width']} under every ceiling"
        draw = partial(gpu_roofline_figure, [one])
        yield Picture("gpu", f"gpu-roofline-{one['width']}", caption, draw)
