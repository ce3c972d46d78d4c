"""Whose turn is when on each unit in a stage: list scheduling (Graham, 1969).

An Einsum has one turn in a stage, or several where it goes round loops inside
a step together with Einsums of other units.  A graph says for each turn which
come before it, and how many cycles later it may begin for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from operator import itemgetter
from typing import NamedTuple, TypeAlias

#: A turn of an Einsum.
Turn: TypeAlias = tuple[str, int]
#: For each turn those before it, with the cycles from their end.
Graph: TypeAlias = dict[Turn, dict[Turn, int]]


class Load(NamedTuple):
    """What a turn takes: cycles of a unit, if nobody else asks for its ports, and of those.

    It takes the ``partner``, another unit, as long.
    """

    unit: str
    cycles: int
    words: tuple[tuple[int, int], ...] = ()
    partner: str = ""


class Span(NamedTuple):
    """When a turn begins and ends."""

    begin: int
    end: int


def listed(
    graph: Graph, loads: Mapping[Turn, Load], first: Set[str] = frozenset()
) -> dict[Turn, Span]:
    """When each turn is: a free unit takes what can begin first, then what has most after it.

    Those of some Einsums go ``first`` of what can begin at once.  Turns that
    wait for one another are left out.

    >>> graph = {("A", 0): {}, ("B", 0): {("A", 0): 0}, ("C", 0): {}}
    >>> loads = {("A", 0): Load("u", 2), ("B", 0): Load("v", 1), ("C", 0): Load("u", 1)}
    >>> {turn[0]: tuple(span) for turn, span in sorted(listed(graph, loads).items())}
    {'A': (0, 2), 'B': (2, 3), 'C': (2, 3)}
    """
    after = _after(graph)
    tail = {turn: loads[turn].cycles for turn in graph}  # from its beginning to the end of all
    for turn in reversed(_sorted(graph, after)):
        for other, way in graph[turn].items():
            tail[other] = max(tail[other], loads[other].cycles + way + tail[turn])
    rank = {turn: (turn[0] not in first, -tail[turn]) for turn in graph}
    return _placed(graph, after, loads, rank)


def ordered(
    graph: Graph, loads: Mapping[Turn, Load], order: Iterable[Iterable[Turn]]
) -> dict[Turn, Span]:
    """When each turn is, with the turns of each unit in order.

    Turns that wait for one another are left out.

    >>> graph = {("A", 0): {("B", 0): 0}, ("B", 0): {}}
    >>> loads = dict.fromkeys(graph, Load("u", 1))
    >>> ordered(graph, loads, [[("A", 0), ("B", 0)]])
    {}
    """
    rest = dict(graph)
    for turns in order:
        last: Turn | None = None
        for turn in turns:
            if last is not None:
                rest[turn] = {last: 0} | rest[turn]
            last = turn
    rank = dict.fromkeys(graph, (False, 0))
    return _placed(rest, _after(rest), loads, rank)


def _placed(
    graph: Graph,
    after: Mapping[Turn, list[Turn]],
    loads: Mapping[Turn, Load],
    rank: Mapping[Turn, tuple[bool, int]],
) -> dict[Turn, Span]:
    """When each turn is: the first that can begin, of several the one of least rank.

    Words of an array ask for their ports when its turn begins, and take them one after the other.
    """
    found: dict[Turn, Span] = {}
    free = {unit: 0 for load in loads.values() for unit in (load.unit, load.partner)}
    ports: dict[int, int] = {}
    left = {turn: len(before) for turn, before in graph.items()}
    early = dict.fromkeys(graph, 0)
    #: Of those that nothing is before any more: when they may begin at first, their rank.
    ready = {turn: (0, rank[turn]) for turn, before in graph.items() if not before}

    def begins(turn: Turn, early: int) -> int:
        return max(free[loads[turn].unit], free[loads[turn].partner], early)

    while ready:
        turn, at = min(((t, (begins(t, e), last)) for t, (e, last) in ready.items()),
                       key=itemgetter(1))  # fmt: skip
        del ready[turn]
        unit, cycles, words, partner = loads[turn]
        begin = at[0]
        end = begin + cycles
        for port, passing in words:
            ports[port] = max(ports.get(port, 0), begin) + passing
            end = max(end, ports[port])
        free[unit], found[turn] = end, Span(begin, end)
        if partner:
            free[partner] = end
        for other in after[turn]:
            early[other] = max(early[other], end + graph[other][turn])
            left[other] -= 1
            if not left[other]:
                ready[other] = early[other], rank[other]
    return found


def _after(graph: Graph) -> dict[Turn, list[Turn]]:
    """For each turn those after it."""
    found: dict[Turn, list[Turn]] = {turn: [] for turn in graph}
    for turn, before in graph.items():
        for other in before:
            found[other].append(turn)
    return found


def _sorted(graph: Graph, after: Mapping[Turn, list[Turn]]) -> list[Turn]:
    """Turns, each behind all before it; without those that wait for one another."""
    left = {turn: len(before) for turn, before in graph.items()}
    found = [turn for turn, count in left.items() if not count]
    for turn in found:
        for other in after[turn]:
            left[other] -= 1
            if not left[other]:
                found.append(other)
    return found


def numbered(einsums: Iterable[str], early: Iterable[tuple[str, int]] = ()) -> list[Turn]:
    """The turns of Einsums that stand there once for each, some of them so many turns early.

    >>> numbered(("A", "B", "A"))
    [('A', 0), ('B', 0), ('A', 1)]
    >>> numbered(("A", "B", "A"), [("A", 1)])
    [('A', 1), ('B', 0), ('A', 0)]
    """
    einsums = tuple(einsums)
    turns, done = Counter(einsums), Counter(dict(early))
    found: list[Turn] = []
    for e in einsums:
        found.append((e, done[e] % turns[e]))
        done[e] += 1
    return found


def busiest(loads: Iterable[Load]) -> int:
    """Cycles of the busiest unit or port.

    >>> busiest([Load("u", 3, ((0, 2),)), Load("v", 2, ((0, 2),))])
    4
    """
    taken = Counter[str | int]()
    for unit, cycles, words, _ in loads:
        taken[unit] += cycles
        for port, passing in words:
            taken[port] += passing
    return max(taken.values(), default=0)
