"""A group of Einsums with its loops chosen: passes over the stream rank, and sizes on chip."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final

import numpy as np

from accelsim.analysis.attainable import tile_sizes
from accelsim.analysis.group import Group, Loops
from accelsim.analysis.hbl import Array
from accelsim.analysis.statement import Projection, Statement

#: Block sizes of the stream rank that are tried, and ways to treat what crosses passes.
MOST_BLOCKS: Final = 14
MOST_WAYS: Final = 9
KEPT, STORED, AGAIN = "kept", "stored", "computed again"


@dataclass(frozen=True, slots=True)
class Words:
    """Words on chip as a function of the tile p and of the block: ``fixed + each * p``."""

    fixed: Array
    each: Array

    def __add__(self, other: Words) -> Words:
        return Words(self.fixed + other.fixed, self.each + other.each)


class Plan:
    """A group with its loops chosen: levels of the passes, and sizes on chip.

    ``tiles`` and ``wholes``: words of a block, and of all of the stream rank,
    of each access; ``legal``: whether the passes end, and all of these are
    linear in the tile.
    """

    def __init__(self, group: Group, loops: Loops) -> None:
        self.group = group
        self.loops = loops
        self.program = group.program
        self.outer = {v for vs in loops.outer for v in vs}
        self.extent = group.program.span(loops.tile) if loops.tile else 1
        r = loops.stream
        self.length = group.sizes[r] if r else 1
        slots = any(r in a.shifted for a in group.accesses) if r else False
        blocks = [1] if slots or not r else tile_sizes(self.length, MOST_BLOCKS)
        self.blocks = np.array(blocks, dtype=float)
        self.zero = np.zeros_like(self.blocks)
        self.nothing = Words(self.zero, self.zero)
        self.tiles: dict[Projection, Words] = {}
        self.wholes: dict[Projection, Words] = {}
        self.legal = self._solve() and self._measure()

    # -- passes --------------------------------------------------------------------------------

    def streams(self, s: Statement) -> bool:
        """Whether a statement runs along the stream rank."""
        return bool(self.loops.stream) and self.loops.stream in s.sizes

    def _solve(self) -> bool:
        """Levels: ``at[n]`` the pass of statement n, or after which it runs; False if endless."""
        group, r = self.group, self.loops.stream
        self.at = [1 if self.streams(s) else 0 for s in group.statements]
        self.stream: dict[str, int] = {}
        self.done: dict[str, int] = {}
        for _ in range(len(group.statements) + 2):
            before = list(self.at), dict(self.stream), dict(self.done)
            for n, s in enumerate(group.statements):
                level = self.at[n]
                for a in s.reads:
                    if a.tensor not in group.written:
                        continue
                    if r and r in a.variables:  # a first slot may be there after a pass only
                        first = self.done.get(a.tensor, 0) + 1
                        level = max(level, self.stream.get(a.tensor, 1), first)
                        continue
                    end = self.done.get(a.tensor, 0)
                    if a.last:
                        end = max(end, self.stream.get(a.tensor, 0))
                    level = max(level, end + 1 if self.streams(s) else end)
                self.at[n] = level
                name = s.output.tensor
                into = self.stream if r and r in s.output.variables else self.done
                if self.streams(s) or into is self.done:
                    into[name] = max(into.get(name, 0), level)
            if before == (self.at, self.stream, self.done):
                for n, s in enumerate(group.statements):  # first slots just before the others
                    if self.streams(s):
                        self.at[n] = max(self.at[n], self.stream.get(s.output.tensor, 0))
                self.passes = max(self.at, default=1)
                return True
        return False

    def runs(self, way: dict[str, str]) -> tuple[list[set[int]], dict[str, set[int]]]:
        """For each statement the passes it runs in, for each tensor along R those that use it."""
        group, r = self.group, self.loops.stream
        runs = [{level} for level in self.at]
        uses: dict[str, set[int]] = {}
        changed = True
        while changed:
            changed = False
            for n in reversed(range(len(group.statements))):
                s = group.statements[n]
                if self.streams(s):
                    later = uses.get(s.output.tensor, set()) - {self.stream.get(s.output.tensor, 0)}
                    if way.get(s.output.tensor) == AGAIN and not later <= runs[n]:
                        runs[n] |= later
                        changed = True
                    for a in s.reads:
                        if r in a.variables:
                            old = uses.setdefault(a.tensor, set())
                            if not runs[n] <= old:
                                old |= runs[n]
                                changed = True
        return runs, uses

    def ways(self) -> list[dict[str, str]]:
        """Ways to treat intermediates that are used in a later pass than they are made in."""
        group = self.group
        crossing = [
            t
            for t, level in self.stream.items()
            if t in group.inner and level < self.passes and t in self.stream
        ]
        options = []
        for t in crossing:
            again = len(self.program.writers[t]) == 1
            options.append([KEPT, STORED, *([AGAIN] if again else [])])
        if prod(len(o) for o in options) > MOST_WAYS:  # all alike, or the largest apart
            count = {t: self.program.problem.tensor_elements(t) for t in crossing}
            large = {t for t in crossing if 2 * count[t] > max(count.values())}
            found = []
            for how, rest in product((KEPT, STORED, AGAIN), (KEPT, STORED, AGAIN)):
                wanted = {t: how if t in large else rest for t in crossing}
                way = {
                    t: wanted[t] if wanted[t] in o else KEPT
                    for t, o in zip(crossing, options, strict=True)
                }
                found += [way] if way not in found else []
            return found
        return [dict(zip(crossing, choice, strict=True)) for choice in product(*options)]

    # -- words on chip and words moved ---------------------------------------------------------

    def _measure(self) -> bool:
        """Sizes of everything; False where something is not linear in the tile."""
        for a in dict.fromkeys(self.group.accesses):
            tile, whole = self.size(a), self.size(a, whole=True)
            if tile is None or whole is None:
                return False
            self.tiles[a], self.wholes[a] = tile, whole
        return True

    def size(self, access: Projection, whole: bool = False, skip: str = "") -> Words | None:
        """Words of a tile of what is accessed; ``whole``: all of R; ``skip``: one index of a rank.

        None where it would not be linear in the tile.
        """
        block = np.full_like(self.blocks, float(self.length)) if whole else self.blocks
        fixed, each = np.ones_like(self.blocks), self.zero
        tiled = False
        for row in access.rows:
            if len(row) == 1:
                v = row[0][0]
                if v in self.loops.tile:
                    if tiled:
                        continue
                    tiled = True
                    if each.any():
                        return None
                    fixed, each = self.zero, fixed
                    continue
                factor = self._along(v, block, access) if v != skip else np.ones_like(block)
                fixed, each = fixed * factor, each * factor
                continue
            base, slope = np.ones_like(block), 0.0
            for v, c in row:
                if v in self.loops.tile:
                    base, slope = base - abs(c), slope + abs(c)
                else:
                    base = base + abs(c) * (self._along(v, block, access) - 1)
            if slope and each.any():
                return None
            fixed, each = fixed * base, each * base + fixed * slope
        if access.dull:
            fixed = np.full_like(block, float(self.program.problem.tensor_elements(access.tensor)))
            each = self.zero
        return Words(fixed, each)

    def _along(self, v: str, block: Array, access: Projection) -> Array:
        if v in self.outer:
            return np.ones_like(block)
        slots = any(v in w.output.shifted for w in self.program.writers.get(access.tensor, ()))
        if v == self.loops.stream:
            return block + 1 if slots else block
        return np.full_like(block, float(self.group.sizes[v] + slots))
