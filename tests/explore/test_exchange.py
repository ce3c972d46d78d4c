"""Import of TeAAL, AccelForge and Timeloop documents, and export to AccelForge."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from accelsim.errors import InputError
from accelsim.explore.estimate import estimate
from accelsim.explore.exchange import import_
from accelsim.explore.export import export
from accelsim.explore.map import map_
from accelsim.ir.problem import bind
from accelsim.ir.reference import random_inputs, run
from accelsim.load.arch import load_architecture
from accelsim.load.cascade import load_cascade

TEAAL = """
einsum:
  declaration: {A: [K, M], B: [K, N], T: [M, N], V: [W], S: [S], Z: [M, Q]}
  expressions:
    - T[m, n] = A[k, m] * B[k, n]
    - Z[m, q] = T[m, n] * V[q + s] * S[s]
mapping: {loop-order: {T: [M, N, K]}}
"""
FORGE = """
workload:
  rank_sizes: {M: 8, P: 8, E: 4, F: 4}
  bits_per_value: {All: 8}
  einsums:
  - "QK[m, p] = Q[m, e] * K[M: p, e]"
  - {einsum: "S(out)[m, p] = copy(QK(input)[m, p])"}
  - name: AV
    tensor_accesses:
    - {name: S, projection: [m, p]}
    - {name: V, projection: {M: p, F: f}}
    - {name: AV, projection: [m, f], output: true}
"""
LOOP = """
problem:
  shape:
    dimensions: [C, K, R, P, N]
    coefficients: [{name: stride, default: 1}]
    data-spaces:
    - {name: W, projection: [[[C]], [[K]], [[R]]]}
    - {name: I, projection: [[[N]], [[C]], [[R], [P, stride]]]}
    - {name: O, projection: [[[N]], [[K]], [[P]]], read-write: true}
  instance: {C: 3, K: 4, R: 3, P: 6, N: 2, stride: 2}
"""
ARCH = """
arch:
  nodes:
  - !Memory
    name: MainMemory
    size: inf
    actions:
    - {name: read, energy: 7.03e-12, latency: 1 / (8 * 614e9)}
    - {name: write, energy: 7.03e-12, latency: 1 / (8 * 614e9)}
    tensors: {keep: ~Intermediates}
  - !Memory
    name: LocalBuffer
    spatial: [{name: Z, fanout: 4, may_reuse: Nothing}]
    size: 1024*1024*4*8
    area: 50e-6
    actions: [{name: read, energy: 0.249e-12}, {name: write, energy: 0.293e-12}]
  - !Toll {name: Link}
  - !Container
    name: PE
    spatial: [{name: rows, fanout: 128}, {name: cols, fanout: 64}]
  - !Compute
    name: MAC
    actions: [{name: compute, energy: 0.084e-12, latency: 1 / 1.05e9}]
"""
SIMBA = """
architecture:
  version: 0.3
  subtree:
  - name: System
    attributes: {datawidth: 8}
    local: [{name: DRAM, class: DRAM}]
    subtree:
    - name: chip
      local:
      - {name: Buffer, class: storage, attributes: {memory_depth: 2048, memory_width: 256}}
      subtree:
      - name: PE[0..15]
        local:
        - {name: Inputs, class: regfile, attributes: {depth: 64, width: 8}}
        - {name: "LMAC[0..3]", class: compute, subclass: lmac, attributes: {meshX: 16}}
        - {name: Net, class: router}
"""


SUM = """
einsum:
  declaration: {A: [M, K], X: [K], Y: [M], c: [], Z: [M], S: []}
  expressions:
  - Z[m] = c * Y[m] - Y[m]
  - S = A[m, k] * X[k]
