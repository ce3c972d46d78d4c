"""Decoding: one query a head over a cache whose keys are split over blocks, and the merge.

A warp takes some keys at a time, waits for them, and works; the warps of a
scheduler share its issue slots and integer lanes, those of a multiprocessor its
part of memory's bandwidth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from accelsim.errors import refuse
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile, splits_of
from accelsim.models.gpu_clock import settle_as_timed
from accelsim.models.gpu_launch import Launch, kept_again
from accelsim.models.gpu_pipeline import IN_STEP, Stage, at_mean, lane_cycles
from accelsim.models.gpu_schedule import last_together
from accelsim.models.gpu_stream import lead

#: By how much of the cycles so far blocks of equal work end apart, as waves of them tell: of 2,560
#: keys a block the second wave adds 32.0 us and the third 30.1, which is what its bytes take (the
#: share that 14 launches of two and three waves say, validation/runs/h100-sxm/decode-waves.json;
#: of blocks of one wave half end within 4 % and nine tenths within 10 % of the time).
SPREAD = 0.055


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


@dataclass(frozen=True, slots=True)
class Walk:
    """The blocks of a decoding step: ``splits`` of ``length`` keys for each of ``heads`` key heads.

    ``groups`` blocks share a part where more query heads than a tile's share its key head.
    """

    heads: int
    groups: int
    splits: int
    length: int

    @property
    def blocks(self) -> int:
        """All of them."""
        return self.heads * self.groups * self.splits


def decode(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Decode) -> list[Launch]:
    """The parts of the keys, then their merge.

    Memory keeps its own clock: how many cycles its transfers take is told by the
    clock that the multiprocessors run at with as much work.
    """
    if case.bits not in kernel.widths:
        bits = ", ".join(map(str, kernel.widths))
        raise refuse(f"{kernel.name} reads no cache of {case.bits} bits", bits)
    walk = _walk(gpu, tile, case)
    first = _parts(gpu, kernel, tile, case, walk, gpu.tensor_clock_hz)
    parts = _parts(gpu, kernel, tile, case, walk, settle_as_timed(gpu, first).sm_hz)
    return [parts, _merge(gpu, case, walk.splits)] if walk.splits > 1 else [parts]


def _walk(gpu: Gpu, tile: Tile, case: Decode) -> Walk:
    """How the kernel splits the keys."""
    heads = case.B * case.HK
    slots, least = gpu.multiprocessors * tile.blocks, tile.columns * tile.warps
    splits = splits_of(heads, slots, case.M, least) if tile.depth else 1
    length = -(-case.M // splits // 16) * 16
    return Walk(heads, -(-(case.H // case.HK) // 16), -(-case.M // length), length)


def _parts(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Decode, walk: Walk, clock_hz: float
) -> Launch:
    """The launch of all parts; memory's cycles are those of ``clock_hz``."""
    slots = gpu.multiprocessors * tile.blocks
    schedulers = gpu.multiprocessor.schedulers
    keys, late = _keys(gpu, kernel, tile, case, clock_hz)
    ending = _ending(gpu, tile, case)

    waves, last = divmod(walk.blocks - 1, slots)
    last += 1
    cycles, streamed, idle = 0.0, *_full_wave(gpu, tile, walk, keys, late)
    for _ in range(waves):
        cycles += streamed
        cycles += max(0.0, idle + ending + gpu.waits.slot - SPREAD * cycles)
    most = last_together(gpu.multiprocessors, waves, last, tile.blocks)
    cycles += _last_wave(gpu, tile, walk, keys, late, last, most) + ending
    warps = min(walk.blocks, slots) / gpu.multiprocessors * tile.warps / schedulers
    outputs, cache = 2.0 * case.B * case.H * case.E, case.cache_bytes * walk.groups
    dots = walk.heads * walk.groups * case.M  # of a tile of queries and a key
    lanes = "alu" if keys.alu > keys.issue else "issue"
    return Launch(
        kernel.name,
        cycles,
        cache + outputs,
        0.0 if walk.splits > 1 else outputs,
        cache + 2 * outputs + (_partial(case, walk.splits) if walk.splits > 1 else 0.0),
        {"mma.f16": 64.0 * dots * case.E, "fma": keys.issue / tile.columns * 32 * dots},
        blocks=walk.blocks,
        slots=slots,
        stages=(
            ("memory", warps * keys.memory, "memory"),
            ("instructions", warps * max(keys.issue, keys.alu), lanes),
        ),
        shape=f"{tile.columns} keys a warp, {walk.splits} splits",
        lead_s=lead(gpu),
    )


def _full_wave(gpu: Gpu, tile: Tile, walk: Walk, one: Stage, late: float) -> tuple[float, float]:
    """Cycles in which the bytes of a full wave come, and those in which a block then asks for none.

    The next block in its place asks when the last one has worked on its last
    round, and on what is left behind whole rounds by a few of its warps; what
    rounds wait for beside their bytes has been counted in each of them.  Where
    all blocks end together memory idles as long; where they end apart, those
    that still read keep it busy.
    """
    schedulers, least = gpu.multiprocessor.schedulers, tile.columns * tile.warps
    warps = max(1.0, tile.blocks * tile.warps / schedulers)
    each = pooled(one, warps, schedulers, late)
    counted = each - warps * one.memory
    idle = late if one.beside else 0.0
    idle += max(0.0, one.wait + warps * one.issue - counted)
    if rest := walk.length % least:
        idle += max(0.0, one.wait + _left(tile, warps, rest) * one.issue - counted)
    return walk.length / least * each, idle


