"""One group of a mapping with what its prices need looked up once: uses, homes, spans, loops."""

from __future__ import annotations

import math
from typing import NamedTuple

from accelsim.errors import Fault, InputError
from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Access, Cascade
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, short_ranks, walk
from accelsim.ir.problem import Problem
from accelsim.models.short import Sweep, checked, inside, steps
from accelsim.models.tiles import Fold, Span, fetches, line


class Use(NamedTuple):
    """One access of a leaf: the leaf, the nodes above it, the access, and whether it writes."""

    leaf: Leaf
    above: tuple[Node, ...]
    access: Access
    writes: bool


class LeafTime(NamedTuple):
    """A leaf on its unit: loops with folds, coordinates at once by part, folds with a short end.

    Of ranks whose last tile is short ``sizes`` have one coordinate (``models.short``).
    """

    loops: tuple[Loop | Fold, ...]
    sizes: dict[str, int]
    ragged: tuple[Fold, ...]
    steps: int

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


def loops_of(above: tuple[Node, ...]) -> tuple[Loop, ...]:
    """All loops of a path, outermost first.

    >>> loops_of((Node((Loop("B", 2),), (), ()), Node((Loop("P", 4),), (), ())))
    (Loop(part='B', trips=2), Loop(part='P', trips=4))
    """
    return tuple(loop for node in above for loop in node.loops)


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
        self.by_rank: dict[str, tuple[Loop, ...]] = dict(self.mapping.parts)
        self.short = checked(group, self.by_rank, short_ranks(self.mapping, problem.extent))
        self.steps = self.cascade.steps
        self.homes: dict[str, tuple[Node, Hold] | None] = {}
        self.uses: dict[str, list[Use]] = {}
        self.below: dict[tuple[int, str], list[Use]] = {}  # uses of a tensor below a node
        self.leaves: list[tuple[Leaf, tuple[Node, ...]]] = []
        self.held: set[str] = set()  # levels at which anything is held
        self._spans: dict[int, Span] = {}
        self._held: dict[tuple[int, str], Span] = {}
        self._words: dict[tuple[int, int], float] = {}
        self._chains: dict[tuple[str, int], list[tuple[int, Hold]]] = {}
        self._times: dict[tuple[int, int, int], LeafTime] = {}
        for found, above in walk(group.tree):
            if isinstance(found, Node):
                self.held |= {hold.level for hold in found.holds}
                continue
            self.leaves.append((found, above))
            einsum = self.steps[found.einsum]
            for access in self.cascade.operands[found.einsum]:
                self._use(Use(found, above, access, False))
            self._use(Use(found, above, einsum.output, True))
        self.placed = frozenset(leaf.einsum for leaf, _ in self.leaves)

    def _use(self, use: Use) -> None:
        tensor = use.access.tensor
        self.uses.setdefault(tensor, []).append(use)
        for node in use.above:
            self.below.setdefault((id(node), tensor), []).append(use)

    def span(self, access: Access) -> Span:
        """What the access spans, in parts of this mapping."""
        found = self._spans.get(id(access))
        if found is None:
            geometry = self.cascade.geometry[id(access)]
            slot = self.cascade.iterative.get(access.tensor)
            found = self._spans[id(access)] = Span(
                tuple(p.part for rank, at in geometry.positions if at is None
                      for p in self.by_rank[rank]),
                tuple(line(at, rank, self.problem, self.by_rank)
                      for rank, at in geometry.positions if at is not None),
                tuple(p.part for rank in geometry.ranks if rank == slot
                      for p in self.by_rank[rank]),
            )  # fmt: skip
        return found

    def words(self, hold: Hold, path: tuple[Node, ...]) -> float:
        """Elements of a tile held by the last node of a path: the most that an access below needs.

        Raises InputError if no Einsum below the node uses the tensor.
        """
        key = id(path[-1]), id(hold)
        found = self._words.get(key)
        if found is None:
            found = self._words[key] = self._held_words(hold, path)
        return found

    def _held_words(self, hold: Hold, path: tuple[Node, ...]) -> float:
        if hold.staged is not None:
            return float(math.prod(extent for _, extent in hold.staged))
        sizes = dict(self.mapping.extent)
        for loop in loops_of(path):
            sizes[loop.part] = 1
        around = [loop.part for loop in loops_of(path)]
        for rank, size in self.short.items():
            sizes |= dict.fromkeys((p.part for p in self.by_rank[rank]), 1)
            sizes[self.by_rank[rank][-1].part] = inside(self.by_rank[rank], size, around)
        return self._most(hold, path, sizes)

    def _most(self, hold: Hold, path: tuple[Node, ...], sizes: dict[str, int]) -> float:
        """The most elements that an access below a node spans, with coordinates by part."""
        users = self.below.get((id(path[-1]), hold.tensor), [])
        if not users:
            raise InputError(
                [Fault(hold.place, f"nothing below this node uses {hold.tensor}, which it holds")]
            )
        return max(self.span(use.access).elements(sizes) for use in users)

    def visits(
        self, span: Span, loops: tuple[Loop | Fold, ...], words: float
    ) -> tuple[float, float]:
        """Words that all visits of a tile bring, and the different ones among them."""
        if self.short:
            return Sweep(loops, self.by_rank, self.short, span).words(words)
        count, different = fetches(span, loops)
        return count * words, different * words

    def filled(self, hold: Hold, path: tuple[Node, ...]) -> tuple[float, float]:
        """Words that all fills of a held tile bring, and the different ones among them."""
        span, loops = self.held_span(hold, path[-1]), loops_of(path)
        if not self.short:
            return self.visits(span, loops, self.words(hold, path))
        below = self.below[id(path[-1]), hold.tensor]
        if len({self.span(use.access).parts for use in below}) > 1:
            message = f"{hold.tensor} is read in two ways where a last tile is short"
            raise InputError([Fault(hold.place, message, "splits that divide")])
        sizes = dict(self.mapping.extent)
        sizes |= dict.fromkeys((loop.part for loop in loops), 1)
        sizes |= dict.fromkeys((p.part for r in self.short for p in self.by_rank[r]), 1)
        return self.visits(span, loops, self._most(hold, path, sizes))

    def held_span(self, hold: Hold, node: Node) -> Span:
        """What all accesses below a node span of the tensor that it holds."""
        key = id(node), hold.tensor
        if key not in self._held:
            first, *rest = dict.fromkeys(self.span(use.access) for use in self.below[key])
            for span in rest:
                first |= span
            self._held[key] = first
        return self._held[key]

    def time(self, leaf: Leaf, above: tuple[Node, ...], arch: Architecture) -> LeafTime:
        """A leaf's loops on the machine's unit."""
        unit = arch.unit[leaf.unit]
        key = id(leaf), unit.rows, unit.cols
        found = self._times.get(key)
        if found is None:
            rounds = folds(leaf, unit.rows, unit.cols)
            sizes = dict.fromkeys(self.mapping.extent, 1)
            for loop in (*leaf.rows, *leaf.cols):
                sizes[loop.part] = loop.trips
            for fold in rounds:
                sizes[fold.part] = fold.pes
            cut = {p.part for rank in self.short for p in self.by_rank[rank]}
            sizes |= dict.fromkeys(cut, 1)
            ragged = tuple(f for f in rounds if f.last != f.pes and f.part not in cut)
            loops: tuple[Loop | Fold, ...] = (*loops_of(above), *rounds, *leaf.loops)
            times = steps(loops, self.by_rank, self.short)
            found = self._times[key] = LeafTime(loops, sizes, ragged, times)
        return found

    def share(self, einsum: str, above: tuple[Node, ...]) -> float:
        """The share of the iterations of the loops above in which an Einsum has anything to do.

        What data decides is skipped as a whole where the loops run over every
        rank of the mask, down to single coordinates: its density.  A mask that
        varies within an iteration skips nothing, and affine masks are not
        skipped: a mapping has dense loops.
        """
        if not self.cascade.densities:
            return 1.0
        inside = dict(self.mapping.extent)
        for loop in loops_of(above):
            inside[loop.part] = 1
        apart = {
            rank for rank, parts in self.by_rank.items() if all(inside[p.part] == 1 for p in parts)
        }
        found = 1.0
        for tensor in self.problem.domains.decided(self.steps[einsum], apart):
            found *= self.cascade.density[tensor].value
        return found

    def home(self, tensor: str) -> tuple[Node, Hold] | None:
        """The hold where an intermediate lives for good; None: the backing level.

        It is the innermost hold whose node encloses every use of the tensor;
        for the state of a recurrence, one that also stands outside the loop it
        recurs along, since its tile must survive from one step to the next.
        Inputs, outputs and tensors of several groups live at the backing level.
        """
        if tensor not in self.homes:
            self.homes[tensor] = self._home(tensor) if self.inside(tensor) else None
        return self.homes[tensor]

    def _home(self, tensor: str) -> tuple[Node, Hold] | None:
        uses = self.uses[tensor]
        along = {p.part for p in self.by_rank.get(self.cascade.iterative.get(tensor, ""), ())}
        found: tuple[Node, Hold] | None = None
        for depth, node in enumerate(uses[0].above):
            if not all(len(u.above) > depth and u.above[depth] is node for u in uses):
                break
            if any(loop.part in along for loop in node.loops):
                break
            for hold in node.holds:
                if hold.tensor == tensor and hold.staged is None:
                    found = (node, hold)
        return found

    def inside(self, tensor: str) -> bool:
        """Whether the tensor is made and used up within this group."""
        if tensor in self.cascade.outputs or tensor not in self.cascade.writers:
            return False
        return self.cascade.users[tensor] <= self.placed

    def chain(self, tensor: str, above: tuple[Node, ...]) -> list[tuple[int, Hold]]:
        """Holds of the tensor on a path, from its home inwards, each with the depth of its node."""
        key = tensor, id(above[-1])
        if key not in self._chains:
            self._chains[key] = self._chain(tensor, above)
        return self._chains[key]

    def _chain(self, tensor: str, above: tuple[Node, ...]) -> list[tuple[int, Hold]]:
        found = [
            (depth, hold)
            for depth, node in enumerate(above)
            for hold in node.holds
            if hold.tensor == tensor and hold.staged is None
        ]
        home = self.home(tensor)
        if home is not None:
            while found and (found[0][1] is not home[1] or above[found[0][0]] is not home[0]):
                found.pop(0)
        return found
