"""The nouns of the cascade language: Index, Access, Map, Einsum, Cascade.

A cascade is a list of extended Einsums in single assignment (Odemuyiwa et
al., EDGE; Nayak et al., TeAAL and FuseMax).  It knows no sizes and no
hardware.  All nouns are frozen and hashable; equality is structural and
ignores the place in the text that they came from.

Names: ranks are upper case (``M1``), an index variable is the lower-case name
of the rank it runs over (``m1``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from accelsim.errors import Place
from accelsim.ir.einsum import (
    NOWHERE,
    Access,
    Compare,
    Condition,
    Const,
    Coordinate,
    Einsum,
    Either,
    Expr,
    Index,
    Last,
    Map,
    Position,
    Reduction,
    Simple,
    Size,
    Threshold,
    accesses,
    leaves,
    maps,
    rank_of,
    simple,
    variables,
)
from accelsim.ir.format import Format

__all__ = [
    "NOWHERE",
    "Access",
    "Cascade",
    "Compare",
    "Condition",
    "Const",
    "Coordinate",
    "Einsum",
    "Either",
    "Expr",
    "Geometry",
    "Index",
    "Last",
    "Map",
    "Position",
    "Reduction",
    "Simple",
    "Size",
    "Tensor",
    "Threshold",
    "Touch",
    "accesses",
    "leaves",
    "maps",
    "rank_of",
    "simple",
    "variables",
]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's name and its ranks, unsplit for an input."""

    name: str
    ranks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Geometry:
    """What an access spans: the ranks it depends on, and its positions that make up a tile.

    A position is a rank with None for a plain index, else with the affine
    index, or with the access of an index tensor, whose elements may be any.
    The last slot and the rank that a recurrence runs along span nothing.
    """

    ranks: tuple[str, ...]
    positions: tuple[tuple[str, Index | Access | None], ...]


class Touch(NamedTuple):
    """One access of an Einsum: its tensor, what it spans, and whether it writes.

    ``shape`` numbers what is spanned: accesses that span the same have one number.
    """

    tensor: str
    shape: int
    writes: bool


@dataclass(frozen=True, slots=True)
class Density:
    """The share of a mask that is nonzero, or of a tensor's points that its values leave.

    It depends on data, so that it is given, with where the number comes from.
    Among the points that affine predicates leave; points of different tensors
    are taken for independent.
    """

    tensor: str
    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Storage:
    """How a tensor is stored: its format, and what the sizes that the format names are here."""

    tensor: str
    format: Format
    sizes: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True)
