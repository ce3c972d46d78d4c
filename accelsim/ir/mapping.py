"""The nouns of a mapping: Loop, Hold, Leaf, Node, Stage, Group, Mapping.

A mapping is a forest of loop nests with Einsums at the leaves.  Each tree is
a fused *group*; groups run one after the other.  A node's loops enclose its
children, which may share the tiles that the node *holds* at a level.  All
numbers are bound: a mapping belongs to one problem on one architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, TypeAlias

from accelsim.errors import Fault, InputError, Place


class Loop(NamedTuple):
    """A temporal loop over one part of a rank, ``trips`` long."""

    part: str
    trips: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A tensor's tile, kept at ``level`` for each iteration of the node that carries it.

    ``copies`` counts buffers (2 for double buffering).  ``spill``: where the
    level is too small, the share of the tile that does not fit is served by
    the next level outwards, instead of an error.  ``shares`` names a tensor
    whose space this tile reuses.  ``staged`` gives a tile that only passes
    through (it takes room but is not kept): extents of rank parts.
    """

    tensor: str
    level: str
    copies: int = 1
    spill: bool = False
    shares: str = ""
    staged: tuple[tuple[str, int], ...] | None = None
    place: Place = field(default=Place(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One Einsum on one unit: own temporal loops, and parts spread over rows and columns."""

    einsum: str
    unit: str
    loops: tuple[Loop, ...] = ()
    rows: tuple[Loop, ...] = ()
    cols: tuple[Loop, ...] = ()
    place: Place = field(default=Place(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Node:
    """Loops, the tiles held inside them, and what runs there, in order."""

    loops: tuple[Loop, ...]
    holds: tuple[Hold, ...]
    children: tuple[Node | Leaf, ...]


Tree: TypeAlias = Node | Leaf


@dataclass(frozen=True, slots=True)
class Stall:
    """Cycles in which a stage waits: ``times`` the work of ``einsum``, for the reason ``why``."""

    einsum: str
    times: float
    why: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Einsums that run at once, each unit working through its own one after the other."""

    einsums: tuple[str, ...]
    stalls: tuple[Stall, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A fused loop nest and its steady-state schedule.

    ``parts`` are those of ranks that it cuts in a way of its own.
    """

    name: str
    tree: Node
    stages: tuple[Stage, ...]
    parts: tuple[tuple[str, tuple[Loop, ...]], ...] = ()


@dataclass(frozen=True)
class Mapping:
    """A bound mapping.

    ``parts`` lists, for every rank, its parts and their extents, outermost
    first (a group may have its own: ``within``), which may multiply to more
    than the rank's size: then its last tile is short (``short_ranks``);
    ``partial_sums`` says whether partial sums that leave for an outer level
    are counted (FLAT's own model does not count them); ``spill_adds``
    says whether a spilled tensor keeps all of its own traffic besides the
    spilled accesses (FLAT's own model) or only the share that is kept.
    """

    name: str
    groups: tuple[Group, ...]
    parts: tuple[tuple[str, tuple[Loop, ...]], ...]
    values: tuple[tuple[str, int | float | str | bool], ...] = ()
    partial_sums: bool = True
    spill_adds: bool = False
    source: str = ""

    def within(self, group: Group) -> Mapping:
        """The mapping with ranks cut as one of its groups cuts them.

        >>> whole, cut = ("M", (Loop("M", 4),)), ("M", (Loop("M1", 2), Loop("M0", 2)))
        >>> group = Group("g", Node((), (), ()), (), (cut,))
        >>> Mapping("m", (group,), (whole,)).within(group).extent
        {'M1': 2, 'M0': 2}
        """
        if not group.parts:
            return self
        own = dict(group.parts)
        return replace(self, parts=tuple((r, own.get(r, parts)) for r, parts in self.parts))

    @cached_property
    def extent(self) -> dict[str, int]:
        """Extent of every part."""
        return {p.part: p.trips for _, parts in self.parts for p in parts}

    @cached_property
    def rank(self) -> dict[str, str]:
        """Rank (of the cascade: a part of a cascade split is a rank here) of every part."""
        return {p.part: r for r, parts in self.parts for p in parts}


def short_ranks(mapping: Mapping, size: Callable[[str], int]) -> dict[str, int]:
    """Ranks whose parts multiply to more than their size, with that size: their last tile is short.

    >>> mapping = Mapping("t", (), (("M", (Loop("M1", 4), Loop("M0", 3))),))
    >>> short_ranks(mapping, {"M": 10}.__getitem__), short_ranks(mapping, {"M": 12}.__getitem__)
    ({'M': 10}, {})
    """
    return {
        rank: size(rank)
        for rank, parts in mapping.parts
        if math.prod(p.trips for p in parts) > size(rank)
    }


def short_parts(
    mapping: Mapping, splits: MappingType[str, Sequence[str]], size: Callable[[str], int]
) -> tuple[dict[str, tuple[Loop, ...]], dict[str, int]]:
    """Parts by rank and the ranks with a short last tile, those of ``splits`` among them.

    ``splits`` are ranks that the cascade itself splits so that their last tile is short, with
    their parts; such a rank has all parts of these.  Raises InputError where one of these is
    cut into parts that do not divide it.

    >>> mapping = Mapping("t", (), (("M1", (Loop("M1", 4),)), ("M0", (Loop("M0", 3),))))
    >>> sizes = {"M": 10, "M1": 4, "M0": 3}
    >>> parts, short = short_parts(mapping, {"M": ("M1", "M0")}, sizes.__getitem__)
    >>> [p.part for p in parts["M"]], short
    (['M1', 'M0'], {'M': 10})
    """
    parts, short = dict(mapping.parts), short_ranks(mapping, size)
    for rank, its in splits.items():
        for part in (p for p in its if p in short):
            message = f"{part} is cut into tiles of which the last is short, and so is {rank}"
            raise InputError([Fault(Place("<mapping>"), message, "parts that divide")])
        parts[rank] = tuple(loop for part in its for loop in parts.get(part, ()))
        short[rank] = size(rank)
    return parts, short


def walk(tree: Tree, above: tuple[Node, ...] = ()) -> Iterator[tuple[Tree, tuple[Node, ...]]]:
    """Every node and leaf with the nodes above it, outermost first, in text order."""
    yield tree, above
    if isinstance(tree, Node):
        for child in tree.children:
            yield from walk(child, (*above, tree))


def leaves(tree: Tree) -> Iterator[Leaf]:
    """Every leaf, in text order."""
    if isinstance(tree, Leaf):
        yield tree
        return
    for child in tree.children:
        yield from leaves(child)
