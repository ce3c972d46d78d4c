"""Key tiles of neighbourhood attention, counted key by key."""

from __future__ import annotations

import pytest

from accelsim.analysis.neighbourhood import mean_visited, tile_speedup, visited


def windows(length: int, window: int, stride: int) -> list[range]:
    """The keys of every query: those around the middle of its group, moved inside at the ends."""
    found = []
    for query in range(length):
        group = [q for q in range(length + stride) if q // stride == query // stride]
        begin = group[len(group) // 2] - window // 2
        while begin < 0:
            begin += 1
        while begin + window > length:
            begin -= 1
        found.append(range(begin, begin + window))
    return found


@pytest.mark.parametrize(
    ("length", "window", "stride", "query_tile", "key_tile"),
    [(16, 4, 8, 8, 4), (24, 7, 3, 6, 4), (32, 9, 4, 8, 8), (20, 6, 5, 4, 5), (12, 12, 1, 5, 5)],
)
def test_tiles_are_those_that_the_windows_of_a_tile_touch(
    length: int, window: int, stride: int, query_tile: int, key_tile: int
) -> None:
    keys = windows(length, window, stride)
    touched = []
    for first in range(0, length, query_tile):
        own = keys[first : first + query_tile]
        seen = {key // key_tile for key in (k for r in own for k in r)}
        touched.append(len(range(min(seen), max(seen) + 1)))
    assert visited(length, window, stride, query_tile, key_tile) == max(touched)
    mean = mean_visited(length, window, stride, query_tile, key_tile)
    assert mean == pytest.approx(sum(touched) / len(touched))


def test_dimensions_multiply() -> None:
    one = tile_speedup((32,), (8,), (1,), (4,), (4,))
    assert tile_speedup((32, 32), (8, 8), (1, 1), (4, 4), (4, 4)) == pytest.approx(one * one)
