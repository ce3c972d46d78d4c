"""Lower bounds on traffic: known constants, exact optima, and schedules that try to beat them."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.analysis.account import accounts
from accelsim.analysis.hbl import Term, exponents
from accelsim.analysis.joint import Joint, pairs
from accelsim.analysis.reread import rereads, sweeps
from accelsim.analysis.slope import attainable
from accelsim.analysis.statement import program
from accelsim.analysis.traffic import Traffic
from accelsim.ir.cascade import Cascade, Compare, Index
from accelsim.ir.problem import bind, relevant, with_parts
from accelsim.load.cascade import cascade_from_text, load_cascade
from tests.oracle.cascades import RANKS, cascades, masked, spelled
from tests.oracle.pebble import fewest_words
from tests.oracle.schedules import words_moved

SLOW: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}

TWO = """
cascade: two
ranks: [M, P, E, F]
inputs: {Q: [P, E], K: [M, E], V: [M, F]}
output: Y
einsums:
  - S[p,m] = Q[p,e] * K[m,e]
  - Y[p,f] = exp(S[p,m]) * V[m,f]
"""
SHARE = """
cascade: share
ranks: [M]
inputs: {X: [M]}
output: Y
einsums:
  - D    = X[m]
  - Y[m] = X[m] / D
"""
CONVOLUTION = """
cascade: convolution
ranks: [P, W, C, F, I]
inputs: {X: [I, C], G: [W, C, F]}
output: Y
einsums:
  - Y[p,f] = X[p+w,c] * G[w,c,f]
"""
PROJECTED = """
cascade: projected
ranks: [M, P, D, E, F]
inputs: {X: [P, D], Z: [M, D], WQ: [D, E], WK: [D, E], V: [M, F]}
output: Y
einsums:
  - Q[p,e] = X[p,d] * WQ[d,e]
  - K[m,e] = Z[m,d] * WK[d,e]
  - S[p,m] = Q[p,e] * K[m,e]
  - Y[p,f] = S[p,m] * V[m,f]
