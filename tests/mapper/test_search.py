"""The search against mappings that no rule pruned, and its bounds against all of them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.mapper.bound import floor
from accelsim.mapper.closer import Closer
from accelsim.mapper.goal import OBJECTIVES, Goal
from accelsim.mapper.legal import legal
from accelsim.mapper.plan import bound_mapping
from accelsim.mapper.search import Found, search
from accelsim.mapper.space import Task
from accelsim.models.estimate import estimate
from tests.mapper.drawn import Drawn, drawn, einsums, point, tasks

ROUNDING = 1 + 1e-9


def priced(task: Task, found: Found) -> tuple[float, float]:
    """Latency and energy of a choice by the models, which must be the search's own figures."""
    assert found.choice is not None
    mapping = bound_mapping([found.choice], "found")
    assert legal(task.cascade, mapping) == ()
    problem = task.problem({p: n for p, n in mapping.extent.items() if p in task.cascade.whole})
    price = estimate(problem, task.arch, mapping)
    assert price.latency_s == pytest.approx(found.choice.latency_s, rel=1e-9)
    assert price.energy_j == pytest.approx(found.choice.energy_j, rel=1e-9)
    return price.latency_s, price.energy_j


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_mapping_beats_the_search_or_is_below_a_bound(data: st.DataObject) -> None:
    task = data.draw(tasks(most=3))
    goal = Goal(data.draw(st.sampled_from(OBJECTIVES[:3])))
    found = search(task, einsums(task), goal)
    for _ in range(8):
        one: Drawn = data.draw(drawn(task))
        if one.price is None or legal(task.cascade, one.mapping):
            continue
        figures = one.price.latency_s, one.price.energy_j
        value = float(goal.value(*figures)[0])
        assert found.choice is not None
        if found.shown:
            best = float(goal.value(*priced(task, found))[0])
            assert best <= value * ROUNDING
        assert float(goal.value(*floor(task, einsums(task)))[0]) <= value * ROUNDING
        for cheap, price in zip(one.space.bounds(Goal("edp")), figures, strict=True):
            assert cheap[one.number] <= price * ROUNDING
        closer = goal.value(*Closer(one.space, point(one)).bounds(goal))
        assert float(closer[0][0]) <= value * ROUNDING
