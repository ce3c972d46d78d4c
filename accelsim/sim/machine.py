"""The machine at run time: ports that serve requests, slots that tiles come into.

A port serves whole requests one after the other, in the order in which they
become ready; a request takes whole cycles.  A level may have one port for
reads and writes, and one for each besides.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from accelsim.sim.program import Buffer, Way, ways_words
from accelsim.sim.tiles import Visit


class Request(NamedTuple):
    """What a transfer asks of ports (number, cycles), and bytes to count (counter, bytes)."""

    hops: tuple[tuple[int, int], ...]
    counts: tuple[tuple[int, float], ...]


class Asked(NamedTuple):
    """A buffer's request that waits: when it is ready, its turn, which tile, which way."""

    ready: int
    turn: int
    slots: Slots
    tile: int
    drains: bool
    request: Request


class Move(NamedTuple):
    """One instance of a buffer: whether a new tile comes, how it is filled and drained."""

    new: bool
    fill: Request | None
    drain: Request | None


class Ports:
    """All ports of a machine, by number, and what they cost."""

    def __init__(
        self, rates: Mapping[tuple[str, str], float], counters: Mapping[tuple[str, bool], int]
    ) -> None:
        self.names = tuple(rates)
        self.number = {name: n for n, name in enumerate(self.names)}
        self.rates = tuple(rates.values())
        self.counters = counters
        self.free = [0] * len(self.names)

    def request(self, moved: Sequence[tuple[Visit, tuple[Way, ...]]]) -> Request | None:
        """One request for the words of some visits; None where no byte moves."""
        loads: dict[int, float] = {}
        counts: dict[int, float] = {}
        for visit, ways in moved:
            for way in ways:
                size = ways_words(way.which, visit.met, visit.again) * way.word_bytes
                if not size:
                    continue
                counter = self.counters[way.level, way.writes]
                counts[counter] = counts.get(counter, 0.0) + size
                for kind in ("", "write" if way.writes else "read"):
                    port = self.number.get((way.level, kind))
                    if port is not None:
                        loads[port] = loads.get(port, 0.0) + size
        if not counts:
            return None
        hops = tuple((p, math.ceil(size / self.rates[p] - 1e-9)) for p, size in loads.items())
        return Request(hops, tuple(counts.items()))

    def serve(self, request: Request, ready: int) -> tuple[int, int]:
        """Serve a request, each port as soon as it is free.  Returns when it began and ended."""
        began = done = ready
        for n, (port, cycles) in enumerate(request.hops):
            start = max(self.free[port], ready)
            self.free[port] = start + cycles
            done = max(done, start + cycles)
            began = start if not n else min(began, start)
        return began, done


class Slots:
    """A buffer at run time.  Tiles are numbered from 0 in the order in which they come."""

    def __init__(self, number: int, buffer: Buffer, bodies: Sequence[int], ports: Ports) -> None:
        self.number, self.buffer, self.ports = number, buffer, ports
        self.copies, self.sources = buffer.copies, buffer.sources
        self.cause = buffer.cause
        #: Whether a task may start while its tile still comes in, at the pace of the port.
        self.streams = buffer.made and buffer.copies > 1
        trips = [loop.trips for loop in buffer.visits.steps]
        self.body = bodies[buffer.depth]
        self.instances = math.prod(trips)
        self.trips = trips
        moving = [n for n, moves in enumerate(buffer.visits.moving) if moves]
        deepest = len(trips) if buffer.visits.inside else moving[-1] + 1 if moving else 0
        self.stride = math.prod(trips[deepest:])
        self.at: dict[str, int] = dict.fromkeys(buffer.users, -1)
        self.ready: dict[int, int] = {}
        self.asked: dict[int, int] = {}
        self.waiting: dict[int, int] = {}
        self.ends: dict[int, tuple[int, int]] = {}
        self.upto: dict[int, int] = {}
        self.covers: dict[int, int] = {}
        self.drains: dict[int, Request | None] = {}
        self.next: int | None = 0
        self._moves: dict[object, Move] = {}

    def urgency(self) -> tuple[bool, bool]:
        """What asks first of those that ask at once: fills before drains, tiles before streams."""
        return bool(self.buffer.drain), not self.buffer.level

    def indices(self, instance: int) -> tuple[int, ...]:
        """The loop indices of an instance."""
        found = []
        for trips in reversed(self.trips):
            instance, i = divmod(instance, trips)
            found.append(i)
        return tuple(reversed(found))

    def move(self, instance: int) -> Move:
        """What happens at an instance."""
        visits = self.buffer.visits
        at = self.indices(instance)
        key = visits.key(at)
        if key not in self._moves:
            visit = visits.visit(at)
            fill = self.ports.request([(visit, self.buffer.fill)])
            drain = self.ports.request([(visit, self.buffer.drain)])
            self._moves[key] = Move(visit.new, fill, drain)
        return self._moves[key]

    def changes(self, instance: int) -> bool:
        """Whether a tile is done with before an instance: another one comes, or the group ends."""
        return instance >= self.instances or self.move(instance).new

    def following(self, instance: int) -> int | None:
        """The next instance with a new tile; None after the last."""
        while True:
            instance = (instance // self.stride + 1) * self.stride
            if instance >= self.instances:
                return None
            if self.move(instance).new:
                return instance


class Queue:
    """Requests that wait, served in the order in which they become ready."""

    def __init__(self) -> None:
        self.heap: list[Asked] = []
        self.turns = 0

    def ask(self, ready: int, slots: Slots, tile: int, drains: bool, request: Request) -> None:
        """Add a request."""
        self.turns += 1
        heapq.heappush(self.heap, Asked(ready, self.turns, slots, tile, drains, request))

    def take(self) -> Asked:
        """Remove the request whose turn it is."""
        return heapq.heappop(self.heap)

    def due(self, time: int) -> bool:
        """Whether a request is ready by a time."""
        return bool(self.heap) and self.heap[0].ready <= time
