"""Physical ceilings of the GPU that is here, one instruction or one memory level at a time.

Each row of the record says what was run, how it was counted and what came
out.  Rates of instructions come from cycles counted on the multiprocessor
itself, so that they hold at any clock; bandwidths come from events.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from accelsim.gpu import measure
from accelsim.gpu.device import cupy, device
from accelsim.gpu.kernel import Kernel, load
from accelsim.gpu.record import fields

Row = dict[str, Any]

#: Threads of the empty blocks whose start is timed.
THREADS: Final = (32, 64, 128, 256, 512, 1024)
#: Blocks a multiprocessor that read L2, and bytes that a block reads at once.
L2_BLOCKS: Final = 2
L2_STEP: Final = 256 * 8 * 16


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of ``rate`` in ``microbench.cu``: its number there and its work.

    ``each`` is the work of one instruction of one warp (of a warpgroup for
    ``wgmma``), in ``unit``: FLOP, op (a lane's operation), byte.
    """

    name: str
    number: int
    each: float
    unit: str
    threads: tuple[int, ...]
    ilp: int = 8
    repeat: int = 1
    group: int = 32
    shared_bytes: int = 0


_MMA: Final = 16 * 8 * 16 * 2
_WIDE: Final = 64 * 128 * 16 * 2
_SHARED: Final = 65 * 1024
_TILES: Final = 65 * 1024

OPS: Final = (
    Op("mma.sync.m16n8k16.bf16", 0, _MMA, "FLOP", (128, 256, 512, 1024), repeat=4),
    Op("mma.sync.m16n8k16.f16", 1, _MMA, "FLOP", (128, 256, 512), repeat=4),
    Op("mma.sync.m16n8k16.f16.f16-accumulate", 2, _MMA, "FLOP", (256, 512), repeat=4),
    Op("mma.sync.m16n8k32.s8", 3, 2 * _MMA, "FLOP", (256, 512), repeat=4),
    Op("mma.sync.m16n8k32.e4m3", 4, 2 * _MMA, "FLOP", (256, 512), repeat=4),
    Op("ex2.approx.f32", 5, 32, "op", (256, 512, 1024), repeat=16),
    Op("fma.f32", 6, 32, "op", (256, 512, 1024), repeat=16),
    Op("max.f32", 7, 32, "op", (512, 1024), repeat=16),
    Op("add.f32", 8, 32, "op", (512, 1024), repeat=16),
    Op("cvt.bf16x2.f32", 9, 32, "op", (512, 1024), repeat=16),
    Op("cvt.f16x2.f32", 20, 32, "op", (512, 1024), repeat=16),
    Op("lop3.b32", 22, 32, "op", (512, 1024), repeat=16),
    Op("shfl.idx", 10, 32, "op", (512, 1024), repeat=16),
    Op("ldmatrix.x4", 11, 512, "byte", (256, 512, 1024), repeat=4, shared_bytes=_SHARED),
    Op("ld.shared.v4", 12, 512, "byte", (256, 512, 1024), repeat=4, shared_bytes=_SHARED),
    Op("st.shared.v4", 13, 512, "byte", (256, 512, 1024), repeat=4, shared_bytes=_SHARED),
    Op("bar.sync", 14, 1, "op", (128, 256, 512, 1024), ilp=8, group=0),
    Op("wgmma.m64n128k16.bf16.shared", 15, _WIDE, "FLOP", (128, 256, 512), 32, 1, 128, _TILES),
    Op("wgmma.m64n128k16.f16.shared", 15, _WIDE, "FLOP", (256,), 32, 1, 128, _TILES),
    Op("wgmma.m64n128k16.bf16.registers", 16, _WIDE, "FLOP", (128, 256, 512), 32, 1, 128, _TILES),
    Op("wgmma.m64n256k16.bf16.shared", 17, 2 * _WIDE, "FLOP", (128, 256), 32, 1, 128, _TILES),
    Op("wgmma.m64n128k32.s8.shared", 18, 2 * _WIDE, "FLOP", (128, 256), 32, 1, 128, _TILES),
    Op("wgmma.m64n128k32.e4m3.shared", 19, 2 * _WIDE, "FLOP", (128, 256), 32, 1, 128, _TILES),
)


