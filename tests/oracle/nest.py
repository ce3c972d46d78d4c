"""A mapping replayed element by element: what the closed forms of ``models.counts`` must equal.

Shares the nouns of ``ir`` with the models and no formula.  The loops run one
by one over coordinates.  A tile is the *set* of elements that the Einsums
below it need at the coordinates where it stands; it is fetched when that set
is another one than before, whole.  So the replay makes the assumptions that
``models.counts`` states and no others:

- each access of an Einsum keeps the elements that its PEs touch in one time
  step latched until a step needs another set (a word that several PEs read is
  read once), whatever else runs in between;
- a tile is fetched whole, also where it overlaps the one before;
- a written tile drains when another one is needed, and comes back when it is
  needed again; the state of a recurrence comes in and goes out at each step;
- a tile that its node needs again when it is entered again stays in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod

from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Access, Einsum, Index, Last, rank_of
from accelsim.ir.mapping import Group, Hold, Leaf, Node
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.problem import Problem

#: Level, tensor, and the Einsum at whose leaf the words moved ("" between holds).
Key = tuple[str, str, str]
Element = tuple[object, ...]
Elements = frozenset[Element]


@dataclass
class Replayed:
    """What one group did."""

    reads: Counter[Key] = field(default_factory=Counter)
    writes: Counter[Key] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    peak_words: dict[str, int] = field(default_factory=dict)


@dataclass
class _Tile:
    """A hold of a tensor at a node, or the latch of a leaf's access: what is there now."""

    tensor: str
    level: str  # where it is kept; "" for a latch
    outer: str  # where it is fetched from and drained to
    einsum: str  # "" for a hold
    accesses: tuple[Access, ...]
    reads: bool
    writes: bool
    now: Elements | None = None
    gone: set[Element] = field(default_factory=set)  # drained before
    parts: tuple[str, ...] = ()  # those that the accesses depend on
    cache: dict[tuple[range | None, ...], Elements] = field(default_factory=dict)


@dataclass
class _Stay:
    """Times (leaf visits, from first to last) for which a hold kept one tile."""

    hold: Hold
    node: Node
    spans: list[tuple[int, int, int]] = field(default_factory=list)  # first, last, words
    last: Elements | None = None


