"""The newcomer's variant: a short document is executed, counted and predicted as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.analysis.passes import passes
from accelsim.errors import InputError
from accelsim.explore.roofline import ARRAY, GPU
from accelsim.explore.systems import system
from accelsim.ir.problem import bind
from accelsim.ir.reference import random_inputs, run
from accelsim.load.cascade import cascade_from_text

FILE = Path(accelsim.__file__).resolve().parent.parent / "examples" / "window-sinks-topk.yaml"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="not a checkout")


def reference(Q, K, V, window, sinks, blocks, size):
    """Dense attention under the mask, the mask written out."""
    p, m = np.arange(Q.shape[2])[:, None], np.arange(K.shape[2])[None, :]
    mean = K.reshape(*K.shape[:2], -1, size, K.shape[3]).mean(axis=3)
    scores = Q @ mean.swapaxes(-1, -2)
    scores = np.where(np.arange(scores.shape[3]) * size <= p, scores, -np.inf)
    best = np.argsort(-scores, axis=-1, kind="stable")[..., :blocks]
    chosen = np.zeros(scores.shape, bool)
    np.put_along_axis(chosen, best, True, axis=-1)
    keep = (m <= p) & ((p < m + window) | (m < sinks) | chosen.repeat(size, axis=-1))
    logits = np.where(keep, Q @ K.swapaxes(-1, -2), -np.inf)
    weight = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True) @ V


def test_it_is_short() -> None:
    assert len(FILE.read_text("utf-8").splitlines()) < 30


@pytest.mark.parametrize("seed", range(3))
def test_it_computes_what_it_says(seed: int) -> None:
    """At small sizes, with a window of 5 keys instead of 4,096 and 2 sinks instead of 4."""
    text = FILE.read_text("utf-8").replace("m + 4096", "m + 5").replace("m < 4 ", "m < 2 ")
    sizes = {"B": 2, "H": 2, "P": 24, "M": 24, "M0": 4, "E": 6, "F": 5, "R": 2}
    problem = bind(cascade_from_text(text), sizes)
    inputs = random_inputs(problem, seed)
    found = run(problem, inputs)["AV"]
    true = reference(inputs["Q"], inputs["K"], inputs["V"], 5, 2, 2, 4)
    assert np.abs(found - true).max() < 1e-10


def test_the_selection_is_a_barrier_and_the_window_is_none() -> None:
    text = FILE.read_text("utf-8")
    assert passes(cascade_from_text(text))["M"] == 2
    lines = [
        line for line in text.splitlines() if not line.startswith(("  - KC", "  - S[", "  - I[b"))
    ]
    lines = [line for line in lines if not line.startswith(("  - KEEP", "density"))]
    without = "\n".join(lines).replace(" or KEEP[b,h,p,j]", "").replace(", R]", "]")
    assert passes(cascade_from_text(without))["M"] == 1


def test_it_gets_everything_at_once() -> None:
    row = system(FILE, ["32K"], shape="R=16,M0=64")
    (swept,), (cell,) = row.swept, row.cells
    assert (swept.over_k, swept.over_v) == (2, 1)
    assert "P*F" in swept.live
    keys = cell.own.bytes_by_tensor["K"]
    assert keys == pytest.approx(cell.dense.bytes_by_tensor["K"] * 4.15625 / 16)
    assert cell.own.product_macs < cell.dense.product_macs
    assert set(cell.speedup) == {ARRAY, GPU}
    assert all(speedup > 1 for speedup in cell.speedup.values())


# -- other variants, as a newcomer would write them -------------------------------------------

ONE_PASS = """  - LM[b,h,j,p]     = QK[b,h,j,m0,p] :: max(m0)
  - RM[b,h,0,p]     = -inf
  - RM[b,h,j+1,p]   = max(RM[b,h,j,p], LM[b,h,j,p])
  - W[b,h,j,m0,p]   = exp(QK[b,h,j,m0,p] - RM[b,h,j+1,p])
  - WS[b,h,j,p]     = W[b,h,j,m0,p]
  - WV[b,h,j,p,f]   = W[b,h,j,m0,p] * V[b,h,j,m0,f]
  - C[b,h,j,p]      = exp(RM[b,h,j,p] - RM[b,h,j+1,p])
  - D[b,h,0,p]      = 0
  - D[b,h,j+1,p]    = D[b,h,j,p] * C[b,h,j,p] + WS[b,h,j,p]
  - NV[b,h,0,p,f]   = 0
  - NV[b,h,j+1,p,f] = NV[b,h,j,p,f] * C[b,h,j,p] + WV[b,h,j,p,f]
  - AV[b,h,p,f]     = NV[b,h,J,p,f] / D[b,h,J,p]
"""
HEAD = """cascade: mine
ranks: [B, H, P, M, E, F]
split: {M: [J, M0]}
inputs: {Q: [B, H, P, E], K: [B, H, M, E], V: [B, H, M, F]}
output: AV
"""
WINDOW = (
    HEAD
    + """einsums:
  - QK[b,h,j,m0,p] = Q[b,h,p,e] * K[b,h,j,m0,e]
    where m <= p + M - P and (p + M - P < m + 1024 or m < 16)
