"""``map`` against published mappings, a peer's optima and the witness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from accelsim.errors import InputError
from accelsim.explore.canonical import yaml_text
from accelsim.explore.estimate import bind, estimate
from accelsim.explore.map import map_, pareto, task_for
from accelsim.explore.mapped import Mapped, best, doubled
from accelsim.explore.simulate import simulate as witness
from accelsim.explore.witness import misplaced, witnessed
from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.ir.mapping import short_ranks
from accelsim.load.cascade import cascade_from_text, load_cascade
from accelsim.mapper.fuse import fuse
from accelsim.mapper.goal import Goal
from accelsim.mapper.plan import bound_mapping, document
from accelsim.mapper.space import Space, Task, Wishes
from accelsim.models.estimate import estimate as price
from accelsim.report.plan import nest
from accelsim.sim.run import simulate

MODELS = ("BERT", "TrXL", "T5-small", "XLM")
LENGTHS = ("1K", "4K", "16K", "64K", "256K", "1M")
FUSEMAX = [("BERT", "1K"), ("T5-small", "4K")]
FLAT = [("flat-cloud", "BERT", "4K"), ("flat-cloud", "XLM", "1K"), ("flat-edge", "BERT", "512")]
EVERY_FLAT = [
    *(("flat-cloud", m, s) for m in ("BERT", "XLM") for s in ("16K", "64K", "256K", "1M")),
    *(("flat-edge", "BERT", s) for s in ("1K", "2K", "4K", "8K", "64K")),
]


def no_slower(tmp_path: Path, cascade: str, arch: str, design: str, model: str, seq: str) -> None:
    """The found mapping, written and read back, is no slower than a design's, by both judges."""
    found = map_(cascade, arch=arch, model=model, seq=seq)
    file = tmp_path / "found.yaml"
    file.write_text(found.yaml(), encoding="utf-8")
    ours = bind(cascade, arch=arch, mapping=file, model=model, seq=seq)
    theirs = bind(design=design, arch=arch, model=model, seq=seq)
    back = price(*ours)
    assert back.latency_s == found.estimate.latency_s
    assert back.energy_j == found.estimate.energy_j
    assert back.traffic_bytes == found.estimate.traffic_bytes
    assert found.lower_bound <= back.latency_s * (1 + 1e-9)
    assert back.latency_s <= price(*theirs).latency_s * (1 + 1e-9)
    seen = simulate(*ours).cycles
    assert back.latency_s * ours[1].clock_hz <= seen * (1 + 1e-9)
    assert seen <= simulate(*theirs).cycles


@pytest.mark.parametrize("objective", ["energy", "latency", "edp"])
def test_a_mapping_with_short_tiles_is_read_back_and_simulated(
    tmp_path: Path, objective: str
) -> None:
    """A prime has no perfect tile but rows and the whole."""
    shape = "M=37,N=41,K=53"
    found = map_("matmul", arch="teaching", shape=shape, objective=objective)
    assert short_ranks(found.mapping, found.problem.extent)
    file = tmp_path / "found.yaml"
    file.write_text(found.yaml(), encoding="utf-8")
    assert "imperfect: [" in found.yaml()
    ours = bind("matmul", arch="teaching", mapping=file, shape=shape)
    back = price(*ours)
    assert back.latency_s == found.estimate.latency_s
    assert back.energy_j == found.estimate.energy_j
    assert back.traffic_bytes == found.estimate.traffic_bytes
    choice = found.result.choices[0]
    assert choice.energy_j == pytest.approx(back.energy_j, rel=1e-12)
    assert found.lower_bound <= found.value * (1 + 1e-9)
    seen = witness("matmul", arch="teaching", mapping=file, shape=shape, execute=True)
    assert seen.holds
    tiles = [h["tile"] for n in found.to_dict()["nest"][0]["nest"]["inside"] for h in n["holds"]]
    assert all(n <= {"M": 37, "N": 41, "K": 53}[r] for tile in tiles for r, n in tile)


