"""A simulation as tables, from the ``--json`` object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from accelsim.report.numbers import amount, deviation, percent
from accelsim.report.tables import IN_TURN

if TYPE_CHECKING:
    from rich.console import RenderableType


def simulation(result: Mapping[str, Any]) -> Iterable[RenderableType]:
    """Cycles beside the estimate, where they went, units and what they waited for, and levels.

    >>> rest = {"latency_s": 1e-6, "estimate_cycles": 950.0, "over_estimate": 0.0526}
    >>> more = {"cascade": "c", "arch": "a", "mapping": "m", "sizes": {"M": 4}, "holds": True}
    >>> sums = {"cycles": 1000, "serial_cycles": 1500, "compute_cycles": 900, "stalls": {"w": 100}}
    >>> none = {"busy_cycles": {}, "idle_cycles": {}, "traffic_bytes": {}, "peak_bytes": {}}
    >>> none["groups"] = []
    >>> [t.title for t in simulation({**rest, **more, **sums, **none})]
    [None, 'Cycles', 'Units', 'Levels']
    """
    yield _summary(result)
    yield _cycles(result)
    yield _units(result)
    yield _levels(result)


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for n, name in enumerate(columns):
        table.add_column(name, justify="right" if n else "left", no_wrap=bool(n))
    return table


def _summary(result: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name in ("cascade", "arch", "mapping"):
        table.add_row(name, escape(str(result[name])))
    table.add_row("sizes", " ".join(f"{rank}={size}" for rank, size in result["sizes"].items()))
    table.add_row("simulated", f"{result['cycles']:,} cycles")
    table.add_row("", amount(result["latency_s"], "seconds"))
    over = deviation(result["over_estimate"])
    table.add_row("estimated", f"{result['estimate_cycles']:,.0f} cycles; {over} more simulated")
    turns = result.get("in_turn_cycles")
    if turns is not None and turns > result["estimate_cycles"] * (1 + IN_TURN):
        table.add_row(
            "step by step", f"{turns:,.0f} cycles, what is held once made and used in turn"
        )
    table.add_row("no overlap", f"{result['serial_cycles']:,} cycles")
    steps = sum(g["steps"] for g in result["groups"])
    run = steps - sum(g["steps_skipped"] for g in result["groups"])
    table.add_row("steps", f"{steps:,}; {run:,} run one by one, the rest repeat")
    if result.get("max_rel_error") is not None:
        table.add_row("tensors", f"largest relative error {result['max_rel_error']:.1e}")
    table.add_row("agrees", "yes" if result["holds"] else "NO")
    return table


def _cycles(result: Mapping[str, Any]) -> Table:
    """Where the cycles went."""
    table = _table("Cycles", "what", "cycles", "share")
    total = result["cycles"]
    rows = {"the busiest unit of each stage": result["compute_cycles"], **result["stalls"]}
    for what, cycles in rows.items():
        table.add_row(escape(what), f"{cycles:,}", percent(cycles / total if total else None))
    return table


def _units(result: Mapping[str, Any]) -> Table:
    """Each unit's busy cycles, and what it waited for in the others."""
    table = _table("Units", "unit", "cycles", "share")
    total = result["cycles"]
    for unit, busy in result["busy_cycles"].items():
        rows = {f"{unit}: busy": busy}
        idle = result["idle_cycles"].get(unit, {})
        rows |= {f"  idle: {cause}": cycles for cause, cycles in idle.items()}
        for what, cycles in rows.items():
            table.add_row(escape(what), f"{cycles:,}", percent(cycles / total if total else None))
    return table


def _levels(result: Mapping[str, Any]) -> Table:
    table = _table("Levels", "level", "traffic", "peak seen")
    for level, size in result["traffic_bytes"].items():
        peak = result["peak_bytes"].get(level)
        table.add_row(level, amount(size, "bytes"), amount(peak, "bytes"))
    return table
