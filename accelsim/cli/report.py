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


def report(
    designs: Designs = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page that is written.")] = Path(
        "report.html"
    ),
    model: Models = MODEL,
    seq: Lengths = LENGTHS,
    baseline: Baseline = None,
    detail: Annotated[
        str | None,
        typer.Option(metavar="N", help="The length of which details are shown; the first if none."),
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of a sweep whose Pareto front is shown."),
    ] = None,
    title: Annotated[str, typer.Option(help="The page's heading.")] = "accelsim report",
    as_json: Json = False,
) -> None:
    """Write one self-contained page: tables, roofline, schedule, passes, bounds, validation."""
    from accelsim.explore.report import report as gather

    found = gather(
        list(designs or DESIGNS),
        parts(model),
        parts(seq),
        baseline=baseline,
        detail=detail,
        sweep=sweep,
    )
    if as_json:
        return print_json(found)
    from accelsim.report.page import page

    note(f"written: {write_text(out, page(found, title))}")
    return None
