"""Ways to cut a rank, tiles short at the end among them, against what is counted one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import short_ranks
from accelsim.mapper.closer import Closer
from accelsim.mapper.cuts import chains, cuts, sparse, tile_sizes
from accelsim.mapper.frame import frames
from accelsim.mapper.goal import OBJECTIVES, Goal
from accelsim.mapper.grid import factors
from accelsim.mapper.legal import legal
from accelsim.mapper.plan import bound_mapping
from accelsim.mapper.point import Choice, Point
from accelsim.mapper.search import search
from accelsim.mapper.space import Space, Task, Wishes
from accelsim.mapper.stow import Tally
from accelsim.models.estimate import estimate
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


@settings(max_examples=60, **QUIET)
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
            assert min(each) > 1 or max(each) == 1
            tiles = inside
        assert (len(tiles), len(tiles[-1])) == (found.tiles[n], found.last[n])
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


def checked(task: Task, choice: Choice) -> bool:
    """Whether a choice has a short tile; its figures are those of the models and of the replay."""
    mapping = bound_mapping([choice], "found")
    assert legal(task.cascade, mapping) == ()
    problem = task.problem({})
    price = estimate(problem, task.arch, mapping)
    assert price.latency_s == pytest.approx(choice.latency_s, rel=1e-9)
    assert price.energy_j == pytest.approx(choice.energy_j, rel=1e-9)
    holds(Case(problem, task.arch, mapping))
    return bool(short_ranks(mapping, problem.extent))


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


@settings(max_examples=15, **QUIET)
@given(st.data())
def test_no_mapping_beats_the_search_where_tiles_are_short(data: st.DataObject) -> None:
    task = data.draw(sparse_tasks(7))
    goal = Goal(data.draw(st.sampled_from(OBJECTIVES[:3])))
    found = search(task, einsums(task), goal)
    for _ in range(8):
        one = data.draw(drawn(task))
        if one.price is None or legal(task.cascade, one.mapping):
            continue
        assert found.choice is not None
        checked(task, found.choice)
        best = goal.value(found.choice.latency_s, found.choice.energy_j)[0]
        value = goal.value(one.price.latency_s, one.price.energy_j)[0]
        assert not found.shown or best <= value * (1 + 1e-9)


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


def test_fused_einsums_and_wanted_extents_keep_perfect_factors() -> None:
    chain = Task(CASCADES["chain"], {"I": 7, "J": 7, "K": 7, "L": 7}, _with_buffer(64.0))
    assert chain.sides is None
    alone = Task(CASCADES["matmul"], {"I": 7, "J": 7, "K": 7}, _with_buffer(64.0))
    assert alone.sides == (2,)
    wanted = Task(alone.cascade, alone.sizes, alone.arch, Wishes(extents={"I0": 3}))
    with pytest.raises(InputError, match=r"I is not cut into I0 here|does not split with I0=3"):
        search(wanted, ("Z",), Goal("energy"))
