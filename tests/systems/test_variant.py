"""The newcomer's variant: a short document is executed, counted and predicted as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.analysis.passes import passes
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
