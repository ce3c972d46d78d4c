"""Renaming and splitting the variables of accesses, conditions and normal forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from accelsim.analysis.rewrite.algebra import of
from accelsim.analysis.rewrite.forms import Atom, Sum
from accelsim.analysis.rewrite.normal import replaced
from accelsim.ir.cascade import (
    Access,
    Compare,
    Condition,
    Expr,
    Index,
    Map,
    Position,
    Threshold,
)


def plain(variable: str, offset: int = 0) -> Index:
    """The index ``variable + offset``."""
    return Index(((variable, 1),), offset)


def plain_variables(access: Access) -> tuple[str, ...] | None:
    """The variable at each position, if every position is one variable and nothing else."""
    found = [i.plain for i in access.indices]
    return None if any(v is None for v in found) else tuple(v for v in found if v is not None)


def renamed_index(index: Index, names: Mapping[str, str]) -> Index | None:
    """An index with variables renamed; None where two would become one."""
    terms = tuple((names.get(v, v), c) for v, c in index.terms)
    if len({v for v, _ in terms}) < len(terms):
        return None
    return Index(terms, index.offset, index.divisor, index.border)


def renamed_access(access: Access, names: Mapping[str, str]) -> Access | None:
    """An access with variables renamed."""
    found: list[Position] = []
    for i in access.indices:
        new = renamed_index(i, names) if isinstance(i, Index) else i
        if new is None:
            return None
        found.append(new)
    return Access(access.tensor, tuple(found))


def renamed_condition(condition: Condition, names: Mapping[str, str]) -> Condition | None:
    """A condition with variables renamed."""
    if isinstance(condition, Access):
        return renamed_access(condition, names)
    if isinstance(condition, Threshold):
        return None
    left, right = renamed_index(condition.left, names), renamed_index(condition.right, names)
    return None if left is None or right is None else Compare(left, condition.relation, right)


def with_accesses(s: Sum, change: Callable[[Access], Access]) -> Sum:
    """A normal form with every access changed to another one."""

    def by(atom: Atom) -> Sum | None:
        if not isinstance(atom.expr, Access):
            return None
        new = change(atom.expr)
        return None if new == atom.expr else of(Atom(new, atom.nonnegative))

    return replaced(s, by)


class NoFormError(Exception):
    """Something has no form once a rank is split."""


@dataclass(frozen=True, slots=True)
class Split:
    """A rank cut into two parts: ``m`` becomes ``m1, m0``, or ``m1*M0+m0`` within an index.

    ``ranks``: for each tensor the rank of each position, where ``m`` alone
    becomes two positions.  What has no such form raises ``NoFormError``.
    """

    rank: str
    outer: str
    inner: str
    ranks: Mapping[str, tuple[str, ...]]

    def variables(self, names: Iterable[str]) -> tuple[str, ...]:
        """Variables with ``m`` replaced by its parts."""
        parts = (self.outer.lower(), self.inner.lower())
        return tuple(p for v in names for p in (parts if v == self.rank.lower() else (v,)))

    def index(self, index: Index) -> Index:
        """An index that is no position of the rank itself."""
        terms: list[tuple[str, int | str]] = []
        for v, c in index.terms:
            if v != self.rank.lower():
                terms.append((v, c))
            elif c == 1:
                terms += [(self.outer.lower(), self.inner), (self.inner.lower(), 1)]
            else:
                raise NoFormError
        return Index(tuple(terms), index.offset, index.divisor, index.border)

    def access(self, access: Access) -> Access:
        """An access, each position of the rank as two."""
        found: list[Position] = []
        ranks = self.ranks.get(access.tensor, ())
        for n, i in enumerate(access.indices):
            if n >= len(ranks) or ranks[n] != self.rank:
                found.append(self.index(i) if isinstance(i, Index) else i)
            elif i.plain == self.rank.lower() and not (isinstance(i, Index) and i.border):
                found += [plain(self.outer.lower()), plain(self.inner.lower())]
            else:
                raise NoFormError
        return Access(access.tensor, tuple(found))

    def condition(self, condition: Condition) -> Condition:
        """A condition."""
        if isinstance(condition, Access):
            return self.access(condition)
        if isinstance(condition, Threshold):
            raise NoFormError
        left, right = self.index(condition.left), self.index(condition.right)
        return Compare(left, condition.relation, right)

    def expr(self, expr: Expr) -> Expr:
        """An expression."""
        if isinstance(expr, Access):
            return self.access(expr)
        if isinstance(expr, Map):
            return Map(expr.op, tuple(self.expr(a) for a in expr.args))
        return expr
