"""Frames: the loop structure of a fused group, before trips, tiles, units and holds are chosen.

A frame is a tree of *spots*.  Each spot runs one loop (the root: the loops
over batch ranks) around other spots and Einsums.  It follows from a sequence
of ranks, such as ``P M1 P``: Einsums that may share the next loop do so in
runs, in text order, and an Einsum that has not the rank, or whose operand a
loop-mate has not completed yet, stands outside.  So the sequence ``P M`` makes
of three-pass attention one loop over P around three loops over M, a pass each.

A rank that every tensor of every Einsum depends on is a *batch* rank: its loops
bring a new tile of everything, so moving them outwards adds no transfer and
takes no room, and they stand outermost in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from accelsim.ir.cascade import Access, Cascade, Einsum, Last, Position, rank_of

#: Loops that a frame has at most, batch loops aside.
MOST_LOOPS = 4


@dataclass(frozen=True, slots=True)
class Use:
    """One access of an Einsum: at which spot, the ranks that it needs and those of its tile."""

    einsum: str
    tensor: str
    spot: int
    needs: frozenset[str]
    tile: tuple[str, ...]
    writes: bool


@dataclass(frozen=True, slots=True)
class Spot:
    """Loops over parts of ranks; ``path`` are all loops down to here, ``chain`` the spots."""

    loops: tuple[str, ...]
    path: tuple[str, ...]
    chain: tuple[int, ...]


@dataclass(frozen=True)
class Frame:
    """A tree of spots with Einsums, and the parts that its loops cut each rank into.

    ``children`` lists what stands in each spot, in order: numbers of spots and
    names of Einsums.
    """

    name: str
    einsums: tuple[str, ...]
    spots: tuple[Spot, ...]
    children: tuple[tuple[int | str, ...], ...]
    parts: tuple[tuple[str, tuple[str, ...]], ...]

    @cached_property
    def at(self) -> dict[str, int]:
        """The spot of each Einsum."""
        return {c: n for n, cs in enumerate(self.children) for c in cs if isinstance(c, str)}

    @cached_property
    def rank(self) -> dict[str, str]:
        """The rank of each part."""
        return {part: rank for rank, parts in self.parts for part in parts}

    @cached_property
    def moments(self) -> tuple[int, ...]:
        """Spots without a spot inside: where most is held at once is one of them."""
        return tuple(
            n for n, cs in enumerate(self.children) if not any(isinstance(c, int) for c in cs)
        )

    @cached_property
    def idle(self) -> tuple[str, ...]:
        """Parts whose loops, where they have one trip, leave a shorter sequence's frame.

        Those of which every spot is all that its parent has inside.  A frame grows
        the same runs of Einsums inside then without that loop, and a tile held at
        such a spot is the same tile held by the parent.  Where two loops over one
        rank come to stand one in the other, see *raised* and *lowered* in ``holds``:
        a tile between them is never better than one above or below both.
        """
        parents = {
            p: [n for n, cs in enumerate(self.children) if self._loops_over(cs, p)]
            for s in self.spots[1:]
            for p in s.loops
        }
        depth = {p: len(s.chain) - 1 for s in self.spots[1:] for p in s.loops}
        alone = {n for n, cs in enumerate(self.children) if len(cs) == 1}
        return tuple(
            p
            for p, found in parents.items()
            if set(found) == {n for n, s in enumerate(self.spots) if len(s.chain) == depth[p]}
            and set(found) <= alone
        )

    def _loops_over(self, children: tuple[int | str, ...], part: str) -> bool:
        return any(isinstance(c, int) and part in self.spots[c].loops for c in children)

    def own(self, einsum: str, ranks: Iterable[str]) -> tuple[str, ...]:
        """Parts of an Einsum's ranks that no loop around it runs over, rank by rank."""
        path = self.spots[self.at[einsum]].path
        parts = dict(self.parts)
        return tuple(p for rank in ranks for p in parts[rank] if p not in path)


def ranks_of(einsum: Einsum) -> tuple[str, ...]:
    """Ranks that an Einsum iterates over, those of its output first.

    >>> from accelsim.load.cascade import load_cascade
    >>> ranks_of(load_cascade("matmul").steps["C"])
    ('M', 'N', 'K')
    """
    return tuple(dict.fromkeys(rank_of(v) for v in einsum.variables))


def needs(access: Access) -> frozenset[str]:
    """Ranks whose loops bring another tile of an access."""
    return frozenset(rank_of(v) for v in access.variables)


