"""Who trails whom by how many steps, and whose turn it is: cases that once stalled or stopped."""

from __future__ import annotations

import pytest

from accelsim.ir.arch import Architecture, Level, Unit
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, Stage
from accelsim.ir.problem import bind
from accelsim.ir.reference import random_inputs
from accelsim.load.cascade import cascade_from_text
from accelsim.models.estimate import estimate
from accelsim.sim.cuts import Cut, own_cuts
from accelsim.sim.edges import Order
from accelsim.sim.execute import Executor
from accelsim.sim.listing import Load, busiest, listed
from accelsim.sim.nest import Nest
from accelsim.sim.run import simulate
from accelsim.sim.schedule import Choice, Schedule, Solver
from accelsim.sim.search import Search, Trial
from accelsim.sim.tiles import Round
from tests.models.nests import _OPERATIONS, CASCADES

UNITS = {"E": "grid", "D": "lanes", "Z": "lanes"}


def solved(cycles: dict[str, int], *orders: Order) -> Schedule:
    """The schedule of E, D and Z in one stage."""
    group = Group("g", Node((), (), ()), (Stage(("E", "D", "Z")),))
    return Solver(group, UNITS, orders, cycles).solve()


def data(before: str, after: str, far: bool = False) -> Order:
    return Order(before, after, 0, "data", before, far=far)


def test_nobody_trails_where_others_wait_for_the_room() -> None:
    """Z reads E and D, D reads E, and E has two slots.

    With D a step behind E and Z a step behind D, E would overwrite what Z is still reading and
    wait for it, with the other unit idle.
    """
    room = Order("Z", "E", 2, "room", "E")
    cycles = {"E": 30, "D": 10, "Z": 20}
    found = solved(cycles, data("E", "D"), data("D", "Z", far=True), data("E", "Z"), room)
    assert ("E", 0) not in found.waits
    assert found.lags["Z"] - found.lags["E"] < 2


def test_what_goes_out_and_comes_back_takes_as_many_steps_as_cost_nothing() -> None:
    found = solved({"E": 10, "D": 10, "Z": 10}, data("E", "D", far=True), data("D", "Z"))
    assert found.lags["D"] - found.lags["E"] == 3
    near = solved({"E": 10, "D": 10, "Z": 10}, data("E", "D"), data("D", "Z"))
    assert near.lags["D"] - near.lags["E"] == 1


def test_where_a_first_schedule_stalls_others_are_tried() -> None:
    """Z waits for D on the other unit: D goes first there, and E beside it, not behind Z."""
    group = Group("g", Node((), (), ()), (Stage(("D", "Y", "Z", "E")),))
    units = {"D": "lanes", "Y": "lanes", "Z": "grid", "E": "grid"}
    cycles = {"D": 10, "Y": 10, "Z": 10, "E": 10}
    inside = Order("Z", "D", 0, "inside", "D")
    solver = Solver(group, units, (data("D", "Z"), inside), cycles)
    first = solver.solve()
    assert dict(first.order[0])["grid"] == ("Z", "E")
    seen = []

    def trial(schedule: Schedule, most: float) -> Trial:
        seen.append(most)
        good = dict(schedule.order[0]) == {"lanes": ("D", "Y"), "grid": ("E", "Z")}
        return Trial(20 if good else 30, 20 if good else 30, not good)

    found = Search(solver, trial).run()
    assert found.waits == {("Z", 0): (("D", 0),)}
    assert dict(found.order[0])["grid"] == ("E", "Z")
    assert seen[0] == float("inf")
    assert set(seen[1:]) == {30}


def test_what_is_long_on_its_way_is_made_first() -> None:
    """C waits 20 cycles for what A has made; B, which stands behind both, goes between them."""
    group = Group("g", Node((), (), ()), (Stage(("A", "C", "B")),))
    inside = Order("C", "A", 0, "inside", "A")
    data = Order("A", "C", 0, "data", "A", far=20)
    cycles = {"A": 10, "B": 20, "C": 30}
    solver = Solver(group, dict.fromkeys(cycles, "grid"), (data, inside), cycles)
    assert dict(solver.solve().order[0])["grid"] == ("A", "C", "B")
    tried = []

    def trial(schedule: Schedule, most: float) -> Trial:
        tried.append(dict(schedule.order[0])["grid"])
        good = tried[-1] == ("A", "B", "C")
        return Trial(60 if good else 80, 60 if good else 80, not good)

    assert dict(Search(solver, trial).run().order[0])["grid"] == ("A", "B", "C")
    assert len(tried) == 2


