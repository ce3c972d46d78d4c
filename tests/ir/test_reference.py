"""The interpreter against an element-by-element oracle, and its rules one by one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.cascade import Access, Cascade, Compare, Einsum, Index, Map, Reduction, Tensor
from accelsim.ir.order import order
from accelsim.ir.problem import bind, relevant, with_parts
from accelsim.ir.reference import check, random_inputs, run, whole
from accelsim.load.cascade import cascade_from_text, load_cascade
from tests.oracle.cascades import RANKS, cascades, choosing, masked
from tests.oracle.values import Values


def cascade(einsums, inputs, ranks="I, J, K, T", output=None, more=""):
    """A cascade over I, J, K, T from lines of text."""
    lines = [line.strip() for line in einsums.strip().splitlines()]
    output = output or lines[-1].split("[")[0].strip()
    text = (
        f"cascade: test\nranks: [{ranks}]\ninputs: {{{inputs}}}\noutput: {output}\n"
        f"{more}einsums:\n" + "".join(f"  - {line}\n" for line in lines)
    )
    return cascade_from_text(text)


def bound_to(text, **sizes):
    return bind(text, relevant(text, {"I": 3, "J": 4, "K": 2, "T": 3} | sizes))


def agrees_with_oracle(problem, seed=0):
    inputs = random_inputs(problem, seed)
    found = run(problem, inputs)
    values = Values(problem, inputs)
    for name in {e.output.tensor for e in problem.cascade.einsums}:
        assert found[name].shape == problem.shape(name)
        for at, value in values.elements(name):
            ours = found[name][at]
            if value is None or math.isnan(value):
                assert math.isnan(ours), (name, at, ours)
            else:
                assert ours == pytest.approx(value, rel=1e-9, abs=1e-9), (name, at)
    return found


# -- the language as a whole -----------------------------------------------------------------

CONDITIONS = st.builds(
    lambda u, v, c, relation, offset, divisor: Compare(
        Index(((u, c),), offset, divisor), relation, Index(((v, 1),))
    ),
    st.sampled_from("ijk"),
    st.sampled_from("ijkt"),
    st.integers(1, 2),
    st.sampled_from(["<=", "<", ">=", ">", "==", "!="]),
    st.integers(-2, 2),
    st.integers(1, 2),
)


@settings(deadline=None)
@given(cascades(), st.tuples(*(st.integers(1, 3) for _ in RANKS)), st.integers(0, 99))
def test_random_cascades_agree_with_the_oracle(text, sizes, seed):
    agrees_with_oracle(bind(text, dict(zip(RANKS, sizes, strict=True))), seed)


@settings(deadline=None)
@given(choosing(), st.tuples(*(st.integers(1, 3) for _ in (*RANKS, "R"))), st.integers(0, 99))
def test_random_selections_agree_with_the_oracle(text, sizes, seed):
    agrees_with_oracle(bind(text, dict(zip((*RANKS, "R"), sizes, strict=True))), seed)


@settings(deadline=None)
@given(cascades(), CONDITIONS, st.tuples(*(st.integers(1, 3) for _ in RANKS)))
def test_random_masked_cascades_agree_with_the_oracle(text, condition, sizes):
    agrees_with_oracle(bind(masked(text, condition), dict(zip(RANKS, sizes, strict=True))))


ONE_BY_ONE = {
    "a plain transpose": ("Y[j,i] = X[i,j]", "X: [I, J]"),
    "a broadcast of a constant": ("Y[i,j] = 3\nZ[i] = X[i,j] - Y[i,j]", "X: [I, J]"),
    "a sum of a product": ("Y[i] = X[i,j] * W[j]", "X: [I, J], W: [J]"),
    "a product of three with a constant": (
        "Y[i] = 2 * X[i,j] * W[j] * X[i,j]",
        "X: [I, J], W: [J]",
    ),
    "a sum of what is no product": ("Y[i] = exp(X[i,j]) + W[i]", "X: [I, J], W: [I]"),
    "a sum over a rank that is only in a predicate": (
        "Y[i] = X[i] * W[i] where j <= i",
        "X: [I], W: [I]",
    ),
    "a sum of one factor": ("Y[i] = X[i,j]", "X: [I, J]"),
    "a scalar output": ("S[] = X[i,j]\nY[i] = X[i,j] * S[]", "X: [I, J]"),
    "max, min and prod": (
        "A[i] = X[i,j] :: max(j)\nB[i] = X[i,j] :: min(j)\nC[i] = X[i,j] :: prod(j)\n"
        "Y[i] = A[i] + B[i] * C[i]",
        "X: [I, J]",
    ),
    "argmax": ("Y[i] = X[i,j] :: argmax(j)", "X: [I, J]"),
    "argmax under a mask": ("Y[i] = X[i,j] :: argmax(j) where j < i", "X: [I, J]"),
    "two reductions in a row": ("Y[i] = X[i,j] * W[j,k] :: sum(k), max(j)", "X: [I, J], W: [J, K]"),
    "the size of a rank": ("M[i] = X[i,j] / J\nY[i,j] = X[i,j] - M[i]", "X: [I, J]"),
    "a mask of the output": ("Y[i,j] = X[i,j] where j <= i\nZ[i,j] = exp(Y[i,j])", "X: [I, J]"),
    "a mask of the reduction": ("Y[i] = X[i,j] * W[j] where j < i", "X: [I, J], W: [J]"),
    "a max over no points": ("Y[i] = X[i,j] :: max(j) where j < i", "X: [I, J]"),
    "a masked output and a masked reduction": (
        "Y[i] = X[i,j] * W[j] where j <= i and i > 0",
        "X: [I, J], W: [J]",
    ),
    "an inherited mask": (
        "Y[i,j] = X[i,j] where j <= i\nZ[i] = Y[i,j] * W[j]\nU[i,j] = Y[i,j] + Z[i]",
        "X: [I, J], W: [J]",
    ),
    "a predicate with parts of sums": (
        "Y[i] = X[i,j] :: max(j) where 2*j+1 <= i+2 and j != i",
        "X: [I, J]",
    ),
    "a tensor predicate": (
        "Y[i] = X[i,j] * W[j] where KEEP[i,j]",
        "X: [I, J], W: [J], KEEP: [I, J]",
    ),
    "a computed predicate": (
        "N[i,j] = less(X[i,j], 0)\nY[i,j] = X[i,j] where N[i,j]\nZ[j] = Y[i,j] :: max(i)",
        "X: [I, J]",
    ),
    "clamp": ("Y[i,k] = X[clamp(i+k-1)]", "X: [I]"),
    "zero": ("Y[i] = X[zero(i+k-1)] * W[k]", "X: [I], W: [K]"),
    "clamp of what is masked": (
        "Y[i] = X[i] where i > 0\nZ[i,k] = Y[clamp(i+k-1)] * W[k]",
        "X: [I], W: [K]",
    ),
    "zero beyond what is masked": (
        "Y[i] = X[i] where i > 0\nZ[i] = Y[zero(i+k-1)] * W[k]",
        "X: [I], W: [K]",
    ),
    "stride": ("Y[k,t] = X[2*k] + W[t]", "X: [I], W: [T]"),
    "a border that a predicate excludes": ("Y[i,k] = X[i-k] where k <= i", "X: [I]"),
    "a border that an inherited mask excludes": (
        "Y[i,k] = X[i-k] where k <= i\nZ[i] = Y[i,k] * X[i-k]",
        "X: [I]",
    ),
    "groups": ("Y[t,j] = X[t // 2, j] * W[t]", "X: [K, J], W: [T]"),
    "a recurrence": (
        "S[i,0] = 0\nS[i,t+1] = S[i,t] * 0.5 + X[i,t]\nY[i] = S[i,T] + X[i,t]",
        "X: [I, T]",
    ),
    "a recurrence of two": (
        "A[0] = 1\nB[t] = A[t] + X[t]\nA[t+1] = B[t] * X[t]\nY[t] = A[t+1] - A[t]",
        "X: [T]",
    ),
    "a recurrence with a reduction": (
        "S[i,0] = X[i,j]\nR[t] = S[i,t] :: max(i)\nS[i,t+1] = S[i,t] - R[t] * W[t]\nY[i] = S[i,T]",
        "X: [I, J], W: [T]",
    ),
    "a recurrence over masked elements": (
        "Y[i,t] = X[i,t] where t <= i\nL[t] = Y[i,t] :: max(i)\nR[0] = -1e9\n"
        "R[t+1] = max(R[t], L[t])\nZ[i,t] = Y[i,t] - R[t+1]",
        "X: [I, T]",
    ),
    "a masked recurrence": (
        "S[i,0] = 0\nS[i,t+1] = S[i,t] + X[i,t] where t <= i\nY[i,t] = S[i,t] * 2",
        "X: [I, T]",
    ),
    "top-k": ("Y[i,k] = X[i,j] :: topk(j -> k)", "X: [I, J]"),
    "top-k of fewer than it has room for": (
        "Y[i,k] = X[i,j] :: topk(j -> k) where j < i",
        "X: [I, J]",
    ),
    "top-k of what is summed first": (
        "Y[i,k] = X[i,j] * W[j,t] :: sum(t), topk(j -> k)",
        "X: [I, J], W: [J, T]",
    ),
    "top-k over two ranks": ("Y[i,k] = X[i,j,t] :: topk(j, t -> k)", "X: [I, J, T]"),
    "top-k of equals": ("S[i,j] = floor(X[i,j])\nY[i,k] = S[i,j] :: topk(j -> k)", "X: [I, J]"),
    "top-p": (
        "S[i,j] = exp(X[i,j])\nY[i,k] = S[i,j] :: topp(j -> k, 1.5)",
        "X: [I, J]",
    ),
    "top-p of a mass for each row, under a mask": (
        "S[i,j] = exp(X[i,j])\nY[i,k] = S[i,j] :: topp(j -> k, W[i] + 1) where j <= i",
        "X: [I, J], W: [I]",
    ),
    "gather": (
        "Y[i,k] = X[i,j] :: topk(j -> k)\nZ[i,k,t] = W[Y[i,k],t] * X[i,Y[i,k]]",
        "X: [I, J], W: [J, T]",
    ),
    "a sum over what is gathered": (
        "Y[i,k] = X[i,j] :: topk(j -> k) where j < i\nZ[i,t] = W[Y[i,k],t]",
        "X: [I, J], W: [J, T]",
    ),
    "gather by an input, twice": ("Z[k] = X[N[O[k]]]", "X: [I], N: [J], O: [K]"),
    "scatter": ("Z[N[j],k] = X[j,k]\nY[i,k] = Z[i,k] * W[i]", "X: [J, K], N: [J], W: [I]"),
    "a mask out of a list": (
        "Y[i,k] = X[i,j] :: topk(j -> k) where j <= i\nM[i,Y[i,k]] = 1\n"
        "Z[i,j] = X[i,j] where M[i,j]",
        "X: [I, J]",
    ),
    "a threshold of a statistic": (
        "G[i] = X[i,j] :: max(j)\nY[i,j] = exp(X[i,j]) where X[i,j] >= G[i] - 1\nZ[i] = Y[i,j]",
        "X: [I, J]",
    ),
    "a threshold of a reduction": (
        "Y[i] = X[i,j] * W[j] where X[i,j] > 2 * W[j]",
        "X: [I, J], W: [J]",
    ),
    "alternatives": (
        "Y[i] = X[i,j] where (j <= i - 1 or j == 2 and i > 0 or M[i,j]) and j < 3",
        "X: [I, J], M: [I, J]",
    ),
    "alternatives of the output": (
        "Y[i,j] = X[i,j] where (j < i or X[i,j] >= W[i])\nZ[i] = Y[i,j] :: max(j)",
        "X: [I, J], W: [I]",
    ),
    "sizes of ranks in an index": (
        "Y[i] = X[i,j] where (i <= j + K - 1 or 2*K - i < j) and j > i - J\n"
        "Z[i,k] = W[clamp(i+k+J-2*K)] * Y[i]",
        "X: [I, J], W: [I]",
    ),
    "coordinates": ("Y[i,j] = exp(W[i] * (j - i)) * I where j <= i", "W: [I]"),
    "coordinates alone, broadcast": ("N[i,j] = 2 * j\nY[i,j] = N[i,j] * W[i]", "W: [I]"),
    "a mask over the ranks of two reductions": (
        "Y[k] = X[i,j] * W[k] :: max(j), sum(i) where j <= i",
        "X: [I, J], W: [K]",
    ),
    "a window": ("Y[i] = X[window(i,k)] * W[k]", "X: [I], W: [K]"),
    "a dilated window": ("Y[j] = X[window(j,2*k)]", "X: [J]"),
    "quantisers": (
        "S[i] = abs(X[i,j]) :: max(j)\nN[i,j] = quant(X[i,j], S[i] / 7, 4)\n"
        "U[i,j] = uquant(X[i,j] + S[i], S[i] / 8, 4)\n"
        "Y[i,j] = dequant(N[i,j], S[i] / 7) - U[i,j]",
        "X: [I, J]",
    ),
    "maps": (
        "Y[i] = sign(X[i]) + mod(X[i], 2) + elu(X[i]) + gelu(X[i]) + softplus(X[i]) + sin(X[i])",
        "X: [I]",
    ),
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_each_construct_agrees_with_the_oracle(name):
    einsums, inputs = ONE_BY_ONE[name]
    more = "indexes: {N: I}\n" if name == "scatter" else ""
    agrees_with_oracle(bound_to(cascade(einsums, inputs, more=more)))


SMALL = [
    *("attention-1pass", "attention-causal-1pass", "attention-gqa", "flash-attention-1"),
    *("linear-attention-causal-chunked", "attention-window", "softmax-online"),
]


@pytest.mark.parametrize("name", SMALL)
def test_shipped_cascades_agree_with_the_oracle(name):
    text = load_cascade(name)
    sizes = {"B": 1, "H": 2, "HK": 1, "P": 4, "M": 4, "E": 2, "F": 2, "W": 3}
    agrees_with_oracle(bind(text, with_parts(text, relevant(text, sizes), 2)))


# -- what happens to undefined elements, borders and ends ------------------------------------


def test_undefined_elements_are_nan_and_an_empty_reduction_is_the_identity():
    text = cascade(
        "Y[i,j] = X[i,j] where j < i\nS[i] = Y[i,j]\nM[i] = Y[i,j] :: max(j)", "X: [I, J]"
    )
    found = run(bound_to(text, J=3), {"X": np.ones((3, 3))})
    assert np.isnan(found["Y"]).tolist() == np.triu(np.ones((3, 3), bool)).tolist()
    assert found["S"].tolist() == [0, 1, 2]
    assert found["M"].tolist() == [-math.inf, 1, 1]


def test_infinities_next_to_masked_elements_stay_out_of_sums():
    text = cascade("Y[i,j] = X[i,j] where j <= i\nZ[i] = Y[i,j] * W[j]", "X: [I, J], W: [J]")
    w = np.array([1.0, 2.0, np.inf])
    found = run(bound_to(text, J=3), {"X": np.ones((3, 3)), "W": w})
    assert found["Z"].tolist() == [1, 3, math.inf]


def test_a_read_beyond_the_tensor_is_refused_with_its_place():
    text = cascade("Y[i,k] = X[i+k]", "X: [I]")
    with pytest.raises(InputError) as caught:
        run(bound_to(text), {"X": np.ones(3)})
    (fault,) = caught.value.faults
    assert fault.message == "Y reads X beyond its extent 3"
    assert fault.allowed.startswith("clamp(...) or zero(...)")
    assert fault.place.line == 6


def test_inputs_are_checked_together():
    problem = bound_to(cascade("Y[i] = X[i,j] * W[j]", "X: [I, J], W: [J]"))
    with pytest.raises(InputError) as caught:
        run(problem, {"X": np.ones((4, 3)), "Z": np.ones(1)})
    assert [(f.message, f.allowed) for f in caught.value.faults] == [
        ("input X has shape (4, 3)", "shape (3, 4)"),
        ("input tensor W is missing", "shape (4,)"),
        ("no input tensor Z", "W, X"),
    ]


def test_inputs_may_come_in_parts_and_outputs_can_be_joined():
    text = cascade("Y[i1,i0] = X[i1,i0]", "X: [I]", more="split: {I: [I1, I0]}\n")
    problem = bind(text, relevant(text, {"I": 6, "I0": 2, "J": 1, "K": 1, "T": 1}))
    x = np.arange(6.0)
    for given_ in (x, x.reshape(3, 2)):
        found = run(problem, {"X": given_})["Y"]
        assert found.shape == (3, 2)
        assert whole(problem, "Y", found).tolist() == x.tolist()


def test_a_predicate_over_parts_counts_positions_of_the_whole():
    text = cascade(
        "Y[i1,i0,j] = X[i1,i0,j] where i1*I0+i0 <= j", "X: [I, J]", more="split: {I: [I1, I0]}\n"
    )
    problem = bind(text, relevant(text, {"I": 6, "I0": 2, "J": 5, "K": 1, "T": 1}))
    found = whole(problem, "Y", run(problem, {"X": np.ones((6, 5))})["Y"])
    assert np.isnan(found).tolist() == (np.arange(6)[:, None] > np.arange(5)).tolist()


def test_other_precisions_show_what_a_cascade_does_in_them():
    naive, stable = (load_cascade(n) for n in ("attention-naive", "attention-3pass"))
    sizes = {"B": 1, "H": 1, "P": 2, "M": 8, "E": 1, "F": 1}
    inputs = {"Q": np.full((1, 1, 2, 1), 4.0), "K": np.full((1, 1, 8, 1), 4.0)}
    inputs["V"] = np.ones((1, 1, 8, 1))
    for dtype, overflows in ((np.float16, True), (np.float32, False), (np.float64, False)):
        found = run(bind(naive, sizes), inputs, dtype)["AV"]
        assert found.dtype == dtype
        assert np.isfinite(found).all() != overflows
        assert run(bind(stable, sizes), inputs, dtype)["AV"].ravel() == pytest.approx(1)


# -- order -----------------------------------------------------------------------------------


def test_only_what_recurs_runs_slot_by_slot():
    groups = order(load_cascade("attention-1pass"))
    slots = [[e.name for e in g.einsums] for g in groups if g.along]
    assert slots == [["RM"], ["SPD", "RD"], ["SPNV", "RNV"]]
    assert {g.along for g in groups} == {"", "m1"}


def built(*einsums):
    return Cascade("built", ("T",), (Tensor("X", ("T",)),), einsums, (einsums[-1].output.tensor,))


T, NEXT = Index((("t", 1),)), Index((("t", 1),), 1)


def test_cycles_that_are_no_recurrence_are_refused():
    a, b = Access("A", (T,)), Access("B", (T,))
    with pytest.raises(InputError, match="a cycle: A, B need each other"):
        order(built(Einsum(a, b), Einsum(b, a)))
    ahead = Einsum(Access("A", (NEXT,)), Map("neg", (Access("A", (Index((("t", 1),), 2),)),)))
    with pytest.raises(InputError, match="A reads a slot of A that is not written yet"):
        order(built(ahead))
    total = Einsum(Access("B", ()), a, (Reduction("sum", ("t",)),))
    with pytest.raises(InputError, match="A reads a slot of B that is not written yet"):
        order(built(Einsum(Access("A", (NEXT,)), Map("add", (a, Access("B", ())))), total))


# -- check -----------------------------------------------------------------------------------


def test_check_finds_a_wrong_cascade():
    right = load_cascade("attention-3pass")
    av = right.einsums[-1]
    wrong = Map("mul", (Access("SN", av.reads[0].indices), av.reads[1]))  # not divided
    broken = Cascade(
        right.name, right.ranks, right.inputs,
        (*right.einsums[:-1], Einsum(av.output, wrong, av.reductions)), right.outputs,
        equals=right.equals,
    )  # fmt: skip
    sizes = {"B": 1, "H": 2, "P": 3, "M": 5, "E": 4, "F": 2}
    assert check(bind(right, sizes)).equal
    found = check(bind(broken, sizes))
    assert not found.equal
    assert found.max_abs_error > 0.1


def test_check_tells_nan_from_a_number():
    text = cascade("Y[i,j] = X[i,j] where j <= i", "X: [I, J]", ranks="I, J")
    text = Cascade(**{**vars_of(text), "equals": "softmax"})
    found = check(bind(text, {"I": 3, "J": 3}))
    assert (found.equal, found.max_abs_error) == (False, math.inf)


def test_equals_may_name_another_cascade():
    text = load_cascade("attention-1pass")
    other = Cascade(**{**vars_of(text), "equals": "attention-3pass"})
    problem = bind(other, {"B": 2, "H": 1, "P": 3, "M": 6, "M0": 2, "E": 4, "F": 5})
    assert check(problem, 3, load_cascade).equal


def test_equals_that_names_nothing():
    text = cascade("Y[i] = X[i]", "X: [I]", ranks="I")
    for equals, said in (("", "nothing"), ("no-such", "no-such")):
        problem = bind(Cascade(**{**vars_of(text), "equals": equals}), {"I": 2})
        with pytest.raises(InputError, match=f"equals {said}, which is no textbook function"):
            check(problem)
    with pytest.raises(InputError, match="has no K, Q, V"):
        check(bind(Cascade(**{**vars_of(text), "equals": "attention"}), {"I": 2}))


def vars_of(text):
    return {name: getattr(text, name) for name in text.__dataclass_fields__}


def test_the_interpreter_is_fast_enough_to_use():
    sizes = {"B": 2, "H": 2, "P": 256, "M": 256, "E": 64, "F": 64}
    for name in ("attention-3pass", "attention-causal-1pass", "flash-attention-2"):
        text = load_cascade(name)
        problem = bind(text, with_parts(text, sizes, 32))
        assert check(problem).equal


@pytest.mark.parametrize(
    ("einsums", "inputs", "message", "allowed"),
    [
        (
            "Z[N[j],k] = X[j,k]",
            {"N": [0, 3, 1], "X": np.ones((3, 2))},
            "Z is written beyond its extent 3x2",
            "coordinates from 0 to 2",
        ),
        (
            "Z[j] = X[N[j],0]",
            {"N": [0, 0.5, 1], "X": np.ones((3, 2))},
            "Z takes coordinates from N, not all of which are whole numbers",
            "0, 1, 2, ..., or a where that excludes the point",
        ),
        (
            "Z[j] = X[N[j],0]",
            {"N": [0, -1, 1], "X": np.ones((3, 2))},
            "Z reads X beyond its extent 3x2",
            "clamp(...) or zero(...) around the index, or a where that excludes the point",
        ),
    ],
)
def test_coordinates_that_are_none_are_refused(einsums, inputs, message, allowed):
    text = cascade(einsums, "X: [J, K], N: [J]", more="indexes: {N: J}\n")
    with pytest.raises(InputError) as caught:
        run(bound_to(text, J=3), inputs)
    (fault,) = caught.value.faults
    assert (fault.message, fault.allowed) == (message, allowed)
    assert fault.place.line == 7


def test_a_scatter_at_each_step_of_a_recurrence():
    lines = "S[0] = 1\nN[t,O[k]] = S[t] * X[k]\nS[t+1] = N[t,j] * W[j]\nY[] = S[T]"
    text = cascade(lines, "O: [K], X: [K], W: [J]", more="indexes: {O: J}\n")
    inputs = {"O": [2, 2], "X": [1.0, 2.0], "W": [7.0, 7.0, 2.0, 7.0]}
    assert run(bound_to(text), inputs)["Y"] == 6.0**3


def test_windows_are_moved_inside_by_whole_dilations():
    text = cascade("Y[j,k] = X[window(j,2*k)]", "X: [J]")
    found = run(bound_to(text, J=7, K=3), {"X": np.arange(7.0)})["Y"]
    assert found.tolist() == [
        [0, 2, 4], [1, 3, 5], [0, 2, 4], [1, 3, 5], [2, 4, 6], [1, 3, 5], [2, 4, 6],
    ]  # fmt: skip


def test_random_index_tensors_hold_different_coordinates():
    text = cascade("Z[k] = X[N[k]]", "X: [J], N: [K]")
    inputs = random_inputs(bound_to(text, J=5, K=5))
    assert sorted(inputs["N"].tolist()) == [0, 1, 2, 3, 4]
