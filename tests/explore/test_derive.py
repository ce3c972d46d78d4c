"""What `derive` must find from the shipped cascades and from others, and what it answers."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from accelsim.analysis.passes import passes
from accelsim.cli.app import app
from accelsim.errors import InputError
from accelsim.explore.derive import Found, derive
from accelsim.explore.language import check
from accelsim.ir.problem import bind, with_parts
from accelsim.ir.reference import check as execute
from accelsim.ir.show import show_einsum
from accelsim.load.cascade import cascade_from_text, load_cascade

EXPECTED = re.compile(r"about: from (\d) to (\d), (stable|unstable)")
KEYS = {"passes", "rewrites", "stable", "max_abs_error", "text"}


@cache
def shipped(name: str) -> Found:
    """What is derived from a shipped cascade."""
    return derive(name)


def found_in(tmp_path: Path, ranks: str, inputs: str, output: str, lines: str) -> Found:
    """What is derived from a cascade in a file."""
    text = f"cascade: case\nranks: [{ranks}]\nconstants: {{EPS: 1e-5}}\ninputs: {{{inputs}}}\n"
    text += f"output: {output}\neinsums:\n"
    file = tmp_path / "case.yaml"
    file.write_text(text + "".join(f"  - {line.strip()}\n" for line in lines.split(";")))
    return derive(file)


def most(found: Found) -> list[tuple[float, bool]]:
    """For each cascade found its passes and whether it is stable."""
    return [(d.measure.passes[0], d.stable) for d in found.derivation.found]


def test_three_pass_attention_gives_the_running_maximum_and_two_passes() -> None:
    found = shipped("attention-3pass")
    best = found.derivation.found[0]
    assert best.stable
    assert best.passes["M"] == best.passes["M1"] == 1
    lines = {show_einsum(e) for e in best.cascade.einsums}
    assert "RM[b,h,p,0] = -inf" in lines
    assert "CM[b,h,p,m1] = exp(RM[b,h,p,m1] - RM[b,h,p,m1+1])" in lines
    assert (2, True) in most(found)
    assert all(d.max_abs_error < 1e-12 for d in found.derivation.found)


def test_exp_without_the_maximum_is_found_and_marked() -> None:
    unstable = [f for f in shipped("attention-3pass").to_dict()["found"] if not f["stable"]]
    assert any("max" not in f["text"].partition("einsums:")[2] for f in unstable)
    assert all(f["unstable"] for f in unstable)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("attention-3pass", 3, (1, True)),
        ("attention-3pass-deferred", 2, (1, True)),
        ("attention-2pass", 2, (1, True)),
        ("attention-causal", 3, (1, True)),
        ("attention-masked", 3, (1, True)),
        ("attention-gqa", 3, (1, True)),
        ("attention-cosine", 3, (1, True)),
        ("attention-scaled", 3, (1, True)),
        ("attention-window", 3, (1, True)),
        ("attention-naive", 2, (1, False)),
        ("softmax", 3, (2, True)),
        ("logsumexp", 2, (1, True)),
        ("layernorm", 3, (2, False)),
        ("variance", 2, (1, False)),
    ],
)
def test_fewer_passes_from_shipped_cascades(
    name: str, before: int, after: tuple[int, bool], tmp_path: Path
) -> None:
    found = shipped(name)
    assert found.derivation.measure.passes[0] == before
    assert after in most(found)
    file = tmp_path / "better.yaml"
    for text in found.texts:
        file.write_text(text)
        assert load_cascade(file).equals == load_cascade(name).equals
        assert check(file).equal


@pytest.mark.parametrize(
    "name",
    [
        *("matmul", "attention-1pass", "flash-attention-2", "softmax-online", "rmsnorm"),
        *("layernorm-moments", "linear-attention", "linear-attention-causal", "mlp", "swiglu"),
    ],
)
def test_it_says_so_where_nothing_is_better(name: str) -> None:
    found = shipped(name)
    assert found.derivation.found == ()
    assert found.says.startswith(f"nothing better than {name} was found: ")
    assert found.to_dict()["found"] == []


def test_a_column_mean_of_normalised_weights_has_nothing_better(tmp_path: Path) -> None:
    found = found_in(
        tmp_path, "M, P, E", "Q: [P, E], K: [M, E]", "C",
        """QK[m,p] = Q[p,e] * K[m,e]; SN[m,p] = exp(QK[m,p]); SD[p] = SN[m,p];
        A[m,p] = SN[m,p] / SD[p]; C[m] = A[m,p] / P""",
    )  # fmt: skip
    assert found.derivation.found == ()
    assert found.says.endswith("no rewrite takes away a pass over M")


def test_a_column_mean_after_the_maximum_keeps_two_passes(tmp_path: Path) -> None:
    found = found_in(
        tmp_path, "M, P", "S: [P, M]", "C",
        """G[p] = S[p,m] :: max(m); N[p,m] = exp(S[p,m] - G[p]); D[p] = N[p,m];
        A[p,m] = N[p,m] / D[p]; C[m] = A[p,m] / P""",
    )  # fmt: skip
    assert found.derivation.measure.passes[0] == 3
    assert {passes for passes, _ in most(found)} == {2}


def test_norms_are_deferred(tmp_path: Path) -> None:
    rms = found_in(
        tmp_path, "P, D, S", "X: [P, D], GAIN: [D], W: [D, S]", "Y",
        """SS[p] = square(X[p,d]); R[p] = rsqrt(SS[p] / D + EPS);
        N[p,d] = X[p,d] * R[p] * GAIN[d]; Y[p,s] = N[p,d] * W[d,s]""",
    )  # fmt: skip
    assert most(rms) == [(1, True)]
    assert rms.derivation.measure.passes[0] == 2
    cosine = found_in(
        tmp_path, "P, M, E", "Q: [P, E], K: [M, E]", "S",
        """QQ[p] = square(Q[p,e]); KK[m] = square(K[m,e]); QN[p,e] = Q[p,e] / sqrt(QQ[p]);
        KN[m,e] = K[m,e] / sqrt(KK[m]); S[m,p] = QN[p,e] * KN[m,e]""",
    )  # fmt: skip
    assert most(cosine) == [(1, True)]
    last = show_einsum(cosine.derivation.found[0].cascade.einsums[-1])
    assert last == "S[m,p] = SN[m,p] * T2[p] * T[m]"


def test_layer_norm_and_the_product_after_it_are_one_pass(tmp_path: Path) -> None:
    found = found_in(
        tmp_path, "P, D, S", "X: [P, D], GAIN: [D], BIAS: [D], W: [D, S]", "Y",
        """SUM[p] = X[p,d]; MEAN[p] = SUM[p] / D; C[p,d] = X[p,d] - MEAN[p]; SS[p] = square(C[p,d]);
        R[p] = rsqrt(SS[p] / D + EPS); N[p,d] = C[p,d] * R[p] * GAIN[d] + BIAS[d];
        Y[p,s] = N[p,d] * W[d,s]""",
    )  # fmt: skip
    assert (1, False) in most(found)  # the moments cancel: marked, not hidden


SIZES = {"B": 2, "H": 4, "HK": 2, "G": 2, "P": 5, "M": 12, "D": 12, "E": 3, "F": 7, "S": 6}


@pytest.mark.parametrize(
    "name",
    [
        *("attention-3pass", "attention-causal", "attention-gqa", "attention-cosine"),
        *("logsumexp", "softmax", "layernorm", "rabe-staats"),
    ],
)
def test_results_equal_the_textbook_at_other_sizes_and_seeds(name: str) -> None:
    for text in shipped(name).texts:
        again = cascade_from_text(text)
        sizes = with_parts(again, {r: SIZES[r] for r in again.ranks}, tile=4)
        assert execute(bind(again, sizes), 7, resolve=load_cascade).equal


SINK = """QK[m,p] = Q[p,e] * K[m,e]; GX[p] = QK[m,p] :: max(m); GM[p] = max(GX[p], SINK[p]);
SN[m,p] = exp(QK[m,p] - GM[p]); SS[p] = SN[m,p]; SD[p] = SS[p] + exp(SINK[p] - GM[p]);
A[m,p] = SN[m,p] / SD[p]; AV[p,f] = A[m,p] * V[m,f]"""
DIFFERENTIAL = """GX[p] = X[p,m] :: max(m); EX[p,m] = exp(X[p,m] - GX[p]); DX[p] = EX[p,m];
GY[p] = Y[p,m] :: max(m); EY[p,m] = exp(Y[p,m] - GY[p]); DY[p] = EY[p,m];
A[p,m] = EX[p,m] / DX[p] - LAM[p] * EY[p,m] / DY[p]; Z[p,f] = A[p,m] * V[m,f]"""
ROWS_AND_COLUMNS = """GM[b] = X[b,i,j] :: max(i,j); SN[b,i,j] = exp(X[b,i,j] - GM[b]);
SD[b] = SN[b,i,j]; Y[b] = SN[b,i,j] / SD[b] * X[b,i,j]"""
WINDOW = """QK[p,w] = Q[p,e] * K[clamp(p+w-2),e]; GM[p] = QK[p,w] :: max(w);
SN[p,w] = exp(QK[p,w] - GM[p]); SD[p] = SN[p,w]; A[p,w] = SN[p,w] / SD[p];
AV[p,f] = A[p,w] * V[zero(p+w-2),f]"""
MIXTURE = """GM[p] = X[p,m] :: min(m); SN[p,m] = exp(T[p] * (GM[p] - X[p,m])); SD[p] = SN[p,m];
Y[p,f] = SN[p,m] * V[m,f] * W[m] / SD[p]"""
NORMALISED = """QK[m,p] = Q[p,e] * K[m,e]; GM[p] = QK[m,p] :: max(m);
SN[m,p] = exp(QK[m,p] - GM[p]); SD[p] = SN[m,p]; A[m,p] = SN[m,p] / SD[p];
AV[p,f] = A[m,p] * V[m,f]; SS[p] = square(AV[p,f]);
N[p,f] = AV[p,f] * rsqrt(SS[p] / F + EPS); O[p,d] = N[p,f] * W[f,d]"""


@pytest.mark.parametrize(
    ("ranks", "inputs", "output", "lines", "before"),
    [
        ("P, M, E, F", "Q: [P, E], K: [M, E], V: [M, F], SINK: [P]", "AV", SINK, 3),
        ("P, M, F", "X: [P, M], Y: [P, M], V: [M, F], LAM: [P]", "Z", DIFFERENTIAL, 3),
        ("B, I, J", "X: [B, I, J]", "Y", ROWS_AND_COLUMNS, 3),
        ("P, W, M, E, F", "Q: [P, E], K: [M, E], V: [M, F]", "AV", WINDOW, 3),
        ("P, M, F", "X: [P, M], V: [M, F], W: [M], T: [P]", "Y", MIXTURE, 3),
        ("P, M, E, F, D", "Q: [P, E], K: [M, E], V: [M, F], W: [F, D]", "O", NORMALISED, 3),
    ],
    ids=["sink", "differential", "two-ranks", "window", "minimum", "attention-then-norm"],
)
def test_stable_one_pass_forms_of_others(
    tmp_path: Path, ranks: str, inputs: str, output: str, lines: str, before: int
) -> None:
    found = found_in(tmp_path, ranks, inputs, output, lines)
    assert found.derivation.measure.passes[0] == before
    best = found.derivation.found[0]
    assert (best.measure.passes[0], best.stable) == (1, True)
    assert best.max_abs_error < 1e-12


#: What others try, by name: from how many passes to how many, and whether that is stable.
OTHERS = {
    text.split()[1]: text
    for text in Path(__file__)
    .with_name("others.yaml")
    .read_text(encoding="utf-8")
    .split("---\n")[1:]
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_others_try(tmp_path: Path, name: str) -> None:
    file = tmp_path / "case.yaml"
    file.write_text(OTHERS[name])
    found = derive(file)
    if "about: nothing better" in OTHERS[name]:
        assert found.derivation.found == ()
        assert found.says.startswith(f"nothing better than {name} was found: ")
        return
    before, after, stable = EXPECTED.findall(OTHERS[name])[0]
    assert found.derivation.measure.passes[0] == int(before)
    assert (int(after), stable == "stable") in most(found)
    assert all(d.max_abs_error < 1e-12 for d in found.derivation.found)
    for text in found.texts:
        assert cascade_from_text(text).einsums


def test_the_object_that_is_printed() -> None:
    result = CliRunner().invoke(app, ["derive", "attention-3pass", "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["passes"] == 3
    assert all(set(entry) >= KEYS for entry in answer["found"])
    for entry in answer["found"]:
        counted = passes(cascade_from_text(entry["text"]))
        assert counted.by_rank == entry["passes_by_rank"]
        assert max(counted[r] for r in load_cascade("attention-3pass").ranks) == entry["passes"]
        assert entry["stable"] == (not entry["unstable"])
    order = [(entry["passes"], not entry["stable"]) for entry in answer["found"]]
    assert order == sorted(order)
    bare = [entry for entry in answer["found"] if not entry["stable"]]
    assert [entry["passes"] for entry in bare] == [1]
    assert "overflows" in bare[0]["unstable"]


def test_what_people_read() -> None:
    found = CliRunner().invoke(app, ["derive", "rabe-staats"]).stdout
    assert found.startswith("1 better than rabe-staats, the best with 1 pass\n")
    assert "   - keep GM, SD, SNV running along M1\n" in found
    assert cascade_from_text(found[found.index("cascade: ") :]).name == "rabe-staats-derived-1"
    none = CliRunner().invoke(app, ["derive", "matmul"]).stdout
    assert none == "nothing better than matmul was found: it visits every rank once\n"


def test_a_cascade_that_no_sizes_fit_is_refused(tmp_path: Path) -> None:
    """K is read beyond its extent at any sizes: nothing can be confirmed by execution."""
    with pytest.raises(InputError, match="cascade case can be executed at none of the sizes tried"):
        found_in(
            tmp_path, "M, P", "K: [M]", "Y",
            "S[p] = K[m] * K[m] where m <= p; G = K[m+1]; Y = K[m] / G",
        )  # fmt: skip


def test_an_unknown_cascade_is_refused() -> None:
    result = CliRunner().invoke(app, ["derive", "atention-3pass"])
    assert result.exit_code == 2
    assert "unknown cascade" in result.output
