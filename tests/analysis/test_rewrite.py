"""Rewrites one by one, guards under masks, the judge, and that nothing unequal is ever derived."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.analysis.passes import passes
from accelsim.analysis.rewrite.derive import Derived, derive
from accelsim.analysis.rewrite.judge import Judge
from accelsim.analysis.rewrite.local import local
from accelsim.analysis.rewrite.lower import lowered
from accelsim.analysis.rewrite.program import Program
from accelsim.analysis.rewrite.reading import program_of
from accelsim.analysis.rewrite.rules import bare_exponentials, defer, merge, moments
from accelsim.analysis.rewrite.running import running
from accelsim.analysis.rewrite.tiling import split
from accelsim.ir.cascade import Cascade
from accelsim.ir.check import faults
from accelsim.ir.problem import bind, with_parts
from accelsim.ir.reference import random_inputs, run, whole
from accelsim.ir.show import show, show_einsum
from accelsim.load.cascade import cascade_from_text, load_cascade
from tests.oracle.cascades import cascades
from tests.oracle.shipped import textbook_cascades
from tests.oracle.statistics import statistics


def cascade(ranks: str, inputs: str, output: str, lines: str, constants: str = "") -> Cascade:
    """A cascade from its Einsums, one a line."""
    key = "outputs" if output.startswith("[") else "output"
    text = f"cascade: case\nranks: [{ranks}]\n"
    text += f"constants: {{{constants}}}\n" if constants else ""
    text += f"inputs: {{{inputs}}}\n{key}: {output}\neinsums:\n"
    return cascade_from_text(text + "".join(f"  - {line.strip()}\n" for line in lines.split(";")))


def lines(program: Program | None) -> set[str]:
    """The Einsums of a program, as text."""
    assert program is not None
    found = lowered(program)
    assert not list(faults(found))
    return {show_einsum(e) for e in found.einsums}


SOFTMAX = """G[p] = X[m,p] :: max(m); S[m,p] = exp(X[m,p] - G[p]); D[p] = S[m,p];
A[m,p] = S[m,p] / D[p]; Y[p,f] = A[m,p] * V[m,f]"""
ATTENTION = cascade("M, P, F", "X: [M, P], V: [M, F]", "Y", SOFTMAX)


# -- there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in textbook_cascades() if n != "attention-2pass"])
def test_a_program_is_lowered_to_the_einsums_that_it_was_read_from(name: str) -> None:
    original = load_cascade(name)
    assert lines(program_of(original)) == {show_einsum(e) for e in original.einsums}


def test_what_cancels_is_gone() -> None:
    """FuseMax's two-pass text multiplies exp(QK-LM) by exp(LM-GM)."""
    found = lines(program_of(load_cascade("attention-2pass")))
    assert "SN[b,h,m1,m0,p] = exp(QK[b,h,m1,m0,p] - GM[b,h,p])" in found


# -- rule by rule -------------------------------------------------------------------------------


def test_a_division_is_deferred_past_the_sum() -> None:
    found = lines(defer(program_of(ATTENTION), "m"))
    assert found == {
        "G[p] = X[m,p] :: max(m)",
        "S[m,p] = exp(X[m,p] - G[p])",
        "D[p] = S[m,p]",
        "YN[p,f] = S[m,p] * V[m,f]",
        "Y[p,f] = YN[p,f] / D[p]",
    }


def test_only_what_waits_for_the_fiber_is_deferred() -> None:
    scaled = cascade("M, P", "X: [M, P], W: [P]", "Y", "Y[p] = X[m,p] * W[p]")
    assert defer(program_of(scaled), "m") is None


def test_factors_of_several_sums_leave_each_the_sum_it_can_leave() -> None:
    """A sum over k and j, of a factor R[j] that needs all of k, is one over j of one over k."""
    nested = cascade(
        "K, J", "X: [K, J]", "Y", "S[j] = square(X[k,j]); R[j] = rsqrt(S[j]); Y = X[k,j] * R[j]"
    )
    found = lines(defer(program_of(nested), "k"))
    assert {"YSN[j] = X[k,j]", "YS[j] = R[j] * YSN[j]", "Y = YS[j]"} <= found
    assert passes(nested)["K"] == 2
    assert passes(lowered(defer(program_of(nested), "k") or program_of(nested)))["K"] == 1


