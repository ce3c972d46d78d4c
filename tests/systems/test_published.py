"""The published tables: every row that is asked, that each can fail, and rows of a newcomer."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.analysis.neighbourhood import mean_visited, tile_speedup, visited
from accelsim.errors import InputError
from accelsim.explore.published_analytic import PREDICT, decoders
from accelsim.explore.validate_published import (
    MEDIAN,
    Published,
    figures,
    judged,
    predicted,
    validate_published,
)
from accelsim.ir.published import Asked, Check, Table
from accelsim.load import catalog
from accelsim.load.published import FACTOR, load_exhibits, load_papers

FOLDER = catalog.folder("validation") / "published"
PAPERS = [p.name for p in load_papers() if p.name != "fusemax" and (FOLDER / p.name).is_dir()]


@pytest.fixture(scope="module")
def found() -> Published:
    return validate_published()


def tables() -> list[Table]:
    exhibits = (e for paper in PAPERS for e in load_exhibits(paper).values())
    return [table for exhibit in exhibits for table in exhibit.tables]


def rows_of(found: Published, *asked: Asked):
    own = (t for t in found.tables if t.paper != "fusemax")
    return [(t, row) for t in own for row in t.rows if row.asked in asked]


def test_every_row_holds_and_none_gets_lost(found: Published) -> None:
    bad = [
        (t.name, r.workload, r.quantity) for t in found.tables for r in t.rows if r.holds is False
    ]
    assert bad == []
    assert found.holds
    assert len(rows_of(found, "within")) >= 90
    assert len(rows_of(found, "timing")) >= 150
    assert len(rows_of(found, "not above", "not below")) >= 120
    assert len(rows_of(found, "claimed above", "claimed below")) >= 8


def test_analytic_rows_are_within_one_per_cent_or_their_last_printed_digit(
    found: Published,
) -> None:
    for table, row in rows_of(found, "within"):
        if row.tolerance != 0.01:
            exact = next(t for t in tables() if t.name == table.name)
            half = dict(exact.printed)[row.quantity] / 2
            assert row.tolerance == pytest.approx(half / abs(row.published), rel=1e-5)
        assert abs(row.error) <= row.tolerance


def test_kernel_times_are_near_and_the_far_ones_have_a_cause(found: Published) -> None:
    timed = [row for _, row in rows_of(found, "timing")]
    assert found.median_error == pytest.approx(median(abs(r.error) for r in timed))
    assert found.median_error <= MEDIAN == 0.15
    assert all(row.cause for row in timed if row.times > FACTOR)


@pytest.mark.parametrize("by", [0.9, 1.11])
def test_another_published_figure_would_not_hold(by: float) -> None:
    for table in tables():
        for check in table.checks:
            if check.asked == "within":
                wrong = predicted("", moved(table, check, by))
                assert not wrong.holds, (table.name, check.quantity)


def test_bounds_claims_and_times_can_fail() -> None:
    broken = {
        "not above": 1e-9,
        "not below": 1e9,
        "claimed above": 1e-9,
        "claimed below": 1e9,
        "timing": 50.0,
    }
    seen = set()
    for table in tables():
        for check in table.checks:
            if check.asked in broken and check.asked not in seen:
                wrong = predicted("", moved(replace(table, causes=()), check, broken[check.asked]))
                assert not wrong.holds, (table.name, check.quantity)
                seen.add(check.asked)
    assert seen == set(broken)


def moved(table: Table, check: Check, by: float) -> Table:
    """The table with a quantity's figures times ``by``; shares are moved by as much."""
    at = table.columns.index(check.quantity)
    add = by - 1 if dict(table.units).get(check.quantity) == "share" else 0.0
    scale = 1.0 if add else by
    rows = tuple((*r[:at], float(r[at]) * scale + add, *r[at + 1 :]) for r in table.rows)
    return replace(table, rows=rows)


def test_no_prediction_sees_a_published_figure() -> None:
    for table in tables():
        published = {c.quantity for c in table.checks}
        assert not published & set(table.configuration(0))
        other = replace(table, rows=tuple(tuple(
            float(cell) * 3 if name in published else cell
            for name, cell in zip(table.columns, row, strict=True)
        ) for row in table.rows[:1]))  # fmt: skip
        assert figures(other, other.configuration(0)) == figures(table, table.configuration(0))


