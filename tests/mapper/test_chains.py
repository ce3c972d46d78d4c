"""Closed forms for all frames of one Einsum against what is worked out point by point."""

from __future__ import annotations

import math
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.explore.map import task_for
from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.mapper import search as searching
from accelsim.mapper.chains import Chains, covers
from accelsim.mapper.closer import Closer
from accelsim.mapper.evaluate import Moved
from accelsim.mapper.frame import frame
from accelsim.mapper.fuse import fuse
from accelsim.mapper.goal import Goal
from accelsim.mapper.pace import Pace
from accelsim.mapper.point import Point
from accelsim.mapper.search import Found, search
from accelsim.mapper.space import Space, Task, Wishes
from accelsim.mapper.stow import Tally
from accelsim.mapper.ties import MORE, dearer
from tests.mapper.drawn import machines
from tests.models.nests import cascade

ENERGY = Goal("energy")
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}
#: Of 7, 10 and 11 tiles may be short at the end.
SIZES = st.sampled_from([1, 2, 3, 4, 6, 8, 7, 10, 11])
#: Loops of the frames that are looked at: with three a rank is cut twice.
LOOPS = st.sampled_from([1, 2, 2, 3])


@st.composite
def single(draw: st.DrawFn) -> Task:
    """One Einsum on a machine with one level or two between backing level and registers."""
    found = cascade(draw(st.sampled_from(("matmul", "batched", "square"))))
    sizes = {r: draw(SIZES) for r in found.ranks}
    arch = draw(machines())
    if draw(st.booleans()):
        arch = _with_middle(draw, arch)
    spread = draw(st.sampled_from([None, *found.ranks]))
    wishes = Wishes(
        holds={"A": "buffer"} if draw(st.integers(0, 4)) == 0 else {},
        buffers=draw(st.integers(1, 2)),
        spreads={found.einsums[0].name: ("", spread)} if spread and sizes[spread] > 1 else {},
    )
    task = Task(found, sizes, arch, wishes)
    try:
        base(task)
    except InputError:  # a unit without columns, or a rank that is a batch of all
        reject()
    return task


def _with_middle(draw: st.DrawFn, arch: Architecture) -> Architecture:
    middle = Level(
        "middle",
        capacity_bytes=float(draw(st.integers(4, 80))),
        read_bandwidth=draw(st.sampled_from([2.0, math.inf])),
        read_energy_j=draw(st.sampled_from([0.0, 2.0])),
        write_energy_j=draw(st.sampled_from([2.0, 4.0])),
    )
    return replace(arch, levels=(arch.levels[0], middle, *arch.levels[1:]))


def name(task: Task) -> str:
    return task.cascade.einsums[0].name


def base(task: Task) -> Space:
    return Space(task, frame(task.cascade, (name(task),), ()))


@settings(max_examples=8, **QUIET)
@given(single(), st.data())
def test_the_bound_of_a_point_is_that_of_its_best_mapping(task: Task, data: st.DataObject) -> None:
    """With one level between; with two it is no more."""
    space = base(task)
    if not covers(space):
        return
    chains = Chains(space)
    for order in data.draw(st.lists(st.sampled_from(chains.orders), min_size=3, max_size=3)):
        space = chains.space(order)
        assert chains.size(order) == (space.grid.size, space.size)
        found = chains.points([order], math.inf, chains.served)
        numbers, joules = found.numbers, found.bounds
        assert set(numbers) == set(np.flatnonzero(~space.doubles))
        if not len(numbers):
            continue
        closer = Closer(space, numbers).bounds(ENERGY)[1]
        assert np.all(joules <= closer * (1 + 1e-9))
        if len(chains.levels) == 1:
            np.testing.assert_allclose(joules, closer, rtol=1e-9)
        most = float(np.median(joules[np.isfinite(joules)])) if np.isfinite(joules).any() else 1.0
        few = chains.points([order], most, chains.good(most))
        np.testing.assert_array_equal(few.numbers, numbers[joules <= most])
        np.testing.assert_array_equal(few.bounds, joules[joules <= most])