def test_a_statistic_leaves_a_maximum_as_a_summand_and_as_a_factor() -> None:
    shifted = cascade("M", "X: [M]", "Y", "S = X[m]; Y = X[m] - S / M :: max(m)")
    assert "YS = X[m] :: max(m)" in lines(defer(program_of(shifted), "m"))
    scaled = cascade("M", "X: [M]", "Y", "S = square(X[m]); Y = X[m] / sqrt(S) :: max(m)")
    assert "Y = rsqrt(S) * YN" in lines(defer(program_of(scaled), "m"))
    sign_unknown = cascade("M", "X: [M]", "Y", "S = X[m]; Y = X[m] / S :: max(m)")
    assert defer(program_of(sign_unknown), "m") is None


def test_moments_share_their_sums() -> None:
    variance = load_cascade("variance")
    program = moments(program_of(variance), "d")
    assert lines(program) == {
        "SUM[b] = X[b,d]",
        "SSS3[b] = square(X[b,d])",
        "SS[b] = SSS3[b] - square(SUM[b]) / D",
        "Y[b] = SS[b] / D",
    }
    assert program is not None
    assert "compute SSS once, as SUM" in program.log


def test_moments_under_a_mask_count_what_is_kept() -> None:
    masked = cascade(
        "D", "X: [D], KEEP: [D], C: [D]", "Y",
        "G = X[d] where KEEP[d]; Y = square(C[d] - G) where KEEP[d]",
    )  # fmt: skip
    found = lines(moments(program_of(masked), "d"))
    assert any(line.endswith("= 1 where KEEP[d]") for line in found)


def test_running_form() -> None:
    program = running(defer(program_of(ATTENTION), "m") or program_of(ATTENTION), "M")
    assert lines(program) == {
        "LG[m1,p] = X[m1,m0,p] :: max(m0)",
        "RG[0,p] = -inf",
        "RG[m1+1,p] = max(LG[m1,p], RG[m1,p])",
        "LS[m1,m0,p] = exp(X[m1,m0,p] - RG[m1+1,p])",
        "CG[m1,p] = exp(RG[m1,p] - RG[m1+1,p])",
        "LD[m1,p] = LS[m1,m0,p]",
        "RD[0,p] = 0",
        "RD[m1+1,p] = CG[m1,p] * RD[m1,p] + LD[m1,p]",
        "LYN[m1,p,f] = LS[m1,m0,p] * V[m1,m0,f]",
        "RYN[0,p,f] = 0",
        "RYN[m1+1,p,f] = RYN[m1,p,f] * CG[m1,p] + LYN[m1,p,f]",
        "Y[p,f] = RYN[M1,p,f] / RD[M1,p]",
    }
    found = passes(lowered(program or program_of(ATTENTION)))
    assert found["M"] == found["M1"] == 1


def test_running_along_a_rank_that_cannot_be_split() -> None:
    """An argmax over m needs m whole: the running form walks it element by element."""
    both = cascade(
        "M, P, F", "X: [M, P], V: [M, F]", "[Y, B]", SOFTMAX + "; B[p] = X[m,p] :: argmax(m)"
    )
    found = lines(running(defer(program_of(both), "m") or program_of(both), "M"))
    assert {
        "RG[m+1,p] = max(RG[m,p], X[m,p])",
        "RYN[m+1,p,f] = RYN[m,p,f] * CG[m,p] + LS[m,p] * V[m,f]",
        "B[p] = X[m,p] :: argmax(m)",
    } <= found


def test_local_form() -> None:
    program = local(defer(program_of(ATTENTION), "m") or program_of(ATTENTION), "M")
    found = lowered(program or program_of(ATTENTION))
    assert passes(found)["M"] == 1
    assert passes(found)["M1"] == 2  # the summaries of tiles


def test_not_separable_is_left_alone() -> None:
    for body in ("tanh(X[m] - G)", "exp(X[m] * G)", "abs(X[m] - G)", "exp(square(X[m] - G))"):
        c = cascade("M", "X: [M]", "Y", f"G = X[m] :: max(m); Y = {body}")
        assert running(program_of(c), "M") is None
        assert derive(c).found == ()


