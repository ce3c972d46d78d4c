"""Sums of products whose factors overflow in some orders and not in others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.ir.reference import run
from tests.ir.test_reference import bound_to, cascade
from tests.oracle.values import Values

BIG = 1e200
CASES = {
    "a masked product overflows": (
        "Y[i] = X[j] * W[j] where KEEP[i,j]",
        {
            "X": [BIG, -BIG, BIG, BIG],
            "W": [1.0, BIG, BIG, BIG],
            "KEEP": [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]],
        },
        [BIG, -math.inf, math.nan],
    ),
    "a sum overflows before it is multiplied": (
        "Y[i] = X[j] * Z[i]",
        {"X": [1.7e308] * 4, "Z": [0.0, 1.0, -1.0]},
        [0.0, math.inf, -math.inf],
    ),
}
RANKS = {"X": "[J]", "W": "[J]", "Z": "[I]", "KEEP": "[I, J]"}


def agrees(text: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
    declared = ", ".join(f"{name}: {RANKS[name]}" for name in inputs)
    problem = bound_to(cascade(text, declared))
    found, values = run(problem, inputs), Values(problem, inputs)
    for at, value in values.elements("Y"):
        if math.isnan(value):
            assert math.isnan(found["Y"][at]), at
        else:
            assert found["Y"][at] == pytest.approx(value, rel=1e-9, abs=1e-300), at
    return found["Y"]


@pytest.mark.parametrize("name", CASES)
def test_products_overflow_where_they_do_in_order(name: str) -> None:
    text, inputs, expected = CASES[name]
    found = agrees(text, {n: np.array(v, float) for n, v in inputs.items()})
    assert np.array_equal(found, expected, equal_nan=True)


LARGE = st.sampled_from([0.0, 1.0, -1.0, 1e160, -1e160, 1e-160, math.inf])


@given(st.lists(LARGE, min_size=4, max_size=4), st.lists(LARGE, min_size=4, max_size=4),
       st.lists(st.booleans(), min_size=12, max_size=12))  # fmt: skip
def test_masked_products_of_large_numbers_agree_with_the_oracle(x, w, keep) -> None:
    inputs = {
        "X": np.array(x),
        "W": np.array(w),
        "KEEP": np.array(keep, float).reshape(3, 4),
    }
    agrees("Y[i] = X[j] * W[j] where KEEP[i,j]", inputs)
