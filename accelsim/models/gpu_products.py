"""Products of a warp on mma.sync that several kernels have: fragments, and who waits for them."""

from __future__ import annotations

from dataclasses import replace

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_pipeline import Stage


def product(
    gpu: Gpu, kernel: KernelDescriptor, kind: str, rows_: float, columns: float, depth: float
) -> Stage:
    """A warp's part of a product on mma.sync: 32 of 128 rows, fragments through ldmatrix."""
    schedulers = gpu.multiprocessor.schedulers
    rate = (gpu.tensor_rate(kernel.path, kind) or 1.0) / schedulers
    alone = (gpu.tensor_alone_rate(kernel.path, kind) or rate) / schedulers
    flops = 2.0 * rows_ * columns * depth
    return Stage(
        "product",
        tensor=flops / rate,
        issue=depth / 16 * (rows_ + columns) / 16,
        shared=2.0 * depth * (rows_ + columns) / (gpu.shared_bandwidth / schedulers),
        wait=gpu.waits.mma + gpu.waits.shared + flops * (1 / alone - 1 / rate),
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
