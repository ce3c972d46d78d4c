"""Time by events, energy by the board's counter, and the record of both.

A launch is timed behind a delay (or behind a sweep that leaves L2 holding
something else), so that the host is ahead and the two events enclose the
kernel alone.  What is timed often and briefly runs at the boost clock; what
is sustained runs at the clock that the power cap leaves.  Both are measured,
and never mixed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from accelsim.gpu.board import Board, Watch, reasons
from accelsim.gpu.device import cupy, device
from accelsim.gpu.kernel import load

#: How the times of a record were taken; in the record.
METHOD: Final = {
    "hot": "single launches between two CUDA events, each enqueued behind a delay kernel, after"
    " warm-up; inputs as the launch before left them in L2; the median of the medians of five"
    " trains of 15 ms, each after a rest of 30 ms, so that neither the check before nor the"
    " train itself has brought the clock down",
    "cold": "the same in one train, with L2 filled before each launch by reading another buffer of"
    " four times its size",
    "sm_hz": "cycles over nanoseconds counted on one multiprocessor for 50 us, enqueued behind the"
    " last repeat",
    "spread": "(third - first quartile) / median of the repeats",
    "energy": "difference of the board's energy counter (NVML) over whole ticks of it, while the"
    " kernel is launched back to back; static power included",
}
#: Trains of launches that a time is the median of: how many, how long, and the rest before each.
TRAINS: Final = 5
TRAIN_S: Final = 0.015
REST_S: Final = 0.03


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one launch over repeats, and what held the clock down meanwhile."""

    median_s: float
    least_s: float
    most_s: float
    spread: float
    repeats: int
    sm_hz: float | None = None
    held_down_by: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        trains: Iterable[Iterable[float]],
        sm_hz: float | None = None,
        held_down_by: Iterable[str] = (),
    ) -> Timing:
        """From single times, train by train: the median of the trains' medians.

        >>> Timing.of([[1.0, 2.0, 3.0], [2.0], [9.0]]).median_s
        2.0
        """
        each = [sorted(train) for train in trains]
        found = sorted(time for train in each for time in train)
        middle = statistics.median(statistics.median(train) for train in each)
        if len(found) > 1:
            low, _, high = statistics.quantiles(found, n=4, method="inclusive")
        else:
            low = high = middle
        spread = (high - low) / middle
        why = tuple(dict.fromkeys(held_down_by))
        return cls(middle, found[0], found[-1], spread, len(found), sm_hz, why)


@dataclass(frozen=True, slots=True)
class Sustained:
    """A kernel launched back to back: joules and seconds a launch, mean power and clock."""

    joules: float
    seconds: float
    power_w: float
    sm_hz: float | None
    launches: int
    interval_s: float
    held_down_by: tuple[str, ...]


@cache
def board() -> Board:
    """The sensors of the first GPU."""
    return Board(device().pci_bus)


@cache
def scratch() -> tuple[Any, Any]:
    """A buffer of four times L2 and a place for results that never come."""
    module = cupy()
    size = 4 * device().l2_bytes // 16 * 16
    return module.zeros(size, dtype=module.uint8), module.zeros(4, dtype=module.uint64)


def delay(seconds: float) -> None:
    """Enqueue a kernel that does nothing for that long."""
    load("tools.cu", "delay", {}, 1)((1,), cupy().uint64(int(seconds * 1e9)))