def test_where_all_schedules_stall_turns_change_places() -> None:
    """B is made no sooner than C and has less behind it; only a run shows that it had better go."""
    group = Group("g", Node((), (), ()), (Stage(("A", "B", "C", "D")),))
    cycles = {"A": 10, "B": 10, "C": 10, "D": 10}
    solver = Solver(group, dict.fromkeys(cycles, "grid"), (), cycles)
    assert dict(solver.solve().order[0])["grid"] == ("A", "B", "C", "D")

    def trial(schedule: Schedule, most: float) -> Trial:
        order = dict(schedule.order[0])["grid"]
        each = 50 + abs(order.index("D") - 1) + abs(order.index("A") - 3)
        return Trial(each, each, each > 50)

    found = Search(solver, trial).run()
    assert dict(found.order[0])["grid"] in {("B", "D", "C", "A"), ("C", "D", "B", "A")}


def test_turns_of_two_units_overlap_as_far_as_there_is_room() -> None:
    """E trails D by a turn where there is room for two tiles, and follows it where for one."""
    group = Group("g", Node((), (), ()), (Stage(("D", "E")),))
    cut = Cut(frozenset("DE"), (Loop("N", 4),))
    for copies, takes in ((1, 80), (2, 40)):
        room = Order(
            "E", "D", 0, "inside", "D", loops=cut.loops, copies=copies, parts=frozenset("N")
        )
        solver = Solver(
            group, {"D": "grid", "E": "lanes"}, (data("D", "E"), room), {"D": 40, "E": 40},
            ({"D": cut, "E": cut},),
        )  # fmt: skip
        solver.solve()
        found = Search(solver, lambda s, _: Trial(s.takes, s.takes, True)).run()
        assert found.takes == takes


@pytest.mark.parametrize("behind", [0, 1])
def test_what_comes_back_an_iteration_later_makes_iterations_longer(behind: int) -> None:
    """D's tile takes 20 cycles from when E has read it; then D makes the next one."""
    group = Group("g", Node((), (), ()), (Stage(("D", "E")),))
    room = Order("E", "D", 1, "room", "D", far=20)
    cycles = {"D": 10, "E": 10}
    solver = Solver(group, {"D": "grid", "E": "lanes"}, (data("D", "E"), room), cycles)
    found = solver.chosen(Choice({("D", "E"): behind}))
    assert found is not None
    assert (found.takes, found.busy) == (40, 10)


def test_a_turn_waits_for_the_words_of_another_at_its_port() -> None:
    graph = {("A", 0): {}, ("B", 0): {}}
    loads = {("A", 0): Load("u", 4, ((0, 3),)), ("B", 0): Load("v", 2, ((0, 2),))}
    assert listed(graph, loads) == {("A", 0): (0, 4), ("B", 0): (0, 5)}
    assert busiest(loads.values()) == 5


def test_some_go_first_of_what_can_begin_at_once() -> None:
    graph = {("A", 0): {}, ("B", 0): {}}
    loads = {("A", 0): Load("u", 2), ("B", 0): Load("u", 1)}
    assert list(listed(graph, loads)) == [("A", 0), ("B", 0)]
    assert list(listed(graph, loads, {"B"})) == [("B", 0), ("A", 0)]


