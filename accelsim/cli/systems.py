"""``systems``: published systems in one table, and how the numbers of each come about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from accelsim.cli.options import Json, Model, Shape, parts
from accelsim.cli.output import note, print_json, print_tables, write_text


def systems(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A system's or cascade's name or file; all if none."),
    ] = None,
    seq: Annotated[
        str, typer.Option(metavar="N,...", help="Sequence lengths: 4K,32K (K is 1024).")
    ] = "4K,32K,128K",
    shape: Shape = None,
    model: Model = None,
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--csv", metavar="FILE", help="Write the table as CSV."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the speedups, as .png, .svg or .pdf."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare published systems: passes, live words, operations, bytes, bits; open one by name."""
    from accelsim.explore.systems import system as one
    from accelsim.explore.systems import systems as every
    from accelsim.report import systems as report
    from accelsim.report.systems_row import system as opened

    lengths = parts(seq)
    if name is None:
        result = every(lengths).to_dict()
    else:
        result = one(name, lengths, shape=shape, model=model).to_dict()
    rows = result if name is None else {"systems": [result]}
    if file is not None:
        note(f"written: {write_text(file, report.csv_text(rows))}")
    if plot is not None:
        from accelsim.report.systems_plots import systems_figure

        note(f"drawn: {systems_figure(rows, plot)}")
    if as_json:
        return print_json(result)
    return print_tables(report.systems(result) if name is None else opened(result))