@pytest.mark.parametrize(
    ("cascade", "shape", "tiles", "objective"),
    [
        ("attention-3pass", "B=1,H=2,E=8,F=8,M=37,P=41", {}, "energy"),
        ("attention-3pass", "B=1,H=1,E=8,F=8,M=8,P=41", {"P0": 12}, "energy"),
        ("attention-1pass", "B=1,H=1,E=8,F=8,M=16,P=41", {}, "energy"),
        ("attention-1pass", "B=1,H=1,E=8,F=8,M=61,P=4,M0=16", {}, "energy"),
        ("attention-1pass", "B=1,H=1,E=8,F=8,M=59,P=4", {"M0": 12}, "energy"),
        ("attention-causal-1pass", "B=1,H=1,E=4,F=4,M=37,P=37", {"M0": 8}, "energy"),
    ],
)
def test_fused_short_tiles_are_read_back_simulated_and_executed(
    tmp_path: Path, cascade: str, shape: str, tiles: dict[str, int], objective: str
) -> None:
    found = map_(cascade, arch="teaching", shape=shape, tiles=tiles, objective=objective)
    rows = found.to_dict()["nest"]
    assert any(group["short"] for group in rows)
    file = tmp_path / "found.yaml"
    file.write_text(found.yaml(), encoding="utf-8")
    back = price(*bind(cascade, arch="teaching", mapping=file, shape=shape))
    assert back.latency_s == found.estimate.latency_s
    assert back.energy_j == found.estimate.energy_j
    assert back.traffic_bytes == found.estimate.traffic_bytes
    assert found.lower_bound <= found.value * (1 + 1e-9)
    seen = witness(cascade, arch="teaching", mapping=file, shape=shape, execute=True)
    assert seen.holds
    for part, n in tiles.items():
        assert any(c.trips.get(part) == n for c in found.result.choices)
    told = [line for group in rows for line in nest(group).splitlines() if "is short" in line]
    assert len(told) == sum(len(group["short"]) for group in rows)


def test_sizes_of_parts_may_be_given() -> None:
    asked = {"arch": "teaching", "shape": "B=1,H=1,P=4,E=2,F=2,M1=4,M0=4"}
    assert task_for("attention-1pass", **asked)[0].sizes["M"] == 16
    asked["shape"] = "B=1,H=1,P=4,E=2,F=2,M=17,M0=4"
    with pytest.raises(InputError, match="M = 17 does not split with M0=4") as caught:
        map_("attention-1pass", **asked)
    allowed = "tiles of which the last is cut wherever the others are, longer than 1 and than every"
    assert caught.value.faults[0].allowed.startswith(allowed)


@pytest.mark.long
def test_a_prime_number_of_keys_costs_no_more_than_a_round_one() -> None:
    """With perfect tiles of one key or of all it took 12 times as long."""
    prime, more = (
        map_("attention-1pass", arch="fusemax-cloud", shape=f"B=1,H=12,P=4096,M={m},E=64,F=64")
        for m in (1000003, 1003520)  # 245 tiles of 4096
    )
    assert prime.task.sizes["M"] < prime.problem.extent("M1") * prime.problem.extent("M0")
    assert prime.value <= more.value
    assert prime.simulated_s == pytest.approx(prime.value, rel=1e-3)


@pytest.mark.parametrize(("model", "seq"), FUSEMAX)
def test_at_least_as_fast_as_fusemax(tmp_path: Path, model: str, seq: str) -> None:
    no_slower(tmp_path, "attention-1pass", "fusemax-cloud", "fusemax", model, seq)


@pytest.mark.long
@pytest.mark.parametrize("seq", LENGTHS)
@pytest.mark.parametrize("model", MODELS)
def test_at_least_as_fast_as_fusemax_everywhere(tmp_path: Path, model: str, seq: str) -> None:
    no_slower(tmp_path, "attention-1pass", "fusemax-cloud", "fusemax", model, seq)


@pytest.mark.parametrize("seq", ["64K", "256K"])
def test_no_slower_than_flat_in_simulation(tmp_path: Path, seq: str) -> None:
    no_slower(tmp_path, "attention-3pass", "flat-cloud", "flat", "BERT", seq)


@pytest.mark.long
@pytest.mark.parametrize(
    ("arch", "model", "seq"),
    [
        *(("flat-cloud", m, s) for m in ("BERT", "XLM") for s in ("256K", "512K", "1M")),
        *(("flat-edge", "BERT", s) for s in ("2K", "4K", "8K", "64K")),
    ],
)
def test_no_slower_than_flat_in_simulation_where_scores_do_not_fit(
    tmp_path: Path, arch: str, model: str, seq: str
) -> None:
    no_slower(tmp_path, "attention-3pass", arch, "flat", model, seq)


@pytest.mark.parametrize(("arch", "model", "seq"), FLAT)
def test_no_worse_than_flat(arch: str, model: str, seq: str) -> None:
    found = map_("attention-3pass", arch=arch, model=model, seq=seq)
    theirs = estimate(design="flat", arch=arch, model=model, seq=seq)
    assert found.value <= theirs.latency_s * (1 + 1e-9)


