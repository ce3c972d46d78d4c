"""The normal form of what one Einsum computes at a point: a sum of products.

    Sum      term + term + ...
    Term     coefficient * base**power * base**power * ... * exp(Sum)
    base     an Atom (an access, a rank's size, a named constant), a Call of an
             operation that is no algebra (tanh, max, select, log), or a Sum

Every product of exponentials is one exponential, so ``exp(x - g) * v / d`` is
a Term whose factors can be told apart by the indices that they carry.  That
makes the question of every rewrite (which part of this depends on m, which on
a statistic over m?) one about sets of variables: separability of ``exp(x-g)``,
``x/g``, ``sqrt(x*g)`` or ``(x-g)**2`` is read off, not guessed.

Coefficients are exact: the fractions that the numbers of the text are written
as.  A rewrite of this algebra holds over the reals wherever the original is finite; a step that is
sound only for values that are not negative (``sqrt(x*y) = sqrt(x)*sqrt(y)``)
is taken only where that is known by construction (``Atom.nonnegative``).

Equality is by ``key``, a canonical text: terms are sorted, like terms added,
like bases multiplied, common factors of a sum taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, TypeAlias

from accelsim.ir.cascade import Access, Const, Coordinate, Size, accesses, variables
from accelsim.ir.show import show_expr


class _Keyed:
    """Equal by canonical text."""

    __slots__ = ()
    key: str

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _collect(whole: object, parts: Sequence[Base | Term]) -> None:
    """Note the index variables and the reads of the parts of a form, index tensors among these."""
    one = parts[0] if len(parts) == 1 else None
    found = one.variables if one else frozenset[str]().union(*(p.variables for p in parts))
    its = one.reads if one else frozenset[Access]().union(*(p.reads for p in parts))
    object.__setattr__(whole, "variables", found)
    object.__setattr__(whole, "reads", its)


@dataclass(frozen=True, slots=True, eq=False)
class Atom(_Keyed):
    """An access, a size, a coordinate or a constant; ``nonnegative`` where it is known to be."""

    expr: Access | Size | Const | Coordinate
    nonnegative: bool = False
    key: str = field(init=False)
    variables: frozenset[str] = field(init=False)
    reads: frozenset[Access] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", show_expr(self.expr))
        object.__setattr__(self, "variables", frozenset(variables(self.expr)))
        object.__setattr__(self, "reads", frozenset(accesses(self.expr)))


@dataclass(frozen=True, slots=True, eq=False)
class Call(_Keyed):
    """An operation of ``ir.ops`` that the algebra does not look into."""

    op: str
    args: tuple[Sum, ...]
    key: str = field(init=False)
    variables: frozenset[str] = field(init=False)
    reads: frozenset[Access] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.op}({','.join(a.key for a in self.args)})")
        _collect(self, self.args)


@dataclass(frozen=True, slots=True, eq=False)
class Term(_Keyed):
    """``coefficient * product of base**power * exp(exponent)``."""

    coefficient: Fraction
    powers: tuple[tuple[Base, Fraction], ...] = ()
    exponent: Sum | None = None
    key: str = field(init=False)
    like: str = field(init=False)  # the key without the coefficient
    variables: frozenset[str] = field(init=False)
    reads: frozenset[Access] = field(init=False)

    def __post_init__(self) -> None:
        parts = [f"({b.key})^{q}" if q != 1 else f"({b.key})" for b, q in self.powers]
        inside: list[Base] = [b for b, _ in self.powers]
        if self.exponent is not None:
            parts.append(f"exp({self.exponent.key})")
            inside.append(self.exponent)
        object.__setattr__(self, "like", "*".join(parts))
        object.__setattr__(self, "key", f"{self.coefficient}*{self.like}")
        _collect(self, inside)


@dataclass(frozen=True, slots=True, eq=False)
class Sum(_Keyed):
    """A sum of terms that are not alike.  Made by the functions below, which keep it canonical."""

    terms: tuple[Term, ...]
    key: str = field(init=False)
    variables: frozenset[str] = field(init=False)
    reads: frozenset[Access] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", "+".join(t.key for t in self.terms) or "0")
        _collect(self, self.terms)

    @property
    def term(self) -> Term | None:
        """The term of a sum of one."""
        return self.terms[0] if len(self.terms) == 1 else None

    @property
    def number(self) -> Fraction | None:
        """The value, if the sum is a number."""
        if not self.terms:
            return Fraction(0)
        only = self.term
        return only.coefficient if only is not None and not only.like else None

    @property
    def atom(self) -> Atom | None:
        """The atom, if the sum is one and nothing else."""
        t = self.term
        if t is None or t.coefficient != 1 or t.exponent is not None or len(t.powers) != 1:
            return None
        base, power = t.powers[0]
        return base if isinstance(base, Atom) and power == 1 else None


Base: TypeAlias = Atom | Call | Sum

ZERO: Final = Sum(())
ONE: Final = Sum((Term(Fraction(1)),))


# -- what is known ------------------------------------------------------------------------------

_NONNEGATIVE: Final = frozenset(("abs", "sigmoid", "relu", "less", "equal"))


def nonnegative(base: Base) -> bool:
    """Whether a base is known never to be negative."""
    if isinstance(base, Atom):
        return base.nonnegative
    if isinstance(base, Sum):
        return bool(base.terms) and all(nonnegative_term(t) for t in base.terms)
    if base.op in _NONNEGATIVE:
        return True
    known = [bool(a.terms) and nonnegative(a) for a in base.args]
    if base.op == "max":
        return any(known)
    if base.op == "select":
        return all(known[1:])
    return base.op in ("min", "round", "floor", "clip") and all(known)


def nonnegative_term(t: Term) -> bool:
    """Whether a term is known never to be negative."""
    return t.coefficient >= 0 and all(
        (q.denominator == 1 and q % 2 == 0) or q.denominator % 2 == 0 or nonnegative(b)
        for b, q in t.powers
    )
