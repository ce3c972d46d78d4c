"""Prices one mapping of one problem on one spatial architecture.

Latency, energy, area, traffic, utilisation, occupancy and what binds.  Chooses
nothing: the mapping comes bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from accelsim import units
from accelsim.errors import Fault, InputError, Place, refuse
from accelsim.ir.arch import Architecture, Unit
from accelsim.ir.mapping import Group, Mapping, Node, walk
from accelsim.ir.problem import Problem
from accelsim.models import energy
from accelsim.models.area import area_m2
from accelsim.models.counts import Transfer, group_transfers
from accelsim.models.latency import Busy, StageTime, busy, fill_cycles, stages
from accelsim.models.nest import Nest
from accelsim.models.occupancy import Occupancy, moments


@dataclass(frozen=True, slots=True)
class GroupEstimate:
    """One fused group: its latency, what competes for it, and its schedule."""

    name: str
    latency_s: float
    compute_s: float
    memory_s: dict[str, float]
    stages: tuple[StageTime, ...]
    busy: tuple[Busy, ...]
    transfers: tuple[Transfer, ...]
    read_bytes: dict[str, float]
    write_bytes: dict[str, float]
    spilled: dict[str, float]
    binding_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A prediction for one problem, mapping and architecture; SI units throughout.

    ``latency_s`` lets the units of a stage overlap over the whole run, as the
    published models do; ``in_turn_s`` is the latency where tiles that are held
    once are made and used in turn (``models.turns``), None if nobody asked.
    """

    cascade: str
    arch: str
    mapping: str
    sizes: dict[str, int]
    choices: dict[str, int | float | str | bool]
    clock_hz: float
    latency_s: float
    energy_by_j: dict[str, float]
    area_by_m2: dict[str, float]
    read_bytes: dict[str, float]
    write_bytes: dict[str, float]
    utilisation: dict[str, float]
    peak_bytes: dict[str, float]
    capacity_bytes: dict[str, float]
    bound_by: str
    binding: dict[str, float]
    groups: tuple[GroupEstimate, ...]
    in_turn_s: float | None = None

    @property
    def energy_j(self) -> float:
        """Total energy in joules."""
        return sum(self.energy_by_j.values())

    @property
    def traffic_bytes(self) -> dict[str, float]:
        """Bytes read and written, by level."""
        return {name: self.read_bytes[name] + self.write_bytes[name] for name in self.read_bytes}

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim estimate`` (design section 5), with its extras."""
        return {
            "cascade": self.cascade,
            "arch": self.arch,
            "mapping": self.mapping,
            "latency_s": self.latency_s,
            "in_turn_s": self.in_turn_s,
            "energy_j": self.energy_j,
            "area_mm2": sum(self.area_by_m2.values()) * 1e6,
            "traffic_bytes": self.traffic_bytes,
            "utilisation": self.utilisation,
            "peak_bytes": self.peak_bytes,
            "bound_by": self.bound_by,
            "einsums": [
                {
                    "name": b.einsum,
                    "unit": b.unit,
                    "busy_s": b.cycles / self.clock_hz,
                    "utilisation": b.useful_cycles / self.clock_hz / self.latency_s,
                }
                for g in self.groups
                for b in g.busy
            ],
            "energy_by_j": self.energy_by_j,
            "area_by_mm2": {k: v * 1e6 for k, v in self.area_by_m2.items()},
            "read_bytes": self.read_bytes,
            "write_bytes": self.write_bytes,
            "capacity_bytes": {
                k: (v if math.isfinite(v) else None) for k, v in self.capacity_bytes.items()
            },
            "binding": self.binding,
            "groups": [self._group(g) for g in self.groups],
            "sizes": self.sizes,
            "choices": self.choices,
        }

    def _group(self, group: GroupEstimate) -> dict[str, Any]:
        clock = self.clock_hz
        return {
            "name": group.name,
            "latency_s": group.latency_s,
            "compute_s": group.compute_s,
            "memory_s": group.memory_s,
            "spilled": group.spilled,
            "stages": [
                {
                    "einsums": list(s.einsums),
                    "latency_s": s.cycles / clock,
                    "unit_s": {u: c / clock for u, c in s.unit_cycles},
                    "stall_s": {why: c / clock for why, c in s.stalls},
                }
                for s in group.stages
            ],
        }


def estimate(
    problem: Problem, arch: Architecture, mapping: Mapping, physical: bool = False
) -> Estimate:
    """Price a mapping.  ``physical`` adds register files of every PE and leakage to the energy.

    Raises InputError if a level's tiles do not fit and may not spill, or a
    unit lacks an operation.

    >>> from accelsim.explore.estimate import bind
    >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq=4096)
    >>> round(estimate(problem, machine, mapping).latency_s, 6)
    0.0297
    """
    return Pricing(problem, mapping).estimate(arch, physical)


class Pricing:
    """A bound mapping to be priced on many machines: what one has counted, others take over.

    Tiles depend on the mapping alone, transfers also on the sides of the
    arrays and on what spills, busy cycles on the units; so a machine that
    differs in bandwidths, energies or clock costs only its sums.
    """

    def __init__(self, problem: Problem, mapping: Mapping) -> None:
        self.problem, self.mapping = problem, mapping
        self.nests = [Nest(problem, mapping, group) for group in mapping.groups]
        self._units: dict[tuple[Unit, ...], int] = {}
        self._rooms: dict[tuple[int, str, float], tuple[Occupancy, ...]] = {}
        self._times: dict[tuple[int, int], tuple[Busy, ...]] = {}  # by group and units
        self._moved: dict[tuple[Any, ...], tuple[Transfer, ...]] = {}
        self._joules: dict[int, dict[str, float]] = {}  # by units

    def estimate(self, arch: Architecture, physical: bool = False) -> Estimate:
        """The price on one machine; raises as ``estimate`` does.

        >>> from accelsim.explore.estimate import bind
        >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq=4096)
        >>> round(Pricing(problem, mapping).estimate(machine).energy_j, 2)
        30.9
        """
        units = self._units.setdefault(arch.units, len(self._units))
        groups, peaks, faults = [], dict.fromkeys(arch.level, 0.0), []
        for n, nest in enumerate(self.nests):
            shares: dict[str, float] = {}
            for level in arch.levels:
                rooms = self._room(n, level.name, arch.word_bytes)
                share = max([room.share(level.capacity_bytes) for room in rooms])
                held = max([room.total_bytes - share * room.spillable_bytes for room in rooms])
                peaks[level.name] = max(peaks[level.name], held)
                if held > level.capacity_bytes * (1 + 1e-12):
                    faults.append(_overfull(nest.group, level.name, held, level.capacity_bytes))
                if share:
                    shares[level.name] = share
            if not faults:
                if (n, units) not in self._times:
                    self._times[n, units] = busy(nest, arch)
                times, moved = self._times[n, units], self._move(n, arch, shares)
                groups.append(_group_estimate(nest.group, arch, shares, times, moved))
        if faults:
            raise InputError(faults)
        if units not in self._joules:
            self._joules[units] = self._operations(arch)
        joules, watts = self._joules[units], 0.0
        if physical:
            joules = {**joules, "register files": self._registers(arch)}
            watts = energy.static_watts(arch)
        return _total(self.problem, arch, self.mapping, tuple(groups), peaks, joules, watts)

    def _operations(self, arch: Architecture) -> dict[str, float]:
        """Joules of operations by unit."""
        joules = dict.fromkeys(arch.unit, 0.0)
        for nest in self.nests:
            for placed, points in zip(nest.leaves, nest.points, strict=True):
                unit = arch.unit[placed.leaf.unit]
                joules[unit.name] += energy.operation_joules(unit, placed.einsum, points)
        return joules

    def _registers(self, arch: Architecture) -> float:
        """Joules of register files."""
        joules = 0.0
        for nest in self.nests:
            for placed, points in zip(nest.leaves, nest.points, strict=True):
                unit = arch.unit[placed.leaf.unit]
                joules += energy.register_joules(unit, placed.einsum, points)
        return joules

    def _room(self, n: int, level: str, word_bytes: float) -> tuple[Occupancy, ...]:
        key = n, level, word_bytes
        if key not in self._rooms:
            self._rooms[key] = moments(self.nests[n], level, word_bytes)
        return self._rooms[key]

    def _move(self, n: int, arch: Architecture, shares: dict[str, float]) -> tuple[Transfer, ...]:
        sides = tuple([(unit.name, unit.rows, unit.cols) for unit in arch.units])
        key = n, arch.backing.name, sides, tuple(shares.items())
        if key not in self._moved:
            self._moved[key] = group_transfers(self.nests[n], arch, shares)
        return self._moved[key]


def _overfull(group: Group, level: str, held: float, capacity: float) -> Fault:
    places = [
        hold.place
        for found, _ in walk(group.tree)
        if isinstance(found, Node)
        for hold in found.holds
        if hold.level == level
    ]
    over = units.show(held - capacity, "bytes")
    return Fault(
        places[0] if places else Place(),
        f"the tiles that '{group.name}' holds in {level} need {units.show(held, 'bytes')}, "
        f"{over} more than its {units.show(capacity, 'bytes')}",
        "smaller tiles, or a larger capacity",
    )


def _group_estimate(
    group: Group,
    arch: Architecture,
    shares: dict[str, float],
    times: tuple[Busy, ...],
    moved: tuple[Transfer, ...],
) -> GroupEstimate:
    schedule = stages(group, times)
    fill = fill_cycles(times, arch)
    cycles = sum(s.cycles for s in schedule) + fill
    reads, writes = level_bytes(moved, arch)
    memory = {name: level.seconds(reads[name], writes[name]) for name, level in arch.level.items()}
    compute = cycles / arch.clock_hz
    latency = max(compute, *memory.values())
    slowest = max(memory, key=lambda name: memory[name])
    if memory[slowest] > compute:
        binding = {slowest: latency}
    else:
        binding = {"fill and drain": fill / arch.clock_hz} if fill else {}
        for stage in schedule:
            for what, count in stage.binding().items():
                binding[what] = binding.get(what, 0.0) + count / arch.clock_hz
    return GroupEstimate(
        group.name,
        latency,
        compute,
        memory,
        schedule,
        times,
        moved,
        reads,
        writes,
        shares,
        binding,
    )


def level_bytes(
    moved: Iterable[Transfer], arch: Architecture
) -> tuple[dict[str, float], dict[str, float]]:
    """Bytes read and bytes written by level.

    >>> from accelsim.ir.arch import Level
    >>> machine = Architecture("a", 1.0, 2.0, (Level("dram"),), ())
    >>> level_bytes([Transfer("dram", "K", "QK", 5, 0), Transfer("dram", "Z", "Z", 0, 3)], machine)
    ({'dram': 10.0}, {'dram': 6.0})
    """
    reads, writes = dict.fromkeys(arch.level, 0.0), dict.fromkeys(arch.level, 0.0)
    word_bytes = arch.word_bytes
    for level, _, _, read, written in moved:
        reads[level] += read * word_bytes
        writes[level] += written * word_bytes
    return reads, writes


def _total(
    problem: Problem,
    arch: Architecture,
    mapping: Mapping,
    groups: tuple[GroupEstimate, ...],
    peaks: dict[str, float],
    operations: dict[str, float],
    watts: float,
) -> Estimate:
    """The whole, from joules of operations by component and the power that always flows."""
    latency = sum(g.latency_s for g in groups)
    if not latency:
        raise refuse(
            f"on {arch.name} nothing takes any time", "operations with cycles, a bandwidth"
        )
    reads, writes = dict.fromkeys(arch.level, 0.0), dict.fromkeys(arch.level, 0.0)
    for g in groups:
        for name in arch.level:
            reads[name] += g.read_bytes[name]
            writes[name] += g.write_bytes[name]
    joules = {n: v.joules(reads[n], writes[n]) for n, v in arch.level.items()}
    joules.update(operations)
    joules["leakage"] = watts * latency
    useful = dict.fromkeys(arch.unit, 0.0)
    if not math.isfinite(latency + sum(joules.values())):
        raise refuse(f"latency or energy on {arch.name} is infinite", "smaller numbers")
    binding: dict[str, float] = {}
    for g in groups:
        for b in g.busy:
            useful[b.unit] += b.useful_cycles / arch.clock_hz
        for what, seconds in g.binding_s.items():
            binding[what] = binding.get(what, 0.0) + seconds / latency
    return Estimate(
        problem.cascade.name,
        arch.name,
        mapping.name,
        dict(problem.sizes),
        dict(mapping.values),
        arch.clock_hz,
        latency,
        {name: value for name, value in joules.items() if value},
        area_m2(arch),
        reads,
        writes,
        {name: seconds / latency for name, seconds in useful.items()},
        peaks,
        {name: level.capacity_bytes for name, level in arch.level.items()},
        max(binding, key=lambda what: binding[what]),
        binding,
        groups,
    )
