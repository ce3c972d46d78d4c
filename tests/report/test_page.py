"""The report page: whole, by itself, with every figure in it."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from accelsim.cli.app import app
from accelsim.errors import InputError
from accelsim.explore.report import PARTS, report
from accelsim.explore.sweep import sweep
from accelsim.load import catalog
from accelsim.report.figures import pictures
from accelsim.report.page import page, save_pictures

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
    told: list[str] = []
    found = report(
        ["fusemax-cascade", "fusemax"],
        ["BERT"],
        ["1K", "4K"],
        sweep=folder / "out",
        tell=told.append,
    )
    assert told == [
        *("comparison", "details of fusemax-cascade", "details of fusemax"),
        *("fusemax", "published", "gpu", "systems"),
    ]
    return found


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
        "Predicted and published: FuseMax",
        "Predicted and published: other papers",
        "Predicted and measured: h100-sxm",
        "Published systems",
        "Pareto front",
    ]
    assert all(t.startswith(("data:", "#")) for t in reader.targets)
    assert {t[1:] for t in reader.targets if t.startswith("#")} == reader.anchors
    assert len(text.encode()) < 5_000_000
    # speedup, passes, slope, systems and front; two of rooflines, schedules, figures and errors of
    # two validations; times and errors of a GPU and a roofline for each width of heads
    widths = {roofline["width"] for roofline in found["gpu"]["rooflines"]}
    assert widths >= {64, 128}
    assert len(reader.images) == 5 + 4 * 2 + 2 + len(widths)
    for image in reader.images:
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        drawing = base64.b64decode(data)
        assert len(list(ElementTree.fromstring(drawing).iter())) > 50
        background = re.search(rb'id="patch_1">.*?</g>', drawing, re.DOTALL)
        assert background is not None
        assert b"fill: none" in background.group()  # the page's own, light or dark
        assert image["alt"]


def test_the_object_has_what_the_page_shows(found: dict[str, Any]) -> None:
    assert found["validation"]["holds"]
    assert [r["design"] for r in found["rooflines"]] == ["fusemax-cascade", "fusemax"]
    fusemax = found["rooflines"][1]
    estimate = found["estimates"]["fusemax"]
    assert fusemax["slopes"] == {"dram": 400 * 2**30}
    assert fusemax["ceilings"]["array_2d"] == 256 * 256 * 940e6
    reached = fusemax["rate"] * estimate["latency_s"] / estimate["traffic_bytes"]["dram"]
    assert reached == pytest.approx(fusemax["intensity"]["dram"])
    assert fusemax["rate"] <= sum(fusemax["ceilings"].values())
    assert found["front"]["points"] == 2


def test_pictures_are_also_files(found: dict[str, Any], tmp_path: Path) -> None:
    names = [picture.name for picture in pictures(found)]
    assert len(set(names)) == len(names)
    few = report(["flat"], ["BERT"], ["1K"], without=PARTS)
    drawn = save_pictures(few, tmp_path / "new", ".png")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in drawn}
    assert {path.stem for path in drawn} == {
        *("speedup-BERT", "roofline-flat-cloud", "schedule-flat", "passes-attention-3pass"),
    }


def test_no_kernel_was_measured_above_a_ceiling(found: dict[str, Any]) -> None:
    for panel in found["gpu"]["rooflines"]:
        ceilings = panel["ceilings"]
        highest = min(max(ceilings["wgmma"], ceilings["mma"]), ceilings["exponential"])
        assert panel["points"]
        for point in panel["points"]:
            assert point["measured"] < highest
    by_width = {panel["width"]: panel["ceilings"] for panel in found["gpu"]["rooflines"]}
    assert by_width[128]["exponential"] == 2 * by_width[64]["exponential"]
    assert by_width[128]["wgmma"] == by_width[64]["wgmma"]


@pytest.mark.parametrize("design", catalog.names("design"))
def test_no_design_is_above_what_its_einsums_allow(design: str) -> None:
    found = report([design], ["BERT"], ["4K"], without=PARTS)
    (roofline,) = found["rooflines"]
    assert 0 < roofline["rate"] <= roofline["mix"] * (1 + 1e-9)
    assert not {"validation", "published", "gpu", "systems", "front"} & set(found)


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no part of a sweep"):
        report(["fusemax"], ["BERT"], ["1K"], sweep=tmp_path)


def test_unknown_parts_and_gpus_are_refused_before_the_work() -> None:
    with pytest.raises(InputError, match="the report has no part 'everything'"):
        report(["fusemax"], ["BERT"], ["1K"], without=["everything"])
    with pytest.raises(InputError, match="no recorded runs of 'rtx4090'"):
        report(["fusemax"], ["BERT"], ["1K"], gpu="rtx4090")


def test_the_command_writes_the_page_and_its_pictures(tmp_path: Path) -> None:
    out, plots = tmp_path / "a" / "page.html", tmp_path / "b"
    few = ["report", "flat", "--seq", "1K", "--without", ",".join(PARTS)]
    result = CliRunner().invoke(app, [*few, "--out", str(out), "--plots", str(plots)])
    assert result.exit_code == 0, result.output
    assert "details of flat" in result.stderr
    assert "drawn: 8 pictures in" in result.stderr
    assert out.read_text(encoding="utf-8").count("<img ") == 4
    assert {path.suffix for path in plots.iterdir()} == {".svg", ".png"}
    bad = CliRunner().invoke(app, ["report", "--without", "all"])
    assert bad.exit_code == 2
    assert "the report has no part 'all'" in bad.stderr