@pytest.mark.parametrize(
    ("lines", "anchored"),
    [
        ("G = X[m] :: max(m); Y = exp(X[m] - G)", True),
        ("G = X[m] :: min(m); Y = exp(T * (G - X[m]))", True),
        ("G = X[m] :: max(m); Y = exp(X[m] + Z[m] - G)", True),  # what is left waits for nothing
        ("G = X[m] :: max(m); H = max(G, T); Y = exp(X[m] - H)", True),
        ("G = log(X[m]) :: max(m); Y = exp(log(X[m]) - G)", True),  # exp(log) is the element itself
        ("G = X[m]; Y = exp(X[m] - G)", False),  # a partial sum bounds nothing
        ("G = square(X[m]); Y = exp(-square(X[m]) * G)", False),
        ("G = X[m] :: max(m); Y = exp(Z[m] - G) * X[m]", False),  # of other elements
        ("G = X[m] :: max(m); Y = exp(2 * X[m] - G)", False),
        ("G = X[m] :: max(m); H = min(G, T); Y = exp(Z[m] - H) * X[m]", False),
        ("G = X[m] :: max(m) where KEEP[m]; Y = exp(X[m] - G)", False),  # of fewer elements
    ],
)  # fmt: skip
def test_a_sum_is_kept_running_where_elements_anchor_its_statistics(
    lines: str, anchored: bool
) -> None:
    kinds = {"X": "[M]", "Z": "[M]", "T": "[]", "KEEP": "[M]"}
    inputs = ", ".join(f"{n}: {r}" for n, r in kinds.items() if re.search(rf"\b{n}\b", lines))
    c = cascade("M", inputs, "Y", lines)
    found = running(program_of(c), "M")
    assert (found is not None) == anchored
    if anchored:
        assert derive(c).found


def test_an_extremum_of_extrema_of_tiles_anchors_the_elements_of_these() -> None:
    found = running(program_of(load_cascade("attention-2pass")), "M")
    assert "RM[b,h,p,m1+1] = max(LM[b,h,m1,p], RM[b,h,p,m1])" in lines(found)


def test_exponentials_taken_out_are_unstable_whatever_the_judge_met() -> None:
    small = cascade("M", "X: [M]", "Y", "S = X[m]; Y = exp(tanh(X[m]) - tanh(S))")
    (found,) = derive(small).found
    assert found.passes["M"] == 1
    assert found.unstable == "exponentials taken out of a sum overflow where the original does not"


def test_an_exponential_of_an_exponential_stays() -> None:
    tower = cascade("M", "X: [M]", "Y", "S = X[m]; Y = exp(exp(X[m]) - S)")
    assert bare_exponentials(program_of(tower), "m") is None


def test_what_multiplies_out_into_too_much_stays() -> None:
    names = [f"X{n}" for n in range(5)]
    total = " + ".join(f"{n}[m]" for n in names)
    inputs = ", ".join(f"{n}: [M]" for n in names)
    few = cascade("M", "X0: [M]", "Y", "S = X0[m]; Y = square(X0[m] - S)")
    many = cascade("M", inputs, "Y", f"S = X0[m]; Y = square({total} - S)")
    assert moments(program_of(few), "m") is not None
    assert moments(program_of(many), "m") is None


def test_a_difference_of_large_values_is_taken_first() -> None:
    c = cascade(
        "M", "X: [M]", "Y",
        "G = X[m] :: max(m); S = exp(X[m] - G); Y = exp(X[m] - G) * (X[m] - G - log(S))",
    )  # fmt: skip
    best = next(d for d in derive(c).found if d.stable)
    found = [show_einsum(e) for e in best.cascade.einsums]
    assert any("X[m1,m0] - RG[M1] - log" in line for line in found), found


def test_exponentials_taken_out_are_not_put_in_running_form() -> None:
    program = bare_exponentials(program_of(ATTENTION), "m")
    assert program is not None
    assert program.bare
    assert running(program, "M") is None


def test_sums_over_the_same_fiber_are_merged() -> None:
    two = cascade(
        "M, P", "X: [M, P], Z: [M, P]", "Y", "A[p] = X[m,p]; B[p] = Z[m,p]; Y[p] = A[p] - B[p]"
    )
    assert lines(merge(program_of(two))) == {"AS[p] = X[m,p] - Z[m,p]", "Y[p] = AS[p]"}
    shared = cascade("M", "X: [M], Z: [M]", "[Y, A]", "A = X[m]; B = Z[m]; Y = A - B")
    assert merge(program_of(shared)) is None


