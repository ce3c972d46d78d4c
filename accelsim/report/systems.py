"""Published systems as tables, and as lines of CSV, from the object that ``--json`` prints."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

Result: TypeAlias = Mapping[str, Any]

#: Columns of the CSV file: one line a system, phase, length and machine.
COLUMNS: Final = (
    "number", "name", "title", "kind", "sure", "model", "passes_k", "passes_v",
    "passes_estimation", "live_words", "bits", "phase", "seq", "ops", "dense_ops", "ops_ratio",
    "bytes", "dense_bytes", "bytes_ratio", "array_energy_j", "dense_array_energy_j",
    "array_energy_ratio", "machine", "roofline_s", "dense_roofline_s",
    "roofline_speedup", "how", "predicted_s", "dense_predicted_s", "predicted_speedup",
    "predicted_j", "dense_predicted_j", "predicted_energy_ratio",
)  # fmt: skip
#: Counted quantities of a load, and what their ratio is called in a cell.
_COUNTED: Final = (("ops", "ops"), ("bytes", "bytes"), ("array_energy_j", "array_energy"))


def systems_table(title: str, *columns: str, left: int) -> Table:
    """A table with ``left`` left-aligned columns before the numbers."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD,
        show_edge=False, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=number < 2)
    return table


def systems(result: Result) -> Iterable[RenderableType]:
    """All systems: what each is and stores, then what it costs beside dense attention."""
    rows = result["systems"]
    yield _kinds(rows)
    yield _costs(rows)
    yield _predicted(rows)
    yield from _leaves(rows)
    if result["absent"]:
        missing = ", ".join(str(n) for n in result["absent"])
        yield f"not described: {missing} of {result['wanted']}"


def _kinds(rows: Iterable[Result]) -> Table:
    table = systems_table(
        "Passes over keys and values, live words, bits",
        *("", "system", "kind", "sure", "live words of a point in flight"),
        *("K", "V", "estimation", "bits"),
        left=5,
    )
    for row in rows:
        table.add_row(
            str(row["number"] or ""),
            row["name"],
            row["kind"],
            row["sure"],
            escape(row["live"] or "-"),
            " ".join(count(n) for n in row["passes_at"].values()) or count(row["passes_k"]),
            count(row["passes_v"]),
            count(row["passes_estimation"]),
            " ".join(dict.fromkeys(f"{s['bits']:.4g}" for s in row["bits"])) or "-",
        )
    return table


def count(number: float | None) -> str:
    """A number of passes; JSON has no word for one that grows with the rounds.

    >>> count(2), count(math.inf)
    ('2', 'unbounded')
    """
    if number is None:
        return "-"
    return "unbounded" if math.isinf(number) else f"{number:g}"


def _costs(rows: Iterable[Result]) -> Table:
    """Operations, bytes, energy and the rooflines' speedup, a line a system and phase.

    In each column one number a length, the shortest first.
    """
    rows = list(rows)
    lengths = list(dict.fromkeys(c["seq"] for row in rows for c in row["cells"]))
    machines = list(
        dict.fromkeys(m for row in rows for c in row["cells"] for m in c["roofline_speedup"])
    )
    at = ", ".join(short(n) for n in lengths)
    heads = ["operations, %", "bytes, %", "energy on the array, %"]
    heads += [f"speedup on {name}'s roofline" for name in machines]
    table = systems_table(
        f"A layer beside dense attention, at {at}", "system", "phase", *heads, left=2
    )
    for row in rows:
        for phase in dict.fromkeys(c["phase"] for c in row["cells"]):
            cells = {c["seq"]: c for c in row["cells"] if c["phase"] == phase}
            its = [cells[n] for n in lengths if n in cells]
            shares = ([100 * c[what] for c in its] for what in ("ops", "bytes", "array_energy"))
            speedups = ([c["roofline_speedup"][m] for c in its] for m in machines)
            columns = (several(numbers) for numbers in (*shares, *speedups))
            table.add_row(row["name"], phase, *columns)
    return table


