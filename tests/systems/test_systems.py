"""System documents, their faults, the table, and what the issue asks of its passes and bits."""

from __future__ import annotations

import csv
import io
import json
import math
from itertools import pairwise

import pytest
from rich.console import Console
from typer.testing import CliRunner

from accelsim.cli.app import app
from accelsim.errors import InputError
from accelsim.explore.documents import list_names, schema, show
from accelsim.explore.roofline import GPU, array_energy, array_roofline, gpu_roofline
from accelsim.explore.systems import system, systems
from accelsim.load import catalog
from accelsim.load.gpu import load_gpu
from accelsim.load.source import from_text
from accelsim.load.system import load_system, system_from
from accelsim.load.system_text import WANTED
from accelsim.report.systems import COLUMNS, csv_text
from accelsim.report.systems import systems as laid_out

NAMES = catalog.names("system")


@pytest.fixture(scope="module")
def table():
    return systems(["4K", "8K"])


def row_of(table, name):
    return next(r for r in table.rows if r.system.name == name)


# -- what each system must be -----------------------------------------------------------------


def test_every_number_is_described_once_or_listed_as_absent(table) -> None:
    numbers = [r.system.text.number for r in table.rows]
    assert len(numbers) == len(set(numbers))
    assert sorted([*numbers, *table.absent]) == list(range(1, WANTED + 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_system_is_whole(name: str) -> None:
    found = load_system(name)
    assert found.name == name
    assert found.text.paper
    assert found.text.rests
    assert found.phases or found.formats
    assert all(p.source for p in found.text.parameters.values())


def test_the_hypothesis_says_that_it_is_one(table) -> None:
    marked = [r.system.name for r in table.rows if r.system.text.sure == "labelled hypothesis"]
    assert marked == ["delta-llm"]


PASSES = {
    # linear: one
    **dict.fromkeys(
        ["transnormer", "hedgehog", "lightning-attention-2", "mala", "inline-attention"], (1, 0)
    ),
    # static masks add none, nor does a bias on a logit
    **dict.fromkeys(["gna", "fna", "paro-attention", "s2-attention", "duo-attention"], (1, 0)),
    **dict.fromkeys(
        ["zero-tuning", "sqa", "fusemax", "flash-attention", "razor-attention"], (1, 0)
    ),
    # a threshold against known statistics: the pass of the statistics, none of its own
    "sale": (2, 1),
    # a selection is a barrier
    "biformer": (2, 1),
    "dhsa": (2, 1),
    # column sums of normalised weights
    "act": (3, 2),
    "zipcache": (3, 2),
    "zipvl": (5, 4),
    "spatten": (4, 1),
    # rounds that wait for each other
    "hip": (math.inf, math.inf),
}


@pytest.mark.parametrize("name", PASSES)
def test_passes_come_from_the_analysis(table, name: str) -> None:
    swept = row_of(table, name).swept
    found = (max(s.over_k for s in swept), max(s.estimation for s in swept))
    assert found == PASSES[name]


@pytest.mark.parametrize("name", ["sparse-frontier", "dynamic-mask", "kinetics", "delta"])
def test_selections_by_other_tensors_are_counted_as_estimation(table, name: str) -> None:
    assert max(s.estimation for s in row_of(table, name).swept) >= 1


def test_further_passes_have_their_chain(table) -> None:
    for row in table.rows:
        for swept in row.swept:
            if math.isfinite(swept.over_k):
                assert len(swept.why) == swept.over_k - 1
            else:
                assert swept.why[0].startswith("a pass for each step of C")


def test_bits_are_those_of_the_papers(table) -> None:
    stored = [s for row in table.rows for s in row.stored if s.published is not None]
    assert len(stored) >= 14
    assert all(s.holds for s in stored), [s for s in stored if not s.holds]
    bits = {s.format: s.bits for row in table.rows for s in row.stored}
    assert bits["ptq161"] == pytest.approx(1.613, abs=5e-4)
    assert bits["gptq4-g128"] == pytest.approx(4.16, abs=5e-3)
    assert bits["slim-2"] == pytest.approx(2.14, abs=5e-3)
    assert bits["slim-3"] == pytest.approx(3.15, abs=5e-3)


def test_every_cell_is_positive_and_a_longer_sequence_is_more_work(table) -> None:
    for row in table.rows:
        for before, after in pairwise(row.cells):
            assert before.own.ops > 0
            assert before.own.bytes > 0
            assert all(t > 0 for t in before.own.seconds.values())
            if before.phase == after.phase:
                grows = row.swept != ()  # one token's products with weights do not
                assert after.dense.ops > before.dense.ops * (1 - (not grows) * 1e-12)
                assert after.own.bytes >= before.own.bytes * 0.999


def test_products_are_among_the_multiply_adds(table) -> None:
    for row in table.rows:
        for cell in row.cells:
            for load in (cell.own, cell.dense):
                assert load.product_macs <= load.ops_by_class["mac"] * (1 + 1e-12)


def test_fewer_query_heads_are_that_much_less() -> None:
    (prefill, decode) = system("sqa", ["4K"]).cells
    assert prefill.ops == pytest.approx(0.5)
    assert decode.bytes == pytest.approx(0.25, rel=1e-3)


def test_described_kernels_price_what_they_realise(table) -> None:
    with_kernels = [(r.system.name, c) for r in table.rows for c in r.cells if c.kernels]
    assert {name for name, _ in with_kernels} >= {"s2-attention", "gna", "duo-attention"}
    for name, cell in with_kernels:
        assert cell.kernels is not None
        bound = cell.dense.seconds[GPU]
        assert cell.kernels["dense_s"] > bound, name
    same = next(c for name, c in with_kernels if name == "zero-tuning")
    assert same.kernels is not None
    assert same.kernels["speedup"] == 1


def test_energy_is_that_of_operations_and_memory() -> None:
    """A multiply-add 17.1645 pJ, a byte 31.2 pJ: FuseMax's published component energies."""
    assert array_energy({"mac": 1.0}, 0.0) == pytest.approx(17.1645e-12)
    assert array_energy({"exp": 1.0}, 0.0) == pytest.approx(6 * 17.1645e-12)
    assert array_energy({}, 1.0) == pytest.approx(31.2e-12)
    (cell,) = system("lightning-attention-2", ["32K"]).cells[:1]
    assert 0 < cell.energy < 0.02


def test_rooflines_are_bounds_of_what_is_asked() -> None:
    pes = 256 * 256 + 256
    assert array_roofline({"mac": 940e6 * pes}, 0.0) == pytest.approx(1.0)
    assert array_roofline({"div": 940e6 * 256}, 0.0) == pytest.approx(1.0)  # on the 1-D array alone
    assert array_roofline({}, 400 * 2**30) == pytest.approx(1.0)
    gpu = load_gpu(GPU)
    sheet = gpu.multiprocessors * 4096 * gpu.tensor_clock_hz / 2  # dense bf16, wgmma
    exponentials = gpu.multiprocessors * gpu.rate("ex2") * gpu.clock_hz
    assert gpu_roofline({"mac": sheet}, sheet, 0.0) == pytest.approx(1.0)
    assert gpu_roofline({"exp": exponentials}, 0.0, 0.0) == pytest.approx(1.0)
    assert gpu_roofline({"mac": sheet, "exp": 1e9}, sheet, 1e9) == pytest.approx(1.0)


def test_s2_attention_saves_what_its_blocks_say() -> None:
    """Blocks of 64, 8 of them local and one in 16 of the others: counted block by block."""
    blocks = 32768 // 64
    kept = sum(min(i + 1, 8) + max(0, i + 1 - 8) / 16 for i in range(blocks))
    (cell,) = system("s2-attention", ["32K"]).cells
    share = cell.own.product_macs / cell.dense.product_macs
    assert share == pytest.approx(kept / (blocks * (blocks + 1) / 2), rel=1e-9)


# -- documents --------------------------------------------------------------------------------

WRONG = """
system: wrong
number: 41
title: Wrong
kind: sparse
about: everything that can be wrong
model: Lama
phases:
  - phase: prefill
    parts: [{cascade: attention-1pass, sizes: {P: N, M: N}}]
    dense: {cascade: attention-1pass}
"""


def faults(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        system_from(from_text(text, "wrong.yaml"))
    return [str(f) for f in caught.value.faults]


def test_misfits_are_told_together_with_their_places() -> None:
    found = faults(WRONG)
    assert any(f.startswith("wrong.yaml:3:9: number: ") for f in found)
    assert any(f.startswith("wrong.yaml:5:7: kind: ") for f in found)


MINIMAL = """
system: mine
title: Mine
kind: exact
about: minimal
phases:
  - phase: prefill
    parts:
      - cascade: attention-1pass
        sizes: {P: N, M: N}
    dense: {cascade: attention-1pass, sizes: {P: N, M: N}}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: exact", "kind: exact\nmodel: Lama", "no model is called 'Lama'"),
        ("- cascade: attention-1pass", "- cascade: attention-1pas", "unknown cascade"),
        ("sizes: {P: N, M: N}\n    d", "sizes: {P: N +}\n    d", "the rule 'N +' is not valid"),
        ("M: N}\n    d", "M: N}\n        estimation: [QQ]\n    d", "has no Einsum QQ"),
        ("M: N}\n    d", "M: N}\n        bits: {KK: 4}\n    d", "has no tensor KK"),
        ("M: N}\n    d", "M: N}\n        rank: X\n    d", "attention-1pass has no rank X"),
        (
            "M: N}\n    d",
            "M: N}\n        density: {KEEP: {value: 1, source: s}}\n    d",
            "attention-1pass has no tensor KEEP",
        ),
        ("M: N}\n    d", "M: N}\n        summaries: [LOW]\n    d", "no input or output LOW"),
        (
            "M: N}\n    d",
            "M: N}\n        kernel: {name: attention-1pas, shape: {M: N}}\n    d",
            "unknown kernel 'attention-1pas'",
        ),
    ],
)
def test_what_is_wrong_with_a_system_has_its_place(old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    found = faults(MINIMAL.replace(old, new, 1))
    assert any(message in f for f in found), found
    assert all(f.startswith("wrong.yaml:") for f in found)


def test_a_system_needs_a_cascade_or_a_format() -> None:
    text = MINIMAL[: MINIMAL.index("phases:")]
    assert any("a system of no cascade and no format" in f for f in faults(text))


def test_an_unknown_format_has_its_place() -> None:
    text = MINIMAL + "formats:\n  - {name: W, tensor: W, format: int5}\n"
    (found,) = faults(text)
    assert found.startswith("wrong.yaml:13:34: ")
    assert "format 'int5'" in found


def test_a_missing_size_names_the_part(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINIMAL.replace("sizes: {P: N, M: N}\n    d", "sizes: {P: N}\n    d"), "utf-8")
    with pytest.raises(InputError, match="no size for rank M"):
        system(file, ["4K"])


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("times: 0", "times is 0"),
        ("times: N - 2 * N", "times is -4096"),
        ("visits: 2", "visits is 2"),
        ("bits: {K: -1}", "bits of K is -1"),
        ("times: 1 / (N - 4096)", "a division by zero"),
    ],
)
def test_numbers_out_of_range_are_refused_at_their_place(
    tmp_path, field: str, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    changed = MINIMAL.replace("M: N}\n    d", f"M: N}}\n        {field}\n    d", 1)
    file.write_text(changed, "utf-8")
    with pytest.raises(InputError, match=message) as caught:
        system(file, ["4K"])
    assert caught.value.faults[0].place.line == 11


def test_shapes_are_for_cascades() -> None:
    with pytest.raises(InputError, match="sizes for sqa, which has its own"):
        system("sqa", ["4K"], shape="R=4")


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match="no model is called 'Lama'"):
        system("sqa", ["4K"], model="Lama")


@pytest.mark.parametrize("name", NAMES)
def test_canonical_text_says_the_same(name: str) -> None:
    text = show(name, kind="system")
    again = system_from(from_text(text))
    assert again.text == load_system(name).text


def test_list_and_schema_know_systems() -> None:
    assert [entry.name for entry in list_names("systems")] == sorted(NAMES)
    assert schema("system")["title"] == "accelsim system"


# -- the command ------------------------------------------------------------------------------


def answer(*arguments: str):
    return CliRunner().invoke(app, ["systems", *arguments])


def test_the_table_as_json_text_and_csv(tmp_path, table) -> None:
    file = tmp_path / "systems.csv"
    found = answer("--seq", "4K", "--csv", str(file), "--json")
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert [r["name"] for r in result["systems"]] == [r.system.name for r in table.rows]
    assert result["wanted"] == WANTED
    lines = list(csv.DictReader(io.StringIO(file.read_text("utf-8"))))
    assert tuple(lines[0]) == COLUMNS
    assert {line["name"] for line in lines} == set(NAMES)
    assert len(csv_text(result).splitlines()) == len(lines) + 1


def test_a_row_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = answer("sale", "--seq", "4K")
    assert found.exit_code == 0, found.output
    assert "pass 2: KS visits the M fiber of K again after KT" in found.stdout
    assert "1 of them estimation" in found.stdout
    assert "KEPT" in found.stdout


def test_absent_systems_are_named_and_every_other_has_its_lines(table) -> None:
    console = Console(width=220, record=True, file=io.StringIO())
    for part in laid_out(table.to_dict() | {"absent": [7, 40]}):
        console.print(part)
    text = console.export_text()
    assert "not described: 7, 40 of 40" in text
    for name in NAMES:
        assert text.count(name) >= 2


def test_an_unknown_system_is_bad_input() -> None:
    found = answer("salle")
    assert found.exit_code == 2
    assert "unknown system 'salle'" in found.stderr
    assert "sale?" in found.stderr