def _left(tile: Tile, warps: float, rest: int) -> float:
    """Warps of a scheduler that have something of ``rest`` keys behind whole rounds."""
    return max(1.0, warps * -(-rest // tile.columns) / tile.warps)


def _last_wave(
    gpu: Gpu, tile: Tile, walk: Walk, one: Stage, late: float, running: int, most: int
) -> float:
    """Cycles of a wave of ``running`` blocks that none follow, without what ends them.

    No multiprocessor has more than ``most`` of them, and one has as many.
    A block takes no less than its bytes at its part of the bandwidth, before them
    what the first keys wait, behind them the last one's work.  Few warps have a
    last round.  The multiprocessors with most blocks end last; memory serves all
    blocks alike.
    """
    schedulers = gpu.multiprocessor.schedulers
    rounds, rest = divmod(walk.length, tile.columns * tile.warps)
    ahead = late if one.beside else 0.0  # nobody asks ahead for the first keys
    mean = running / gpu.multiprocessors
    warps = most * tile.warps / schedulers
    keys = replace(one, memory=one.memory * mean / most)
    streamed = max(1.0, warps) * (rounds * keys.memory + keys.issue) + keys.wait + late - ahead
    found = max(rounds * pooled(keys, warps, schedulers, late), streamed)
    if rest:
        found += pooled(keys, _left(tile, warps, rest), schedulers, late)
    return found + ahead


def _keys(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Decode, clock_hz: float
) -> tuple[Stage, float]:
    """A warp's keys: bytes to come, instructions, what they wait; and cycles until bytes come.

    What was read in the launch before comes from L2 as far as it is there still.
    """
    counted = (str(case.bits), case.E)
    kept = kept_again(gpu, case.cache_bytes)
    width = 1 / (kept / gpu.l2_bandwidth + (1 - kept) / gpu.memory.read) / clock_hz
    width /= gpu.multiprocessors * gpu.multiprocessor.schedulers
    held = case.cache_bytes / (case.B * case.HK * case.M) * tile.columns
    each = kernel.overhead + kernel.counted(*counted) * tile.columns / 32
    keys = Stage(
        "keys",
        memory=held / width,
        issue=each,
        alu=lane_cycles(gpu, "alu", each * kernel.in_alu(*counted)),
        wait=each * kernel.waited(*counted),
        beside=tile.stages > 1,
    )
    return keys, kept * gpu.waits.l2 + (1 - kept) * gpu.waits.memory


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


def _partial(case: Decode, splits: int) -> float:
    """Bytes of the outputs of all parts, with their maxima and sums."""
    return 4.0 * case.B * case.H * splits * (case.E + 2)


def _merge(gpu: Gpu, case: Decode, splits: int) -> Launch:
    """The splits of every query head, a block each."""
    outputs = 2.0 * case.B * case.H * case.E
    # Four parts of a block, four loads ahead; what others have just written is as far as memory.
    chain = gpu.waits.memory * (3 + splits / 16)
    together = gpu.multiprocessors * max(1, gpu.multiprocessor.threads // (4 * case.E))
    chain *= math.ceil(case.B * case.H / together)
    return Launch(
        "merge", chain, 0.0, outputs, _partial(case, splits) + outputs, {}, lead_s=lead(gpu)
    )


def pooled(step: Stage, warps: float, schedulers: int, late: float = 0.0) -> float:
    """Cycles of a step of a mean number of warps of a scheduler that share memory with all others.

    ``step.memory`` is that of a scheduler's part of the bandwidth.  A transfer of
    a multiprocessor goes on at the rate of all its parts, ``late`` after it was
    asked for, and finds those of all its warps before it; issue slots and integer
    lanes are each scheduler's own (mean value analysis of as many stations as
    that).  A warp's next instruction is issued while the lanes work on the last,
    so that it waits for other warps' only.  Keys that were asked for ahead come
    ``beside`` what is done with those before.  Warps in step find all others at
    what is asked most of; they are ``IN_STEP`` of the way from independent ones.

    >>> one = Stage("keys", memory=40.0, issue=10.0, wait=100.0)
    >>> pooled(one, 1, 4) < pooled(one, 3, 4), pooled(one, 100, 4)
    (True, 4028.0)
    >>> pooled(Stage("keys", memory=40.0, issue=80.0, wait=20.0, beside=True), 1, 1, 30.0)
    100.0
    """
    memory = step.memory / schedulers
    most = max(memory, step.issue / schedulers, step.alu / schedulers)

    def apart(count: int) -> float:
        issued = laned = transferred = cycles = 0.0  # how many wait at each station
        for number in range(1, count * schedulers + 1):
            issue = step.issue * (1 + issued / schedulers)
            lanes = step.alu * laned / schedulers
            transfer = memory * (1 + transferred)
            worked, come = issue + lanes + step.wait, transfer + late
            cycles = max(worked, come) if step.beside else worked + come
            cycles = max(cycles, number * most)
            issued, transferred = number * issue / cycles, number * transfer / cycles
            laned = number * (lanes + step.alu) / cycles
        return cycles

    worked, come = step.issue + step.wait, memory + late
    alone = max(worked, come) if step.beside else worked + come
    busiest = schedulers * most
    together = max(alone + (max(1.0, warps) - 1) * busiest, max(1.0, warps) * busiest)
    return IN_STEP * together + (1 - IN_STEP) * at_mean(warps, apart)
