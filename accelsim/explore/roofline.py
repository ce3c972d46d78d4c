"""A roofline: the time that no schedule on a machine beats, from operations and bytes alone.

The larger of two bounds (Williams, Waterman and Patterson, 2009): bytes over
the backing memory's bandwidth, and operations over the rate of the units that
can do them.  Work that several units can do is shared among them; for every
set of units, what only those can do takes at least its cycles over their PEs.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Final

from accelsim.ir.arch import Architecture, Unit
from accelsim.load.arch import load_architecture

#: FuseMax's array, on which the table compares systems.
ARRAY: Final = "fusemax-cloud"
#: Classes that the array's units do not price, and what they are taken to cost there.
STANDS_IN: Final[dict[str, str]] = {
    "mul": "mac",
    "round": "add",
    "select": "max",
    "topk": "max",
    "log": "exp",
    "sqrt": "div",
}


def roofline(arch: str, ops: Mapping[str, float], moved_bytes: float) -> float:
    """Seconds that a machine needs at least for operations by class and bytes of memory.

    >>> roofline("fusemax-cloud", {"mac": 940e6 * (256 * 256 + 256)}, 0.0)
    1.0
    """
    machine = load_architecture(arch)
    return max(moved_bytes / machine.backing.bandwidth, _cycles(machine, ops) / machine.clock_hz)


def _cycles(machine: Architecture, ops: Mapping[str, float]) -> float:
    """The most, over all sets of units, of the work that only they can do over their PEs."""
    able = {name: [u for u in machine.units if _cost(u, name) is not None] for name in ops}
    worst = 0.0
    for size in range(1, len(machine.units) + 1):
        for units in combinations(machine.units, size):
            theirs = 0.0
            for name, n in ops.items():
                if able[name] and all(u in units for u in able[name]):
                    theirs += n * min(_cost(u, name) or 0.0 for u in able[name])
            worst = max(worst, theirs / sum(u.pes for u in units))
    return worst


def _cost(unit: Unit, work: str) -> float | None:
    """PE cycles of an operation on a unit; None where it cannot do it."""
    operation = unit.operation(work) or unit.operation(STANDS_IN.get(work, ""))
    if operation is None:
        return None
    if operation.uses:
        return sum(n * (_cost(unit, name) or 0.0) for name, n in operation.uses)
    return operation.cycles