@pytest.mark.long
@pytest.mark.parametrize(("arch", "model", "seq"), EVERY_FLAT)
def test_no_worse_than_flat_everywhere(arch: str, model: str, seq: str) -> None:
    found = map_("attention-3pass", arch=arch, model=model, seq=seq)
    theirs = estimate(design="flat", arch=arch, model=model, seq=seq)
    assert found.value <= theirs.latency_s * (1 + 1e-9)


def test_where_and_why_it_is_faster() -> None:
    found = map_("attention-1pass", arch="fusemax-cloud", model="BERT", seq="1K")
    (row,) = [r for r in found.beside if r["design"] == "fusemax"]
    assert row["speedup"] > 1.12
    theirs, ours = row["busy_s"]["array_1d"]
    assert theirs == pytest.approx(row["latency_s"])  # the 1-D array binds the published schedule
    assert ours < theirs / 2
    assert found.estimate.bound_by == "array_2d"
    assert found.claim == "optimal: no mapping is below the lower bound"
    assert found.unstated.keys() == {"buffer"}


def test_the_peers_matmul_has_the_peers_optimum() -> None:
    """AccelForge 1.0.467 finds 14.2265 mJ and 0.99864 ms for the weight-stationary array."""
    found = map_(
        "matmul",
        arch="tpu-v4i",
        shape="M=4096,N=4096,K=4096",
        objective="energy",
        spreads={"C": ("K", "N")},
        buffers=1,
        gap=0.0,
    )
    assert found.estimate.energy_j == pytest.approx(14.2265e-3, rel=1e-5)
    assert found.estimate.latency_s == pytest.approx(0.99864e-3, rel=1e-5)
    assert found.claim == "the best of the mapspace, shown"


CORE = """\
cascade: attention-core
ranks: [H, P, M, E, F]
inputs: {Q: [H, P, E], K: [H, M, E], V: [H, M, F]}
output: AV
einsums:
  - QK[h,m,p] = Q[h,p,e] * K[h,m,e]
  - S[h,m,p]  = exp(QK[h,m,p])
  - AV[h,p,f] = S[h,m,p] * V[h,m,f]
"""


def test_the_peers_attention_core_is_beaten_and_proved() -> None:
    """AccelForge finds 28.564 mJ: there intermediates have to pass through the global buffer."""
    task, _ = task_for("matmul", arch="tpu-v4i", shape="M=2,N=2,K=2")
    wishes = Wishes(buffers=1, spreads={"QK": ("E", "M"), "AV": ("M", "F")})
    sizes = {"H": 32, "P": 2048, "M": 2048, "E": 128, "F": 128}
    core = Task(cascade_from_text(CORE), sizes, task.arch, wishes)
    found = fuse(core, Goal("energy"))
    assert found.shown
    assert found.energy_j < 28.564e-3
    mapping = bound_mapping(found.choices, "core")
    assert price(core.problem({}), core.arch, mapping).energy_j == pytest.approx(found.energy_j)


def traffic(words: float) -> float:
    """The least words to and from memory of a written-out softmax, by what fits on chip."""
    operations = tuple((w, Operation(1.0, 0.0)) for w in ("add", "max", "exp", "div"))
    levels = Level("memory", read_energy_j=1.0, write_energy_j=1.0), Level("chip", words)
    machine = Architecture("m", 1.0, 1.0, levels, (Unit("u", 1, 1, operations),))
    task = Task(load_cascade("softmax"), {"B": 3, "M": 8}, machine, Wishes(buffers=1))
    return fuse(task, Goal("energy")).energy_j


def test_a_written_out_softmax_waits_for_its_sums() -> None:
    """With room for a row each element comes and goes once; else its rows pass three times.

    With little room the maximum reads the row, the exponential reads and writes it, and the
    division reads and writes it: five words an element where nothing is computed twice.
    """
    elements = 3 * 8
    assert traffic(3.0) == 5 * elements
    assert traffic(64.0) == 2 * elements
    curve = [traffic(words) for words in (3.0, 6.0, 10.0, 12.0, 64.0)]
    assert curve == sorted(curve, reverse=True)
    assert traffic(6.0) > 2 * elements  # a row of eight does not fit


def test_growing_names_each_resource_once() -> None:
    found = map_("matmul", arch="teaching", shape="M=8,N=8,K=8")
    names = [name for name, _ in doubled(found.task.arch)]
    assert len(names) == len(set(names))
    assert {row["resource"] for row in found.grown} <= set(names)
    assert all(row["gain"] > 1 for row in found.grown)
    assert found.grown[0]["resource"] == "array_2d columns"


