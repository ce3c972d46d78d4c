"""What published linear attentions compute, in NumPy, by their definition over all pairs.

As in ``ir.textbook``; the weights of every pair of positions are written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]


def _silu(x: Array) -> Array:
    """``x sigmoid(x)``."""
    result: Array = x / (1 + np.exp(-x))
    return result


def _lower(P: int) -> Array:
    """1 where m <= p, else 0; [P,P]."""
    return np.tri(P)


def transnormer(
    X: Array, WQ: Array, WK: Array, WV: Array, GATE: Array, WG: Array, WU: Array, WO: Array,
    EPS: float,
) -> Array:  # fmt: skip
    """TransNormerLLM's token mixer: silu(q), silu(k), silu(v), decay, norm, gate, projection.

    Lambda of a head is sigmoid(GATE); SRMSNorm over all heads' outputs.
    """
    q, k, v = (_silu(np.einsum("bmd,dhe->bhme", X, w)) for w in (WQ, WK, WV))
    at = np.arange(X.shape[1])
    age = at[:, None] - at[None, :]
    decay = (1 / (1 + np.exp(-GATE)))[:, None, None] ** np.maximum(age, 0) * (age >= 0)
    out = (q @ k.swapaxes(-1, -2) * decay) @ v
    out = out / np.sqrt(np.square(out).mean(axis=(1, 3), keepdims=True) + EPS)
    gate = 1 / (1 + np.exp(-np.einsum("bmd,dr,rhf->bhmf", X, WG, WU)))
    result: Array = np.einsum("bhmf,hfd->bmd", out * gate, WO)
    return result


def hedgehog(Q: Array, K: Array, V: Array, WQ: Array, WK: Array, FLOOR: float) -> Array:
    """Causal linear attention with the feature map [softmax(xW), softmax(-xW)].

    Zhang et al., The Hedgehog and the Porcupine, ICLR 2024, in the form of its released code.
    """

    def features(x: Array, w: Array) -> Array:
        y = x @ w
        both = [np.exp(z - z.max(axis=-1, keepdims=True)) for z in (y, -y)]
        return np.concatenate(
            [np.maximum(z / z.sum(axis=-1, keepdims=True), FLOOR) for z in both], axis=-1
        )

    weight = features(Q, WQ) @ features(K, WK).swapaxes(-1, -2) * _lower(Q.shape[2])
    result: Array = (weight / weight.sum(axis=-1, keepdims=True)) @ V
    return result


def _elu1(x: Array) -> Array:
    """``elu(x) + 1``."""
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def _rotated(x: Array, cos: Array, sin: Array) -> Array:
    """Rotary embedding: pairs (x[2r], x[2r+1]) turned by an angle for each position."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return np.concatenate([even * cos - odd * sin, even * sin + odd * cos], axis=-1)


def mala(
    Q: Array, K: Array, V: Array, COSP: Array, SINP: Array, COSM: Array, SINM: Array, EPS: float
) -> Array:
    """Magnitude-aware linear attention: weights ``beta phi(q).phi(k) - gamma`` (Fan et al., 2025).

    With z = phi(q) . mean phi(k) / sqrt(E): beta = 1 + 1 / (z + EPS), gamma =
    z; both over M.  The pair products are of rotated features, z of plain ones.
    """
    keys, width = K.shape[2], Q.shape[3]
    pq, pk = _elu1(Q), _elu1(K)
    z = (pq @ pk.mean(axis=2, keepdims=True).swapaxes(-1, -2)) / np.sqrt(width)
    pairs = _rotated(pq, COSP, SINP) @ _rotated(pk, COSM, SINM).swapaxes(-1, -2) / np.sqrt(width)
    result: Array = ((1 + 1 / (z + EPS)) * pairs - z) / keys @ V
    return result


def inline_attention(Q: Array, K: Array, V: Array) -> Array:
    """InLine: weights q.k less their mean plus 1/M, scaled (Han et al., NeurIPS 2024)."""
    keys = K.shape[2]
    scores = Q @ K.swapaxes(-1, -2) / (keys * np.sqrt(Q.shape[3]))
    result: Array = (scores - scores.mean(axis=-1, keepdims=True) + 1 / keys) @ V
    return result


