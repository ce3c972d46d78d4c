"""Stages of systems, what they are predicted to take, and where a prediction is only a bound."""

from __future__ import annotations

import csv
import io
from collections import Counter
from functools import cache
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.explore.estimate import estimate
from accelsim.explore.loads import load_of, scope_of
from accelsim.explore.predictions import HOW, on_array, on_gpu
from accelsim.explore.roofline import ARRAY, GPU
from accelsim.explore.stages import ORDER, joined, stages
from accelsim.explore.systems import system
from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.load import catalog
from accelsim.load.arch import load_architecture
from accelsim.load.gpu import load_gpu
from accelsim.load.source import from_text
from accelsim.load.system import load_system, system_from
from accelsim.models.staged import Extents, Stage, Step, price
from accelsim.models.staged_gpu import launch
from accelsim.report import systems as report
from tests.systems.test_systems import MINIMAL

NAMES = catalog.names("system")
LONG = 32768
PARTS = [
    pytest.param(name, phase, part, id=f"{name}-{phase.name}-{part.cascade}")
    for name in NAMES
    for phase in load_system(name).phases
    for part in (*phase.parts, phase.dense)
]


@cache
def predicted(name: str, length: str = "32K"):
    """The cells of a system at one length, each with its predictions by machine."""
    return [(c, {one.machine: one for one in c.predicted}) for c in system(name, [length]).cells]


# -- what is predicted -------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_system_has_both_phases_or_says_why_not(name: str) -> None:
    found = load_system(name)
    have = {phase.name for phase in found.phases}
    assert have | set(found.text.leaves) == {"prefill", "decode"}
    assert not have & set(found.text.leaves)


@pytest.mark.parametrize(("name", "phase", "part"), PARTS)
def test_every_part_has_a_kernel_or_says_why_it_has_none(name, phase, part) -> None:
    rest = {s.name for s in stages(part, scope_of(load_system(name), LONG), apart=True)}
    assert bool(part.kernels) + bool(part.bound) == (1 if "attention" in rest else 0)
    assert bool(part.bound) <= (part is not phase.dense)


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_is_no_faster_than_the_array_allows(name: str) -> None:
    for cell, by in predicted(name):
        one = by[ARRAY]
        assert one.how == "array"
        assert one.seconds >= cell.own.seconds[ARRAY] * (1 - 1e-9)
        assert one.seconds * one.speedup >= cell.dense.seconds[ARRAY] * (1 - 1e-9)
        assert one.joules > 0


@pytest.mark.parametrize("name", NAMES)
def test_only_a_bound_has_a_reason(name: str) -> None:
    for _, by in predicted(name):
        one = by[GPU]
        assert (one.how == "bound") == bool(one.why)
        assert one.dense_how == "kernel"
        assert all(s.seconds > 0 and s.joules > 0 for s in (*one.own, *one.dense))
        assert {s.how for s in one.own} <= set(HOW)


@pytest.mark.parametrize(("name", "phase", "part"), PARTS)
def test_stages_are_the_part_taken_apart(name, phase, part) -> None:
    """Every Einsum is in one stage; where all tiles are visited, operations add up."""
    scope = scope_of(load_system(name), LONG)
    whole, apart = stages(part, scope), stages(part, scope, apart=True)
    for found in (whole, apart):
        names = [step.name for s in found for step in s.steps]
        assert max(Counter(names).values()) == 1
        assert [s.name for s in found] == sorted((s.name for s in found), key=ORDER.index)
    assert sorted(s.name for x in whole for s in x.steps) == sorted(
        s.name for x in apart for s in x.steps
    )
    if part.visits is None and part.layers.value(scope) == 1:
        ops = sum(sum(s.ops.values()) for s in whole)
        assert ops == pytest.approx(load_of(part, scope).ops, rel=1e-9)


def test_dense_attention_agrees_with_the_published_accelerator() -> None:
    """Without a mapping within 4 % of FuseMax's own schedule, energy within 2 %."""
    found = load_system("fusemax")
    (phase,) = found.phases
    for length, word in ((4096, "4K"), (65536, "64K")):
        ours = on_array(ARRAY, phase.parts, phase.dense, scope_of(found, length))
        theirs = estimate(design="fusemax", model="BERT", seq=word)
        assert ours.seconds == pytest.approx(theirs.latency_s, rel=0.04)
        assert ours.seconds < theirs.latency_s
        assert ours.joules == pytest.approx(theirs.energy_j, rel=0.02)


def test_spatten_on_its_own_hardware() -> None:
    """Keys at 8.2 bits and 31 % of the values at 12, from memory that binds, at 8.3 W."""
    ((_, by),) = predicted("spatten")
    one = by["spatten"]
    (stage,) = one.own
    assert stage.bound_by == "dram"
    assert one.speedup == pytest.approx(32 / (8.236 + 0.31 * 12), rel=0.02)
    assert one.joules == pytest.approx(8.30 * one.seconds)
    assert stage.where["products_qk"] == ("QK",)