def test_a_stopped_search_gives_the_best_so_far() -> None:
    calls = []

    def stop(group: str, done: int, of: int) -> None:
        calls.append((group, done, of))
        if len(calls) == 3:
            raise KeyboardInterrupt

    shape = "B=1,H=1,M=8,P=8,E=4,F=4"
    found = map_("attention-3pass", arch="teaching", shape=shape, objective="edp", progress=stop)
    assert found.result.stopped
    told, simulated = found.claim.split("; ")
    assert told == "the best found before the search was stopped"
    assert simulated.startswith("by the model: the simulator takes ")
    assert found.estimate.latency_s > 0


def test_the_front_starts_with_the_fastest_and_ends_with_the_leanest() -> None:
    found = pareto("matmul", arch="teaching", shape="M=4,N=4,K=2").mapped
    rooms = [m.estimate.peak_bytes["buffer"] for m in found]
    assert found[0].estimate.latency_s == min(m.estimate.latency_s for m in found)
    assert min(rooms) < max(rooms)


def test_einsums_that_another_unit_does_much_faster() -> None:
    shape = "B=1,H=1,M=8,P=8,E=4,F=4"
    task, _ = task_for("attention-3pass", arch="teaching", shape=shape, units={"QK": "array_1d"})
    (choice,) = best(task, "latency").result.choices
    assert misplaced(choice) == ()  # a wish is not undone
    free, _ = task_for("attention-3pass", arch="teaching", shape=shape)
    space = replace(choice, space=Space(free, choice.space.frame))
    assert ("QK", "array_2d") in misplaced(space)


def stalling(monkeypatch: pytest.MonkeyPatch) -> Mapped:
    """A found mapping which, as all that are found, takes twice as long in simulation."""
    task, said = task_for("attention-3pass", arch="flat-edge", model="BERT", seq="512")
    found = best(task, "latency", workload=said)

    def seconds(tried: Mapped) -> float:
        return tried.estimate.latency_s * (1 if tried.design else 2)

    monkeypatch.setattr("accelsim.explore.witness.simulated", seconds)
    monkeypatch.setattr("accelsim.explore.witness._searched", lambda *_: ())
    return found


def test_a_shipped_design_is_taken_where_it_is_faster_in_simulation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = stalling(monkeypatch)
    taken = witnessed(found, gap=1e-3)
    flat = bind(design="flat", arch="flat-edge", model="BERT", seq="512")
    assert taken.design == "flat"
    assert taken.estimate.latency_s == price(*flat).latency_s < 2 * found.estimate.latency_s
    assert taken.set_aside is not None
    assert taken.lower_bound == found.lower_bound
    told = taken.to_dict()
    assert told["design"] == "flat"
    assert told["claim"].endswith("; the mapping of the design flat")
    assert "stalls in simulation" in told["claim"]


def test_wishes_leave_designs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = stalling(monkeypatch)
    wished = replace(found, task=replace(found.task, wishes=Wishes(buffers=1)))
    taken = witnessed(wished, gap=1e-3)
    assert not taken.design
    assert taken.simulated_above == pytest.approx(1.0)
    assert taken.claim.endswith("; by the model: the simulator takes 100.0% longer")


@pytest.mark.parametrize(
    ("design", "arch", "seq"),
    [("flat", "flat-cloud", "4K"), ("flat", "flat-edge", "64K"), ("fusemax", "fusemax-cloud", "1K"),
     ("fusemax-architecture", "fusemax-cloud", "4K"), ("unfused", "flat-cloud", "1K")],
)  # fmt: skip
def test_a_designs_mapping_is_read_back(tmp_path: Path, design: str, arch: str, seq: str) -> None:
    """With what spills, what only passes through, and stalls that are named."""
    problem, machine, mapping = bind(design=design, arch=arch, model="BERT", seq=seq)
    file = tmp_path / "design.yaml"
    file.write_text(yaml_text(document(mapping, problem)), encoding="utf-8")
    back = bind(problem.cascade.name, arch=arch, mapping=file, model="BERT", seq=seq)
    one, other = price(problem, machine, mapping), price(*back)
    assert one.latency_s == other.latency_s
    assert one.energy_j == other.energy_j
    assert simulate(problem, machine, mapping).cycles == simulate(*back).cycles


@pytest.mark.long
def test_a_mapping_that_stalls_in_simulation_is_set_aside() -> None:
    found = map_("attention-1pass", arch="fusemax-cloud", model="XLM", seq="4K")
    assert found.set_aside is not None
    assert found.simulated_s is not None
    assert found.set_aside.simulated_s is not None
    assert found.value > found.set_aside.value
    assert found.simulated_s < found.set_aside.simulated_s
    assert "stalls in simulation" in found.claim
    assert found.simulated_s <= 1.02 * found.value
