"""The price of a described kernel on a GPU: its launches, their clock, time, bytes and energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from accelsim.ir.gpu import Gpu
from accelsim.models.gpu_clock import Settled, displayed_hz, settle, settle_as_timed
from accelsim.models.gpu_launch import Launch, kept_again, left_in_l2


@dataclass(frozen=True, slots=True)
class Priced:
    """A launch with what it comes to: as timed in a short train, and sustained."""

    launch: Launch
    timed: Settled
    sustained: Settled
    dram_bytes: float
    displayed_hz: float

    def to_dict(self) -> dict[str, Any]:
        """The launch as a JSON object."""
        one = self.launch
        return {
            "name": one.name,
            "seconds": self.timed.seconds,
            "sustained_s": self.sustained.seconds,
            "sm_hz": self.timed.sm_hz,
            "bound_by": self.timed.bound_by,
            "tile": one.shape,
            "blocks": one.blocks,
            "slots": one.slots,
            "waves": one.waves,
            "dram_bytes": self.dram_bytes,
            "l2_bytes": one.l2_bytes,
            "stages": [{"name": n, "cycles": c, "pipe": p} for n, c, p in one.stages],
        }


@dataclass(frozen=True, slots=True)
class KernelEstimate:
    """A kernel's price: ``latency_s`` between two events, launch cost included.

    ``energy_j`` and ``sm_hz`` are those of the kernel launched back to back,
    where the board's cap holds; ``latency_s`` that of a short train of launches.
    """

    kernel: str
    arch: str
    launches: tuple[Priced, ...]
    launch_s: float
    problem: tuple[tuple[str, Any], ...] = ()

    @property
    def latency_s(self) -> float:
        """Seconds from one event to the next around the kernel."""
        return self.launch_s + sum(p.timed.seconds for p in self.launches)

    @property
    def sustained_s(self) -> float:
        """Seconds of each of many launches back to back, under the cap."""
        return sum(p.sustained.seconds for p in self.launches)

    @property
    def energy_j(self) -> float:
        """Joules of the board for each of many launches back to back."""
        return sum(p.sustained.joules for p in self.launches)

    @property
    def sm_hz(self) -> float:
        """The clock that the board displays in many launches back to back, weighted by time."""
        total = self.sustained_s
        return sum(p.displayed_hz * p.sustained.seconds for p in self.launches) / total

    @property
    def dram_bytes(self) -> float:
        """Bytes that memory moves in one launch from an empty L2."""
        return sum(p.dram_bytes for p in self.launches)

    @property
    def l2_bytes(self) -> float:
        """Bytes between L2 and the multiprocessors."""
        return sum(p.launch.l2_bytes for p in self.launches)

    @property
    def bound_by(self) -> str:
        """What bounds the longest launch: memory, L2, or the pipe that its stages ask most of."""
        longest = max(self.launches, key=lambda p: p.timed.seconds)
        if longest.timed.bound_by != "multiprocessors" or not longest.launch.stages:
            return longest.timed.bound_by
        asked: dict[str, float] = {}
        for _, cycles, pipe in longest.launch.stages:
            asked[pipe] = asked.get(pipe, 0.0) + cycles
        return max(asked, key=lambda pipe: asked[pipe])

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim estimate --kernel``."""
        return {
            "kernel": self.kernel,
            "arch": self.arch,
            **dict(self.problem),
            "latency_s": self.latency_s,
            "dram_bytes": self.dram_bytes,
            "l2_bytes": self.l2_bytes,
            "energy_j": self.energy_j,
            "sm_hz": self.sm_hz,
            "sustained_s": self.sustained_s,
            "power_w": self.energy_j / self.sustained_s,
            "launch_s": self.launch_s,
            "bound_by": self.bound_by,
            "launches": [p.to_dict() for p in self.launches],
        }


def price(gpu: Gpu, kernel: str, launches: Sequence[Launch]) -> KernelEstimate:
    """The launches of a kernel, one behind the other, inputs where the launch before left them.

    Where more passes through L2 in one of them than it holds, instructions of all
    come from memory too.
    """
    found = []
    passes = max(one.footprint for one in launches) > gpu.l2_reach_bytes
    cost = gpu.launch.first_s + (len(launches) - 1) * gpu.launch.next_s
    for number, one in enumerate(launches):
        far = 1 - _kept(gpu, one, launches[number - 1])
        cost += gpu.launch.cold_s if passes else 0.0
        warm = replace(
            one,
            read_bytes=far * (one.read_bytes - one.found_bytes),
            write_bytes=far * one.write_bytes,
            cold_s=far * one.cold_s,
        )
        left = left_in_l2(gpu, one)
        timed = settle_as_timed(gpu, warm)
        kept = settle(gpu, warm, gpu.power.cap_w)
        shown = displayed_hz(gpu, kept)
        found.append(Priced(one, timed, kept, one.read_bytes + one.write_bytes - left, shown))
    return KernelEstimate(kernel, gpu.name, tuple(found), cost)


def _kept(gpu: Gpu, launch: Launch, before: Launch) -> float:
    """The share of its bytes that a launch which is repeated finds in L2, as they were left."""
    return min(kept_again(gpu, one.footprint, one.write_bytes) for one in (launch, before))
