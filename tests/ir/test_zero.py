"""A zero has no sign: what is divided by one is infinite with the sign of the dividend.

NumPy's maximum of zeros of both signs is the one or the other by where they
stand, so that a quotient would be inf or -inf by chance, and a sum of it with
an infinity a number or none.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.ir.test_reference import agrees_with_oracle, bound_to, cascade

TEXTS = {
    "a product with zero": "A[i,j] = X[i,j] * 0\nY[i,j] = 1 / A[i,j]",
    "a negated zero": "A[i] = X[i,j] where j < 0\nN[i] = -A[i]\nY[i] = 1 / N[i]",
    "a maximum of zeros": "N[i,j] = X[i,j] * 0\nM[i] = N[i,j] :: max(j)\nY[i] = 1 / M[i]",
    "a product of zeros": "N[i,j] = X[i,j] * 0\nP[i] = N[i,j] :: prod(j)\nY[i] = 1 / P[i]",
    "beside an empty maximum": (
        "A[i] = X[i,j] :: max(j) where j < 0\nN[i] = X[i,j] * 0 :: min(j)\nY[i] = 1 / N[i] + A[i]"
    ),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("seed", range(3))
def test_what_a_zero_divides_agrees_with_the_oracle(text: str, seed: int) -> None:
    agrees_with_oracle(bound_to(cascade(text, "X: [I, J]")), seed)


@pytest.mark.parametrize("function", ["1 / A[i]", "reciprocal(A[i])", "rsqrt(A[i])"])
def test_both_zeros_give_the_same(function: str) -> None:
    text = cascade(f"A[i] = -X[i,j] * 0 :: max(j)\nY[i] = {function}", "X: [I, J]")
    from accelsim.ir.reference import run

    found = run(bound_to(text), {"X": np.array([[1.0, -1, 2, -2]] * 3)})
    assert found["Y"].tolist() == [math.inf] * 3
