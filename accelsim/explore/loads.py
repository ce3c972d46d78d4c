"""Operations and compulsory bytes of a part of a system, as its cascade has them at a length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, Final

from accelsim.analysis.statement import program
from accelsim.analysis.work import work
from accelsim.explore.roofline import ARRAY, roofline
from accelsim.explore.sweeping import running
from accelsim.ir.cascade import Access, Cascade, Density, rank_of
from accelsim.ir.problem import Problem, bind, names, with_parts
from accelsim.load.cascade import load_cascade
from accelsim.load.system import LENGTH, Part, System
from accelsim.load.workload import MODELS

#: Bits of an element where a part says nothing, and of a byte.
BITS: Final = 16.0
BYTE: Final = 8.0
#: Elements of a tile of keys or queries where a part does not say.
TILE: Final = 256


@dataclass(frozen=True, slots=True)
class Load:
    """Operations by class, bytes by tensor, and the roofline's seconds of one layer."""

    ops_by_class: Mapping[str, float]
    bytes_by_tensor: Mapping[str, float]

    @property
    def ops(self) -> float:
        """Operations in all; a multiply-add is one."""
        return sum(self.ops_by_class.values())

    @property
    def bytes(self) -> float:
        """Compulsory bytes: what is read, once, and outputs, once."""
        return sum(self.bytes_by_tensor.values())

    @property
    def seconds(self) -> float:
        """The roofline of FuseMax's array: no schedule on it is faster."""
        return roofline(ARRAY, self.ops_by_class, self.bytes)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "ops": self.ops,
            "bytes": self.bytes,
            "roofline_s": self.seconds,
            "ops_by_class": dict(self.ops_by_class),
            "bytes_by_tensor": dict(self.bytes_by_tensor),
        }


def scope_of(found: System, seq: int) -> dict[str, Any]:
    """What rules may name: the model's ranks, the system's parameters, its bits, the length.

    ``W4`` are the bits that an element of the format of that name has, ``W4_READ`` those read.

    >>> from accelsim.load.system import load_system
    >>> scope_of(load_system("luq"), 4096)["GPTQ4"]
    4.15625
    """
    scope = {**MODELS[found.text.model].ranks, **found.parameters, LENGTH: seq}
    for stored in found.formats:
        scope |= {stored.name: stored.bits(scope), f"{stored.name}_READ": stored.read(scope)}
    return scope


def total(loads: Iterable[Load]) -> Load:
    """Loads that come one after the other."""
    ops: dict[str, float] = {}
    moved: dict[str, float] = {}
    for load in loads:
        for name, n in load.ops_by_class.items():
            ops[name] = ops.get(name, 0) + n
        for name, n in load.bytes_by_tensor.items():
            moved[name] = moved.get(name, 0) + n
    return Load(ops, moved)


def load_of(part: Part, scope: Mapping[str, Any]) -> Load:
    """Operations and compulsory bytes of one part."""
    problem = _bound(part, scope)
    given = {t.name for t in load_cascade(part.cascade).inputs}
    bits = {t.name: 0.0 for t in problem.cascade.inputs if t.name not in given}
    bits |= {name: float(r.value(scope)) for name, r in part.bits}
    times = float(part.times.value(scope))
    ops: dict[str, float] = {}
    for einsum in problem.cascade.einsums:
        points = problem.points(einsum) * times
        for name, n in work(einsum).items():
            ops[name] = ops.get(name, 0.0) + n * points
    statements = program(problem)
    touched = statements.touched | _gathered(problem)
    moved = {
        name: times * n * bits.get(name, BITS) / BYTE
        for name, n in touched.items()
        if bits.get(name, BITS) > 0  # masks and tables known beforehand are made where needed
    }
    for name, n in statements.written.items():
        moved[name] = times * n * bits.get(name, BITS) / BYTE
    return Load(ops, moved)


@lru_cache(maxsize=512)
def _runs(name: str) -> Cascade:
    return running(load_cascade(name))


def _bound(part: Part, scope: Mapping[str, Any]) -> Problem:
    """The part's cascade with sizes: the rules' first, then the model's."""
    cascade = _runs(part.cascade)
    given = {name: int(r.value(scope)) for name, r in part.sizes}
    sizes = {r: int(scope[r]) for r in names(cascade) if r in scope and r != LENGTH}
    sizes |= given
    densities = tuple(Density(n, float(r.value(scope)), source) for n, r, source in part.density)
    if densities:
        cascade = replace(cascade, densities=densities)
    return bind(cascade, with_parts(cascade, sizes, TILE), part.place)


def _gathered(problem: Problem) -> dict[str, float]:
    """Elements of inputs that are read through an index tensor.

    As many as there are points of the read, at most all: exact for one query
    (what it chooses is distinct), an upper bound where several may choose alike.
    """
    cascade = problem.cascade
    inputs = {t.name for t in cascade.inputs}
    found: dict[str, float] = {}
    for einsum in cascade.einsums:
        for read in einsum.reads:
            lists = [at for at in read.indices if isinstance(at, Access)]
            if read.tensor not in inputs or not lists:
                continue
            points = float(prod(problem.extent(rank_of(v)) for v in read.variables))
            for index in lists:
                declared = cascade.density.get(index.tensor)
                points *= declared.value if declared else 1.0
            everything = problem.tensor_elements(read.tensor)
            found[read.tensor] = max(found.get(read.tensor, 0.0), min(points, everything))
    plain = {
        read.tensor
        for einsum in cascade.einsums
        for read in einsum.reads
        if not any(isinstance(at, Access) for at in read.indices)
    }
    touched = program(problem).touched
    return {t: max(n, touched[t]) if t in plain else n for t, n in found.items() if t in touched}
