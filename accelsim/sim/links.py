"""Where the tiles of a group's buffers come from, and where they go on to."""

from __future__ import annotations

from dataclasses import replace

from accelsim.sim.nest import Nest
from accelsim.sim.orders import Orders
from accelsim.sim.program import Buffer, Flow, tile_of


class Links:
    """The links between the buffers of a group, which are written into them."""

    def __init__(self, nest: Nest, buffers: list[Buffer], orders: Orders) -> None:
        self.nest, self.buffers, self.orders = nest, buffers, orders

    def link(self) -> None:
        """Give each buffer its sources, then what is filled from it."""
        found = self.buffers
        found[:] = [self._with_sources(n, b) for n, b in enumerate(found)]
        found[:] = [replace(b, lead=self._lead(n), onto=self._onto(n)) for n, b in enumerate(found)]

    def _with_sources(self, number: int, buffer: Buffer) -> Buffer:
        """The buffer, with what its fills wait for besides its slot.

        A tile that is filled with what it drained itself waits for that; with
        one slot it is drained before its slot is free.
        """
        tensor = buffer.tensor
        if not buffer.fill:
            return buffer
        if buffer.drain:
            if buffer.visits.apart or buffer.copies == 1:
                return buffer
            return replace(buffer, sources=(number,), ahead=-self._others(buffer))
        around = [n for n, b in enumerate(self.buffers) if b.hold and b.hold == buffer.outside]
        steps = [self.nest.cascade.steps[e] for e in buffer.users]
        reads = [a for step in steps for a in step.reads if a.tensor == tensor]
        made = not all(map(self.nest.initial, reads))
        sources: list[int | str] = []
        for writer in self.nest.cascade.writers.get(tensor, ()) if made else ():
            einsum = writer.name
            if einsum in self.nest.work and all(einsum in self.buffers[n].users for n in around):
                sources += self._drains(tensor, einsum, buffer.outside) or [einsum]
        if not sources:
            return replace(buffer, sources=tuple(map(tile_of, around)), ahead=1)
        ahead = 1
        if all(self.nest.old(a) for a in reads):  # what an earlier step of the recurrence made
            ahead -= self.orders.recurs(reads[0]) or 1
        return replace(buffer, sources=tuple(dict.fromkeys(sources)), ahead=ahead)

    def _lead(self, number: int) -> int:
        """Cycles of the longest way that tiles go on from a buffer's tile."""
        inner = [
            self.orders.passes(Flow(b.tensor, b.visits, b.fill)) + self._lead(n)
            for n, b in enumerate(self.buffers)
            if tile_of(number) in b.sources
        ]
        return max(inner, default=0)

    def _onto(self, number: int) -> dict[str, int]:
        """Users of a buffer that read it only through another one, each with that one."""
        buffer = self.buffers[number]
        if buffer.writers:
            return {}
        return {
            e: n
            for n, b in enumerate(self.buffers)
            if b.copy and tile_of(number) in b.sources
            for e in b.users
            if e not in buffer.guests
        }

    def _drains(self, tensor: str, einsum: str, outside: int) -> list[int | str]:
        """Buffers through which what an Einsum writes gets to a hold, or to the backing level."""
        return [
            n
            for n, b in enumerate(self.buffers)
            if b.tensor == tensor and b.drain and einsum in b.users and b.outside == outside
        ]

    def _others(self, buffer: Buffer) -> int:
        """Steps of other tiles from a tile's visit to the next with the same elements."""
        return buffer.visits.others(self.nest.bodies, self.nest.mapping.extent)
