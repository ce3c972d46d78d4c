"""The least traffic of tiny cascades by exhaustive search: a red-blue pebble game.

Shares no code with ``accelsim.analysis``.  A state says which elements are on
chip and which are in memory, each with the set of points that have been
accumulated into it.  A load or a store costs one word; computing a point,
dropping and starting an element anew are free.  A point needs its operands
complete on chip, and a place for its result beside them.  Search by cost (0-1
breadth first) finds the optimum, with recomputation, with fusion, with partial
sums spilled, in any order (one accumulator an element at a time).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from accelsim.ir.cascade import Cascade
from tests.oracle.passes import Element, unroll

State = tuple[int, int]  # on chip, in memory: a field of bits an element


class Game:
    """The elements of a cascade as fields of bits; inputs have one bit, others one a point."""

    def __init__(self, cascade: Cascade, sizes: Mapping[str, int], capacity: int) -> None:
        found = unroll(cascade, sizes)
        self.capacity = capacity
        self.inputs = {t.name for t in cascade.inputs}
        self.elements = list(found.order)
        self.field: dict[Element, tuple[int, int]] = {}
        at = 0
        for x in self.elements:
            width = 1 if x[0] in self.inputs else len(found.points[x])
            self.field[x] = (at, ((1 << width) - 1) << at)
            at += width
        #: for each computed element its points: the bit, and the fields that must be complete
        self.points = {
            x: [
                (1 << (self.field[x][0] + n), self._whole(p.reads))
                for n, p in enumerate(found.points[x])
            ]
            for x in self.elements
            if x[0] not in self.inputs
        }
        self.masks = [self.field[x][1] for x in self.elements]
        self.sources = sum(self.field[x][1] for x in self.elements if x[0] in self.inputs)
        self.goal = sum(self.field[x][1] for x in self.elements if x[0] in cascade.outputs)

    def _whole(self, reads: list[Element]) -> int:
        mask = 0
        for r in reads:
            mask |= self.field[r][1]
        return mask

    def closed(self, chip: int) -> int:
        """Every point done that goes into an element that is on chip already: never worse."""
        growing = True
        while growing:
            growing = False
            for x, points in self.points.items():
                if chip & self.field[x][1]:
                    for bit, needs in points:
                        if not chip & bit and chip & needs == needs:
                            chip |= bit
                            growing = True
        return chip

    def used(self, chip: int) -> int:
        """Words on chip."""
        return sum(1 for mask in self.masks if chip & mask)

    def moves(self, state: State) -> Iterator[tuple[int, State]]:
        """States after one move, with its cost."""
        chip, memory = state
        room = self.used(chip) < self.capacity
        for x in self.elements:
            mask = self.field[x][1]
            here = chip & mask
            if here:
                yield 0, (chip & ~mask, memory)
                if x[0] not in self.inputs and memory & mask != here:
                    yield 1, (chip, memory & ~mask | here)
            elif room:
                there = mask if x[0] in self.inputs else memory & mask
                if there:
                    yield 1, (self.closed(chip | there), memory)
                for bit, needs in self.points.get(x, ()):
                    if chip & needs == needs:
                        yield 0, (self.closed(chip | bit), memory)


def fewest_words(
    cascade: Cascade, sizes: Mapping[str, int], capacity: int, most_states: int = 400_000
) -> int | None:
    """The least words moved with ``capacity`` words on chip; None where the search is too long.

    Infinite demands (a capacity in which no point can be computed) also give None.
    """
    game = Game(cascade, sizes, capacity)
    start = (0, 0)
    best = {start: 0}
    todo: deque[tuple[int, State]] = deque([(0, start)])
    while todo:
        cost, state = todo.popleft()
        if cost > best[state]:
            continue
        if state[1] & game.goal == game.goal:
            return cost
        if len(best) > most_states:
            return None
        for step, after in game.moves(state):
            total = cost + step
            if total < best.get(after, 1 << 60):
                best[after] = total
                if step:
                    todo.append((total, after))
                else:
                    todo.appendleft((total, after))
    return None
