"""Recurrences written out: passes in a known number of steps, against the oracle."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from accelsim.analysis.passes import UNBOUNDED, passes
from accelsim.analysis.unroll import MOST_STEPS, passes_in_steps, unrolled
from accelsim.errors import InputError
from accelsim.ir.cascade import Cascade
from accelsim.ir.show import show_einsum
from accelsim.load.cascade import cascade_from_text
from tests.oracle.cascades import RANKS, cascades
from tests.oracle.passes import passes_at

HALVING = """cascade: halving
ranks: [P, M, E, R, C, Z]
inputs: {Q: [P, E], K: [M, E]}
output: N
indexes: {HALF: M, N: M}
einsums:
  - N[p,0,r]    = 4 * r
  - HALF[p,c,z] = N[p,c,z // 2] + mod(z, 2)
  - S[p,c,z]    = Q[p,e] * K[HALF[p,c,z],e]
  - W[p,c,r]    = S[p,c,z] :: topk(z -> r)
  - N[p,c+1,r]  = HALF[p,c,W[p,c,r]]
"""


def test_each_round_of_a_hierarchical_selection_is_a_pass() -> None:
    its = cascade_from_text(HALVING)
    assert passes(its)["M"] == UNBOUNDED
    for rounds in (1, 2, 5):
        assert passes_in_steps(its, {"C": rounds})["M"] == rounds


def test_steps_written_out() -> None:
    text = """cascade: sums
ranks: [T, I]
inputs: {X: [T, I], W: [I]}
output: Y
einsums:
  - S[0,i]   = 0
  - Z[t,i]   = S[t,i] * X[t,i] + t where (i <= t or X[t,i] >= W[i])
  - S[t+1,i] = S[t,i] + Z[t,i]
  - D[i]     = Z[t,i] * W[i]
  - Y[i]     = S[T,i] + D[i]
"""
    assert [show_einsum(e) for e in unrolled(cascade_from_text(text), "T", 2).einsums] == [
        "S@0[i] = 0",
        "Z@0[i] = S@0[i] * X@0[i] + 0 where (i <= 0 or X@0[i] >= W[i])",
        "Z@1[i] = S@1[i] * X@1[i] + 1 where (i <= 1 or X@1[i] >= W[i])",
        "S@1[i] = S@0[i] + Z@0[i]",
        "S@2[i] = S@1[i] + Z@1[i]",
        "D[i] = Z@0[i] * W[i] + Z@1[i] * W[i]",
        "Y[i] = S@2[i] + D[i]",
    ]


@pytest.mark.parametrize(
    ("steps", "message", "allowed"),
    [
        ({"M": 2}, "nothing recurs along M", "C"),
        ({"C": 0}, "0 steps of C", f"1 to {MOST_STEPS} steps"),
        ({"C": 65}, "65 steps of C", f"1 to {MOST_STEPS} steps"),
    ],
)
def test_what_is_refused(steps: dict[str, int], message: str, allowed: str) -> None:
    with pytest.raises(InputError) as caught:
        passes_in_steps(cascade_from_text(HALVING), steps)
    (fault,) = caught.value.faults
    assert (fault.message, fault.allowed) == (message, allowed)


def test_slots_that_depend_on_other_variables_are_refused() -> None:
    more = "  - S[p,c,z]    = X[p,c,z,r] * Q[p,e] * K[HALF[p,c,z],e]\n"
    lines = [line for line in HALVING.splitlines() if "S[p,c,z]    =" not in line]
    lines.insert(8, "  - X[p,c,z,r]  = HALF[p,clamp(c+r),z]")
    lines.insert(9, more.rstrip())
    with pytest.raises(InputError) as caught:
        passes_in_steps(cascade_from_text("\n".join(lines) + "\n"), {"C": 2})
    message = "steps of C that depend on one another at other than the next"
    assert caught.value.faults[0].message == message


def agree(its: Cascade, place: int, steps: int) -> None:
    assume(len(set(its.iterative.values())) == 1)
    (along,) = set(its.iterative.values())
    rank = [r for r in RANKS if r != along][place]
    sizes = dict.fromkeys(RANKS, 2) | {rank: 4, along: steps}
    assert passes_in_steps(its, {along: steps})[rank] == passes_at(its, sizes, rank)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(cascades(most=4), st.integers(0, 2), st.integers(1, 3))
def test_steps_written_out_equal_the_oracle(its: Cascade, place: int, steps: int) -> None:
    agree(its, place, steps)


@pytest.mark.long
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(cascades(), st.integers(0, 2), st.integers(1, 3))
def test_steps_written_out_equal_the_oracle_often(its: Cascade, place: int, steps: int) -> None:
    agree(its, place, steps)
