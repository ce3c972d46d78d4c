"""A matrix product on a GPU: the tile a library would choose, its main loop, waves and splits."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_launch import Launch, ingest

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


def launch(gpu: Gpu, kernel: KernelDescriptor, case: Gemm) -> Launch:
    """The launch with the tile and split that end first: what the library's choice aims at."""
    found = [
        _with(gpu, kernel, tile, case, splits)
        for tile in kernel.tiles
        for splits in SPLITS
        if splits == 1 or -(-case.K // tile.depth) >= 2 * splits
    ]
    return min(found, key=lambda one: one.cycles)


def _with(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Gemm, splits: int) -> Launch:
    """The launch with one tile and split: steps of a block, blocks over slots, the reduction."""
    across, down = -(-case.M // tile.rows), -(-case.N // tile.columns)
    blocks = across * down * splits * case.batch
    each = case.number_bytes
    together = min(tile.blocks, -(-blocks // gpu.multiprocessors))
    share = ingest(gpu, min(blocks, gpu.multiprocessors)) / together
    rate = gpu.tensor_rate(kernel.path, case.kind) or 1.0
    loaded = each * tile.depth * (tile.rows + tile.columns / tile.cluster)
    flops = 2.0 * tile.rows * tile.columns * tile.depth
    step = max(together * flops / rate, loaded / share)
    steps = -(-case.K // tile.depth) / splits
    written = 2.0 * tile.rows * tile.columns
    wait = gpu.waits
    around = wait.memory + loaded / share + wait.wgmma + written / share
    around += wait.barrier + wait.barrier_warp * tile.warps + flops / rate
    if splits > 1:  # partial sums in 32 bits, added by whoever comes last
        around += 2 * wait.l2 + 2.0 * written / share * (1 + 1 / splits)
    slots = gpu.multiprocessors * together
    cycles = -(-blocks // slots) * (around + steps * step)
    tiles = across * down * case.batch
    total = tiles * splits * steps * tile.depth
    return Launch(
        kernel.name,
        cycles,
        read_bytes=each * case.batch * case.K * (case.M + case.N),
        write_bytes=2.0 * case.batch * case.M * case.N,
        l2_bytes=each * total * (tile.rows + tile.columns) + 2.0 * case.batch * case.M * case.N,
        operations={f"{kernel.path}.{case.kind}": 2.0 * total * tile.rows * tile.columns},
        blocks=blocks,
        slots=slots,
        stages=(
            ("product", together * flops / rate, "tensor"),
            ("load", loaded / share, "l2"),
        ),
        shape=f"{tile.rows}x{tile.columns}x{tile.depth}" + (f" split {splits}" * (splits > 1)),
    )
