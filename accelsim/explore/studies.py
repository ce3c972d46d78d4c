"""Studies of mappings: what FuseMax's schedule gains step by step, what more of a resource does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from accelsim.errors import InputError, one_of, refuse
from accelsim.explore.estimate import bind
from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.ir.mapping import Mapping
from accelsim.ir.problem import Problem
from accelsim.load.cascade import load_cascade
from accelsim.load.design import load_design
from accelsim.load.mapping import load_mapping
from accelsim.load.workload import workload
from accelsim.mapper.legal import legal
from accelsim.models.estimate import Estimate
from accelsim.models.estimate import estimate as price

STUDIES: Final = ("binding", "resources")
#: FuseMax's evaluation, one change a step: name, design, what is new.
STEPS: Final = (
    ("unfused", "unfused", "three kernels"),
    ("FLAT", "flat", "three passes, fused"),
    ("+Cascade", "fusemax-cascade", "one pass"),
    ("+Architecture", "fusemax-architecture", "max, exp in the 2-D array"),
    ("+Binding", "fusemax", "arrays interleaved"),
)
OURS: Final = "ours"
#: What ``ours`` is a mapping of.
BASE: Final = "fusemax"
#: Says that ours is to be searched for, instead of a file.
SEARCH: Final = "map"
AS_IS: Final = "as it is"
PORTS: Final = ("bandwidth", "read_bandwidth", "write_bandwidth")


@dataclass(frozen=True, slots=True)
class Row:
    """One step, or one machine, on one workload.

    ``speedup`` and ``energy_ratio`` are against the study's first row of the
    workload (and design); ``gain`` is the speedup against the row before.
    ``simulated_s`` is the witness's time, None where it was not asked.
    """

    design: str
    change: str
    model: str
    seq: str
    latency_s: float
    energy_j: float
    speedup: float
    energy_ratio: float
    gain: float
    bound_by: str
    utilisation: dict[str, float]
    simulated_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Study:
    """The rows of a study by model, length and step, and machines that a mapping has no use for."""

    study: str
    baseline: str
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim compare --study``."""
        return {
            "study": self.study,
            "baseline": self.baseline,
            "rows": [r.to_dict() for r in self.rows],
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True, slots=True)
class Point:
    """A mapping on a machine, priced."""

    problem: Problem
    arch: Architecture
    mapping: Mapping
    priced: Estimate


def study(
    name: str,
    models: Sequence[str],
    seqs: Sequence[int | str],
    *,
    designs: Sequence[str] = (),
    ours: str | None = None,
    sets: Sequence[str] = (),
    simulate: bool = False,
) -> Study:
    """One of ``STUDIES`` on models by lengths.

    ``binding`` goes from unfused attention to FuseMax one change at a time;
    ``ours`` adds a mapping of the one-pass cascade on FuseMax's machine: a file
    that ``map`` wrote, or the word "map" to search for one.  ``resources``
    gives each of ``designs`` twice of one resource at a time, the design's
    rules (and published choices) deciding on the larger machine as on its own.
    ``sets`` overrides fields of every machine; ``simulate`` runs every row.
    Raises InputError for unknown names and for what does not fit.

    >>> found = study("binding", ["BERT"], ["64K"])
    >>> {r.design: round(r.gain, 2) for r in found.rows}["+Binding"]
    3.31
    """
    if name not in STUDIES:
        raise refuse(f"no study '{name}'", one_of(STUDIES))
    if not models or not seqs:
        raise refuse("a study needs at least one model and one length")
    if name == "binding" and designs:
        raise refuse("the study 'binding' has its own designs", "no designs, or --study resources")
    if name == "resources" and ours is not None:
        raise refuse("--ours belongs to the study 'binding'", "--study binding")
    rows: list[Row] = []
    left_out: dict[str, None] = {}
    for model in models:
        for seq in seqs:
            if name == "binding":
                steps = list(_binding(model, seq, ours, sets))
                rows += _rows(steps, model, seq, simulate)
            else:
                for design in designs or ("unfused", "flat", BASE):
                    steps = list(_resources(design, model, seq, sets, left_out))
                    rows += _rows(steps, model, seq, simulate)
    return Study(name, STEPS[0][0] if name == "binding" else AS_IS, tuple(rows), tuple(left_out))


def _rows(
    steps: Sequence[tuple[str, str, Point]], model: str, seq: int | str, simulate: bool
) -> Iterator[Row]:
    first = before = steps[0][2].priced
    for design, change, point in steps:
        own = point.priced
        yield Row(
            design,
            change,
            model,
            str(seq),
            own.latency_s,
            own.energy_j,
            first.latency_s / own.latency_s,
            own.energy_j / first.energy_j,
            before.latency_s / own.latency_s,
            own.bound_by,
            own.utilisation,
            _seconds(point) if simulate else None,
        )
        before = own


