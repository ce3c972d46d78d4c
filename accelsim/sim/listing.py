"""Whose turn is when on each unit in a stage: list scheduling (Graham, 1969).

An Einsum has one turn in a stage, or several where it goes round loops inside
a step together with Einsums of other units.  A graph says for each turn which
come before it, and how many cycles later it may begin for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from itertools import pairwise
from typing import TypeAlias

#: A turn of an Einsum.
Turn: TypeAlias = tuple[str, int]
#: For each turn those before it, with the cycles from their end.
Graph: TypeAlias = dict[Turn, dict[Turn, int]]


def listed(
    graph: Graph,
    units: Mapping[str, str],
    cycles: Mapping[Turn, int],
    first: Set[str] = frozenset(),
) -> dict[str, list[Turn]]:
    """The turns on each unit: a free one takes what can begin first, then what has most after it.

    Those of some Einsums go ``first`` of what can begin at once.  Turns that
    wait for one another are left out.

    >>> graph = {("A", 0): {}, ("B", 0): {("A", 0): 0}, ("C", 0): {}}
    >>> listed(graph, {"A": "u", "B": "v", "C": "u"}, dict.fromkeys(graph, 1))
    {'u': [('A', 0), ('C', 0)], 'v': [('B', 0)]}
    """
    after = _after(graph)
    tail = dict(cycles)  # cycles from its beginning to the end of all after it
    for turn in reversed(_sorted(graph, after)):
        for other, way in graph[turn].items():
            tail[other] = max(tail[other], cycles[other] + way + tail[turn])
    found: dict[str, list[Turn]] = {}
    free = {units[e]: 0 for e, _ in graph}
    left = {turn: len(before) for turn, before in graph.items()}
    early = dict.fromkeys(graph, 0)
    ready = {turn: None for turn, before in graph.items() if not before}
    while ready:
        turn = min(
            ready, key=lambda t: (max(free[units[t[0]]], early[t]), t[0] not in first, -tail[t])
        )
        del ready[turn]
        unit = units[turn[0]]
        free[unit] = end = max(free[unit], early[turn]) + cycles[turn]
        found.setdefault(unit, []).append(turn)
        for other in after[turn]:
            early[other] = max(early[other], end + graph[other][turn])
            left[other] -= 1
            if not left[other]:
                ready[other] = None
    return found


def begins(
    graph: Graph, order: Iterable[list[Turn]], cycles: Mapping[Turn, int]
) -> dict[Turn, int] | None:
    """When each turn may begin, with the turns of each unit in order.

    None where turns wait for one another.
    """
    whole = {turn: dict(before) for turn, before in graph.items()}
    for turns in order:
        for one, other in pairwise(turns):
            whole[other].setdefault(one, 0)
    found: dict[Turn, int] = {}
    for turn in _sorted(whole, _after(whole)):
        ready = [found[w] + cycles[w] + way for w, way in whole[turn].items()]
        found[turn] = max(ready, default=0)
    return found if len(found) == len(graph) else None


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


def numbered(einsums: Iterable[str]) -> list[Turn]:
    """The turns of Einsums that stand there once for each.

    >>> numbered(("A", "B", "A"))
    [('A', 0), ('B', 0), ('A', 1)]
    """
    found: list[Turn] = []
    done = Counter[str]()
    for e in einsums:
        found.append((e, done[e]))
        done[e] += 1
    return found
