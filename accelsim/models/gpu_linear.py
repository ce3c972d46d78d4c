"""Causal linear attention in chunks: states of segments, their prefix, and outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_keys import Attention
from accelsim.models.gpu_launch import PORT_BYTES, Launch, ingest, kept_in_l2, left_in_l2
from accelsim.models.gpu_pipeline import IN_STEP, Stage, in_order, served
from accelsim.models.gpu_products import product, stepped
from accelsim.models.gpu_schedule import last_together, sharing

#: Positions of a chunk.
CHUNK = 64
#: Bytes of a line.
LINE = 128
#: Segments whose states the prefix asks for at once.
AHEAD = 8
#: Bytes that L1 has beside the most shared memory of a multiprocessor (NVIDIA's tuning guides for
#: Ampere, Ada and Hopper: 164 of 192 KB, 100 of 128, 228 of 256).
L1_BESIDE = 28 << 10
#: Bytes of shared memory that the system takes of each block (the same guides).
SYSTEM_SHARED = 1 << 10


def linear(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention) -> list[Launch]:
    """States that segments leave, their prefix, and outputs: chunks in order within a segment."""
    width = tile.columns
    across = -(-case.F // width)
    heads = case.B * case.H
    chunks = -(-case.M // CHUNK)
    segments = max(1, gpu.multiprocessors * 4 // (heads * across))
    each = tile.depth or max(8, -(-chunks // segments))
    segments = -(-chunks // each)
    state = 4.0 * case.E * case.F * heads * segments
    numbers = 2.0 * heads * case.M
    held = numbers * (2 * case.E + 2 * case.F) + state
    far = 1 - kept_in_l2(gpu, held)
    walks = (*[each] * (segments - 1), chunks - each * (segments - 1))  # the last may be short
    outputs = Walk(gpu, kernel, tile, case, walks, True, far).launch(
        numbers * (2 * case.E + case.F) + (state if segments > 1 else 0.0),
        numbers * case.F,
        numbers * (2 * case.E * across + 2 * case.F) + state,
    )
    if segments == 1:
        return [outputs]
    local = replace(tile, blocks=kernel.tile({"E": case.E, "states": 1}).blocks)
    states = Walk(gpu, kernel, local, case, walks, False, far).launch(
        numbers * (case.E + case.F), state, numbers * (case.E * across + case.F) + state
    )
    prefix = Launch(
        "prefix", _prefix(gpu, case, segments, state), state, state, 2 * state, {},
        found_bytes=left_in_l2(gpu, states),
    )  # fmt: skip
    return [states, prefix, outputs]


def _prefix(gpu: Gpu, case: Attention, segments: int, state: float) -> float:
    """Cycles of adding segments' states up: ``state`` bytes of them, a thread four numbers.

    A thread asks for the decay and ``AHEAD`` segments' numbers at once, and writes
    as many; what other multiprocessors have just written is as far as memory.
    """
    threads = float(case.E * case.F * case.B * case.H) / 4
    waves = math.ceil(threads / (gpu.multiprocessors * gpu.multiprocessor.threads))
    rounds = -(-segments // AHEAD)
    moved = 2 * state / gpu.multiprocessors / ingest(gpu, gpu.multiprocessors)
    return (waves * rounds + 1) * gpu.waits.memory + moved


def _of_a_chunk(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, output: bool
) -> list[Stage]:
    """Stages of a warp and chunk: instructions that are no product, and the products.

    Where rows are no whole lines and the length is odd, every second head begins
    within a line.  Its lines are asked for in parts, and L1 looks each up twice
    (counted on the H100: 1.29 times the lookups of all heads, 190 a block and
    chunk of 96 numbers a head); the launch ends with those heads.
    """
    width = tile.columns
    quarter = 16.0 * -(-case.E // (16 * tile.warps))  # rows of the state of a warp, whole fragments
    barrier = gpu.waits.barrier + gpu.waits.barrier_warp * tile.warps
    products = [(quarter, width, CHUNK)]  # rows, columns and depth of a warp
    if output:
        products += [(16.0, CHUNK + width, case.E), (16.0, width, CHUNK)]
    which = "outputs" if output else "states"
    counted = kernel.counted(which, case.E)
    of_products = sum(r * c * d / 2048 + d / 16 * (r + c) / 16 for r, c, d in products)
    port = gpu.shared_bandwidth / gpu.multiprocessor.schedulers
    stored = 2 * 2.0 * (quarter + 16) * width / port if output else 0.0  # state and output
    parts = [
        Stage(
            "instructions",
            issue=max(0.0, counted - of_products) if counted else kernel.overhead,
            shared=stored,
            wait=barrier * (2 if output else 1) + (2 * gpu.waits.shared if output else 0.0),
        )
    ]
    for rows_, columns, depth in products:
        whole = product(gpu, kernel, case.kind, rows_, columns, depth)
        parts.append(stepped(gpu, tile, whole, rows_, columns, depth) if output else whole)
    waited = kernel.waited(which, case.E)
    if waited:  # a lone warp takes what was counted of one
        short = counted * (1 + waited) - in_order(parts, 1, 1, gpu.waits.mma_issue)
        parts[0] = replace(parts[0], wait=max(0.0, parts[0].wait + short))
    row = 2 * case.E
    if row % LINE and case.M * row % LINE and case.B * case.H > 1:
        parts.append(Stage("lines in parts", shared=CHUNK * row * (1 + output) / LINE))
    return parts


@dataclass(frozen=True)
class Walk:
    """A walk over chunks by segments: the state's update, and with ``output`` what it gives.

    ``chunks`` are those of each segment, of which the last may be short; ``far`` is
    the share of what is read that L2 does not hold.
    """

    gpu: Gpu
    kernel: KernelDescriptor
    tile: Tile
    case: Attention
    chunks: tuple[int, ...]
    output: bool
    far: float

    @property
    def across(self) -> int:
        """Blocks that share a segment of a head: each has some columns of V."""
        return -(-self.case.F // self.tile.columns)

    @property
    def blocks(self) -> int:
        """All blocks."""
        return self.across * len(self.chunks) * self.case.B * self.case.H

    @property
    def together(self) -> int:
        """Blocks of a multiprocessor."""
        return max(1, min(self.tile.blocks, -(-self.blocks // self.gpu.multiprocessors)))

    @property
    def slots(self) -> int:
        """Blocks that run at once."""
        return self.gpu.multiprocessors * self.together

    @property
    def chunk_bytes(self) -> float:
        """Of K, of Q for outputs, and of a block's columns of V."""
        return 2.0 * CHUNK * (self.case.E * (1 + self.output) + self.tile.columns)

    @cached_property
    def parts(self) -> list[Stage]:
        """Stages of a warp and chunk."""
        return _of_a_chunk(self.gpu, self.kernel, self.tile, self.case, self.output)

    @cached_property
    def share(self) -> float:
        """Bytes a cycle that a multiprocessor takes from L2."""
        return ingest(self.gpu, min(self.blocks, self.gpu.multiprocessors))

    @cached_property
    def late(self) -> float:
        """Cycles that a block's chunk takes from memory where each multiprocessor has one block."""
        case, memory, width = self.case, self.gpu.memory, self.tile.columns
        own = 2.0 * CHUNK * (case.E * (1 + self.output) * width / case.F + width)
        columns = 2.0 * CHUNK * width
        seconds = memory.seconds(own, columns if self.output else 0.0)
        if width < case.F and memory.panels:  # V's columns come in panels
            seconds += columns / memory.panels - columns / memory.read
        total = seconds * self.across * case.B * case.H * sum(self.chunks)
        cycles = seconds * self.gpu.brief_clock_hz(total)
        asking = min(self.blocks, self.gpu.multiprocessors)
        return max(own / self.share, self.far * cycles * asking) if self.far else 0.0

    @cached_property
    def in_step(self) -> bool:
        """Whether blocks of a multiprocessor begin, and so end, at one time.

        They ask for their states at once; where L1 has no room for as much on its
        way, one has its own before the other, and is ahead of it from there on
        (H100: by 1,000 to 2,000 cycles at their first chunk where 64 KB do not
        fit, by 100 to 300 where 24 or 32 KB do).
        """
        numbers, unit = self.case.E * self.tile.columns, self.gpu.multiprocessor  # of a state
        shared = 2 * self.chunk_bytes + 2 * numbers * self.output + SYSTEM_SHARED
        room = unit.shared_bytes + L1_BESIDE - self.together * shared
        return self.output * self.together * 4 * numbers <= room

    def step(self, residents: int, running: float) -> float:
        """Cycles of a chunk of a block, so many on its multiprocessor and so many in all.

        Its next chunk is on its way while it works on one, which takes as long as
        that needs to come: each block has one chunk on the way from memory.
        """
        wait = self.gpu.waits
        warps = max(1, residents * self.tile.warps // self.gpu.multiprocessor.schedulers)
        found = in_order(self.parts, warps, residents, wait.mma_issue)
        found = max(found, self.from_memory(residents, running))
        if self.output:
            found = max(found, self.latency + self.moved, residents * self.moved)
        return found

    def from_memory(self, residents: int, running: float) -> float:
        """Cycles until memory has sent a chunk to each block of a multiprocessor; 0 from L2."""
        if not self.late:
            return 0.0
        asked, late = self.late * running / self.gpu.multiprocessors, self.gpu.waits.memory
        apart = served([asked / residents], residents, late)
        return IN_STEP * (late + asked) + (1 - IN_STEP) * apart

    @property
    def latency(self) -> float:
        """Cycles until what is asked for begins to come."""
        near, far = self.gpu.waits.l2, self.gpu.waits.memory
        return near + self.far * (far - near)

    @property
    def moved(self) -> float:
        """Cycles in which a chunk passes from L2."""
        return self.chunk_bytes / self.share

    def lasts(self, residents: int, running: float, chunks: int) -> float:
        """Cycles of a block of so many chunks: a chunk and the state come before it begins."""
        state = 4.0 * self.case.E * self.tile.columns / self.share
        # Of all that L2 sends at once, and through a multiprocessor's own port.
        asked = max(running / self.gpu.multiprocessors, residents * self.share / PORT_BYTES)
        first = max(1.0, asked) * (self.moved + state)
        return 2 * self.latency + first + chunks * self.step(residents, running)

    def cycles(self) -> float:
        """Until the last block has ended and its stores are on their way.

        Equal blocks of a multiprocessor end together.  Where the last segments are
        short, memory serves what there is of them; if it does not bound the walk, a
        multiprocessor goes on with the next block.  They never take longer than whole ones.
        """
        gpu, most = self.gpu, max(self.chunks)
        rounds, rest = divmod(self.blocks, self.slots)
        total = rounds * self.lasts(self.together, self.slots, most)
        if rest:
            last = last_together(gpu.multiprocessors, rounds, rest, self.together, self.in_step)
            total += self.lasts(last, rest, most)
        if min(self.chunks) < most:
            running = min(self.blocks, self.slots)
            bound = self.from_memory(self.together, running) == self.step(self.together, running)
            if bound:
                total *= sum(self.chunks) / len(self.chunks) / most
            else:
                total = min(total, self._dealt(running) or total)
        return total + gpu.waits.memory

    def _dealt(self, running: int) -> float | None:
        """The same where unequal blocks are dealt one by one; None where they are many."""
        dealt = []
        for residents in range(1, self.together + 1):
            each = {n: self.lasts(residents, running, n) for n in set(self.chunks)}
            dealt.append([each[n] for n in self.chunks for _ in range(self.across)])
        copies = self.case.B * self.case.H
        return sharing(dealt, copies, self.gpu.multiprocessors, in_step=self.in_step)

    def launch(self, read: float, written: float, through: float) -> Launch:
        """The launch, of so many bytes read, written, and passed by L2."""
        case, width = self.case, self.tile.columns
        flops = 2.0 * CHUNK * case.E * width
        if self.output:
            flops += 2.0 * CHUNK * (CHUNK * case.E + case.E * width + CHUNK * width)
        flops *= self.across * case.B * case.H * sum(self.chunks)
        warps = self.together * self.tile.warps // self.gpu.multiprocessor.schedulers
        return Launch(
            "outputs" if self.output else "states",
            self.cycles(),
            read,
            written,
            through,
            operations={f"{self.kernel.path}.{case.kind}": flops},
            blocks=self.blocks,
            slots=self.slots,
            stages=tuple((s.name, s.cycles(warps), s.busiest) for s in self.parts),
            shape=f"{self.chunks[0]} chunks of {CHUNK}, {len(self.chunks)} segments",
        )
