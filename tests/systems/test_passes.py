"""Passes over the keys by what a system does, each by name: they come from the analysis alone.

No file holds a number of passes; each is counted on the dependence graph, and
the same text with another kind of choice has another count.
"""

from __future__ import annotations

import json
from collections.abc import Collection

import pytest
from typer.testing import CliRunner

from accelsim.analysis.passes import passes
from accelsim.cli.app import app
from accelsim.explore.sweeping import running, swept
from accelsim.explore.systems import system
from accelsim.ir.cascade import Cascade, Tensor
from accelsim.load.cascade import cascade_from_text, load_cascade
from accelsim.load.system import load_system
from tests.systems.test_variant import HEAD, ONE_PASS

LINEAR = {
    "Lightning Attention-2": "lightning-attention-2",
    "Lightning Attention, TransNormerLLM": "transnormer",
    "Hedgehog": "hedgehog",
    "MALA": "mala",
    "InLine": "inline-attention",
    "Deconstructing Attention, approximate": "approximate-attention",
    "Deconstructing Attention, non-approximate": "self-score-attention",
}
#: Masks that are known beforehand.
STATIC = {
    "NATTEN, 1 dimension": ("neighbourhood-1d", "M"),
    "NATTEN, 2 dimensions": ("neighbourhood-2d", "Y"),
    "NATTEN, 3 dimensions": ("neighbourhood-3d", "Z"),
    "PAROAttention": ("paro-attention", "M"),
    "S2-Attention": ("strided-blocks", "M"),
    "DuoAttention, streaming heads": ("sink-window", "M"),
    "LongLoRA": ("shifted-chunks", "M"),
    "SinkLoRA": ("shifted-chunks-sinks", "M"),
}
#: Selections over keys: passes over K and how many of them the estimation adds.
TOPK = {
    "BiFormer": ("biformer", 2, 1),
    "DHSA": ("dhsa", 2, 1),
    "Routing Transformer": ("routing-transformer", 4, 3),
    "Dynamic Mask Attention": ("dynamic-mask", 1, 1),
    "DELTA": ("delta", 2, 1),
    "Kinetics, block top-k": ("kinetics", 1, 1),
}
#: Column sums of normalised weights: passes by rank, where fused attention makes one over each.
COLUMNS = {
    "SpAtten": ("spatten", {"M": 4}),
    "ZipVL": ("zipvl", {"M": 5}),
    "ACT": ("act", {"M": 3, "P": 2}),
    "ZipCache": ("zipcache", {"M": 3}),
    "SnapKV": ("snapkv", {"M": 3}),
    "Ada-SnapKV": ("ada-snapkv", {"M": 3}),
}


def given(cascade: Cascade, names: Collection[str]) -> Cascade:
    """The cascade with the results of some Einsums as inputs, and what they alone needed gone."""
    kept = tuple(e for e in cascade.einsums if e.name not in names)
    needed = set(cascade.outputs)
    for e in reversed(kept):
        if e.output.tensor in needed:
            needed |= {r.tensor for r in e.reads}
    kept = tuple(e for e in kept if e.output.tensor in needed)
    read = {r.tensor for e in kept for r in e.reads}
    inputs = [t for t in cascade.inputs if t.name in read]
    written = {e.output.tensor for e in kept}
    made = dict.fromkeys(e.output.tensor for e in cascade.einsums if e.name in names)
    inputs += [Tensor(n, cascade.tensors[n]) for n in made if n in read - written]
    return Cascade(
        cascade.name, cascade.ranks, tuple(inputs), kept, cascade.outputs, cascade.splits,
        cascade.constants, indexes=cascade.indexes,
    )  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_linear_attention_makes_one_pass(name: str) -> None:
    assert passes(load_cascade(LINEAR[name]))["M"] == 1


@pytest.mark.parametrize("name", STATIC)
def test_a_static_mask_adds_none(name: str) -> None:
    cascade, rank = STATIC[name]
    assert passes(running(load_cascade(cascade)))[rank] == 1


