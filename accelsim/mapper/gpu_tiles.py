"""Tiles of fused attention that a GPU has room for: registers, shared memory, threads."""

from __future__ import annotations

from collections.abc import Iterator

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile

#: Registers of a thread beside scores, weights and output: addresses, statistics, fragments.
SPARE = 26
#: The most that one thread may have, and what consumers of one, two and three warpgroups get
#: beside their producer (setmaxnreg).
MOST = 255
WARPGROUPS = {1: 240, 2: 240, 3: 160}
KEYS = range(32, 257, 16)


def legal(gpu: Gpu, kernel: KernelDescriptor, scores: int, values: int) -> Iterator[Tile]:
    """Every tile of the kernel's path for head dimensions ``scores`` and ``values`` that fits.

    >>> from accelsim.load.gpu import load_gpu
    >>> from accelsim.load.kernel import load_kernel
    >>> tiles = list(legal(load_gpu("h100-sxm"), load_kernel("attention-1pass-wgmma"), 128, 128))
    >>> max(t.columns for t in tiles if t.rows == 192), len(tiles) > 20
    (80, True)
    """
    for tile in _wgmma(values) if kernel.path == "wgmma" else _mma(gpu, values):
        if _shared(kernel, tile, scores, values) <= gpu.multiprocessor.block_shared_bytes:
            yield tile


def _wgmma(values: int) -> Iterator[Tile]:
    """One to three consumers of 64 rows; scores, rounded weights and output in registers."""
    for consumers, most in WARPGROUPS.items():
        for keys in KEYS:
            if keys >= 64 and keys // 2 + keys // 4 + values // 2 + SPARE <= most:
                for stages in (2, 3):
                    yield Tile(64 * consumers, keys, 4 * consumers, stages=stages)


def _mma(gpu: Gpu, values: int) -> Iterator[Tile]:
    """Four or eight warps of one or two fragments of 16 rows; as many blocks as registers allow."""
    for warps in (4, 8):
        for row_tiles in (1, 2):
            for keys in KEYS:
                each = row_tiles * (keys + values) // 2 + SPARE + 8 * row_tiles
                blocks = gpu.multiprocessor.registers // (min(each, MOST) * 32 * warps)
                if each <= MOST + SPARE and keys <= 128 and blocks:
                    yield Tile(16 * warps * row_tiles, keys, warps, 0, row_tiles, blocks)


def _shared(kernel: KernelDescriptor, tile: Tile, scores: int, values: int) -> float:
    pad = kernel.padded_columns or 1
    wide, deep = (2.0 * -(-width // pad) * pad for width in (scores, values))
    return tile.rows * wide + tile.stages * tile.columns * (wide + deep)
