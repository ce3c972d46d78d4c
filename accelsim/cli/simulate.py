"""``simulate``: a mapping run in whole cycles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli.options import (
    Choose,
    Config,
    Design,
    Json,
    Length,
    Mapping,
    MaybeArch,
    MaybeCascade,
    Model,
    Sets,
    Shape,
    choices,
)
from accelsim.cli.output import finish, note, print_json, print_tables

Full = Annotated[bool, typer.Option("--full", help="Run every step; skip none that repeats.")]
Execute = Annotated[
    bool, typer.Option("--execute", help="Compute the tensors too, and compare (small sizes).")
]
Trace = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write a Chrome trace, for Perfetto.")
]


def simulate(
    cascade: MaybeCascade = None,
    arch: MaybeArch = None,
    mapping: Mapping = None,
    design: Design = None,
    model: Model = None,
    seq: Length = None,
    shape: Shape = None,
    config: Config = None,
    sets: Sets = None,
    choose: Choose = None,
    full: Full = False,
    execute: Execute = False,
    trace: Trace = None,
    as_json: Json = False,
) -> None:
    """Run a mapping tile by tile; exit status 1 if it contradicts the estimate."""
    from accelsim.explore.simulate import simulate as run

    found = run(
        cascade,
        arch=arch,
        mapping=mapping,
        design=design,
        model=model,
        seq=seq,
        shape=shape,
        config=config,
        sets=tuple(sets or ()),
        choose=choices(choose),
        full=full,
        execute=execute,
        trace=trace,
    )
    result = found.to_dict()
    if trace is not None:
        note(f"wrote {trace}")
    if as_json:
        print_json(result)
    else:
        from accelsim.report.simulate import simulation

        print_tables(simulation(result))
    finish(found.holds)
