"""The machine at run time: ports that serve requests, slots that tiles come into.

A port serves words that arrays read and write before tiles that come and go:
an array that stands still is lost, a tile has the time of its other slot.  So
words of an array take the port as soon as they ask, one after the other, and
a tile on its way goes on when they have passed.  Of tiles the one that is due
first passes first (earliest deadline first is optimal on one server: Liu and
Layland, 1973), by the iteration and by when the plan has its user begin.  All
take whole cycles.  A level may have one port for reads and writes, and one for
each besides.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from accelsim.sim.program import Buffer, Program, Way, share, ways_words
from accelsim.sim.tiles import Visit
from accelsim.sim.trace import Recorder


class Request(NamedTuple):
    """What a transfer asks of ports (number, cycles), and bytes to count (counter, bytes)."""

    hops: tuple[tuple[int, int], ...]
    counts: tuple[tuple[int, float], ...]

    def share(self, turn: int, turns: int) -> Request:
        """What one of several turns asks; the first counts the bytes of all."""
        hops = tuple((port, share(cycles, turn, turns)) for port, cycles in self.hops)
        return Request(hops, () if turn else self.counts)

    def parted(self, tiles: int) -> tuple[Request, Request]:
        """All but the last of some tiles, which counts all bytes, and the last.

        >>> Request(((0, 10),), ()).parted(4)
        (Request(hops=((0, 7),), counts=()), Request(hops=((0, 3),), counts=()))
        """
        last = tuple((port, -(-cycles // tiles)) for port, cycles in self.hops)
        rest = tuple((p, n - own) for (p, n), (_, own) in zip(self.hops, last, strict=True))
        return Request(rest, self.counts), Request(last, ())


#: An iteration, and cycles after its beginning.
Due: TypeAlias = tuple[int, int]


@dataclass(slots=True, eq=False)
class Transfer:
    """A tile on its way: which, whether it leaves, when it is due, ports that it still passes.

    It is due when a tile comes to be used, or what it makes room for or brings:
    the iteration, and so many cycles after that by the plan.  ``early``: more of
    the tile is to leave yet.
    """

    slots: Slots
    tile: int
    drains: bool
    due: Due
    hops: int
    early: bool = False


@dataclass(slots=True, eq=False)
class Queued:
    """A tile at one port, with the cycles that it still takes there."""

    transfer: Transfer
    cycles: int


#: Tells of cycles of a port: for whom (a tile, or None: an array), port, from, to.
Served: TypeAlias = Callable[[Transfer | None, int, int, int], None]


class Move(NamedTuple):
    """One instance of a buffer: whether a new tile comes, how it is filled and drained.

    What leaves ``early`` does so while it is written.
    """

    new: bool
    fill: Request | None
    drain: Request | None
    early: Request | None = None


class Ports:
    """All ports of a machine, by number, and what they cost."""

    def __init__(
        self, rates: Mapping[tuple[str, str], float], counters: Mapping[tuple[str, bool], int]
    ) -> None:
        self.names = tuple(rates)
        self.number = {name: n for n, name in enumerate(self.names)}
        self.rates = tuple(rates.values())
        self.counters = counters
        #: Until when arrays have taken a port, or what passed it is accounted for.
        self.free = [0] * len(self.names)
        #: Tiles that queue at each port, with the cycles that they still take.
        self.queues: list[list[Queued]] = [[] for _ in self.names]
        #: Tiles that pass no port.
        self.passed: list[Transfer] = []
        #: Cycles that each port was asked for.
        self.asked = [0] * len(self.names)
        self.served: Served | None = None

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

    def words(self, request: Request, now: int) -> int:
        """Serve words of an array.  Returns when the last one has passed."""
        done = now
        for port, cycles in request.hops:
            self._go_on(port, now)
            self.asked[port] += cycles
            self._tell(None, port, self.free[port], self.free[port] + cycles)
            self.free[port] += cycles
            done = max(done, self.free[port])
        return done

    def ask(self, request: Request, transfer: Transfer, now: int) -> None:
        """Let a tile queue, before those that are due later."""
        for port, cycles in request.hops:
            self._go_on(port, now)
            self.asked[port] += cycles
            queue = self.queues[port]
            at = bisect_right(queue, transfer.due, key=lambda q: q.transfer.due)
            queue.insert(at, Queued(transfer, cycles))
        if not request.hops:
            self.passed.append(transfer)

    def go_on(self, now: int) -> None:
        """Let tiles pass until now, which is no later than ``next``."""
        for port in range(len(self.free)):
            self._go_on(port, now)

    def _go_on(self, port: int, now: int) -> None:
        """Let the first tile of a port's queue pass until now."""
        free = self.free[port]
        if now > free:
            if queue := self.queues[port]:
                queue[0].cycles -= now - free
                self._tell(queue[0].transfer, port, free, now)
            self.free[port] = now

    def _tell(self, transfer: Transfer | None, port: int, start: int, end: int) -> None:
        if self.served is not None and end > start:
            self.served(transfer, port, start, end)

    def next(self) -> int | None:
        """When a tile has passed a port next, if no array asks before; None: no tile queues."""
        if self.passed:
            return 0
        ends = [f + q[0].cycles for f, q in zip(self.free, self.queues, strict=True) if q]
        return min(ends, default=None)

    def take(self, now: int) -> list[Transfer]:
        """Tiles that have passed all their ports by now, which is no later than ``next``."""
        found, self.passed = self.passed, []
        for port, queue in enumerate(self.queues):
            if queue and self.free[port] + queue[0].cycles <= now:
                first = queue.pop(0)
                self._tell(first.transfer, port, self.free[port], self.free[port] + first.cycles)
                self.free[port] += first.cycles
                first.transfer.hops -= 1
                if not first.transfer.hops:
                    found.append(first.transfer)
        return found


