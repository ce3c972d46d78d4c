"""The latency step by step: when it is the model's, when it is more, and how it is told."""

from __future__ import annotations

import pytest

from accelsim.explore.estimate import bind, estimate
from accelsim.explore.simulate import simulate
from accelsim.ir.arch import Architecture, Level, Unit
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, Stage, leaves
from accelsim.ir.problem import bind as bound
from accelsim.load.cascade import cascade_from_text
from accelsim.models.estimate import estimate as price
from accelsim.models.turns import in_turn_s
from accelsim.sim.run import simulate as run_mapping
from tests.cli.test_app import answer, run
from tests.models.nests import _OPERATIONS, CASCADES


@pytest.mark.parametrize("seq", ["4K", "64K"])
@pytest.mark.parametrize("design", ["fusemax", "unfused"])
def test_where_all_stages_are_alike_it_is_the_latency(design: str, seq: str) -> None:
    found = estimate(design=design, model="BERT", seq=seq)
    assert found.in_turn_s == found.latency_s


def test_two_blocks_of_scores_overlap_and_one_does_not() -> None:
    """At 4K FLAT's buffer has room for two blocks."""
    for seq, over in (("4K", 1.0), ("64K", 1.3125)):
        found = estimate(design="flat", model="BERT", seq=seq)
        assert found.in_turn_s == pytest.approx(over * found.latency_s, rel=1e-9)


def test_av_of_a_head_is_done_within_one_step() -> None:
    """256 cycles of AV beside QK's and LM's 65: the step is 192 longer, once a head."""
    found = estimate(design="fusemax-architecture", model="BERT", seq="1K")
    assert found.in_turn_s is not None
    more = (found.in_turn_s - found.latency_s) * found.clock_hz
    assert more == pytest.approx(64 * 12 * 192, rel=1e-6)


def test_a_unit_does_all_its_einsums_at_the_pace_of_their_ports() -> None:
    """E reads 12 words at 1/4 a cycle, so it takes 48, beside 36 of S and 12 of D."""
    sizes = {"I": 8, "J": 3, "K": 3, "N": 4}

    def leaf(einsum: str, unit: str, parts: str) -> Leaf:
        return Leaf(einsum, unit, tuple(Loop(part, sizes[part]) for part in parts))

    units = (Unit("lanes", 1, 1, _OPERATIONS), Unit("grid", 1, 1, _OPERATIONS))
    levels = (Level("dram"), Level("buffer", read_bandwidth=0.25))
    arch = Architecture("small", 1.0, 1.0, levels, units)
    before = Node((), (), (leaf("S", "grid", "JNK"), leaf("G", "lanes", "JN")))
    after = tuple(leaf(e, u, "JN") for e, u in (("E", "grid"), ("D", "grid"), ("Z", "lanes")))
    tree = Node((Loop("I", 8),), (Hold("S", "buffer", copies=2),), (before, *after))
    parts = tuple((rank, (Loop(rank, n),)) for rank, n in sizes.items())
    stages = (Stage(("S", "G", "E", "D")), Stage(("Z",)))
    mapping = Mapping("m", (Group("g", tree, stages),), parts)
    problem = bound(CASCADES["softmax"], sizes)
    found = price(problem, arch, mapping)
    in_turn = in_turn_s(problem, arch, mapping, found)
    assert in_turn == 8 * (36 + 48 + 12 + 24)
    assert found.latency_s < in_turn <= run_mapping(problem, arch, mapping).cycles


def drawn(text: str, tree: Node, trips: dict[str, int]) -> tuple[float, float, float]:
    """Cycles of two units at one a point: with all overlap, step by step, simulated."""
    units = (Unit("lanes", 1, 1, _OPERATIONS), Unit("grid", 1, 1, _OPERATIONS))
    arch = Architecture("small", 1.0, 1.0, (Level("dram"), Level("buffer")), units)
    parts = tuple((rank, (Loop(rank, n),)) for rank, n in trips.items())
    stage = Stage(tuple(found.einsum for found in leaves(tree)))
    mapping = Mapping("m", (Group("g", tree, (stage,)),), parts)
    problem = bound(cascade_from_text(text), trips)
    found = price(problem, arch, mapping)
    in_turn = in_turn_s(problem, arch, mapping, found)
    return found.latency_s, in_turn, run_mapping(problem, arch, mapping).cycles


