"""Runs one program: iterations of its steady state, stage by stage, in whole cycles.

Units begin a stage together and each works through its tasks in order; a
task starts when its tiles are there and what it must wait for in this stage
has ended, and takes as long as its cycles and its words at the ports need.
Among units the task that can start first is taken first, and requests are
served before it up to that time, so that everything happens in order of time.

A stage counts as ``compute`` the busy cycles of its busiest unit.  What it
takes beyond them are stalls, of the causes that the unit that ends last met,
the latest first.  Beside that every unit's idle cycles are kept by cause.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from accelsim.errors import refuse
from accelsim.sim.machine import Asked, Ports, Queue, Request, Slots
from accelsim.sim.program import Program, Stage, Task, tile_of
from accelsim.sim.shapes import Shape, Shapes
from accelsim.sim.trace import Recorder

#: Counters that every run has, before those of levels and units.
COMPUTE, SERIAL, TASKS = "compute", "one after the other", "tasks"
DRAINS = "last tiles drain"
ARRAYS = "arrays fill and drain"
OTHERS = "other units of the stage"


@dataclass(slots=True)
class Turn:
    """One unit in one stage: tasks left, time, busy cycles, and waits with their causes."""

    unit: str
    left: list[tuple[Task, int]]
    time: int
    busy: int = 0
    waits: list[tuple[str, int]] = field(default_factory=list)


class Engine:
    """The state of a running program.  ``time`` is the beginning of the next stage."""

    def __init__(
        self,
        program: Program,
        rates: Mapping[tuple[str, str], float],
        recorder: Recorder | None = None,
        execute: Callable[[str, dict[str, int]], None] | None = None,
    ) -> None:
        self.program, self.recorder, self.execute = program, recorder, execute
        self.counts: list[float] = []
        self.named: dict[str, int] = {}
        counters = {
            (level, writes): self._counter(f"{'writes' if writes else 'reads'} {level}")
            for level in program.laid_bytes
            for writes in (False, True)
        }
        self.ports = Ports(rates, counters)
        self.queue = Queue()
        self.slots = [
            Slots(n, b, program.bodies, self.ports) for n, b in enumerate(program.buffers)
        ]
        self.time = self.iteration = 0
        self.last = 0
        self.made: dict[int | str, int] = {}
        self.readers: dict[int | str, list[Slots]] = {}
        for slots in self.slots:
            for source in slots.sources:
                self.made[source] = 0
                self.readers.setdefault(source, []).append(slots)
        self.ended: dict[str, int] = {}
        self.units = tuple(dict.fromkeys(t.unit for t in program.tasks))
        self.shapes = Shapes(program, self.slots, self.ports)
        self.held = dict(program.laid_bytes)
        self.peaks = dict(program.laid_bytes)
        self.changes: dict[str, list[tuple[int, float]]] = {n: [] for n in self.held}
        first = sorted(self.slots, key=Slots.urgency)
        for n in range(max((s.copies for s in first), default=0)):
            for slots in first:
                if n < slots.copies:
                    self._fill(slots, n, 0)

    def _counter(self, name: str) -> int:
        if name not in self.named:
            self.named[name] = len(self.counts)
            self.counts.append(0.0)
        return self.named[name]

    def add(self, name: str, amount: float) -> None:
        """Add to a counter."""
        self.counts[self._counter(name)] += amount

    # -- tiles -------------------------------------------------------------------------------

    def _fill(self, slots: Slots, tile: int, time: int) -> None:
        """Ask for the buffer's next tile, whose slot is free at ``time``, once it is made."""
        if slots.next is None:
            return
        wanted = slots.next * slots.body + slots.buffer.ahead
        move = slots.move(slots.next)
        if move.fill and any(self.made[source] < wanted for source in slots.sources):
            slots.waiting[tile] = time
            return
        slots.next = slots.following(slots.next)
        slots.drains[tile] = move.drain
        end = self.program.bodies[0] if slots.next is None else slots.next * slots.body
        slots.covers[tile] = end
        if move.fill is None:
            self._there(slots, tile, time, time)
        else:
            slots.asked[tile] = time
            self.queue.ask(time, slots, tile, False, move.fill)

    def _there(self, slots: Slots, tile: int, began: int, done: int) -> None:
        """A tile is there; its room is taken since its fill began."""
        slots.ready[tile] = done
        self._room(slots, began, 1)
        self._progress(tile_of(slots.number), slots.covers.pop(tile), done)

    def _progress(self, source: int | str, upto: int, time: int) -> None:
        """A source has made all that it makes before step ``upto``; who waits for it may go on."""
        if self.made.get(source, upto) >= upto:
            return
        self.made[source] = upto
        for slots in self.readers[source]:
            waiting, slots.waiting = slots.waiting, {}
            for tile in sorted(waiting):
                if slots.waiting:
                    slots.waiting[tile] = waiting[tile]
                else:
                    self._fill(slots, tile, max(waiting[tile], time))

    def _room(self, slots: Slots, time: int, sign: int) -> None:
        size = slots.buffer.slot_bytes
        if size:
            heapq.heappush(self.changes[slots.buffer.level], (time, sign * size))

    def _close(self, slots: Slots, einsum: str, upto: int, time: int) -> None:
        """A user is done with its tile; the last one lets it drain and frees its slot.

        ``upto`` is the step after the tile's last one.
        """
        tile = slots.at[einsum]
        count, end = slots.ends.get(tile, (0, 0))
        count, end = count + 1, max(end, time)
        slots.ends[tile] = count, end
        if count < len(slots.buffer.users):
            return
        del slots.ends[tile], slots.ready[tile]
        slots.upto[tile] = upto
        drain = slots.drains.pop(tile)
        if drain is None:
            self._free(slots, tile, end)
        else:
            self.queue.ask(end, slots, tile, True, drain)

    def _free(self, slots: Slots, tile: int, time: int) -> None:
        self.last = max(self.last, time)
        self._room(slots, time, -1)
        upto = slots.upto.pop(tile)
        self._fill(slots, tile + slots.copies, time)
        self._progress(slots.number, upto, time)

    def _serve(self, asked: Asked) -> None:
        slots, tile = asked.slots, asked.tile
        began, done = self.ports.serve(asked.request, asked.ready)
        self._count(asked.request)
        if self.recorder:
            verb = "drain" if asked.drains else "fill"
            self.recorder.transfer(f"{verb} {slots.buffer.tensor}", asked.request, self.ports)
        if asked.drains:
            self._free(slots, tile, done)
        else:
            del slots.asked[tile]
            self._there(slots, tile, began, done)

    def _count(self, request: Request) -> None:
        for counter, size in request.counts:
            self.counts[counter] += size
        self.add(SERIAL, sum(cycles for _, cycles in request.hops))

    def _serve_until(self, time: int) -> None:
        while self.queue.due(time):
            self._serve(self.queue.take())

    def _ready(self, slots: Slots, task: Task) -> int:
        """When the tile that a task needs is there.  Raises InputError if it never will be."""
        tile = slots.at[task.einsum]
        while tile not in slots.ready:
            if not self.queue.heap:
                what = f"{task.einsum} waits for {slots.buffer.tensor}, which never comes"
                allowed = f"what makes {slots.buffer.tensor} before {task.einsum}, or more copies"
                raise refuse(f"'{self.program.name}' stops: {what}", allowed, task.place)
            self._serve(self.queue.take())
        return slots.ready[tile]

    # -- steps -------------------------------------------------------------------------------

    def run_iteration(self) -> None:
        """One iteration of the steady state: all its stages."""
        for number, stage in enumerate(self.program.stages, 1):
            begin = self.time
            self._stage(stage)
            if self.recorder and self.time > begin:
                self.recorder.stage(number, self.iteration, begin, self.time)
        self.iteration += 1

    def _stage(self, stage: Stage) -> None:
        turns = []
        for unit, tasks in stage.units:
            left = [(t, step) for t in tasks if (step := self._step(t)) is not None]
            if left:
                turns.append(Turn(unit, left[::-1], self.time))
        if not turns:
            return
        ran = {t.einsum for turn in turns for t, _ in turn.left}
        waiting = set(ran)
        self.ended = {}
        while waiting:
            turn = self._next(turns, waiting)
            task, step = turn.left.pop()
            self._task(turn, task, step)
            waiting.discard(task.einsum)
        self._account(turns)
        for einsum, cycles, why in stage.waits:
            if einsum in ran and cycles:
                self._pause(why, cycles)
                self.add(SERIAL, cycles)
                self.time += cycles
        self._serve_until(self.time)
        self._measure(self.time)

    def _account(self, turns: list[Turn]) -> None:
        """Count the stage that the turns have run: compute, stalls, what each unit waited for."""
        last = max(turns, key=lambda turn: turn.time)
        busy = max(turn.busy for turn in turns)
        self.add(COMPUTE, busy)
        lost = last.time - self.time - busy
        for cause, cycles in reversed(last.waits):
            self.add(f"stall {cause}", min(cycles, lost))
            lost -= min(cycles, lost)
        ends = dict.fromkeys(self.units, self.time)
        for turn in turns:
            ends[turn.unit] = turn.time
            for cause, cycles in turn.waits:
                self._idle(turn.unit, cause, cycles)
        for unit, end in ends.items():
            if last.time > end:
                self._idle(unit, OTHERS, last.time - end)
        self.time = last.time

    def _idle(self, unit: str, cause: str, cycles: int) -> None:
        self.add(f"idle {unit}\n{cause}", cycles)

    def _pause(self, cause: str, cycles: int) -> None:
        """Count cycles in which every unit waits."""
        self.add(f"stall {cause}", cycles)
        for unit in self.units:
            self._idle(unit, cause, cycles)

    def _step(self, task: Task) -> int | None:
        """The step that a task does in this iteration, counted in its own loops; None: nothing."""
        bodies = self.program.bodies
        step = self.iteration - task.lag
        if not 0 <= step < bodies[0]:
            return None
        if not task.side:
            return step
        own, rest = divmod(step, bodies[task.depth])
        wanted = 0 if task.side == "first" else bodies[task.depth] - 1
        return own if rest == wanted else None

    def _next(self, turns: list[Turn], waiting: set[str]) -> Turn:
        """The unit whose next task can start first; last one whose tile is not even asked for."""
        open_ = [t for t in turns if t.left]
        if len(open_) == 1:
            return open_[0]
        best, earliest = None, (False, 0)
        for turn in open_:
            task, step = turn.left[-1]
            if any(w in waiting for w in task.waits):
                continue
            start = max([turn.time, *(self.ended.get(w, 0) for w in task.waits)])
            shape = self.shapes.of(task, step)
            lacking = False
            for slots in shape.needs:
                tile = slots.at[task.einsum] + (slots in shape.opens)
                known = slots.ready.get(tile, slots.asked.get(tile))
                lacking |= known is None
                start = max(start, known or 0)
            if best is None or (lacking, start) < earliest:
                best, earliest = turn, (lacking, start)
        assert best is not None, f"{self.program.name}: every unit waits for another"
        return best

    def _task(self, turn: Turn, task: Task, step: int) -> None:
        shape = self.shapes.of(task, step)
        began, until = self._start(turn, task, shape)
        start = began[0]
        if shape.flow is not None:
            _, done = self.ports.serve(shape.flow, start)
            self._count(shape.flow)
            until = max(until, (done, f"ports: words of {task.einsum}"))
            if self.recorder:
                self.recorder.transfer(f"words of {task.einsum}", shape.flow, self.ports)
        end = max(start + shape.cycles, until[0])
        self._book(turn, task, shape.cycles, began, (end, until[1]))
        if self.recorder:
            self.recorder.task(task.unit, task.einsum, step, start, end)
        if self.execute and shape.cycles:
            self.execute(task.einsum, self._fixed(task, step))
        upto = (step + 1) * self.program.bodies[task.depth]
        for slots in shape.closes:
            self._close(slots, task.einsum, upto, end)
        self._progress(task.einsum, upto, end)

    def _start(
        self, turn: Turn, task: Task, shape: Shape
    ) -> tuple[tuple[int, str], tuple[int, str]]:
        """When a task starts and what it waited for, and until when its words still come in."""
        start, cause = turn.time, ""
        for other in task.waits:
            if self.ended.get(other, 0) > start:
                start, cause = self.ended[other], f"{task.unit}: {task.einsum} waits for {other}"
        for slots in shape.opens:
            slots.at[task.einsum] += 1
        until = (0, "")
        for slots in shape.needs:
            ready = self._ready(slots, task)
            if slots.streams:
                until = max(until, (ready, slots.cause))
            elif ready > start:
                start, cause = ready, slots.cause
        self._serve_until(start)
        return (start, cause), until

    def _book(
        self, turn: Turn, task: Task, cycles: int, began: tuple[int, str], ended: tuple[int, str]
    ) -> None:
        """Count a task's cycles, and its waits before and within."""
        start, cause = began
        end, slow = ended
        if start > turn.time:
            turn.waits.append((cause, start - turn.time))
        if end > start + cycles:
            turn.waits.append((slow, end - start - cycles))
        turn.busy += cycles
        turn.time = self.ended[task.einsum] = end
        self.add(f"busy {task.unit}", cycles)
        self.add(f"einsum {task.einsum}", cycles)
        self.add(SERIAL, cycles)
        self.add(TASKS, 1)

    def _fixed(self, task: Task, step: int) -> dict[str, int]:
        """The value of each step loop around a task."""
        found = {}
        for loop in reversed(self.program.steps[: task.depth]):
            step, found[loop.part] = divmod(step, loop.trips)
        return found

    # -- room and the end --------------------------------------------------------------------

    def _measure(self, time: int) -> None:
        """Follow what is held up to a time."""
        for level, changes in self.changes.items():
            while changes and changes[0][0] <= time:
                when, size = heapq.heappop(changes)
                self.held[level] += size
                self.peaks[level] = max(self.peaks[level], self.held[level])
                if self.recorder:
                    self.recorder.room(level, when, self.held[level])

    def finish(self) -> None:
        """Let the last tiles drain, and the arrays too."""
        while self.queue.heap:
            self._serve(self.queue.take())
        end = max([self.time, self.last, *self.ports.free])
        if end > self.time:
            self._pause(DRAINS, end - self.time)
        if self.program.fill_cycles:
            self._pause(ARRAYS, self.program.fill_cycles)
            self.add(SERIAL, self.program.fill_cycles)
        self._measure(end)
        self.time = end + self.program.fill_cycles
