"""Operations a point by work class."""

from __future__ import annotations

import pytest

from accelsim.analysis.work import work
from accelsim.ir.cascade import Einsum
from accelsim.load.cascade import cascade_from_text

RANKS = {"A": "[I, K]", "B": "[J, K]", "C": "[I]"}


def einsum(text: str) -> Einsum:
    """The Einsum of that text; its inputs are those of ``RANKS`` that it reads."""
    inputs = ", ".join(f"{name}: {ranks}" for name, ranks in RANKS.items() if f"{name}[" in text)
    used = [r for r in "IJK" if f"{r.lower()}" in text.replace("exp", "").replace("sqrt", "")]
    constants = "constants: {EPS: 1e-5}\n" if "EPS" in text else ""
    document = (
        f"cascade: c\nranks: [{', '.join(used)}]\ninputs: {{{inputs}}}\n{constants}"
        f'{"indexes: {C: J}" if "[C[" in text else ""}\noutput: Z\neinsums: ["{text}"]\n'
    )
    (found,) = cascade_from_text(document).einsums
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Z[i] = C[i]", {}),
        ("Z[i] = 0", {}),
        ("Z[i,j] = A[i,k] * B[j,k]", {"mac": 1}),
        ("Z[i,k] = A[i,k] * C[i]", {"mul": 1}),
        ("Z[i] = A[i,k]", {"add": 1}),
        ("Z[i] = A[i,k] :: max(k)", {"max": 1}),
        ("Z[i] = A[i,k] * C[i] :: max(k)", {"mul": 1, "max": 1}),
        ("Z[i,k] = exp(A[i,k] - C[i])", {"add": 1, "exp": 1}),
        ("Z[i] = exp(A[i,k] - C[i])", {"add": 2, "exp": 1}),
        ("Z[i,k] = A[i,k] / C[i]", {"div": 1}),
        ("Z[i,k] = max(A[i,k], C[i])", {"max": 1}),
        ("Z[i,j] = A[i,k] * B[j,k] * C[i]", {"mac": 1, "mul": 1}),
        ("Z[i] = rsqrt(C[i] / I + EPS)", {"sqrt": 1, "div": 1, "add": 1}),
        ("Z[i] = square(A[i,k])", {"mac": 1}),
        ("Z[i,k] = square(A[i,k])", {"mul": 1}),
        ("Z[i] = square(A[i,k]) :: max(k)", {"mul": 1, "max": 1}),
        ("Z[i,k] = A[i,k] * (1 / sqrt(K))", {"mul": 1}),
        ("Z[i] = A[i,k] :: argmax(k)", {"max": 1}),
        ("Z[i,k] = A[i,k] * C[i] + C[i]", {"mul": 1, "add": 1}),
        ("Z[i,j] = A[i,k] :: topk(k -> j)", {"topk": 1}),
        ("Z[i,j] = A[i,k] * C[i] :: topp(k -> j, 0.9)", {"mul": 1, "topk": 1}),
        ("Z[i,k] = A[i,k] where A[i,k] >= C[i] * 2", {"max": 1, "mul": 1}),
        ("Z[i,k] = A[i,k] where (A[i,k] >= C[i] or i < k)", {"max": 1}),
        ("Z[i] = C[A[i,k]]", {"add": 1}),
        ("Z[C[i],k] = A[i,k] * B[j,k]", {"mac": 1, "add": 1}),
        ("Z[i,k] = quant(A[i,k], C[i], 4)", {"round": 1}),
        ("Z[i,k] = dequant(A[i,k], C[i])", {"mul": 1}),
        ("Z[i,k] = i * k", {}),
    ],
)
def test_operations_of_a_point(text: str, expected: dict[str, int]) -> None:
    assert work(einsum(text)) == expected
