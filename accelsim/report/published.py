"""Published tables beside ours, and the verdict on each paper, as tables for people.

Takes the object that ``validate published --json`` prints and computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from accelsim.report.numbers import deviation, percent

Result: TypeAlias = Mapping[str, Any]

#: What of a row is asked, in the column beside its error.
_ASKED: Final = {
    "within": "within",
    "not above": "ours not above",
    "not below": "ours not below",
    "timing": "factor 2, or a cause",
    "claimed above": "claim above ours",
    "claimed below": "claim below ours",
    "shown": "-",
}


def validation(result: Result, brief: bool = False) -> Iterable[RenderableType]:
    """Every row unless ``brief``; then a line a paper with its verdict, and the kernel times."""
    if not brief:
        for table in result["tables"]:
            yield _rows(table)
    if result["verdicts"]:
        yield _verdicts(result["verdicts"])
    if result["timed_rows"]:
        yield _timed(result)


def _sheet(title: str, *columns: str, left: int = 1) -> Table:
    """A table with ``left`` columns of words before the numbers."""
    table = Table(
        title=escape(title),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for position, name in enumerate(columns):
        table.add_column(name, justify="left" if position < left else "right", no_wrap=True)
    return table


def _rows(table: Result) -> Table:
    """Every row of a published table: figures, error, what is asked, the cause of a difference."""
    place = ", ".join(t for t in (table["hardware"], table["page"]) if t)
    title = f"{table['name']}: {table['about']}" + (f" ({place})" if place else "")
    columns = ("row", "quantity", "published", "ours", "error", "asked", "ok")
    out = _sheet(title, *columns, left=2)
    out.add_column("why", overflow="fold")
    told: set[str] = set()
    for row in table["rows"]:
        quantity = f"{row['quantity']} {row['unit']}".strip()
        out.add_row(
            escape(row["workload"]),
            quantity,
            f"{row['published']:.6g}",
            f"{row['ours']:.6g}",
            deviation(row["error"]),
            _asked(row),
            _ok(row["holds"]),
            "as above" if row["note"] in told else escape(row["note"]),
        )
        told |= {row["note"]} - {""}
    if table["sure"]:
        out.caption = f"how sure: {escape(table['sure'])}"
        out.caption_justify = "left"
    return out


def _asked(row: Result) -> str:
    """What is asked of a row."""
    if row["asked"] == "within":
        return deviation(row["tolerance"])
    return _ASKED[row["asked"]]


def _ok(holds: bool | None) -> Text:
    """Whether a row holds; a dash where nothing is asked."""
    if holds is None:
        return Text("-")
    return Text("yes", style="green") if holds else Text("NO", style="bold red")


def _verdicts(verdicts: Iterable[Result]) -> Table:
    """A line a paper: what its rows come to, and why the rest of it is not predicted."""
    out = _sheet("Verdict on each paper", "number", left=0)
    out.add_column("paper", overflow="fold")
    out.add_column("rows", justify="right", no_wrap=True)
    for name in ("verdict", "argument", "not predictable, and why"):
        out.add_column(name, overflow="fold")
    for one in verdicts:
        out.add_row(
            str(one["number"]),
            escape(one["title"]),
            str(one["rows"]),
            escape("; ".join(one["verdict"])),
            escape(one["argument"]),
            escape(one["missing"]),
        )
    return out


def _timed(result: Result) -> Table:
    """All kernel times in one line: how many, their median error, how far the farthest are."""
    timed = [r for t in result["tables"] for r in t["rows"] if r["asked"] == "timing"]
    columns = ("rows", "median error", "allowed", "beyond factor 2", "of these with a cause", "ok")
    out = _sheet("Kernel times on described GPUs", *columns, left=0)
    far = [r for r in timed if not r["published"] / 2 <= r["ours"] <= r["published"] * 2]
    out.add_row(
        str(result["timed_rows"]),
        percent(result["median_error"]),
        percent(result["median_allowed"]),
        str(len(far)),
        str(sum(bool(r["note"]) for r in far)),
        _ok(result["holds"]),
    )
    return out