"""
EYERISS = """
architecture:
  version: 0.4
  nodes:
  - !Component {name: DRAM, class: DRAM, attributes: {type: LPDDR4, width: 64, datawidth: 8}}
  - !Component
    name: glb
    class: smartbuffer_SRAM
    attributes: {depth: 16384, width: 64, n_banks: 32, datawidth: 8, read_bandwidth: 16}
  - !Container
    name: column
    spatial: {meshX: 14}
    constraints: {spatial: {split: 7}}
  - !Container {name: PE, spatial: {meshY: 12}}
  - !Parallel
    nodes:
    - !Component
      {name: ifmap, class: smartbuffer_RF, attributes: {depth: 12, width: 16, datawidth: 8}}
    - !Component {name: weights, class: smartbuffer_RF, attributes: {depth: 192, width: 16}}
  - !Component {name: mac, class: mac_compute, attributes: {multiplier_width: 8}}
"""


def put(folder: Path, text: str, name: str = "theirs.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def ours(folder: Path, text: str) -> Path:
    return put(folder, text, "ours.yaml")


def test_a_teaal_specification_becomes_a_cascade(tmp_path: Path) -> None:
    found = import_(put(tmp_path, TEAAL), name="conv")
    assert found.kind == "teaal"
    assert found.notes == ("mapping: not part of a cascade, left out",)
    cascade = load_cascade(ours(tmp_path, found.text))
    assert cascade.outputs == ("Z",)
    problem = bind(cascade, {"K": 3, "M": 2, "N": 4, "S": 2, "Q": 5, "W": 6})
    given = random_inputs(problem, 0)
    made = run(problem, given)["Z"]
    product = given["A"].T @ given["B"]
    for m in range(2):
        for q in range(5):
            window = sum(given["V"][q + s] * given["S"][s] for s in range(2))
            assert made[m, q] == pytest.approx(product[m].sum() * window)


def test_tensors_without_ranks_may_stand_bare(tmp_path: Path) -> None:
    found = import_(put(tmp_path, SUM))
    problem = bind(load_cascade(ours(tmp_path, found.text)), {"M": 4, "K": 3})
    given = random_inputs(problem, 0)
    made = run(problem, given)
    assert made["Z"] == pytest.approx(given["c"] * given["Y"] - given["Y"])
    assert made["S"] == pytest.approx((given["A"] @ given["X"]).sum())


def test_groups_of_nodes_are_walked(tmp_path: Path) -> None:
    at = ARCH.index("  - !Container")
    inner = "".join(f"    {line}\n" for line in ARCH[at:].splitlines())
    grouped = import_(put(tmp_path, f"{ARCH[:at]}  - !Hierarchical\n    nodes:\n{inner}"))
    flat = import_(put(tmp_path, ARCH))
    assert grouped.text == flat.text
    assert grouped.notes == flat.notes
    beside = import_(put(tmp_path, f"{ARCH[:at]}  - !Fork\n    name: F\n    nodes:\n{inner}"))
    assert "F: its nodes are beside each other, here one behind another" in beside.notes


def test_an_accelforge_workload_becomes_a_cascade(tmp_path: Path) -> None:
    found = import_(put(tmp_path, FORGE))
    assert found.sizes == {"M": 8, "P": 8, "E": 4, "F": 4}
    assert "S is a copy of QK: the workload names no operation" in found.notes
    assert "bits_per_value: not part of a cascade, left out" in found.notes
    problem = bind(load_cascade(ours(tmp_path, found.text)), found.sizes)
    given = random_inputs(problem, 0)
    expected = given["Q"] @ given["K"].T @ given["V"]
    assert run(problem, given)["AV"] == pytest.approx(expected)


def test_a_timeloop_problem_becomes_a_cascade(tmp_path: Path) -> None:
    found = import_(put(tmp_path, LOOP))
    assert found.sizes == {"C": 3, "K": 4, "R": 3, "P": 6, "N": 2, "PR": 1 + 2 * 5 + 2}
    assert "O[n,k,p] = W[c,k,r] * I[n,c,r+2*p]" in found.text
    load_cascade(ours(tmp_path, found.text))


def test_an_accelforge_architecture_becomes_a_machine(tmp_path: Path) -> None:
    found = import_(put(tmp_path, ARCH))
    machine = load_architecture(ours(tmp_path, found.text))
    assert machine.clock_hz == pytest.approx(1.05e9)
    main, local = machine.levels
    assert main.bandwidth == pytest.approx(614e9)
    assert main.joules(1, 0) == pytest.approx(8 * 7.03e-12)
    assert local.capacity_bytes == 4 * 4 * 2**20
    assert local.joules(0, 1) == pytest.approx(8 * 0.293e-12)
    unit = machine.unit["MAC"]
    assert (unit.rows, unit.cols) == (4 * 128, 64)
    assert dict(unit.operations)["mac"].energy_j == pytest.approx(0.084e-12)
    assert "Link: a Toll has no counterpart, left out" in found.notes
    assert "LocalBuffer: 4 instances" in found.notes
    assert "LocalBuffer.Z: may_reuse left out; a mapping says what is spread and shared" in (
        found.notes
    )


def test_a_timeloop_architecture_becomes_a_machine(tmp_path: Path) -> None:
    found = import_(put(tmp_path, SIMBA))
    machine = load_architecture(ours(tmp_path, found.text))
    assert machine.word_bytes == 1
    assert machine.level["Buffer"].capacity_bytes == 2048 * 256 / 8
    assert machine.level["Inputs"].capacity_bytes == 16 * 64
    assert (machine.unit["LMAC"].rows, machine.unit["LMAC"].cols) == (4, 16)
    assert "Net: a router has no counterpart, left out" in found.notes
    assert any(n.startswith("energy and area of DRAM, Buffer") for n in found.notes)


def test_what_timeloop_says_and_we_do_not_is_named(tmp_path: Path) -> None:
    found = import_(put(tmp_path, EYERISS))
    machine = load_architecture(ours(tmp_path, found.text))
    assert machine.word_bytes == 1
    assert machine.level["glb"].read_bandwidth == 16e9  # words of a byte
    assert machine.unit["mac"].pes == 14 * 12
    assert set(found.notes) >= {
        "DRAM: type, width left out",
        "glb: n_banks left out",
        "column.constraints: left out; a mapping says what goes where",
        "ifmap, weights: beside each other there, one behind the other here",
        "mac: multiplier_width left out",
    }
    several = import_(put(tmp_path, EYERISS.replace("width: 16, datawidth: 8", "datawidth: 4")))
    assert "word: 8 bit, the widest of DRAM 8, glb 8, ifmap 4" in several.notes
    none = import_(put(tmp_path, EYERISS.replace("datawidth: 8", "banks: 8")))
    assert "word: 16 bit assumed; no component states one" in none.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEAAL.replace("A[k, m] * B", "take(A[k, m], B"), "take(...) has no counterpart"),
        (TEAAL.replace("A: [K, M], ", ""), "A is not declared"),
        (TEAAL.replace("T[m, n] = A", "T = A"), "T has ranks M, N and no index"),
        (TEAAL.replace("T[m, n] = A", "T += A"), "is no Einsum"),
        ("einsum: {declaration: {Z: [M]}, expressions: 'Z[m] = A[m]'}", "no list of expressions"),
        (SUM.replace("Y[m]", "A[m, k] * X[k] + Y[m]"), "over different indices: k and none"),
        (SUM.replace("Y[m]", "b * Y[m]"), "b is not declared"),
        (FORGE.replace("Q[m, e] * K", "Q[m, e] @ K"), "'@' has no counterpart"),
        (FORGE.replace("[M: p, e]", "[2*p, e]"), "no rank for the index '2*p'"),
        (FORGE.replace("M: 8,", "M: many,"), "the size of M is 'many'"),
        (FORGE.replace("output: true", "output: false"), "not one output and some inputs"),
        (FORGE.replace("projection: [m, p]}", "projection: [p, m]}"), "S has ranks P, M here"),
        (LOOP.replace(", read-write: true", ""), "0 data spaces are written"),
        (LOOP.replace("[P, stride]", "[P, stripe]"), "no product of a dimension and coefficients"),
        ("problem: {shape: cnn-layer}", "the shape 'cnn-layer' stands in another file"),
        (
            LOOP.replace("projection: [", "projection: '[", 1).replace("]]}", "]]'}", 1),
            "is no list",
        ),
        (
            ARCH.replace("7.03e-12, latency: 1 / (8", "7.03e-12, latency: 1 / (x"),
            "unknown name 'x'",
        ),
        ("a: 1", "no document of a tool that accelsim reads"),
        ("- 1", "no document of a tool that accelsim reads"),
        ("workload: {einsums: [3]}", "'3' is no Einsum"),
        (
            "problem: {shape: {data-spaces: [3]}}",
            "not in the form of a timeloop-problem document: a part of another type",
        ),
        (
            "problem: {shape: {data-spaces: [{projection: []}]}}",
            "not in the form of a timeloop-problem document: no 'name'",
        ),
    ],
)
def test_what_is_said_of_a_faulty_document(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        import_(put(tmp_path, text))
    assert message in str(caught.value)
    assert "theirs.yaml" in str(caught.value)


def test_kinds_are_named(tmp_path: Path) -> None:
    both = import_(put(tmp_path, FORGE + ARCH))
    assert both.kind == "accelforge-workload"
    assert both.notes[-1] == "the document also has a accelforge-arch: --kind accelforge-arch"
    assert import_(put(tmp_path, FORGE + ARCH), "accelforge-arch").kind == "accelforge-arch"
    with pytest.raises(InputError, match="no kind 'dot' of document to import"):
        import_(put(tmp_path, FORGE), "dot")
    with pytest.raises(InputError, match="no teaal"):
        import_(put(tmp_path, FORGE), "teaal")


MACHINE = """
architecture: one
clock: {value: 1 GHz, source: test}
word: {value: 16 bit, source: test}
levels:
  dram:
    {bandwidth: 100 GB/s, access: 64 bit, read_energy: 200 pJ, write_energy: 240 pJ, source: test}
  buffer:
    {capacity: 1 MiB, bandwidth: 500 GB/s, access: 16 bit, read_energy: 5 pJ, write_energy: 6 pJ,
     source: test}
