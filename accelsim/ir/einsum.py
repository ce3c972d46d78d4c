"""One extended Einsum and its parts: Index, Access, Map, Reduction, Condition, Einsum.

All nouns are frozen and hashable; equality is structural and ignores the
place in the text that they came from.  Ranks are upper case (``M1``), an
index variable is the lower-case name of the rank it runs over (``m1``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
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
    """An affine index: ``(sum(c * v for v, c in terms) + offset + sizes) // divisor``.

    A factor ``c``, and the ``divisor``, is an integer or the name of a rank,
    whose size it stands for: ``m1*M0+m0``, ``h // G``; ``-M0`` is that size,
    negative: ``m-w1*W0-w0``.  ``sizes`` of ranks may be added too, each so many
    times: ``m+W``.  ``border`` says what a read beyond the rank's
    extent means: ``"clamp"`` (the nearest element), ``"zero"`` (the value 0),
    or ``""`` (not allowed).  With ``"window"`` the
    last term, ``c * w``, runs through a window around what the others say:
    ``others + c * (w - W // 2)``, moved inside as a whole at the borders, by
    multiples of its dilation c (Hassani et al., Neighborhood Attention).
    """

    terms: tuple[tuple[str, int | str], ...] = ()
    offset: int = 0
    divisor: int | str = 1
    border: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    sizes: tuple[tuple[str, int], ...] = ()

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
        moved = self.offset or self.sizes or self.divisor != 1
        if len(self.terms) == 1 and self.terms[0][1] == 1 and not moved:
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


@dataclass(frozen=True, slots=True)
class Access:
    """A read or a write of a tensor's element: ``K[b,h,m1,m0,e]``.  No indices: a scalar tensor.

    A position may be an access again: the element of ``I[b,h,i,r]`` is then
    the coordinate there (a gather on the right, a scatter on the left).
    """

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

    @property
    def plain(self) -> str | None:
        """None: as a position, an access is no plain variable."""
        return None

    @property
    def through(self) -> tuple[Access, ...]:
        """The accesses among the indices: the index tensors of a gather or a scatter."""
        return tuple(i for i in self.indices if isinstance(i, Access))


#: One position of an access: affine, a last slot, or an element of an index tensor.
Position: TypeAlias = Index | Last | Access


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
class Coordinate:
    """The value of an index variable as a number: bare ``m`` in ``slope[h] * (p - m)``."""

    variable: str


@dataclass(frozen=True, slots=True)
class Map:
    """An operation of the table in ``ir.ops`` applied point by point."""

    op: str
    args: tuple[Expr, ...]


Expr: TypeAlias = Access | Const | Size | Coordinate | Map


@dataclass(frozen=True, slots=True)
class Reduction:
    """``:: max(m)``: a reduction over variables.

    A selection has a variable ``into`` which the chosen are listed
    (``topk(j -> r)``), and ``reach`` where it stops at a sum (``topp(j -> r, 0.9)``).
    """

    op: str
    over: tuple[str, ...]
    into: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    reach: Expr | None = None


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


@dataclass(frozen=True, slots=True)
class Threshold:
    """A predicate on values, ``left relation right``: ``S[i,j] >= T[i]``."""

    left: Access
    relation: str
    right: Expr
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def reads(self) -> tuple[Access, ...]:
        """The accesses on both sides, in text order."""
        return (*accesses(self.left), *accesses(self.right))

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables on both sides."""
        names = (v for side in (self.left, self.right) for v in variables(side))
        return tuple(dict.fromkeys(names))


#: A condition of one line: an affine predicate, a tensor whose element is nonzero, a threshold.
Simple: TypeAlias = Compare | Access | Threshold


@dataclass(frozen=True, slots=True)
class Either:
    """``(p - m < W or m < 4 and Keep[h])``: all conditions of at least one alternative hold."""

    alternatives: tuple[tuple[Simple, ...], ...]
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables of all alternatives."""
        return tuple(dict.fromkeys(v for one in self.simple for v in one.variables))

    @property
    def simple(self) -> tuple[Simple, ...]:
        """The conditions of all alternatives, in text order."""
        return tuple(c for every in self.alternatives for c in every)


#: A condition of ``where``.
Condition: TypeAlias = Simple | Either


def simple(conditions: Iterable[Condition]) -> Iterator[Simple]:
    """The conditions, those of alternatives one by one."""
    for condition in conditions:
        if isinstance(condition, Either):
            yield from condition.simple
        else:
            yield condition


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
        """Every access that is read, in text order: an index tensor before what it indexes.

        Those of predicates, of what a selection reaches, and the index tensors
        of a scatter are among them.
        """
        found = list(accesses(self.expr))
        for reduction in self.reductions:
            if reduction.reach is not None:
                found += accesses(reduction.reach)
        for condition in simple(self.where):
            if isinstance(condition, Access):
                found += accesses(condition)
            elif isinstance(condition, Threshold):
                found += condition.reads
        for index in self.output.through:
            found += accesses(index)
        return tuple(found)

    @property
    def selects(self) -> str:
        """The variable that a selection lists the chosen by; nothing where nothing selects."""
        return next((r.into for r in self.reductions if r.into), "")

    @property
    def variables(self) -> tuple[str, ...]:
        """The iteration space: variables of the output, then those that only appear on the right.

        What a selection writes along (``r`` of ``topk(j -> r)``) is not of it:
        each point is looked at once, whatever is chosen.

        >>> q = Access("Q", (Index((("p", 1),)), Index((("e", 1),))))
        >>> Einsum(Access("S", (Index((("p", 1),)),)), q).variables
        ('p', 'e')
        """
        names = [*self.output.variables, *variables(self.expr)]
        for read in self.reads:
            names += read.variables
        for condition in self.where:
            names += condition.variables
        made = self.selects
        return tuple(v for v in dict.fromkeys(names) if v != made)

    @property
    def reduced(self) -> tuple[str, ...]:
        """Variables that a reduction removes."""
        return tuple(v for r in self.reductions for v in r.over)


def accesses(expr: Expr) -> Iterator[Access]:
    """Every access in an expression, from left to right, an index tensor before what it indexes."""
    for leaf in leaves(expr):
        if isinstance(leaf, Access):
            for index in leaf.through:
                yield from accesses(index)
            yield leaf


def leaves(expr: Expr) -> Iterator[Access | Const | Size | Coordinate]:
    """Everything in an expression that is no map, from left to right."""
    if isinstance(expr, Map):
        for arg in expr.args:
            yield from leaves(arg)
    else:
        yield expr


def maps(expr: Expr) -> Iterator[Map]:
    """Every map in an expression, outermost first."""
    if isinstance(expr, Map):
        yield expr
        for arg in expr.args:
            yield from maps(arg)


def variables(expr: Expr) -> Iterator[str]:
    """Every index variable in an expression, coordinates that stand as numbers included."""
    for leaf in leaves(expr):
        if isinstance(leaf, Access):
            yield from leaf.variables
        elif isinstance(leaf, Coordinate):
            yield leaf.variable
