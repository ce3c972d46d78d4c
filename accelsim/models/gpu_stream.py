"""Kernels that stream memory: copies, decoding, weight-only products.

Time is the largest of what memory takes, what L2 takes, and what instructions
take; bytes begin to flow one latency after the launch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from accelsim.errors import refuse
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile, splits_of, tiles_of
from accelsim.models.gpu_launch import Launch
from accelsim.models.gpu_pipeline import IN_STEP, Stage, staggered
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
    warps of a scheduler share its issue slots, those of a multiprocessor its
    part of memory's bandwidth.  A block takes no less than its bytes at that
    rate, and before them what the first keys wait, behind them the last one's work.
    """
    if case.bits not in kernel.widths:
        bits = ", ".join(map(str, kernel.widths))
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
    rounds, rest = divmod(length, least)
    held = case.cache_bytes / heads / case.M * tile.columns  # bytes of a warp's keys
    each = kernel.overhead + kernel.counted(str(case.bits), case.E) * tile.columns / 32
    one = _keys(gpu, tile, case, held, each)
    ending = _ending(gpu, tile, case)
    ahead = gpu.waits.memory if tile.stages > 1 else 0.0  # nobody asks ahead for the first keys

    def lasts(running: int, more: bool) -> float:
        """Cycles of a wave of so many blocks.

        Few warps have a last round; where more blocks wait, these fill it.  Where
        none do, the multiprocessors with most blocks end last; memory serves all
        blocks alike.
        """
        mean = running / gpu.multiprocessors
        most = mean if more else math.ceil(mean)
        warps = most * tile.warps / schedulers
        keys = replace(one, memory=one.memory * mean / most)
        each_round = pooled(keys, warps, schedulers)
        if more:
            return length / least * each_round + ahead + ending
        streamed = max(1.0, warps) * (rounds * keys.memory + keys.issue) + keys.wait
        found = max(rounds * each_round, streamed)
        if rest:
            found += pooled(
                keys, max(1.0, warps * -(-rest // tile.columns) / tile.warps), schedulers
            )
        return found + ahead + ending

    waves, last = divmod(blocks, slots)
    cycles = waves * lasts(slots, blocks > slots) + (lasts(last, waves > 0) if last else 0.0)
    warps = min(blocks, slots) / gpu.multiprocessors * tile.warps / schedulers
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
                ("memory", warps * one.memory, "memory"),
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
    width = gpu.memory.read / gpu.tensor_clock_hz / gpu.multiprocessors
    width /= gpu.multiprocessor.schedulers
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
    # Four parts of a block, four loads ahead; what others have just written is as far as memory.
    chain = gpu.waits.memory * (3 + splits / 16)
    together = gpu.multiprocessors * max(1, gpu.multiprocessor.threads // (4 * case.E))
    chain *= math.ceil(case.B * case.H / together)
    return Launch("merge", chain, 0.0, outputs, partial + outputs, {}, lead_s=_lead(gpu))


def pooled(step: Stage, warps: float, schedulers: int) -> float:
    """Cycles of a step of a mean number of warps of a scheduler that share memory with all others.

    ``step.memory`` is that of a scheduler's part of the bandwidth.  A transfer of
    a multiprocessor goes on at the rate of all its parts, and finds those of
    all its warps before it; issue slots are each scheduler's own (mean value
    analysis of as many stations as that).

    >>> one = Stage("keys", memory=40.0, issue=10.0, wait=100.0)
    >>> pooled(one, 1, 4) < pooled(one, 3, 4), pooled(one, 100, 4)
    (True, 4000.0)
    """

    def of(count: int) -> float:
        memory = step.memory / schedulers
        issued = transferred = cycles = 0.0  # how many wait at each station
        for number in range(1, count * schedulers + 1):
            issue = step.issue * (1 + issued / schedulers)
            transfer = memory * (1 + transferred)
            cycles = max(step.wait + issue + transfer, number * memory)
            cycles = max(cycles, number * step.issue / schedulers)
            issued, transferred = number * issue / cycles, number * transfer / cycles
        return cycles

    return at_mean(warps, of)


def at_mean(warps: float, cycles: Callable[[int], float]) -> float:
    """Cycles of a mean number of warps, one at least, between those of the whole numbers beside it.

    >>> at_mean(2.5, lambda n: 10.0 * n), at_mean(0.5, lambda n: 10.0 * n)
    (25.0, 10.0)
    """
    low = max(1, int(warps))
    rest = max(0.0, warps - low)
    return cycles(low) * (1 - rest) + (cycles(low + 1) * rest if rest else 0.0)


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
        lead_s=_lead(gpu),
        shape=f"{bits:g} bits a weight, {tiles * tile.rows} rows a block",
    )
