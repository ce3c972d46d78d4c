"""Design files: what is refused and in which words; every shipped design can be priced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from accelsim.errors import InputError
from accelsim.explore.estimate import estimate
from accelsim.load import catalog
from accelsim.load.design import design_from, load_design
from accelsim.load.source import from_text, read

FOLDER = Path(__file__).parent.parent / "golden" / "design"
UPDATE = os.environ.get("ACCELSIM_UPDATE_GOLDEN")
OK = (
    "design: own\nsource: nobody\ncascade: attention-1pass\narch: fusemax-cloud\nmapping: fusemax\n"
)


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.yaml")))
def test_messages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    with pytest.raises(InputError) as caught:
        design_from(read(f"{name}.yaml"))
    found = str(caught.value) + "\n"
    if UPDATE:
        (FOLDER / f"{name}.txt").write_text(found, encoding="utf-8")
    assert found == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(catalog.files("design")))
def test_shipped_designs_name_what_there_is(name: str) -> None:
    found = load_design(name)
    assert found.name == name
    assert found.about
    assert estimate(design=name, model="BERT", seq=4096).latency_s > 0


def test_overrides_and_choices_of_a_design(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(OK + "set: [clock=1 GHz, edge=128]\nchoose: {P1: 2}\n")
    own = estimate(design=str(file), shape="B=1,H=1,P=1024,M=1024,E=64,F=64")
    assert own.clock_hz == 1e9
    assert own.choices["P1"] == 2
    assert own.choices["P0"] == 128
    given = estimate(design=file, shape="B=1,H=1,P=1024,M=1024,E=64,F=64", sets=["edge=64"])
    assert given.choices["P0"] == 64


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("attention-1pass", "attention-7pass", "unknown cascade 'attention-7pass'"),
        ("fusemax-cloud", "nowhere", "unknown arch 'nowhere'"),
        ("mapping: fusemax", "mapping: fusemix", "unknown mapping 'fusemix'"),
        ("attention-1pass", "attention-3pass", "is for attention-1pass, not for attention-3pass"),
    ],
)
def test_parts_that_are_not_there(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(OK.replace(old, new))
    with pytest.raises(InputError, match=message):
        estimate(design=file, model="BERT", seq=1024)


def test_a_design_reads_from_text() -> None:
    found = design_from(from_text(OK))
    assert (found.cascade, found.arch, found.mapping) == (
        "attention-1pass",
        "fusemax-cloud",
        "fusemax",
    )
    assert found.sets == ()
