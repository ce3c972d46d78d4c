"""Kernels that stream memory: row operations, copies, decoding, weight-only products.

Time is the largest of what memory takes, what L2 takes, and what instructions
take; bytes begin to flow one latency after the launch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from accelsim.errors import refuse
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile, splits_of
from accelsim.models.gpu_launch import Launch, ingest
from accelsim.models.gpu_pipeline import Stage, staggered, tile_cycles


@dataclass(frozen=True, slots=True)
class Rows:
    """An operation on the rows of a matrix of 16-bit numbers."""

    rows: int
    columns: int
    form: str = ""
    kind: str = "bf16"


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


def rows(gpu: Gpu, kernel: KernelDescriptor, case: Rows) -> Launch:
    """A block a row: it reads, reduces, computes and writes, one after the other.

    Blocks of one multiprocessor overlap these phases where three or more
    reside; one or two run in phase, and memory idles while they compute.
    """
    form = case.form or kernel.form
    if len(kernel.tiles) > 1 and case.columns <= kernel.tiles[0].columns:
        form = "held"  # a row a warp
    counts = dict(kernel.instructions)
    if form not in counts:
        raise refuse(f"{kernel.name} has no form {form!r}", ", ".join(sorted(counts)))
    limit = gpu.multiprocessor
    threads = row_threads(kernel, form, case.columns)
    warps = threads / 32
    together = max(1, min(limit.blocks, limit.threads // threads))
    together = min(together, -(-case.rows // gpu.multiprocessors))
    slots = together * gpu.multiprocessors
    each = counts[form] * -(-case.columns // 8 // threads)  # instructions of a warp
    size = 2.0 * case.columns
    active = min(case.rows, gpu.multiprocessors)
    share = gpu.memory.copy / gpu.clock_hz / active
    sweeps = {"held": 1, "derived": 2}.get(form, kernel.passes)
    again = 0.0 if together * size <= limit.shared_bytes else size / ingest(gpu, active)
    work = warps * each / limit.schedulers
    walk = _row(gpu, size / share, again, work, sweeps, warps)
    waves = max(1.0, case.rows / slots)
    numbers = size * case.rows
    return Launch(
        kernel.name,
        waves * tile_cycles(walk, together, together, "in phase" if together < 2 else "staggered"),
        numbers,
        numbers,
        l2_bytes=numbers * (2 + (sweeps - 1) * (again > 0)),
        operations={
            "ex2": 2.0 * case.rows * case.columns if "softmax" in kernel.name else 0.0,
            "fma": case.rows * warps * each * 16,  # half of the instructions, by their energy
        },
        blocks=case.rows,
        slots=slots,
        stages=tuple((s.name, s.cycles(together), s.busiest) for s in walk),
        shape=f"{threads} threads a row",
        lead_s=_lead(gpu),
    )


def row_threads(kernel: KernelDescriptor, form: str, columns: int) -> int:
    """Threads that share a row: as many as the tile for rows so long says, or by numbers of each.

    A row that is held keeps twice the numbers a thread, and four times where
    it is long.

    >>> from accelsim.load.kernel import load_kernel
    >>> [row_threads(load_kernel("softmax"), "held", n) for n in (1000, 5000, 32768)]
    [32, 160, 512]
    >>> [row_threads(load_kernel("torch-softmax"), "textbook", n) for n in (2000, 5000)]
    [32, 1024]
    """
    if len(kernel.tiles) > 1:
        tile = next((t for t in kernel.tiles if columns <= t.columns), kernel.tiles[-1])
        return tile.threads // tile.rows
    each = kernel.numbers * ((4 if columns > 1024 * kernel.numbers else 2) if form == "held" else 1)
    return min(1024, -(-columns // (32 * each)) * 32)


def _row(
    gpu: Gpu, moved: float, again: float, work: float, sweeps: int, warps: float
) -> list[Stage]:
    """Stages of a block's row: ``moved`` cycles to read it, as many to write, ``work`` between.

    A row that is held in registers is there before anything is done with it;
    else each sweep reads (``again`` cycles from L2) and computes as it goes.
    """
    wait = gpu.waits
    reduction = 5 * (wait.shuffle + wait.alu) + 2 * (wait.barrier + wait.barrier_warp * warps)
    reduction += wait.shared + warps * wait.alu
    if sweeps == 1:
        return [
            Stage("read", memory=moved, wait=wait.memory),
            Stage("compute", issue=work, wait=2 * reduction),
            Stage("write", memory=moved),
        ]
    part = work / sweeps
    middle = Stage("sweep", memory=again, issue=part, wait=wait.l2 + reduction)
    return [
        Stage("read", memory=moved, issue=part, wait=wait.memory + reduction),
        *[middle] * (sweeps - 2),
        Stage("write", memory=moved + again, issue=part, wait=wait.l2),
    ]


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
