"""Linear attention without a mask, phi = elu + 1 (Katharopoulos et al. 2020, equation 5).

``O[z, p] = phi(Q[z, p]) S_z / (phi(Q[z, p]) . k_z)`` with ``S_z`` and ``k_z`` the sums of
``phi(K[z, m])^T V[z, m]`` and ``phi(K[z, m])`` over all m: the cascade ``linear-attention``.
Keys are cut into segments, whose sums a second kernel adds; a third puts queries through them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from accelsim.gpu import halves
from accelsim.gpu.attention import Shape
from accelsim.gpu.device import GpuError, cupy, device
from accelsim.gpu.kernel import load

#: Positions of a chunk, and threads of a block: as in the source.
CHUNK: Final = 64
THREADS: Final = 256


def shared_bytes(head_dim: int) -> dict[str, int]:
    """Shared memory of a block: two chunks of K and V; the state and two chunks of Q.

    >>> shared_bytes(128)
    {'states': 65536, 'outputs': 65536}
    """
    chunk = 2 * CHUNK * head_dim
    return {"states": 4 * chunk, "outputs": 2 * head_dim * head_dim + 2 * chunk}


def chunks_of(length: int, heads: int, multiprocessors: int) -> int:
    """Chunks that a block takes: about two waves of two blocks a multiprocessor, 4 at least.

    >>> chunks_of(16384, 16, 132)
    8
    """
    blocks = max(1, multiprocessors * 4 // heads)
    whole = -(-length // CHUNK)
    return max(4, -(-whole // blocks))


@dataclass(frozen=True)
class Featured:
    """Inputs and poisoned output on the GPU, drawn from ``seed``."""

    shape: Shape
    dtype: str = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.shape.key_heads != self.shape.H:
            raise GpuError("linear attention here shares no key heads", "HK equal to H")

    @cached_property
    def inputs(self) -> tuple[Any, Any, Any]:
        """Q, K, V."""
        s, seed = self.shape, 3 * self.seed
        sizes = ((s.B, s.H, n, s.E) for n in (s.P, s.M, s.M))
        q, k, v = (halves.normal(x, self.dtype, seed + i) for i, x in enumerate(sizes))
        return q, k, v

    @cached_property
    def out(self) -> halves.Poisoned:
        """Where the kernel writes."""
        s = self.shape
        return halves.Poisoned.of((s.B, s.H, s.P, s.E))

    @property
    def flops(self) -> int:
        """Floating-point operations of the state and of the outputs, normalisation included.

        >>> Featured(Shape(1, 1, 64, 128, 64)).flops
        1597440
        """
        s = self.shape
        return 2 * s.B * s.H * s.E * (s.E + 1) * (s.P + s.M)

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
            p = module.concatenate([module.asarray([0, s.P - 1]), draw.integers(0, s.P, rows)])
            q, k, v = (halves.widened(x[b, h], self.dtype) for x in self.inputs)
            q, k = (module.maximum(x, 0) + module.exp(module.minimum(x, 0)) for x in (q[p], k))
            weights = q @ k.T
            wanted.append((weights / weights.sum(axis=1, keepdims=True)) @ v)
            found.append(halves.widened(self.out.array[b, h][p], self.dtype))
        return halves.compared(
            module.concatenate(found), module.concatenate(wanted), self.out,
            halves.TOLERANCE[self.dtype], sum(len(x) for x in found),
        )  # fmt: skip


def linear(problem: Featured) -> Callable[[], None]:
    """The pipeline of three kernels."""
    module, s = cupy(), problem.shape
    q, k, v = problem.inputs
    heads, count = s.B * s.H, device().multiprocessors
    keys, queries = (chunks_of(n, heads, count) for n in (s.M, s.P))
    segments, blocks = -(-s.M // (CHUNK * keys)), -(-s.P // (CHUNK * queries))
    base = {"D": s.E, "BF16": halves.flag(problem.dtype)}
    shared = shared_bytes(s.E)
    states, outputs = (
        load("linear_full.cu", name, base, THREADS, shared[name]) for name in ("states", "outputs")
    )
    total = load("linear_full.cu", "total", base, 256)
    parts = module.empty((heads, segments, s.E, s.E), dtype=module.float32)
    sums = module.empty((heads, segments, s.E), dtype=module.float32)
    state = module.empty((heads, s.E + 1, s.E), dtype=module.uint16)
    number, scale = module.int32, module.float32(1 / s.M)
    pairs = s.E * (s.E + 1) // 2

    def run() -> None:
        states((segments, heads), k, v, parts, sums, number(s.M), number(keys))
        total((-(-pairs // 256), heads), parts, sums, state, number(segments), scale)
        outputs((blocks, heads), q, state, problem.out.array, number(s.P), number(queries))

    return run
