"""What published dynamic sparse systems compute, in NumPy: the selection, then dense attention.

As in ``ir.textbook``.  Each function first decides which keys a query sees,
by the method's own estimate, and then attends densely under that mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from accelsim.ir.textbook_systems import Mask, masked

Array: TypeAlias = npt.NDArray[np.float64]


def best(scores: Array, count: int) -> Mask:
    """Which entries of the last rank are among the ``count`` largest (the first of equals)."""
    order = np.argsort(-scores, axis=-1, kind="stable")[..., :count]
    chosen = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(chosen, order, True, axis=-1)
    return chosen & (scores > -np.inf)


def positions(P: int, M: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Query positions as a column, key positions as a row."""
    return np.arange(P)[:, None], np.arange(M)[None, :]


def _blocks(X: Array, size: int) -> Array:
    """The mean of each block of ``size`` positions: [B,H,M,E] to [B,H,M/size,E]."""
    mean: Array = X.reshape(*X.shape[:2], -1, size, X.shape[-1]).mean(axis=3)
    return mean


def _spread(keep: Mask, rows: int, columns: int) -> Mask:
    """A mask of blocks as one of positions, in its last two ranks."""
    return keep.repeat(rows, axis=-2).repeat(columns, axis=-1)


def weights(Q: Array, K: Array, keep: Mask) -> Array:
    """The weights of softmax attention under a mask."""
    scores = np.where(keep, Q @ K.swapaxes(-1, -2), -np.inf)
    weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Array = weight / weight.sum(axis=-1, keepdims=True)
    return result


def _int4(X: Array) -> Array:
    """Rounded to 4 bits with a scale for each row, and back."""
    scale = np.abs(X).max(axis=-1, keepdims=True) / 7
    result: Array = np.rint(X / scale) * scale
    return result


