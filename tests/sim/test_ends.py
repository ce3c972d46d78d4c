"""Splits of a cascade's own whose last tile is short, in the simulator: bytes, bounds, tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.explore.estimate import estimate
from accelsim.explore.simulate import simulate
from accelsim.ir.arch import Architecture, Level, Unit
from accelsim.ir.mapping import Group, Leaf, Loop, Mapping, Node, Stage
from accelsim.ir.problem import bind
from accelsim.load import catalog
from accelsim.load.cascade import cascade_from_text
from accelsim.sim import nest
from tests.models.nests import _OPERATIONS, Case
from tests.models.test_ends import shorter
from tests.sim.cases import timed
from tests.sim.test_random import bounded, executed, replayed

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@pytest.mark.parametrize(
    ("holds", "most", "points"),
    [(bounded, 5, 2000), (replayed, 4, 300), (executed, 4, 300)],
    ids=["bounds, bytes and shortcut", "bytes of the replay", "tensors"],
)
@pytest.mark.parametrize("examples", [6, pytest.param(100, marks=pytest.mark.long)])
def test_short_tiles(
    holds: Callable[[Case], None],
    most: int,
    points: int,
    examples: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @settings(max_examples=examples, **QUIET)
    @given(timed(("running",), most, points).flatmap(shorter), st.sampled_from((1, 16, 256)))
    def check(case: Case, shortest: int) -> None:
        monkeypatch.setattr(nest, "SHORTEST_STEP", shortest)
        holds(case)

    check()


@pytest.mark.parametrize("size", [9, 10, 11, 12, 3])
def test_fusemax_of_any_length(size: int, tmp_path: Path) -> None:
    """FuseMax's mapping with keys that are no multiple of the array's rows, and its tensors."""
    text = catalog.find("mapping", "fusemax").read_text(encoding="utf-8")
    text = text.replace("M1: M / M0", "M1: ceil_div(M, M0)")
    text = text.replace("split: ", "imperfect: [M]\nsplit: ")
    file = tmp_path / "short.yaml"
    file.write_text(text, encoding="utf-8")
    shape = {"B": 2, "H": 1, "P": 8, "M": size, "E": 3, "F": 5}
    sets = ("array_2d.rows=4", "array_2d.cols=4", "array_1d.cols=4")
    asked: dict[str, Any] = {"arch": "fusemax-cloud", "mapping": file, "shape": shape, "sets": sets}
    priced = estimate("attention-1pass", **asked)
    transfers = priced.groups[0].transfers
    moved = {t.tensor: t.reads for t in transfers if t.level == "dram" and t.reads}
    assert moved == {"Q": 2 * 8 * 3, "K": 2 * size * 3, "V": 2 * size * 5}
    busy = {b.einsum: (b.cycles, b.useful_cycles) for b in priced.groups[0].busy}
    tiles = -(-size // 4)
    assert busy["QK"] == (2 * 2 * tiles * 3, 2 * 8 * size * 3 / 16)  # rows of the last are idle
    assert busy["RM"][0] == 2 * 2 * tiles
    ran = simulate("attention-1pass", execute=True, **asked)
    assert ran.holds
    assert ran.max_rel_error is not None
    assert ran.max_rel_error <= 1e-9
    assert ran.simulation.total("reads") == priced.read_bytes


HANDED_ON = """
cascade: handed-on
ranks: [M, F]
inputs: {X: [M, F]}
output: Z
split: {M: [M1, M0]}
einsums:
  - W[0,f]    = 1
  - U[m1,f]   = W[m1,f] * W[m1,f]
  - T[m1,f]   = X[m1,m0,f] :: sum(m0)
  - W[m1+1,f] = U[m1,f] + T[m1,f]
  - Z[f]      = W[M1,f] * W[M1,f]
"""


@pytest.mark.parametrize("beside", ["U", "W"])
@pytest.mark.parametrize("size", [5, 6])
def test_a_state_that_one_beside_the_steps_reads_or_writes(size: int, beside: str) -> None:
    """U reads the state before all steps of a tile of M, or W writes it after all of them.

    What U makes comes to W by way of the backing level: it has no step to spare for that.
    """
    units = (Unit("lanes", 1, 1, _OPERATIONS), Unit("grid", 1, 1, _OPERATIONS))
    arch = Architecture("small", 1.0, 1.0, (Level("dram", bandwidth=64.0), Level("buffer")), units)
    tiles, tile, f = Loop("M1", 3), Loop("M0", 2), Loop("F", 8)
    own, alone = Leaf("T", "lanes", (tile,)), Leaf(beside, "lanes", (f,))
    steps = Node((f,), (), (own, Leaf("W" if beside == "U" else "U", "grid")))
    each = Node((tiles,), (), (alone, steps) if beside == "U" else (steps, alone))
    tree = Node((), (), (each, Leaf("Z", "lanes", (f,))))
    parts = (("M1", (tiles,)), ("M0", (tile,)), ("F", (f,)))
    mapping = Mapping("m", (Group("g", tree, (Stage(("U", "T", "W", "Z")),)),), parts)
    sizes = {"M": size, "M1": 3, "M0": 2, "F": 8}
    problem = bind(cascade_from_text(HANDED_ON), sizes, imperfect=("M",))
    bounded(Case(problem, arch, mapping))
    executed(Case(problem, arch, mapping))