units:
  array:
    {rows: 4, cols: 8, source: test, operations: {mac: {cycles: 1, energy: 2 pJ, source: test}}}
"""


def nest(rng: random.Random) -> tuple[str, dict[str, int]]:
    """A mapping of a matrix product with tiles, orders and holds drawn at random."""
    tiles = {r: rng.choice([1, 2, 3]) for r in ("M2", "M1", "N2", "N1", "K1", "K0")}
    sizes = {
        "M": tiles["M2"] * tiles["M1"] * 4,
        "N": tiles["N2"] * tiles["N1"] * 8,
        "K": tiles["K1"] * tiles["K0"],
    }
    outer, inner = rng.sample(["M2", "N2"], 2), rng.sample(["M1", "N1"], 2)
    levels = [rng.choice([0, 1, 2]) for _ in "ABC"]
    holds = [[t for t, at in zip("ABC", levels, strict=True) if at == n] for n in range(3)]
    said = [f"hold: {{buffer: [{', '.join(own)}]}}, " if own else "" for own in holds]
    lets = ", ".join(f"{name}: {size}" for name, size in tiles.items())
    text = f"""
mapping: drawn
cascade: matmul
source: test
let: {{M0: 4, N0: 8, {lets}}}
split: {{M: [M2, M1, M0], N: [N2, N1, N0], K: [K1, K0]}}
groups:
  - group: g
    nest: {{for: [{outer[0]}], {said[0]}do: [{{for: [{outer[1]}], {said[1]}do: [{{
      for: [{", ".join(inner)}], {said[2]}do: [{{einsum: C, unit: array, rows: [M0], cols: [N0],
      for: [K1, K0]}}]}}]}}]}}
    schedule: [{{run: [C]}}]
