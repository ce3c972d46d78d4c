"""The GPU model against brute force, against bounds that must hold, and against itself."""

from __future__ import annotations

import heapq
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.gpu import Memory
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.load.gpu import load_gpu
from accelsim.load.kernel import load_kernel
from accelsim.models import gpu_attention, gpu_gemm
from accelsim.models.gpu_clock import LOWEST, seconds_at, settle
from accelsim.models.gpu_estimate import price
from accelsim.models.gpu_keys import Attention, spans
from accelsim.models.gpu_launch import Launch
from accelsim.models.gpu_pipeline import PIPES, Stage, in_phase, staggered
from accelsim.models.gpu_schedule import ROUNDS, makespan

H100 = load_gpu("h100-sxm")
CYCLES = st.floats(0, 1e4)
STAGES = st.lists(
    st.builds(
        Stage, st.just("s"), tensor=CYCLES, ex2=CYCLES, alu=CYCLES, issue=CYCLES, wait=CYCLES
    ),
    min_size=1,
    max_size=5,
)


@given(STAGES, st.integers(1, 16))
def test_sharing_lies_between_the_busiest_pipe_and_no_overlap(
    stages: list[Stage], warps: int
) -> None:
    totals = {pipe: sum(getattr(s, pipe) for s in stages) for pipe in PIPES}
    alone = sum(totals.values()) + sum(s.wait for s in stages)
    found = staggered(stages, warps)
    assert found >= max(alone, warps * max(totals.values())) * (1 - 1e-9)
    assert found <= warps * alone * (1 + 1e-9)


@given(STAGES, st.integers(1, 15))
def test_more_warps_finish_more_in_the_same_time(stages: list[Stage], warps: int) -> None:
    fewer, more = staggered(stages, warps), staggered(stages, warps + 1)
    assert more >= fewer * (1 - 1e-9)
    assert more / (warps + 1) <= fewer / warps * (1 + 1e-9)
    assert in_phase(stages, warps + 1) <= in_phase(stages, warps) * (warps + 1) / warps * (1 + 1e-9)


def exponential_pair(demands: tuple[float, float], warps: int) -> float:
    """Cycles of two exponential stations in a ring, from the balance of their Markov chain."""
    a, b = demands
    weights = [a**at * b ** (warps - at) for at in range(warps + 1)]
    busy = 1 - weights[0] / sum(weights)  # of the first station
    return warps * a / busy


@given(st.floats(1, 100), st.floats(1, 100), st.integers(1, 6))
def test_mean_value_analysis_is_the_chain_s_own_solution(a: float, b: float, warps: int) -> None:
    found = staggered([Stage("one", tensor=a), Stage("two", ex2=b)], warps)
    assert found == pytest.approx(exponential_pair((a, b), warps), rel=1e-9)


def dealt(durations: list[float], copies: int, slots: int) -> float:
    free = [0.0] * slots
    for duration in durations * copies:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


