"""Products of a warp on mma.sync that several kernels have: fragments, and who waits for them."""

from __future__ import annotations

from dataclasses import replace

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_pipeline import Stage


def multiplied(gpu: Gpu, kernel: KernelDescriptor, kind: str, flops: float) -> tuple[float, float]:
    """Cycles of a scheduler's tensor core for so many FLOP, and what a lone warp takes longer."""
    schedulers = gpu.multiprocessor.schedulers
    rate = (gpu.tensor_rate(kernel.path, kind) or 1.0) / schedulers
    alone = (gpu.tensor_alone_rate(kernel.path, kind) or rate) / schedulers
    return flops / rate, flops * (1 / alone - 1 / rate)


def product(
    gpu: Gpu, kernel: KernelDescriptor, kind: str, rows_: float, columns: float, depth: float
) -> Stage:
    """A warp's part of a product on mma.sync: 32 of 128 rows, fragments through ldmatrix."""
    tensor, longer = multiplied(gpu, kernel, kind, 2.0 * rows_ * columns * depth)
    port = gpu.shared_bandwidth / gpu.multiprocessor.schedulers
    return Stage(
        "product",
        tensor=tensor,
        issue=depth / 16 * (rows_ + columns) / 16,
        shared=2.0 * depth * (rows_ + columns) / port,
        wait=gpu.waits.mma + gpu.waits.shared + longer,
    )


def stepped(gpu: Gpu, tile: Tile, whole: Stage, rows_: float, columns: float, depth: int) -> Stage:
    """A product whose warp has few registers: with two stages no next step of 16 is fetched ahead.

    With one only the next fragment is, behind the two mma of the one before it;
    with three all are.
    """
    if tile.stages > 2:
        return whole
    steps = depth // 16
    late = (steps - 1) * (gpu.waits.shared + gpu.waits.mma)
    if tile.stages == 1:
        fragments = steps * (rows_ + columns) / 16
        pair = whole.tensor * 2 * 4096 / (2.0 * rows_ * columns * depth)
        late = fragments * max(0.0, gpu.waits.shared - pair)
    return replace(whole, wait=whole.wait + late)
