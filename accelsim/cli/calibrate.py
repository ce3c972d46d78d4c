"""``calibrate``: this GPU's ceilings, as an architecture file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from accelsim.cli.options import Json
from accelsim.cli.output import note, print_json


def calibrate(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The GPU file to write, ending in .yaml.")
    ],
    source: Annotated[
        Optional[Path],  # noqa: UP045 (Typer reads it at run time)
        typer.Option("--from", metavar="DIR", help="A recorded run instead of this GPU."),
    ] = None,
    keep: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Where to keep the records; beside the file if none."),
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="The GPU's name in the file.")] = "",
    as_json: Json = False,
) -> None:
    """Measure this GPU's ceilings one at a time and write its file, saying how each was found."""
    from accelsim.explore.calibrate import calibrate as measure

    found = measure(out, source=source, keep=keep, name=name, tell=note)
    if as_json:
        return print_json(found.to_dict())
    return note(f"{found.device}: {found.path} written, from {', '.join(map(str, found.records))}")
