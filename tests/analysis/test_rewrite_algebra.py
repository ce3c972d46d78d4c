"""The normal form: what it identifies, what it must not, and that it means the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accelsim.analysis.rewrite.algebra import factored, of
from accelsim.analysis.rewrite.forms import Atom, Sum
from accelsim.analysis.rewrite.normal import MOST_TERMS, expanded, normal
from accelsim.analysis.rewrite.text import expression, show_sum
from accelsim.ir.cascade import Access, Const, Expr, Map
from accelsim.ir.ops import MAPS
from accelsim.load.einsum import Names, parse

NAMES = Names(("M", "P"), {}, {"EPS": 1e-5})


def form(text: str) -> Sum:
    """The normal form of an expression; tensors named in A to F are known not to be negative."""
    expr = parse(f"Y = {text}", NAMES).expr
    return normal(expr, lambda a: of(Atom(a, a.tensor in "ABCDEF")))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("exp(X - G) * V / D", "V * exp(X) / (exp(G) * D)"),
        ("exp(T * (X - G)) * exp(T * (G - X))", "1"),
        ("square(X - G)", "square(G - X)"),
        ("(X - G) / (G - X)", "-1"),
        ("X / sqrt(A * B)", "X * rsqrt(A) * rsqrt(B)"),
        ("sqrt(square(X))", "abs(X)"),
        ("pow(A, -0.5) * sqrt(A)", "1"),
        ("reciprocal(X) * X", "1"),
        ("log(exp(X - G) / D)", "X - G - log(D)"),
        ("exp(2 * log(A))", "square(A)"),
        ("2 * X - X - X", "0"),
        ("0.1 * X + 0.2 * X - 0.1 * X - 0.2 * X", "0"),
        ("max(X, G)", "max(G, X)"),
        ("max(X, X)", "X"),
        ("abs(square(X))", "square(X)"),
        ("(X / D + G / D) * D", "X + G"),
        ("X / M * M", "X"),
        ("rsqrt(2 * A + 2 * B) * sqrt(2 * B + 2 * A)", "1"),
        ("exp(X) * exp(X)", "exp(2 * X)"),
    ],
)
def test_equal_by_algebra(one: str, other: str) -> None:
    assert form(one) == form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sqrt(square(X))", "X"),  # the sign
        ("sqrt(X * Y)", "sqrt(X) * sqrt(Y)"),  # both may be negative
        ("log(X * Y)", "log(X) + log(Y)"),
        ("X - EPS", "X"),
        ("tanh(X - G)", "tanh(X) - tanh(G)"),
        ("min(X, G)", "max(X, G)"),
    ],
)
def test_not_taken_for_equal(one: str, other: str) -> None:
    assert form(one) != form(other)


def test_a_sum_is_multiplied_out_only_where_it_stays_short() -> None:
    assert len(expanded(form("square(X + Y + Z)")).terms) == 6
    long = form("*".join(f"(X{n} + Y{n} + Z{n})" for n in range(8)))
    assert expanded(long) == long
    assert len(expanded(form("square(square(X + Y))")).terms) <= MOST_TERMS


def test_common_factors_come_out_of_a_sum_and_exponentials_stay() -> None:
    assert show_sum(Sum((factored(form("X / D + Y / D")),))) == "(X + Y) / D"
    shared = factored(form("exp(X - G) + exp(Y - G)"))
    assert shared.exponent is None  # exp(-G) * (exp(X) + exp(Y)) would overflow


def test_named_constants_and_sizes_keep_their_names() -> None:
    assert show_sum(form("X / M + EPS")) == "EPS + X / M"


# -- meaning ------------------------------------------------------------------------------------

UNARY = ("neg", "exp", "square", "abs", "tanh", "sqrt", "rsqrt", "log", "reciprocal", "relu")
BINARY = ("add", "sub", "mul", "div", "max", "min")
LEAVES: list[Expr] = [Access(n) for n in "XYAB"]
LEAVES += [Const(2.0), Const(0.5), Const(-3.0)]


def expressions() -> st.SearchStrategy[Expr]:
    return st.recursive(
        st.sampled_from(LEAVES),
        lambda inner: st.one_of(
            st.builds(lambda op, a: Map(op, (a,)), st.sampled_from(UNARY), inner),
            st.builds(lambda op, a, b: Map(op, (a, b)), st.sampled_from(BINARY), inner, inner),
        ),
        max_leaves=10,
    )


def value(expr: Expr, known: dict[str, np.longdouble]) -> np.longdouble:
    if isinstance(expr, Access):
        return known[expr.tensor]
    if isinstance(expr, Const):
        return np.longdouble(expr.value)
    assert isinstance(expr, Map)
    args = [value(a, known) for a in expr.args]
    ours = {"rsqrt": lambda x: 1 / np.sqrt(x), "relu": lambda x: np.maximum(x, 0)}
    name = MAPS[expr.op].numpy
    return np.longdouble((ours.get(name) or getattr(np, name))(*args))


def largest(expr: Expr, known: dict[str, np.longdouble]) -> float:
    """The largest magnitude on the way: what cancels is lost relative to that."""
    here = abs(float(value(expr, known)))
    if isinstance(expr, Map):
        return max([here, *(largest(a, known) for a in expr.args)])
    return here


@settings(max_examples=300, deadline=None)
@given(expressions(), st.integers(0, 5))
def test_the_normal_form_means_the_same_where_the_text_is_finite(expr: Expr, seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = {n: np.longdouble(rng.normal()) for n in "XY"}
    known |= {n: np.longdouble(rng.uniform(0.1, 2)) for n in "AB"}
    with np.errstate(all="ignore"):
        true = value(expr, known)
        assume(math.isfinite(true))
        try:
            found = normal(expr, lambda a: of(Atom(a, a.tensor in "AB")))
        except OverflowError:
            assume(False)
        ours = value(expression(found), known)
        written = expression(found)
        scale = max(largest(expr, known), largest(written, known))
        assume(math.isfinite(scale) and scale < 1e9)
    assert abs(float(ours - true)) <= 1e-7 * max(1.0, scale)


@settings(max_examples=200, deadline=None)
@given(expressions())
def test_writing_a_normal_form_and_reading_it_again_changes_nothing(expr: Expr) -> None:
    def read(a: Access) -> Sum:
        return of(Atom(a, a.tensor in "AB"))

    try:
        found = normal(expr, read)
        again = normal(expression(found), read)
    except OverflowError:
        assume(False)
    assert again == found
    assert found.reads <= {a for a in LEAVES if isinstance(a, Access)}
