"""``map``: the best mapping of a cascade on a machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from accelsim.cli.options import Cascade, Config, Json, Length, Model, Sets, Shape
from accelsim.cli.output import note, print_json, print_tables

if TYPE_CHECKING:
    from collections.abc import Callable


def map_(
    cascade: Cascade,
    arch: Annotated[str, typer.Option(metavar="NAME", help="An architecture's name or file.")],
    model: Model = None,
    seq: Length = None,
    shape: Shape = None,
    config: Config = None,
    sets: Sets = None,
    objective: Annotated[
        str, typer.Option(metavar="latency|energy|edp", help="What is minimised.")
    ] = "latency",
    unit: Annotated[
        Optional[list[str]],  # noqa: UP045 (Typer reads it at run time)
        typer.Option(metavar="EINSUM=UNIT", help="An Einsum's unit. May be repeated."),
    ] = None,
    hold: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="TENSOR=LEVEL", help="Hold a tensor there. May be repeated."),
    ] = None,
    tile: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="PART=N", help="Extent of a part, as M0=256. May be repeated."),
    ] = None,
    buffers: Annotated[
        int, typer.Option(metavar="N", help="Copies of tiles that are filled again and again.")
    ] = 2,
    gap: Annotated[
        float, typer.Option(metavar="SHARE", help="Stop this close to the best of the mapspace.")
    ] = 1e-3,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Write the mapping, for `estimate --mapping FILE`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the best mapping: tiles, loop order, what is held where, units and schedule."""
    from accelsim.explore.map import map_ as find
    from accelsim.explore.wishes import extents, pairs

    bar, end = _progress()
    try:
        found = find(
            cascade,
            arch=arch,
            model=model,
            seq=seq,
            shape=shape,
            config=config,
            sets=tuple(sets or ()),
            objective=objective,
            units=pairs(unit, "--unit"),
            holds=pairs(hold, "--hold"),
            tiles=extents(tile),
            buffers=buffers,
            gap=gap,
            progress=bar,
        )
    finally:
        end()
    if out is not None:
        out.write_text(found.yaml(), encoding="utf-8")
        note(f"wrote {out}")
    if as_json:
        return print_json(found.to_dict())
    from accelsim.report.plan import plan

    return print_tables(plan(found.to_dict()))


def _progress() -> tuple[Callable[[str, int, int], None] | None, Callable[[], None]]:
    """A bar on standard error, where that is a terminal, and what takes it away again."""
    if not sys.stderr.isatty():
        return None, lambda: None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    tasks: dict[str, object] = {}

    def show(group: str, done: int, of: int) -> None:
        if not tasks:
            bar.start()
        if group not in tasks:
            tasks[group] = bar.add_task(group, total=of)
        bar.update(tasks[group], completed=done)  # type: ignore[arg-type]

    return show, bar.stop
