"""Fused mappings executed point by point: does a memory of that size really move so few words?

The shared loops give an order of points; a memory of the claimed capacity then
runs it with the best replacement (what is used again latest leaves first).  A
claim is good if the words moved are no more than claimed.  An operand that was
not computed yet ends the replay with an error.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from accelsim.ir.cascade import Cascade
from accelsim.ir.order import order as einsum_order
from tests.oracle.passes import Element, Point, unroll

#: An element, and the round of the shared loops in which this copy of it was computed.
Copy = tuple[Element, tuple[int, ...]]


@dataclass
class Run:
    """One execution of a point: what it accumulates into and what it reads."""

    into: Copy
    reads: list[Copy]


@dataclass
class Nest:
    """A fused mapping as the replay needs it.

    ``runs``: for each Einsum the passes in which it runs along the stream rank;
    ``after``: of the others the pass after which they run (0: before the first).
    ``first``: for each Einsum the variables that its inner loops begin with.
    ``column``: a rank that Einsums of a pass which have it take index by index,
    together, after the others.
    """

    outer: Sequence[str]
    tile: Sequence[str]
    size: int
    stream: str
    block: int
    passes: int
    runs: Mapping[str, set[int]]
    after: Mapping[str, int]
    first: Mapping[str, Sequence[str]]
    column: str = ""


def replay(cascade: Cascade, sizes: Mapping[str, int], nest: Nest, capacity: int) -> int:
    """Words moved by a mapping of the whole cascade with the best replacement."""
    unrolled = unroll(cascade, sizes)
    points: dict[str, list[tuple[Element, Point]]] = {}
    known = {x for x in unrolled.order if x[0] in {t.name for t in cascade.inputs}}
    for x in unrolled.order:
        for p in unrolled.points.get(x, ()):
            if not set(p.reads) <= known:  # a mask on what it reads leaves it nothing
                continue
            known.add(x)
            points.setdefault(_einsum(cascade, x), []).append((x, p))
    order = [e.name for e in cascade.einsums if e.name in points]
    runs = list(_runs(cascade, sizes, nest, points, order))
    return min(_moved(cascade, runs, capacity, spare) for spare in (False, True))


def _einsum(cascade: Cascade, x: Element) -> str:
    """The name of the Einsum that computes an element: of a recurrence slot 0 or the step."""
    rank = cascade.iterative.get(x[0])
    initial = rank is not None and x[1][cascade.tensors[x[0]].index(rank)] == 0
    return f"{x[0]}@0" if initial else x[0]


def _runs(
    cascade: Cascade,
    sizes: Mapping[str, int],
    nest: Nest,
    points: Mapping[str, list[tuple[Element, Point]]],
    order: Sequence[str],
) -> Iterator[Run]:
    read = {a.tensor for e in cascade.einsums for a in e.reads}
    latest: dict[Element, Copy] = {}
    loops = [range(sizes[v.upper()]) for v in nest.outer]
    tiles = list(product(*(range(sizes[v.upper()]) for v in nest.tile)))
    chunks = [tiles[n : n + nest.size] for n in range(0, len(tiles), nest.size)]
    length = sizes[nest.stream.upper()] if nest.stream else 1
    count = 0
    done: set[int] = set()

    rings = [g for g in einsum_order(cascade) if g.along and g.along != nest.stream]

    def emit_all(
        chosen: Sequence[str],
        at: Mapping[str, int],
        chunk: set[tuple[int, ...]],
        span: range | None,
    ) -> Iterator[Run]:
        """Einsum after Einsum; those of a recurrence slot by slot, unless it is the stream."""
        gone: set[str] = set()
        for name in chosen:
            ring = next((g for g in rings if name in {e.name for e in g.einsums}), None)
            if name in gone:
                continue
            gone.add(name)
            if ring is None:
                yield from emit(name, at, chunk, span)
            else:
                members = [e.name for e in ring.einsums if e.name in chosen]
                gone |= set(members)
                needs = {a.tensor for e in ring.einsums for a in e.reads}
                for other in [t for t in chosen if t in needs and t not in gone]:
                    gone.add(other)  # it stands in the text between the members
                    yield from emit(other, at, chunk, span)
                for slot in range(sizes[ring.along.upper()]):
                    for member in members:
                        yield from emit(member, {**at, ring.along: slot}, chunk, span)

    def emit(
        name: str, at: Mapping[str, int], chunk: set[tuple[int, ...]], span: range | None
    ) -> Iterator[Run]:
        chosen = []
        for x, p in points[name]:
            mine = tuple(p.at.get(v, -1) for v in nest.tile)
            if (
                any(v in p.at and p.at[v] != c for v, c in at.items())
                or (nest.tile and -1 not in mine and mine not in chunk)
                or (span is not None and p.at[nest.stream] not in span)
            ):
                continue
            chosen.append((x, p))
        names = list(nest.first[name])
        names += sorted({v for _, p in chosen for v in p.at} - set(names))
        along = cascade.iterative.get(name, "").lower()  # slots of a recurrence in their order
        names.sort(key=lambda v: v != along)
        chosen.sort(key=lambda s: [s[1].at.get(v, -1) for v in names])
        for x, p in chosen:
            if x[0] not in read and id(p) in done:  # it left the chip in an earlier tile
                continue
            done.add(id(p))
            copy: Copy = (x, (count,)) if x[0] in read else (x, ())
            reads = [latest.get(r, (r, ())) for r in p.reads]
            latest[x] = copy
            yield Run(copy, reads)

    for outer in product(*loops):
        at = dict(zip(nest.outer, outer, strict=True))
        for chunk in chunks:
            now = set(chunk)
            for k in range(nest.passes + 1):
                streaming = [t for t in order if k in nest.runs.get(t, ())]
                count += 1
                if nest.stream and k:
                    for start in range(0, length, nest.block):
                        span = range(start, start + nest.block)
                        inner = [t for t in streaming if nest.column in points[t][0][1].at]
                        yield from emit_all([t for t in streaming if t not in inner], at, now, span)
                        for c in range(sizes[nest.column.upper()] if inner else 0):
                            yield from emit_all(inner, {**at, nest.column: c}, now, span)
                count += 1
                yield from emit_all([t for t in order if nest.after.get(t) == k], at, now, None)


def _moved(cascade: Cascade, runs: Sequence[Run], capacity: int, spare: bool) -> int:
    """Words moved by runs in order; a first copy of an output is stored.

    What is used again latest leaves first; with ``spare`` that need not be
    stored, as long as there is any.
    """
    inputs = {t.name for t in cascade.inputs}
    uses: dict[Copy, list[int]] = {}
    for n, run in enumerate(runs):
        for c in {*run.reads, run.into}:
            uses.setdefault(c, []).append(n)
    left = {c: ns[::-1] for c, ns in uses.items()}
    wanted: dict[Element, Copy] = {}
    for run in runs:
        if run.into[0][0] in cascade.outputs:
            wanted.setdefault(run.into[0], run.into)
    keep = set(wanted.values())
    chip: set[Copy] = set()
    dirty: set[Copy] = set()
    stored: set[Copy] = set()
    made: set[Copy] = set()
    moved = 0
    for run in runs:
        needs = list(dict.fromkeys([*run.reads, run.into]))
        assert len(needs) <= capacity, f"{run.into[0]} needs {len(needs)} words"
        for c in needs:
            if c in chip:
                continue
            if c != run.into:
                assert c[0][0] in inputs or c in made, f"{run.into[0]} reads {c[0]} too early"
            while len(chip) >= capacity:
                out = max(
                    (y for y in chip if y not in needs),
                    key=lambda y: (
                        not left[y] and y not in keep,
                        spare and y not in dirty,
                        left[y][-1] if left[y] else 1 << 60,
                        y not in dirty,
                    ),
                )
                if out in dirty and (left[out] or out in keep):
                    moved += 1
                    stored.add(out)
                dirty.discard(out)
                chip.discard(out)
            moved += c[0][0] in inputs or c in stored
            chip.add(c)
        for c in needs:
            left[c].pop()
        made.add(run.into)
        dirty.add(run.into)
    return moved + len(dirty & keep)


def inner_orders(
    choices: Mapping[str, Sequence[Sequence[str]]], tries: int, seed: int = 0
) -> Iterator[dict[str, Sequence[str]]]:
    """Ways to begin the inner loops of each tensor: the first of each, then random ones."""
    yield {t: options[0] for t, options in choices.items()}
    chance = random.Random(seed)
    for _ in range(tries):
        yield {t: chance.choice(list(options)) for t, options in choices.items()}