def sale(
    Q: Array, K: Array, V: Array, P0: int, M0: int, W: int, N: int, TAU: float
) -> Array:  # fmt: skip
    """SALE: blocks in which a 4-bit score reaches a share TAU of the row's sum over sink and local.

    Means are taken out before rounding and put back: the score is q4 . k4 +
    mean q . k + q . mean k.
    """
    p, m = positions(Q.shape[2], K.shape[2])
    causal = m <= p
    near = (p // P0 * P0 - m // M0 * M0 < W + M0 - 1) | (m // M0 * M0 < N)
    exact = np.where(near & causal, Q @ K.swapaxes(-1, -2), -np.inf)
    top = exact.max(axis=-1, keepdims=True)
    total = np.exp(exact - top).sum(axis=-1, keepdims=True)
    qm, km = Q.mean(axis=2, keepdims=True), K.mean(axis=2, keepdims=True)
    estimate = _int4(Q - qm) @ _int4(K - km).swapaxes(-1, -2)
    estimate = estimate + qm @ (K - km).swapaxes(-1, -2) + Q @ km.swapaxes(-1, -2)
    above = (np.exp(estimate - top) / total > TAU) & causal
    shape = (*above.shape[:2], Q.shape[2] // P0, P0, K.shape[2] // M0, M0)
    blocks = above.reshape(shape).any(axis=(3, 5))
    return masked(Q, K, V, (_spread(blocks, P0, M0) | near) & causal)


def block_topk(Q: Array, K: Array, V: Array, P0: int, M0: int, R: int) -> Array:
    """The Sparse Frontier's Block-Sparse: R blocks by pooled scores, with the first and two own."""
    scores = _blocks(Q, P0) @ _blocks(K, M0).swapaxes(-1, -2)
    i, j = positions(*scores.shape[-2:])
    scores = np.where((j == 0) | (i - j < 2), np.inf, scores)
    keep = best(np.where(j <= i, scores, -np.inf), R)
    p, m = positions(Q.shape[2], K.shape[2])
    return masked(Q, K, V, _spread(keep, P0, M0) & (m <= p))


def quest(Q: Array, K: Array, V: Array, LOW: Array, HIGH: Array, M0: int, R: int) -> Array:
    """Quest: R pages by the sum over heads of sum_e max(q low, q high), the last one among them."""
    bound = np.maximum(Q[:, :, :, None] * LOW[:, :, None], Q[:, :, :, None] * HIGH[:, :, None])
    scores = bound.sum(axis=(2, 4))
    scores[..., -1] = np.inf
    keep = best(scores, R)[:, :, None, :]
    return masked(Q, K, V, keep.repeat(M0, axis=-1))


def page_mean_topk(Q: Array, K: Array, V: Array, MEAN: Array, M0: int, R: int) -> Array:
    """Kinetics' block top-k: R pages a head by the product with their mean key, and the last."""
    scores = Q @ MEAN.swapaxes(-1, -2)
    scores[..., -1] = np.inf
    return masked(Q, K, V, best(scores, R).repeat(M0, axis=-1))


def delta_layer(Q: Array, K: Array, V: Array, M0: int, R: int, L: int) -> tuple[Array, Array]:
    """DELTA: dense decode, and R pages by their summed largest weights, the last L first."""
    weight = weights(Q, K, np.ones(1, np.bool_))
    pages = weight.max(axis=(1, 2)).reshape(Q.shape[0], -1, M0).sum(axis=-1)
    pages[:, -L:] = np.inf
    return weight @ V, np.argsort(-pages, axis=-1, kind="stable")[:, :R].astype(np.float64)


def paged_attention(Q: Array, K: Array, V: Array, I: Array, M0: int) -> Array:  # noqa: E741
    """Decode over the pages of M0 keys that a list [B,R] names."""
    keep = np.zeros((Q.shape[0], K.shape[2] // M0), np.bool_)
    np.put_along_axis(keep, I.astype(np.int64), True, axis=1)
    return masked(Q, K, V, keep.repeat(M0, axis=1)[:, None, None])


def biformer(Q: Array, K: Array, V: Array, R: int) -> Array:
    """Bi-level routing attention: [B,H,regions,positions,E], R regions by pooled scores."""
    scores = np.einsum("bhse,bhne->bsn", Q.mean(axis=3), K.mean(axis=3))
    rows, columns = Q.shape[3], K.shape[3]
    keep = _spread(best(scores, R), rows, columns)[:, None]
    flat = [x.reshape(*x.shape[:2], -1, x.shape[-1]) for x in (Q, K, V)]
    return masked(flat[0], flat[1], flat[2], keep).reshape(*Q.shape[:-1], V.shape[-1])


def routing_attention(X: Array, MU: Array, V: Array, W: int, SELF: float) -> Array:
    """The Routing Transformer: each centroid's W best tokens attend to one another, causally.

    A token of several clusters has the mean of its outputs, one of none 0.
    """
    unit = X / np.linalg.norm(X, axis=-1, keepdims=True)
    inside = best(np.einsum("hce,bhme->bhcm", MU, unit), W)
    p, m = positions(X.shape[2], X.shape[2])
    scores = unit @ unit.swapaxes(-1, -2) / np.sqrt(X.shape[3]) - np.where(p == m, SELF, 0.0)
    total, count = np.zeros((*X.shape[:3], V.shape[3])), np.zeros(X.shape[:3])
    for c in range(MU.shape[1]):
        member = inside[:, :, c]
        keep = member[..., None, :] & member[..., :, None] & (m <= p)
        rows = np.where(keep, scores, -np.inf)
        top = rows.max(axis=-1, keepdims=True)
        weight = np.exp(rows - np.where(np.isfinite(top), top, 0.0))
        norm = np.maximum(weight.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
        total += np.where(member[..., None], weight / norm @ V, 0.0)
        count += member
    result: Array = total / np.maximum(count, 1)[..., None]
    return result


def _probed(Q: Array, K: Array, PI: Array) -> tuple[Array, Array]:
    """Summed weights of probe queries for each key [B,H,M], and how many see it [M]."""
    at = PI.astype(np.int64)
    seen = np.arange(K.shape[2])[None, :] <= at[:, None]
    counts: Array = seen.sum(axis=0).astype(np.float64)
    return weights(Q[:, :, at], K, seen).sum(axis=2), counts


def zipvl(Q: Array, K: Array, V: Array, PI: Array, TAU: float) -> Array:
    """ZipVL: the fewest tokens with a share TAU of the mean weight attend to one another, causally.

    The same tokens for all heads; 0 for the others, which bypass attention.
    """
    weight, seen = _probed(Q, K, PI)
    mean = weight.sum(axis=1) / np.maximum(seen, 1)
    share = mean / mean.sum(axis=-1, keepdims=True)
    result = np.zeros((*Q.shape[:3], V.shape[3]))
    for b in range(Q.shape[0]):
        order = np.argsort(-share[b], kind="stable")
        most = int(np.searchsorted(np.cumsum(share[b, order]), TAU)) + 1
        kept = np.sort(order[:most])
        alone = [x[b : b + 1, :, kept] for x in (Q, K, V)]
        result[b, :, kept] = masked(
            alone[0], alone[1], alone[2], np.tri(len(kept), dtype=np.bool_)
        )[0].swapaxes(0, 1)
    return result


def zipcache(
    Q: Array, K: Array, V: Array, PI: Array, R: int
) -> tuple[Array, Array]:  # fmt: skip
    """ZipCache's prefill: causal attention, and each head's R most salient keys by the probes."""
    weight, seen = _probed(Q, K, PI)
    salient = np.argsort(-weight / np.maximum(seen, 1), axis=-1, kind="stable")[..., :R]
    p, m = positions(Q.shape[2], K.shape[2])
    return masked(Q, K, V, m <= p), salient.astype(np.float64)


def spatten(
    Q: Array, K: Array, V: Array, T: Array, G: Array, R: int, S: int
) -> tuple[Array, Array, Array, Array]:
    """SpAtten's layer: the R largest weights of each row times V; importance; S tokens kept."""
    weight = weights(Q, K, np.ones(1, np.bool_))
    out = np.where(best(weight, R), weight, 0.0) @ V
    tokens = T + weight.sum(axis=(1, 2))
    kept = np.argsort(-tokens, axis=-1, kind="stable")[:, :S].astype(np.float64)
    return out, tokens, kept, G + np.abs(out).sum(axis=(0, 2, 3))


def dhsa(
    Q: Array, K: Array, V: Array, IN: Array, P0: int, R: int, W: int, G: int
) -> Array:  # fmt: skip
    """DHSA: chunk scores spread to tokens, the R best for each block of P0 queries.

    IN[n,m] says which chunk a key is in; the first G keys and W before the block always.
    """
    chunks = np.einsum("nm,bhme->bhne", IN, K) / np.sqrt(IN.sum(axis=1))[:, None]
    scores = np.einsum("bhie,bhne->bin", _blocks(Q, P0) * np.sqrt(P0), chunks) @ IN
    i, m = positions(*scores.shape[-2:])
    forced = (m < G) | (m > i * P0 - W)
    scores = np.where(m // P0 <= i, np.where(forced, np.inf, scores), -np.inf)
    p, m = positions(Q.shape[2], K.shape[2])
    return masked(Q, K, V, _spread(best(scores, R), P0, 1)[:, None] & (m <= p))


def _sides(KC: Array, U: int, projections: tuple[Array, ...], EPS: float) -> list[Array]:
    """Means over the windows of U keys up to each place, and from the next on, after attention."""
    WQ, WK, WV, WO = projections
    keys = KC.shape[1]
    wide = np.pad(KC, ((0, 0), (U - 1, U), (0, 0)))
    found = []
    for first in (0, U):
        window = np.stack([wide[:, first + u : first + u + keys] for u in range(U)], axis=2)
        q, k, v = (np.einsum("bmuc,cgd->bgmud", window, w) for w in (WQ, WK, WV))
        mixed = weights(q / math.sqrt(q.shape[-1]), k, np.ones(1, np.bool_)) @ v
        out = np.einsum("bgmud,gdc->bmuc", mixed, WO)
        out = out - out.mean(axis=-1, keepdims=True)
        out = out / np.sqrt(np.square(out).mean(axis=-1, keepdims=True) + EPS)
        found.append(out.mean(axis=2))
    return found


def dhsa_boundaries(
    KC: Array, WQ: Array, WK: Array, WV: Array, WO: Array, W1: Array, W2: Array, W3: Array,
    W4: Array, W5: Array, W6: Array, U: int, V: int, N: int, EPS: float,
) -> tuple[Array, Array]:  # fmt: skip
    """DHSA's boundaries: scores of places by a small network, and N that are the best of V near."""
    left, right = _sides(KC, U, (WQ, WK, WV, WO), EPS)
    norm = np.square(left).sum(axis=-1) * np.square(right).sum(axis=-1)
    cosine = (left * right).sum(axis=-1) / np.sqrt(norm + EPS)
    hidden = left @ W1 + right @ W2 + np.abs(left - right) @ W3 + (left * right) @ W4
    score = 1 / (1 + np.exp(-(np.maximum(hidden + cosine[..., None] * W5, 0) @ W6)))
    wide = np.pad(score, ((0, 0), (4, V)))
    near = np.stack([wide[:, v : v + score.shape[1]] for v in range(V)]).max(axis=0)
    kept = np.where(score < near, 0.0, score)
    return score, np.argsort(-kept, axis=-1, kind="stable")[:, :N].astype(np.float64)


def dynamic_mask(Q: Array, K: Array, V: Array, DELTA: Array, GAIN: Array, R: int) -> Array:
    """DMA: R keys a query by exp(softplus(v . delta) gain), which is also added to their scores."""
    bias = np.exp(np.log1p(np.exp(np.einsum("bhmf,hf->bhm", V, DELTA))) * GAIN[:, None])
    p, m = positions(Q.shape[2], K.shape[2])
    last = p + K.shape[2] - Q.shape[2]
    keep = best(np.where(m <= last, bias[:, :, None, :], -np.inf), R)
    scores = np.where(keep, Q @ K.swapaxes(-1, -2) + bias[:, :, None, :], -np.inf)
    weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Array = (weight / weight.sum(axis=-1, keepdims=True)) @ V
    return result


def hip(
    Q: Array, K: Array, V: Array, P0: int, M0: int, R: int, C: int, X: int, G: int, D: int
) -> Array:  # fmt: skip
    """HiP: R chunks of X blocks, halved C times; each time the R halves that score best stay.

    A half scores the most that a query of the block has with its first M0 keys;
    the R blocks of M0 keys that are left are attended to, causally, and with
    them the first G keys and the last D.
    """
    scores = Q @ K.swapaxes(-1, -2)
    p, m = positions(Q.shape[2], K.shape[2])
    keep = np.zeros(scores.shape, np.bool_)
    for b, h, i in np.ndindex(Q.shape[0], Q.shape[1], Q.shape[2] // P0):
        rows = scores[b, h, i * P0 : (i + 1) * P0].max(axis=0)
        starts, size = np.arange(R) * X * M0, X * M0
        for _ in range(C):
            size //= 2
            halves = np.stack([starts, starts + size], axis=1).ravel()
            first = rows[halves[:, None] + np.arange(M0)].max(axis=1)
            own = np.where(halves < (i + 1) * P0, first, -np.inf)
            starts = halves[np.argsort(-own, kind="stable")[:R]]
        for start in starts:
            keep[b, h, i * P0 : (i + 1) * P0, start : start + M0] = True
    return masked(Q, K, V, (keep | (m < G) | (p < m + D)) & (m <= p))


def _sea_estimate(X: Array, W4: Array, MIX: Array, CONV: Array) -> Array:
    """SEA's estimated weights [B,H,P,N]: GELU, linear layer, two convolutions, softmax."""
    erf = np.vectorize(math.erf, otypes=[np.float64])
    maps = np.einsum("bhpd,dag->bhpag", X * (1 + erf(X / math.sqrt(2))) / 2, W4)
    wide = np.pad(maps, ((0, 0), (0, 0), (2, 2), (0, 0), (2, 2)))
    mixed = np.zeros((*maps.shape[:3], MIX.shape[2], maps.shape[4]))
    for u, t in np.ndindex(*MIX.shape[4:]):
        window = wide[:, :, 2 * u : 2 * u + maps.shape[2], :, 2 * t : 2 * t + maps.shape[4]]
        mixed += np.einsum("hloa,blpag->bhpog", MIX[..., u, t], window)
    up = np.maximum(mixed, 0).repeat(2, axis=-1)
    rows, columns = CONV.shape[3:]
    padded = np.pad(up, ((0, 0), (0, 0), (rows // 2,) * 2, (0, 0), (2 * (columns // 2),) * 2))
    scores = np.zeros((*up.shape[:3], up.shape[4]))
    for u, t in np.ndindex(rows, columns):
        window = padded[:, :, u : u + up.shape[2], :, 2 * t : 2 * t + up.shape[4]]
        scores += np.einsum("hla,blpan->bhpn", CONV[..., u, t], window)
    weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Array = weight / weight.sum(axis=-1, keepdims=True)
    return result


def sea(
    Q: Array, K: Array, V: Array, VP: Array, OMEGA: Array, CODE: Array, W1: Array, W2: Array,
    W3: Array, W4: Array, MIX: Array, CONV: Array, S1: Array, S2: Array, S: int, EPS: float,
) -> Array:  # fmt: skip
    """SEA: Performer features, an estimate by a small network, its S best cells of all heads.

    A cell stands for M / N keys.  Attention over those keys, gated, beside
    the mean of the values.
    """
    fq = np.exp(Q @ OMEGA - 0.5 * np.square(Q).sum(axis=-1, keepdims=True))
    fk = np.exp(K @ OMEGA - 0.5 * np.square(K).sum(axis=-1, keepdims=True))
    weight = fq @ fk.swapaxes(-1, -2)
    weight = weight / weight.sum(axis=-1, keepdims=True)
    hidden = weight @ CODE @ W1 + weight @ V @ W2 + VP @ W3
    centred = hidden - hidden.mean(axis=-1, keepdims=True)
    spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + EPS)
    estimate = _sea_estimate(centred / spread, W4, MIX, CONV)
    cells = estimate.swapaxes(1, 2).reshape(Q.shape[0], Q.shape[2], -1)
    kept = best(cells, S).reshape(Q.shape[0], Q.shape[2], Q.shape[1], -1).swapaxes(1, 2)
    of_key = np.arange(K.shape[2]) * estimate.shape[-1] // K.shape[2]
    keep = kept[..., of_key]
    scores = np.where(keep, Q @ K.swapaxes(-1, -2), -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    chosen = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    own = chosen @ V / np.maximum(chosen.sum(axis=-1, keepdims=True), 1)
    first, second = (1 / (1 + np.exp(-x))[..., None] for x in (S1, S2))
    result: Array = own * first * second + (1 - second) * V.mean(axis=2, keepdims=True)
    return result


DYNAMIC: dict[str, Callable[..., Any]] = {
    f.__name__.replace("_", "-"): f
    for f in (
        sale, block_topk, quest, page_mean_topk, delta_layer, paged_attention, biformer,
        routing_attention, zipvl, zipcache, spatten, dhsa, dhsa_boundaries, dynamic_mask, hip, sea,
    )
}  # fmt: skip
