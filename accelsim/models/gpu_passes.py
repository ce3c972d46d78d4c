"""Pipelines of several launches: three-pass attention, and linear attention in chunks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_keys import Attention
from accelsim.models.gpu_launch import Launch, ingest, kept_in_l2, left_in_l2, shared_ingest
from accelsim.models.gpu_pipeline import Stage, in_order, lane_cycles, served
from accelsim.models.gpu_rows import Rows, rows
from accelsim.models.gpu_schedule import makespan, sharing

#: Keys of a step of the product with V, positions of a chunk of linear attention.
STEP = 64
CHUNK = 64
#: Segments whose states the prefix asks for at once.
AHEAD = 8


def unfused(
    gpu: Gpu, kernel: KernelDescriptor, softmax: KernelDescriptor, tile: Tile, case: Attention
) -> list[Launch]:
    """Scores to memory, softmax in place, weights times V."""
    pitch = -(-case.M // 64) * 64
    heads = case.B * case.H
    columns = [
        min(case.M, start + tile.rows + case.offset) if case.causal else case.M
        for start in range(0, case.P, tile.rows)
    ]
    kept = sum(-(-c // tile.columns) * tile.columns for c in columns) * heads  # of a query
    kept = min(kept, len(columns) * heads * pitch)
    written = 2.0 * kept * tile.rows * min(1.0, case.P / (len(columns) * tile.rows))
    first = _scores(gpu, kernel, tile, case, columns, written)
    read = written
    if case.causal:  # a row is read as far as it goes, and filled with zeros to its tile's end
        seen = sum(min(case.M, p + 1 + case.offset) for p in range(0, case.P, 16)) * 16.0
        read = min(written, 2.0 * seen * heads)
    share = min(1.0, read / (2.0 * heads * case.P * case.M))
    near = written <= gpu.l2_reach_bytes
    matrix = Rows(heads * case.P, case.M, form(case.M), case.kind)
    middle = replace(
        rows(gpu, softmax, matrix, near, share),
        name="softmax",
        read_bytes=read,
        write_bytes=written,
        held_bytes=written,  # in place
        l2_bytes=read + written,
    )
    late = left_in_l2(gpu, middle)
    return [first, middle, _values(gpu, kernel, kernel.tiles[-1], case, columns, written, late)]


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
        issue=depth / 16 * (rows_ + columns) / 16,
        shared=2.0 * depth * (rows_ + columns) / (gpu.shared_bandwidth / schedulers),
        wait=gpu.waits.mma + gpu.waits.shared + flops * (1 / alone - 1 / rate),
    )


def _stepped(
    gpu: Gpu, tile: Tile, product: Stage, rows_: float, columns: float, depth: int
) -> Stage:
    """A product whose warp has few registers: with two stages no next step of 16 is fetched ahead.

    With one only the next fragment is, behind the two mma of the one before it;
    with three all are.
    """
    if tile.stages > 2:
        return product
    steps = depth // 16
    late = (steps - 1) * (gpu.waits.shared + gpu.waits.mma)
    if tile.stages == 1:
        fragments = steps * (rows_ + columns) / 16
        pair = product.tensor * 2 * 4096 / (2.0 * rows_ * columns * depth)
        late = fragments * max(0.0, gpu.waits.shared - pair)
    return replace(product, wait=product.wait + late)


def _stored(gpu: Gpu, numbers: float, counted: float) -> Stage:
    """A warp's accumulators scaled, rounded, through shared memory and out; all it issues."""
    port = gpu.shared_bandwidth / gpu.multiprocessor.schedulers
    return Stage(
        "output",
        issue=counted,
        alu=lane_cycles(gpu, "cvt", numbers / 2),
        shared=2 * 2.0 * 32 * numbers / port,
        wait=gpu.waits.shared,
    )


