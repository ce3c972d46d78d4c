"""Every way in which a run is refused, with its message."""

from __future__ import annotations

import pytest

from accelsim.errors import InputError
from accelsim.ir.arch import Architecture, Level, Unit
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, Stage
from accelsim.ir.problem import Problem, bind
from accelsim.ir.reference import random_inputs
from accelsim.load.cascade import cascade_from_text
from accelsim.sim import nest, tiles
from accelsim.sim.execute import Executor
from accelsim.sim.run import simulate
from accelsim.sim.tiles import Line
from tests.models.nests import _OPERATIONS, CASCADES

GRID, LANES = (Unit(name, 1, 1, _OPERATIONS) for name in ("grid", "lanes"))
LEVELS = (Level("dram", bandwidth=1.0), Level("buffer"), Level("registers"))
ARCH = Architecture("small", 1.0, 1.0, LEVELS, (GRID, LANES))
CHAIN = {"I": 4, "J": 4, "K": 4, "L": 4}


def loops(**trips: int) -> tuple[Loop, ...]:
    return tuple(Loop(part, n) for part, n in trips.items())


def leaf(einsum: str, unit: str = "grid", **trips: int) -> Leaf:
    return Leaf(einsum, unit, loops(**trips))


def mapped(tree: Node, stages: str, sizes: dict[str, int]) -> Mapping:
    """A mapping of one group; stages are Einsums in words, stages apart by commas."""
    found = tuple(Stage(tuple(names.split())) for names in stages.split(","))
    parts = tuple((rank, (Loop(rank, n),)) for rank, n in sizes.items())
    return Mapping("m", (Group("g", tree, found),), parts)


def chain(first: Leaf, second: Leaf, *holds: Hold, stages: str = "S Z") -> tuple[Problem, Mapping]:
    """Two products one after the other under a loop over I."""
    root = Node(loops(I=4), holds, (first, second))
    return bind(CASCADES["chain"], CHAIN), mapped(root, stages, CHAIN)


def refused(problem: Problem, mapping: Mapping, arch: Architecture = ARCH) -> str:
    with pytest.raises(InputError) as caught:
        simulate(problem, arch, mapping)
    return str(caught.value)


def test_a_unit_lacks_an_operation() -> None:
    problem, mapping = chain(leaf("S", J=4, K=4), leaf("Z", L=4, J=4))
    bare = Architecture("bare", 1.0, 1.0, LEVELS, (Unit("grid", 1, 1, ()), LANES))
    assert "grid has no operation for 'mac', which S needs" in refused(problem, mapping, bare)


def test_a_hold_is_of_something_used() -> None:
    held = Node((), (Hold("C", "buffer"),), (leaf("S", J=4, K=4),))
    root = Node(loops(I=4), (), (held, leaf("Z", L=4, J=4)))
    problem, mapping = bind(CASCADES["chain"], CHAIN), mapped(root, "S Z", CHAIN)
    assert "nothing below this node uses C, which it holds" in refused(problem, mapping)


def test_tiles_that_do_not_fit_are_told() -> None:
    problem, mapping = chain(leaf("S", J=4, K=4), leaf("Z", L=4, J=4), Hold("B", "buffer"))
    small = (LEVELS[0], Level("buffer", capacity_bytes=10.0), LEVELS[2])
    told = refused(problem, mapping, Architecture("small", 1.0, 1.0, small, (GRID, LANES)))
    assert "the tiles that 'g' holds in buffer need 16 B, 6 B more than its 10 B" in told
    assert "allowed: smaller tiles, or a larger capacity" in told


def test_tiles_that_do_not_fit_beside_each_other_are_told() -> None:
    """Z of an earlier stage is a step behind S, so that what both hold is there at once."""
    one = Node((), (Hold("A", "buffer"),), (leaf("S", J=4, K=4),))
    two = Node((), (Hold("Z", "buffer"),), (leaf("Z", "lanes", L=4, J=4),))
    problem = bind(CASCADES["chain"], CHAIN)
    mapping = mapped(Node(loops(I=4), (), (one, two)), "Z,S", CHAIN)
    small = (LEVELS[0], Level("buffer", capacity_bytes=5.0), LEVELS[2])
    told = refused(problem, mapping, Architecture("small", 1.0, 1.0, small, (GRID, LANES)))
    assert (
        "the tiles that 'g' holds in buffer while steps overlap need 8 B, 3 B more than its 5 B"
    ) in told
    in_turn = mapped(Node(loops(I=4), (), (one, two)), "S,Z", CHAIN)
    arch = Architecture("small", 1.0, 1.0, small, (GRID, LANES))
    assert simulate(problem, arch, in_turn).cycles > 0


def test_one_slot_cannot_serve_two_steps() -> None:
    """E reads S two steps late, after two stages that turn back; S is there but once."""
    sizes = {"N": 4, "I": 1, "J": 2, "K": 2}
    two = {"I": 1, "J": 2}
    children = (leaf("S", **two, K=2), *(leaf(e, "lanes", **two) for e in "GEDZ"))
    tree = Node(loops(N=4), (Hold("S", "buffer"),), children)
    told = refused(bind(CASCADES["softmax"], sizes), mapped(tree, "E,G,S,D,Z", sizes))
    assert (
        "the schedule of 'g' has no room to repeat: S overwrites S before E of an earlier step "
        "has read it"
    ) in told
    assert "allowed: more copies of S, or E in an earlier stage" in told


