"""The functions that a cascade's ``equals`` may name, as a textbook writes them in NumPy.

Independent of the interpreter: whole tensors, no tiles, no recurrences, and
no regard for memory.  A parameter is the input tensor, the constant or the
rank size of that name; the result is the output tensor (a tuple of them where
there are several).  Ranks are named as in the cascades: B batch, H heads, P
query and M key positions, E and F the head dimensions of Q, K and of V, D the
model dimension, S the hidden dimension of a feed-forward layer.

Softmax attention follows FuseMax (Nayak et al., MICRO 2024, section II): the
scores are ``Q @ K`` with **no 1/sqrt(E)**, which is taken to be folded into
Q.  ``attention-scaled`` has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from accelsim.ir.textbook_dynamic import DYNAMIC
from accelsim.ir.textbook_frontier import FRONTIER
from accelsim.ir.textbook_linear import LINEAR
from accelsim.ir.textbook_systems import SPARSE

Array: TypeAlias = npt.NDArray[np.float64]


def softmax(X: Array) -> Array:
    """Softmax over the last rank, the maximum subtracted first.

    >>> softmax(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    weight = np.exp(X - X.max(axis=-1, keepdims=True))
    result: Array = weight / weight.sum(axis=-1, keepdims=True)
    return result


def logsumexp(X: Array) -> Array:
    """``log(sum(exp(X)))`` over the last rank, the maximum subtracted first.

    >>> float(logsumexp(np.array([[1000.0]]))[0])
    1000.0
    """
    top = X.max(axis=-1)
    result: Array = np.log(np.exp(X - top[..., None]).sum(axis=-1)) + top
    return result


def attention(Q: Array, K: Array, V: Array) -> Array:
    """Attention without scale: ``softmax(Q K^T) V``; [B,H,P,E], [B,H,M,E], [B,H,M,F] to [B,H,P,F].

    >>> attention(np.zeros((1, 1, 1, 2)), np.zeros((1, 1, 2, 2)), np.eye(2)[None, None]).tolist()
    [[[[0.5, 0.5]]]]
    """
    return softmax(Q @ K.swapaxes(-1, -2)) @ V


def attention_scaled(Q: Array, K: Array, V: Array) -> Array:
    """Attention with scores divided by sqrt(E) (Vaswani et al. 2017, equation 1)."""
    return attention(Q / np.sqrt(Q.shape[-1]), K, V)


def _attention_where(Q: Array, K: Array, V: Array, keep: npt.NDArray[np.bool_]) -> Array:
    """Attention over the keys that ``keep[p, m]`` allows."""
    return softmax(np.where(keep, Q @ K.swapaxes(-1, -2), -np.inf)) @ V


def _positions(Q: Array, K: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Query positions as a column, key positions as a row."""
    return np.arange(Q.shape[-2])[:, None], np.arange(K.shape[-2])[None, :]


def attention_causal(Q: Array, K: Array, V: Array) -> Array:
    """Attention of query p over the keys m <= p."""
    p, m = _positions(Q, K)
    return _attention_where(Q, K, V, m <= p)


def attention_window(Q: Array, K: Array, V: Array, W: int) -> Array:
    """Causal sliding-window attention: query p over the W keys p-W < m <= p (Mistral 7B, 2023)."""
    p, m = _positions(Q, K)
    return _attention_where(Q, K, V, (m <= p) & (m > p - W))


def attention_masked(Q: Array, K: Array, V: Array, KEEP: Array) -> Array:
    """Attention over the keys where KEEP [P,M] is not zero; 0, a sum of none, for a query of none.

    (So does PyTorch's scaled_dot_product_attention since 2.5; NaN before.)
    """
    keep = np.asarray(KEEP) != 0
    with np.errstate(invalid="ignore"):
        return np.where(keep.any(axis=-1)[:, None], _attention_where(Q, K, V, keep), 0.0)


def attention_gqa(Q: Array, K: Array, V: Array) -> Array:
    """Grouped-query attention: H query heads share HK key heads, H/HK in a row each.

    Ainslie et al., GQA, EMNLP 2023.
    """
    group = Q.shape[1] // K.shape[1]
    return attention(Q, np.repeat(K, group, axis=1), np.repeat(V, group, axis=1))


def attention_cosine(Q: Array, K: Array, V: Array, TAU: float) -> Array:
    """Attention whose scores are the cosines of q and k over a temperature (Swin V2, 2022)."""
    unit_q = Q / np.linalg.norm(Q, axis=-1, keepdims=True)
    unit_k = K / np.linalg.norm(K, axis=-1, keepdims=True)
    return attention(unit_q / TAU, unit_k, V)


def _elu1(x: Array) -> Array:
    """``elu(x) + 1``, the feature map of Katharopoulos et al. 2020."""
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def linear_attention(Q: Array, K: Array, V: Array) -> Array:
    """Linear attention, written as quadratic: weights ``phi(q) . phi(k)`` over their sum.

    Katharopoulos et al., Transformers are RNNs, ICML 2020, equation 4, with phi = elu + 1.
    """
    weight = _elu1(Q) @ _elu1(K).swapaxes(-1, -2)
    result: Array = (weight / weight.sum(axis=-1, keepdims=True)) @ V
    return result


def linear_attention_causal(Q: Array, K: Array, V: Array) -> Array:
    """``linear_attention`` of query p over the keys m <= p (same paper, equation 9)."""
    weight = np.tril(_elu1(Q) @ _elu1(K).swapaxes(-1, -2))
    result: Array = (weight / weight.sum(axis=-1, keepdims=True)) @ V
    return result


def linear_attention_decay(Q: Array, K: Array, V: Array, GATE: Array) -> Array:
    """Causal linear attention with weight ``lambda_h^(p-m)`` and no division; GATE is [H].

    Retention (Sun et al. 2023, equation 5) and Lightning Attention's TNL, with
    lambda = sigmoid(GATE).
    """
    p, m = _positions(Q, K)
    decay = (1 / (1 + np.exp(-GATE)))[:, None, None]
    weight = np.where(m <= p, decay ** np.maximum(p - m, 0), 0.0)
    result: Array = (weight * (Q @ K.swapaxes(-1, -2))) @ V
    return result


def matmul(A: Array, B: Array) -> Array:
    """The matrix product of A [M,K] and B [K,N]."""
    result: Array = A @ B
    return result


def encoder_linear_layers(
    IQ: Array, WQ: Array, IK: Array, WK: Array, IV: Array, WV: Array,
    IZ: Array, WZ: Array, IFFN1: Array, WFFN1: Array, IFFN2: Array, WFFN2: Array,
) -> tuple[Array, ...]:  # fmt: skip
    """The six linear layers of an encoder, each of its own input: Q, K, V, Z, FFN1, FFN2."""

    def heads(x: Array, w: Array) -> Array:
        return x[:, None] @ w  # [B,1,P,D] @ [H,D,E]

    z: Array = np.einsum("bhpf,hfd->bpd", IZ, WZ)
    return heads(IQ, WQ), heads(IK, WK), heads(IV, WV), z, IFFN1 @ WFFN1, IFFN2 @ WFFN2


def mlp(X: Array, W1: Array, W2: Array) -> Array:
    """``gelu(X W1) W2`` with the tanh form of GELU, as GPT-2 has it (Hendrycks and Gimpel 2016)."""
    h = X @ W1
    gelu = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    result: Array = gelu @ W2
    return result


def swiglu(X: Array, WG: Array, WU: Array, WD: Array) -> Array:
    """``(silu(X WG) * (X WU)) WD`` (Shazeer, GLU Variants, 2020; Llama's feed-forward layer)."""
    gate = X @ WG
    with np.errstate(over="ignore"):
        silu = gate / (1 + np.exp(-gate))
    result: Array = (silu * (X @ WU)) @ WD
    return result


def variance(X: Array) -> Array:
    """The variance over the last rank (of the population: divided by D)."""
    result: Array = np.var(X, axis=-1)
    return result


def layernorm(X: Array, GAIN: Array, BIAS: Array, EPS: float) -> Array:
    """Layer normalisation over the last rank (Ba, Kiros and Hinton 2016, equation 4)."""
    centred = X - X.mean(axis=-1, keepdims=True)
    result: Array = (
        centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + EPS) * GAIN + BIAS
    )
    return result


def rmsnorm(X: Array, GAIN: Array, EPS: float) -> Array:
    """Root-mean-square normalisation over the last rank (Zhang and Sennrich 2019, equation 4)."""
    result: Array = X / np.sqrt(np.square(X).mean(axis=-1, keepdims=True) + EPS) * GAIN
    return result


def rmsnorm_matmul(X: Array, GAIN: Array, W: Array, EPS: float) -> Array:
    """``rmsnorm(X) W``: the norm and the projection that follows it."""
    result: Array = rmsnorm(X, GAIN, EPS) @ W
    return result


#: By the name that ``equals`` uses: the function's name with dashes.
TEXTBOOK: dict[str, Callable[..., Any]] = {
    f.__name__.replace("_", "-"): f
    for f in (
        softmax, logsumexp, attention, attention_scaled, attention_causal, attention_window,
        attention_masked, attention_gqa, attention_cosine, linear_attention,
        linear_attention_causal, linear_attention_decay, matmul, encoder_linear_layers, mlp,
        swiglu, variance, layernorm, rmsnorm, rmsnorm_matmul,
    )
} | DYNAMIC | FRONTIER | LINEAR | SPARSE  # fmt: skip
