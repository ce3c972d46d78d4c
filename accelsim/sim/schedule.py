"""Software pipelining: by how many steps each Einsum of a steady state trails the first.

In each iteration of the steady state the stages follow one another, units run
at once within a stage, and the Einsum ``e`` does step ``iteration - lag(e)``.
What must come before what gives lags their lower bounds: an Einsum runs after
those whose results it reads and after those that still need the room it
overwrites.  The least lags that keep all of these are longest paths (a system
of difference constraints: Cormen et al., Introduction to Algorithms, 24.4).

Where producer and consumer share a stage on two units the consumer may trail
by a step, so that both units work at once, or wait within the stage.  What
goes out to another level and comes back may take some steps on its way.  A
consumer trails wherever the room for further steps is there and an iteration
does not take longer for it, as it would where others wait for that room.

Of ports they know how long words and tiles take to pass them alone.  Where a
run stalls, other lags are tried, first those whose iterations are the shortest
with all tiles there, and what runs fastest is kept (``sim.search``).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from accelsim.errors import Fault, InputError, Place
from accelsim.ir.mapping import Group, Loop, Stage
from accelsim.sim.cuts import Behind, Cut
from accelsim.sim.listing import Graph, Turn, begins, listed, numbered
from accelsim.sim.program import share


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


#: For each stage its units, each with its Einsums in order.
Turns: TypeAlias = tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]
#: By how many rounds the second of two Einsums is behind the first, at least: see ``Cut.waits``.
Paces: TypeAlias = dict[tuple[str, str], Behind]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Lags by Einsum; for each stage and unit the Einsums in order; waits within a stage.

    An Einsum that stands there several times has as many turns, and the second
    of a pair in ``paces`` is that many turns behind the first.  ``takes``:
    cycles of an iteration whose tiles are there, of which the busiest units of
    its stages are ``busy``; ``begins``: when each turn begins in it.
    """

    lags: dict[str, int]
    order: Turns
    waits: dict[str, tuple[str, ...]]
    paces: Paces = field(default_factory=dict)
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    takes: int = 0
    busy: int = 0
    begins: Mapping[Turn, int] = field(default_factory=dict)

    @property
    def turns(self) -> int:
        """Turns in an iteration."""
        return sum(len(einsums) for stage in self.order for _, einsums in stage)

    @property
    def key(self) -> Hashable:
        """What tells it from others of its group: waits follow from lags."""
        return tuple(self.lags.items()), self.order


#: Steps that a result may take on its way out to another level and back.
FAR = (1, 2, 3)
#: By how many steps the second of two Einsums trails the first, at least.
Trailing: TypeAlias = dict[tuple[str, str], int]


class Choice(NamedTuple):
    """What a schedule follows from, besides its orders: who trails whom, whose turn is when.

    Those that trail most go first; with ``listed`` a unit that is free takes
    what can start first (``sim.listing``), of that some Einsums ``first``.
    With ``cut`` Einsums that work in turns finer than a step take turns.
    """

    trailing: Trailing
    listed: bool = False
    cut: int = 0
    first: frozenset[str] = frozenset()


