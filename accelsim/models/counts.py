"""Words moved between levels by a mapping, in closed form from the loop nest.

A tile is fetched whole each time another one is needed (``models.tiles``), so
words are fetches times elements.  For plain indices that is the classical
rule (Parashar et al., Timeloop, ISPASS 2019, section VI; Yang et al.,
nn_dataflow): the product of the trips of all loops above the tile, without
the innermost run of loops that the tensor does not depend on.

Assumptions that could be wrong for a machine: every access of an Einsum keeps
its last operands latched until it needs others, whatever runs in between; a
fetch brings the whole tile, even where windows overlap; a word that several
PEs read in one step is read once (multicast), and so is one that an Einsum
names twice; the state of a recurrence comes in and goes out at each step;
accesses of one tensor below a node need nested tiles.  ``tests/oracle/nest.py``
replays the nest element by element under the same assumptions and must give
the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as MappingType
from dataclasses import dataclass

from accelsim.errors import Fault, InputError
from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Access, Cascade
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, leaves, walk
from accelsim.ir.problem import Problem
from accelsim.models.tiles import Fold, Line, fetches, line, strides, transitions


@dataclass(frozen=True, slots=True)
class Transfer:
    """Words of one tensor at one level: reads out of it and writes into it, on whose behalf."""

    level: str
    tensor: str
    einsum: str
    reads: float
    writes: float


@dataclass(frozen=True, slots=True)
class Use:
    """One access of a leaf: the leaf, the nodes above it, the access, and whether it writes."""

    leaf: Leaf
    above: tuple[Node, ...]
    access: Access
    writes: bool


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


class Nest:
    """A group of a mapping, with what the counts need looked up once.

    Holds no results: every method is a question about the group.
    """

    def __init__(self, problem: Problem, mapping: Mapping, group: Group) -> None:
        self.problem, self.mapping, self.group = problem, mapping, group
        self.cascade: Cascade = problem.cascade
        self.geometry = problem.cascade.geometry
        self._lines: dict[int, tuple[Line, ...]] = {}
        self._extents: dict[int, tuple[Line, ...]] = {}
        self._ranks: dict[str, Line] = {}
        self.by_rank: dict[str, tuple[Loop, ...]] = dict(mapping.parts)
        self.steps = self.cascade.steps
        self.homes: dict[str, tuple[Node, Hold] | None] = {}
        self.uses: dict[str, list[Use]] = {}
        self.placed = frozenset(leaf.einsum for leaf in leaves(group.tree))
        for found, above in walk(group.tree):
            if isinstance(found, Leaf):
                einsum = self.steps[found.einsum]
                for access in dict.fromkeys(einsum.reads):
                    self.uses.setdefault(access.tensor, []).append(Use(found, above, access, False))
                self.uses.setdefault(einsum.output.tensor, []).append(
                    Use(found, above, einsum.output, True)
                )

    def lines(self, access: Access) -> tuple[Line, ...]:
        """The positions of an access that say which tile it needs, a recurrence's slot included."""
        found = self._lines.get(id(access))
        if found is None:
            geometry = self.geometry[id(access)]
            slot = self.cascade.iterative.get(access.tensor)
            found = self.extents(access)
            found += tuple(self._rank_line(rank) for rank in geometry.ranks if rank == slot)
            self._lines[id(access)] = found
        return found

    def extents(self, access: Access) -> tuple[Line, ...]:
        """The positions of an access that say how large its tile is.

        The slot of a recurrence is not among them: the state is updated in place.
        """
        found = self._extents.get(id(access))
        if found is None:
            found = self._extents[id(access)] = tuple(
                self._rank_line(rank) if at is None else line(at, rank, self.problem, self.by_rank)
                for rank, at in self.geometry[id(access)].positions
            )
        return found

    def _rank_line(self, rank: str) -> Line:
        if rank not in self._ranks:
            self._ranks[rank] = Line(strides(self.by_rank[rank]), plain=True)
        return self._ranks[rank]

    def tile(self, access: Access, sizes: MappingType[str, int]) -> int:
        """Elements of an access's tile in which each part takes ``sizes[part]`` coordinates."""
        words = 1
        for found in self.extents(access):
            words *= found.elements(sizes)
        return words

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


def loops_of(above: tuple[Node, ...]) -> tuple[Loop, ...]:
    """All loops of a path, outermost first."""
    return tuple(loop for node in above for loop in node.loops)


