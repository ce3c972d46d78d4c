"""Normal forms as expressions again."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

from accelsim.analysis.rewrite.algebra import scaled
from accelsim.analysis.rewrite.forms import Atom, Base, Sum, Term
from accelsim.ir.cascade import Const, Expr, Map
from accelsim.ir.show import show_expr


def show_sum(s: Sum) -> str:
    """A normal form as text.

    >>> from accelsim.analysis.rewrite.algebra import of, raised, times
    >>> from accelsim.analysis.rewrite.forms import Atom
    >>> from accelsim.ir.cascade import Access
    >>> x, d = of(Atom(Access("X"))), of(Atom(Access("D")))
    >>> show_sum(times(x, raised(d, Fraction(-1))))
    'X / D'
    """
    return show_expr(expression(s))


def expression(s: Sum, pairs: Collection[Sum] = ()) -> Expr:
    """The expression of a sum: what is added first, then what is subtracted.

    ``pairs``: sums that are kept together, so that ``X - G`` is small where
    both are large, whatever else is added to it.
    """
    if not s.terms:
        return Const(0.0)
    parts: list[tuple[bool, Expr]] = []
    left = {t.like: t for t in s.terms}
    for pair in paired(s, pairs):
        if pair != s:
            parts.append((False, expression(pair)))
            left = {k: t for k, t in left.items() if t not in pair.terms}
    if len(left) == 1 and not parts:
        left = {k: _turned(t) for k, t in left.items()}
    ordered = sorted(left.values(), key=lambda t: (t.coefficient < 0, -len(t.variables), t.like))
    for t in ordered:
        part = term_expression(Term(abs(t.coefficient), t.powers, t.exponent), pairs)
        parts.append((t.coefficient < 0, part))
    minus, first = parts[0]
    found = negated(first) if minus else first
    for minus, part in parts[1:]:
        found = Map("sub" if minus else "add", (found, part))
    return found


def _turned(t: Term) -> Term:
    """``-(a - b) * c`` as ``(b - a) * c``."""
    for n, (base, q) in enumerate(t.powers):
        if t.coefficient < 0 and isinstance(base, Sum) and base.terms and q == 1:
            powers = (*t.powers[:n], (scaled(base, -1), q), *t.powers[n + 1 :])
            return Term(-t.coefficient, powers, t.exponent)
    return t


def paired(s: Sum, pairs: Collection[Sum]) -> list[Sum]:
    """The parts of a sum that are multiples of pairs, no term in two."""
    found: list[Sum] = []
    left = {t.like: t for t in s.terms}
    for pair in pairs:
        here = [(left[t.like], t.coefficient) for t in pair.terms if t.like in left]
        if len(here) == len(pair.terms) and len({t.coefficient / c for t, c in here}) == 1:
            found.append(Sum(tuple(t for t, _ in here)))
            left = {k: t for k, t in left.items() if t not in found[-1].terms}
    return found


def negated(expr: Expr) -> Expr:
    """``-expr``."""
    if isinstance(expr, Const) and not expr.name:
        return Const(-expr.value)
    return Map("neg", (expr,))


def term_expression(t: Term, pairs: Collection[Sum] = ()) -> Expr:
    """The expression of a term with a positive coefficient: a quotient of products."""
    above: list[tuple[int, str, Expr]] = []
    below: list[Expr] = []
    for base, q in t.powers:
        inner = base_expression(base, pairs)
        weight = -len(base.variables) if base.variables else 1
        if q == Fraction(-1, 2):
            above.append((weight, base.key, Map("rsqrt", (inner,))))
        elif q > 0:
            above.append((weight, base.key, power_expression(inner, q)))
        else:
            below.append(power_expression(inner, -q))
    if t.exponent is not None:
        its = Map("exp", (expression(t.exponent, pairs),))
        above.append((-len(t.exponent.variables), "", its))
    factors = [e for _, _, e in sorted(above, key=lambda a: a[:2])]
    c = t.coefficient
    if Fraction(repr(float(c))) != c:  # no float is written so: a quotient of two
        below.append(Const(float(c.denominator)))
        c = Fraction(c.numerator)
    if c != 1 or not factors:
        factors.insert(0, Const(float(c)))
    found = _product(factors)
    return Map("div", (found, _product(below))) if below else found


def _product(factors: list[Expr]) -> Expr:
    found = factors[0]
    for f in factors[1:]:
        found = Map("mul", (found, f))
    return found


def base_expression(base: Base, pairs: Collection[Sum] = ()) -> Expr:
    """The expression of a base."""
    if isinstance(base, Atom):
        return base.expr
    if isinstance(base, Sum):
        return expression(base, pairs)
    return Map(base.op, tuple(expression(a, pairs) for a in base.args))


def power_expression(x: Expr, q: Fraction) -> Expr:
    """``x ** q`` for a positive q, by squares and roots where it can be.

    >>> from accelsim.ir.cascade import Access
    >>> show_expr(power_expression(Access("X"), Fraction(3)))
    'square(X) * X'
    """
    if q == 1:
        return x
    if q == Fraction(1, 2):
        return Map("sqrt", (x,))
    if q == 2:
        return Map("square", (x,))
    if q.denominator == 1 and q <= 16:
        half = power_expression(x, q // 1 // 2 * Fraction(1))
        square = Map("square", (half,))
        return Map("mul", (square, x)) if q % 2 else square
    if q.denominator == 2 and q > 1:
        return Map("mul", (power_expression(x, q - Fraction(1, 2)), Map("sqrt", (x,))))
    return Map("pow", (x, Const(float(q))))


def is_costly(base: Base | None, q: Fraction = Fraction(1)) -> bool:
    """Whether a factor takes an operation beside the product: anything but a plain read."""
    return not isinstance(base, Atom) or q not in (1, -1)
