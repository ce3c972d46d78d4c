"""The least traffic of one Einsum over its mapspace, against capacity: the ski slope.

The mapspace (Huang et al., Mind the Gap: Orojenesis, ISCA 2024): a tile size
for each rank, any whole number; the order of the loops over tiles; and one
tensor that streams past word by word while the tiles of the others stay.

* A tensor's tile is fetched anew when a loop over one of its ranks steps, so
  it is moved as often as the loops outside the innermost of those, over ranks
  that it does not have, go round; in each round it is moved whole.  An output
  that is visited v times is stored v times and loaded v-1 times.
* The tile of a tensor that streams takes one word: inside a tile its indices
  are the outer loops.  It is then fetched for every tile.
* Ranks that the same tensors have are one rank, of their product: a loop over
  pairs (b, p) in order.

Between two tile sizes with the same number of tiles the smaller is better, so
``ceil(N / t)`` for t = 1, 2, ... are all sizes that matter.  Tiles of which a
mask leaves nothing are skipped in the best tiling of each order (``masks``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import inf, isqrt, prod
from typing import Final

import numpy as np

from accelsim.analysis.hbl import Array
from accelsim.analysis.masks import UNMASKED, masks, met
from accelsim.analysis.statement import Program, Projection, Statement

#: Tile sizes tried for each rank but the largest, by how many ranks have tiles.
FINE: Final = {0: 1, 1: 1, 2: 400, 3: 90, 4: 18, 5: 9}
FINEST: Final = 1200
#: With more ranks than this apart the smallest are not tiled.
MOST_RANKS: Final = 5


@dataclass(frozen=True, slots=True)
class Tiling:
    """A mapping of one Einsum: words on chip, words moved, tiles in loop order, what streams."""

    words_held: int
    words_moved: int
    tiles: tuple[tuple[str, int], ...]
    streams: str

    def __str__(self) -> str:
        """The mapping in words.

        >>> print(Tiling(7, 100, (("m", 2), ("n", 2), ("k", 1)), "A"))
        loops over tiles m:2, n:2, k:1; A streams
        """
        loops = ", ".join(f"{v}:{n}" for v, n in self.tiles)
        return f"loops over tiles {loops}; {self.streams} streams"


def tile_sizes(extent: int, most: int) -> list[int]:
    """Tile sizes of a rank that matter, the least for each number of tiles; about ``most``.

    >>> tile_sizes(10, 100)
    [1, 2, 3, 4, 5, 10]
    """
    root = isqrt(extent)
    found = {-(-extent // t) for t in range(1, root + 1)}
    found |= {n for n in range(1, -(-extent // max(root, 1)) + 1) if -(-extent // n) >= root}
    sizes = sorted(n for n in found if -(-extent // -(-extent // n)) == n)
    if len(sizes) <= most:
        return sizes
    ends = max(most // 4, 1)  # where the number of tiles, or the tile, is small every size counts
    kept = {n for n in sizes if n <= ends or -(-extent // n) <= ends}
    even = np.searchsorted(sizes, np.geomspace(1, extent, max(most - len(kept), 2)))
    return sorted(kept | {sizes[min(int(i), len(sizes) - 1)] for i in even})


@dataclass(frozen=True)
class _Rank:
    """Ranks that the same accesses have, as one; ``names`` of the variables."""

    names: tuple[str, ...]
    extent: int


class Mapspace:
    """All tilings of one statement.

    >>> from accelsim.analysis.statement import program
    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> matmul = program(bind(load_cascade("matmul"), {"M": 4, "N": 4, "K": 4}))
    >>> words, how = Mapspace(matmul, matmul.statements[0]).slope([3, 48])
    >>> words.tolist(), str(how[0])
    ([144.0, 48.0], 'loops over tiles m:1, n:1, k:1; A streams')
    """

    def __init__(self, program: Program, statement: Statement) -> None:
        self.program = program
        self.statement = statement
        self.accesses: list[Projection] = [*dict.fromkeys(statement.reads), statement.output]
        self.batch, self.ranks = self._ranks()

    def _ranks(self) -> tuple[int, list[_Rank]]:
        """How often the rest is repeated (ranks of every tensor), and the ranks that have tiles."""
        s = self.statement
        mixed = {v for a in self.accesses for row in a.rows if len(row) > 1 for v, _ in row}
        groups: dict[object, list[str]] = {}
        for v in s.sizes:
            members = tuple(v in a.variables for a in self.accesses)
            groups.setdefault(v if v in mixed else members, []).append(v)
        batch, found = 1, []
        for key, names in groups.items():
            if isinstance(key, tuple) and all(key):
                batch *= s.span(names)
            elif s.span(names) > 1:
                found.append(_Rank(tuple(names), s.span(names)))
        found.sort(key=lambda r: -r.extent)
        return batch, found

    def slope(
        self, capacities: Sequence[int], every: bool = False
    ) -> tuple[Array, list[Tiling | None]]:
        """For each capacity in words the fewest words moved (infinite where nothing fits), and how.

        ``every``: try every tile size that matters, not only some of them,
        as long as at most three ranks have tiles.  The largest rank always
        has the largest tile that fits: what is on chip grows linearly with it.
        """
        caps = np.asarray(capacities, dtype=float)
        best = np.full(len(caps), inf)
        how: list[Tiling | None] = [None] * len(caps)
        others = self._grid(every)
        first = self.ranks[0].extent if self.ranks else 1
        one = np.ones_like(others[0]) if others else np.ones(1)
        base = self._tiles_of([0 * one, *others])
        slopes = [y - x for x, y in zip(base, self._tiles_of([one, *others]), strict=True)]
        tiled = range(min(len(self.ranks), MOST_RANKS))
        for streaming in range(len(self.accesses)):
            fixed = sum(base) - base[streaming] + 1
            slope = sum(slopes) - slopes[streaming]
            for c, cap in enumerate(caps):
                with np.errstate(divide="ignore", invalid="ignore"):
                    room = np.where(slope > 0, (cap - fixed) / slope, first * (fixed <= cap))
                largest = np.minimum(np.floor(room), first)
                fit = np.flatnonzero(largest >= 1)
                if not len(fit):
                    continue
                tiles = [largest[fit], *(t[fit] for t in others)][: max(len(self.ranks), 1)]
                for order in permutations(tiled):
                    moved = self._moved(order, tiles, streaming)
                    at = int(np.argmin(moved))
                    chosen = [float(t[at]) for t in tiles]
                    least = self._under_masks(order, chosen, streaming, float(moved[at]))
                    if least < best[c]:
                        best[c] = least
                        how[c] = self._tiling(order, chosen, streaming, best[c])
        return best, how

    def _under_masks(
        self, order: Sequence[int], tiles: Sequence[float], streaming: int, moved: float
    ) -> float:
        """Words moved of a chosen tiling, without the tiles of which a mask leaves nothing.

        As many as without masks where it is not known to be less.
        """
        s, problem = self.statement, self.program.problem
        either = masks(problem, [s.einsum])
        if either == UNMASKED or not all(a.plain for a in self.accesses):
            return moved
        total = 0
        for n, access in enumerate(self.accesses):
            steps, stepping = dict[str, int](), n == streaming
            for i in reversed(order):
                rank, trips = self.ranks[i], -(-self.ranks[i].extent // int(tiles[i]))
                if access.variables & set(rank.names):
                    stepping = stepping or trips > 1
                elif stepping and trips > 1:
                    if len(rank.names) > 1:
                        return moved
                    steps[rank.names[0]] = int(tiles[i])
            box = {v: s.sizes[v] for v in access.variables}
            words = met(problem, either, box, steps, s.sizes)
            last = n == len(self.accesses) - 1
            total += 2 * words - self.program.element_count(access.tensor) if last else words
        return min(moved, float(total))

    def _grid(self, every: bool) -> list[Array]:
        """Tile sizes of all ranks but the first, all combinations, one array a rank."""
        others = self.ranks[1:]
        count = len(self.ranks[:MOST_RANKS])
        most = FINEST if every and count <= 3 else FINE[count]
        sizes = [
            tile_sizes(r.extent, most) if n + 1 < MOST_RANKS else [r.extent]
            for n, r in enumerate(others)
        ]
        grids = np.meshgrid(*(np.array(n, dtype=float) for n in sizes), indexing="ij")
        return [g.ravel() for g in grids]

    def _tiles_of(self, tiles: list[Array]) -> list[Array]:
        return [self._tile(a, tiles[: max(len(self.ranks), 1)]) for a in self.accesses]

    def _tiling(
        self, order: Sequence[int], tiles: list[float], streaming: int, moved: float
    ) -> Tiling:
        words = [float(x[0]) for x in self._tiles_of([np.array([t]) for t in tiles])]
        held = sum(words) - words[streaming] + 1
        loops = [(",".join(self.ranks[i].names), int(tiles[i])) for i in order]
        return Tiling(int(held), int(moved), tuple(loops), self.accesses[streaming].tensor)

    def _tile(self, access: Projection, tiles: list[Array]) -> Array:
        """Words of the tile of an access."""
        size = {r.names: t for r, t in zip(self.ranks, tiles, strict=False)}
        found = np.ones_like(tiles[0])
        alone = {row[0][0] for row in access.rows if len(row) == 1}
        for names, tile in size.items():
            if alone & set(names):
                found = found * tile
        for row in access.rows:
            if len(row) > 1:
                reach = np.ones_like(found)
                for v, c in row:
                    reach = reach + abs(c) * (
                        next((t for names, t in size.items() if v in names), np.ones(1)) - 1
                    )
                found = found * reach
        if access.dull:  # a position that is looked up, clamped or divided: all of it
            found = np.full_like(found, float(self.program.problem.tensor_elements(access.tensor)))
        return found

    def _moved(self, order: Sequence[int], tiles: list[Array], streaming: int) -> Array:
        """Words moved by each choice of tiles, for one order of the loops."""
        trips = [np.ceil(r.extent / t) for r, t in zip(self.ranks, tiles, strict=False)]
        total = np.zeros_like(tiles[0])
        for n, access in enumerate(self.accesses):
            rounds = np.ones_like(total)
            stepping = np.full(total.shape, n == streaming)
            for i in reversed(order):
                if access.variables & set(self.ranks[i].names):
                    stepping = stepping | (trips[i] > 1)
                else:
                    rounds = rounds * np.where(stepping, trips[i], 1)
            whole = self._whole(access, trips, tiles)
            if n == len(self.accesses) - 1:
                total = total + whole * (2 * rounds - 1)
            else:
                total = total + whole * rounds
        return total * self.batch

    def _whole(self, access: Projection, trips: list[Array], tiles: list[Array]) -> Array:
        """Words of a tensor when each of its tiles is moved once, for one element of the batch.

        Tiles of a plain access share nothing; those of a window overlap.
        """
        count = float(self.program.element_count(access.tensor)) / self.batch
        mixed = [row for row in access.rows if len(row) > 1]
        if not mixed or access.dull:
            return np.full_like(tiles[0], count)
        own = {v for row in access.rows for v, _ in row}
        rounds = prod(
            (t for r, t in zip(self.ranks, trips, strict=False) if own & set(r.names)),
            start=np.ones_like(tiles[0]),
        )
        tiled = self._tile(access, tiles) * rounds
        return np.where(rounds == 1, np.minimum(count, tiled), tiled)
