"""What published attention systems compute, in NumPy: the references of their cascades.

As in ``ir.textbook``: whole tensors and no regard for memory.  A sparse
system is dense attention with its mask, written out from the positions; a
linear one is its definition, with the weights of all pairs of positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]


def _softmax(X: Array) -> Array:
    """Softmax over the last rank; 0 where nothing is left to weigh."""
    top = np.max(X, axis=-1, keepdims=True)
    weight = np.exp(X - np.where(np.isfinite(top), top, 0.0))
    result: Array = weight / weight.sum(axis=-1, keepdims=True)
    return result


def _causal(P: int, M: int) -> Mask:
    """Which keys m <= p a query sees; [P,M]."""
    return np.arange(M)[None, :] <= np.arange(P)[:, None]


def masked(Q: Array, K: Array, V: Array, keep: Mask) -> Array:
    """Attention over the keys that ``keep`` allows; ``keep`` is broadcast to [B,H,P,M].

    >>> one = np.ones((1, 1, 2, 1))
    >>> masked(one, one, np.array([[[[1.0], [3.0]]]]), np.tri(2, dtype=bool))[0, 0, :, 0].tolist()
    [1.0, 2.0]
    """
    return _softmax(np.where(keep, Q @ K.swapaxes(-1, -2), -np.inf)) @ V


def attention_gqa_causal(Q: Array, K: Array, V: Array) -> Array:
    """Grouped-query attention over the keys m <= p (Ainslie et al., GQA, EMNLP 2023)."""
    group = Q.shape[1] // K.shape[1]
    keys, values = np.repeat(K, group, axis=1), np.repeat(V, group, axis=1)
    return masked(Q, keys, values, _causal(Q.shape[2], K.shape[2]))


def sink_window(Q: Array, K: Array, V: Array, W: int, N: int) -> Array:
    """Causal attention over the first N keys and the last W (StreamingLLM, ICLR 2024).

    H query heads share HK key heads.
    """
    group = Q.shape[1] // K.shape[1]
    keys, values = np.repeat(K, group, axis=1), np.repeat(V, group, axis=1)
    p, m = np.arange(Q.shape[2])[:, None], np.arange(K.shape[2])[None, :]
    return masked(Q, keys, values, (m <= p) & ((m < N) | (m > p - W)))


def shifted_chunks(Q: Array, K: Array, V: Array, C: int) -> Array:
    """S2-Attn: the second half of the heads is rolled back by C/2, cut in chunks, rolled forth.

    LongLoRA's released code (Chen et al., ICLR 2024); causal in rolled order.
    """
    length, heads = Q.shape[2], Q.shape[1]
    result = np.empty((*Q.shape[:3], V.shape[3]))
    for h in range(heads):
        by = C // 2 if h >= heads / 2 else 0
        q, k, v = (np.roll(x[:, h], -by, axis=1) for x in (Q, K, V))
        rows = []
        for at in range(0, length, C):
            cq, ck, cv = (x[:, None, at : at + C] for x in (q, k, v))
            rows.append(masked(cq, ck, cv, np.tri(C, dtype=np.bool_))[:, 0])
        result[:, h] = np.roll(np.concatenate(rows, axis=1), by, axis=1)
    return result


def shifted_chunks_sinks(Q: Array, K: Array, V: Array, C: int, N: int) -> Array:
    """``shifted_chunks`` as one mask, with the first N positions seen by all and seeing all."""
    length, heads = Q.shape[2], Q.shape[1]
    at = np.arange(length)
    keep = np.zeros((heads, length, length), np.bool_)
    for h in range(heads):
        rolled = (at - (C // 2 if h >= heads / 2 else 0)) % length
        same = rolled[:, None] // C == rolled[None, :] // C
        keep[h] = same & (rolled[None, :] <= rolled[:, None])
    sink = ((at[None, :] < N) | (at[:, None] < N)) & _causal(length, length)
    return masked(Q, K, V, keep | sink)


def strided_blocks(Q: Array, K: Array, V: Array, P0: int, LB: int, VS: int) -> Array:
    """S2-Attention (DKernel): LB local blocks, and those whose number plus head is 0 modulo VS."""
    p, m = np.arange(Q.shape[2])[:, None], np.arange(K.shape[2])[None, :]
    i, j, h = p // P0, m // P0, np.arange(Q.shape[1])[:, None, None]
    return masked(Q, K, V, (m <= p) & ((i - j < LB) | ((j + h) % VS == 0)))


def paro_attention(Q: Array, K: Array, V: Array, KEEP: Array, P0: int, M0: int) -> Array:
    """Attention over a bitmap of blocks, all of it at 8 bits: the loops of a tiled kernel.

    Q, K, V have a scale a block of positions; the weights of a tile, under
    the running maximum, a scale a tile.
    """
    batch, heads, length, _ = Q.shape
    result = np.zeros((batch, heads, length, V.shape[3]))
    for b, h, i in np.ndindex(batch, heads, length // P0):
        top, total, sums = np.full(P0, -np.inf), np.zeros(P0), np.zeros((P0, V.shape[3]))
        q, sq = _int8(Q[b, h, i * P0 : (i + 1) * P0])
        for j in range(K.shape[2] // M0):
            if KEEP[h, i, j] == 0:
                continue
            k, sk = _int8(K[b, h, j * M0 : (j + 1) * M0])
            v, sv = _int8(V[b, h, j * M0 : (j + 1) * M0])
            scores = q @ k.T * (sq * sk)
            new = np.maximum(top, scores.max(axis=1))
            weight = np.exp(scores - new[:, None])
            w, sw = _int8(weight)
            forget = np.exp(top - new)
            total = total * forget + weight.sum(axis=1)
            sums = sums * forget[:, None] + w @ v * (sw * sv)
            top = new
        with np.errstate(invalid="ignore"):
            result[b, h, i * P0 : (i + 1) * P0] = sums / total[:, None]
    return result


def _int8(x: Array) -> tuple[Array, float]:
    """Symmetric 8-bit integers and their scale."""
    scale = float(np.abs(x).max()) / 127
    return np.rint(x / scale), scale


def _neighbours(length: int, window: int, stride: int) -> Mask:
    """NATTEN's window in one dimension: [query, key], moved at borders, never shrunk."""
    keep = np.zeros((length, length), np.bool_)
    for q in range(length):
        leader = q // stride * stride + stride // 2
        start = min(max(leader - window // 2, 0), length - window)
        keep[q, start : start + window] = True
    return keep


def neighbourhood_1d(Q: Array, K: Array, V: Array, W: int, S: int) -> Array:
    """Neighbourhood attention with window W and stride S (Hassani et al., GNA, 2025)."""
    return masked(Q, K, V, _neighbours(K.shape[2], W, S))


def _flat(X: Array) -> Array:
    """Positions in one rank: [B,H,Y,X,E] to [B,H,Y*X,E]."""
    return X.reshape(*X.shape[:2], -1, X.shape[-1])


def neighbourhood_2d(
    Q: Array, K: Array, V: Array, WY: int, WX: int, SY: int, SX: int
) -> Array:  # fmt: skip
    """Neighbourhood attention in two dimensions: in the window along both."""
    y, x = K.shape[2:4]
    keep = np.kron(_neighbours(y, WY, SY), _neighbours(x, WX, SX))
    return masked(_flat(Q), _flat(K), _flat(V), keep).reshape(*Q.shape[:-1], V.shape[-1])


def neighbourhood_3d(
    Q: Array, K: Array, V: Array, WZ: int, WY: int, WX: int, SZ: int, SY: int, SX: int
) -> Array:
    """Neighbourhood attention in three dimensions: in the window along all."""
    z, y, x = K.shape[2:5]
    keep = np.kron(_neighbours(z, WZ, SZ), np.kron(_neighbours(y, WY, SY), _neighbours(x, WX, SX)))
    return masked(_flat(Q), _flat(K), _flat(V), keep).reshape(*Q.shape[:-1], V.shape[-1])


def compensated_attention(
    Q: Array, K: Array, V: Array, KC: Array, VC: Array, R: int
) -> Array:  # fmt: skip
    """RazorAttention: attention over the kept keys and R copies of the one for the dropped."""
    copies = [np.repeat(x[:, :, None], R, axis=2) for x in (KC, VC)]
    keys, values = (np.concatenate([x, c], axis=2) for x, c in zip((K, V), copies, strict=True))
    return masked(Q, keys, values, np.ones(1, np.bool_))


def delta_keys(Q: Array, K: Array, V: Array, W: int, THETA: float) -> Array:
    """Causal attention over keys that move only by changes above THETA, exact within a window.

    A labelled hypothesis about DeltaLLM, of which only the abstract is known.
    """
    held = np.zeros_like(K)
    last = np.zeros_like(K[:, :, 0])
    for m in range(K.shape[2]):
        last = np.where(np.abs(K[:, :, m] - last) > THETA, K[:, :, m], last)
        held[:, :, m] = last
    age = np.arange(Q.shape[2])[:, None] - np.arange(K.shape[2])[None, :]
    scores = np.where(age < W, Q @ K.swapaxes(-1, -2), Q @ held.swapaxes(-1, -2))
    return _softmax(np.where(age >= 0, scores, -np.inf)) @ V


def zero_tuning(Q: Array, K: Array, V: Array, GAMMA: Array) -> Array:
    """Causal attention whose weight of key 0 is multiplied by gamma, the row normalised again.

    ZeroTuning (arXiv 2505.11739): A'[0] = gamma A[0] / D.  gamma is GAMMA
    squared, so that it is positive.
    """
    keep = _causal(Q.shape[2], K.shape[2])
    weight = _softmax(np.where(keep, Q @ K.swapaxes(-1, -2), -np.inf))
    weight[..., 0] *= np.square(GAMMA[:, 0])[:, None]
    result: Array = (weight / weight.sum(axis=-1, keepdims=True)) @ V
    return result


def act(Q: Array, K: Array, V: Array, SHARE: float, BETA: float) -> Array:
    """ACT (Yu et al., ICML 2024): sinks but the first scaled by BETA, their mass to the others.

    A sink is a key whose mean weight, over the queries that see it, is above SHARE.
    """
    keep = _causal(Q.shape[2], K.shape[2])
    weight = _softmax(np.where(keep, Q @ K.swapaxes(-1, -2), -np.inf))
    sink = weight.sum(axis=2, keepdims=True) > SHARE * keep.sum(axis=0)
    sink[..., 0] = False
    freed = (1 - BETA) * (weight * sink).sum(axis=-1, keepdims=True)
    rest = (weight * ~sink).sum(axis=-1, keepdims=True)
    result: Array = np.where(sink, BETA * weight, weight * (1 + freed / rest)) @ V
    return result


def precomputed_attention(A: Array, V: Array) -> Array:
    """Given weights A [H,P,M] of the keys m <= p times V."""
    result: Array = np.where(_causal(*A.shape[1:]), A, 0.0) @ V
    return result


def decoder_weights(
    X: Array, Y: Array, Z: Array, T: Array,
    WQ: Array, WK: Array, WV: Array, WO: Array, WG: Array, WU: Array, WD: Array,
) -> tuple[Array, ...]:  # fmt: skip
    """The products with the weights of a gated decoder layer, each with its own input."""
    return X @ WQ, X @ WK, X @ WV, Y @ WO, Z @ WG, Z @ WU, T @ WD


SPARSE: dict[str, Callable[..., Any]] = {
    f.__name__.replace("_", "-"): f
    for f in (
        attention_gqa_causal, sink_window, shifted_chunks, shifted_chunks_sinks, strided_blocks,
        paro_attention, neighbourhood_1d, neighbourhood_2d, neighbourhood_3d,
        compensated_attention, delta_keys, zero_tuning, act, precomputed_attention,
        decoder_weights,
    )
}  # fmt: skip
