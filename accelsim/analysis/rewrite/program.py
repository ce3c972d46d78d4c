"""A cascade as definitions in normal form: its reductions, with every map written out in them.

``S = exp(X - G)``, ``A = S / D`` and ``Y = sum A * V`` become the one
definition ``Y = sum exp(X - G) * D**-1 * V``: what a reduction is made of no
longer hides behind names.  The maps are remembered as ``phrases``, so that
``lower`` finds and names them again where they still stand.

Masks are explicit: the ``where`` of a definition holds every condition under
which a point counts, those that its reads bring along included.  So a factor
may leave a sum without taking its mask with it.

What does not fit (recurrences of the text, argmax, a write at other than plain
variables) is ``fixed``: its Einsums stay as they are, and so do the tensors
that they read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from accelsim.analysis.rewrite.algebra import of
from accelsim.analysis.rewrite.forms import Atom, Sum, nonnegative
from accelsim.analysis.rewrite.indices import condition_reads, plain
from accelsim.ir.cascade import Access, Cascade, Compare, Condition, Einsum, Expr
from accelsim.ir.ops import REDUCTIONS
from accelsim.ir.show import show_condition, show_position

Where: TypeAlias = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Def:
    """One tensor: ``name[out] = op over ... of body where ...``; no ``op``: a map.

    ``slot``: the variable of ``out`` along which it recurs; it is then written
    at ``slot + 1``, its body reads itself at ``slot``, and slot 0 is ``start``.
    ``closed``: a map that its readers do not look into.
    """

    name: str
    out: tuple[str, ...]
    op: str
    over: frozenset[str]
    body: Sum
    where: Where = ()
    slot: str = ""
    start: float = 0.0
    closed: bool = False

    @property
    def is_map(self) -> bool:
        """Whether its readers may look into it: they are rewritten with its body."""
        return not self.op and not self.slot and not self.closed

    @property
    def access(self) -> Access:
        """The tensor at its own variables."""
        return Access(self.name, tuple(plain(v) for v in self.out))

    @property
    def reads(self) -> frozenset[Access]:
        """Every access in the body and in the conditions."""
        return self.body.reads.union(*map(condition_reads, self.where))

    @property
    def domain(self) -> Where:
        """The conditions on the output alone: elsewhere it is undefined."""
        return tuple(c for c in self.where if not set(c.variables) & self.over)

    @property
    def may_be_empty(self) -> bool:
        """Whether the reduction may be over no point at all, for some element of the output."""
        inner = [c for c in self.where if set(c.variables) & self.over]
        return not all(_holds_at_zero(c, self.over) for c in inner)

    @property
    def identity(self) -> float:
        """What a reduction over nothing is."""
        return REDUCTIONS[self.op].identity

    @property
    def nonnegative(self) -> bool:
        """Whether every element is known not to be negative."""
        known = bool(self.body.terms) and nonnegative(self.body)
        return known and not self.slot and (self.op in ("", "sum") or not self.may_be_empty)


def _holds_at_zero(condition: Condition, over: frozenset[str]) -> bool:
    """Whether a predicate holds with the variables of ``over`` at 0, whatever the others are."""
    if not isinstance(condition, Compare):
        return False
    sides = (condition.left, condition.right)
    if condition.relation in (">", ">="):
        sides = (condition.right, condition.left)
    if condition.relation in ("==", "!=") or any(s.divisor != 1 or s.sizes for s in sides):
        return False
    lesser = {v: c for v, c in sides[0].terms if v not in over}
    greater = {v: c for v, c in sides[1].terms if v not in over}
    strict = condition.relation in ("<", ">")
    return (
        not lesser
        and all(isinstance(c, str) or c > 0 for c in greater.values())
        and sides[0].offset + strict <= sides[1].offset
    )


class Names:
    """Names that are taken."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken

    def fresh(self, name: str) -> str:
        """``name``, or with a number where that is taken; taken from now on.

        >>> names = Names({"SD"})
        >>> names.fresh("SD"), names.fresh("SD")
        ('SD2', 'SD3')
        """
        tries = (name, *(f"{name}{n}" for n in range(2, len(self.taken) + 3)))
        found = next(t for t in tries if t not in self.taken)
        self.taken.add(found)
        return found


@dataclass(frozen=True)
class Program:
    """Definitions in dependence order, and what is fixed.

    ``bare``: whether exponentials were taken out of sums; ``tiled``: whether
    sums were put in running or local form.  ``kept``: tensors that must exist
    under their name.  ``hollow``: reductions that may be over nothing, by a
    mask, with what they are then.  ``phrases``: the maps of the text, and
    ``texts`` its expressions.  ``names``: all that tensors are or were called.
    """

    cascade: Cascade
    defs: Mapping[str, Def]
    kept: frozenset[str]
    fixed: tuple[Einsum, ...] = ()
    phrases: tuple[Def, ...] = ()
    texts: tuple[tuple[Sum, Expr], ...] = ()
    hollow: Mapping[str, float] = field(default_factory=dict)
    bare: bool = False
    tiled: bool = False
    log: tuple[str, ...] = ()
    names: frozenset[str] = field(default=frozenset(), repr=False)

    def taken(self) -> Names:
        """The names that a new tensor cannot have."""
        ranks = {*self.cascade.ranks, *self.cascade.whole}
        return Names({*self.names, *self.defs, *(p.name for p in self.phrases), *ranks})

    def parts(self, rank: str) -> tuple[str, ...]:
        """The index variables of a rank's parts, outermost first."""
        return tuple(p.lower() for p in self.cascade.parts[rank])

    def identity(self, a: Access) -> float:
        """The infinity that an extremum is where it is over nothing; 0 for anything else."""
        return self.hollow.get(a.tensor, 0.0)


def atom_of(d: Def, at: Access | None = None) -> Sum:
    """A read of a definition, at its own variables unless said otherwise."""
    return of(Atom(at or d.access, d.nonnegative))


def sorted_where(conditions: Iterable[Condition]) -> Where:
    """Conditions once each, in the order of their text."""

    def text(c: Condition) -> str:
        if isinstance(c, Access):
            return c.tensor + ",".join(show_position(i) for i in c.indices)
        return show_condition(c)

    return tuple(sorted(set(conditions), key=text))
