"""Attention's sizes and mask, and the tiles of keys that each tile of queries walks over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.ir.kernel import Tile

#: Multiples of the golden ratio's fraction lie evenly and in no order (Weyl, 1916).
_GOLDEN = 0.6180339887498949
#: Blocks that are drawn one by one at most.
DRAWN = 1024


@dataclass(frozen=True, slots=True)
class Attention:
    """Sizes and mask: query p sees key m where m <= p + offset and m > p + offset - window.

    ``kept`` is the share of key tiles that a block list keeps; ``counts``, where they
    are known, are those of every query tile, head by head, the same for all of a batch.
    """

    B: int
    H: int
    HK: int
    P: int
    M: int
    E: int
    F: int
    causal: bool = False
    window: int = 0
    offset: int = 0
    kind: str = "bf16"
    kept: float = 1.0
    counts: tuple[int, ...] = ()

    @property
    def keys_bytes(self) -> float:
        """K and V of one key head, 16 bits a number."""
        return 2.0 * self.M * (self.E + self.F)

    @property
    def compulsory(self) -> tuple[float, float]:
        """Bytes that must be read and written: K and V of keys that some query sees."""
        seen = self.M
        if self.causal:
            last = min(self.M, self.P + self.offset)
            first = max(0, self.offset - self.window + 1) if self.window else 0
            seen = max(0, last - min(first, last))
        queries = 2.0 * self.B * self.H * self.P
        keys = 2.0 * self.B * self.HK * seen * (self.E + self.F)
        return queries * self.E + keys, queries * self.F


@dataclass(frozen=True, slots=True)
class Span:
    """Key tiles of one query tile: how many, and how many of them a warp must mask.

    ``unseen`` is how many of them a warp sees nothing of, on the mean.
    """

    tiles: float
    masked: float
    unseen: float = 0.0


def parted(walked: Sequence[Span], tiles: int, splits: int) -> list[Span]:
    """Spans of blocks that each take an equal part of all the key ``tiles``, part by part.

    A query tile that sees few keys has nothing in the later parts; what is
    masked lies at its end.

    >>> parted([Span(1, 1), Span(4, 1)], 4, 2)
    [Span(tiles=1, masked=1, unseen=0.0), Span(tiles=2, masked=0, unseen=0.0), \
Span(tiles=0, masked=0, unseen=0.0), Span(tiles=2, masked=1, unseen=0.0)]
    """
    each = -(-tiles // splits)
    found = []
    for part in range(splits):
        for span in walked:
            own = min(each, max(0, span.tiles - part * each))
            before = max(0, span.tiles - span.masked - part * each)  # of its tiles, not masked
            share = own / span.tiles if span.tiles else 0.0
            found.append(Span(own, max(0, own - before), span.unseen * share))
    return found


def heads_drawn(case: Attention, tile: Tile) -> int:
    """Heads that differ: all that a block list is known or drawn for, if drawn as far as few.

    Sequences of a batch share the lists of their heads.

    >>> heads_drawn(Attention(2, 16, 16, 1024, 1024, 64, 64, kept=0.5), Tile(128, 128, 4))
    16
    """
    if case.counts:
        return case.H
    if case.kept == 1 or case.causal:
        return 1
    most = max(1, DRAWN // -(-case.P // tile.rows))
    return next(n for n in range(min(case.H, most), 0, -1) if case.H % n == 0)


def spans(case: Attention, tile: Tile, heads: int = 1) -> list[Span]:
    """The key tiles of every query tile of a head, first query tile first, of so many heads.

    >>> [s.tiles for s in spans(Attention(1, 1, 1, 256, 256, 64, 64, True), Tile(128, 128, 4))]
    [1.0, 2.0]
    """
    if not case.causal:
        tiles = -(-case.M // tile.columns)
        edge = 1.0 if case.M % tile.columns else 0.0
        blocks = -(-case.P // tile.rows)
        if case.counts:
            return [Span(float(count), edge * case.kept) for count in case.counts]
        if case.kept < 1:
            drawn = _drawn(tiles, case.kept, blocks * heads, _diagonal(case, tile))
            return [Span(count, edge * case.kept) for count in drawn]
        return [Span(float(tiles), edge)] * blocks
    start = np.arange(0, case.P, tile.rows)
    end = np.minimum(case.M, start + tile.rows + case.offset)
    first = np.zeros_like(start)
    if case.window:
        first = np.maximum(0, start + case.offset - case.window + 1) // tile.columns
    stop = -(-end // tile.columns)
    half = (tile.rows - 16 * tile.row_tiles) // 2  # of a warp in the middle of the block
    row = start + half + case.offset
    whole = np.maximum(first, (row + 1) // tile.columns)  # tiles to here end before the diagonal
    masked = np.maximum(0, stop - whole)
    if case.window:
        below = (row + 16 * tile.row_tiles - 1 - case.window) // tile.columns + 1
        masked += np.maximum(0, np.minimum(below, whole) - first)
    count = np.maximum(0.0, stop - first)
    unseen = count - _seen(case, tile, start, stop)
    if case.counts:
        whole, count = np.tile(count, case.H), np.array(case.counts, dtype=np.float64)
        masked = np.tile(masked, case.H)
        unseen = np.tile(unseen, case.H) * np.minimum(1.0, count / np.maximum(1.0, whole))
    elif case.kept < 1:
        count, unseen = np.maximum(1.0, count * case.kept), unseen * case.kept
    masked = np.minimum(masked, count)
    return list(map(Span, count.tolist(), masked.tolist(), unseen.tolist()))


def _seen(
    case: Attention, tile: Tile, start: NDArray[np.int64], stop: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Key tiles that a warp of a query tile sees something of, on the mean; shape of ``start``."""
    each = 16 * tile.row_tiles
    row = start[:, None] + case.offset + np.arange(0, tile.rows, each)
    last = np.minimum(stop[:, None] - 1, (row + each - 1) // tile.columns)
    first = np.zeros_like(row)
    if case.window:
        first = np.maximum(0, row - case.window + 1) // tile.columns
    found: NDArray[np.float64] = np.maximum(0, last - first + 1).mean(axis=1)
    return found


def _diagonal(case: Attention, tile: Tile) -> float:
    """Key tiles of a query tile that the diagonal passes, on the mean; all that are kept at most.

    >>> _diagonal(Attention(1, 1, 1, 1024, 1024, 64, 64, kept=0.5), Tile(128, 64, 4))
    2.0
    """
    tiles = -(-case.M // tile.columns)
    start = np.arange(0, case.P, tile.rows)
    first = np.minimum(start // tile.columns, tiles - 1)
    last = np.minimum((start + tile.rows - 1) // tile.columns, tiles - 1)
    return min(float(np.mean(last - first + 1)), tiles * case.kept)


def _drawn(tiles: int, kept: float, blocks: int, always: float = 0.0) -> list[float]:
    """Key tiles of blocks that keep each tile with the same chance: an even sample of their counts.

    The counts are binomial but for tiles that are kept ``always``, those of the
    diagonal; blocks are taken in no order of length.

    >>> _drawn(100, 0.3, 1), _drawn(10, 0.3, 2, always=3.0), sorted(_drawn(10, 0.5, 4))
    ([30.0], [3.0, 3.0], [3.0, 4.0, 6.0, 7.0])
    """
    others = max(0, round(tiles - always))
    chance = min(1.0, max(0.0, tiles * kept - always) / others) if others else 0.0
    places = sorted(range(blocks), key=lambda n: (n * _GOLDEN) % 1.0)
    counts = _binomial(others, chance, (np.arange(blocks) + 0.5) / blocks)
    found = [0.0] * blocks
    for place, count in zip(places, counts.tolist(), strict=True):
        found[place] = min(float(tiles), max(1.0, always + count))
    return found


def _binomial(number: int, chance: float, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """The least counts that so many draws pass with no more than these shares.

    >>> _binomial(10, 0.5, np.array([0.1, 0.5, 0.9])).tolist()
    [3, 5, 7]
    """
    if not 0.0 < chance < 1.0:
        return np.full(len(shares), round(number * chance))
    counts = np.arange(number + 1)
    ways = np.array([math.lgamma(n + 1) for n in range(number + 1)])
    logs = ways[-1] - ways - ways[::-1] + counts * math.log(chance)
    logs += (number - counts) * math.log1p(-chance)
    return np.minimum(number, np.searchsorted(np.cumsum(np.exp(logs)), shares))


def moved(tiles: float, rows: int) -> float:
    """Share of tiles in which the maximum of some of ``rows`` rows moves, scores independent.

    The j-th tile holds a row's maximum so far with probability 1/j.

    >>> round(moved(256, 32), 2)
    0.32
    """
    count = max(1, round(tiles))
    shown = min(count, 512)
    found = sum(1 - (1 - 1 / j) ** rows for j in range(1, shown + 1))
    if count > shown:  # (1 - 1/j)^rows is 1 - rows/j there
        found += rows * sum(1 / j for j in range(shown + 1, count + 1, 64)) * 64
    return min(1.0, found / count)
