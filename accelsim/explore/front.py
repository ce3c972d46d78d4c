"""Mappings that are best at something: how little room will do, and what room buys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from accelsim.errors import InputError, refuse
from accelsim.explore.mapped import GAP, ROOM, Mapped, Progress, Workload, best
from accelsim.explore.pareto import undominated
from accelsim.mapper.space import Task

#: Rooms that a front is looked at for, each half of the one before.
HALVINGS: Final = 10
#: Share by which figures of equal mappings may differ.
ROUNDING: Final = 1e-9


def roomiest(task: Task) -> int:
    """The number of the on-chip level with the most room.  Raises InputError without one.

    >>> from accelsim.load.arch import load_architecture
    >>> from accelsim.load.cascade import load_cascade
    >>> roomiest(Task(load_cascade("matmul"), {}, load_architecture("teaching")))
    1
    """
    levels = task.arch.levels
    found = [n for n, v in enumerate(levels) if n and v.capacity_bytes < float("inf")]
    if not found:
        raise refuse(f"no level of {task.arch.name} states a capacity", "a level with a capacity")
    return max(found, key=lambda n: (levels[n].capacity_bytes, -n))


def with_room(task: Task, level: int, capacity_bytes: float) -> Task:
    """The task on a machine whose level has another capacity."""
    levels = list(task.arch.levels)
    levels[level] = replace(levels[level], capacity_bytes=capacity_bytes)
    return replace(task, arch=replace(task.arch, levels=tuple(levels)))


def leanest(
    task: Task,
    gap: float = GAP,
    progress: Progress | None = None,
    workload: Workload = (),
) -> Mapped:
    """The mapping with the least room that is as fast as the best, within the share ``gap``.

    The capacity of the roomiest level is searched by bisection in steps of
    ``ROOM``; latency can only fall as it grows.

    >>> from accelsim.load.arch import load_architecture
    >>> from accelsim.load.cascade import load_cascade
    >>> task = Task(load_cascade("matmul"), {"M": 8, "N": 8, "K": 8}, load_architecture("teaching"))
    >>> leanest(task).estimate.peak_bytes["buffer"] <= 4096
    True
    """
    level = roomiest(task)
    name = task.arch.levels[level].name
    found = best(task, "latency", gap, progress, workload)
    most = found.value * (1 + gap)
    small, large = 1.0, max(found.estimate.peak_bytes[name], 1.0)
    while large > small * (1 + ROOM) and not found.result.stopped:
        middle = (small * large) ** 0.5
        try:
            other = best(with_room(task, level, middle), "latency", gap, progress, workload)
        except InputError:
            small = middle
            continue
        if other.value <= most:
            found, large = other, max(min(middle, other.estimate.peak_bytes[name]), 1.0)
        else:
            small = middle
    return replace(found, task=task, lean=True)


@dataclass(frozen=True, slots=True)
class Front:
    """Mappings of which none is better than another in room, latency and energy at once."""

    level: str
    mapped: tuple[Mapped, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim map --pareto``."""
        return {
            "level": self.level,
            "front": [
                {
                    "buffer_bytes": one.estimate.peak_bytes[self.level],
                    "latency_s": one.estimate.latency_s,
                    "energy_j": one.estimate.energy_j,
                    "objective": one.goal.name,
                    "claim": one.claim,
                }
                for one in self.mapped
            ],
        }


def front(
    task: Task, objectives: Iterable[str] = ("latency", "energy", "edp"), gap: float = GAP
) -> Front:
    """The best mappings by each objective at each room: the full capacity, half of it, and so on.

    >>> from accelsim.load.arch import load_architecture
    >>> from accelsim.load.cascade import load_cascade
    >>> task = Task(load_cascade("matmul"), {"M": 8, "N": 8, "K": 8}, load_architecture("teaching"))
    >>> found = front(task, ("latency",)).mapped
    >>> all(a.estimate.latency_s <= b.estimate.latency_s for a, b in zip(found, found[1:]))
    True
    """
    level = roomiest(task)
    name = task.arch.levels[level].name
    capacity = task.arch.levels[level].capacity_bytes
    found: list[Mapped] = []
    wanted = tuple(objectives)
    last: dict[str, Mapped] = {}
    for halving in range(HALVINGS + 1):
        room = capacity / 2**halving
        for objective in wanted:
            known = last.get(objective)
            if known is not None and known.estimate.peak_bytes[name] <= room:
                continue  # what was best with more room still fits
            try:
                last[objective] = best(with_room(task, level, room), objective, gap)
            except InputError:
                break
            found.append(last[objective])
    if not found:
        found.append(best(task, wanted[0], gap))
    figures = np.array([_figures(one, name) for one in found])
    return Front(name, tuple(found[n] for n in undominated(figures, ROUNDING)))


def _figures(found: Mapped, level: str) -> tuple[float, float, float]:
    price = found.estimate
    return price.latency_s, price.energy_j, price.peak_bytes[level]
