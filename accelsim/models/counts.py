"""Words moved between levels by a mapping, in closed form from the loop nest.

The rule is the classical one (Parashar et al., Timeloop, ISPASS 2019, section
VI; Yang et al., nn_dataflow): a tile is fetched anew each time a loop that
its tensor depends on advances, so the number of fetches is the product of
the trips of all loops above the tile, without the innermost run of loops
that the tensor does not depend on.  Loops of one trip change nothing and are
dropped first.

Assumptions that could be wrong for a machine: every Einsum keeps its last
operand tile latched until it needs another one; a fetch brings the whole
tile, even where windows overlap; a word that a whole row or column of an
array reads is read once (multicast).  ``tests/oracle/nest.py`` replays the
nest element by element under the same three assumptions and must give the
same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Mapping as MappingType
from dataclasses import dataclass

from accelsim.errors import Fault, InputError
from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Access, Cascade, Index, rank_of
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, Tree, leaves, walk
from accelsim.ir.problem import Problem


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

    def share(self, capacity_bytes: float) -> float:
        """The share of spillable tiles that does not fit; negative room counts as none.

        >>> Occupancy(100.0, 50.0).share(75.0)
        0.5
        """
        if self.total_bytes <= capacity_bytes or not self.spillable_bytes:
            return 0.0
        room = max(0.0, capacity_bytes - (self.total_bytes - self.spillable_bytes))
        return 1.0 - min(1.0, room / self.spillable_bytes)


def refetches(loops: Iterable[Loop], relevant: frozenset[str]) -> int:
    """How often a tile under these loops (outermost first) is fetched.

    >>> nest = [Loop("P", 4), Loop("M", 8), Loop("F", 2)]
    >>> refetches(nest, frozenset({"P"})), refetches(nest, frozenset({"M"}))
    (4, 32)
    """
    count, pending = 1, 1
    for loop in loops:
        pending *= loop.trips
        if loop.trips > 1 and loop.part in relevant:
            count, pending = count * pending, 1
    return count


def distinct(loops: Iterable[Loop], relevant: frozenset[str]) -> int:
    """How many different tiles there are under these loops.

    >>> distinct([Loop("P", 4), Loop("M", 8)], frozenset({"M"}))
    8
    """
    return math.prod(loop.trips for loop in loops if loop.part in relevant)


class Nest:
    """A group of a mapping, with what the counts need looked up once.

    Holds no results: every method is a question about the group.
    """

    def __init__(self, problem: Problem, mapping: Mapping, group: Group) -> None:
        self.problem, self.mapping, self.group = problem, mapping, group
        self.cascade: Cascade = problem.cascade
        self.geometry = problem.cascade.geometry
        self.by_rank: dict[str, tuple[Loop, ...]] = dict(mapping.parts)
        self.steps = self.cascade.steps
        self.homes: dict[str, tuple[Node, Hold] | None] = {}
        self.uses: dict[str, list[Use]] = {}
        self.placed = frozenset(leaf.einsum for leaf in leaves(group.tree))
        for found, above in walk(group.tree):
            if isinstance(found, Leaf):
                einsum = self.steps[found.einsum]
                for access in einsum.reads:
                    self.uses.setdefault(access.tensor, []).append(Use(found, above, access, False))
                self.uses.setdefault(einsum.output.tensor, []).append(
                    Use(found, above, einsum.output, True)
                )

    def relevant(self, access: Access) -> frozenset[str]:
        """Parts that the access depends on."""
        ranks = self.geometry[id(access)].ranks
        return frozenset(p.part for rank in ranks for p in self.by_rank[rank])

    def tile(self, access: Access, bound: MappingType[str, int]) -> float:
        """Elements of an access's tile, where ``bound`` gives parts that are not at full extent.

        The slot of a recurrence counts once: the state is updated in place.
        """
        words = 1.0
        for rank, index in self.geometry[id(access)].positions:
            if index is None:
                for part in self.by_rank[rank]:
                    words *= bound.get(part.part, part.trips)
            else:
                words *= self._extent(index, rank, bound)
        return words

    def _extent(self, index: Index, rank: str, bound: MappingType[str, int]) -> float:
        span = 1.0
        for variable, factor in index.terms:
            size = math.prod(bound.get(p.part, p.trips) for p in self.by_rank[rank_of(variable)])
            span += abs(self._number(factor)) * (size - 1)
        divisor = self._number(index.divisor)
        span = span if divisor == 1 else math.ceil(span / divisor)
        return min(span, self.problem.extent(rank))

    def _number(self, value: int | str) -> int:
        return value if isinstance(value, int) else self.problem.extent(value)

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


def folds(leaf: Leaf, rows: int, cols: int) -> tuple[Loop, ...]:
    """Rounds in time where a leaf spreads more over an array side than it has PEs.

    >>> folds(Leaf("X", "u", cols=(Loop("P0", 256),)), 1, 100)
    (Loop(part='P0', trips=3),)
    """
    rounds = []
    for spread, side in ((leaf.rows, rows), (leaf.cols, cols)):
        wide = math.prod(p.trips for p in spread)
        if wide > side:
            rounds.append(Loop(spread[-1].part, -(-wide // side)))
    return tuple(rounds)


def leaf_loops(leaf: Leaf, above: tuple[Node, ...], arch: Architecture) -> tuple[Loop, ...]:
    """All temporal loops that a leaf runs under, its own and its folds included."""
    unit = arch.unit[leaf.unit]
    return (*loops_of(above), *folds(leaf, unit.rows, unit.cols), *leaf.loops)


def occupancy(nest: Nest, level: str, word_bytes: float) -> Occupancy:
    """Bytes held at a level at the worst moment of the group: own tiles plus the worst child's."""

    def visit(tree: Tree, above: tuple[Node, ...]) -> Occupancy:
        if isinstance(tree, Leaf):
            return Occupancy()
        path = (*above, tree)
        total = spillable = 0.0
        rooms: dict[str, tuple[float, bool]] = {}
        for hold in tree.holds:
            if hold.level != level:
                continue
            size = hold_words(nest, hold, path) * hold.copies * word_bytes
            room = hold.shares or hold.tensor
            while hold.staged is not None and room in rooms:
                room += "'"
            old = rooms.get(room, (0.0, hold.spill))
            rooms[room] = (max(old[0], size), old[1] or hold.spill)
        for size, spill in rooms.values():
            total += size
            spillable += size if spill else 0.0
        below = [visit(child, path) for child in tree.children]
        worst = max(below, key=lambda o: o.total_bytes, default=Occupancy())
        return Occupancy(total + worst.total_bytes, spillable + worst.spillable_bytes)

    return visit(nest.group.tree, ())


