"""Einsums side by side: many tiles a step, tiles that leave as they are made, and where it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.explore.estimate import bind as bound
from accelsim.ir.arch import Architecture, Level, Unit
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, Stage
from accelsim.ir.problem import bind
from accelsim.ir.reference import random_inputs
from accelsim.load.cascade import cascade_from_text
from accelsim.models.estimate import estimate
from accelsim.models.turns import in_turn_s
from accelsim.sim import nest
from accelsim.sim.execute import Executor, largest_difference
from accelsim.sim.run import Simulation, simulate
from tests.models.nests import _OPERATIONS, CASCADES

TWICE = """
cascade: twice
ranks: [I, N, J]
inputs: {X: [I, N, J]}
output: Z
einsums:
  - S[i,n,j] = X[i,n,j] * X[i,n,j]
  - E[i,j]   = S[i,n,j]
  - D[i,n,j] = X[i,n,j] * E[i,j]
  - Z[i,n,j] = D[i,n,j] * X[i,n,j]
"""
STEPS, WORDS = 30, 8


def twice(copies: int, tiles: int, grid: int, lanes: int) -> Simulation:
    """E adds up tiles that S makes, then Z multiplies tiles that D makes, a step after the other.

    There is room for the tiles of one of the two at a time, so that steps may not
    overlap.  Also run step by step, and with its tensors.
    """
    sizes = {"I": STEPS, "N": tiles, "J": WORDS}
    units = tuple(Unit(u, 1, n, _OPERATIONS) for u, n in (("grid", grid), ("lanes", lanes)))
    room = 2 * tiles * WORDS + WORDS + copies * WORDS
    levels = (Level("dram"), Level("buffer", capacity_bytes=float(room)))
    arch = Architecture("small", 1.0, 1.0, levels, units)
    j, n = (Loop("J", WORDS),), (Loop("N", tiles),)
    sums = Node(n, (Hold("S", "buffer", copies),), (Leaf("S", "grid", (), (), j),
                                                    Leaf("E", "lanes", (), (), j)))  # fmt: skip
    products = Node(n, (Hold("D", "buffer", copies),), (Leaf("D", "lanes", (), (), j),
                                                        Leaf("Z", "grid", (), (), j)))  # fmt: skip
    held = (Hold("X", "buffer", 2), Hold("E", "buffer"))
    tree = Node((Loop("I", STEPS),), held, (sums, products))
    parts = tuple((rank, (Loop(rank, n),)) for rank, n in sizes.items())
    mapping = Mapping("m", (Group("g", tree, (Stage(tuple("SEDZ")),)),), parts)
    problem = bind(cascade_from_text(TWICE), sizes)
    found = simulate(problem, arch, mapping)
    assert found.cycles == simulate(problem, arch, mapping, full=True).cycles
    inputs = random_inputs(problem)
    executor = Executor(problem, mapping, inputs)
    assert simulate(problem, arch, mapping, execute=executor.task).cycles == found.cycles
    assert largest_difference(problem, inputs, executor.tensors, problem.cascade.tensors) <= 1e-12
    return found


def in_line(tiles: int, first: int, second: int) -> int:
    """When the second unit is done with all tiles that the first makes, with room for two."""
    made, done = [0, 0], [0, 0]  # a tile is made in the room of the one two before it
    for _ in range(tiles):
        made.append(max(made[-1], done[-2]) + first)
        done.append(max(made[-1], done[-1]) + second)
    return done[-1]


@pytest.mark.parametrize("tiles", [12, 300])
@pytest.mark.parametrize("widths", [(1, 1), (1, 2), (4, 1)])
def test_with_two_tiles_one_is_used_while_the_next_is_made(
    tiles: int, widths: tuple[int, int]
) -> None:
    """As long as tile by tile, for few tiles and for more than a step has turns."""
    grid, lanes = (WORDS // n for n in widths)
    found = twice(2, tiles, *widths)
    assert found.cycles == STEPS * (in_line(tiles, grid, lanes) + in_line(tiles, lanes, grid))
    assert found.cycles < 0.9 * found.serial_cycles


def test_with_one_tile_they_take_turns() -> None:
    found = twice(1, 300, 1, 1)
    assert found.cycles == found.serial_cycles


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
def test_all_tiles_take_those_of_the_slower_and_one_of_the_faster(
    tiles: int, first: int, second: int
) -> None:
    """What ``sim.pairs`` says of them."""
    assert in_line(tiles, first, second) == tiles * max(first, second) + min(first, second)


ROWS = """
mapping: rows
source: as map once found it; keys, then values, stay in the buffer, scores go to memory and back
cascade: attention-3pass
let: {M2: 4, M1: 256, M0: 256, P1: 1024, P0: 256}
split: {M: [M2, M1, M0], P: [P1, P0]}
groups:
- group: attention
  nest:
    for: [B, H]
    do:
    - for: [M2]
      hold: {buffer: [{tensor: K, copies: 2}]}
      do:
      - for: [P1, M1]
        hold: {registers: [{tensor: QK, copies: 2}]}
        do:
        - {einsum: QK, unit: array_2d, rows: [E], cols: [P0], for: [M0]}
        - {einsum: GM, unit: array_1d, cols: [P0], for: [M0]}
    - for: [M2]
      hold: {buffer: [{tensor: GM, copies: 2}, {tensor: SD, copies: 2}]}
      do:
      - for: [P1, M1]
        hold: {registers: [SN]}
        do:
        - {einsum: SN, unit: array_1d, cols: [P0], for: [M0]}
        - {einsum: SD, unit: array_1d, cols: [P0], for: [M0]}
    - for: [M2]
      hold: {buffer: [{tensor: V, copies: 2}]}
      do:
      - for: [P1, M1]
        hold: {registers: [{tensor: A, copies: COPIES}]}
        do:
        - {einsum: A, unit: array_1d, cols: [P0], for: [M0]}
        - {einsum: AV, unit: array_2d, rows: [F], cols: [P0], for: [M0]}
  schedule:
  - {run: [QK, GM, SN, SD, A, AV]}
