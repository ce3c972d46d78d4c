"""Bounds with runs taken together, and rooms for many lags at once, against one by one."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.mapper.closer import Closer
from accelsim.mapper.frame import frames
from accelsim.mapper.goal import OBJECTIVES, Goal
from accelsim.mapper.point import Point
from accelsim.mapper.schedule import in_flight
from accelsim.mapper.search import search
from accelsim.mapper.space import Space, Task
from accelsim.mapper.stow import Held, Stow, Tally
from tests.mapper.drawn import einsums, tasks

WORST = (math.inf, math.inf)
#: Choices of holds that are looked at of one point.
MOST = 40


@st.composite
def stowed(draw: st.DrawFn) -> tuple[Point, str, Stow, list[list[Held]]]:
    """A point of a group of several Einsums, a way to overlap, and choices of holds there."""
    task = draw(tasks(("siblings", "chain", "softmax", "running")))
    space = Space(task, draw(st.sampled_from(frames(task.cascade, einsums(task)))))
    number = draw(st.integers(0, space.grid.size - 1))
    goal = Goal(draw(st.sampled_from(OBJECTIVES)))
    closer = Closer(space, np.array([number]))
    closer.bounds(goal)
    point = Point(space, closer, 0, goal, Tally())
    if not point.stow.possible:
        return point, "", point.stow, []
    way = draw(st.sampled_from(sorted(point.picks.seconds)))
    runs = point._worth(way)
    lists = {
        e: [(run, point._joules(e, run)) for run in some]
        for e, some in zip(point.einsums, point.lists, strict=True)
    }
    touched = point._least_touched()
    stow = Stow(
        space, point.counts, goal, point.tally, point.rows, touched, way, lists, runs.trails
    )
    return point, way, stow, list(islice(stow.choices(0.0, 0.0, [WORST]), MOST))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stowed())
def test_no_choice_is_below_its_bound_however_far_it_is_decided(
    some: tuple[Point, str, Stow, list[list[Held]]],
) -> None:
    """The last bound is exact by energy where units do not matter, and never above the best run."""
    point, way, stow, choices = some
    if not choices:
        return
    runs = point._worth(way)
    least = float(point.picks.joules.min())
    for chosen in choices:
        moved, joules = point._moved(chosen, runs)
        latency = np.maximum(runs.seconds, point.task.seconds(moved))
        exact = np.min(point.goal.value(latency, runs.joules + joules)[0]) if len(runs.picks) else 0
        for decided in range(len(chosen) + 1):
            bound = figures(stow, chosen[:decided], least, float(runs.seconds.min(initial=0.0)))
            if len(runs.picks):
                assert bound <= exact * (1 + 1e-9)
        if point.goal.name == "energy" and len(runs.picks) == point.picks.table.shape[1]:
            assert bound == pytest.approx(exact, rel=1e-9)


def figures(stow: Stow, chosen: list[Held], joules: float, seconds: float) -> float:
    """The bound of some decided tensors, the others at their least."""
    levels = range(len(stow.arch.levels))
    served: dict[str, Any] = {
        e: (None,) * len(stow.counts.uses_by_einsum(e)) for e in stow.counts.frame.einsums
    }
    for held in chosen:
        served |= stow._serving(held, served)
    rest = stow.sets[len(chosen) :]
    so_far = (
        sum(h.joules for h in chosen),
        tuple(sum(h.reads[n] for h in chosen) for n in levels),
        tuple(sum(h.writes[n] for h in chosen) for n in levels),
    )
    least = (
        joules + sum(min(h.joules for h in s) for s in rest),
        tuple(sum(min(h.reads[n] for h in s) for s in rest) for n in levels),
        tuple(sum(min(h.writes[n] for h in s) for s in rest) for n in levels),
    )
    return float(stow._figures(so_far, least, seconds, served)[0])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stowed())
def test_rooms_for_all_lags_at_once_are_those_of_each(
    some: tuple[Point, str, Stow, list[list[Held]]],
) -> None:
    point, way, stow, choices = some
    for chosen in choices:
        fits = stow.fitting(chosen)
        for number, trail in enumerate(stow.trails):
            room: dict[tuple[int, int], float] = {}
            copies = {}
            where = {(h.tensor, k) for h in chosen for k in h.keeps}
            for held in chosen:
                shares = stow.space.shares
                for keep, words, few in zip(
                    held.keeps, held.row.words, held.row.copies[way], strict=True
                ):
                    root = shares.get(held.tensor, "")
                    alone = (root, keep) not in where
                    first = held.tensor if alone else root
                    family = {first, *(t for t, k in where if k == keep and shares.get(t) == first)}
                    spot = keep.spot
                    flying = in_flight(point.counts, family, spot, point.space.after, trail)
                    copies[held.tensor, keep] = int(max(few, float(flying)))
                    for moment, each in words.items() if alone else ():
                        here = moment, keep.level
                        room[here] = room.get(here, 0.0) + each * copies[held.tensor, keep]
            over = any(n > point.task.room(level)[0] for (_, level), n in room.items())
            assert fits[number] == (not over)
            found = stow.kept(chosen, number)
            assert {(k.tensor, k.keep): k.copies for k in found} == copies


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tasks(("siblings", "chain", "softmax", "running")), st.sampled_from(OBJECTIVES))
def test_the_search_finds_the_same_without_the_bounds(task: Task, name: str) -> None:
    """Where each tensor is bounded by itself alone, and every choice that fits is priced."""
    found = search(task, einsums(task), Goal(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stow, "_jointly", lambda stow, lists: ())
        plain = search(task, einsums(task), Goal(name))
    if plain.tally.cut_short:
        return
    assert not found.tally.cut_short
    assert (found.choice is None) == (plain.choice is None)
    if found.choice is not None and plain.choice is not None:
        one = Goal(name).value(found.choice.latency_s, found.choice.energy_j)
        other = Goal(name).value(plain.choice.latency_s, plain.choice.energy_j)
        assert one == pytest.approx(other, rel=1e-9)