def rounds(spread: tuple[tuple[str, int], ...], side: int) -> list[tuple[str, int, int]]:
    """Part, PEs at once and rounds, for parts spread over a side.

    Parts take PEs in the order in which they are named.  The first that does
    not fit beside those before it goes in rounds; all after it go one by one.
    """
    found, room = [], side
    for part, trips in spread:
        at_once = min(trips, room)
        found.append((part, at_once, -(-trips // at_once)))
        room = room // trips if trips <= room else 1
    return found


class Replay:
    """Replays one group of a mapping."""

    def __init__(
        self, problem: Problem, mapping: BoundMapping, group: Group, arch: Architecture
    ) -> None:
        mapping = mapping.within(group)
        self.problem, self.mapping, self.group, self.arch = problem, mapping, group, arch
        self.cascade = problem.cascade
        self.einsums = {e.name: e for e in self.cascade.einsums}
        self.extent = {p.part: p.trips for _, parts in mapping.parts for p in parts}
        self.parts = {rank: tuple(p.part for p in parts) for rank, parts in mapping.parts}
        self.out = Replayed()
        self.paths = {leaf.einsum: (leaf, above) for leaf, above in self._leaves(group.tree, ())}
        self.tiles: dict[tuple[int, int], _Tile] = {}
        self.stays: dict[tuple[int, int], _Stay] = {}
        self.clock = 0
        self.whole = {part: range(trips) for part, trips in self.extent.items()}
        self.known: dict[int, tuple[list[str], dict[tuple[int, ...], Element | None]]] = {}

    # -- the tree ----------------------------------------------------------------------------

    def _leaves(
        self, node: Node | Leaf, above: tuple[Node, ...]
    ) -> Iterator[tuple[Leaf, tuple[Node, ...]]]:
        if isinstance(node, Leaf):
            yield node, above
        else:
            for child in node.children:
                yield from self._leaves(child, (*above, node))

    def uses(self, tensor: str) -> list[tuple[Leaf, tuple[Node, ...], Access, bool]]:
        """Accesses of a tensor: leaf, nodes above, access, whether it writes."""
        found = []
        for leaf, above in self.paths.values():
            einsum = self.einsums[leaf.einsum]
            found += [(leaf, above, a, False) for a in einsum.reads if a.tensor == tensor]
            if einsum.output.tensor == tensor:
                found.append((leaf, above, einsum.output, True))
        return found

    def home(self, tensor: str) -> tuple[Node, Hold] | None:
        """Where an intermediate of this group lives; None: at the backing level.

        The innermost hold that all uses are below; that of a recurrence's
        state is not inside a loop along the recurrence.
        """
        if tensor in self.cascade.outputs or tensor not in {
            e.output.tensor for e in self.cascade.einsums
        }:
            return None
        for einsum in self.cascade.einsums:
            used = einsum.output.tensor == tensor or any(a.tensor == tensor for a in einsum.reads)
            if used and einsum.reads and einsum.name not in self.paths:
                return None
        uses = self.uses(tensor)
        found = None
        recurs = self.parts.get(self.cascade.iterative.get(tensor, ""), ())
        for depth, node in enumerate(uses[0][1]):
            if any(len(above) <= depth or above[depth] is not node for _, above, _, _ in uses):
                break
            if any(loop.part in recurs for loop in node.loops):
                break
            for hold in node.holds:
                if hold.tensor == tensor and hold.staged is None:
                    found = (node, hold)
        return found

    def holders(self, tensor: str, above: tuple[Node, ...]) -> list[tuple[Node, Hold]]:
        """Holds of a tensor on a path, its home first, then inwards."""
        found = [(n, h) for n in above for h in n.holds if h.tensor == tensor and h.staged is None]
        home = self.home(tensor)
        if home is not None:
            at = [n for n, (_, h) in enumerate(found) if h is home[1]]
            found = found[at[0] :] if at else []
        return found

    # -- elements ----------------------------------------------------------------------------

    def _variables(self, access: Access) -> tuple[str, ...]:
        split = dict(self.cascade.splits)
        return tuple(
            dict.fromkeys(
                part.lower()
                for v in access.variables
                for part in split.get(rank_of(v), (rank_of(v),))
            )
        )

    def _value(self, index: Index, point: Mapping[str, int]) -> int:
        def size(text: int | str) -> int:
            return text if isinstance(text, int) else self.problem.sizes[text]

        split = dict(self.cascade.splits)
        total = index.offset
        for v, factor in index.terms:
            value = 0
            for rank in split.get(rank_of(v), (rank_of(v),)):
                own = 0
                for part in self.parts[rank]:
                    own = own * self.extent[part] + point[part]
                value = value * prod(self.extent[p] for p in self.parts[rank]) + own
            total += size(factor) * value
        return total // size(index.divisor)

    def elements(self, accesses: tuple[Access, ...], at: Mapping[str, range]) -> Elements:
        """Elements that accesses touch where each part takes every value of a range."""
        found = set()
        for access in accesses:
            if id(access) not in self.known:
                ranks = [rank_of(v) for v in self._variables(access)]
                self.known[id(access)] = ([p for rank in ranks for p in self.parts[rank]], {})
            names, known = self.known[id(access)]
            for values in product(*(at.get(p, self.whole[p]) for p in names)):
                if values not in known:
                    known[values] = self._element(access, dict(zip(names, values, strict=True)))
                found.add(known[values])
        return frozenset(e for e in found if e is not None)

    def _element(self, access: Access, point: Mapping[str, int]) -> Element | None:
        """The element at a point; None for one beyond a border, where nothing is read."""
        if self._cut(lambda part: point.get(part, 0)):
            return None
        where: list[object] = []
        ranks = self.cascade.tensors[access.tensor]
        for position, rank in zip(access.indices, ranks, strict=True):
            if isinstance(position, Last):
                where.append("last")
                continue
            value = self._value(position, point)
            size = self.problem.sizes.get(rank)
            recurs = self.cascade.iterative.get(access.tensor) == rank
            if size is not None and not recurs and not 0 <= value < size:
                if position.border != "clamp":
                    return None
                value = min(max(value, 0), size - 1)
            where.append(value)
        return tuple(where)

    def words(self, tensor: str, elements: Elements) -> int:
        """How many words they are: all slots of a recurrence share one."""
        recurrent = self.cascade.iterative.get(tensor)
        ranks = self.cascade.tensors[tensor]
        keep = [n for n, rank in enumerate(ranks) if recurrent is None or rank != recurrent]
        return len({tuple(e[n] for n in keep) for e in elements})

    # -- running -----------------------------------------------------------------------------

    def run(self) -> Replayed:
        """Run the group from beginning to end."""
        self._node(self.group.tree, (), {})
        for tile in self.tiles.values():
            self._drain(tile)
        for level in self.arch.level:
            self.out.peak_words[level] = self._peak(level)
        return self.out

    def _node(self, node: Node, above: tuple[Node, ...], at: dict[str, range]) -> None:
        path = (*above, node)
        for values in product(*(range(loop.trips) for loop in node.loops)):
            inside = dict(at)
            for loop, value in zip(node.loops, values, strict=True):
                inside[loop.part] = range(value, value + 1)
            if self._beyond(inside):
                continue
            begin = self.clock
            needed = [(h, self._hold(node, path, h, inside)) for h in node.holds]
            for child in node.children:
                if isinstance(child, Node):
                    self._node(child, path, inside)
                else:
                    self._leaf(child, path, inside)
            for hold, tile in needed:
                self._stay(node, hold, tile, begin)

    def _beyond(self, at: Mapping[str, range]) -> bool:
        """Whether an iteration begins beyond the end of a rank, whose last tile is short."""
        for rank, parts in self.parts.items():
            begin = 0
            for part in parts:
                begin = begin * self.extent[part] + (at[part].start if part in at else 0)
            if begin >= self.problem.extent(rank):
                return True
        return self._cut(lambda part: at[part].start if part in at else 0)

    def _cut(self, coordinate: Callable[[str], int]) -> bool:
        """Whether a point is beyond the end of a rank that the cascade itself splits."""
        for rank, parts in self.cascade.splits:
            begin = 0
            for own in parts:
                value = 0
                for part in self.parts.get(own, ()):
                    value = value * self.extent[part] + coordinate(part)
                begin = begin * self.problem.extent(own) + value
            if begin >= self.problem.extent(rank):
                return True
        return False

    def _hold(
        self, node: Node, path: tuple[Node, ...], hold: Hold, at: dict[str, range]
    ) -> Elements | None:
        if hold.staged is not None:
            return None
        key = (id(node), id(hold))
        if key not in self.tiles:
            below = [u for u in self.uses(hold.tensor) if any(n is node for n in u[1])]
            chain = self.holders(hold.tensor, path)
            depth = [n for n, (_, h) in enumerate(chain) if h is hold]
            lives = self.home(hold.tensor)
            outer = "" if lives is not None and lives[1] is hold else self.arch.levels[0].name
            if depth and depth[0]:
                outer = chain[depth[0] - 1][1].level
            if not depth:
                outer = ""  # outside the tensor's home: room without traffic
            self.tiles[key] = _Tile(
                hold.tensor,
                hold.level,
                outer,
                "",
                tuple(u[2] for u in below),
                any(not u[3] for u in below),
                any(u[3] for u in below),
            )
        return self._need(self.tiles[key], at)

    def _leaf(self, leaf: Leaf, path: tuple[Node, ...], at: dict[str, range]) -> None:
        einsum = self.einsums[leaf.einsum]
        unit = self.arch.unit[leaf.unit]
        sides = [
            *rounds(tuple((p.part, p.trips) for p in leaf.rows), unit.rows),
            *rounds(tuple((p.part, p.trips) for p in leaf.cols), unit.cols),
        ]
        latches = [
            self._latch(leaf, path, number, access, writes)
            for number, access, writes in self._accesses(einsum)
        ]
        own = [loop.part for loop in leaf.loops]
        for fold in product(*(range(times) for _, _, times in sides)):
            inside = dict(at)
            for (part, pes, _), n in zip(sides, fold, strict=True):
                inside[part] = range(n * pes, min((n + 1) * pes, self.extent[part]))
            if self._beyond(inside):
                continue
            for values in product(*(range(loop.trips) for loop in leaf.loops)):
                for part, value in zip(own, values, strict=True):
                    inside[part] = range(value, value + 1)
                if self._beyond(inside):
                    continue
                self.out.steps[leaf.einsum] += 1
                for latch in latches:
                    self._need(latch, inside)
        self.clock += 1

    def _accesses(self, einsum: Einsum) -> Iterator[tuple[int, Access, bool]]:
        for number, access in enumerate(dict.fromkeys(einsum.reads)):
            yield number, access, False
        yield -1, einsum.output, True

    def _latch(
        self, leaf: Leaf, path: tuple[Node, ...], number: int, access: Access, writes: bool
    ) -> _Tile:
        key = (id(leaf), number)
        if key not in self.tiles:
            chain = self.holders(access.tensor, path)
            outer = chain[-1][1].level if chain else self.arch.levels[0].name
            self.tiles[key] = _Tile(
                access.tensor, "", outer, leaf.einsum, (access,), not writes, writes
            )
        return self.tiles[key]

    def _need(self, tile: _Tile, at: Mapping[str, range]) -> Elements:
        if not tile.parts:
            names = {rank_of(v) for a in tile.accesses for v in self._variables(a)}
            tile.parts = tuple(p for rank in sorted(names) for p in self.parts[rank])
        key = tuple(at.get(p) for p in tile.parts)
        if key not in tile.cache:
            tile.cache[key] = self.elements(tile.accesses, at)
        needed = tile.cache[key]
        if needed != tile.now:
            self._drain(tile)
            self._fill(tile, needed)
        return needed

    def _fill(self, tile: _Tile, needed: Elements) -> None:
        tile.now = needed
        state = tile.tensor in self.cascade.iterative and tile.level
        if tile.writes and not state:
            if not self.mapping.partial_sums:
                return
            needed = frozenset(needed & tile.gone)
        self._move(tile, self.words(tile.tensor, needed), inwards=True)

    def _drain(self, tile: _Tile) -> None:
        if tile.now is None or not tile.writes:
            return
        leaving = tile.now
        state = tile.tensor in self.cascade.iterative and tile.level
        if not self.mapping.partial_sums and not state:
            leaving = frozenset(leaving - tile.gone)
        tile.gone |= tile.now
        self._move(tile, self.words(tile.tensor, leaving), inwards=False)

    def _move(self, tile: _Tile, words: int, *, inwards: bool) -> None:
        if not tile.outer or not words:
            return
        out, into = self.out.reads, self.out.writes
        if not inwards:
            out, into = into, out
        out[tile.outer, tile.tensor, tile.einsum] += words
        if tile.level:
            into[tile.level, tile.tensor, tile.einsum] += words

    # -- room --------------------------------------------------------------------------------

    def _stay(self, node: Node, hold: Hold, tile: Elements | None, begin: int) -> None:
        stay = self.stays.setdefault((id(node), id(hold)), _Stay(hold, node))
        if tile is None:
            words = prod(extent for _, extent in hold.staged or ())
        else:
            words = self.words(hold.tensor, tile)
        if tile is not None and stay.spans and stay.last == tile:
            begin = stay.spans.pop()[0]
        stay.last = tile
        stay.spans.append((begin, self.clock, words * hold.copies))

    def _peak(self, level: str) -> int:
        """Words at a level at the worst moment; tiles that share a room need the largest's."""
        rooms: dict[tuple[object, ...], list[int]] = {}
        for (node, hold_id), stay in self.stays.items():
            if stay.hold.level != level:
                continue
            room: tuple[object, ...] = (node, stay.hold.shares or stay.hold.tensor)
            if stay.hold.staged is not None:
                room = (node, hold_id)
            row = rooms.setdefault(room, [0] * self.clock)
            for first, last, words in stay.spans:
                for time in range(first, last):
                    row[time] = max(row[time], words)
        return max((sum(row[t] for row in rooms.values()) for t in range(self.clock)), default=0)


def replay(problem: Problem, mapping: BoundMapping, group: Group, arch: Architecture) -> Replayed:
    """Replay one group; for sizes of a few thousand points."""
    return Replay(problem, mapping, group, arch).run()