def test_equal_reductions_are_one_and_dead_code_is_gone() -> None:
    twice = cascade(
        "M, P", "X: [M, P]", "Y",
        "A[p] = X[m,p] :: max(m); B[p] = X[m,p] :: max(m); C[p] = X[m,p]; Y[p] = A[p] + B[p]",
    )  # fmt: skip
    (found,) = derive(twice).found
    assert {show_einsum(e) for e in found.cascade.einsums} == {
        "A[p] = X[m,p] :: max(m)",
        "Y[p] = 2 * A[p]",
    }


def test_what_cancels_is_not_written_as_it_was() -> None:
    """Both are 0, and the sum over m of the first is no text for the second."""
    c = cascade("M", "X: [M]", "[Y, Z]", "Y[m] = X[m] - X[m]; Z = Y[m]")
    assert lines(program_of(c)) == {"Y[m] = 0", "Z = 0"}


@pytest.mark.parametrize("index", ["p-2*w", "2*w+p", "M*w"])
def test_what_cannot_be_split_says_so(index: str) -> None:
    c = cascade("P, W, M", "K: [M], X: [P, W]", "Y", f"Y[p] = X[p,w] * K[clamp({index})]")
    assert split(program_of(c), "W") is None


def test_splitting_a_subtracted_variable() -> None:
    """A window that looks back: its tiles count back as well, and so they are read again."""
    c = cascade("P, W, M", "K: [M], X: [P, W]", "Y", "Y[p] = X[p,w] * K[p-w] where p-w >= 0")
    (line,) = lines(split(program_of(c), "W"))
    assert line == "Y[p] = X[p,w1,w0] * K[p-w1*W0-w0] where p >= w1*W0+w0"


def test_splitting_a_coordinate_and_alternatives() -> None:
    c = cascade("P, M", "X: [M, P]", "Y", "Y[p] = X[m,p] * (p - m) where (m < 2 or p - m < 5)")
    (line,) = lines(split(program_of(c), "M"))
    rest = "where (m1*M0+m0 < 2 or p < m1*M0+m0+5)"
    assert line == f"Y[p] = X[m1,m0,p] * (p - (m1 * M0 + m0)) {rest}"


def test_splitting_an_index_of_several_variables() -> None:
    c = cascade("P, W, M", "K: [M], X: [P, W]", "Y", "Y[p] = X[p,w] * K[p+w] where w <= p")
    cut = split(program_of(c), "W")
    assert lines(cut) == {"Y[p] = X[p,w1,w0] * K[p+w1*W0+w0] where w1*W0+w0 <= p"}


# -- masks --------------------------------------------------------------------------------------

KEEPS_NOTHING = cascade(
    "M, P, F", "X: [M, P], V: [M, F], KEEP: [M, P]", "[Y, Z]",
    """G[p] = X[m,p] :: max(m) where KEEP[m,p]; S[m,p] = exp(X[m,p] - G[p]) where KEEP[m,p];
    D[p] = S[m,p]; A[m,p] = S[m,p] / D[p]; Y[p,f] = A[m,p] * V[m,f]; Z[p] = A[m,p] * log(D[p])""",
)  # fmt: skip


def test_a_row_without_any_key_keeps_its_value() -> None:
    """Softmax over nothing: the sum of nothing is 0, whatever 0/0 and log(0) are."""
    problem = bind(KEEPS_NOTHING, {"M": 12, "P": 4, "F": 2})
    inputs = random_inputs(problem)
    inputs["KEEP"][:, 1] = 0.0
    inputs["KEEP"][:8, 2] = 0.0  # whole tiles without a key, before and after others
    inputs["KEEP"][4:, 3] = 0.0
    true = run(problem, inputs)
    assert (true["Y"][1] == 0).all()
    found = derive(KEEPS_NOTHING).found
    assert {d.passes["M"] for d in found} >= {1, 2}
    for d in found:
        ours = outputs(d.cascade, problem.sizes, inputs)
        for name in ("Y", "Z"):
            np.testing.assert_allclose(ours[name], true[name], rtol=1e-12, atol=1e-14)