"""


def traffic(cascade: str | Cascade, **sizes: int) -> Traffic:
    text = load_cascade(cascade) if isinstance(cascade, str) else cascade
    known = with_parts(text, relevant(text, sizes))
    return Traffic(program(bind(text, known, imperfect=dict(text.splits))))


# -- the constant of the matrix product, and both ends -------------------------------------------


@pytest.mark.parametrize("capacity", [64, 256, 1024, 4096, 16384])
def test_matmul_has_the_constant_two(capacity: int) -> None:
    n = 1024
    words = traffic("matmul", M=n, N=n, K=n).lower(capacity).words
    known = 2 * n**3 / math.sqrt(capacity)
    assert known - capacity <= words <= known * 1.06 + n * n


@pytest.mark.parametrize("sizes", [(5, 7, 3), (4, 4, 4), (30, 20, 2), (6, 1, 9), (1, 1, 8)])
def test_three_words_force_two_for_every_further_point(sizes: tuple[int, int, int]) -> None:
    m, n, k = sizes
    assert traffic("matmul", M=m, N=n, K=k).lower(3).words == 2 * m * n * k + 1


@pytest.mark.parametrize("k", [1, 4, 10])
def test_matmul_with_a_short_reduction_is_bound_by_its_output(k: int) -> None:
    """Less than 2MNK/sqrt(S) + MN, which does not hold for short K, but more than MN."""
    n, capacity = 1000, 256
    words = traffic("matmul", M=n, N=n, K=k).lower(capacity).words
    assert n * n < words <= n * n * (1 + k * k / capacity) + 2 * n * k
    if k == 10:
        assert words > n * n * (1 + 0.9 * k * k / capacity)
    if k == 1:
        assert words < 2 * n * n * k / math.sqrt(capacity) + n * n


def test_with_everything_on_chip_only_the_compulsory_is_forced() -> None:
    bound = traffic("matmul", M=40, N=50, K=60)
    assert bound.lower(40 * 50 + 50 * 60 + 40 * 60).words == bound.compulsory == 7400


@settings(max_examples=25, **SLOW)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 80), st.integers(3, 9000))
def test_matmul_is_within_two_of_attainable(m: int, n: int, k: int, capacity: int) -> None:
    bound = traffic("matmul", M=m, N=n, K=k)
    best = attainable(bound.program, [capacity], every=True).words[0]
    assert bound.lower(capacity).words <= best <= 2 * bound.lower(capacity).words


# -- exact optima of tiny cascades ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "capacity", "optimum"),
    [
        ((2, 2, 1), 3, 9),
        ((2, 2, 1), 4, 8),
        ((1, 1, 4), 3, 9),
        ((2, 1, 2), 3, 9),
        ((3, 3, 1), 3, 19),
        pytest.param((2, 2, 2), 3, 17, marks=pytest.mark.long),
    ],
)
def test_matmul_meets_the_pebble_game(
    sizes: tuple[int, int, int], capacity: int, optimum: int
) -> None:
    shape = dict(zip("MNK", sizes, strict=True))
    assert fewest_words(load_cascade("matmul"), shape, capacity) == optimum
    assert traffic("matmul", **shape).lower(capacity).words == optimum


@pytest.mark.parametrize("capacity", [3, 4, 5, 6])
def test_a_shared_sum_against_the_pebble_game(capacity: int) -> None:
    cascade = cascade_from_text(SHARE)
    optimum = fewest_words(cascade, {"M": 4}, capacity)
    assert optimum is not None
    bound = traffic(cascade, M=4)
    assert optimum - 1 <= bound.lower(capacity).words <= optimum
    assert attainable(bound.program, [capacity]).words[0] >= optimum


@pytest.mark.parametrize("capacity", [3, 4, 5, 6])
def test_fused_products_against_the_pebble_game(capacity: int) -> None:
    cascade = cascade_from_text(TWO)
    sizes = {"M": 2, "P": 2, "E": 1, "F": 1}
    optimum = fewest_words(cascade, sizes, capacity)
    assert optimum is not None
    bound = traffic(cascade, **sizes)
    assert bound.lower(capacity).words <= optimum
    assert attainable(bound.program, [capacity]).words[0] >= optimum


def against_the_pebble_game(cascade: Cascade, sizes: tuple[int, ...], capacity: int) -> None:
    shape = dict(zip(RANKS, sizes, strict=True))
    optimum = fewest_words(cascade, shape, capacity, most_states=15_000)
    if optimum is not None:
        bound = traffic(cascade, **shape)
        assert bound.lower(capacity).words <= optimum
        assert attainable(bound.program, [capacity]).words[0] >= optimum


SMALL = st.tuples(*[st.integers(1, 2)] * 4)
CAUSAL = Compare(Index((("i", 1),)), "<=", Index((("j", 1),)))


@settings(max_examples=40, **SLOW)
@given(cascades(most=3), SMALL, st.integers(2, 9))
def test_random_cascades_against_the_pebble_game(
    cascade: Cascade, sizes: tuple[int, ...], capacity: int
) -> None:
    against_the_pebble_game(cascade, sizes, capacity)


@settings(max_examples=20, **SLOW)
@given(cascades(most=3, recurrences=False), SMALL, st.integers(2, 9))
def test_masked_cascades_against_the_pebble_game(
    cascade: Cascade, sizes: tuple[int, ...], capacity: int
) -> None:
    i, j, *others = sizes  # with I <= J no reduction is over no point at all
    ordered = (min(i, j), max(i, j), *others)
    against_the_pebble_game(masked(cascade, CAUSAL), ordered, capacity)


@pytest.mark.long
@settings(max_examples=2000, **SLOW)
@given(cascades(most=4), SMALL, st.integers(2, 9))
def test_many_random_cascades_against_the_pebble_game(
    cascade: Cascade, sizes: tuple[int, ...], capacity: int
) -> None:
    against_the_pebble_game(cascade, sizes, capacity)


# -- schedules at larger sizes that try to beat the bound -----------------------------------------

TRIED = {
    "matmul": {"M": 7, "N": 6, "K": 8},
    "softmax": {"B": 2, "M": 20},
    "layernorm": {"B": 1, "P": 3, "D": 12},
    "attention-3pass": {"B": 1, "H": 1, "P": 6, "M": 7, "E": 3, "F": 3},
    "attention-1pass": {"B": 1, "H": 1, "P": 4, "M1": 3, "M0": 2, "E": 3, "F": 2},
    "attention-causal": {"B": 1, "H": 1, "P": 6, "M": 6, "E": 3, "F": 3},
    "linear-attention-causal": {"B": 1, "H": 1, "M": 5, "E": 3, "F": 3},
    "mlp": {"B": 1, "P": 5, "D": 4, "S": 6},
    "swiglu": {"B": 1, "P": 4, "D": 4, "S": 5},
    "rmsnorm-matmul": {"B": 1, "P": 4, "D": 5, "S": 6},
}
TEXTS = {
    "two": (TWO, {"M": 8, "P": 7, "E": 2, "F": 2}),
    "convolution": (CONVOLUTION, {"P": 8, "W": 3, "C": 3, "F": 4, "I": 10}),
    "projected": (PROJECTED, {"M": 4, "P": 4, "D": 3, "E": 3, "F": 2}),
}


def tried(name: str) -> tuple[Cascade, dict[str, int]]:
    if name in TEXTS:
        text, sizes = TEXTS[name]
        return cascade_from_text(text), sizes
    return load_cascade(name), TRIED[name]


#: Cascades with a short last tile of a split of their own.
SHORT = {
    "attention-1pass": {"B": 1, "H": 1, "P": 4, "M": 5, "M0": 2, "E": 3, "F": 2},
    "attention-2pass": {"B": 1, "H": 1, "P": 4, "M": 5, "M0": 3, "E": 3, "F": 2},
    "rabe-staats": {"B": 1, "H": 1, "P": 3, "M": 7, "M0": 4, "E": 2, "F": 2},
}


@pytest.mark.parametrize(
    "short", ["attention-1pass", *(pytest.param(n, marks=pytest.mark.long) for n in [*SHORT][1:])]
)
def test_no_random_schedule_beats_the_bound_where_a_tile_is_short(short: str) -> None:
    beaten_by_none(load_cascade(short), SHORT[short])


@pytest.mark.parametrize("name", [*TRIED, *TEXTS])
def test_no_random_schedule_beats_the_bound(name: str) -> None:
    beaten_by_none(*tried(name))


def beaten_by_none(cascade: Cascade, sizes: dict[str, int]) -> None:
    """No random schedule moves fewer words than the bound says."""
    bound = traffic(cascade, **sizes)
    problem = bound.program.problem
    cascade = spelled(problem)
    fitted = 0
    for seed in range(12):
        capacity = (4, 5, 6, 8, 11, 16, 24, 40, 64)[seed % 9]
        words = words_moved(cascade, _divided(cascade, problem.sizes), capacity, seed)
        if words is not None:
            fitted += 1
            assert bound.lower(capacity).words <= words, (capacity, seed)
    assert fitted >= 4


def _divided(cascade: Cascade, sizes: Any) -> dict[str, int]:
    return {**sizes, **{p: sizes[p] for _, parts in cascade.splits for p in parts}}


@settings(max_examples=40, **SLOW)
@given(
    cascades(most=5),
    st.tuples(*[st.integers(1, 5)] * 4),
    st.integers(3, 40),
    st.integers(0, 1 << 20),
)
def test_no_random_schedule_of_a_random_cascade_beats_the_bound(
    cascade: Cascade, sizes: tuple[int, ...], capacity: int, seed: int
) -> None:
    shape = dict(zip(RANKS, sizes, strict=True))
    words = words_moved(cascade, shape, capacity, seed)
    if words is not None:
        assert traffic(cascade, **shape).lower(capacity).words <= words


# -- fused attention ------------------------------------------------------------------------------


def test_fused_attention_has_the_order_of_flash_attention() -> None:
    """At least 0.3 MP(E+F)^2/S for E^2 < S, and never more than FlashAttention's tiling moves."""
    p = m = 4096
    e = f = 64
    bound = traffic("attention-3pass", B=1, H=1, P=p, M=m, E=e, F=f)
    for capacity in (16 * e * e, 8 * e * e):
        words = bound.lower(capacity).words
        known = m * p * (e + f) ** 2 / capacity
        rows = capacity // (e + f) // 2
        flash = p * (e + f) + math.ceil(p / rows) * m * (e + f)
        assert 0.3 * known <= words <= flash


