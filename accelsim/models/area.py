"""Area of a spatial architecture, by component."""

from __future__ import annotations

from accelsim.ir.arch import Architecture


def area_m2(arch: Architecture) -> dict[str, float]:
    """Square metres by level and unit: PEs with their operations, routing for each column.

    >>> from accelsim.ir.arch import Level, Operation, Unit
    >>> mac = (("mac", Operation(area_m2=3.0)),)
    >>> pe = Unit("array", 2, 2, mac, pe_area_m2=1.0, column_area_m2=0.5)
    >>> area_m2(Architecture("a", 1.0, 2.0, (Level("buffer", area_m2=5.0),), (pe,)))
    {'buffer': 5.0, 'array': 17.0}
    """
    found = {level.name: level.area_m2 for level in arch.levels if level.area_m2}
    for unit in arch.units:
        pe = unit.pe_area_m2 + sum(o.area_m2 for _, o in unit.operations)
        found[unit.name] = unit.pes * pe + unit.cols * unit.column_area_m2
    return found
