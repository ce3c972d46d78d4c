"""Compiles a group of a mapping into a program.

Holds become buffers, the words that arrays touch become flows and streams,
and what must come before what becomes the lags of the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from accelsim.errors import InputError, refuse
from accelsim.ir.cascade import Access
from accelsim.ir.mapping import Hold, Leaf, Node, walk
from accelsim.sim.cuts import cuts, own_cuts, turned
from accelsim.sim.links import Links
from accelsim.sim.listing import Turn, numbered
from accelsim.sim.nest import Nest, folds
from accelsim.sim.orders import Orders
from accelsim.sim.pairs import pairs
from accelsim.sim.program import (
    STREAM_SLOTS,
    Buffer,
    Flow,
    Program,
    Stage,
    Task,
    Wait,
    Way,
)
from accelsim.sim.rooms import Rooms
from accelsim.sim.schedule import Schedule, Solver
from accelsim.sim.short import Length, ShortVisits
from accelsim.sim.tiles import MOST_INSIDE, Line, Visits, Words, elements


class Scheduled(NamedTuple):
    """A schedule, and its solver where others may be tried."""

    solver: Solver | None
    schedule: Schedule


class Compiler:
    """Compiles one group."""

    def __init__(self, nest: Nest) -> None:
        self.nest, self.arch, self.cascade = nest, nest.arch, nest.cascade
        self.rooms = Rooms(nest)
        self.shares = self.rooms.shares()
        self.word = nest.arch.word_bytes
        self.buffers: list[Buffer] = []
        self.flows: dict[str, list[Flow]] = {e: [] for e in nest.work}
        self.orders = Orders(nest, self.buffers)

        for einsum in nest.work:
            self._leaf(einsum)
        self._holds()
        Links(nest, self.buffers, self.orders).link()

    def program(self, schedule: Schedule) -> Program:
        """The program with a schedule."""
        nest, arch = self.nest, self.arch
        overlap = any(schedule.late.values())
        ticks = math.lcm(*(cut.turns for cut in schedule.cuts.values()))
        stages = []
        for stage, units in zip(nest.group.stages, schedule.order, strict=True):
            waits = tuple(
                Wait(s.einsum, math.ceil(s.times * self._cycles(s.einsum)), s.why)
                for s in stage.stalls
            )
            found = tuple(
                (u, tuple(self._tasks(numbered(es, schedule.early), schedule, ticks)))
                for u, es in units
            )
            stages.append(Stage(found, waits))
        laid = {}
        for level in arch.levels:
            total, spills = self.rooms.peak(level.name, overlap)
            held = sum(b.slot_bytes * b.copies for b in self.buffers if b.level == level.name)
            laid[level.name] = total - self.shares.get(level.name, 0.0) * spills - held
        fill = max(arch.unit[w.leaf.unit].fill_cycles for w in nest.work.values())
        own = [self._leaving(b) for b in self.buffers] if schedule.pairs else self.buffers
        return Program(
            nest.group.name, nest.steps, tuple(n * ticks for n in nest.bodies), tuple(stages),
            turned(nest, own, schedule.cuts, schedule.lags, ticks), laid,
            math.ceil(fill), ticks,
        )  # fmt: skip

    def _cycles(self, einsum: str) -> int:
        """Whole cycles of an Einsum in one step."""
        work = self.nest.work[einsum]
        steps = math.prod(loop.trips for loop in self.nest.steps[: work.depth])
        return math.ceil(work.cycles / steps)

    def _tasks(self, turns: list[Turn], schedule: Schedule, ticks: int) -> Iterator[Task]:
        """The tasks of a unit in a stage: one for each turn."""
        for turn in turns:
            last: dict[str, int] = {}
            for before in schedule.waits.get(turn, ()):
                e, _ = before
                last[e] = max(last.get(e, 0), schedule.place(before) + 1)
            yield self._task(turn, schedule, ticks, tuple(last.items()))

    def _task(
        self, turn: Turn, schedule: Schedule, ticks: int, waits: tuple[tuple[str, int], ...]
    ) -> Task:
        """One turn of an Einsum."""
        einsum, n = turn
        work, cut = self.nest.work[einsum], schedule.cuts.get(einsum)
        return Task(
            einsum,
            work.leaf.unit,
            self._cycles(einsum),
            schedule.late[turn] * ticks,
            work.depth,
            work.side,
            tuple(self.flows[einsum]),
            tuple(n for n, b in enumerate(self.buffers) if einsum in b.holders),
            waits,
            work.leaf.place,
            self._length(einsum),
            turn=n,
            loops=cut.around if cut else (),
            begin=schedule.plan[turn].begin,
            pair=schedule.pair(einsum),
            yields=self.yielding[einsum] if einsum in schedule.yields else frozenset(),
            copied=tuple((n, steps * ticks) for n, steps in self.orders.copied[einsum]),
        )

    def _length(self, einsum: str) -> Length | None:
        """Cycles of an Einsum by step, where some are short."""
        nest = self.nest
        if not nest.short:
            return None
        work, inside = nest.work[einsum], nest.inside(einsum)
        full = math.prod(loop.trips for loop in nest.steps[: work.depth])
        each = work.cycles / (full * math.prod(r.trips for r in inside))
        return Length(nest.ends, nest.steps[: work.depth], inside, each)

    # -- words -------------------------------------------------------------------------------

    def _path(self, chain: list[tuple[int, Hold]]) -> Iterator[tuple[str, float]]:
        """Levels that serve a word below the innermost hold of a chain, each with its share.

        The share of a tile that does not fit comes from the next level out,
        and still passes the port of its own.
        """
        left, share = list(chain), 1.0
        while share:
            hold = left.pop()[1] if left else None
            yield (hold.level if hold else self.arch.backing.name), share
            share *= self._spilled(hold) if hold else 0.0

    def _spilled(self, hold: Hold) -> float:
        return self.shares.get(hold.level, 0.0) if hold.spill else 0.0

    def _leaf(self, einsum: str) -> None:
        """What an Einsum's array reads and writes: flows on chip, streams at the backing level."""
        nest = self.nest
        step = self.cascade.steps[einsum]
        sums = nest.mapping.partial_sums
        for access in dict.fromkeys(step.reads):
            visits = self._leaf_visits(einsum, access)
            self._move(einsum, access.tensor, visits, ("met",), ())
        visits = self._leaf_visits(einsum, step.output, again=True)
        reads = ("again",) if sums else ()
        self._move(einsum, step.output.tensor, visits, reads, ("met" if sums else "fresh",))

    def _move(
        self,
        einsum: str,
        tensor: str,
        visits: Visits,
        reads: tuple[str, ...],
        writes: tuple[str, ...],
    ) -> None:
        work, backing = self.nest.work[einsum], self.arch.backing.name
        fill, drain, ways = list[Way](), list[Way](), list[Way]()
        for level, share in self._path(self.nest.chain(tensor, work.above)):
            into, out = (fill, drain) if level == backing else (ways, ways)
            into += [Way(level, which, False, share * self.word) for which in reads]
            out += [Way(level, which, True, share * self.word) for which in writes]
        if ways:
            self.flows[einsum].append(Flow(tensor, visits, tuple(ways)))
        if fill or drain:
            self.buffers.append(
                Buffer(tensor, "", backing, STREAM_SLOTS, work.depth, visits,
                       tuple(fill), tuple(drain), (einsum,), writers=frozenset({einsum}))
            )  # fmt: skip

    def _leaf_visits(self, einsum: str, access: Access, again: bool = False) -> Visits:
        """Visits of the tiles that an Einsum's PEs touch at once."""
        nest, leaf = self.nest, self.nest.work[einsum].leaf
        around, inside = nest.steps[: nest.work[einsum].depth], nest.inside(einsum)
        lines, taken = nest.lines(access), self._at_once(leaf)
        if not nest.short:
            return Visits(lines, around, inside, self._leaf_words(leaf, lines, taken), again)
        whole = tuple(x for x in lines if x.most is None)
        words = self._leaf_words(leaf, whole, dict(taken))
        rounds = folds(leaf, self.arch.unit[leaf.unit])
        extent = nest.mapping.extent
        return ShortVisits(
            lines, around, inside, words, nest.ends, taken, rounds, extent, again
        )  # fmt: skip

    def _at_once(self, leaf: Leaf) -> dict[str, int]:
        """Coordinates of each part that a leaf's PEs take at once."""
        taken = dict.fromkeys(self.nest.mapping.extent, 1)
        taken.update((p.part, p.trips) for p in (*leaf.rows, *leaf.cols))
        taken.update((r.part, pes) for r, pes in folds(leaf, self.arch.unit[leaf.unit]))
        return taken

    def _leaf_words(
        self, leaf: Leaf, lines: tuple[Line, ...], taken: dict[str, int]
    ) -> Words | int:
        """Elements that a leaf's PEs touch at once: one number, or one for each of its rounds."""
        nest, unit = self.nest, self.arch.unit[leaf.unit]
        extent = nest.mapping.extent
        rounds = folds(leaf, unit)
        parts = {p for x in lines for p, _ in x.terms}
        ragged = [(r, pes) for r, pes in rounds if extent[r.part] % pes and r.part in parts]
        if not ragged:
            return elements(lines, taken)
        inside = nest.inside(leaf.einsum)
        axis = {r.part: n for n, r in enumerate(inside)}
        uneven = {r.part for r, _ in ragged}
        shape = [r.trips if r.part in uneven else 1 for r in inside]
        if math.prod(shape) > MOST_INSIDE:
            raise refuse(f"{math.prod(shape)} iterations inside a step", f"at most {MOST_INSIDE}")
        found = np.zeros(shape, dtype=np.int64)
        for chosen in range(1 << len(ragged)):
            where: list[slice | int] = [slice(None)] * len(inside)
            for n, (r, pes) in enumerate(ragged):
                last = chosen >> n & 1
                taken[r.part] = extent[r.part] % pes if last else pes
                where[axis[r.part]] = r.trips - 1 if last else slice(0, r.trips - 1)
            found[tuple(where)] = elements(lines, taken)
        return found

    # -- holds -------------------------------------------------------------------------------

    def _holds(self) -> None:
        """Buffers of the group's holds: those that are not the home of their tensor."""
        for node, above in walk(self.nest.group.tree):
            if isinstance(node, Node):
                for hold in node.holds:
                    if hold.staged is None:
                        self._hold(hold, (*above, node))

    def _hold(self, hold: Hold, path: tuple[Node, ...]) -> None:
        nest, tensor = self.nest, hold.tensor
        users = nest.users(tensor, path[-1])
        chain = nest.chain(tensor, path)
        place = [n for n, (d, h) in enumerate(chain) if h is hold and path[d] is path[-1]]
        home = nest.home(tensor)
        if not place or not users or (home is not None and not place[0]):
            return
        depth, inside = nest.around(path)
        writers = [e for e in users if self.cascade.steps[e].output.tensor == tensor]
        written = bool(writers)
        state = tensor in self.cascade.iterative
        lines = [x for a in nest.accesses(tensor, users) for x in nest.lines(a)]
        words = self.rooms.words(hold, path)
        visits = Visits(lines, nest.steps[:depth], inside, words, again=written)
        if nest.short:
            taken = dict(nest.mapping.extent)
            taken.update((loop.part, 1) for n in path for loop in n.loops)
            whole = elements([x for x in dict.fromkeys(lines) if x.most is None], taken)
            visits = ShortVisits(
                lines, nest.steps[:depth], inside, whole, nest.ends, taken, again=written
            )
        kept = 1.0 if nest.mapping.spill_adds else 1.0 - self._spilled(hold)
        sums = nest.mapping.partial_sums
        fills = "met" if state or not written else "again" if sums else ""
        drains = ("met" if sums or state else "fresh") if written else ""
        outer = list(self._path(chain[: place[0]]))
        fill = [Way(level, fills, False, kept * share * self.word) for level, share in outer]
        drain = [Way(level, drains, True, kept * share * self.word) for level, share in outer]
        fill.append(Way(hold.level, fills, True, kept * self.word))
        drain.append(Way(hold.level, drains, False, kept * self.word))
        sharing = [h.tensor for h in path[-1].holds if (h.shares or h.tensor) ==
                   (hold.shares or tensor)]  # fmt: skip
        everyone = dict.fromkeys(e for t in [tensor, *sharing] for e in nest.users(t, path[-1]))
        guests = frozenset(everyone) - frozenset(users)
        copy = not (written or guests or self._spilled(hold)) and visits.tiles == 1
        room = words * self.word if self._comes_and_goes(hold, path) and not inside else 0.0
        self.buffers.append(
            Buffer(tensor, hold.level, outer[0][0], hold.copies, depth, visits,
                   tuple(fill) if fills else (), tuple(drain) if drains else (),
                   tuple(everyone), room, hold=id(hold),
                   outside=id(chain[place[0] - 1][1]) if place[0] else 0,
                   writers=frozenset(writers), guests=guests, copy=copy)
        )  # fmt: skip

    def _comes_and_goes(self, hold: Hold, path: tuple[Node, ...]) -> bool:
        """Whether a hold's room is its own, so that it counts while a tile is in it."""
        alone = sum(hold.tensor in (h.tensor, h.shares) for h in path[-1].holds) == 1
        fork = any(sum(isinstance(c, Node) for c in node.children) > 1 for node in path[:-1])
        return alone and not fork and not hold.spill and not hold.shares

    # -- schedule ----------------------------------------------------------------------------

    def scheduled(self, cut: bool = True, beside: bool = False) -> Scheduled:
        """A first schedule, and its solver where others may be tried.

        Steps may overlap where all rooms fit at once.  ``cut``: they may have turns;
        ``beside``: Einsums are side by side instead.  Raises InputError where no
        schedule keeps all orders.
        """
        units = {e: w.leaf.unit for e, w in self.nest.work.items()}
        orders = [*self.orders.data(), *self.orders.slots(), *self.orders.homes()]
        faults = self.rooms.overlapping(self.shares)
        words = {e: self.orders.loads(*self.flows[e]) for e in units}
        cycles = {e: max(self._cycles(e), *words[e].values(), 0) for e in units}
        inside = [(o.before, o.after) for o in orders if o.why == "inside"]
        away = {frozenset((o.before, o.after)) for o in orders if o.why == "data" and o.far}
        shared = cuts(self.nest, inside, away, self._cycles)
        every = own_cuts(self.nest, shared, self._cycles)
        found = [some for some in (shared, every) if some and cut and not beside]
        two = pairs(self.nest, orders, cycles.__getitem__) if beside else ()
        solver = Solver(self.nest.group, units, orders, cycles, found, words, two)
        schedule = solver.solve(trail=not faults)
        if faults and any(schedule.lags.values()):
            raise InputError(faults)
        return Scheduled(None if faults else solver, schedule)

    @cached_property
    def yielding(self) -> dict[str, frozenset[int]]:
        """Einsums whose words pass a port of tiles that come and go, with their buffers."""
        ports = [
            self.orders.loads(Flow("", b.visits, (*b.fill, *b.drain))).keys() for b in self.buffers
        ]
        found = {}
        for e, flows in self.flows.items():
            own = self.orders.loads(*flows).keys()
            if met := frozenset(n for n, some in enumerate(ports) if own & some):
                found[e] = met
        return found

    def _leaving(self, buffer: Buffer) -> Buffer:
        """The buffer, whose tiles leave while they are written if it has two of a step's."""
        alone = len(buffer.writers) == 1
        return replace(buffer, leaves=buffer.visits.tiles if buffer.copies > 1 and alone else 1)
