"""Attention in three kernels: scores and weights go through memory (the three-pass cascade)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from accelsim.gpu import halves, rows
from accelsim.gpu.device import GpuError, check_room, cupy
from accelsim.gpu.kernel import load

if TYPE_CHECKING:
    from accelsim.gpu.attention import Problem

#: Queries and keys of a tile of scores, keys of a step of values, stages: as in the source.
QUERIES, KEYS, STEP, STAGES, THREADS = 128, 64, 64, 3, 128


def shared_bytes(head_dim: int) -> dict[str, int]:
    """Shared memory of a block of each kernel.

    >>> shared_bytes(128)
    {'scores': 81920, 'values': 98304}
    """
    scores = 2 * head_dim * (QUERIES + 2 * KEYS) + 2 * QUERIES * KEYS
    values = max(STAGES * 2 * (QUERIES * STEP + STEP * head_dim), 2 * QUERIES * head_dim)
    return {"scores": scores, "values": values}


def tiles_of(head_dim: int) -> int:
    """Tiles of keys that a block of scores walks over.

    >>> tiles_of(64), tiles_of(128)
    (1, 8)
    """
    return 1 if head_dim == 64 else 8


def pitch(keys: int) -> int:
    """Numbers from one row of scores to the next: rows begin where lines of memory do.

    >>> pitch(1001)
    1024
    """
    return -(-keys // 64) * 64


def unfused(problem: Problem) -> Callable[[], None]:
    """The pipeline scores, softmax, values; the scores take 2 B H P M bytes of device memory."""
    stages = tuple(kernels(problem).values())

    def run() -> None:
        for stage in stages:
            stage()

    return run


def kernels(problem: Problem) -> dict[str, Callable[[], None]]:
    """The three launches by name."""
    s, mask = problem.shape, problem.mask
    if mask.window:
        raise GpuError("attention in three passes has no window", "window=0")
    if s.B * s.H > 65535:
        raise GpuError(f"a grid takes no {s.B * s.H} heads in three passes", "65535 at most")
    module = cupy()
    check_room(2 * s.B * s.H * s.P * pitch(s.M), "scores")
    defines = {"D": s.E, "BF16": halves.flag(problem.dtype), "CAUSAL": int(mask.causal)}
    shared = shared_bytes(s.E)
    first = load("attention_unfused.cu", "scores", defines, THREADS, shared["scores"])
    last = load("attention_unfused.cu", "values", defines, THREADS, shared["values"])
    scores = module.empty((s.B * s.H, s.P, pitch(s.M)), dtype=module.uint16)
    number = module.int32
    group, row = number(s.H // s.key_heads), number(pitch(s.M))
    tiles, heads = -(-s.P // QUERIES), s.B * s.H
    shape = (number(s.P), number(s.M), group, row)
    one: tuple[Any, ...] = (
        problem.q, problem.k, scores, *shape, module.float32(problem.factor), number(mask.offset),
    )  # fmt: skip
    three = (scores, problem.v, problem.out.array, *shape, number(mask.offset))
    two = rows.softmax(
        scores, s.M, problem.dtype, causal_offset=mask.offset if mask.causal else None
    )
    return {
        "scores": lambda: first((-(-s.M // (tiles_of(s.E) * KEYS)), tiles, heads), *one),
        "softmax": two,
        "values": lambda: last((tiles, heads), *three),
    }
