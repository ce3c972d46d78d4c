"""The analytic tables of the systems' papers: every row that is asked, and that one can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accelsim.analysis.neighbourhood import tile_speedup, visited
from accelsim.explore import validate_published as module
from accelsim.explore.validate_published import PAPERS, PREDICT, validate_published
from accelsim.load.published import load_exhibits


@pytest.fixture(scope="module")
def found():
    return validate_published()


def test_every_row_that_is_asked_is_within_one_per_cent(found) -> None:
    asked = [row for table in found.tables for row in table.rows if row.holds is not None]
    assert len(asked) >= 50
    assert all(row.tolerance == 0.01 for row in asked)
    assert not [row for row in asked if not row.holds]


def test_every_table_has_its_prediction_and_the_other_way_round() -> None:
    there = [t.name for p in PAPERS for e in load_exhibits(p).values() for t in e.tables]
    assert sorted(there) == sorted(PREDICT)


@pytest.mark.parametrize("by", [0.98, 1.02])
def test_another_published_figure_would_not_hold(by: float) -> None:
    for paper in PAPERS:
        for exhibit in load_exhibits(paper).values():
            for table in exhibit.tables:
                for check in table.checks:
                    at = table.columns.index(check.quantity)
                    moved = tuple(
                        (*row[:at], float(row[at]) * by + (by - 1), *row[at + 1 :])
                        for row in table.rows
                    )
                    wrong = module._table(replace(table, rows=moved), PREDICT[table.name])
                    assert not wrong.holds, (table.name, check.quantity)


def test_claims_of_dynamic_mask_exceed_the_bound(found) -> None:
    (table,) = [t for t in found.tables if t.name == "dynamic-mask claims"]
    assert all(row.published > row.ours for row in table.rows)
    assert {row.holds for row in table.rows} == {None}


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize(("window", "tile", "key"), [(5, 4, 4), (16, 4, 2), (3, 7, 5)])
def test_visited_tiles_by_counting(window: int, stride: int, tile: int, key: int) -> None:
    length = 40
    most = 0
    for first in range(0, length, tile):
        keys = set()
        for query in range(first, min(first + tile, length)):
            leader = query // stride * stride + stride // 2
            start = min(max(leader - window // 2, 0), length - window)
            keys |= {m // key for m in range(start, start + window)}
        most = max(most, len(keys))
    assert visited(length, window, stride, tile, key) == most


def test_a_window_of_all_positions_gains_nothing() -> None:
    assert tile_speedup((32, 16), (32, 16), (1, 1), (4, 4), (4, 4)) == 1
