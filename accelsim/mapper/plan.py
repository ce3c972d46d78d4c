"""A found choice as a bound mapping: nodes, holds, leaves, stages, and one set of parts.

Groups may cut a rank differently.  Where the tile sizes of all groups make one
chain in which each divides the next, the mapping has the parts between two of
them, and every part of a group becomes some of these.  Where they do not, or
where last tiles are short, each group that cuts the rank in another way than the
first has parts of its own.  A cut of one trip is no cut, so none is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from accelsim.errors import Fault, InputError, Place
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Node, Stage, Tree, short_ranks
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.problem import Problem
from accelsim.mapper.point import Choice
from accelsim.mapper.schedule import BY_SEGMENT, TOGETHER, segments

#: Tile sizes of a rank, outermost first, the whole first of all.
Ends: TypeAlias = tuple[int, ...]

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


def own_splits(choices: Iterable[Choice]) -> dict[str, int]:
    """Extents of the parts of the cascade's own splits, the same for all groups.

    Raises InputError where two groups differ: a part of such a split stands for the same
    everywhere.
    """
    found: dict[str, int] = {}
    for choice in choices:
        for rank, parts in choice.space.cascade.splits:
            for part in (p for p in parts if p in choice.trips):
                known = found.setdefault(part, choice.trips[part])
                if known != choice.trips[part]:
                    message = f"groups split {rank} into {part} = {known} and {choice.trips[part]}"
                    raise InputError([Fault(Place("<mapping>"), message, "one split for all")])
    return found


def joined(chains: Sequence[Ends], size: float) -> Ends | None:
    """One chain of tile sizes with all of some; None where they do not go together.

    >>> joined([(12, 4), (12, 2)], 12), joined([(12, 4), (12, 3)], 12), joined([(8, 4), (7,)], 7)
    ((12, 4, 2), None, None)
    """
    found = sorted({n for chain in chains for n in chain}, reverse=True)
    if len(set(chains)) > 1 and max(chain[0] for chain in chains) > size:
        return None
    return None if any(a % b for a, b in pairwise(found)) else tuple(found)


class _Parts:
    """The parts of a mapping and those that groups have of their own."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        cascade = choices[0].space.cascade
        self.taken = {*cascade.ranks, *cascade.whole}
        self.parts: dict[str, tuple[Loop, ...]] = {}
        self.ends: dict[str, Ends] = {}
        self.own: list[dict[str, tuple[Loop, ...]]] = [{} for _ in choices]
        self.own_ends: list[dict[str, Ends]] = [{} for _ in choices]
        cuts = [tile_sizes(choice) for choice in choices]
        for rank in sorted({rank for cut in cuts for rank in cut}):
            chains = [_ends(cut[rank]) for cut in cuts if rank in cut]
            size = choices[0].space.task.sizes.get(rank, max(chain[0] for chain in chains))
            one = joined(chains, size)
            self.ends[rank] = chains[0] if one is None else one
            self.parts[rank] = self._cut(rank, self.ends[rank], "")
            others = list(dict.fromkeys(chains))[1:] if one is None else []
            for own_parts, own_ends, cut in zip(self.own, self.own_ends, cuts, strict=True):
                chain = _ends(cut[rank]) if rank in cut else ()
                if chain in others:
                    own_ends[rank] = chain
                    own_parts[rank] = self._cut(rank, chain, f"_{others.index(chain) + 2}")

    def _cut(self, rank: str, ends: Ends, mark: str) -> tuple[Loop, ...]:
        """The parts of a rank between tile sizes, with names that are not taken."""
        trips = [a // b for a, b in pairwise([*ends, 1])]
        names = [f"{rank}{mark}"]
        if len(trips) > 1:
            names = [f"{rank}{n}{mark}" for n in range(len(trips) - 1, -1, -1)]
            if self.taken & set(names):
                names = [f"{rank}_{n}{mark}" for n in range(len(trips) - 1, -1, -1)]
        return tuple(Loop(n, t) for n, t in zip(names, trips, strict=True))

    def of(self, number: int, choice: Choice) -> dict[str, tuple[Loop, ...]]:
        """For each part of a group's frame the loops that it becomes, outermost first."""
        found: dict[str, tuple[Loop, ...]] = {}
        sizes = tile_sizes(choice)
        for rank, parts in choice.space.frame.parts:
            loops = self.own[number].get(rank, self.parts[rank])
            ends = self.own_ends[number].get(rank, self.ends[rank])
            for n, part in enumerate(parts):
                outer = sizes[rank][n]
                inner = sizes[rank][n + 1] if n + 1 < len(parts) else 1
                found[part] = tuple(
                    loop
                    for loop, end in zip(loops, ends, strict=True)
                    if inner < end <= outer or (outer == end == 1 and n == 0)
                )
        return found


def _ends(extents: Sequence[int]) -> Ends:
    """Tile sizes of cuts of more than one trip, the whole first."""
    return tuple(dict.fromkeys(n for n in extents if n > 1)) or (1,)


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
    own_splits(choices)
    parts = _Parts(choices)
    groups = []
    for n, choice in enumerate(choices):
        loops = parts.of(n, choice)
        einsums = choice.space.frame.einsums
        title = f"{einsums[0]} to {einsums[-1]}" if len(einsums) > 1 else einsums[0]
        own = tuple(parts.own[n].items())
        groups.append(Group(title, _node(choice, loops, 0), _stages(choice), own))
    every = [parts.parts, *parts.own]
    values = {p.part: p.trips for some in every for found in some.values() for p in found}
    return BoundMapping(
        name, tuple(groups), tuple(parts.parts.items()), tuple(values.items()), source=about
    )


def document(mapping: BoundMapping, problem: Problem) -> dict[str, Any]:
    """A mapping as the plain value of a mapping file, which loads as the same mapping."""
    cascade = problem.cascade
    own = {p for _, parts in cascade.splits for p in parts}
    let = {
        p.part: p.trips for r, parts in mapping.parts for p in parts if len(parts) > 1 or r in own
    }
    let |= {p.part: p.trips for group in mapping.groups for _, parts in group.parts for p in parts}
    found: dict[str, Any] = {
        "mapping": mapping.name,
        "source": mapping.source or SOURCE,
        "cascade": cascade.name,
    }
    if let:
        found["let"] = let
    found |= _cuts([(r, parts) for r, parts in mapping.parts if len(parts) > 1], problem)
    if problem.short:
        found["imperfect"] = [*problem.short, *found.get("imperfect", ())]
    found["groups"] = [
        {
            "group": group.name,
            **_cuts(group.parts, problem),
            "nest": _tree(group.tree),
            "schedule": [_stage(stage) for stage in group.stages],
        }
        for group in mapping.groups
    ]
    return found


def _cuts(parts: Sequence[tuple[str, tuple[Loop, ...]]], problem: Problem) -> dict[str, Any]:
    """Ranks that are cut, and those of them whose last tile is short."""
    found: dict[str, Any] = {}
    if parts:
        found["split"] = {rank: [p.part for p in some] for rank, some in parts}
    short = short_ranks(BoundMapping("", (), tuple(parts)), problem.extent)
    if short:
        found["imperfect"] = list(short)
    return found


def _stage(stage: Stage) -> dict[str, Any]:
    """A stage as the plain value of a mapping file."""
    stalls = [{"einsum": s.einsum, "times": s.times, "why": s.why} for s in stage.stalls]
    return {"run": list(stage.einsums)} | ({"stall": stalls} if stalls else {})


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
        if hold.spill:
            said["spill"] = True
        if hold.staged is not None:
            said["staged"] = dict(hold.staged)
        holds.setdefault(hold.level, []).append(said if len(said) > 1 else hold.tensor)
    if holds:
        node["hold"] = holds
    node["do"] = [_tree(child) for child in tree.children]
    return node
