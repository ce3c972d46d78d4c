"""A found choice as a bound mapping: nodes, holds, leaves, stages, and one set of parts.

Groups may cut a rank differently; a mapping has one list of parts for each
rank.  The tile sizes of all groups are merged into one chain in which each
divides the next, and every part of a group becomes the parts between two of
them.  A cut of one trip is no cut, so none is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from accelsim.errors import Fault, InputError, Place
from accelsim.ir.cascade import Cascade
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Node, Stage, Tree, short_ranks
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.problem import Problem
from accelsim.mapper.point import Choice
from accelsim.mapper.schedule import BY_SEGMENT, TOGETHER, segments

#: How a found mapping says where it comes from.
SOURCE = "found by accelsim map"


def tile_sizes(choice: Choice) -> dict[str, tuple[int, ...]]:
    """For each rank of a choice the extents inside each of its cuts, outermost first."""
    found = {}
    for rank, parts in choice.space.frame.parts:
        inside, extents = 1, []
        for part in reversed(parts):
            inside *= choice.trips[part]
            extents.append(inside)
        found[rank] = tuple(reversed(extents))
    return found


def merged(choices: Iterable[Choice]) -> dict[str, tuple[int, ...]]:
    """For each rank all tile sizes of some groups, outermost first.

    Raises InputError where two groups cut a rank so that neither tile divides the other.
    """
    sizes: dict[str, set[int]] = {}
    for choice in choices:
        for rank, extents in tile_sizes(choice).items():
            sizes.setdefault(rank, set()).update(extents)
    for rank, found in sizes.items():
        for small, large in pairwise(sorted(found)):
            if large % small:
                message = f"groups cut {rank} into tiles of {small} and of {large}"
                allowed = "tiles of which one divides the other"
                raise InputError([Fault(Place("<mapping>"), message, allowed)])
    return {rank: tuple(sorted(s, reverse=True)) for rank, s in sizes.items()}


class _Parts:
    """The parts of a mapping, and what each part of a group's frame becomes."""

    def __init__(self, cascade: Cascade, sizes: Mapping[str, tuple[int, ...]]) -> None:
        taken = {*cascade.ranks, *cascade.whole}
        self.parts: dict[str, tuple[Loop, ...]] = {}
        self.ends: dict[str, tuple[int, ...]] = {}
        for rank, extents in sorted(sizes.items()):
            inside = [e for e in extents if e > 1] or [1]
            trips = [a // b for a, b in pairwise([*inside, 1])]
            names = [rank]
            if len(trips) > 1:
                names = [f"{rank}{n}" for n in range(len(trips) - 1, -1, -1)]
                if taken & set(names):
                    names = [f"{rank}_{n}" for n in range(len(trips) - 1, -1, -1)]
            self.parts[rank] = tuple(Loop(n, t) for n, t in zip(names, trips, strict=True))
            self.ends[rank] = tuple(inside)

    def of(self, choice: Choice) -> dict[str, tuple[Loop, ...]]:
        """For each part of a choice's frame the loops that it becomes, outermost first."""
        found: dict[str, tuple[Loop, ...]] = {}
        sizes = tile_sizes(choice)
        for rank, parts in choice.space.frame.parts:
            for n, part in enumerate(parts):
                outer = sizes[rank][n]
                inner = sizes[rank][n + 1] if n + 1 < len(parts) else 1
                found[part] = tuple(
                    loop
                    for loop, end in zip(self.parts[rank], self.ends[rank], strict=True)
                    if inner < end <= outer or (outer == end == 1 and n == 0)
                )
        return found


def _node(choice: Choice, loops: Mapping[str, tuple[Loop, ...]], spot: int) -> Node:
    """The node of a spot and all inside it; spots that hold nothing join the one inside."""
    frame = choice.space.frame
    own = tuple(loop for part in frame.spots[spot].loops for loop in loops[part])
    levels = choice.space.arch.levels
    holds = tuple(
        Hold(k.tensor, levels[k.keep.level].name, copies=k.copies, shares=k.shares)
        for k in sorted(choice.kept, key=lambda k: k.keep.level)
        if k.keep.spot == spot
    )
    children: list[Tree] = []
    for child in frame.children[spot]:
        if isinstance(child, int):
            children.append(_node(choice, loops, child))
        else:
            children.append(_leaf(choice, loops, child))
    if len(children) == 1 and isinstance(children[0], Node) and not holds:
        inside = children[0]
        return Node((*own, *inside.loops), inside.holds, inside.children)
    plain = [c for c in children if isinstance(c, Node) and not c.loops and not c.holds]
    if plain:
        children = [
            x for c in children for x in (c.children if isinstance(c, Node) and c in plain else [c])
        ]
    return Node(own, holds, tuple(children))


def _leaf(choice: Choice, loops: Mapping[str, tuple[Loop, ...]], einsum: str) -> Leaf:
    """An Einsum on its unit; of a part that is cut the inner cuts take PEs first."""
    spread = choice.runs[einsum].spread

    def side(parts: Sequence[str]) -> tuple[Loop, ...]:
        return tuple(loop for part in parts for loop in reversed(loops[part]))

    own = tuple(loop for part in spread.loops for loop in loops[part])
    return Leaf(einsum, spread.unit, own, side(spread.rows), side(spread.cols))


def _stages(choice: Choice) -> tuple[Stage, ...]:
    """One stage of everything, a stage a segment, or runs of Einsums on one unit."""
    if choice.way == TOGETHER:
        return (Stage(soonest(choice, choice.space.frame.einsums)),)
    if choice.way == BY_SEGMENT:
        return tuple(Stage(soonest(choice, some)) for some in segments(choice.space.frame))
    found: list[list[str]] = []
    unit = ""
    for einsum in choice.space.frame.einsums:
        if choice.runs[einsum].spread.unit != unit:
            found.append([])
        unit = choice.runs[einsum].spread.unit
        found[-1].append(einsum)
    return tuple(Stage(tuple(some)) for some in found)


def soonest(choice: Choice, einsums: Sequence[str]) -> tuple[str, ...]:
    """Einsums in an order that keeps what must come before what, the shortest first.

    Of Einsums that one unit works through in a step, those that others wait for
    should not wait behind a long one: the time of a stage is the same in any
    order, but a state that is written again must have been read before.
    Einsums keep their order where they share a tensor that one of them writes.
    """
    steps = choice.space.cascade.steps
    touched = {e: {a.tensor for a in (*steps[e].reads, steps[e].output)} for e in einsums}
    wrote = {e: steps[e].output.tensor for e in einsums}
    left, found = list(einsums), list[str]()
    while left:
        ready = [
            e
            for n, e in enumerate(left)
            if not any(wrote[o] in touched[e] or wrote[e] in touched[o] for o in left[:n])
        ]
        found.append(min(ready, key=lambda e: (choice.runs[e].cycles, left.index(e))))
        left.remove(found[-1])
    return tuple(found)


def bound_mapping(choices: Sequence[Choice], name: str, about: str = SOURCE) -> BoundMapping:
    """The mapping of the choices of all groups, in order.

    Raises InputError where their cuts of a rank do not go together.
    """
    cascade = choices[0].space.cascade
    parts = _Parts(cascade, merged(choices))
    groups = []
    for choice in choices:
        loops = parts.of(choice)
        einsums = choice.space.frame.einsums
        title = f"{einsums[0]} to {einsums[-1]}" if len(einsums) > 1 else einsums[0]
        groups.append(Group(title, _node(choice, loops, 0), _stages(choice)))
    values = {p.part: p.trips for found in parts.parts.values() for p in found}
    return BoundMapping(
        name, tuple(groups), tuple(parts.parts.items()), tuple(values.items()), source=about
    )


def document(mapping: BoundMapping, problem: Problem) -> dict[str, Any]:
    """A mapping as the plain value of a mapping file, which loads as the same mapping."""
    cascade = problem.cascade
    own = {p for _, parts in cascade.splits for p in parts}
    cut = {r: [p.part for p in parts] for r, parts in mapping.parts if len(parts) > 1}
    let = {
        p.part: p.trips for r, parts in mapping.parts for p in parts if len(parts) > 1 or r in own
    }
    found: dict[str, Any] = {
        "mapping": mapping.name,
        "source": mapping.source or SOURCE,
        "cascade": cascade.name,
    }
    if let:
        found["let"] = let
    if cut:
        found["split"] = cut
    if short := short_ranks(mapping, problem.extent):
        found["imperfect"] = list(short)
    found["groups"] = [
        {
            "group": group.name,
            "nest": _tree(group.tree),
            "schedule": [{"run": list(stage.einsums)} for stage in group.stages],
        }
        for group in mapping.groups
    ]
    return found


def _tree(tree: Tree) -> dict[str, Any]:
    """A node or leaf as the plain value of a mapping file."""
    if isinstance(tree, Leaf):
        leaf: dict[str, Any] = {"einsum": tree.einsum, "unit": tree.unit}
        for key, loops in (("rows", tree.rows), ("cols", tree.cols), ("for", tree.loops)):
            if loops:
                leaf[key] = [p.part for p in loops]
        return leaf
    node: dict[str, Any] = {}
    if tree.loops:
        node["for"] = [p.part for p in tree.loops]
    holds: dict[str, list[Any]] = {}
    for hold in tree.holds:
        said: dict[str, Any] = {"tensor": hold.tensor}
        if hold.copies > 1:
            said["copies"] = hold.copies
        if hold.shares:
            said["shares"] = hold.shares
        holds.setdefault(hold.level, []).append(said if len(said) > 1 else hold.tensor)
    if holds:
        node["hold"] = holds
    node["do"] = [_tree(child) for child in tree.children]
    return node
