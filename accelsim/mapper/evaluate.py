"""Words, room and cycles of many mappings of one frame at once, in closed form.

The trips of a frame's parts are arrays that broadcast against one another, so
that one pass over the loops evaluates every mapping of a grid.  The rule is
that of a tile's fetches (Parashar et al., Timeloop, ISPASS 2019, section VI):
a tile is brought anew in every iteration of the loops above it, without the
innermost run of loops that it does not depend on; loops of one trip count for
nothing.  ``models`` prices single mappings by its own, wider rule (windows,
quotients); a test holds the two equal wherever both apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from accelsim.ir.arch import Architecture, Unit
from accelsim.ir.cascade import Cascade
from accelsim.mapper.frame import Frame, Use, ranks_of, uses
from accelsim.mapper.short import Short, Trips

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

#: The backing level, where inputs and outputs live.
BACKING = 0
ONE = np.float64(1.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """How an Einsum runs on a unit: parts over rows and columns, its own loops, outermost first."""

    unit: str
    rows: tuple[str, ...] = ()
    cols: tuple[str, ...] = ()
    loops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Words:
    """Words of a tile, words that all its visits bring, and the different ones among them."""

    tile: Any
    visits: Any
    first: Any


@dataclass(frozen=True, slots=True)
class Keep:
    """A hold: the level's number, counted from the backing level, and the spot."""

    level: int
    spot: int


@dataclass(frozen=True, slots=True)
class Moved:
    """Words read and written at each level, by its number, on behalf of one tensor."""

    reads: tuple[Any, ...]
    writes: tuple[Any, ...]

    def __add__(self, other: Moved) -> Moved:
        """Both together."""
        return Moved(
            tuple(a + b for a, b in zip(self.reads, other.reads, strict=True)),
            tuple(a + b for a, b in zip(self.writes, other.writes, strict=True)),
        )