BESIDE = """
cascade: beside
ranks: [I, J]
inputs: {A: [I, J]}
output: W
einsums:
  - C[i,j] = A[i,j] * A[i,j]
  - T[i,j] = A[i,j] * A[i,j]
  - U[i,j] = C[i,j] * A[i,j]
  - W[i,j] = U[i,j] * T[i,j]
"""


def test_what_is_made_beside_a_tile_is_not_waited_for() -> None:
    """Only T and W are between the beginning and the end of a tile of T; C stands in its block."""
    loops = (Loop("J", 16),)
    block = Node((), (), (Leaf("C", "grid", loops), Leaf("T", "grid", loops)))
    held = (Hold("T", "buffer"), Hold("C", "buffer", copies=2), Hold("U", "buffer", copies=2))
    rest = (Leaf("U", "lanes", loops), Leaf("W", "lanes", loops))
    tree = Node((Loop("I", 96),), held, (block, *rest))
    overlapped, in_turn, simulated = drawn(BESIDE, tree, {"I": 96, "J": 16})
    assert overlapped == in_turn == 96 * 32
    assert in_turn <= simulated <= 1.02 * in_turn


STATE = """
cascade: state
ranks: [P, M, J, K]
inputs: {A: [P, M, J, K]}
output: Z
einsums:
  - S[p,0,j,k]   = 0
  - U[p,m,j,k]   = S[p,m,j,k] * A[p,m,j,k]
  - S[p,m+1,j,k] = U[p,m,j,k] + A[p,m,j,k]
  - Z[p,j,k]     = S[p,M,j,k] * S[p,M,j,k]
"""


def test_a_state_goes_from_unit_to_unit() -> None:
    """Each step of the recurrence waits for both units; the first of the next P for one of them."""
    trips = {"P": 3, "M": 30, "J": 4, "K": 8}
    one, other = (Loop("J", 4), Loop("K", 8)), (Loop("K", 8), Loop("J", 4))
    inner = (Leaf("U", "grid", one), Leaf("S", "lanes", other))
    steps = Node((Loop("M", 30),), (Hold("U", "buffer", copies=2),), inner)
    held = (Hold("S", "buffer", copies=2),)
    tree = Node((Loop("P", 3),), held, (steps, Leaf("Z", "grid", one)))
    overlapped, in_turn, simulated = drawn(STATE, tree, trips)
    assert overlapped == 3 * (30 + 1) * 32
    assert in_turn == 3 * (29 * 64 + 32)
    assert in_turn <= simulated <= 1.05 * in_turn


def test_it_lies_between_the_model_and_the_simulator() -> None:
    parts = {"design": "fusemax", "arch": "teaching", "shape": "B=2,H=2,E=8,F=8,M=32,P=16"}
    problem, machine, mapping = bind(**parts)
    found = estimate(**parts)
    turns = in_turn_s(problem, machine, mapping, found)
    seen = simulate(**parts)
    assert found.latency_s <= turns <= seen.simulation.latency_s
    assert seen.in_turn_cycles == pytest.approx(turns * machine.clock_hz)


def test_people_are_told_where_it_differs() -> None:
    told = "step by step, what is held once made and used in turn"
    asked = ("estimate", "--design", "flat", "--model", "BERT", "--seq")
    assert told in run(*asked, "64K")[0]
    assert told not in run(*asked, "4K")[0]
    assert answer(*asked, "64K")["in_turn_s"] > 1.3 * answer(*asked, "64K")["latency_s"]
