"""Neighbourhoods against their definition, position by position; linear attention's segments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.gpu import decode, linear_full, neighbourhood
from accelsim.gpu.attention import HEAD_DIMS, Shape
from accelsim.gpu.decode import Cache
from accelsim.gpu.device import GpuError
from accelsim.gpu.linear_full import Featured
from accelsim.gpu.neighbourhood import Axis, Grid, Near


def refused(message: str):
    return pytest.raises(GpuError, match=message)


@st.composite
def axes(draw) -> Axis:
    size = draw(st.integers(1, 40))
    window = draw(st.integers(1, size))
    return Axis(size, window, draw(st.integers(1, window)))


def seen(axis: Axis, query: int) -> list[int]:
    """Keys of a query by the definition: as near to its group's leader as the axis allows."""
    leader = min(query // axis.stride * axis.stride + axis.stride // 2, axis.size - 1)
    first = leader - axis.window // 2
    keys = list(range(first, first + axis.window))
    while keys[0] < 0:
        keys = [k + 1 for k in keys]
    while keys[-1] >= axis.size:
        keys = [k - 1 for k in keys]
    return keys


@given(axes())
def test_windows_are_those_of_the_definition(axis: Axis) -> None:
    starts = [axis.start(i) for i in range(axis.size)]
    assert starts == axis.start(np.arange(axis.size)).tolist()
    assert starts == sorted(starts)  # a block takes the union of its queries' windows for a range
    for query, start in enumerate(starts):
        assert list(range(start, start + axis.window)) == seen(axis, query)
        if axis.stride == 1:
            assert start <= query < start + axis.window


@given(axes(), axes())
def test_what_a_query_sees_in_two_dimensions(y: Axis, x: Axis) -> None:
    class Arrays:
        def __getattr__(self, name: str):
            return getattr(np, name)

    problem = Near(Grid(1, 1, y, x, 64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbourhood, "cupy", Arrays)
        found = problem.seen(np.arange(y.size * x.size))
    assert found.sum() * 4 * 64 == problem.grid.flops
    for query in {0, y.size * x.size // 2, y.size * x.size - 1}:
        keys = {a * x.size + b for a in seen(y, query // x.size) for b in seen(x, query % x.size)}
        assert set(np.nonzero(found[query])[0]) == keys


def test_neighbourhoods_that_are_refused() -> None:
    with refused(r"^gpu: a window of 9 along 8 positions\n  allowed: 1 to the axis$"):
        Axis(8, 9)
    with refused(r"^gpu: a stride of 4\n  allowed: 1 to the window, 3$"):
        Axis(8, 3, 4)
    with refused(r"^gpu: no kernel has head dimension 32\n"):
        Near(Grid(1, 1, Axis(8, 3), Axis(8, 3), 32)).grid.shape  # noqa: B018


@pytest.mark.parametrize("dim", HEAD_DIMS)
def test_tiles_hold_their_queries_and_fit(dim: int) -> None:
    for height in (1, 64):
        tile = neighbourhood.tile_of(Grid(1, 1, Axis(height, 1), Axis(64, 7), dim))
        assert tile.queries[0] * tile.queries[1] == 16 * tile.row_tiles * tile.warps
        assert (tile.queries[0] == 1) == (height == 1)
        assert tile.blocks * (tile.shared_bytes(dim) + 1024) <= 228 * 1024


def test_linear_attention_that_is_refused() -> None:
    with refused(r"^gpu: linear attention here shares no key heads\n  allowed: HK equal to H$"):
        Featured(Shape(1, 8, 64, 64, 64, HK=2))


@given(st.integers(1, 100_000), st.integers(1, 512))
def test_segments_cover_a_sequence(length: int, heads: int) -> None:
    each = linear_full.chunks_of(length, heads, 132)
    segments = -(-length // (linear_full.CHUNK * each))
    assert each >= 4
    assert (segments - 1) * each * linear_full.CHUNK < length


@pytest.mark.parametrize("bits", decode.BITS)
@pytest.mark.parametrize("dim", HEAD_DIMS)
def test_walks_of_decoding(bits: int, dim: int) -> None:
    few, many = (decode.walk_of(Cache(1, heads, 1, 100, dim, bits)) for heads in (8, 9))
    assert few == decode.WALKS[bits, dim]
    assert many == decode.Walk(32)
    tiles = [decode.macros(Cache(1, h, 1, 9, dim), few, "f16")["HEAD_TILES"] for h in (1, 8, 9, 16)]
    assert tiles == [1, 1, 2, 2]
