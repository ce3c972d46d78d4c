"""The mapspace of a described GPU kernel: tiles, warps, stages, blocks, splits, and what fits.

The space is finite and small, so it is listed whole: every point comes back,
with the resource that refuses it where one does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile

#: Registers of a thread beside scores, weights and output: addresses, statistics, fragments.  In
#: mma's loop a compiler finds room for them by reuse where nothing else is left.
SPARE: Final = 26
#: The most that one thread may have.
MOST: Final = 255
#: Registers of a producer's thread beside wgmma's consumers, and the most of a consumer's
#: (setmaxnreg goes in steps of 8, and to 240 beside a producer).
PRODUCER, CONSUMER = 32, 240
#: Bytes beside the tiles of a wgmma block: alignment to 1 KiB, barriers, and those of a stage.
ALIGNED, BARRIERS = 1032, 32
KEYS = range(32, 257, 16)
#: Keys that a warp of a decoding kernel takes at a time.
WALKS = (16, 32, 64)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource of which a candidate needs more than there is: registers of a thread, bytes."""

    resource: str
    need: float
    room: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kernel in a tile, and why it does not fit where it does not."""

    kernel: KernelDescriptor
    tile: Tile
    refused: Refusal | None = None


def space(gpu: Gpu, kernel: KernelDescriptor, sizes: Mapping[str, int]) -> list[Candidate]:
    """Every point of the mapspace of a kernel for head dimensions E and F, the kernel's own first.

    Fused attention: wgmma has one to three consumers of 64 rows, 64 to 256 keys
    and two or three stages; mma four or eight warps of one or two fragments of
    16 rows and 32 to 256 keys; as many blocks reside as registers allow (two
    with wgmma, for one consumer).  Decoding: 16 to 64 keys a warp, one to four
    blocks, next keys ahead or not, keys split over blocks or not.  Kernels of
    other families have the tiles of their descriptor.

    >>> from accelsim.load.gpu import load_gpu
    >>> from accelsim.load.kernel import load_kernel
    >>> found = space(load_gpu("h100-sxm"), load_kernel("attention-1pass-wgmma"), {"E": 128})
    >>> len(found), sum(c.refused is None for c in found)
    (78, 32)
    >>> [c.refused for c in found if (c.tile.rows, c.tile.columns) == (192, 256)][0]
    Refusal(resource='registers', need=282, room=160)
    """
    scores = sizes["E"]
    values = sizes.get("F", scores)
    if kernel.family == "attention":
        wide = kernel.path == "wgmma"
        tiles = _wgmma(kernel, values) if wide else _mma(gpu, kernel, values)
        own = [t for t in (kernel.tile(dict(sizes)),) if _built(kernel, t)]
    elif kernel.family == "decode":
        tiles, own = _walks(kernel), [kernel.tile({"bits": 16, **sizes})]
    else:
        tiles, own = iter(()), [kernel.tile(dict(sizes))]
    return [
        Candidate(kernel, tile, refusal(gpu, kernel, tile, scores, values, sizes.get("bits", 16)))
        for tile in dict.fromkeys(replace(t, when=()) for t in (*own, *tiles))
    ]


def products(gpu: Gpu, kernel: KernelDescriptor) -> list[Candidate]:
    """The tiles of a library's products, narrower ones in its steps among them.

    >>> from accelsim.load.gpu import load_gpu
    >>> from accelsim.load.kernel import load_kernel
    >>> found = products(load_gpu("rtx4090"), load_kernel("cublas-gemm"))
    >>> len(found), found[0].refused
    (69, Refusal(resource='shared memory', need=188416.0, room=101376.0))
    """
    found: dict[tuple[int, int], Tile] = {}
    for tile in kernel.tiles:
        step = kernel.column_step or tile.columns
        for columns in range(tile.columns, tile.columns // 2, -step):
            narrow = replace(tile, columns=columns)
            found.setdefault((tile.rows, columns), narrow)
    room = gpu.multiprocessor.block_shared_bytes
    return [
        Candidate(kernel, t, Refusal("shared memory", need, room) if need > room else None)
        for t in found.values()
        for need in [2.0 * t.stages * t.depth * (t.rows + t.columns)]
    ]


def legal(gpu: Gpu, kernel: KernelDescriptor, scores: int, values: int) -> Iterator[Tile]:
    """Every tile of the kernel's space for head dimensions ``scores`` and ``values`` that fits.

    >>> from accelsim.load.gpu import load_gpu
    >>> from accelsim.load.kernel import load_kernel
    >>> tiles = list(legal(load_gpu("h100-sxm"), load_kernel("attention-1pass-wgmma"), 128, 128))
    >>> max(t.columns for t in tiles if t.rows == 192), len(tiles) > 20
    (80, True)
    """
    for one in space(gpu, kernel, {"E": scores, "F": values}):
        if one.refused is None:
            yield one.tile


def refusal(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, scores: int, values: int, bits: int = 16
) -> Refusal | None:
    """The first resource that a tile needs more of than a block or a multiprocessor has."""
    if kernel.family not in ("attention", "decode"):
        return None
    width = values if kernel.family == "attention" else scores
    need, most = registers(kernel, tile, width, gpu, bits)
    if need > most:
        return Refusal("registers", need, most)
    threads = tile.threads + (128 if kernel.path == "wgmma" else 0)
    if threads * tile.blocks > gpu.multiprocessor.threads:
        return Refusal("threads", threads * tile.blocks, gpu.multiprocessor.threads)
    shared = shared_bytes(kernel, tile, scores, values)
    if shared > gpu.multiprocessor.block_shared_bytes:
        return Refusal("shared memory", shared, gpu.multiprocessor.block_shared_bytes)
    return None


def registers(
    kernel: KernelDescriptor, tile: Tile, values: int, gpu: Gpu | None = None, bits: int = 16
) -> tuple[int, int]:
    """Registers that a thread of the tile needs, and how many it may have.

    Scores, their rounded copy (wgmma's operand) and the output stay in
    registers; a decoding warp keeps the keys and values on their way, of so many
    ``bits``, and its output.

    >>> from accelsim.load.kernel import load_kernel
    >>> registers(load_kernel("attention-1pass-wgmma"), Tile(192, 256, 12), 128)
    (282, 160)
    """
    all_of_them = gpu.multiprocessor.registers if gpu else 65536
    if kernel.family == "decode":
        need = tile.stages * tile.columns * values * bits // 512 + values // 4
        return need, min(MOST, all_of_them // (tile.blocks * tile.threads))
    if kernel.path == "wgmma":
        need = tile.columns // 2 + tile.columns // 4 + values // 2 + SPARE
        left = all_of_them // 128 // tile.blocks - PRODUCER  # of a lane of all consumers
        return need, min(CONSUMER, left // (tile.warps // 4) // 8 * 8)
    return tile.row_tiles * ((tile.columns + values) // 2 + 8), MOST


def shared_bytes(kernel: KernelDescriptor, tile: Tile, scores: int, values: int) -> float:
    """Shared memory of a block of fused attention: the tile of Q, K's and V's in flight, barriers.

    >>> from accelsim.load.kernel import load_kernel
    >>> shared_bytes(load_kernel("attention-1pass-wgmma"), Tile(192, 80, 12), 128, 128)
    132168.0
    """
    if kernel.family != "attention":
        return 0.0
    pad = kernel.padded_columns or 1
    wide, deep = (2.0 * -(-width // pad) * pad for width in (scores, values))
    beside = ALIGNED + BARRIERS * tile.stages if kernel.path == "wgmma" else 0
    return tile.rows * wide + tile.stages * tile.columns * (wide + deep) + beside


def _built(kernel: KernelDescriptor, tile: Tile) -> bool:
    """Whether a tile is one of the space: wgmma's consumers are whole warpgroups."""
    return kernel.path != "wgmma" or tile.warps % 4 == 0


def _wgmma(kernel: KernelDescriptor, values: int) -> Iterator[Tile]:
    """One to three consumers of 64 rows; two blocks of one consumer where registers allow."""
    for consumers, keys, stages in product((1, 2, 3), KEYS[2:], (2, 3)):
        tile = Tile(64 * consumers, keys, 4 * consumers, stages=stages)
        twice = replace(tile, blocks=2)
        need, most = registers(kernel, twice, values)
        yield twice if consumers == 1 and not kernel.persistent and need <= most else tile


def _mma(gpu: Gpu, kernel: KernelDescriptor, values: int) -> Iterator[Tile]:
    """Four or eight warps of one or two fragments of 16 rows; as many blocks as registers allow."""
    for warps, row_tiles, keys in product((4, 8), (1, 2), KEYS):
        tile = Tile(16 * warps * row_tiles, keys, warps, row_tiles=row_tiles)
        need, _ = registers(kernel, tile, values)
        blocks = gpu.multiprocessor.registers // (min(need + SPARE, MOST) * tile.threads)
        yield replace(tile, blocks=max(1, blocks))


def _walks(kernel: KernelDescriptor) -> Iterator[Tile]:
    rows = kernel.tiles[-1].rows
    for keys, blocks, stages, split in product(WALKS, (1, 2, 3, 4), (1, 2), (1, 0)):
        yield Tile(rows, keys, 4, depth=split, blocks=blocks, stages=stages)
