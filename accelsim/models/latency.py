"""Time of a fused group on the units of a spatial array: busy cycles, stages, stalls.

An Einsum keeps its unit busy for the cycles of its loop nest: the trips of all
its temporal loops (rounds where it spreads over more PEs than there are)
times the cycles of its operations in one PE.  Units work at once within a
stage and stages follow each other (design section 4; FuseMax, section V), so
compute time is the sum over stages of the busiest unit, plus stalls.  Memory
time overlaps with compute (double buffering): a group takes the largest of
compute time and each level's port time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accelsim.analysis.work import work
from accelsim.errors import Fault, InputError, one_of
from accelsim.ir.arch import Architecture, Operation, Unit
from accelsim.ir.cascade import Einsum
from accelsim.ir.mapping import Group, Leaf
from accelsim.models.nest import Nest

#: Times closer than this share of each other bind together.
TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Busy:
    """One Einsum on its unit: cycles of its loop nest, and cycles had every PE been useful."""

    einsum: str
    unit: str
    cycles: float
    useful_cycles: float


def _plain_cycles(unit: Unit, operation: Operation) -> float:
    if not operation.uses:
        return operation.cycles
    return sum(count * unit.table[name].cycles for name, count in operation.uses)


def cycles_a_point(unit: Unit, einsum: Einsum, leaf: Leaf) -> float:
    """Cycles that one point of the Einsum takes in one PE of the unit.

    Raises InputError if the unit has no operation for a work class.

    >>> from accelsim.load.cascade import load_cascade
    >>> unit = Unit("u", 1, 1, (("add", Operation(1.0)), ("exp", Operation(4.0))))
    >>> cycles_a_point(unit, load_cascade("attention-3pass").steps["SN"], Leaf("SN", "u"))
    5.0
    """
    found, absorbed = [], set[str]()
    for name, count in work(einsum).items():
        operation = unit.operation(name)
        if operation is None:
            allowed = one_of(n for n, _ in unit.operations)
            message = f"{unit.name} has no operation for '{name}', which {einsum.name} needs"
            raise InputError([Fault(leaf.place, message, allowed)])
        found.append((name, count * _plain_cycles(unit, operation)))
        absorbed.update(operation.absorbs)
    return sum([cycles for name, cycles in found if name not in absorbed])


def busy(nest: Nest, arch: Architecture) -> tuple[Busy, ...]:
    """Busy cycles of every Einsum of a group, in text order.

    >>> from accelsim.explore.estimate import bind
    >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq=4096)
    >>> nest = Nest(problem, mapping, mapping.groups[0])
    >>> [(b.einsum, b.cycles) for b in busy(nest, machine)][:2]
    [('QK', 12582912.0), ('LM', 196608.0)]
    """
    found = []
    for placed, points, time in zip(nest.leaves, nest.points, nest.times(arch), strict=True):
        leaf, einsum = placed.leaf, placed.einsum
        unit = arch.unit[leaf.unit]
        cost = cycles_a_point(unit, einsum, leaf)
        steps = time.steps * nest.share(placed, placed.path)
        useful = points * cost / unit.pes
        found.append(Busy(leaf.einsum, leaf.unit, steps * cost, useful))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage over the whole run: cycles of each unit, stalls by reason, cycles."""

    einsums: tuple[str, ...]
    unit_cycles: tuple[tuple[str, float], ...]
    stalls: tuple[tuple[str, float], ...]

    @property
    def cycles(self) -> float:
        """Cycles of the busiest unit plus all stalls.

        >>> StageTime((), (("a", 3.0), ("b", 5.0)), (("wait", 1.0),)).cycles
        6.0
        """
        return max(c for _, c in self.unit_cycles) + sum(c for _, c in self.stalls)

    def binding(self) -> dict[str, float]:
        """Cycles by what binds: the busiest unit (shared equally by ties) and stalls by reason."""
        longest = max(c for _, c in self.unit_cycles)
        tied = [u for u, c in self.unit_cycles if c >= longest * (1 - TIE)]
        found = {u: longest / len(tied) for u in tied}
        for why, cycles in self.stalls:
            found[why] = found.get(why, 0.0) + cycles
        return found


def stages(group: Group, times: tuple[Busy, ...]) -> tuple[StageTime, ...]:
    """The group's schedule with times filled in.

    >>> from accelsim.explore.estimate import bind
    >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq=4096)
    >>> nest = Nest(problem, mapping, mapping.groups[0])
    >>> [stage.cycles for stage in stages(mapping.groups[0], busy(nest, machine))]
    [13565952.0, 196608.0, 1572864.0, 12582912.0]
    """
    by_name = {b.einsum: b for b in times}
    found = []
    for stage in group.stages:
        units: dict[str, float] = {}
        for name in stage.einsums:
            units[by_name[name].unit] = units.get(by_name[name].unit, 0.0) + by_name[name].cycles
        waits = tuple((s.why, s.times * by_name[s.einsum].cycles) for s in stage.stalls)
        found.append(StageTime(stage.einsums, tuple(units.items()), waits))
    return tuple(found)


def fill_cycles(times: Iterable[Busy], arch: Architecture) -> float:
    """Cycles to fill and drain the arrays of a group, once: the slowest unit that it uses.

    >>> pes = Unit("a", 2, 2, (), fill_cycles=3.0)
    >>> fill_cycles([Busy("QK", "a", 8.0, 8.0)], Architecture("m", 1.0, 2.0, (), (pes,)))
    3.0
    """
    return max(arch.unit[name].fill_cycles for name in {b.unit for b in times})
