"""References of the methods that The Sparse Frontier evaluates, beside those in others' papers.

Nawrot et al., arXiv 2504.17768, 2025: Vertical-Slash, FlexPrefill, SnapKV and Ada-SnapKV;
Block-Sparse and Quest are among ``ir.textbook_dynamic``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.ir.textbook_dynamic import Array, best, positions, weights
from accelsim.ir.textbook_systems import Mask, masked


def vertical_slash(
    Q: Array, K: Array, V: Array, L: int, R: int, S: int, FIRST: float, LAST: float
) -> Array:
    """R columns and S diagonals of most weight for the last L queries; the first, the last always.

    MInference's pattern as The Sparse Frontier evaluates it, causal.
    """
    p, m = positions(Q.shape[2], K.shape[2])
    weight = weights(Q[:, :, -L:], K, (m <= p)[-L:])
    columns = weight.sum(axis=2)
    columns[..., : int(FIRST)] = np.inf
    age = (p - m)[-L:]
    diagonals = _slashes(weight, age)
    diagonals[..., : int(LAST)] = np.inf
    slash = best(diagonals, S)[..., np.maximum(p - m, 0)]
    return masked(Q, K, V, (best(columns, R)[..., None, :] | slash) & (m <= p))


def _slashes(weight: Array, age: npt.NDArray[np.signedinteger[Any]]) -> Array:
    """Summed weights [B,H,O] of the pairs whose key is o before the query."""
    return np.stack(
        [np.where(age == o, weight, 0.0).sum(axis=(2, 3)) for o in range(weight.shape[3])], axis=-1
    )


def flex_prefill(Q: Array, K: Array, V: Array, L: int, ALPHA: float) -> Array:
    """The fewest columns, and diagonals, with a share ALPHA of L last queries' weight; own keys."""
    p, m = positions(Q.shape[2], K.shape[2])
    weight = weights(Q[:, :, -L:], K, (m <= p)[-L:]) / L
    columns = _fewest(weight.sum(axis=2), ALPHA)
    slash = _fewest(_slashes(weight, (p - m)[-L:]), ALPHA)[..., np.maximum(p - m, 0)]
    return masked(Q, K, V, (columns[..., None, :] | slash | (m == p)) & (m <= p))


def _fewest(share: Array, least: float) -> Mask:
    """The fewest entries of each row, the largest first, that add up to ``least``."""
    order = np.argsort(-share, axis=-1, kind="stable")
    before = np.cumsum(np.take_along_axis(share, order, axis=-1), axis=-1)
    enough = np.concatenate([np.zeros((*share.shape[:-1], 1)), before[..., :-1]], axis=-1) < least
    found = np.zeros(share.shape, np.bool_)
    np.put_along_axis(found, order, enough, axis=-1)
    return found


def _pooled(weight: Array, W: int, FIRST: float, LAST: float) -> Array:
    """Sums over W neighbours, from the tenth before on; the first and the last keys infinite."""
    wide = np.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(10, W)])
    keys = weight.shape[-1]
    pooled: Array = np.stack([wide[..., w : w + keys] for w in range(W)]).sum(axis=0)
    at = np.arange(keys)
    return np.where((at < FIRST) | (at >= keys - LAST), np.inf, pooled)


def _dense(Q: Array, K: Array, V: Array) -> Array:
    """Causal attention of groups of heads that share keys, Q [B,H,G,P,E]."""
    p, m = positions(Q.shape[3], K.shape[2])
    weight = weights(Q, K[:, :, None], m <= p)
    result: Array = weight @ V[:, :, None]
    return result


def snapkv(
    Q: Array, K: Array, V: Array, L: int, R: int, W: int, FIRST: float, LAST: float
) -> tuple[Array, Array]:
    """SnapKV: dense prefill, and R keys of each key head by the pooled weight of L last queries."""
    p, m = positions(Q.shape[3], K.shape[2])
    weight = weights(Q[:, :, :, -L:], K[:, :, None], (m <= p)[-L:])
    score = _pooled(weight.sum(axis=(2, 3)), W, FIRST, LAST)
    kept = np.argsort(-score, axis=-1, kind="stable")[..., :R]
    return _dense(Q, K, V), kept.astype(np.float64)


def ada_snapkv(
    Q: Array, K: Array, V: Array, L: int, R: int, S: int, W: int, FIRST: float, LAST: float
) -> tuple[Array, Array]:
    """Ada-SnapKV: R keys of all heads by their group's largest weight, each head's S best first."""
    p, m = positions(Q.shape[3], K.shape[2])
    weight = weights(Q[:, :, :, -L:], K[:, :, None], (m <= p)[-L:]).max(axis=2)
    score = _pooled(weight.sum(axis=2), W, FIRST, LAST)
    score = np.where(best(score, S), np.inf, score).reshape(Q.shape[0], -1)
    kept = np.argsort(-score, axis=-1, kind="stable")[:, :R]
    return _dense(Q, K, V), kept.astype(np.float64)


FRONTIER: dict[str, Callable[..., Any]] = {
    f.__name__.replace("_", "-"): f for f in (vertical_slash, flex_prefill, snapkv, ada_snapkv)
}
