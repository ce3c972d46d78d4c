"""``import`` and ``export``: documents of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli.options import Json, Length, Mapping, MaybeArch, MaybeCascade, Model, Out, Shape
from accelsim.cli.output import note, print_json, print_text, write_text


def import_(
    file: Annotated[Path, typer.Argument(help="A TeAAL, AccelForge or Timeloop document.")],
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="teaal, accelforge-workload, accelforge-arch, timeloop-problem or timeloop-arch; "
            "what the document is, if not said.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to call it; the file's name, if not said."),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Read another tool's document as one of ours, and say what has no counterpart."""
    from accelsim.explore.exchange import import_ as read

    found = read(file, kind, name)
    for told in found.notes:
        note(f"note: {told}")
    if found.sizes:
        note("sizes: --shape " + ",".join(f"{rank}={size}" for rank, size in found.sizes.items()))
    if out is not None:
        note(f"written: {write_text(out, found.text)}")
    if as_json:
        return print_json(found.to_dict())
    return None if out is not None else print_text(found.text)


def export(
    cascade: MaybeCascade = None,
    to: Annotated[str, typer.Option(metavar="TOOL", help="accelforge.")] = "accelforge",
    arch: MaybeArch = None,
    mapping: Mapping = None,
    model: Model = None,
    seq: Length = None,
    shape: Shape = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Write a problem, machine and mapping as another tool's document, and what it cannot say."""
    from accelsim.explore.export import export as write

    found = write(
        to, cascade=cascade, arch=arch, mapping=mapping, model=model, seq=seq, shape=shape
    )
    for told in found.notes:
        note(f"note: {told}")
    if out is not None:
        note(f"written: {write_text(out, found.text)}")
    if as_json:
        return print_json(found.to_dict())
    return None if out is not None else print_text(found.text)
