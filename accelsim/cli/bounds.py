"""``bounds``: what a cascade costs on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli.options import Cascade, Config, Json, Length, Model, Shape
from accelsim.cli.output import finish, note, print_json, print_tables


def bounds(
    cascade: Cascade,
    shape: Shape = None,
    model: Model = None,
    seq: Length = None,
    config: Config = None,
    capacity: Annotated[
        str, typer.Option(metavar="SIZE", help="On-chip capacity: 16MiB, 228 KiB.")
    ] = "16MiB",
    word: Annotated[
        str, typer.Option(metavar="SIZE", help="Size of an element: 2B, 16 bit.")
    ] = "2B",
    curve: Annotated[
        bool, typer.Option("--curve", help="Also at other capacities: the ski slope.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the ski slope (.png, .svg, .pdf)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bound the traffic, the buffer and the work of a cascade; exit status 1 if a bound breaks."""
    from accelsim.explore.bounds import bounds as find

    found = find(
        cascade,
        shape=shape,
        model=model,
        seq=seq,
        config=config,
        capacity=capacity,
        word=word,
        curve=curve or plot is not None,
    )
    result = found.to_dict()
    if plot is not None:
        from accelsim.report.bounds import slope_figure

        note(f"drew {slope_figure(result, plot)}")
    if as_json:
        print_json(result)
    else:
        from accelsim.report.bounds import bounds as tables

        print_tables(tables(result))
    finish(found.holds)
