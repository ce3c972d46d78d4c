"""The least traffic of a group of Einsums that run together, tile by tile: fusion on shared ranks.

**The mapspace.**  Statements of a group run in their order inside shared loops:

1. *outer* ranks and the *tile* rank: loops around the whole group, over ranks
   along which no statement completes what another one of the group reads;
   the outer ones one index at a time, the tile rank p at a time.
2. Inside, a *stream* rank R goes past, r indices at a time, once for each
   pass: a statement that needs what is complete only after all of R, and
   again reads something along R, runs in a later pass.
3. All other ranks are whole inside a tile.

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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import inf, prod
from typing import Final

import numpy as np

from accelsim.analysis.attainable import tile_sizes
from accelsim.analysis.hbl import Array
from accelsim.analysis.statement import Program, Projection, Statement

#: Block sizes of the stream rank that are tried; ways to treat what crosses passes; what is held.
MOST_BLOCKS: Final = 14
MOST_WAYS: Final = 27
MOST_HELD: Final = 5
KEPT, STORED, AGAIN = "kept", "stored", "computed again"


@dataclass(frozen=True, slots=True)
class Loops:
    """The shared loops of a group: outer ranks, the tile rank (ranks of one kind), the stream rank."""

    outer: tuple[tuple[str, ...], ...]
    tile: tuple[str, ...]
    stream: str


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

    def __str__(self) -> str:
        """The mapping in words."""
        parts = [" ".join(self.statements)]
        if self.loops.tile:
            parts.append(f"tiles of {self.tile} of {','.join(self.loops.tile)}")
        if self.loops.stream:
            parts.append(f"{self.passes} passes over {self.loops.stream} in blocks of {self.block}")
        if self.held:
            parts.append(f"{', '.join(self.held)} held")
        parts += [f"{t} {how}" for t, how in self.crossing]
        return "; ".join(parts)


@dataclass(slots=True)
class Slope:
    """The fewest words moved at each capacity (infinite where nothing fits), and the mappings."""

    words: Array
    how: list[Fused | None] = field(default_factory=list)


class Group:
    """Statements that run together; ``wanted``: tensors that they write and others read."""

    def __init__(
        self, program: Program, statements: Sequence[Statement], wanted: frozenset[str]
    ) -> None:
        self.program = program
        self.statements = tuple(statements)
        self.written = {s.output.tensor for s in statements}
        self.wanted = wanted & self.written
        self.read = {r.tensor for s in statements for r in s.reads}
        self.inner = self.written & self.read
        self.accesses = [a for s in statements for a in (s.output, *s.reads)]
        self.sizes = {v: n for s in statements for v, n in s.sizes.items()}
        self.mixed = {v for a in self.accesses for row in a.rows if len(row) > 1 for v, _ in row}
        self.dull = any(a.dull and a.tensor in self.inner for a in self.accesses)

    def slope(self, capacities: Sequence[int]) -> Slope:
        """The least over all loops."""
        caps = np.asarray(capacities, dtype=float)
        best = Slope(np.full(len(caps), inf), [None] * len(caps))
        if self.dull:
            return best
        for loops in self._loops():
            plan = _Plan(self, loops)
            if plan.legal:
                plan.improve(best, caps)
        return best

    def _loops(self) -> Iterator[Loops]:
        """Choices of shared loops: a tile rank among the parallel ones, a stream rank or none."""
        kinds: dict[object, list[str]] = {}
        for v in self.sizes:
            if self._parallel(v):
                members = tuple(v in a.variables for a in self.accesses)
                kinds.setdefault((members, v if v in self.mixed else ""), []).append(v)
        parallel = [tuple(vs) for vs in kinds.values()]
        everywhere = [vs for vs in parallel if all(vs[0] in a.variables for a in self.accesses)]
        others = [vs for vs in parallel if vs not in everywhere]
        others.sort(key=lambda vs: sum(vs[0] in a.variables for a in self.accesses), reverse=True)
        streams = [v for v in self.sizes if self._aligned(v) and self._shared(v)]
        tiles = others or everywhere[:1]
        for tile in [*tiles, ()]:
            outer = tuple([*(vs for vs in everywhere if vs != tile)])
            rest = tuple(vs for vs in others if vs != tile)
            for stream in [*streams, ""]:
                if stream in tile or any(stream in vs for vs in outer):
                    continue
                inside = tuple(vs for vs in rest if stream not in vs)
                yield Loops(outer + (inside if tile else ()), tile, stream)
                if inside and tile:
                    yield Loops(outer, tile, stream)

    def _shared(self, v: str) -> bool:
        return any(v in a.variables for a in self.accesses if a.tensor in self.inner) or (
            len(self.statements) == 1 or not self.inner
        )

    def _aligned(self, v: str) -> bool:
        """Whether every access to an intermediate of the group is at its own coordinate of v.

        Slots of a recurrence along v, and its last slot, are: they go with the stream.
        """
        for t in self.inner:
            writers = self.program.writers[t]
            own = any(v in w.output.variables for w in writers)
            slots = any(v in w.output.shifted for w in writers)
            for a in self.accesses:
                if a.tensor != t:
                    continue
                if any(len(row) > 1 and v in dict(row) for row in a.rows):
                    return False
                if own and v not in a.variables and not (slots and (a.last or self._slot(a, t))):
                    return False
                if not own and v in a.variables:
                    return False
                if v in a.shifted and not slots:
                    return False
        return True

    def _slot(self, a: Projection, tensor: str) -> bool:
        """Whether an access is the write of a constant slot."""
        return any(a is s.output for s in self.statements) and a.tensor == tensor

    def _parallel(self, v: str) -> bool:
        """Whether indices of v may be worked on one after another, each to its end."""
        if not self._aligned(v) or any(v in a.shifted for a in self.accesses):
            return False
        for s in self.statements:
            if v in s.sizes and v not in s.output.variables and s.output.tensor in self.read:
                return False
        return True


@dataclass(frozen=True, slots=True)
class _Words:
    """Words on chip as a function of the tile p and of the block: ``fixed + each * p``."""

    fixed: Array
    each: Array

    def __add__(self, other: _Words) -> _Words:
        return _Words(self.fixed + other.fixed, self.each + other.each)

    def times(self, factor: Array | float) -> _Words:
        """All of it so many times."""
        return _Words(self.fixed * factor, self.each * factor)


class _Plan:
    """A group with its loops chosen: levels of the passes, then costs."""

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
        self.legal = self._solve()

    # -- passes --------------------------------------------------------------------------------

    def _streams(self, s: Statement) -> bool:
        return bool(self.loops.stream) and self.loops.stream in s.sizes

    def _solve(self) -> bool:
        """Levels: ``at[n]`` the pass of statement n, or after which it runs; False if endless."""
        group, r = self.group, self.loops.stream
        self.at = [1 if self._streams(s) else 0 for s in group.statements]
        self.stream: dict[str, int] = {}
        self.done: dict[str, int] = {}
        for _ in range(len(group.statements) + 2):
            before = list(self.at)
            for n, s in enumerate(group.statements):
                level = self.at[n]
                for a in s.reads:
                    if a.tensor not in group.written:
                        continue
                    if r and r in a.variables:
                        level = max(level, self.stream.get(a.tensor, 1))
                        continue
                    end = self.done.get(a.tensor, 0)
                    if a.last:
                        end = max(end, self.stream.get(a.tensor, 0))
                    level = max(level, end + 1 if self._streams(s) else end)
                self.at[n] = level
                name = s.output.tensor
                into = self.stream if r and r in s.output.variables else self.done
                if self._streams(s) or into is self.done:
                    into[name] = max(into.get(name, 0), level)
            if before == self.at:
                self.passes = max(self.at, default=1)
                return True
        return False

    def _runs(self, way: dict[str, str]) -> tuple[list[set[int]], dict[str, set[int]]]:
        """For each statement the passes in which it runs, for each tensor along R those that use it."""
        group, r = self.group, self.loops.stream
        runs = [{level} for level in self.at]
        uses: dict[str, set[int]] = {}
        changed = True
        while changed:
            changed = False
            for n in reversed(range(len(group.statements))):
                s = group.statements[n]
                if self._streams(s):
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

    def _ways(self) -> list[dict[str, str]]:
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
        if prod(len(o) for o in options) > MOST_WAYS:
            found = [dict.fromkeys(crossing, KEPT), dict.fromkeys(crossing, STORED)]
            can = {t: AGAIN if AGAIN in o else KEPT for t, o in zip(crossing, options, strict=True)}
            return [*found, can]
        return [dict(zip(crossing, choice, strict=True)) for choice in product(*options)]

    # -- words on chip and words moved ---------------------------------------------------------

    def _size(self, access: Projection, whole: bool = False, skip: str = "") -> _Words | None:
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
        return _Words(fixed, each)

    def _along(self, v: str, block: Array, access: Projection) -> Array:
        if v in self.outer:
            return np.ones_like(block)
        slots = any(v in w.output.shifted for w in self.program.writers.get(access.tensor, ()))
        if v == self.loops.stream:
            return block + 1 if slots else block
        return np.full_like(block, float(self.group.sizes[v] + slots))

    def improve(self, best: Slope, caps: Array) -> None:
        """Put into ``best`` what this plan does better."""
        for way in self._ways():
            costs = _Costs(self, way)
            if costs.legal:
                costs.improve(best, caps)


class _Costs:
    """A plan with the treatment of what crosses passes chosen: peaks and traffic by what is held."""

    def __init__(self, plan: _Plan, way: dict[str, str]) -> None:
        self.plan = plan
        self.group = plan.group
        self.runs, self.uses = plan._runs(way)
        self.way = {
            t: how
            for t, how in way.items()
            if self.uses.get(t, set()) - {plan.stream[t]}
        }
        self.outside = self._outside()
        self.legal = self._measure()

    def _outside(self) -> dict[str, list[tuple[int, Projection]]]:
        """Tensors that enter or leave the group, each with the statements and accesses that do so."""
        found: dict[str, list[tuple[int, Projection]]] = {}
        for n, s in enumerate(self.group.statements):
            for a in dict.fromkeys(s.reads):
                if a.tensor not in self.group.written:
                    found.setdefault(a.tensor, []).append((n, a))
            if s.output.tensor not in self.group.read:
                found.setdefault(s.output.tensor, []).append((n, s.output))
        return found

    def _measure(self) -> bool:
        """Sizes of everything; False where something is not linear in the tile."""
        plan = self.plan
        self.tiles: dict[Projection, _Words] = {}
        self.wholes: dict[Projection, _Words] = {}
        for s in self.group.statements:
            for a in (s.output, *s.reads):
                tile, whole = plan._size(a), plan._size(a, whole=True)
                if tile is None or whole is None:
                    return False
                self.tiles[a], self.wholes[a] = tile, whole
        return True

    def _own(self, tensor: str) -> Projection:
        """The access of a tensor with most ranks: its write, or its largest read."""
        accesses = [a for a in self.group.accesses if a.tensor == tensor]
        return max(accesses, key=lambda a: self.group.program.span(a.variables))

    # -- peaks ---------------------------------------------------------------------------------

    def _moment(self, n: int, k: int) -> float:
        """When statement n runs in pass k: the streaming ones of a pass together, others in turn."""
        return float(k) if self.plan._streams(self.group.statements[n]) else k + 0.5 + 1e-6 * n

    def _life(self, t: str) -> tuple[float, float]:
        """From when to when an intermediate lives; all of a recurrence lives as long as any."""
        ring = self.plan.program.cycles.get(t, frozenset([t]))
        moments = [
            self._moment(n, k)
            for n, s in enumerate(self.group.statements)
            for k in self.runs[n]
            if s.output.tensor in ring or any(a.tensor in ring for a in s.reads)
        ]
        return min(moments), max(moments)

    def _lasting(self, t: str) -> tuple[_Words, float, float]:
        """Words of an intermediate that outlasts a block, and from when to when it lives."""
        own, r = self._own(t), self.plan.loops.stream
        begin, end = self._life(t)
        if r and r in own.variables:
            slots = any(r in w.output.shifted for w in self.plan.program.writers[t])
            if self.way.get(t) == KEPT:
                return self.wholes[own], begin, end
            if not slots:
                return self.tiles[own], inf, -inf
        return self.tiles[own], begin, end

    def _adding(self) -> list[tuple[_Words, float]]:
        """Results that leave the group and are summed along R: on chip during their pass."""
        r = self.plan.loops.stream
        return [
            (self.tiles[s.output], float(min(self.runs[n])))
            for n, s in enumerate(self.group.statements)
            if s.output.tensor in self.outside and self._adds(s)
            if r
        ]

    def _adds(self, s: Statement) -> bool:
        return self.plan._streams(s) and self.plan.loops.stream not in s.output.variables

    def _peaks(self) -> Iterator[tuple[int, int, _Words]]:
        """For each run of a statement: its number, its pass, and the words of intermediates then."""
        plan = self.plan
        lasting = {t: self._lasting(t) for t in self.group.inner}
        adding = self._adding()
        for n, s in enumerate(self.group.statements):
            for k in sorted(self.runs[n]):
                moment = self._moment(n, k)
                words = _Words(plan.zero, plan.zero)
                for t, (size, begin, end) in lasting.items():
                    if begin <= moment <= end or (plan._streams(s) and self._in_block(t, n, k)):
                        words = words + size
                for size, during in adding:
                    if during == moment:
                        words = words + size
                yield n, k, words

    def _in_block(self, t: str, n: int, k: int) -> bool:
        """Whether a tile of an intermediate along R is on chip while statement n runs in pass k."""
        statements = self.group.statements
        makers = [m for m, s in enumerate(statements) if s.output.tensor == t and k in self.runs[m]]
        users = [
            m
            for m, s in enumerate(statements)
            if any(a.tensor == t for a in s.reads) and k in self.runs[m]
        ]
        members = makers + users
        return bool(members) and min(members) <= n <= max(members)

    def _passing(self, n: int, k: int, choices: Array, names: list[str]) -> list[list[_Words]]:
        """Words of what passes by while statement n runs in pass k, by what streams.

        One list for each choice of what is held (a row of ``choices``); the
        alternatives in it differ in which tensor takes one word.
        """
        s = self.group.statements[n]
        own = [a for a in dict.fromkeys(s.reads) if a.tensor in self.outside]
        if s.output.tensor in self.outside and not self._adds(s):
            own.append(s.output)
        shared = [t for t in names if self._shared(t, n, k)]
        found = []
        for choice in choices:
            held = {t for t, bit in zip(names, choice, strict=True) if bit}
            here = [a for a in own if a.tensor not in held]
            base = _Words(self.plan.zero, self.plan.zero)
            for t in shared:
                if t not in held:
                    base = base + self.tiles[self._own(t)]
            here = [a for a in here if a.tensor not in shared]
            found.append([base + w for w in self._streaming(s, here)])
        return found

    def _shared(self, t: str, n: int, k: int) -> bool:
        """Whether a tensor from outside serves several statements of pass k, n between them."""
        users = [m for m, _ in self.outside[t] if k in self.runs[m]]
        streams = [m for m in users if self.plan._streams(self.group.statements[m])]
        return len(set(streams)) > 1 and min(streams) <= n <= max(streams)

    def _streaming(self, s: Statement, here: list[Projection]) -> list[_Words]:
        plan = self.plan
        one = _Words(np.ones_like(plan.blocks), plan.zero)
        none = _Words(plan.zero, plan.zero)
        if not here:
            return [none]
        found = []
        for past in here:
            free = {
                v
                for row in past.rows
                if len(row) == 1
                for v in (row[0][0],)
                if v not in plan.loops.tile and v not in plan.outer and v != plan.loops.stream
            }
            columns = [*sorted(free, key=lambda v: -s.sizes[v])[:1], ""]
            for column in columns[:1]:
                words = one
                for a in here:
                    if a is not past:
                        size = plan._size(a, skip=column)
                        words = words + (size if size is not None else self.tiles[a])
                found.append(words)
        return found

    # -- traffic -------------------------------------------------------------------------------

    def _moved(self, t: str, held: bool, trips: Array, tile: Array) -> Array:
        """Words moved of a tensor from outside the group; arrays over blocks and capacities."""
        plan, group = self.plan, self.group
        own = self._own(t)
        r = plan.loops.stream
        accesses = self.outside[t]
        written = t in group.written
        count = float(plan.program.element_count(t))
        laps = {m: self.runs[m] for m, _ in accesses if plan._streams(group.statements[m])}
        rest = len({m for m, _ in accesses if not plan._streams(group.statements[m])})
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
            return self._whole(own, count, trips, tile) * (2 * reduced - 1)
        return self._whole(own, count, trips, tile) * rounds * turning

    def _summed(self, t: str) -> set[str]:
        """Variables that a write of the tensor is summed over."""
        return {
            v for s in self.group.statements if s.output.tensor == t for v in s.reduced
        }

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

    def _whole(self, own: Projection, count: float, trips: Array, tile: Array) -> Array:
        """Words of a tensor moved tile by tile once; tiles of a window overlap."""
        plan = self.plan
        split = set(plan.loops.tile) | plan.outer | {plan.loops.stream}
        mixed = [row for row in own.rows if len(row) > 1 and any(v in split for v, _ in row)]
        if not mixed or own.dull:
            return np.full_like(trips, count)
        size = self.tiles[own]
        times = prod((float(plan.program.sizes[v]) for v in own.variables & plan.outer), start=1.0)
        if plan.loops.stream in own.variables:
            times = times * np.ceil(plan.length / plan.blocks)[:, None]
        words = (size.fixed[:, None] + size.each[:, None] * tile) * times
        around = trips if own.variables & set(plan.loops.tile) else np.ones_like(trips)
        whole = words * around
        return np.where((around * times) == 1, np.minimum(whole, count), whole)

    def _inside(self, trips: Array) -> Array:
        """Words of intermediates that are stored: what crosses a pass, or is wanted outside."""
        plan, group = self.plan, self.group
        total = np.zeros_like(trips)
        for t in group.inner:
            count = float(plan.program.problem.tensor_elements(t))
            own = self._own(t)
            if self.way.get(t) == STORED:
                loads = len(self.uses[t] - {plan.stream[t]})
                again = self._turning(own, False, trips)
                total = total + count * again * (loads + (t not in group.wanted))
            if t in group.wanted:
                total = total + count
        return total

    # -- the best of all -----------------------------------------------------------------------

    def _pinned(self, names: list[str], choice: Array, trips: Array, tile: Array, spare: Array) -> Array:
        """Words saved by keeping, in the room that is left, a part of a tensor that passes by.

        Of the words that would stay if the tensor were held, any part may: it
        saves its share of what holding saves.
        """
        best = np.zeros_like(trips)
        for t, bit in zip(names, choice, strict=True):
            if bit or t in self.group.written:
                continue
            size = self.wholes[self._own(t)]
            words = size.fixed[:, None] + size.each[:, None] * tile
            saved = self._moved(t, False, trips, tile) - self._moved(t, True, trips, tile)
            best = np.maximum(best, saved * np.clip(spare / words, 0, 1))
        return np.floor(best)

    def improve(self, best: Slope, caps: Array) -> None:
        """The least over what is held, the tile and the block, at every capacity."""
        plan = self.plan
        names = sorted(self.outside, key=lambda t: -self.group.program.element_count(t))
        free = names[:MOST_HELD]
        choices = np.array(
            [[*bits, *[0] * (len(names) - len(free))] for bits in product((0, 1), repeat=len(free))]
        )
        peaks = list(self._peaks())
        passing = [self._passing(n, k, choices, names) for n, k, _ in peaks]
        for c, choice in enumerate(choices):
            held = [t for t, bit in zip(names, choice, strict=True) if bit]
            kept = _Words(plan.zero, plan.zero)
            for t in held:
                kept = kept + self.wholes[self._own(t)]
            needs = [
                [kept + words + a for a in options[c]]
                for (_, _, words), options in zip(peaks, passing, strict=True)
            ]
            tile = np.full((len(plan.blocks), len(caps)), float(plan.extent))
            for alternatives in needs:
                rooms = [self._room(a, caps) for a in alternatives]
                tile = np.minimum(tile, np.maximum.reduce(rooms))
            fits = tile >= 1
            if not fits.any():
                continue
            trips = np.ceil(plan.extent / np.maximum(tile, 1))
            tile = np.ceil(plan.extent / trips)  # no larger than so many tiles need
            moved = self._inside(trips)
            for t, bit in zip(names, choice, strict=True):
                moved = moved + self._moved(t, bool(bit), trips, tile)
            peak = np.zeros_like(tile)
            for alternatives in needs:
                words = [a.fixed[:, None] + a.each[:, None] * tile for a in alternatives]
                peak = np.maximum(peak, np.minimum.reduce(words))
            moved = moved - self._pinned(names, choice, trips, tile, caps[None, :] - peak)
            moved = np.where(fits, moved, inf)
            at = np.argmin(moved, axis=0)
            least = moved[at, np.arange(len(caps))]
            for i in np.flatnonzero(least < best.words):
                best.words[i] = least[i]
                best.how[i] = self._fused(tile[at[i], i], plan.blocks[at[i]], held)

    def _room(self, words: _Words, caps: Array) -> Array:
        """The largest tile with which words fit; 0 where none does."""
        spare = caps[None, :] - words.fixed[:, None]
        each = words.each[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(each > 0, np.floor(spare / each), np.where(spare >= 0, inf, 0))
        found: Array = np.minimum(np.maximum(room, 0), float(self.plan.extent))
        return found

    def _fused(self, tile: float, block: float, held: list[str]) -> Fused:
        return Fused(
            tuple(s.name for s in self.group.statements),
            self.plan.loops,
            int(tile),
            int(block),
            tuple(held),
            tuple(self.way.items()),
            max(self.plan.passes, 1),
        )
