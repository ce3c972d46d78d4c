"""A found mapping for people: its figures, its loop nest, what was shown, and what to grow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from accelsim.report.numbers import amount, percent, ratio

if TYPE_CHECKING:
    from rich.console import RenderableType

Result = Mapping[str, Any]

_UNITS = {"latency": "seconds", "energy": "joules", "buffer": "seconds"}


def plan(result: Result) -> Iterable[RenderableType]:
    """Summary, loop nests, designs beside it, and what twice of a resource would bring."""
    yield _summary(result)
    for group in result["nest"]:
        yield Text(nest(group))
    for row in result["beside"]:
        yield Text("\n".join(_otherwise(row)))
    yield _grow(result)


def _summary(result: Result) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name in ("cascade", "arch"):
        table.add_row(name, escape(str(result[name])))
    table.add_row("sizes", " ".join(f"{r}={n}" for r, n in result["sizes"].items()))
    table.add_row("latency", amount(result["latency_s"], "seconds"))
    if result["simulated_s"] is not None:
        table.add_row("simulated", amount(result["simulated_s"], "seconds"))
    table.add_row("energy", amount(result["energy_j"], "joules"))
    table.add_row("bound by", str(result["bound_by"]))
    used = (f"{unit} {percent(share)}" for unit, share in result["utilisation"].items())
    table.add_row("utilisation", ", ".join(used))
    traffic = (f"{level} {amount(n, 'bytes')}" for level, n in result["traffic_bytes"].items() if n)
    table.add_row("traffic", ", ".join(traffic))
    held = [
        f"{level} {amount(n, 'bytes')} of {amount(result['capacity_bytes'][level], 'bytes')}"
        for level, n in result["peak_bytes"].items()
        if n and result["capacity_bytes"][level]
    ]
    table.add_row("held at most", ", ".join(held) or "-")
    asked = [f"{n} {amount(x, 'bytes')}/s" for n, x in result["unstated_bandwidth"].items()]
    if asked:
        table.add_row("asks of", ", ".join(asked) + " (its bandwidth is not stated)")
    table.add_row(result["objective"], f"{escape(result['claim'])}")
    table.add_row("lower bound", _bound(result))
    seen = result["search"]
    table.add_row(
        "search",
        f"{seen['mappings']:.3g} mappings of {seen['groups']} groups; {seen['solved']} of "
        f"{seen['points']} points looked into, {seen['priced']} mappings priced, given up for "
        f"their bound {seen['given_up']['bound']}, for room {seen['given_up']['room']}",
    )
    return table


def _bound(result: Result) -> str:
    """The lower bound and how far above it the mapping is."""
    dimension = _UNITS.get(result["objective"])
    bound = result["lower_bound"]
    shown = f"{bound:.4g} J s" if dimension is None else amount(bound, dimension)  # type: ignore[arg-type]
    above = result["above_bound"]
    return shown if above is None or above < 5e-5 else f"{shown}; {percent(above)} above it"


def nest(group: Result) -> str:
    """A group's loop nest as indented text.

    >>> leaf = {"einsum": "C", "text": "C[m] = A[m]", "unit": "u", "rows": [], "cols": [["M0", 4]],
    ...         "loops": []}
    >>> hold = {"tensor": "A", "level": "buffer", "tile": [["M", 4]], "bytes": 8, "copies": 1,
    ...         "shares": ""}
    >>> node = {"loops": [["M1", 2]], "holds": [hold], "inside": [leaf]}
    >>> print(nest({"group": "C", "nest": node, "stages": [["C"]]}))
    C
    for M1 in 2
      buffer holds A[4] (8 B)
      C[m] = A[m]  on u, M0 4 along columns
    """
    lines = [group["group"], *_lines(group["nest"], 0)]
    if len(group["stages"]) > 1:
        shown = ", then ".join(" ".join(stage) for stage in group["stages"])
        lines.append(f"stages: {shown}")
    elif len(group["stages"][0]) > 1:
        lines.append("one stage: all units work at once, each on its own step")
    for rank, size in group.get("short", {}).items():
        lines.append(f"the last tile of {rank} is short: {rank} has {size}")
    return "\n".join(lines)


def _lines(tree: Result, depth: int) -> list[str]:
    pad = "  " * depth
    if "einsum" in tree:
        spread = [
            f"{_product(tree[side])} {word}"
            for side, word in (("rows", "down rows"), ("cols", "along columns"))
            if tree[side]
        ]
        inner = f", for {_product(tree['loops'])}" if tree["loops"] else ""
        where = ", ".join([f"on {tree['unit']}", *spread])
        return [f"{pad}{tree['text']}  {where}{inner}"]
    lines = [f"{pad}for {part} in {trips}" if n == 0 else "" for n, (part, trips) in
             enumerate(tree["loops"])][:1]  # fmt: skip
    if len(tree["loops"]) > 1:
        lines = [pad + "for " + ", ".join(f"{p} in {n}" for p, n in tree["loops"])]
    inside = depth + bool(tree["loops"])
    levels: dict[str, list[str]] = {}
    for hold in tree["holds"]:
        levels.setdefault(hold["level"], []).append(_held(hold))
    lines += [f"{'  ' * inside}{level} holds {', '.join(held)}" for level, held in levels.items()]
    for child in tree["inside"]:
        lines += _lines(child, inside)
    return lines


def _held(hold: Result) -> str:
    """A held tile: extents, copies, bytes, whose room."""
    extents = " x ".join(str(n) for _, n in hold["tile"] if n > 1) or "1"
    copies = f", {hold['copies']} copies" if hold["copies"] > 1 else ""
    if hold["shares"]:
        return f"{hold['tensor']}[{extents}] (in the room of {hold['shares']})"
    return f"{hold['tensor']}[{extents}] ({amount(hold['bytes'], 'bytes')}{copies})"


def _product(loops: Iterable[Any]) -> str:
    """Parts with their extents."""
    return " ".join(f"{part} {trips}" for part, trips in loops)


def _otherwise(row: Result) -> list[str]:
    """What a found mapping does otherwise than a shipped design."""
    faster, leaner = row["speedup"], row["less_energy"]
    lines = [
        f"beside the design {row['design']}: {amount(row['latency_s'], 'seconds')} "
        f"({ratio(faster)} as long), {amount(row['energy_j'], 'joules')} ({ratio(leaner)})"
    ]
    for unit, (theirs, ours) in row["busy_s"].items():
        lines.append(
            f"  {unit} is busy {amount(ours, 'seconds')} instead of {amount(theirs, 'seconds')}"
        )
    for move in row["moved"]:
        theirs, ours = move["busy_s"]
        lines.append(
            f"  {move['einsum']} takes {amount(ours, 'seconds')} on {move['to']} instead of "
            f"{amount(theirs, 'seconds')} on {move['from']}"
        )
    theirs, ours = row["choices"]
    cut = [f"{k} {ours[k]} instead of {theirs[k]}" for k in ours if k in theirs and
           theirs[k] != ours[k]]  # fmt: skip
    if cut:
        lines.append("  tiles: " + ", ".join(cut))
    if row["stages"][0] != row["stages"][1]:
        lines.append(f"  {row['stages'][1]} stages instead of {row['stages'][0]}")
    return lines


def _grow(result: Result) -> RenderableType:
    """A table of what twice of each resource would bring."""
    if not result["grow"]:
        return Text(f"twice of no resource would bring a better {result['objective']}")
    table = Table(
        title="what twice of it would bring",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("resource")
    for name in (result["objective"], "latency", "energy"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result["grow"]:
        table.add_row(
            row["resource"],
            f"{ratio(row['gain'])} better",
            amount(row["latency_s"], "seconds"),
            amount(row["energy_j"], "joules"),
        )
    return table


def front(result: Result) -> Iterable[RenderableType]:
    """A table of mappings of which none is better than another in room, latency and energy."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in (f"held in {result['level']}", "latency", "energy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("found by")
    table.add_column("claim")
    for row in result["front"]:
        table.add_row(
            amount(row["buffer_bytes"], "bytes"),
            amount(row["latency_s"], "seconds"),
            amount(row["energy_j"], "joules"),
            str(row["objective"]),
            str(row["claim"]),
        )
    yield table
