"""Energy by component: operations by unit, accesses by level, and what published totals leave out.

Activity times energy an event.  The published FuseMax totals count neither
leakage nor the register files of all PEs; ``physical`` adds both where the
architecture gives them: a register access for every operand and result of
every operation, and static power times latency.
"""

from __future__ import annotations

from accelsim.analysis.work import work
from accelsim.ir.arch import Architecture, Operation, Unit
from accelsim.ir.cascade import Einsum


def joules_an_operation(unit: Unit, operation: Operation) -> float:
    """Joules of one operation, through what it is made of.

    >>> exp = Operation(uses=(("mac", 6.0),))
    >>> joules_an_operation(Unit("a", 1, 1, (("mac", Operation(energy_j=2.0)), ("exp", exp))), exp)
    12.0
    """
    if not operation.uses:
        return operation.energy_j
    made = sum(count * unit.table[name].energy_j for name, count in operation.uses)
    return operation.energy_j + made


def operation_joules(unit: Unit, einsum: Einsum, points: float) -> float:
    """Joules of an Einsum's operations on its unit, absorbed ones included.

    >>> from accelsim.load.cascade import load_cascade
    >>> product = load_cascade("matmul").einsums[0]
    >>> operation_joules(Unit("a", 1, 1, (("mac", Operation(energy_j=2.0)),)), product, 10)
    20.0
    """
    total = 0.0
    for name, count in work(einsum).items():
        operation = unit.operation(name)
        if operation is not None:
            total += count * points * joules_an_operation(unit, operation)
    return total


def register_accesses(unit: Unit, einsum: Einsum) -> float:
    """Register-file accesses a point: two operands and a result for each primitive operation.

    A multiply-add reads its accumulator too.

    >>> from accelsim.load.cascade import load_cascade
    >>> product = load_cascade("matmul").einsums[0]
    >>> register_accesses(Unit("a", 1, 1, (("mac", Operation()),)), product)
    4.0
    """
    accesses = 0.0
    for name, count in work(einsum).items():
        operation = unit.operation(name)
        parts = dict(operation.uses) if operation and operation.uses else {name: 1.0}
        for part, times in parts.items():
            accesses += count * times * (4.0 if part == "mac" else 3.0)
    return accesses


def static_watts(arch: Architecture) -> float:
    """Watts that all levels and PEs leak.

    >>> from accelsim.ir.arch import Level
    >>> pes = Unit("a", 2, 2, (), leakage_w=0.5)
    >>> static_watts(Architecture("a", 1.0, 2.0, (Level("dram", leakage_w=1.0),), (pes,)))
    3.0
    """
    levels = sum(level.leakage_w for level in arch.levels)
    return levels + sum(unit.leakage_w * unit.pes for unit in arch.units)


def register_joules(unit: Unit, einsum: Einsum, points: float) -> float:
    """Joules at the register files for an Einsum, in the physical accounting.

    >>> from accelsim.load.cascade import load_cascade
    >>> product = load_cascade("matmul").einsums[0]
    >>> unit = Unit("a", 1, 1, (("mac", Operation()),), register_energy_j=0.5)
    >>> register_joules(unit, product, 10)
    20.0
    """
    return register_accesses(unit, einsum) * points * unit.register_energy_j
