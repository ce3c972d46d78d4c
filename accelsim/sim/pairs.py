"""Einsums of two units that run side by side within a step.

One makes what the other reads, tile by tile, in loops inside the step that are
around both.  With room for two tiles the second works on one while the first
makes the next.  A step is cut into turns for that (``sim.cuts``) where it has
few such tiles.  Where it has many, or where steps may not overlap, the two are
taken together: they begin at once and end at once, and nothing else has their
units in between.

With ``n`` tiles that take the two ``s`` and ``t`` cycles each, the last is done
after ``s + t + (n - 1) max(s, t)`` cycles: those of the slower and one tile of
the faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from accelsim.sim.cuts import common
from accelsim.sim.edges import Order
from accelsim.sim.listing import Graph, Load, Span, Turn
from accelsim.sim.nest import Nest
from accelsim.sim.program import Pair


class Joined:
    """Turns of a stage with one turn for each pair: that of its first, which takes both units.

    >>> one = Joined([Pair("A", "B", 1)])
    >>> graph = {("A", 0): {}, ("B", 0): {("C", 0): 0}, ("C", 0): {}}
    >>> one.graph(graph)
    {('A', 0): {('C', 0): 0}, ('C', 0): {}}
    >>> loads = {("A", 0): Load("u", 2), ("B", 0): Load("v", 5), ("C", 0): Load("u", 3)}
    >>> one.loads(loads)["A", 0]
    Load(unit='u', cycles=6, words=(), partner='v')
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self.pairs = tuple(pairs)
        self._name = {(p.second, 0): (p.first, 0) for p in self.pairs}

    def graph(self, found: Graph) -> Graph:
        """The graph, in which a pair comes after all that either comes after."""
        joined: Graph = {}
        for turn, before in found.items():
            own = joined.setdefault(self._one(turn), {})
            for other, way in before.items():
                own[self._one(other)] = max(way, own.get(self._one(other), way))
        return joined

    def loads(self, found: Mapping[Turn, Load]) -> Mapping[Turn, Load]:
        """The loads, with that of both for the first."""
        if not self.pairs:
            return found
        joined = dict(found)
        for pair in self.pairs:
            one, other = (found[e, 0] for e in pair.both)
            cycles = max(one.cycles, other.cycles) + pair.lead
            joined[pair.first, 0] = Load(one.unit, cycles, one.words + other.words, other.unit)
        return joined

    def turns(self, units: Iterable[Iterable[Turn]]) -> list[list[Turn]]:
        """The turns of each unit in order."""
        return [[self._one(turn) for turn in turns] for turns in units]

    def apart(self, plan: dict[Turn, Span]) -> dict[Turn, Span]:
        """The plan with the seconds, too, in order of time."""
        if not self.pairs:
            return plan
        seconds = {one: other for other, one in self._name.items()}
        return {
            turn: span
            for one, span in plan.items()
            for turn in ((one, seconds[one]) if one in seconds else (one,))
        }

    def _one(self, turn: Turn) -> Turn:
        return self._name.get(turn, turn)


def pairs(nest: Nest, orders: Iterable[Order], cycles: Callable[[str], int]) -> tuple[Pair, ...]:
    """Einsums that may run side by side, those that save most cycles first; each has one partner.

    Not where a tile that both work on has room for one alone, where what is
    read comes back from another level, nor where a state goes round within a step.
    """
    orders = tuple(orders)
    found = list[tuple[int, Pair]]()
    if nest.short or any(o.along and o.why == "inside" for o in orders):
        return ()
    for o in orders:
        both = {o.before, o.after}
        if o.why != "data" or o.steps or not _fit(nest, both):
            continue
        tiles = math.prod(loop.trips for loop in common(nest, both))
        near = [x for x in orders if {x.before, x.after} == both]
        away = any(x.why == "data" and x.far for x in near)
        lead = min(-(-cycles(e) // tiles) for e in both)
        if tiles > 1 and not away and all(x.copies > 1 for x in near if x.loops):
            found.append((min(map(cycles, both)), Pair(o.before, o.after, lead)))
    chosen = list[Pair]()
    for _, pair in sorted(found, key=lambda both: -both[0]):
        if not any({*pair.both} & {*other.both} for other in chosen):
            chosen.append(pair)
    return tuple(chosen)


def _fit(nest: Nest, einsums: set[str]) -> bool:
    """Whether two Einsums run in all steps, in one stage, on two units."""
    works = [nest.work[e] for e in einsums]
    whole = all(w.depth == len(nest.steps) for w in works)
    one_stage = len({nest.stage[e] for e in einsums}) == 1
    return whole and one_stage and len({w.leaf.unit for w in works}) == 2
