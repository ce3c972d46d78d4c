"""Multiply-adds and parameters of vision backbones, from the widths that a paper prints.

A stage halves the resolution and works through blocks: projections and a
multilayer perceptron on every position, attention to so many keys or through
a linear state, and depthwise filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: Classes of ImageNet, and channels of a picture.
CLASSES: Final = 1000
CHANNELS: Final = 3
#: Taps of the 3 x 3 convolutions of a stem and between stages.
TAPS: Final = 9


def sizes_of(text: str | int | float) -> list[int]:
    """Sizes of a grid.

    >>> sizes_of("30x48x80"), sizes_of(2048)
    ([30, 48, 80], [2048])
    """
    return [int(n) for n in str(text).split("x")]


def backbone(row: Mapping[str, Any]) -> dict[str, float]:
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
    dims, depths, keys = (sizes_of(row[name]) for name in ("dims", "depths", "keys"))
    patch = int(row.get("patch", 0))
    side = int(row["resolution"]) // (patch or 4)
    macs, weights = _stem(side, dims[0], patch)
    for stage, (width, depth, seen) in enumerate(zip(dims, depths, keys, strict=True)):
        if stage:
            side //= 2
            between = TAPS * dims[stage - 1] * width
            macs, weights = macs + side**2 * between, weights + between
        dense = (row["projections"] + 2 * row["mlp"]) * width**2 + row["taps"] * width
        attended = 2 * (seen or int(row.get("state", 0))) * width
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
