"""Words moved between levels by a mapping, in closed form from the loop nest.

A tile is fetched whole each time another one is needed (``models.tiles``), so
words are fetches times elements.  For plain indices that is the classical
rule (Parashar et al., Timeloop, ISPASS 2019, section VI; Yang et al.,
nn_dataflow): the product of the trips of all loops above the tile, without
the innermost run of loops that the tensor does not depend on.

Assumptions that could be wrong for a machine: every access of an Einsum keeps
its last operands latched until it needs others, whatever runs in between; a
fetch brings the whole tile, even where windows overlap; a word that several
PEs read in one step is read once (multicast), and so is one that an Einsum
names twice; the state of a recurrence comes in and goes out at each step;
accesses of one tensor below a node need nested tiles.  ``tests/oracle/nest.py``
replays the nest element by element under the same assumptions and must give
the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Hold
from accelsim.models.nest import Nest
from accelsim.models.path import Path, Tile, Use


class Transfer(NamedTuple):
    """Words of one tensor at one level: reads out of it and writes into it, on whose behalf."""

    level: str
    tensor: str
    einsum: str
    reads: float
    writes: float


class Ledger:
    """Collects transfers of one group, in words of the machine.

    Of a tile that does not fit, the spilled share is served by the next level
    outwards.  Its words still pass the level's port, so they count there too.
    """

    def __init__(self, nest: Nest, arch: Architecture, shares: dict[str, float]) -> None:
        self.nest, self.arch, self.shares = nest, arch, shares
        self.backing, self.scale = arch.backing.name, 1.0
        self.times = nest.times(arch)
        self.transfers: list[Transfer] = []

    def tensor(self, tensor: str, uses: Sequence[Use]) -> None:
        """Book all that moves of a tensor: of each use, then of each tile that is held."""
        bits = 8 * self.arch.word_bytes
        self.scale = self.nest.problem.bits(tensor, bits) / bits
        home = self.nest.home(tensor)
        chains: dict[Path, tuple[Tile, ...]] = {}  # in the order of the uses
        for use in uses:
            path = use.placed.path
            chain = chains.get(path)
            if chain is None:
                chain = chains[path] = _chain(path.held.get(tensor, ()), home)
            self._leaf(tensor, use, chain)
        seen = {home}
        for chain in chains.values():
            for position, tile in enumerate(chain):
                if tile not in seen:
                    seen.add(tile)
                    self._tile(tile, chain[:position])

    def _leaf(self, tensor: str, use: Use, chain: Sequence[Tile]) -> None:
        """Book what a leaf's array reads or writes at the innermost tile."""
        nest, placed = self.nest, use.placed
        visits, first = nest.touched(use, self.times[placed.number])
        visits *= nest.share(placed, placed.path)
        if not use.writes:
            reads, writes = visits, 0.0
        elif nest.mapping.partial_sums:
            reads, writes = visits - first, visits
        else:
            reads, writes = 0.0, first
        self._book(chain, tensor, placed.leaf.einsum, reads, writes)

    def _tile(self, tile: Tile, outer: Sequence[Tile]) -> None:
        """Book fills and drains between a tile and the next one outwards."""
        nest, hold = self.nest, tile.hold
        visits, first = nest.filled(tile)
        visits *= max([nest.share(use.placed, tile.path) for use in tile.uses])
        written = any(use.writes for use in tile.uses)
        recurrent = hold.tensor in nest.cascade.iterative
        fills = 0.0 if written and not recurrent else visits
        drains = visits if written else 0.0
        if written and not recurrent:
            fills = visits - first if nest.mapping.partial_sums else 0.0
            drains = visits if nest.mapping.partial_sums else first
        kept = 1.0 if nest.mapping.spill_adds else 1.0 - self._share(hold)
        fills, drains = kept * fills, kept * drains
        self._book(outer, hold.tensor, "", fills, drains)
        reads, writes = drains * self.scale, fills * self.scale
        self.transfers.append(Transfer(hold.level, hold.tensor, "", reads, writes))

    def _book(
        self, chain: Sequence[Tile], tensor: str, einsum: str, reads: float, writes: float
    ) -> None:
        """Book words that a reader below the innermost tile of ``chain`` reads and writes."""
        if not reads and not writes:
            return
        level, scale = chain[-1].hold.level if chain else self.backing, self.scale
        self.transfers.append(Transfer(level, tensor, einsum, reads * scale, writes * scale))
        share = self._share(chain[-1].hold) if chain and self.shares else 0.0
        if share:
            self._book(chain[:-1], tensor, einsum, share * reads, share * writes)

    def _share(self, hold: Hold) -> float:
        """The share of a hold that does not fit."""
        return self.shares.get(hold.level, 0.0) if hold.spill else 0.0


def _chain(tiles: tuple[Tile, ...], home: Tile | None) -> tuple[Tile, ...]:
    """Tiles of one tensor on a path, from its home inwards."""
    return tiles if home is None or tiles[0] is home else tiles[tiles.index(home) :]


def group_transfers(
    nest: Nest, arch: Architecture, shares: dict[str, float]
) -> tuple[Transfer, ...]:
    """Every transfer of a group; ``shares`` gives the spilled share by level.

    Elements of a tensor with a format are as many words of the machine as
    their bits fill.

    Here K, of 64 x 12 heads by 4096 keys by 64, comes from DRAM once:

    >>> from accelsim.explore.estimate import bind
    >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq=4096)
    >>> nest = Nest(problem, mapping, mapping.groups[0])
    >>> moved = group_transfers(nest, machine, {})
    >>> sum(t.reads for t in moved if (t.level, t.tensor) == ("dram", "K")) / (64 * 12 * 4096 * 64)
    1.0
    """
    ledger = Ledger(nest, arch, shares)
    for tensor, uses in nest.uses.items():
        ledger.tensor(tensor, uses)
    return tuple(ledger.transfers)
