"""Linear attention without a mask on a GPU: states of segments, their sum, outputs.

Keys and values are summed into one state per head (Katharopoulos et al., 2020,
equation 5): a block sums over the chunks of its segment, a second launch adds
the segments, a third puts queries through the sum.  A chunk is one tile of a
walk: its copies were asked for one chunk before, and all warps meet at it.
"""

from __future__ import annotations

from dataclasses import replace

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_attention import resident
from accelsim.models.gpu_keys import Attention
from accelsim.models.gpu_launch import Launch, ingest
from accelsim.models.gpu_pipeline import Stage, lane_cycles, tile_cycles
from accelsim.models.gpu_products import multiplied

#: Loads that a thread of the sum has under way: the compiler unrolls a loop of unknown length by
#: four (CUDA programming guide, pragma unroll, and what NVRTC does without).
UNDER_WAY = 4
#: Threads of a block of the sum, and numbers of each.
SUM_THREADS, SUM_NUMBERS = 256, 2


def chunks_of(chunks: int, heads: int, multiprocessors: int) -> int:
    """Chunks that a block takes: two waves of two blocks a multiprocessor, four at least.

    >>> chunks_of(256, 16, 132), chunks_of(4, 16, 132)
    (8, 4)
    """
    blocks = max(1, multiprocessors * 4 // heads)
    return max(4, -(-chunks // blocks))


def launches(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention) -> list[Launch]:
    """States, their sum over segments, outputs: three launches one behind the other.

    ``tile`` is that of the states; the outputs' registers may let other numbers of blocks reside.
    """
    heads = case.B * case.H
    segments, states = _walk(gpu, kernel, tile, case, outputs=False)
    blocks = kernel.tile({"E": case.E, "outputs": 1}).blocks
    again = replace(tile, blocks=min(blocks, tile.blocks))
    _, outputs = _walk(gpu, kernel, again, case, outputs=True)
    state = heads * (case.E + 1.0) * case.F  # numbers, one row of them the sums of keys
    parts = 4.0 * segments * state
    keys, queries = 2.0 * heads * case.M, 2.0 * heads * case.P
    inputs = keys * (case.E + case.F)
    states = replace(states, read_bytes=inputs, write_bytes=parts, l2_bytes=inputs + parts)
    loaded = outputs.blocks * 2.0 * (case.E + 1) * case.F
    outputs = replace(
        outputs,
        read_bytes=queries * case.E + 2.0 * state,
        write_bytes=queries * case.F,
        l2_bytes=queries * (case.E + case.F) + loaded,
    )
    return [states, _total(gpu, segments, state, parts), outputs]


def _total(gpu: Gpu, segments: int, state: float, parts: float) -> Launch:
    """The sum over segments: every thread its numbers, loads four by four, one round after another.

    What the launch before wrote is in L2 as far as it fits.
    """
    threads = state / SUM_NUMBERS
    blocks = -(-threads // SUM_THREADS)
    slots = gpu.multiprocessors * (gpu.multiprocessor.threads // SUM_THREADS)
    busy = min(blocks, gpu.multiprocessors)
    chain = (segments // UNDER_WAY + segments % UNDER_WAY + 1) * gpu.waits.l2  # the rest one by one
    streamed = parts / busy / ingest(gpu, int(busy))
    return Launch(
        "sum",
        max(-(-blocks // slots) * chain, chain + streamed),
        parts,
        2.0 * state,
        l2_bytes=parts + 2.0 * state,
        operations={"add": parts / 4},
        blocks=int(blocks),
        slots=slots,
        stages=(("segments", chain, "issue"),),
        shape=f"{segments} segments",
        lead_s=gpu.waits.memory / gpu.clock_hz,
    )


def _walk(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, outputs: bool
) -> tuple[int, Launch]:
    """Segments or blocks of a head, and the launch that walks over their chunks."""
    heads = case.B * case.H
    chunks = -(-(case.P if outputs else case.M) // tile.rows)
    each = min(chunks, chunks_of(chunks, heads, gpu.multiprocessors))
    segments = -(-chunks // each)
    blocks = segments * heads
    together = resident(gpu, tile, _held_bytes(tile, case, outputs), blocks)
    slots = gpu.multiprocessors * together
    moved = 2.0 * tile.rows * (case.E if outputs else case.E + case.F)
    stored = 2.0 * tile.rows * case.F if outputs else 0.0
    fresh = chunks * heads * (moved + stored) > gpu.l2_reach_bytes
    parts = (_output_stages if outputs else _state_stages)(gpu, kernel, tile, case)
    state = (2.0 if outputs else 4.0) * case.E * case.F

    def lasts(running: int) -> float:
        """Cycles of a round of so many blocks: the chunks of each, and what is around them."""
        active, residents = min(running, gpu.multiprocessors), -(-running // gpu.multiprocessors)
        share = ingest(gpu, active)
        warps = max(1, residents * tile.warps // gpu.multiprocessor.schedulers)
        walk = list(parts)
        if fresh and residents >= 3:
            walk.append(_loaded(gpu, tile, moved, stored, active))
        cycles = tile_cycles(walk, warps, residents, kernel.overlap)
        step = max(cycles, residents * (moved + stored) / share)
        around = gpu.waits.memory + residents * (state + moved) / share + gpu.waits.l2
        return around + each * step

    whole, rest = divmod(blocks, slots)
    warps = max(1, together * tile.warps // gpu.multiprocessor.schedulers)
    flops = 2.0 * tile.rows * case.E * (case.F + 8)  # a fragment of eight columns for the norm
    numbers = tile.rows * case.E * (1.0 if outputs else max(1, tile.warps // 4))
    return segments, Launch(
        "outputs" if outputs else "states",
        whole * lasts(slots) + (lasts(rest) if rest else 0.0),
        0.0,
        0.0,
        0.0,
        operations={
            f"{kernel.path}.{case.kind}": flops * chunks * heads,
            "ex2": numbers * chunks * heads,
            "max": 2 * numbers * chunks * heads,
            "cvt": numbers / 2 * chunks * heads,
            "shared": 3 * moved * chunks * heads,
        },
        blocks=blocks,
        slots=slots,
        stages=tuple((s.name, s.cycles(warps), s.busiest) for s in parts),
        shape=f"{each} chunks of {tile.rows}",
        lead_s=_late(gpu, together, max(1.0, blocks / slots) * each),
    )


def _held_bytes(tile: Tile, case: Attention, outputs: bool) -> float:
    """Shared memory of a block: two chunks of keys and values, or the state and two of queries."""
    chunks = 2 * 2.0 * tile.rows * case.E
    return chunks + (2.0 * case.E * case.F if outputs else 2 * 2.0 * tile.rows * case.F)


def _loaded(gpu: Gpu, tile: Tile, moved: float, stored: float, active: int) -> Stage:
    """A warp's part of what a chunk moves: blocks at different places share memory in turn."""
    block = gpu.memory.seconds(moved, stored) * gpu.tensor_clock_hz * active
    return Stage("load", memory=block * gpu.multiprocessor.schedulers / tile.warps)


def _late(gpu: Gpu, together: int, rounds: float) -> float:
    """Seconds that memory gives nothing in: once, or once a chunk where blocks run in phase.

    A block asks for its next chunk when it begins the present one.  One or two
    blocks of a multiprocessor do so together; three or more drift apart, and
    while some wait for the first bytes others' are on their way.
    """
    return (rounds if together < 3 else 1.0) * gpu.waits.memory / gpu.clock_hz


def _features(gpu: Gpu, pairs: float, steps: float) -> Stage:
    """elu(x) + 1 of so many pairs of numbers of a lane: two bounds, exp, a sum, a rounding.

    In each of the ``steps`` of the product they are loaded first, and multiplied only then.
    """
    each = 2.0 * pairs
    return Stage(
        "features",
        ex2=lane_cycles(gpu, "ex2", each),
        alu=lane_cycles(gpu, "max", 2 * each)
        + lane_cycles(gpu, "cvt", pairs)
        + _unpacked(gpu, each),
        issue=lane_cycles(gpu, "fma", 2 * each),
        wait=steps * (gpu.waits.shared + gpu.waits.ex2 + 5 * gpu.waits.alu),
    )


def _unpacked(gpu: Gpu, each: float) -> float:
    """Cycles to take 16-bit numbers out of their pairs: a shift or a mask each."""
    return lane_cycles(gpu, "alu", each)


def _state_stages(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention) -> list[Stage]:
    """A warp's part of a chunk of keys: every fourth 16 rows of the state, half of its columns."""
    own = -(-case.E // 64)  # tiles of 16 rows of the state
    half = case.F / max(1, tile.warps // 4)
    steps = tile.rows / 16
    return [
        _features(gpu, steps * own * 4, steps),
        _product(gpu, kernel, case.kind, 16.0 * own, half + 8, float(tile.rows), half),
        _met(gpu, kernel, tile, case.E + case.F),
    ]


def _output_stages(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention) -> list[Stage]:
    """A warp's part of a chunk of queries: 16 of them, half of the columns."""
    half = case.F / max(1, tile.warps // 4)
    steps = case.E / 16
    numbers = 16.0 * half / 32  # of a lane
    port = gpu.shared_bandwidth / gpu.multiprocessor.schedulers
    return [
        _features(gpu, steps * 4, steps),
        _product(gpu, kernel, case.kind, 16.0, half + 8, float(case.E), half),
        Stage(
            "output",
            issue=lane_cycles(gpu, "fma", numbers),
            alu=lane_cycles(gpu, "cvt", numbers / 2),
            shared=2 * 2.0 * 16 * half / port,
            wait=gpu.waits.barrier
            + gpu.waits.barrier_warp * tile.warps
            + 2 * (gpu.waits.ex2 + 6 * gpu.waits.alu)  # two reciprocals and their refinement
            + numbers / 4 * gpu.waits.shared,  # 16 bytes at a time, each guarded by its own branch
        ),
        _met(gpu, kernel, tile, case.E),
    ]


def _product(
    gpu: Gpu,
    kernel: KernelDescriptor,
    kind: str,
    rows: float,
    columns: float,
    depth: float,
    loaded: float,
) -> Stage:
    """A warp's product on mma.sync, fragments through ldmatrix; ``loaded`` columns come so."""
    tensor, longer = multiplied(gpu, kernel, kind, 2.0 * rows * columns * depth)
    port = gpu.shared_bandwidth / gpu.multiprocessor.schedulers
    return Stage(
        "product",
        tensor=tensor,
        shared=2.0 * depth * (rows + loaded) / port,
        wait=gpu.waits.mma + depth / 16 * gpu.waits.shared + longer,
    )


def _met(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, width: int) -> Stage:
    """The barrier of a chunk, addresses, and instructions of copies, ``width`` numbers a row."""
    copies = 1.5 * 2.0 * tile.rows * width / (kernel.load_bytes * 32 * tile.warps)
    return Stage(
        "barriers",
        issue=kernel.overhead + copies,
        wait=gpu.waits.barrier + gpu.waits.barrier_warp * tile.warps + gpu.waits.shared,
    )