@given(
    st.lists(st.floats(1, 100), min_size=1, max_size=12),
    st.integers(1, 60),
    st.integers(1, 8),
)
def test_makespan_is_list_scheduling(durations: list[float], copies: int, slots: int) -> None:
    found, exact = makespan(durations, copies, slots), dealt(durations, copies, slots)
    kept = -(-ROUNDS * slots // len(durations))
    if copies <= kept or max(durations) == min(durations):
        assert found == pytest.approx(exact)
    else:  # the rounds before the last are spread evenly: within one block of the truth
        assert abs(found - exact) <= max(durations) + 1e-6 * exact


def walked_by(case: Attention, tile: Tile) -> list[tuple[int, int]]:
    """Key tiles of each query tile as the kernel counts them, and those that hold no hidden pair.

    From the tile of the first row's first key to that of the last row's last.
    """
    found = []
    for start in range(0, case.P, tile.rows):
        end, first = case.M, 0
        if case.causal:
            end = min(end, start + tile.rows + case.offset)
            first = max(0, start + case.offset - case.window + 1) if case.window else 0
        tiles = [j for j in range(first // tile.columns, 2 + case.M) if j * tile.columns < end]
        whole = [
            j
            for j in tiles
            if all(
                m < case.M
                and (not case.causal or m <= start + case.offset)
                and (not case.window or m > start + tile.rows - 1 + case.offset - case.window)
                for m in range(j * tile.columns, (j + 1) * tile.columns)
            )
        ]
        found.append((len(tiles), len(whole)))
    return found


@settings(max_examples=60)
@given(
    st.integers(1, 300), st.integers(1, 300), st.booleans(), st.integers(0, 80),
    st.integers(0, 40), st.sampled_from([16, 32, 48]),
)  # fmt: skip
def test_tiles_walked_are_those_of_the_kernel(
    queries: int, keys: int, causal: bool, window: int, offset: int, columns: int
) -> None:
    case = Attention(1, 1, 1, queries, keys, 64, 64, causal, window * causal, offset * causal)
    tile = Tile(64, columns, 4)
    walked = spans(case, tile)
    counted = walked_by(case, tile)
    assert len(walked) == len(counted)
    for span, (tiles, whole) in zip(walked, counted, strict=True):
        assert span.tiles == tiles
        assert 0 <= span.masked <= span.tiles
        if not causal:
            assert span.masked == tiles - whole


@given(st.integers(1, 300), st.integers(1, 60), st.floats(0.01, 0.99))
def test_lists_that_keep_a_share_are_drawn_evenly(tiles: int, blocks: int, kept: float) -> None:
    case = Attention(1, 1, 1, 128 * blocks, 128 * tiles, 64, 64, kept=kept)
    found = [span.tiles for span in spans(case, Tile(128, 128, 4))]
    assert len(found) == blocks
    assert all(1 <= count <= tiles for count in found)
    spread = math.sqrt(tiles * kept * (1 - kept))
    assert abs(sum(found) / blocks - tiles * kept) <= 0.5 * spread + 1
    ordered = sorted(found)
    if spread > 2 and blocks > 20 and tiles * kept > 4 * spread < tiles * (1 - kept):
        inner = [count for count in ordered if abs(count - tiles * kept) <= spread]
        assert 0.55 < len(inner) / blocks < 0.8  # a normal law's middle


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_memory_takes_its_known_rates_and_never_less_than_the_best(
    read: float, written: float
) -> None:
    memory = Memory(80e9, 3.0, 3.2, 2.8)
    assert memory.seconds(1.0, 0.0) == pytest.approx(1 / 3.0)
    assert memory.seconds(0.0, 1.0) == pytest.approx(1 / 3.2)
    assert memory.seconds(0.5, 0.5) == pytest.approx(1 / 2.8)
    total = read + written
    assert total / 3.2 * (1 - 1e-9) <= memory.seconds(read, written) <= total / 2.8 * (1 + 1e-9)


@given(
    st.floats(1e3, 1e8), st.floats(0, 1e10), st.floats(0, 1e14), st.floats(200, 1000)
)  # fmt: skip
def test_the_clock_is_the_highest_under_the_limit(
    cycles: float, moved: float, flops: float, limit: float
) -> None:
    launch = Launch("k", cycles, moved, 0.0, moved, {"wgmma.bf16": flops})
    found = settle(H100, launch, limit)
    top = H100.tensor_clock_hz if flops else H100.clock_hz
    assert LOWEST * top * 0.99 <= found.sm_hz <= top
    assert found.power_w <= limit * (1 + 1e-6)
    assert found.joules == pytest.approx(found.power_w * found.seconds)
    assert found.seconds >= seconds_at(H100, launch, top)[0] * (1 - 1e-9)


def attention(**changes: object) -> Attention:
    sizes = {"B": 1, "H": 16, "HK": 16, "P": 4096, "M": 4096, "E": 128, "F": 128}
    return Attention(**{**sizes, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["attention-1pass-mma", "attention-1pass-wgmma"])
def test_what_costs_more_takes_longer(name: str) -> None:
    kernel = load_kernel(name)

    def cycles(**changes: object) -> float:
        case = attention(**changes)
        tile = kernel.tile({"E": case.E})
        return gpu_attention.launch(H100, kernel, tile, case).cycles

    dense = cycles()
    assert cycles(P=8192, M=8192) > 3.5 * dense
    assert cycles(B=2) > 1.6 * dense
    assert cycles(B=8, causal=True) < 0.6 * cycles(B=8)
    assert cycles(causal=True, window=512) < 0.7 * cycles(causal=True)
    assert cycles(kept=0.3) < 0.5 * dense
    assert cycles(M=4097) >= dense


def test_bytes_of_l2_are_keys_again_for_every_tile_of_queries() -> None:
    kernel = load_kernel("attention-1pass-mma")
    case = attention(P=2048, M=2048)
    found = gpu_attention.launch(H100, kernel, kernel.tile({"E": 128}), case)
    queries = 2 * 16 * 2048 * 128 * 2
    assert found.l2_bytes == queries + 16 * (2048 / 128) * case.keys_bytes
    assert found.read_bytes + found.write_bytes == 2 * queries


def test_keys_are_read_again_only_where_rounds_share_a_head_that_l2_has_lost() -> None:
    kernel = load_kernel("attention-1pass-mma")
    tile = kernel.tile({"E": 128})

    def again(**changes: object) -> float:
        case = attention(**changes)
        found = gpu_attention.launch(H100, kernel, tile, case)
        return found.read_bytes - case.compulsory[0]

    assert again(P=16384, M=16384) > 0
    assert again(P=16384, M=16384, causal=True) == 0
    assert again(P=128, M=16384) == 0
    assert again(P=2048, M=2048) == 0
    assert again(P=16384, M=16384, HK=2) < again(P=16384, M=16384)
    many = {"P": 2432, "M": 5565, "B": 26, "H": 4, "HK": 4}
    once = again(**many)
    kernel = load_kernel("attention-2pass-mma")  # comes back to K behind its first pass
    tile = kernel.tile({"E": 128})
    assert again(**many) > 1.2 * once
    assert again(P=512, M=512, H=4, HK=4) == 0


def test_cudnn_compares_all_scores_where_keys_end_within_a_tile() -> None:
    """Counted: 129 instructions more of a warp and tile; a causal launch has them either way."""
    kernel = load_kernel("cudnn-attention")

    def seconds(**changes: object) -> float:
        case = attention(H=16, HK=16, E=64, F=64, **changes)
        return gpu_attention.launch(H100, kernel, kernel.tile({"E": 64}), case).cycles

    assert seconds(P=4096, M=4095) > 1.1 * seconds(P=4096, M=4096)
    assert seconds(P=4095, M=4096) == pytest.approx(seconds(P=4096, M=4096), rel=0.01)
    causal = seconds(P=4096, M=4096, causal=True)
    assert seconds(P=4095, M=4095, causal=True) == pytest.approx(causal, rel=0.01)


def test_bound_of_every_launch_is_no_faster_than_its_ceilings() -> None:
    """A prediction may not beat the tensor cores, memory or L2 at the highest clock."""
    for name in ("attention-1pass-wgmma", "flash-attention-2", "cudnn-attention"):
        kernel = load_kernel(name)
        for length in (512, 3000, 20000):
            case = attention(P=length, M=length)
            found = price(
                H100, name, [gpu_attention.launch(H100, kernel, kernel.tile({"E": 128}), case)]
            )
            rate = H100.tensor_rate(kernel.path, "bf16")
            assert rate is not None
            flops = 4 * 16 * length**2 * 128
            least = flops / (rate * H100.multiprocessors * H100.tensor_clock_hz)
            assert found.latency_s > least + H100.launch.first_s


def test_a_block_that_has_no_room_is_refused_in_one_sentence() -> None:
    kernel = load_kernel("attention-1pass-wgmma")
    tile = Tile(192, 256, 12, stages=4)
    with pytest.raises(InputError, match="192 x 256 needs 560 KiB of shared memory, h100-sxm has"):
        gpu_attention.launch(H100, kernel, tile, attention())


def test_gemm_takes_the_tile_that_ends_first() -> None:
    kernel = load_kernel("cublas-gemm")
    chosen = gpu_gemm.launch(H100, kernel, gpu_gemm.Gemm(4096, 1408, 6144))
    only = replace(kernel, tiles=(kernel.tiles[0],), column_step=0)
    given_one = gpu_gemm.launch(H100, only, gpu_gemm.Gemm(4096, 1408, 6144))
    assert sum(x.cycles for x in chosen) < sum(x.cycles for x in given_one)
    assert not math.isinf(chosen[0].cycles)


def test_descriptor_takes_the_tile_of_its_sizes() -> None:
    kernel = KernelDescriptor("k", "attention", (Tile(1, 1, 1, when=(("E", 64),)), Tile(2, 2, 2)))
    assert kernel.tile({"E": 64}).rows == 1
    assert kernel.tile({"E": 96}).rows == 2
