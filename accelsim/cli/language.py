"""``passes`` and ``check``: what can be asked of a cascade alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli.options import Cascade, Config, Json, Length, Model, Shape
from accelsim.cli.output import finish, note, print_json, print_text
from accelsim.report import prose


def passes(
    cascade: Cascade,
    rank: Annotated[
        str | None,
        typer.Option(metavar="RANK", help="Only this rank."),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(metavar="R=N,...", help="Write recurrences out: C=6 has six steps along C."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw the Einsums in bands of passes, as .png, .svg or .pdf."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count the passes a cascade makes over each rank, with the chain of Einsums that proves it."""
    from accelsim.explore.language import told

    result = told(cascade, rank, steps)
    if plot is not None:
        from accelsim.report.plots import passes_figure

        note(f"drawn: {passes_figure(result, plot)}")
    return print_json(result) if as_json else print_text(prose.passes(result))


def check(
    cascade: Cascade,
    shape: Shape = None,
    model: Model = None,
    seq: Length = None,
    config: Config = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random inputs.")] = 0,
    as_json: Json = False,
) -> None:
    """Execute a cascade against the function it says it equals; exit status 1 if it does not."""
    from accelsim.explore.language import check as execute

    found = execute(cascade, shape=shape, model=model, seq=seq, config=config, seed=seed)
    result = found.to_dict()
    if as_json:
        print_json(result)
    else:
        print_text(prose.check(result))
    finish(found.equal)
