"""Sizes of a problem: what is derived, what is refused, and how many points there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.cascade import Compare, Either, Index
from accelsim.ir.problem import bind, names, relevant, with_parts
from accelsim.ir.reference import random_inputs
from accelsim.load.cascade import cascade_from_text, load_cascade
from tests.oracle.cascades import RANKS, cascades, masked
from tests.oracle.values import Values

ONE_PASS = load_cascade("attention-1pass")
GROUPED = load_cascade("attention-gqa")
SIZES = {"B": 2, "H": 3, "P": 5, "E": 4, "F": 6}


def messages(cascade, sizes):
    with pytest.raises(InputError) as caught:
        bind(cascade, sizes)
    return [(f.message, f.allowed) for f in caught.value.faults]


def einsum(cascade, name):
    return next(e for e in cascade.einsums if e.name == name)


def test_the_missing_part_is_derived():
    assert bind(ONE_PASS, {**SIZES, "M": 1024, "M0": 256}).extent("M1") == 4
    assert bind(ONE_PASS, {**SIZES, "M": 1024, "M1": 4}).extent("M0") == 256
    assert bind(ONE_PASS, {**SIZES, "M1": 4, "M0": 256}).extent("M") == 1024


def test_head_groups_follow_from_either_side():
    rest = {"B": 1, "P": 2, "M": 3, "E": 4, "F": 5}
    for given_ in ({"H": 8, "HK": 2}, {"H": 8, "G": 4}, {"HK": 2, "G": 4}):
        bound = bind(GROUPED, {**rest, **given_})
        assert (bound.extent("H"), bound.extent("HK"), bound.extent("G")) == (8, 2, 4)


def test_a_split_that_does_not_divide_says_what_would():
    assert messages(ONE_PASS, {**SIZES, "M": 1000, "M0": 256}) == [
        (
            "split M: [M1, M0]: M = 1000 does not divide by M0 = 256",
            "M = 768 or M = 1024; M0 = 250 or M0 = 500",
        )
    ]


def test_parts_that_contradict_their_rank():
    assert messages(ONE_PASS, {**SIZES, "M": 1000, "M1": 4, "M0": 256}) == [
        (
            "split M: [M1, M0]: M = 1000 is not M1 = 4 * M0 = 256",
            "M = 1024, or leave one of them out",
        )
    ]


def test_heads_that_do_not_divide():
    rest = {"B": 1, "P": 2, "M": 3, "E": 4, "F": 5}
    ((message, allowed),) = messages(GROUPED, {**rest, "H": 8, "HK": 3})
    assert message == "K[h // G]: H = HK * G: H = 8 does not divide by HK = 3"
    assert allowed == "H = 6 or H = 9; HK = 2 or HK = 4"


def test_missing_heads_say_what_they_follow_from():
    assert messages(GROUPED, {"B": 1, "H": 8, "P": 2, "M": 3, "E": 4, "F": 5}) == [
        ("no size for rank G", "G=<size>, or what it follows from in K[h // G]: H = HK * G"),
        ("no size for rank HK", "HK=<size>, or what it follows from in K[h // G]: H = HK * G"),
    ]


def test_all_faults_at_once():
    found = messages(ONE_PASS, {"B": 0, "H": -3, "P": 2.5, "Z": 4, "M": 64, "F": True})
    assert found == [
        ("cascade attention-1pass has no rank Z", "B, E, F, H, M, M0, M1, P"),
        ("no size for rank E", "E=<size>"),
        (
            "rank M = 64 is split into M1, M0: no size for M1 or M0",
            "all of them but one, for instance M0=64",
        ),
        ("size B = 0 is not a positive whole number", "1, 2, 3, ..."),
        ("size F = True is not a positive whole number", "1, 2, 3, ..."),
        ("size H = -3 is not a positive whole number", "1, 2, 3, ..."),
        ("size P = 2.5 is not a positive whole number", "1, 2, 3, ..."),
    ]


def test_a_split_rank_without_any_size():
    assert messages(ONE_PASS, {**SIZES, "M0": 4}) == [
        ("no size for rank M", "M=<size>, or sizes for all its parts M1, M0")
    ]


def test_relevant_keeps_what_a_cascade_has_and_refuses_what_was_asked_for_in_vain():
    workload = {"B": 1, "M": 8, "D": 768, "S": 3072}
    assert relevant(ONE_PASS, workload) == {"B": 1, "M": 8}
    with pytest.raises(InputError, match="cascade attention-1pass has no rank Z"):
        relevant(ONE_PASS, {**workload, "Z": 2}, asked=["Z", "B"])


@given(st.integers(1, 500), st.integers(1, 80))
def test_parts_that_nobody_gave_are_divisors(size, tile):
    sizes = with_parts(ONE_PASS, {**SIZES, "M": size}, tile)
    assert sizes["M0"] <= tile
    assert bind(ONE_PASS, sizes).extent("M1") * sizes["M0"] == size


def test_given_parts_stay():
    assert with_parts(ONE_PASS, {**SIZES, "M": 64, "M1": 16}) == {**SIZES, "M": 64, "M1": 16}
    assert bind(ONE_PASS, with_parts(ONE_PASS, {**SIZES, "M1": 2, "M0": 3})).extent("M") == 6


def test_elements_and_slots():
    bound = bind(ONE_PASS, {**SIZES, "M": 12, "M0": 4})
    assert bound.tensor_elements("Q") == 2 * 3 * 5 * 4
    assert bound.shape("K") == (2, 3, 3, 4, 4)
    assert bound.shape("RM") == (2, 3, 4, 5)  # slot 0 and three more
    assert set(bound.sizes) == set(names(ONE_PASS))


def test_points_of_a_recurrence_are_its_steps():
    bound = bind(ONE_PASS, {**SIZES, "M": 12, "M0": 4})
    assert bound.points(einsum(ONE_PASS, "RM")) == 2 * 3 * 3 * 5
    assert bound.points(einsum(ONE_PASS, "RM@0")) == 2 * 3 * 5
    assert bound.points(einsum(ONE_PASS, "QK")) == 2 * 3 * 12 * 5 * 4


def test_causal_is_half_at_any_size_in_whoever_reads_it():
    n = 2**20
    for name in ("attention-causal", "attention-causal-1pass"):
        causal = load_cascade(name)
        sizes = with_parts(causal, {"B": 64, "H": 12, "P": n, "M": n, "E": 64, "F": 32}, 256)
        bound = bind(causal, sizes)
        half = 64 * 12 * n * (n + 1) // 2
        assert bound.points(causal.einsums[0]) == 64 * half
        assert bound.points(causal.einsums[1]) == half
        assert bound.defined_elements("QK") == half
        assert bound.density("QK") == pytest.approx(0.5, abs=1e-6)
        last = {"attention-causal": "AV", "attention-causal-1pass": "SLNV"}[name]
        assert bound.points(einsum(causal, last)) == 32 * half
        assert bound.density("AV") == 1


def test_problems_hash_and_compare_by_content():
    one, two = (bind(ONE_PASS, {**SIZES, "M": 12, "M0": 4}) for _ in range(2))
    other = bind(ONE_PASS, {**SIZES, "M": 12, "M0": 6})
    assert one == two
    assert hash(one) == hash(two)
    assert one != other


def test_a_read_of_masked_elements_through_an_affine_index():
    text = """
    cascade: shifted
    ranks: [I, J]
    inputs: {X: [I, J]}
    output: Z
    einsums:
      - Y[i,j] = X[i,j] where j <= i
      - Z[i]   = Y[i,zero(j-1)]
      - W[i,j] = Y[i, j // 2]
    """
    cascade = cascade_from_text("\n".join(line[4:] for line in text.splitlines()))
    bound = bind(cascade, {"I": 4, "J": 4})
    assert bound.points(einsum(cascade, "Y")) == 10
    assert bound.points(einsum(cascade, "W")) == 14  # j // 2 <= i
    assert bound.points(einsum(cascade, "Z")) == 16  # beyond a border: an upper bound


MASKS = st.builds(
    lambda u, v, relation, offset: Compare(Index(((u, 1),), offset), relation, Index(((v, 1),))),
    st.sampled_from("ijk"),
    st.sampled_from("ijkt"),
    st.sampled_from(["<=", "<", ">=", "==", "!="]),
    st.integers(-2, 2),
)


@given(cascades(recurrences=False), MASKS, st.tuples(*(st.integers(1, 4) for _ in RANKS)))
def test_points_are_those_that_are_computed(cascade, mask, sizes):
    cascade = masked(cascade, mask)
    bound = bind(cascade, dict(zip(RANKS, sizes, strict=True)))
    values = Values(bound, ones(bound))
    for e in cascade.einsums:
        assert bound.points(e) == values.points(e)
        defined = sum(v is not None for _, v in values.elements(e.output.tensor))
        assert bound.defined_elements(e.output.tensor) == defined


@given(cascades(), MASKS, st.tuples(*(st.integers(1, 3) for _ in RANKS)))
def test_points_of_recurrences_are_never_too_few(cascade, mask, sizes):
    cascade = masked(cascade, mask)
    bound = bind(cascade, dict(zip(RANKS, sizes, strict=True)))
    values = Values(bound, ones(bound))
    for e in cascade.einsums:
        assert values.points(e) <= bound.points(e) <= bound.dense_points(e)


def ones(bound):
    def nested(extents):
        return [nested(extents[1:]) for _ in range(extents[0])] if extents else 1.0

    return {t.name: nested([bound.extent(r) for r in t.ranks]) for t in bound.cascade.inputs}


def test_points_of_alternatives_are_exact_at_any_size():
    text = cascade_from_text(
        "cascade: sinks\nranks: [P, M, W, S]\ninputs: {X: [P, M]}\noutput: Z\neinsums:\n"
        "  - Y[p,m] = X[p,m] where m <= p and (p < m + W or m < S)\n"
        "  - Z[p] = exp(Y[p,m])\n"
    )
    n = 2**20
    bound = bind(text, {"P": n, "M": n, "W": 4096, "S": 4})
    window = 4096 * (n - 4095) + 4095 * 4096 // 2
    sinks = sum(max(0, n - 4096 - m) for m in range(4))
    assert [bound.points(e) for e in text.einsums] == [window + sinks] * 2
    assert bound.defined_elements("Y") == window + sinks
    assert len(bound.predicates(text.einsums[0])) == 2  # of alternatives the first is surely there


EITHER = st.builds(
    lambda a, b, c: Either(((a, b), (c,))),
    MASKS,
    MASKS,
    MASKS,
)


@given(cascades(recurrences=False), EITHER, MASKS, st.tuples(*(st.integers(1, 3) for _ in RANKS)))
def test_points_under_alternatives_are_those_that_are_computed(cascade, either, mask, sizes):
    cascade = masked(masked(cascade, either), mask)
    bound = bind(cascade, dict(zip(RANKS, sizes, strict=True)))
    values = Values(bound, ones(bound))
    for e in cascade.einsums:
        assert bound.points(e) == values.points(e)
        defined = sum(v is not None for _, v in values.elements(e.output.tensor))
        assert bound.defined_elements(e.output.tensor) == defined


SPARSE = """cascade: sparse
ranks: [I, J, R]
inputs: {X: [I, J], KEEP: [I, J], T: [I]}
density:
  KEEP: {value: 0.25, source: assumed}
  H: {value: 0.5, source: assumed}
  N: {value: 0.75, source: assumed}
outputs: [Z, U, W]
einsums:
  - Y[i,j] = X[i,j] where KEEP[i,j] and j <= i
  - Z[i,j] = exp(Y[i,j])
  - S[i] = Z[i,j]
  - H[i,j] = Z[i,j] where Z[i,j] >= T[i]
  - U[i] = H[i,j] :: max(j)
  - N[i,r] = X[i,j] :: topp(j -> r, 3)
  - W[i,r] = X[i,N[i,r]]
"""


def test_points_that_data_decides_count_with_their_density():
    text = cascade_from_text(SPARSE)
    bound = bind(text, {"I": 8, "J": 8, "R": 8})
    points = {e.name: bound.points(e) for e in text.einsums}
    assert points == {"Y": 9, "Z": 9, "S": 9, "H": 4, "U": 4, "N": 64, "W": 48}
    assert bound.defined_elements("Y") == 9  # a quarter of 36
    assert bound.defined_elements("S") == 8  # a sum over nothing is defined
    assert bound.defined_elements("N") == 48


def test_a_density_is_that_of_random_masks():
    bound = bind(cascade_from_text(SPARSE), {"I": 200, "J": 200, "R": 2})
    share = random_inputs(bound)["KEEP"].mean()
    assert share == pytest.approx(0.25, abs=0.02)


def test_without_a_density_data_is_taken_to_leave_everything():
    text = cascade_from_text(SPARSE.replace("  KEEP: {value: 0.25, source: assumed}\n", ""))
    bound = bind(text, {"I": 8, "J": 8, "R": 8})
    assert bound.points(text.einsums[0]) == 36
