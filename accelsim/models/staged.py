"""A stage of a cascade on a spatial array: each Einsum on one unit, units and memory side by side.

For cascades without a mapping.  A stage ends where the next one needs all of
it.  Within it every Einsum is placed whole on one unit, the longest first,
each where the stage then ends soonest (Graham, 1969); units and memory work
beside each other, as FuseMax's do within 1 %.  A product of two tensors keeps
its result, or one operand, in the PEs of a 2-D array, whichever takes fewer
cycles; what a PE must take in for itself comes in over the edges.  A 1-D unit
takes operands of its own in every PE and cycle.  Tiles are taken to be large
enough that nothing is read twice within a stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from accelsim.errors import refuse
from accelsim.ir.arch import Architecture, Operation, Unit
from accelsim.models.energy import static_watts

#: Classes that units do not price, and what they are taken to cost there.
STANDS_IN: Final[dict[str, str]] = {
    "mul": "mac",
    "round": "add",
    "select": "max",
    "topk": "max",
    "log": "exp",
    "sqrt": "div",
}


@dataclass(frozen=True, slots=True)
class Extents:
    """``batch`` products of two tensors: rows of one by ``depth`` by columns of the other.

    ``made``: whether the first, and the second, is made in the same stage, and
    so may stand in the PEs already.
    """

    batch: float
    rows: float
    columns: float
    depth: float
    made: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, slots=True)
class Step:
    """An Einsum of a stage: ``points`` that are computed, operations of a point by class.

    ``product``: its extents if it multiplies two tensors, and then ``points``
    may be fewer than their product.
    """

    name: str
    points: float
    work: Mapping[str, int]
    product: Extents | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """Einsums that run together, and the bytes that they read from memory and write to it."""

    name: str
    steps: tuple[Step, ...]
    read_bytes: Mapping[str, float]
    write_bytes: Mapping[str, float]

    @property
    def ops(self) -> dict[str, float]:
        """Operations by class; a multiply-add is one."""
        found: dict[str, float] = {}
        for step in self.steps:
            for name, n in step.work.items():
                found[name] = found.get(name, 0.0) + n * step.points
        return found

    @property
    def moved(self) -> tuple[float, float]:
        """Bytes read, bytes written."""
        return sum(self.read_bytes.values()), sum(self.write_bytes.values())


@dataclass(frozen=True, slots=True)
class StagePrice:
    """What a stage takes: seconds by unit and of memory, joules by component, Einsums by unit."""

    name: str
    machine: str
    how: str
    seconds: float
    joules: float
    busy_s: Mapping[str, float]
    ops: float
    bytes: float
    where: Mapping[str, tuple[str, ...]]

    @property
    def bound_by(self) -> str:
        """What is busy longest."""
        return max(self.busy_s, key=lambda name: self.busy_s[name], default="launch")

    def scaled(self, share: float) -> StagePrice:
        """The mean over layers of which ``share`` run the stage."""
        busy = {name: share * n for name, n in self.busy_s.items()}
        sums = {n: share * getattr(self, n) for n in ("seconds", "joules", "ops", "bytes")}
        return replace(self, busy_s=busy, **sums)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        own = {name: getattr(self, name) for name in self.__slots__}
        where = {unit: list(names) for unit, names in self.where.items()}
        return own | {"busy_s": dict(self.busy_s), "where": where, "bound_by": self.bound_by}


def operation(unit: Unit, work: str) -> Operation | None:
    """A unit's operation for a work class, or for the class that stands in for it."""
    return unit.operation(work) or unit.operation(STANDS_IN.get(work, ""))


def cycles_of(unit: Unit, work: str) -> float | None:
    """PE cycles of one operation on a unit; None where it cannot do it."""
    found = operation(unit, work)
    if found is None:
        return None
    return sum(n * (cycles_of(unit, name) or 0.0) for name, n in found.uses) or found.cycles


def joules_of(unit: Unit, work: str) -> float | None:
    """Joules of one operation on a unit; None where it cannot do it."""
    found = operation(unit, work)
    if found is None:
        return None
    return found.energy_j + sum(n * (joules_of(unit, name) or 0.0) for name, n in found.uses)