@pytest.mark.parametrize("name", TOPK)
def test_a_selection_adds_its_barrier(name: str) -> None:
    named, over_k, estimation = TOPK[name]
    found = [swept(part) for part in load_system(named).phases[0].parts if part.estimation]
    assert (over_k, estimation) in [(s.over_k, s.estimation) for s in found]
    assert max(s.over_k for s in found) == over_k


@pytest.mark.parametrize("name", COLUMNS)
def test_column_sums_of_normalised_weights_add_theirs(name: str) -> None:
    cascade, every = COLUMNS[name]
    found = passes(running(load_cascade(cascade)))
    assert {rank: found[rank] for rank in every} == every
    dense = passes(load_cascade("attention-1pass"))
    assert {rank: dense[rank] for rank in every} == dict.fromkeys(every, 1)


def test_without_its_own_selection_spatten_is_attention_in_three_passes() -> None:
    text = running(load_cascade("spatten"))
    assert passes(given(text, ["I"]))["M"] == 3


def test_sales_threshold_adds_none() -> None:
    """Its statistics cost a pass; once they are known, scores against them cost none."""
    text = running(load_cascade("sale"))
    assert passes(text)["M"] == 2
    known = given(text, ["LIMIT", "QC", "K4", "DK"])
    assert any(e.name == "KEEP" for e in known.einsums)
    assert passes(known)["M"] == 1


def test_the_same_text_with_a_threshold_and_with_a_top_k() -> None:
    head = HEAD.replace("V: [B, H, M, F]}", "V: [B, H, M, F], LIMIT: [H]}")
    scores = """einsums:
  - KC[b,h,j,e]    = K[b,h,j,m0,e] / M0
  - S[b,h,p,j]     = Q[b,h,p,e] * KC[b,h,j,e]
"""
    attend = "  - QK[b,h,j,m0,p] = Q[b,h,p,e] * K[b,h,j,m0,e] where KEEP[b,h,p,j]\n"
    threshold = "  - KEEP[b,h,p,j]  = less(LIMIT[h], S[b,h,p,j])\n"
    best = "  - I[b,h,p,r]     = S[b,h,p,j] :: topk(j -> r)\n  - KEEP[b,h,p,I[b,h,p,r]] = 1\n"
    one = cascade_from_text(head + scores + threshold + attend + ONE_PASS)
    assert passes(one)["M"] == 1
    ranks = HEAD.replace("E, F]\nsplit", "E, F, R]\nsplit")
    two = cascade_from_text(ranks + scores + best + attend + ONE_PASS)
    assert passes(two)["M"] == 2
    mean = "  - LEVEL[b,h,p]   = S[b,h,p,j] :: max(j)\n"
    relative = threshold.replace("LIMIT[h]", "LEVEL[b,h,p]")
    text = HEAD + scores + mean + relative + attend + ONE_PASS
    assert passes(cascade_from_text(text))["M"] == 2


# -- rounds that wait for each other ----------------------------------------------------------


def test_hips_rounds_are_a_pass_each_at_every_length() -> None:
    row = system("hip", ["4K", "32K", "128K"])
    assert row.passes_at == ((4096, 4), (32768, 7), (131072, 9))
    assert system("sale", ["4K"]).passes_at == ()


def test_the_command_writes_recurrences_out() -> None:
    found = CliRunner().invoke(app, ["passes", "hip", "--steps", "C=6", "--rank", "M1", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["passes"] == {"M1": 7}
    wrong = CliRunner().invoke(app, ["passes", "hip", "--steps", "C=99"])
    assert wrong.exit_code == 2
    assert "99 steps of C" in wrong.stderr
    assert "1 to 64 steps" in wrong.stderr
    none = CliRunner().invoke(app, ["passes", "attention-3pass", "--steps", "M=2"])
    assert "nothing recurs along M" in none.stderr
