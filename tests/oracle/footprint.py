"""Brute force: the most elements live at once, replayed point by point in the stated schedule.

The passes over the streamed rank one after the other; in a pass its positions
in order; at a position the Einsums in text order, each over all its other
points.  An Einsum that does not run over the streamed rank goes before a pass
or after it.  An input is live from its first use, a sum from its first term,
and each element to its last use; an output is written when it is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from accelsim.ir.cascade import Access, Cascade, Last

Element = tuple[str, tuple[int, ...]]


def peak(
    cascade: Cascade, sizes: Mapping[str, int], streamed: str, bands: Mapping[str, float]
) -> int:
    """The most elements live at once.

    ``bands``: for each Einsum its pass; half a pass more for one that waits for
    the end of it.
    """
    events: list[tuple[tuple[float, int, int], Element, list[Element]]] = []
    for n, e in enumerate(cascade.einsums):
        for values in product(*(range(sizes[v.upper()]) for v in e.variables)):
            at = dict(zip(e.variables, values, strict=True))
            moment = bands[e.name], at.get(streamed.lower(), -1), n
            reads = [_element(a, at, sizes) for a in e.reads]
            events.append((moment, _element(e.output, at, sizes), reads))
    events.sort(key=lambda event: event[0])
    first: dict[Element, int] = {}
    last: dict[Element, int] = {}
    for now, (_, target, reads) in enumerate(events):
        for x in (*reads, target):
            first.setdefault(x, now)
            last[x] = now
    assert not _too_early(events), "the schedule reads what is not complete"
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    for x, now in first.items():
        begins[now] = begins.get(now, 0) + 1
        ends[last[x]] = ends.get(last[x], 0) + 1
    live = most = 0
    for now in range(len(events)):
        live += begins.get(now, 0)
        most = max(most, live)
        live -= ends.get(now, 0)
    assert live == 0
    return most


def _element(access: Access, at: Mapping[str, int], sizes: Mapping[str, int]) -> Element:
    return access.tensor, tuple(
        sizes[i.rank] if isinstance(i, Last) else sum(at[v] for v, _ in i.terms) + i.offset
        for i in access.indices
    )


def _too_early(events: list[tuple[tuple[float, int, int], Element, list[Element]]]) -> bool:
    written: dict[Element, int] = {}
    for now, (_, target, _) in enumerate(events):
        written[target] = now
    return any(written.get(x, -1) >= now for now, (_, _, reads) in enumerate(events) for x in reads)
