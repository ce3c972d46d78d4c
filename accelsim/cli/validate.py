"""``validate``: predictions beside what was published and what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from accelsim.cli.options import Json
from accelsim.cli.output import finish, note, print_json, print_tables
from accelsim.errors import Place, refuse

What = Annotated[
    str,
    typer.Argument(
        help="What was published: fusemax, published; or recorded runs: gpu, and tiles, the choice"
        " of `map` among those that were timed."
    ),
]
Paper = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="One of the forty papers of `validate published`, or a file of rows of your own.",
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The GPU whose recorded runs are replayed; if none, the GPU that is here is"
        " measured, or h100-sxm replayed where there is none.",
    ),
]
Here = Annotated[
    bool, typer.Option("--here", help="Measure on the GPU that is here, or say what is missing.")
]
Unseen = Annotated[
    bool, typer.Option("--unseen", help="Recorded rows that the GPU model was not built with.")
]
Cases = Annotated[int, typer.Option("--rows", help="Cases of attention to measure.")]
Seed = Annotated[
    int | None,
    typer.Option(help="Draws the cases to measure; another one each time if none."),
]
Library = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Measure a library's kernels too: torch."),
]
Keep = Annotated[Path | None, typer.Option(metavar="DIR", help="Where to keep what was measured.")]
Brief = Annotated[bool, typer.Option("--brief", help="A line a table instead of every row.")]
ErrorsPlot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw every row and the errors, as .png, .svg or .pdf."
    ),
]


def validate(
    what: What = "fusemax",
    paper: Paper = None,
    gpu: Gpu = None,
    here: Here = False,
    unseen: Unseen = False,
    rows: Cases = 60,
    seed: Seed = None,
    library: Library = None,
    keep: Keep = None,
    brief: Brief = False,
    plot: ErrorsPlot = None,
    as_json: Json = False,
) -> None:
    """Show predictions beside published results; exit status 1 if one is out of its tolerance."""
    if what == "gpu":
        drawn = {"rows": rows, "seed": seed, "library": library, "keep": keep}
        return _on_records(gpu, here, unseen, drawn, brief, plot, as_json)
    if what == "tiles":
        if plot is not None:
            raise refuse("validate tiles draws nothing", "no --plot", Place("--plot"))
        return _on_tiles(gpu or "h100-sxm", as_json)
    from accelsim.explore.evaluations import validate as confront

    found = confront(what, paper)
    result = found.to_dict()
    if plot is not None:
        from accelsim.report.machine_plots import errors_figure

        note(f"drawn: {errors_figure(result, plot)}")
    if as_json:
        print_json(result)
    else:
        from accelsim.report import published, tables

        layout = published.validation if what == "published" else tables.validation
        print_tables(layout(result, brief=brief))
    finish(found.holds)


def _on_tiles(gpu: str, as_json: bool) -> None:
    """The choice among recorded tiles beside the fastest of them."""
    from accelsim.explore.validate_tiles import validate_tiles
    from accelsim.report import gpu_plan

    found = validate_tiles(gpu)
    result = found.to_dict()
    if as_json:
        print_json(result)
    else:
        print_tables(gpu_plan.tiles(result))
    finish(found.holds)


def _on_records(
    gpu: str | None,
    here: bool,
    unseen: bool,
    drawn: dict[str, Any],
    brief: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Predictions beside the runs of a GPU: measured here and now, or recorded."""
    from accelsim.explore.measure_gpu import present, validate_here
    from accelsim.explore.validate_gpu import unseen as replay_unseen
    from accelsim.explore.validate_gpu import validate_gpu

    if unseen:
        found = replay_unseen(gpu or "h100-sxm")
    elif here or gpu is None:
        missing = "" if here else present()[1]
        if missing:
            note(f"{missing}: the recorded runs of h100-sxm instead")
            found = validate_gpu()
        else:
            found = validate_here(gpu, **drawn, tell=note)
    else:
        found = validate_gpu(gpu)
    result = found.to_dict()
    if plot is not None:
        from accelsim.report.gpu_plots import measured_figure

        kind = "unseen" if unseen else "recorded"
        note(f"drawn: {measured_figure({kind: result}, plot)}")
    if as_json:
        print_json(result)
    else:
        from accelsim.report import gpu as layout

        print_tables(layout.validation(result, brief=brief))
    finish(found.holds)
