"""Scores estimated from integers on a GPU: the selection stage of block-sparse attention.

A block loads one tile of quantised queries and one of keys, multiplies them,
and keeps the best score of each smaller block; it neither walks nor shares.
Blocks come and go one by one, so those of a multiprocessor are at different
places of their tile, and share pipes and bandwidth in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.errors import refuse
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_attention import resident
from accelsim.models.gpu_launch import Launch, ingest
from accelsim.models.gpu_pipeline import Stage, lane_cycles, tile_cycles

#: Queries and keys of which one score is kept, and bytes of a score and of a row's scale.
KEPT, SCORE_BYTES, SCALE_BYTES = 64, 4.0, 4.0


@dataclass(frozen=True, slots=True)
class Scores:
    """Queries and keys of ``bits`` a number, one scale a row; the mask is the causal one."""

    B: int
    H: int
    HK: int
    P: int
    M: int
    E: int
    bits: int = 8
    causal: bool = False

    @property
    def read_bytes(self) -> float:
        """Queries and keys as stored, and their scales.

        >>> Scores(1, 1, 1, 64, 64, 128, bits=4).read_bytes
        8704.0
        """
        rows = self.B * (self.H * self.P + self.HK * self.M)
        return rows * (self.E * self.bits / 8 + SCALE_BYTES)

    @property
    def written_bytes(self) -> float:
        """One score a block of queries and keys."""
        return SCORE_BYTES * self.B * self.H * -(-self.P // KEPT) * -(-self.M // KEPT)


def launch(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Scores) -> Launch:
    """The launch.  Raises InputError for bits that it does not read, or a tile without room."""
    counts = dict(kernel.instructions)
    if str(case.bits) not in counts:
        bits = ", ".join(sorted(counts, key=int))
        raise refuse(f"{kernel.name} reads no numbers of {case.bits} bits", bits)
    heads = case.B * case.H
    down, across = -(-case.P // tile.rows), -(-case.M // tile.columns)
    blocks = down * across * heads
    cut, idle = _edges(tile, case)
    cut, idle = cut * heads, idle * heads
    slots = gpu.multiprocessors * tile.blocks
    together = resident(gpu, tile, float(tile.rows + tile.columns) * case.E, blocks)
    warps = max(1, together * tile.warps // gpu.multiprocessor.schedulers)
    parts = _stages(gpu, kernel, tile, case, min(blocks, gpu.multiprocessors), counts)
    one = tile_cycles(parts, warps, together, kernel.overlap)
    masked = tile_cycles([*parts, _mask(gpu, tile, case)], warps, together, kernel.overlap)
    empty = gpu.waits.barrier + gpu.waits.barrier_warp * tile.warps + gpu.waits.l2
    whole = blocks - cut - idle
    spread = (whole * one + cut * masked + idle * empty) / (gpu.multiprocessors * together)
    longest = masked if cut else one
    rounds = max(spread, longest) if blocks > slots else longest
    worked = blocks - idle
    scores = float(worked * tile.rows * tile.columns)
    loaded = worked * (tile.rows + tile.columns) * (case.E * case.bits / 8 + SCALE_BYTES)
    return Launch(
        kernel.name,
        rounds,
        case.read_bytes,
        case.written_bytes,
        l2_bytes=loaded + case.written_bytes,
        operations={
            f"{kernel.path}.s8": 2.0 * scores * case.E,
            "cvt": scores,
            "fma": scores + 32.0 * worked * tile.warps * counts[str(case.bits)] * case.E / 128,
            "max": scores,
            "shared": worked * case.E * (tile.rows + tile.columns * tile.warps + tile.rows),
        },
        blocks=blocks,
        slots=slots,
        stages=tuple((s.name, s.cycles(warps), s.busiest) for s in parts),
        shape=f"{tile.rows}x{tile.columns}",
    )


def _edges(tile: Tile, case: Scores) -> tuple[int, int]:
    """Blocks of a head that compare every score with bounds, and those beyond the diagonal.

    >>> _edges(Tile(128, 128, 4), Scores(1, 1, 1, 512, 512, 64, causal=True))
    (4, 6)
    """
    down, across = -(-case.P // tile.rows), -(-case.M // tile.columns)
    if not case.causal:
        whole = (case.P // tile.rows) * (case.M // tile.columns)
        return down * across - whole, 0
    cut = idle = 0
    for block in range(down):
        first, end = block * tile.rows, (block + 1) * tile.rows
        seen = min(across, -(-end // tile.columns))
        whole = min(case.M, first + 1) // tile.columns if end <= case.P else 0
        cut += seen - min(seen, whole)
        idle += across - seen
    return cut, idle


def _stages(
    gpu: Gpu,
    kernel: KernelDescriptor,
    tile: Tile,
    case: Scores,
    active: int,
    counts: dict[str, float],
) -> list[Stage]:
    """Stages of a block for one of its warps; loads are the whole block's, shared out by warps."""
    schedulers, wait = gpu.multiprocessor.schedulers, gpu.waits
    rows = 16.0 * tile.row_tiles
    scores = rows * tile.columns / 32  # of a lane
    rate = (gpu.tensor_rate(kernel.path, "s8") or 1.0) / schedulers
    port = gpu.shared_bandwidth / schedulers
    width = ingest(gpu, active) / schedulers
    size = (tile.rows + tile.columns) * (case.E * case.bits / 8 + SCALE_BYTES) / tile.warps
    unpacked = counts[str(case.bits)] * case.E / 128
    quads = scores / 2  # pairs of scores share a key's scale
    return [
        Stage("load", memory=size / width, wait=wait.l2 + wait.barrier),
        Stage("unpack", issue=unpacked, alu=2 * unpacked),
        Stage(
            "product",
            tensor=2.0 * rows * tile.columns * case.E / rate,
            shared=case.E * (rows + tile.columns) / port,
            wait=wait.mma + wait.shared,
        ),
        Stage(
            "best",
            alu=lane_cycles(gpu, "cvt", scores) + lane_cycles(gpu, "max", scores),
            issue=lane_cycles(gpu, "fma", scores + quads / 2),
            wait=wait.l2,  # the keys' scales
        ),
        Stage(
            "reduction",
            wait=2 * 5 * (wait.shuffle + wait.alu)
            + wait.shared
            + wait.barrier
            + wait.barrier_warp * tile.warps,
        ),
    ]


def _mask(gpu: Gpu, tile: Tile, case: Scores) -> Stage:
    """Comparing every score of a block with its bounds, and choosing."""
    bounds = 2 + case.causal
    each = 16.0 * tile.row_tiles * tile.columns / 32 * (bounds + 1)
    return Stage("mask", alu=lane_cycles(gpu, "alu", each))