def price(
    stage: Stage,
    arch: Architecture,
    pinned: Mapping[str, Sequence[str]] | None = None,
    physical: bool = False,
) -> StagePrice:
    """Time and energy of a stage on an array; ``pinned`` names the units that an Einsum may take.

    ``physical`` adds the power that always flows, as ``models.estimate`` does.

    Raises InputError where no unit does an operation.

    >>> from accelsim.load.arch import load_architecture
    >>> product = Step("S", 256.0**3, {"mac": 1}, Extents(1, 256, 256, 256))
    >>> found = price(Stage("attention", (product,), {}, {}), load_architecture("fusemax-cloud"))
    >>> found.bound_by, round(found.seconds * 940e6)
    ('array_2d', 256)
    """
    busy = dict.fromkeys(arch.unit, 0.0)
    where: dict[str, list[str]] = {name: [] for name in arch.unit}
    joules = words = 0.0
    timed = [(step, _options(step, arch, pinned or {})) for step in stage.steps]
    for step, options in sorted(timed, key=lambda t: -min(c for c, _ in t[1].values())):
        name = min(options, key=lambda u: (busy[u] + options[u][0], options[u][0]))
        busy[name] += options[name][0]
        words += options[name][1]
        where[name].append(step.name)
        unit = arch.unit[name]
        joules += step.points * sum(n * (joules_of(unit, w) or 0) for w, n in step.work.items())
    read, written = stage.moved
    fill = max((arch.unit[u].fill_cycles for u in busy if busy[u]), default=0.0)
    taken = {name: (n + fill) / arch.clock_hz for name, n in busy.items() if n}
    taken[arch.backing.name] = arch.backing.seconds(read, written)
    joules += arch.backing.joules(read, written)
    if len(arch.levels) > 1:
        joules += arch.levels[1].joules(words * arch.word_bytes + written, read)
    seconds = max(taken.values())
    joules += static_watts(arch) * seconds if physical else 0.0
    return StagePrice(
        stage.name,
        arch.name,
        "array",
        seconds,
        joules,
        taken,
        sum(stage.ops.values()),
        read + written,
        {unit: tuple(names) for unit, names in where.items() if names},
    )


def _options(
    step: Step, arch: Architecture, pinned: Mapping[str, Sequence[str]]
) -> dict[str, tuple[float, float]]:
    """Cycles, and words that its operands bring in, of an Einsum on each unit that can do it."""
    found = {}
    for unit in arch.units:
        own = [operation(unit, name) for name in step.work]
        absorbed = {other for one in own if one is not None for other in one.absorbs}
        costs = [
            (0 if name in absorbed else n, cycles_of(unit, name)) for name, n in step.work.items()
        ]
        allowed = pinned.get(step.name, (unit.name,))
        if all(c is not None for _, c in costs) and unit.name in allowed:
            cost = sum(n * c for n, c in costs if c is not None)
            found[unit.name] = _cycles(unit, step, cost)
    if not found:
        message = f"{arch.name} has no unit for {', '.join(step.work)}, which {step.name} needs"
        raise refuse(message, "operations of those classes on one unit")
    return found


def _cycles(unit: Unit, step: Step, cost: float) -> tuple[float, float]:
    """Cycles on a unit, and the words that come in over its edges."""
    product = step.product
    if product is None:
        return step.points * cost / unit.pes, 0.0
    dense = product.batch * product.rows * product.columns * product.depth
    share = step.points / dense
    if unit.rows == 1:
        cycles = step.points * cost / unit.cols
        return cycles, cycles * 2 * unit.cols
    ways = []
    sides = (product.rows, product.columns)
    for made, (rows, columns) in zip(product.made, (sides, sides[::-1]), strict=True):
        high, deep = min(rows, unit.rows), min(product.depth, unit.cols)
        kept = product.batch * _tiles(rows, unit.rows) * _tiles(columns, unit.cols)
        ways.append((kept * product.depth, high + min(columns, unit.cols)))
        if made:  # each column has what it needs, of one product or of several
            still = _tiles(product.batch * product.depth, unit.cols) * columns
        else:
            still = product.batch * _tiles(product.depth, unit.cols) * max(columns, high)
        ways.append((_tiles(rows, unit.rows) * still, deep + (0.0 if made else high)))
    cycles, edge = min(ways)
    cycles *= share * cost
    return cycles, cycles * edge


def _tiles(extent: float, side: int) -> float:
    """Rounds over an array's side; at least the extent over the side."""
    return math.ceil(extent / side - 1e-9)
