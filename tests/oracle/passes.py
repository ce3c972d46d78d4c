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
from collections.abc import Iterator, Mapping
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
        last = [frozenset(i.rank for i in a.indices if isinstance(i, Last)) for a in e.reads]
        for at in _space(e, sizes):
            target = (e.output.tensor, _coordinates(e.output, at, sizes))
            reads = [(a.tensor, _coordinates(a, at, sizes)) for a in e.reads]
            points.setdefault(target, []).append(Point(at, reads, last))
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
    names = e.variables
    for values in product(*(range(sizes[v.upper()]) for v in names)):
        at = dict(zip(names, values, strict=True))
        if all(_holds(c, at) for c in e.where if isinstance(c, Compare)):
            yield at


def _holds(c: Compare, at: Mapping[str, int]) -> bool:
    a, b = _value(c.left, at), _value(c.right, at)
    return {"<=": a <= b, "<": a < b, ">=": a >= b, ">": a > b, "==": a == b, "!=": a != b}[
        c.relation
    ]


def _value(index: Index, at: Mapping[str, int]) -> int:
    assert isinstance(index.divisor, int)
    return (sum(c * at[v] for v, c in index.terms) + index.offset) // index.divisor


def _coordinates(
    access: Access, at: Mapping[str, int], sizes: Mapping[str, int]
) -> tuple[int, ...]:
    return tuple(sizes[i.rank] if isinstance(i, Last) else _value(i, at) for i in access.indices)


def varying(cascade: Cascade, unrolled: Unrolled) -> dict[Element, object]:
    """A name for each element's value, the same for elements that a broadcast made equal."""
    numbers: dict[object, int] = {}
    found: dict[Element, object] = {}
    for element in unrolled.order:
        if element in unrolled.points:
            its = unrolled.points[element]
            value: object = (
                element[0],
                tuple(sorted(tuple(found[r] for r in p.reads) for p in its)),
            )
        else:
            value = element
        found[element] = numbers.setdefault(value, len(numbers))
    return found


def sweeps(
    cascade: Cascade,
    unrolled: Unrolled,
    tensor: str,
    position: int,
    fiber: Mapping[int, int],
    n: int,
    hold: int = 0,
) -> int:
    """Sweeps over one fiber of n elements; ``fiber``: the coordinate at each other position.

    ``hold``: for how many further elements a passing element can still be
    read: the width of a window that slides over the fiber.
    """
    ranks = cascade.tensors[tensor]
    rank = ranks[position]
    anchor = {ranks[k].lower(): c for k, c in fiber.items()}
    ready: dict[Element, int] = {}  # the moment sweep * n + position; absent: from the start
    label: dict[Element, frozenset[int]] = {}  # the positions that it carries
    most = 0

    def on_fiber(x: Element) -> bool:
        return x[0] == tensor and all(x[1][k] == c for k, c in fiber.items())

    for element in unrolled.order:
        if on_fiber(element):
            slot = cascade.iterative.get(tensor) == rank  # slot t+1 is there from position t on
            ready[element] = max(0, element[1][position] - slot)
            label[element] = frozenset([ready[element]])
            continue
        moments = [-1]
        carried: set[frozenset[int]] = set()
        for p in unrolled.points.get(element, ()):
            moment = max((ready[r] for r in p.reads if r in ready), default=-1)
            by = [
                r for r, its in zip(p.reads, p.last, strict=True) if r in label and rank not in its
            ]
            if by:
                here = frozenset().union(*(label[r] for r in by))
                if rank.lower() in p.at:
                    here = frozenset([p.at[rank.lower()]])
                carried.add(here)
                home = all(p.at.get(v, c) == c for v, c in anchor.items())
                if home or any(on_fiber(r) for r in by):
                    moment = earliest(moment, here, n, hold)
                    most = max(most, moment // n)
            moments.append(moment)
        if max(moments) < 0:
            continue
        ready[element] = max(moments)
        together = frozenset().union(*carried)
        if len(carried) == 1 or (hold and 0 < len(together) < n):
            label[element] = together
        elif carried:
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


def passes_at(cascade: Cascade, sizes: Mapping[str, int], rank: str) -> int:
    """The passes over one rank at given sizes: the most over all the fibers of all tensors."""
    unrolled = unroll(cascade, sizes)
    names = varying(cascade, unrolled)
    needed: dict[str, list[tuple[int, ...]]] = {}
    for tensor, coordinates in unrolled.order:
        needed.setdefault(tensor, []).append(coordinates)
    most = 1
    for tensor, elements in needed.items():
        for i, r in enumerate(cascade.tensors[tensor]):
            if r != rank:
                continue
            fibers: dict[tuple[tuple[int, int], ...], list[tuple[int, ...]]] = {}
            for x in elements:
                key = tuple((k, c) for k, c in enumerate(x) if k != i)
                fibers.setdefault(key, []).append(x)
            for key, its in fibers.items():
                if len({names[tensor, x] for x in its}) > 1:
                    n = sizes[rank]
                    most = max(most, sweeps(cascade, unrolled, tensor, i, dict(key), n))
    return most


def oracle(cascade: Cascade, rank: str, long: int = 4, steps: int = 4) -> float:
    """The passes over a rank; infinite where they grow with the steps of a recurrence."""
    found = []
    for more in (0, 3):
        sizes = dict.fromkeys(cascade.ranks, 2)
        for along in cascade.iterative.values():
            sizes[along] = steps + more
        sizes[rank] = long
        found.append(passes_at(cascade, sizes, rank))
    return found[0] if found[0] == found[1] else math.inf
