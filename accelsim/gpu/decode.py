"""Attention of one query position over a cache of float16, int8 or int4 keys and values.

The query heads that share a key head are the columns of one tile; the keys are
split over blocks and the splits merged (flash-decoding, Dao et al. 2023).
Integers have one float16 scale a key and head, K's and V's side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

from accelsim.gpu import halves
from accelsim.gpu.attention import HEAD_DIMS, LOG2E
from accelsim.gpu.device import GpuError, cupy, device
from accelsim.gpu.kernel import Kernel, load
from accelsim.ir import kernel as ir

#: Bits of a number in the cache.
BITS: Final = (16, 8, 4)
#: Parts of D threads that merge the splits of a query head: as in the source.
MERGERS: Final = 4
#: Two tiles of 8 columns: query heads that may share a key head.
MOST_GROUP: Final = 16


@dataclass(frozen=True, slots=True)
class Cache:
    """A decoding step: batch, query heads, key heads, keys in the cache, head dimension, bits.

    >>> Cache(B=1, H=32, HK=8, M=4096, E=128, bits=4).cache_bytes
    4325376
    """

    B: int
    H: int
    HK: int
    M: int
    E: int
    bits: int = 16

    def __post_init__(self) -> None:
        if min(self.B, self.H, self.HK, self.M) < 1:
            raise GpuError("a rank of a decoding step is empty", "sizes of 1 or more")
        if self.E not in HEAD_DIMS:
            raise GpuError(f"no kernel has head dimension {self.E}", ", ".join(map(str, HEAD_DIMS)))
        if self.bits not in BITS:
            raise GpuError(f"no cache has {self.bits} bits a number", ", ".join(map(str, BITS)))
        if self.H % self.HK or self.H // self.HK > MOST_GROUP:
            raise GpuError(
                f"{self.H} query heads do not share {self.HK} key heads",
                f"a divisor of H, at most {MOST_GROUP} query heads each",
            )
        if self.B * self.HK > 65535:
            raise GpuError(f"a grid takes no {self.B * self.HK} key heads", "65535 at most")

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.H // self.HK

    @property
    def cache_bytes(self) -> int:
        """Bytes of K and V with their scales: what a step must read."""
        scale = 2 if self.bits < 16 else 0
        return 2 * self.B * self.HK * self.M * (self.E * self.bits // 8 + scale)

    @property
    def flops(self) -> int:
        """Floating-point operations of both products."""
        return 4 * self.B * self.H * self.M * self.E


@dataclass(frozen=True, slots=True)
class Walk:
    """How a block walks: keys a warp takes at a time, warps, blocks a multiprocessor.

    With ``ahead`` a warp's next keys are on their way while it works on these.
    """

    tokens: int
    warps: int = 4
    blocks: int = 2
    ahead: bool = False


#: The walks that were fastest on an H100 by bits and head dimension, up to 8 heads a key head, with
#: as many blocks as their registers let reside (``validation/runs/h100-sxm/decode-walks.json``).
WALKS: Final = {
    (16, 64): Walk(32, blocks=4), (16, 96): Walk(32, blocks=3), (16, 128): Walk(32, blocks=3),
    (8, 64): Walk(64, blocks=4), (8, 96): Walk(64, blocks=3), (8, 128): Walk(32, blocks=4),
    (4, 64): Walk(64, blocks=4), (4, 96): Walk(64, blocks=4), (4, 128): Walk(64, ahead=True),
}  # fmt: skip


def walk_of(cache: Cache) -> Walk:
    """The walk that was fastest; two tiles of heads leave registers for the plainest one.

    >>> walk_of(Cache(1, 32, 2, 4096, 128, bits=4))
    Walk(tokens=32, warps=4, blocks=2, ahead=False)
    """
    return Walk(32) if cache.group > 8 else WALKS[cache.bits, cache.E]


def splits_of(cache: Cache, walk: Walk, multiprocessors: int) -> tuple[int, int]:
    """Blocks that share the keys of a head, and keys of each.

    As many as ``ir.kernel.splits_of`` says, a warp's keys once through a block being the least;
    a block starts at a multiple of 16 keys.

    >>> splits_of(Cache(1, 32, 8, 65536, 128), Walk(32), 132)
    (32, 2048)
    >>> splits_of(Cache(13, 256, 32, 4480, 96, 4), Walk(32, blocks=3), 132)
    (5, 896)
    """
    slots, least = multiprocessors * walk.blocks, walk.tokens * walk.warps
    wanted = ir.splits_of(cache.B * cache.HK, slots, cache.M, least)
    length = -(-cache.M // wanted // 16) * 16
    return -(-cache.M // length), length


def pitch(keys: int) -> int:
    """Keys from one head's scales to the next head's.

    >>> pitch(1001)
    1008
    """
    return -(-keys // 8) * 8


def packed(x: Any, bits: int) -> tuple[Any, Any, Any]:
    """Float32 [..., E] to integers as the kernel reads them, float16 scales, and float64 values."""
    module = cupy()
    most = 2 ** (bits - 1) - 1
    scale = (module.abs(x).max(axis=-1) / most).astype(module.float16)
    wide = scale.astype(module.float32)[..., None]
    whole = module.clip(module.rint(x / wide), -most, most).astype(module.int32)
    value = whole.astype(module.float64) * scale.astype(module.float64)[..., None]
    if bits == 8:
        return whole.astype(module.int8).view(module.uint8), scale, value
    return nibbles(whole).view(module.uint8).reshape(*x.shape[:-1], -1), scale, value


def nibbles(whole: Any) -> Any:
    """Integers -8 to 7 [..., E] to words [..., E / 8], of NumPy or CuPy.

    >>> import numpy
    >>> [hex(w) for w in nibbles(numpy.arange(8))]
    ['0x75316420']
    """
    eight = (whole & 15).astype("uint32").reshape(*whole.shape[:-1], -1, 8)
    words = eight[..., 0] * 0
    for number in range(8):
        words |= eight[..., number] << (4 * (number // 2 + 4 * (number % 2)))
    return words


@dataclass(frozen=True)
class Step:
    """Inputs of a decoding step on the GPU, drawn from ``seed``, and its poisoned output."""

    cache: Cache
    seed: int = 0
    dtype: str = "f16"

    def __post_init__(self) -> None:
        if self.cache.bits < 16 and self.dtype != "f16":
            raise GpuError("integer caches are expanded to float16", "dtype f16")

    @cached_property
    def q(self) -> Any:
        """Queries [B, H, E]."""
        c = self.cache
        return halves.normal((c.B, c.H, c.E), self.dtype, 3 * self.seed)

    @cached_property
    def scales(self) -> Any:
        """Scales [B HK, pitch, 2] of K and of V; ones behind the last key."""
        module, c = cupy(), self.cache
        return module.ones((c.B * c.HK, pitch(c.M), 2), dtype=module.float16)

    def _stored(self, seed: int, which: int) -> tuple[Any, Any]:
        """Numbers as stored (scales go where they belong), and as they were drawn."""
        module, c = cupy(), self.cache
        heads = c.B * c.HK
        drawn = halves.normal((heads, c.M, c.E), self.dtype, seed)
        if c.bits == 16:
            return drawn, drawn
        raw = module.empty((heads, c.M, c.E * c.bits // 8), dtype=module.uint8)
        for head in range(heads):
            x = drawn[head].view(module.float16).astype(module.float32)
            raw[head], self.scales[head, : c.M, which], _ = packed(x, c.bits)
        return raw, drawn

    @cached_property
    def k(self) -> tuple[Any, Any]:
        """Keys: as stored, as drawn."""
        return self._stored(3 * self.seed + 1, 0)

    @cached_property
    def v(self) -> tuple[Any, Any]:
        """Values, likewise."""
        return self._stored(3 * self.seed + 2, 1)

    @cached_property
    def out(self) -> halves.Poisoned:
        """Where the kernel writes [B, H, E]."""
        return halves.Poisoned.of((self.cache.B, self.cache.H, self.cache.E))

    def _wide(self, stored: tuple[Any, Any], head: int) -> Any:
        """Float64 of one head's keys or values, what the integers mean."""
        module = cupy()
        if self.cache.bits == 16:
            return halves.widened(stored[0][head], self.dtype)
        x = stored[1][head].view(module.float16).astype(module.float32)
        return packed(x, self.cache.bits)[2]

    def check(self, run: Callable[[], None], heads: int = 6) -> halves.Check:
        """Run on the poisoned output and compare some key heads, the first and last among them."""
        module, c = cupy(), self.cache
        self.out.poison()
        run()
        module.cuda.runtime.deviceSynchronize()
        total = c.B * c.HK
        draw = module.random.default_rng(self.seed)
        chosen = sorted({0, total - 1, *(int(x) for x in draw.integers(0, total, heads))})
        q = halves.widened(self.q, self.dtype).reshape(total, c.group, c.E)
        out = halves.widened(self.out.array, self.dtype).reshape(total, c.group, c.E)
        wanted = []
        for head in chosen:
            scores = q[head] @ self._wide(self.k, head).T / math.sqrt(c.E)
            weights = module.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            wanted.append(weights @ self._wide(self.v, head))
        return halves.compared(
            out[module.asarray(chosen)],
            module.stack(wanted),
            self.out,
            halves.TOLERANCE[self.dtype],
            len(chosen) * c.group,
        )