def test_fused_attention_lies_within_three_of_its_bound_at_every_capacity() -> None:
    bound = traffic("attention-3pass", B=1, H=1, P=4096, M=4096, E=64, F=64)
    capacities = [1 << log for log in range(4, 21)]
    best = attainable(bound.program, capacities).words
    for capacity, words in zip(capacities, best, strict=True):
        assert bound.lower(capacity).words <= words <= 3 * bound.lower(capacity).words


def test_below_a_square_of_the_head_both_products_of_attention_count() -> None:
    """3.5 MPE/sqrt(S) and more, where each product alone gives 2."""
    bound = traffic("attention-3pass", B=1, H=1, P=2048, M=2048, E=64, F=64)
    for capacity in (16, 64, 256):
        (argument,) = bound.lower(capacity).arguments
        assert argument.einsum == "QK AV"
        assert bound.lower(capacity).words > 2.8 * 2048**2 * 64 / math.sqrt(capacity)


def test_fusing_beats_the_sum_of_the_bounds_of_the_products() -> None:
    """So that sum is no bound, and is not claimed."""
    p = m = 2048
    bound = traffic("attention-1pass", B=1, H=1, P=p, M=m, E=64, F=64)
    capacity = 1 << 17
    apart = 2 * 2 * m * p * 64 / math.sqrt(capacity) + 2 * m * p
    best = attainable(bound.program, [capacity]).words[0]
    assert bound.lower(capacity).words <= best < apart


