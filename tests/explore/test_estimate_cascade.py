"""Cascades on a GPU: every shipped one has a price, and attention says its kernel and tile."""

from __future__ import annotations

import re

import pytest

from accelsim.errors import InputError
from accelsim.explore.estimate_cascade import estimate_cascade, runs_on_gpu
from accelsim.explore.gpu_choice import FUSED
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from accelsim.load.gpu import load_gpu
from accelsim.load.kernel import load_kernel
from accelsim.mapper.gpu_tiles import legal
from accelsim.models.gpu_attention import shared_bytes
from accelsim.models.gpu_keys import Attention

SIZES = {"B": 2, "H": 4, "HK": 2, "G": 2, "P": 256, "M": 256, "E": 64, "F": 64, "D": 256, "W": 32}
CASCADES = catalog.names("cascade")


def sizes_of(name: str) -> dict[str, int]:
    """Sizes of every rank that the cascade asks for, small ones."""
    text = load_cascade(name)
    if text.equals in FUSED:
        return {r: SIZES[r] for r in ("B", "H", "G", "P", "M", "W", "E", "F") if r in text.ranks}
    sizes: dict[str, int] = {}
    for _ in range(12):
        try:
            estimate_cascade(name, arch="h100-sxm", shape=sizes)
        except InputError as error:
            wanted = re.findall(r"no size for rank (\w+)", str(error))
            if not wanted:
                raise
            sizes |= {rank: SIZES.get(rank, 8) for rank in wanted}
        else:
            break
    return sizes


@pytest.mark.parametrize("name", CASCADES)
def test_every_shipped_cascade_has_a_price(name: str) -> None:
    found = estimate_cascade(name, arch="h100-sxm", shape=sizes_of(name)).to_dict()
    assert found["cascade"] == name
    assert found["latency_s"] > 3.8e-6
    assert found["energy_j"] > 0
    assert all(one["tile"] for one in found["launches"] if one["name"] != "reduction")


LONG = {"B": 1, "H": 16, "P": 8192, "M": 8192, "E": 128, "F": 128}


def test_attention_runs_in_as_many_passes_as_its_cascade_makes() -> None:
    kernels = {
        name: estimate_cascade(name, arch="h100-sxm", shape=LONG).kernel
        for name in ("attention-1pass", "attention-2pass", "attention-3pass", "flash-attention-2")
    }
    assert kernels == {
        "attention-1pass": "attention-1pass-wgmma",
        "attention-2pass": "attention-2pass-mma",
        "attention-3pass": "attention-3pass-mma",
        "flash-attention-2": "attention-1pass-wgmma",
    }
    older = estimate_cascade("attention-1pass", arch="a100-sxm", shape=LONG)
    assert older.kernel == "attention-1pass-mma"


def test_fewer_passes_are_faster_and_a_mask_is_faster_still() -> None:
    def seconds(name: str) -> float:
        return estimate_cascade(name, arch="h100-sxm", shape=LONG).latency_s

    one, two, three = (seconds(f"attention-{n}pass") for n in (1, 2, 3))
    assert one < two < three
    assert seconds("attention-causal-1pass") < 0.7 * one


def test_the_chosen_tile_is_no_slower_than_the_shipped_one_and_fits() -> None:
    from accelsim.explore.estimate_gpu import estimate_kernel

    found = estimate_cascade("attention-1pass", arch="h100-sxm", shape=LONG)
    shipped = estimate_kernel("attention-1pass-wgmma", arch="h100-sxm", shape=LONG)
    assert found.latency_s <= shipped.latency_s


@pytest.mark.parametrize("arch", ["h100-sxm", "a100-sxm", "rtx4090"])
@pytest.mark.parametrize("name", ["attention-1pass-wgmma", "attention-1pass-mma"])
def test_legal_tiles_fit_registers_and_shared_memory(arch: str, name: str) -> None:
    gpu, kernel = load_gpu(arch), load_kernel(name)
    for head in (64, 96, 128):
        tiles = list(legal(gpu, kernel, head, head))
        assert tiles
        case = Attention(1, 1, 1, 1, 1, head, head)
        for tile in tiles:
            assert shared_bytes(kernel, tile, case) <= gpu.multiprocessor.block_shared_bytes
            threads = tile.threads + (128 if kernel.path == "wgmma" else 0)
            assert threads <= 1024


def test_what_is_a_gpu() -> None:
    assert runs_on_gpu("b200")
    assert not runs_on_gpu("teaching")
    with pytest.raises(InputError, match="unknown arch 'x'"):
        runs_on_gpu("x")


def test_a_size_that_is_missing() -> None:
    with pytest.raises(InputError, match="attention needs a size of M"):
        estimate_cascade("attention-1pass", arch="h100-sxm", shape={"E": 64})
