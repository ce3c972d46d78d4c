"""A matrix product on a GPU: the tile a library would choose, its main loop, waves and splits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_launch import Launch, ingest, shared_ingest

#: Numbers of equal parts of a side that are tried beyond the fewest that a tile allows.
PARTS = 12
#: Accumulators of a warpgroup, in numbers of a tile: what takes no more is computed by one, while
#: the other stores the tile before (ping-pong); larger tiles are shared by both.
OWN = 22528
#: Bytes that L2 hands out together: two sectors.
GRAIN = 64.0
#: The contraction is split only where tiles of so many rows and columns leave half of a GPU idle.
FEWEST = 64
#: Parts that it may be split into.
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
    few = -(-case.M // FEWEST) * -(-case.N // FEWEST) * case.batch
    splits = SPLITS if 2 * few <= gpu.multiprocessors else SPLITS[:1]
    plans = [
        _plan(gpu, kernel, tile, case, parts)
        for tile in _tiles(kernel, case)
        for parts in splits
        if parts == 1
        or (
            4 * parts * tile.depth <= case.K
            and parts * _blocks(tile, case) <= 2 * gpu.multiprocessors
        )
    ]
    another = gpu.launch.next_s * gpu.clock_hz

    def ends(plan: Plan) -> float:
        return plan.cycles + plan.reduction + another * (plan.splits > 1)

    return _launches(kernel, case, min(plans, key=ends))


def _tiles(kernel: KernelDescriptor, case: Gemm) -> list[Tile]:
    """Tiles of the library: its shapes, and where a step is given any narrower ones, either way up.

    Of the narrower ones those that cut the other side into equal parts are
    enough: a wider one of as many parts does more work in as many blocks.
    """
    if not kernel.column_step:
        return list(kernel.tiles)
    found: dict[tuple[int, int], Tile] = {}
    for tile in kernel.tiles:
        for side, turned in ((case.N, False), (case.M, True)):
            fewest = -(-side // tile.columns)
            for parts in range(fewest, fewest + PARTS):
                step = kernel.column_step
                columns = max(step, -(-side // (parts * step)) * step)
                made = replace(tile, rows=columns, columns=tile.rows) if turned else tile
                made = made if turned else replace(tile, columns=columns)
                found.setdefault((made.rows, made.columns), made)
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
    fed = case.number_bytes * tile.depth * _read(tile) / gpu.shared_bandwidth
    product = together * max(flops / rate, fed if kernel.path == "wgmma" else 0.0)
    load = case.number_bytes * tile.depth * (tile.rows + tile.columns / tile.cluster) / share
    load *= straddled(case.number_bytes * case.K, case.number_bytes * tile.depth)
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
    rounds, main = -(-blocks // slots), steps * max(product, load)
    cycles = rounds * (around + main)
    if kernel.persistent:  # the next tile's operands come while this one is stored
        size = 2.0 * tile.rows * tile.columns * together
        stored = 2 * size / gpu.shared_bandwidth + size / ingest(gpu, min(blocks, slots))
        own = tile.rows * tile.columns <= OWN
        each = max(main, stored) if own else main + stored + wait.shared + wait.barrier
        cycles = around + main + (rounds - 1) * each
    return Plan(tile, splits, blocks, slots, steps, product, load, cycles, reduction)


@lru_cache(maxsize=256)
def straddled(pitch: float, size: float) -> float:
    """Grains of L2 that pieces of ``size`` bytes touch, over the fewest; rows are ``pitch`` apart.

    >>> straddled(8192, 128), straddled(8208, 128)
    (1.0, 1.375)
    """
    starts = {pitch * row % GRAIN for row in range(int(GRAIN))}
    touched = [math.ceil((start + size) / GRAIN) for start in starts]
    return sum(touched) / len(touched) * GRAIN / size


def _read(tile: Tile) -> float:
    """Numbers of a step's depth that come from shared memory: A and B of every 64 rows of wgmma.

    The side in whole 64s is that of the accumulators' rows.
    """
    rows, columns = tile.rows, tile.columns
    if rows % 64:
        rows, columns = columns, rows
    return rows / 64 * (64.0 + columns)


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