def test_a_causal_mask_halves_the_bound() -> None:
    sizes = {"B": 1, "H": 1, "P": 1024, "M": 1024, "E": 16, "F": 16}
    full = traffic("attention-3pass", **sizes).lower(64).words
    half = traffic("attention-causal", **sizes).lower(64).words
    assert half == pytest.approx(full / 2, rel=0.01)


def test_arguments_about_separate_products_add() -> None:
    sizes = {"B": 1, "H": 2, "P": 64, "M": 64, "D": 64, "E": 32, "F": 32, "S": 128}
    found = traffic("encoder-linear-layers", **sizes).lower(16)
    assert {a.einsum for a in found.arguments} == {"Q", "K", "V", "Z", "FFN1", "FFN2"}
    points = 3 * 64 * 64 * 64 + 64 * 64 * 64 + 2 * 64 * 64 * 128
    assert found.words > 2 * points / 4 * 0.9


# -- re-reads -------------------------------------------------------------------------------------


def test_softmax_needs_its_fiber_on_chip_or_three_reads() -> None:
    """4MB words with a few words on chip, down a word for each word of each pass, to 2MB."""
    b, m = 3, 500
    bound = traffic("softmax", B=b, M=m)
    for capacity in (3, 4, 10, 100, 400, 500):
        assert bound.lower(capacity).words == 2 * m * b + 2 * b * (m - capacity + 1)
    assert bound.lower(501).words == 2 * m * b