def folds(leaf: Leaf, rows: int, cols: int) -> tuple[Fold, ...]:
    """Rounds in time where a leaf spreads more over an array side than it has PEs.

    Parts take PEs in the order in which they are named; the first that does
    not fit beside those before it goes in rounds, all after it one by one.

    >>> folds(Leaf("X", "u", cols=(Loop("P0", 256),)), 1, 100)
    (Fold(part='P0', trips=3, pes=100),)
    """
    rounds = []
    for spread, side in ((leaf.rows, rows), (leaf.cols, cols)):
        room = side
        for loop in spread:
            pes = min(loop.trips, room)
            if pes < loop.trips:
                rounds.append(Fold(loop.part, -(-loop.trips // pes), pes))
            room = room // loop.trips if loop.trips <= room else 1
    return tuple(rounds)


def leaf_loops(leaf: Leaf, above: tuple[Node, ...], arch: Architecture) -> tuple[Loop | Fold, ...]:
    """All temporal loops that a leaf runs under, its own and its folds included."""
    unit = arch.unit[leaf.unit]
    return (*loops_of(above), *folds(leaf, unit.rows, unit.cols), *leaf.loops)


def leaf_words(nest: Nest, arch: Architecture, use: Use) -> float:
    """Elements that a leaf's PEs touch in one step, on the average over its rounds."""
    unit = arch.unit[use.leaf.unit]
    extent = nest.mapping.extent
    sizes = dict.fromkeys(extent, 1)
    sizes.update((p.part, p.trips) for p in (*use.leaf.rows, *use.leaf.cols))
    ragged = []
    for fold in folds(use.leaf, unit.rows, unit.cols):
        sizes[fold.part] = fold.pes
        if extent[fold.part] % fold.pes:
            ragged.append(fold)

    def average(left: list[Fold]) -> float:
        if not left:
            return nest.tile(use.access, sizes)
        part, trips, pes = left[0]
        sizes[part] = pes
        full = average(left[1:])
        sizes[part] = extent[part] % pes
        return ((trips - 1) * full + average(left[1:])) / trips

    return average(ragged)


def occupancy(nest: Nest, level: str, word_bytes: float) -> Occupancy:
    """Bytes held at a level at the worst moment of the group.

    That is the tiles of a node, those of the child that needs most, and of its
    other children the tiles that they need again when they run again (of three
    children and more all at once, though some may come only when others go).
    """

    def peak(node: Node, above: tuple[Node, ...]) -> Occupancy:
        path = (*above, node)
        children = [child for child in node.children if isinstance(child, Node)]
        staying = [stay(child, path, len(path)) for child in children] if children[1:] else []
        worst = Occupancy()
        for n, child in enumerate(children):
            here = peak(child, path)
            for other in (*staying[:n], *staying[n + 1 :]):
                here += other
            worst = max(worst, here, key=lambda o: o.total_bytes)
        return room(path, node.holds) + worst

    def stay(node: Node, above: tuple[Node, ...], depth: int) -> Occupancy:
        path = (*above, node)
        kept = room(path, tuple(h for h in node.holds if stays(nest, h, path, depth)))
        for child in node.children:
            if isinstance(child, Node):
                kept += stay(child, path, depth)
        return kept

    def room(path: tuple[Node, ...], holds: tuple[Hold, ...]) -> Occupancy:
        rooms: dict[str | int, Occupancy] = {}
        for n, hold in enumerate(holds):
            if hold.level == level:
                size = hold_words(nest, hold, path) * hold.copies * word_bytes
                which = n if hold.staged is not None else hold.shares or hold.tensor
                old = rooms.get(which, Occupancy())
                size, spill = max(old.total_bytes, size), hold.spill or old.spillable_bytes > 0
                rooms[which] = Occupancy(size, size if spill else 0.0)
        return sum(rooms.values(), Occupancy())

    return peak(nest.group.tree, ())


def users_below(nest: Nest, hold: Hold, node: Node) -> list[Use]:
    """Uses of a held tensor below the node that holds it."""
    return [u for u in nest.uses.get(hold.tensor, []) if any(n is node for n in u.above)]


def stays(nest: Nest, hold: Hold, path: tuple[Node, ...], depth: int) -> bool:
    """Whether the last node's tile is needed again after the first ``depth`` nodes went on."""
    if hold.staged is not None:
        return False
    outside = math.prod(loop.trips for loop in loops_of(path[:depth]))
    lines = [x for u in users_below(nest, hold, path[-1]) for x in nest.lines(u.access)]
    around = 1
    for trips, changed, _ in transitions(lines, loops_of(path)):
        if around < outside and not changed:
            return True
        around *= trips
    return False


def hold_words(nest: Nest, hold: Hold, path: tuple[Node, ...]) -> float:
    """Elements of a held tile: the largest that any access below the node needs."""
    if hold.staged is not None:
        return float(math.prod(extent for _, extent in hold.staged))
    sizes = dict(nest.mapping.extent)
    sizes.update((loop.part, 1) for loop in loops_of(path))
    found = [nest.tile(use.access, sizes) for use in users_below(nest, hold, path[-1])]
    if not found:
        raise InputError(
            [Fault(hold.place, f"nothing below this node uses {hold.tensor}, which it holds")]
        )
    return max(found)


class Ledger:
    """Collects transfers of one group.

    Of a tile that does not fit, the spilled share is served by the next level
    outwards.  Its words still pass the level's port, so they count there too.
    """

    def __init__(self, nest: Nest, backing: str, shares: dict[str, float]) -> None:
        self.nest, self.backing, self.shares = nest, backing, shares
        self.transfers: list[Transfer] = []

    def move(
        self, chain: list[tuple[int, Hold]], tensor: str, einsum: str, reads: float, writes: float
    ) -> None:
        """Book words that a reader below the innermost hold of ``chain`` reads and writes."""
        if not reads and not writes:
            return
        hold = chain[-1][1] if chain else None
        level = hold.level if hold else self.backing
        self.transfers.append(Transfer(level, tensor, einsum, reads, writes))
        share = self.share(hold) if hold else 0.0
        if share:
            self.move(chain[:-1], tensor, einsum, share * reads, share * writes)

    def share(self, hold: Hold) -> float:
        """The share of a hold that does not fit."""
        return self.shares.get(hold.level, 0.0) if hold.spill else 0.0


def group_transfers(
    nest: Nest, arch: Architecture, shares: dict[str, float]
) -> tuple[Transfer, ...]:
    """Every transfer of a group; ``shares`` gives the spilled share by level."""
    ledger = Ledger(nest, arch.backing.name, shares)
    for tensor, uses in nest.uses.items():
        for use in uses:
            _count_leaf(nest, ledger, arch, tensor, use)
        _count_holds(nest, ledger, tensor, uses)
    return tuple(ledger.transfers)


def _count_leaf(nest: Nest, ledger: Ledger, arch: Architecture, tensor: str, use: Use) -> None:
    """Book what a leaf's array reads or writes at the innermost hold."""
    words = leaf_words(nest, arch, use)
    chain = nest.chain(tensor, use.above)
    count, different = fetches(nest.lines(use.access), leaf_loops(use.leaf, use.above, arch))
    visits, first = count * words, different * words
    if not use.writes:
        ledger.move(chain, tensor, use.leaf.einsum, visits, 0.0)
        return
    if nest.mapping.partial_sums:
        ledger.move(chain, tensor, use.leaf.einsum, visits - first, visits)
    else:
        ledger.move(chain, tensor, use.leaf.einsum, 0.0, first)


def _count_holds(nest: Nest, ledger: Ledger, tensor: str, uses: list[Use]) -> None:
    """Book fills and drains between each hold of a tensor and the hold outside it."""
    home = nest.home(tensor)
    seen: set[tuple[int, int]] = set()
    for use in uses:
        for position, (depth, hold) in enumerate(chain := nest.chain(tensor, use.above)):
            node = use.above[depth]
            if (home is not None and position == 0) or (id(node), id(hold)) in seen:
                continue
            seen.add((id(node), id(hold)))
            path = use.above[: depth + 1]
            below = users_below(nest, hold, node)
            words = hold_words(nest, hold, path)
            lines = dict.fromkeys(x for u in below for x in nest.lines(u.access))
            count, different = fetches(lines, loops_of(path))
            visits, first = count * words, different * words
            written = any(u.writes for u in below)
            recurrent = tensor in nest.cascade.iterative
            fills = 0.0 if written and not recurrent else visits
            drains = visits if written else 0.0
            if written and not recurrent:
                fills = visits - first if nest.mapping.partial_sums else 0.0
                drains = visits if nest.mapping.partial_sums else first
            kept = 1.0 if nest.mapping.spill_adds else 1.0 - ledger.share(hold)
            outer = chain[:position]
            ledger.move(outer, tensor, "", kept * fills, kept * drains)
            ledger.transfers.append(Transfer(hold.level, tensor, "", kept * drains, kept * fills))
