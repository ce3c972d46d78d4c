"""The algebra of normal forms: sums, products, powers, exponentials and logarithms of them.

Every function takes canonical forms (``forms``) and returns one.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import isqrt
from typing import Final

from accelsim.analysis.rewrite.forms import (
    ONE,
    ZERO,
    Base,
    Call,
    Sum,
    Term,
    nonnegative,
    nonnegative_term,
)

#: The largest constant power that is algebra; beyond it ``pow`` is a call like any other.
MOST_POWER: Final = 1024


def number(value: float | Fraction) -> Sum:
    """A finite number: a float is the decimal fraction that it is written as.

    >>> number(0.9).key
    '9/10*'
    """
    exact = Fraction(repr(value)) if isinstance(value, float) else value
    return Sum((Term(exact),)) if value else ZERO


def of(base: Base, power: Fraction | int = 1) -> Sum:
    """One base to a power.

    >>> from accelsim.analysis.rewrite.forms import Atom
    >>> from accelsim.ir.cascade import Size
    >>> of(Atom(Size("D")), -1).key
    '1*(D)^-1'
    """
    if isinstance(base, Sum):
        return raised(base, Fraction(power))
    return Sum((Term(Fraction(1), ((base, Fraction(power)),)),))


def added(*sums: Sum) -> Sum:
    """The sum of sums, like terms together.

    >>> added(number(2), number(-2)).key
    '0'
    """
    return sum_of(t for s in sums for t in s.terms)


def scaled(s: Sum, factor: Fraction | int) -> Sum:
    """A multiple."""
    return sum_of(Term(t.coefficient * factor, t.powers, t.exponent) for t in s.terms)


def times(*sums: Sum) -> Sum:
    """The product.  A factor of several terms stays a factor: see ``expanded``."""
    if any(not s.terms for s in sums):
        return ZERO
    return sum_of([product([factored(s) for s in sums])])


def raised(s: Sum, q: Fraction) -> Sum:
    """``s ** q``, distributed over the factors of ``s`` where that is sound.

    >>> from accelsim.analysis.rewrite.forms import Atom
    >>> from accelsim.ir.cascade import Access
    >>> x = of(Atom(Access("X")))
    >>> raised(times(x, x), Fraction(1, 2)).key
    '1*(abs(1*(X)))'
    """
    if q == 0:
        return ONE
    if q == 1 or (not s.terms and q > 0):
        return s
    if not s.terms:
        return Sum((Term(Fraction(1), ((s, q),)),))
    t = factored(s)
    if q.denominator == 1:
        return sum_of([_power(t, int(q))])
    return _root(t, q)


def is_power(q: Fraction) -> bool:
    """Whether a constant power is algebra: not beyond ``MOST_POWER``, and exact as a float.

    >>> is_power(Fraction(3, 8)), is_power(Fraction(1, 3))
    (True, False)
    """
    return abs(q) <= MOST_POWER and q.denominator & (q.denominator - 1) == 0


def exponential(s: Sum) -> Sum:
    """``exp(s)``; ``exp(c*log(x))`` is ``x**c``."""
    rest: list[Term] = []
    found = ONE
    for t in s.terms:
        base, power = t.powers[0] if len(t.powers) == 1 else (None, Fraction(0))
        alone = power == 1 and t.exponent is None and is_power(t.coefficient)
        if isinstance(base, Call) and base.op == "log" and alone:
            found = times(found, raised(base.args[0], t.coefficient))
        else:
            rest.append(t)
    if rest:
        found = times(found, Sum((Term(Fraction(1), (), sum_of(rest)),)))
    return found


def logarithm(s: Sum) -> Sum:
    """``log(s)``: exponentials, and factors that cannot be negative, apart."""
    t = s.term
    if t is None:
        return of(Call("log", (s,)))
    if s.number == 1:
        return ZERO
    parts: list[Sum] = [t.exponent] if t.exponent is not None else []
    kept: list[tuple[Base, Fraction]] = []
    for base, q in t.powers:
        if nonnegative(base):
            log = logarithm(base) if isinstance(base, Sum) and base.term else _log_of(base)
            parts.append(times(number(q), log))
        else:
            kept.append((base, q))
    if kept or t.coefficient != 1:
        parts.append(of(Call("log", (Sum((Term(t.coefficient, tuple(kept)),)),))))
    return added(*parts)


def _log_of(base: Base) -> Sum:
    return of(Call("log", (base if isinstance(base, Sum) else of(base),)))


def called(op: str, *args: Sum) -> Sum:
    """Any other operation, with what little is known of it."""
    if op == "abs" and args[0].terms and all(nonnegative_term(t) for t in args[0].terms):
        return args[0]
    if op in ("max", "min"):
        args = tuple(sorted(set(args), key=lambda a: a.key))
        if len(args) == 1:
            return args[0]
    return of(Call(op, args))


# -- terms --------------------------------------------------------------------------------------


def sum_of(terms: Iterable[Term]) -> Sum:
    """The canonical sum of terms: a bare inner sum joins it, like terms are added."""
    found: dict[str, Term] = {}
    todo = list(terms)
    while todo:
        t = todo.pop()
        if len(t.powers) == 1 and t.exponent is None:
            base, power = t.powers[0]
            if isinstance(base, Sum) and power == 1:
                todo += [
                    Term(t.coefficient * u.coefficient, u.powers, u.exponent) for u in base.terms
                ]
                continue
        old = found.get(t.like)
        if old is not None:
            t = Term(old.coefficient + t.coefficient, t.powers, t.exponent)
        found[t.like] = t
    return Sum(tuple(found[k] for k in sorted(found) if found[k].coefficient))


def product(terms: Iterable[Term]) -> Term:
    """The product of terms, like bases together."""
    coefficient = Fraction(1)
    powers: dict[Base, Fraction] = {}
    exponents: list[Sum] = []
    todo = list(terms)
    while todo:
        t = todo.pop()
        coefficient *= t.coefficient
        for base, q in t.powers:
            powers[base] = powers.get(base, Fraction(0)) + q
        if t.exponent is not None:
            exponents.append(t.exponent)
        if not todo:  # what was under a root and is no more is a sum like any other
            inside = [b for b, q in powers.items() if q.denominator == 1 and _is_inside(b)]
            todo += [_power(_as_term(b), int(powers.pop(b))) for b in inside]
    exponent = added(*exponents) if exponents else ZERO
    kept = sorted(((b, q) for b, q in powers.items() if q), key=lambda p: p[0].key)
    return Term(coefficient, tuple(kept), exponent if exponent.terms else None)


def _is_inside(base: Base) -> bool:
    """Whether a base is a sum as ``_root`` keeps it, with its coefficient."""
    if not isinstance(base, Sum) or not base.terms:
        return False
    return base.term is not None or _lead(base).coefficient != 1


def _as_term(base: Base) -> Term:
    return factored(base if isinstance(base, Sum) else of(base))


def quotient(t: Term, other: Term) -> Term:
    """The quotient of two terms."""
    return product((t, _power(other, -1)))


def _power(t: Term, n: int) -> Term:
    """A term to a whole power, which always distributes."""
    return Term(
        t.coefficient**n,
        tuple((b, q * n) for b, q in t.powers),
        scaled(t.exponent, n) if t.exponent is not None else None,
    )


def _root(t: Term, q: Fraction) -> Sum:
    """A term to a fractional power: factors that cannot be negative come out, others stay in."""
    out: list[tuple[Base, Fraction]] = []
    kept: list[tuple[Base, Fraction]] = []
    for base, p in t.powers:
        if nonnegative(base):
            out.append((base, p * q))
        elif p.denominator == 1 and p % 2 == 0:  # (x**2)**(1/2) = abs(x)
            inner = base if isinstance(base, Sum) else of(base)
            out.append((Call("abs", (inner,)), p * q))
        else:
            kept.append((base, p))
    coefficient = Fraction(1)
    root = _exact_root(t.coefficient, q) if t.coefficient > 0 and not kept else None
    if root is not None:
        coefficient = root
    else:
        inside = sum_of([Term(t.coefficient, tuple(kept))])
        only = inside.term
        alone = only is not None and only.coefficient == 1 and len(only.powers) == 1
        if only is not None and alone and only.powers[0][1] == 1:
            out.append((only.powers[0][0], q))
        else:
            out.append((inside, q))
    exponent = scaled(t.exponent, q) if t.exponent is not None else None
    return sum_of(
        [product([Term(coefficient, (), exponent), *(Term(Fraction(1), (o,)) for o in out)])]
    )


def _exact_root(c: Fraction, q: Fraction) -> Fraction | None:
    """``c ** q``, if that is a fraction: a square root of both parts for each half of the power."""
    parts = (c.numerator, c.denominator)
    for _ in range(q.denominator.bit_length() - 1):
        roots = (isqrt(parts[0]), isqrt(parts[1]))
        if (roots[0] ** 2, roots[1] ** 2) != parts:
            return None
        parts = roots
    return Fraction(*parts) ** q.numerator


def _lead(s: Sum) -> Term:
    """The first term that is no constant: where a sum is factored its coefficient is 1."""
    return next((t for t in s.terms if t.powers or t.exponent is not None), s.terms[0])


def factored(s: Sum) -> Term:
    """A sum as one term: what its terms have in common, times the sum of what is left.

    Powers come out, exponentials do not: ``exp(a-g) + exp(b-g)`` stays, because
    ``exp(-g) * (exp(a) + exp(b))`` overflows where the first does not.  So does
    the coefficient of the first term that is no constant: ``x + 1e-5`` is itself
    and not 1e-5 times ``1e5 * x + 1``, which overflows in float16.
    """
    if len(s.terms) < 2:
        return s.terms[0] if s.terms else Term(Fraction(0))
    first = s.terms[0]
    shared = dict(first.powers)
    for t in s.terms[1:]:
        its = dict(t.powers)
        shared = {
            b: min(q, its[b], key=abs) for b, q in shared.items() if b in its and q * its[b] > 0
        }
    content = Term(_lead(s).coefficient, tuple(sorted(shared.items(), key=lambda p: p[0].key)))
    inner = sum_of(quotient(t, content) for t in s.terms)
    return product((content, Term(Fraction(1), ((inner, Fraction(1)),))))
