"""Steps cut into turns: Einsums that hand on what is finer than a step.

Einsums of several units, or of one through another level, go round the loops
inside a step that are around all of them together.  With a turn for each
iteration one works on a tile while the other makes the next; as many as there
is room for may be between them.  A buffer whose tiles change with the turns of
all its users comes and goes with them, an equal share of the step's words
each.  A state is handed on to the round of its next slot.

Any Einsum may be cut further into turns of its own.  They hand nothing on, but
another Einsum of its unit that shares a tile may have its turn between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from accelsim.ir.mapping import Loop
from accelsim.sim.execute import rings
from accelsim.sim.nest import Nest
from accelsim.sim.program import TILE, Buffer
from accelsim.sim.tiles import Round

#: A step is not cut into more turns than these: those that share tiles, and others.
MOST_TURNS, MOST_OWN = 256, 16


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """How the steps of an Einsum are cut: a turn for each iteration of some loops inside them.

    It goes round ``loops`` together with other ``einsums``, with which it
    shares what is finer than a step, and round ``own`` inside them by itself:
    loops, and rounds in which it covers more than its unit has PEs.
    """

    einsums: frozenset[str]
    loops: tuple[Loop, ...]
    own: tuple[Round, ...] = ()

    @property
    def rounds(self) -> int:
        """Iterations of the loops that it shares in a step."""
        return math.prod(loop.trips for loop in self.loops)

    @property
    def around(self) -> tuple[Round, ...]:
        """All that it goes round in a step."""
        return (*(Round(loop.part, loop.trips, 1) for loop in self.loops), *self.own)

    @property
    def each(self) -> int:
        """Turns in each of them."""
        return math.prod(r.trips for r in self.own)

    @property
    def turns(self) -> int:
        """Turns in a step."""
        return self.rounds * self.each

    def along(self, parts: frozenset[str]) -> bool:
        """Whether its rounds go along some of the parts."""
        return any(loop.part in parts for loop in self.loops)

    def between(self, along: frozenset[str]) -> int:
        """Rounds from one slot of a recurrence along some parts to the next; 1 within a round."""
        count = 1
        for loop in reversed(self.loops):
            if loop.part in along:
                return count
            count *= loop.trips
        return 1

    def begins(self, rounds: int, along: frozenset[str]) -> bool:
        """Whether a recurrence along some parts begins with a round, or goes on from others.

        >>> cut = Cut(frozenset("ST"), (Loop("F", 2), Loop("M", 3)))
        >>> [n for n in range(6) if cut.begins(n, frozenset("M"))]
        [0, 3]
        """
        if not self.along(along):
            return False
        for loop in reversed(self.loops):
            rounds, i = divmod(rounds, loop.trips)
            if i and loop.part in along:
                return False
        return True

    def behind(self, around: tuple[Loop, ...], parts: frozenset[str], copies: int) -> int:
        """Rounds from the last read of a part of a tile to its overwriting.

        ``around`` are the loops inside a step around a tile over ``parts``,
        for which there is room so many times.  Tiles finer than a round: 1.

        >>> cut = Cut(frozenset("ST"), (Loop("F", 4), Loop("M", 2)))
        >>> [cut.behind(cut.loops[:n], frozenset("FM"), 2) for n in (1, 2)]
        [4, 2]
        """
        if self.loops[: len(around)] != around:
            return 1
        rest, own = self.loops[len(around) :], 1
        for loop in reversed(rest):
            if loop.part not in parts:
                break
            own *= loop.trips
        return (copies - 1) * math.prod(loop.trips for loop in rest) + own


def cuts(
    nest: Nest,
    pairs: Iterable[tuple[str, str]],
    away: Set[frozenset[str]],
    cycles: Callable[[str], int],
) -> dict[str, Cut]:
    """Einsums that may take turns, of those that in pairs share what is finer than a step.

    On one unit they gain by it only where something is ``away`` between two of them:
    it leaves for another level and comes back, while the unit has another turn.
    ``cycles`` are those of an Einsum in a step: each turn takes one at least.
    """
    groups: list[set[str]] = []
    for one, other in pairs:
        if one != other and common(nest, {one, other}):
            met = [g for g in groups if g & {one, other}]
            groups = [g for g in groups if g not in met]
            groups.append({one, other}.union(*met))
    found: dict[str, Cut] = {}
    for group in groups if not nest.short else ():
        works = [nest.work[e] for e in group]
        cut, most = Cut(frozenset(group), ()), min(MOST_TURNS, *map(cycles, group))
        for loop in common(nest, group):
            more = replace(cut, loops=(*cut.loops, loop))
            if more.rounds > most:
                break
            cut = more
        whole = all(w.depth == len(nest.steps) for w in works)
        together = len({nest.stage[e] for e in group}) == 1
        several = len({w.leaf.unit for w in works}) > 1 or any(both <= group for both in away)
        if cut.loops and whole and together and several:
            found |= dict.fromkeys(group, cut)
    return found


def common(nest: Nest, einsums: set[str]) -> tuple[Loop, ...]:
    """The loops inside a step around all of some Einsums."""
    paths = zip(*(nest.work[e].above for e in einsums), strict=False)
    common = tuple(nodes[0] for nodes in paths if all(n is nodes[0] for n in nodes))
    return tuple(r.loop for r in nest.around(common)[1])


def own_cuts(nest: Nest, shared: Mapping[str, Cut], cycles: Callable[[str], int]) -> dict[str, Cut]:
    """Those that share a cut, and all cut into turns of their own inside it.

    Such turns hand nothing on: they only leave room between them for turns of
    others on their unit.
    """
    found, ring = dict(shared), rings(nest.cascade)
    for e, work in nest.work.items():
        if nest.short or work.depth != len(nest.steps) or ring.get(e, ())[1:]:
            continue
        most, inside = min(MOST_OWN, cycles(e)), nest.inside(e)
        cut = shared.get(e, Cut(frozenset({e}), ()))
        own = inside[len(cut.loops) :]
        while own and cut.rounds * math.prod(r.trips for r in own) > most:
            own = own[:-1]
        plain = 0 if cut.loops else next((n for n, r in enumerate(own) if r.stride > 1), len(own))
        if own:
            loops = cut.loops + tuple(r.loop for r in own[:plain])
            found[e] = replace(cut, loops=loops, own=own[plain:])
    return found


def turned(
    nest: Nest,
    buffers: Sequence[Buffer],
    cuts: Mapping[str, Cut],
    lags: Mapping[str, int],
    ticks: int,
) -> tuple[Buffer, ...]:
    """The buffers with turns, and ahead by so many ticks a step."""
    return tuple(_turned(nest, b, buffers, cuts, lags, ticks) for b in buffers)


def _turned(
    nest: Nest,
    buffer: Buffer,
    buffers: Sequence[Buffer],
    cuts: Mapping[str, Cut],
    lags: Mapping[str, int],
    ticks: int,
) -> Buffer:
    """One of the buffers, in turns if its tiles change with those of its users.

    What it waits for is then there turn by turn, too, if its makers take the same turns.
    """
    whole = replace(buffer, ahead=buffer.ahead * ticks)
    cut, own = cuts.get(buffer.users[0]), {lags[e] for e in buffer.users}
    if cut is None or len(own) > 1 or not cut.einsums.issuperset(buffer.users):
        return whole
    if tuple(r.loop for r in buffer.visits.inside)[: len(cut.loops)] != cut.loops:
        return whole
    makers, itself = list[str](), False
    for source in buffer.sources:
        if isinstance(source, int):
            makers += buffers[source].writers
            itself = itself or buffers[source] is buffer
        elif not source.startswith(TILE):
            makers.append(source)
    near = cut.einsums.issuperset(makers) and own.issuperset(lags[e] for e in makers)
    near = near and (buffer.ahead >= 0 or itself)  # else what steps before have made
    ahead = buffer.ahead * (ticks // cut.rounds if near else ticks)
    if near and not ahead and not itself:  # it reads the slot before of a recurrence
        rank = nest.cascade.iterative.get(buffer.tensor, "")
        along = frozenset(p.part for p in nest.parts.get(rank, ()))
        ahead = (1 - cut.between(along)) * (ticks // cut.rounds)
    return replace(buffer, ahead=ahead, turns=cut.rounds, by_step=not near)