def rounds(unit: Unit, spread: Spread, trips: Trips) -> list[tuple[str, Any]]:
    """Rounds in time of each part that is spread, rows first; 1 where it finds PEs enough.

    Parts take PEs in the order in which they are named; the first that does
    not fit beside those before it goes in rounds, all after it one by one.
    """
    found: list[tuple[str, Any]] = []
    for parts, side in ((spread.rows, unit.rows), (spread.cols, unit.cols)):
        room: Any = np.float64(side)
        for part in parts:
            n = trips[part]
            found.append((part, np.ceil(n / np.minimum(n, room))))
            room = np.where(n <= room, room // n, 1.0)
    return found


def fetches(loops: Iterable[tuple[bool, Any]]) -> tuple[Any, Any]:
    """How often a tile under these loops is needed anew, and how many different ones there are.

    Each loop is whether the tile depends on it, and its trips; outermost first.

    >>> fetches([(True, np.float64(4)), (False, np.float64(8)), (True, np.float64(1))])
    (np.float64(4.0), np.float64(4.0))
    """
    count: Any = ONE
    different: Any = ONE
    seen: Any = False
    for depends, trips in reversed(list(loops)):
        if depends:
            seen = seen | (trips > 1)
            count, different = count * trips, different * trips
        elif seen is not False:
            count = count * np.where(seen, trips, 1.0)
    return count, different


class Counts:
    """One frame with trips: every method answers for all mappings of the grid at once."""

    def __init__(
        self,
        cascade: Cascade,
        frame: Frame,
        arch: Architecture,
        trips: Trips,
        short: Short | None = None,
    ) -> None:
        self.cascade, self.frame, self.arch, self.trips = cascade, frame, arch, trips
        self.short = short
        self.uses = uses(cascade, frame)
        self.levels = len(arch.levels)
        self.ranks = {e: ranks_of(cascade.steps[e]) for e in frame.einsums}
        self._held: dict[tuple[str, int], Words] = {}
        self._rounds: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[tuple[str, Any]]] = {}
        self._parts = dict(frame.parts)

    def at(self, chosen: Callable[[Any], Any]) -> Counts:
        """The same for some of the mappings, chosen from each array."""
        trips = {part: chosen(n) for part, n in self.trips.items()}
        short = None if self.short is None else self.short.at(chosen)
        return Counts(self.cascade, self.frame, self.arch, trips, short)

    @property
    def full(self) -> Trips:
        """Trips of every part in full tiles."""
        return self.trips if self.short is None else {**self.trips, **self.short.full}

    # -- tiles and fetches -------------------------------------------------------------------

    def product(self, parts: Iterable[str]) -> Any:
        """Trips of some parts multiplied."""
        found: Any = ONE
        for part in parts:
            found = found * self.trips[part]
        return found

    def fewest(self, parts: Iterable[str]) -> Any:
        """Trips of some parts multiplied, in the tile where they are the fewest."""
        found: Any = ONE
        last = {} if self.short is None else self.short.last
        for part in parts:
            found = found * last.get(part, self.trips[part])
        return found

    def tile(self, ranks: Sequence[str], path: Sequence[str]) -> Any:
        """Elements of a full tile over some ranks inside the loops of a path."""
        return self._elements(ranks, path, self.full)

    def mean(self, ranks: Sequence[str], path: Sequence[str]) -> Any:
        """Elements of such a tile on the average over all of its places."""
        return self._elements(ranks, path, self.trips)

    def _elements(self, ranks: Sequence[str], path: Sequence[str], trips: Trips) -> Any:
        found: Any = ONE
        inside = [part for rank in ranks for part in self._parts[rank] if part not in path]
        for parts, size in self.short.sizes.items() if self.short is not None else ():
            if {*parts} <= {*inside}:
                found = found * float(size)  # averages give it up to rounding
                inside = [part for part in inside if part not in parts]
        for part in inside:
            found = found * trips[part]
        return found

    def uses_by_einsum(self, einsum: str) -> tuple[Use, ...]:
        """Accesses of one Einsum, in a fixed order."""
        return tuple(u for found in self.uses.values() for u in found if u.einsum == einsum)

    def below(self, tensor: str, spot: int) -> tuple[Use, ...]:
        """Uses of a tensor inside a spot."""
        spots = self.frame.spots
        return tuple(u for u in self.uses[tensor] if spot in spots[u.spot].chain)

    def held(self, tensor: str, spot: int) -> Words:
        """A tensor's tile held at a spot."""
        known = self._held.get((tensor, spot))
        if known is None:
            path = self.frame.spots[spot].path
            below = self.below(tensor, spot)
            words: Any = ONE
            for tile in dict.fromkeys(u.tile for u in below):
                words = np.maximum(words, self.tile(tile, path))
            mean = words
            if self.short is not None:  # then tiles of a tensor have the same ranks everywhere
                mean = self.mean(below[0].tile, path)
            needs = frozenset[str]().union(*(u.needs for u in below))
            rank = self.frame.rank
            count, different = fetches((rank[p] in needs, self.trips[p]) for p in path)
            known = self._held[tensor, spot] = Words(words, count * mean, different * mean)
        return known

    def stays(self, tensor: str, spot: int, depth: int) -> Any:
        """Whether a tile at a spot is needed again after its first ``depth`` spots went on."""
        frame = self.frame
        needs = frozenset[str]().union(*(u.needs for u in self.below(tensor, spot)))
        outside = {p for n in frame.spots[spot].chain[:depth] for p in frame.spots[n].loops}
        found: Any = np.bool_(False)
        seen: Any = np.bool_(False)
        for part in reversed(frame.spots[spot].path):
            if frame.rank[part] in needs:
                seen = seen | (self.trips[part] > 1)
            elif part in outside:
                found = found | ((self.trips[part] > 1) & ~seen)
        return found

    # -- an Einsum on its unit ---------------------------------------------------------------

    def spreadable(self, einsum: str, spread: Spread) -> Any:
        """Whether an Einsum may be spread so where last tiles are short (``Short.spreads``)."""
        found: Any = np.bool_(True)
        if self.short is None:
            return found
        mine = self.frame.own(einsum, self.ranks[einsum])
        for part in (*spread.rows, *spread.cols):
            own = [p for p in self.short.family(part) if p in mine]
            if len(own) > 1:
                found = found & self.short.spreads(part, own, self.trips)
        return found

    def steps(self, einsum: str, spread: Spread) -> Any:
        """Steps in time that an Einsum takes in all; infinite where it may not be spread so."""
        unit = self.arch.unit[spread.unit]
        path = self.frame.spots[self.frame.at[einsum]].path
        found = self.product((*path, *spread.loops))
        for _, n in self.rounds(unit, spread):
            found = found * n
        return np.where(self.spreadable(einsum, spread), found, np.inf)

    def rounds(self, unit: Unit, spread: Spread) -> list[tuple[str, Any]]:
        """Rounds in time of each part that is spread, rows first; averages over its tiles."""
        key = unit.name, spread.rows, spread.cols
        if key not in self._rounds:
            found = rounds(unit, spread, self.trips)
            sides = [*(unit.rows for _ in spread.rows), *(unit.cols for _ in spread.cols)]
            if self.short is not None:
                found = [
                    (part, self.short.rounds(part, side) if part in self.short.tiles else n)
                    for (part, n), side in zip(found, sides, strict=True)
                ]
            self._rounds[key] = found
        return list(self._rounds[key])

    def leaf(self, use: Use, spread: Spread) -> Words:
        """What an Einsum's PEs touch of a tensor: words of a step, of all steps, different ones."""
        unit = self.arch.unit[spread.unit]
        path = self.frame.spots[use.spot].path
        rank = self.frame.rank
        folds = self.rounds(unit, spread)
        words: Any = ONE
        for part, n in folds:
            if rank[part] in use.tile:
                words = words * (self.trips[part] / n)
        loops = [(rank[p] in use.needs, self.trips[p]) for p in path]
        loops += [(rank[p] in use.needs, n) for p, n in folds]
        loops += [(rank[p] in use.needs, self.trips[p]) for p in spread.loops]
        count, different = fetches(loops)
        return Words(words, count * words, different * words)

    def least(self, use: Use, pes: int) -> Words:
        """Words that an Einsum touches at the least, however it is spread over so many PEs.

        All of its tile each time another tile is needed: the PEs touch every
        element.  A tile of more elements than there are PEs takes several steps;
        the last of them leaves other elements in the PEs than the first needs,
        so that it comes anew in every iteration of the loops around, also of
        those that it does not need.
        """
        held = self.held(use.tensor, use.spot)
        tile = self.tile(use.tile, self.frame.spots[use.spot].path)
        path = self.frame.spots[use.spot].path
        every = (tile if self.short is None else self.mean(use.tile, path)) * self.product(path)
        visits = np.where(tile > pes, every, np.minimum(held.visits, every))
        return Words(tile, visits, np.minimum(held.first, visits))

    # -- holds -------------------------------------------------------------------------------

    def inside(self, tensor: str) -> bool:
        """Whether a tensor is made and used up within the frame."""
        if tensor in self.cascade.outputs or tensor not in self.cascade.writers:
            return False
        return self.cascade.users[tensor] <= set(self.frame.einsums)

    def common(self, tensor: str) -> tuple[int, ...]:
        """Spots that enclose every use, outermost first; of a state, those outside its loop."""
        spots = self.frame.spots
        chains = [spots[u.spot].chain for u in self.uses[tensor]]
        along = self.cascade.iterative.get(tensor)
        found = []
        for column in zip(*chains, strict=False):
            if len(set(column)) > 1:
                break
            if along in map(self.frame.rank.get, spots[column[0]].loops) and along:
                break
            found.append(column[0])
        return tuple(found)

    def chain(self, tensor: str, keeps: Sequence[Keep], spot: int) -> list[Keep]:
        """Holds of a tensor on the way to a spot, from its home inwards."""
        way = self.frame.spots[spot].chain
        found = sorted((k for k in keeps if k.spot in way), key=lambda k: way.index(k.spot))
        home = self.home(tensor, keeps)
        if home is None:
            return found
        return found[found.index(home) :] if home in found else []

    def home(self, tensor: str, keeps: Sequence[Keep]) -> Keep | None:
        """Where an intermediate lives for good; None: the backing level."""
        if not self.inside(tensor):
            return None
        common = self.common(tensor)
        known = [k for k in keeps if k.spot in common]
        return max(known, key=lambda k: (common.index(k.spot), keeps.index(k)), default=None)

    def serves(self, tensor: str, keeps: Sequence[Keep], spot: int) -> int:
        """The level that an Einsum at a spot reads and writes a tensor at."""
        chain = self.chain(tensor, keeps, spot)
        return chain[-1].level if chain else BACKING

    def moves(self, tensor: str, keeps: Sequence[Keep]) -> Moved:
        """Words moved into and out of the holds of a tensor, at every level."""
        reads: list[Any] = [0.0] * self.levels
        writes: list[Any] = [0.0] * self.levels
        home = self.home(tensor, keeps)
        recurrent = tensor in self.cascade.iterative
        for keep in keeps:
            if keep == home:
                continue
            chain = self.chain(tensor, keeps, keep.spot)
            if keep not in chain:
                continue
            at = chain.index(keep)
            outer = chain[at - 1].level if at else BACKING
            tile = self.held(tensor, keep.spot)
            written = any(u.writes for u in self.below(tensor, keep.spot))
            fills: Any = tile.visits
            drains: Any = tile.visits if written else 0.0
            if written and not recurrent:
                fills = tile.visits - tile.first
            reads[outer] = reads[outer] + fills
            writes[outer] = writes[outer] + drains
            reads[keep.level] = reads[keep.level] + drains
            writes[keep.level] = writes[keep.level] + fills
        return Moved(tuple(reads), tuple(writes))

    def touches(self, use: Use, words: Words, level: int) -> Moved:
        """Words that one access of an Einsum moves at the level that serves it."""
        reads: list[Any] = [0.0] * self.levels
        writes: list[Any] = [0.0] * self.levels
        if use.writes:
            reads[level], writes[level] = words.visits - words.first, words.visits
        else:
            reads[level] = words.visits
        return Moved(tuple(reads), tuple(writes))

    # -- room --------------------------------------------------------------------------------

    def there(self, tensor: str, keep: Keep, moment: int) -> Any:
        """Words of a hold in its level while a spot runs; 0 where the tile is gone by then."""
        spots = self.frame.spots
        words = self.held(tensor, keep.spot).tile
        if keep.spot in spots[moment].chain:
            return words
        pairs = zip(spots[keep.spot].chain, spots[moment].chain, strict=False)
        depth = sum(a == b for a, b in pairs)
        return np.where(self.stays(tensor, keep.spot, depth), words, 0.0)


def plain(unit: Unit, work: str) -> tuple[float, float]:
    """Cycles in one PE and joules of one operation of a class, through what it is made of."""
    operation = unit.operation(work)
    if operation is None:
        return math.inf, math.inf
    table = dict(unit.operations)
    cycles = operation.cycles
    if operation.uses:
        cycles = sum(n * table[name].cycles for name, n in operation.uses)
    joules = operation.energy_j + sum(n * table[name].energy_j for name, n in operation.uses)
    return cycles, joules


def cost(unit: Unit, work: Mapping[str, int]) -> tuple[float, float]:
    """Cycles in one PE and joules of one point that needs this work; infinite where it cannot.

    >>> from accelsim.ir.arch import Operation
    >>> cost(Unit("u", 1, 1, (("mac", Operation(2.0, 3.0)),)), {"mac": 2})
    (4.0, 6.0)
    """
    hidden: set[str] = set()
    for name in work:
        operation = unit.operation(name)
        hidden |= set(operation.absorbs) if operation else set()
    cycles = sum(n * plain(unit, name)[0] for name, n in work.items() if name not in hidden)
    joules = sum(n * plain(unit, name)[1] for name, n in work.items())
    return float(cycles), float(joules)
