"""Neighbourhood attention in one and two dimensions on a GPU: tiles that windows touch, and time.

Positions lie on a grid, row by row.  A query sees a window around the leader
of its group of ``stride`` positions along either axis, moved inside the grid
where it would stick out (Hassani et al., 2023 and 2025).  A block owns a
rectangle of queries and walks over the tiles of keys that cover the union of
their windows; what it does with a tile is what fused attention does.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

from accelsim.errors import refuse
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_attention import resident, shared_bytes, stages
from accelsim.models.gpu_keys import Attention
from accelsim.models.gpu_launch import Launch, ingest
from accelsim.models.gpu_pipeline import Stage, in_order, lane_cycles
from accelsim.models.gpu_schedule import makespan


@dataclass(frozen=True, slots=True)
class Axis:
    """Positions along an axis, how many of them a query sees, and the stride of its groups."""

    size: int
    window: int
    stride: int = 1

    def start(self, place: int) -> int:
        """First position that the query at ``place`` sees; one beyond the end is as the last.

        >>> [Axis(10, 5).start(i) for i in (0, 2, 3, 9)], Axis(10, 4, stride=2).start(5)
        ([0, 0, 1, 5], 3)
        """
        place = min(place, self.size - 1)
        leader = min(place // self.stride * self.stride + self.stride // 2, self.size - 1)
        return max(0, min(leader - self.window // 2, self.size - self.window))


@dataclass(frozen=True, slots=True)
class Grid:
    """Batch, heads, the two axes (one dimension: a height of 1), head dimensions."""

    B: int
    H: int
    HK: int
    y: Axis
    x: Axis
    E: int
    F: int
    kind: str = "bf16"

    @property
    def dense(self) -> Attention:
        """The same tensors as dense attention has them."""
        places = self.y.size * self.x.size
        return Attention(
            self.B, self.H, self.HK, places, places, self.E, self.F, kind=self.kind
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Walk:
    """Key tiles of a block along one axis: all, and of each warp those seen and those wholly so."""

    tiles: int
    seen: tuple[int, ...]
    inside: tuple[int, ...]


#: The different walks along an axis, and which of them each block has.
Walks = tuple[tuple[Walk, ...], tuple[int, ...]]


@lru_cache(maxsize=256)
def walks(axis: Axis, queries: int, warp: int, keys: int) -> Walks:
    """Walks of blocks of ``queries`` along an axis, and which of them each block has.

    ``warp`` queries of a block are a warp's.  Blocks whose windows are all moved
    to one border are alike; away from both borders blocks repeat with the stride.

    >>> kinds, which = walks(Axis(16384, 1024), 64, 16, 64)
    >>> len(which), kinds[which[100]]
    (256, Walk(tiles=17, seen=(17, 17, 17, 17), inside=(15, 15, 15, 15)))
    """
    blocks = range(-(-axis.size // queries))
    period = axis.stride // gcd(axis.stride, queries)
    begin = -(-(axis.window // 2 + axis.stride) // queries)  # the first away from both borders
    after = axis.window - axis.window // 2 + axis.stride
    end = (axis.size - after) // queries
    low = bisect_left(blocks, 1, key=lambda n: axis.start(n * queries + queries - 1))
    high = bisect_left(blocks, axis.size - axis.window, key=lambda n: axis.start(n * queries))
    kinds = {-1: _walk(axis, axis.size - 1, queries, warp, keys)}
    found: list[int] = []
    for number in blocks:
        if number < low or number >= high:
            found.append(-1)
        elif begin + period <= number < end:
            found.append(found[number - period])
        else:
            found.append(number)
            kinds[number] = _walk(axis, number * queries, queries, warp, keys)
    place = {key: at for at, key in enumerate(kinds)}
    return tuple(kinds.values()), tuple(place[key] for key in found)


def _walk(axis: Axis, first: int, queries: int, warp: int, keys: int) -> Walk:
    """The walk of the block whose first query is ``first``."""
    begin, window = axis.start(first), axis.window
    tiles = -(-(axis.start(first + queries - 1) + window - begin) // keys)
    seen, inside = [], []
    for at in range(first, first + queries, warp):
        least, most = axis.start(at) - begin, axis.start(at + warp - 1) - begin
        seen.append(min(tiles, -(-(most + window) // keys)) - least // keys)
        inside.append(max(0, (least + window) // keys - -(-most // keys)))
    return Walk(tiles, tuple(seen), tuple(inside))


def launch(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Grid) -> Launch:
    """The launch: a block a rectangle of queries, heads one after the other.

    Raises InputError for a window longer than its axis or a stride longer
    than the window.
    """
    _check(kernel, tile, case)
    wide = tile.rows // tile.height
    warp_x = min(16 * tile.row_tiles, wide)
    down = walks(case.y, tile.height, 16 * tile.row_tiles // warp_x, tile.height)
    across = walks(case.x, wide, warp_x, tile.columns // tile.height)
    copies = case.B * case.H
    blocks = len(down[1]) * len(across[1]) * copies
    dense = case.dense
    together = resident(gpu, tile, shared_bytes(kernel, tile, dense), blocks)
    share = ingest(gpu, min(blocks, gpu.multiprocessors))
    size = 2.0 * tile.columns * (case.E + case.F)
    parts = stages(gpu, kernel, tile, dense, 1.0)
    mask = masking(gpu, tile)
    schedulers = gpu.multiprocessor.schedulers
    warps = max(1, together * tile.warps // schedulers)
    beside = gpu.waits.mma_issue
    crowded = in_order(parts, warps, together, beside)
    alone = in_order(parts, max(1, warps // together), 1, beside)
    masked = in_order([*parts, mask], warps, together, beside) - crowded
    least = together * size / share
    around = _around(gpu, kernel, tile, case, together, warps, share)
    each = [
        [around + _block(y, x, crowded, alone, masked, least) for x in across[0]] for y in down[0]
    ]
    order = [row[x] for y in down[1] for row in (each[y],) for x in across[1]]
    walked = _tiles(down) * _tiles(across) * copies
    read, written = dense.compulsory
    return Launch(
        kernel.name,
        makespan(order, copies, gpu.multiprocessors * together),
        read,
        written,
        l2_bytes=2.0 * copies * dense.P * (case.E + case.F) + walked * size,
        operations=_operations(kernel, tile, case, down, across),
        blocks=blocks,
        slots=gpu.multiprocessors * together,
        stages=tuple(
            (s.name, warps * float(getattr(s, s.busiest)) + s.wait, s.busiest)
            for s in (*parts, mask)
        ),
        shape=f"{tile.height}x{wide} queries, {tile.height}x{tile.columns // tile.height} keys",
        held_bytes=read + written,
    )


def _block(y: Walk, x: Walk, crowded: float, alone: float, masked: float, least: float) -> float:
    """Cycles of a block's walk: all its warps meet at every tile, and the busiest is waited for.

    Where a warp leaves a tile out, its scheduler serves the other blocks' alone.
    """
    tiles = y.tiles * x.tiles
    seen = sum(y.seen) / len(y.seen) * sum(x.seen) / len(x.seen)
    mixed = alone + (crowded - alone) * seen / tiles
    most = max(
        sy * sx - iy * ix
        for sy, iy in zip(y.seen, y.inside, strict=True)
        for sx, ix in zip(x.seen, x.inside, strict=True)
    )
    return tiles * max(mixed, least) + most * masked


def masking(gpu: Gpu, tile: Tile) -> Stage:
    """Comparing a tile's scores with their windows: along x for each, along y once a row of keys.

    A score takes a difference, a comparison with the window's length and a
    choice.  Where tiles are several rows high a fragment of eight keys is one
    row: its place along x is that of the fragment before, and only the rows differ.
    """
    scores = 16.0 * tile.row_tiles * tile.columns / 32  # of a lane
    each = 3.0 if tile.height == 1 else 2.0
    return Stage("mask", alu=lane_cycles(gpu, "alu", each * scores), issue=each * scores)


def _check(kernel: KernelDescriptor, tile: Tile, case: Grid) -> None:
    """Refuse windows and strides that the grid has no room for."""
    for name, axis in (("Y", case.y), ("X", case.x)):
        if axis.window > axis.size:
            raise refuse(
                f"a window of {axis.window} along {axis.size} positions of {name}",
                f"W{name} of at most {axis.size}",
            )
        if axis.stride > axis.window:
            raise refuse(
                f"a stride of {axis.stride} along {name} for a window of {axis.window}",
                f"S{name} of at most {axis.window}",
            )
    if tile.rows % tile.height or tile.columns % tile.height:
        raise refuse(
            f"{kernel.name}: {tile.rows} queries and {tile.columns} keys in {tile.height} rows",
            "multiples of the tile's height",
        )


def _around(
    gpu: Gpu,
    kernel: KernelDescriptor,
    tile: Tile,
    case: Grid,
    together: int,
    warps: int,
    share: float,
) -> float:
    """Cycles before a block's first tile and after its last: Q and K come, the output goes.

    Where windows start is found once, by divisions; instructions as counted.
    """
    first = together * 2.0 * case.E * (tile.rows + tile.columns) / share
    numbers = 16.0 * tile.row_tiles * case.F / 32  # of a lane, of the output
    port = gpu.shared_bandwidth / gpu.multiprocessor.schedulers
    last = Stage(
        "output",
        issue=kernel.counted("around", case.E) or numbers,
        alu=lane_cycles(gpu, "cvt", numbers / 2),
        shared=2 * 2.0 * 16 * tile.row_tiles * case.F / port,
        wait=2 * gpu.waits.shuffle + gpu.waits.shared,
    )
    stored = together * 2.0 * tile.rows * case.F / share
    return gpu.waits.memory + first + last.cycles(warps) + stored + gpu.waits.l2


def _tiles(walked: Walks) -> int:
    """Tiles of all blocks along an axis."""
    kinds, which = walked
    return sum(kinds[number].tiles for number in which)


def _seen(walked: Walks) -> float:
    """The same of those that a warp sees, on the average over the warps of a block."""
    kinds, which = walked
    means = [sum(kind.seen) / len(kind.seen) for kind in kinds]
    return sum(means[number] for number in which)


def _operations(
    kernel: KernelDescriptor, tile: Tile, case: Grid, down: Walks, across: Walks
) -> dict[str, float]:
    """What the warps compute: every tile that one of its queries sees, whole."""
    tiles = _seen(down) * _seen(across) * case.B * case.H
    scores = tiles * tile.rows * tile.columns
    per_warp = 16 * tile.row_tiles
    read = case.E * (tile.columns + per_warp) + case.F * tile.columns
    return {
        f"{kernel.path}.{case.kind}": 2.0 * scores * (case.E + case.F),
        "ex2": scores,
        "max": scores,
        "fma": scores + tiles * tile.rows * case.F,
        "add": scores,
        "cvt": scores / 2,
        "shared": 2.0 * tiles * (tile.rows / per_warp) * read,
    }
