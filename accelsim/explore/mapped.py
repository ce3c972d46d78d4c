"""A mapping that was found: its price, what was shown about it, and what would help most."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeAlias

from accelsim.errors import InputError
from accelsim.explore.canonical import yaml_text
from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.problem import Problem
from accelsim.load import catalog
from accelsim.load.design import load_design
from accelsim.mapper.bound import floor
from accelsim.mapper.frame import MOST_LOOPS
from accelsim.mapper.fuse import Result, fuse
from accelsim.mapper.goal import Goal, goal
from accelsim.mapper.legal import legal
from accelsim.mapper.outline import outline
from accelsim.mapper.plan import bound_mapping, document, own_splits
from accelsim.mapper.search import search
from accelsim.mapper.space import Task
from accelsim.models.estimate import Estimate
from accelsim.models.estimate import estimate as price

Progress = Callable[[str, int, int], None]
#: The words in which a workload was given.
Workload: TypeAlias = tuple[tuple[str, Any], ...]

#: A mapping is searched to within this share of the best of the mapspace.
GAP: Final = 1e-3
#: Points that are looked into to see what a larger resource would bring.
GROWN_POINTS: Final = 6
#: Rooms are tried in steps of this factor, less one.
ROOM: Final = 2**0.25 - 1
#: A simulation that takes this share longer than the model is told of with what was shown.
FELT: Final = 0.01
#: A larger resource that brings less than this share brings nothing.
WORTH: Final = 5e-4


@dataclass(frozen=True)
class Mapped:
    """The mapping that was found, its price, and what the search looked at.

    ``lean``: it was found for the least room at which no latency is lost.
    ``simulated_s``: what the simulator makes of it, if it was asked.  ``set_aside``
    is the mapping that the model has for better and that stalls in simulation;
    ``design`` the shipped design whose mapping this is, if it was not found.
    """

    task: Task
    problem: Problem
    mapping: BoundMapping
    estimate: Estimate
    result: Result
    gap: float
    workload: Workload = ()
    lean: bool = False
    simulated_s: float | None = None
    set_aside: Mapped | None = None
    design: str = ""

    @property
    def goal(self) -> Goal:
        """The objective."""
        return self.result.goal

    @property
    def value(self) -> float:
        """The objective's figure."""
        return float(self.goal.value(self.estimate.latency_s, self.estimate.energy_j)[0])

    @property
    def lower_bound(self) -> float:
        """The figure that no mapping is below."""
        judged = self if self.set_aside is None else self.set_aside
        return float(judged.goal.value(*judged.result.floor)[0])

    @property
    def simulated_above(self) -> float | None:
        """The share by which the simulator takes longer than the model; None where not asked."""
        if self.simulated_s is None or not self.estimate.latency_s:
            return None
        return self.simulated_s / self.estimate.latency_s - 1

    @property
    def claim(self) -> str:
        """What was shown about the mapping, and whether it is more than the model's word."""
        told = [self._shown]
        if self.design:
            told.append(f"the mapping of the design {self.design}")
        if (above := self.simulated_above or 0.0) > FELT:
            told.append(f"by the model: the simulator takes {above:.1%} longer")
        return "; ".join(told)

    @property
    def _shown(self) -> str:
        """What was shown about the mapping by the model."""
        if self.lean:
            return f"as fast as with all the room, in the least room to within {ROOM:.0%}"
        if self.value <= self.lower_bound * (1 + 1e-9):
            return "optimal: no mapping is below the lower bound"
        if self.set_aside is not None:
            above = self.value / self.set_aside.value - 1
            near = f"{above:.2%} above" if above >= 5e-5 else "as good as"
            return (
                f"{near} what the model has for the best, which stalls in simulation "
                f"({self.set_aside.simulated_s:.4g} s)"
            )
        if self.result.stopped:
            return "the best found before the search was stopped"
        if not self.result.shown:
            return "the best found; not shown to be the best of the mapspace"
        if self.gap:
            return f"within {100 * self.gap:g} % of the best of the mapspace, shown"
        return "the best of the mapspace, shown"

    def yaml(self) -> str:
        """The mapping as a mapping file that ``estimate --mapping`` takes."""
        return yaml_text(document(self.mapping, self.problem))

    @cached_property
    def grown(self) -> tuple[dict[str, Any], ...]:
        """What twice as much of each resource of the machine would bring, the most first."""
        if self.design and self.set_aside is not None:
            return self.set_aside.grown  # a design's mapping is not searched
        found = []
        for resource, machine in doubled(self.task.arch):
            task = replace(self.task, arch=machine)
            if self.goal.name == "energy" and resource.endswith("bandwidth"):
                continue  # words cost the same joules however fast they pass
            if not self._could_gain(task):
                continue
            try:
                value, latency, energy = _again(task, self.result)
            except InputError:
                continue
            gain = self.value / value if value else math.inf
            if gain > 1 + WORTH:
                found.append(
                    {"resource": resource, "gain": gain, "latency_s": latency, "energy_j": energy}
                )
        return tuple(sorted(found, key=lambda row: (-row["gain"], row["resource"])))

    def _could_gain(self, task: Task) -> bool:
        """Whether the lower bound of another machine leaves room for a gain that is worth it."""
        einsums = tuple(e.name for e in task.cascade.einsums if e.reads)
        bound = float(self.goal.value(*floor(task, einsums))[0])
        return bound * (1 + WORTH) < self.value

    @property
    def unstated(self) -> dict[str, float]:
        """Bytes a second that a mapping asks of levels for which no bandwidth is stated.

        The registers aside: their accesses are free.
        """
        inner = self.task.inner
        traffic = self.estimate.traffic_bytes
        return {
            level.name: traffic[level.name] / self.estimate.latency_s
            for n, level in enumerate(self.task.arch.levels)
            if math.isinf(min(level.bandwidth, level.read_bandwidth, level.write_bandwidth))
            and (inner is None or n != inner.level)
            and traffic[level.name]
        }

    @cached_property
    def beside(self) -> tuple[dict[str, Any], ...]:
        """Shipped designs of the cascade and machine, and what the found one does otherwise."""
        from accelsim.explore.estimate import estimate as estimate_design

        found = []
        if not self.workload:
            return ()
        for name in catalog.names("design"):
            design = load_design(name)
            same = (design.cascade, design.arch) == (self.task.cascade.name, self.task.arch.name)
            if not same or design.sets:
                continue
            try:
                other = estimate_design(design=name, **dict(self.workload))
            except InputError:
                continue
            found.append(_beside(name, other, self.estimate))
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim map``."""
        tallies = [f.tally for f in self.result.groups.values()]
        groups = self.result.groups
        return {
            **self.estimate.to_dict(),
            "objective": "buffer" if self.lean else self.goal.name,
            "value": self.value,
            "lower_bound": self.lower_bound,
            "above_bound": self.value / self.lower_bound - 1 if self.lower_bound else None,
            "claim": self.claim,
            "simulated_s": self.simulated_s,
            "simulated_above": self.simulated_above,
            "design": self.design or None,
            "search": {
                "groups": len(groups),
                "mappings": sum(f.mappings for f in groups.values()),
                "points": sum(f.points for f in groups.values()),
                "solved": sum(f.solved for f in groups.values()),
                "priced": sum(t.priced for t in tallies),
                "given_up": {
                    "bound": sum(t.bound for t in tallies),
                    "room": sum(t.room for t in tallies),
                },
                "shown": self.result.shown,
            },
            "nest": outline(self.problem, self.task.arch, self.mapping),
            "unstated_bandwidth": self.unstated,
            "grow": list(self.grown),
            "beside": list(self.beside),
            "document": document(self.mapping, self.problem),
        }


def best(
    task: Task,
    objective: str,
    gap: float = GAP,
    progress: Progress | None = None,
    workload: Workload = (),
    loops: int = MOST_LOOPS,
) -> Mapped:
    """The best mapping of a task by an objective of ``mapper.goal``, by the model alone.

    ``workload`` are the words in which a person gave the sizes, for designs to
    compare with; frames have at most so many ``loops``, batch loops aside.  Raises
    InputError where no mapping fits.

    >>> from accelsim.load.arch import load_architecture
    >>> from accelsim.load.cascade import load_cascade
    >>> sizes = {"M": 4, "N": 4, "K": 4}
    >>> task = Task(load_cascade("matmul"), sizes, load_architecture("teaching"))
    >>> best(task, "latency").value
    1.2e-08
    """
    result = fuse(task, goal(objective), progress, gap, loops)
    mapping = bound_mapping(result.choices, f"{task.cascade.name}-{objective}")
    problem = task.problem({p: n for p, n in mapping.extent.items() if p in task.cascade.whole})
    reasons = legal(task.cascade, mapping)
    if reasons:
        raise InputError(reasons)
    estimate = price(problem, task.arch, mapping)
    return Mapped(task, problem, mapping, estimate, result, gap, workload)


def doubled(arch: Architecture) -> Iterable[tuple[str, Architecture]]:
    """The machine with twice of one resource: each level's bandwidth and capacity, each unit.

    >>> from accelsim.load.arch import load_architecture
    >>> [name for name, _ in doubled(load_architecture("teaching"))][:3]
    ['dram bandwidth', 'buffer bandwidth', 'buffer capacity']
    """
    for n, level in enumerate(arch.levels):
        ports = ("bandwidth", "read_bandwidth", "write_bandwidth")
        if any(math.isfinite(getattr(level, port)) for port in ports):
            more = replace(level, **{port: 2 * getattr(level, port) for port in ports})
            yield f"{level.name} bandwidth", _with_level(arch, n, more)
        if math.isfinite(level.capacity_bytes):
            more = replace(level, capacity_bytes=2 * level.capacity_bytes)
            yield f"{level.name} capacity", _with_level(arch, n, more)
    for n, unit in enumerate(arch.units):
        units = (*arch.units[:n], replace(unit, cols=2 * unit.cols), *arch.units[n + 1 :])
        yield f"{unit.name} columns", replace(arch, units=units)


def _with_level(arch: Architecture, n: int, level: Any) -> Architecture:
    return replace(arch, levels=(*arch.levels[:n], level, *arch.levels[n + 1 :]))


def _again(task: Task, result: Result) -> tuple[float, float, float]:
    """Objective, latency and energy of the same groups mapped to another machine.

    Ties of the objective are not told apart: that would take most of the time.
    """
    latency = energy = 0.0
    if len(result.choices) > 1:
        task = replace(task, sizes={**task.sizes, **own_splits(result.choices)})
    for choice in result.choices:
        einsums = choice.space.frame.einsums
        found = search(task, einsums, result.goal, gap=GAP, most=GROWN_POINTS, second=False)
        if found.choice is None:
            return math.inf, math.inf, math.inf
        latency += found.choice.latency_s
        energy += found.choice.energy_j
    return float(result.goal.value(latency, energy)[0]), latency, energy


def _beside(name: str, other: Estimate, own: Estimate) -> dict[str, Any]:
    """A design beside the found mapping: how much faster, busy time by unit, and moved Einsums."""
    busy = [
        {b.einsum: (b.unit, b.cycles / e.clock_hz) for g in e.groups for b in g.busy}
        for e in (other, own)
    ]
    units = [dict.fromkeys(e.utilisation, 0.0) for e in (other, own)]
    for some, found in zip(busy, units, strict=True):
        for unit, seconds in some.values():
            found[unit] += seconds
    return {
        "design": name,
        "latency_s": other.latency_s,
        "energy_j": other.energy_j,
        "speedup": other.latency_s / own.latency_s,
        "less_energy": other.energy_j / own.energy_j,
        "busy_s": {u: [units[0][u], units[1].get(u, 0.0)] for u in units[0]},
        "stages": [sum(len(g.stages) for g in e.groups) for e in (other, own)],
        "moved": [
            {"einsum": e, "from": unit, "to": busy[1][e][0], "busy_s": [seconds, busy[1][e][1]]}
            for e, (unit, seconds) in busy[0].items()
            if e in busy[1] and busy[1][e][0] != unit
        ],
        "choices": [dict(other.choices), dict(own.choices)],
    }
