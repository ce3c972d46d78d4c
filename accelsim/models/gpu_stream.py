"""Kernels that stream memory: copies, weight-only products.

Time is the largest of what memory takes, what L2 takes, and what instructions
take; bytes begin to flow one latency after the launch.
"""

from __future__ import annotations

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile, tiles_of
from accelsim.models.gpu_launch import Launch
from accelsim.models.gpu_pipeline import IN_STEP, Stage, at_mean, staggered
from accelsim.models.gpu_rows import Rows


def lead(gpu: Gpu) -> float:
    """Seconds until the first bytes of a streaming kernel arrive."""
    return gpu.waits.memory / gpu.clock_hz


def copy(gpu: Gpu, kernel: KernelDescriptor, case: Rows) -> Launch:
    """A copy of a matrix."""
    numbers = 2.0 * case.rows * case.columns
    return Launch(
        kernel.name, 0.0, numbers, numbers, 2 * numbers, {}, lead_s=lead(gpu), shape="stream"
    )  # fmt: skip


def between(walk: list[Stage], warps: float) -> float:
    """Cycles of a step of a mean number of warps of a scheduler, blocks apart from each other.

    As in ``in_order``: ``IN_STEP`` of the way from independent warps, which find
    memory's transfers half done, to warps in step.
    """
    apart = at_mean(warps, lambda count: staggered(walk, count, True))
    busiest = max(sum(float(getattr(s, pipe)) for s in walk) for pipe in ("memory", "issue"))
    together = staggered(walk, 1, True) + (max(1.0, warps) - 1) * busiest
    return IN_STEP * together + (1 - IN_STEP) * apart


def gemv(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, sizes: tuple[int, int], form: str, bits: float
) -> Launch:
    """A few vectors times rows x columns weights of a format, ``bits`` each with their scales.

    A block takes some tiles of ``rows``, its warps the groups of ``depth`` columns in turn,
    the next group on its way; a round unpacks the vectors' part once, and every tile.
    """
    rows, columns = sizes
    weights = rows * columns * bits / 8
    wait, schedulers = gpu.waits, gpu.multiprocessor.schedulers
    tiles = tiles_of(rows, tile.rows, gpu.multiprocessors)
    blocks = -(-rows // (tiles * tile.rows))
    rounds = columns / tile.depth / tile.warps
    counts = dict(kernel.instructions)
    each = counts[form] + counts[f"{form} tile"] * tiles
    width = gpu.memory.read / gpu.tensor_clock_hz / gpu.multiprocessors / schedulers
    slots = gpu.multiprocessors * tile.blocks
    chain = (1 + tiles) * tile.depth / 16 * wait.mma  # product after product
    fresh = min(1.0, slots / blocks)  # of the vectors' parts, that no block before has read
    chain += fresh * wait.l2 + (1 - fresh) * wait.shared
    late = max(0.0, wait.memory - chain - each)
    held = tiles * tile.rows * tile.depth * bits / 8
    walk = [Stage("weights", memory=held / width, issue=each, wait=chain + late)]
    ending = 2 * wait.memory + 2 * (wait.barrier + wait.barrier_warp * tile.warps) + wait.l2

    def lasts(running: int) -> float:
        """Cycles of a wave of so many blocks."""
        warps = running / gpu.multiprocessors * tile.warps / schedulers
        return rounds * between(walk, warps) + ending

    waves, rest = divmod(blocks, slots)
    cycles = waves * lasts(slots) + (lasts(rest) if rest else 0.0)
    warps = min(blocks, slots) / gpu.multiprocessors * tile.warps / schedulers
    total = blocks * rounds * tile.warps
    return Launch(
        kernel.name,
        cycles,
        weights + 2.0 * columns,
        2.0 * rows,
        weights + 2.0 * (rows + columns),
        {"fma": total * each * 32, "mma.f16": 4096.0 * total * (tiles + 1) * tile.depth / 16},
        blocks=blocks,
        slots=slots,
        stages=tuple((s.name, s.cycles(warps), s.busiest) for s in walk),
        lead_s=lead(gpu),
        shape=f"{bits:g} bits a weight, {tiles * tile.rows} rows a block",
    )