"""
    return text, sizes


def test_export_names_what_accelforge_cannot_say() -> None:
    with pytest.raises(InputError, match="has several units"):
        export(design="fusemax", model="BERT", seq="1K")
    with pytest.raises(InputError, match="no export to 'excel'"):
        export("excel")


def test_a_mapping_with_short_tiles_has_no_export(tmp_path: Path) -> None:
    shape = "M=4099,N=4096,K=4096"
    found = map_("matmul", arch="dram-l2-smem-x64", shape=shape, objective="energy")
    file = put(tmp_path, found.yaml())
    with pytest.raises(InputError, match="is short, which AccelForge does not have"):
        export(cascade="matmul", arch="dram-l2-smem-x64", mapping=file, shape=shape)


def test_an_export_is_imported_again(tmp_path: Path) -> None:
    mapping, sizes = nest(random.Random(1))
    machine, rules = put(tmp_path, MACHINE, "m.yaml"), put(tmp_path, mapping, "map.yaml")
    found = export(cascade="matmul", arch=machine, mapping=rules, shape=sizes)
    path = put(tmp_path, found.text)
    cascade = import_(path, "accelforge-workload")
    assert cascade.sizes == sizes
    assert "C[m,n] = A[m,k] * B[k,n]" in cascade.text
    again = load_architecture(ours(tmp_path, import_(path, "accelforge-arch").text))
    first = load_architecture(machine)
    for level in first.levels:
        own = again.level[level.name]
        assert own.joules(3, 5) == pytest.approx(level.joules(3, 5))
        assert own.seconds(3, 5) == pytest.approx(level.seconds(3, 5))
        assert own.capacity_bytes == level.capacity_bytes
    assert again.units[0].pes == first.units[0].pes


#: Run by AccelForge's Python; prints bits read and written by memory, energy and latency.
PEER = """
import json, sys
import accelforge
found = accelforge.Spec.from_yaml(sys.argv[1]).evaluate_mapping().data.iloc[0]
bits = {}
for name in found.index:
    parts = name.split("<SEP>")
    if parts[1] == "action" and parts[-1] in ("read", "write"):
        key = parts[2] + " " + parts[-1]
        bits[key] = bits.get(key, 0) + float(found[name])
