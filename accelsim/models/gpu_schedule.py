"""How long the blocks of a launch take on the slots of a GPU: waves, and the tail."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

#: Rounds of all slots that are simulated; what comes before keeps every slot busy.
ROUNDS = 4


def makespan(durations: Sequence[float], copies: int, slots: int) -> float:
    """Time until the last block ends: the same list of blocks ``copies`` times, dealt in order.

    A slot takes the next block when it is free (list scheduling).  Of many
    blocks only the last rounds are simulated; before them no slot is idle,
    and what they hold is spread evenly.

    >>> makespan([3.0, 2.0, 1.0], 1, 2), makespan([1.0], 5, 2)
    (3.0, 3.0)
    """
    total = len(durations) * copies
    if not total:
        return 0.0
    if max(durations) == min(durations):
        return -(-total // slots) * durations[0]
    kept = min(copies, -(-ROUNDS * slots // len(durations)))
    before = sum(durations) * (copies - kept) / slots
    free = [0.0] * min(slots, len(durations) * kept)
    blocks = list(durations) * kept
    for number, duration in enumerate(blocks[: len(free)]):
        free[number] = duration
    heapq.heapify(free)
    for duration in blocks[len(free) :]:
        heapq.heapreplace(free, free[0] + duration)
    return before + max(free)
