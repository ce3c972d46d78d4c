"""Studies: other methods of a paper in its row, cost models and searches beside ours."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from accelsim.analysis.degradation import loss_increase
from accelsim.cli.app import app
from accelsim.explore.roofline import ARRAY, GPU
from accelsim.explore.system_studies import WIDTHS, study_of
from accelsim.explore.systems import system
from accelsim.load.system import load_system

#: Passes over keys and those of the estimation, of the six methods of The Sparse Frontier.
SIX = {
    "FlexPrefill": (4, 3),
    "Block-Sparse": (2, 1),
    "SnapKV": (3, 2),
    "Ada-SnapKV": (3, 2),
}


@pytest.fixture(scope="module")
def frontier():
    return system("sparse-frontier", ["32K"])


def test_the_six_methods_are_there(frontier) -> None:
    assert [s.cascade for s in frontier.swept] == ["vertical-slash"]
    assert [c.phase for c in frontier.cells] == ["prefill", "decode"]  # and Quest
    found = {v.name: v for v in frontier.variants if v.cells[0].phase == "prefill"}
    assert {n: (v.swept[0].over_k, v.swept[0].estimation) for n, v in found.items()} == SIX


def test_what_is_evicted_is_saved_in_decoding_alone(frontier) -> None:
    for name in ("SnapKV", "Ada-SnapKV"):
        prefill, decode = (v.cells[0] for v in frontier.variants if v.name == name)
        assert prefill.ops > 1
        assert decode.bytes == pytest.approx(6400 / 32768, rel=1e-3)
        assert decode.predicted[0].speedup == pytest.approx(32768 / 6400, rel=0.01)


def test_variants_of_a_study_without_attention_between_tokens() -> None:
    row = system("deconstructing-attention", ["4K"])
    costs = {v.name: v.cells[0] for v in row.variants}
    assert costs["StaticEmbQK"].ops == 1
    assert costs["hybrid"].ops == pytest.approx((1 + row.cells[0].ops) / 2, rel=1e-9)
    given = costs["RndEmbQK, FixedSeqQK"].own
    assert given.product_macs == costs["StaticEmbQK"].own.product_macs / 2
    assert given.bytes_by_tensor["A"] > 8 * costs["StaticEmbQK"].own.bytes / 10


def test_kinetics_beside_ours() -> None:
    found = study_of(load_system("kinetics"), [32768])
    assert found is not None
    every, some = (dict(zip(found.columns, row, strict=True)) for row in found.rows)
    theirs, ours = every["their eFLOPs"], every["by our counts"]
    scores_and_values = 4 * 32768 * 32 * 128
    elements = 2 * 32768 * 8 * 128
    assert theirs == pytest.approx(scores_and_values + 562.5 * 2 * elements, rel=1e-4)
    assert ours == pytest.approx(scores_and_values + 562.5 * elements, rel=0.01)
    assert some["their speedup"] > some["by our counts, x"] > 1
    assert some[f"{ARRAY}, x"] > 1
    assert some[f"{GPU}, x"] > 1


def test_the_law_bounds_the_search_over_widths() -> None:
    found = study_of(load_system("low-bit-undertrained"), [])
    assert found is not None
    rows = {row[0]: row for row in found.rows}
    assert tuple(rows) == WIDTHS
    for bits, (_, loss, allowed, *_) in rows.items():
        assert loss == loss_increase(1e9, 1e11, bits)
        assert allowed == ("yes" if loss <= 0.05 else "no")
    assert "of these 4 are best on the array" in found.says
    assert rows[16][6] == "kernel"
    assert rows[8][6] == "bound"
    joules = [rows[bits][4] for bits in WIDTHS]
    assert joules == sorted(joules)


def test_other_systems_have_no_study_and_open_without() -> None:
    assert study_of(load_system("sqa"), [4096]) is None
    assert system("sqa", ["4K"]).to_dict()["study"] is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kinetics", "Kinetics' cost model beside ours"),
        ("low-bit-undertrained", "Bit-widths of weights under a loss"),
        ("sparse-frontier", "Methods of the paper beside dense attention"),
    ],
)
def test_a_row_opens_to_its_study(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = CliRunner().invoke(app, ["systems", name, "--seq", "4K"])
    assert found.exit_code == 0, found.output
    assert said in found.stdout
