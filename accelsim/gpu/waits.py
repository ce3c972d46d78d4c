"""Latencies of instructions, and how long the board lets its cap be passed.

A wait is the cycles from an instruction of a lone warp to one that needs its
result: one chain, so that nothing else fills the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from accelsim.gpu import measure, microbench
from accelsim.gpu.device import cupy, device
from accelsim.gpu.kernel import load
from accelsim.gpu.microbench import Op, rate_row, rate_run, usable, work
from accelsim.gpu.record import fields

#: One chain of each; the numbers are those of ``microbench.cu``.
WAITS: Final = (
    Op("wait.mma", 0, 16 * 8 * 16 * 2, "FLOP", (32,), ilp=1, repeat=32),
    Op("wait.ex2", 5, 32, "op", (32,), ilp=1, repeat=32),
    Op("wait.alu", 8, 32, "op", (32,), ilp=1, repeat=32),
    Op("wait.shuffle", 10, 32, "op", (32,), ilp=1, repeat=32),
    Op("wait.shared", 21, 128, "byte", (32,), ilp=1, repeat=32, shared_bytes=8192),
)
#: Tensor work that draws the most, for the cap; tried in this order.
HUNGRY: Final = ("wgmma.m64n256k16.bf16.shared", "mma.sync.m16n8k16.bf16")
#: Tensor work whose clock is read in single launches of so many seconds, by path.
BRIEF: Final = {
    "mma": ("mma.sync.m16n8k16.bf16", 512),
    "wgmma": ("wgmma.m64n128k16.bf16.shared", 256),
}
BRIEF_S: Final = (6e-5, 1.2e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 1e-2)
#: Tensor work that passes the cap, and how long its launches last.
ACTING: Final = ("wgmma.m64n128k16.bf16.shared", "wgmma.m64n128k16.f16.shared")
ACTING_S: Final = (4e-3, 8e-3, 1.2e-2, 1.6e-2, 2e-2, 2.4e-2, 2.8e-2)


def wait_rows() -> list[dict[str, Any]]:
    """Cycles of each wait, as ``cycles_each``."""
    return [
        rate_row(op, 32) | {"how": "cycles of a chain of dependent instructions of one warp"}
        for op in WAITS
        if usable(op)
    ]


#: Instructions that run beside mma: their names and numbers in ``microbench.cu``.
BESIDE: Final = {
    "ex2.approx.f32": 5, "fma.f32": 6, "max.f32": 7, "add.f32": 8, "shfl.idx": 10, "lop3.b32": 22,
}  # fmt: skip


def _beside(number: int, warps_of_mma: int, warps: int, ticks: int = 200_000) -> tuple[float, ...]:
    """Instructions a cycle of a scheduler: mma, and others of its other warps."""
    module, blocks, threads = cupy(), device().multiprocessors, 128 * warps
    defines = {
        "OP": number, "ILP": 8, "REPEAT": 1, "THREADS": threads, "WARPS_OF_MMA": warps_of_mma
    }  # fmt: skip
    out = module.zeros((blocks, 4 * warps, 2), dtype=module.uint64)
    load("microbench.cu", "beside", defines, threads)((blocks,), module.uint64(ticks), out)
    counted = out.get().astype(float)
    rates = (counted[..., 0] / counted[..., 1]).mean(axis=0)
    return float(rates[: 4 * warps_of_mma].sum()) / 4, float(rates[4 * warps_of_mma :].sum()) / 4


def beside_rows() -> list[dict[str, Any]]:
    """What each other instruction of a scheduler takes from its tensor core under mma.sync.

    Two warps of a scheduler multiply, one does something else as fast as it
    can; the rate of mma is compared with that of the two alone.
    """
    if float(device().capability) < 8.0:
        return []
    found = []
    for name, number in BESIDE.items():
        alone = _beside(number, 2, 2)[0]
        mma, others = _beside(number, 2, 3)
        found.append({
            "what": "mma.beside", "op": name, "alone_cycles_each": 1 / alone,
            "cycles_each": 1 / mma, "others_per_cycle": others,
            "lost_cycles": (1 - mma / alone) / others,
            "how": "two warps of a scheduler issue mma.sync.m16n8k16, a third the operation; cycles"
            " of mma's time that go to each operation",
        })  # fmt: skip
    return found


def train_row(seconds: float = 0.4, rest_s: float = 1.0) -> dict[str, Any]:
    """Rate of tensor work launched back to back after a rest, launch by launch.

    It says how fast the chip runs before the power cap acts, and when that is.
    """
    import time

    module = cupy()
    op = next(o for name in HUNGRY for o in microbench.OPS if o.name == name and usable(o))
    threads = op.threads[-1]
    iterations = microbench.rounds(op) // 16  # a millisecond or so
    run, cycles = rate_run(op, threads, iterations)
    each = measure.timed(run, least=3, most=3).median_s
    count = max(8, int(seconds / each))
    events = [module.cuda.Event() for _ in range(count + 1)]
    module.cuda.runtime.deviceSynchronize()
    time.sleep(rest_s)
    measure.delay(1e-3)
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    events[-1].synchronize()
    total = work(op, threads, iterations) * device().multiprocessors
    spans = [1e-3 * float(module.cuda.get_elapsed_time(a, b)) for a, b in pairwise(events)]
    return {
        "what": "power.train",
        "op": op.name,
        "threads": threads,
        "unit": op.unit,
        "seconds": spans,
        "work": total,
        "cycles": float(cycles.get().max()),
        "how": f"launches back to back after {rest_s:g} s of rest, each between two events",
    }


def brief_rows() -> list[dict[str, Any]]:
    """The clock of tensor work in single launches after a rest, short and long ones.

    The board answers a load by some hundred microseconds late, so that a
    launch that is short runs slower than one that lasts.
    """
    alone = _empty_s()
    return [
        _clock_row("clock.brief", path, _op(name), threads, seconds, alone)
        for path, (name, threads) in BRIEF.items()
        for seconds in BRIEF_S
        if usable(_op(name))
    ]


def acting_rows() -> list[dict[str, Any]]:
    """The same of work that passes the cap, in trains long enough for the cap to act."""
    alone = _empty_s()
    return [
        _clock_row("clock.acting", "wgmma", _op(name), 256, seconds, alone)
        for name in ACTING
        for seconds in ACTING_S
        if usable(_op(name))
    ]


def _op(name: str) -> Op:
    return next(op for op in microbench.OPS if op.name == name)


def _empty_s() -> float:
    """Seconds of an empty kernel between two events."""
    empty = load("tools.cu", "empty", {}, 1)
    return measure.timed(lambda: empty((device().multiprocessors,)), least=20).median_s


def _clock_row(
    what: str, path: str, op: Op, threads: int, seconds: float, alone: float
) -> dict[str, Any]:
    """The clock of launches of about so many seconds, an empty one taking ``alone``."""
    iterations = max(1, round(microbench.rounds(op) * seconds / 4e-3))
    run, _ = rate_run(op, threads, iterations)
    taken = measure.timed(run, trains=1).median_s - alone
    iterations = max(1, round(iterations * seconds / max(taken, 1e-6)))
    run, cycles = rate_run(op, threads, iterations)
    timing = measure.timed(run)
    spent = timing.median_s - alone
    count = sorted(int(x) for x in cycles.get())[device().multiprocessors // 2]
    return {
        "what": what, "path": path, "op": op.name, "threads": threads,
        "seconds": spent, "sm_hz": count / spent, "time": fields(timing),
        "how": "cycles counted on a multiprocessor over seconds between events, less those"
        " of an empty kernel; single launches in rested trains",
    }  # fmt: skip


def acts_s(rows: Sequence[Mapping[str, Any]], slower: float = 0.99) -> float | None:
    """Seconds of the longest train in which no operation's clock has fallen yet; None without rows.

    A train has three launches where they are long.

    >>> rows = [{"op": "o", "seconds": n, "sm_hz": hz} for n, hz in ((1, 2.0), (2, 1.99), (3, 1.9))]
    >>> acts_s(rows)
    6
    """
    steady: list[float] = []
    for name in {row["op"] for row in rows}:
        mine = sorted((row for row in rows if row["op"] == name), key=lambda row: row["seconds"])
        falls = (n for n, row in enumerate(mine) if row["sm_hz"] < slower * mine[0]["sm_hz"])
        steady.append(mine[next(falls, len(mine)) - 1]["seconds"])
    return 3 * min(steady) if steady else None


def response_s(spans: list[float], slower: float = 1.04) -> float | None:
    """When launches first stay slower than the first ones: seconds since the start; None if never.

    >>> response_s([1.0] * 9 + [1.2, 1.0] + [1.2] * 9)
    11.2
    """
    first = sorted(spans[:3])[len(spans[:3]) // 2]
    late = [span > slower * first for span in spans]
    for place in range(len(spans) - 2):
        if all(late[place : place + 3]):
            return sum(spans[:place])
    return None