def test_what_is_chosen_costs_its_own_stages() -> None:
    ((_, by),) = predicted("sale")
    assert [s.name for s in by[ARRAY].own] == ["estimation", "selection", "attention"]
    names = {s.name: s.where.get("kernel") for s in by[GPU].own}
    assert names["estimation"] == ("score-estimation",)
    assert names["attention"] == ("attention-1pass-wgmma",)
    assert by[GPU].how == "one kernel"  # the quantisation before them


def test_a_share_of_the_layers_costs_its_share() -> None:
    ((_, by),) = predicted("delta")
    full = by[GPU].dense[0]
    shares = [s for s in by[GPU].own if s.name == "attention"]
    assert shares[0].seconds == pytest.approx(full.seconds * 3 / 28)
    assert shares[1].seconds == pytest.approx(full.seconds * 2 / 28)


def test_masks_that_lists_stand_for_are_not_moved() -> None:
    """SEA's mask is made where it is needed: nothing quadratic goes through memory."""
    found = load_system("sea")
    part = found.phases[0].parts[0]
    moved = [sum(map(sum, (s.moved for s in stages(part, scope_of(found, n))))) for n in
             (LONG, 2 * LONG)]  # fmt: skip
    assert moved[1] == pytest.approx(2 * moved[0], rel=0.01)


# -- a stage on machines -----------------------------------------------------------------------

MAC = (("mac", Operation(1.0)), ("add", Operation(1.0)))
SMALL = Architecture(
    "small", 1.0, 2.0, (Level("dram"), Level("buffer")),
    (Unit("array", 8, 8, MAC), Unit("lanes", 1, 8, MAC)),
)  # fmt: skip
sizes = st.integers(1, 40)


@given(sizes, sizes, sizes, sizes, st.tuples(st.booleans(), st.booleans()))
def test_a_product_takes_no_less_than_its_points(batch, rows, columns, depth, made) -> None:
    points = float(batch * rows * columns * depth)
    step = Step("S", points, {"mac": 1}, Extents(batch, rows, columns, depth, made))
    found = price(Stage("attention", (step,), {}, {}), SMALL)
    assert found.seconds >= points / 64 * (1 - 1e-9)
    assert found.seconds <= points / 8 * (1 + 1e-9)  # the lanes take one each a cycle


@pytest.mark.parametrize(
    ("extents", "cycles"),
    [
        (Extents(1, 16, 16, 5), 4 * 5),  # four tiles of 8 x 8, five steps each
        (Extents(1, 16, 2, 8), 2 * 8),  # a result of 16 x 2, or an operand of 8 x 8 loaded in 8
        (Extents(1, 16, 2, 8, (True, False)), 2 * 2),  # it is there: two columns stream by
        (Extents(4, 8, 3, 2, (True, False)), 3),  # four products of depth 2 side by side
    ],
)
def test_a_product_by_hand(extents: Extents, cycles: float) -> None:
    array = Architecture("a", 1.0, 2.0, SMALL.levels, SMALL.units[:1])
    points = extents.batch * extents.rows * extents.columns * extents.depth
    step = Step("S", points, {"mac": 1}, extents)
    assert price(Stage("s", (step,), {}, {}), array).seconds == cycles


def test_a_class_that_no_unit_has_is_refused() -> None:
    step = Step("X", 1.0, {"exp": 1})
    with pytest.raises(InputError, match="small has no unit for exp, which X needs"):
        price(Stage("s", (step,), {}, {}), SMALL)


def test_memory_binds_where_it_is_slower() -> None:
    arch = load_architecture(ARRAY)
    step = Step("X", 65536.0, {"add": 1})
    found = price(Stage("s", (step,), {"K": 1e9}, {"A": 1e9}), arch)
    assert found.bound_by == "dram"
    assert found.seconds == pytest.approx(2e9 / (400 * 2**30))


def test_a_bound_is_less_than_one_kernel() -> None:
    gpu = load_gpu(GPU)
    product = Step("S", 4096.0**3, {"mac": 1}, Extents(1, 4096, 4096, 4096))
    rest = Step("W", 4096.0**2, {"exp": 1, "add": 1})
    stage = Stage("attention", (product, rest), {"Q": 1e6}, {})
    alone, bound = launch(gpu, stage), launch(gpu, stage, bound=True)
    assert alone.cycles > bound.cycles
    assert bound.cycles == pytest.approx(2 * 4096.0**3 / (132 * dict(gpu.tensor)["wgmma.bf16"]))
    assert alone.operations["mma.bf16"] == bound.operations["wgmma.bf16"] == 2 * 4096.0**3