def _convolved(V: Array, kernels: Array) -> Array:
    """Depth-wise: V [B,H,Y,X,F] with kernels [B,H,F,U,T], zeros beyond the border."""
    u, t = kernels.shape[3:]
    padded = np.pad(V, ((0, 0), (0, 0), (u // 2, u // 2), (t // 2, t // 2), (0, 0)))
    found = np.zeros_like(V)
    for i, j in np.ndindex(u, t):
        window = padded[:, :, i : i + V.shape[2], j : j + V.shape[3]]
        found += window * kernels[:, :, None, None, :, i, j]
    return found


def inline_local(IN: Array, W1: Array, W2: Array, V: Array) -> Array:
    """InLine's local residual: a 3x3 kernel a channel from a two-layer network of the mean."""
    hidden = np.maximum(IN.mean(axis=(1, 2)) @ W1, 0)
    return _convolved(V, np.einsum("bs,shfut->bhfut", hidden, W2))


def local_enhancement(V: Array, W: Array) -> Array:
    """LePE: a depth-wise convolution of V with fixed kernels [H,F,5,5]."""
    return _convolved(V, np.broadcast_to(W, (V.shape[0], *W.shape)))


def approximate_attention(Q: Array, K: Array, V: Array) -> Array:
    """The sum of three means of values: equal weights, q.k, and the diagonal second order.

    Deconstructing Attention (arXiv 2510.11602), equations 14 to 17.
    """
    lower = _lower(Q.shape[2])
    second = (np.square(Q) / np.sqrt(2)) @ (np.square(K) / np.sqrt(2)).swapaxes(-1, -2)
    weights = (np.ones_like(second), Q @ K.swapaxes(-1, -2), second)
    terms = [w * lower / (w * lower).sum(axis=-1, keepdims=True) for w in weights]
    result: Array = sum(terms) @ V
    return result


def self_score_attention(Q: Array, K: Array, V: Array) -> Array:
    """Weights exp(silu(q_j) . k_j / sqrt(E)) of the keys j <= i, normalised (same, equation 18)."""
    own = (_silu(Q) * K).sum(axis=-1) / np.sqrt(Q.shape[3])
    weight = np.exp(own - own.max(axis=-1, keepdims=True))[:, :, None, :] * _lower(Q.shape[2])
    result: Array = (weight / weight.sum(axis=-1, keepdims=True)) @ V
    return result


def lightning_attention_2(Q: Array, K: Array, V: Array, GATE: Array) -> Array:
    """Causal linear attention with weight lambda^(p-m); queries, outputs in blocks [B,H,M1,I,E].

    Lightning Attention-2 (Qin et al., 2024); lambda of a head is sigmoid(GATE).
    """
    queries = Q.reshape(*K.shape[:3], Q.shape[-1])
    at = np.arange(K.shape[2])
    age = at[:, None] - at[None, :]
    decay = (1 / (1 + np.exp(-GATE)))[:, None, None] ** np.maximum(age, 0) * (age >= 0)
    result: Array = (queries @ K.swapaxes(-1, -2) * decay) @ V
    return result.reshape(*Q.shape[:-1], V.shape[-1])


def linear_step(Q: Array, K: Array, V: Array, S: Array, GATE: Array) -> tuple[Array, Array]:
    """One position of decayed linear attention: the output, and the state after it."""
    decay = (1 / (1 + np.exp(-GATE)))[:, None, None]
    after = decay * S + K[..., :, None] * V[..., None, :]
    return np.einsum("bhe,bhef->bhf", Q, after), after


def _mixed(q: Array, k: Array, v: Array, WO: Array, causal: bool) -> Array:
    """Softmax attention of projected positions, and its output projection."""
    scores = q @ k.swapaxes(-1, -2)
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out = weight / weight.sum(axis=-1, keepdims=True) @ v
    result: Array = np.einsum("bhpf,hfd->bpd", out, WO)
    return result


def attention_layer(X: Array, Y: Array, WQ: Array, WK: Array, WV: Array, WO: Array) -> Array:
    """Projections of X and Y, attention over all positions of Y, and its projection."""
    q, k, v = (np.einsum("bmd,dhe->bhme", x, w) for x, w in ((X, WQ), (Y, WK), (Y, WV)))
    return _mixed(q, k, v, WO, causal=False)


def attention_layer_causal(
    X: Array, Y: Array, WQ: Array, WK: Array, WV: Array, WO: Array
) -> Array:  # fmt: skip
    """``attention_layer`` of query p over the positions m <= p."""
    q, k, v = (np.einsum("bmd,dhe->bhme", x, w) for x, w in ((X, WQ), (Y, WK), (Y, WV)))
    return _mixed(q, k, v, WO, causal=True)


def qkr_layer(X: Array, Y: Array, WQK: Array, WV: Array, WO: Array) -> Array:
    """OFQ's QKR: scores x WQK y, with WQK the product of the query's and the key's weights."""
    keys = np.einsum("hdc,bmc->bhmd", WQK, Y)
    values = np.einsum("bmc,chf->bhmf", Y, WV)
    return _mixed(X[:, None], keys, values, WO, causal=False)


LINEAR: dict[str, Callable[..., Any]] = {
    f.__name__.replace("_", "-"): f
    for f in (
        transnormer, hedgehog, mala, inline_attention, inline_local, local_enhancement,
        approximate_attention, self_score_attention, lightning_attention_2, linear_step,
        attention_layer, attention_layer_causal, qkr_layer,
    )
}  # fmt: skip
