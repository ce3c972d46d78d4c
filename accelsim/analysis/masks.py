"""Tiles that a mask leaves something of: what a tiled loop nest need not fetch.

A nest runs over tiles of some ranks; inside a tile of queries p = 64 i, ...,
64 i + 63 a causal mask leaves the keys m <= 64 i + 63.  Which elements a tile
meets is a condition on its number i and the element's own coordinates: a
half-space ``a m + b p <= c`` holds for some p of the tile only if it holds for
the p that makes ``b p`` least.  All predicates must hold for one p, so each
alone may leave too much: what is counted is fetched by a legal schedule, which
fetches an element for a tile that turns out not to need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, product
from math import prod
from typing import Final, TypeAlias

from accelsim.ir.cascade import Einsum
from accelsim.ir.lattice import Affine, Predicate, count
from accelsim.ir.problem import Problem

#: Predicates that hold together; of several such sets one holds.
Masks: TypeAlias = tuple[tuple[Predicate, ...], ...]

#: What leaves everything.
UNMASKED: Final[Masks] = ((),)
#: With more alternatives than this nothing is left out.
MOST_ALTERNATIVES: Final = 8


def masks(problem: Problem, einsums: Iterable[Einsum]) -> Masks:
    """Sets of predicates one of which holds at every point of some Einsums, own and inherited.

    One empty set where an Einsum has no mask: nothing is left out.

    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> sizes = {"B": 1, "H": 1, "P": 4, "M": 4, "E": 2, "F": 2}
    >>> causal = bind(load_cascade("attention-causal"), sizes)
    >>> [len(its) for its in masks(causal, causal.cascade.einsums[:2])]
    [1]
    """
    found: dict[frozenset[Predicate], None] = {}
    for einsum in einsums:
        clauses = problem.domains.clauses(einsum) if problem.domains.masked else ()
        choices = list(islice(product(*(c.alternatives for c in clauses)), MOST_ALTERNATIVES + 1))
        if len(choices) > MOST_ALTERNATIVES:
            return UNMASKED
        for chosen in choices:
            found[frozenset(p for a in chosen for p in a.predicates)] = None
    if frozenset() in found or len(found) > MOST_ALTERNATIVES:
        return UNMASKED
    return tuple(tuple(its) for its in found)


def met(
    problem: Problem,
    either: Masks,
    box: Mapping[str, int],
    tiles: Mapping[str, int],
    sizes: Mapping[str, int],
) -> int:
    """Pairs of an element of ``box`` and a tile of each rank of ``tiles`` that a mask may leave.

    ``tiles``: tile sizes, of variables with the extents ``sizes``.

    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> sizes = {"B": 1, "H": 1, "P": 8, "M": 8, "E": 2, "F": 2}
    >>> causal = bind(load_cascade("attention-causal"), sizes)
    >>> either = masks(causal, causal.cascade.einsums[:1])
    >>> met(causal, either, {"m": 8}, {"p": 4}, {"p": 8})  # keys 0-3, then 0-7
    12
    """
    extents = dict(box) | {_tile(v): -(-sizes[v] // t) for v, t in tiles.items()}
    if not all(either):
        return prod(extents.values())
    spans = {r.lower(): n for r, n in problem.sizes.items()} | dict(sizes) | dict(box)
    total = 0
    for predicates in either:
        left = [w for p in predicates for w in _widened(p, box, tiles, spans)]
        total += count(extents, left)
    return min(total, prod(extents.values()))


def _tile(v: str) -> str:
    return f"{v} tile"


def _widened(
    p: Predicate, box: Mapping[str, int], tiles: Mapping[str, int], spans: Mapping[str, int]
) -> Iterator[Predicate]:
    """What a predicate says of an element and of the number of a tile, at best in the tile."""
    if p.left.divisor != 1 or p.right.divisor != 1 or any(v not in spans for v in p.variables):
        return
    terms = dict(p.left.terms)
    for v, c in p.right.terms:
        terms[v] = terms.get(v, 0) - c
    offset = p.left.offset - p.right.offset
    if p.relation in ("<=", "<", "=="):
        yield from _half(terms, offset + (p.relation == "<"), box, tiles, spans)
    if p.relation in (">=", ">", "=="):
        turned = {v: -c for v, c in terms.items()}
        yield from _half(turned, -offset + (p.relation == ">"), box, tiles, spans)


def _half(
    terms: Mapping[str, int],
    offset: int,
    box: Mapping[str, int],
    tiles: Mapping[str, int],
    spans: Mapping[str, int],
) -> Iterator[Predicate]:
    """``sum(c * v) + offset <= 0`` with all that is neither in the box nor a tile at its best.

    And once more with tiles at the end of their rank, where the last may be short.
    """
    least, ends = offset, offset
    kept: dict[str, int] = {}
    own: dict[str, int] = {}
    for v, c in terms.items():
        if v in box:
            kept[v] = own[v] = c
            continue
        end = min(0, c * (spans[v] - 1))
        ends += end
        if v in tiles:
            kept[_tile(v)] = c * tiles[v]
            least += min(0, c * (tiles[v] - 1))
        else:
            least += end
    for left, by in ((kept, least), (own, ends)):
        yield Predicate(Affine(tuple(left.items()), by), "<=", Affine())
