"""Parts of the GPU model that were found on a board: each against what it stands for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.gpu import decode
from accelsim.gpu.decode import Cache, Walk
from accelsim.ir.kernel import splits_of
from accelsim.load.gpu import load_gpu
from accelsim.load.kernel import load_kernel
from accelsim.models import gpu_attention
from accelsim.models.gpu_clock import displayed_hz, drooped_hz, settle, settle_as_timed
from accelsim.models.gpu_keys import Attention, spans
from accelsim.models.gpu_launch import Launch
from accelsim.models.gpu_pipeline import Stage, staggered
from accelsim.models.gpu_schedule import ROUNDS, makespan, sharing

H100 = load_gpu("h100-sxm")


@given(st.floats(1, 1000), st.floats(1, 1000), st.integers(1, 8))
def test_work_beside_never_costs_more_and_never_more_than_a_pipe_gives(
    tensor: float, ex2: float, warps: int
) -> None:
    after = [Stage("product", tensor=tensor), Stage("exponential", ex2=ex2)]
    beside = [replace(after[0], beside=True), after[1]]
    both = staggered(beside, warps)
    assert both <= staggered(after, warps) + 1e-9
    assert both >= warps * max(tensor, ex2) - 1e-6
    if warps == 1:
        assert both == pytest.approx(max(tensor, ex2))


@given(st.floats(1, 1000), st.floats(0, 1000), st.integers(1, 12))
def test_even_transfers_wait_less_and_no_less_than_memory_takes(
    memory: float, wait: float, warps: int
) -> None:
    walk = [Stage("keys", memory=memory, wait=wait)]
    even = staggered(walk, warps, even=True)
    assert warps * memory - 1e-6 <= even <= staggered(walk, warps) + 1e-9
    assert even >= memory + wait - 1e-9


@given(
    st.lists(st.floats(1, 100), min_size=1, max_size=6),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(1, 3),
    st.floats(1, 3),
)
def test_blocks_that_share_a_unit(
    blocks: list[float], copies: int, units: int, together: int, slower: float
) -> None:
    durations = [
        [b * (1 + (slower - 1) * n / max(1, together - 1)) for b in blocks] for n in range(together)
    ]
    found = sharing(durations, copies, units, rounds=1000)
    assert found is not None
    work = sum(durations[-1]) * copies / (units * together)  # no slot is idle
    assert found >= max(*durations[0], sum(blocks) * copies / (units * together)) - 1e-6
    assert found <= work + max(durations[-1]) + 1e-6  # list scheduling (Graham, 1969)
    if together == 1 and copies <= -(-ROUNDS * units // len(blocks)):  # simulated whole
        assert found == pytest.approx(makespan(blocks, copies, units))


def test_a_lone_block_goes_on_faster() -> None:
    assert sharing([[1.0, 3.0], [2.0, 6.0]], 1, 1) == 2.0 + 2.0  # a third of the long one is done
    assert sharing([[1.0], [2.0]], 10, 1, rounds=4) is None


@given(
    st.integers(1, 64), st.sampled_from((1, 2, 4, 8, 16, 32)), st.integers(1, 200_000),
    st.sampled_from((16, 32, 64)), st.integers(1, 4),
)  # fmt: skip
def test_the_model_splits_keys_as_the_kernel_does(
    batch: int, heads: int, keys: int, tokens: int, blocks: int
) -> None:
    walk = Walk(tokens, blocks=blocks)
    splits, length = decode.splits_of(Cache(batch, heads, heads, keys, 128), walk, 132)
    wanted = splits_of(batch * heads, 132 * blocks, keys, tokens * walk.warps)
    assert length == -(-keys // wanted // 16) * 16
    assert splits == -(-keys // length)


def test_brief_launches_run_at_clocks_of_their_own() -> None:
    points = dict(H100.brief_clocks)["mma"]  # draws less than wgmma
    for seconds, hertz in points:
        assert H100.brief_clock_hz(seconds) == pytest.approx(hertz)
    assert H100.brief_clock_hz(1e-6) == points[0][1]
    assert H100.brief_clock_hz(1.0) == points[-1][1]
    (before, low), (after, high) = points[1:3]
    assert H100.brief_clock_hz((before * after) ** 0.5) == pytest.approx((low + high) / 2)
    dense = Launch("k", 1e5, 0.0, 0.0, 0.0, {"wgmma.bf16": 132 * 4096 * 1e5})
    slowed = dict(H100.brief_clocks)["wgmma"][0][1]  # what the same work was measured at
    assert drooped_hz(H100, dense, points[0][1]) == pytest.approx(slowed, rel=0.015)
    light = Launch("k", 2e5, 0.0, 0.0, 0.0, {"wgmma.bf16": 1.0})
    assert settle_as_timed(H100, light).sm_hz < H100.tensor_clock_hz
    plain = replace(light, operations={"fma": 1.0})
    assert settle_as_timed(H100, plain).sm_hz == H100.clock_hz


def test_the_board_displays_what_the_cap_takes_and_no_droop() -> None:
    free = Launch("k", 1e6, 0.0, 0.0, 0.0, {"wgmma.bf16": 1.0})
    assert displayed_hz(H100, settle(H100, free, 700.0)) == H100.clock_hz
    hungry = Launch("k", 1e6, 0.0, 0.0, 0.0, {"wgmma.bf16": 132 * 4096 * 1e6})
    capped = settle(H100, hungry, 700.0)
    assert capped.sm_hz < H100.tensor_clock_hz
    assert displayed_hz(H100, capped) == capped.sm_hz


@given(st.integers(1, 2000), st.integers(0, 300), st.sampled_from((0, 1, 64, 100, 300)))
def test_tiles_that_a_warp_sees_nothing_of(queries: int, offset: int, window: int) -> None:
    tile = load_kernel("attention-1pass-mma").tile({"E": 128})
    case = Attention(1, 1, 1, queries, queries + offset, 128, 128, True, window, offset)
    for number, span in enumerate(spans(case, tile)):
        start = number * tile.rows
        end = min(case.M, start + tile.rows + offset)
        first = max(0, start + offset - window + 1) // tile.columns if window else 0
        missed = 0
        for warp in range(tile.warps):
            low = start + 16 * tile.row_tiles * warp + offset
            high = low + 16 * tile.row_tiles - 1
            for key in range(first * tile.columns, end, tile.columns):
                past = window and key + tile.columns - 1 <= low - window
                missed += bool(key > high or past)
        assert span.unseen * tile.warps == missed


def test_a_warp_that_skips_spares_time_only_where_something_is_unseen() -> None:
    kernel = load_kernel("attention-1pass-mma")
    plain = replace(kernel, skips=False)
    full = Attention(4, 8, 8, 4096, 4096, 128, 128)
    windowed = replace(full, causal=True, window=128)
    tile = kernel.tile({"E": 128})
    for case, spared in ((full, False), (windowed, True)):
        with_skips = gpu_attention.launch(H100, kernel, tile, case).cycles
        without = gpu_attention.launch(H100, plain, tile, case).cycles
        assert (with_skips < without) == spared
        assert with_skips <= without
