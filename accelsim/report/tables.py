"""Results as tables for people.

Each function takes the object that the command prints with ``--json`` (keys
as in the design, numbers in SI) and returns what Rich can print.  Nothing is
computed here but shares of a total that stands in the same object.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from accelsim.report.numbers import amount, deviation, percent, ratio

Result: TypeAlias = Mapping[str, Any]

#: A smaller relative error than this needs no explanation beside its row.
EXPLAINED: Final = 1e-3
#: A latency step by step that is longer by less than this share is not shown.
IN_TURN: Final = 1e-3
_GOOD: Final = "green"
_BAD: Final = "bold red"


def _table(title: str, *columns: str, left: int = 1) -> Table:
    """A table with ``left`` left-aligned columns before the numbers."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for position, name in enumerate(columns):
        text = position < left
        table.add_column(name, justify="left" if text else "right", no_wrap=True)
    return table


def listing(result: Result) -> Iterable[RenderableType]:
    """Names of one kind of document with a line each, grouped where they have a family."""
    for kind, entries in result.items():
        table = Table(
            title=kind, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        table.add_column("name", no_wrap=True)
        table.add_column("about", overflow="fold")
        group = None
        for entry in entries:
            if entry.get("family") and _group(entry) != group:
                group = _group(entry)
                table.add_row(Text(group, style="italic cyan"), "")
            indent = "  " if entry.get("family") else ""
            table.add_row(indent + escape(entry["name"]), escape(entry.get("about", "")))
        yield table


def _group(entry: Mapping[str, Any]) -> str:
    """The heading of an entry: its family, and the passes of a cascade."""
    number = entry.get("passes")
    if number is None:
        return str(entry["family"])
    told = "unbounded" if math.isinf(number) else number
    return f"{entry['family']}, {told} pass{'' if number == 1 else 'es'}"


def estimate(result: Result) -> Iterable[RenderableType]:
    """One estimate: the answer, then units, levels, Einsums, schedule and energy by component."""
    summary = Table(box=None, show_header=False, pad_edge=False)
    summary.add_column(style="bold")
    summary.add_column()
    for name in ("design", "cascade", "arch", "mapping"):
        if result.get(name):
            summary.add_row(name, escape(str(result[name])))
    sizes = " ".join(f"{rank}={size}" for rank, size in result.get("sizes", {}).items())
    if sizes:
        summary.add_row("sizes", sizes)
    summary.add_row("latency", amount(result["latency_s"], "seconds"))
    taken = result.get("in_turn_s")
    if taken is not None and taken > result["latency_s"] * (1 + IN_TURN):
        told = f"{amount(taken, 'seconds')} step by step, what is held once made and used in turn"
        summary.add_row("", told)
    summary.add_row("energy", amount(result["energy_j"], "joules"))
    summary.add_row("area", f"{result['area_mm2']:.4g} mm2")
    summary.add_row("bound by", Text(str(result["bound_by"]), style="bold yellow"))
    yield summary
    yield _by_unit(result)
    yield _by_level(result)
    yield _by_einsum(result)
    yield _by_stage(result)
    yield _by_component(result)


def _by_unit(result: Result) -> Table:
    table = _table("Units", "unit", "utilisation")
    for unit, share in result["utilisation"].items():
        table.add_row(unit, percent(share))
    return table


def _by_level(result: Result) -> Table:
    table = _table("Levels", "level", "traffic", "peak", "capacity", "full")
    peaks, capacities = result.get("peak_bytes", {}), result.get("capacity_bytes", {})
    for level in dict.fromkeys([*result["traffic_bytes"], *peaks]):
        peak, capacity = peaks.get(level), capacities.get(level)
        table.add_row(
            level,
            amount(result["traffic_bytes"].get(level), "bytes"),
            amount(peak, "bytes"),
            amount(capacity, "bytes"),
            percent(peak / capacity) if peak is not None and capacity else "-",
        )
    return table


def _by_einsum(result: Result) -> Table:
    table = _table("Einsums", "einsum", "unit", "busy", "of the latency", left=2)
    for einsum in result["einsums"]:
        busy = amount(einsum["busy_s"], "seconds")
        table.add_row(einsum["name"], einsum["unit"], busy, percent(einsum.get("utilisation")))
    return table


def _by_stage(result: Result) -> Table:
    """The steady state of each fused group: what runs at once, and what it waits for."""
    table = _table("Schedule", "group", "runs at once", "time", "waits", left=2)
    for group in result["groups"]:
        for number, stage in enumerate(group["stages"]):
            waits = sum(stage["stall_s"].values())
            table.add_row(
                "" if number else group["name"],
                " ".join(stage["einsums"]),
                amount(stage["latency_s"], "seconds"),
                amount(waits, "seconds") if waits else "-",
            )
    return table


def _by_component(result: Result) -> Table:
    table = _table("Energy", "component", "energy", "share")
    total = result["energy_j"]
    for component, energy in sorted(result["energy_by_j"].items(), key=lambda kv: -kv[1]):
        table.add_row(
            component, amount(energy, "joules"), percent(energy / total if total else None)
        )
    return table


def comparison(result: Result) -> Iterable[RenderableType]:
    """Designs by workloads against the baseline, a block a workload, the averages after them."""
    rows: Sequence[Result] = result["rows"]
    found = list(dict.fromkeys(unit for row in rows for unit in row["utilisation"]))
    against = result["baseline"]
    table = _table(
        f"Against {against}",
        *("model", "length", "design", "latency", "speedup", "energy", "relative"),
        *found,
        "bound by",
        left=3,
    )
    previous = (None, None)
    for row in rows:
        workload = (row["model"], row["seq"])
        table.add_row(
            "" if workload[0] == previous[0] else str(row["model"]),
            "" if workload == previous else str(row["seq"]),
            Text(row["design"], style="" if row["design"] == against else "bold"),
            amount(row["latency_s"], "seconds"),
            ratio(row["speedup"]),
            amount(row["energy_j"], "joules"),
            percent(row["energy_ratio"]),
            *(percent(row["utilisation"].get(unit)) for unit in found),
            str(row["bound_by"]),
        )
        previous = workload
    yield table
    averages = result.get("averages")
    if averages:
        yield _averages(averages)


def _averages(averages: Mapping[str, Result]) -> Table:
    columns = ("design", "speedup", "relative energy")
    table = _table("Mean over the rows", *columns)
    for design, row in averages.items():
        table.add_row(design, ratio(row["speedup"]), percent(row["energy_ratio"]))
    return table


def validation(result: Result, brief: bool = False) -> Iterable[RenderableType]:
    """Published rows beside ours, unless ``brief``; then a line a quantity, and the averages."""
    if not brief:
        for table in result["tables"]:
            yield _rows(table)
    yield _errors(result["tables"])
    if result["averages"]:
        yield _published_averages(result["averages"])


def _verdict(holds: bool | None) -> Text:
    """Whether a row holds; a dash where nothing is asked of it."""
    if holds is None:
        return Text("-")
    return Text("yes", style=_GOOD) if holds else Text("NO", style=_BAD)


def _allowed(tolerance: float | None, holds: bool | None) -> str:
    """The tolerance of a row; without one, not above what was published, or nothing at all."""
    if tolerance is None:
        return "-" if holds is None else "not above"
    return deviation(tolerance)


def _rows(table: Result) -> Table:
    """Every row of one published table: workload, published, ours, error, tolerance."""
    columns = ("workload", "quantity", "published", "ours", "error", "allowed", "ok")
    out = _table(f"{table['name']}: {table['about']}", *columns, left=2)
    out.add_column("difference explained", overflow="fold")
    for row in table["rows"]:
        out.add_row(
            escape(row["workload"]),
            row["quantity"],
            f"{row['published']:.7g}",
            f"{row['ours']:.7g}",
            deviation(row["error"]),
            _allowed(row["tolerance"], row["holds"]),
            _verdict(row["holds"]),
            escape(row["note"]) if abs(row["error"]) >= EXPLAINED else "",
        )
    return out


def _errors(tables: Iterable[Result]) -> Table:
    """One line a published table and quantity: all rows, then those of which something is asked.

    What is asked may differ from row to row: the widest tolerance is shown.
    """
    columns = ("table", "quantity", "rows", "mean", "largest", "asked", "largest", "allowed", "ok")
    out = _table("Error against the published rows", *columns, left=2)
    for table in tables:
        for number, (quantity, mean) in enumerate(table["mean_error"].items()):
            rows = [row for row in table["rows"] if row["quantity"] == quantity]
            asked = [row for row in rows if row["holds"] is not None]
            largest = max((row["error"] for row in asked), key=abs, default=None)
            widest = max(asked, key=lambda row: row["tolerance"] or math.inf, default=None)
            out.add_row(
                "" if number else table["name"],
                quantity,
                str(len(rows)),
                deviation(mean),
                deviation(max((row["error"] for row in rows), key=abs)),
                str(len(asked)),
                deviation(largest),
                _allowed(widest["tolerance"], True) if widest else "-",
                _verdict(all(row["holds"] for row in asked) if asked else None),
            )
    return out


def _published_averages(averages: Iterable[Result]) -> Table:
    """The means of ratios that the paper states, beside ours and ours with physical accounting."""
    columns = ("mean of ratios", "published", "ours", "allowed", "ok", "physical accounting")
    out = _table("Averages over models and lengths", *columns)
    for row in averages:
        physical = row["physical"]
        out.add_row(
            escape(row["name"]),
            f"{row['published']:.4g}",
            f"{row['ours']:.4g}",
            f"{row['tolerance']:g}",
            _verdict(row["holds"]),
            "-" if physical is None else f"{physical:.4g}",
        )
    return out
