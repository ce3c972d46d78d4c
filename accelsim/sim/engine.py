"""Runs one program: iterations of its steady state, stage by stage, in whole cycles.

Units begin a stage together and each works through its tasks in order; a
task starts when its tiles are there and what it must wait for in this stage
has ended, and takes as long as its cycles and its words at the ports need; two
side by side (``sim.pairs``) as long as the slower.
What happens next is a task that ends or a tile that has passed its ports;
both free slots and let others start.

A stage counts as ``compute`` the busy cycles of its busiest unit.  What it
takes beyond them are stalls, of the causes that the unit that ends last met,
the latest first.  Beside that every unit's idle cycles are kept by cause.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from accelsim.errors import InputError, refuse
from accelsim.sim.machine import Slots
from accelsim.sim.program import Fixed, Program, Stage, Task
from accelsim.sim.shapes import Shapes
from accelsim.sim.trace import Recorder
from accelsim.sim.traffic import SERIAL, Counters, Traffic

#: Counters that every run has, before those of levels and units.
COMPUTE, TASKS = "compute", "tasks"
DRAINS = "last tiles drain"
ARRAYS = "arrays fill and drain"
OTHERS = "other units of the stage"


@dataclass(slots=True)
class Turn:
    """One unit in one stage: tasks left, time, busy cycles, and waits with their causes.

    While ``task`` runs, it ends at ``end``, or when all that is ``coming`` is
    there, if that is later; ``slow`` is why.  One ``beside`` it ends with it.
    ``lacks`` is what the next task waited for last, ``cause`` why.
    """

    unit: str
    left: list[tuple[Task, int]]
    time: int
    busy: int = 0
    waits: list[tuple[str, int]] = field(default_factory=list)
    task: Task | None = None
    step: int = 0
    end: int = 0
    slow: str = ""
    coming: list[tuple[Slots, int]] = field(default_factory=list)
    beside: tuple[Turn, ...] = ()
    lacks: Slots | None = None
    cause: str = ""


class Engine:
    """The state of a running program: ``time`` is the beginning of the next stage."""

    def __init__(
        self,
        program: Program,
        rates: Mapping[tuple[str, str], float],
        recorder: Recorder | None = None,
        execute: Callable[[str, Fixed], None] | None = None,
    ) -> None:
        self.program, self.recorder, self.execute = program, recorder, execute
        self.counters = Counters()
        self.traffic = Traffic(program, rates, self.counters, recorder)
        self.ports = self.traffic.ports
        #: Iterations are counted in ticks, as steps are.
        self.time = self.iteration = 0
        self.units = tuple(dict.fromkeys(t.unit for t in program.tasks))
        self.taken_by = dict.fromkeys(self.units, 0)
        self.shapes = Shapes(program, self.traffic.slots, self.ports)
        self.add = self.counters.add

    def taken(self) -> list[int]:
        """Cycles that each unit and each port cannot have spared so far."""
        return [*self.taken_by.values(), *self.ports.asked]

    # -- steps -------------------------------------------------------------------------------

    def run_iteration(self) -> None:
        """One iteration of the steady state: all its stages."""
        for number, stage in enumerate(self.program.stages, 1):
            begin = self.time
            self._stage(stage)
            if self.recorder and self.time > begin:
                iteration = self.iteration // self.program.ticks
                self.recorder.stage(number, iteration, begin, self.time)
        self.iteration += self.program.ticks

    def _stage(self, stage: Stage) -> None:
        turns = []
        for unit, tasks in stage.units:
            left = [(t, step) for t in tasks if (step := self._step(t)) is not None]
            if left:
                turns.append(Turn(unit, left[::-1], self.time))
        if not turns:
            return
        ran = {t.einsum for turn in turns for t, _ in turn.left}
        ended = dict.fromkeys(ran, 0)
        for _, tasks in stage.units:
            for t in tasks:
                if t.einsum in ran and self.iteration < t.lag:  # of a step before the first
                    ended[t.einsum] += 1
        self._work(turns, ended)
        self._account(turns)
        for einsum, cycles, why in stage.waits:
            if einsum in ran and cycles:
                self._pause(why, cycles)
                self.add(SERIAL, cycles)
                self.time += cycles
        self.traffic.pass_until(self.time)
        self.ports.go_on(self.time)
        self.traffic.room.follow(self.time, self.recorder)

    def _work(self, turns: list[Turn], ended: dict[str, int]) -> None:
        """All tasks of a stage, in order of time; of each Einsum some turns have ``ended``."""
        while True:
            for turn in turns:
                if together := self._ready(turn, turns, ended):
                    self._begin(together)
            running = [t for t in turns if t.task is not None]
            if not running and not any(t.left for t in turns):
                return
            ends = [t.end for t in running if not any(x.coming for x in (t, *t.beside))]
            passed = self.ports.next()
            if not ends and passed is None:
                raise self._stopped(turns)
            self.traffic.pass_until(
                max(self.traffic.now, min(ends if passed is None else [*ends, passed]))
            )
            for turn in running:
                self._arrived(turn)
                both = (turn, *turn.beside)
                if turn.task and all(t.end <= self.traffic.now and not t.coming for t in both):
                    for t in both:
                        ended[self._end(t)] += 1

    def _stopped(self, turns: list[Turn]) -> InputError:
        """Nothing can happen any more."""
        stuck = [(t.task, slots) for t in turns if t.task for slots, _ in t.coming]
        stuck += [(t.left[-1][0], t.lacks) for t in turns if t.left and t.lacks is not None]
        assert stuck, f"{self.program.name}: every unit waits for another"
        task, tensor = stuck[0][0], stuck[0][1].buffer.tensor
        what = f"{task.einsum} waits for {tensor}, which never comes"
        allowed = f"what makes {tensor} before {task.einsum}, or more copies"
        return refuse(f"'{self.program.name}' stops: {what}", allowed, task.place)

    def _account(self, turns: list[Turn]) -> None:
        """Count the stage that the turns have run: compute, stalls, what each unit waited for."""
        last = max(turns, key=lambda turn: turn.time)
        busy = max(turn.busy for turn in turns)
        self.add(COMPUTE, busy)
        lost = last.time - self.time - busy
        for cause, cycles in reversed(last.waits):
            if lost:
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
            return step // bodies[task.depth]
        own, rest = divmod(step, bodies[task.depth])
        wanted = 0 if task.side == "first" else bodies[task.depth] - self.program.ticks
        return own if rest == wanted else None

    def _may_start(self, turn: Turn, ended: Mapping[str, int]) -> bool:
        """Whether a unit's next task has all that it needs; else the turn knows what it lacks."""
        task, step = turn.left[-1]
        for other, turns in task.waits:
            if ended.get(other, turns) < turns:
                turn.lacks, turn.cause = None, _waits(task, other)
                return False
        for number, ticks in task.copied:
            slots = self.traffic.slots[number]
            if slots.filled() < (step + 1) * self.program.bodies[task.depth] - ticks:
                turn.lacks, turn.cause = slots, slots.cause
                return False
        shape = self.shapes.of(task, step)
        for port, _ in shape.flow.hops if shape.flow and task.yields else ():
            for queued in self.ports.queues[port]:
                passing = queued.transfer.slots
                if passing.number in task.yields:
                    cause = f"ports: {task.einsum} lets {passing.buffer.tensor} pass"
                    turn.lacks, turn.cause = None, cause
                    return False
        for slots in shape.needs:
            tile = slots.at[task.einsum] + (slots in shape.opens)
            if tile not in slots.ready and not slots.streams:
                turn.lacks, turn.cause = slots, slots.cause
                return False
        return True

    def _ready(self, turn: Turn, turns: list[Turn], ended: Mapping[str, int]) -> tuple[Turn, ...]:
        """The units that begin now if one does: itself, or both of a pair; none if it may not."""
        if turn.task is not None or not turn.left or not self._may_start(turn, ended):
            return ()
        task, _ = turn.left[-1]
        if task.pair is None:
            return (turn,)
        turn.lacks, turn.cause = None, _waits(task, task.pair.other(task.einsum))
        for other in turns:
            if other is not turn and other.left and other.left[-1][0].pair == task.pair:
                if other.task is None and self._may_start(other, ended):
                    return turn, other
                turn.cause = other.cause if other.task is None else turn.cause
        return ()

    def _begin(self, together: tuple[Turn, ...]) -> None:
        """Begin the next task of a unit, or of two: what makes a tile before what reads it."""
        pair = together[0].left[-1][0].pair
        if pair is None:
            self._start(together[0])
            return
        for turn in sorted(together, key=lambda t: t.left[-1][0].einsum == pair.second):
            self._start(turn)
        end = max(t.end for t in together) + pair.lead
        for turn, other in (together, together[::-1]):
            assert turn.task is not None
            assert other.task is not None
            turn.end, turn.beside = end, (other,)
            turn.slow = turn.slow or _waits(turn.task, other.task.einsum)

    def _start(self, turn: Turn) -> None:
        """Begin a unit's next task."""
        turn.task, turn.step = task, step = turn.left.pop()
        shape = self.shapes.of(task, step)
        if self.traffic.now > turn.time:
            turn.waits.append((turn.cause, self.traffic.now - turn.time))
        turn.time, turn.lacks = self.traffic.now, None
        turn.end, turn.slow, turn.beside = self.traffic.now + shape.cycles, "", ()
        for slots in shape.opens:
            slots.at[task.einsum] += 1
            self.traffic.leave(slots, task.einsum, step)
        turn.coming = [
            (slots, slots.at[task.einsum])
            for slots in shape.needs
            if slots.at[task.einsum] not in slots.ready
        ]
        self.taken_by[task.unit] += shape.least
        if shape.flow is not None:
            self.traffic.words_of = task.einsum
            self.traffic.count(shape.flow)
            done = self.ports.words(shape.flow, self.traffic.now)
            if done > turn.end:
                turn.end, turn.slow = done, f"ports: words of {task.einsum}"
        if self.execute:
            self.execute(task.einsum, self._fixed(task, step))

    def _arrived(self, turn: Turn) -> None:
        """See which tiles that a task works on while they come in are there."""
        here = [slots for slots, tile in turn.coming if tile in slots.ready]
        if here:
            turn.coming = [c for c in turn.coming if c[1] not in c[0].ready]
            for t in (turn, *turn.beside) if self.traffic.now > turn.end else ():
                t.end, t.slow = self.traffic.now, here[-1].cause

    def _end(self, turn: Turn) -> str:
        """A unit has done its task: book it, and close the tiles that it was the last of.

        Returns the Einsum.
        """
        task, step = turn.task, turn.step
        assert task is not None
        shape = self.shapes.of(task, step)
        late = turn.end - turn.time - shape.cycles
        if late > 0:
            turn.waits.append((turn.slow, late))
        if self.recorder:
            self.recorder.task(task.unit, task.einsum, step, turn.time, turn.end)
        turn.task, turn.time = None, turn.end
        turn.busy += shape.cycles
        self.add(f"busy {task.unit}", shape.cycles)
        self.add(f"einsum {task.einsum}", shape.cycles)
        self.add(SERIAL, shape.cycles)
        self.add(TASKS, int(task.turn == task.turns - 1))
        body = self.program.bodies[task.depth]
        upto = step * body + (task.turn + 1) * body // task.turns
        for slots in shape.closes:
            last = (upto - 1) // slots.body
            self.traffic.close(slots, task.einsum, slots.after(last) * slots.body)
        self.traffic.progress(task.einsum, upto)
        return task.einsum

    def _fixed(self, task: Task, step: int) -> Fixed:
        """The coordinates of each loop around a task."""
        found, turn = dict[str, int | range](), task.turn
        for part, trips, stride in reversed(task.loops):
            turn, i = divmod(turn, trips)
            found[part] = range(i * stride, (i + 1) * stride)
        for loop in reversed(self.program.steps[: task.depth]):
            step, found[loop.part] = divmod(step, loop.trips)
        return found

    # -- the end -----------------------------------------------------------------------------

    def finish(self) -> None:
        """Let the last tiles drain, and the arrays too."""
        while (now := self.ports.next()) is not None:
            self.traffic.pass_until(max(self.traffic.now, now))
        end = max([self.traffic.now, *self.ports.free])
        if end > self.time:
            self._pause(DRAINS, end - self.time)
        if self.program.fill_cycles:
            self._pause(ARRAYS, self.program.fill_cycles)
            self.add(SERIAL, self.program.fill_cycles)
        self.traffic.room.follow(end, self.recorder)
        self.time = end + self.program.fill_cycles


def _waits(task: Task, other: str) -> str:
    """Why a unit stands still whose task waits for another Einsum."""
    return f"{task.unit}: {task.einsum} waits for {other}"
