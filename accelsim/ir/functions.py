"""What the operations of ``ir.ops`` mean to NumPy, where it has no function that means it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

RELATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "<=": np.less_equal,
    "<": np.less,
    ">=": np.greater_equal,
    ">": np.greater,
    "==": np.equal,
    "!=": np.not_equal,
}


def _sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))`` without overflow."""
    e = np.exp(-np.abs(x))
    low: Array = np.where(x >= 0, 1, e) / (1 + e)
    return low


def _divide(a: Array, b: Array) -> Array:
    """``a / b``; a zero has no sign: that of a maximum of zeros depends on where they stand."""
    found: Array = np.divide(a, b + 0.0)
    return found


def _select(condition: Array, a: Array, b: Array) -> Array:
    """``a`` where the condition is not zero, else ``b``."""
    chosen: Array = np.where(condition != 0, a, b)
    return chosen


def _gelu(x: Array) -> Array:
    """``x`` times the standard normal distribution function at x (Hendrycks and Gimpel, 2016)."""
    erf = np.vectorize(math.erf, otypes=[np.float64])
    found: Array = x * (1 + erf(x / math.sqrt(2))) / 2
    return found


def _on_grid(x: Array, scale: Array, least: Array, most: Array) -> Array:
    """The whole number of scales that is nearest to ``x``, within a range; 0 for a scale of 0."""
    steps = np.divide(x, scale, out=np.zeros(np.broadcast(x, scale).shape), where=scale != 0)
    found: Array = np.clip(np.rint(steps), least, most)
    return found


#: The operations of ``ir.ops`` that NumPy has no function of that name for, or another meaning.
OURS: dict[str, Callable[..., Array]] = {
    "divide": _divide,
    "rsqrt": lambda x: 1 / np.sqrt(x + 0.0),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "relu": lambda x: np.maximum(x, 0),
    "where": _select,
    "less": lambda a, b: np.where(np.less(a, b), 1.0, 0.0),
    "equal": lambda a, b: np.where(np.equal(a, b), 1.0, 0.0),
    "reciprocal": lambda x: 1 / (x + 0.0),
    "elu": lambda x: np.maximum(x, 0) + np.expm1(np.minimum(x, 0)),
    "gelu": _gelu,
    "softplus": lambda x: np.logaddexp(0, x),
    "quant": lambda x, scale, bits: _on_grid(x, scale, 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1),
    "uquant": lambda x, scale, bits: _on_grid(x, scale, 0 * bits, 2**bits - 1),
}


def first_inside(centre: Array, dilation: int, size: int, extent: int) -> Array:
    """Where windows begin that are moved inside a tensor by multiples of their dilation.

    >>> first_inside(np.array([0, 1, 3, 4]), 1, 3, 5).tolist()
    [0, 0, 2, 2]
    """
    first = centre - dilation * (size // 2)
    first = np.where(first < 0, first % dilation, first)
    over = np.maximum(first + dilation * (size - 1) - (extent - 1), 0)
    found: Array = first - -(-over // dilation) * dilation
    return found


def largest(
    values: Array, keep: Array | None, slots: int, reach: Array | None = None
) -> tuple[Array, Array]:
    """Indices along the last axis of the largest, in ``slots`` places, and which places are used.

    ``keep``: the values to choose among.  ``reach``: choose the fewest whose
    sum is at least this.  Of equal values the first comes first.

    >>> found, used = largest(np.array([3.0, 5.0, 5.0, 1.0]), None, 3)
    >>> found.tolist(), used.tolist()
    ([1, 2, 0], [True, True, True])
    >>> largest(np.array([0.5, 0.3, 0.2]), None, 3, np.array([0.7]))[1].tolist()
    [True, True, False]
    """
    there = np.full(values.shape, True) if keep is None else keep
    order = np.lexsort((-values, ~there), axis=-1)
    used = np.take_along_axis(there, order, -1)
    if reach is not None:
        ordered = np.where(used, np.take_along_axis(values, order, -1), 0.0)
        used = used & (np.cumsum(ordered, -1) - ordered < reach)
    room = [(0, 0)] * (values.ndim - 1) + [(0, max(0, slots - values.shape[-1]))]
    return np.pad(order, room)[..., :slots], np.pad(used, room)[..., :slots]
