"""Kernels that stream memory: copies, decoding, weight-only products.

Time is the largest of what memory takes, what L2 takes, and what instructions
take; bytes begin to flow one latency after the launch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from accelsim.errors import refuse
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile, splits_of
from accelsim.models.gpu_launch import Launch
from accelsim.models.gpu_pipeline import Stage, staggered
from accelsim.models.gpu_rows import Rows


@dataclass(frozen=True, slots=True)
class Decode:
    """One query a head over a cache of ``bits`` a number, scales of integers beside."""

    B: int
    H: int
    HK: int
    M: int
    E: int
    bits: int = 16
    kind: str = "f16"

    @property
    def cache_bytes(self) -> float:
        """K and V, with a 16-bit scale a key and head for each where they are integers."""
        scale = 2.0 if self.bits < 16 else 0.0
        return 2.0 * self.B * self.HK * self.M * (self.E * self.bits / 8 + scale)


def _lead(gpu: Gpu) -> float:
    """Seconds until the first bytes of a streaming kernel arrive."""
    return gpu.waits.memory / gpu.clock_hz


def copy(gpu: Gpu, kernel: KernelDescriptor, case: Rows) -> Launch:
    """A copy of a matrix."""
    numbers = 2.0 * case.rows * case.columns
    return Launch(
        kernel.name, 0.0, numbers, numbers, 2 * numbers, {}, lead_s=_lead(gpu), shape="stream"
    )  # fmt: skip


def decode(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Decode) -> list[Launch]:
    """Split keys over blocks, then merge: the stream of the cache beside what is done with it.

    A warp takes ``columns`` keys at a time, waits for them, and works; the
    warps of a scheduler share its issue slots and its part of memory's
    bandwidth (processor sharing).
    """
    counts = dict(kernel.instructions)
    if str(case.bits) not in counts:
        bits = ", ".join(sorted(counts, key=int))
        raise refuse(f"{kernel.name} reads no cache of {case.bits} bits", bits)
    heads = case.B * case.HK
    groups = -(-(case.H // case.HK) // 16)
    slots = gpu.multiprocessors * tile.blocks
    least = tile.columns * tile.warps
    splits = splits_of(heads, slots, case.M, least) if tile.depth else 1
    length = -(-case.M // splits // 16) * 16
    splits = -(-case.M // length)
    blocks = heads * splits * groups
    schedulers = gpu.multiprocessor.schedulers
    rounds = -(-length // least)
    held = case.cache_bytes / heads / case.M * tile.columns  # bytes of a warp's keys
    each = counts[str(case.bits)] * tile.columns / 32 * case.E / 128
    keys = _keys(gpu, tile, case, held, each)
    walk, ending = [keys], _ending(gpu, tile, case)

    def lasts(active: float) -> float:
        """Cycles of a block where so many share a multiprocessor."""
        shared = length / least * between(walk, active * tile.warps / schedulers)
        return max(shared, rounds * between(walk, 1.0)) + ending

    active = min(blocks, slots) / gpu.multiprocessors
    warps = active * tile.warps / schedulers
    cycles = max(1.0, blocks / slots) * lasts(active)
    outputs = 2.0 * case.B * case.H * case.E
    partial = 4.0 * case.B * case.H * splits * (case.E + 2) if splits > 1 else 0.0
    found = [
        Launch(
            kernel.name,
            cycles,
            case.cache_bytes * groups + outputs,
            0.0 if splits > 1 else outputs,
            case.cache_bytes * groups + 2 * outputs + partial,
            {
                "mma.f16": 4.0 * 16 * heads * groups * case.M * case.E,
                "fma": each / tile.columns * 32 * heads * groups * case.M,
            },
            blocks=blocks,
            slots=slots,
            stages=(
                ("memory", warps * keys.memory, "memory"),
                ("instructions", warps * each, "issue"),
            ),
            shape=f"{tile.columns} keys a warp, {splits} splits",
            lead_s=_lead(gpu),
        )
    ]
    if splits > 1:
        found.append(_merge(gpu, case, splits, partial))
    return found


def _keys(gpu: Gpu, tile: Tile, case: Decode, held: float, each: float) -> Stage:
    """A warp's keys: ``held`` bytes to come, ``each`` instructions, and what a chain waits."""
    wait = gpu.waits
    width = gpu.memory.read / gpu.clock_hz / gpu.multiprocessors / gpu.multiprocessor.schedulers
    chain = case.E / 16 * wait.mma + 4 * (wait.shuffle + wait.alu)
    chain += 2 * wait.ex2 + wait.mma * tile.columns / 16
    late = wait.memory  # loads are marked to be dropped from L2 first
    if tile.stages > 1:  # the next keys were asked for before these were worked on
        late = max(0.0, late - chain - each)
    return Stage("keys", memory=held / width, issue=each, wait=chain + late)


