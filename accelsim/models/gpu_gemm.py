"""A matrix product on a GPU: the tile a library would choose, its main loop, waves and splits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_launch import Launch, ingest, shared_ingest

#: Parts that the contraction may be split into where there are few tiles.
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)


@dataclass(frozen=True, slots=True)
class Gemm:
    """M x K times K x N, 16 bits a number unless ``kind`` says less."""

    M: int
    N: int
    K: int
    kind: str = "bf16"
    batch: int = 1

    @property
    def number_bytes(self) -> float:
        """Bytes of a number of the factors."""
        return 1.0 if self.kind in ("s8", "e4m3") else 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A product in one tile and split: cycles of a step by ceiling, and of all."""

    tile: Tile
    splits: int
    blocks: int
    slots: int
    steps: int
    product: float
    load: float
    cycles: float
    reduction: float


def launch(gpu: Gpu, kernel: KernelDescriptor, case: Gemm) -> list[Launch]:
    """The launches with the tile and split that end first: what the library's choice aims at."""
    plans = [
        _plan(gpu, kernel, tile, case, splits)
        for tile in _tiles(kernel, case)
        for splits in SPLITS
        if splits == 1
        or (
            4 * splits * tile.depth <= case.K
            and splits * _blocks(tile, case) <= 2 * gpu.multiprocessors
        )
    ]
    another = gpu.launch.next_s * gpu.clock_hz

    def ends(plan: Plan) -> float:
        return plan.cycles + plan.reduction + another * (plan.splits > 1)

    return _launches(kernel, case, min(plans, key=ends))


def _tiles(kernel: KernelDescriptor, case: Gemm) -> list[Tile]:
    """Tiles of the library: its shapes, and narrower ones where a step is given."""
    found: dict[tuple[int, int], Tile] = {}
    for tile in kernel.tiles:
        step = kernel.column_step or tile.columns
        widest = min(tile.columns, -(-case.N // step) * step)
        for columns in range(widest, min(widest - 1, tile.columns // 2), -step):
            found.setdefault((tile.rows, columns), replace(tile, columns=columns))
    return list(found.values())


def _blocks(tile: Tile, case: Gemm) -> int:
    return -(-case.M // tile.rows) * -(-case.N // tile.columns) * case.batch


def _plan(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Gemm, splits: int) -> Plan:
    """Steps of a block, blocks over slots, and the sum of the parts where there are splits."""
    blocks = _blocks(tile, case) * splits
    together = min(tile.blocks, -(-blocks // gpu.multiprocessors))
    share = shared_ingest(gpu, min(blocks, gpu.multiprocessors)) / together
    rate = gpu.tensor_rate(kernel.path, case.kind) or 1.0
    flops = 2.0 * tile.rows * tile.columns * tile.depth
    product = together * flops / rate
    load = case.number_bytes * tile.depth * (tile.rows + tile.columns / tile.cluster) / share
    steps = math.ceil(math.ceil(case.K / tile.depth) / splits)
    written = 2.0 * tile.rows * tile.columns / share
    wait = gpu.waits
    around = 2 * wait.memory + load + wait.wgmma + written + wait.l2
    around += wait.barrier + wait.barrier_warp * tile.warps + flops / rate
    reduction = 0.0
    if splits > 1:  # sums in 32 bits, added by another launch
        around += written
        moved = 2.0 * case.batch * case.M * case.N * (2 * splits + 1)
        reduction = wait.memory + moved / gpu.multiprocessors / ingest(gpu, gpu.multiprocessors)
    slots = gpu.multiprocessors * together
    cycles = -(-blocks // slots) * (around + steps * max(product, load))
    return Plan(tile, splits, blocks, slots, steps, product, load, cycles, reduction)


def _launches(kernel: KernelDescriptor, case: Gemm, plan: Plan) -> list[Launch]:
    """The launches of a plan."""
    tile, out = plan.tile, 2.0 * case.batch * case.M * case.N
    partial = 2.0 * out * plan.splits if plan.splits > 1 else 0.0
    total = plan.blocks * plan.steps * tile.depth
    each = case.number_bytes
    first = Launch(
        kernel.name,
        plan.cycles,
        read_bytes=each * case.batch * case.K * (case.M + case.N),
        write_bytes=0.0 if partial else out,
        l2_bytes=each * total * (tile.rows + tile.columns / tile.cluster) + (partial or out),
        operations={f"{kernel.path}.{case.kind}": 2.0 * total * tile.rows * tile.columns},
        blocks=plan.blocks,
        slots=plan.slots,
        stages=(("product", plan.product, "tensor"), ("load", plan.load, "l2")),
        shape=f"{tile.rows}x{tile.columns}x{tile.depth}"
        + (f" split {plan.splits}" if partial else ""),
    )
    if not partial:
        return [first]
    return [first, Launch("reduction", plan.reduction, 0.0, out, partial + out, {})]
