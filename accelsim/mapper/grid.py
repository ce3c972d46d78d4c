"""Grids of trips: every way to cut the ranks of a frame into parts (``cuts``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from accelsim.errors import Fault, InputError, Place, one_of
from accelsim.ir.cascade import Cascade
from accelsim.ir.ends import endable
from accelsim.ir.rule import divisors
from accelsim.mapper.cuts import Cuts, cuts, sparse
from accelsim.mapper.frame import Frame
from accelsim.mapper.short import Array, Short


@lru_cache(maxsize=256)
def factors(size: int, parts: int) -> tuple[tuple[int, ...], ...]:
    """Every way to write a size as a product of so many factors, in rising order.

    >>> factors(4, 2)
    ((1, 4), (2, 2), (4, 1))
    """
    if parts == 1:
        return ((size,),)
    return tuple((d, *rest) for d in divisors(size) for rest in factors(size // d, parts - 1))


def perfect(rows: Iterable[tuple[int, ...]], parts: int) -> Cuts:
    """Ways to cut a rank into so many parts by perfect factors, one a row."""
    table = np.array(list(rows), dtype=np.float64).reshape(-1, parts)
    ones = np.ones(len(table))
    return Cuts(table, table, table, ones * np.prod(table[:, :-1], axis=1), False)


@lru_cache(maxsize=256)
def cuts_of(size: int, parts: int, sides: tuple[int, ...] | None = None) -> Cuts:
    """The ways to cut a rank: ``factors``, or with ``sides`` of arrays those of ``cuts.cuts``.

    >>> cuts_of(7, 2).trips.tolist(), cuts_of(7, 2, (4,)).full.tolist()
    ([[1.0, 7.0], [7.0, 1.0]], [[7.0, 1.0], [2.0, 4.0], [1.0, 7.0]])
    """
    if sides is None or not sparse(size):
        return perfect(factors(size, parts), parts)
    return cuts(size, parts, sides)


@dataclass(frozen=True)
class Grid:
    """Trips of every part of a frame; arrays broadcast over one axis for each rank that is cut.

    They are averages where ranks have a short last tile, of which ``short`` tells more.
    """

    trips: dict[str, Array]
    shape: tuple[int, ...]
    short: Short | None = None

    @property
    def size(self) -> int:
        """Points of the grid."""
        return int(np.prod(self.shape, dtype=np.int64))

    def at(self, point: int) -> dict[str, Array]:
        """Trips of one point, by its number."""
        where = np.unravel_index(point, self.shape)
        found = {}
        for part, trips in self.trips.items():
            index = tuple(0 if n == 1 else i for n, i in zip(trips.shape, where, strict=True))
            found[part] = trips[index]
        return found


def extents(cascade: Cascade, found: Frame, sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """Ranks that are cut on their own and their sizes; a rank that the cascade splits is one."""
    ranks: list[tuple[str, int]] = []
    for rank, _ in found.parts:
        whole = cascade.whole.get(rank, rank)
        if whole in sizes and all(whole != r for r, _ in ranks):
            ranks.append((whole, sizes[whole]))
    return ranks


def grid(
    cascade: Cascade,
    found: Frame,
    sizes: Mapping[str, int],
    fixed: Mapping[str, int] | None = None,
    sides: tuple[int, ...] | None = None,
) -> Grid:
    """The grid of a frame for rank sizes; ``fixed`` gives extents of parts that are decided.

    A rank that the cascade itself splits has trips of all its parts, also of those
    that no Einsum of the frame runs over.  Those whose size is given count as decided.
    With ``sides`` of arrays ranks may have a short last tile.  Raises InputError where
    nothing is left.

    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.mapper.frame import frame
    >>> c = load_cascade("matmul")
    >>> grid(c, frame(c, ("C",), ("M",)), {"M": 4, "N": 3, "K": 2}).shape
    (3,)
    >>> c = load_cascade("attention-1pass")
    >>> grid(c, frame(c, ("QK",), ("M1",)), {"M": 7}, sides=(4,)).trips["M1"].tolist()
    [7.0, 2.0, 1.0]
    """
    wanted = dict(fixed or {})
    cut: list[_Cut] = []
    for rank, size in extents(cascade, found, sizes):
        own = cascade.parts.get(rank, (rank,))
        wanted |= {r: sizes[r] for r in own if r != rank and r in sizes and r not in wanted}
        may = sides if own == (rank,) or rank in endable(cascade) else None
        cut.append(_cut(rank, size, {r: dict(found.parts).get(r, (r,)) for r in own}, wanted, may))
    return _laid_out(cut)


#: Parts of a rank, outermost first, its size, and the ways to cut it.
_Cut: TypeAlias = tuple[tuple[str, ...], int, Cuts]


def _cut(
    rank: str,
    size: int,
    own: Mapping[str, tuple[str, ...]],
    wanted: Mapping[str, int],
    sides: tuple[int, ...] | None,
) -> _Cut:
    """The ways to cut a rank; ``own`` are its parts by the rank that the cascade has for them."""
    names = tuple(p for parts in own.values() for p in parts)
    known = {*names, *own}
    missing = [
        part  # one as long as the rank is the rank uncut
        for part, extent in wanted.items()
        if part in names_of(rank, own) and part not in known and extent != size
    ]
    if missing:
        raise _refused(f"{rank} is not cut into {one_of(missing)} here")
    if not known & wanted.keys():
        return names, size, cuts_of(size, len(names), sides)
    rows = [row for row in factors(size, len(names)) if _fits(names, row, own, wanted)]
    table = perfect(rows, len(names))
    if sides is not None and (sparse(size) or not rows):
        trips = tuple((n, wanted[p]) for n, p in enumerate(names) if p in wanted)
        table = cuts(size, len(names), sides, trips)
    if not len(table.trips) or wanted.get(rank, size) != size:
        said = ", ".join(f"{k}={v}" for k, v in wanted.items() if k in known)
        allowed = (
            "tiles of which the last is cut wherever the others are, longer than 1 and than every "
            "array side that they pass; a mapping of one's own may have any"
        )
        raise _refused(f"{rank} = {size} does not split with {said}", allowed if sides else "")
    return names, size, table


def _refused(message: str, allowed: str = "") -> InputError:
    return InputError([Fault(Place("<mapping>"), message, allowed)])


def _laid_out(cut: Sequence[_Cut]) -> Grid:
    """The grid of ways to cut each rank: an axis for each that there are several ways for."""
    shape = tuple(len(table.trips) for _, _, table in cut if len(table.trips) > 1)
    trips, full = dict[str, Array](), dict[str, Array]()
    tiles, last = dict[str, Array](), dict[str, Array]()
    cut_short = dict[tuple[str, ...], int]()
    axis = 0
    for names, size, table in cut:
        view = [1] * len(shape)
        if len(table.trips) > 1:
            view[axis] = len(table.trips)
            axis += 1
        for n, name in enumerate(names):
            trips[name] = table.trips[:, n].reshape(view)
            if table.short:
                full[name] = table.full[:, n].reshape(view)
                last[name] = table.last[:, n].reshape(view)
        if table.short:
            tiles[names[-1]] = table.tiles.reshape(view)
            cut_short[names] = size
    return Grid(trips, shape, Short(full, last, tiles, cut_short) if cut_short else None)


def names_of(rank: str, own: Iterable[str]) -> frozenset[str]:
    """Names that parts of a rank may have: a cut's number after it, a stroke between if need be.

    >>> sorted(names_of("P", ("P",)))[:4]
    ['P', 'P0', 'P1', 'P2']
    """
    ranks = (rank, *own)
    return frozenset(ranks) | {f"{r}{s}{n}" for r in ranks for s in ("", "_") for n in range(4)}


def _fits(
    names: tuple[str, ...],
    row: tuple[int, ...],
    own: Mapping[str, tuple[str, ...]],
    wanted: Mapping[str, int],
) -> bool:
    """Whether factors give every part, and every rank of a split, the extent that is wanted."""
    given = dict(zip(names, row, strict=True))
    given |= {rank: math.prod(given[p] for p in parts) for rank, parts in own.items()}
    return all(given[p] == n for p, n in wanted.items() if p in given)
