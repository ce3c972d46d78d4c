"""A run as a Chrome trace: stages of the schedule, what each unit and each port did when.

The format is the Trace Event Format (Google, "Trace Event Format", complete
events), which Perfetto and chrome://tracing read.  Times are in microseconds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

#: Events that are kept; later ones are only counted.
MOST_EVENTS = 200_000
#: Kinds of tracks, in the order in which they are shown.
SCHEDULE, UNITS, PORTS, ROOM = KINDS = ("schedule", "units", "ports", "room")


class Event(NamedTuple):
    """Something on a track from one cycle to another; in ``room`` an amount from a cycle on."""

    kind: str
    track: str
    name: str
    start: int
    end: int
    args: dict[str, Any]


class Recorder:
    """Collects the events of a run; ``begin`` is the cycle at which the present group began."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.dropped = 0
        self.begin = 0

    def _add(self, kind: str, track: str, name: str, start: int, end: int, **args: Any) -> None:
        if len(self.events) < MOST_EVENTS:
            event = Event(kind, track, name, self.begin + start, self.begin + end, args)
            self.events.append(event)
        else:
            self.dropped += 1

    def task(self, unit: str, einsum: str, step: int, start: int, end: int) -> None:
        """An Einsum's task in one step."""
        self._add(UNITS, unit, einsum, start, end, step=step)

    def transfer(self, name: str, port: tuple[str, str], start: int, end: int) -> None:
        """Words that a port of a level serves from one cycle to another."""
        level, kind = port
        self._add(PORTS, f"{level} {kind}".strip(), name, start, end)

    def stage(self, number: int, iteration: int, start: int, end: int) -> None:
        """A stage of the schedule in one iteration of the steady state."""
        self._add(SCHEDULE, "stages", f"stage {number}", start, end, iteration=iteration)

    def skipped(self, loop: str, iterations: int, start: int, end: int) -> None:
        """Iterations that were like those before and not run one by one."""
        name = f"{iterations} x {loop}"
        self._add(SCHEDULE, "repeats, not shown", name, start, end, iterations=iterations)

    def room(self, level: str, time: int, held_bytes: float) -> None:
        """Bytes held at a level from a cycle on."""
        self._add(ROOM, level, level, time, time, bytes=held_bytes)

    def group(self, name: str, start: int, end: int) -> None:
        """A whole group."""
        self._add(SCHEDULE, "groups", name, start, end)

    def chrome(self, clock_hz: float) -> dict[str, Any]:
        """The trace as a JSON object.

        >>> recorder = Recorder()
        >>> recorder.task("array_2d", "QK", 0, 0, 64)
        >>> [e["name"] for e in recorder.chrome(1e9)["traceEvents"]]
        ['process_name', 'process_sort_index', 'thread_name', 'QK']
        """
        tracks = sorted(
            dict.fromkeys((e.kind, e.track) for e in self.events), key=lambda t: KINDS.index(t[0])
        )
        number = {track: n for n, track in enumerate(tracks)}
        found: list[dict[str, Any]] = []
        for kind in dict.fromkeys(kind for kind, _ in tracks):
            pid = KINDS.index(kind)
            found += [
                {"name": "process_name", "ph": "M", "pid": pid, "args": {"name": kind}},
                {"name": "process_sort_index", "ph": "M", "pid": pid, "args": {"sort_index": pid}},
            ]
        found += [
            {
                "name": "thread_name",
                "ph": "M",
                "pid": KINDS.index(kind),
                "tid": n,
                "args": {"name": track},
            }
            for (kind, track), n in number.items()
        ]
        found += [self._shown(e, number[e.kind, e.track], 1e6 / clock_hz) for e in self.events]
        return {
            "displayTimeUnit": "ns",
            "traceEvents": found,
            "otherData": {"clock_hz": clock_hz, "events_dropped": self.dropped},
        }

    def _shown(self, event: Event, tid: int, scale: float) -> dict[str, Any]:
        """An event as the format has it: "C" for a counter, "X" for what has a length."""
        found: dict[str, Any] = {
            "name": event.name,
            "ph": "C" if event.kind == ROOM else "X",
            "pid": KINDS.index(event.kind),
            "tid": tid,
            "ts": event.start * scale,
            "args": event.args,
        }
        if event.kind != ROOM:
            found["dur"] = (event.end - event.start) * scale
        return found