def test_softmax_attained_is_within_a_few_words_of_the_bound() -> None:
    b, m = 3, 500
    bound = traffic("softmax", B=b, M=m)
    capacities = [3, 4, 50, 499, 505, 2000]
    found = attainable(bound.program, capacities).words
    assert found[0] == 6 * m * b  # X, GM and SN fill 3 words: no sum beside them, so SN is stored
    assert found[1] == 4 * m * b  # X three times, the exponentials computed twice
    assert found[2] == bound.lower(50).words + 6 * b
    assert found[4] == found[5] == 2 * m * b


def test_what_a_sweep_sees() -> None:
    statements = traffic("softmax", B=2, M=9).program
    (sweep,) = [s for s in sweeps(statements, "X") if s.variable == "m"]
    assert (sweep.barriers, sweep.last, sweep.label) == (2, "Y", frozenset("b"))
    assert sweep.family == {"X", "SN", "Y"}
    assert rereads(traffic("softmax-online", B=2, M=9).flow, 20) == []


def test_masks_end_the_claim_of_rereads() -> None:
    text = SHARE.replace("X[m] / D", "X[m] / D where m <= 2")
    assert rereads(traffic(cascade_from_text(text), M=8).flow, 3) == []


# -- two products at once -------------------------------------------------------------------------


def joint_of(name: str) -> tuple[Traffic, Joint]:
    cascade, sizes = tried(name)
    bound = traffic(cascade, **sizes)
    return bound, next(pairs(accounts(bound.flow)))


def test_no_schedule_beats_two_products_at_once() -> None:
    """Where the bound on both is not the best there is, ``lower`` does not show it."""
    cascade, sizes = tried("two")
    _, joint = joint_of("two")
    for seed in range(14):
        capacity = (4, 5, 6, 8, 11, 16, 24)[seed % 7]
        words, found = words_moved(cascade, sizes, capacity, seed), joint.least(capacity)
        if words is not None and found is not None:
            assert found.words <= words, (capacity, seed)


@pytest.mark.parametrize("capacity", [3, 4, 5, 6])
@pytest.mark.parametrize("sizes", [(2, 2, 1, 1), (3, 1, 1, 1), (2, 1, 2, 1), (2, 1, 1, 2)])
def test_two_products_at_once_against_the_pebble_game(
    sizes: tuple[int, int, int, int], capacity: int
) -> None:
    cascade = cascade_from_text(TWO)
    shape = dict(zip("MPEF", sizes, strict=True))
    optimum = fewest_words(cascade, shape, capacity, most_states=60_000)
    for joint in pairs(accounts(traffic(cascade, **shape).flow)):
        found = joint.least(capacity)
        assert found is None or optimum is None or found.words <= optimum


def test_words_of_both_products_are_shared_out_by_class() -> None:
    _, joint = joint_of("two")
    assert [sorted(c) for c in joint.classes] in (
        [["K", "Q"], ["S", "V", "Y"]],
        [["K", "Q"], ["S"], ["V", "Y"]],
        [["K", "Q"], ["S", "Y"], ["V"]],
    )


@settings(max_examples=10, **SLOW)
@given(st.data())
def test_points_of_both_products_weigh_no_more_than_is_said(data: st.DataObject) -> None:
    """Scores computed whole from rows, and outputs from them: a block that does what it can."""
    m, p, e, f = (data.draw(st.integers(1, 6)) for _ in range(4))
    cascade = cascade_from_text(TWO)
    bound = traffic(cascade, M=m, P=p, E=e, F=f)
    keys, queries, columns = (data.draw(st.integers(1, n)) for n in (m, p, f))
    words = (keys + queries) * e + keys * columns + queries * columns
    shares = (data.draw(st.sampled_from((0.1, 1.0, 7.0))), 1.0)
    for joint in pairs(accounts(bound.flow)):
        names = [a.statement.name for a in joint.accounts]
        points = {"S": keys * queries * e, "Y": keys * queries * columns}
        weight = sum(s * points[n] for s, n in zip(shares, names, strict=True))
        assert weight <= joint.heaviest(0, words, shares) * (1 + 1e-9)


