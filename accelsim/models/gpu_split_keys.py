"""Fused attention whose few queries have their keys split over blocks, and the merge behind it."""

from __future__ import annotations

import math
from dataclasses import replace

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile, first_of
from accelsim.models.gpu_attention import launch
from accelsim.models.gpu_keys import Attention
from accelsim.models.gpu_launch import Launch, ingest


def launches(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention) -> list[Launch]:
    """The launch, or where queries are few and the kernel splits keys, that and the merge."""
    narrow = first_of(kernel.split_tiles, {"E": case.E}) if case.kept == 1 else None
    if narrow is not None:
        blocks = -(-case.P // narrow.rows) * case.B * case.H
        splits = splits_of(blocks, 2 * gpu.multiprocessors, -(-case.M // narrow.columns))
        if splits > 1:
            partial = 2.0 * case.compulsory[1] * splits
            first = launch(gpu, kernel, narrow, case, splits)
            first = replace(first, l2_bytes=first.l2_bytes + partial)
            return [first, _merge(gpu, kernel, case, splits, partial)]
    return [launch(gpu, kernel, tile, case)]


def splits_of(blocks: int, slots: int, key_tiles: int) -> int:
    """Parts of the keys as FlashAttention's rule has it: enough blocks for whole rounds of slots.

    None where four fifths of the slots are taken; else the fewest whose last
    round is filled nearly as well as the best's.

    >>> splits_of(300, 264, 16), splits_of(24, 264, 12)
    (1, 6)
    """
    if blocks >= 0.8 * slots:
        return 1
    most = min(128, slots, key_tiles)
    filled = {
        n: blocks * n / slots / math.ceil(blocks * n / slots)
        for n in range(1, most + 1)
        if n == 1 or math.ceil(key_tiles / n) != math.ceil(key_tiles / (n - 1))
    }
    best = max(filled.values())
    return next(n for n, share in filled.items() if share >= 0.85 * best)


def _merge(
    gpu: Gpu, kernel: KernelDescriptor, case: Attention, splits: int, partial: float
) -> Launch:
    """Parts of outputs, ``partial`` bytes of them, scaled and added; a block has a few rows.

    A block waits for its parameters, for the splits' statistics, for what its warps make
    of them, for each split's numbers in turn, and until results are out; what
    others have just written is as far as memory.
    """
    outputs = case.compulsory[1]
    share = gpu.multiprocessors * ingest(gpu, gpu.multiprocessors)
    tile = first_of(kernel.merge_tiles, {"E": case.E}) or kernel.split_tiles[0]
    blocks = -(-case.P * case.B * case.H // tile.rows)
    slots = gpu.multiprocessors * tile.blocks
    chain = gpu.waits.memory * (4 + splits) * -(-blocks // slots)
    return Launch(
        "merge",
        chain + partial / share,
        0.0,
        outputs,
        partial + outputs,
        {},
        blocks=blocks,
        slots=slots,
        shape=f"{splits} splits, {tile.rows} rows",
    )
