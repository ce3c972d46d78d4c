"""A group's tree as its prices see it: paths to nodes, the tiles on them, who uses these.

What a node's loops and holds say of everything below it is looked up once, on the way down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from accelsim.ir.cascade import Einsum
from accelsim.ir.mapping import Hold, Leaf, Loop, Node
from accelsim.models.tiles import Span


class Path:
    """A node with those above it: their loops, outermost first, and their tiles by tensor.

    ``way`` are the paths to each node from the outermost to this one, ``tiles`` those
    that the node itself holds, in text order, and ``held`` what it and the nodes above hold
    of each tensor, outermost first; tiles that only pass through (``staged``) are not there.

    >>> inner = Node((Loop("P", 4),), (Hold("Q", "buffer"),), ())
    >>> top = Path(Node((Loop("B", 2),), (), (inner,)), None, 0)
    >>> path = Path(inner, top, 1)
    >>> path.loops, [tile.hold.tensor for tile in path.held["Q"]]
    ((Loop(part='B', trips=2), Loop(part='P', trips=4)), ['Q'])
    """

    __slots__ = ("children", "held", "loops", "node", "number", "tiles", "trips", "way")

    def __init__(self, node: Node, above: Path | None, number: int) -> None:
        self.node, self.number = node, number
        self.children: list[Path] = []
        self.loops: tuple[Loop, ...] = node.loops
        self.way: tuple[Path, ...] = (self,)
        self.held: dict[str, tuple[Tile, ...]] = {}
        if above is not None:
            above.children.append(self)
            self.loops, self.way = above.loops + node.loops, (*above.way, self)
            self.held |= above.held
        self.trips = math.prod([loop.trips for loop in self.loops])
        self.tiles = [Tile(hold, self) for hold in node.holds]
        for tile in self.tiles:
            if tile.hold.staged is None:
                tensor = tile.hold.tensor
                self.held[tensor] = (*self.held.get(tensor, ()), tile)


@dataclass(eq=False, slots=True)
class Tile:
    """A tile that a node holds: the path to the node, and what below it uses the tensor.

    ``spans`` are what these uses span, each once, by number (``Cascade.shapes``).
    """

    hold: Hold
    path: Path
    uses: list[Use] = field(default_factory=list)
    spans: dict[int, Span] = field(default_factory=dict)


class Placed(NamedTuple):
    """An Einsum at its leaf, below the last node of a path; leaves are numbered in text order."""

    number: int
    leaf: Leaf
    path: Path
    einsum: Einsum


class Use(NamedTuple):
    """One access of a placed Einsum: what it spans, with its number, and whether it writes."""

    placed: Placed
    shape: int
    span: Span
    writes: bool
