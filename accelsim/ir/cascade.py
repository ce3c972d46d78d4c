"""The nouns of the cascade language: Index, Access, Map, Einsum, Cascade.

A cascade is a list of extended Einsums in single assignment (Odemuyiwa et
al., EDGE; Nayak et al., TeAAL and FuseMax).  It knows no sizes and no
hardware.  All nouns are frozen and hashable; equality is structural and
ignores the place in the text that they came from.

Names: ranks are upper case (``M1``), an index variable is the lower-case name
of the rank it runs over (``m1``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from accelsim.errors import Place

NOWHERE = Place()


def rank_of(variable: str) -> str:
    """The rank that an index variable runs over.

    >>> rank_of("m1")
    'M1'
    """
    return variable.upper()


@dataclass(frozen=True, slots=True)
class Index:
    """An affine index: ``(sum(c * v for v, c in terms) + offset) // divisor``.

    A factor ``c``, and the ``divisor``, is an integer or the name of a rank,
    whose size it stands for: ``m1*M0+m0``, ``h // G``.  ``border`` says what a
    read beyond the rank's extent means: ``"clamp"`` (the nearest element),
    ``"zero"`` (the value 0), or ``""`` (not allowed).
    """

    terms: tuple[tuple[str, int | str], ...] = ()
    offset: int = 0
    divisor: int | str = 1
    border: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables in the index, as written.

        >>> Index((("p", 1), ("w", 2)), -1).variables
        ('p', 'w')
        """
        return tuple(v for v, _ in self.terms)

    @property
    def plain(self) -> str | None:
        """The variable, if the index is one variable and nothing else."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and not self.offset and self.divisor == 1:
            return self.terms[0][0]
        return None


@dataclass(frozen=True, slots=True)
class Last:
    """The last slot of an iterative rank, written as the rank's upper-case name."""

    rank: str
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def variables(self) -> tuple[str, ...]:
        """No variable: the slot is fixed."""
        return ()

    @property
    def plain(self) -> str | None:
        """None: it is no plain variable."""
        return None


#: One position of an access.  (Gather through an index tensor joins here.)
Position: TypeAlias = Index | Last


