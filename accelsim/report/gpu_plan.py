"""A mapping to a GPU for people: figures, tile loop nest, what stood beside it, what to grow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from accelsim.report.numbers import amount, deviation, percent, ratio
from accelsim.report.tables import _table as table

Result = Mapping[str, Any]


def plan(result: Result) -> Iterable[RenderableType]:
    """Summary, the tile loop nest, candidates, those that do not fit, and what would help."""
    yield _summary(result)
    yield Text("\n".join(result["nest"]))
    if "candidates" in result:
        yield _candidates(result)
    if result.get("products"):
        yield _products(result)
    yield _grow(result)


def _summary(result: Result) -> Table:
    found = Table(box=None, show_header=False, pad_edge=False)
    found.add_column(style="bold")
    found.add_column()
    for name in ("cascade", "arch", "kernel"):
        found.add_row(name, escape(str(result[name])))
    found.add_row("sizes", " ".join(f"{r}={n}" for r, n in result["sizes"].items()))
    found.add_row("latency", amount(result["latency_s"], "seconds"))
    found.add_row("energy", amount(result["energy_j"], "joules"))
    found.add_row("bound by", str(result["bound_by"]))
    found.add_row(result["objective"], escape(result["claim"]))
    seen = result["search"]
    left = ", ".join(f"{r['count']} for {r['resource']}" for r in seen["refused"])
    found.add_row(
        "search",
        f"{seen['mappings']} candidates, {seen['priced']} priced"
        + (f", refused {left}" if left else ""),
    )
    for row in seen["refused"]:
        found.add_row("", escape(f"nearest: {row['kernel']}, {row['nearest']}"))
    return found


def _candidates(result: Result) -> Table:
    columns = ("kernel", "tile", "warps", "stages", "splits", "waves")
    rows = table("Taken, and what comes next", *columns, "latency", "energy", "bound by", left=2)
    for row in result["candidates"]:
        tile = row["tile"]
        rows.add_row(
            row["kernel"],
            f"{tile['rows']}x{tile['columns']}",
            str(tile["warps"]),
            str(tile["stages"]),
            str(row["splits"]),
            f"{row['waves']:.2f}",
            amount(row["latency_s"], "seconds"),
            amount(row["energy_j"], "joules"),
            row["bound_by"],
        )
    return rows


def _products(result: Result) -> Table:
    rows = table("Launches", "launch", "tile", "time", "next tile", "its time", left=2)
    for row in result["products"]:
        after = row.get("next")
        rows.add_row(
            row["name"],
            row.get("shape", "-"),
            amount(row["seconds"], "seconds"),
            after["shape"] if after else "-",
            amount(after["seconds"], "seconds") if after else "-",
        )
    return rows


def _grow(result: Result) -> RenderableType:
    if not result["grow"]:
        return Text(f"twice of no ceiling would bring a better {result['objective']}")
    rows = table(
        "What twice of it would bring", "ceiling", result["objective"], "latency", "energy", "tile"
    )
    for row in result["grow"]:
        rows.add_row(
            row["resource"],
            f"{ratio(row['gain'])} better",
            amount(row["latency_s"], "seconds"),
            amount(row["energy_j"], "joules"),
            row["tile"],
        )
    return rows


def tiles(result: Result) -> Iterable[RenderableType]:
    """Recorded tiles: the fastest, the one that the model takes, and what that costs."""
    rows = table(
        f"{result['gpu']}: the choice among tiles that were timed",
        "problem", "tiles", "fastest", "taken", "loss", left=1,
    )  # fmt: skip
    for row in result["rows"]:
        rows.add_row(
            row["what"],
            str(row["tiles"]),
            row["fastest"],
            row["taken"] if row["taken"] != row["fastest"] else "the same",
            deviation(row["loss"]),
        )
    yield rows
    near, total = result["within"], len(result["rows"])
    yield Text(
        f"within {percent(result['tolerance'])} of the fastest: {near} of {total}; "
        f"largest loss {percent(result['largest'])} (sN stages, bN blocks of a multiprocessor)"
    )
