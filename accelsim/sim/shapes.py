"""What a step asks of a task: words at the ports, tiles that it needs, begins and ends.

Steps that stand alike in all loops around them ask the same, so that each kind
of step is looked at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.sim.machine import Ports, Request, Slots
from accelsim.sim.program import Program, Task, share


@dataclass(slots=True)
class Shape:
    """What one kind of step asks of a task: cycles, words, and buffers whose tiles begin or end.

    ``least`` cycles it takes, if no other array asks for the same ports.
    """

    cycles: int
    flow: Request | None
    least: int
    opens: tuple[Slots, ...]
    closes: tuple[Slots, ...]
    needs: tuple[Slots, ...]


class Shapes:
    """All kinds of steps of a program's tasks.

    ``irregular``: for each step loop whether it shifts some tile by a distance
    that depends on where it is.
    """

    def __init__(self, program: Program, slots: Sequence[Slots], ports: Ports) -> None:
        self.program, self.slots, self.ports = program, slots, ports
        visits = [b.visits for b in program.buffers]
        visits += [f.visits for t in program.tasks for f in t.flows]
        self.irregular = tuple(
            any(n < len(v.irregular) and v.irregular[n] for v in visits)
            for n in range(len(program.steps))
        )
        self._known: dict[str, dict[tuple[int, ...], Shape]] = {t.einsum: {} for t in program.tasks}
        self._last: dict[str, tuple[int, int, Shape]] = {}

    def of(self, task: Task, step: int) -> Shape:
        """What a task's step asks; a step is asked about until it ends."""
        last = self._last.get(task.einsum)
        if last is not None and last[:2] == (step, task.turn):
            return last[2]
        at, key = [], [task.turn]
        left = step
        for n in reversed(range(task.depth)):
            trips = self.program.steps[n].trips
            left, i = divmod(left, trips)
            at.append(i)
            key.append(i if self.irregular[n] else 0 if not i else 2 if i == trips - 1 else 1)
        known = self._known[task.einsum]
        found = known.get(tuple(key))
        if found is None:
            found = known[tuple(key)] = self._new(task, step, tuple(reversed(at)))
        self._last[task.einsum] = step, task.turn, found
        return found

    def _new(self, task: Task, step: int, at: tuple[int, ...]) -> Shape:
        moved = [(flow.visits.visit(at), flow.ways) for flow in task.flows]
        opens, needs, closes = list[Slots](), list[Slots](), list[Slots]()
        bodies = self.program.bodies
        first, last = not task.turn, task.turn == task.turns - 1
        for n in task.buffers:
            slots = self.slots[n]
            if slots.turns > 1:
                each = task.turns // slots.turns
                instance = step * slots.turns + task.turn // each
                begins, ends = not task.turn % each, not (task.turn + 1) % each
            else:
                inner = slots.body // bodies[task.depth]
                instance, within = divmod(step, inner)
                begins, ends = first and not within, last and within == inner - 1
            if not slots.there(instance):
                continue
            if task.einsum not in slots.buffer.guests:
                needs.append(slots)
            if begins and slots.move(instance).new:
                opens.append(slots)
            if ends and slots.leaves(instance):
                closes.append(slots)
        closes.sort(key=Slots.urgency)
        cycles = task.cycles if task.length is None else task.length.cycles(at)
        flow = self.ports.request(moved)
        least = max([cycles, *(passing for _, passing in flow.hops)]) if flow else cycles
        cycles, least = (share(n, task.turn, task.turns) for n in (cycles, least))
        flow = flow and flow.share(task.turn, task.turns)
        return Shape(cycles, flow, least, tuple(opens), tuple(closes), tuple(needs))
