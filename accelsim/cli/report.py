"""``report``: one HTML page of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli.options import (
    DESIGNS,
    LENGTHS,
    MODEL,
    Baseline,
    Designs,
    Json,
    Lengths,
    Models,
    parts,
)
from accelsim.cli.output import note, print_json, write_text

Page = Annotated[Path, typer.Option("--out", metavar="FILE", help="The page that is written.")]
Detail = Annotated[
    str | None,
    typer.Option(metavar="N", help="The length of which details are shown; the first if none."),
]
Sweep = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The folder of a sweep whose Pareto front is shown; FuseMax's study if none.",
    ),
]
Gpu = Annotated[
    str, typer.Option(metavar="NAME", help="The GPU whose recorded runs are shown beside ours.")
]
Without = Annotated[
    str,
    typer.Option(
        metavar="PART,...",
        help="Parts to leave out: bounds, fusemax, published, gpu, systems, front.",
    ),
]
Plots = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write every picture to a folder too, as .svg and .png."),
]
Title = Annotated[str, typer.Option(help="The page's heading.")]


def report(
    designs: Designs = None,
    out: Page = Path("report.html"),
    model: Models = MODEL,
    seq: Lengths = LENGTHS,
    baseline: Baseline = None,
    detail: Detail = None,
    sweep: Sweep = None,
    gpu: Gpu = "h100-sxm",
    without: Without = "",
    plots: Plots = None,
    title: Title = "accelsim report",
    as_json: Json = False,
) -> None:
    """Write one self-contained page: tables, roofline, schedule, passes, bounds, validation."""
    from accelsim.explore.report import report as gather
    from accelsim.report.plots import needed

    if plots is not None or not as_json:
        needed()
    found = gather(
        list(designs or DESIGNS),
        parts(model),
        parts(seq),
        baseline=baseline,
        detail=detail,
        sweep=sweep,
        gpu=gpu,
        without=parts(without),
        tell=note,
    )
    if plots is not None:
        from accelsim.report.page import save_pictures

        drawn = [
            path for ending in (".svg", ".png") for path in save_pictures(found, plots, ending)
        ]
        note(f"drawn: {len(drawn)} pictures in {plots}")
    if as_json:
        return print_json(found)
    from accelsim.report.page import page

    note(f"written: {write_text(out, page(found, title))}")
    return None