class Solver:
    """Finds the lags of one group; ``cycles`` are those of each Einsum in a step.

    ``cuts`` says which Einsums may work in turns with others within a step.
    """

    def __init__(
        self,
        group: Group,
        units: dict[str, str],
        orders: Iterable[Order],
        cycles: Mapping[str, int],
        cuts: Sequence[Mapping[str, Cut]] = (),
    ) -> None:
        self.group, self.units, self.cycles = group, units, cycles
        self.orders = tuple(dict.fromkeys(orders))
        self.stage = {e: n for n, s in enumerate(group.stages) for e in s.einsums}
        self.position = {e: n for s in group.stages for n, e in enumerate(s.einsums)}
        self.cuts = ({}, *cuts)
        self.paces = [self._paces(found) for found in self.cuts]
        self._known: dict[Hashable, Schedule | None] = {}
        self.choice = Choice({})

    def solve(self, trail: bool = True) -> Schedule:
        """The schedule with as many consumers a step behind as there is room for.

        ``trail=False``: none but those that the order of stages asks for.
        Raises InputError if no lags keep all orders.
        """
        trailing: Trailing = {}
        found = self._schedule(trailing)
        if found is None:
            raise InputError(self._faults())
        pairs = [o for o in self.orders if trail and o.why == "data" and not o.steps]
        for o in filter(self._abreast, pairs):
            better = self._schedule(trailing | {(o.before, o.after): 1})
            if better is not None:
                found, trailing = better, trailing | {(o.before, o.after): 1}
        for pair in tuple(trailing):  # where others wait for the room that it takes
            less = {other: steps for other, steps in trailing.items() if other != pair}
            better = self._schedule(less)
            if better is not None and better.takes < found.takes:
                found, trailing = better, less
        for steps in FAR:
            for o in (o for o in pairs if o.far):
                more = trailing | {(o.before, o.after): steps}
                better = self._schedule(more)
                if better is not None and better.takes <= found.takes:
                    found, trailing = better, more
        self.choice = Choice(trailing)
        return found

    def _paces(self, cuts: Mapping[str, Cut]) -> Paces:
        """Who is how many turns behind whom, of those that take turns within a step."""
        found: Paces = {}
        for o in self.orders:
            cut = cuts.get(o.before)
            if cut is None or o.after not in cut.einsums or o.before == o.after:
                continue
            if o.why == "data" and not o.steps:
                behind = 0
            elif o.along and (o.why == "inside" or cut.along(o.along)):
                behind = cut.between(o.along)
            elif o.why == "inside":
                behind = cut.behind(o.loops, o.parts, o.copies)
            elif o.why == "room" and o.loops[: len(cut.loops)] == cut.loops:
                behind = o.copies
            else:
                continue
            known = found.setdefault((o.before, o.after), {})
            known[o.along] = min(behind, known.get(o.along, behind))
        return found

    def _abreast(self, o: Order) -> bool:
        """Whether both run in one stage on different units."""
        same = self.stage[o.before] == self.stage[o.after]
        return same and self.units[o.before] != self.units[o.after]

    def _least(self, o: Order, trailing: Trailing) -> int:
        """The least difference of lags that keeps an order."""
        if o.why == "inside":
            return 0
        if self.stage[o.before] > self.stage[o.after]:
            least = 1 - o.steps
        elif o.steps or self.stage[o.before] < self.stage[o.after] or self._abreast(o):
            least = -o.steps
        else:
            least = int(self.position[o.before] > self.position[o.after])
        if o.why == "data" and not o.steps:
            return max(least, trailing.get((o.before, o.after), 0))
        return least

    def _lags(self, trailing: Trailing, orders: Sequence[Order]) -> dict[str, int] | None:
        """The least lags; None if there are none."""
        lags = dict.fromkeys(self.stage, 0)
        for _ in range(len(lags) + 1):
            settled = True
            for o in orders:
                least = lags[o.before] + self._least(o, trailing)
                if least > lags[o.after]:
                    lags[o.after], settled = least, False
            if settled:
                return lags
        return None

    def _schedule(self, trailing: Trailing) -> Schedule | None:
        return self.chosen(Choice(trailing))

    def chosen(self, choice: Choice) -> Schedule | None:
        """The schedule of a choice; None if there is none.  All but the lags follows from them."""
        lags = self._lags(choice.trailing, self.orders)
        if lags is None:
            return None
        key = tuple(lags.values()), choice[1:]
        if key not in self._known:
            self._known[key] = self._with(lags, choice)
        return self._known[key]

    def _with(self, lags: dict[str, int], choice: Choice) -> Schedule | None:
        """The schedule with some lags; None if its turns would wait for one another."""

        def trails(turn: Turn) -> tuple[int, int]:
            return -lags[turn[0]], self.position[turn[0]]

        order = list[tuple[tuple[str, tuple[str, ...]], ...]]()
        for stage in self.group.stages:
            graph, cycles = self._graph(stage, lags, choice)
            if choice.listed:
                found = listed(graph, self.units, cycles, choice.first)
            else:
                found = dict[str, list[Turn]]()
                for turn in sorted(graph, key=trails):
                    found.setdefault(self.units[turn[0]], []).append(turn)
            order.append(tuple((u, tuple(e for e, _ in turns)) for u, turns in found.items()))
        return self.ordered(lags, choice, tuple(order))

    def ordered(self, lags: dict[str, int], choice: Choice, order: Turns) -> Schedule | None:
        """The schedule with some lags and turns; None if they would wait for one another."""
        waits: dict[str, list[str]] = {}
        for o in self.orders:
            at_once = lags[o.before] - o.steps == lags[o.after] and o.why != "inside"
            paced = (o.before, o.after) in self.paces[choice.cut]
            paced = paced and lags[o.before] == lags[o.after]
            if at_once and not paced and self._abreast(o):
                waits.setdefault(o.after, []).append(o.before)
        total, busy, planned = 0, 0, dict[Turn, int]()
        for stage, units in zip(self.group.stages, order, strict=True):
            graph, cycles = self._graph(stage, lags, choice)
            first = begins(graph, [numbered(es) for _, es in units], cycles)
            if first is None:
                return None
            planned |= {turn: total + begin for turn, begin in first.items()}
            total += max((first[turn] + cycles[turn] for turn in graph), default=0)
            busy += max(sum(self.cycles[e] for e in dict.fromkeys(es)) for _, es in units)
        kept = {e: tuple(dict.fromkeys(w)) for e, w in waits.items()}
        paces = {p: n for p, n in self.paces[choice.cut].items() if lags[p[0]] == lags[p[1]]}
        return Schedule(lags, order, kept, paces, self.cuts[choice.cut], total, busy, planned)

    def _turns(self, einsum: str, choice: Choice) -> int:
        cut = self.cuts[choice.cut].get(einsum)
        return cut.turns if cut else 1

    def _graph(
        self, stage: Stage, lags: dict[str, int], choice: Choice
    ) -> tuple[Graph, dict[Turn, int]]:
        """For each turn in a stage those before it in an iteration, and its cycles.

        Each with the cycles that its result, or a tile into its room, is on the way.
        """
        turns = {e: self._turns(e, choice) for e in stage.einsums}
        graph: Graph = {
            (e, n): {(e, n - 1): 0} if n else {} for e in stage.einsums for n in range(turns[e])
        }
        for o in self.orders:
            before, after = o.before, o.after
            if before not in turns or after not in turns or before == after:
                continue
            behind = self.paces[choice.cut].get((before, after))
            if behind is not None and lags[before] == lags[after]:
                one, other = self.cuts[choice.cut][before], self.cuts[choice.cut][after]
                way = -(-o.far // one.rounds) if o.why == "data" else 0
                for n in range(other.rounds):
                    if rounds := other.waits(n, behind):
                        turn = before, rounds * one.each - 1
                        known = graph[after, n * other.each].get(turn, 0)
                        graph[after, n * other.each][turn] = max(known, way)
            elif o.why == "inside":
                first, second = sorted((before, after), key=lambda e: self.position[e])
                near = self.units[before] == self.units[after]
                if near and lags[first] == lags[second]:
                    graph[second, 0].setdefault((first, turns[first] - 1), 0)
            elif lags[before] - o.steps == lags[after]:
                known = graph[after, 0].get((before, turns[before] - 1), 0)
                graph[after, 0][before, turns[before] - 1] = max(known, o.far)
        return graph, {(e, n): share(self.cycles[e], n, turns[e]) for e, n in graph}

    def _faults(self) -> list[Fault]:
        """What is in the way: orders about room without which the rest could be kept."""
        rooms = [o for o in self.orders if o.why != "data"]
        kept = [o for o in self.orders if o.why == "data"]
        faults = []
        for o in rooms if self._lags({}, kept) is not None else ():
            if self._lags({}, [*kept, o]) is None:
                what = (
                    f"{o.after} overwrites {o.tensor} before {o.before} of an earlier step has "
                    "read it"
                    if o.why == "room"
                    else f"{o.before} trails {o.after}, but {o.tensor} between them is held for "
                    "less than a step"
                )
                faults.append(
                    Fault(
                        o.place,
                        f"the schedule of '{self.group.name}' has no room to repeat: {what}",
                        f"more copies of {o.tensor}, or {o.before} in an earlier stage",
                    )
                )
        if faults:
            return faults
        return [
            Fault(
                rooms[0].place if rooms else Place(),
                f"the schedule of '{self.group.name}' cannot repeat: its stages wait for one "
                "another in a circle",
                "consumers after their producers, or more copies of what is between them",
            )
        ]