def several(numbers: Iterable[float]) -> str:
    """Numbers of three digits under one another's.

    >>> several([50.0, 6.25, 1.5625, 128.4])
    '   50  6.25  1.56   128'
    """
    return " ".join(f"{n:5.3g}" for n in numbers)


#: Marks of how a prediction comes about, and what each says under the table.
_MARKS: Final = {"array": "", "kernel": "", "one kernel": "~", "bound": "<"}
_SAID: Final = (
    "speedup over dense attention and share of its energy; ~: a stage that no kernel is described"
    " for is taken as one kernel would run it; <: no kernel is described that realises it: at most"
    " that speedup, at least that energy"
)


def _predicted(rows: Iterable[Result]) -> Table:
    """Predicted speedup and energy on every machine, a line a system, phase and machine."""
    rows = list(rows)
    lengths = list(dict.fromkeys(c["seq"] for row in rows for c in row["cells"]))
    at = ", ".join(short(n) for n in lengths)
    columns = ("system", "phase", "machine", "speedup", "energy, %", "bound by")
    table = systems_table(f"Predicted beside dense attention, at {at}", *columns, left=3)
    table.columns[-1].justify = "left"
    for row in rows:
        for phase in dict.fromkeys(c["phase"] for c in row["cells"]):
            cells = [c for c in row["cells"] if c["phase"] == phase]
            for number, first in enumerate(cells[0]["predicted"]):
                own = [c["predicted"][number] for c in cells]
                mark = _MARKS[first["how"]]
                table.add_row(
                    row["name"] if not number else "",
                    phase if not number else "",
                    first["machine"],
                    f"{mark} {several(one['speedup'] for one in own)}".strip(),
                    several(100 * one["energy_ratio"] for one in own),
                    " ".join(dict.fromkeys(_longest(one)["bound_by"] for one in own)),
                )
    table.caption, table.caption_justify = _SAID, "left"
    return table


def _longest(prediction: Result) -> Result:
    """The stage that takes longest."""
    found: Result = max(prediction["stages"], key=lambda stage: stage["seconds"])
    return found


def _leaves(rows: Iterable[Result]) -> Iterable[str]:
    """The phases that systems leave alone, with the reason, by reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for phase, why in row["leaves"].items():
            found.setdefault((phase, why), []).append(row["name"])
    if found:
        yield "\n".join(
            ["Phases without a line:"]
            + [f"  {phase}, {', '.join(names)}: {why}" for (phase, why), names in found.items()]
        )


def short(length: int) -> str:
    """A length in K where it is a multiple of that.

    >>> short(32768), short(1000)
    ('32K', '1000')
    """
    return f"{length // 1024}K" if length % 1024 == 0 else str(length)


def csv_text(result: Result) -> str:
    r"""One line a system, phase, length and machine; one without a phase where there is no cascade.

    >>> csv_text({"systems": []}).startswith("number,name,")
    True
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in result["systems"]:
        head = [row[name] for name in COLUMNS[:6]]
        head += [count(row[name]) for name in COLUMNS[6:9]]
        head.append(row["live"])
        head.append(" ".join(f"{s['bits']:.6g}" for s in row["bits"]))
        for cell in row["cells"]:
            loads = [cell["own"], cell["dense"]]
            line = [*head, cell["phase"], cell["seq"]]
            for what, relative in _COUNTED:
                line += [*(load[what] for load in loads), cell[relative]]
            for one in cell["predicted"]:
                machine = one["machine"]
                bound = [load["roofline_s"].get(machine, "") for load in loads]
                bound.append(cell["roofline_speedup"].get(machine, ""))
                figures = ("how", "own_s", "dense_s", "speedup", "own_j", "dense_j", "energy_ratio")
                writer.writerow([*line, machine, *bound, *(one[name] for name in figures)])
        if not row["cells"]:
            writer.writerow(head + [""] * (len(COLUMNS) - len(head)))
    return out.getvalue()


# The names under which other layouts know these.
_count, _short = count, short