def test_few_rows_go_to_lanes_or_fill_an_instruction() -> None:
    """One query a key head: 16 rows of an instruction, or multiply-adds in lanes, if less."""
    gpu = load_gpu(GPU)
    step = Step("S", 1.0 * 4096 * 128, {"mac": 1}, Extents(1, 4096, 1, 128))
    found = launch(gpu, Stage("s", (step,), {}, {}))
    assert found.operations == {"mma.bf16": 2.0 * 4096 * 8 * 128}


def test_stages_run_together_keep_what_they_hand_on() -> None:
    first = Stage("a", (), {"K": 4.0}, {"I": 2.0})
    second = Stage("b", (), {"K": 4.0, "I": 2.0, "V": 1.0}, {"O": 1.0})
    found = joined((first, second), "pipeline")
    assert found.read_bytes == {"K": 4.0, "V": 1.0}
    assert found.write_bytes == {"O": 1.0}


# -- documents and tables ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("about: minimal", "about: minimal\nhardware: {arch: spaten, source: s}", "arch"),
        ("M: N}\n    d", "M: N}\n        around: [QX]\n    d", "no Einsum QX"),
        ("M: N}\n    d", "M: N}\n        units: {QX: [array_2d]}\n    d", "no Einsum QX"),
        (
            "M: N}\n    d",
            "M: N}\n        estimator: {name: score-estimatio, shape: {M: N}}\n    d",
            "unknown kernel 'score-estimatio'",
        ),
    ],
)
def test_what_is_wrong_has_its_place(old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    with pytest.raises(InputError) as caught:
        system_from(from_text(MINIMAL.replace(old, new, 1), "mine.yaml"))
    found = [str(f) for f in caught.value.faults]
    assert any(message in f and f.startswith("mine.yaml:") for f in found), found


def test_a_share_of_layers_is_at_most_one(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINIMAL.replace("M: N}\n    d", "M: N}\n        layers: 2\n    d", 1), "utf-8")
    with pytest.raises(InputError, match="layers is 2"):
        system(file, ["4K"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("P: N, M: N}\n    d", "P: N - 4096, M: N}\n    d", "P is 0"),
        (
            "M: N}\n    d",
            "M: N}\n        kernel: {name: decode-split, shape: {M: -N}}\n    d",
            "M is -4096",
        ),
        (
            "M: N}}\n",
            "M: N}}\nformats:\n  - {name: W, tensor: W, format: ofq-3, sizes: {channels: 0.5}}\n",
            "size channels is 0.5",
        ),
    ],
)
def test_sizes_below_one_are_refused_at_their_place(tmp_path, old, new, message) -> None:
    assert old in MINIMAL
    file = tmp_path / "mine.yaml"
    file.write_text(MINIMAL.replace(old, new, 1), "utf-8")
    with pytest.raises(InputError, match=message) as caught:
        system(file, ["4K"])
    assert caught.value.faults[0].place.line > 1


def test_tables_mark_what_is_a_bound() -> None:
    names = ("zipvl", "sale", "s2-attention", "spatten")
    rows = [system(name, ["4K", "32K"]).to_dict() for name in names]
    lines = list(csv.DictReader(io.StringIO(report.csv_text({"systems": rows}))))
    assert {line["machine"] for line in lines} == {ARRAY, GPU, "spatten"}
    how = {(line["name"], line["phase"]): line["how"] for line in lines if line["machine"] == GPU}
    assert how["zipvl", "decode"] == how["spatten", "decode"] == "bound"
    assert how["sale", "prefill"] == "one kernel"
    assert how["s2-attention", "prefill"] == "kernel"
    for line in lines:
        ratio = float(line["dense_predicted_s"]) / float(line["predicted_s"])
        assert float(line["predicted_speedup"]) == pytest.approx(ratio)
    (table,) = [t for t in report.systems({"systems": rows, "absent": [], "wanted": 40})
                if str(getattr(t, "title", "")).startswith("Predicted")]  # fmt: skip
    cells = list(chain(*(column.cells for column in table.columns)))
    assert sum(str(c).startswith("< ") for c in cells) == 2
    assert sum(str(c).startswith("~ ") for c in cells) == 2


def test_heads_wider_than_a_block_of_the_merge_are_priced() -> None:
    from accelsim.explore.estimate_gpu import estimate_kernel

    wide = estimate_kernel("decode-split", arch=GPU, shape="B=1,H=1,HK=1,M=65536,E=1024")
    assert wide.latency_s > 0


def test_gpu_predictions_take_the_described_kernels_at_their_word() -> None:
    from accelsim.explore.estimate_gpu import estimate_kernel

    found = load_system("s2-attention")
    (phase,) = found.phases
    one = on_gpu(GPU, phase.parts, phase.dense, scope_of(found, LONG))
    shape = f"B=1,H=32,P={LONG},M={LONG},E=128,F=128"
    sets = ["causal=true"]
    dense = estimate_kernel("attention-1pass-wgmma", arch=GPU, shape=shape, sets=sets)
    assert one.seconds * one.speedup == pytest.approx(dense.latency_s)
