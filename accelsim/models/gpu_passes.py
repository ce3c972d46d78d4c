"""Three-pass attention: scores, softmax in place, and weights times V, a launch each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_keys import Attention
from accelsim.models.gpu_launch import (
    Launch,
    ingest,
    kept_again,
    kept_in_l2,
    left_in_l2,
    shared_ingest,
)
from accelsim.models.gpu_pipeline import Stage, in_order, lane_cycles, served
from accelsim.models.gpu_products import product, stepped
from accelsim.models.gpu_rows import Rows, rows
from accelsim.models.gpu_schedule import last_together, makespan, sharing

#: Rounds of all slots in which blocks are dealt by their lengths; of more their mean tells as much.
DEALT = 16
#: Keys of a step of the product with V.
STEP = 64


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
    near = kept_again(gpu, written, written)
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
    whole = product(gpu, kernel, case.kind, 16.0 * tile.row_tiles, tile.columns, case.E)
    counted = kernel.counted("scores", case.E) + 2 * case.causal * numbers  # a comparison, a choice
    parts = [
        Stage("load", memory=2.0 * case.E * tile.columns / read),
        stepped(gpu, tile, whole, 16.0 * tile.row_tiles, tile.columns, case.E),
        Stage("barriers", wait=wait.barrier + wait.barrier_warp * tile.warps),
        _stored(gpu, numbers, counted - whole.issue),
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
    grid, walks = len(steps) * len(ends) * heads, [tiles / blocks]
    total, copies = None, blocks
    if grid <= DEALT * slots:
        walks, copies = [min(walked, max(0, n - done)) for n in steps for done in ends], heads
    if grid <= 2 * slots:
        each = [lasts(n, walks) for n in range(1, tile.blocks + 1)]
        total = sharing(each, heads, gpu.multiprocessors)
    total = total or makespan(lasts(together, walks), copies, slots)
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
    whole = product(gpu, kernel, case.kind, 16.0 * tile.row_tiles, case.F, STEP)
    one = [
        stepped(gpu, replace(tile, stages=1), whole, 16.0 * tile.row_tiles, case.F, STEP),
        Stage(
            "barriers",
            issue=kernel.counted("values", case.F) - whole.issue,
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

    def passed_on(times: Sequence[float]) -> float:
        """L2 passes on what comes from memory line by line."""
        return far * min(times[1], times[2])

    def lasts(residents: int, running: int, columns: Iterable[int]) -> list[float]:
        """Cycles of blocks of so many keys, so many on their multiprocessor and so many in all."""
        active = -(-running // residents)
        share = ingest(gpu, active)  # every block has weights of its own
        moved = weights / share + 2.0 * STEP * case.F / shared_ingest(gpu, active)
        demands = [issued, moved, far * weights / panels * active]
        customers = residents * tile.stages
        rounds = served(demands, customers, wait, (False, True, True), passed_on) / tile.stages
        warps = max(1, residents * tile.warps // gpu.multiprocessor.schedulers)
        work = in_order(one, warps, residents, gpu.waits.mma_issue)
        first = residents * max(moved, far * weights / panels * active)
        around = gpu.waits.memory + residents * 2.0 * tile.rows * case.F / share + gpu.waits.slot
        # The last step's work follows what has come, or the first one's has come before all work.
        return [
            around + max(first + n * work, n * rounds + work)
            for n in (-(-c // STEP) for c in columns)
        ]

    slots = gpu.multiprocessors * together
    if min(columns) == max(columns):
        rounds, rest = divmod(blocks, slots)
        total = rounds * lasts(together, slots, columns)[0]
        if rest:
            total += lasts(
                last_together(gpu.multiprocessors, rounds, rest, together), rest, columns
            )[0]
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
