"""The steady state: iterations of a loop that repeat are run once.

At each boundary between iterations of a step loop the state is written down
relative to the present: how long ports stay taken, when tiles are there and
slots free, which tiles are on their way, what waits.  The rest of the run
depends on nothing else but the loop indices to come, and on those only where
an index is the first or the last of its loop or where a quotient makes a
loop's steps differ.  So where two boundaries of one loop have the same state
and no index from then on is special, what happened between them happens again
and again, and times and counters advance by the same amounts.  It is skipped
up to the point from where the loop's last index would be felt.

A tile that is long on its way, behind others that are due before it, has less
left to pass at each boundary.  What happens does not depend on how much, as
long as it does not arrive: iterations repeat up to then, and it has as much
less left after each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from accelsim.errors import InputError
from accelsim.sim.engine import Engine
from accelsim.sim.machine import Queued
from accelsim.sim.program import Program
from accelsim.sim.search import Trial

#: Boundaries of one loop that are remembered at a time: what once was special may go on for more.
REMEMBERED = 256

#: Iterations stall that take this share longer than the busiest unit or port.
STALLS = 0.005
#: Iterations in which a schedule is tried, besides those in which it is filled.
TRIED = 24

State: TypeAlias = tuple[Any, ...]


class Mark(NamedTuple):
    """A boundary: which iteration of the loop begins, the time, counters so far.

    ``left``: tiles on their way, each with the cycles that it still took.
    """

    iteration: int
    time: int
    counts: tuple[float, ...]
    left: tuple[tuple[Queued, int], ...]

    def less(self, now: Sequence[Queued]) -> tuple[int, ...] | None:
        """By how much less the tiles on their way take now; None where others are."""
        pairs = tuple(zip(self.left, now, strict=True))
        if all(q is other or cycles == other.cycles for (q, cycles), other in pairs):
            return tuple(cycles - other.cycles for (_, cycles), other in pairs)
        return None


def run(engine: Engine, full: bool = False) -> int:
    """Run a program to its end; ``full`` skips nothing.  Returns the iterations skipped."""
    runner = _Runner(engine, full)
    runner.loop(0)
    for _ in range(runner.trailing // engine.program.ticks):
        engine.run_iteration()
    engine.finish()
    return runner.skipped // engine.program.ticks


def tried(
    program: Program, rates: Mapping[tuple[str, str], float], most: float = math.inf
) -> Trial:
    """A program's first iterations, and what all take if the rest is like their second half.

    If iterations repeat in its innermost loop, the rest is like those that do.

    A program that stops, or that has taken ``most`` cycles, is not run any further.
    """
    engine = Engine(program, rates)
    runner, depth = _Runner(engine, False), len(program.steps) - 1
    total, last = program.count, runner.trailing // program.ticks
    count = min(total, TRIED + 2 * last)
    regular = depth >= 0 and runner.regular(depth) and program.steps[depth].trips >= count
    seen: dict[State, tuple[int, int, list[int]]] = {}
    since = 0, 0, engine.taken()
    try:
        for n in range(1, count + 1):
            engine.run_iteration()
            if engine.time > most:
                return Trial(math.inf, math.inf, True)
            now = n, engine.time, engine.taken()
            if n == count // 2:
                since = now
            if regular and last < n < count:
                state = runner.state(depth)[0], tuple(q.cycles for q in runner.queued())
                if state in seen:
                    since = seen[state]
                    break
                seen[state] = now
    except InputError:
        return Trial(math.inf, math.inf, True)
    number, time, taken = since
    cycles = engine.time - time
    longest = max(now - then for now, then in zip(engine.taken(), taken, strict=True))
    each = cycles / (n - number)
    return Trial(engine.time + (total - n) * each, each, cycles > longest * (1 + STALLS))


def ends(program: Program, rates: Mapping[tuple[str, str], float]) -> bool:
    """Whether a program runs to its end."""
    try:
        run(Engine(program, rates))
    except InputError:
        return False
    return True


class _Runner:
    """Runs step loops, outermost first."""

    def __init__(self, engine: Engine, full: bool) -> None:
        self.engine, self.full = engine, full
        self.steps, self.bodies = engine.program.steps, engine.program.bodies
        self.trailing = max(t.lag for t in engine.program.tasks)
        self.skipped = 0

    def loop(self, depth: int) -> None:
        """All iterations of the step loop at ``depth``, or one step."""
        engine = self.engine
        if depth == len(self.steps):
            engine.run_iteration()
            return
        seen = dict[State, Mark]()
        regular = self.regular(depth)
        body = self.bodies[depth + 1]
        before = -(-self.trailing // body)  # iterations whose steps still trail at a boundary
        trips, index = self.steps[depth].trips, 0
        while index < trips:
            if regular and index > before and trips - index > 3:
                index = self._skip(depth, index, before, seen)
            self.loop(depth + 1)
            index += 1

    def regular(self, depth: int) -> bool:
        """Whether iterations of a step loop may be skipped."""
        return not self.full and not self.engine.shapes.irregular[depth]

    def _skip(self, depth: int, index: int, before: int, seen: dict[State, Mark]) -> int:
        """The iteration to go on with, everything advanced to its beginning."""
        engine, trips, queued = self.engine, self.steps[depth].trips, self.queued()
        state, ahead, back = self.state(depth)
        before = max(before, -(-back // self.bodies[depth + 1]))
        exact = state, tuple(q.cycles for q in queued)
        for mark in filter(None, (seen.get(exact), seen.get(state))):
            less = mark.less(queued)
            if less is None or mark.iteration - before < 1:
                continue
            period = index - mark.iteration
            times = (trips - 1 - ahead - index) // period
            times = min(
                [times, *((q.cycles - 1) // n for q, n in zip(queued, less, strict=True) if n)]
            )
            if times > 0:
                self._advance(depth, times, period, mark)
                seen.clear()
                return index + times * period
        if len(seen) >= REMEMBERED:
            seen.clear()
        mark = Mark(
            index, engine.time, tuple(engine.counters.counts), tuple((q, q.cycles) for q in queued)
        )
        seen[state] = mark
        seen.setdefault(exact, mark)
        return index

    def queued(self) -> list[Queued]:
        """Tiles on their way, by port."""
        return [q for queue in self.engine.ports.queues for q in queue]

    def state(self, depth: int) -> tuple[State, int, int]:
        """The state relative to now, iterations of the loop that it looks ahead, steps back.

        How much longer tiles take that are on their way is left out.
        """
        engine = self.engine
        now, step = engine.time, engine.iteration
        outer, body = self.bodies[depth], self.bodies[depth + 1]
        found: list[Any] = [tuple(max(free - now, 0) for free in engine.ports.free)]
        floor = self._floors(depth)
        found.append(
            tuple(self._place(max(u, floor(n)), outer) for n, u in engine.traffic.made.items())
        )
        ahead, first = 1, []
        for slots in engine.traffic.slots:
            base = min(slots.at.values())
            first.append(base)
            known = slots.until if slots.buffer.onto else {n: slots.until[n] for n in slots.begun}
            coming: tuple[int, int] | None = None
            if slots.next is not None:
                at = slots.next * slots.body
                coming = self._place(at, outer)
                if not coming[0]:
                    ahead = max(ahead, (at - step) // body + 1)
            found.append(
                (
                    coming,
                    tuple(n - base for n in slots.at.values()),
                    slots.tiles - base,
                    slots.waiting,
                    tuple(sorted(n - base for n in slots.ready)),
                    self._places(
                        {n: max(u, floor(slots.number)) for n, u in slots.upto.items()}, base, outer
                    ),
                    self._places(slots.begun, base, outer),
                    self._places(known, base, outer),
                    tuple(sorted((n - base, count) for n, count in slots.ends.items())),
                    tuple(sorted((n - base, count) for n, count in slots.writes.items())),
                    tuple(sorted((n - base, d) for n, d in slots.drains.items())),
                )
            )  # fmt: skip
        for queue in engine.ports.queues:
            moved = (q.transfer for q in queue)
            found.append(
                tuple((t.slots.number, t.tile - first[t.slots.number], t.drains, t.early,
                       self._place(t.due[0], outer), t.due[1]) for t in moved)
            )  # fmt: skip
        return tuple(found), ahead, self._looked_back(floor)

    def _past(self) -> int:
        """The end of a step so long ago that what was made before is as good as made then."""
        return self.engine.iteration - self.trailing - self.engine.program.ticks

    def _floors(self, depth: int) -> Callable[[int | str], int]:
        """For each source the step before which it is the same how much it has made.

        That is long past, or too little for the first tile that waits for it in
        this iteration of the loops around, if that is less: of what a buffer has
        drained itself its next tile may want what is older still.
        """
        outer, past = self.bodies[depth], self._past()
        around, found = self.engine.iteration // outer, dict[int | str, int]()
        for source, readers in self.engine.traffic.readers.items():
            wanted = [
                slots.wanted(slots.next) - 1
                for slots in readers
                if slots.next is not None and slots.next * slots.body // outer == around
            ]
            found[source] = min([past, *wanted])
        return lambda source: found.get(source, past)

    def _looked_back(self, floor: Callable[[int | str], int]) -> int:
        """How far back lies the first of what has been made, or drains, above its floor."""
        engine = self.engine
        made = [u for n, u in engine.traffic.made.items() if u > floor(n)]
        for slots in engine.traffic.slots:
            made += [u for u in slots.upto.values() if u > floor(slots.number)]
        return engine.iteration - min(made, default=engine.iteration)

    def _place(self, step: int, outer: int) -> tuple[int, int]:
        """A step as seen from now: iterations of the loop around away, and how far within one."""
        now = self.engine.iteration
        away = step // outer - now // outer
        return away, step % outer if away else step - now

    def _places(
        self, found: dict[int, int], base: int, outer: int
    ) -> tuple[tuple[int, tuple[int, int]], ...]:
        return tuple(sorted((n - base, self._place(step, outer)) for n, step in found.items()))

    def _advance(self, depth: int, times: int, period: int, mark: Mark) -> None:
        """Let ``times`` periods pass."""
        engine = self.engine
        moved = times * (engine.time - mark.time)
        steps = times * period * self.bodies[depth + 1]
        around = engine.iteration // self.bodies[depth]
        floor = self._floors(depth)

        def moved_by(step: int) -> int:
            return steps if step // self.bodies[depth] == around else 0

        if engine.recorder:
            name = f"{self.steps[depth].part} ({period} each)" if period > 1 else ""
            engine.recorder.skipped(
                name or self.steps[depth].part, times, engine.time, engine.time + moved
            )
        old = (*mark.counts, *[0.0] * (len(engine.counters.counts) - len(mark.counts)))
        for n, was in enumerate(old):
            engine.counters.counts[n] += times * (engine.counters.counts[n] - was)

        def of(source: int | str, step: int) -> int:
            return step + moved_by(step) if step > floor(source) else step

        for slots in engine.traffic.slots:
            if slots.next is not None:
                slots.next += moved_by(slots.next * slots.body) // slots.body
            slots.upto = {n: of(slots.number, u) for n, u in slots.upto.items()}
            for known in (slots.begun, slots.until):
                known.update({n: u + moved_by(u) for n, u in known.items()})
        ports = engine.ports
        for q, n in zip(self.queued(), mark.less(self.queued()) or (), strict=True):
            q.cycles -= times * n
        for transfer in {id(q.transfer): q.transfer for qs in ports.queues for q in qs}.values():
            transfer.due = transfer.due[0] + moved_by(transfer.due[0]), transfer.due[1]
        ports.free = [t + moved for t in ports.free]
        engine.traffic.made = {n: of(n, u) for n, u in engine.traffic.made.items()}
        for level, changes in engine.traffic.room.changes.items():
            engine.traffic.room.changes[level] = [(t + moved, size) for t, size in changes]
        engine.time = engine.traffic.now = engine.time + moved
        engine.iteration += steps
        self.skipped += steps
