"""The board's sensors through NVML: clock, power, energy counter, temperature.  Read only.

``libnvidia-ml`` comes with the driver and is called directly, so that nothing
has to be installed.  Where it is missing every reading is ``None``.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

_SM, _MEMORY = 1, 2  # nvmlClockType_t
#: Why the clock is held down (nvmlClocksEventReasons), the bits worth telling apart.
REASONS: Final = {
    0x1: "idle",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}


def reasons(bits: int) -> list[str]:
    """The names of the reasons set in ``bits``.

    >>> reasons(0x24)
    ['power cap', 'software thermal']
    """
    return [name for bit, name in REASONS.items() if bits & bit]


class Board:
    """One GPU's sensors; ``Board(device.pci_bus)``."""

    def __init__(self, pci_bus: str) -> None:
        self._library: Any = None
        self._handle = ctypes.c_void_p()
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        if library.nvmlInit_v2():
            return
        if library.nvmlDeviceGetHandleByPciBusId_v2(pci_bus.encode(), ctypes.byref(self._handle)):
            return
        self._library = library

    @property
    def present(self) -> bool:
        """Whether there are sensors to read."""
        return self._library is not None

    def _read(self, name: str, kind: Any, *before: Any) -> int | None:
        """One NVML value, or ``None`` where this board does not give it."""
        if self._library is None:
            return None
        value = kind()
        call: Callable[..., int] = getattr(self._library, name)
        return None if call(self._handle, *before, ctypes.byref(value)) else int(value.value)

    def energy_j(self) -> float | None:
        """Energy since the driver was loaded; the counter moves every 20 to 100 ms."""
        value = self._read("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        return None if value is None else value * 1e-3

    def power_w(self) -> float | None:
        """Power, as the board averages it (about a second on Hopper)."""
        value = self._read("nvmlDeviceGetPowerUsage", ctypes.c_uint)
        return None if value is None else value * 1e-3

    def sm_hz(self) -> float | None:
        """The multiprocessors' clock now."""
        value = self._read("nvmlDeviceGetClockInfo", ctypes.c_uint, _SM)
        return None if value is None else value * 1e6

    def memory_hz(self) -> float | None:
        """The memory's clock now."""
        value = self._read("nvmlDeviceGetClockInfo", ctypes.c_uint, _MEMORY)
        return None if value is None else value * 1e6

    def why(self) -> int | None:
        """Bits of ``REASONS`` that hold the clock down now."""
        return self._read("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong)

    def state(self) -> dict[str, Any]:
        """Limits and the present readings, for a record."""
        driver = None
        if self._library is not None:
            text = ctypes.create_string_buffer(96)
            if not self._library.nvmlSystemGetDriverVersion(text, 96):
                driver = text.value.decode()
        limit = self._read("nvmlDeviceGetEnforcedPowerLimit", ctypes.c_uint)
        top = self._read("nvmlDeviceGetMaxClockInfo", ctypes.c_uint, _SM)
        bits = self.why()
        return {
            "driver": driver,
            "power_limit_w": None if limit is None else limit * 1e-3,
            "max_sm_hz": None if top is None else top * 1e6,
            "power_w": self.power_w(),
            "sm_hz": self.sm_hz(),
            "memory_hz": self.memory_hz(),
            "temperature_c": self._read("nvmlDeviceGetTemperature", ctypes.c_uint, 0),
            "held_down_by": None if bits is None else reasons(bits),
        }


@dataclass(slots=True)
class Watch:
    """Samples the sensors in a thread while its block runs (``with Watch(board) as w``).

    Clock every ``every_s``; the energy counter each time that it moves, with the time of that.
    """

    board: Board
    every_s: float = 0.02
    sm_hz: list[float] = field(default_factory=list)
    energy_j: list[tuple[float, float]] = field(default_factory=list)
    why: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        if self.board.present:
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self) -> None:
        due, last = 0.0, self.board.energy_j()
        while not self._stop.is_set():
            energy, now = self.board.energy_j(), time.perf_counter()
            if energy is not None and energy != last:
                self.energy_j.append((now, energy))
                last = energy
            if now >= due:
                clock = self.board.sm_hz()
                if clock is not None:
                    self.sm_hz.append(clock)
                self.why |= self.board.why() or 0
                due = now + self.every_s
            time.sleep(0.001)
