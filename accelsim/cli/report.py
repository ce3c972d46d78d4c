"""``report``: one HTML page of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from accelsim.cli.machine import DESIGNS, LENGTHS, MODEL
from accelsim.cli.options import Json, parts
from accelsim.cli.output import note, print_json, write_text


def report(
    designs: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help=f"Designs; {', '.join(DESIGNS)} if none."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page that is written.")] = Path(
        "report.html"
    ),
    model: Annotated[
        str, typer.Option(metavar="NAME,...", help="Models, as `list models` names them.")
    ] = MODEL,
    seq: Annotated[
        str, typer.Option(metavar="N,...", help="Sequence lengths: 4096, 4K, 1M (K is 1024).")
    ] = LENGTHS,
    baseline: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="DESIGN", help="What to compare with; the first design if none."),
    ] = None,
    detail: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="N", help="The length of which details are shown; the first if none."),
    ] = None,
    sweep: Annotated[
        Optional[Path],  # noqa: UP045
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
