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
    for one in result.get("realises", []):
        summary.add_row("realises", f"{one['system']}: {escape(one['stage'])}")
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
    what = "mean, 90th percentile, largest"
    yield _bands(f"Error of time by measured time: {what}", "rows of", result["errors"], models)
    title = f"Error of time by family and measured time: {what}"
    yield _bands(title, "family", result["by_family"], dict.fromkeys(["ours"]))
    kernels = table(f"Rows of 20 us and more, by kernel: {what}", "kernel", "rows", *models)
    for name, errors in result["by_kernel"].items():
        cells = [_three(errors.get(model)) for model in models]
        kernels.add_row(name, str(errors["ours"]["rows"]), *cells)
    yield kernels
    yield _systems(result, f"Rows of 20 us and more, by published system: {what}")
    other = table("Error of other quantities", "quantity", "rows", "mean", "90th", "largest")
    for name, found in result["quantities"].items():
        numbers = [percent(found[part]) for part in ("mean", "p90", "max")]
        other.add_row(name, str(found["rows"]), *numbers)
    yield other
    if result["too_hot"]:
        yield f"{result['too_hot']} rows are left out: heat held the board's clock down."
    if result["baseline_nearer"]:
        yield _nearer(result)
    yield _acceptance(result)


def _nearer(result: Result) -> Table:
    """Where a baseline's mean is below ours."""
    title = "Families and bands in which a baseline is nearer on the average"
    found = table(title, "family", "band", "baseline", "rows", "its mean", "ours", left=3)
    for one in result["baseline_nearer"]:
        numbers = str(one["rows"]), percent(one["theirs"]), percent(one["ours"])
        found.add_row(one["family"], one["band"], one["baseline"], *numbers)
    return found


def _bands(title: str, part: str, errors: Result, models: Mapping[str, None]) -> Table:
    """Errors by a part of the rows and by band, a column a model."""
    found = table(title, part, "band", "rows", *models, left=2)
    for name, bands in errors.items():
        for number, (band, one) in enumerate(bands.items()):
            cells = [_three(one.get(model)) for model in models]
            found.add_row("" if number else name, band, str(one["ours"]["rows"]), *cells)
    return found


def _systems(result: Result, title: str) -> Table:
    """Stages of published systems and the kernels that run them."""
    columns = ("system", "stage", "kernel", "rows", "under 20 us", "error of time")
    found = table(title, *columns, left=3)
    before = ""
    for one in result["by_system"]:
        errors = one["errors"].get("ours")
        rows = str(errors["rows"]) if errors else "0"
        name = "" if one["system"] == before else one["system"]
        before = one["system"]
        stage = escape(one["stage"])
        found.add_row(name, stage, one["kernel"], rows, str(one["short"]), _three(errors))
    return found


def _acceptance(result: Result) -> Table:
    """What is asked, what was got, and whether it holds."""
    found = table("Asked and got", "line", "asked", "got", "rows", "holds", left=3)
    for one in result["acceptance"]:
        holds = Text("yes", style="green") if one["held"] else Text("no", style="bold red")
        got = escape(one["got"])
        found.add_row(escape(one["line"]), escape(one["asked"]), got, str(one["rows"]), holds)
    return found


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
