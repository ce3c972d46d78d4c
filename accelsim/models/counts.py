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

from typing import NamedTuple

from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Hold
from accelsim.models.nest import Nest, Use


class Transfer(NamedTuple):
    """Words of one tensor at one level: reads out of it and writes into it, on whose behalf."""

    level: str
    tensor: str
    einsum: str
    reads: float
    writes: float


class Ledger:
    """Collects transfers of one group.

    Of a tile that does not fit, the spilled share is served by the next level
    outwards.  Its words still pass the level's port, so they count there too.
    """

    def __init__(self, nest: Nest, backing: str, shares: dict[str, float]) -> None:
        self.nest, self.backing, self.shares = nest, backing, shares
        self.transfers: list[Transfer] = []

    def move(
        self, chain: list[tuple[int, Hold]], tensor: str, einsum: str, reads: float, writes: float
    ) -> None:
        """Book words that a reader below the innermost hold of ``chain`` reads and writes."""
        if not reads and not writes:
            return
        hold = chain[-1][1] if chain else None
        level = hold.level if hold else self.backing
        self.transfers.append(Transfer(level, tensor, einsum, reads, writes))
        share = self.share(hold) if hold else 0.0
        if share:
            self.move(chain[:-1], tensor, einsum, share * reads, share * writes)

    def share(self, hold: Hold) -> float:
        """The share of a hold that does not fit."""
        return self.shares.get(hold.level, 0.0) if hold.spill else 0.0


def group_transfers(
    nest: Nest, arch: Architecture, shares: dict[str, float]
) -> tuple[Transfer, ...]:
    """Every transfer of a group; ``shares`` gives the spilled share by level.

    Elements of a tensor with a format are as many words of the machine as
    their bits fill.

    Here K, of 64 x 12 heads by 4096 keys by 64, comes from DRAM once:

    >>> from accelsim.explore.estimate import bind
    >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq=4096)
    >>> from accelsim.models.nest import Nest
    >>> nest = Nest(problem, mapping, mapping.groups[0])
    >>> moved = group_transfers(nest, machine, {})
    >>> sum(t.reads for t in moved if (t.level, t.tensor) == ("dram", "K")) / (64 * 12 * 4096 * 64)
    1.0
    """
    ledger = Ledger(nest, arch.backing.name, shares)
    for tensor, uses in nest.uses.items():
        for use in uses:
            _count_leaf(nest, ledger, arch, tensor, use)
        _count_holds(nest, ledger, tensor, uses)
    word = 8 * arch.word_bytes
    return tuple(
        t._replace(reads=t.reads * scale, writes=t.writes * scale)
        for t in ledger.transfers
        for scale in (nest.problem.bits(t.tensor, word) / word,)
    )


def _count_leaf(nest: Nest, ledger: Ledger, arch: Architecture, tensor: str, use: Use) -> None:
    """Book what a leaf's array reads or writes at the innermost hold."""
    span, time = nest.span(use.access), nest.time(use.leaf, use.above, arch)
    words = time.words(span)
    chain = nest.chain(tensor, use.above)
    share = nest.share(use.leaf.einsum, use.above)
    visits, first = nest.visits(span, time.loops, words)
    visits *= share
    if not use.writes:
        ledger.move(chain, tensor, use.leaf.einsum, visits, 0.0)
        return
    if nest.mapping.partial_sums:
        ledger.move(chain, tensor, use.leaf.einsum, visits - first, visits)
    else:
        ledger.move(chain, tensor, use.leaf.einsum, 0.0, first)


def _count_holds(nest: Nest, ledger: Ledger, tensor: str, uses: list[Use]) -> None:
    """Book fills and drains between each hold of a tensor and the hold outside it."""
    home = nest.home(tensor)
    seen: set[tuple[int, int]] = set()
    for use in uses:
        for position, (depth, hold) in enumerate(chain := nest.chain(tensor, use.above)):
            node = use.above[depth]
            if (home is not None and position == 0) or (id(node), id(hold)) in seen:
                continue
            seen.add((id(node), id(hold)))
            path = use.above[: depth + 1]
            below = nest.below[id(node), tensor]
            share = max(nest.share(u.leaf.einsum, path) for u in below)
            visits, first = nest.filled(hold, path)
            visits *= share
            written = any(u.writes for u in below)
            recurrent = tensor in nest.cascade.iterative
            fills = 0.0 if written and not recurrent else visits
            drains = visits if written else 0.0
            if written and not recurrent:
                fills = visits - first if nest.mapping.partial_sums else 0.0
                drains = visits if nest.mapping.partial_sums else first
            kept = 1.0 if nest.mapping.spill_adds else 1.0 - ledger.share(hold)
            outer = chain[:position]
            ledger.move(outer, tensor, "", kept * fills, kept * drains)
            ledger.transfers.append(Transfer(hold.level, tensor, "", kept * drains, kept * fills))