def _seconds(point: Point) -> float:
    from accelsim.sim.run import simulate

    return simulate(point.problem, point.arch, point.mapping).latency_s


def _binding(
    model: str, seq: int | str, ours: str | None, sets: Sequence[str]
) -> Iterator[tuple[str, str, Point]]:
    """FuseMax's steps, and ours on its machine."""
    for name, design, change in STEPS:
        problem, machine, mapping = bind(design=design, model=model, seq=seq, sets=sets)
        yield name, change, Point(problem, machine, mapping, price(problem, machine, mapping))
    if ours == SEARCH:
        from accelsim.explore.map import map_

        base = load_design(BASE)
        found = map_(base.cascade, arch=base.arch, model=model, seq=seq, sets=sets)
        yield (
            OURS,
            "found by map",
            Point(found.problem, found.task.arch, found.mapping, found.estimate),
        )
    elif ours is not None:
        problem, machine, mapping = bind(
            design=BASE, mapping=ours, model=model, seq=seq, sets=sets, verb="compare"
        )
        yield OURS, str(ours), Point(problem, machine, mapping, price(problem, machine, mapping))


def _resources(
    design: str, model: str, seq: int | str, sets: Sequence[str], left_out: dict[str, None]
) -> Iterator[tuple[str, str, Point]]:
    """A design as it is, and with twice of each resource."""
    base = load_design(design)
    problem, machine, mapping = bind(design=design, model=model, seq=seq, sets=sets)
    yield design, AS_IS, Point(problem, machine, mapping, price(problem, machine, mapping))
    for level in machine.levels:
        if math.isfinite(level.capacity_bytes) and not _limited(level):
            left_out[f"{design}, {level.name} bandwidth: {machine.name} gives no limit"] = None
    text, sizes = load_cascade(base.cascade), workload(model=model, seq=seq)
    rules = load_mapping(base.mapping)
    for resource, larger in doubled(machine):
        try:
            problem, mapping = rules.bind(text, sizes, larger, dict(base.choose))
            reasons = legal(text, mapping)
            if reasons:
                raise InputError(reasons)
            point = Point(problem, larger, mapping, price(problem, larger, mapping))
        except InputError as error:
            left_out[f"{design}, {resource}, {model} {seq}: {error.faults[0].message}"] = None
        else:
            yield design, resource, point


def doubled(arch: Architecture) -> Iterator[tuple[str, Architecture]]:
    """The machine with twice of each resource, and exponentials at half their cost.

    PEs are doubled down the rows and along the columns, where the mapping's
    rules must find use for them, and as the rate of all of a unit's operations,
    which is the most that twice the PEs can bring.

    >>> from accelsim.load.arch import load_architecture
    >>> [name for name, _ in doubled(load_architecture("fusemax-cloud"))][:4]
    ['array_2d rows', 'array_2d columns', 'array_2d rate', 'array_1d columns']
    """
    for n, unit in enumerate(arch.units):
        if unit.rows > 1:
            yield f"{unit.name} rows", _with_unit(arch, n, replace(unit, rows=2 * unit.rows))
        yield f"{unit.name} columns", _with_unit(arch, n, replace(unit, cols=2 * unit.cols))
        yield f"{unit.name} rate", _with_unit(arch, n, _faster(unit, None))
    yield (
        "rate of exp",
        replace(arch, units=tuple(_faster(unit, "exp") for unit in arch.units)),
    )
    for n, level in enumerate(arch.levels):
        if math.isfinite(level.capacity_bytes):
            larger = replace(level, capacity_bytes=2 * level.capacity_bytes)
            yield f"{level.name} capacity", _with_level(arch, n, larger)
        if _limited(level):
            wider = replace(level, **{port: 2 * getattr(level, port) for port in PORTS})
            yield f"{level.name} bandwidth", _with_level(arch, n, wider)


def _limited(level: Level) -> bool:
    return any(math.isfinite(getattr(level, port)) for port in PORTS)


def _faster(unit: Unit, only: str | None) -> Unit:
    """The unit with half the cycles of one operation, or of all that do not use others."""

    def operation(name: str, found: Operation) -> Operation:
        if name == only:
            uses = tuple((other, times / 2) for other, times in found.uses)
            return replace(found, uses=uses, cycles=found.cycles / 2)
        return replace(found, cycles=found.cycles / 2) if only is None else found

    return replace(unit, operations=tuple((n, operation(n, o)) for n, o in unit.operations))


def _with_unit(arch: Architecture, n: int, unit: Unit) -> Architecture:
    return replace(arch, units=(*arch.units[:n], unit, *arch.units[n + 1 :]))


def _with_level(arch: Architecture, n: int, level: Level) -> Architecture:
    return replace(arch, levels=(*arch.levels[:n], level, *arch.levels[n + 1 :]))
