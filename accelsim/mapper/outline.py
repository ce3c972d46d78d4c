"""A mapping as nested plain values with every number in it, for people and for ``--json``."""

from __future__ import annotations

import math
from typing import Any

from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import rank_of
from accelsim.ir.mapping import (
    Group,
    Hold,
    Leaf,
    Loop,
    Mapping,
    Node,
    Tree,
    leaves,
    short_ranks,
)
from accelsim.ir.problem import Problem
from accelsim.ir.show import show_einsum


def outline(problem: Problem, arch: Architecture, mapping: Mapping) -> list[dict[str, Any]]:
    """For each group its name, its nest (loops, tiles held, Einsums) and its stages.

    Tiles have their bytes, all copies included; loops are pairs of part and trips,
    which are those of full tiles.  ``short`` are ranks whose last tile is shorter, with
    their sizes.
    """
    return [
        {
            "group": group.name,
            "nest": _tree(problem, arch, mapping.within(group), group.tree, ()),
            "stages": [list(stage.einsums) for stage in group.stages],
            "short": _short(problem, mapping.within(group), group),
        }
        for group in mapping.groups
    ]


def _short(problem: Problem, mapping: Mapping, group: Group) -> dict[str, int]:
    """Ranks of a group whose last tile is short."""
    own = {leaf.einsum for leaf in leaves(group.tree)}
    used = {rank_of(v) for e in own for v in problem.cascade.spaces[id(problem.cascade.steps[e])]}
    found = {r: n for r, n in short_ranks(mapping, problem.extent).items() if r in used}
    return found | {r: problem.extent(r) for r, parts in problem.short.items() if parts[1] in used}


def _pairs(loops: tuple[Loop, ...]) -> list[list[Any]]:
    return [[loop.part, loop.trips] for loop in loops]


def _tree(
    problem: Problem, arch: Architecture, mapping: Mapping, tree: Tree, path: tuple[str, ...]
) -> dict[str, Any]:
    if isinstance(tree, Leaf):
        return {
            "einsum": tree.einsum,
            "text": show_einsum(problem.cascade.steps[tree.einsum]),
            "unit": tree.unit,
            "rows": _pairs(tree.rows),
            "cols": _pairs(tree.cols),
            "loops": _pairs(tree.loops),
        }
    inside = (*path, *(loop.part for loop in tree.loops))
    return {
        "loops": _pairs(tree.loops),
        "holds": [
            {
                "tensor": hold.tensor,
                "level": hold.level,
                "tile": _tile(problem, mapping, tree, hold, inside),
                "bytes": arch.word_bytes
                * hold.copies
                * math.prod(n for _, n in _tile(problem, mapping, tree, hold, inside)),
                "copies": hold.copies,
                "shares": hold.shares,
            }
            for hold in tree.holds
        ],
        "inside": [_tree(problem, arch, mapping, child, inside) for child in tree.children],
    }


def _tile(
    problem: Problem, mapping: Mapping, node: Node, hold: Hold, path: tuple[str, ...]
) -> list[list[Any]]:
    """Ranks and extents of a held tile: the largest that an Einsum below the node uses."""
    parts = dict(mapping.parts)
    most = {r: math.prod(p.trips for p in some) for r, some in mapping.parts}
    most |= short_ranks(mapping, problem.extent)
    found: list[list[list[Any]]] = []
    for leaf in leaves(node):
        step = problem.cascade.steps[leaf.einsum]
        for access in (*step.reads, step.output):
            if access.tensor == hold.tensor:
                ranks = [rank for rank, _ in problem.cascade.geometry[id(access)].positions]
                found.append(_uncut(problem, [
                    [r, min(most[r], math.prod(p.trips for p in parts[r] if p.part not in path))]
                    for r in ranks
                ]))  # fmt: skip
    return max(found, key=lambda tile: math.prod(n for _, n in tile))


def _uncut(problem: Problem, tile: list[list[Any]]) -> list[list[Any]]:
    """Ranks and extents with a rank in place of its parts where a tile has all of a short one."""
    for rank, (outer, inner) in problem.short.items():
        size = [rank, problem.extent(rank)]
        if [outer, problem.extent(outer)] in tile and any(r == inner for r, _ in tile):
            tile = [size if r == outer else [r, n] for r, n in tile if r != inner]
    return tile
