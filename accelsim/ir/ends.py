"""Splits of a cascade's own that need not divide: tiles of which the last is short.

A rank M that is split into M1 tiles of M0 may be shorter than M1 * M0.  What lies beyond
its end is not there: an Einsum that runs over both parts computes only the points with
``m1*M0 + m0 < M``, which is one more condition of it.  Einsums over the tiles alone compute
all of them, since each has an element at least.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from accelsim.errors import Fault, InputError
from accelsim.ir.cascade import Cascade, Compare, Einsum, Index, Last, rank_of


def misfit(rank: str, parts: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[str, str] | None:
    """What is wrong with a rank's tiles, one of them beyond its end or too few, and what is right.

    ``parts`` are two, the tiles first.

    >>> misfit("M", ("M1", "M0"), {"M": 10, "M1": 3, "M0": 4})
    >>> misfit("M", ("M1", "M0"), {"M": 10, "M1": 4, "M0": 4})
    ('M1 = 4 tiles of M0 = 4 do not make up M = 10', 'M1 = 3, the last tile short')
    """
    (outer, inner), size = parts, sizes[rank]
    tiles, tile = sizes[outer], sizes[inner]
    if (tiles - 1) * tile < size <= tiles * tile:
        return None
    message = f"{outer} = {tiles} tiles of {inner} = {tile} do not make up {rank} = {size}"
    return message, f"{outer} = {-(-size // tile)}, the last tile short"


def short_splits(cascade: Cascade, sizes: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    """Ranks of which the cascade's own split leaves a short last tile, with their two parts."""
    found = {}
    for rank, parts in cascade.splits:
        if len(parts) == 2 and sizes[rank] != sizes[parts[0]] * sizes[parts[1]]:
            found[rank] = (parts[0], parts[1])
    return found


@lru_cache(maxsize=64)
def ended(cascade: Cascade, ranks: tuple[str, ...]) -> Cascade:
    """The cascade for sizes with which the last tiles of some split ranks are short.

    Raises InputError where what is beyond the end cannot be left out: Einsums or tensors over
    inner parts alone, a recurrence along them, indices that are no plain variables.

    >>> from accelsim.load.cascade import load_cascade
    >>> short = ended(load_cascade("attention-1pass"), ("M",))
    >>> len(short.steps["QK"].where), len(short.steps["RM"].where)
    (1, 0)
    """
    parts = {rank: dict(cascade.splits)[rank] for rank in ranks}
    faults = [f for rank in ranks for f in _faults(cascade, rank, *parts[rank])]
    if faults:
        raise InputError(faults)
    einsums = []
    for einsum in cascade.einsums:
        space = cascade.boxes[einsum.name]
        ends = tuple(
            Compare(Index(((rank.lower(), 1),)), "<", Index(sizes=((rank, 1),)))
            for rank, its in parts.items()
            if its[-1] in space
        )
        einsums.append(replace(einsum, where=(*einsum.where, *ends)))
    return replace(cascade, einsums=tuple(einsums))


@lru_cache(maxsize=64)
def endable(cascade: Cascade) -> frozenset[str]:
    """Ranks that the cascade splits into two parts and whose last tile may be short.

    >>> from accelsim.load.cascade import load_cascade
    >>> sorted(endable(load_cascade("flash-attention-2")))
    ['M', 'P']
    """
    two = {rank: its for rank, its in cascade.splits if len(its) == 2}
    return frozenset(r for r, its in two.items() if next(_faults(cascade, r, *its), None) is None)


def _faults(cascade: Cascade, rank: str, outer: str, inner: str) -> Iterator[Fault]:
    """Why the last tile of a rank cannot be short."""
    for einsum in cascade.einsums:
        space = cascade.boxes[einsum.name]
        if inner in space and outer not in space:
            yield _fault(einsum, rank, f"{einsum.name} runs over {inner} alone")
        for access in (*einsum.reads, einsum.output):
            along = cascade.iterative.get(access.tensor)
            plain: list[str] = []
            for at, own in zip(access.indices, cascade.tensors[access.tensor], strict=True):
                read = {own, *(rank_of(v) for v in at.variables)} & {rank, outer, inner}
                slot = isinstance(at, Index | Last) and along == own == outer
                if isinstance(at, Index) and at.plain is not None and rank not in read:
                    plain += [] if slot else read
                elif read and not slot:
                    yield _fault(einsum, rank, f"{einsum.name} has no plain index into {own}")
            if inner in plain and outer not in plain:
                yield _fault(einsum, rank, f"{access.tensor} is there for {inner} alone")
            if len(plain) > len({*plain}):
                yield _fault(einsum, rank, f"{einsum.name} has an index twice into {access.tensor}")


def _fault(einsum: Einsum, rank: str, why: str) -> Fault:
    message = f"{why}, so that the last tile of {rank} cannot be short"
    return Fault(einsum.place, message, "parts that divide")
