"""One group of a mapping with what its prices need looked up once: uses, homes, spans, loops."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from accelsim.errors import Fault, InputError
from accelsim.ir.arch import Architecture, Unit
from accelsim.ir.cascade import Cascade
from accelsim.ir.mapping import Group, Leaf, Loop, Mapping, Node, short_parts
from accelsim.ir.problem import Problem
from accelsim.models.path import Path, Placed, Tile, Use
from accelsim.models.short import Sweep, checked, inside, steps
from accelsim.models.tiles import Fold, Span, fetches, line


class LeafTime(NamedTuple):
    """A leaf on its unit: loops with folds, coordinates at once by part, folds with a short end.

    Of ranks whose last tile is short ``sizes`` have one coordinate (``models.short``).
    ``visits`` keeps by shape what ``Nest.touched`` finds.
    """

    loops: tuple[Loop | Fold, ...]
    sizes: dict[str, int]
    ragged: tuple[Fold, ...]
    steps: int
    visits: dict[int, tuple[float, float]]

    def words(self, span: Span) -> float:
        """Elements that the PEs touch in one step, on the average over rounds."""
        if not self.ragged:
            return span.elements(self.sizes)
        return self._average(span, dict(self.sizes), self.ragged)

    def _average(self, span: Span, sizes: dict[str, int], ragged: tuple[Fold, ...]) -> float:
        if not ragged:
            return span.elements(sizes)
        part, trips, pes, last = ragged[0]
        full = self._average(span, {**sizes, part: pes}, ragged[1:])
        return ((trips - 1) * full + self._average(span, {**sizes, part: last}, ragged[1:])) / trips


def folds(leaf: Leaf, rows: int, cols: int) -> tuple[Fold, ...]:
    """Rounds in time where a leaf spreads more over an array side than it has PEs.

    Parts take PEs in the order in which they are named; the first that does
    not fit beside those before it goes in rounds, all after it one by one.

    >>> folds(Leaf("X", "u", cols=(Loop("P0", 256),)), 1, 100)
    (Fold(part='P0', trips=3, pes=100, last=56),)
    """
    rounds = []
    for spread, side in ((leaf.rows, rows), (leaf.cols, cols)):
        room = side
        for loop in spread:
            pes = min(loop.trips, room)
            if pes < loop.trips:
                last = loop.trips % pes or pes
                rounds.append(Fold(loop.part, -(-loop.trips // pes), pes, last))
            room = room // loop.trips if loop.trips <= room else 1
    return tuple(rounds)


class Nest:
    """A group of a mapping, with what the counts need looked up once.

    Every method is a question about the group; what was answered is kept.
    """

    def __init__(self, problem: Problem, mapping: Mapping, group: Group) -> None:
        self.problem, self.mapping, self.group = problem, mapping.within(group), group
        self.cascade: Cascade = problem.cascade
        self.by_rank, short = short_parts(self.mapping, problem.short, problem.extent)
        self.short = checked(group, self.by_rank, short)
        self.paths: list[Path] = []  # to every node, in text order
        self.leaves: list[Placed] = []
        self.uses: dict[str, list[Use]] = {}
        self._spans: dict[int, Span] = {}
        self.held: set[str] = set()  # levels at which anything is held
        self._homes: dict[str, Tile | None] = {}
        self._words: dict[Tile, float] = {}
        self._times: dict[tuple[tuple[str, int, int], ...], list[LeafTime]] = {}
        self._extents: list[dict[str, int]] = []  # by path: a full tile's coordinates, by part
        self._ones = dict.fromkeys(self.mapping.extent, 1)
        self._place(group.tree, None)
        self.placed = frozenset([placed.leaf.einsum for placed in self.leaves])

    @cached_property
    def points(self) -> list[int]:
        """Points that each leaf's Einsum computes, in text order."""
        return [self.problem.points(placed.einsum) for placed in self.leaves]

    def _place(self, node: Node, above: Path | None) -> None:
        """Note the paths to a node and to those below it, in text order, and the uses there."""
        path = Path(node, above, len(self.paths))
        self.paths.append(path)
        self._extents.append(self._extent(path))
        self.held |= {tile.hold.level for tile in path.tiles}
        for child in node.children:
            if isinstance(child, Node):
                self._place(child, path)
                continue
            self._leaf(child, path)

    def _leaf(self, leaf: Leaf, path: Path) -> None:
        placed = Placed(len(self.leaves), leaf, path, self.cascade.steps[leaf.einsum])
        self.leaves.append(placed)
        for tensor, shape, writes in self.cascade.touched[leaf.einsum]:
            span = self._spans.get(shape) or self._span(shape)
            use = Use(placed, shape, span, writes)
            if tensor in self.uses:
                self.uses[tensor].append(use)
            else:
                self.uses[tensor] = [use]
            for tile in path.held.get(tensor, ()):
                tile.uses.append(use)
                tile.spans[shape] = span

    def _span(self, shape: int) -> Span:
        """What accesses of a shape (of ``Cascade.shapes``) span, in parts of this mapping."""
        (geometry, slot), cut = self.cascade.shapes[shape], self.by_rank
        plain = [p.part for rank, at in geometry.positions if at is None for p in cut[rank]]
        bent = [
            line(at, rank, self.problem, cut) for rank, at in geometry.positions if at is not None
        ]
        slots = [p.part for p in cut[slot]] if slot else []
        found = self._spans[shape] = Span(tuple(plain), tuple(bent), tuple(slots))
        return found

    def _extent(self, path: Path) -> dict[str, int]:
        """Coordinates of each part in a full tile inside the loops of a path."""
        sizes = dict(self.mapping.extent)
        for loop in path.loops:
            sizes[loop.part] = 1
        if self.short:
            around = [loop.part for loop in path.loops]
            for rank, size in self.short.items():
                sizes |= dict.fromkeys((p.part for p in self.by_rank[rank]), 1)
                sizes |= self._tile(rank, inside(self.by_rank[rank], size, around))
        return sizes

    def _tile(self, rank: str, size: int) -> dict[str, Any]:
        """Coordinates of the innermost part of a short rank in a tile of some size.

        Where the cascade itself splits the rank, those of its outer part are whole tiles, and
        of its inner part there are on the average as many as make up the size.
        """
        last = self.by_rank[rank][-1].part
        if rank not in self.problem.short:
            return {last: size}
        outer, inner = self.problem.short[rank]
        tiles = -(-size // self.problem.extent(inner))
        return {self.by_rank[outer][-1].part: tiles, last: Fraction(size, tiles)}

    def words(self, tile: Tile) -> float:
        """Elements of a held tile: the most that an access below its node needs.

        Raises InputError if no Einsum below the node uses the tensor.
        """
        found = self._words.get(tile)
        if found is None:
            if tile.hold.staged is not None:
                found = float(math.prod(extent for _, extent in tile.hold.staged))
            else:
                found = _most(tile, self._extents[tile.path.number])
            self._words[tile] = found
        return found

    def visits(
        self, span: Span, loops: tuple[Loop | Fold, ...], words: float
    ) -> tuple[float, float]:
        """Words that all visits of a tile bring, and the different ones among them."""
        if self.short:
            return Sweep(loops, self.by_rank, self.short, span).words(words)
        count, different = fetches(span, loops)
        return count * words, different * words

    def filled(self, tile: Tile) -> tuple[float, float]:
        """Words that all fills of a held tile bring, and the different ones among them."""
        loops = tile.path.loops
        if not self.short:
            return self.visits(self.span(tile), loops, self.words(tile))
        if len({span.parts for span in tile.spans.values()}) > 1:
            message = f"{tile.hold.tensor} is read in two ways where a last tile is short"
            raise InputError([Fault(tile.hold.place, message, "splits that divide")])
        sizes = dict(self.mapping.extent)
        sizes |= dict.fromkeys((loop.part for loop in loops), 1)
        sizes |= dict.fromkeys((p.part for r in self.short for p in self.by_rank[r]), 1)
        return self.visits(self.span(tile), loops, _most(tile, sizes))

    def span(self, tile: Tile) -> Span:
        """What all accesses below a tile's node span of the tensor."""
        found, *rest = tile.spans.values()
        for span in rest:
            found |= span
        return found

    def times(self, arch: Architecture) -> list[LeafTime]:
        """Every leaf's loops on the machine's units, in text order."""
        sides = tuple([(unit.name, unit.rows, unit.cols) for unit in arch.units])
        if sides not in self._times:
            known: dict[tuple[Any, ...], LeafTime] = {}  # leaves that run alike are one
            found = []
            for _, leaf, path, _ in self.leaves:
                key = path.number, leaf.unit, leaf.loops, leaf.rows, leaf.cols
                if key not in known:
                    known[key] = self._time(leaf, path, arch.unit[leaf.unit])
                found.append(known[key])
            self._times[sides] = found
        return self._times[sides]

    def _time(self, leaf: Leaf, path: Path, unit: Unit) -> LeafTime:
        rounds = folds(leaf, unit.rows, unit.cols)
        sizes = self._ones.copy()
        for loop in (*leaf.rows, *leaf.cols):
            sizes[loop.part] = loop.trips
        for fold in rounds:
            sizes[fold.part] = fold.pes
        own: tuple[Loop | Fold, ...] = (*rounds, *leaf.loops)
        loops = (*path.loops, *own)
        if self.short:
            cut = {p.part for rank in self.short for p in self.by_rank[rank]}
            sizes |= dict.fromkeys(cut, 1)
            ragged = tuple(f for f in rounds if f.last != f.pes and f.part not in cut)
            return LeafTime(loops, sizes, ragged, steps(loops, self.by_rank, self.short), {})
        ragged = tuple([f for f in rounds if f.last != f.pes])
        times = path.trips * math.prod([loop.trips for loop in own])
        return LeafTime(loops, sizes, ragged, times, {})

    def touched(self, use: Use, time: LeafTime) -> tuple[float, float]:
        """Words that an array reads or writes by a use, and the different ones among them."""
        found = time.visits.get(use.shape)
        if found is None:
            words = time.words(use.span)
            found = time.visits[use.shape] = self.visits(use.span, time.loops, words)
        return found

    def share(self, placed: Placed, path: Path) -> float:
        """The share of the iterations of the loops above in which an Einsum has anything to do.

        ``path`` are the loops, some or all of those above the Einsum.
        What data decides is skipped as a whole where the loops run over every
        rank of the mask, down to single coordinates: its density.  A mask that
        varies within an iteration skips nothing, and affine masks are not
        skipped: a mapping has dense loops.
        """
        if not self.cascade.densities:
            return 1.0
        inside = dict(self.mapping.extent)
        for loop in path.loops:
            inside[loop.part] = 1
        apart = {
            rank for rank, parts in self.by_rank.items() if all(inside[p.part] == 1 for p in parts)
        }
        found = 1.0
        for tensor in self.problem.domains.decided(placed.einsum, apart):
            found *= self.cascade.density[tensor].value
        return found

    def home(self, tensor: str) -> Tile | None:
        """The tile where an intermediate lives for good; None: the backing level.

        It is the innermost one whose node encloses every use of the tensor;
        for the state of a recurrence, one that also stands outside the loop it
        recurs along, since its tile must survive from one step to the next.
        Inputs, outputs and tensors of several groups live at the backing level.
        """
        if tensor not in self._homes:
            self._homes[tensor] = self._home(tensor) if self.inside(tensor) else None
        return self._homes[tensor]

    def _home(self, tensor: str) -> Tile | None:
        uses = self.uses[tensor]
        first = uses[0].placed.path
        depth = len(first.way)
        for use in uses:
            path = use.placed.path
            if path is not first:
                both = zip(first.way[:depth], path.way, strict=False)
                depth = sum(1 for a, b in both if a is b)
        tiles = first.way[depth - 1].held.get(tensor, ())
        slot = self.cascade.iterative.get(tensor)
        if slot is not None:
            along = {p.part for p in self.by_rank.get(slot, ())}
            tiles = tuple(
                tile for tile in tiles if not any(p.part in along for p in tile.path.loops)
            )
        return tiles[-1] if tiles else None

    def inside(self, tensor: str) -> bool:
        """Whether the tensor is made and used up within this group."""
        if tensor in self.cascade.outputs or tensor not in self.cascade.writers:
            return False
        return self.cascade.users[tensor] <= self.placed


def _most(tile: Tile, sizes: dict[str, int]) -> float:
    """The most elements that an access below a tile's node spans, with coordinates by part."""
    if not tile.spans:
        message = f"nothing below this node uses {tile.hold.tensor}, which it holds"
        raise InputError([Fault(tile.hold.place, message)])
    return int(max([span.elements(sizes) for span in tile.spans.values()]))
