"""On tiny problems the search finds what enumerating every mapping finds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import permutations, product

import pytest

from accelsim.errors import InputError
from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.mapper.evaluate import Counts, Keep, Spread
from accelsim.mapper.frame import Frame, frames
from accelsim.mapper.goal import Goal
from accelsim.mapper.plan import bound_mapping
from accelsim.mapper.point import Choice
from accelsim.mapper.schedule import TOGETHER
from accelsim.mapper.search import search
from accelsim.mapper.space import Space, Task, Wishes
from accelsim.mapper.spreads import Run
from accelsim.mapper.stow import Kept
from accelsim.models.estimate import estimate
from tests.models.nests import cascade

OPS = tuple((w, Operation(1.0, 2.0)) for w in ("mac", "add", "max"))


def machine(capacity: float, bandwidth: float, cols: int) -> Architecture:
    levels = (
        Level("dram", bandwidth=1.0, read_energy_j=9.0, write_energy_j=7.0),
        Level("buffer", capacity, bandwidth, read_energy_j=1.0, write_energy_j=2.0),
    )
    return Architecture("m", 1.0, 1.0, levels, (Unit("u", 1, cols, OPS),))


def every_hold(counts: Counts, tensor: str) -> list[tuple[Keep, ...]]:
    """No hold, or one at any spot that encloses a use."""
    spots = {n for u in counts.uses[tensor] for n in counts.frame.spots[u.spot].chain}
    return [(), *((Keep(1, n),) for n in sorted(spots))]


def every_spread(counts: Counts, einsum: str) -> Iterator[Spread]:
    own = counts.frame.own(einsum, counts.ranks[einsum])
    for order in permutations(own):
        yield Spread("u", (), (), order)
        if order:
            yield Spread("u", (), order[:1], order[1:])


def every_mapping(task: Task, frame: Frame, einsum: str) -> Iterator[tuple[float, float]]:
    """Latency and energy of every mapping of one Einsum that fits, by the models."""
    space = Space(task, frame)
    for number in range(space.grid.size):
        counts = space.counts_at(number)
        whole = {p: int(n) for p, n in counts.full.items()}
        holds = [every_hold(counts, t) for t in counts.uses]
        for some in product(*holds):
            kept = []
            for tensor, keeps in zip(counts.uses, some, strict=True):
                for keep in keeps:
                    tile = counts.held(tensor, keep.spot)
                    again = float(tile.visits) > float(tile.tile) * (1 + 1e-9)
                    kept.append(Kept(tensor, keep, task.wishes.buffers if again else 1))
            for spread in every_spread(counts, einsum):
                run = {einsum: Run(spread, 0.0, ())}
                choice = Choice(space, whole, run, tuple(kept), TOGETHER, 0.0, 0.0)
                mapping = bound_mapping([choice], "one")
                try:
                    price = estimate(task.problem(mapping.extent), task.arch, mapping)
                except InputError:
                    continue
                yield price.latency_s, price.energy_j


CASES = [
    ("square", {"I": 4, "K": 2}, machine(3.0, 2.0, 2), 1, 2),
    ("square", {"I": 2, "K": 6}, machine(4.0, math.inf, 3), 2, 2),
    ("matmul", {"I": 2, "J": 2, "K": 1}, machine(4.0, 1.0, 2), 1, 2),
    ("square", {"I": 7, "K": 10}, machine(9.0, 2.0, 2), 1, 2),  # tiles short at the end
    ("matmul", {"I": 7, "J": 2, "K": 1}, machine(9.0, 1.0, 4), 2, 2),
]


@pytest.mark.parametrize(("name", "sizes", "arch", "buffers", "loops"), CASES)
def test_the_search_equals_enumeration(
    name: str,
    sizes: dict[str, int],
    arch: Architecture,
    buffers: int,
    loops: int,
) -> None:
    task = Task(cascade(name), sizes, arch, Wishes(buffers=buffers))
    einsum = task.cascade.einsums[0].name
    known = frames(task.cascade, (einsum,), loops)
    prices = [p for frame in known for p in every_mapping(task, frame, einsum)]
    for objective in ("latency", "energy", "edp"):
        goal = Goal(objective)
        found = search(task, (einsum,), goal, loops=loops)
        assert found.choice is not None
        assert found.shown
        figures = goal.value(found.choice.latency_s, found.choice.energy_j)
        best = min(goal.value(*price) for price in prices)
        assert figures[0] == pytest.approx(best[0], rel=1e-9)
        if objective != "edp":  # the second figure counts where the first are equal
            ties = [v[1] for v in (goal.value(*p) for p in prices) if v[0] <= best[0] * (1 + 1e-9)]
            assert figures[1] == pytest.approx(min(ties), rel=1e-9)


def every_fused(task: Task, frame: Frame) -> Iterator[tuple[float, float]]:
    """Latency and energy of every mapping of a fused group on one unit that fits.

    Of Einsums that share no tensor that one of them makes: any order overlaps.
    """
    space = Space(task, frame)
    for number in range(space.grid.size):
        counts = space.counts_at(number)
        whole = {p: int(n) for p, n in counts.full.items()}
        spreads = [[*every_spread(counts, e)] for e in frame.einsums]
        for some in product(*(every_hold(counts, t) for t in counts.uses)):
            kept = []
            for tensor, keeps in zip(counts.uses, some, strict=True):
                for keep in keeps:
                    tile = counts.held(tensor, keep.spot)
                    again = float(tile.visits) > float(tile.tile) * (1 + 1e-9)
                    kept.append(Kept(tensor, keep, task.wishes.buffers if again else 1))
            for chosen in product(*spreads):
                runs = {e: Run(s, 0.0, ()) for e, s in zip(frame.einsums, chosen, strict=True)}
                choice = Choice(space, whole, runs, tuple(kept), TOGETHER, 0.0, 0.0)
                mapping = bound_mapping([choice], "one")
                try:
                    price = estimate(task.problem(mapping.extent), task.arch, mapping)
                except InputError:
                    break  # whatever the spreads, the tiles do not fit
                yield price.latency_s, price.energy_j


@pytest.mark.parametrize(("rows", "capacity"), [(7, 9.0), (7, 5.0), (10, 7.0), (11, 9.0)])
def test_the_search_of_a_fused_group_equals_enumeration(rows: int, capacity: float) -> None:
    sizes = {"I": rows, "K": 2}
    task = Task(cascade("siblings"), sizes, machine(capacity, 2.0, 2), Wishes(buffers=1))
    names = ("Y", "Z")
    prices = [p for f in frames(task.cascade, names, 1) for p in every_fused(task, f)]
    for objective in ("latency", "energy", "edp"):
        goal = Goal(objective)
        found = search(task, names, goal, loops=1)
        assert found.choice is not None
        assert found.shown
        figures = goal.value(found.choice.latency_s, found.choice.energy_j)
        assert figures[0] == pytest.approx(min(goal.value(*p)[0] for p in prices), rel=1e-9)
