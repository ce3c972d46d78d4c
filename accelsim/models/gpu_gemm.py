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


def launch(gpu: Gpu, kernel: KernelDescriptor, case: Gemm) -> list[Launch]:
    """The launches with the tile and split that end first: what the library's choice aims at."""
    found = [
        _with(gpu, kernel, tile, case, splits)
        for tile in _tiles(kernel, case)
        for splits in SPLITS
        if splits == 1
        or (
            -(-case.K // tile.depth) >= 4 * splits
            and splits * _blocks(tile, case) <= 2 * gpu.multiprocessors
        )
    ]
    cost = gpu.launch.next_s * gpu.clock_hz
    return min(found, key=lambda some: sum(one.cycles for one in some) + cost * len(some))


def _tiles(kernel: KernelDescriptor, case: Gemm) -> list[Tile]:
    """Tiles of the library: its shapes, and narrower ones where a step is given."""
    found = []
    for tile in kernel.tiles:
        step = kernel.column_step or tile.columns
        widest = min(tile.columns, -(-case.N // step) * step)
        found += [replace(tile, columns=n) for n in range(widest, tile.columns // 2, -step)]
        if widest <= tile.columns // 2:
            found.append(replace(tile, columns=widest))
    return found


def _blocks(tile: Tile, case: Gemm) -> int:
    return -(-case.M // tile.rows) * -(-case.N // tile.columns) * case.batch


def _with(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Gemm, splits: int) -> list[Launch]:
    """The launch with one tile and split: steps of a block, blocks over slots, the reduction."""
    tiles = _blocks(tile, case)
    blocks = tiles * splits
    each = case.number_bytes
    together = min(tile.blocks, -(-blocks // gpu.multiprocessors))
    share = shared_ingest(gpu, min(blocks, gpu.multiprocessors)) / together
    rate = gpu.tensor_rate(kernel.path, case.kind) or 1.0
    loaded = each * tile.depth * (tile.rows + tile.columns / tile.cluster)
    flops = 2.0 * tile.rows * tile.columns * tile.depth
    step = max(together * flops / rate, loaded / share)
    steps = math.ceil(math.ceil(case.K / tile.depth) / splits)
    written = 2.0 * tile.rows * tile.columns
    wait = gpu.waits
    around = 2 * wait.memory + loaded / share + wait.wgmma + written / share + wait.l2
    around += wait.barrier + wait.barrier_warp * tile.warps + flops / rate
    partial = 4.0 * case.batch * case.M * case.N * splits if splits > 1 else 0.0
    if partial:  # sums in 32 bits
        around += written / share
    slots = gpu.multiprocessors * together
    cycles = -(-blocks // slots) * (around + steps * step)
    total = tiles * splits * steps * tile.depth
    out = 2.0 * case.batch * case.M * case.N
    first = Launch(
        kernel.name,
        cycles,
        read_bytes=each * case.batch * case.K * (case.M + case.N),
        write_bytes=0.0 if partial else out,
        l2_bytes=each * total * (tile.rows + tile.columns / tile.cluster) + (partial or out),
        operations={f"{kernel.path}.{case.kind}": 2.0 * total * tile.rows * tile.columns},
        blocks=blocks,
        slots=slots,
        stages=(
            ("product", together * flops / rate, "tensor"),
            ("load", loaded / share, "l2"),
        ),
        shape=f"{tile.rows}x{tile.columns}x{tile.depth}" + (f" split {splits}" * (splits > 1)),
    )
    if not partial:
        return [first]
    add = wait.memory + (partial + out) / gpu.multiprocessors / ingest(gpu, gpu.multiprocessors)
    return [first, Launch("reduction", add, 0.0, out, partial + out, {})]