def test_a_unit_whose_tile_nobody_has_asked_for_lets_the_other_go_first() -> None:
    """C's tile of R is filled when E, on the other unit, is done with the one around it."""
    units = (Unit("grid", 1, 1, _OPERATIONS), Unit("lanes", 1, 1, _OPERATIONS))
    levels = (Level("dram", bandwidth=0.5), Level("buffer"), Level("registers"))

    def held(tensor: str, level: str = "buffer") -> Hold:
        return Hold(tensor, level, copies=2)

    made = Node((), (), (Leaf("L", "grid"), Leaf("R", "lanes")))
    read = Node((), (held("R"),), (Node((), (held("S", "registers"),), (Leaf("E", "grid"),)),))
    first = Node((), (Hold("S", "registers"), held("R")), (made, read))
    inner = (held("E", "registers"), held("V"), held("U"))
    sums = Node((), inner, tuple(Leaf(e, "grid") for e in "TUW"))
    outside = (held("R"), held("E", "registers"), held("T"))
    second = Node((), outside, (Leaf("C", "lanes"), sums))
    outer = (Hold("L", "buffer"), Hold("E", "registers"), Hold("W", "buffer", 2, shares="E"))
    root = Node((), outer, (first, second, Leaf("Z", "grid")))
    stages = (Stage(tuple("LRECTU")), Stage(("W", "Z")))
    sizes = {"P": 1, "M1": 1, "M0": 1, "F": 1}
    parts = tuple((rank, ()) for rank in sizes)
    mapping = Mapping("m", (Group("g", root, stages),), parts)
    problem = bind(CASCADES["running"], sizes)
    found = simulate(problem, Architecture("small", 1.0, 1.0, levels, units), mapping)
    assert 0 < found.cycles <= found.serial_cycles


READ_TWICE = """
cascade: read-twice
ranks: [I, J]
inputs: {X: [I, J], B: [I, J]}
outputs: [Z, W]
einsums:
  - Y[i,j] = X[i,j] * X[i,j]
  - Z[i,j] = Y[i,j] * X[i,j]
  - W[i,j] = Y[i,j] * B[i,j]
"""


@pytest.mark.parametrize("steps", [1, 2, 30])
@pytest.mark.parametrize("copies", [1, 2, 3])
def test_what_leaves_a_tile_is_read_when_its_writer_is_done_with_the_tile(
    steps: int, copies: int
) -> None:
    """Y leaves while Z, a step behind, still reads it: so W, which reads it outside, may not."""
    units = (Unit("lanes", 1, 1, _OPERATIONS), Unit("grid", 1, 1, _OPERATIONS))
    levels = (Level("dram"), Level("buffer"))
    sizes = {"I": steps, "J": 300}

    def leaf(einsum: str, unit: str) -> Leaf:
        return Leaf(einsum, unit, (Loop("J", sizes["J"]),))

    inner = (leaf("Y", "lanes"), leaf("Z", "grid"))
    tile = Node((), (Hold("Y", "buffer", copies=copies),), inner)
    tree = Node((Loop("I", steps),), (), (tile, leaf("W", "lanes")))
    parts = tuple((rank, (Loop(rank, n),)) for rank, n in sizes.items())
    mapping = Mapping("m", (Group("g", tree, (Stage(tuple("YZW")),)),), parts)
    problem = bind(cascade_from_text(READ_TWICE), sizes)
    arch = Architecture("small", 1.0, 1.0, levels, units)
    priced = estimate(problem, arch, mapping)
    found = simulate(problem, arch, mapping)
    assert priced.latency_s <= found.cycles <= found.serial_cycles


def test_an_einsum_is_cut_into_the_rounds_in_which_it_covers_its_unit() -> None:
    """7 of J on 4 PEs: rounds of 4 and of 3, each executed by itself."""
    sizes = {"I": 2, "J": 7}
    units = (Unit("lanes", 1, 4, _OPERATIONS),)
    leaves = tuple(Leaf(e, "lanes", (), (), (Loop("J", 7),)) for e in "YZW")
    mapping = Mapping(
        "m", (Group("g", Node((Loop("I", 2),), (), leaves), (Stage(tuple("YZW")),)),),
        tuple((rank, (Loop(rank, n),)) for rank, n in sizes.items()),
    )  # fmt: skip
    problem = bind(cascade_from_text(READ_TWICE), sizes)
    arch = Architecture("small", 1.0, 1.0, (Level("dram"), Level("buffer")), units)
    nest = Nest(problem, arch, mapping, mapping.groups[0])
    rounds = own_cuts(nest, {}, lambda einsum: 100)["Y"].around[-1]
    assert rounds == Round("J", 2, 4)
    inputs = random_inputs(problem)
    executor = Executor(problem, mapping, inputs)
    executor.task("Y", {"I": 0, "J": range(4, 8)})
    executor.task("Y", {"I": 1, "J": range(4)})
    assert executor.produced["Y"].sum() == 7
    assert executor.tensors["Y"].values[0, 4:] == pytest.approx(inputs["X"][0, 4:] ** 2)