class Slots:
    """A buffer at run time.  Tiles are numbered from 0 in the order in which they come."""

    def __init__(self, number: int, buffer: Buffer, program: Program, ports: Ports) -> None:
        self.number, self.buffer, self.ports = number, buffer, ports
        self.copies, self.sources = buffer.copies, buffer.sources
        self.cause = buffer.cause
        #: Whether a task may start while its tile still comes in, at the pace of the port.
        self.streams = buffer.made and buffer.copies > 1
        trips, turns, bodies = [x.trips for x in buffer.visits.steps], buffer.turns, program.bodies
        self.ticks = program.ticks
        self.body, self.stays = bodies[buffer.depth] // turns, buffer.visits.stays(bodies) // turns
        self.trips, self.turns = [*trips, turns], turns
        self.instances = math.prod(self.trips)
        moving = [n for n, moves in enumerate(buffer.visits.moving) if moves]
        deepest = len(trips) if buffer.visits.inside else moving[-1] + 1 if moving else 0
        self.stride = 1 if turns > 1 else math.prod(trips[deepest:])
        #: The last tile that each holder has begun to work on, or that a buffer is filled from.
        self.at: dict[str | int, int] = dict.fromkeys(buffer.holders, -1)
        #: Tiles that have been asked for, those that are there, free slots whose next is not made.
        self.tiles = 0
        self.ready: set[int] = set()
        self.waiting = 0
        #: Users that are done with a tile, and its drain; users that still have to write it.
        self.ends: dict[int, int] = {}
        self.writes: dict[int, int] = {}
        #: The step after a tile's last one while it drains, how it drains.
        self.upto: dict[int, int] = {}
        #: First steps of tiles on their way; steps after the last of these and of those in use.
        self.begun: dict[int, int] = {}
        self.until: dict[int, int] = {}
        self.drains: dict[int, Request | None] = {}
        self.early: dict[int, Request] = {}
        self.next: int | None = 0
        users = [t for t in program.tasks if t.einsum in buffer.users]
        #: By which iteration, and when in it, the first of its users begins each turn.
        self.begins = [
            min(
                (t.lag, t.begin)
                for t in users
                if t.turn == turn * (t.turns // turns if turns > 1 else 1)
            )
            for turn in range(turns)
        ]
        self._moves: dict[object, Move] = {}
        self._step, self._key = -1, object()

    def due(self, step: int) -> Due:
        """When what begins with a step is due."""
        start = step - step % self.ticks
        turn = (step - start) // self.body if self.turns > 1 else 0
        lag, begin = self.begins[turn]
        return start + lag, begin - self.buffer.lead

    def filled(self) -> int:
        """All tiles that begin before this step are there; past all steps after the last."""
        coming = self.instances if self.next is None else self.next
        return min([coming * self.body, *self.begun.values()])

    def urgency(self) -> tuple[bool, bool]:
        """What asks first of those that ask at once: fills before drains, tiles before streams."""
        return bool(self.buffer.drain), not self.buffer.level

    def wanted(self, instance: int) -> int:
        """What a fill's sources have made when its tile may come: all before this step."""
        start = instance * self.body
        return start - (start % self.ticks if self.buffer.by_step else 0) + self.buffer.ahead

    def indices(self, instance: int) -> tuple[int, ...]:
        """The loop indices of an instance, and its turn."""
        found = []
        for trips in reversed(self.trips):
            instance, i = divmod(instance, trips)
            found.append(i)
        return tuple(reversed(found))

    def move(self, instance: int) -> Move:
        """What happens at an instance."""
        visits = self.buffer.visits
        step, turn = divmod(instance, self.turns)
        if step != self._step:  # turns of a step are alike but for their share
            self._step, self._key = step, visits.key(self.indices(instance)[:-1])
        key = self._key, turn
        if key not in self._moves:
            at = self.indices(instance)[:-1]
            visit = visits.visit(at)
            fill = self.ports.request([(visit, self.buffer.fill)])
            drain = self.ports.request([(visit, self.buffer.drain)])
            early = None
            if drain and not fill and (tiles := self.buffer.leaves) > 1:
                early, drain = drain.parted(tiles)
            self._moves[key] = Move(
                visit.new,
                fill and fill.share(turn, self.turns),
                drain and drain.share(turn, self.turns),
                early,
            )
        return self._moves[key]

    def there(self, instance: int) -> bool:
        """Whether an instance has anything to do: not beyond the end of a rank."""
        visits = self.buffer.visits
        return visits.whole or visits.there(self.indices(instance)[:-1])

    def after(self, instance: int) -> int:
        """The next instance that is there; ``instances`` after the last."""
        instance += 1
        while instance < self.instances and not self.there(instance):
            instance += 1
        return instance

    def leaves(self, instance: int) -> bool:
        """Whether a tile is done with after an instance: another one comes, or the group ends."""
        after = self.after(instance)
        return after >= self.instances or self.move(after).new

    def following(self, instance: int) -> int | None:
        """The next instance with a new tile; None after the last."""
        while True:
            instance = (instance // self.stride + 1) * self.stride
            if instance >= self.instances:
                return None
            if self.move(instance).new:
                return instance


class Room:
    """Bytes held at each level, at present and at most; ``laid`` are there all the time."""

    def __init__(self, laid: Mapping[str, float]) -> None:
        self.held, self.peaks = dict(laid), dict(laid)
        self.changes: dict[str, list[tuple[int, float]]] = {level: [] for level in laid}

    def change(self, level: str, time: int, size: float) -> None:
        """Take bytes, or give them back."""
        heapq.heappush(self.changes[level], (time, size))

    def follow(self, time: int, recorder: Recorder | None) -> None:
        """See what is held up to a time; what leaves goes before what comes."""
        for level, changes in self.changes.items():
            while changes and changes[0][0] <= time:
                when, size = heapq.heappop(changes)
                self.held[level] += size
                self.peaks[level] = max(self.peaks[level], self.held[level])
                if recorder:
                    recorder.room(level, when, self.held[level])