def hold_words(nest: Nest, hold: Hold, path: tuple[Node, ...]) -> float:
    """Elements of a held tile: the largest that any access below the node needs."""
    if hold.staged is not None:
        return float(math.prod(extent for _, extent in hold.staged))
    bound = {loop.part: 1 for loop in loops_of(path)}
    node = path[-1]
    sizes = [
        nest.tile(use.access, bound)
        for use in nest.uses.get(hold.tensor, [])
        if any(n is node for n in use.above)
    ]
    if not sizes:
        raise InputError(
            [Fault(hold.place, f"nothing below this node uses {hold.tensor}, which it holds")]
        )
    return max(sizes)


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
    relevant = nest.relevant(use.access)
    loops = leaf_loops(use.leaf, use.above, arch)
    spread = {p.part: p.trips for p in (*use.leaf.rows, *use.leaf.cols)}
    unit = arch.unit[use.leaf.unit]
    for fold in folds(use.leaf, unit.rows, unit.cols):
        spread[fold.part] /= fold.trips  # type: ignore[assignment]
    bound = {part: spread.get(part, 1) for part in nest.mapping.extent}
    words = nest.tile(use.access, bound)
    chain = nest.chain(tensor, use.above)
    visits = refetches(loops, relevant) * words
    if not use.writes:
        ledger.move(chain, tensor, use.leaf.einsum, visits, 0.0)
        return
    first = distinct(loops, relevant) * words
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
            below = [u for u in uses if any(n is node for n in u.above)]
            loops = loops_of(use.above[: depth + 1])
            bound = {loop.part: 1 for loop in loops}
            words = max(nest.tile(u.access, bound) for u in below)
            relevant = frozenset().union(*(nest.relevant(u.access) for u in below))
            visits = refetches(loops, relevant) * words
            first = distinct(loops, relevant) * words
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
