"""``derive``: the better forms that the literature found by hand, found by algebra."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

from accelsim.cli.app import app
from accelsim.explore.derive import derive
from accelsim.ir.problem import bind, with_parts
from accelsim.ir.reference import check
from accelsim.load.cascade import cascade_from_text, load_cascade

#: The cascade, its passes, and the passes of the best stable form that is to be found.
FOUND = [
    ("attention-3pass", 3, 1),
    ("attention-causal", 3, 1),
    ("attention-gqa", 3, 1),
    ("attention-cosine", 3, 1),
    ("logsumexp", 2, 1),
    ("softmax", 3, 2),
]

SIZES = {"B": 2, "H": 4, "HK": 2, "G": 2, "P": 5, "M": 12, "D": 12, "E": 3, "F": 7, "S": 6}


@pytest.mark.parametrize(("cascade", "before", "after"), FOUND)
def test_the_stable_form_is_found(cascade: str, before: int, after: int) -> None:
    result = derive(cascade).to_dict()
    assert result["passes"] == before
    stable = [f for f in result["found"] if f["stable"]]
    assert stable[0]["passes"] == after
    assert all(f["max_abs_error"] <= 1e-12 for f in stable)


def test_attention_has_its_two_pass_form_too() -> None:
    found = derive("attention-3pass").to_dict()["found"]
    assert {f["passes"] for f in found if f["stable"]} >= {1, 2}


def test_exp_without_the_maximum_is_found_and_marked() -> None:
    unstable = [f for f in derive("attention-3pass").to_dict()["found"] if not f["stable"]]
    assert unstable
    assert any("max" not in f["text"].partition("einsums:")[2] for f in unstable)
    assert all(f["unstable"] for f in unstable)


def test_layernorm_has_its_moment_form() -> None:
    found = derive("layernorm").to_dict()
    assert (found["passes"], found["found"][0]["passes"]) == (3, 2)


@pytest.mark.parametrize("cascade", ["matmul", "attention-1pass", "flash-attention-2"])
def test_it_says_so_when_nothing_is_better(cascade: str) -> None:
    result = derive(cascade)
    assert result.to_dict()["found"] == []
    assert result.says.startswith(f"nothing better than {cascade} was found")


def test_a_column_mean_of_normalised_weights_waits() -> None:
    text = """
cascade: column-mean
ranks: [P, M]
inputs: {S: [P, M]}
output: C
einsums:
  - G[p]   = S[p,m] :: max(m)
  - N[p,m] = exp(S[p,m] - G[p])
  - D[p]   = N[p,m]
  - A[p,m] = N[p,m] / D[p]
  - C[m]   = A[p,m] / P
"""
    cascade = cascade_from_text(text)
    from accelsim.analysis.passes import most_passes
    from accelsim.analysis.rewrite.derive import derive as rewrite

    assert most_passes(cascade) == 3
    assert all(most_passes(d.cascade) >= 2 for d in rewrite(cascade).found)


@pytest.mark.parametrize("cascade", [name for name, _, _ in FOUND] + ["layernorm", "rmsnorm"])
def test_every_result_equals_the_textbook_where_it_was_not_looked_for(cascade: str) -> None:
    """Texts are loaded anew and executed at sizes and seeds of our own."""
    original = load_cascade(cascade)
    for found in derive(cascade).to_dict()["found"]:
        again = cascade_from_text(found["text"])
        sizes = {r: SIZES[r] for r in again.ranks}
        problem = bind(again, with_parts(again, sizes, tile=4))
        result = check(problem, 7, resolve=load_cascade)
        assert result.equal, (original.name, found["rewrites"], result.max_abs_error)
        assert math.isfinite(result.max_abs_error)


def test_the_command() -> None:
    found = CliRunner().invoke(app, ["derive", "logsumexp", "--json"])
    assert found.exit_code == 0, found.output
    first = json.loads(found.stdout)["found"][0]
    assert {"passes", "rewrites", "stable", "max_abs_error", "text"} <= set(first)
    shown = CliRunner().invoke(app, ["derive", "logsumexp"])
    assert shown.exit_code == 0
    assert "logsumexp" in shown.stdout