@dataclass(frozen=True, slots=True)
class Access:
    """A read or a write of a tensor's element: ``K[b,h,m1,m0,e]``.  No indices: a scalar tensor."""

    tensor: str
    indices: tuple[Position, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables of all the indices, in order of first appearance.

        >>> Access("K", (Index((("p", 1), ("w", 1))), Index((("e", 1),)))).variables
        ('p', 'w', 'e')
        """
        return tuple(dict.fromkeys(v for i in self.indices for v in i.variables))


@dataclass(frozen=True, slots=True)
class Const:
    """A number.  ``name`` is kept where the text used a named constant."""

    value: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a rank as a scalar: bare ``D`` in ``SUM[b] / D``."""

    rank: str


@dataclass(frozen=True, slots=True)
class Map:
    """An operation of the table in ``ir.ops`` applied point by point."""

    op: str
    args: tuple[Expr, ...]


Expr: TypeAlias = Access | Const | Size | Map


@dataclass(frozen=True, slots=True)
class Reduction:
    """``:: max(m)``: a reduction over variables.  ``into``: for selections (``topk(j -> r)``)."""

    op: str
    over: tuple[str, ...]
    into: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Compare:
    """An affine predicate ``left relation right`` with relation one of ``<= < >= > == !=``."""

    left: Index
    relation: str
    right: Index
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables on both sides."""
        return tuple(dict.fromkeys(self.left.variables + self.right.variables))


#: A condition of ``where``: an affine predicate, or a tensor whose element is nonzero.
Condition: TypeAlias = Compare | Access


@dataclass(frozen=True, slots=True)
class Einsum:
    """One extended Einsum: ``output = expr :: reductions where conditions``.

    ``reductions`` is complete: the loader writes the implicit sum over
    variables that are absent on the left as an explicit ``Reduction``.
    """

    output: Access
    expr: Expr
    reductions: tuple[Reduction, ...] = ()
    where: tuple[Condition, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The tensor written; with its constant slot where that sets it apart (``RM@0``)."""
        slots = [str(i.offset) for i in self.output.indices if isinstance(i, Index) and not i.terms]
        return self.output.tensor + "".join(f"@{s}" for s in slots)

    @property
    def reads(self) -> tuple[Access, ...]:
        """Every access on the right, those of tensor predicates included, in text order."""
        return tuple(accesses(self.expr)) + tuple(c for c in self.where if isinstance(c, Access))

    @property
    def variables(self) -> tuple[str, ...]:
        """The iteration space: variables of the output, then those that only appear on the right.

        >>> q = Access("Q", (Index((("p", 1),)), Index((("e", 1),))))
        >>> Einsum(Access("S", (Index((("p", 1),)),)), q).variables
        ('p', 'e')
        """
        names = list(self.output.variables)
        for read in self.reads:
            names += read.variables
        for condition in self.where:
            names += condition.variables
        return tuple(dict.fromkeys(names))

    @property
    def reduced(self) -> tuple[str, ...]:
        """Variables that a reduction removes."""
        return tuple(v for r in self.reductions for v in r.over)


def accesses(expr: Expr) -> Iterator[Access]:
    """Every access in an expression, from left to right."""
    if isinstance(expr, Access):
        yield expr
    elif isinstance(expr, Map):
        for arg in expr.args:
            yield from accesses(arg)


def maps(expr: Expr) -> Iterator[Map]:
    """Every map in an expression, outermost first."""
    if isinstance(expr, Map):
        yield expr
        for arg in expr.args:
            yield from maps(arg)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's name and its ranks, unsplit for an input."""

    name: str
    ranks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Geometry:
    """What an access spans: the ranks it depends on, and its positions that make up a tile.

    A position is a rank with None for a plain index, else with the affine
    index.  The last slot and the rank that a recurrence runs along span nothing.
    """

    ranks: tuple[str, ...]
    positions: tuple[tuple[str, Index | None], ...]


@dataclass(frozen=True)
class Cascade:
    """A cascade: declared ranks and inputs, splits, Einsums in text order, outputs.

    ``splits`` maps a rank to its parts, outermost first; the size of the rank
    is the product of theirs.  ``equals`` names the textbook function or the
    cascade file it must equal.
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
        A constant or last slot takes its rank from another write of the tensor.
        """
        known: dict[str, list[str]] = {}
        for t in self.inputs:
            known[t.name] = [p for r in t.ranks for p in self.parts.get(r, (r,))]
        for e in self.einsums:
            slots = [
                rank_of(i.terms[0][0]) if isinstance(i, Index) and i.terms else ""
                for i in e.output.indices
            ]
            old = known.get(e.output.tensor)
            if old is None or len(old) != len(slots):
                known.setdefault(e.output.tensor, slots)
            else:
                known[e.output.tensor] = [a or b for a, b in zip(old, slots, strict=True)]
        return {name: tuple(ranks) for name, ranks in known.items()}

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
    def geometry(self) -> dict[int, Geometry]:
        """What every access spans, by the identity of the access (``id``)."""
        found = {}
        for einsum in self.einsums:
            for access in (*einsum.reads, einsum.output):
                recurrent = self.iterative.get(access.tensor)
                positions: list[tuple[str, Index | None]] = []
                for index, rank in zip(access.indices, self.tensors[access.tensor], strict=True):
                    if isinstance(index, Index) and rank != recurrent:
                        one = index.plain
                        positions.append((rank_of(one), None) if one else (rank, index))
                ranks = tuple(rank_of(v) for v in access.variables)
                found[id(access)] = Geometry(ranks, tuple(positions))
        return found

    def __hash__(self) -> int:
        """Structural, so that results can be cached by cascade."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.ranks, self.inputs, self.einsums, self.outputs, self.splits))
