"""Why no mapping fits: the level that is too small, by how much, and for which tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accelsim import units
from accelsim.errors import Fault, InputError, Place
from accelsim.mapper.evaluate import Keep
from accelsim.mapper.frame import batch_ranks, frames
from accelsim.mapper.space import Space, Task
from accelsim.mapper.spreads import units_for

#: Tiles for which no level by itself is too small, but one at a time always is.
NEAREST = " with tiles that come nearest to fitting every level"


@dataclass(frozen=True, slots=True)
class Room:
    """Words that a level has to have for some tensors, at the least or with tiles ``where``."""

    level: int
    words: float
    tensors: tuple[str, ...]
    where: str = ""


def reasons(task: Task, groups: Sequence[Sequence[str]]) -> tuple[Fault, ...]:
    """The faults of a task of which some groups have no mapping, with the room that they need."""
    found = [_needed(task, einsums) for einsums in groups]
    if len(groups) == 1 < len(groups[0]):
        fused = [replace(r, where=r.where or " where all are fused") for r in found[0][0]]
        found = [(tuple(fused), *found[0][1:])]
    if faults := _told(task, found):
        return faults
    said = ", ".join(f"{t} in {v}" for t, v in task.wishes.holds.items()) or "nothing"
    of = " and ".join(e[0] if len(e) == 1 else f"{e[0]} to {e[-1]}" for e in groups)
    message = f"no mapping of {of} fits {task.arch.name} with {said} asked for"
    return (Fault(Place("<mapping>"), message, "fewer wishes, or a larger machine"),)


def hopeless(task: Task, runs: Sequence[Sequence[str]]) -> tuple[Fault, ...]:
    """Why an Einsum has no mapping in any of the ``runs`` that may be its group, if one has none.

    >>> from accelsim.explore.map import task_for
    >>> holds = dict.fromkeys("AB", "buffer")
    >>> asked = {"shape": "M=8,N=8,K=8", "sets": ["levels.buffer.capacity=1 B"], "holds": holds}
    >>> print(hopeless(task_for("matmul", arch="teaching", **asked)[0], [("C",)])[0].message)
    A and B in buffer need at least 8 B, 7 B more than its 1 B
    """
    never = [_unheld(*pair) for pair in task.wishes.holds.items() if not _holdable(task, *pair)]
    if never:
        return tuple(never)
    einsums = tuple(dict.fromkeys(e for run in runs for e in run))
    shortest = sorted(runs, key=len)
    needed: dict[Sequence[str], Needed] = {}
    without: list[Needed] = []
    possible: set[str] = set()
    for einsum in einsums:
        if einsum in possible:
            continue
        tried: list[Needed] = []
        for run in (r for r in shortest if einsum in r):
            if run not in needed:
                needed[run] = _needed(task, run)
            tried.append(needed[run])
            if not any(tried[-1]):
                possible.update(run)
                break
            if tried[-1][2] and _never_spread(task, einsum, einsums):
                break
        if einsum not in possible:
            crowded = [n for n in tried if n[0]] or tried[:1]  # by the least that is missing
            without.append(min(crowded, key=lambda n: max((r.words for r in n[0]), default=0.0)))
    return _told(task, without)


def _never_spread(task: Task, einsum: str, einsums: Sequence[str]) -> bool:
    """Whether no unit has the sides that are wanted, or a rank is outside in every group."""
    wanted = task.wishes.spreads.get(einsum)
    if wanted is None:
        return False
    row, col = wanted
    found = units_for(task.cascade, einsum, task.arch, task.wishes.units)
    units = [task.arch.unit[name] for name in found]
    if not any((not row or u.rows > 1) and (not col or u.cols > 1) for u in units):
        return True
    return bool({row, col} & {*batch_ranks(task.cascade, einsums)})


def _told(task: Task, found: Sequence[Needed]) -> tuple[Fault, ...]:
    """The faults of groups without a mapping: levels first, then tensors, then other wishes."""
    missing = [room for rooms, _, _ in found for room in rooms]
    absent = {pair for _, some, _ in found for pair in some.items()}
    return (
        _crowded(task, missing)
        or tuple(_unheld(*pair) for pair in sorted(absent))
        or tuple(fault for _, _, refused in found for fault in refused)
    )


def _holdable(task: Task, tensor: str, level: str) -> bool:
    """Whether a level is between memory and units, or holds what Einsums hand to one another."""
    names = [found.name for found in task.arch.levels]
    if task.inner is None or level != names[task.inner.level]:
        return level != names[0]
    steps = task.cascade.steps.values()
    read = {access.tensor for step in steps for access in step.reads}
    return tensor in read & {step.output.tensor for step in steps}


def _unheld(tensor: str, level: str) -> Fault:
    """The fault of a tensor that no mapping holds where it is asked for."""
    return Fault(Place("--hold"), f"{tensor} cannot be held in {level}", "a level between")


def _crowded(task: Task, rooms: Sequence[Room]) -> tuple[Fault, ...]:
    """A fault for each level that is too small, by the most that it is asked for."""
    most: dict[int, Room] = {}
    for room in rooms:
        if room.level not in most or room.words > most[room.level].words:
            most[room.level] = room
    return tuple(_too_small(task, most[level]) for level in sorted(most))


#: Levels that are too small; tensors that cannot be held as asked; what the wishes leave out.
Needed = tuple[tuple[Room, ...], dict[str, str], dict[Fault, None]]


def _needed(task: Task, einsums: Sequence[str]) -> Needed:
    """What stands against every mapping of a group.

    No room is missing where some trips of some frame leave room at every level.
    Else it is of the levels that are too small for any trips; if there
    are none, of those that are at the trips where the least is missing.
    """
    asked = set(task.wishes.holds.values())
    levels = [n for n, level in enumerate(task.arch.levels) if level.name in asked]
    rooms = np.array([task.room(level)[0] for level in levels])
    best: list[Room] = []
    nearest: tuple[float, list[Room]] = (np.inf, [])
    absent: dict[str, str] = {}
    refused: dict[Fault, None] = {}
    for frame in frames(task.cascade, einsums):
        try:
            space = Space(task, frame)
        except InputError as error:
            refused |= dict.fromkeys(error.faults)
            continue
        lost = [tensor for tensor, sets in space.options.items() if not sets]
        if lost:
            absent |= {tensor: task.wishes.holds[tensor] for tensor in lost}
            continue
        needs = [_Needs(space, level) for level in levels]
        found = [need.at(int(np.argmin(need.words))) for need in needs]
        best = [min(pair, key=lambda r: r.words) for pair in zip(best or found, found, strict=True)]
        over = [np.maximum(0.0, n.words - room) for n, room in zip(needs, rooms, strict=True)]
        short = np.sum(over, axis=0)
        number = int(np.argmin(short))
        if not levels or short[number] == 0:
            return (), {}, {}
        if short[number] < nearest[0]:
            nearest = float(short[number]), [need.at(number, NEAREST) for need in needs]
    for some in best, nearest[1]:
        missing = tuple(r for r in some if r.words > task.room(r.level)[0])
        if missing:
            return missing, {}, {}
    return (), absent, refused


class _Needs:
    """Words that the mappings of a space hold at a level at the least, for every trips.

    A set of holds of a tensor takes its words with the copies of what is filled
    again and again.  At its fullest moment a tensor takes at least what the
    smallest of its sets does at its own, and at any one moment all take at least
    the sum of what their smallest sets take then; of tensors that may stand in one room,
    what the largest does.  The largest of these is below every mapping with those trips.
    """

    def __init__(self, space: Space, level: int) -> None:
        self.space, self.level = space, level
        self.shape = space.grid.shape
        moments = space.counts.frame.moments
        asked = space.task.wishes.holds.keys() & space.options.keys()  # others may be held nowhere
        sets = {t: [self._held(t, k) for k in space.options[t]] for t in sorted(asked)}
        self.together: list[dict[str, Any]] = [
            {t: np.minimum.reduce([own[n] for own in some]) for t, some in sets.items()}
            for n in range(len(moments))
        ]
        self.together += [
            {t: np.minimum.reduce([np.maximum.reduce(own) for own in some])}
            for t, some in sets.items()
        ]
        totals = [sum(self._rooms(some).values(), np.zeros(self.shape)) for some in self.together]
        self.words = np.maximum.reduce(totals).ravel()

    def _held(self, tensor: str, keeps: Sequence[Keep]) -> list[Any]:
        """Words of a set of holds, moment by moment."""
        space, counts = self.space, self.space.counts
        here = [k for k in keeps if k.level == self.level]
        copies = [space.filled(counts, tensor, keep, tuple(keeps)) for keep in here]
        found = []
        for moment in counts.frame.moments:
            words = [counts.there(tensor, keep, moment) for keep in here]
            total = sum((w * n for w, n in zip(words, copies, strict=True)), np.zeros(self.shape))
            found.append(total)
        return found

    def _rooms(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Words of each room, by the first tensor that stands in it."""
        found: dict[str, Any] = {}
        for tensor, least in words.items():
            root = self.space.shares.get(tensor, tensor)
            found[root] = np.maximum(found.get(root, 0.0), least)
        return found

    def at(self, number: int, where: str = "") -> Room:
        """The room at some trips, and the tensors that take it."""

        def there(words: Any) -> float:
            return float(np.broadcast_to(words, self.shape).ravel()[number])

        most = max(self.together, key=lambda some: sum(map(there, self._rooms(some).values())))
        tensors = tuple(t for t, words in most.items() if there(words) > 0)
        return Room(self.level, float(self.words[number]), tensors, where)


def _too_small(task: Task, room: Room) -> Fault:
    """The fault of a level without room for what has to be there."""
    name, held = task.arch.levels[room.level].name, room.tensors
    size = room.words * task.arch.word_bytes
    there = task.room(room.level)[0] * task.arch.word_bytes
    need = "needs" if len(held) == 1 else "need"
    least = "" if room.where else "at least "
    return Fault(
        Place(f"levels.{name}.capacity"),
        f"{' and '.join(held)} in {name} {need} {least}{units.show(size, 'bytes')}{room.where}, "
        f"{units.show(size - there, 'bytes')} more than its {units.show(there, 'bytes')}",
        f"a capacity of {units.show(size, 'bytes')}, or a level further out",
    )
