"""Tiles of a running program: what is made, on its way, there, and leaving.

A tile is asked for when a slot is free and what fills it is made; when it has
passed its ports it is there, and who waits for it may go on.  When all who
keep it are done, and it has left if it was written, its slot is free.
"""

from __future__ import annotations

from collections.abc import Mapping

from accelsim.sim.machine import Due, Ports, Request, Room, Slots, Transfer
from accelsim.sim.program import Program, tile_of
from accelsim.sim.trace import Recorder

#: Cycles had everything been one after the other.
SERIAL = "one after the other"


class Counters:
    """Amounts by name."""

    def __init__(self) -> None:
        self.counts: list[float] = []
        self.named: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The number of a counter, a new one if need be."""
        if name not in self.named:
            self.named[name] = len(self.counts)
            self.counts.append(0.0)
        return self.named[name]

    def add(self, name: str, amount: float) -> None:
        """Add to a counter."""
        self.counts[self.number(name)] += amount


class Traffic:
    """All buffers of a program and the ports between them, ``now``."""

    def __init__(
        self,
        program: Program,
        rates: Mapping[tuple[str, str], float],
        counters: Counters,
        recorder: Recorder | None = None,
    ) -> None:
        self.program, self.counters, self.recorder = program, counters, recorder
        bytes_of = {
            (level, writes): counters.number(f"{'writes' if writes else 'reads'} {level}")
            for level in program.laid_bytes
            for writes in (False, True)
        }
        self.now = 0
        self.ports = Ports(rates, bytes_of)
        self.slots = [Slots(n, b, program, self.ports) for n, b in enumerate(program.buffers)]
        self.made: dict[int | str, int] = {}
        self.readers: dict[int | str, list[Slots]] = {}
        for slots in self.slots:
            for source in slots.sources:
                self.made[source] = 0
                self.readers.setdefault(source, []).append(slots)
        #: For each buffer those whose tiles it is done with when it has been filled.
        self.outer: dict[int, list[Slots]] = {}
        for slots in self.slots:
            for inner in set(slots.buffer.onto.values()):
                self.outer.setdefault(inner, []).append(slots)
        self.room = Room(program.laid_bytes)
        #: Of which Einsum words pass ports, for the recorder.
        self.words_of = ""
        if recorder:
            self.ports.served = self._recorded
        first = sorted(self.slots, key=Slots.urgency)
        for n in range(max((s.copies for s in first), default=0)):
            for slots in first:
                if n < slots.copies:
                    self.fill(slots)

    def fill(self, slots: Slots) -> None:
        """Ask for the buffer's next tile, for which a slot is free, once it is made."""
        if slots.next is None:
            return
        wanted = slots.wanted(slots.next)
        move, due = slots.move(slots.next), slots.due(slots.next * slots.body)
        if move.fill and any(self.made[source] < wanted for source in slots.sources):
            slots.waiting += 1
            return
        tile, slots.tiles, instance = slots.tiles, slots.tiles + 1, slots.next
        slots.begun[tile] = instance * slots.body
        slots.next = slots.following(instance)
        slots.writes[tile] = len(slots.buffer.writers)
        slots.drains[tile] = move.drain
        end = self.program.bodies[0] if slots.next is None else slots.next * slots.body
        slots.until[tile] = end
        self._take(slots, 1)
        if move.early is not None:
            slots.early[tile] = move.early
            for writer in slots.buffer.writers:
                if slots.at[writer] == tile:  # it has begun before there was a slot
                    self.leave(slots, writer, instance)
        if move.fill is None:
            self._there(slots, tile)
        else:
            self._ask(Transfer(slots, tile, False, due, len(move.fill.hops)), move.fill)

    def _ask(self, transfer: Transfer, request: Request) -> None:
        """Let a tile pass the ports."""
        self.count(request)
        self.ports.ask(request, transfer, self.now)

    def _there(self, slots: Slots, tile: int) -> None:
        """A tile is there."""
        slots.ready.add(tile)
        del slots.begun[tile]
        self.progress(tile_of(slots.number), slots.until[tile])
        for outer in self.outer.get(slots.number, ()):
            self._let_go(outer, slots)
        for number in slots.buffer.onto.values():
            self._let_go(slots, self.slots[number])

    def _let_go(self, slots: Slots, inner: Slots) -> None:
        """A buffer is done with the tiles that it will not be filled from any more."""
        upto = inner.filled()
        while (tile := slots.at[inner.number] + 1) in slots.ready and slots.until[tile] <= upto:
            slots.at[inner.number] = tile
            self._done(slots, tile)

    def progress(self, source: int | str, upto: int) -> None:
        """A source has made all that it makes before step ``upto``; who waits for it may go on."""
        if self.made.get(source, upto) >= upto:
            return
        self.made[source] = upto
        for slots in self.readers[source]:
            waiting, slots.waiting = slots.waiting, 0
            for _ in range(waiting):
                self.fill(slots)

    def _take(self, slots: Slots, sign: int) -> None:
        """A tile takes its room from when it is asked for until it is drained."""
        if size := slots.buffer.slot_bytes:
            self.room.change(slots.buffer.level, self.now, sign * size)

    def close(self, slots: Slots, einsum: str, upto: int) -> None:
        """A user is done with its tile; the last one that writes it lets it drain.

        ``upto`` is the step after the tile's last one.
        """
        tile = slots.at[einsum]
        drain = None
        if einsum in slots.buffer.writers:
            slots.writes[tile] -= 1
            drain = slots.drains[tile]
        last = einsum in slots.buffer.writers and not slots.writes[tile]
        if last and drain is not None:
            slots.upto[tile] = upto
            due = self._gone(slots, upto)
            self._ask(Transfer(slots, tile, True, due, len(drain.hops)), drain)
        self._done(slots, tile)
        if last and drain is None:
            self.progress(slots.number, upto)

    def _gone(self, slots: Slots, upto: int) -> Due:
        """When a tile is due to have left: another comes, or somebody reads what it brings."""
        due = slots.due(upto + (slots.copies - 1) * slots.stays)
        for other in self.readers.get(slots.number, ()):
            due = min(due, other.due(upto - other.buffer.ahead))
        return due

    def leave(self, slots: Slots, einsum: str, instance: int) -> None:
        """Let all but the last of a step's tiles leave while the Einsum runs that writes them.

        The last leaves after it, at the same ports, so that nobody waits for these.
        """
        early = slots.early.get(slots.at[einsum])
        if early is not None and einsum in slots.buffer.writers:
            due = self._gone(slots, slots.after(instance) * slots.body)
            self._ask(Transfer(slots, slots.at[einsum], True, due, len(early.hops), True), early)

    def _done(self, slots: Slots, tile: int) -> None:
        """A user is done with a tile, or it has drained; behind the last its slot is free."""
        slots.ends[tile] = slots.ends.get(tile, 0) + 1
        if slots.ends[tile] < len(slots.at) + (slots.drains.get(tile) is not None):
            return
        for known in (slots.ends, slots.writes, slots.drains, slots.until):
            del known[tile]
        slots.early.pop(tile, None)
        slots.ready.remove(tile)
        self._take(slots, -1)
        self.fill(slots)

    def count(self, request: Request) -> None:
        """Count a request's bytes, and the cycles of its ports."""
        for counter, size in request.counts:
            self.counters.counts[counter] += size
        self.counters.add(SERIAL, sum(cycles for _, cycles in request.hops))

    def pass_until(self, until: int) -> None:
        """Let tiles pass their ports up to a time."""
        while (now := self.ports.next()) is not None and now <= until:
            self.now = max(self.now, now)
            for moved in self.ports.take(self.now):
                if moved.early:
                    continue
                if moved.drains:
                    upto = moved.slots.upto.pop(moved.tile)
                    self._done(moved.slots, moved.tile)
                    self.progress(moved.slots.number, upto)
                else:
                    self._there(moved.slots, moved.tile)
        self.now = until

    def _recorded(self, transfer: Transfer | None, port: int, start: int, end: int) -> None:
        """Tell the recorder who had a port."""
        assert self.recorder is not None
        name = f"words of {self.words_of}"
        if transfer is not None:
            name = f"{'drain' if transfer.drains else 'fill'} {transfer.slots.buffer.tensor}"
        self.recorder.transfer(name, self.ports.names[port], start, end)
