"""Operations and compulsory bytes of a part of a system, as its cascade has them at a length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, Final

from accelsim.analysis.statement import Program, Statement, program
from accelsim.analysis.work import work
from accelsim.errors import Place, refuse
from accelsim.explore.roofline import ARRAY, GPU, array_energy, array_roofline, gpu_roofline
from accelsim.explore.sweeping import running
from accelsim.ir.cascade import Access, Cascade, Density, Index, Position, rank_of
from accelsim.ir.problem import Problem, bind, names, with_parts
from accelsim.ir.rule import MOST, Rule, shown
from accelsim.load.cascade import load_cascade
from accelsim.load.system import LENGTH, Part, System, whole
from accelsim.load.workload import MODELS

#: Bits of an element where a part says nothing, and of a byte.
BITS: Final = 16.0
BYTE: Final = 8.0
#: Elements of a tile of keys or queries where a part does not say.
TILE: Final = 256


@dataclass(frozen=True, slots=True)
class Load:
    """Operations by class, bytes by tensor, and the rooflines' seconds of one layer.

    ``product_macs``: those of the multiply-adds that are of matrix products.
    """

    ops_by_class: Mapping[str, float]
    bytes_by_tensor: Mapping[str, float]
    product_macs: float

    @property
    def ops(self) -> float:
        """Operations in all; a multiply-add is one."""
        return sum(self.ops_by_class.values())

    @property
    def bytes(self) -> float:
        """Compulsory bytes: what is read, once, and outputs, once."""
        return sum(self.bytes_by_tensor.values())

    @property
    def seconds(self) -> dict[str, float]:
        """Rooflines of FuseMax's array and of an H100: no schedule on them is faster."""
        return {
            ARRAY: array_roofline(self.ops_by_class, self.bytes),
            GPU: gpu_roofline(self.ops_by_class, self.product_macs, self.bytes),
        }

    @property
    def energy(self) -> float:
        """Joules on FuseMax's array of the operations and of memory, without what lies between."""
        return array_energy(self.ops_by_class, self.bytes)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "ops": self.ops,
            "bytes": self.bytes,
            "array_energy_j": self.energy,
            "roofline_s": self.seconds,
            "product_macs": self.product_macs,
            "ops_by_class": dict(self.ops_by_class),
            "bytes_by_tensor": dict(self.bytes_by_tensor),
        }


def scope_of(found: System, seq: int) -> dict[str, Any]:
    """What rules may name: the model's ranks, the system's parameters, its bits, the length.

    A model that says nothing of key heads has as many as query heads.

    ``W4`` are the bits that an element of the format of that name has, ``W4_READ`` those read.

    >>> from accelsim.load.system import load_system
    >>> scope_of(load_system("luq"), 4096)["GPTQ4"]
    4.15625
    """
    ranks = MODELS[found.text.model].ranks
    heads = {"HK": ranks["H"]} if "H" in ranks else {}
    scope = {**heads, **ranks, **found.parameters, LENGTH: seq}
    for stored in found.formats:
        scope |= {stored.name: stored.bits(scope), f"{stored.name}_READ": stored.read(scope)}
    return scope


def total(loads: Iterable[Load]) -> Load:
    """Loads that come one after the other."""
    ops: dict[str, float] = {}
    moved: dict[str, float] = {}
    products = 0.0
    for load in loads:
        products += load.product_macs
        for name, n in load.ops_by_class.items():
            ops[name] = ops.get(name, 0) + n
        for name, n in load.bytes_by_tensor.items():
            moved[name] = moved.get(name, 0) + n
    return Load(ops, moved, products)


def load_of(part: Part, scope: Mapping[str, Any]) -> Load:
    """Operations and compulsory bytes of one part."""
    problem = bound(part, scope)
    bits = bits_of(part, scope, problem)
    times = number(part.times, scope, "times") * layers_of(part, scope)
    statements = stated(problem)
    products = {s.einsum for s in statements.statements if s.contracts}
    ops: dict[str, float] = {}
    macs = 0.0
    stepped = stepping(part, problem)
    visits = number(part.visits, scope, "visits", most=1) if part.visits is not None else 1.0
    for einsum in problem.cascade.einsums:
        points = problem.points(einsum) * times * (visits if einsum.name in stepped else 1.0)
        for name, n in work(einsum).items():
            ops[name] = ops.get(name, 0.0) + n * points
        macs += work(einsum).get("mac", 0) * points if einsum in products else 0.0
    moved: dict[str, float] = {}
    for name, elements in reached(statements).items():
        width = bits.get(name, problem.bits(name, BITS))
        if width > 0:  # masks and tables known beforehand are made where they are needed
            moved[name] = times * elements * width / BYTE
    for name, elements in statements.written.items():
        moved[name] = times * elements * bits.get(name, BITS) / BYTE
    return Load(ops, moved, macs)