def _scores(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, columns: list[int], out: float
) -> Launch:
    """A block holds a tile of Q and walks over some tiles of K (``depth``): multiplies, stores."""
    heads = case.B * case.H
    steps = [-(-c // tile.columns) for c in columns]
    tiles = sum(steps) * heads
    walked = max(1, tile.depth)
    blocks = sum(-(-n // walked) for n in steps) * heads
    active = min(blocks, gpu.multiprocessors)
    share, read = ingest(gpu, active), shared_ingest(gpu, active)
    together = max(1, min(tile.blocks, -(-blocks // gpu.multiprocessors)))
    warps = max(1, together * tile.warps // gpu.multiprocessor.schedulers)
    numbers = 16 * tile.row_tiles * tile.columns / 32
    wait = gpu.waits
    product = _product(gpu, kernel, case.kind, 16.0 * tile.row_tiles, tile.columns, case.E)
    counted = kernel.counted("scores", case.E) + 2 * case.causal * numbers  # a comparison, a choice
    parts = [
        Stage("load", memory=2.0 * case.E * tile.columns / read),
        _stepped(gpu, tile, product, 16.0 * tile.row_tiles, tile.columns, case.E),
        Stage("barriers", wait=wait.barrier + wait.barrier_warp * tile.warps),
        _stored(gpu, numbers, counted - product.issue),
        Stage("store", memory=2.0 * tile.rows * tile.columns / share),
    ]

    def lasts(residents: int, walks: Iterable[float]) -> list[float]:
        """Cycles of blocks of so many tiles, so many on their multiprocessor."""
        warps = max(1, residents * tile.warps // gpu.multiprocessor.schedulers)
        one = in_order(parts, warps, residents, wait.mma_issue)
        first = wait.l2 + 2.0 * case.E * tile.rows * residents / read
        return [first + n * one if n else wait.l2 for n in walks]

    slots = gpu.multiprocessors * together
    # The grid has as many blocks for every row of tiles: the last is short, others may be idle.
    ends = range(0, -(-case.M // tile.columns), walked)
    total = None
    if len(steps) * len(ends) * heads <= 2 * slots:
        walks = [min(walked, max(0, n - done)) for n in steps for done in ends]
        each = [lasts(n, walks) for n in range(1, tile.blocks + 1)]
        total = sharing(each, heads, gpu.multiprocessors)
    total = total or makespan(lasts(together, [tiles / blocks]), blocks, slots)
    scored = tiles * tile.rows * tile.columns
    return Launch(
        "scores",
        total,
        2.0 * case.E * (heads * case.P + case.B * case.HK * case.M),
        out,
        l2_bytes=2.0 * case.E * (blocks * tile.rows + tiles * tile.columns) + out,
        operations={f"{kernel.path}.{case.kind}": 2.0 * scored * case.E, "fma": scored},
        blocks=blocks,
        slots=slots,
        stages=tuple((s.name, s.cycles(warps), s.busiest) for s in parts),
        shape=f"{tile.rows}x{tile.columns}",
    )


def _left(gpu: Gpu, rounds: int, rest: int, together: int) -> int:
    """Blocks of a last round that share a multiprocessor.

    A first round is dealt to all multiprocessors in turn.  Later ones take slots
    as they fall free, and those of a multiprocessor, whose blocks are in step,
    fall free together.
    """
    return min(together, rest if rounds else -(-rest // gpu.multiprocessors))


def _values(
    gpu: Gpu,
    kernel: KernelDescriptor,
    tile: Tile,
    case: Attention,
    columns: list[int],
    read: float,
    late: float,
) -> Launch:
    """Weights times V: a block a query tile walks over its keys in steps, copies ahead.

    What a step needs goes from memory through L2 to the tensor core; each block
    has as many steps on that way as it has stages, and works on one at a time.
    ``read`` bytes of weights come from memory, in panels, but for what L2 holds,
    while ``late`` bytes that the launch before left in L2 go there.
    """
    heads = case.B * case.H
    blocks = len(columns) * heads
    together = max(1, min(tile.blocks, -(-blocks // gpu.multiprocessors)))
    product = _product(gpu, kernel, case.kind, 16.0 * tile.row_tiles, case.F, STEP)
    one = [
        _stepped(gpu, replace(tile, stages=1), product, 16.0 * tile.row_tiles, case.F, STEP),
        Stage(
            "barriers",
            issue=kernel.counted("values", case.F) - product.issue,
            wait=gpu.waits.barrier + gpu.waits.barrier_warp * tile.warps,
        ),
    ]
    warps = together * tile.warps // gpu.multiprocessor.schedulers
    weights = 2.0 * STEP * tile.rows
    far = 1 - kept_in_l2(gpu, read)
    panels = gpu.memory.panels or gpu.memory.read
    panels /= gpu.brief_clock_hz(read / panels) * (1 + late / read)  # bytes a cycle
    issued = sum(s.tensor + gpu.waits.mma_issue * s.issue for s in one)
    wait = sum(s.wait for s in one) + far * gpu.waits.memory
    wait += (1 - far) * gpu.waits.l2

    def lasts(residents: int, running: int, columns: Iterable[int]) -> list[float]:
        """Cycles of blocks of so many keys, so many on their multiprocessor and so many in all."""
        active = -(-running // residents)
        share = ingest(gpu, active)  # every block has weights of its own
        moved = weights / share + 2.0 * STEP * case.F / shared_ingest(gpu, active)
        demands = [issued, moved, far * weights / panels * active]
        customers = residents * tile.stages
        rounds = served(demands, customers, wait, (False, True, True)) / tile.stages
        warps = max(1, residents * tile.warps // gpu.multiprocessor.schedulers)
        step = max(rounds, in_order(one, warps, residents, gpu.waits.mma_issue))
        around = gpu.waits.memory + residents * (moved + 2.0 * tile.rows * case.F / share)
        return [around + step * -(-c // STEP) for c in columns]

    slots = gpu.multiprocessors * together
    if min(columns) == max(columns):
        rounds, rest = divmod(blocks, slots)
        total = rounds * lasts(together, slots, columns)[0]
        if rest:
            total += lasts(_left(gpu, rounds, rest, together), rest, columns)[0]
    else:  # the last blocks may share a multiprocessor still
        each = lasts(together, min(blocks, slots), reversed(columns))
        alone = min(1.0, lasts(together, gpu.multiprocessors, reversed(columns))[0] / each[0])
        total = makespan(each, heads, slots, alone)
    steps = sum(-(-c // STEP) for c in columns) * heads
    return Launch(
        "values",
        total,
        read + 2.0 * case.F * case.B * case.HK * case.M,
        2.0 * heads * case.P * case.F,
        l2_bytes=steps * 2.0 * STEP * (tile.rows + case.F) + 2.0 * heads * case.P * case.F,
        operations={f"{kernel.path}.{case.kind}": 2.0 * steps * STEP * tile.rows * case.F},
        blocks=blocks,
        slots=slots,
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
    held = numbers * (2 * case.E + 2 * case.F) + state
    warm = held <= gpu.l2_reach_bytes
    outputs = _chunks(gpu, kernel, tile, case, segments, min(each, chunks), True, warm)
    outputs = replace(
        outputs,
        read_bytes=numbers * (2 * case.E + case.F) + (state if segments > 1 else 0.0),
        write_bytes=numbers * case.F,
        l2_bytes=numbers * (2 * case.E * across + 2 * case.F) + state,
    )
    if segments == 1:
        return [outputs]
    local = replace(tile, blocks=kernel.tile({"E": case.E, "states": 1}).blocks)
    states = _chunks(gpu, kernel, local, case, segments, min(each, chunks), False, warm)
    states = replace(
        states,
        read_bytes=numbers * (case.E + case.F),
        write_bytes=state,
        l2_bytes=numbers * (case.E * across + case.F) + state,
    )
    prefix = Launch("prefix", _prefix(gpu, case, segments, state), state, state, 2 * state, {})
    return [states, prefix, outputs]


def _prefix(gpu: Gpu, case: Attention, segments: int, state: float) -> float:
    """Cycles of adding segments' states up: ``state`` bytes of them, a thread four numbers.

    A thread asks for the decay, then for ``AHEAD`` segments' numbers at once, and
    writes as many; what other multiprocessors have just written is as far as memory.
    """
    threads = float(case.E * case.F * case.B * case.H) / 4
    waves = math.ceil(threads / (gpu.multiprocessors * gpu.multiprocessor.threads))
    rounds = -(-segments // AHEAD) + 1
    moved = 2 * state / gpu.multiprocessors / ingest(gpu, gpu.multiprocessors)
    return (waves * rounds + 1) * gpu.waits.memory + moved


def _of_a_chunk(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Attention, output: bool
) -> list[Stage]:
    """Stages of a warp and chunk: instructions that are no product, and the products."""
    width = tile.columns
    quarter = 16.0 * -(-case.E // (16 * tile.warps))  # rows of the state of a warp, whole fragments
    barrier = gpu.waits.barrier + gpu.waits.barrier_warp * tile.warps
    products = [(quarter, width, CHUNK)]  # rows, columns and depth of a warp
    if output:
        products += [(16.0, CHUNK + width, case.E), (16.0, width, CHUNK)]
    counted = kernel.counted("outputs" if output else "states", case.E)
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
        product = _product(gpu, kernel, case.kind, rows_, columns, depth)
        parts.append(_stepped(gpu, tile, product, rows_, columns, depth) if output else product)
    return parts


def _chunks(
    gpu: Gpu,
    kernel: KernelDescriptor,
    tile: Tile,
    case: Attention,
    segments: int,
    each: int,
    output: bool,
    warm: bool,
) -> Launch:
    """One of the two walks over chunks: the state's update, and with ``output`` what it gives.

    ``warm`` says that L2 holds what it reads.
    """
    width = tile.columns
    heads = case.B * case.H
    blocks = -(-case.F // width) * segments * heads
    together = max(1, min(tile.blocks, -(-blocks // gpu.multiprocessors)))
    warps = together * tile.warps // gpu.multiprocessor.schedulers
    share = ingest(gpu, min(blocks, gpu.multiprocessors))
    moved = 2.0 * CHUNK * (case.E * (2 if output else 1) + width) / share
    parts = _of_a_chunk(gpu, kernel, tile, case, output)
    flops = 2.0 * CHUNK * case.E * width
    if output:
        flops += 2.0 * CHUNK * (CHUNK * case.E + case.E * width + CHUNK * width)
    latency = gpu.waits.l2 if warm else gpu.waits.memory
    own_bytes = 2.0 * CHUNK * (case.E * (1 + output) * width / case.F + width)
    columns = 2.0 * CHUNK * width
    seconds = gpu.memory.seconds(own_bytes, columns if output else 0.0)
    if width < case.F and gpu.memory.panels:  # V's columns come in panels
        seconds += columns / gpu.memory.panels - columns / gpu.memory.read
    clock = gpu.brief_clock_hz(seconds * blocks * each)
    late = (
        0.0 if warm else max(own_bytes / share, seconds * clock * min(blocks, gpu.multiprocessors))
    )

    def lasts(residents: int, running: float) -> float:
        """Cycles of a block, so many on its multiprocessor and so many in all.

        Its next chunk is on its way while it works on one, which takes as long as
        that needs to come: each block has one chunk on the way from memory.
        """
        warps = max(1, residents * tile.warps // gpu.multiprocessor.schedulers)
        step = in_order(parts, warps, residents, gpu.waits.mma_issue)
        asked = late * running / gpu.multiprocessors  # memory's time for all of a multiprocessor's
        if late:
            step = max(step, served([asked / residents], residents, latency))
        if output:
            step = max(step, latency + moved, residents * moved)
        first = residents * (moved + 4.0 * case.E * width / share)  # a chunk and the state
        return 2 * latency + first + each * step

    slots = gpu.multiprocessors * together
    rounds, rest = divmod(blocks, slots)
    total = gpu.waits.memory + rounds * lasts(together, slots)  # the last stores on their way
    if rest:
        total += lasts(_left(gpu, rounds, rest, together), rest)
    return Launch(
        "outputs" if output else "states",
        total,
        0.0,
        0.0,
        0.0,
        operations={f"{kernel.path}.{case.kind}": flops * blocks * each},
        blocks=blocks,
        slots=slots,
        stages=tuple((s.name, s.cycles(warps), s.busiest) for s in parts),
        shape=f"{each} chunks of {CHUNK}, {segments} segments",
    )
