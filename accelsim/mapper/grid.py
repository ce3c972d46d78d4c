"""Grids of trips: every way to cut the ranks of a frame into parts (``cuts``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from accelsim.errors import Fault, InputError, Place, one_of
from accelsim.ir.cascade import Cascade
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


#: Ways to cut a rank, one a row: factors, outermost first.
Rows: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float64]]


@lru_cache(maxsize=256)
def rows(size: int, parts: int, tiles: tuple[int, ...] = ()) -> Rows:
    """The rows of ``factors`` in which every tile divides each of ``tiles`` or is divided by it.

    >>> rows(4, 2).tolist()
    [[1.0, 4.0], [2.0, 2.0], [4.0, 1.0]]
    """
    table = np.array(factors(size, parts), dtype=np.float64).reshape(-1, parts)
    inside = np.cumprod(table[:, ::-1], axis=1)
    good = np.ones(len(table), dtype=bool)
    for tile in tiles:
        good &= np.all((inside % tile == 0) | (tile % inside == 0), axis=1)
    return table[good]


def perfect(table: Rows) -> Cuts:
    """Ways to cut a rank by perfect factors, one a row."""
    ones = np.ones(len(table))
    return Cuts(table, table, table, ones * np.prod(table[:, :-1], axis=1), False)


def cuts_of(
    size: int, parts: int, tiles: tuple[int, ...] = (), sides: tuple[int, ...] | None = None
) -> Cuts:
    """The ways to cut a rank: ``rows``, or with ``sides`` of arrays those of ``cuts.cuts``.

    >>> cuts_of(7, 2).trips.tolist(), cuts_of(7, 2, (), (4,)).full.tolist()
    ([[1.0, 7.0], [7.0, 1.0]], [[7.0, 1.0], [2.0, 4.0], [1.0, 7.0]])
    """
    if sides is None or tiles or not sparse(size):
        return perfect(rows(size, parts, tiles))
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
    tiles: Mapping[str, tuple[int, ...]] | None = None,
    sides: tuple[int, ...] | None = None,
) -> Grid:
    """The grid of a frame for rank sizes; ``fixed`` gives extents of parts that are decided.

    Parts of a cascade's own split whose size is given count as decided.
    ``tiles`` gives extents that a tile of a rank must divide or be divided by.
    With ``sides`` of arrays ranks may have a short last tile.  Raises InputError where
    nothing is left.

    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.mapper.frame import frame
    >>> c = load_cascade("matmul")
    >>> grid(c, frame(c, ("C",), ("M",)), {"M": 4, "N": 3, "K": 2}).shape
    (3,)
    """
    wanted = dict(fixed or {})
    parts = dict(found.parts)
    cut: list[tuple[str, tuple[str, ...], Cuts]] = []
    for rank, size in extents(cascade, found, sizes):
        own = [r for r in cascade.parts.get(rank, (rank,)) if r in parts]
        names = tuple(p for r in own for p in parts[r])
        for r in own:
            if r != rank and r in sizes:
                wanted.setdefault(r, sizes[r])
        missing = [w for w in wanted if w in names_of(rank, own) and w not in (*names, *own)]
        if missing:
            raise InputError(
                [Fault(Place("<mapping>"), f"{rank} is not cut into {one_of(missing)} here")]
            )
        may = sides if not (tiles or {}).get(rank) else None
        table = cuts_of(size, len(names), (tiles or {}).get(rank, ()), may)
        if own != [rank] or any(n in wanted for n in (*names, *own)) or (tiles or {}).get(rank):
            rows = [
                row
                for row in factors(size, len(names))
                if _fits(names, row, own, parts, wanted, tiles or {})
            ]
            table = perfect(np.array(rows, dtype=np.float64).reshape(-1, len(names)))
            if may is not None and own == [rank] and (sparse(size) or not rows):
                trips = tuple((n, wanted[p]) for n, p in enumerate(names) if p in wanted)
                table = cuts(size, len(names), may, trips)
            if not len(table.trips) or (own == [rank] and wanted.get(rank, size) != size):
                said = ", ".join(f"{k}={v}" for k, v in wanted.items() if k in (*names, *own))
                message = f"{rank} = {size} does not split with {said}"
                allowed = "tiles of which the last is cut wherever the others are"
                one = own == [rank] and may is not None
                raise InputError([Fault(Place("<mapping>"), message, allowed if one else "")])
        cut.append((rank, names, table))
    return _laid_out(cut, sizes)


def _laid_out(cut: list[tuple[str, tuple[str, ...], Cuts]], sizes: Mapping[str, int]) -> Grid:
    """The grid of ways to cut each rank: an axis for each that there are several ways for."""
    shape = tuple(len(table.trips) for _, _, table in cut if len(table.trips) > 1)
    trips, full = dict[str, Array](), dict[str, Array]()
    tiles, last, cut_short = dict[str, Array](), dict[str, Array](), dict[str, int]()
    axis = 0
    for rank, names, table in cut:
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
            cut_short[rank] = sizes[rank]
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
    own: list[str],
    parts: Mapping[str, tuple[str, ...]],
    wanted: Mapping[str, int],
    tiles: Mapping[str, tuple[int, ...]],
) -> bool:
    """Whether factors give every part, and every rank of a split, the extent that is wanted."""
    given = dict(zip(names, row, strict=True))
    for rank in own:
        inside = 1
        for part in reversed(parts[rank]):
            inside *= given[part]
            if any(size % inside and inside % size for size in tiles.get(rank, ())):
                return False
        if rank in wanted and int(np.prod([given[p] for p in parts[rank]])) != wanted[rank]:
            return False
    return all(given[p] == n for p, n in wanted.items() if p in given)