"""
    + ONE_PASS
)
THREE_PASSES = """cascade: mine
ranks: [B, H, HK, G, P, M, E, F]
inputs: {Q: [B, H, P, E], K: [B, HK, M, E], V: [B, HK, M, F]}
output: AV
einsums:
  - QK[b,h,m,p] = Q[b,h,p,e] * K[b,h // G,m,e] where m <= p and p < m + 2048
  - GM[b,h,p]   = QK[b,h,m,p] :: max(m)
  - SN[b,h,m,p] = exp(QK[b,h,m,p] - GM[b,h,p])
  - SD[b,h,p]   = SN[b,h,m,p]
  - A[b,h,m,p]  = SN[b,h,m,p] / SD[b,h,p]
  - AV[b,h,p,f] = A[b,h,m,p] * V[b,h // G,m,f]
"""
DECODING = FILE.with_name("decode-top-tokens.yaml")
LINEAR = """cascade: mine
ranks: [B, H, M, E, F]
inputs: {Q: [B, H, M, E], K: [B, H, M, E], V: [B, H, M, F]}
output: AV
einsums:
  - FK[b,h,m,e]    = exp(K[b,h,m,e])
  - S[b,h,0,e,f]   = 0
  - S[b,h,m+1,e,f] = S[b,h,m,e,f] + FK[b,h,m,e] * V[b,h,m,f]
  - AV[b,h,m,f]    = Q[b,h,m,e] * S[b,h,m+1,e,f]
"""


def written(tmp_path: Path, text: str | Path) -> Path:
    """The file of a document."""
    if isinstance(text, Path):
        return text
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    return file


def variant(tmp_path: Path, text: str | Path, shape: str = "", length: str = "32K"):
    """Its one cell, and its predictions by machine."""
    file = written(tmp_path, text)
    (cell,) = system(file, [length], shape=shape or None).cells
    return cell, {one.machine: one for one in cell.predicted}


def test_the_newcomers_variant_is_predicted_stage_by_stage() -> None:
    (cell,) = system(FILE, ["32K"], shape="R=16,M0=64").cells
    for one in cell.predicted:
        assert [s.name for s in one.own] == ["estimation", "selection", "attention"]
        assert one.speedup > 2
    on_gpu = cell.predicted[1]
    assert on_gpu.own[-1].where["kernel"] == ("attention-1pass-wgmma",)
    assert on_gpu.why == "the described kernel reads K at 16 bits"


@pytest.mark.parametrize("bits", ["int4-g128", ""])
def test_a_window_with_sinks_decodes_and_prefills(tmp_path: Path, bits: str) -> None:
    text = WINDOW
    if bits:
        text = text.replace("output: AV\n", f"output: AV\nformats: {{K: {bits}, V: {bits}}}\n")
    prefill, by = variant(tmp_path, text, "M0=64")
    assert prefill.phase == "prefill"
    kept = by[GPU].own[0].seconds / by[GPU].dense[0].seconds
    assert 2 * 1040 / 32768 < kept < 3 * 1040 / 32768
    assert by[GPU].why == ("the described kernel reads K and V at 16 bits" if bits else "")
    decode, by = variant(tmp_path, text, "M0=64,P=1")
    assert decode.phase == "decode"
    assert decode.own.product_macs == 2 * 32 * 1040 * 128
    assert by[GPU].own[0].where["kernel"] == ("decode-split",)
    assert by[GPU].why == ""
    assert by[GPU].own[0].bytes < 2 * 2 * 32 * 1040 * 128 * (0.3 if bits else 1.1)


def test_three_passes_and_shared_heads(tmp_path: Path) -> None:
    cell, by = variant(tmp_path, THREE_PASSES)
    assert cell.own.bytes_by_tensor["K"] == cell.dense.bytes_by_tensor["K"] / 4
    assert by[GPU].own[0].where["kernel"] == ("attention-1pass-wgmma",)


def test_decoding_over_chosen_tokens(tmp_path: Path) -> None:
    """G follows from the model; the keys are read whole by the estimation, at 4 bits."""
    cell, by = variant(tmp_path, DECODING, "R=1024")
    assert cell.phase == "decode"
    keys = 8 * 32768 * 128 * 4.15625 / 8
    assert cell.own.bytes_by_tensor["K"] == pytest.approx(keys)
    assert cell.dense.bytes_by_tensor["K"] == 8 * 32768 * 128 * 2
    first, _, last = by[GPU].own
    assert first.bytes == pytest.approx(keys, rel=0.05)
    assert last.where["kernel"] == ("decode-split",)


@pytest.mark.parametrize(("text", "shape"), [(DECODING, "R=64"), (THREE_PASSES, "")])
def test_models_without_shared_heads_have_as_many_keys(tmp_path: Path, text, shape) -> None:
    (cell,) = system(written(tmp_path, text), ["4K"], shape=shape or None, model="BERT").cells
    assert cell.dense.bytes_by_tensor["K"] == 64 * 12 * 4096 * 64 * 2


def test_what_no_kernel_fits_is_a_bound(tmp_path: Path) -> None:
    cell, by = variant(tmp_path, LINEAR)
    assert cell.phase == "prefill"
    assert by[GPU].how == "bound"
    assert by[GPU].why == "no described kernel has other work than two products around a softmax"
    assert by[ARRAY].how == "array"


def test_a_cascade_is_no_reference_of_its_own() -> None:
    with pytest.raises(InputError, match="mine equals itself"):
        cascade_from_text(LINEAR.replace("output: AV\n", "output: AV\nequals: mine\n"))