def fill_l2() -> None:
    """Enqueue reading four times L2, which drops what L2 held before."""
    buffer, sink = scratch()
    kernel = load("tools.cu", "sweep", {}, 512)
    kernel((device().multiprocessors * 4,), buffer, cupy().uint64(buffer.size // 16), sink)


def enqueue_probe(seconds: float = 5e-5) -> Any:
    """Enqueue counting cycles and nanoseconds on one multiprocessor; the array they go to."""
    _, sink = scratch()
    load("tools.cu", "probe", {}, 1)((1,), cupy().uint64(int(seconds * 1e9)), sink)
    return sink


def sm_clock_hz(seconds: float = 2e-4) -> float:
    """The multiprocessors' clock, from cycles and nanoseconds counted on one of them."""
    return probed_hz(enqueue_probe(seconds))


def probed_hz(sink: Any) -> float:
    """What a probe counted."""
    cycles, nanoseconds = (int(x) for x in sink[:2].get())
    return cycles / nanoseconds * 1e9


def timed(
    run: Callable[[], None],
    *,
    cold: bool = False,
    ahead_s: float = 4e-5,
    budget_s: float = TRAIN_S,
    least: int = 3,
    most: int = 60,
    trains: int = TRAINS,
) -> Timing:
    """Time ``run``, which enqueues one launch (or a pipeline of them), in rested short trains.

    ``ahead_s`` is the least delay that lets the host enqueue all of it before it starts (twice
    what the host took for it, if that is more), ``budget_s`` how long a train lasts.  Clocks sag
    for milliseconds behind other work, and for as long as a long train lasts; short trains after
    a rest repeat within 1 %.
    """
    module = cupy()
    for _ in range(3):
        run()
    ahead_s = max(ahead_s, 2 * max(_host_s(run) for _ in range(3)))
    events = [module.cuda.Event() for _ in range(2 * most)]

    def enqueue(first: Any, last: Any) -> None:
        if cold:
            fill_l2()
        delay(ahead_s)
        first.record()
        run()
        last.record()

    def between(first: Any, last: Any) -> float:
        return 1e-3 * float(module.cuda.get_elapsed_time(first, last))

    enqueue(*events[:2])
    events[1].synchronize()
    guess = max(between(*events[:2]), 1e-6)
    repeats = min(most, max(least, int(budget_s / (guess + ahead_s))))
    pairs = [(events[2 * i], events[2 * i + 1]) for i in range(repeats)]
    found, why = [], 0
    for _ in range(1 if cold else trains):
        time.sleep(REST_S)
        for pair in pairs:
            enqueue(*pair)
        sink = enqueue_probe()
        pairs[-1][1].synchronize()
        why |= board().why() or 0
        found.append([between(*pair) for pair in pairs])
    return Timing.of(found, probed_hz(sink), reasons(why))


def _host_s(run: Callable[[], None]) -> float:
    """Seconds that the host takes to enqueue a launch."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _keep_busy(
    run: Callable[[], None], batch: int, until: Callable[[], bool]
) -> list[tuple[Any, Any]]:
    """Launch in batches, two of them always enqueued; the events around each batch."""
    module = cupy()
    spans: list[tuple[Any, Any]] = []
    while not until():
        first, last = module.cuda.Event(), module.cuda.Event()
        first.record()
        for _ in range(batch):
            run()
        last.record()
        spans.append((first, last))
        if len(spans) > 2:
            spans[-3][1].synchronize()
    return spans


def sustained(
    run: Callable[[], None], seconds: float = 1.2, settle_s: float = 0.5
) -> Sustained | None:
    """Energy of ``run`` launched back to back for ``seconds``, after ``settle_s`` of the same.

    ``None`` where the board has no energy counter.
    """
    module, sensors = cupy(), board()
    if sensors.energy_j() is None:
        return None
    batch = max(1, int(0.02 / timed(run, least=3, most=5).median_s))
    start = time.perf_counter()
    _keep_busy(run, batch, lambda: time.perf_counter() - start > settle_s)
    begin = time.perf_counter()
    with Watch(sensors) as watch:
        spans = _keep_busy(run, batch, lambda: time.perf_counter() - begin > seconds)
    module.cuda.runtime.deviceSynchronize()
    if len(watch.energy_j) < 2:
        return None
    (first_s, first_j), (last_s, last_j) = watch.energy_j[0], watch.energy_j[-1]
    power = (last_j - first_j) / (last_s - first_s)
    each = statistics.median(
        1e-3 * float(module.cuda.get_elapsed_time(a, b)) / batch for a, b in spans
    )
    return Sustained(
        joules=power * each,
        seconds=each,
        power_w=power,
        sm_hz=statistics.fmean(watch.sm_hz) if watch.sm_hz else None,
        launches=batch * len(spans),
        interval_s=last_s - first_s,
        held_down_by=tuple(reasons(watch.why)),
    )


def idle_power_w(seconds: float = 2.0) -> float | None:
    """Power of the board with nothing running, its context open, from the energy counter."""
    sensors = board()
    cupy().cuda.runtime.deviceSynchronize()
    time.sleep(1.0)
    start, first = time.perf_counter(), sensors.energy_j()
    time.sleep(seconds)
    end, last = time.perf_counter(), sensors.energy_j()
    return None if first is None or last is None else (last - first) / (end - start)