def test_masks_stay_with_what_leaves_a_sum() -> None:
    """sum of A * (V - C) where m < p: each of the two sums is still over m < p."""
    c = cascade(
        "M, P", "X: [M, P], V: [M]", "Y",
        "G[p] = X[m,p] where m < p; Y[p] = X[m,p] * (V[m] - G[p]) where m < p",
    )  # fmt: skip
    found = lines(moments(program_of(c), "m"))
    assert sum(" where m < p" in line for line in found) == len(found) - 1


def outputs(c: Cascade, sizes: object, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a derived cascade, parts of ranks joined."""
    known = {t.name for t in c.inputs}
    problem = bind(c, with_parts(c, dict(sizes), 4))  # type: ignore[call-overload]
    found = run(problem, {k: v for k, v in inputs.items() if k in known})
    return {o: whole(problem, o, found[o]) for o in c.outputs}


# -- the judge ----------------------------------------------------------------------------------


def test_the_judge_sees_a_wrong_cascade() -> None:
    wrong = cascade(
        "M, P, F", "X: [M, P], V: [M, F]", "Y", SOFTMAX.replace("V[m,f]", "V[m,f] * 1.001")
    )
    verdict = Judge(ATTENTION, frozenset("M")).verdict(wrong)
    assert not verdict.equal
    assert verdict.why == "random: Y is off by 0.001"


def test_the_judge_sees_overflow_and_cancellation() -> None:
    bare = lowered(bare_exponentials(program_of(ATTENTION), "m") or program_of(ATTENTION))
    verdict = Judge(ATTENTION, frozenset("M")).verdict(bare)
    assert verdict.equal
    assert not verdict.stable
    assert "overflows" in verdict.why
    variance = load_cascade("variance")
    program = moments(program_of(variance), "d") or program_of(variance)
    verdict = Judge(variance, frozenset("D")).verdict(lowered(program))
    assert verdict.equal
    assert not verdict.stable
    assert "plus" in verdict.why  # a mean far from 0


def test_the_judge_finds_the_original_stable() -> None:
    for name in ("attention-3pass", "layernorm", "softmax", "rmsnorm"):
        original = load_cascade(name)
        verdict = Judge(original, frozenset(original.ranks[-1:])).verdict(original)
        assert verdict.equal
        assert verdict.stable
        assert verdict.max_abs_error == 0


# -- what is derived is equal -------------------------------------------------------------------


def assert_equal(original: Cascade, found: Derived, seed: int) -> None:
    """A derived cascade has a text, and its outputs are those of the original."""
    assert cascade_from_text(show(found.cascade)) == found.cascade
    for m, other in ((7, 4), (40, 3), (200, 2)):
        problem = bind(original, {r: m if r == "M" else other for r in original.ranks})
        inputs = random_inputs(problem, seed)
        true = run(problem, inputs)
        ours = outputs(found.cascade, problem.sizes, inputs)
        for name in original.outputs:
            theirs = whole(problem, name, true[name])
            here = np.isfinite(theirs)
            scale = np.abs(theirs[here]).max(initial=1.0)
            np.testing.assert_allclose(ours[name][here], theirs[here], rtol=0, atol=1e-9 * scale)


@settings(max_examples=25, deadline=None)
@given(statistics(), st.integers(0, 9))
def test_nothing_unequal_is_derived(original: Cascade, seed: int) -> None:
    for found in derive(original).found:
        assert_equal(original, found, seed)


@settings(max_examples=25, deadline=None)
@given(cascades())
def test_nothing_unequal_is_derived_from_recurrences(original: Cascade) -> None:
    if not list(faults(original)):
        for found in derive(original).found:
            assert_equal(original, found, 1)


@pytest.mark.long
@settings(max_examples=3000, deadline=None)
@given(statistics(), st.integers(0, 9))
def test_nothing_unequal_is_derived_at_length(original: Cascade, seed: int) -> None:
    for found in derive(original).found:
        assert_equal(original, found, seed)


@settings(max_examples=25, deadline=None)
@given(statistics())
def test_what_is_derived_is_better_and_best_first(original: Cascade) -> None:
    found = derive(original)
    for d in found.found:
        assert d.rewrites
        assert d.measure < found.measure
        assert d.passes.by_rank == passes(d.cascade).by_rank
    order = [(d.measure.passes[0], not d.stable) for d in found.found]
    assert order == sorted(order)
