"""The report page: whole, by itself, with every figure in it."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from accelsim.errors import InputError
from accelsim.explore.report import report
from accelsim.explore.sweep import sweep
from accelsim.report.page import page

SPEC = """
sweep: edges
axes:
- set.parameters.edge: [128, 256]
- {design: fusemax, model: BERT, seq: 4K}
front: {objectives: [area_mm2, latency_s], by: [model]}
"""
#: Elements that are never closed.
VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """Collects tags and attributes; fails on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, Any]] = []
        self.headings: list[str] = []
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        if tag == "img":
            self.images.append(own)
        if "id" in own:
            self.anchors.add(str(own["id"]))
        self.targets += [str(own[k]) for k in ("src", "href") if k in own]
        assert tag != "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "s.yaml").write_text(SPEC)
    sweep(folder / "s.yaml", folder / "out", workers=1)
    return report(["flat", "fusemax"], ["BERT"], ["1K", "4K"], sweep=folder / "out")


def test_the_page_is_whole_and_needs_no_network(found: dict[str, Any]) -> None:
    text = page(found, "FuseMax & <FLAT>")
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    assert "<title>FuseMax &amp; &lt;FLAT&gt;</title>" in text
    assert reader.headings == [
        "Speedup and energy",
        "Roofline",
        "Schedule",
        "Passes",
        "Traffic and its bounds",
        "Predicted and published",
        "Pareto front",
    ]
    assert all(t.startswith(("data:", "#")) for t in reader.targets)
    assert {t[1:] for t in reader.targets if t.startswith("#")} == reader.anchors
    assert len(text.encode()) < 5_000_000
    # one of speedup, roofline, validation and front; two schedules, passes and slopes
    assert len(reader.images) == 4 + 3 * 2
    for image in reader.images:
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        drawing = ElementTree.fromstring(base64.b64decode(data))
        assert len(list(drawing.iter())) > 50
        assert image["alt"]


def test_the_object_has_what_the_page_shows(found: dict[str, Any]) -> None:
    assert found["validation"]["holds"]
    assert [r["design"] for r in found["rooflines"]] == ["flat", "fusemax"]
    fusemax = found["rooflines"][1]
    estimate = found["estimates"]["fusemax"]
    assert fusemax["slopes"] == {"dram": 400 * 2**30}
    assert fusemax["ceilings"]["array_2d"] == 256 * 256 * 940e6
    reached = fusemax["rate"] * estimate["latency_s"] / estimate["traffic_bytes"]["dram"]
    assert reached == pytest.approx(fusemax["intensity"]["dram"])
    assert fusemax["rate"] <= sum(fusemax["ceilings"].values())
    assert found["front"]["points"] == 2


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no part of a sweep"):
        report(["fusemax"], ["BERT"], ["1K"], published=False, sweep=tmp_path)
