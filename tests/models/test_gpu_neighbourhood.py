"""Walks over a grid's tiles, held against the kernel's own loop, tile by tile and warp by warp."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from accelsim.explore.estimate_gpu import estimate_kernel
from accelsim.models.gpu_neighbourhood import Axis, Walk, walks


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    size = draw(st.integers(1, 700))
    window = draw(st.integers(1, size))
    return Axis(size, window, draw(st.sampled_from([1, 1, draw(st.integers(1, window))])))


def walked(axis: Axis, first: int, queries: int, warp: int, keys: int) -> Walk:
    """What neighbourhood.cu does for a block: its tiles, and each warp's, one by one."""
    begin = axis.start(first)
    tiles = -(-(axis.start(first + queries - 1) + axis.window - begin) // keys)
    seen, inside = [], []
    for at in range(first, first + queries, warp):
        starts = [axis.start(place) for place in range(at, at + warp)]
        least, most = min(starts), max(starts)
        places = [begin + tile * keys for tile in range(tiles)]
        seen.append(sum(k + keys > least and k < most + axis.window for k in places))
        inside.append(sum(k >= most and k + keys <= least + axis.window for k in places))
    return Walk(tiles, tuple(seen), tuple(inside))


@given(
    axes(),
    st.sampled_from([(1, 1), (8, 8), (8, 2), (64, 16), (128, 32)]),
    st.sampled_from([1, 8, 64]),
)
def test_walks_are_those_of_the_kernel(axis: Axis, block: tuple[int, int], keys: int) -> None:
    queries, warp = block
    kinds, which = walks(axis, queries, warp, keys)
    assert len(which) == -(-axis.size // queries)
    for number, kind in enumerate(which):
        assert kinds[kind] == walked(axis, number * queries, queries, warp, keys), number


@given(axes())
def test_starts_are_those_of_the_definition(axis: Axis) -> None:
    """A window around the leader of the query's group, moved inside, never shrunk."""
    for place in range(axis.size):
        leader = min(place // axis.stride * axis.stride + axis.stride // 2, axis.size - 1)
        wanted = leader - axis.window // 2
        moved = min(range(axis.size - axis.window + 1), key=lambda at: abs(at - wanted))
        assert axis.start(place) == moved


def seconds(shape: str) -> float:
    return estimate_kernel("neighbourhood", arch="h100-sxm", shape=shape).latency_s


def test_a_longer_window_takes_longer_and_a_stride_of_the_tile_less() -> None:
    base = "B=1,H=16,X=16384,E=64,"
    times = [seconds(f"{base}WX={window}") for window in (64, 256, 1024, 4096, 16384)]
    assert times == sorted(times)
    assert seconds(base + "WX=1024,SX=256") < seconds(base + "WX=1024")


def test_a_window_of_everything_is_dense_attention_with_every_tile_seen() -> None:
    found = (
        estimate_kernel("neighbourhood", arch="h100-sxm", shape="B=1,H=16,X=4096,WX=4096,E=128")
        .launches[0]
        .launch
    )
    assert found.operations["mma.bf16"] == 4.0 * 16 * 4096 * 4096 * 128