def layers_of(part: Part, scope: Mapping[str, Any]) -> float:
    """The share of the layers that run a part."""
    return 1.0 if part.layers is None else number(part.layers, scope, "layers", most=1)


def bits_of(part: Part, scope: Mapping[str, Any], problem: Problem) -> dict[str, float]:
    """Bits of tensors that the part gives, and none of what is known beforehand."""
    given = {t.name for t in load_cascade(part.cascade).inputs}
    bits = {t.name: 0.0 for t in problem.cascade.inputs if t.name not in given}
    return bits | {n: number(r, scope, f"bits of {n}", least=0) for n, r in part.bits}


def number(
    rule: Rule, scope: Mapping[str, Any], what: str, *, least: float = 1e-300, most: float = MOST
) -> float:
    """The rule's value, a number within bounds; InputError at its place where it is none."""
    value = rule.value(scope)
    if isinstance(value, str) or not least <= value <= most:
        allowed = "0 or more" if not least else "more than 0"
        allowed += ", at most 1" if most == 1 else ""
        raise refuse(f"{what} is {shown(value)}", allowed, rule.place)
    return float(value)


def stepping(part: Part, problem: Problem) -> frozenset[str]:
    """Einsums of the recurrence over key tiles, of which a kernel leaves out those not visited.

    What masks of data restrict is counted by their densities instead.
    """
    along = set(problem.cascade.iterative.values())
    found = set()
    for einsum in problem.cascade.einsums:
        writes = {rank_of(v) for v in einsum.output.variables}
        if einsum.name in part.estimation or not along & writes:
            continue
        if problem.points(einsum) == problem.dense_points(einsum):
            found.add(einsum.name)
    return frozenset(found)


def bound(part: Part, scope: Mapping[str, Any]) -> Problem:
    """The part's cascade with sizes: the rules' first, then the model's."""
    cascade = load_cascade(part.cascade)
    given = {name: whole(r, scope, name) for name, r in part.sizes}
    asked = names(cascade)
    sizes = {r: int(scope[r]) for r in asked if r in scope and r != LENGTH} | given
    if {"HK", "G"} <= set(asked) and "H" not in asked and {"H", "HK"} <= scope.keys():
        sizes.setdefault("G", int(scope["H"]) // sizes["HK"])
    shares = [Density(n, number(r, scope, n, most=1), source) for n, r, source in part.density]
    return _bound(cascade, tuple(sizes.items()), tuple(shares), part.place)


@lru_cache(maxsize=64)
def _bound(
    cascade: Cascade, sizes: tuple[tuple[str, int], ...], shares: tuple[Density, ...], place: Place
) -> Problem:
    """One problem for all who ask about a part, so that what is known of it is kept."""
    text = running(cascade)
    own = {d.tensor: d for d in (*text.densities, *shares)}
    text = replace(text, densities=tuple(own.values()))
    return bind(text, with_parts(text, dict(sizes), TILE), place)


@lru_cache(maxsize=64)
def stated(problem: Problem) -> Program:
    """The statements of a problem."""
    return program(problem)


def reached(known: Program, here: Iterable[Statement] | None = None) -> dict[str, float]:
    """Elements of inputs that statements read, all of them where not said.

    At an index of several variables what the index spans.  Through an index
    tensor as many as there are points of the read, at most all: exact for one
    query (what it chooses is distinct), an upper bound where several may
    choose alike.
    """
    problem = known.problem
    inputs = {t.name for t in problem.cascade.inputs}
    found: dict[str, float] = {}
    for s in known.statements if here is None else here:
        for read, access in zip(s.reads, s.einsum.reads, strict=True):
            if read.tensor not in inputs:
                continue
            mixed = any(_mixed(at) for at in access.indices)
            elements = _elements(problem, access) if mixed else known.distinct(s, read)
            most = min(float(elements), problem.tensor_elements(read.tensor))
            found[read.tensor] = max(found.get(read.tensor, 0.0), most)
    return found


def _mixed(at: Position) -> bool:
    """Whether an index is an index tensor, or has several variables."""
    return isinstance(at, Access) or (isinstance(at, Index) and len(at.terms) > 1)


def _elements(problem: Problem, read: Access) -> float:
    """Elements that a read reaches, with what index tensors choose counted once a point."""
    if any(isinstance(at, Access) for at in read.indices):
        points = float(prod(problem.extent(rank_of(v)) for v in read.variables))
        for index in read.indices:
            declared = problem.cascade.density.get(getattr(index, "tensor", ""))
            points *= declared.value if declared else 1.0
        return points
    spans = 1.0
    for at, extent in zip(read.indices, problem.shape(read.tensor), strict=True):
        if isinstance(at, Index):
            form = problem.affine(at)
            reach = sum(abs(c) * (problem.extent(rank_of(v)) - 1) for v, c in form.terms)
            spans *= min(reach // form.divisor + 1, extent)
    return spans
