"""Low-bit numbers as they are stored, read back the way the kernels read them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.gpu import decode, gemv
from accelsim.gpu.attention import Shape
from accelsim.gpu.decode import Cache, Step, Walk
from accelsim.gpu.device import GpuError
from accelsim.gpu.estimation import Quantised
from accelsim.gpu.gemv import FORMATS, Tiling, Weights


def refused(message: str):
    return pytest.raises(GpuError, match=message)


def test_caches_that_no_kernel_takes() -> None:
    with refused(r"^gpu: a rank of a decoding step is empty\n"):
        Cache(1, 8, 8, 0, 64)
    with refused(r"^gpu: no kernel has head dimension 256\n"):
        Cache(1, 8, 8, 100, 256)
    with refused(r"^gpu: no cache has 3 bits a number\n  allowed: 16, 8, 4$"):
        Cache(1, 8, 8, 100, 64, bits=3)
    with refused(r"^gpu: 64 query heads do not share 2 key heads\n"):
        Cache(1, 64, 2, 100, 64)
    with refused(r"^gpu: a grid takes no 80000 key heads\n"):
        Cache(10000, 8, 8, 100, 64)
    with refused(r"^gpu: integer caches are expanded to float16\n  allowed: dtype f16$"):
        Step(Cache(1, 8, 8, 100, 64, bits=8), dtype="bf16")


@given(st.integers(1, 64), st.sampled_from([1, 2, 8, 32]), st.integers(1, 200_000),
       st.sampled_from(decode.BITS))  # fmt: skip
def test_splits_cover_the_keys_once(batch: int, heads: int, keys: int, bits: int) -> None:
    cache = Cache(batch, heads, heads, keys, 128, bits)
    splits, length = decode.splits_of(cache, decode.walk_of(cache), 132)
    assert length % 16 == 0
    assert (splits - 1) * length < keys <= splits * length


def test_bytes_of_a_cache() -> None:
    assert Cache(2, 8, 4, 100, 64).cache_bytes == 2 * 2 * 4 * 100 * 128
    assert Cache(2, 8, 4, 100, 64, bits=8).cache_bytes == 2 * 2 * 4 * 100 * (64 + 2)
    assert Cache(2, 8, 4, 100, 96, bits=4).cache_bytes == 2 * 2 * 4 * 100 * (48 + 2)
    assert Walk(32).warps == 4


def test_nibbles_stand_where_the_kernel_looks() -> None:
    """Nibble i holds number 2i, nibble 4 + i number 2i + 1 (decode.cu)."""
    numbers = np.random.default_rng(0).integers(-8, 8, size=(3, 64))
    words = decode.nibbles(numbers)
    assert words.shape == (3, 8)
    assert words.dtype == np.uint32
    for i in range(4):
        for half in (0, 1):
            nibble = (words >> (4 * (i + 4 * half))) & 15
            signed = nibble.astype(int) - 16 * (nibble > 7)
            assert (signed == numbers[:, 2 * i + half :: 8]).all()


def test_weights_that_no_kernel_takes() -> None:
    with refused(r"^gpu: no weights are stored as fp4\n  allowed: int4, int3, int2, ternary$"):
        Weights(8, 128, "fp4")
    with refused(r"^gpu: rows of 128 weights are not whole groups\n  allowed: multiples of 160$"):
        Weights(8, 128, "ternary")
    with refused(r"^gpu: 17 vectors in one launch\n  allowed: 1 to 16$"):
        Weights(8, 128, batch=17)


#: Where a pair's field stands when the kernel has set its exponent: ``place`` in gemv.cu.
PLACES = {
    "int4": [0, 4] * 8,
    "int2": [0, 2, 4, 6] * 4,
    "int3": [0, 3, 6, 0, 3] * 3 + [0],
    "ternary": [8] * 20,
}
BITS = {"int4": 4, "int2": 2, "int3": 3, "ternary": 2}


def field(word: int, pair: int, name: str) -> int:
    """Both halves of a word with the exponent of 1024 and only a pair's field left."""
    mask = ((1 << BITS[name]) - 1) * 0x10001 << PLACES[name][pair]
    return (word & mask) | 0x64006400


def read_pair(words: list[int], pair: int, name: str) -> int:
    """A pair as ``unpack_quarter`` of gemv.cu makes it."""
    if name == "int4":
        return field(words[pair // 4] >> (8 if pair & 2 else 0), pair, name)
    if name == "int2":
        return field(words[pair // 8] >> (8 if pair & 4 else 0), pair, name)
    if name == "int3":
        if pair < 15:
            return field(words[pair // 5] >> (9 if pair % 5 >= 3 else 0), pair, name)
        spread = (words[0] >> 15 & 0x10001) | (words[1] >> 14 & 0x20002)
        return spread | (words[2] >> 13 & 0x40004) | 0x64006400
    left = words[pair // 10] >> (8 * (pair % 2)) & 0x00FF00FF
    for _ in range(pair % 10 // 2 + 1):
        tripled = left * 3
        left = tripled & 0x00FF00FF
    return field(tripled, pair, name)


def as_float(half: int) -> float:
    return float(np.uint16(half).view(np.float16))


@pytest.mark.parametrize("name", FORMATS)
def test_weights_come_back(name: str) -> None:
    form = FORMATS[name]
    draw = np.random.default_rng(3)
    numbers = draw.integers(0, form.levels, size=(3, 2 * form.group)) + form.least
    words = gemv.packed(numbers, form)
    assert words.shape == (3, 2, 4, form.words)
    quarters = numbers.reshape(3, 2, 4, form.group // 4)
    for at in np.ndindex(3, 2, 4):
        mine = [int(w) for w in words[at]]
        for pair, place in enumerate(PLACES[name][: form.group // 8]):
            both = read_pair(mine, pair, name)
            constant = 1024 - form.least * 2**place
            got = [(as_float(x) - constant) / 2**place for x in (both & 0xFFFF, both >> 16)]
            assert got == quarters[at][2 * pair : 2 * pair + 2].tolist()


def test_tiles_of_weight_rows() -> None:
    rows = (28672, 4224, 4223, 2112, 2111, 1)
    assert [gemv.tiling_of(Weights(n, 128), 132).tiles for n in rows] == [4, 4, 2, 2, 1, 1]
    weights = Weights(4096, 4096, "int4", batch=9)
    assert gemv.macros(weights, Tiling(4, 2, 1)) == {
        "FORMAT": 4, "TILES": 4, "DEPTH": 2, "BLOCKS": 1, "HIGH": 1, "BF16": 0,
    }  # fmt: skip
    assert gemv.tiling_of(weights, 132) == Tiling(2, blocks=1)


def test_estimates_that_are_refused() -> None:
    with refused(r"^gpu: no scores are estimated from 2 bits\n  allowed: 8 or 4$"):
        Quantised(Shape(1, 1, 8, 8, 64), bits=2)
    with refused(r"^gpu: no estimate has head dimension 96\n  allowed: 64 or 128$"):
        Quantised(Shape(1, 1, 8, 8, 96))


def test_bytes_of_quantised_queries_and_keys() -> None:
    shape = Shape(1, 4, 100, 300, 128, HK=2)
    assert Quantised(shape, bits=8).bytes == (400 + 600) * (128 + 4)
    assert Quantised(shape, bits=4).bytes == (400 + 600) * (64 + 4)
