"""The nouns of a spatial architecture: Operation, Unit, Level, Architecture.

Inside everything is SI: bytes, hertz, joules, square metres, watts.  Where
each number comes from is kept beside them in ``Architecture.sources``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from accelsim.ir.ops import FALLBACK


@dataclass(frozen=True, slots=True)
class Operation:
    """What one operation of a work class costs on a unit.

    Either it takes ``cycles`` in one PE and ``energy_j``, or it ``uses`` other
    operations of the same unit (an exponential may be six multiply-adds).
    ``absorbs`` lists classes that run in the same cycles when they occur in
    the same Einsum (a subtraction in front of an exponential); they still cost
    their energy.  ``area_m2`` is a PE's circuit for it.
    """

    cycles: float = 1.0
    energy_j: float = 0.0
    area_m2: float = 0.0
    uses: tuple[tuple[str, float], ...] = ()
    absorbs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unit:
    """An array of ``rows`` x ``cols`` equal PEs; a 1-D array has one row.

    ``operations`` maps work classes to costs.  ``register_energy_j`` an access
    and ``leakage_w`` a PE enter only the physical accounting.  ``fill_cycles``
    are paid once a fused group, when the array fills and drains.
    """

    name: str
    rows: int
    cols: int
    operations: tuple[tuple[str, Operation], ...]
    pe_area_m2: float = 0.0
    column_area_m2: float = 0.0
    register_energy_j: float = 0.0
    leakage_w: float = 0.0
    fill_cycles: float = 0.0

    @property
    def pes(self) -> int:
        """Number of PEs.

        >>> Unit("a", 4, 8, ()).pes
        32
        """
        return self.rows * self.cols

    @cached_property
    def table(self) -> dict[str, Operation]:
        """Operations by work class."""
        return dict(self.operations)

    def operation(self, work: str) -> Operation | None:
        """The unit's operation for a work class, or for the class that stands in for it."""
        return self.table.get(work) or self.table.get(FALLBACK.get(work, ""))


@dataclass(frozen=True, slots=True)
class Level:
    """A memory level.

    ``capacity_bytes`` and bandwidths are infinite where none is given.
    Energies are joules for each access of ``access_bytes``.  ``read_`` and
    ``write_bandwidth`` are separate ports; ``bandwidth`` is shared by both.
    """

    name: str
    capacity_bytes: float = math.inf
    bandwidth: float = math.inf
    read_bandwidth: float = math.inf
    write_bandwidth: float = math.inf
    access_bytes: float = 1.0
    read_energy_j: float = 0.0
    write_energy_j: float = 0.0
    area_m2: float = 0.0
    leakage_w: float = 0.0

    @property
    def capacity(self) -> float:
        """Capacity in bytes, under the name that rules use (``buffer.capacity``)."""
        return self.capacity_bytes

    def seconds(self, read_bytes: float, write_bytes: float) -> float:
        """Time that the level's ports need for these bytes.

        >>> Level("dram", bandwidth=100.0).seconds(150.0, 50.0)
        2.0
        """
        return max(
            (read_bytes + write_bytes) / self.bandwidth,
            read_bytes / self.read_bandwidth,
            write_bytes / self.write_bandwidth,
        )

    def joules(self, read_bytes: float, write_bytes: float) -> float:
        """Energy of these bytes.

        >>> Level("b", access_bytes=2, read_energy_j=1.0, write_energy_j=2.0).joules(4, 4)
        6.0
        """
        reads, writes = read_bytes / self.access_bytes, write_bytes / self.access_bytes
        return reads * self.read_energy_j + writes * self.write_energy_j


@dataclass(frozen=True)
class Architecture:
    """A machine: levels from the backing store inwards, units, clock and word width."""

    name: str
    clock_hz: float
    word_bytes: float
    levels: tuple[Level, ...]
    units: tuple[Unit, ...]
    about: str = ""
    sources: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @cached_property
    def level(self) -> dict[str, Level]:
        """Levels by name, outermost first."""
        return {level.name: level for level in self.levels}

    @cached_property
    def unit(self) -> dict[str, Unit]:
        """Units by name."""
        return {unit.name: unit for unit in self.units}

    @property
    def backing(self) -> Level:
        """The outermost level, where inputs and outputs live."""
        return self.levels[0]

    def __hash__(self) -> int:
        """Structural."""
        return hash((self.name, self.clock_hz, self.word_bytes, self.levels, self.units))
