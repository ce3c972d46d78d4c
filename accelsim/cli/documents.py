"""``list``, ``show`` and ``schema``: what there is and what it says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from accelsim.cli.options import Json
from accelsim.cli.output import print_json, print_tables, print_text


def list_(
    kind: Annotated[
        str, typer.Argument(help="cascades, archs, models, designs, mappings, systems, formats ...")
    ] = "cascades",
    as_json: Json = False,
) -> None:
    """List cascades, architectures, models, designs, systems, formats ..., a line each."""
    from accelsim.explore.documents import list_names

    result = {kind: [asdict(entry) for entry in list_names(kind)]}
    if as_json:
        return print_json(result)
    from accelsim.report import tables

    return print_tables(tables.listing(result))


def show(
    file: Annotated[str, typer.Argument(help="A document's name or file.")],
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="cascade, arch, mapping, design, system, format ..."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the canonical text of a document: a cascade, an architecture, a system ..."""
    from accelsim.explore.documents import show as text_of

    text = text_of(file, kind)
    return print_json({"file": file, "text": text}) if as_json else print_text(text)


def schema(
    kind: Annotated[str, typer.Argument(help="arch, cascade, mapping, design, system, format ...")],
    as_json: Json = False,
) -> None:
    """Print the JSON Schema of a kind of document, for editors; it is JSON either way."""
    from accelsim.explore.documents import schema as schema_of

    print_json(schema_of(kind))
