"""A run as a Chrome trace: what each unit and each port did when.

The format is the Trace Event Format (Google, "Trace Event Format", complete
events), which Perfetto and chrome://tracing read.  Times are in microseconds.
"""

from __future__ import annotations

from typing import Any

from accelsim.sim.machine import Ports, Request

#: Events that are kept; later ones are only counted.
MOST_EVENTS = 200_000


class Recorder:
    """Collects the events of a run; ``begin`` is the cycle at which the present group began."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, int, int, dict[str, Any]]] = []
        self.dropped = 0
        self.begin = 0

    def _add(self, track: str, name: str, start: int, end: int, args: dict[str, Any]) -> None:
        if len(self.events) < MOST_EVENTS:
            self.events.append((track, name, self.begin + start, self.begin + end, args))
        else:
            self.dropped += 1

    def task(self, unit: str, einsum: str, step: int, start: int, end: int) -> None:
        """An Einsum's task in one step."""
        self._add(unit, einsum, start, end, {"step": step})

    def transfer(self, name: str, request: Request, began: int, ports: Ports) -> None:
        """A request, on each port that served it."""
        for port, cycles in request.hops:
            level, kind = ports.names[port]
            end = ports.free[port]
            track = f"{level} {kind}".strip()
            self._add(track, name, end - cycles, end, {"asked": began})

    def skipped(self, loop: str, iterations: int, start: int, end: int) -> None:
        """Iterations that were like those before and not run one by one."""
        self._add("skipped", f"{iterations} x {loop}", start, end, {"iterations": iterations})

    def group(self, name: str, start: int, end: int) -> None:
        """A whole group."""
        self._add("groups", name, start, end, {})

    def chrome(self, clock_hz: float) -> dict[str, Any]:
        """The trace as a JSON object.

        >>> recorder = Recorder()
        >>> recorder.task("array_2d", "QK", 0, 0, 64)
        >>> [e["name"] for e in recorder.chrome(1e9)["traceEvents"]]
        ['thread_name', 'QK']
        """
        tracks = dict.fromkeys(track for track, *_ in self.events)
        number = {track: n for n, track in enumerate(tracks)}
        found: list[dict[str, Any]] = [
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": n, "args": {"name": track}}
            for track, n in number.items()
        ]
        scale = 1e6 / clock_hz
        for track, name, start, end, args in self.events:
            found.append(
                {
                    "name": name,
                    "ph": "X",
                    "pid": 0,
                    "tid": number[track],
                    "ts": start * scale,
                    "dur": (end - start) * scale,
                    "args": args,
                }
            )
        return {
            "displayTimeUnit": "ns",
            "traceEvents": found,
            "otherData": {"clock_hz": clock_hz, "events_dropped": self.dropped},
        }
