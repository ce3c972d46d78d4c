"""Pipelines of several launches: three-pass attention, and linear attention in chunks."""

from __future__ import annotations

from dataclasses import replace

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_keys import Attention
from accelsim.models.gpu_launch import Launch, ingest
from accelsim.models.gpu_pipeline import Stage, in_phase, lane_cycles
from accelsim.models.gpu_schedule import makespan
from accelsim.models.gpu_stream import Rows, rows

#: Keys of a step of the product with V, positions of a chunk of linear attention.
STEP = 64
CHUNK = 64


def unfused(
    gpu: Gpu, kernel: KernelDescriptor, softmax: KernelDescriptor, tile: Tile, case: Attention
) -> list[Launch]:
    """Scores to memory, softmax in place, weights times V."""
    pitch = -(-case.M // 8) * 8
    heads = case.B * case.H
    columns = [
        min(case.M, start + tile.rows + case.offset) if case.causal else case.M
        for start in range(0, case.P, tile.rows)
    ]
    kept = sum(-(-c // tile.columns) * tile.columns for c in columns) * heads  # of a query
    kept = min(kept, len(columns) * heads * pitch)
    written = 2.0 * kept * tile.rows * min(1.0, case.P / (len(columns) * tile.rows))
    first = _scores(gpu, kernel, tile, case, columns, written)
    middle = rows(gpu, softmax, Rows(heads * case.P, case.M, form(case.M), case.kind))
    read = written
    if case.causal:  # a row is read as far as it goes, and filled with zeros to its tile's end
        seen = sum(min(case.M, p + 1 + case.offset) for p in range(0, case.P, 16)) * 16.0
        read = min(written, 2.0 * seen * heads)
    share = read / (2.0 * heads * case.P * case.M)
    middle = replace(
        middle,
        name="softmax",
        cycles=middle.cycles * share,
        read_bytes=read,
        write_bytes=written,
        l2_bytes=read + written,
    )
    return [first, middle, _values(gpu, kernel, tile, case, columns, written)]


def form(columns: int) -> str:
    """The form of softmax that a row of so many numbers takes.

    >>> form(4096), form(100000)
    ('held', 'derived')
    """
    return "held" if columns <= 65536 else "derived"


def _product(
    gpu: Gpu, kernel: KernelDescriptor, kind: str, rows_: float, columns: float, depth: float
) -> Stage:
    """A warp's part of a product on mma.sync: 32 of 128 rows, fragments through ldmatrix."""
    schedulers = gpu.multiprocessor.schedulers
    rate = (gpu.tensor_rate(kernel.path, kind) or 1.0) / schedulers
    alone = (gpu.tensor_alone_rate(kernel.path, kind) or rate) / schedulers
    flops = 2.0 * rows_ * columns * depth
    return Stage(
        "product",
        tensor=flops / rate,
        shared=2.0 * depth * (rows_ + columns) / (gpu.shared_bandwidth / schedulers),
        wait=gpu.waits.mma + gpu.waits.shared + flops * (1 / alone - 1 / rate),
    )


def _stored(gpu: Gpu, numbers: float) -> Stage:
    """A warp's accumulators scaled, rounded, through shared memory and out."""
    port = gpu.shared_bandwidth / gpu.multiprocessor.schedulers
    return Stage(
        "output",
        issue=lane_cycles(gpu, "fma", 2 * numbers),
        alu=lane_cycles(gpu, "cvt", numbers / 2),
        shared=2 * 2.0 * 32 * numbers / port,
        wait=gpu.waits.shared,
    )


def _scores(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, columns: list[int], out: float
) -> Launch:
    """One block a tile of scores: loads Q and K, multiplies, stores."""
    heads = case.B * case.H
    blocks = sum(-(-c // tile.columns) for c in columns) * heads
    share = ingest(gpu, min(blocks, gpu.multiprocessors))
    together = max(1, min(tile.blocks, -(-blocks // gpu.multiprocessors)))
    warps = together * tile.warps // gpu.multiprocessor.schedulers
    numbers = 16 * tile.row_tiles * tile.columns / 32
    load = 2.0 * case.E * (tile.rows + tile.columns) / share / max(1, tile.warps // 4)
    store = 2.0 * tile.rows * tile.columns / share / max(1, tile.warps // 4)
    parts = [
        Stage("load", memory=load, wait=gpu.waits.l2 + gpu.waits.barrier),
        _product(gpu, kernel, case.kind, 16.0 * tile.row_tiles, tile.columns, case.E),
        _stored(gpu, numbers),
        Stage("store", memory=store),
    ]
    cycles = in_phase(parts, warps)
    skipped = len(columns) * -(-case.M // tile.columns) * heads - blocks
    total = makespan([cycles], blocks, gpu.multiprocessors * together)
    total += skipped / (gpu.multiprocessors * together) * gpu.waits.l2
    scored = blocks * tile.rows * tile.columns
    return Launch(
        "scores",
        total,
        2.0 * case.E * (heads * case.P + case.B * case.HK * case.M),
        out,
        l2_bytes=blocks * 2.0 * case.E * (tile.rows + tile.columns) + out,
        operations={f"{kernel.path}.{case.kind}": 2.0 * scored * case.E, "fma": scored},
        blocks=blocks,
        slots=gpu.multiprocessors * together,
        stages=tuple((s.name, s.cycles(warps), s.busiest) for s in parts),
        shape=f"{tile.rows}x{tile.columns}",
    )


def _values(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, columns: list[int], read: float
) -> Launch:
    """Weights times V: a block a query tile walks over its keys in steps, copies ahead."""
    heads = case.B * case.H
    blocks = len(columns) * heads
    share = ingest(gpu, min(blocks, gpu.multiprocessors))
    together = max(1, min(tile.blocks, -(-blocks // gpu.multiprocessors)))
    warps = together * tile.warps // gpu.multiprocessor.schedulers
    copies = 2.0 * STEP * (tile.rows + case.F) / 16 / 32 / tile.warps
    one = [
        _product(gpu, kernel, case.kind, 16.0 * tile.row_tiles, case.F, STEP),
        Stage(
            "barriers",
            issue=3 * copies + 20,
            wait=gpu.waits.barrier + gpu.waits.barrier_warp * tile.warps,
        ),
    ]
    moved = together * 2.0 * STEP * (tile.rows + case.F) / share
    step = max(in_phase(one, warps), moved)
    around = gpu.waits.memory + moved + 2.0 * together * tile.rows * case.F / share
    durations = [around + step * -(-c // STEP) for c in reversed(columns)]
    steps = sum(-(-c // STEP) for c in columns) * heads
    return Launch(
        "values",
        makespan(durations, heads, gpu.multiprocessors * together),
        read + 2.0 * case.F * case.B * case.HK * case.M,
        2.0 * heads * case.P * case.F,
        l2_bytes=steps * 2.0 * STEP * (tile.rows + case.F) + 2.0 * heads * case.P * case.F,
        operations={f"{kernel.path}.{case.kind}": 2.0 * steps * STEP * tile.rows * case.F},
        blocks=blocks,
        slots=gpu.multiprocessors * together,
        stages=tuple((s.name, s.cycles(warps), s.busiest) for s in one),
        shape=f"{tile.rows}x{case.F}",
    )


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
    outputs = _chunks(gpu, kernel, tile, case, segments, min(each, chunks), True)
    outputs = replace(
        outputs,
        read_bytes=numbers * (2 * case.E + case.F) + (state if segments > 1 else 0.0),
        write_bytes=numbers * case.F,
        l2_bytes=numbers * (2 * case.E * across + 2 * case.F) + state,
    )
    if segments == 1:
        return [outputs]
    states = _chunks(gpu, kernel, tile, case, segments, min(each, chunks), False)
    states = replace(
        states,
        read_bytes=numbers * (case.E + case.F),
        write_bytes=state,
        l2_bytes=numbers * (case.E * across + case.F) + state,
    )
    prefix = Launch("prefix", segments * gpu.waits.l2, 0.0, state, 2 * state, {})
    return [states, prefix, outputs]


def _chunks(
    gpu: Gpu,
    kernel: KernelDescriptor,
    tile: Tile,
    case: Attention,
    segments: int,
    each: int,
    output: bool,
) -> Launch:
    """One of the two walks over chunks: the state's update, and with ``output`` what it gives."""
    width, kind = tile.columns, case.kind
    heads = case.B * case.H
    blocks = -(-case.F // width) * segments * heads
    together = max(1, min(tile.blocks, -(-blocks // gpu.multiprocessors)))
    warps = together * tile.warps // gpu.multiprocessor.schedulers
    share = ingest(gpu, min(blocks, gpu.multiprocessors))
    quarter = 16.0 * -(-case.E // (16 * tile.warps))  # rows of the state of a warp, whole fragments
    own = quarter * width / 32  # of a lane, of the state
    moved = 2.0 * CHUNK * (case.E * (2 if output else 1) + width) / share / (tile.warps / 4)
    parts = [
        Stage("load", memory=moved),
        Stage("decay", issue=lane_cycles(gpu, "fma", own)),
        _product(gpu, kernel, kind, quarter, width, CHUNK),
        Stage(
            "barriers",
            issue=kernel.overhead,
            wait=gpu.waits.barrier + gpu.waits.barrier_warp * tile.warps + gpu.waits.l2 / 2,
        ),
    ]
    flops = 2.0 * CHUNK * case.E * width
    if output:
        scores = 16.0 * CHUNK / 32
        parts += [
            _stored(gpu, own),
            _product(gpu, kernel, kind, 16, CHUNK + width, case.E),
            Stage(
                "decay of scores",
                ex2=lane_cycles(gpu, "ex2", scores),
                issue=lane_cycles(gpu, "fma", 4 * scores + 16.0 * width / 32),
                wait=gpu.waits.ex2,
            ),
            _product(gpu, kernel, kind, 16, width, CHUNK),
            _stored(gpu, 16.0 * width / 32),
        ]
        flops += 2.0 * CHUNK * (CHUNK * case.E + case.E * width + CHUNK * width)
    around = 2 * gpu.waits.memory + 4.0 * case.E * width * together / share
    cycles = around + each * in_phase(parts, warps)
    return Launch(
        "outputs" if output else "states",
        makespan([cycles], blocks, gpu.multiprocessors * together),
        0.0,
        0.0,
        0.0,
        operations={f"{kernel.path}.{kind}": flops * blocks * each},
        blocks=blocks,
        slots=gpu.multiprocessors * together,
        stages=tuple((s.name, s.cycles(warps), s.busiest) for s in parts),
        shape=f"{each} chunks of {CHUNK}, {segments} segments",
    )
