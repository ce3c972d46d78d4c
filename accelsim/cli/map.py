"""``map``: the best mapping of a cascade on a machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.cli.options import Arch, Cascade, Config, Json, Length, Model, Sets, Shape
from accelsim.cli.output import note, print_json, print_tables, write_text
from accelsim.errors import Place, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

Objective = Annotated[
    str, typer.Option(metavar="latency|energy|edp|buffer", help="What is minimised.")
]
Unit = Annotated[
    list[str] | None,
    typer.Option(metavar="EINSUM=UNIT", help="An Einsum's unit. May be repeated."),
]
Hold = Annotated[
    list[str] | None,
    typer.Option(metavar="TENSOR=LEVEL", help="Hold a tensor there. May be repeated."),
]
Tile = Annotated[
    list[str] | None,
    typer.Option(metavar="PART=N", help="Extent of a part, as M0=256. May be repeated."),
]
Spread = Annotated[
    list[str] | None,
    typer.Option(metavar="EINSUM=ROWS/COLS", help="Ranks along an array. May be repeated."),
]
Buffers = Annotated[
    int, typer.Option(metavar="N", help="Copies of tiles that are filled again and again.")
]
Gap = Annotated[
    float, typer.Option(metavar="SHARE", help="Stop this close to the best of the mapspace.")
]
MappingFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Write the mapping, for `estimate --mapping FILE`; on a GPU the kernel, for `estimate"
        " --kernel FILE`.",
    ),
]
Pareto = Annotated[
    bool, typer.Option("--pareto", help="What room buys: a front of room, latency, energy.")
]


def map_(
    cascade: Cascade,
    arch: Arch,
    model: Model = None,
    seq: Length = None,
    shape: Shape = None,
    config: Config = None,
    sets: Sets = None,
    objective: Objective = "latency",
    unit: Unit = None,
    hold: Hold = None,
    tile: Tile = None,
    spread: Spread = None,
    buffers: Buffers = 2,
    gap: Gap = 1e-3,
    out: MappingFile = None,
    pareto: Pareto = False,
    as_json: Json = False,
) -> None:
    """Find the best mapping: tiles, loop order, what is held where, units and schedule."""
    from accelsim.explore.estimate_cascade import runs_on_gpu
    from accelsim.explore.wishes import extents, pairs, sides

    asked: dict[str, Any] = {
        "arch": arch,
        "model": model,
        "seq": seq,
        "shape": shape,
        "config": config,
        "sets": tuple(sets or ()),
    }
    wishes: dict[str, Any] = {
        "units": pairs(unit, "--unit"),
        "holds": pairs(hold, "--hold"),
        "tiles": extents(tile),
        "spreads": sides(spread),
    }
    if runs_on_gpu(arch):
        spatial = {"--unit": unit, "--hold": hold, "--tile": tile, "--spread": spread}
        _no_wishes({**spatial, "--pareto": pareto})
        return _on_gpu(cascade, objective, asked, out, as_json)
    asked |= {**wishes, "buffers": buffers, "gap": gap}
    if pareto:
        return _front(cascade, asked, as_json)
    return _best(cascade, objective, asked, out, as_json)


def _front(cascade: str, asked: dict[str, Any], as_json: bool) -> None:
    """Print what room buys."""
    from accelsim.explore.map import pareto
    from accelsim.report import plan

    front = pareto(cascade, **asked).to_dict()
    return print_json(front) if as_json else print_tables(plan.front(front))


def _best(
    cascade: str, objective: str, asked: dict[str, Any], out: Path | None, as_json: bool
) -> None:
    """Print the best mapping, and write it where it is wanted."""
    from accelsim.explore.map import map_ as search
    from accelsim.report import plan

    bar, end = _progress()
    try:
        found = search(cascade, objective=objective, progress=bar, **asked)
    finally:
        end()
    if out is not None:
        note(f"wrote {write_text(out, found.yaml())}")
    result = found.to_dict()
    return print_json(result) if as_json else print_tables(plan.plan(result))


def _no_wishes(given: dict[str, Any]) -> None:
    """Refuse what only a spatial machine can be asked."""
    for option, value in given.items():
        if value:
            raise refuse(f"{option} is for spatial machines", "none on a GPU", Place(option))


def _on_gpu(
    cascade: str, objective: str, asked: dict[str, Any], out: Path | None, as_json: bool
) -> None:
    """Print the best kernel and tile, and write its descriptor where it is wanted."""
    from accelsim.explore.map_gpu import map_gpu
    from accelsim.report import gpu_plan

    found = map_gpu(cascade, objective=objective, **asked)
    if out is not None:
        note(f"wrote {write_text(out, found.yaml())}")
        note(f"accelsim estimate --kernel {out} {found.again}")
    result = found.to_dict()
    return print_json(result) if as_json else print_tables(gpu_plan.plan(result))


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