print(json.dumps([bits, float(found["Total<SEP>energy"]), float(found["Total<SEP>latency"])]))
"""


@pytest.mark.peer
def test_accelforge_counts_the_same(tmp_path: Path) -> None:
    """Ten drawn mappings of matrix products: bits by level, energy and latency.

    Mappings of which a note says that AccelForge counts differently are drawn again.
    """
    python = os.environ.get("ACCELFORGE_PYTHON")
    assert python, "set ACCELFORGE_PYTHON to a Python 3.12 that has accelforge"
    machine = put(tmp_path, MACHINE, "m.yaml")
    script = put(tmp_path, PEER, "peer.py")
    rng = random.Random(7)
    compared = 0
    while compared < 10:
        mapping, sizes = nest(rng)
        rules = put(tmp_path, mapping, "map.yaml")
        parts = {"cascade": "matmul", "arch": machine, "mapping": rules, "shape": sizes}
        exported = export(**parts)
        if exported.notes:
            continue
        compared += 1
        path = put(tmp_path, exported.text, "spec.yaml")
        run_ = subprocess.run(
            [python, str(script), str(path)], capture_output=True, text=True, timeout=300
        )
        assert run_.returncode == 0, run_.stderr[-2000:]
        bits, energy, latency = json.loads(run_.stdout.splitlines()[-1])
        one = estimate(**parts)
        for level in ("dram", "buffer"):
            assert bits.get(f"{level} read", 0) == 8 * one.read_bytes[level], mapping
            assert bits.get(f"{level} write", 0) == 8 * one.write_bytes[level], mapping
        assert energy == pytest.approx(one.energy_j, rel=1e-6)
        assert latency == pytest.approx(one.latency_s, rel=1e-6)
