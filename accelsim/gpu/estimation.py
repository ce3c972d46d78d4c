"""Estimated attention scores from 8- or 4-bit queries and keys, the best of each 64 x 64 block.

The selection stage of block-sparse attention (SALE and its kin): it reads Q
and K at a half or a quarter of their bytes and writes one number a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from accelsim.gpu import halves
from accelsim.gpu.attention import Shape
from accelsim.gpu.device import GpuError, cupy
from accelsim.gpu.kernel import Kernel, load

#: Queries and keys of a block of the grid, and of a block of the result.
SIDE: Final = 128
BLOCK: Final = 64
THREADS: Final = 128
HEAD_DIMS: Final = (64, 128)


@dataclass(frozen=True)
class Quantised:
    """Integer queries and keys on the GPU, drawn from ``seed``; one float32 scale a row."""

    shape: Shape
    bits: int = 8
    causal: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bits not in (8, 4):
            raise GpuError(f"no scores are estimated from {self.bits} bits", "8 or 4")
        if self.shape.E not in HEAD_DIMS:
            raise GpuError(f"no estimate has head dimension {self.shape.E}", "64 or 128")

    def _drawn(self, heads: int, length: int, seed: int) -> tuple[Any, Any, Any]:
        """Integers, what is stored of them, and scales."""
        module = cupy()
        most = 2 ** (self.bits - 1) - 1
        draw = module.random.default_rng(seed)
        size = (self.shape.B * heads, length, self.shape.E)
        found = draw.integers(-most - 1, most + 1, size=size, dtype=module.int32)
        whole = found.astype(module.int8)
        stored = whole.view(module.uint8)
        if self.bits == 4:
            stored = (stored[..., ::2] & 15) | (stored[..., 1::2] << module.uint8(4))
        scale = draw.random(size[:2], dtype=module.float32) + module.float32(0.5)
        return whole, module.ascontiguousarray(stored), scale

    @cached_property
    def q(self) -> tuple[Any, Any, Any]:
        """Queries: integers, as stored, scales."""
        return self._drawn(self.shape.H, self.shape.P, 2 * self.seed)

    @cached_property
    def k(self) -> tuple[Any, Any, Any]:
        """Keys, likewise."""
        return self._drawn(self.shape.key_heads, self.shape.M, 2 * self.seed + 1)

    @property
    def bytes(self) -> int:
        """Bytes of queries and keys as stored, and of their scales.

        >>> Quantised(Shape(1, 1, 64, 64, 128), bits=4).bytes
        8704
        """
        s = self.shape
        rows = s.B * (s.H * s.P + s.key_heads * s.M)
        return rows * (s.E * self.bits // 8 + 4)

    @cached_property
    def out(self) -> Any:
        """Where the kernel writes [B H, blocks of queries, blocks of keys], poisoned with NaN."""
        module, s = cupy(), self.shape
        size = (s.B * s.H, -(-s.P // BLOCK), -(-s.M // BLOCK))
        return module.full(size, module.nan, dtype=module.float32)

    def check(self, run: Callable[[], None], heads: int = 3) -> halves.Check:
        """Run on the poisoned output and compare some heads, the first and last among them."""
        module, s = cupy(), self.shape
        self.out.fill(module.nan)
        run()
        module.cuda.runtime.deviceSynchronize()
        draw = module.random.default_rng(self.seed)
        total, group = s.B * s.H, s.H // s.key_heads
        chosen = sorted({0, total - 1, *(int(x) for x in draw.integers(0, total, heads))})
        worst = largest = 0.0
        differs = 0
        for z in chosen:
            wanted = self._expected(z, z // group)
            found = self.out[z].astype(module.float64)
            both = module.isinf(wanted)
            differs += int((both != module.isinf(found)).sum())
            error = module.abs(module.where(both, 0, found) - module.where(both, 0, wanted))
            largest = max(largest, float(error.max()))
            worst = max(worst, largest / float(module.abs(wanted[~both]).max()))
        unwritten = int(module.isnan(self.out).sum())
        return halves.Check(worst, largest, len(chosen), unwritten, differs, 1e-6)

    def _expected(self, z: int, zk: int) -> Any:
        """The best of each block in float64, -inf where none counts."""
        module, s = cupy(), self.shape
        q = self.q[0][z].astype(module.float64) * self.q[2][z].astype(module.float64)[:, None]
        k = self.k[0][zk].astype(module.float64) * self.k[2][zk].astype(module.float64)[:, None]
        rows, columns = -(-s.P // BLOCK), -(-s.M // BLOCK)
        scores = module.full((rows * BLOCK, columns * BLOCK), -module.inf)
        scores[: s.P, : s.M] = q @ k.T
        if self.causal:
            later = module.arange(columns * BLOCK)[None, :] > module.arange(rows * BLOCK)[:, None]
            scores[later] = -module.inf
        return scores.reshape(rows, BLOCK, columns, BLOCK).max(axis=(1, 3))


def macros(problem: Quantised) -> dict[str, int]:
    """What the kernel is compiled with."""
    return {"D": problem.shape.E, "BITS": problem.bits, "CAUSAL": int(problem.causal)}


def kernel(problem: Quantised) -> Kernel:
    """The kernel for a head dimension, width and mask."""
    shared = 2 * SIDE * problem.shape.E
    return load("estimation.cu", "estimate", macros(problem), THREADS, shared)


def estimate(problem: Quantised) -> Callable[[], None]:
    """A launch."""
    module, s = cupy(), problem.shape
    built, number = kernel(problem), module.int32
    (_, q, q_scale), (_, k, k_scale) = problem.q, problem.k
    arguments = (
        q, k, q_scale, k_scale, problem.out,
        number(s.P), number(s.M), number(s.H // s.key_heads),
    )  # fmt: skip
    grid = (-(-s.M // SIDE), -(-s.P // SIDE), s.B * s.H)
    return lambda: built(grid, *arguments)
