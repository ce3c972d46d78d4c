"""How long the blocks of a launch take on the slots of a GPU: waves, and the tail."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np

#: Rounds of all slots that are simulated; what comes before keeps every slot busy.
ROUNDS = 4
#: Blocks dealt in all orders over which those of drawn lengths are averaged: two to eight orders.
DEALT = 3000


def drawn_makespan(durations: Sequence[float], copies: int, slots: int) -> float:
    """The mean of ``makespan`` over orders of blocks whose lengths stand in none.

    A single order is lucky or not by a tenth where slots see three blocks each.

    >>> drawn_makespan([2.0, 2.0, 2.0], 1, 3)
    2.0
    """
    lengths, draw = np.asarray(durations), np.random.default_rng(0)
    orders = max(2, min(8, DEALT // max(1, len(durations))))
    found = [
        makespan(lengths[draw.permutation(len(lengths))].tolist(), copies, slots)
        for _ in range(orders)
    ]
    return sum(found) / len(found)


def makespan(durations: Sequence[float], copies: int, slots: int, alone: float = 1.0) -> float:
    """Time until the last block ends: the same list of blocks ``copies`` times, dealt in order.

    A slot takes the next block when it is free (list scheduling).  Of many
    blocks only the last rounds are simulated; before them no slot is idle, and
    what whole rounds hold is spread evenly.  Blocks that share what all slots share
    go on faster when slots are idle: by as many as run, down to ``alone`` of
    the time that they take when no slot is idle.

    >>> makespan([3.0, 2.0, 1.0], 1, 2), makespan([1.0], 5, 2), makespan([3.0, 1.0], 1, 2, 0.1)
    (3.0, 3.0, 2.0)
    >>> round(makespan([1.0] * 159 + [0.9999], 8, 264), 3)
    5.0
    """
    total = len(durations) * copies
    if not total:
        return 0.0
    if max(durations) == min(durations):
        return -(-total // slots) * durations[0]
    size = len(durations)
    few = copies <= -(-ROUNDS * slots // size)
    over = 0 if few else max(0, total // slots - ROUNDS) * slots
    lists, rest = divmod(over, size)
    before = (lists * sum(durations) + sum(durations[:rest])) / slots
    blocks = [durations[n % size] for n in range(over, total)]
    free = [0.0] * min(slots, len(blocks))
    for number, duration in enumerate(blocks[: len(free)]):
        free[number] = duration
    heapq.heapify(free)
    dealt = 0.0
    for duration in blocks[len(free) :]:
        dealt = heapq.heapreplace(free, free[0] + duration)
    if alone == 1.0:
        return before + max(free)
    ends = sorted(free)
    passed = [end - start for start, end in zip([dealt, *ends], ends, strict=False)]
    running = [max(alone, (len(ends) - gone) / slots) for gone in range(len(ends))]
    return before + dealt + sum(p * r for p, r in zip(passed, running, strict=True))


def sharing(
    durations: Sequence[Sequence[float]],
    copies: int,
    units: int,
    rounds: int = 4,
    in_step: bool = False,
) -> float | None:
    """The same where blocks that share a unit slow each other; None for more than some rounds.

    ``durations[n - 1]`` are those of blocks of which n reside on a unit: a
    block that is left alone goes on faster.  A unit takes the next block when
    one of its own ends; at first the units are dealt blocks in turn, and where
    blocks end at one time, the first of each unit ends before the second of any,
    or those of a unit do so one behind the other where they are ``in_step``.

    >>> sharing([[1.0], [2.0]], 3, 1), sharing([[1.0], [2.0]], 4, 2), sharing([[1.0]], 100, 1)
    (3.0, 2.0, None)
    >>> sharing([[1.0], [2.0]], 6, 2), sharing([[1.0], [2.0]], 6, 2, in_step=True)
    (3.0, 4.0)
    """
    together, total = len(durations), len(durations[0]) * copies
    if total > rounds * units * together:
        return None
    kinds = len(durations[0])
    resident: list[list[list[float]]] = [[] for _ in range(min(units, total))]
    number = min(total, units * together)
    for block in range(number):
        resident[block % len(resident)].append([block % kinds, 1.0])
    since = [0.0] * len(resident)

    def next_end(unit: int) -> float:
        there = durations[len(resident[unit]) - 1]
        return since[unit] + min(left * there[int(kind)] for kind, left in resident[unit])

    ended = [0] * len(resident)
    ends = [(next_end(unit), 0, unit) for unit in range(len(resident))]
    heapq.heapify(ends)
    now = 0.0
    while ends:
        now, _, unit = heapq.heappop(ends)
        ended[unit] += not in_step
        mine = resident[unit]
        there, passed = durations[len(mine) - 1], now - since[unit]
        for one in mine:
            one[1] -= passed / there[int(one[0])]
        over = min(mine, key=lambda one: one[1])
        mine.remove(over)
        if number < total:
            mine.append([number % kinds, 1.0])
            number += 1
        since[unit] = now
        if mine:
            heapq.heappush(ends, (next_end(unit), ended[unit], unit))
    return now


def last_together(units: int, rounds: int, rest: int, together: int, in_step: bool = True) -> int:
    """Blocks of a last round that share a unit.

    A first round is dealt to all units in turn.  Later ones take slots as they
    fall free, and those of a unit, whose blocks are ``in_step``, fall free together.

    >>> last_together(132, 0, 120, 2), last_together(132, 1, 120, 2)
    (1, 2)
    >>> last_together(132, 1, 120, 2, in_step=False)
    1
    """
    return min(together, rest if rounds and in_step else -(-rest // units))


def ending(
    durations: Callable[[int], list[float]],
    copies: int,
    units: int,
    together: int,
    unequal: bool = False,
    longest_first: bool = False,
    drawn: bool = False,
) -> float:
    """When the last block ends of ``copies`` of a list, ``together`` of them on a unit.

    ``durations(n)`` are those of blocks of which n reside on a unit: equal blocks
    of a last round share with fewer and run faster, and so do ``unequal`` ones,
    shortest first, where others have ended.  Lengths that are ``drawn`` have no order.

    >>> ending(lambda n: [1.0 * n], 5, 2, 2), ending(lambda n: [1.0 * n], 4, 2, 2)
    (3.0, 2.0)
    """
    full = list(durations(together))
    if longest_first and unequal:
        full.reverse()
    if unequal and together > 1:
        shared = [list(durations(n)) for n in range(1, together)] + [full]
        for alone in shared[:-1] if longest_first else ():
            alone.reverse()
        found = sharing(shared, copies, units)
        if found is not None:
            return found
    total = (drawn_makespan if drawn else makespan)(full, copies, units * together)
    rest = len(full) * copies % (units * together)
    last = -(-rest // units)
    if not unequal and rest and last < together:  # the last round has room to itself
        total += durations(last)[0] - full[0]
    return total
