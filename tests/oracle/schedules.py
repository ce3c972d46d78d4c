"""Random legal schedules of any cascade, run through an on-chip memory of given size.

An order of points is drawn (tiled loops Einsum by Einsum, or outputs pulled one
tile after another), then executed word by word: operands and the partial sum
must be on chip; what does not fit leaves, least recently or latest used again
first, and is stored if it is needed again and not in memory.  The words moved
are traffic that a legal schedule attains, so no lower bound may exceed them.
Shares no code with ``accelsim.analysis``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from accelsim.ir.cascade import Cascade
from tests.oracle.passes import Element, Point, Unrolled, unroll

Step = tuple[Element, Point]


def by_statement(unrolled: Unrolled, chance: random.Random) -> list[Step]:
    """Einsum by Einsum in dependence order, the points of each in tiles of a random shape."""
    order: list[Step] = []
    at = 0
    elements = unrolled.order
    while at < len(elements):
        tensor = elements[at][0]
        end = at
        while end < len(elements) and elements[end][0] == tensor:
            end += 1
        steps = [(x, p) for x in elements[at:end] for p in unrolled.points.get(x, ())]
        names = sorted({v for _, p in steps for v in p.at})
        chance.shuffle(names)
        tile = {v: chance.choice((1, 2, 3, 100)) for v in names}
        inner = list(names)
        chance.shuffle(inner)
        steps.sort(
            key=lambda s: (
                [s[1].at.get(v, -1) // tile[v] for v in names],
                [s[1].at.get(v, -1) for v in inner],
            )
        )
        order += steps
        at = end
    return order


def pulled(cascade: Cascade, unrolled: Unrolled, chance: random.Random) -> list[Step]:
    """Outputs in tiles of a random shape, each computed with all that it needs, depth first."""
    wanted = [x for x in unrolled.order if x[0] in cascade.outputs]
    tile = [chance.choice((1, 2, 4, 100)) for _ in range(6)]
    wanted.sort(key=lambda x: (x[0], [c // t for c, t in zip(x[1], tile, strict=False)], x[1]))
    order: list[Step] = []
    done: set[Element] = set()

    def make(x: Element) -> None:
        if x in done or x not in unrolled.points:
            return
        done.add(x)
        points = list(unrolled.points[x])
        if chance.random() < 0.5:
            chance.shuffle(points)
        for p in points:
            for r in p.reads:
                make(r)
            order.append((x, p))

    for x in wanted:
        make(x)
    return order


def traffic(
    cascade: Cascade, order: list[Step], capacity: int, furthest: bool = True
) -> int | None:
    """Words moved by an order of points with ``capacity`` words; None where a point does not fit.

    ``furthest``: what is used again latest leaves first (Belady); else what
    was used longest ago.
    """
    uses: dict[Element, list[int]] = {}
    for n, (x, p) in enumerate(order):
        for r in {*p.reads, x}:
            uses.setdefault(r, []).append(n)
    left = {x: list(reversed(ns)) for x, ns in uses.items()}
    inputs = {t.name for t in cascade.inputs}
    outputs = set(cascade.outputs)
    chip: dict[Element, int] = {}
    dirty: set[Element] = set()
    stored: set[Element] = set()
    moved = 0
    for n, (x, p) in enumerate(order):
        needs = list(dict.fromkeys([*p.reads, x]))
        if len(needs) > capacity:
            return None
        for r in needs:
            if r in chip:
                continue
            while len(chip) >= capacity:
                free = [y for y in chip if y not in needs]
                out = max(free, key=lambda y: left[y][-1] if left[y] else 1 << 60)
                if not furthest:
                    out = min(free, key=lambda y: chip[y])
                if out in dirty and (left[out] or out[0] in outputs):
                    moved += 1
                    stored.add(out)
                dirty.discard(out)
                del chip[out]
            if r[0] in inputs or r in stored:
                moved += 1
            chip[r] = n
        for r in needs:
            chip[r] = n
            left[r].pop()
        dirty.add(x)
    return moved + sum(y[0] in outputs for y in dirty)


def words_moved(cascade: Cascade, sizes: Mapping[str, int], capacity: int, seed: int) -> int | None:
    """The traffic of one random schedule; None where its points do not fit."""
    chance = random.Random(seed)
    unrolled = unroll(cascade, sizes)
    if chance.random() < 0.5:
        order = by_statement(unrolled, chance)
    else:
        order = pulled(cascade, unrolled, chance)
    return traffic(cascade, order, capacity, furthest=chance.random() < 0.8)