def macros(cache: Cache, walk: Walk, dtype: str) -> dict[str, int]:
    """What the kernels are compiled with."""
    return {
        "D": cache.E, "BITS": cache.bits, "TOKENS": walk.tokens, "WARPS": walk.warps,
        "BLOCKS_PER_SM": walk.blocks, "AHEAD": int(walk.ahead), "BF16": halves.flag(dtype),
        "HEAD_TILES": -(-cache.group // 8),
    }  # fmt: skip


def kernel(step: Step, walk: Walk) -> Kernel:
    """The kernel that reads the cache."""
    return load("decode.cu", "split", macros(step.cache, walk, step.dtype), 32 * walk.warps)


def decode(step: Step, walk: Walk | None = None) -> Callable[[], None]:
    """A launch of the split kernel and, where there is more than one split, of the merge."""
    module, c = cupy(), step.cache
    chosen = walk or walk_of(c)
    first = kernel(step, chosen)
    last = load("decode.cu", "merge", macros(c, chosen, step.dtype), MERGERS * c.E)
    splits, length = splits_of(c, chosen, device().multiprocessors)
    partial = module.empty((c.B * c.H, splits, c.E), dtype=module.float32)
    statistics = module.empty((c.B * c.H, splits, 2), dtype=module.float32)
    number = module.int32
    grid = (splits, c.B * c.HK)
    scale = module.float32(LOG2E / math.sqrt(c.E))
    arguments = (
        step.q, step.k[0], step.v[0], step.scales, partial, statistics, step.out.array,
        number(c.M), number(c.group), number(length), number(pitch(c.M)), scale,
    )  # fmt: skip

    def run() -> None:
        first(grid, *arguments)
        if splits > 1:
            last((c.B * c.H,), partial, statistics, step.out.array, number(splits))

    return run


def as_dict(cache: Cache, walk: Walk, multiprocessors: int) -> dict[str, Any]:
    """For a record; ``loads`` tells the kernel from one that asked for parts of lines."""
    splits, length = splits_of(cache, walk, multiprocessors)
    told = {"cache": asdict(cache), "name": "decode-split", "walk": asdict(walk), "loads": "lines"}
    return told | {"splits": splits, "length": length}
