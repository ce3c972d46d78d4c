"""Expressions to normal forms, and ways to look into these and rebuild them."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from accelsim.analysis.rewrite.algebra import (
    added,
    called,
    exponential,
    is_power,
    logarithm,
    number,
    of,
    product,
    raised,
    scaled,
    sum_of,
    times,
)
from accelsim.analysis.rewrite.forms import Atom, Base, Sum, Term
from accelsim.ir.cascade import Access, Const, Coordinate, Expr, Size

#: What takes more terms than this is not multiplied out, nor a sum to another power.
MOST_TERMS: Final = 32
_SMALL: Final = frozenset(map(Fraction, (1, 2, 3, 4)))

_ALGEBRA: Final[dict[str, Callable[..., Sum]]] = {
    "add": added,
    "sub": lambda a, b: added(a, scaled(b, -1)),
    "mul": times,
    "div": lambda a, b: times(a, raised(b, Fraction(-1))),
    "neg": lambda a: scaled(a, -1),
    "square": lambda a: raised(a, Fraction(2)),
    "sqrt": lambda a: raised(a, Fraction(1, 2)),
    "rsqrt": lambda a: raised(a, Fraction(-1, 2)),
    "reciprocal": lambda a: raised(a, Fraction(-1)),
    "exp": exponential,
    "log": logarithm,
}


def normal(expr: Expr, read: Callable[[Access], Sum]) -> Sum:
    """The normal form of an expression; ``read`` says what each access stands for.

    >>> from accelsim.ir.cascade import Index, Map
    >>> x, g = Access("X", (Index((("m", 1),)),)), Access("G")
    >>> plain = lambda a: of(Atom(a))
    >>> normal(Map("exp", (Map("sub", (x, g)),)), plain).key
    '1*exp(-1*(G)+1*(X[m]))'
    """
    match expr:
        case Access():
            return read(expr)
        case Size() | Coordinate():
            return of(Atom(expr, True))
        case Const():
            if expr.name or not math.isfinite(expr.value):
                sign = 1 if expr.name or expr.value > 0 else -1
                shown = expr if sign > 0 else Const(-expr.value)
                return scaled(of(Atom(shown, shown.value >= 0)), sign)
            return number(expr.value)
    args = [normal(a, read) for a in expr.args]
    if expr.op == "pow":
        written = expr.args[1]
        power = args[1].number
        if isinstance(written, Const) and power is not None:
            power = Fraction(written.value)  # as it is stored: what is written again is that
        if power is not None and is_power(power):
            return raised(args[0], power)
    make = _ALGEBRA.get(expr.op)
    return make(*args) if make else called(expr.op, *args)


def replaced(s: Sum, by: Callable[[Atom], Sum | None]) -> Sum:
    """The sum with atoms replaced, canonical again.

    >>> from accelsim.ir.cascade import Access
    >>> x, two = Atom(Access("X")), number(2)
    >>> replaced(times(of(x), of(x)), lambda a: two).key
    '4*'
    """
    memo: dict[str, Sum] = {}

    def base_of(base: Base) -> Sum:
        if isinstance(base, Atom):
            new = by(base)
            return of(base) if new is None else new
        if isinstance(base, Sum):
            return visit(base)
        args = [visit(a) for a in base.args]
        return logarithm(args[0]) if base.op == "log" else called(base.op, *args)

    def visit(s: Sum) -> Sum:
        if s.key not in memo:
            parts = []
            for t in s.terms:
                factors = [number(t.coefficient)]
                factors += [raised(base_of(b), q) for b, q in t.powers]
                if t.exponent is not None:
                    factors.append(exponential(visit(t.exponent)))
                parts.append(times(*factors))
            memo[s.key] = added(*parts)
        return memo[s.key]

    return visit(s)


def expanded(s: Sum, wanted: Callable[[Sum], bool] = lambda s: True) -> Sum:
    """Every wanted inner sum to a small whole power multiplied out, if that stays short.

    >>> from accelsim.ir.cascade import Access
    >>> x, g = of(Atom(Access("X"))), of(Atom(Access("G")))
    >>> expanded(raised(added(x, scaled(g, -1)), Fraction(2))).key
    '-2*(G)*(X)+1*(G)^2+1*(X)^2'
    """
    todo = list(s.terms)
    done: list[Term] = []
    while todo:
        t = todo.pop()
        for n, (base, q) in enumerate(t.powers):
            if isinstance(base, Sum) and q in _SMALL and wanted(base):
                terms = [Term(t.coefficient, t.powers[:n] + t.powers[n + 1 :], t.exponent)]
                for _ in range(int(q)):
                    if len(todo) + len(done) + len(terms) > MOST_TERMS:
                        return s
                    terms = list(sum_of(product((a, b)) for a in terms for b in base.terms).terms)
                todo += terms
                break
        else:
            done.append(t)
    return sum_of(done)
