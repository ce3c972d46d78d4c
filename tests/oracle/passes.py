"""Brute force: the definition of a pass replayed element by element on tiny sizes.

Shares no code and no graph with ``accelsim.analysis``.  The Einsums are
unrolled to elements and points.  For every fiber of every tensor, elements
stream past in ascending order, again and again; an element value that carries
the position r (all its points read the fiber, or what derives from it, at r)
can only be computed while r passes; one that gathers several positions is
there at the end of the sweep in which the last of them was read; everything
else is computed as soon as its operands are there.  The passes are the
sweeps until all that the outputs need is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from accelsim.ir.cascade import Access, Cascade, Compare, Einsum, Index, Last

Element = tuple[str, tuple[int, ...]]


@dataclass
class Point:
    """One point of an iteration space: its index variables and the elements that it reads.

    ``last``: for each read the ranks of which it reads the last slot.
    """

    at: dict[str, int]
    reads: list[Element]
    last: list[frozenset[str]]


@dataclass
class Unrolled:
    """Every element that the outputs need, operands first, with the points that make it."""

    points: dict[Element, list[Point]]
    order: list[Element] = field(default_factory=list)


def unroll(cascade: Cascade, sizes: Mapping[str, int]) -> Unrolled:
    """The cascade element by element."""
    points: dict[Element, list[Point]] = {}
    for e in cascade.einsums:
        counts = cascade.counts
        last = [frozenset(i.rank for i in a.indices if isinstance(i, Last)) for a in e.reads]
        for at in _space(e, sizes):
            reads = [(a.tensor, _coordinates(a, at, sizes)) for a in e.reads]
            own = _coordinates(e.output, at, sizes)
            slots = [  # of a scatter every point may be written everywhere
                range(sizes[counts[i.tensor]]) if isinstance(i, Access) else (c,)
                for i, c in zip(e.output.indices, own, strict=True)
            ]
            for target in product(*slots):
                point = Point(at, reads, last)
                points.setdefault((e.output.tensor, target), []).append(point)
    found = Unrolled(points)
    seen: set[Element] = set()
    for first in [x for x in points if x[0] in cascade.outputs]:
        stack = [(first, False)]
        while stack:
            element, ready = stack.pop()
            if ready:
                found.order.append(element)
            elif element not in seen:
                seen.add(element)
                stack.append((element, True))
                stack += [(r, False) for p in points.get(element, ()) for r in p.reads]
    return found


def _space(e: Einsum, sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    names = tuple(dict.fromkeys((*e.variables, *e.output.variables)))
    for values in product(*(range(sizes[v.upper()]) for v in names)):
        at = dict(zip(names, values, strict=True))
        if all(_holds(c, at, sizes) for c in e.where if isinstance(c, Compare)):
            yield at


def _holds(c: Compare, at: Mapping[str, int], sizes: Mapping[str, int]) -> bool:
    a, b = _value(c.left, at, sizes), _value(c.right, at, sizes)
    return {"<=": a <= b, "<": a < b, ">=": a >= b, ">": a > b, "==": a == b, "!=": a != b}[
        c.relation
    ]


def _value(index: Index, at: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    assert isinstance(index.divisor, int)
    terms = ((sizes[c] if isinstance(c, str) else c) * at[v] for v, c in index.terms)
    return (sum(terms) + index.offset) // index.divisor


def _coordinates(
    access: Access, at: Mapping[str, int], sizes: Mapping[str, int]
) -> tuple[int, ...]:
    found = []
    for i in access.indices:
        if isinstance(i, Access):  # the r-th chosen is element r: there are as many as elements
            found.append(at[i.variables[-1]])
        else:
            found.append(sizes[i.rank] if isinstance(i, Last) else _value(i, at, sizes))
    return tuple(found)


def varying(cascade: Cascade, unrolled: Unrolled) -> dict[Element, object]:
    """A name for each element's value, the same for elements that a broadcast made equal.

    What is listed by a selection, or scattered, differs from place to place.
    """
    numbers: dict[object, int] = {}
    found: dict[Element, object] = {}
    free = {e.output.tensor: _free(e) for e in cascade.einsums}
    for element in unrolled.order:
        if element in unrolled.points:
            its = unrolled.points[element]
            value: object = (
                element[0],
                tuple(element[1][k] for k in free[element[0]]),
                tuple(sorted(tuple(found[r] for r in p.reads) for p in its)),
            )
        else:
            value = element
        found[element] = numbers.setdefault(value, len(numbers))
    return found


def _free(e: Einsum) -> list[int]:
    """The positions along which a selection lists, or a scatter writes."""
    return [
        k
        for k, i in enumerate(e.output.indices)
        if isinstance(i, Access) or (e.selects and i.plain == e.selects)
    ]


def sweeps(
    cascade: Cascade,
    unrolled: Unrolled,
    sizes: Mapping[str, int],
    tensor: str,
    positions: Sequence[int],
    fiber: Mapping[int, int],
    hold: int = 0,
) -> int:
    """Sweeps over one fiber, that runs over ``positions``; ``fiber``: the other coordinates.

    ``hold``: for how many further elements a passing element can still be
    read: the width of a tile, or of a window that slides over the fiber.
    """
    ranks = cascade.tensors[tensor]
    along = [ranks[i] for i in positions]
    names = [r.lower() for r in along]
    n = math.prod(sizes[r] for r in along)
    anchor = {ranks[k].lower(): c for k, c in fiber.items()}
    ready: dict[Element, int] = {}  # the moment sweep * n + position; absent: from the start
    label: dict[Element, frozenset[int]] = {}  # the positions that it carries; one: an element
    most = 0

    def flat(coordinates: Sequence[int]) -> int:
        found = 0
        for rank, c in zip(along, coordinates, strict=True):
            found = found * sizes[rank] + c
        return found

    def on_fiber(x: Element) -> bool:
        return x[0] == tensor and all(x[1][k] == c for k, c in fiber.items())

    for element in unrolled.order:
        moments = [-1]
        elements: set[int] = set()
        summaries: set[frozenset[int]] = set()
        for p in unrolled.points.get(element, ()):
            moment = max((ready[r] for r in p.reads if r in ready), default=-1)
            by = [
                r
                for r, its in zip(p.reads, p.last, strict=True)
                if r in label and not its & {*along}
            ]
            if by:
                single = [r for r in by if len(label[r]) == 1]
                here = frozenset().union(*(label[r] for r in single or by))
                if single and all(v in p.at for v in names):
                    here = frozenset([flat([p.at[v] for v in names])])
                if single:
                    elements |= here
                else:
                    summaries.add(here)
                home = all(p.at.get(v, c) == c for v, c in anchor.items())
                if single and (home or any(on_fiber(r) for r in by)):
                    moment = earliest(moment, here, n, hold)
                    most = max(most, moment // n)
            moments.append(moment)
        if on_fiber(element):
            step = cascade.iterative.get(tensor)  # slot t+1 is there from position t on
            at = [
                max(0, element[1][i] - (r == step)) for i, r in zip(positions, along, strict=True)
            ]
            ready[element] = max(flat(at), *moments)
            label[element] = frozenset([flat(at)])
            continue
        if max(moments) < 0:
            continue
        ready[element] = max(moments)
        together = frozenset(elements) or frozenset().union(*summaries)
        if len(together) == 1 or (hold and 0 < len(together) < n):
            label[element] = together
        elif together and not hold:
            ready[element] = max(moments) // n * n + n - 1
    return most + 1


def earliest(after: int, positions: frozenset[int], n: int, hold: int) -> int:
    """The first moment, not before ``after``, when all ``positions`` of one sweep are at hand."""
    sweep = max(0, after // n)
    while True:
        moment = max(after, sweep * n + max(positions))
        if moment <= sweep * n + min(n - 1, min(positions) + hold):
            return moment
        sweep += 1


def passes_at(cascade: Cascade, sizes: Mapping[str, int], rank: str, hold: int = 0) -> int:
    """The passes over one rank at given sizes: the most over all the fibers of all tensors."""
    unrolled = unroll(cascade, sizes)
    names = varying(cascade, unrolled)
    needed: dict[str, list[tuple[int, ...]]] = {}
    for tensor, coordinates in unrolled.order:
        needed.setdefault(tensor, []).append(coordinates)
    parts = dict(cascade.splits).get(rank, (rank,))
    most = 1
    for tensor, elements in needed.items():
        ranks = cascade.tensors[tensor]
        if not set(parts) <= set(ranks):
            continue
        positions = [ranks.index(p) for p in parts]
        fibers: dict[tuple[tuple[int, int], ...], list[tuple[int, ...]]] = {}
        for x in elements:
            key = tuple((k, c) for k, c in enumerate(x) if k not in positions)
            fibers.setdefault(key, []).append(x)
        for key, its in fibers.items():
            if all(_varies(names, tensor, its, i) for i in positions):
                found = sweeps(cascade, unrolled, sizes, tensor, positions, dict(key), hold)
                most = max(most, found)
    return most


def _varies(
    names: Mapping[Element, object], tensor: str, elements: Sequence[tuple[int, ...]], i: int
) -> bool:
    """Whether two elements that differ at position i alone have different values."""
    lines: dict[tuple[int, ...], set[object]] = {}
    for x in elements:
        lines.setdefault(x[:i] + x[i + 1 :], set()).add(names[tensor, x])
    return any(len(its) > 1 for its in lines.values())


def oracle(cascade: Cascade, rank: str, long: int = 4, steps: int = 4) -> float:
    """The passes over a rank; infinite where they grow with the steps of a recurrence.

    A split rank has twice ``long`` tiles, and a tile is held: what is held at
    the end of a sweep need not wait for the next, so that each sweep may end a
    tile earlier than the one before.
    """
    parts = dict(cascade.splits).get(rank, (rank,))
    found = []
    for more in (0, 3):
        sizes = dict.fromkeys({*cascade.ranks, *cascade.whole}, 2)
        for along in cascade.iterative.values():
            sizes[along] = steps + more
        sizes[parts[0]] = long if len(parts) == 1 else 2 * long
        tile = math.prod(sizes[p] for p in parts[1:])
        found.append(passes_at(cascade, sizes, rank, hold=tile - 1))
    return found[0] if found[0] == found[1] else math.inf
