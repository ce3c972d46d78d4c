"""``map``: the best mapping of a cascade on a machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from accelsim.cli.options import Cascade, Config, Json, Length, Model, Sets, Shape
from accelsim.cli.output import note, print_json, print_tables
from accelsim.errors import Place, refuse

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
        str, typer.Option(metavar="latency|energy|edp|buffer", help="What is minimised.")
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
    spread: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="EINSUM=ROWS/COLS", help="Ranks along an array. May be repeated."),
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
    pareto: Annotated[
        bool, typer.Option("--pareto", help="What room buys: a front of room, latency, energy.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find the best mapping: tiles, loop order, what is held where, units and schedule."""
    from accelsim.explore import map as verbs
    from accelsim.explore.wishes import extents, pairs, sides
    from accelsim.report import plan

    parts: dict[str, Any] = {
        "arch": arch,
        "model": model,
        "seq": seq,
        "shape": shape,
        "config": config,
        "sets": tuple(sets or ()),
        "units": pairs(unit, "--unit"),
        "holds": pairs(hold, "--hold"),
        "tiles": extents(tile),
        "spreads": sides(spread),
        "buffers": buffers,
        "gap": gap,
    }
    if pareto:
        front = verbs.pareto(cascade, **parts).to_dict()
        return print_json(front) if as_json else print_tables(plan.front(front))
    bar, end = _progress()
    try:
        found = verbs.map_(cascade, objective=objective, progress=bar, **parts)
    finally:
        end()
    if out is not None:
        _write(out, found.yaml())
    if as_json:
        return print_json(found.to_dict())
    return print_tables(plan.plan(found.to_dict()))


def _write(out: Path, text: str) -> None:
    from accelsim.explore.rows import replace

    try:
        replace(out, text.encode())
    except OSError as error:
        raise refuse(
            f"{out} cannot be written: {error.strerror}", "a file in a folder", Place("--out")
        ) from None
    note(f"wrote {out}")


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
