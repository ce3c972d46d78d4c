"""Closed-form counts of integer points against visiting every point."""

import operator
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.lattice import Affine, Predicate, count, floor_sum

OPERATORS = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
VARIABLES = ("a", "b", "c", "d")


def affines():
    terms = st.lists(
        st.tuples(st.sampled_from(VARIABLES), st.integers(-4, 4)),
        max_size=3,
        unique_by=lambda t: t[0],
    )
    return st.builds(
        Affine, terms.map(tuple), st.integers(-6, 6), st.sampled_from([1, 1, 1, 2, 3, 5])
    )


PREDICATES = st.lists(
    st.builds(Predicate, affines(), st.sampled_from(sorted(OPERATORS)), affines()), max_size=3
)


def value(form, point):
    return (sum(c * point[v] for v, c in form.terms) + form.offset) // form.divisor


@given(st.tuples(*(st.integers(1, 6) for _ in VARIABLES)), PREDICATES)
def test_count_equals_visiting_every_point(sizes, predicates):
    extents = dict(zip(VARIABLES, sizes, strict=True))
    points = (dict(zip(VARIABLES, at, strict=True)) for at in product(*(range(n) for n in sizes)))
    visited = sum(
        all(OPERATORS[p.relation](value(p.left, at), value(p.right, at)) for p in predicates)
        for at in points
    )
    assert count(extents, predicates) == visited


@given(st.integers(0, 40), st.integers(1, 20), st.integers(-50, 50), st.integers(-50, 50))
def test_floor_sum_is_the_sum(n, d, a, b):
    assert floor_sum(n, d, a, b) == sum((a * x + b) // d for x in range(n))


def at_most(left, right):
    return Predicate(Affine(tuple(left.items())), "<=", Affine(tuple(right.items())))


def test_causal_over_parts_of_a_million_is_exact_and_quick():
    n, tile = 2**20, 256
    box = {"m1": n // tile, "m0": tile, "p1": n // tile, "p0": tile, "e": 64}
    causal = at_most({"m1": tile, "m0": 1}, {"p1": tile, "p0": 1})
    assert count(box, [causal]) == 64 * n * (n + 1) // 2


def test_window_of_a_million():
    n, w = 2**20, 4096
    band = [
        at_most({"m": 1}, {"p": 1}),
        Predicate(Affine((("p", 1), ("m", -1))), "<", Affine((), w)),
    ]
    assert count({"m": n, "p": n}, band) == w * (w + 1) // 2 + (n - w) * w


def test_three_dimensional_neighbourhoods_multiply():
    axes = [
        Predicate(Affine(((a, 1), (b, -1))), relation, Affine((), bound))
        for a, b in (("x", "u"), ("y", "v"), ("z", "w"))
        for relation, bound in (("<=", 1), (">=", -1))
    ]
    box = dict.fromkeys("xyzuvw", 100)
    assert count(box, axes) == (100 + 2 * 99) ** 3


def test_blocks_on_the_diagonal():
    same = Predicate(Affine((("m", 1),), 0, 7), "==", Affine((("p", 1),), 0, 7))
    assert count({"m": 49, "p": 49}, [same]) == 7 * 49


def test_a_predicate_over_too_many_long_variables_is_refused():
    tied = at_most({"a": 3, "b": 5, "c": 7}, {"d": 11})
    with pytest.raises(InputError, match="ties 4 index variables together"):
        count(dict.fromkeys("abcd", 1000), [tied])
