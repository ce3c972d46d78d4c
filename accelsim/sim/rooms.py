"""Room for tiles: bytes that a group's holds take at each level, and what spills.

A buffer is laid out before it runs: every hold has its copies of the largest
tile that anything below it needs.  Children of one node run one after the
other, so that only one of them needs its room, beside the tiles that others
need again; where the schedule lets steps overlap, all children need theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from accelsim import units
from accelsim.errors import Fault, InputError, Place
from accelsim.ir.mapping import Hold, Node, walk
from accelsim.sim.nest import Nest, several
from accelsim.sim.tiles import elements


class Rooms:
    """Room of one group; sizes in bytes."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest

    def words(self, hold: Hold, path: tuple[Node, ...]) -> int:
        """Elements of a hold's tile: the largest that an access below its node needs."""
        if hold.staged is not None:
            return math.prod(extent for _, extent in hold.staged)
        nest = self.nest
        taken = dict(nest.mapping.extent)
        taken.update((loop.part, 1) for node in path for loop in node.loops)
        found = nest.accesses(hold.tensor, nest.users(hold.tensor, path[-1]))
        if not found:
            message = f"nothing below this node uses {hold.tensor}, which it holds"
            raise InputError([Fault(hold.place, message)])
        return max(elements(nest.lines(a), taken) for a in found)

    def size(self, hold: Hold, path: tuple[Node, ...]) -> float:
        """Bytes of all copies of a hold's tile."""
        return self.words(hold, path) * hold.copies * self.nest.arch.word_bytes

    def peak(self, level: str, overlap: bool = False) -> tuple[float, float]:
        """Bytes at a level at the worst moment, and those of them that may spill.

        ``overlap``: all children of a node at once.
        """
        return self._peak(self.nest.group.tree, (), level, overlap)

    def _peak(
        self, node: Node, above: tuple[Node, ...], level: str, overlap: bool
    ) -> tuple[float, float]:
        path = (*above, node)
        inner = [c for c in node.children if isinstance(c, Node)]
        within = [self._peak(c, path, level, overlap) for c in inner]
        if overlap:
            worst = _sum(within)
        else:
            stays = [self._stays(c, path, len(path), level) for c in inner] if inner[1:] else []
            worst = (0.0, 0.0)
            for n, own in enumerate(within):
                here = _sum([own, *stays[:n], *stays[n + 1 :]])
                worst = max(worst, here, key=lambda both: both[0])
        return _sum([worst, self._rooms(path, node.holds, level)])

    def _stays(
        self, node: Node, above: tuple[Node, ...], depth: int, level: str
    ) -> tuple[float, float]:
        """Bytes below a node that are needed again when it runs again."""
        path = (*above, node)
        kept = tuple(h for h in node.holds if self._again(h, path, depth))
        inner = [c for c in node.children if isinstance(c, Node)]
        below = [self._stays(c, path, depth, level) for c in inner]
        return _sum([self._rooms(path, kept, level), *below])

    def _again(self, hold: Hold, path: tuple[Node, ...], depth: int) -> bool:
        """Whether a tile is needed again after the first ``depth`` nodes of its path went on."""
        if hold.staged is not None:
            return False
        nest = self.nest
        found = nest.accesses(hold.tensor, nest.users(hold.tensor, path[-1]))
        lines = list(dict.fromkeys(x for a in found for x in nest.lines(a)))
        loops = several(tuple(loop for node in path for loop in node.loops))
        outside = len(several(tuple(loop for node in path[:depth] for loop in node.loops)))
        bent = any(x.divisor > 1 for x in lines)
        once = nest.ends.once()
        for n in range(outside):
            inner = [loop for loop in loops[n + 1 :] if loop.part not in once]
            reach = [sum(x.coefficient(p.part) * (p.trips - 1) for p in inner) for x in lines]
            for i in range(loops[n].trips - 1 if bent else 1):
                at = [x.coefficient(loops[n].part) * i + x.offset for x in lines]
                on = [x.coefficient(loops[n].part) * (i + 1) + x.offset for x in lines]
                if all(
                    (a + r) // x.divisor == b // x.divisor
                    for x, a, r, b in zip(lines, at, reach, on, strict=True)
                ):
                    return True
        return False

    def _rooms(
        self, path: tuple[Node, ...], holds: tuple[Hold, ...], level: str
    ) -> tuple[float, float]:
        rooms: dict[object, tuple[float, bool]] = {}
        for n, hold in enumerate(holds):
            if hold.level == level:
                which: object = n if hold.staged is not None else hold.shares or hold.tensor
                size, spills = rooms.get(which, (0.0, False))
                rooms[which] = (max(size, self.size(hold, path)), spills or hold.spill)
        total = sum(size for size, _ in rooms.values())
        return total, sum(size for size, spills in rooms.values() if spills)

    def shares(self) -> dict[str, float]:
        """For each level too small for its tiles the share that spills to the next level out.

        Raises InputError where tiles that may not spill do not fit.
        """
        found, faults = {}, []
        for level in self.nest.arch.levels:
            total, spills = self.peak(level.name)
            share = 0.0
            if total > level.capacity_bytes and spills:
                room = max(0.0, level.capacity_bytes - (total - spills))
                share = 1.0 - min(1.0, room / spills)
            held = total - share * spills
            if held > level.capacity_bytes * (1 + 1e-12):
                faults.append(self._over(level.name, held, level.capacity_bytes))
            if share:
                found[level.name] = share
        if faults:
            raise InputError(faults)
        return found

    def _over(self, level: str, held: float, capacity: float, when: str = "") -> Fault:
        places = [
            hold.place
            for found, _ in walk(self.nest.group.tree)
            if isinstance(found, Node)
            for hold in found.holds
            if hold.level == level
        ]
        over = units.show(held - capacity, "bytes")
        return Fault(
            places[0] if places else Place(),
            f"the tiles that '{self.nest.group.name}' holds in {level}{when} need "
            f"{units.show(held, 'bytes')}, {over} more than its {units.show(capacity, 'bytes')}",
            "smaller tiles, or a larger capacity",
        )

    def overlapping(self, shares: Mapping[str, float]) -> tuple[Fault, ...]:
        """What does not fit where steps overlap, so that all children's tiles are there at once."""
        faults = []
        for level in self.nest.arch.levels:
            total, spills = self.peak(level.name, overlap=True)
            held = total - shares.get(level.name, 0.0) * spills
            if held > level.capacity_bytes * (1 + 1e-12):
                when = " while steps overlap"
                faults.append(self._over(level.name, held, level.capacity_bytes, when))
        return tuple(faults)


def _sum(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(a for a, _ in pairs), sum(b for _, b in pairs)
