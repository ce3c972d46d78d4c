"""``estimate``: what a machine makes of a cascade."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    Physical,
    Sets,
    Shape,
    choices,
)
from accelsim.cli.output import bad_input, note, print_json, print_line, print_tables
from accelsim.errors import Place, refuse

Kernel = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A described GPU kernel, as `list kernels` names them."),
]
Batch = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Answer many requests: a JSON object of options a line (- is stdin)."
    ),
]
SchedulePlot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw the schedule in time, as .png, .svg or .pdf."
    ),
]


def estimate(
    cascade: MaybeCascade = None,
    arch: MaybeArch = None,
    mapping: Mapping = None,
    design: Design = None,
    kernel: Kernel = None,
    model: Model = None,
    seq: Length = None,
    shape: Shape = None,
    config: Config = None,
    sets: Sets = None,
    choose: Choose = None,
    physical: Physical = False,
    batch: Batch = None,
    plot: SchedulePlot = None,
    as_json: Json = False,
) -> None:
    """Estimate latency, energy, area, traffic and utilisation, and say what bounds them."""
    if batch is not None:
        return _batch(batch)
    sizes: dict[str, Any] = {"model": model, "seq": seq, "shape": shape, "config": config}
    over = tuple(sets or ())
    from accelsim.explore.estimate_cascade import runs_on_gpu

    on_gpu = cascade is not None and mapping is None and runs_on_gpu(arch)
    if plot is not None and (on_gpu or kernel is not None):
        message = "the stages of a GPU kernel are shared by its warps: there is no timeline to draw"
        raise refuse(message, "a mapping on a spatial array, or no --plot", Place("--plot"))
    if kernel is not None:
        return _kernel(kernel, arch, shape, over, as_json)
    if cascade is not None and on_gpu:
        return _cascade_on_gpu(cascade, arch or "", sizes, over, as_json)
    from accelsim.explore.estimate import estimate as price

    machine: dict[str, Any] = {"arch": arch, "mapping": mapping, "design": design}
    chosen = choices(choose)
    found = price(cascade, **machine, **sizes, sets=over, choose=chosen, physical=physical)
    result = found.to_dict()
    if plot is not None:
        from accelsim.report.machine_plots import schedule_figure

        note(f"drawn: {schedule_figure(result, plot)}")
    if as_json:
        return print_json(result)
    from accelsim.report import tables

    return print_tables(tables.estimate(result))


def _batch(file: Path) -> None:
    """One answer a line; a request that has none gets its faults, and status 2 in the end."""
    from accelsim.explore.estimate import batch

    good = True
    for answer in batch(file):
        print_line(answer)
        good = good and "faults" not in answer
    if not good:
        bad_input()


def _kernel(
    kernel: str, arch: str | None, shape: str | None, sets: tuple[str, ...], as_json: bool
) -> None:
    """Predict a described GPU kernel."""
    from accelsim.explore.estimate_gpu import estimate_kernel

    _on_gpu(estimate_kernel(kernel, arch=arch, shape=shape, sets=sets).to_dict(), as_json)


def _cascade_on_gpu(
    cascade: str, arch: str, sizes: dict[str, Any], sets: tuple[str, ...], as_json: bool
) -> None:
    """Predict what a GPU makes of a cascade, by the kernels that compute it."""
    from accelsim.explore.estimate_cascade import estimate_cascade

    _on_gpu(estimate_cascade(cascade, arch=arch, **sizes, sets=sets).to_dict(), as_json)


def _on_gpu(result: dict[str, Any], as_json: bool) -> None:
    """Print the prediction of a kernel."""
    if as_json:
        return print_json(result)
    from accelsim.report import gpu

    return print_tables(gpu.kernel(result))