@settings(max_examples=8, **QUIET)
@given(single(), st.data())
def test_no_mapping_is_faster_than_its_pace(task: Task, data: st.DataObject) -> None:
    if not covers(base(task)):
        return
    chains = Chains(base(task))
    pace = Pace(chains)
    for order in data.draw(st.lists(st.sampled_from(chains.orders), min_size=3, max_size=3)):
        space = chains.space(order)
        seconds = pace.of(space)
        paced = pace.points([order], math.inf, chains.served)
        numbers, products = paced.numbers, paced.bounds
        assert set(numbers) == set(np.flatnonzero(~space.doubles))
        for n in data.draw(st.permutations(range(len(numbers))))[:6]:
            closer = Closer(space, numbers[n : n + 1])
            for goal in (Goal("latency"), Goal("edp")):
                choice = Point(space, closer, 0, goal, Tally()).solve((math.inf, math.inf))
                if choice is not None:
                    assert seconds[numbers[n]] <= choice.latency_s * (1 + 1e-9)
                    assert products[n] <= choice.latency_s * choice.energy_j * (1 + 1e-9)
        finite = products[np.isfinite(products)]
        most = float(np.median(finite)) if len(finite) else 1.0
        few = pace.points([order], most, pace.good(most))
        np.testing.assert_array_equal(few.numbers, numbers[products <= most])
        np.testing.assert_array_equal(few.bounds, products[products <= most])


def test_points_of_all_frames_together_are_those_of_each_frame() -> None:
    task, _ = task_for("matmul", arch="dram-l2-smem-x64", shape="M=64,N=37,K=24")
    chains = Chains(base(task))
    most = float(np.quantile(chains.points(chains.orders, math.inf, chains.served).bounds, 0.1))
    found = chains.points(chains.orders, most, chains.served)
    assert len(found.numbers) > 1000
    by_order = dict(found.by_order())
    for n, order in enumerate(chains.orders):
        alone = chains.points([order], most, chains.good(most))
        assert (n in by_order) == (len(alone.numbers) > 0)
        if n in by_order:
            np.testing.assert_array_equal(by_order[n].numbers, alone.numbers)
            np.testing.assert_array_equal(by_order[n].bounds, alone.bounds)
    np.testing.assert_array_equal(chains.at(found.points, math.inf), found.bounds)
    assert not len(chains.points((), math.inf, chains.served).numbers)


def test_the_pace_of_a_machine_that_shares_its_ports_out_is_that_of_its_best_mapping() -> None:
    """No run keeps two operands in the PEs: one is read from the buffer, one from beyond."""
    task, _ = task_for("matmul", arch="dram-l2-smem-x64", shape="M=64,N=64,K=64")
    pace = Pace(Chains(Space(task, frame(task.cascade, ("C",), ()))))
    found = search(task, ("C",), Goal("latency"))
    assert found.choice is not None
    assert found.shown
    spaces = (pace.chains.space(order) for order in pace.chains.orders)
    least = min(float(pace.of(s)[~s.doubles].min()) for s in spaces)
    assert found.choice.latency_s == pytest.approx(least, rel=1e-9)
    assert found.solved < 100


@settings(max_examples=8, **QUIET)
@given(single(), st.sampled_from([0.0, 1e-5]), LOOPS, st.sampled_from(["latency", "edp"]))
def test_the_search_with_a_pace_finds_what_it_finds_without(
    task: Task, gap: float, loops: int, objective: str
) -> None:
    def found(covered: bool) -> Found:
        with patch.object(searching, "covers", lambda space: covered and covers(space)):
            return search(task, (name(task),), Goal(objective), gap=gap, loops=loops)

    one, other = found(True), found(False)
    assert (one.points, one.mappings) == (other.points, other.mappings)
    assert (one.choice is None) == (other.choice is None)
    if one.choice is None or other.choice is None or not (one.shown and other.shown):
        return
    value, reference = (
        Goal(objective).value(c.latency_s, c.energy_j)[0] for c in (one.choice, other.choice)
    )
    assert value == pytest.approx(reference, rel=max(gap, 1e-9))


