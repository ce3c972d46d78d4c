"""How a rank may be cut into parts: perfect factors, and tiles of which the last is short.

A size with a divisor in every octave (no divisor is more than twice the one before)
is cut by its divisors, perfectly.  Others, primes above all, leave hardly a tile to
hold.  For these the tile sizes are, besides the divisors (Horeni et al., Ruby, ISPASS
2022, call such splits imperfect), for the unit u = 1 and for u each side of an array:

- *small*: u * 2^i, up to about the square root of size / u;
- *large*: u * m * 2^i, where m * 2^K is size / u rounded up to a multiple of 2^K, so
  that these tiles are nearly equal in number of elements, the last one included.

The outermost loop has as many trips as its tile needs, each tile inside divides the
one around it, and what is beyond the end is left out (``models.short``).  A row is
kept where the last tile is cut wherever others are: a loop of several trips in full
tiles has at least two in the last, and what is in the innermost tile takes several
steps there on a side of an array if it does in others.

*Average trips.*  Let N be the tiles of some depth in all.  Then N at one depth over N
at the next further out is the average of a loop's trips.  Each loop of several trips
has several everywhere, so what is fetched anew, and when, is as if all tiles were
full.  Loops over a rank that a tensor does not need, all down to some depth, bring its
tile N times; of ranks that it needs the elements of all tiles add up to the size.  So
the rule of perfect nests gives the exact number of words with average trips, and of
steps too, with the average of rounds (``evaluate.Short``).  Only rooms take full tiles.

*A cascade's own split* of a rank M into M1 tiles of M0 is such a row of two parts, in
the cascades that may leave the last tile short (``ir.ends``).  Frames cut neither part
again.  M1 is the outermost, so that its trips are whole numbers, and what runs over
tiles alone has just as many.  Whatever has M0 has M1 as well: over both parts an Einsum
or a tensor is as over one rank that is cut in two, and the average of M0 is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from accelsim.ir.rule import divisors
from accelsim.mapper.short import Array

#: A size whose divisors are never further apart than this factor is cut perfectly.
OCTAVE = 2


#: Trips that a person wants, by the number of the part, outermost first.
Wanted: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Cuts:
    """Ways to cut a rank, one a row; of parts outermost first.

    ``trips`` are averages, ``full`` those in full tiles and ``last`` those in the last
    one, the innermost part's the elements of its tile.  ``tiles`` are innermost tiles
    in all.  ``short``: whether a row has a last tile that is short.
    """

    trips: Array
    full: Array
    last: Array
    tiles: Array
    short: bool


def sparse(size: int) -> bool:
    """Whether some divisors of a size are more than an octave apart.

    >>> sparse(4096), sparse(1000), sparse(4099), sparse(1022)
    (False, False, True, True)
    """
    return any(b > OCTAVE * a for a, b in pairwise(divisors(size)))


@lru_cache(maxsize=256)
def tile_sizes(
    size: int, sides: tuple[int, ...], parts: int = 1, wanted: Wanted = ()
) -> tuple[int, ...]:
    """Tile sizes of a rank on arrays with these sides, in rising order, the whole among them.

    Where trips of some of so many parts are ``wanted``, those that may come to them too.

    >>> tile_sizes(12, (8,)), tile_sizes(37, ()), tile_sizes(37, (), 2, ((1, 7),))
    ((1, 2, 3, 4, 6, 12), (1, 2, 4, 5, 8, 10, 20, 37), (1, 2, 4, 5, 7, 8, 10, 14, 20, 21, 37))
    """
    found = set(divisors(size))
    trips = dict(wanted)
    inner = trips.pop(parts - 1, 1)
    outer = -(-size // trips.pop(0, size))
    found |= {inner * -(-outer // inner)} if wanted else set()
    for unit in (1, *sides, inner) if sparse(size) or wanted else ():
        units = -(-size // unit)
        power = max(0, math.ceil((math.log2(units) - 1) / 2))
        large = unit * -(-units // 2**power)
        found |= {unit * 2**i for i in range(power + 1)} | {large * 2**i for i in range(power)}
    for times in trips.values():
        found |= {n * times for n in found}
    return tuple(sorted(n for n in found if n <= size))


def chains(
    size: int, parts: int, sides: tuple[int, ...], wanted: Wanted = ()
) -> Iterator[tuple[int, ...]]:
    """Tile sizes of each part with all inside it, outermost first: the size, then tiles.

    >>> list(chains(7, 2, ())), list(chains(11, 2, (), ((1, 3),)))
    ([(7, 1), (7, 4), (7, 7)], [(11, 3)])
    """
    sizes = tile_sizes(size, sides, parts, wanted)

    def grow(chain: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(chain) == parts:
            yield chain
            return
        for tile in sizes:
            if tile <= chain[-1] and (len(chain) == 1 or chain[-1] % tile == 0):
                yield from grow((*chain, tile))

    def fits(chain: tuple[int, ...]) -> bool:
        """Whether the parts have the trips that are wanted."""
        ends = (*chain, 1)
        return all(-(-ends[n] // ends[n + 1]) == trips for n, trips in wanted)

    return (chain for chain in grow((size,)) if fits(chain) and _even(chain, sides))


def _even(chain: tuple[int, ...], sides: tuple[int, ...]) -> bool:
    """Whether the last tile is cut wherever others are."""
    last = chain[0]
    for n, (outer, inner) in enumerate(pairwise(chain)):
        if n and inner < outer and last <= inner:
            return False
        last = (last - 1) % inner + 1
    return all(last > side or chain[-1] <= side for side in (1, *sides))


@lru_cache(maxsize=256)
def cuts(size: int, parts: int, sides: tuple[int, ...] = (), wanted: Wanted = ()) -> Cuts:
    """The ways to cut a rank into so many parts on arrays with these sides.

    ``wanted`` are trips in full tiles that some parts must have.

    >>> found = cuts(10, 2)
    >>> found.full[found.full[:, 1] == 4].tolist(), cuts(7, 2).trips[1].tolist()
    ([[3.0, 4.0]], [2.0, 3.5])
    """
    table = np.array(list(chains(size, parts, sides, wanted)), dtype=np.float64).reshape(-1, parts)
    tiles = np.ceil(size / table)
    inner = np.concatenate([table[:, 1:], np.ones((len(table), 1))], axis=1)
    more = np.concatenate([tiles[:, 1:], np.full((len(table), 1), float(size))], axis=1)
    last = np.ceil((size - (tiles - 1) * table) / inner)
    full = np.ceil(table / inner)
    return Cuts(more / tiles, full, last, tiles[:, -1], bool(np.any(more / tiles != full)))
