"""Which turn comes after which, and how many steps later: the orders of a group, turn by turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from accelsim.errors import Place
from accelsim.ir.mapping import Loop
from accelsim.sim.cuts import Cut
from accelsim.sim.listing import Graph, Span, Turn


@dataclass(frozen=True, slots=True)
class Order:
    """``after`` in its step ``i`` comes after ``before`` in step ``i - steps``.

    ``why`` is "data" where it reads a result, "room" where it overwrites what
    ``before`` read, and "inside" where both work in turns finer than a step,
    so that they may not be steps apart.  ``far``: the result leaves for another
    level and comes back from there, or a tile comes into the room, in so many
    cycles.  What is finer than a step is there for one turn of ``loops``, and
    there is room for so many ``copies`` of it, or is the slot of a recurrence
    ``along`` some parts.
    """

    before: str
    after: str
    steps: int
    why: str
    tensor: str
    place: Place = field(default=Place(), compare=False)
    far: int = 0
    loops: tuple[Loop, ...] = ()
    copies: int = 1
    along: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()


class Edge(NamedTuple):
    """``after`` in step ``i`` comes ``way`` cycles after ``before`` in step ``i - steps``.

    Without a way they are in the right order in any iteration that has both.
    """

    before: Turn
    after: Turn
    steps: int
    way: int | None


class Edges:
    """The edges of a group whose Einsums are in some stages and positions, on some units.

    Two that are ``beside`` each other are side by side where they trail alike.
    """

    def __init__(
        self,
        orders: Iterable[Order],
        stage: Mapping[str, int],
        position: Mapping[str, int],
        units: Mapping[str, str],
        beside: Set[frozenset[str]] = frozenset(),
    ) -> None:
        self.orders, self.stage = tuple(orders), stage
        self.position, self.units, self.beside = position, units, beside

    def of(self, lags: Mapping[str, int], cuts: Mapping[str, Cut]) -> list[Edge]:
        """The edges where Einsums trail by ``lags`` and are cut into turns."""
        found = list[Edge]()
        for e in self.stage:
            turns = turns_of(e, cuts)
            found += [Edge((e, n), (e, n + 1), 0, 0) for n in range(turns - 1)]
            found.append(Edge((e, turns - 1), (e, 0), 1, 0))
        for o in self.orders:
            if o.before != o.after:
                found += self._edges(o, lags, cuts)
        return found

    def _edges(self, o: Order, lags: Mapping[str, int], cuts: Mapping[str, Cut]) -> Iterator[Edge]:
        """The edges of one order.

        What two share finer than a step keeps their steps together, unless
        they take turns.
        """
        before, after = o.before, o.after
        behind = pace(o, cuts) if lags[before] == lags[after] else None
        if behind is not None:
            yield from _rounds(o, behind, cuts[before], cuts[after])
            return
        last, first = (before, turns_of(before, cuts) - 1), (after, 0)
        if {before, after} in self.beside and lags[before] == lags[after] and not o.steps:
            if o.why == "inside":
                yield Edge(last, first, 1, o.far)
        elif o.why == "inside":
            yield Edge(last, first, 0, None)
            yield Edge(last, first, 1, o.far)
            one, other = sorted((before, after), key=lambda e: self.position[e])
            if self.units[one] == self.units[other] and self.stage[one] == self.stage[other]:
                yield Edge((one, turns_of(one, cuts) - 1), (other, 0), 0, 0)
        elif self.stage[before] == self.stage[after]:
            yield Edge(last, first, o.steps, o.far)
        else:
            yield Edge(last, first, o.steps - (self.stage[before] > self.stage[after]), None)


def _rounds(o: Order, behind: int, one: Cut, other: Cut) -> Iterator[Edge]:
    """The edges of an order between Einsums that go round loops inside a step together."""
    rounds, each, own = one.rounds, one.each, other.each
    way = -(-o.far // rounds)
    for n in range(other.rounds):
        if not (o.along and other.begins(n, o.along)):
            steps, last = divmod(n - behind, rounds)
            yield Edge((o.before, (last + 1) * each - 1), (o.after, n * own), -steps, way)


def pace(o: Order, cuts: Mapping[str, Cut]) -> int | None:
    """How many rounds the second is behind the first, if both take turns; else None."""
    cut = cuts.get(o.before)
    if cut is None or o.after not in cut.einsums or o.before == o.after:
        return None
    if o.why == "data" and not o.steps:
        return 0
    if o.along and (o.why == "inside" or cut.along(o.along)):
        return cut.between(o.along)
    if o.why == "inside":
        return cut.behind(o.loops, o.parts, o.copies)
    if o.why == "room" and o.loops[: len(cut.loops)] == cut.loops:
        return o.copies
    return None


def turns_of(einsum: str, cuts: Mapping[str, Cut]) -> int:
    """The turns of an Einsum in a step."""
    cut = cuts.get(einsum)
    return cut.turns if cut else 1


def late(
    lags: Mapping[str, int], early: Mapping[str, int], turns: Mapping[str, int]
) -> dict[Turn, int]:
    """By how many iterations each turn trails, where Einsums are so many turns early.

    >>> late({"A": 0, "B": 1}, {"B": 2}, {"A": 1, "B": 3})
    {('A', 0): 0, ('B', 0): 0, ('B', 1): 0, ('B', 2): 1}
    """
    found = {
        (e, n): lag - (early.get(e, 0) + turns[e] - 1 - n) // turns[e]
        for e, lag in lags.items()
        for n in range(turns[e])
    }
    least = min(found.values())
    return {turn: lag - least for turn, lag in found.items()}


def kept(edges: Iterable[Edge], late: Mapping[Turn, int]) -> bool:
    """Whether none of the edges asks for what only a later iteration does."""
    return all(late[e.after] - late[e.before] + e.steps >= 0 for e in edges)


def graph(edges: Iterable[Edge], late: Mapping[Turn, int], einsums: Sequence[str]) -> Graph:
    """For each turn of a stage those before it in an iteration, with the cycles from their end."""
    own = set(einsums)
    found: Graph = {turn: {} for turn in late if turn[0] in own}
    for before, after, steps, way in edges:
        if way is None or before[0] not in own or late[after] - late[before] + steps:
            continue
        found[after][before] = max(way, found[after].get(before, 0))
    return found


def again(edges: Iterable[Edge], late: Mapping[Turn, int], plan: Mapping[Turn, Span]) -> int:
    """The least cycles of an iteration for what turns of iterations before bring or leave."""
    least = 0
    for before, after, steps, way in edges:
        apart = late[after] - late[before] + steps
        if way is not None and apart > 0:
            least = max(least, -((plan[after].begin - plan[before].end - way) // apart))
    return least
