"""Descriptors of the attention kernels, what they refuse, and the lists they walk."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.gpu import attention, device, halves, linear, rows, sparse, unfused
from accelsim.gpu.attention import Mask, Problem, Shape, Tile, Variant
from accelsim.gpu.device import Device, GpuError

SMALL = Shape(1, 2, 100, 100, 64)
A100 = Device("A100", "8.0", 108, 1.4e9, 1.5e9, 5120, 80 << 30, 40 << 20, 164 << 10, 163 << 10,
              65536, 2048, "")  # fmt: skip


def refused(message: str):
    return pytest.raises(GpuError, match=message)


def test_shapes_that_no_kernel_takes() -> None:
    with refused(r"^gpu: rank P has size 0\n  allowed: 1 or more$"):
        Shape(1, 1, 0, 8, 64)
    with refused(r"^gpu: no kernel has head dimension 80\n  allowed: 64, 96, 128$"):
        Shape(1, 1, 8, 8, 80)
    with refused(r"^gpu: 8 query heads do not share 3 key heads evenly\n"):
        Shape(1, 8, 8, 8, 64, HK=3)
    with refused(r"^gpu: a grid takes no B=70000, H=1\n"):
        Shape(70000, 1, 8, 8, 64)


def test_masks_that_mean_nothing() -> None:
    with refused(r"^gpu: a window and an offset are 0 or more$"):
        Mask(causal=True, window=-1)
    with refused(r"^gpu: a window or an offset needs a causal mask\n  allowed: causal=True$"):
        Mask(window=4)


def test_tiles_and_variants_that_are_not_there() -> None:
    with refused(r"^gpu: no mma tile has 24 keys, 1 row tiles$"):
        Tile("mma", 24, 4)
    with refused(r"^gpu: no wgmma tile has 8 consumer warps and 72 keys\n"):
        Tile("wgmma", 72, 8)
    with refused(r"^gpu: 2 blocks of 12 consumer warps share no registers\n"):
        Tile("wgmma", 80, 12, blocks=2)
    with refused(r"^gpu: a persistent tile runs on wgmma only\n  allowed: path wgmma$"):
        Tile("mma", 64, 4, persistent=True)
    with refused(r"^gpu: 3 passes and tile Tile\("):
        Variant(3, Tile("mma", 64, 4))
    with refused(r"^gpu: two passes run on mma.sync only\n  allowed: path mma$"):
        Variant(2, Tile("wgmma", 128, 8))


def test_problems_that_are_refused() -> None:
    with refused(r"^gpu: the kernels do not take f32"):
        Problem(SMALL, dtype="f32")
    with refused(r"^gpu: a scale of -1\n  allowed: a positive number$"):
        Problem(SMALL, scale=-1)
    with refused(r"^gpu: attention in three passes has no window\n"):
        unfused.kernels(Problem(SMALL, Mask(causal=True, window=8)))
    with refused(r"^gpu: a grid takes no 80000 heads in three passes\n"):
        unfused.kernels(Problem(Shape(8000, 10, 8, 8, 64)))


def test_instructions_that_a_gpu_lacks(monkeypatch) -> None:
    monkeypatch.setattr(attention, "device", lambda: A100)
    with refused(r"^gpu: wgmma needs compute capability 9.0, A100 has 8.0\n  allowed: path mma$"):
        attention.kernel(Problem(SMALL), attention.best_tile("wgmma", 64), 1)
    old = dataclasses.replace(A100, name="V100", capability="7.0")
    monkeypatch.setattr(attention, "device", lambda: old)
    with refused(r"^gpu: V100 has no asynchronous copies\n"):
        attention.kernel(Problem(SMALL), attention.best_tile("mma", 64), 1)


def test_what_does_not_fit_memory(monkeypatch) -> None:
    runtime = types.SimpleNamespace(memGetInfo=lambda: (1 << 30, 80 << 30))
    pool = types.SimpleNamespace(free_bytes=lambda: 1 << 29)
    fake = types.SimpleNamespace(
        cuda=types.SimpleNamespace(runtime=runtime), get_default_memory_pool=lambda: pool,
        random=types.SimpleNamespace(default_rng=lambda _: None),
    )  # fmt: skip
    for module in (device, halves, unfused):
        monkeypatch.setattr(module, "cupy", lambda: fake)
    monkeypatch.setattr(device, "device", lambda: A100)
    problem = Problem(Shape(1, 1, 32768, 32768, 64))
    with refused(
        r"^gpu: scores of 2.0 GiB do not fit the 1.5 GiB of memory that are free on A100\n"
    ):
        unfused.kernels(problem)
    with refused(r"^gpu: tensors of 35.0 GiB do not fit the 1.5 GiB"):
        halves.normal((1 << 33,), "bf16", 0)
    with refused(r"^gpu: results of 4.0 GiB do not fit the 1.5 GiB"):
        halves.Poisoned.of((1 << 31,))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 12), st.integers(0, 9))
def test_pairs_are_those_that_the_mask_lets_through(
    p: int, m: int, window: int, offset: int
) -> None:
    mask = Mask(causal=True, window=window, offset=offset)
    query, key = np.arange(p)[:, None], np.arange(m)[None, :]
    seen = key <= query + offset
    if window:
        seen &= key > query + offset - window
    assert mask.pairs(p, m) == seen.sum()
    for row in range(p):
        first, end = mask.span(row, m)
        assert set(range(first, end)) == set(np.nonzero(seen[row])[0])


@pytest.mark.parametrize("path", ["mma", "wgmma"])
@pytest.mark.parametrize("dim", attention.HEAD_DIMS)
def test_the_best_tiles_fit_a_hopper_multiprocessor(path: attention.Path, dim: int) -> None:
    tile = attention.best_tile(path, dim)
    assert tile.shared_bytes(dim) <= 227 * 1024
    assert tile.blocks * (tile.shared_bytes(dim) + 1024) <= 228 * 1024
    assert tile.blocks * tile.threads <= 2048


def test_macros_name_what_the_source_reads() -> None:
    mma = attention.macros(Problem(SMALL, Mask(causal=True, window=3)), Tile("mma", 64, 4, 2, 2), 2)
    assert mma == {
        "D": 64, "BN": 64, "WARPS": 4, "MI": 2, "BLOCKS_PER_SM": 2, "BF16": 1, "CAUSAL": 1,
        "WINDOW": 1, "SPARSE": 0, "PASSES": 2,
    }  # fmt: skip
    wgmma = attention.macros(Problem(SMALL, dtype="f16"), Tile("wgmma", 80, 12, stages=3), 1, True)
    assert wgmma == {
        "D": 64, "BN": 80, "CONSUMERS": 3, "STAGES": 3, "TURNS": 1, "PERSISTENT": 0, "BLOCKS": 1,
        "BF16": 0, "CAUSAL": 0, "WINDOW": 0, "SPARSE": 1,
    }  # fmt: skip


def test_bytes_and_operations() -> None:
    shape = Shape(2, 8, 100, 300, 64, HK=2)
    assert shape.flops == 4 * 2 * 8 * 100 * 300 * 64
    assert shape.compulsory_bytes == 2 * 2 * 64 * 2 * (8 * 100 + 2 * 300)
    assert Problem(shape).flops == shape.flops
    assert Problem(SMALL, Mask(causal=True)).flops == 4 * 2 * 64 * (100 * 101 // 2)
    assert Problem(SMALL).factor == 1 / 8
    assert Problem(SMALL, scale=2.0).factor == 2.0


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 7), st.integers(0, 99))
def test_lists_hold_the_kept_tiles_in_order(h: int, t: int, n: int, seed: int) -> None:
    keep = np.random.default_rng(seed).random((h, t, n)) < 0.5
    starts, tiles = sparse.lists(keep)
    assert starts.shape == (h, t + 1)
    for head in range(h):
        for row in range(t):
            mine = tiles[starts[head, row] : starts[head, row + 1]]
            assert mine.tolist() == np.nonzero(keep[head, row])[0].tolist()


def test_sparse_masks_that_are_refused() -> None:
    tile = Tile("mma", 64, 4, 2, 2)
    problem = Problem(Shape(1, 2, 256, 256, 64))
    with refused(r"^gpu: a mask of tiles is \(2, 2, 4\) here, not \(2, 4, 4\)$"):
        sparse.sparse(problem, tile, np.ones((2, 4, 4), dtype=bool))
    keep = np.ones((2, 2, 4), dtype=bool)
    keep[1, 0] = False
    with refused(r"^gpu: a query tile keeps no keys\n"):
        sparse.sparse(problem, tile, keep)
    causal = sparse.random_tiles(Problem(problem.shape, Mask(causal=True)), tile, 1.0, 0)
    assert causal.tolist() == [[[True, True, False, False], [True, True, True, True]]] * 2


def test_rows_that_are_refused() -> None:
    row = np.zeros((4, 16), dtype=np.uint16)
    with refused(r"^gpu: no kernel softmin in form held\n"):
        rows.launch("softmin", "held", row, row, 16, "bf16")
    with refused(r"^gpu: rows of 17 numbers lie 16 apart\n  allowed: a multiple of 8, no less$"):
        rows.launch("softmax", "held", row, row, 17, "bf16")
    with refused(r"^gpu: a row of 70000 numbers does not fit the registers of a block\n"):
        rows.row_tile(70000, "held")


@given(st.integers(1, 65536))
def test_a_block_covers_its_row(columns: int) -> None:
    tile = rows.row_tile(columns, "held")
    assert tile.threads * tile.held * 8 >= columns
    assert tile.threads <= 1024
    assert tile.held <= rows.MOST_HELD


def test_segments_of_linear_attention() -> None:
    assert linear.chunks_of(Shape(1, 16, 16384, 16384, 128), 132) == 16
    assert linear.chunks_of(Shape(64, 16, 16384, 16384, 64), 132) == 256
    assert linear.shared_bytes(64, False) < linear.shared_bytes(64, True) < 227 * 1024
