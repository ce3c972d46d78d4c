"""``simulate``: runs a mapping group by group and reports what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from accelsim.errors import refuse
from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.problem import Problem
from accelsim.sim import steady
from accelsim.sim.choose import compiled
from accelsim.sim.engine import COMPUTE, TASKS, Engine
from accelsim.sim.program import Fixed, rates
from accelsim.sim.trace import Recorder
from accelsim.sim.traffic import SERIAL

Number = TypeVar("Number", int, float)

#: More steps of a group are not run one by one.
MOST_STEPS = 10**8
#: Why a unit is idle that has no Einsum of a group.
UNUSED = "no work in the group"


@dataclass(frozen=True, slots=True)
class GroupRun:
    """One group: cycles are ``compute`` and all ``stalls``; see ``sim.engine`` for what they are.

    ``serial_cycles`` is the time of every task and transfer one after the
    other.  Of every unit of the machine, ``busy_cycles`` and all causes of its
    ``idle_cycles`` make ``cycles``.  ``steps`` are iterations of the steady
    state, ``skipped`` those that were advanced over as repetitions.
    """

    name: str
    cycles: int
    compute_cycles: int
    stalls: dict[str, int]
    serial_cycles: int
    busy_cycles: dict[str, int]
    idle_cycles: dict[str, dict[str, int]]
    einsum_cycles: dict[str, int]
    reads: dict[str, float]
    writes: dict[str, float]
    peak_bytes: dict[str, float]
    steps: int
    skipped: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a run took; bytes and cycles."""

    cascade: str
    arch: str
    mapping: str
    sizes: dict[str, int]
    clock_hz: float
    groups: tuple[GroupRun, ...]

    @property
    def cycles(self) -> int:
        """Cycles of all groups, one after the other."""
        return sum(g.cycles for g in self.groups)

    @property
    def latency_s(self) -> float:
        """The same in seconds."""
        return self.cycles / self.clock_hz

    @property
    def serial_cycles(self) -> int:
        """Cycles of every task and transfer one after the other."""
        return sum(g.serial_cycles for g in self.groups)

    @property
    def traffic_bytes(self) -> dict[str, float]:
        """Bytes read and written, by level."""
        reads, writes = self.total("reads"), self.total("writes")
        return {level: reads[level] + writes[level] for level in reads}

    @property
    def peak_bytes(self) -> dict[str, float]:
        """Bytes held at each level at the worst moment seen."""
        found: dict[str, float] = {}
        for group in self.groups:
            for level, size in group.peak_bytes.items():
                found[level] = max(found.get(level, 0.0), size)
        return found

    @property
    def idle_cycles(self) -> dict[str, dict[str, int]]:
        """For each unit the cycles in which it did nothing, by cause, most first."""
        found: dict[str, dict[str, int]] = {}
        for group in self.groups:
            for unit, causes in group.idle_cycles.items():
                own = found.setdefault(unit, {})
                for cause, cycles in causes.items():
                    own[cause] = own.get(cause, 0) + cycles
        return {unit: _most_first(causes) for unit, causes in found.items()}

    def total(self, name: str) -> dict[str, float]:
        """The sum over groups of a dictionary of theirs (``reads``, ``stalls``, ...)."""
        found: dict[str, float] = {}
        for group in self.groups:
            for key, amount in getattr(group, name).items():
                found[key] = found.get(key, 0) + amount
        return found

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim simulate`` (design, section 5), with its extras."""
        return {
            "cascade": self.cascade,
            "arch": self.arch,
            "mapping": self.mapping,
            "cycles": self.cycles,
            "latency_s": self.latency_s,
            "traffic_bytes": self.traffic_bytes,
            "peak_bytes": self.peak_bytes,
            "stalls": _most_first(self.total("stalls")),
            "compute_cycles": sum(g.compute_cycles for g in self.groups),
            "serial_cycles": self.serial_cycles,
            "busy_cycles": self.total("busy_cycles"),
            "idle_cycles": self.idle_cycles,
            "read_bytes": self.total("reads"),
            "write_bytes": self.total("writes"),
            "groups": [
                {
                    "name": g.name,
                    "cycles": g.cycles,
                    "compute_cycles": g.compute_cycles,
                    "stalls": g.stalls,
                    "einsum_cycles": g.einsum_cycles,
                    "steps": g.steps,
                    "steps_skipped": g.skipped,
                }
                for g in self.groups
            ],
            "sizes": self.sizes,
        }


def simulate(
    problem: Problem,
    arch: Architecture,
    mapping: BoundMapping,
    *,
    full: bool = False,
    recorder: Recorder | None = None,
    execute: Callable[[str, Fixed], None] | None = None,
) -> Simulation:
    """Run a mapping.

    ``full`` runs every step instead of skipping those that repeat; ``execute``
    is called for every task in the order of time, with its Einsum and the
    values of the loops around it, and makes the run full.  Raises InputError
    where tiles do not fit, a unit lacks an operation, the schedule has no
    room to repeat, or a full run has more steps than ``MOST_STEPS``.
    """
    groups: list[GroupRun] = []
    for group in mapping.groups:
        program = compiled(problem, arch, mapping, group)
        if full and program.count > MOST_STEPS:
            steps = f"{program.count} steps of {group.name} are too many to run one by one"
            raise refuse(steps, f"at most {MOST_STEPS}, or no --full")
        if recorder:
            recorder.begin = sum(g.cycles for g in groups)
        engine = Engine(program, rates(arch), recorder, execute)
        skipped = steady.run(engine, full or execute is not None)
        groups.append(_group(engine, skipped, tuple(arch.unit)))
        if recorder:
            recorder.group(group.name, 0, engine.time)
    return Simulation(
        problem.cascade.name, arch.name, mapping.name, dict(problem.sizes), arch.clock_hz,
        tuple(groups),
    )  # fmt: skip


def _most_first(found: Mapping[str, Number]) -> dict[str, Number]:
    return dict(sorted(found.items(), key=lambda kv: -kv[1]))


def _group(engine: Engine, skipped: int, units: tuple[str, ...]) -> GroupRun:
    counts = {name: engine.counters.counts[n] for name, n in engine.counters.named.items()}

    def picked(prefix: str) -> dict[str, float]:
        start = f"{prefix} "
        return {n.removeprefix(start): c for n, c in counts.items() if n.startswith(start)}

    def whole(prefix: str) -> dict[str, int]:
        return {n: round(c) for n, c in picked(prefix).items()}

    busy = whole("busy")
    idle: dict[str, dict[str, int]] = {unit: {} for unit in units}
    for name, cycles in whole("idle").items():
        unit, _, cause = name.partition("\n")
        idle[unit][cause] = cycles
    for unit in units:
        if unit not in busy:
            idle[unit] = {UNUSED: engine.time}
    return GroupRun(
        engine.program.name,
        engine.time,
        round(counts.get(COMPUTE, 0.0)),
        whole("stall"),
        round(counts.get(SERIAL, 0.0)),
        {unit: busy.get(unit, 0) for unit in units},
        idle,
        whole("einsum"),
        picked("reads"),
        picked("writes"),
        dict(engine.traffic.room.peaks),
        engine.program.count,
        skipped,
        round(counts.get(TASKS, 0.0)),
    )
