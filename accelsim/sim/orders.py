"""What must come before what in a group, and by how many steps: the orders of its schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from accelsim.ir.cascade import Access
from accelsim.ir.mapping import Hold, Leaf, Node, walk
from accelsim.sim.edges import Order
from accelsim.sim.nest import Nest
from accelsim.sim.program import Buffer, Flow, rates, ways_words


class Home(NamedTuple):
    """A hold where a tensor lives that Einsums of the group write, below a path of nodes.

    A part of it is overwritten so many ``steps`` after it was read, 0: within a step.
    What some readers read has been ``copied``: into which buffers, by number.
    """

    hold: Hold
    path: tuple[Node, ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    steps: int
    copied: dict[str, int]


class Orders:
    """The orders of a group whose holds are ``buffers``."""

    def __init__(self, nest: Nest, buffers: Sequence[Buffer]) -> None:
        self.nest, self.buffers = nest, buffers

    def data(self) -> Iterator[Order]:
        """An Einsum reads what another has written."""
        nest = self.nest
        for after, work in nest.work.items():
            for access in self.nest.cascade.steps[after].reads:
                for writer in self.nest.cascade.writers.get(access.tensor, ()):
                    if writer.name not in nest.work or writer.name == after:
                        continue
                    if nest.initial(access):
                        continue
                    name, place = access.tensor, work.leaf.place
                    steps = self._handed_on(writer.name, after, access) if nest.old(access) else 0
                    parts = (
                        nest.parts[self.nest.cascade.iterative[name]] if nest.old(access) else ()
                    )
                    along = frozenset(p.part for p in parts)
                    far = 0 if steps else self._far(writer.name, after, name)
                    if steps is None:
                        yield Order(writer.name, after, 0, "inside", name, place, far, along=along)
                    else:
                        yield Order(writer.name, after, steps, "data", name, place, far,
                                    along=along)  # fmt: skip

    def _far(self, writer: str, reader: str, tensor: str) -> int:
        """Cycles that what one writes takes to leave and come back to the other; 0: it stays."""
        longest = 0
        for b in self.buffers:
            if b.tensor == tensor and reader in b.users and writer not in b.users:
                left = [self.buffers[n] for n in b.sources if isinstance(n, int)]
                out = [self.passes(Flow(tensor, x.visits, x.drain)) for x in left]
                back = self.passes(Flow(tensor, b.visits, b.fill))
                longest = max(longest, max(out, default=0) + back if b.sources else 0)
        return longest

    def passes(self, *flows: Flow) -> int:
        """Cycles of the busiest port for all words that flows move in their second step."""
        return max(self.loads(*flows).values(), default=0)

    def loads(self, *flows: Flow) -> dict[int, int]:
        """Cycles of each port, by number, for all words that flows move in their second step."""
        found = rates(self.nest.arch)
        number = {port: n for n, port in enumerate(found)}
        loads = dict.fromkeys(found, 0.0)
        for flow in flows:
            visit = flow.visits.visit([min(1, x.trips - 1) for x in flow.visits.steps])
            for way in flow.ways:
                words = ways_words(way.which, visit.met, visit.again)
                for port in ((way.level, ""), (way.level, "write" if way.writes else "read")):
                    if port in loads:
                        loads[port] += words * way.word_bytes
        return {number[p]: math.ceil(size / found[p]) for p, size in loads.items() if size}

    def recurs(self, access: Access) -> int | None:
        """Steps from one slot of a recurrence to the next; None where that is inside a step."""
        nest = self.nest
        rank = self.nest.cascade.iterative[access.tensor]
        along = {p.part for p in nest.parts[rank]}
        at = [n for n, loop in enumerate(nest.steps) if loop.part in along]
        return nest.bodies[at[-1] + 1] if at else None

    def _handed_on(self, writer: str, reader: str, access: Access) -> int | None:
        """Steps from the writing of a slot of a recurrence to its reading, at least.

        What is beside the step loops does all steps of a tile at once: it writes its
        first no sooner than its last, or reads its last as soon as its first.  None:
        inside a step.
        """
        steps, bodies = self.recurs(access), self.nest.bodies
        made, read = self.nest.work[writer], self.nest.work[reader]
        wait = bodies[made.depth] - 1 if made.side == "last" else 0
        if read.side == "first" and made.side != "first":
            wait = max(wait, bodies[read.depth] - 1)
        return steps and max(1, steps - wait)

    def slots(self) -> Iterator[Order]:
        """A buffer's next tile is not there before its last one is done with."""
        for number, buffer in enumerate(self.buffers):
            stays = buffer.visits.stays(self.nest.bodies)
            inside = tuple(r.loop for r in buffer.visits.inside if buffer.level)
            comes = 0 if buffer.made else self.passes(Flow("", buffer.visits, buffer.fill))
            for before in buffer.users:
                copies = buffer.copies
                if number in buffer.sources and before in buffer.writers:
                    copies = min(copies, -buffer.ahead // stays + 1)  # it brings back what left
                more, way = self._behind(buffer.onto.get(before), before)
                for after in buffer.users:
                    steps = (copies - 1) * stays + 1 + more
                    yield Order(before, after, steps, "room", buffer.tensor, far=comes + way,
                                loops=inside, copies=copies)  # fmt: skip

    def _behind(self, copy: int | None, einsum: str) -> tuple[int, int]:
        """By how many steps an Einsum may trail the making of its copy, and how long that takes.

        A copy comes when the Einsum is done with the one that was in its slot before.
        """
        if copy is None:
            return 0, 0
        own = self.buffers[copy]
        more, way = self._behind(own.onto.get(einsum), einsum)
        stays = own.visits.stays(self.nest.bodies)
        way += self.passes(Flow(own.tensor, own.visits, own.fill))
        return (own.copies - 1) * stays + 1 + more, way

    def homes(self) -> Iterator[Order]:
        """What is overwritten where it lives has been read, or copied, before."""
        nest = self.nest
        for home in self._homes():
            path, hold = home.path, home.hold
            inside = nest.around(path)[1]
            accesses = nest.accesses(hold.tensor, nest.users(hold.tensor, path[-1]))
            parts = frozenset(p for a in accesses for x in nest.lines(a) for p, _ in x.terms)
            why, loops = "room" if home.steps else "inside", tuple(r.loop for r in inside)
            moves = all(loop.part in parts for loop in loops)  # else the same tile
            for writer in home.writers:
                for before in home.readers:
                    if before != writer:
                        more, way = self._behind(home.copied.get(before), before)
                        yield Order(before, writer, home.steps + more, why, hold.tensor, hold.place,
                                    far=way, loops=loops, copies=hold.copies if moves else 1,
                                    parts=parts if moves else frozenset())  # fmt: skip

    @cached_property
    def copied(self) -> dict[str, list[tuple[int, int]]]:
        """For each Einsum buffers with copies of what it overwrites, and steps since that was read.

        Where tiles have room for one, or where its readers work on the tile itself, lags and
        turns say when it may; of copies that is known only when they have been made.
        """
        found: dict[str, list[tuple[int, int]]] = {e: [] for e in self.nest.work}
        for home in self._homes():
            for writer in home.writers:
                found[writer] += [(n, home.steps) for n in dict.fromkeys(home.copied.values())]
        return found

    def _homes(self) -> Iterator[Home]:
        """Where what Einsums of the group write lives on chip."""
        nest = self.nest
        for node, above in walk(nest.group.tree):
            if isinstance(node, Leaf):
                continue
            homes = [nest.home(h.tensor) for h in node.holds]
            lives = [found[1] for found in homes if found is not None and found[0] is node]
            for hold in lives:
                if hold.tensor in nest.cascade.iterative:
                    continue
                path = (*above, node)
                sharing = [h.tensor for h in lives if hold.tensor in (h.tensor, h.shares)]
                readers = tuple(dict.fromkeys(e for t in sharing for e in nest.users(t, node)))
                made = nest.cascade.writers[hold.tensor]
                writers = tuple(w.name for w in made if w.name in nest.work)
                steps = self._between(hold, path)
                plain = steps and len(sharing) == 1 and not any(nest.work[e].side for e in readers)
                copied = self._copies(hold) if plain else {}
                yield Home(hold, path, writers, readers, steps, copied)

    def _copies(self, hold: Hold) -> dict[str, int]:
        """Einsums that read a home only through a copy, each with the buffer that it is in."""
        return {
            e: n
            for n, b in enumerate(self.buffers)
            if b.copy and b.tensor == hold.tensor and b.outside == id(hold)
            for e in b.users
        }

    def _between(self, hold: Hold, path: tuple[Node, ...]) -> int:
        """Steps from the last read of a part of a home to its overwriting; 0: less than a step."""
        nest = self.nest
        depth, inside = nest.around(path)
        if inside:
            return 0
        accesses = nest.accesses(hold.tensor, nest.users(hold.tensor, path[-1]))
        parts = {p for a in accesses for x in nest.lines(a) for p, _ in x.terms}
        own = 1
        for loop in reversed(nest.steps[depth:]):
            if loop.part not in parts:
                break
            own *= loop.trips
        sides = any(nest.work[e].side for e in nest.users(hold.tensor))
        return (hold.copies - 1) * nest.bodies[depth] + (1 if sides else own)
