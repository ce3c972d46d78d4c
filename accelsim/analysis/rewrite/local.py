"""The local form: every tile summed under its own statistics, corrected once these are whole.

See ``running`` for the algebra: ``T = sum_{r1} LT[r1] * s(G) / s(LG[r1])``
(TileFlow; Rabe and Staats).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from accelsim.analysis.rewrite.algebra import raised, times
from accelsim.analysis.rewrite.corrected import Corrected, Kept, stem
from accelsim.analysis.rewrite.forms import ZERO, Sum
from accelsim.analysis.rewrite.guards import select_finite
from accelsim.analysis.rewrite.indices import plain
from accelsim.analysis.rewrite.program import Def, Names, Program, atom_of
from accelsim.analysis.rewrite.settle import changed
from accelsim.analysis.rewrite.tiling import tilings


def local(program: Program, rank: str) -> Program | None:
    """Every sum over a rank that waits for a statistic, taken tile by tile under the tile's own."""
    for tiled in tilings(program, rank):
        if tiled.inner:
            return _Local(tiled).result()
    return None


class _Local(Corrected):
    """The rewrite of one program.  ``tiles``: for each statistic its tensor by tiles."""

    tiles: Mapping[str, str]

    def result(self) -> Program | None:
        """The program with every sum that can be taken by tiles."""
        first = {n: k.of for n, k in self.kept.items() if not k.statistics and self._tiles(k)}
        chosen = [
            k
            for k in self.corrected
            if self._tiles(k) and k.statistics & self.kept.keys() <= first.keys()
        ]
        if not chosen:
            return None
        names = self.program.taken()
        wanted = sorted({n for k in chosen for n in k.statistics & first.keys()})
        self.tiles = {n: names.fresh("L" + stem(n)) for n in wanted}
        new: list[Def] = []
        hollow = dict(self.program.hollow)
        for name, tile in self.tiles.items():
            new += self._by_tiles(tile, first[name], first[name].body)
            if name in hollow:
                hollow[tile] = hollow[name]
        program = replace(self.program, hollow=hollow)
        ratios = [(k, self._ratio(k)) for k in chosen]
        for k, ratio in ratios:
            new += self._sums(program, names, k.of, ratio)
        phrases = self.corrections(names, ratios)
        phrases += self.by_tiles(names, self._under)
        said = f"sum {', '.join(k.of.name for k in chosen)} by tiles, each under its own"
        return changed(
            program,
            new,
            said=f"{said} {', '.join(self.tiles)}",
            phrases=(*phrases, *program.phrases),
            tiled=True,
        )

    def _tiles(self, k: Kept) -> bool:
        """Whether a reduction is over elements of a tile."""
        return k.of.over != {self.tiled.outer}

    def _under(self, s: Sum) -> Sum:
        """A normal form with each tile's own statistics for the whole ones."""
        return self.moved(s, self.tiles, plain(self.tiled.outer))

    def _ratio(self, k: Kept) -> Sum:
        """What a tile's sum owes to the whole statistics."""
        return times(k.factor, raised(self._under(k.factor), Fraction(-1)))

    def _by_tiles(self, name: str, d: Def, body: Sum) -> list[Def]:
        """A reduction over a tile, and that over all tiles of it."""
        tile = self.tile(name, d, body)
        over = frozenset((self.tiled.outer,))
        return [tile, replace(d, over=over, body=atom_of(tile), where=tile.domain)]

    def _sums(self, program: Program, names: Names, d: Def, ratio: Sum) -> list[Def]:
        """A sum by tiles, corrected: a tile without any element gives 0."""
        name = names.fresh("L" + stem(d.name))
        tile, whole = self._by_tiles(name, d, self._under(d.body))
        body = times(whole.body, ratio)
        if d.name in program.hollow:
            body = select_finite(program, body, ZERO)
        return [tile, replace(whole, body=body)]