class Cascade:
    """A cascade: declared ranks and inputs, splits, Einsums in text order, outputs.

    ``splits`` maps a rank to its parts, outermost first; the size of the rank
    is the product of theirs.  ``equals`` names the textbook function or the
    cascade file it must equal.  ``indexes`` declares of an index tensor the
    rank that it counts in, where nothing else tells it.  ``formats``: how
    tensors are stored, those not named in words of the machine.  ``densities``
    of masks and of what thresholds leave.
    """

    name: str
    ranks: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    einsums: tuple[Einsum, ...]
    outputs: tuple[str, ...]
    splits: tuple[tuple[str, tuple[str, ...]], ...] = ()
    constants: tuple[tuple[str, float], ...] = ()
    equals: str = ""
    source: str = ""
    about: str = ""
    family: str = ""
    indexes: tuple[tuple[str, str], ...] = ()
    formats: tuple[Storage, ...] = ()
    densities: tuple[Density, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @cached_property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """For each rank its parts; an unsplit rank is its own part."""
        split = dict(self.splits)
        return {r: split.get(r, (r,)) for r in self.ranks}

    @cached_property
    def whole(self) -> dict[str, str]:
        """For each part of a rank the declared rank it is a part of."""
        return {p: r for r, parts in self.parts.items() for p in parts}

    @cached_property
    def tensors(self) -> dict[str, tuple[str, ...]]:
        """The ranks of every tensor, by name: parts of split ranks, one for each index position.

        An input declared over M is listed over M1, M0 where M is split.  An
        intermediate has, at each position, the rank of the first write there.
        A constant or last slot takes its rank from another write of the tensor,
        a scattered position from what its index tensor counts.
        """
        known: dict[str, list[str]] = {}
        for t in self.inputs:
            known[t.name] = [p for r in t.ranks for p in self.parts.get(r, (r,))]
        for e in self.einsums:
            slots = [self._rank_at(i) for i in e.output.indices]
            old = known.get(e.output.tensor)
            if old is None or len(old) != len(slots):
                known.setdefault(e.output.tensor, slots)
            else:
                known[e.output.tensor] = [a or b for a, b in zip(old, slots, strict=True)]
        return {name: tuple(ranks) for name, ranks in known.items()}

    def _rank_at(self, index: Position) -> str:
        """The rank that a write's position runs over; nothing for a slot."""
        if isinstance(index, Access):
            return self.counts.get(index.tensor, "")
        return rank_of(index.terms[0][0]) if isinstance(index, Index) and index.terms else ""

    @cached_property
    def density(self) -> dict[str, Density]:
        """Densities by tensor."""
        return {d.tensor: d for d in self.densities}

    @cached_property
    def masked(self) -> bool:
        """Whether an affine predicate takes points away from any Einsum."""
        return any(isinstance(c, Compare | Either) for e in self.einsums for c in e.where)

    @cached_property
    def counts(self) -> dict[str, str]:
        """For each index tensor the rank whose coordinates its elements are: ``{"I": "J"}``.

        Declared (``indexes``), or told by the selection that makes it, by the
        index tensor of which it is a copy or a part, or by an input of which
        it gathers.
        """
        found = dict(self.indexes)
        ranks = {
            t.name: tuple(p for r in t.ranks for p in self.parts.get(r, (r,))) for t in self.inputs
        }
        for e in self.einsums:
            for read in e.reads:
                for index, rank in zip(read.indices, ranks.get(read.tensor, ()), strict=False):
                    if isinstance(index, Access):
                        found.setdefault(index.tensor, rank)
            name = e.output.tensor
            slots = [
                rank_of(i.variables[0]) if i.plain and i.variables else "" for i in e.output.indices
            ]
            ranks.setdefault(name, tuple(slots))
            chooser = e.reductions[-1] if e.reductions else None
            if chooser is not None and (chooser.into or chooser.op == "argmax"):
                counted = tuple(rank_of(v) for v in chooser.over)
                known = {parts: rank for rank, parts in self.splits} | {counted[:1]: counted[0]}
                if counted in known:
                    found.setdefault(name, known[counted])
            elif isinstance(e.expr, Access) and e.expr.tensor in found and not e.reductions:
                found.setdefault(name, found[e.expr.tensor])
        return found

    @cached_property
    def writers(self) -> dict[str, tuple[Einsum, ...]]:
        """The Einsums that write each tensor (two for a recurrence: slot 0 and the step)."""
        found: dict[str, tuple[Einsum, ...]] = {}
        for e in self.einsums:
            found[e.output.tensor] = (*found.get(e.output.tensor, ()), e)
        return found

    @cached_property
    def iterative(self) -> dict[str, str]:
        """For each tensor that a recurrence carries, the rank it recurs along: ``{"RM": "M1"}``."""
        found = {}
        for e in self.einsums:
            for i in e.output.indices:
                if isinstance(i, Index) and i.terms and i.offset:
                    found[e.output.tensor] = rank_of(i.terms[0][0])
        return found

    @cached_property
    def steps(self) -> dict[str, Einsum]:
        """Einsums by name, in text order."""
        return {e.name: e for e in self.einsums}

    @cached_property
    def operands(self) -> dict[str, tuple[Access, ...]]:
        """What each Einsum reads, an access that it names twice only once."""
        return {e.name: tuple(dict.fromkeys(e.reads)) for e in self.einsums}

    @cached_property
    def users(self) -> dict[str, frozenset[str]]:
        """For each tensor the Einsums that read or write it, constant slots left out."""
        found: dict[str, set[str]] = {}
        for einsum in self.einsums:
            if einsum.reads:
                for name in (einsum.output.tensor, *(a.tensor for a in einsum.reads)):
                    found.setdefault(name, set()).add(einsum.name)
        return {name: frozenset(names) for name, names in found.items()}

    @cached_property
    def spaces(self) -> dict[int, tuple[str, ...]]:
        """The variables of every Einsum, whole split ranks as their parts, by its identity."""
        split = dict(self.splits)
        return {
            id(e): tuple(
                dict.fromkeys(
                    part.lower()
                    for v in e.variables
                    for part in split.get(rank_of(v), (rank_of(v),))
                )
            )
            for e in self.einsums
        }

    @cached_property
    def boxes(self) -> dict[str, tuple[str, ...]]:
        """The ranks of every Einsum's iteration space, parts of split ranks apart, by name."""
        return {e.name: tuple(rank_of(v) for v in self.spaces[id(e)]) for e in self.einsums}

    @cached_property
    def geometry(self) -> dict[int, Geometry]:
        """What every access spans, by the identity of the access (``id``)."""
        found = {}
        for einsum in self.einsums:
            for access in (*einsum.reads, einsum.output):
                recurrent = self.iterative.get(access.tensor)
                positions: list[tuple[str, Index | Access | None]] = []
                for index, rank in zip(access.indices, self.tensors[access.tensor], strict=True):
                    if not isinstance(index, Last) and rank != recurrent:
                        one = index.plain
                        positions.append((rank_of(one), None) if one else (rank, index))
                ranks = tuple(rank_of(v) for v in access.variables)
                found[id(access)] = Geometry(ranks, tuple(positions))
        return found

    @cached_property
    def shapes(self) -> tuple[tuple[Geometry, str], ...]:
        """What accesses span, each once, with its rank that a recurrence runs along, or ""."""
        return tuple(self._touched[0])

    @cached_property
    def touched(self) -> dict[str, tuple[Touch, ...]]:
        """What each Einsum reads, an access that it names twice only once, and then what it writes.

        Shapes are numbered as in ``shapes``.
        """
        return self._touched[1]

    @cached_property
    def _touched(self) -> tuple[dict[tuple[Geometry, str], int], dict[str, tuple[Touch, ...]]]:
        numbers: dict[tuple[Geometry, str], int] = {}
        found = {}
        for einsum in self.einsums:
            touches = []
            for access in (*self.operands[einsum.name], einsum.output):
                geometry, slot = self.geometry[id(access)], self.iterative.get(access.tensor, "")
                shape = geometry, slot if slot in geometry.ranks else ""
                number = numbers.setdefault(shape, len(numbers))
                touches.append(Touch(access.tensor, number, access is einsum.output))
            found[einsum.name] = tuple(touches)
        return numbers, found

    def __hash__(self) -> int:
        """Structural, so that results can be cached by cascade."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.ranks, self.inputs, self.einsums, self.outputs, self.splits))