"""


@pytest.mark.parametrize(("copies", "least", "most"), [(2, 1.0, 1.005), (1, 1.1, 1.5)])
def test_scores_leave_while_they_are_made(
    tmp_path: Path, copies: int, least: float, most: float
) -> None:
    """Memory is busy all the time, and steps may not overlap: keys and values fill the buffer."""
    file = tmp_path / "rows.yaml"
    file.write_text(ROWS.replace("COPIES", str(copies)), encoding="utf-8")
    parts = bound("attention-3pass", arch="flat-cloud", mapping=file, model="XLM", seq="256K")
    model = estimate(*parts)
    assert model.bound_by == "dram"
    ratio = simulate(*parts).latency_s / model.latency_s
    assert least <= ratio * (1 + 1e-9)
    assert ratio <= most


def test_a_tile_that_is_long_on_its_way_does_not_keep_steps_from_repeating() -> None:
    """A tile of Z leaves while a thousand steps fetch theirs, nearly all that memory can do."""
    sizes = {"I": 6, "K": 1000, "J": 512}
    arch = Architecture(
        "small", 1.0, 1.0, (Level("dram", bandwidth=2.01), Level("buffer")),
        (Unit("grid", 1, 2, _OPERATIONS),),
    )  # fmt: skip
    j, k = (Loop("J1", 256),), (Loop("J0", 2),)
    inner = Node(
        (Loop("K", 1000),),
        (Hold("A", "buffer", 2), Hold("B", "buffer", 2)),
        (Leaf("Z", "grid", j, (), k),),
    )
    tree = Node((Loop("I", 6),), (Hold("Z", "buffer", 2),), (inner,))
    parts = (("I", (Loop("I", 6),)), ("K", (Loop("K", 1000),)), ("J", j + k))
    mapping = Mapping("m", (Group("g", tree, (Stage(("Z",)),)),), parts)
    problem = bind(CASCADES["matmul"], sizes)
    found = simulate(problem, arch, mapping)
    assert found.cycles == simulate(problem, arch, mapping, full=True).cycles
    assert found.groups[0].skipped > 0.9 * found.groups[0].steps


def test_stages_that_meet_at_a_finer_tile_keep_to_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D adds up a row of E in the stage after E made it: no step has more rows than there is room.

    With steps of all rows Z, which runs once in them, would hide behind all of D.
    """
    monkeypatch.setattr(nest, "SHORTEST_STEP", 256)
    sizes = {"N": 13, "I": 7, "J": 2, "K": 2}
    n, i, j, k = (Loop(rank, size) for rank, size in sizes.items())
    rows = (Hold("S", "registers"), Hold("G", "buffer"), Hold("E", "registers"))
    row = (Leaf("G", "grid", (), (j,)), Leaf("E", "lanes", (j,)), Leaf("D", "lanes", (j,)))
    scores = Node((j, k, i), (Hold("A", "buffer"),), (Leaf("S", "lanes"),))
    softmax = Node((i,), (*rows, Hold("D", "registers", 2, shares="D")), row)
    values = Node((i, j), (Hold("D", "registers"),), (Leaf("Z", "grid"),))
    held = (Hold("B", "buffer"), Hold("S", "registers"), Hold("E", "registers"))
    again = (Hold("B", "buffer"), Hold("G", "buffer"), Hold("E", "registers", 2))
    again = (*again, Hold("V", "buffer"))
    tree = Node((n,), held, (Node((), again, (scores, softmax, values)),))
    units = (Unit("grid", 4, 1, _OPERATIONS), Unit("lanes", 1, 3, _OPERATIONS))
    arch = Architecture(
        "small",
        1.0,
        1.0,
        (Level("dram", bandwidth=2.0), Level("buffer"), Level("registers")),
        units,
    )
    stages = (Stage(("S", "G", "E")), Stage(("D", "Z")))
    parts = tuple((loop.part, (loop,)) for loop in (n, i, j, k))
    mapping = Mapping("m", (Group("g", tree, stages),), parts, partial_sums=False)
    problem = bind(CASCADES["softmax"], sizes)
    found = simulate(problem, arch, mapping)
    modelled = in_turn_s(problem, arch, mapping, estimate(problem, arch, mapping))
    assert modelled <= found.cycles <= found.serial_cycles


