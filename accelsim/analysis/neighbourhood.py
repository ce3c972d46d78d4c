"""Key tiles that a tile of queries visits in neighbourhood attention, as NATTEN's simulator counts.

Along each dimension queries q have leaders ``l = q // s * s + s // 2``, and
windows of w keys from ``clamp(l - w // 2, 0, L - w)``.  A tile of queries
visits every key tile that the union of its windows touches; the worst tile of
a dimension counts, and dimensions multiply (Hassani et al., Generalized
Neighborhood Attention, arXiv 2504.16922, 2025, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def visited(length: int, window: int, stride: int, query_tile: int, key_tile: int) -> int:
    """Key tiles that the worst query tile visits along one dimension.

    >>> visited(32, 8, 1, 4, 4), visited(32, 8, 8, 8, 8)
    (3, 1)
    """
    worst = 0
    for first in range(0, length, query_tile):
        last = min(first + query_tile, length) - 1
        low = _start(first, length, window, stride)
        high = _start(last, length, window, stride) + window - 1
        worst = max(worst, high // key_tile - low // key_tile + 1)
    return worst


def _start(query: int, length: int, window: int, stride: int) -> int:
    """The first key of a query's window."""
    leader = query // stride * stride + stride // 2
    return min(max(leader - window // 2, 0), length - window)


def tile_speedup(
    lengths: Sequence[int],
    windows: Sequence[int],
    strides: Sequence[int],
    query_tiles: Sequence[int],
    key_tiles: Sequence[int],
) -> float:
    """Key tiles of dense attention over those visited, for sizes a dimension each.

    HunyuanVideo's 30 x 48 x 80 positions with windows of 18 x 24 x 24:

    >>> round(tile_speedup((30, 48, 80), (18, 24, 24), (16, 8, 8), (4, 8, 8), (2, 8, 8)), 2)
    11.11
    """
    dense = prod(-(-n // t) for n, t in zip(lengths, key_tiles, strict=True))
    sizes = zip(lengths, windows, strides, query_tiles, key_tiles, strict=True)
    return dense / prod(visited(*dimension) for dimension in sizes)


def mean_visited(length: int, window: int, stride: int, query_tile: int, key_tile: int) -> float:
    """Key tiles that a query tile visits along one dimension, the mean over all query tiles.

    What a kernel works through, where the worst tile is what a bound counts.

    >>> mean_visited(32, 8, 1, 4, 4), mean_visited(32, 8, 8, 8, 8)
    (2.75, 1.0)
    """
    counts = []
    for first in range(0, length, query_tile):
        last = min(first + query_tile, length) - 1
        low = _start(first, length, window, stride)
        high = _start(last, length, window, stride) + window - 1
        counts.append(high // key_tile - low // key_tile + 1)
    return sum(counts) / len(counts)