def test_every_paper_has_a_verdict(found: Published) -> None:
    assert [v.paper.number for v in found.verdicts] == list(range(1, 41))
    for verdict in found.verdicts:
        assert (FOLDER / verdict.paper.name).is_dir() == bool(verdict.rows)
        assert verdict.paper.missing or verdict.rows
        assert (verdict.stands == ("not predictable",)) == (not verdict.rows)
    folders = {p.name for p in FOLDER.iterdir() if p.is_dir()}
    assert folders <= {v.paper.name for v in found.verdicts}
    assert {v.paper.name for v in found.verdicts} <= set(catalog.names("system"))


def test_claims_of_dynamic_mask_exceed_the_bound(found: Published) -> None:
    (table,) = [t for t in found.tables if t.name == "dynamic-mask claims"]
    assert all(row.published > row.ours for row in table.rows)
    assert "contradicted" in next(
        v.stands for v in found.verdicts if v.paper.name == "dynamic-mask"
    )


NEWCOMER = """
published: mine
paper: rows of tables that are there, other lengths and shapes
exhibit: none
units: {flash: ms, forward: ms, kernel: ms}
tables:
  - table: lightning at 4K
    given: {arch: a100-sxm, B: 4, H: 32, E: 128}
    columns: [row, n, flash]
    checks: {flash: timing}
    kernels:
      flash:
        - kernel: flash-attention-2
          shape: {B: B, H: H, P: n, M: n, E: E, F: E}
          sets: {causal: true}
    rows: [[4K, 4K, 2.8]]
  - table: a window
    predict: tiles
    given: {arch: b200, E: 128}
    columns: [row, H, lengths, windows, strides, query_tiles, key_tiles, kernel]
    checks: {kernel: timing}
    kernels:
      kernel:
        - kernel: blackwell-fmha
          shape: {B: 1, H: H, P: positions, M: positions, E: E, F: E}
          sets: {kept: 1 / tile_speedup}
    rows: [[Hunyuan 2x8x8, 24, 30x48x80, 18x24x24, 2x8x8, 4x8x8, 2x8x8, 13.5]]
  - table: gna at another stride
    predict: tiles
    columns: [row, lengths, windows, strides, query_tiles, key_tiles, share, simulated]
    checks: {simulated: {within: 0.01}}
    figures: {simulated: 1 / (1 - share + share / tile_speedup)}
    rows: [[Hunyuan 4x8x8, 30x48x80, 18x24x24, 4x8x8, 4x8x8, 2x8x8, 0.607, 2.2]]
"""


