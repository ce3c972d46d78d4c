"""Operations on the rows of a matrix: ours, a block a row, and PyTorch's softmax in its ways."""

from __future__ import annotations

import math
from dataclasses import dataclass

from accelsim.errors import refuse
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.models.gpu_launch import Launch, ingest
from accelsim.models.gpu_pipeline import Stage, in_order, in_phase, served, staggered

#: Numbers that 1024 threads take in one round, 16 bytes each.
ROUND = 8192


@dataclass(frozen=True, slots=True)
class Rows:
    """An operation on the rows of a matrix of 16-bit numbers."""

    rows: int
    columns: int
    form: str = ""
    kind: str = "bf16"


def rows(
    gpu: Gpu, kernel: KernelDescriptor, case: Rows, near: float = 0.0, share: float = 1.0
) -> Launch:
    """A block a row: it reads, reduces, computes and writes, one after the other.

    Blocks of one multiprocessor overlap these phases where three or more
    reside; one or two run in phase, and memory idles while they compute.  A share
    of them that is ``near`` is in L2 and stays there.  Where only a ``share`` of them is
    moved, instructions are issued for all.  Blocks are started one by one, and
    the last has its own way to go.
    """
    if len(kernel.tiles) > 1:
        return _as_long_as_rows_are(gpu, kernel, case)
    form = case.form or kernel.form
    if form not in kernel.forms:
        raise refuse(f"{kernel.name} has no form {form!r}", ", ".join(kernel.forms))
    limit = gpu.multiprocessor
    threads = row_threads(kernel, form, case.columns)
    together = max(1, min(limit.blocks, limit.threads // threads))
    together = min(together, -(-case.rows // gpu.multiprocessors))
    slots = together * gpu.multiprocessors
    each, issued, waited = issued_of(kernel, form, case.columns, threads, share)
    size = 2.0 * case.columns
    active = min(case.rows, gpu.multiprocessors)
    copied = _copied(gpu, share) / gpu.clock_hz / active
    rate = 1 / (near / ingest(gpu, active) + (1 - near) / copied)
    sweeps = {"held": 1, "derived": 2}.get(form, kernel.passes)
    again = 0.0 if together * size <= limit.shared_bytes else size / ingest(gpu, active)
    work = issued / limit.schedulers
    walk = _row(gpu, share * size / rate, share * again, work, sweeps, waited + gpu.waits.slot)

    def lasts(residents: int) -> float:
        if together < 2:
            return in_phase(walk, residents)
        demands = each, sum(stage.memory for stage in walk)
        wait = sum(stage.wait for stage in walk)
        return served(demands, residents, wait, shares=(work / each, 1.0))

    waves, rest = divmod(case.rows, slots)
    cycles = waves * lasts(together)
    if rest:  # the last round has room to itself
        cycles += lasts(-(-rest // gpu.multiprocessors))
    if gpu.launch.blocks_hz:
        started = case.rows * gpu.clock_hz / gpu.launch.blocks_hz
        cycles = max(cycles, started + in_phase(walk, 1))
    lanes = case.rows * issued * 16  # half of the instructions, by their energy
    more = (sweeps - 1) * (again > 0)
    taken = _Taken(cycles, slots, case.rows, walk, together, more, lanes, threads)
    return _launch(gpu, kernel, case, taken)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a way of going about rows comes to: ``again`` is how often all is read from L2."""

    cycles: float
    slots: int
    blocks: int
    walk: list[Stage]
    together: float
    again: float
    lanes: float
    threads: int


def _launch(gpu: Gpu, kernel: KernelDescriptor, case: Rows, taken: _Taken) -> Launch:
    """The launch, which reads and writes every number of memory once."""
    numbers = 2.0 * case.rows * case.columns
    return Launch(
        kernel.name,
        taken.cycles,
        numbers,
        numbers,
        l2_bytes=numbers * (2 + taken.again),
        operations={
            "ex2": 2.0 * case.rows * case.columns if "softmax" in kernel.name else 0.0,
            "fma": taken.lanes,
        },
        blocks=taken.blocks,
        slots=taken.slots,
        stages=tuple((s.name, s.cycles(taken.together), s.busiest) for s in taken.walk),
        shape=f"{taken.threads} threads a row",
        lead_s=gpu.waits.memory / gpu.clock_hz,
    )


def row_threads(kernel: KernelDescriptor, form: str, columns: int) -> int:
    """Threads that share a row, by the numbers that each takes.

    A row that is held keeps twice the numbers a thread, and four times where
    it is long.

    >>> from accelsim.load.kernel import load_kernel
    >>> [row_threads(load_kernel("softmax"), "held", n) for n in (1000, 5000, 32768)]
    [32, 160, 512]
    """
    each = kernel.numbers * ((4 if columns > 1024 * kernel.numbers else 2) if form == "held" else 1)
    return min(1024, -(-columns // (32 * each)) * 32)


def _copied(gpu: Gpu, share: float) -> float:
    """Bytes a second of a copy of rows of which a ``share`` is moved: parts are read in panels."""
    memory = gpu.memory
    if share == 1.0 or not memory.panels:
        return memory.copy
    return 1 / (1 / memory.copy + (1 / memory.panels - 1 / memory.read) / 2)


def issued_of(
    kernel: KernelDescriptor, form: str, columns: int, threads: int, share: float
) -> tuple[float, float, float]:
    """Instructions of the warp that has most of a row, of all its warps, and what the one waits.

    Of rows of which only a ``share`` is seen, one as long as another, the mean.
    """
    counts, waits = dict(kernel.instructions), dict(kernel.waits)
    kind = form if share == 1.0 else f"{form} causal"
    own = counts.get(f"{kind} row", counts.get(f"{form} row", 0.0))

    def pieces(size: float) -> float:
        return math.ceil(columns / size) if share == 1.0 else share * columns / size + 0.5

    each = counts[form] * pieces(8.0 * threads) + own
    issued = counts[form] * pieces(256.0) + own * threads / 32
    return each, issued, each * waits.get(kind, waits.get(form, 0.0))


def _reduction(gpu: Gpu, warps: float) -> float:
    """Cycles of a reduction over a block: over each warp, and over what the warps have."""
    wait = gpu.waits
    found = 5 * (wait.shuffle + wait.alu) + 2 * (wait.barrier + wait.barrier_warp * warps)
    return found + wait.shared + warps * wait.alu


def _row(
    gpu: Gpu, moved: float, again: float, work: float, sweeps: int, waited: float
) -> list[Stage]:
    """Stages of a block's row: ``moved`` cycles to read it, as many to write, ``work`` between.

    Its instructions wait ``waited`` cycles in all.  A row that is held in
    registers is there before anything is done with it; else each sweep reads
    (``again`` cycles from L2) and computes as it goes.
    """
    wait = gpu.waits
    if sweeps == 1:
        return [
            Stage("read", memory=moved, wait=wait.memory),
            Stage("compute", issue=work, wait=waited),
            Stage("write", memory=moved),
        ]
    part, late = work / sweeps, waited / sweeps
    middle = Stage("sweep", memory=again, issue=part, wait=wait.l2 + late)
    return [
        Stage("read", memory=moved, issue=part, wait=wait.memory + late),
        *[middle] * (sweeps - 2),
        Stage("write", memory=moved + again, issue=part, wait=wait.l2 + late),
    ]


def _as_long_as_rows_are(gpu: Gpu, kernel: KernelDescriptor, case: Rows) -> Launch:
    """PyTorch's softmax: the first of its ways that takes rows so long.

    A warp a row, its numbers in registers; 1024 threads a row, in registers, in
    shared memory where rows are whole 16 bytes, or reading it again for each statistic.
    """
    ways = (
        t for t in kernel.tiles if case.columns <= t.columns and case.columns % max(1, t.depth) == 0
    )
    tile = next(ways, kernel.tiles[-1])
    return (_of_warps if tile.way == "warp" else _of_blocks)(gpu, kernel, tile, case)


def _of_warps(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Rows) -> Launch:
    """A warp a row.  Its loops run to the next power of two; a lone warp's own chains are long.

    ``chain`` is what it waits for each instruction, from cycles of a lone block.
    """
    limit, counts, wait = gpu.multiprocessor, dict(kernel.instructions), gpu.waits
    padded = 1 << max(5, math.ceil(math.log2(case.columns)))
    blocks = -(-case.rows // tile.rows)
    together = min(tile.blocks, limit.threads // tile.threads, -(-blocks // gpu.multiprocessors))
    each = counts["warp"] + counts["warp column"] * (case.columns + padded) / 2
    width = gpu.memory.copy / gpu.clock_hz / gpu.multiprocessors / limit.schedulers
    moved = 2.0 * case.columns / width
    walk = [
        Stage("read", memory=moved, wait=wait.memory),
        Stage("compute", issue=each, wait=counts["chain"] * each),
        Stage("write", memory=moved),
    ]
    warps = together * tile.warps // limit.schedulers
    slots = gpu.multiprocessors * together
    cycles = math.ceil(blocks / slots) * in_order(walk, warps, max(2, together))
    taken = _Taken(cycles, slots, blocks, walk, warps, 0.0, case.rows * each * 16, 32)
    return _launch(gpu, kernel, case, taken)


def _of_blocks(gpu: Gpu, kernel: KernelDescriptor, tile: Tile, case: Rows) -> Launch:
    """A block of 1024 threads a row; what is no whole round is read again number by number."""
    limit, counts, wait = gpu.multiprocessor, dict(kernel.instructions), gpu.waits
    rounds, rest = divmod(case.columns, ROUND)
    single = -(-rest // tile.threads) + (case.columns % 8 > 0) if tile.way == "again" else 0
    whole = rounds if tile.way == "again" else case.columns / ROUND
    each = counts[tile.way] + counts[f"{tile.way} round"] * whole + counts["single"] * single
    active = min(case.rows, gpu.multiprocessors)
    residents = min(tile.blocks, -(-case.rows // gpu.multiprocessors))
    size = 2.0 * case.columns
    moved = size / (gpu.memory.copy / gpu.clock_hz / active)
    work, late = tile.warps * each / limit.schedulers, 2 * _reduction(gpu, tile.warps)
    walk = _row(gpu, moved, 0.0, work, 1, late)
    far = 0.0
    if tile.way == "again":
        sweeps = kernel.passes - 1
        far = 0.0 if residents * size <= limit.shared_bytes else sweeps * size / ingest(gpu, active)
        late = single * (wait.memory + sweeps * wait.shared)
        walk.insert(1, Stage("again", memory=far, wait=wait.l2 + late))
    slots = residents * gpu.multiprocessors
    cycles = math.ceil(case.rows / slots) * staggered(walk, residents)
    lanes = case.rows * tile.warps * each * 16
    again = kernel.passes - 1 if far else 0
    taken = _Taken(cycles, slots, case.rows, walk, residents, again, lanes, tile.threads)
    return _launch(gpu, kernel, case, taken)
