"""The least traffic of a group of Einsums that run together, tile by tile: fusion on shared ranks.

**The mapspace.**  Statements of a group run in their order inside shared loops:

1. *outer* ranks and the *tile* rank: loops around the whole group, over ranks
   along which no statement completes what another one of the group reads;
   the outer ones one index at a time, the tile rank p at a time.
2. Inside, a *stream* rank R goes past, r indices at a time, once for each
   pass: a statement that needs what is complete only after all of R, and
   again reads something along R, runs in a later pass.
3. All other ranks are whole inside a tile.
   Or the statements that have a rank R' run after the others of a pass, for
   one index of R' after another, if none sums over it: what they hand on to
   each other takes one index then, and a state that steps along R one slot
   and an index instead of two slots.
4. Of what passes by, only what a mask leaves of a tile or block is fetched
   (``masks``).

FLAT's, FlashAttention's and FuseMax's fused attention are of this kind (tile
rank: queries; stream rank: keys or blocks of keys; three, two or one pass).

**On chip.**  Intermediates without R live from where they are begun to their
last use; those with R take r of it if they are used in the pass in which they
are made.  If they are used in a later pass, they are kept whole, or stored and
loaded again, or computed again.  What enters or leaves the group is held for a
whole tile (then it is loaded once, and not again while only loops turn that it
does not have) or passes by: one such tensor of each statement takes one word,
the others a tile, or where a private rank can be the outermost loop, a column
of it.  The peak over the statements is what must fit, so the largest tile that
fits follows in closed form: everything on chip is linear in p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import inf, prod
from typing import Final

import numpy as np

from accelsim.analysis.group import Group, Loops
from accelsim.analysis.hbl import Array
from accelsim.analysis.masks import UNMASKED
from accelsim.analysis.occupancy import Occupancy
from accelsim.analysis.plan import STORED, Plan, Words
from accelsim.analysis.statement import Projection

#: Tensors from outside a group that may be held, the largest.
MOST_HELD: Final = 4


@dataclass(frozen=True, slots=True)
class Fused:
    """A mapping of a group: loops, tile and block, what is held, what crosses passes and how."""

    statements: tuple[str, ...]
    loops: Loops
    tile: int
    block: int
    held: tuple[str, ...]
    crossing: tuple[tuple[str, str], ...]
    passes: int
    column: str = ""

    def __str__(self) -> str:
        """The mapping in words.

        >>> loops = Loops((), ("p",), "m")
        >>> print(Fused(("QK", "GM"), loops, 8, 2, ("Q",), (("QK", "kept"),), 1))
        tiles of 8 of p; 1 pass over m in blocks of 2; Q held; QK kept
        """
        parts = [f"tiles of {self.tile} of {','.join(self.loops.tile)}"] if self.loops.tile else []
        if self.loops.stream:
            times = f"{self.passes} pass{'es' * (self.passes > 1)}"
            parts.append(f"{times} over {self.loops.stream} in blocks of {self.block}")
        if self.column:
            parts.append(f"{self.column} index by index")
        if self.held:
            parts.append(f"{', '.join(self.held)} held")
        parts += [f"{t} {how}" for t, how in self.crossing]
        return "; ".join(parts) or "all on chip"


@dataclass(slots=True)
class Slope:
    """The fewest words moved at each capacity (infinite where nothing fits), and the mappings."""

    words: Array
    how: list[Fused | None] = field(default_factory=list)


def slope(group: Group, capacities_words: Sequence[int]) -> Slope:
    """The least traffic of a group's statements run together, at each capacity in words.

    A softmax of 50 elements: with 4 words X is read in each of three passes,
    with 200 once.

    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.analysis.statement import program
    >>> softmax = program(bind(load_cascade("softmax"), {"B": 2, "M": 50}))
    >>> found = slope(Group(softmax, softmax.statements, frozenset({"Y"})), [1, 4, 200])
    >>> found.words.tolist(), str(found.how[2])
    ([inf, 400.0, 200.0], 'tiles of 1 of b; 3 passes over m in blocks of 1; Y held; SN kept')
    """
    caps = np.asarray(capacities_words, dtype=float)
    best = Slope(np.full(len(caps), inf), [None] * len(caps))
    for loops in group.loops():
        plan = Plan(group, loops)
        for way in plan.ways() if plan.legal else ():
            at = Occupancy(plan, way)
            for column in ("", *at.columns()):
                costs = _Costs(plan, Occupancy(plan, way, column) if column else at)
                if costs.floor < best.words.max():
                    costs.improve(best, caps)
    return best


class _Costs:
    """What a plan moves, for every choice of what is held."""

    def __init__(self, plan: Plan, at: Occupancy) -> None:
        self.plan = plan
        self.group = plan.group
        self.at = at

    @property
    def floor(self) -> float:
        """Words that are moved whatever is held: what every mapping moves, and what is stored."""
        stored = self._inside(np.ones((1, 1))) - sum(
            self.plan.program.element_count(t) for t in self.group.inner & self.group.wanted
        )
        return self.group.floor + float(stored[0, 0])

    # -- traffic -------------------------------------------------------------------------------

    def _moved(self, t: str, held: bool, trips: Array, tile: Array) -> Array:
        """Words moved of a tensor from outside the group; arrays over blocks and capacities."""
        plan, group = self.plan, self.group
        own = self.at.own(t)
        r = plan.loops.stream
        accesses = self.at.outside[t]
        written = t in group.written
        count = float(plan.program.element_count(t))
        laps = {m: self.at.runs[m] for m, _ in accesses if plan.streams(group.statements[m])}
        rest = len({m for m, _ in accesses if not plan.streams(group.statements[m])})
        rounds: Array = np.ones_like(trips)
        if not held and not written:
            passes = float(len(set().union(*laps.values()))) if laps else 0.0
            if r and r not in own.variables:
                around = np.ceil(plan.length / plan.blocks)[:, None]
                rounds = rounds * (passes * around + rest)
            else:
                rounds = rounds * max(passes + rest, 1.0)
        turning = self._turning(own, held, trips)
        if written:
            reduced = self._turning(own, held, trips, self._summed(t))
            return self._whole(own, count, trips, tile, held) * (2 * reduced - 1)
        moved: Array = self._whole(own, count, trips, tile, held) * rounds * turning
        if not held and self.group.masks_of(t) != UNMASKED:
            passing = len(set().union(*laps.values())) if laps else rest
            left = passing * self._met(t, own, tile, bool(laps))
            moved = np.minimum(moved, left + (rest * count * turning if laps else 0))
        return moved

    def _met(self, t: str, own: Projection, tile: Array, streams: bool) -> Array:
        """Words of a tensor that is fetched for each tile which a mask leaves of it.

        And for each block, where it ``streams`` by.  Infinite where tiles are
        of several ranks, or the tensor is no plain one.
        """
        plan = self.plan
        loops = [v for v in plan.loops.tile if v not in own.variables]
        if not own.plain or (len(loops) > 0 and len(plan.loops.tile) > 1):
            return np.full_like(tile, inf)
        stream = plan.loops.stream if streams and plan.loops.stream not in own.variables else ""
        box = {v: self.group.sizes[v] for v in own.variables | plan.outer}
        found = np.empty_like(tile)
        for i, c in np.ndindex(*tile.shape):
            steps = dict.fromkeys(loops, int(tile[i, c]))
            if stream:
                steps[stream] = int(plan.blocks[i])
            found[i, c] = self.group.met(t, box, steps)
        return found

    def _summed(self, t: str) -> set[str]:
        """Variables that a write of the tensor is summed over."""
        return {v for s in self.group.statements if s.output.tensor == t for v in s.reduced}

    def _turning(
        self, own: Projection, held: bool, trips: Array, among: set[str] | None = None
    ) -> Array:
        """How often a tensor is moved because of shared loops that it does not have.

        Held, it stays while loops inside the innermost one that it has turn.
        ``among``: only loops over these variables count.
        """
        loops = [(vs, float(self.plan.program.span(vs))) for vs in self.plan.loops.outer]
        found = np.ones_like(trips)
        stepping = np.full(trips.shape, not held)
        tile = self.plan.loops.tile
        if tile:
            if own.variables & set(tile):
                stepping = stepping | (trips > 1)
            elif among is None or among & set(tile):
                found = found * np.where(stepping, trips, 1)
        for vs, n in reversed(loops):
            if own.variables & set(vs):
                stepping = stepping | (n > 1)
            elif among is None or among & set(vs):
                found = found * np.where(stepping, n, 1)
        return found

    def _whole(self, own: Projection, count: float, trips: Array, tile: Array, held: bool) -> Array:
        """Words of a tensor moved tile by tile once.

        Tiles of a window overlap; held, what the next tile needs too stays.
        """
        plan = self.plan
        split = plan.outer | {plan.loops.stream} | (set() if held else set(plan.loops.tile))
        mixed = [row for row in own.rows if len(row) > 1 and any(v in split for v, _ in row)]
        if not mixed or own.dull:
            return np.full_like(trips, count)
        size = self.at.tiles[own]
        outer = prod(float(plan.program.sizes[v]) for v in own.variables & plan.outer)
        times = np.full((len(plan.blocks), 1), outer)
        if plan.loops.stream in own.variables:
            times = times * np.ceil(plan.length / plan.blocks)[:, None]
        words = (size.fixed[:, None] + size.each[:, None] * tile) * times
        around = trips if own.variables & set(plan.loops.tile) else np.ones_like(trips)
        whole = words * around
        found: Array = np.where((around * times) == 1, np.minimum(whole, count), whole)
        return found

    def _inside(self, trips: Array) -> Array:
        """Words of intermediates that are stored: what crosses a pass, or is wanted outside."""
        plan, group = self.plan, self.group
        total = np.zeros_like(trips)
        for t in group.inner:
            count = float(plan.program.element_count(t))
            own = self.at.own(t)
            if self.at.way.get(t) == STORED:
                loads = len(self.at.uses[t] - {plan.stream[t]})
                again = self._turning(own, False, trips)
                total = total + count * again * (loads + (t not in group.wanted))
            if t in group.wanted:
                total = total + count
        return total

    # -- the best of all -----------------------------------------------------------------------

    def _pinned(self, words: Words, moved: Array, once: Array, tile: Array, spare: Array) -> Array:
        """Words saved by keeping, in the room that is left, a part of a tensor that passes by.

        Of its ``words`` that would stay if it were held, any part may: it
        saves its share of what holding saves, ``moved - once``.
        """
        size = words.fixed[:, None] + words.each[:, None] * tile
        saved: Array = np.floor((moved - once) * np.clip(spare / size, 0, 1))
        return saved

    def improve(self, best: Slope, caps: Array) -> None:
        """The least over what is held, the tile and the block, at every capacity."""
        plan, at = self.plan, self.at
        names = sorted(at.outside, key=lambda t: -plan.program.element_count(t))
        free = min(len(names), MOST_HELD)
        choices = [(*bits, *[0] * (len(names) - free)) for bits in product((0, 1), repeat=free)]
        held = [[t for t, bit in zip(names, c, strict=True) if bit] for c in choices]
        peaks = list(at.peaks())
        if max(float((w.fixed + w.each).min()) for *_, w in peaks) > caps.max():
            return  # not even what lives in the group fits
        passing = [at.passing(n, k, held, names) for n, k, _ in peaks]
        width = max((len(a) for options in passing for a in options), default=1)
        live = _stacked([[words] for _, _, words in peaks])
        for c, stay in enumerate(held):
            kept = sum((at.wholes[at.own(t)] for t in stay), plan.nothing)
            needs = live + kept + _stacked([(options[c] * width)[:width] for options in passing])
            tile = self._room(needs, caps).max(axis=1).min(axis=0)
            if (tile >= 1).any():
                self._price(best, caps, names, stay, needs, tile)

    def _price(
        self,
        best: Slope,
        caps: Array,
        names: list[str],
        stay: list[str],
        needs: Words,
        tile: Array,
    ) -> None:
        """Put into ``best`` what is better with the tensors in ``stay`` held and tiles that fit."""
        plan, at = self.plan, self.at
        fits = tile >= 1
        trips = np.ceil(plan.extent / np.maximum(tile, 1))
        tile = np.ceil(plan.extent / trips)  # no larger than so many tiles need
        words = needs.fixed[..., None] + needs.each[..., None] * tile
        peak = words.min(axis=1).max(axis=0)
        moved, saved = self._inside(trips), np.zeros_like(trips)
        for t in names:
            its = self._moved(t, t in stay, trips, tile)
            moved = moved + its
            if t not in stay and t not in self.group.written:
                once = self._moved(t, True, trips, tile)
                if (its > once).any():
                    whole = at.wholes[at.own(t)]
                    more = self._pinned(whole, its, once, tile, caps[None, :] - peak)
                    saved = np.maximum(saved, more)
        moved = np.where(fits, moved - saved, inf)
        row = np.argmin(moved, axis=0)
        least = moved[row, np.arange(len(caps))]
        for i in np.flatnonzero(least < best.words):
            best.words[i] = least[i]
            best.how[i] = self._fused(tile[row[i], i], plan.blocks[row[i]], stay)

    def _room(self, words: Words, caps: Array) -> Array:
        """The largest tile with which words fit, at each capacity; 0 where none does."""
        spare = caps - words.fixed[..., None]
        each = words.each[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(each > 0, np.floor(spare / each), np.where(spare >= 0, inf, 0))
        found: Array = np.clip(room, 0, float(self.plan.extent))
        return found

    def _fused(self, tile: float, block: float, held: list[str]) -> Fused:
        return Fused(
            tuple(s.name for s in self.group.statements),
            self.plan.loops,
            int(tile),
            int(block),
            tuple(held),
            tuple(self.at.way.items()),
            max(self.plan.passes, 1),
            self.at.column,
        )


def _stacked(needs: Sequence[Sequence[Words]]) -> Words:
    """Words by moment, alternative and block."""
    return Words(
        np.array([[w.fixed for w in row] for row in needs]),
        np.array([[w.each for w in row] for row in needs]),
    )