def batch_ranks(cascade: Cascade, einsums: Sequence[str]) -> tuple[str, ...]:
    """Ranks that every access of every one of the Einsums depends on, in declared order.

    >>> from accelsim.load.cascade import load_cascade
    >>> batch_ranks(load_cascade("attention-3pass"), ("QK", "GM"))
    ('B', 'H')
    """
    found: list[str] | None = None
    for name in einsums:
        step = cascade.steps[name]
        for access in (*step.reads, step.output):
            have = needs(access)
            if any(not isinstance(i, Last) and i.plain is None for i in access.indices):
                have -= {rank_of(v) for i in access.indices if _bent(i) for v in i.variables}
            ranks = ranks_of(step) if found is None else found
            found = [r for r in ranks if r in have]
    order = {r: n for n, r in enumerate(cascade.whole)}
    return tuple(sorted(found or (), key=lambda r: order.get(r, 0)))


def _bent(index: Position) -> bool:
    """Whether an index is more than a variable or the next slot of a recurrence."""
    if isinstance(index, Access):
        return True
    if isinstance(index, Last) or not index.terms:
        return False
    slot = len(index.terms) == 1 and index.terms[0][1] == 1 and index.divisor == 1
    return not (slot and not index.border and not index.sizes)


def bent(cascade: Cascade, einsum: str) -> tuple[Access, ...]:
    """Accesses of an Einsum through windows, strides or quotients, which frames do not cover."""
    step = cascade.steps[einsum]
    return tuple(a for a in (*step.reads, step.output) if any(_bent(i) for i in a.indices))


def loop_ranks(cascade: Cascade, einsums: Sequence[str]) -> dict[str, int]:
    """Ranks that loops of a frame may run over, with how often each may be cut.

    Ranks that at least half of the Einsums have, and more than one of several,
    batch ranks and inner parts of a cascade's own split aside: those stay with
    the Einsums.  A rank that the cascade itself splits is cut there already.

    >>> from accelsim.load.cascade import load_cascade
    >>> loop_ranks(load_cascade("attention-3pass"), ("QK", "GM", "SN"))
    {'M': 2, 'P': 2}
    """
    batch = batch_ranks(cascade, einsums)
    inner = {part for _, parts in cascade.splits for part in parts[1:]}
    outer = {parts[0] for _, parts in cascade.splits}
    count: dict[str, int] = {}
    for name in einsums:
        for rank in ranks_of(cascade.steps[name]):
            count[rank] = count.get(rank, 0) + 1
    least = max(min(2, len(einsums)), len(einsums) / 2)
    shared = [r for r, n in count.items() if n >= least]
    steps = set(cascade.iterative.values()) | outer
    return {r: 1 if r in steps else 2 for r in shared if r not in batch and r not in inner}


def sequences(ranks: dict[str, int], most: int = MOST_LOOPS) -> Iterator[tuple[str, ...]]:
    """Sequences of ranks, each at most as often as given, no two alike beside each other.

    >>> [" ".join(s) for s in sequences({"P": 2, "M": 1})]
    ['', 'P', 'M', 'P M', 'M P', 'P M P']
    """
    layer: list[tuple[str, ...]] = [()]
    for _ in range(most + 1):
        yield from layer
        layer = [
            (*s, r)
            for s in layer
            for r, times in ranks.items()
            if (not s or s[-1] != r) and s.count(r) < times
        ]


def _complete(cascade: Cascade, run: Sequence[str], name: str, rank: str) -> bool:
    """Whether an Einsum may join a run of Einsums inside a loop over ``rank``.

    Not if it reads what one of them only completes over the whole loop, the
    last slot of a recurrence along it, or elements of other iterations.
    """
    for access in cascade.steps[name].reads:
        for other in run:
            step = cascade.steps[other]
            if step.output.tensor != access.tensor:
                continue
            if rank in {rank_of(v) for v in step.reduced}:
                return False
            if any(isinstance(i, Last) and i.rank == rank for i in access.indices):
                return False
    return True


