"""Ways to cut a rank, tiles short at the end among them, against what is counted one by one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.explore.canonical import yaml_text
from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import short_ranks
from accelsim.load.mapping import mapping_rule
from accelsim.load.source import from_text
from accelsim.mapper.bound import floor
from accelsim.mapper.closer import Closer
from accelsim.mapper.cuts import chains, cuts, sparse, tile_sizes
from accelsim.mapper.frame import frames
from accelsim.mapper.fuse import fuse
from accelsim.mapper.goal import OBJECTIVES, Goal
from accelsim.mapper.grid import factors
from accelsim.mapper.legal import legal
from accelsim.mapper.plan import bound_mapping, document
from accelsim.mapper.point import Choice, Point
from accelsim.mapper.search import search
from accelsim.mapper.space import Space, Task, Wishes
from accelsim.mapper.stow import Tally
from accelsim.models.estimate import estimate
from accelsim.sim.run import simulate
from tests.mapper.drawn import drawn, einsums, machines
from tests.mapper.test_exhaustive import machine
from tests.models.nests import CASCADES, Case, cascade
from tests.models.test_counts import holds

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}
SIDES = st.lists(st.integers(2, 5), max_size=2).map(lambda found: tuple(sorted(set(found))))


def pieces(tiles: list[range], tile: int) -> list[range]:
    """Tiles cut into tiles, the last of each as long as what is left."""
    return [
        range(start, min(start + tile, whole.stop))
        for whole in tiles
        for start in range(whole.start, whole.stop, tile)
    ]


@settings(max_examples=30, **QUIET)
@given(st.integers(1, 80), st.integers(1, 4), SIDES)
def test_averages_are_those_of_tiles_one_by_one(
    size: int, parts: int, sides: tuple[int, ...]
) -> None:
    found = cuts(size, parts, sides)
    rows = list(chains(size, parts, sides))
    assert len(rows) == len(set(rows)) == len(found.trips)
    for n, chain in enumerate(rows):
        tiles = [range(size)]
        for part, tile in enumerate(chain[1:]):
            inside = pieces(tiles, tile)
            each = [len(pieces([whole], tile)) for whole in tiles]
            assert len(inside) / len(tiles) == pytest.approx(found.trips[n, part], rel=1e-12)
            assert max(each) == found.full[n, part]
            assert each[-1] == found.last[n, part]
            assert min(each) > 1 or max(each) == 1
            tiles = inside
        assert (len(tiles), len(tiles[-1])) == (found.tiles[n], found.last[n, -1])
        assert all(len(tile) == chain[-1] for tile in tiles[:-1])
        for side in (1, *sides):
            assert chain[-1] <= side or min(map(len, tiles)) > side
    perfect = {tuple(math.prod(f[n:]) for n in range(parts)) for f in factors(size, parts)}
    assert perfect <= set(rows)
    if not sparse(size):
        assert perfect == set(rows)


def test_the_tile_sizes_of_a_prime() -> None:
    assert tile_sizes(4099, ())[:9] == (1, 2, 4, 8, 16, 32, 64, 65, 130)
    assert {128, 256, 512, 640, 1024, 1280, 2560} <= set(tile_sizes(4099, (128,)))
    assert tile_sizes(4096, (128,)) == tuple(2**n for n in range(13))
    assert not cuts(4096, 3, (128,)).short
    assert cuts(4099, 3, (128,)).short


@st.composite
def sparse_tasks(draw: st.DrawFn, most: int = 13) -> Task:
    """One Einsum over ranks of which most have tiles that are short at the end."""
    found = cascade(draw(st.sampled_from(("matmul", "batched", "square"))))
    sizes = {r: draw(st.sampled_from([1, 2, 5, 7, 10, 11, 13])) for r in found.ranks}
    sizes = {r: min(n, most) for r, n in sizes.items()}
    if math.prod(sizes.values()) > 700:
        sizes |= dict.fromkeys(list(sizes)[2:], 2)
    return Task(found, sizes, draw(machines()), Wishes(buffers=draw(st.integers(1, 2))))


def checked(task: Task, *choices: Choice) -> bool:
    """Whether choices have a short tile; figures are those of models, replay and simulator."""
    mapping = bound_mapping(choices, "found")
    assert legal(task.cascade, mapping) == ()
    problem = task.problem({p: n for p, n in mapping.extent.items() if p in task.cascade.whole})
    price = estimate(problem, task.arch, mapping)
    assert price.latency_s == pytest.approx(sum(c.latency_s for c in choices), rel=1e-9)
    assert price.energy_j == pytest.approx(sum(c.energy_j for c in choices), rel=1e-9)
    holds(Case(problem, task.arch, mapping))
    found = simulate(problem, task.arch, mapping)
    assert found.total("reads") == pytest.approx(price.read_bytes, rel=1e-9)
    assert found.latency_s >= price.latency_s * (1 - 1e-9)
    assert found.cycles <= found.serial_cycles
    views = [mapping.within(group) for group in mapping.groups]
    return any(short_ranks(view, problem.extent) for view in views)


@settings(max_examples=25, **QUIET)
@given(st.data())
def test_figures_of_a_point_are_those_of_the_models_and_the_replay(
    data: st.DataObject,
) -> None:
    task = data.draw(sparse_tasks())
    space = Space(task, data.draw(st.sampled_from(frames(task.cascade, einsums(task), 3))))
    numbers = np.flatnonzero(~space.doubles)
    for number in data.draw(st.permutations(list(numbers)))[:8]:
        goal = Goal(data.draw(st.sampled_from(OBJECTIVES)))
        closer = Closer(space, np.array([number]))
        choice = Point(space, closer, 0, goal, Tally()).solve((math.inf, math.inf))
        if choice is not None:
            checked(task, choice)
            figures = goal.value(choice.latency_s, choice.energy_j)[0]
            assert goal.value(*closer.bounds(goal))[0][0] <= figures * (1 + 1e-9)


@st.composite
def fused_tasks(draw: st.DrawFn, names: tuple[str, ...], most: int) -> Task:
    """Several Einsums over ranks of which some have tiles that are short at the end."""
    found = cascade(draw(st.sampled_from(names)))
    sizes = {r: draw(st.sampled_from([1, 2, 5, 7, 11])) for r in found.ranks}
    while math.prod(sizes.values()) > most:
        sizes[max(sizes, key=lambda r: sizes[r])] = 2
    return Task(found, sizes, draw(machines()), Wishes(buffers=draw(st.integers(1, 2))))


FUSED = ("siblings", "chain", "softmax", "running")


@settings(max_examples=25, **QUIET)
@given(st.data())
def test_figures_of_a_point_are_those_of_the_models_where_einsums_are_fused(
    data: st.DataObject,
) -> None:
    task = data.draw(fused_tasks(FUSED, 300))
    found = frames(task.cascade, einsums(task), 3)
    space = Space(task, data.draw(st.sampled_from(found)))
    numbers = np.flatnonzero(~space.doubles)
    for number in data.draw(st.permutations(list(numbers)))[:3]:
        goal = Goal(data.draw(st.sampled_from(OBJECTIVES)))
        closer = Closer(space, np.array([number]))
        choice = Point(space, closer, 0, goal, Tally()).solve((math.inf, math.inf))
        if choice is not None:
            checked(task, choice)
            figures = goal.value(choice.latency_s, choice.energy_j)[0]
            assert goal.value(*closer.bounds(goal))[0][0] <= figures * (1 + 1e-9)
            assert goal.value(*floor(task, einsums(task)))[0] <= figures * (1 + 1e-9)


def read_back(task: Task, *choices: Choice) -> None:
    """A mapping is the same after it was written and read."""
    mapping = bound_mapping(choices, "found")
    extents = {p: n for p, n in mapping.extent.items() if p in task.cascade.whole}
    text = yaml_text(document(mapping, task.problem(extents)))
    again = mapping_rule(from_text(text)).bind(task.cascade, task.sizes, task.arch)[1]
    assert replace(again, values=()) == replace(mapping, values=())


@settings(max_examples=12, **QUIET)
@given(st.data())
def test_an_einsum_may_have_a_short_rank_in_loops_of_its_own(data: st.DataObject) -> None:
    """Z of the running sum stands outside the loops over M1, in which P or F is cut."""
    task = data.draw(fused_tasks(("running",), 300))
    rank = data.draw(st.sampled_from(["P", "F"]))
    task = replace(task, sizes={**task.sizes, rank: data.draw(st.sampled_from([5, 7, 11]))})
    apart = [f for f in frames(task.cascade, einsums(task), 3) if len(f.own("Z", (rank,))) > 1]
    space = Space(task, data.draw(st.sampled_from(apart)))
    own, parts = space.frame.own("Z", (rank,)), dict(space.frame.parts)[rank]
    short = space.grid.short
    if short is None or parts not in short.sizes:  # no short tile is cut wherever others are
        reject()
    few = np.prod(np.broadcast_arrays(*(short.full[p] for p in parts)), axis=0) > task.sizes[rank]
    few = np.broadcast_to(few, space.grid.shape).ravel()
    for number in data.draw(st.permutations(list(np.flatnonzero(few))))[:4]:
        goal = Goal(data.draw(st.sampled_from(OBJECTIVES)))
        closer = Closer(space, np.array([number]))
        choice = Point(space, closer, 0, goal, Tally()).solve((math.inf, math.inf))
        if choice is not None:
            assert checked(task, choice)
            read_back(task, choice)
            figures = goal.value(choice.latency_s, choice.energy_j)[0]
            assert goal.value(*closer.bounds(goal))[0][0] <= figures * (1 + 1e-9)
            spread = choice.runs["Z"].spread
            several = [p for p in own if choice.trips[p] > 1]
            assert len(several) < 2 or not {*several} & {*spread.rows, *spread.cols}


def unbeaten(data: st.DataObject, task: Task, draws: int) -> None:
    """No drawn mapping is better than the one found, which is exact, if it is shown to be best."""
    goal = Goal(data.draw(st.sampled_from(OBJECTIVES[:3])))
    found = search(task, einsums(task), goal)
    for _ in range(draws):
        one = data.draw(drawn(task))
        if one.price is None or legal(task.cascade, one.mapping):
            continue
        assert found.choice is not None
        checked(task, found.choice)
        best = goal.value(found.choice.latency_s, found.choice.energy_j)[0]
        value = goal.value(one.price.latency_s, one.price.energy_j)[0]
        assert not found.shown or best <= value * (1 + 1e-9)


@settings(max_examples=12, **QUIET)
@given(st.data())
def test_no_fused_mapping_beats_the_search_where_tiles_are_short(data: st.DataObject) -> None:
    task = data.draw(fused_tasks(("siblings", "chain"), 160))
    unbeaten(data, task, 6)


@settings(max_examples=8, **QUIET)
@given(st.data())
def test_none_beats_it_where_an_einsum_has_a_short_rank_by_itself(data: st.DataObject) -> None:
    task = data.draw(fused_tasks(("running",), 100))
    unbeaten(data, task, 6)


@settings(max_examples=10, **QUIET)
@given(st.data())
def test_groups_cut_a_rank_each_in_its_own_way(data: st.DataObject) -> None:
    task = data.draw(fused_tasks(("siblings", "chain", "softmax"), 200))
    found = fuse(task, Goal(data.draw(st.sampled_from(OBJECTIVES[:2]))))
    checked(task, *found.choices)
    read_back(task, *found.choices)


@settings(max_examples=15, **QUIET)
@given(st.data())
def test_no_mapping_beats_the_search_where_tiles_are_short(data: st.DataObject) -> None:
    task = data.draw(sparse_tasks(7))
    unbeaten(data, task, 8)


def test_a_prime_is_tiled_where_perfect_factors_leave_no_tile_to_hold() -> None:
    """With all of 13 or single rows a buffer of 12 words serves no operand again."""
    task = Task(
        cascade("matmul"),
        {"I": 13, "J": 13, "K": 1},
        _with_buffer(12.0),
        Wishes(buffers=1),
    )
    found = search(task, ("Z",), Goal("energy"))
    assert found.choice is not None
    assert checked(task, found.choice)
    tiles = {p: n for p, n in found.choice.trips.items() if n not in (1, 13)}
    assert tiles


def _with_buffer(words: float) -> Architecture:
    return machine(words, math.inf, 2)


@settings(max_examples=25, **QUIET)
@given(st.data())
def test_wanted_tiles_may_leave_a_short_one(data: st.DataObject) -> None:
    task = data.draw(st.one_of(sparse_tasks(), fused_tasks(("siblings", "chain"), 160)))
    rank = data.draw(st.sampled_from(sorted(task.sizes)))
    wanted = {f"{rank}{data.draw(st.integers(0, 2))}": data.draw(st.integers(2, 6))}
    task = replace(task, wishes=replace(task.wishes, extents=wanted))
    goal = Goal(data.draw(st.sampled_from(OBJECTIVES[:2])))
    try:
        found = search(task, einsums(task), goal, loops=3)
    except InputError:  # no frame cuts the rank so
        reject()
    if found.choice is not None:
        ((part, n),) = wanted.items()
        assert found.choice.trips.get(part, found.choice.trips.get(rank)) == n  # or all of it
        checked(task, found.choice)


def test_a_wanted_tile_is_refused_where_the_last_one_would_be_cut_less() -> None:
    alone = Task(CASCADES["matmul"], {"I": 7, "J": 7, "K": 7}, _with_buffer(64.0))
    wanted = Task(alone.cascade, alone.sizes, alone.arch, Wishes(extents={"I0": 3}))
    with pytest.raises(InputError, match=r"I is not cut into I0 here|does not split with I0=3"):
        search(wanted, ("Z",), Goal("energy"))
    wider = Task(alone.cascade, {**alone.sizes, "I": 14}, alone.arch, Wishes(extents={"I0": 5}))
    found = search(wider, ("Z",), Goal("energy"))
    assert found.choice is not None
    assert found.choice.trips["I0"] == 5
    assert checked(wider, found.choice)


def test_windows_and_quotients_keep_perfect_factors() -> None:
    sizes = {"X": 99, "P": 7, "W": 7, "F": 7}
    assert Task(CASCADES["convolution"], sizes, _with_buffer(64.0)).sides(("Z",)) is None
    chain = Task(CASCADES["chain"], dict.fromkeys("IJKL", 7), _with_buffer(64.0))
    assert chain.sides(("S", "Z")) == (2,)
