"""Room that a group's tiles take at a level at the worst moment, and what of it may spill."""

from __future__ import annotations

import math
from dataclasses import dataclass

from accelsim.ir.mapping import Hold, Loop, Node
from accelsim.models.nest import Nest, loops_of
from accelsim.models.short import uncertain
from accelsim.models.tiles import Span, transitions


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Bytes in a level at the worst moment, and the part of them that may spill."""

    total_bytes: float = 0.0
    spillable_bytes: float = 0.0

    def __add__(self, other: Occupancy) -> Occupancy:
        """Both at once."""
        return Occupancy(
            self.total_bytes + other.total_bytes, self.spillable_bytes + other.spillable_bytes
        )

    def share(self, capacity_bytes: float) -> float:
        """The share of spillable tiles that does not fit; negative room counts as none.

        >>> Occupancy(100.0, 50.0).share(75.0)
        0.5
        """
        if self.total_bytes <= capacity_bytes or not self.spillable_bytes:
            return 0.0
        room = max(0.0, capacity_bytes - (self.total_bytes - self.spillable_bytes))
        return 1.0 - min(1.0, room / self.spillable_bytes)


def occupancy(nest: Nest, level: str, word_bytes: float) -> Occupancy:
    """Bytes held at a level at the moment when they are most.

    Tiles are full ones, though some may be there only beside short ones.
    Here Q and RNV, two words of state for each query, and a tile of K and of V:

    >>> from accelsim.explore.estimate import bind
    >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq=4096)
    >>> from accelsim.models.nest import Nest
    >>> nest = Nest(problem, mapping, mapping.groups[0])
    >>> occupancy(nest, "buffer", 2).total_bytes == 2 * (4096 * (64 + 64 + 2) + 256 * (64 + 64))
    True
    """
    return max(moments(nest, level, word_bytes), key=lambda o: o.total_bytes)


def moments(nest: Nest, level: str, word_bytes: float) -> tuple[Occupancy, ...]:
    """Bytes held at a level while each innermost node of the group runs.

    Those are the tiles of the node, of the nodes above it, and of their other
    children the tiles that they need again when they run again (of three
    children and more all at once, though some may come only when others go).

    >>> from accelsim.explore.estimate import bind
    >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq=4096)
    >>> from accelsim.models.nest import Nest
    >>> nest = Nest(problem, mapping, mapping.groups[0])
    >>> [round(moment.total_bytes) for moment in moments(nest, "buffer", 2)]
    [1130496]
    """

    def within(node: Node, above: tuple[Node, ...]) -> tuple[Occupancy, ...]:
        path = (*above, node)
        children = [child for child in node.children if isinstance(child, Node)]
        staying = [stay(child, path, len(path)) for child in children] if children[1:] else []
        own = room(path, node.holds)
        found = []
        for n, child in enumerate(children):
            around = sum((*staying[:n], *staying[n + 1 :]), own)
            found += [around + inner for inner in within(child, path)]
        return tuple(found) or (own,)

    def stay(node: Node, above: tuple[Node, ...], depth: int) -> Occupancy:
        path = (*above, node)
        kept = room(
            path, tuple(h for h in node.holds if h.level == level and stays(nest, h, path, depth))
        )
        for child in node.children:
            if isinstance(child, Node):
                kept += stay(child, path, depth)
        return kept

    def room(path: tuple[Node, ...], holds: tuple[Hold, ...]) -> Occupancy:
        rooms: dict[str | int, Occupancy] = {}
        for n, hold in enumerate(holds):
            if hold.level == level:
                size = nest.words(hold, path) * hold.copies
                size *= nest.problem.bits(hold.tensor, 8 * word_bytes) / 8
                which = n if hold.staged is not None else hold.shares or hold.tensor
                old = rooms.get(which, Occupancy())
                size, spill = max(old.total_bytes, size), hold.spill or old.spillable_bytes > 0
                rooms[which] = Occupancy(size, size if spill else 0.0)
        return sum(rooms.values(), Occupancy())

    return within(nest.group.tree, ()) if level in nest.held else (Occupancy(),)


def stays(nest: Nest, hold: Hold, path: tuple[Node, ...], depth: int) -> bool:
    """Whether the last node's tile is needed again after the first ``depth`` nodes went on.

    K's tile is not, when the outermost loops go on to another head:

    >>> from accelsim.explore.estimate import bind
    >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq=4096)
    >>> from accelsim.models.nest import Nest
    >>> nest = Nest(problem, mapping, mapping.groups[0])
    >>> top = mapping.groups[0].tree
    >>> keys = top.children[0]
    >>> stays(nest, keys.holds[0], (top, keys), 1)
    False
    """
    if hold.staged is not None:
        return False
    span = nest.held_span(hold, path[-1])
    if nest.short:
        return _may_stay(nest, span, loops_of(path), len(loops_of(path[:depth])))
    outside = math.prod(loop.trips for loop in loops_of(path[:depth]))
    around = 1
    for trips, changed, _ in transitions(span, loops_of(path)):
        if around < outside and not changed:
            return True
        around *= trips
    return False


def _may_stay(nest: Nest, span: Span, loops: tuple[Loop, ...], depth: int) -> bool:
    """Whether a tile may be needed again after one of the first ``depth`` loops went on.

    A loop that has just one iteration in a short tile does not surely bring another.
    """
    once = frozenset[str]().union(*(uncertain(nest.by_rank[r], n) for r, n in nest.short.items()))
    moves = False
    for n, loop in reversed([*enumerate(loops)]):
        if loop.trips > 1:
            own = loop.part in span.parts or loop.part in span.slots
            if n < depth and not own and not moves:
                return True
            moves = moves or (own and loop.part not in once)
    return False
