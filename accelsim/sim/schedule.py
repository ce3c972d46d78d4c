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

An iteration need not begin with a step: an Einsum that has several turns in a
step may be some of them early, so that it begins the next step while others
end this one (rotation scheduling: Chao, LaPaugh and Sha, 1993).  How long an
iteration takes is known from units, words at ports, and from how long tiles of
iterations before are on their way; not from the ports that these pass.  Where a
run stalls, other lags are tried, first those whose iterations are the shortest
with all tiles there, and what runs fastest is kept (``sim.search``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from accelsim.errors import Fault, InputError, Place
from accelsim.ir.mapping import Group
from accelsim.sim.cuts import Cut
from accelsim.sim.edges import Edge, Edges, Order, again, graph, kept, late, turns_of
from accelsim.sim.listing import Graph, Load, Span, Turn, busiest, listed, numbered, ordered
from accelsim.sim.pairs import Joined
from accelsim.sim.program import Pair, share

#: The units of a stage, each with its Einsums in order.
Units: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
#: Those of each stage.
Turns: TypeAlias = tuple[Units, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Lags by Einsum; for each stage and unit the Einsums in order; waits within a stage.

    An Einsum that stands there several times has as many turns.  ``late``: by
    how many iterations each turn trails; ``waits``: after which turns of other
    units it comes in its stage; ``takes``: cycles of an iteration whose tiles
    are there, of which the busiest units of its stages are ``busy``;
    ``plan``: when each turn is in it; ``pairs``: those that are side by side;
    ``yields``: those that let tiles pass their ports before they begin.
    """

    lags: dict[str, int]
    order: Turns
    late: dict[Turn, int]
    waits: dict[Turn, tuple[Turn, ...]]
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    early: tuple[tuple[str, int], ...] = ()
    takes: int = 0
    busy: int = 0
    plan: Mapping[Turn, Span] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()
    yields: frozenset[str] = frozenset()

    @property
    def turns(self) -> int:
        """Turns in an iteration."""
        return len(self.late)

    def place(self, turn: Turn) -> int:
        """How many turns of its Einsum an iteration does before it."""
        einsum, n = turn
        return (n - dict(self.early).get(einsum, 0)) % turns_of(einsum, self.cuts)

    def pair(self, einsum: str) -> Pair | None:
        """The pair of an Einsum that is side by side with another."""
        return next((pair for pair in self.pairs if einsum in pair.both), None)

    @property
    def key(self) -> Hashable:
        """What tells it from others of its group: waits follow from lags."""
        return tuple(self.late.values()), self.order, self.pairs, self.yields


#: Steps that a result may take on its way out to another level and back.
FAR = (1, 2, 3)
#: For each Einsum the cycles of ports that words of its array take in a step.
Words: TypeAlias = Mapping[str, Mapping[int, int]]
#: By how many steps the second of two Einsums trails the first, at least.
Trailing: TypeAlias = dict[tuple[str, str], int]


class Choice(NamedTuple):
    """What a schedule follows from, besides its orders: who trails whom, whose turn is when.

    Those that trail most go first; with ``listed`` a unit that is free takes
    what can start first (``sim.listing``), of that some Einsums ``first``.
    With ``cut`` Einsums that work in turns finer than a step take turns.
    Einsums may be so many turns ``early``: an iteration does the last turns of
    a step before, and the first ones of the next.
    """

    trailing: Trailing
    listed: bool = False
    cut: int = 0
    first: frozenset[str] = frozenset()
    early: tuple[tuple[str, int], ...] = ()


class Solver:
    """Finds the lags of one group; ``cycles`` are those of each Einsum in a step.

    Of them ``words`` of its array take some at ports.  ``cuts`` says which
    Einsums may work in turns with others within a step; those in ``pairs`` are
    side by side where they trail alike.
    """

    def __init__(
        self,
        group: Group,
        units: dict[str, str],
        orders: Iterable[Order],
        cycles: Mapping[str, int],
        cuts: Sequence[Mapping[str, Cut]] = (),
        words: Words = MappingProxyType({}),
        pairs: Sequence[Pair] = (),
    ) -> None:
        self.group, self.units, self.cycles = group, units, cycles
        self.orders = tuple(dict.fromkeys(orders))
        self.stage = {e: n for n, s in enumerate(group.stages) for e in s.einsums}
        self.position = {e: n for s in group.stages for n, e in enumerate(s.einsums)}
        self.cuts = ({}, *cuts)
        self.loads = [self._loads(found, words) for found in self.cuts]
        self.pairs = tuple(pairs)
        beside = frozenset(frozenset(pair.both) for pair in self.pairs)
        self.edges = Edges(self.orders, self.stage, self.position, units, beside)
        self._known: dict[Hashable, Schedule | None] = {}
        self._lagging: dict[Hashable, dict[str, int] | None] = {}
        self._of: dict[Hashable, list[Edge]] = {}
        self._least = [(o, self._least_lag(o)) for o in self.orders]
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

    def _abreast(self, o: Order) -> bool:
        """Whether both run in one stage on different units."""
        same = self.stage[o.before] == self.stage[o.after]
        return same and self.units[o.before] != self.units[o.after]

    def _least_lag(self, o: Order) -> int:
        """The least difference of lags that keeps an order, if none trails more."""
        if o.why == "inside":
            return 0
        if self.stage[o.before] > self.stage[o.after]:
            return 1 - o.steps
        if o.steps or self.stage[o.before] < self.stage[o.after] or self._abreast(o):
            return -o.steps
        return int(self.position[o.before] > self.position[o.after])

    def _lags(
        self, trailing: Trailing, orders: Sequence[tuple[Order, int]]
    ) -> dict[str, int] | None:
        """The least lags that keep some orders; None if there are none."""
        pairs = [
            (
                o.before,
                o.after,
                max(least, trailing.get((o.before, o.after), 0))
                if o.why == "data" and not o.steps
                else least,
            )
            for o, least in orders
        ]
        lags = dict.fromkeys(self.stage, 0)
        for _ in range(len(lags) + 1):
            settled = True
            for before, after, least in pairs:
                if lags[before] + least > lags[after]:
                    lags[after], settled = lags[before] + least, False
            if settled:
                return lags
        return None

    def _schedule(self, trailing: Trailing) -> Schedule | None:
        return self.chosen(Choice(trailing))

    def chosen(self, choice: Choice) -> Schedule | None:
        """The schedule of a choice; None if there is none.  All but the lags follows from them."""
        trailing = frozenset(choice.trailing.items())
        if trailing not in self._lagging:
            self._lagging[trailing] = self._lags(choice.trailing, self._least)
        lags = self._lagging[trailing]
        if lags is None:
            return None
        key = tuple(lags.values()), choice[1:]
        if key not in self._known:
            self._known[key] = self.ordered(lags, choice)
        return self._known[key]

    def _late(self, lags: dict[str, int], choice: Choice) -> dict[Turn, int]:
        turns = {e: turns_of(e, self.cuts[choice.cut]) for e in lags}
        return late(lags, dict(choice.early), turns)

    def ordered(
        self, lags: dict[str, int], choice: Choice, order: Turns | None = None
    ) -> Schedule | None:
        """The schedule with some lags and turns; None if they would wait for one another.

        Without an ``order`` turns are as the choice says.
        """
        edges, trailing = self._edges(lags, choice.cut), self._late(lags, choice)
        pairs = tuple(p for p in self.pairs if lags[p.first] == lags[p.second])
        if any(trailing[p.first, 0] != trailing[p.second, 0] for p in pairs):
            return None
        total, busy, found = 0, 0, list[Units]()
        planned, waits = dict[Turn, Span](), dict[Turn, tuple[Turn, ...]]()
        loads = self.loads[choice.cut]
        for n, stage in enumerate(self.group.stages):
            before = graph(edges, trailing, stage.einsums)
            own = [p for p in pairs if p.first in stage.einsums]
            plan = self._plan(before, trailing, choice, order[n] if order else None, own)
            if len(plan) < len(before):
                return None
            units: dict[str, list[str]] = {u: [] for u, _ in order[n]} if order else {}
            for turn, (begin, end) in plan.items():
                planned[turn] = Span(total + begin, total + end)
                units.setdefault(self.units[turn[0]], []).append(turn[0])
                others = tuple(t for t in before[turn] if loads[t].unit != loads[turn].unit)
                if others:
                    waits[turn] = others
            found.append(tuple((u, tuple(es)) for u, es in units.items()))
            total += max((end for _, end in plan.values()), default=0)
            busy += busiest(loads[turn] for turn in plan)
        total = max(total, again(edges, trailing, planned))
        return Schedule(
            lags, tuple(found), trailing, waits, self.cuts[choice.cut], choice.early, total, busy,
            planned, pairs,
        )  # fmt: skip

    def _plan(
        self,
        before: Graph,
        trailing: Mapping[Turn, int],
        choice: Choice,
        order: Units | None,
        pairs: Sequence[Pair],
    ) -> dict[Turn, Span]:
        """When each turn of a stage is, but for those that wait for one another."""
        one = Joined(pairs)
        graph, loads = one.graph(before), one.loads(self.loads[choice.cut])
        if order is not None:
            given = [numbered(es, choice.early) for _, es in order]
            return one.apart(ordered(graph, loads, one.turns(given)))
        if choice.listed:
            return one.apart(listed(graph, loads, choice.first))
        turns = dict[str, list[Turn]]()
        for e, n in sorted(before, key=lambda t: (-trailing[t], self.position[t[0]], t[1])):
            turns.setdefault(self.units[e], []).append((e, n))
        return one.apart(ordered(graph, loads, one.turns(turns.values())))

    def rotated(self, choice: Choice) -> Choice | None:
        """The choice with the turns that begin an iteration moved to the end of the one before.

        As few as possible, on all units; None where none may be moved.  The
        iteration is then listed anew (rotation scheduling: Chao, LaPaugh and
        Sha, 1993).
        """
        schedule = self.chosen(choice)
        if schedule is None:
            return None
        edges = self._edges(schedule.lags, choice.cut)
        plan = schedule.plan
        left = sorted(plan, key=lambda t: plan[t].begin)
        upto, moved = min(span.end for span in plan.values()), Counter(dict(choice.early))
        while left:
            head = [t for t in left if plan[t].begin < upto]
            left = left[len(head) :]
            moved.update(e for e, _ in head)
            more = choice._replace(early=tuple(sorted(moved.items())))
            if left and kept(edges, self._late(schedule.lags, more)):
                return more
            upto = plan[left[0]].begin + 1 if left else 0
        return None

    def _edges(self, lags: dict[str, int], cut: int) -> list[Edge]:
        key = tuple(lags.values()), cut
        if key not in self._of:
            self._of[key] = self.edges.of(lags, self.cuts[cut])
        return self._of[key]

    def _loads(self, cuts: Mapping[str, Cut], words: Words) -> dict[Turn, Load]:
        """What each turn takes."""
        found = {}
        for e, unit in self.units.items():
            turns = turns_of(e, cuts)
            for n in range(turns):
                passing = tuple((p, share(c, n, turns)) for p, c in words.get(e, {}).items())
                found[e, n] = Load(unit, share(self.cycles[e], n, turns), passing)
        return found

    def _faults(self) -> list[Fault]:
        """What is in the way: orders about room without which the rest could be kept."""
        rooms = [(o, least) for o, least in self._least if o.why != "data"]
        kept = [(o, least) for o, least in self._least if o.why == "data"]
        faults = []
        for o, least in rooms if self._lags({}, kept) is not None else ():
            if self._lags({}, [*kept, (o, least)]) is None:
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
                rooms[0][0].place if rooms else Place(),
                f"the schedule of '{self.group.name}' cannot repeat: its stages wait for one "
                "another in a circle",
                "consumers after their producers, or more copies of what is between them",
            )
        ]
