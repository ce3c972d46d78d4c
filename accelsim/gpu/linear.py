"""Causal linear attention with decay, in chunks of 64 (retention; Sun et al. 2023, equation 7).

``O[z, p] = sum over m <= p of decay_z^(p - m) (Q[z, p] . K[z, m]) V[z, m]``; arrays [B, H, M, E].
A sequence is cut into segments: their own states, a prefix over segments, then the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from accelsim.gpu import halves
from accelsim.gpu.attention import Shape
from accelsim.gpu.device import cupy, device
from accelsim.gpu.kernel import load

#: Positions of a chunk, and threads of a block: as in the source.
CHUNK: Final = 64
THREADS: Final = 128
#: Threads of a block of the prefix, four numbers of the state each.
SCANNERS: Final = 128


def columns(head_dim: int) -> int:
    """Columns of V that a block owns.

    >>> [columns(d) for d in (64, 96, 128)]
    [64, 32, 64]
    """
    return 32 if head_dim == 96 else 64


def shared_bytes(head_dim: int, output: bool) -> int:
    """Shared memory of a block: two stages of K, V and (for outputs) Q, and the state.

    >>> shared_bytes(128, True)
    98304
    """
    width = columns(head_dim)
    stage = 2 * CHUNK * (head_dim * (2 if output else 1) + width)
    return 2 * stage + (2 * head_dim * width if output else 0)


@dataclass(frozen=True)
class Decayed:
    """Inputs and poisoned output on the GPU; head h decays by ``decays[h]`` a position."""

    shape: Shape
    dtype: str = "bf16"
    seed: int = 0

    @cached_property
    def decays(self) -> Any:
        """Retention's own: 1 - 2^(-5 - h) for head h, at most 2^-12 away from 1."""
        module = cupy()
        heads = module.minimum(module.arange(self.shape.H), 7)
        return 1 - 2.0 ** (-5.0 - heads)

    @cached_property
    def inputs(self) -> tuple[Any, Any, Any]:
        """Q, K, V."""
        s = self.shape
        size = (s.B, s.H, s.M, s.E)
        return (
            halves.normal(size, self.dtype, 3 * self.seed, s.E**-0.5),
            halves.normal(size, self.dtype, 3 * self.seed + 1),
            halves.normal(size, self.dtype, 3 * self.seed + 2),
        )

    @cached_property
    def out(self) -> halves.Poisoned:
        """Where the kernel writes."""
        s = self.shape
        return halves.Poisoned.of((s.B, s.H, s.M, s.E))

    @property
    def flops(self) -> int:
        """Floating-point operations of the chunked form: scores, values, state read and update."""
        s = self.shape
        chunks = -(-s.M // CHUNK)
        return 2 * s.B * s.H * chunks * CHUNK * (2 * CHUNK * s.E + 2 * s.E * s.E)

    def check(self, run: Callable[[], None], heads: int = 4, rows: int = 64) -> halves.Check:
        """Run on the poisoned output and compare some queries with the quadratic form."""
        module, s = cupy(), self.shape
        self.out.poison()
        run()
        module.cuda.runtime.deviceSynchronize()
        draw = module.random.default_rng(self.seed + 11)
        places = {0, s.B * s.H - 1, *(int(x) for x in draw.integers(0, s.B * s.H, heads - 2))}
        found, wanted = [], []
        for place in sorted(places):
            b, h = divmod(place, s.H)
            edge = module.asarray([0, s.M - 1])
            p = module.concatenate([edge, draw.integers(0, s.M, rows)])
            q, k, v = (halves.widened(x[b, h], self.dtype) for x in self.inputs)
            behind = p[:, None] - module.arange(s.M)[None, :]
            weight = module.where(behind < 0, 0.0, self.decays[h] ** module.maximum(behind, 0))
            wanted.append((weight * (q[p] @ k.T)) @ v)
            found.append(halves.widened(self.out.array[b, h][p], self.dtype))
        return halves.compared(
            module.concatenate(found),
            module.concatenate(wanted),
            self.out,
            halves.TOLERANCE[self.dtype],
            sum(len(x) for x in found),
        )


def chunks_of(shape: Shape, multiprocessors: int) -> int:
    """Chunks of a segment: about two waves of two blocks a multiprocessor, 8 chunks at least.

    >>> chunks_of(Shape(1, 16, 16384, 16384, 128), 132)
    16
    """
    blocks = shape.B * shape.H * (shape.E // columns(shape.E))
    segments = max(1, multiprocessors * 4 // blocks)
    whole = -(-shape.M // CHUNK)
    return max(8, -(-whole // segments))


def linear(problem: Decayed, per_segment: int | None = None) -> Callable[[], None]:
    """The pipeline of three kernels; of one where a sequence is one segment."""
    module, s = cupy(), problem.shape
    each = per_segment or chunks_of(s, device().multiprocessors)
    segments = -(-s.M // (CHUNK * each))
    base = {"D": s.E, "BF16": halves.flag(problem.dtype)}
    local, output = (
        load("linear.cu", "chunks", base | {"OUTPUT": i}, THREADS, shared_bytes(s.E, bool(i)))
        for i in (0, 1)
    )
    prefix = load("linear.cu", "prefix", base | {"OUTPUT": 0}, SCANNERS)
    states = module.zeros((s.B * s.H, segments, s.E, s.E), dtype=module.float32)
    rates = module.log2(problem.decays).astype(module.float32)
    number = module.int32
    grid = (s.E // columns(s.E), segments, s.B * s.H)
    arguments = (
        *problem.inputs, rates, states, problem.out.array,
        number(s.M), number(s.H), number(each),
    )  # fmt: skip
    scan = (states, rates, number(s.H), number(segments), number(each * CHUNK))

    def run() -> None:
        if segments > 1:
            local(grid, *arguments)
            prefix((-(-s.E * s.E // (4 * SCANNERS)), s.B * s.H), *scan)
        output(grid, *arguments)

    return run