def test_a_newcomer_adds_rows_without_code(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(NEWCOMER)
    found = validate_published(path)
    assert [len(t.rows) for t in found.tables] == [1, 1, 1]
    assert found.verdicts == ()
    assert found.holds, [r for t in found.tables for r in t.rows]


def test_the_file_that_the_folder_shows(tmp_path: Path) -> None:
    text = (FOLDER / "README.md").read_text()
    path = tmp_path / "shown.yaml"
    path.write_text(text.split("```yaml\n")[1].split("```")[0])
    (table,) = validate_published(path).tables
    assert [(row.workload, row.asked) for row in table.rows] == [
        ("4K", "timing"),
        ("16K", "timing"),
    ]
    assert table.holds
    for name in (*(c for t in tables() for c in (t.predict,) if c), "not below", "claimed above"):
        assert f"`{name}`" in text


def test_another_row_of_a_shipped_table_is_predicted() -> None:
    (exhibit,) = load_exhibits("s2-attention").values()
    table = exhibit.tables[0]
    with_more = replace(table, rows=(*table.rows, ("32K V 8", "32K", 8, 15.0)))
    ours = [row.ours for row in predicted("s2-attention", with_more).rows]
    assert ours[1] > ours[3] > ours[2]


WRONG = {
    "predict: tiles": ("predict: guess", "no prediction 'guess'"),
    "simulated: {within": ("simulatd: {within", "no column 'simulatd'"),
    "figures: {simulated": ("figures: {other", "predicts 'simulated'"),
    "share / tile_speedup)}": ("share / tile_speed)}", "unknown name 'tile_speed' in the rule"),
    "[row, lengths,": ("[row, more, lengths,", "8 columns"),
    "18x24x24": ("18x24x124", "windows [18, 24, 124] are longer than"),
    "1 - share + share /": ("1 - share + * /", "is not valid"),
    "    rows: [[Hunyuan 4x8x8": (
        "    causes: [{row: none, cause: it is}]\n    rows: [[Hunyuan 4x8x8",
        "no row 'none'",
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    start = NEWCOMER.rindex("  - table:")
    head = NEWCOMER[: NEWCOMER.index("  - table:")]
    path.write_text(head + NEWCOMER[start:].replace(text, WRONG[text][0]))
    with pytest.raises(
        InputError, match="^.*" + WRONG[text][1].replace("(", "\\(").replace("[", "\\[")
    ):
        validate_published(path)


ROW = {"lengths": "8x8", "windows": "4x4", "strides": "1x1", "query_tiles": "2x2"}


@pytest.mark.parametrize(
    ("predict", "row", "message"),
    [
        ("tiles", ROW, "no column 'key_tiles'"),
        ("tiles", {**ROW, "key_tiles": "2"}, "column 'key_tiles' is '2'"),
        ("tiles", {**ROW, "key_tiles": "2x0"}, "column 'key_tiles' is '2x0'"),
        ("tiles", {**ROW, "key_tiles": "two"}, "column 'key_tiles' is 'two'"),
        ("format", {"format": 16}, "column 'format' is 16"),
        ("decode shares", {"model": "Qwen2.5", "length": 8, "batch": 0}, "column 'batch' is 0"),
        ("system", {"system": "sale", "length": 4096}, "sale has no phase 'decode'"),
    ],
)
def test_columns_that_a_prediction_cannot_use(predict: str, row: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        PREDICT[predict](row)
    assert message in str(caught.value)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_mutilated_file_is_refused_with_a_message(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lines = NEWCOMER.splitlines()
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(lines) - 1))
        words = lines[at].split(" ")
        word = data.draw(st.integers(0, len(words) - 1))
        words[word] = data.draw(st.sampled_from(["", "0", "-1", "x", ".inf", "64K", "[]", "n / 0"]))
        lines[at] = " ".join(words)
    path = tmp_path_factory.mktemp("mutilated") / "mine.yaml"
    path.write_text("\n".join(lines))
    with suppress(InputError):
        assert validate_published(path).to_dict()["averages"] == []


def test_an_unknown_paper_and_a_paper_of_fusemax_are_refused() -> None:
    from accelsim.explore.evaluations import validate

    with pytest.raises(InputError, match="no paper 'sail'"):
        validate_published("sail")
    with pytest.raises(InputError, match="a paper for fusemax"):
        validate("fusemax", "sale")
    with pytest.raises(InputError, match="no decoder 'GPT-5'"):
        decoders("GPT-5")


@pytest.mark.parametrize(
    ("asked", "within", "truth", "ours", "holds"),
    [
        ("within", 0.01, 2.0, 2.019, True),
        ("within", 0.01, 2.0, 2.021, False),
        ("timing", 1.0, 2.0, 3.9, True),
        ("timing", 1.0, 2.0, 4.1, False),
        ("timing", 1.0, 2.0, 0.9, False),
        ("not above", None, 2.0, 1.0, True),
        ("not above", None, 2.0, 2.1, False),
        ("not below", None, 2.0, 2.1, True),
        ("claimed above", None, 2.0, 1.9, True),
        ("claimed above", None, 2.0, 2.1, False),
        ("claimed below", None, 2.0, 1.9, False),
        ("shown", None, 2.0, 9.0, None),
    ],
)
def test_what_is_asked_of_a_figure(
    asked: Asked, within: float | None, truth: float, ours: float, holds: bool | None
) -> None:
    check = Check("q", within, asked=asked)
    assert judged("row", check, "", truth, ours, 0.0, "").holds is holds


def test_a_last_printed_digit_and_a_share() -> None:
    check = Check("q", 0.01)
    assert judged("row", check, "", 1.1, 1.149, 0.1, "").holds
    assert not judged("row", check, "", 1.1, 1.151, 0.1, "").holds
    assert judged("row", check, "share", 0.07, 0.079, 0.0, "").error == pytest.approx(0.009)
    assert judged("row", Check("q", 1.0, asked="timing"), "", 1.0, 9.0, 0.0, "a cause").holds


def test_every_prediction_is_used() -> None:
    assert {t.predict for t in tables()} == set(PREDICT)


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize(("window", "tile", "key"), [(5, 4, 4), (16, 4, 2), (3, 7, 5)])
def test_visited_tiles_by_counting(window: int, stride: int, tile: int, key: int) -> None:
    length = 40
    counts = []
    for first in range(0, length, tile):
        keys = set()
        for query in range(first, min(first + tile, length)):
            leader = query // stride * stride + stride // 2
            start = min(max(leader - window // 2, 0), length - window)
            keys |= {m // key for m in range(start, start + window)}
        counts.append(len(keys))
    assert visited(length, window, stride, tile, key) == max(counts)
    assert mean_visited(length, window, stride, tile, key) == sum(counts) / len(counts)


def test_a_window_of_all_positions_gains_nothing() -> None:
    assert tile_speedup((32, 16), (32, 16), (1, 1), (4, 4), (4, 4)) == 1