def _ending(gpu: Gpu, tile: Tile, case: Decode) -> float:
    """Cycles of a block beside its walk: queries that come, warps that merge, results that go."""
    wait = gpu.waits
    group = min(16, case.H // case.HK)  # heads of a block; its threads write them round by round
    ending = wait.memory + 6 * (wait.shuffle + wait.alu) + wait.l2  # queries, sums, results
    ending += 4 * (wait.barrier + wait.barrier_warp * tile.warps) + 4 * case.E
    ending += math.ceil(group * case.E / tile.threads) * 2 * (wait.shared + 2 * wait.ex2)
    if case.bits == 4:  # what scores start from, a chain of products
        ending += case.E / 16 * wait.mma
    return ending


def _merge(gpu: Gpu, case: Decode, splits: int, partial: float) -> Launch:
    """The splits of every query head, a block each; ``partial`` bytes of their outputs."""
    outputs = 2.0 * case.B * case.H * case.E
    chain = gpu.waits.l2 * (3 + splits / 16)  # four parts of a block, four loads ahead
    together = gpu.multiprocessors * max(1, gpu.multiprocessor.threads // (4 * case.E))
    chain *= math.ceil(case.B * case.H / together)
    return Launch("merge", chain, 0.0, outputs, partial + outputs, {}, lead_s=_lead(gpu))


def between(walk: list[Stage], warps: float) -> float:
    """``staggered`` for a mean number of warps that is no whole number."""
    low = max(1, int(warps))
    rest = max(0.0, warps - low)
    return staggered(walk, low, True) * (1 - rest) + staggered(walk, low + 1, True) * rest


def gemv(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, sizes: tuple[int, int], bits: float
) -> Launch:
    """A few vectors times rows x columns weights of ``bits`` each, scales included.

    A warp takes ``columns`` weights a round, waits for them, and works.
    """
    weights = sizes[0] * sizes[1] * bits / 8
    vectors = 2.0 * sum(sizes)
    wait, schedulers = gpu.waits, gpu.multiprocessor.schedulers
    total = sizes[0] * sizes[1] / tile.columns  # rounds of all warps
    resident = gpu.multiprocessors * tile.blocks * tile.warps
    active = min(total, resident)
    width = gpu.memory.read / gpu.clock_hz / gpu.multiprocessors / schedulers
    each = dict(kernel.instructions)["round"]
    chain = (wait.memory + wait.mma) / max(1, tile.stages - 1)
    walk = [Stage("weights", memory=tile.columns * bits / 8 / width, issue=each, wait=chain)]
    warps = active / gpu.multiprocessors / schedulers
    cycles = max(1.0, total / resident) * between(walk, warps)
    ending = wait.memory + 2 * (wait.barrier + wait.barrier_warp * tile.warps) + wait.l2
    return Launch(
        kernel.name,
        cycles + ending,
        weights + 2.0 * sizes[1],
        2.0 * sizes[0],
        weights + vectors,
        {"fma": total * each * 32},
        blocks=math.ceil(total / tile.warps),
        slots=gpu.multiprocessors * tile.blocks,
        stages=tuple((s.name, s.cycles(warps), s.busiest) for s in walk),
        lead_s=_lead(gpu),
        shape=f"{bits:g} bits a weight",
    )
