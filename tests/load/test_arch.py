"""Architecture files: what is refused and in which words, sources, overrides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from accelsim.errors import InputError
from accelsim.ir.arch import Architecture
from accelsim.load import catalog
from accelsim.load.arch import architecture_from, load_architecture
from accelsim.load.source import from_text, read

FOLDER = Path(__file__).parent.parent / "golden" / "arch"
UPDATE = os.environ.get("ACCELSIM_UPDATE_GOLDEN")
SPATIAL = sorted(p for p in catalog.files("arch").values() if p.parent.name == "spatial")


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.yaml")))
def test_messages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    with pytest.raises(InputError) as caught:
        architecture_from(read(f"{name}.yaml"))
    found = str(caught.value) + "\n"
    if UPDATE:
        (FOLDER / f"{name}.txt").write_text(found, encoding="utf-8")
    assert found == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SPATIAL, ids=lambda p: p.stem)
def test_every_shipped_number_has_a_source_in_words(path: Path) -> None:
    arch = load_architecture(path)
    assert arch.sources
    for field, source in arch.sources:
        assert len(source) > 10 or field.endswith(("rows", "cols")), f"{field}: {source!r}"
    numbers = {field for field, _ in arch.sources}
    assert {"clock", "word"} <= numbers


def overridden(*sets: str, name: str = "teaching") -> Architecture:
    return load_architecture(name, sets)


def test_override_by_full_path_and_by_its_end() -> None:
    assert overridden("levels.buffer.capacity=8 KiB").level["buffer"].capacity_bytes == 8192
    assert overridden("buffer.capacity=8KiB").level["buffer"].capacity_bytes == 8192
    assert overridden("clock=2 GHz").clock_hz == 2e9
    assert overridden("clock.value=2 GHz").clock_hz == 2e9


def test_a_parameter_reaches_all_that_names_it() -> None:
    units = overridden("edge=8").unit
    assert [(u.rows, u.cols) for u in units.values()] == [(8, 8), (1, 8)]
    units = overridden("edge=8", "array_1d.cols=3").unit
    assert [(u.rows, u.cols) for u in units.values()] == [(8, 8), (1, 3)]


def test_an_override_is_its_own_source() -> None:
    found = dict(overridden("buffer.capacity=8 KiB").sources)
    assert found["levels.buffer.capacity"] == "--set"
    assert found["levels.buffer.access"].startswith("round numbers")


def test_a_field_that_is_not_stated_yet_can_be_set() -> None:
    assert overridden("dram.read_bandwidth=1 GB/s").level["dram"].read_bandwidth == 1e9
    assert overridden("array_1d.fill=3").unit["array_1d"].fill_cycles == 3
    exp = dict(overridden("array_2d.operations.exp.energy=2 pJ").unit["array_2d"].operations)["exp"]
    assert exp.energy_j == 2e-12
    assert exp.uses == (("mac", 6.0),)
    table = dict(overridden("array_1d.operations.exp.uses.mac=3").unit["array_1d"].operations)
    assert table["exp"].uses == (("mac", 3.0),)


def test_later_overrides_win_and_the_file_is_untouched() -> None:
    assert overridden("clock=2 GHz", "clock=3 GHz").clock_hz == 3e9
    assert overridden().clock_hz == 1e9


BAD = {
    "clock": "<command line>: --set 'clock' is no override\n"
    "  allowed: path=value, as levels.buffer.capacity=8MiB",
    "=3": "<command line>: --set '=3' is no override\n"
    "  allowed: path=value, as levels.buffer.capacity=8MiB",
    "clock=": "<command line>: --set 'clock=' is no override\n"
    "  allowed: path=value, as levels.buffer.capacity=8MiB",
    "mac.cycles=2": "<command line>: --set mac.cycles is ambiguous\n"
    "  allowed: units.array_1d.operations.mac.cycles, units.array_2d.operations.mac.cycles",
    "clock=2": "--set: a number without a unit: '2'\n  allowed: 2 with a unit, for example 940 MHz",
    "clock=-2 GHz": "--set: a negative quantity: '-2 GHz'\n  allowed: 0 or more hertz",
    "dram.bandwidth=0 GB/s": "teaching.yaml:13:10: bandwidth is zero\n",
    "edge=0.5": "units.array_2d.rows is edge = 0.5\n",
    "edge=-4": "--set: parameters.edge is -4\n  allowed: a finite number, not negative",
    "edge=four": "--set: unknown name 'four' in the rule 'four'",
    "word=8 GB/s": "--set: 'GB/s' is a unit of bytes_per_s, not of bytes",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_overrides(text: str) -> None:
    with pytest.raises(InputError) as caught:
        overridden(text)
    assert BAD[text] in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["furlong=3", "buffer.depth=3", "levels=3", "levels.buffer=3", "nothing.bandwidth=3 B/s"],
)
def test_an_override_of_nothing_lists_what_there_is(text: str) -> None:
    with pytest.raises(InputError) as caught:
        overridden(text)
    assert f"--set {text.partition('=')[0]} names nothing in the file" in str(caught.value)
    assert "levels.buffer.capacity" in str(caught.value)


def test_default_rows_need_no_source_but_given_ones_do() -> None:
    text = """
architecture: rows
clock: {value: 1 GHz, source: x}
word: {value: 8 bit, source: x}
levels: {dram: {}}
units:
  line: {cols: {value: 4, source: x}, operations: {}}
"""
    assert architecture_from(from_text(text)).unit["line"].rows == 1
    with pytest.raises(InputError, match=r"units.line.rows has no source"):
        architecture_from(from_text(text.replace("{cols", "{rows: 2, cols")))
