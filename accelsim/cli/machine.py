"""``estimate``, ``compare`` and ``validate``: what a machine makes of a cascade."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from accelsim.cli.options import (
    Choose,
    Config,
    Json,
    Length,
    Model,
    Physical,
    Sets,
    Shape,
    choices,
    parts,
)
from accelsim.cli.output import bad_input, finish, note, print_json, print_line, print_tables
from accelsim.errors import refuse

#: The evaluation of FuseMax (MICRO 2024): what ``compare`` takes where nothing is said.
DESIGNS = ("unfused", "flat", "fusemax")
MODEL = "BERT"
LENGTHS = "1K,4K,16K,64K,256K,1M"


def estimate(
    cascade: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A cascade's name or file."),
    ] = None,
    arch: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="An architecture's name or file."),
    ] = None,
    mapping: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="A mapping's name or file."),
    ] = None,
    design: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="Cascade, architecture and mapping under one name."),
    ] = None,
    kernel: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="A described GPU kernel, as `list kernels` names them."),
    ] = None,
    model: Model = None,
    seq: Length = None,
    shape: Shape = None,
    config: Config = None,
    sets: Sets = None,
    choose: Choose = None,
    physical: Physical = False,
    batch: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="Answer many requests: a JSON object of options a line (- is stdin).",
        ),
    ] = None,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Draw the schedule in time, as .png, .svg or .pdf."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate latency, energy, area, traffic and utilisation, and say what bounds them."""
    from accelsim.explore.estimate import estimate as price

    if batch is not None:
        return _batch(batch)
    if kernel is not None:
        return _kernel(kernel, arch, shape, sets, as_json)
    from accelsim.explore.estimate_cascade import estimate_cascade, runs_on_gpu

    if cascade is not None and mapping is None and runs_on_gpu(arch):
        on_gpu = estimate_cascade(
            cascade, arch=arch or "", model=model, seq=seq, shape=shape, config=config,
            sets=tuple(sets or ()),
        )  # fmt: skip
        return _on_gpu(on_gpu.to_dict(), as_json)
    found = price(
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
        physical=physical,
    ).to_dict()
    if plot is not None:
        from accelsim.report.machine_plots import schedule_figure

        note(f"drawn: {schedule_figure(found, plot)}")
    if as_json:
        return print_json(found)
    from accelsim.report import tables

    return print_tables(tables.estimate(found))


def _kernel(
    kernel: str, arch: str | None, shape: str | None, sets: list[str] | None, as_json: bool
) -> None:
    """Predict a described GPU kernel."""
    from accelsim.explore.estimate_gpu import estimate_kernel

    found = estimate_kernel(kernel, arch=arch, shape=shape, sets=tuple(sets or ()))
    _on_gpu(found.to_dict(), as_json)


def _on_gpu(found: dict[str, Any], as_json: bool) -> None:
    """Print the prediction of a kernel."""
    if as_json:
        return print_json(found)
    from accelsim.report import gpu

    return print_tables(gpu.kernel(found))


def _batch(file: Path) -> None:
    """One answer a line; a request that has none gets its faults, and status 2 in the end."""
    from accelsim.explore.estimate import batch

    good = True
    for answer in batch(file):
        print_line(answer)
        good = good and "faults" not in answer
    if not good:
        bad_input()


def compare(
    designs: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help=f"Designs; {', '.join(DESIGNS)} if none."),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME,...", help="Models, as `list models` names them.")
    ] = MODEL,
    seq: Annotated[
        str, typer.Option(metavar="N,...", help="Sequence lengths: 4096, 4K, 1M (K is 1024).")
    ] = LENGTHS,
    baseline: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="DESIGN", help="What to compare with; the first design if none."),
    ] = None,
    linear: Annotated[
        bool, typer.Option("--linear", help="Add the linear layers of an encoder.")
    ] = False,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Draw speedup and energy, as .png, .svg or .pdf."),
    ] = None,
    export: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Write the rows to a .csv, .json or .parquet too."),
    ] = None,
    study: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME",
            help="binding: FuseMax step by step; resources: twice of one resource at a time.",
        ),
    ] = None,
    ours: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="Add a mapping that `map` wrote to --study binding; `map` searches for one.",
        ),
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulate", help="Run each row of a study in the simulator too.")
    ] = False,
    sets: Sets = None,
    physical: Physical = False,
    as_json: Json = False,
) -> None:
    """Compare designs by workloads: speedup and energy against a baseline, and what bounds each."""
    if study is not None:
        return _study(study, designs or [], model, seq, ours, sets, simulated, plot, as_json)
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
        sets=tuple(sets or ()),
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
    designs: list[str],
    model: str,
    seq: str,
    ours: str | None,
    sets: list[str] | None,
    simulated: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """A study instead of a comparison."""
    from accelsim.explore.studies import study

    found = study(
        name,
        parts(model),
        parts(seq),
        designs=designs,
        ours=ours,
        sets=tuple(sets or ()),
        simulate=simulated,
    ).to_dict()
    if plot is not None:
        from accelsim.report.studies import study_figure

        note(f"drawn: {study_figure(found, plot)}")
    if as_json:
        return print_json(found)
    from accelsim.report.studies import study as tabulate

    return print_tables(tabulate(found))


def validate(
    what: Annotated[
        str, typer.Argument(help="What was published: fusemax, published; or gpu: recorded runs.")
    ] = "fusemax",
    gpu: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME",
            help="The GPU whose recorded runs are replayed; if none, the GPU that is here is"
            " measured, or h100-sxm replayed where there is none.",
        ),
    ] = None,
    here: Annotated[
        bool,
        typer.Option("--here", help="Measure on the GPU that is here, or say what is missing."),
    ] = False,
    unseen: Annotated[
        bool,
        typer.Option("--unseen", help="Recorded rows that the GPU model was not built with."),
    ] = False,
    rows: Annotated[int, typer.Option(help="Cases of attention to measure.")] = 60,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Draws the cases to measure; another one each time if none."),
    ] = None,
    library: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="Measure a library's kernels too: torch."),
    ] = None,
    keep: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Where to keep what was measured."),
    ] = None,
    brief: Annotated[
        bool, typer.Option("--brief", help="A line a table instead of every row.")
    ] = False,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Draw every row and the errors, as .png, .svg or .pdf."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show predictions beside published results; exit status 1 if one is out of its tolerance."""
    from accelsim.explore.evaluations import validate as confront

    if what == "gpu":
        return _on_records(gpu, here, unseen, (rows, seed, library, keep), brief, as_json)
    found = confront(what)
    if plot is not None:
        from accelsim.report.machine_plots import errors_figure

        note(f"drawn: {errors_figure(found.to_dict(), plot)}")
    if as_json:
        print_json(found.to_dict())
    else:
        from accelsim.report import tables

        print_tables(tables.validation(found.to_dict(), brief=brief))
    finish(found.holds)


def _on_records(
    gpu: str | None,
    here: bool,
    unseen: bool,
    wanted: tuple[int, int | None, str | None, Path | None],
    brief: bool,
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
            rows, seed, library, keep = wanted
            found = validate_here(gpu, rows=rows, seed=seed, library=library, keep=keep, tell=note)
    else:
        found = validate_gpu(gpu)
    if as_json:
        print_json(found.to_dict())
    else:
        from accelsim.report import gpu as layout

        print_tables(layout.validation(found.to_dict(), brief=brief))
    finish(found.holds)
