"""``compare``: designs by workloads against a baseline, and studies of one design."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from accelsim.cli.options import (
    DESIGNS,
    LENGTHS,
    MODEL,
    Baseline,
    Designs,
    Json,
    Lengths,
    Models,
    Physical,
    Rows,
    Sets,
    parts,
)
from accelsim.cli.output import note, print_json, print_tables
from accelsim.errors import refuse

Linear = Annotated[bool, typer.Option("--linear", help="Add the linear layers of an encoder.")]
SpeedupPlot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw speedup and energy, as .png, .svg or .pdf."),
]
Study = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="binding: FuseMax step by step; resources: twice of one resource at a time.",
    ),
]
Ours = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Add a mapping that `map` wrote to --study binding; `map` searches for one.",
    ),
]
Simulated = Annotated[
    bool, typer.Option("--simulate", help="Run each row of a study in the simulator too.")
]


def compare(
    designs: Designs = None,
    model: Models = MODEL,
    seq: Lengths = LENGTHS,
    baseline: Baseline = None,
    linear: Linear = False,
    plot: SpeedupPlot = None,
    export: Rows = None,
    study: Study = None,
    ours: Ours = None,
    simulated: Simulated = False,
    sets: Sets = None,
    physical: Physical = False,
    as_json: Json = False,
) -> None:
    """Compare designs by workloads: speedup and energy against a baseline, and what bounds each."""
    over = tuple(sets or ())
    if study is not None:
        asked: dict[str, Any] = {"designs": designs or [], "ours": ours, "simulate": simulated}
        return _study(study, parts(model), parts(seq), {**asked, "sets": over}, plot, as_json)
    if ours is not None or simulated:
        raise refuse("--ours and --simulate belong to a study", "--study binding")
    from accelsim.explore.compare import compare as tabulate

    chosen = list(designs or DESIGNS)
    found = tabulate(
        chosen,
        parts(model),
        parts(seq),
        baseline=baseline or chosen[0],
        linear=linear,
        sets=over,
        physical=physical,
    ).to_dict()
    if plot is not None:
        from accelsim.report.plots import speedup_figure

        note(f"drawn: {speedup_figure(found, plot)}")
    if export is not None:
        from accelsim.explore.rows import write_rows

        note(f"written: {write_rows(found['rows'], export)}")
    if as_json:
        return print_json(found)
    from accelsim.report import tables

    return print_tables(tables.comparison(found))


def _study(
    name: str,
    models: list[str],
    lengths: list[str],
    asked: dict[str, Any],
    plot: Path | None,
    as_json: bool,
) -> None:
    """A study instead of a comparison."""
    from accelsim.explore.studies import study

    found = study(name, models, lengths, **asked).to_dict()
    if plot is not None:
        from accelsim.report.studies import study_figure

        note(f"drawn: {study_figure(found, plot)}")
    if as_json:
        return print_json(found)
    from accelsim.report.studies import study as tabulate

    return print_tables(tabulate(found))
