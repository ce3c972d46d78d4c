"""``sweep``: design-space exploration to Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli.options import Json
from accelsim.cli.output import note, print_json, print_tables

if TYPE_CHECKING:
    from accelsim.explore.sweep import Progress


def sweep(
    spec: Annotated[str, typer.Argument(help="A sweep's name or file.")],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The folder that the results go to, and resume from."),
    ],
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes; all cores if not said."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler instead, as tcp://host:8786."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what the folder holds.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all rows to one .csv, .json or .parquet too."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the Pareto front, as .png, .svg or .pdf."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Price every point of a design space; a sweep that was stopped goes on where it was."""
    from accelsim.explore.sweep import export_rows
    from accelsim.explore.sweep import sweep as run

    with _bar() as progress:
        found = run(
            spec, out, workers=workers, scheduler=scheduler, restart=restart, progress=progress
        ).to_dict()
    if export is not None:
        note(f"written: {export_rows(out, export)}")
    if plot is not None:
        from accelsim.report.sweep import front_figure

        note(f"drawn: {front_figure(found, plot)}")
    if as_json:
        return print_json(found)
    from accelsim.report.sweep import sweep as tables

    return print_tables(tables(found))


@contextmanager
def _bar() -> Iterator[Progress]:
    """A progress bar on standard error with points a second and the time that is left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} points/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rate=0.0)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, rate=bar.tasks[0].speed or 0.0)

        yield progress
