"""Tiles of fused attention that a GPU has room for: registers, shared memory, threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile

#: Registers of a thread beside scores, weights and output: addresses, statistics, fragments.
SPARE = 26
#: The most that one thread may have (a compiler finds room for ``SPARE`` more by reuse), and what
#: consumers of one, two and three warpgroups get beside their producer (setmaxnreg).
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
    wide = kernel.path == "wgmma"
    for tile in _wgmma(kernel, values) if wide else _mma(gpu, kernel, values):
        if _shared(kernel, tile, scores, values) <= gpu.multiprocessor.block_shared_bytes:
            yield tile


def registers(kernel: KernelDescriptor, tile: Tile, values: int) -> tuple[int, int]:
    """Registers that a thread of the tile needs, and how many it may have.

    Scores, their rounded copy (wgmma's operand) and the output stay in registers.

    >>> from accelsim.load.kernel import load_kernel
    >>> registers(load_kernel("attention-1pass-wgmma"), Tile(192, 256, 12), 128)
    (282, 160)
    """
    if kernel.path == "wgmma":
        need = tile.columns // 2 + tile.columns // 4 + values // 2 + SPARE
        return need, WARPGROUPS.get(tile.warps // 4, WARPGROUPS[3])
    need = tile.row_tiles * (tile.columns + values) // 2
    return need + SPARE + 8 * tile.row_tiles, MOST + SPARE


def _wgmma(kernel: KernelDescriptor, values: int) -> Iterator[Tile]:
    """One to three consumers of 64 rows."""
    for consumers in WARPGROUPS:
        for keys in KEYS[2:]:
            tile = Tile(64 * consumers, keys, 4 * consumers)
            need, most = registers(kernel, tile, values)
            if need <= most:
                yield from (replace(tile, stages=stages) for stages in (2, 3))


def _mma(gpu: Gpu, kernel: KernelDescriptor, values: int) -> Iterator[Tile]:
    """Four or eight warps of one or two fragments of 16 rows; as many blocks as registers allow."""
    for warps in (4, 8):
        for row_tiles in (1, 2):
            for keys in KEYS[:7]:
                tile = Tile(16 * warps * row_tiles, keys, warps, row_tiles=row_tiles)
                need, most = registers(kernel, tile, values)
                blocks = gpu.multiprocessor.registers // (min(need, MOST) * 32 * warps)
                if need <= most and blocks:
                    yield replace(tile, blocks=blocks)


def _shared(kernel: KernelDescriptor, tile: Tile, scores: int, values: int) -> float:
    pad = kernel.padded_columns or 1
    wide, deep = (2.0 * -(-width // pad) * pad for width in (scores, values))
    return tile.rows * wide + tile.stages * tile.columns * (wide + deep)