def usable(op: Op) -> bool:
    """Whether this GPU has the instruction."""
    capability = float(device().capability)
    if op.name.startswith("wgmma"):
        return capability == 9.0
    return capability >= (8.9 if "e4m3" in op.name else 8.0)


def rate_kernel(op: Op, threads: int) -> Kernel:
    """``rate`` built for one operation; one block a multiprocessor."""
    defines = {"OP": op.number, "ILP": op.ilp, "REPEAT": op.repeat, "THREADS": threads}
    if op.name.startswith("wgmma") and ".f16." in op.name:
        defines["BF16"] = 0
    return load("microbench.cu", "rate", defines, threads, op.shared_bytes)


def rate_run(op: Op, threads: int, iterations: int) -> tuple[Callable[[], None], Any]:
    """A launch of ``rate``, and the array that its cycles go to."""
    module, blocks = cupy(), device().multiprocessors
    cycles = module.zeros(blocks, dtype=module.uint64)
    sink = module.zeros(blocks * threads, dtype=module.float32)
    kernel = rate_kernel(op, threads)
    count = module.int32(iterations)
    return (lambda: kernel((blocks,), cycles, sink, count)), cycles


def work(op: Op, threads: int, iterations: int) -> float:
    """Work of one multiprocessor in one launch, in the operation's unit."""
    return op.each * op.ilp * op.repeat * iterations * (threads // op.group if op.group else 1)


def rounds(op: Op) -> int:
    """Rounds of the loop for a launch of a millisecond or so.

    >>> rounds(OPS[-1])
    4000
    """
    return 4000 if op.group == 128 else 16000 // op.repeat


def rate_row(op: Op, threads: int) -> dict[str, Any]:
    """Measured rate of an operation with that many threads a multiprocessor."""
    iterations = rounds(op)
    run, cycles = rate_run(op, threads, iterations)
    timing = measure.timed(run, least=5, most=9)
    taken = float(statistics.median(int(x) for x in cycles.get()))
    total = work(op, threads, iterations)
    return {
        "what": op.name,
        "threads": threads,
        "ilp": op.ilp,
        "unit": op.unit,
        "per_cycle_sm": total / taken,
        "cycles_each": taken / (op.ilp * op.repeat * iterations),
        "per_s": total * device().multiprocessors / timing.median_s,
        "sm_hz": taken / timing.median_s,
        "how": "cycles counted on the multiprocessor, one block each; rate a second from events",
        "time": fields(timing),
    }


def memory_run(name: str, bytes_each: int, blocks: int, threads: int = 512) -> Callable[[], None]:
    """A launch of ``read``, ``write`` or ``copy`` over buffers of that size."""
    module = cupy()
    source = _buffer("source", bytes_each)
    target = _buffer("target", bytes_each) if name == "copy" else source
    _, sink = measure.scratch()
    kernel = load("microbench.cu", name, {}, threads)
    count = module.uint64(bytes_each // 16)
    return lambda: kernel((blocks,), source, target, count, sink)


#: Accesses of 16 bytes that a thread has in flight: as in the source.
IN_FLIGHT: Final = 8
_BUFFERS: dict[str, Any] = {}


def _buffer(name: str, size: int) -> Any:
    """A device buffer of random bytes, at least that large, kept."""
    module = cupy()
    if name not in _BUFFERS or _BUFFERS[name].nbytes < size:
        _BUFFERS.pop(name, None)
        words = module.random.randint(0, 1 << 31, size=1 << 22, dtype=module.uint32)
        _BUFFERS[name] = module.tile(words, -(-size // words.nbytes))
    return _BUFFERS[name]


def memory_row(name: str, bytes_each: int, blocks_per_sm: int, threads: int) -> dict[str, Any]:
    """Bandwidth of reading, writing or copying buffers in device memory."""
    blocks = blocks_per_sm * device().multiprocessors
    if name == "copy":  # a block a piece, as kernels that work on rows have it
        blocks = -(-bytes_each // (16 * IN_FLIGHT * threads))
    run = memory_run(name, bytes_each, blocks, threads)
    timing = measure.timed(run, least=5, most=15)
    moved = bytes_each * (2 if name == "copy" else 1)
    return {
        "what": f"hbm.{name}",
        "unit": "byte",
        "buffer_bytes": bytes_each,
        "blocks_per_sm": blocks_per_sm,
        "threads": threads,
        "per_s": moved / timing.median_s,
        "how": "bytes read and written over event time; 16-byte accesses, eight in flight a thread",
        "time": fields(timing),
    }


def panels_row(bytes_each: int, pitch_bytes: int, blocks_per_sm: int) -> dict[str, Any]:
    """Bandwidth of reading rows so far apart in panels of 128 rows, 128 bytes of each at a time."""
    module, threads = cupy(), 128
    source = _buffer("source", bytes_each)
    _, sink = measure.scratch()
    kernel = load("microbench.cu", "panels", {}, threads)
    count = bytes_each // (128 * pitch_bytes)
    grid = (blocks_per_sm * device().multiprocessors,)
    arguments = (source, module.uint64(pitch_bytes // 16), module.uint32(count), sink)
    timing = measure.timed(lambda: kernel(grid, *arguments), least=5, most=15)
    return {
        "what": "hbm.panels",
        "unit": "byte",
        "buffer_bytes": bytes_each,
        "pitch_bytes": pitch_bytes,
        "blocks_per_sm": blocks_per_sm,
        "threads": threads,
        "per_s": bytes_each / timing.median_s,
        "how": "bytes read over event time; a block walks along 128 rows, two tiles of 128 bytes a"
        " row in flight",
        "time": fields(timing),
    }


def level2_run(bytes_each: int, rounds: int, own: bool) -> Callable[[], None]:
    """Reading past L1: all of a buffer by every block, or a slice of it (``own``)."""
    module = cupy()
    source = _buffer("source", bytes_each)
    _, sink = measure.scratch()
    kernel = load("microbench.cu", "level2", {}, L2_STEP // 128)
    blocks = L2_BLOCKS * device().multiprocessors
    count, times = module.uint64(bytes_each // 16), module.int32(rounds)
    return lambda: kernel((blocks,), source, count, times, module.int32(own), sink)


def level2_bytes(bytes_each: int, rounds: int, own: bool) -> int:
    """Bytes that one launch of ``level2`` reads: whole steps of 8 accesses a thread."""
    blocks, step = L2_BLOCKS * device().multiprocessors, L2_STEP
    length = bytes_each // blocks if own else bytes_each
    return length // step * step * rounds * blocks


def level2_row(bytes_each: int, own: bool) -> dict[str, Any]:
    """Bandwidth of reading a buffer by all multiprocessors at once."""
    blocks = L2_BLOCKS * device().multiprocessors
    times = max(2, int(2e9 / (bytes_each if own else bytes_each * blocks)))
    timing = measure.timed(level2_run(bytes_each, times, own), least=5, most=9)
    return {
        "what": "l2.read.own" if own else "l2.read.shared",
        "unit": "byte",
        "buffer_bytes": bytes_each,
        "per_s": level2_bytes(bytes_each, times, own) / timing.median_s,
        "how": f"{L2_BLOCKS} blocks of 256 threads a multiprocessor read, past L1, "
        + ("a slice each, again and again" if own else "all of the buffer each"),
        "time": fields(timing),
    }


def latency_row(bytes_each: int, stride: int = 128) -> dict[str, Any]:
    """Cycles of one dependent load that misses L1, over a random cycle through a buffer."""
    import numpy

    module = cupy()
    places = bytes_each // stride
    order = numpy.random.default_rng(1).permutation(places)
    following = numpy.zeros(bytes_each // 4, dtype=numpy.uint32)
    following[order * (stride // 4)] = numpy.roll(order, -1) * (stride // 4)
    _, sink = measure.scratch()
    kernel = load("microbench.cu", "chase", {}, 1)
    steps = 4096
    data = module.asarray(following)
    kernel((1,), data, module.int32(steps), sink)
    cycles = int(sink[:1].get()[0]) / steps
    return {
        "what": "latency",
        "unit": "cycle",
        "buffer_bytes": bytes_each,
        "cycles_each": cycles,
        "sm_hz": measure.sm_clock_hz(),
        "how": f"one thread follows {steps} random links, {stride} bytes apart at least, past L1",
    }


def launch_rows() -> list[dict[str, Any]]:
    """An empty kernel: event to event, and back to back from the host."""
    module = cupy()
    kernel = load("tools.cu", "empty", {}, 32)
    single = measure.timed(lambda: kernel((1,)), least=40)
    wide = measure.timed(lambda: kernel((device().multiprocessors,)), least=40)

    def train() -> None:
        for _ in range(1000):
            kernel((1,))

    train()
    module.cuda.runtime.deviceSynchronize()
    start = time.perf_counter()
    train()
    module.cuda.runtime.deviceSynchronize()
    host = (time.perf_counter() - start) / 1000

    def five() -> None:
        for _ in range(5):
            kernel((1,))

    behind = measure.timed(five, least=40)
    return [
        {"what": "launch.single", "seconds": single.median_s, "how": "empty kernel of one block"
         " between two events behind a delay", "time": fields(single)},
        {"what": "launch.wide", "seconds": wide.median_s, "how": "the same, a block a"
         " multiprocessor", "time": fields(wide)},
        {"what": "launch.next", "seconds": (behind.median_s - single.median_s) / 4, "how": "each"
         " further empty kernel behind a delay: (five - one) / 4",
         "time": fields(behind)},
        {"what": "launch.host", "seconds": host, "how": "1000 launches from Python, host clock,"
         " synchronised at the end"},
    ]  # fmt: skip


def dispatch_row(threads: int, blocks: int = 1 << 19) -> dict[str, Any]:
    """How many empty blocks of so many threads are started a second."""
    kernel = load("tools.cu", "empty", {}, threads)
    timing = measure.timed(lambda: kernel((blocks,)), least=5, most=15)
    return {
        "what": "launch.blocks",
        "threads": threads,
        "per_s": blocks / timing.median_s,
        "how": f"{blocks} empty blocks over event time",
        "time": fields(timing),
    }


def slot_row(threads: int, blocks: int = 512) -> dict[str, Any]:
    """Cycles between empty blocks of so many threads that have one place on a multiprocessor.

    From the time of twice as many blocks without that of as many.
    """
    room = device().shared_bytes_per_block
    kernel = load("tools.cu", "empty", {}, threads, room)

    def timing(each: int) -> measure.Timing:
        grid = (device().multiprocessors * each,)
        return measure.timed(lambda: kernel(grid), least=5, most=15)

    few, many = timing(blocks), timing(2 * blocks)
    clock = measure.sm_clock_hz()
    return {
        "what": "launch.slot",
        "threads": threads,
        "cycles_each": (many.median_s - few.median_s) * clock / blocks,
        "sm_hz": clock,
        "how": f"empty blocks that take all shared memory: what {2 * blocks} a multiprocessor take"
        f" longer than {blocks}, over {blocks}",
        "time": fields(many),
    }


def memory_rows() -> list[dict[str, Any]]:
    """Reads, writes and copies by size of the buffer, reads in panels by length of the row."""
    rows = []
    large = min(4 << 30, device().memory_bytes // 8)
    for name in ("read", "write", "copy"):
        rows += [
            memory_row(name, large, blocks, threads)
            for blocks, threads in ((2, 1024), (4, 512), (8, 256), (16, 128))
        ]
        rows += [memory_row(name, size << 20, 4, 512) for size in (8, 32, 128, 512)]
    return rows + [panels_row(large, n, b) for n in (1024, 4096, 16384, 65536) for b in (2, 4, 8)]


def ceiling_rows() -> list[dict[str, Any]]:
    """All rows of time: instructions, memory, latency, launch."""
    rows = [rate_row(op, n) for op in OPS if usable(op) for n in op.threads]
    rows += memory_rows()
    rows += [level2_row(size << 20, False) for size in (2, 4, 8, 16, 24, 32, 48)]
    slices = L2_STEP * L2_BLOCKS * device().multiprocessors
    rows += [level2_row(slices * count, True) for count in (1, 2, 3, 4, 5, 6, 8, 12, 30)]
    rows += [latency_row(size << 20) for size in (1, 8, 24, 40, 256, 1024)]
    rows += launch_rows() + [dispatch_row(n) for n in THREADS]
    return rows + [slot_row(n) for n in THREADS[:2]]


#: Threads a multiprocessor with which an operation's energy is taken.
SUSTAINED: Final = {
    "mma.sync.m16n8k16.bf16": 512, "mma.sync.m16n8k16.f16": 512, "mma.sync.m16n8k32.s8": 512,
    "wgmma.m64n128k16.bf16.shared": 256, "wgmma.m64n128k16.f16.shared": 256,
    "wgmma.m64n128k16.bf16.registers": 256, "wgmma.m64n256k16.bf16.shared": 256,
    "wgmma.m64n128k32.e4m3.shared": 256,
    "ex2.approx.f32": 1024, "fma.f32": 1024, "add.f32": 1024, "cvt.bf16x2.f32": 1024,
    "ldmatrix.x4": 1024, "ld.shared.v4": 1024, "st.shared.v4": 1024,
}  # fmt: skip


def energy_row(name: str, unit: str, total: float, run: Callable[[], None], seconds: float) -> Row:
    """Sustained power, and energy of each of ``total`` units of work; empty where none is told."""
    found = measure.sustained(run, seconds)
    if found is None:
        return {}
    return {
        "what": name,
        "unit": unit,
        "joules_each": found.joules / total,
        "power_w": found.power_w,
        "per_s": total / found.seconds,
        "how": "board energy over work, everything the board draws included",
        "sustained": fields(found),
    }


def operation_energy(op: Op, seconds: float = 1.0) -> Row:
    """The row of one operation."""
    threads, iterations = SUSTAINED[op.name], rounds(op)
    run, _ = rate_run(op, threads, iterations)
    total = work(op, threads, iterations) * device().multiprocessors
    return energy_row(op.name, op.unit, total, run, seconds)


def energy_rows(seconds: float = 1.0) -> list[Row]:
    """Sustained power and energy a unit of work, by operation and memory level."""
    idle, blocks = measure.idle_power_w(), device().multiprocessors
    rows = [operation_energy(op, seconds) for op in OPS if op.name in SUSTAINED and usable(op)]

    def add(name: str, unit: str, total: float, run: Callable[[], None]) -> None:
        rows.append(energy_row(name, unit, total, run, seconds))

    empty = next(op for op in OPS if op.name == "bar.sync")
    run, _ = rate_run(empty, 128, 16000)
    add("bar.sync (clock up, little work)", "op", work(empty, 128, 16000) * blocks, run)
    size = 1 << 30
    for name in ("read", "write", "copy"):
        moved = size * (2 if name == "copy" else 1)
        add(f"hbm.{name}", "byte", moved, memory_run(name, size, 4 * blocks))
    slices = L2_STEP * L2_BLOCKS * blocks
    for own, size, times in ((False, 16 << 20, 4), (True, 2 * slices, 100)):
        counted = level2_bytes(size, times, own)
        add(f"l2.read.{'own' if own else 'shared'}", "byte", counted, level2_run(size, times, own))
    told = {"what": "idle", "power_w": idle, "how": "energy counter over 2 s, context open"}
    return [told, *(row | {"idle_w": idle} for row in rows if row)]