class _Builder:
    """Builds the frame of one sequence of ranks."""

    def __init__(self, cascade: Cascade, einsums: Sequence[str], order: Sequence[str]) -> None:
        self.cascade, self.order = cascade, tuple(order)
        self.ranks = {e: set(ranks_of(cascade.steps[e])) for e in einsums}
        self.parts = self._parts(einsums)
        self.spots: list[Spot] = []
        self.children: list[tuple[int | str, ...]] = []

    def _parts(self, einsums: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Parts of every rank: one for each loop, and one that stays with the Einsums."""
        taken = {p for parts in self.cascade.parts.values() for p in parts}
        taken |= set(self.cascade.ranks)
        inner = set(self.cascade.iterative.values()) | {p[0] for _, p in self.cascade.splits}
        batch = set(batch_ranks(self.cascade, einsums))
        found: dict[str, tuple[str, ...]] = {}
        for rank in dict.fromkeys(r for e in einsums for r in ranks_of(self.cascade.steps[e])):
            cuts = self.order.count(rank)
            if rank in batch or not cuts or (rank in inner and cuts == 1):
                found[rank] = (rank,)
                continue
            names = [f"{rank}{n}" for n in range(cuts, -1, -1)]
            if any(n in taken for n in names):
                names = [f"{rank}_{n}" for n in range(cuts, -1, -1)]
            found[rank] = tuple(names)
        return found

    def part(self, depth: int) -> str:
        """The part that the loop at a depth of the sequence runs over."""
        rank = self.order[depth]
        return self.parts[rank][self.order[:depth].count(rank)]

    def grow(self, run: Sequence[str], loops: tuple[str, ...], above: int, depth: int) -> int:
        """Add a spot for a run of Einsums, and what is inside it; returns its number."""
        number = len(self.spots)
        path = self.spots[above].path if above >= 0 else ()
        chain = self.spots[above].chain if above >= 0 else ()
        self.spots.append(Spot(loops, (*path, *loops), (*chain, number)))
        self.children.append(())
        inside: list[int | str] = list(run)
        if depth < len(self.order):
            rank, inside = self.order[depth], []
            left = list(run)
            while left:
                here: list[str] = []
                while left and rank in self.ranks[left[0]]:
                    if not _complete(self.cascade, here, left[0], rank):
                        break
                    here.append(left.pop(0))
                if here:
                    inside.append(self.grow(here, (self.part(depth),), number, depth + 1))
                else:
                    inside.append(left.pop(0))
        self.children[number] = tuple(inside)
        return number


def frame(cascade: Cascade, einsums: Sequence[str], order: Sequence[str]) -> Frame:
    """The frame of a group of Einsums for one sequence of ranks.

    >>> from accelsim.load.cascade import load_cascade
    >>> c = load_cascade("attention-3pass")
    >>> print(tree(frame(c, tuple(c.steps), ("P", "M"))))
    B H: (P1: (M1: QK GM) (M1: SN SD) (M1: A AV))
    """
    builder = _Builder(cascade, einsums, order)
    builder.grow(tuple(einsums), batch_ranks(cascade, einsums), -1, 0)
    return Frame(
        " ".join(order) or "-",
        tuple(einsums),
        tuple(builder.spots),
        tuple(builder.children),
        tuple(builder.parts.items()),
    )


def tree(found: Frame, spot: int = 0) -> str:
    """The frame on one line: loops, a colon, and what is inside, spots in brackets."""
    inside = [c if isinstance(c, str) else f"({tree(found, c)})" for c in found.children[spot]]
    return f"{' '.join(found.spots[spot].loops) or '-'}: {' '.join(inside)}"


def frames(cascade: Cascade, einsums: Sequence[str], most: int = MOST_LOOPS) -> tuple[Frame, ...]:
    """Every frame of a group, of at most so many loops beside batch loops.

    Frames in which a state of a recurrence is read outside the loop along it
    are left out: it is updated in place, and only its last slot stays.

    >>> from accelsim.load.cascade import load_cascade
    >>> c = load_cascade("attention-1pass")
    >>> names = tuple(e.name for e in c.einsums if e.reads)
    >>> [f.name for f in frames(c, names)]
    ['M1', 'M1 P', 'P M1', 'P M1 P']
    """
    found = []
    for order in sequences(loop_ranks(cascade, einsums), most):
        one = frame(cascade, einsums, order)
        if _in_place(cascade, one) and _used(one, order):
            found.append(one)
    return tuple(found)


def _used(found: Frame, order: Sequence[str]) -> bool:
    """Whether every loop of the sequence stands somewhere in the frame."""
    loops = {p for s in found.spots for p in s.loops}
    return all(sum(found.rank[p] == r for p in loops) >= order.count(r) for r in order)


def _in_place(cascade: Cascade, found: Frame) -> bool:
    """Whether all that reads or writes slots of a state shares the loop along its recurrence."""
    for tensor, along in cascade.iterative.items():
        spots = set()
        for name in found.einsums:
            step = cascade.steps[name]
            for access in (*step.reads, step.output):
                last = any(isinstance(i, Last) for i in access.indices)
                if access.tensor == tensor and not last:
                    chain = found.spots[found.at[name]].chain
                    loops = [n for n in chain if along in map(found.rank.get, found.spots[n].loops)]
                    spots.add(loops[-1] if loops else -1)
        if len(spots) > 1 or -1 in spots:
            return False
    return True


def uses(cascade: Cascade, found: Frame) -> dict[str, tuple[Use, ...]]:
    """Accesses of every tensor in a frame, Einsum by Einsum in text order, reads first."""
    gathered: dict[str, list[Use]] = {}
    for name in found.einsums:
        step = cascade.steps[name]
        for access in (*dict.fromkeys(step.reads), step.output):
            geometry = cascade.geometry[id(access)]
            tile = tuple(rank for rank, _ in geometry.positions)
            one = Use(
                name,
                access.tensor,
                found.at[name],
                frozenset(geometry.ranks),
                tile,
                access is step.output,
            )
            gathered.setdefault(access.tensor, []).append(one)
    return {tensor: tuple(found) for tensor, found in gathered.items()}
