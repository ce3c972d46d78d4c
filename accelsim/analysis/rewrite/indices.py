"""Renaming and splitting the variables of accesses, conditions and normal forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from accelsim.analysis.rewrite.algebra import of
from accelsim.analysis.rewrite.forms import Atom, Sum
from accelsim.analysis.rewrite.normal import normal, replaced
from accelsim.ir.cascade import (
    Access,
    Compare,
    Condition,
    Coordinate,
    Either,
    Expr,
    Index,
    Map,
    Position,
    Size,
    Threshold,
    accesses,
    simple,
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
    return Index(terms, index.offset, index.divisor, index.border, sizes=index.sizes)


def renamed_access(access: Access, names: Mapping[str, str]) -> Access | None:
    """An access with variables renamed."""
    found: list[Position] = []
    for i in access.indices:
        new: Position | None = i
        if isinstance(i, Index):
            new = renamed_index(i, names)
        elif isinstance(i, Access):
            new = renamed_access(i, names)
        if new is None:
            return None
        found.append(new)
    return Access(access.tensor, tuple(found))


def renamed(s: Sum, names: Mapping[str, str]) -> Sum | None:
    """A normal form with variables renamed; None where an index has no such form."""
    if all(v == w for v, w in names.items()):
        return s
    if any(renamed_access(a, names) is None for a in s.reads):
        return None

    def coordinate(variable: str) -> Sum:
        return of(Atom(Coordinate(names.get(variable, variable)), True))

    return with_indices(s, lambda a: renamed_access(a, names) or a, coordinate)


def renamed_condition(condition: Condition, names: Mapping[str, str]) -> Condition | None:
    """A condition with variables renamed; None where an index has no such form."""

    def expr(one: Expr) -> Expr:
        if isinstance(one, Access):
            new = renamed_access(one, names)
            if new is None:
                raise NoFormError
            return new
        if isinstance(one, Coordinate):
            return Coordinate(names.get(one.variable, one.variable))
        return Map(one.op, tuple(map(expr, one.args))) if isinstance(one, Map) else one

    def index(one: Index) -> Index:
        new = renamed_index(one, names)
        if new is None:
            raise NoFormError
        return new

    try:
        return with_parts(condition, expr, index)
    except NoFormError:
        return None


def with_parts(
    condition: Condition,
    expr: Callable[[Expr], Expr],
    index: Callable[[Index], Index],
    compare: Callable[[Compare], Compare] = lambda c: c,
) -> Condition:
    """A condition with its expressions and its indices changed."""
    match condition:
        case Compare():
            one = compare(condition)
            return Compare(index(one.left), one.relation, index(one.right))
        case Threshold():
            left, right = expr(condition.left), expr(condition.right)
            assert isinstance(left, Access)
            return Threshold(left, condition.relation, right)
        case Access():
            new = expr(condition)
            assert isinstance(new, Access)
            return new
    alternatives = (
        tuple(with_parts(c, expr, index, compare) for c in a) for a in condition.alternatives
    )
    return Either(tuple(alternatives))  # type: ignore[arg-type]


def condition_reads(condition: Condition) -> tuple[Access, ...]:
    """Every access in a condition."""
    found: list[Access] = []
    for one in simple((condition,)):
        if isinstance(one, Access):
            found += accesses(one)
        elif isinstance(one, Threshold):
            found += one.reads
    return tuple(found)


def with_indices(
    s: Sum, change: Callable[[Access], Access], coordinate: Callable[[str], Sum]
) -> Sum:
    """A normal form with every access and every coordinate changed."""

    def by(atom: Atom) -> Sum | None:
        if isinstance(atom.expr, Coordinate):
            return coordinate(atom.expr.variable)
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
        if index.border == "window" and index.variables[-1] == self.rank.lower():
            raise NoFormError
        for v, c in index.terms:
            if v != self.rank.lower():
                terms.append((v, c))
            elif c in (1, -1):
                factor = self.inner if c == 1 else f"-{self.inner}"
                terms += [(self.outer.lower(), factor), (self.inner.lower(), c)]
            else:
                raise NoFormError
        its = tuple(terms)
        return Index(its, index.offset, index.divisor, index.border, sizes=index.sizes)

    def access(self, access: Access) -> Access:
        """An access, each position of the rank as two."""
        found: list[Position] = []
        ranks = self.ranks.get(access.tensor, ())
        for n, i in enumerate(access.indices):
            if n >= len(ranks) or ranks[n] != self.rank:
                found.append(self.position(i))
            elif i.plain == self.rank.lower() and not (isinstance(i, Index) and i.border):
                found += [plain(self.outer.lower()), plain(self.inner.lower())]
            else:
                raise NoFormError
        return Access(access.tensor, tuple(found))

    def position(self, position: Position) -> Position:
        """A position of another rank."""
        if isinstance(position, Access):
            return self.access(position)
        return self.index(position) if isinstance(position, Index) else position

    def condition(self, condition: Condition) -> Condition:
        """A condition."""
        return with_parts(condition, self.expr, self.index, self.balanced)

    def balanced(self, compare: Compare) -> Compare:
        """``p - m < 5`` as ``p < m + 5``: subtracted, the rank has no form over its parts."""
        sides, v = (compare.left, compare.right), self.rank.lower()
        for here, there in (sides, sides[::-1]):
            if (v, -1) in here.terms and here.divisor == there.divisor == 1:
                rest = Index(tuple(t for t in here.terms if t[0] != v), here.offset)
                other = Index((*there.terms, (v, 1)), there.offset)
                left, right = (rest, other) if here is sides[0] else (other, rest)
                return compare if v in there.variables else Compare(left, compare.relation, right)
        return compare

    def form(self, s: Sum) -> Sum:
        """A normal form."""
        return with_indices(s, self.access, lambda v: normal(self.expr(Coordinate(v)), _unread))

    def expr(self, expr: Expr) -> Expr:
        """An expression."""
        if isinstance(expr, Access):
            return self.access(expr)
        if isinstance(expr, Coordinate) and expr.variable == self.rank.lower():
            outer, inner = Coordinate(self.outer.lower()), Coordinate(self.inner.lower())
            return Map("add", (Map("mul", (outer, Size(self.inner))), inner))
        if isinstance(expr, Map):
            return Map(expr.op, tuple(self.expr(a) for a in expr.args))
        return expr


def _unread(access: Access) -> Sum:
    return of(Atom(access))
