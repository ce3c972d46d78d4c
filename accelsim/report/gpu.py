"""Tables of GPU kernels: one prediction, and predictions beside what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from accelsim.report.numbers import amount, deviation, percent
from accelsim.report.tables import _table as table

Result = Mapping[str, Any]


def kernel(result: Result) -> Iterable[RenderableType]:
    """One kernel: the answer, its launches, and the stages of a tile."""
    summary = Table(box=None, show_header=False, pad_edge=False)
    summary.add_column(style="bold")
    summary.add_column()
    for name in ("cascade", "kernel", "arch"):
        if name in result:
            summary.add_row(name, escape(str(result[name])))
    for name in ("sizes", "options"):
        summary.add_row(name, " ".join(f"{k}={v}" for k, v in result.get(name, {}).items()))
    summary.add_row("latency", amount(result["latency_s"], "seconds"))
    summary.add_row("DRAM", amount(result["dram_bytes"], "bytes"))
    summary.add_row("L2", amount(result["l2_bytes"], "bytes"))
    summary.add_row("sustained", amount(result["sustained_s"], "seconds"))
    summary.add_row("energy", amount(result["energy_j"], "joules"))
    summary.add_row("power", amount(result["power_w"], "watts"))
    summary.add_row("clock", amount(result["sm_hz"], "hertz"))
    summary.add_row("bound by", Text(str(result["bound_by"]), style="bold yellow"))
    yield summary
    columns = ("launch", "tile", "time", "blocks", "waves", "clock", "bound by")
    launches = table("Launches", *columns, left=2)
    for one in result["launches"]:
        launches.add_row(
            one["name"],
            one["tile"],
            amount(one["seconds"], "seconds"),
            str(one["blocks"]),
            f"{one['waves']:.2f}",
            amount(one["sm_hz"], "hertz"),
            one["bound_by"],
        )
    yield launches
    stages = table("Stages of a tile", "launch", "stage", "pipe", "cycles", "share", left=3)
    for one in result["launches"]:
        total = sum(stage["cycles"] for stage in one["stages"])
        for number, stage in enumerate(one["stages"]):
            stages.add_row(
                "" if number else one["name"],
                stage["name"],
                stage["pipe"],
                f"{stage['cycles']:.0f}",
                percent(stage["cycles"] / total if total else None),
            )
    yield stages


def validation(result: Result, brief: bool = False) -> Iterable[RenderableType]:
    """Rows beside what was measured, unless ``brief``; then errors by band and by quantity."""
    if not brief:
        yield _measured(result)
        yield _quantities_by_row(result)
    models = dict.fromkeys(
        name for bands in result["errors"].values() for one in bands.values() for name in one
    )
    columns = list(models)
    bands = table(
        "Error of time by measured time: mean, 90th percentile, largest",
        "rows of",
        "band",
        "rows",
        *columns,
        left=2,
    )
    for kind, found in result["errors"].items():
        for number, (band, errors) in enumerate(found.items()):
            cells = [_three(errors.get(name)) for name in models]
            bands.add_row("" if number else kind, band, str(errors["ours"]["rows"]), *cells)
    yield bands
    kernels = table(
        "Rows of 20 us and more, by kernel: mean, 90th percentile, largest",
        "kernel",
        "rows",
        *columns,
    )
    for name, errors in result["by_kernel"].items():
        cells = [_three(errors.get(model)) for model in models]
        kernels.add_row(name, str(errors["ours"]["rows"]), *cells)
    yield kernels
    other = table("Error of other quantities", "quantity", "rows", "mean", "90th", "largest")
    for name, found in result["quantities"].items():
        numbers = [percent(found[part]) for part in ("mean", "p90", "max")]
        other.add_row(name, str(found["rows"]), *numbers)
    yield other


def _three(errors: Mapping[str, float] | None) -> str:
    if errors is None:
        return "-"
    return ", ".join(percent(errors[part]) for part in ("mean", "p90", "max"))


def _measured(result: Result) -> Table:
    rows = table(
        f"{result['gpu']}: time", "kernel", "what", "measured", "predicted", "error", left=2
    )
    for row in result["rows"]:
        rows.add_row(
            row["kernel"],
            escape(row["what"]),
            amount(row["measured_s"], "seconds"),
            amount(row["predicted_s"], "seconds"),
            deviation(row["error"]),
        )
    return rows


def _quantities_by_row(result: Result) -> Table:
    rows = table(
        f"{result['gpu']}: bytes, energy, clock, speedups",
        "quantity", "what", "measured", "predicted", "error", left=2,
    )  # fmt: skip
    for pair in result["pairs"]:
        rows.add_row(
            pair["quantity"],
            escape(pair["what"]),
            f"{pair['measured']:.4g}",
            f"{pair['predicted']:.4g}",
            deviation(pair["error"]),
        )
    return rows
