"""Multiply-adds and parameters of vision backbones, from the widths that a paper prints.

A stage halves the resolution and works through blocks: projections and a
multilayer perceptron on every position, attention to so many keys or through
a linear state, and depthwise filters.
"""

from __future__ import annotations

from typing import Final

from accelsim.explore.published_columns import Config, alike, number

#: Classes of ImageNet, and channels of a picture.
CLASSES: Final = 1000
CHANNELS: Final = 3
#: Taps of the 3 x 3 convolutions of a stem and between stages.
TAPS: Final = 9


def backbone(row: Config) -> dict[str, float]:
    """Multiply-adds and parameters of a backbone.

    Columns: ``resolution``, ``dims`` and ``depths`` by stage (``64x128x256x512``), ``keys`` that a
    query attends to by stage (0: through a linear state of ``state`` columns),
    ``projections`` of C x C, ``mlp`` ratio, depthwise ``taps``.  With a
    ``patch`` there is one stage behind a patch embedding, else a stem of two
    3 x 3 convolutions of stride 2 and one between stages.

    >>> base = {"resolution": 224, "dims": "192", "depths": "12", "keys": "197", "patch": 16}
    >>> found = backbone(base | {"projections": 4, "mlp": 4, "taps": 0})
    >>> round(found["macs"] / 1e9, 2), round(found["weights"] / 1e6, 1)
    (1.25, 5.6)
    """
    dims, depths, keys = alike(row, "dims", "depths", "keys", zeros="keys")
    patch = int(number(row, "patch", 0))
    side = int(number(row, "resolution")) // (patch or 4)
    square = number(row, "projections") + 2 * number(row, "mlp")
    taps, state = number(row, "taps", 0), number(row, "state", 0)
    macs, weights = _stem(side, dims[0], patch)
    for stage, (width, depth, seen) in enumerate(zip(dims, depths, keys, strict=True)):
        if stage:
            side //= 2
            between = TAPS * dims[stage - 1] * width
            macs, weights = macs + side**2 * between, weights + between
        dense = square * width**2 + taps * width
        attended = 2 * (seen or state) * width
        macs += depth * side**2 * (dense + attended)
        weights += depth * dense
    head = dims[-1] * CLASSES
    return {"macs": float(macs + head), "weights": float(weights + head)}


def _stem(side: int, width: int, patch: int) -> tuple[float, float]:
    """Multiply-adds and parameters before the first stage."""
    if patch:
        weights = CHANNELS * patch**2 * width
        return side**2 * weights, weights
    first, second = TAPS * CHANNELS * width // 2, TAPS * width // 2 * width
    return (2 * side) ** 2 * first + side**2 * second, first + second