# -- exponents ------------------------------------------------------------------------------------


def test_exponents_of_the_matrix_product_are_halves() -> None:
    planes = [Term(tuple(((v, 1),) for v in vs), 1.0, frozenset([vs])) for vs in ("ik", "jk", "ij")]
    found = exponents(planes, {"i": 1000, "j": 1000, "k": 1000}, [[5.0, 5.0, 5.0]])
    most = found.most(np.array([12.0, 300.0]), np.ones(3))
    assert most == pytest.approx([8.0, 1000.0], rel=1e-5)


@settings(max_examples=60, **SLOW)
@given(st.data())
def test_no_set_of_points_has_more_than_the_exponents_allow(data: st.DataObject) -> None:
    """Plain rows, windows, strides, shared words: |V| <= most(sum of images)."""
    rows = st.lists(
        st.lists(
            st.tuples(st.sampled_from("ijk"), st.integers(-2, 2).filter(bool)),
            min_size=1,
            max_size=2,
            unique_by=lambda t: t[0],
        ).map(tuple),
        min_size=1,
        max_size=3,
        unique=True,
    ).map(tuple)
    chosen = data.draw(st.lists(rows, min_size=1, max_size=3))
    weights = np.array(
        data.draw(st.lists(st.sampled_from((0.5, 1.0, 3.0)), min_size=3, max_size=3))
    )
    sizes = {v: data.draw(st.integers(1, 4)) for v in "ijk"}
    space = list(product(*(range(n) for n in sizes.values())))
    points = data.draw(st.lists(st.sampled_from(space), min_size=1, unique=True))
    terms = [Term(r, 1.0, frozenset([str(n)])) for n, r in enumerate(chosen)]
    found = exponents(terms, sizes, [[2.0] * len(terms), [0.5] * len(terms)])
    touched = 0.0
    for term, weight in zip(terms, weights, strict=False):
        images = {
            tuple(sum(c * dict(zip("ijk", p, strict=True))[v] for v, c in row) for row in term.rows)
            for p in points
        }
        touched += weight * len(images)
    most = found.most(np.array([touched]), weights[: len(terms)])[0]
    assert len(points) <= most * (1 + 1e-9)
    first = weights[0] * len(
        {
            tuple(sum(c * dict(zip("ijk", p, strict=True))[v] for v, c in row) for row in chosen[0])
            for p in points
        }
    )
    split = found.most_apart(np.array([first]), np.array([touched - first]), weights[: len(terms)])
    assert len(points) <= split[0] * (1 + 1e-9)


# -- compulsory traffic ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("attention-gqa", {"B": 1, "H": 4, "HK": 2, "P": 8, "M": 8, "E": 4, "F": 4}, 384),
        ("attention-causal", {"B": 1, "H": 1, "P": 4, "M": 8, "E": 2, "F": 2}, 8 + 8 + 8 + 8),
        ("attention-window", {"B": 1, "H": 1, "M": 8, "W": 3, "E": 2, "F": 2}, 64),
        ("softmax", {"B": 2, "M": 5}, 20),
    ],
)
def test_compulsory_traffic_counts_what_is_read(
    name: str, sizes: dict[str, int], words: int
) -> None:
    bound = traffic(name, **sizes)
    assert bound.program.compulsory == bound.compulsory == words


def test_a_window_reads_its_halo_once() -> None:
    text = cascade_from_text(CONVOLUTION)
    assert traffic(text, P=8, W=3, C=2, F=2, I=10).program.touched["X"] == 10 * 2


def test_an_input_that_no_output_needs_is_not_read() -> None:
    text = SHARE.replace("inputs: {X: [M]}", "inputs: {X: [M], U: [M]}") + "  - W[m] = U[m]\n"
    assert traffic(cascade_from_text(text), M=6).compulsory == 12
