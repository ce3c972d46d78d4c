"""Normal forms as expressions again."""

from __future__ import annotations

from fractions import Fraction

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


def expression(s: Sum) -> Expr:
    """The expression of a sum: what is added first, then what is subtracted."""
    if not s.terms:
        return Const(0.0)
    ordered = sorted(s.terms, key=lambda t: (t.coefficient < 0, -len(t.variables), t.like))
    found: Expr | None = None
    for t in ordered:
        minus = t.coefficient < 0
        part = term_expression(Term(abs(t.coefficient), t.powers, t.exponent))
        if found is None:
            found = negated(part) if minus else part
        else:
            found = Map("sub" if minus else "add", (found, part))
    assert found is not None
    return found


def negated(expr: Expr) -> Expr:
    """``-expr``."""
    if isinstance(expr, Const) and not expr.name:
        return Const(-expr.value)
    return Map("neg", (expr,))


def term_expression(t: Term) -> Expr:
    """The expression of a term with a positive coefficient: a quotient of products."""
    above: list[tuple[int, str, Expr]] = []
    below: list[Expr] = []
    for base, q in t.powers:
        inner = base_expression(base)
        weight = -len(base.variables) if base.variables else 1
        if q == Fraction(-1, 2):
            above.append((weight, base.key, Map("rsqrt", (inner,))))
        elif q > 0:
            above.append((weight, base.key, power_expression(inner, q)))
        else:
            below.append(power_expression(inner, -q))
    if t.exponent is not None:
        its = Map("exp", (expression(t.exponent),))
        above.append((-len(t.exponent.variables), "", its))
    factors = [e for _, _, e in sorted(above, key=lambda a: a[:2])]
    c = t.coefficient
    if c.denominator & (c.denominator - 1):  # no float is near: a quotient of two
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


def base_expression(base: Base) -> Expr:
    """The expression of a base."""
    if isinstance(base, Atom):
        return base.expr
    if isinstance(base, Sum):
        return expression(base)
    return Map(base.op, tuple(expression(a) for a in base.args))


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
