"""Why no mapping fits: the level that is too small, by how much, and for which tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from accelsim import units
from accelsim.errors import Fault, InputError, Place
from accelsim.mapper.frame import frames
from accelsim.mapper.space import Space, Task


def reasons(task: Task, einsums: Sequence[str]) -> tuple[Fault, ...]:
    """The faults of a task without a mapping, with the least room that it would need."""
    needed, absent, refused = _needed(task, einsums)
    faults = crowded(task, needed)
    if not faults and absent:
        faults = tuple(
            Fault(Place("--hold"), f"{tensor} cannot be held in {level}", "a level between")
            for tensor, level in absent.items()
        )
    if not faults and refused and not needed:
        return tuple(refused)
    if not faults:
        said = ", ".join(f"{t} in {v}" for t, v in task.wishes.holds.items()) or "nothing"
        message = (
            f"no mapping of {einsums[0]} to {einsums[-1]} fits {task.arch.name} "
            f"with {said} asked for"
        )
        faults = (Fault(Place("<mapping>"), message, "fewer wishes, or a larger machine"),)
    return faults


def hopeless(task: Task, einsum: str) -> tuple[Fault, ...]:
    """The levels that are too small for any mapping of one Einsum, whatever its loops.

    >>> from accelsim.explore.map import task_for
    >>> holds = dict.fromkeys("AB", "buffer")
    >>> asked = {"shape": "M=8,N=8,K=8", "sets": ["levels.buffer.capacity=1 B"], "holds": holds}
    >>> print(hopeless(task_for("matmul", arch="teaching", **asked)[0], "C")[0].message)
    A and B in buffer need at least 4 B, 3 B more than its 1 B
    """
    return crowded(task, _needed(task, (einsum,))[0])


#: By level the least words of any mapping, and the tensors that they are of.
Needed = dict[int, tuple[float, tuple[str, ...]]]


def crowded(task: Task, needed: Needed) -> tuple[Fault, ...]:
    """The faults of levels that have no room for what has to be there."""
    return tuple(
        _too_small(task, level, words, held)
        for level, (words, held) in needed.items()
        if words > min(task.room(level))
    )


def _needed(task: Task, einsums: Sequence[str]) -> tuple[Needed, dict[str, str], dict[Fault, None]]:
    """Least words by level; tensors that cannot be held as asked; what the wishes leave out.

    Every tensor takes, at each moment of each level, at least the words of its
    smallest set of holds there; the sum over tensors is a bound on the room of
    any mapping with those trips, and the least of these sums over all trips and
    frames one on all mappings.
    """
    needed: Needed = {}
    absent: dict[str, str] = {}
    refused: dict[Fault, None] = {}
    for frame in frames(task.cascade, einsums):
        try:
            space = Space(task, frame)
        except InputError as error:
            refused |= dict.fromkeys(error.faults)
            continue
        for tensor, sets in space.options.items():
            if not sets:
                absent[tensor] = task.wishes.holds[tensor]
        if absent:
            continue
        for level in range(1, len(task.arch.levels)):
            words, held = least_room(space, level)
            if level not in needed or words < needed[level][0]:
                needed[level] = words, held
    return needed, absent, refused


def least_room(space: Space, level: int) -> tuple[float, tuple[str, ...]]:
    """Words that any mapping of a space holds at a level at the least, and the tensors held."""
    total: Any = np.zeros(space.grid.shape)
    held = []
    for tensor, sets in space.options.items():
        least: Any = np.inf
        for keeps in sets:
            here: Any = 0.0
            for keep in keeps:
                if keep.level == level:
                    here = np.maximum(here, space.counts.held(tensor, keep.spot).tile)
            least = np.minimum(least, here)
        total = total + least
        if np.min(least) > 0:
            held.append(tensor)
    return float(np.min(total)), tuple(held)


def _too_small(task: Task, level: int, words: float, held: tuple[str, ...]) -> Fault:
    """The fault of a level without room for what has to be there."""
    name = task.arch.levels[level].name
    size, room = words * task.arch.word_bytes, task.room(level)[0] * task.arch.word_bytes
    need = "needs" if len(held) == 1 else "need"
    return Fault(
        Place(f"levels.{name}.capacity"),
        f"{' and '.join(held)} in {name} {need} at least {units.show(size, 'bytes')}, "
        f"{units.show(size - room, 'bytes')} more than its {units.show(room, 'bytes')}",
        f"a capacity of {units.show(size, 'bytes')}, or a level further out",
    )
