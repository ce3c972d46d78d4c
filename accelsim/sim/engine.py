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
from accelsim.sim.machine import Due, Ports, Request, Room, Slots, Transfer
from accelsim.sim.program import Fixed, Program, Stage, Task, tile_of
from accelsim.sim.shapes import Shapes
from accelsim.sim.trace import Recorder

#: Counters that every run has, before those of levels and units.
COMPUTE, SERIAL, TASKS = "compute", "one after the other", "tasks"
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
    """The state of a running program: ``time`` is the beginning of the next stage, ``now`` now."""

    def __init__(
        self,
        program: Program,
        rates: Mapping[tuple[str, str], float],
        recorder: Recorder | None = None,
        execute: Callable[[str, Fixed], None] | None = None,
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
        self.slots = [Slots(n, b, program, self.ports) for n, b in enumerate(program.buffers)]
        #: Iterations are counted in ticks, as steps are.
        self.time = self.now = self.iteration = 0
        self.made: dict[int | str, int] = {}
        self.readers: dict[int | str, list[Slots]] = {}
        for slots in self.slots:
            for source in slots.sources:
                self.made[source] = 0
                self.readers.setdefault(source, []).append(slots)
        #: For each buffer those whose tiles it is done with when it has been filled.
        self.outer: dict[int, list[Slots]] = {}
        for slots in self.slots:
            for inner in set(slots.buffer.onto.values()):
                self.outer.setdefault(inner, []).append(slots)
        self.units = tuple(dict.fromkeys(t.unit for t in program.tasks))
        self.taken_by = dict.fromkeys(self.units, 0)
        self.shapes = Shapes(program, self.slots, self.ports)
        self.room = Room(program.laid_bytes)
        if recorder:
            self.ports.served = self._recorded
        self.words_of = ""
        first = sorted(self.slots, key=Slots.urgency)
        for n in range(max((s.copies for s in first), default=0)):
            for slots in first:
                if n < slots.copies:
                    self._fill(slots)

    def _counter(self, name: str) -> int:
        if name not in self.named:
            self.named[name] = len(self.counts)
            self.counts.append(0.0)
        return self.named[name]

    def taken(self) -> list[int]:
        """Cycles that each unit and each port cannot have spared so far."""
        return [*self.taken_by.values(), *self.ports.asked]

    def add(self, name: str, amount: float) -> None:
        """Add to a counter."""
        self.counts[self._counter(name)] += amount

    # -- tiles -------------------------------------------------------------------------------

    def _fill(self, slots: Slots) -> None:
        """Ask for the buffer's next tile, for which a slot is free, once it is made."""
        if slots.next is None:
            return
        wanted = slots.wanted(slots.next)
        move, due = slots.move(slots.next), slots.due(slots.next * slots.body)
        if move.fill and any(self.made[source] < wanted for source in slots.sources):
            slots.waiting += 1
            return
        tile, slots.tiles, instance = slots.tiles, slots.tiles + 1, slots.next
        slots.begun[tile] = instance * slots.body
        slots.next = slots.following(instance)
        slots.writes[tile] = len(slots.buffer.writers)
        slots.drains[tile] = move.drain
        if move.early is not None:
            slots.early[tile] = move.early
        end = self.program.bodies[0] if slots.next is None else slots.next * slots.body
        slots.covers[tile] = slots.until[tile] = end
        self._take(slots, 1)
        for writer in slots.buffer.writers:
            if slots.at[writer] == tile:  # it has begun before there was a slot
                self._leave(slots, writer, instance)
        if move.fill is None:
            self._there(slots, tile)
        else:
            self._ask(Transfer(slots, tile, False, due, len(move.fill.hops)), move.fill)

    def _ask(self, transfer: Transfer, request: Request) -> None:
        """Let a tile pass the ports."""
        self._count(request)
        self.ports.ask(request, transfer, self.now)

    def _there(self, slots: Slots, tile: int) -> None:
        """A tile is there."""
        slots.ready.add(tile)
        del slots.begun[tile]
        self._progress(tile_of(slots.number), slots.covers.pop(tile))
        for outer in self.outer.get(slots.number, ()):
            self._let_go(outer, slots)
        for number in slots.buffer.onto.values():
            self._let_go(slots, self.slots[number])

    def _let_go(self, slots: Slots, inner: Slots) -> None:
        """A buffer is done with the tiles that it will not be filled from any more."""
        upto = inner.filled()
        while (tile := slots.at[inner.number] + 1) in slots.ready and slots.until[tile] <= upto:
            slots.at[inner.number] = tile
            self._done(slots, tile)

    def _progress(self, source: int | str, upto: int) -> None:
        """A source has made all that it makes before step ``upto``; who waits for it may go on."""
        if self.made.get(source, upto) >= upto:
            return
        self.made[source] = upto
        for slots in self.readers[source]:
            waiting, slots.waiting = slots.waiting, 0
            for _ in range(waiting):
                self._fill(slots)

    def _take(self, slots: Slots, sign: int) -> None:
        """A tile takes its room from when it is asked for until it is drained."""
        if size := slots.buffer.slot_bytes:
            self.room.change(slots.buffer.level, self.now, sign * size)

    def _close(self, slots: Slots, einsum: str, upto: int) -> None:
        """A user is done with its tile; the last one that writes it lets it drain.

        ``upto`` is the step after the tile's last one.
        """
        tile = slots.at[einsum]
        drain = None
        if einsum in slots.buffer.writers:
            slots.writes[tile] -= 1
            drain = slots.drains[tile]
        last = einsum in slots.buffer.writers and not slots.writes[tile]
        if last and drain is not None:
            slots.upto[tile] = upto
            due = self._gone(slots, upto)
            self._ask(Transfer(slots, tile, True, due, len(drain.hops)), drain)
        self._done(slots, tile)
        if last and drain is None:
            self._progress(slots.number, upto)

    def _gone(self, slots: Slots, upto: int) -> Due:
        """When a tile is due to have left: another comes, or somebody reads what it brings."""
        due = slots.due(upto + (slots.copies - 1) * slots.stays)
        for other in self.readers.get(slots.number, ()):
            due = min(due, other.due(upto - other.buffer.ahead))
        return due

    def _leave(self, slots: Slots, einsum: str, instance: int) -> None:
        """Let all but the last of a step's tiles leave while the Einsum runs that writes them.

        The last leaves after it, at the same ports, so that nobody waits for these.
        """
        early = slots.early.get(slots.at[einsum])
        if early is not None and einsum in slots.buffer.writers:
            due = self._gone(slots, slots.after(instance) * slots.body)
            self._ask(Transfer(slots, slots.at[einsum], True, due, len(early.hops), True), early)

    def _done(self, slots: Slots, tile: int) -> None:
        """A user is done with a tile, or it has drained; behind the last its slot is free."""
        slots.ends[tile] = slots.ends.get(tile, 0) + 1
        if slots.ends[tile] < len(slots.at) + (slots.drains.get(tile) is not None):
            return
        for known in (slots.ends, slots.writes, slots.drains, slots.until):
            del known[tile]
        slots.early.pop(tile, None)
        slots.ready.remove(tile)
        self._take(slots, -1)
        self._fill(slots)

    def _count(self, request: Request) -> None:
        for counter, size in request.counts:
            self.counts[counter] += size
        self.add(SERIAL, sum(cycles for _, cycles in request.hops))

    def _pass(self, until: int) -> None:
        """Let tiles pass their ports up to a time."""
        while (now := self.ports.next()) is not None and now <= until:
            self.now = max(self.now, now)
            for moved in self.ports.take(self.now):
                if moved.early:
                    continue
                if moved.drains:
                    upto = moved.slots.upto.pop(moved.tile)
                    self._done(moved.slots, moved.tile)
                    self._progress(moved.slots.number, upto)
                else:
                    self._there(moved.slots, moved.tile)
        self.now = until

    def _recorded(self, transfer: Transfer | None, port: int, start: int, end: int) -> None:
        """Tell the recorder who had a port."""
        assert self.recorder is not None
        name = f"words of {self.words_of}"
        if transfer is not None:
            name = f"{'drain' if transfer.drains else 'fill'} {transfer.slots.buffer.tensor}"
        self.recorder.transfer(name, self.ports.names[port], start, end)

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
        self._pass(self.time)
        self.ports.go_on(self.time)
        self.room.follow(self.time, self.recorder)

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
            self._pass(max(self.now, min(ends if passed is None else [*ends, passed])))
            for turn in running:
                self._arrived(turn)
                both = (turn, *turn.beside)
                if turn.task and all(t.end <= self.now and not t.coming for t in both):
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
            slots = self.slots[number]
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
        if self.now > turn.time:
            turn.waits.append((turn.cause, self.now - turn.time))
        turn.time, turn.lacks = self.now, None
        turn.end, turn.slow, turn.beside = self.now + shape.cycles, "", ()
        for slots in shape.opens:
            slots.at[task.einsum] += 1
            self._leave(slots, task.einsum, step)
        turn.coming = [
            (slots, slots.at[task.einsum])
            for slots in shape.needs
            if slots.at[task.einsum] not in slots.ready
        ]
        self.taken_by[task.unit] += shape.least
        if shape.flow is not None:
            self.words_of = task.einsum
            self._count(shape.flow)
            done = self.ports.words(shape.flow, self.now)
            if done > turn.end:
                turn.end, turn.slow = done, f"ports: words of {task.einsum}"
        if self.execute:
            self.execute(task.einsum, self._fixed(task, step))

    def _arrived(self, turn: Turn) -> None:
        """See which tiles that a task works on while they come in are there."""
        here = [slots for slots, tile in turn.coming if tile in slots.ready]
        if here:
            turn.coming = [c for c in turn.coming if c[1] not in c[0].ready]
            for t in (turn, *turn.beside) if self.now > turn.end else ():
                t.end, t.slow = self.now, here[-1].cause

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
            self._close(slots, task.einsum, slots.after(last) * slots.body)
        self._progress(task.einsum, upto)
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
            self._pass(max(self.now, now))
        end = max([self.now, *self.ports.free])
        if end > self.time:
            self._pause(DRAINS, end - self.time)
        if self.program.fill_cycles:
            self._pause(ARRAYS, self.program.fill_cycles)
            self.add(SERIAL, self.program.fill_cycles)
        self.room.follow(end, self.recorder)
        self.time = end + self.program.fill_cycles


def _waits(task: Task, other: str) -> str:
    """Why a unit stands still whose task waits for another Einsum."""
    return f"{task.unit}: {task.einsum} waits for {other}"
