"""Fused attention over many queries on a GPU: cycles of a tile, of a block, of the launch.

A block owns a tile of queries and walks over tiles of keys (FlashAttention,
Dao et al., 2022).  Operations of a tile are those of the one- or two-pass
cascade: two products, a maximum, a subtraction scaled (one multiply-add), an
exponential, a sum and a rounding for each score, and a correction of the
running output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from accelsim.errors import refuse
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_keys import Attention, Span, heads_drawn, moved, parted, spans
from accelsim.models.gpu_launch import Launch, ingest
from accelsim.models.gpu_pipeline import Stage, in_order, in_phase, lane_cycles, staggered
from accelsim.models.gpu_schedule import ending

#: Shared memory that the driver keeps for itself in a block (CUDA programming guide, 9.0).
DRIVER_BYTES = 1024
#: Paths whose products take operands from shared memory themselves, one copy for a warpgroup.
ASYNCHRONOUS = ("wgmma", "tcgen05")
#: Accumulators of a lane, three quarters of its 255 registers, beyond which no two rows' chains
#: have room beside each other.
FULL_REGISTERS = 192


def stages(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, corrected: float, half: int = 0
) -> list[Stage]:
    """Stages of a tile for one warp; ``half`` 1 and 2 are the first and second of two passes."""
    made = _asynchronous if kernel.path in ASYNCHRONOUS else _synchronous
    return made(gpu, kernel, tile, case, corrected, half)


def _asynchronous(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, corrected: float, half: int
) -> list[Stage]:
    """Warpgroups whose products take operands from shared memory; ``issue`` is multiply-adds."""
    rows, columns = 16 * tile.row_tiles, tile.columns
    scores = rows * columns / 32  # of a lane
    wait, schedulers = gpu.waits, gpu.multiprocessor.schedulers
    rate = (gpu.tensor_rate(kernel.path, case.kind) or 0.0) / schedulers
    port = gpu.shared_bandwidth / schedulers
    scored, valued = _widths(kernel, case)
    first, second = (2.0 * rows * columns * width for width in (scored, valued))
    read = columns / 4  # four warps of a warpgroup read one copy of K and V
    row_parts = rows / 8  # rows that a lane has a part of
    found = [
        Stage(
            "scores",
            tensor=first / rate,
            shared=2.0 * scored * (read + rows) / port,
            wait=wait.wgmma,
        )
    ]
    if half != 2:
        found.append(
            Stage(
                "maximum",
                alu=lane_cycles(gpu, "max", scores + 2 * row_parts),
                wait=row_parts * 2 * (wait.shuffle + wait.alu),  # row after row
            )
        )
    found.append(
        Stage(
            "exponential",
            ex2=lane_cycles(gpu, "ex2", scores + (0 if half == 2 else row_parts)),
            issue=lane_cycles(gpu, "fma", 2 * scores),
            wait=row_parts * (wait.ex2 + 2 * wait.alu),
        )
    )
    if half != 1:
        if half == 0 and corrected:
            each = rows * valued / 32 * corrected
            found.append(Stage("correction", issue=lane_cycles(gpu, "fma", each)))
        found.append(
            Stage(
                "product",
                tensor=second / rate,
                alu=lane_cycles(gpu, "cvt", scores / 2),
                shared=2.0 * valued * read / port,
                beside=kernel.ahead,
            )
        )
    found.append(synchronised(gpu, kernel, tile, case, half))
    return found


def _widths(kernel: KernelDescriptor, case: Attention) -> tuple[int, int]:
    """The head dimensions as they are multiplied."""
    pad = kernel.padded_columns if kernel.padded_work else 1
    return -(-case.E // pad) * pad, -(-case.F // pad) * pad


def _synchronous(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, corrected: float, half: int
) -> list[Stage]:
    """Warps that issue their own mma; ``issue`` is every other instruction.

    Fragments come four 8 x 8 matrices at a time (ldmatrix.x4).  A lane has parts
    of two rows of each 16; their maxima and exponentials run beside each other
    unless accumulators fill the registers.
    """
    rows, columns = 16 * tile.row_tiles, tile.columns
    scores = rows * columns / 32  # of a lane
    wait, schedulers = gpu.waits, gpu.multiprocessor.schedulers
    rate = (gpu.tensor_rate(kernel.path, case.kind) or 0.0) / schedulers
    alone = (gpu.tensor_alone_rate(kernel.path, case.kind) or rate) / schedulers
    slower = 1 / alone - 1 / rate
    port = gpu.shared_bandwidth / schedulers
    first, second = (2.0 * rows * columns * width for width in (case.E, case.F))
    row_parts = rows / 8  # rows that a lane has a part of
    full = scores + rows * case.F / 32 >= FULL_REGISTERS
    chains = row_parts if full else 1.0  # rows one after the other
    found = [
        Stage(
            "scores",
            tensor=first / rate,
            issue=case.E / 16 * (rows + columns) / 16,
            shared=2.0 * case.E * (columns + rows) / port,
            wait=wait.mma + wait.shared + first * slower,
        )
    ]
    if half != 2:
        found.append(
            Stage(
                "maximum",
                alu=lane_cycles(gpu, "max", scores + 2 * row_parts),
                issue=scores + 4 * row_parts,
                wait=chains * 2 * (wait.shuffle + wait.alu),
            )
        )
    exponents = Stage(
        "exponential",
        ex2=lane_cycles(gpu, "ex2", scores + row_parts),
        issue=3 * scores + 3 * row_parts,
        wait=chains * (wait.ex2 + 2 * wait.alu),
    )
    product = Stage(
        "product",
        tensor=second / rate,
        issue=scores / 2 + case.F / 16 * columns / 16,
        shared=2.0 * case.F * columns / port,
        wait=wait.mma + second * slower,
    )
    if half == 2:  # no row waits for its maximum: keys are weighed beside the product of others
        begun = lane_cycles(gpu, "ex2", rows * 16 / 32)  # the first 16 are weighed before it
        found.append(
            replace(
                product,
                ex2=lane_cycles(gpu, "ex2", scores),
                issue=product.issue + 2 * scores,
                wait=product.wait + wait.ex2 + wait.alu + begun,
            )
        )
    else:
        found.append(exponents)
    if half == 0:
        found.append(Stage("correction", issue=rows * case.F / 32 * corrected))
        found.append(product)
    found.append(synchronised(gpu, kernel, tile, case, half))
    return found


def synchronised(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, half: int
) -> Stage:
    """Barriers, addresses and the instructions of copies, of one warp and tile."""
    each = kernel.counted("overhead", case.E) or kernel.overhead
    own = each * kernel.in_alu("overhead", case.E)
    if kernel.load_bytes:
        widths = case.E if half == 1 else case.E + case.F
        each += 1.5 * 2.0 * tile.columns * widths / (kernel.load_bytes * 32 * tile.warps)
    warps = 8 if kernel.path in ASYNCHRONOUS else tile.warps  # consumers take turns by two
    wait = gpu.waits.barrier + gpu.waits.barrier_warp * warps + gpu.waits.shared
    return Stage("barriers", alu=lane_cycles(gpu, "alu", own), issue=each - own, wait=wait)


def masking(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention) -> Stage:
    """Comparing every score of a tile with the bounds, and choosing."""
    if counted := kernel.counted("mask", case.E):
        own = counted * kernel.in_alu("mask", case.E)
        rest = lane_cycles(gpu, "fma", counted - own)
        return Stage("mask", alu=lane_cycles(gpu, "alu", own), issue=rest)
    bounds = 1 + case.causal + (case.window > 0)
    each = 16 * tile.row_tiles * tile.columns / 32 * (bounds + 1)
    issue = 0.0 if kernel.path in ASYNCHRONOUS else each
    return Stage("mask", alu=lane_cycles(gpu, "alu", each), issue=issue)


def resident(gpu: Gpu, tile: Tile, shared_bytes: float, blocks: int) -> int:
    """Blocks of a multiprocessor that run together: its limits, and how many there are.

    Raises InputError for a block that no multiprocessor has the shared memory for.
    """
    limit = gpu.multiprocessor.block_shared_bytes
    if shared_bytes > limit:
        raise refuse(
            f"a block of {tile.rows} x {tile.columns} needs {shared_bytes / 1024:.0f} KiB of"
            f" shared memory, {gpu.name} has {limit / 1024:.0f} KiB",
            "fewer rows, columns or stages",
        )
    fit = int(gpu.multiprocessor.shared_bytes // (shared_bytes + DRIVER_BYTES))
    threads = gpu.multiprocessor.threads // tile.threads
    return max(1, min(tile.blocks, fit, threads, -(-blocks // gpu.multiprocessors)))


def _warps(gpu: Gpu, tile: Tile, blocks: int) -> int:
    """Warps of a scheduler of so many blocks."""
    return max(1, blocks * tile.warps // gpu.multiprocessor.schedulers)


def shared_bytes(kernel: KernelDescriptor, tile: Tile, case: Attention) -> float:
    """Shared memory of a block: the tile of Q, and K's and V's in flight."""
    pad = kernel.padded_columns or 1
    scores, values = (2.0 * -(-width // pad) * pad for width in (case.E, case.F))
    return tile.rows * scores + tile.stages * tile.columns * (scores + values)


def launch(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, splits: int = 1
) -> Launch:
    """The launch of fused attention in one or two passes, keys over ``splits`` blocks."""
    heads = heads_drawn(case, tile)
    walked = spans(case, tile, heads)
    if kernel.masks_all and not case.causal and case.M % tile.columns:
        walked = [replace(s, masked=s.tiles) for s in walked]
    if splits > 1:
        walked = parted(walked, -(-case.M // tile.columns), splits)
    copies = case.B * case.H // heads
    blocks = len(walked) * copies
    together = resident(gpu, tile, shared_bytes(kernel, tile, case), blocks)
    warps = _warps(gpu, tile, together)
    mean = sum(s.tiles for s in walked) / len(walked)
    corrected = {"always": 1.0, "never": 0.0}.get(kernel.correction)
    if corrected is None:
        corrected = moved(mean, 16 * tile.row_tiles)
    halves = (0,) if kernel.passes == 1 else (1, 2)
    parts = [stages(gpu, kernel, tile, case, corrected, half) for half in halves]
    share = ingest(gpu, min(blocks, gpu.multiprocessors))
    width = case.E + case.F
    if kernel.padded_columns:
        width = 2 * -(-case.E // kernel.padded_columns) * kernel.padded_columns
    tile_bytes = [2.0 * tile.columns * (width if half != 1 else case.E) for half in halves]
    number = 2.0 if splits == 1 else 4.0  # bytes of an output; of parts as they are accumulated
    each, start = _durations(gpu, kernel, tile, case, walked, parts, tile_bytes, share, number)
    durations = cache(each)
    total = start(together) + ending(
        durations,
        copies,
        gpu.multiprocessors,
        together,
        case.causal,
        kernel.longest_first,
        case.kept < 1 and not case.causal and not case.counts,
    )
    slots = gpu.multiprocessors * together
    running = min(blocks, slots)
    busy = sum(durations(together)) * copies / running / total
    score_tiles = sum(s.tiles for s in walked) * copies
    read, written = case.compulsory
    return Launch(
        kernel.name,
        total,
        read + read_again(gpu, tile, case, slots, kernel.passes),
        written,
        held_bytes=read + written,
        busy=min(1.0, busy),
        cold_s=_cold_s(gpu, tile, case, running, together, len(walked) / heads, share),
        l2_bytes=_l2_bytes(case, tile, score_tiles, sum(tile_bytes)),
        operations=_operations(kernel, tile, case, score_tiles, corrected),
        blocks=blocks,
        slots=slots,
        stages=tuple(
            (s.name, warps * float(getattr(s, s.busiest)) + s.wait, s.busiest)
            for part in parts
            for s in part
        ),
        shape=f"{tile.rows}x{tile.columns}",
    )


def _durations(
    gpu: Gpu,
    kernel: KernelDescriptor,
    tile: Tile,
    case: Attention,
    walked: Sequence[Span],
    parts: Sequence[list[Stage]],
    tile_bytes: Sequence[float],
    share: float,
    number: float,
) -> tuple[Callable[[int], list[float]], Callable[[int], float]]:
    """Cycles of the blocks of a head, and what their first tiles of queries take besides.

    Both are functions of how many reside on a multiprocessor.
    """
    mask = masking(gpu, kernel, tile, case)
    beside = gpu.waits.mma_issue

    def walk(part: list[Stage], residents: int) -> float:
        """Cycles of a tile."""
        warps = _warps(gpu, tile, residents)
        if kernel.overlap == "staggered":
            return staggered(part, warps)
        return in_order(part, warps, residents, beside, kernel.interleaved)

    @cache
    def around(residents: int) -> tuple[float, float, float]:
        """Cycles before the first tile of a block, of its later queries, after the last tile."""
        warps = _warps(gpu, tile, residents)
        before, after = _around(gpu, kernel, tile, case, residents, warps, share, number)
        apart = 0.0  # warps begin together
        if kernel.overlap == "staggered":
            apart = sum(in_phase(part, warps) - walk(part, residents) for part in parts)
        first = apart + before + gpu.waits.slot
        if not kernel.persistent:
            return first, first, after
        if kernel.queries_ahead:
            return first, apart, after
        queries = gpu.waits.memory + residents * 2.0 * tile.rows * case.E / share
        return first, apart + queries, after  # its keys are there by then

    def durations(residents: int) -> list[float]:
        cycles = masked = alone = 0.0
        for part, size in zip(parts, tile_bytes, strict=True):
            one = walk(part, residents)
            cycles += max(one, residents * size / share)
            masked += walk([*part, mask], residents) - one
            if kernel.skips:
                alone += walk(part, 1)
        _, before, after = around(residents)
        spared = max(0.0, cycles - alone) if kernel.skips else 0.0  # by who sees nothing
        return [
            before + after + s.tiles * cycles + s.masked * masked - s.unseen * spared
            for s in walked
        ]

    def start(residents: int) -> float:
        first, later, _ = around(residents)
        return first - later

    return durations, start


def read_again(gpu: Gpu, tile: Tile, case: Attention, slots: int, passes: int) -> float:
    """Bytes of K and V that memory gives again: to a later round of a head, to a second pass.

    Between the two rounds that share a head L2 sees the keys of all heads at
    work and the queries and outputs of a round; between the two visits of a
    tile of K the rest of the first pass and as much of the second: three
    quarters of K and V.  Lines that all multiprocessors read stand in both halves
    of L2, so half of its reach holds them; what passes beyond that is lost in
    proportion.  Under a causal mask the later blocks of a head read only its
    first keys, which stay.
    """
    each = -(-case.P // tile.rows)  # blocks of a head
    if case.causal:
        return 0.0
    rounds = math.ceil(each * case.B * case.H / slots)
    shared = case.HK / case.H
    at_work = min(case.B * case.HK, max(1.0, (slots / each + 1) * shared)) * case.keys_bytes
    queries = 2.0 * slots * tile.rows * case.E
    outputs = 2.0 * slots * tile.rows * case.F

    def lost(passed: float) -> float:
        return max(0.0, 1 - gpu.l2_reach_bytes / 2 / passed)

    found = 0.0
    if each > 1:
        found += (rounds - 1) * shared * case.keys_bytes * lost(at_work + queries + outputs)
    if passes == 2:
        turns = max(1.0, each / shared / slots)  # rounds of a key head
        keys = 2.0 * case.B * case.HK * case.M * case.E
        found += turns * keys * lost(0.75 * at_work + queries)
    return found


def _around(
    gpu: Gpu,
    kernel: KernelDescriptor,
    tile: Tile,
    case: Attention,
    together: int,
    warps: int,
    share: float,
    number: float,
) -> tuple[float, float]:
    """Cycles before the first tile of a block, and after its last: a ``number`` of bytes each."""
    first = 2.0 * (tile.rows * case.E + tile.columns * case.E)
    numbers = 16 * tile.row_tiles * case.F / 32  # of a lane, of the output
    port = gpu.shared_bandwidth / gpu.multiprocessor.schedulers
    if case.causal and not case.window:  # blocks of other lengths have ended, or have not
        ending_share = ingest(gpu, min(case.B * case.H, gpu.multiprocessors))
    else:
        ending_share = share
    last = Stage(
        "output",
        issue=lane_cycles(gpu, "fma", numbers),
        alu=lane_cycles(gpu, "cvt", numbers / 2),
        shared=2 * number * 16 * tile.row_tiles * case.F / port,
        wait=2 * gpu.waits.shuffle + gpu.waits.shared,
    )
    stored = together * number * tile.rows * case.F / ending_share
    # The newest keys of a window no other block has asked for before.
    lead = gpu.waits.memory * (2 if case.window and kernel.load_bytes == 0 else 1)
    return lead + together * first / share, last.cycles(warps) + stored + gpu.waits.l2


def _cold_s(
    gpu: Gpu, tile: Tile, case: Attention, running: int, together: int, each: float, share: float
) -> float:
    """Seconds that the first blocks wait longer where memory and not L2 has what they ask for.

    All ``running`` of them ask at once, ``each`` of a head: for queries, and for
    as many tiles of keys and values as they hold, the same ones where no window
    or list says otherwise.  Half of what is asked later overtakes the first tile.
    """
    queries = 2.0 * running * tile.rows * case.E
    tiles = running / each * case.HK / case.H  # heads' first tiles
    if case.window:
        tiles = running
    elif case.kept < 1:
        tiles = min(running, tiles / case.kept)
    one = 2.0 * tile.columns * tiles
    later = (tile.stages - 1) * one * case.E + tile.stages * one * case.F
    asked = queries + one * case.E + later / 2
    own = 2.0 * together * (tile.rows + tile.columns) * case.E / share / gpu.tensor_clock_hz
    return max(0.0, asked / gpu.memory.read - own)


def _l2_bytes(case: Attention, tile: Tile, score_tiles: float, tile_bytes: float) -> float:
    """Bytes between L2 and the multiprocessors: Q and O once, K and V for every tile of scores."""
    queries = 2.0 * case.B * case.H * case.P * (case.E + case.F)
    return queries + score_tiles * tile_bytes


def _operations(
    kernel: KernelDescriptor, tile: Tile, case: Attention, score_tiles: float, corrected: float
) -> dict[str, float]:
    scores = score_tiles * tile.rows * tile.columns
    repeats = kernel.passes
    flops = 2.0 * scores * (case.E * repeats + case.F)
    outputs = score_tiles * tile.rows * case.F * corrected
    per_warp = 16 * tile.row_tiles
    read = case.E * (tile.columns + per_warp) * repeats + case.F * tile.columns
    return {
        f"{kernel.path}.{case.kind}": flops,
        "ex2": scores * repeats,
        "max": scores,
        "fma": scores * repeats + outputs,
        "add": scores,
        "cvt": scores / 2,
        "shared": 0.0
        if kernel.path in ASYNCHRONOUS  # counted with the instruction itself
        else 2.0 * score_tiles * (tile.rows / per_warp) * read,
    }