def test_tiles_leave_early_though_their_einsum_began_before_there_was_a_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Z, side by side with S, streams out; all its bytes pass, whenever its slot is free."""
    monkeypatch.setattr(nest, "SHORTEST_STEP", 256)
    sizes = {"M": 3, "I": 3, "J": 5}
    m, i, j = (Loop(rank, size) for rank, size in sizes.items())
    n = Node(
        (), (Hold("N", "registers", 2),), (Leaf("N", "grid"), Node((), (), (Leaf("S", "lanes"),)))
    )
    held = (Hold("K", "registers", 2), Hold("V", "buffer"), Hold("S", "registers", 2))
    inner, last = Node((j,), held, (n,)), Node((), (), (Leaf("Z", "grid", (j,)),))
    outer = (Hold("K", "registers"), Hold("N", "buffer"), Hold("S", "registers"))
    units = (Unit("grid", 1, 1, _OPERATIONS), Unit("lanes", 1, 3, _OPERATIONS))
    levels = (Level("dram", bandwidth=0.5), Level("buffer"), Level("registers"))
    arch = Architecture("small", 1.0, 1.0, levels, units)
    group = Group("g", Node((m, i), outer, (inner, last)), (Stage(("N", "S", "Z")),))
    mapping = Mapping("m", (group,), tuple((loop.part, (loop,)) for loop in (m, i, j)))
    problem = bind(CASCADES["state"], sizes)
    found, priced = simulate(problem, arch, mapping), estimate(problem, arch, mapping)
    assert found.total("writes") == pytest.approx(priced.write_bytes, rel=1e-12)
    assert found.cycles >= priced.latency_s
