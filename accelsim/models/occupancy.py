"""Room that a group's tiles take at a level at the worst moment, and what of it may spill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.ir.mapping import Loop
from accelsim.models.nest import Nest
from accelsim.models.path import Path, Tile
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
    >>> nest = Nest(problem, mapping, mapping.groups[0])
    >>> [round(moment.total_bytes) for moment in moments(nest, "buffer", 2)]
    [1130496]
    """

    def within(path: Path) -> tuple[Occupancy, ...]:
        children = path.children
        staying = [stay(child, path) for child in children] if children[1:] else []
        own = room(path.tiles)
        found = []
        for n, child in enumerate(children):
            around = sum((*staying[:n], *staying[n + 1 :]), own)
            found += [around + inner for inner in within(child)]
        return tuple(found) or (own,)

    def stay(path: Path, outside: Path) -> Occupancy:
        kept = room([t for t in path.tiles if t.hold.level == level and stays(nest, t, outside)])
        for child in path.children:
            kept += stay(child, outside)
        return kept

    def room(tiles: Sequence[Tile]) -> Occupancy:
        rooms: dict[str | int, tuple[float, bool]] = {}
        for n, tile in enumerate(tiles):
            hold = tile.hold
            if hold.level == level:
                size = nest.words(tile) * hold.copies
                size *= nest.problem.bits(hold.tensor, 8 * word_bytes) / 8
                which = n if hold.staged is not None else hold.shares or hold.tensor
                if which in rooms:
                    old, spill = rooms[which]
                    rooms[which] = max(old, size), hold.spill or spill
                else:
                    rooms[which] = max(0.0, size), hold.spill
        total = sum([size for size, _ in rooms.values()], 0.0)
        return Occupancy(total, sum([size for size, spill in rooms.values() if spill], 0.0))

    return within(nest.paths[0]) if level in nest.held else (Occupancy(),)


def stays(nest: Nest, tile: Tile, outside: Path) -> bool:
    """Whether a tile is needed again after the loops of ``outside``, a path above it, went on.

    K's tile is not, when the outermost loops go on to another head:

    >>> from accelsim.explore.estimate import bind
    >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq=4096)
    >>> nest = Nest(problem, mapping, mapping.groups[0])
    >>> top, keys = nest.paths[:2]
    >>> stays(nest, keys.tiles[0], top)
    False
    """
    if tile.hold.staged is not None:
        return False
    span, loops = nest.span(tile), tile.path.loops
    if nest.short:
        return _may_stay(nest, span, loops, len(outside.loops))
    around = 1
    for trips, changed, _ in transitions(span, loops):
        if around < outside.trips and not changed:
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