@settings(max_examples=8, **QUIET)
@given(single(), st.sampled_from([0.0, 1e-5]), LOOPS)
def test_the_search_finds_what_it_finds_point_by_point(task: Task, gap: float, loops: int) -> None:
    def found(covered: bool) -> Found:
        with patch.object(searching, "covers", lambda space: covered and covers(space)):
            return search(task, (name(task),), ENERGY, gap=gap, loops=loops)

    one, other = found(True), found(False)
    assert (one.points, one.mappings) == (other.points, other.mappings)
    assert (one.choice is None) == (other.choice is None)
    if one.choice is None or other.choice is None:
        return
    assert one.choice.energy_j == pytest.approx(other.choice.energy_j, rel=1e-9)
    if one.solved < searching.MOST_TIES and other.solved < searching.MOST_TIES:
        assert one.choice.latency_s == pytest.approx(other.choice.latency_s, rel=1e-5)


def moved(found: Found) -> Moved:
    choice = found.choice
    assert choice is not None
    counts = choice.counts
    assert counts is not None
    total = Moved((0.0,) * counts.levels, (0.0,) * counts.levels)
    for tensor, (use,) in counts.uses.items():
        keeps = sorted((k.keep for k in choice.kept if k.tensor == tensor), key=lambda k: k.level)
        words = counts.leaf(use, choice.runs[use.einsum].spread)
        level = counts.serves(tensor, keeps, use.spot)
        total = total + counts.moves(tensor, keeps) + counts.touches(use, words, level)
    return total


@settings(max_examples=8, **QUIET)
@given(single())
def test_a_tie_that_is_faster_is_cheaper_where_the_busiest_port_is_dearer(task: Task) -> None:
    slow = search(task, (name(task),), ENERGY, most=1, loops=2)
    fast = search(task, (name(task),), Goal("latency"), loops=2)
    if slow.choice is None or fast.choice is None:
        return
    other = dearer(slow.choice)
    if other is None:
        return
    for found in (slow, fast):
        words = moved(found)
        joules = task.joules(words)
        dear = sum(
            r * x + w * y
            for (r, w), x, y in zip(other.prices, words.reads, words.writes, strict=True)
        )
        assert joules <= dear * (1 + 1e-12)
        assert dear <= joules * (1 + MORE) * (1 + 1e-12)
        assert found.choice is not None
        total = dear + found.choice.energy_j - joules
        ties = found.choice.energy_j <= slow.choice.energy_j
        faster = found.choice.latency_s < slow.choice.latency_s * (1 - 1e-5)
        if ties and faster:
            assert total < other.most
    words = moved(slow)
    dear = sum(
        r * x + w * y for (r, w), x, y in zip(other.prices, words.reads, words.writes, strict=True)
    )
    assert dear + slow.choice.energy_j - task.joules(words) > other.most


@pytest.mark.parametrize("objective", ["energy", "latency"])
def test_a_spread_that_no_unit_can_have_is_refused(objective: str) -> None:
    levels = (Level("dram", bandwidth=1.0), Level("buffer", 64.0))
    unit = Unit("u", 1, 2, (("mac", Operation(1.0, 1.0)), ("add", Operation(1.0, 1.0))))
    wishes = Wishes(spreads={"Z": ("I", "J")})
    task = Task(
        cascade("matmul"),
        {"I": 4, "J": 4, "K": 4},
        Architecture("m", 1.0, 1.0, levels, (unit,)),
        wishes,
    )
    with pytest.raises(InputError, match="Z cannot have I along rows and J along columns of u"):
        fuse(task, Goal(objective))
    fitting = replace(task, wishes=Wishes(spreads={"Z": ("", "J")}))
    choice = fuse(fitting, Goal(objective)).choices[0]
    assert choice.runs["Z"].spread.cols[0] in dict(choice.space.frame.parts)["J"]


def test_a_rank_that_is_spread_may_have_one_trip_left() -> None:
    """Where all of a rank is cut by loops, a spread over what is left is none."""
    levels = (Level("dram", bandwidth=1.0, read_energy_j=1.0), Level("buffer", 3.0))
    unit = Unit("u", 1, 2, (("mac", Operation(1.0, 1.0)), ("add", Operation(1.0, 1.0))))
    arch = Architecture("m", 1.0, 1.0, levels, (unit,))
    task = Task(cascade("matmul"), {"I": 4, "J": 4, "K": 1}, arch, Wishes(
        holds={"A": "buffer", "B": "buffer", "Z": "buffer"}, spreads={"Z": ("", "J")}, buffers=1,
    ))  # fmt: skip
    for objective in ("energy", "latency", "edp"):
        assert fuse(task, Goal(objective)).choices[0].latency_s > 0
