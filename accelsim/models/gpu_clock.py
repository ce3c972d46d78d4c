"""Seconds, joules and the clock of a launch: where its power meets what the board allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from accelsim.ir.gpu import Gpu
from accelsim.models.gpu_launch import Launch

#: A kernel is timed as the median of rested trains of launches: so long, three launches at least.
TRAIN_S = 0.015
LEAST = 3
#: The clock is sought down to this share of the highest.
LOWEST = 0.3


@dataclass(frozen=True, slots=True)
class Settled:
    """A launch at the clock that it keeps: seconds without launch cost, joules, hertz, binder."""

    seconds: float
    joules: float
    sm_hz: float
    power_w: float
    bound_by: str


def seconds_at(gpu: Gpu, launch: Launch, clock_hz: float) -> tuple[float, str]:
    """Time of a launch at a clock, and which ceiling bounds it."""
    times = {
        "multiprocessors": launch.cycles / clock_hz + launch.cold_s,
        "memory": launch.lead_s + gpu.memory.seconds(launch.read_bytes, launch.write_bytes),
        "l2": launch.lead_s + launch.l2_bytes / gpu.l2_bandwidth,
    }
    if gpu.launch.blocks_hz:
        times["blocks"] = launch.lead_s + launch.blocks / gpu.launch.blocks_hz
    bound = max(times, key=lambda name: times[name])
    return times[bound], bound


def joules_at(gpu: Gpu, launch: Launch, clock_hz: float) -> tuple[float, float]:
    """Energy of a launch above what the board draws awake: of the core at a clock, of memory.

    The energy of a byte of memory includes its way through L2; only bytes
    that L2 serves by itself are added.  Memory keeps its own clock.
    """
    core = sum(n * gpu.joules(name, clock_hz) for name, n in launch.operations.items() if n)
    outside = launch.read_bytes + launch.write_bytes
    core += max(0.0, launch.l2_bytes - outside) * gpu.joules("l2", clock_hz)
    read = launch.read_bytes * gpu.joules("read", gpu.clock_hz)
    return core, read + launch.write_bytes * gpu.joules("write", gpu.clock_hz)


def settle(gpu: Gpu, launch: Launch, limit_w: float, top_hz: float | None = None) -> Settled:
    """The launch at the highest clock at which its power is no more than ``limit_w``.

    Power falls as the clock does: time does not fall, and the core's energy
    goes with its square.  So the clock is found by bisection, ``top_hz`` or
    the highest clock of such work above it.
    """
    top = top_hz or (gpu.tensor_clock_hz if launch.uses_tensor else gpu.clock_hz)
    core, outside = joules_at(gpu, launch, top)

    def at(clock_hz: float) -> Settled:
        seconds, bound = seconds_at(gpu, launch, clock_hz)
        dynamic = core * (clock_hz / top) ** 2 + outside
        joules = dynamic + gpu.power.awake_w * seconds
        power = joules / seconds if seconds else gpu.power.idle_w
        return Settled(seconds, joules, clock_hz, power, bound)

    found = at(top)
    if found.power_w <= limit_w:
        return found
    low, high = LOWEST * top, top
    for _ in range(20):
        middle = (low + high) / 2
        if at(middle).power_w <= limit_w:
            low = middle
        else:
            high = middle
    return at(low) if at(low).power_w <= limit_w else _stretched(gpu, found, limit_w)


def _stretched(gpu: Gpu, found: Settled, limit_w: float) -> Settled:
    """What no clock brings under the limit (memory's own power) takes longer instead."""
    dynamic = found.joules - gpu.power.awake_w * found.seconds
    seconds = dynamic / (limit_w - gpu.power.awake_w)
    return Settled(seconds, limit_w * seconds, found.sm_hz, limit_w, "power")


def settle_as_timed(gpu: Gpu, launch: Launch) -> Settled:
    """The launch as the median of rested trains of single launches runs: see ``TRAIN_S``.

    A short train runs at the clock of launches so brief, less what it droops, or
    under the board's momentary limit where no droop is known; one longer than the
    cap takes to act runs under the cap; those between lie between.
    """
    limit = math.inf if gpu.power.droop else gpu.power.peak_w
    brief = settle(gpu, launch, limit)
    if launch.uses_tensor:
        clock = gpu.brief_clock_hz(brief.seconds)
        brief = settle(gpu, launch, limit, drooped_hz(gpu, launch, clock))
    acted = gpu.power.acted(max(LEAST * brief.seconds, TRAIN_S))
    if not acted:
        return brief
    capped = settle(gpu, launch, gpu.power.cap_w)
    if acted == 1:
        return capped
    if capped.sm_hz >= brief.sm_hz:
        return brief
    clock = brief.sm_hz + acted * (capped.sm_hz - brief.sm_hz)
    return settle(gpu, launch, math.inf, clock)


def drooped_hz(gpu: Gpu, launch: Launch, clock_hz: float) -> float:
    """The clock that tensor work keeps where the board would give it ``clock_hz``.

    Voltage sags with the current, and the clock follows it: by a power of what
    is drawn over what is drawn without that, while every multiprocessor that
    the launch will use is at work.

    >>> from accelsim.load.gpu import load_gpu
    >>> gpu = load_gpu("h100-sxm")
    >>> light, heavy = (Launch("k", 1e6, 0.0, 0.0, 0.0, {"wgmma.bf16": n}) for n in (1e11, 1e12))
    >>> drooped_hz(gpu, light, 1.75e9), round(drooped_hz(gpu, heavy, 1.75e9) / 1e6)
    (1750000000.0, 1567)
    """
    core, outside = joules_at(gpu, launch, clock_hz)
    seconds = launch.busy * seconds_at(gpu, launch, clock_hz)[0]
    power = gpu.power.awake_w + (core + outside) / seconds
    return clock_hz * math.pow(min(1.0, gpu.power.peak_w / power), gpu.power.droop)


def displayed_hz(gpu: Gpu, found: Settled) -> float:
    """The clock that the board displays while a launch runs as it was settled.

    It displays what it aims at.  Under tensor work the voltage droops and the
    multiprocessors' clock with it, of which the display shows nothing; what the
    cap takes it shows.

    >>> from accelsim.load.gpu import load_gpu
    >>> gpu = load_gpu("h100-sxm")
    >>> busy = Launch("k", 1e6, 0.0, 0.0, 0.0, {"wgmma.bf16": 1.0})
    >>> displayed_hz(gpu, settle(gpu, busy, 700.0)) == gpu.clock_hz
    True
    """
    return found.sm_hz if found.sm_hz < gpu.tensor_clock_hz else gpu.clock_hz
