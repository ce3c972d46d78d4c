"""The verb ``simulate``: the witness beside the model, on designs, found mappings and bad input."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import accelsim
from accelsim.errors import InputError
from accelsim.explore.map import map_
from accelsim.explore.simulate import simulate

SMALL = "B=2,H=3,P=16,M=16,E=4,F=4"
LINEAR = "B=2,H=2,P=8,M=8,E=4,F=4,D=8,S=16"
DESIGNS = ["fusemax", "fusemax-architecture", "fusemax-cascade", "flat", "unfused"]


def test_the_verb_is_the_packages() -> None:
    found = accelsim.simulate(design="fusemax", model="BERT", seq="1K").to_dict()
    assert {"cycles", "traffic_bytes", "peak_bytes", "stalls", "latency_s"} <= found.keys()
    assert found["holds"]
    assert found["estimate_cycles"] <= found["cycles"]
    assert found["cycles"] == found["compute_cycles"] + sum(found["stalls"].values())
    for unit, busy in found["busy_cycles"].items():
        assert found["cycles"] == busy + sum(found["idle_cycles"][unit].values())


@pytest.mark.parametrize("design", DESIGNS)
def test_executed_tensors_equal_the_interpreter(design: str) -> None:
    found = simulate(design=design, arch="teaching", shape=SMALL, execute=True)
    assert found.max_rel_error is not None
    assert found.max_rel_error < 1e-12
    assert found.holds
    plain = simulate(design=design, arch="teaching", shape=SMALL)
    assert found.cycles == plain.cycles
    assert plain.max_rel_error is None


def test_executed_layers_equal_the_interpreter() -> None:
    found = simulate(design="linear-layers", arch="teaching", shape=LINEAR, execute=True)
    assert found.max_rel_error is not None
    assert found.max_rel_error < 1e-12


def test_an_einsum_that_costs_nothing_is_executed(tmp_path: Path) -> None:
    """A copy behind a loop takes no cycle of its unit, and its tensor is there all the same."""
    mapping = """
mapping: flash-attention-1-test
source: a test
cascade: flash-attention-1
let: {M0: 4, M1: 2, P0: 4, P1: 1}
groups:
- group: all
  nest:
    for: [B, H]
    hold: {buffer: [RM, O, Q, L]}
    do:
    - for: [M1]
      hold: {registers: [S, PV, RM, PT, ON, PS, SM, CO, L, OC, CN, LC]}
      do:
      - {einsum: S, unit: array_2d, rows: [M0], cols: [P0], for: [E, P1]}
      - {einsum: SM, unit: array_2d, rows: [M0], cols: [P0], for: [P1]}
      - {einsum: PT, unit: array_2d, rows: [M0], cols: [P0], for: [P1]}
      - {einsum: PS, unit: array_2d, rows: [M0], cols: [P0], for: [P1]}
      - {einsum: PV, unit: array_2d, rows: [M0], cols: [P0], for: [P1, F]}
      - {einsum: RM, unit: array_1d, cols: [P0], for: [P1]}
      - {einsum: CO, unit: array_1d, cols: [P0], for: [P1]}
      - {einsum: CN, unit: array_1d, cols: [P0], for: [P1]}
      - {einsum: LC, unit: array_1d, cols: [P0], for: [P1]}
      - {einsum: L, unit: array_1d, cols: [P0], for: [P1]}
      - {einsum: OC, unit: array_1d, cols: [P0], for: [P1, F]}
      - {einsum: ON, unit: array_1d, cols: [P0], for: [P1, F]}
      - {einsum: O, unit: array_1d, cols: [P0], for: [P1, F]}
    - {einsum: AV, unit: array_2d, rows: [F], cols: [P0], for: [P1]}
  schedule:
  - {run: [S, SM, RM, PT, PS, PV, CO, LC, OC, CN, ON, L, O]}
  - {run: [AV]}
"""
    file = tmp_path / "mapping.yaml"
    file.write_text(mapping, encoding="utf-8")
    shape = {"B": 1, "H": 1, "P": 4, "M": 8, "E": 2, "F": 2, "M0": 4}
    found = simulate("flash-attention-1", arch="teaching", mapping=file, shape=shape, execute=True)
    assert found.max_rel_error == pytest.approx(0, abs=1e-12)


def test_too_much_to_execute_is_refused() -> None:
    with pytest.raises(InputError, match="points are too many to execute one tile after the other"):
        simulate(design="fusemax", model="BERT", seq="64K", execute=True)


def test_a_mapping_that_does_not_fit_is_refused_as_by_estimate() -> None:
    asked: dict[str, Any] = {"design": "fusemax", "model": "BERT", "seq": "4K"}
    asked["sets"] = ("buffer.capacity=64KiB",)
    told = []
    for verb in (accelsim.estimate, accelsim.simulate):
        with pytest.raises(InputError) as caught:
            verb(**asked)
        told.append(str(caught.value))
    assert "more than" in told[0]
    assert told[1] == told[0]


def test_parts_that_are_missing_are_named() -> None:
    with pytest.raises(InputError, match="simulate needs arch and mapping"):
        simulate("attention-1pass", model="BERT", seq="4K")


def test_a_found_mapping_is_simulated(tmp_path: Path) -> None:
    """What ``map`` writes is what ``simulate`` reads, and FuseMax is not faster there either."""
    found = map_("attention-1pass", arch="fusemax-cloud", model="BERT", seq="1K")
    file = tmp_path / "found.yaml"
    file.write_text(found.yaml(), encoding="utf-8")
    ours = simulate("attention-1pass", arch="fusemax-cloud", mapping=file, model="BERT", seq="1K")
    theirs = simulate(design="fusemax", model="BERT", seq="1K")
    assert ours.holds
    assert ours.cycles <= theirs.cycles


def test_the_trace_shows_units_ports_and_stages(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    found = simulate(design="fusemax", arch="teaching", shape=SMALL, full=True, trace=file)
    trace = json.loads(file.read_text(encoding="utf-8"))
    events = trace["traceEvents"]
    named = {e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert named == {"schedule", "units", "ports", "room"}
    track = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {"array_2d", "array_1d", "dram", "stages", "groups"} <= set(track.values())
    spans: dict[str, list[tuple[float, float, str]]] = {}
    for e in events:
        assert e["ph"] in ("M", "X", "C")
        if e["ph"] == "X":
            assert e["dur"] >= 0
            assert e["ts"] >= 0
            spans.setdefault(track[e["tid"]], []).append((e["ts"], e["ts"] + e["dur"], e["name"]))
    cycle_us = 1e6 / trace["otherData"]["clock_hz"]
    for name in ("array_2d", "array_1d", "dram"):
        ordered = sorted(spans[name])
        assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(ordered))
    for unit, busy in found.to_dict()["busy_cycles"].items():
        assert sum(end - start for start, end, _ in spans[unit]) >= busy * cycle_us * (1 - 1e-9)
    assert {name for _, _, name in spans["stages"]} == {f"stage {n}" for n in (1, 2, 3, 4)}
    assert trace["otherData"]["events_dropped"] == 0


def test_repeats_are_marked_in_the_trace(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    simulate(design="fusemax", model="BERT", seq="4K", trace=file)
    events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    assert any("iterations" in e["args"] for e in events)