def test_less_than_a_step_cannot_trail() -> None:
    """S is held for a part of a step, so that Z cannot be a step behind."""
    inner = Node(loops(J=4), (Hold("S", "buffer"),), (leaf("S", K=4), leaf("Z", L=4)))
    root = Node(loops(I=4), (), (inner,))
    problem, mapping = bind(CASCADES["chain"], CHAIN), mapped(root, "Z,S", CHAIN)
    assert (
        "the schedule of 'g' has no room to repeat: Z trails S, but S between them is held for "
        "less than a step"
    ) in refused(problem, mapping)


def test_stages_that_wait_in_a_circle() -> None:
    """R needs V needs U, each a stage later, which takes two steps; U needs R of one step ago."""
    sizes = {"M": 4, "P": 1}
    tree = Node(loops(M=4), (), tuple(leaf(e, u, P=1) for e, u in USED))
    problem = bind(cascade_from_text(LOOPED), sizes)
    assert simulate(problem, ARCH, mapped(tree, "U,V,R,S", sizes)).cycles > 0
    told = refused(problem, mapped(tree, "R,V,U,S", sizes))
    assert "the schedule of 'g' cannot repeat: its stages wait for one another in a circle" in told
    assert "allowed: consumers after their producers, or more copies of what is between" in told


USED = (("U", "grid"), ("V", "lanes"), ("R", "grid"), ("S", "grid"))
LOOPED = """
cascade: looped
ranks: [P, M]
inputs: {X: [P, M]}
output: S
einsums:
  - R[p,0]   = 0
  - U[p,m]   = R[p,m] * X[p,m]
  - V[p,m]   = U[p,m] * X[p,m]
  - R[p,m+1] = R[p,m] + V[p,m]
  - S[p,m]   = U[p,m] * X[p,m]
"""


def test_a_run_that_stops_says_who_waits_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """U runs in steps along M, but R after all of them: `legal` refuses it, if it is asked."""
    monkeypatch.setattr(nest, "SHORTEST_STEP", 1)
    sizes = {"P": 2, "M": 4}
    steps = Node(loops(M=4), (), (leaf("U"), leaf("V"), leaf("S", "lanes")))
    tree = Node(loops(P=2), (), (steps, leaf("R", M=4)))
    told = refused(bind(cascade_from_text(LOOPED), sizes), mapped(tree, "U V S,R", sizes))
    assert "'g' stops: U waits for R, which never comes" in told
    assert "allowed: what makes R before U, or more copies" in told


def test_tiles_in_too_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MOST_INSIDE", 4)
    with pytest.raises(InputError, match="a tile in more than 4 pieces"):
        Line((("p", 10), ("q", 100))).elements({"p": 4, "q": 3})


def test_too_many_iterations_inside_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MOST_INSIDE", 4)
    problem, mapping = chain(leaf("S", J=4, K=4), leaf("Z", L=4, J=4))
    assert simulate(problem, ARCH, mapping).cycles > 0  # tiles alike are counted without stepping
    monkeypatch.setattr(tiles.Visits, "_regular", property(lambda _: False))
    assert "16 iterations inside one step are too many to step through" in refused(problem, mapping)


def test_too_many_iterations_of_a_ragged_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelsim.sim.compile.MOST_INSIDE", 1)
    sizes = {"I": 2, "J": 5, "K": 2, "L": 2}
    wide = Architecture("wide", 1.0, 1.0, LEVELS, (Unit("grid", 2, 1, _OPERATIONS), LANES))
    first = Leaf("S", "grid", loops(K=2), (Loop("J", 5),))
    root = Node(loops(I=2), (), (first, leaf("Z", "lanes", L=2, J=5)))
    problem, mapping = bind(CASCADES["chain"], sizes), mapped(root, "S Z", sizes)
    told = refused(problem, mapping, wide)
    assert "3 iterations inside a step\n  allowed: at most 1" in told


def test_too_many_steps_of_a_full_run(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, mapping = chain(leaf("S", J=4, K=4), leaf("Z", L=4, J=4))
    monkeypatch.setattr("accelsim.sim.run.MOST_STEPS", 0)
    steps = simulate(problem, ARCH, mapping).groups[0].steps
    with pytest.raises(InputError) as caught:
        simulate(problem, ARCH, mapping, full=True)
    assert f"{steps} steps of g are too many to run one by one" in str(caught.value)
    assert "allowed: at most 0, or no --full" in str(caught.value)


def test_an_operand_that_is_not_there_is_found_by_executing() -> None:
    problem, mapping = chain(leaf("S", J=4, K=4), leaf("Z", L=4, J=4))
    executor = Executor(problem, mapping, random_inputs(problem))
    with pytest.raises(InputError) as caught:
        executor.task("Z", {"I": 0})
    assert "Z reads S before it is produced" in str(caught.value)
    assert "allowed: Z after what it reads, a recurrence's loop around the step" in str(
        caught.value
    )


def test_a_reduction_that_no_steps_can_join() -> None:
    sizes = {"I": 2, "J": 4}
    cascade = cascade_from_text(
        "cascade: c\nranks: [I, J]\ninputs: {X: [I, J]}\noutput: Y\n"
        "einsums:\n  - Y[i] = X[i,j] :: argmax(j)\n"
    )
    tree = Node(loops(I=2), (), (leaf("Y", J=4),))
    problem = bind(cascade, sizes)
    executor = Executor(problem, mapped(tree, "Y", sizes), random_inputs(problem))
    with pytest.raises(InputError, match="Y reduces by argmax over several steps, which cannot"):
        executor.task("Y", {"I": 0, "J": 0})
