"""Attention over chosen blocks of keys: the one-pass kernels walk a list of key tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accelsim.gpu import halves
from accelsim.gpu.attention import Problem, Tile, fused
from accelsim.gpu.device import GpuError, cupy


def lists(keep: Any) -> tuple[Any, Any]:
    """Starts [H, T + 1] and key tiles, from a NumPy mask of tiles [H, T, key tiles].

    >>> import numpy
    >>> starts, tiles = lists(numpy.array([[[1, 0, 1], [0, 1, 0]]], dtype=bool))
    >>> starts.tolist(), tiles.tolist()
    ([[0, 2, 3]], [0, 2, 1])
    """
    import numpy

    counts = keep.sum(axis=2)
    ends = numpy.cumsum(counts.ravel()).reshape(counts.shape)
    starts = numpy.concatenate([(ends - counts)[:, :1], ends], axis=1)
    return starts.astype(numpy.int32), numpy.nonzero(keep)[2].astype(numpy.int32)


def drawn_tiles(
    heads: int, grid: tuple[int, int], tile: tuple[int, int], share: float, seed: int
) -> Any:
    """A NumPy mask of tiles [heads, *grid] of about that share, the diagonal always kept.

    ``grid`` are tiles of queries and of keys, ``tile`` the queries and keys of one.

    >>> drawn_tiles(2, (2, 4), (128, 64), 0.2, 1).astype(int).tolist()
    [[[1, 1, 1, 0], [0, 0, 1, 1]], [[1, 1, 0, 0], [0, 0, 1, 1]]]
    """
    import numpy

    (rows, columns), (queries, keys) = grid, tile
    keep = numpy.random.default_rng(seed).random((heads, rows, columns)) < share
    for row in range(rows):
        first, last = row * queries // keys, ((row + 1) * queries - 1) // keys
        keep[:, row, min(first, columns - 1) : last + 1] = True
    return keep


def random_tiles(problem: Problem, tile: Tile, share: float, seed: int) -> Any:
    """The same for a problem; under a causal mask nothing behind the diagonal."""
    s, of = problem.shape, (tile.queries, tile.keys)
    keep = drawn_tiles(s.H, (-(-s.P // of[0]), -(-s.M // of[1])), of, share, seed)
    if problem.mask.causal:
        for row in range(keep.shape[1]):
            keep[:, row, ((row + 1) * of[0] - 1) // of[1] + 1 :] = False
    return keep


def sparse(problem: Problem, tile: Tile, keep: Any) -> Callable[[], None]:
    """A launch over the kept tiles; every query tile keeps at least one."""
    s = problem.shape
    wanted = (s.H, -(-s.P // tile.queries), -(-s.M // tile.keys))
    if keep.shape != wanted:
        raise GpuError(f"a mask of tiles is {wanted} here, not {keep.shape}")
    if not keep.any(axis=2).all():
        raise GpuError("a query tile keeps no keys", "at least one tile in every row")
    starts, tiles = (cupy().asarray(x) for x in lists(keep))
    return fused(problem, tile, 1, (starts, tiles))


def check(
    problem: Problem, tile: Tile, keep: Any, run: Callable[[], None], heads: int = 3, rows: int = 64
) -> halves.Check:
    """Run on the poisoned output and compare some queries over the keys of their tiles."""
    module, s = cupy(), problem.shape
    problem.out.poison()
    run()
    module.cuda.runtime.deviceSynchronize()
    draw = module.random.default_rng(problem.seed + 5)
    mask = module.asarray(keep)
    found, wanted = [], []
    for place in sorted({0, s.B * s.H - 1, *(int(x) for x in draw.integers(0, s.B * s.H, heads))}):
        b, h = divmod(place, s.H)
        p = draw.integers(0, s.P, rows)
        allowed = mask[h][p // tile.queries][:, module.arange(s.M) // tile.keys]
        if problem.mask.causal:
            allowed &= module.arange(s.M)[None, :] <= p[:, None] + problem.mask.offset
        wanted.append(problem.expected(b, h, p, allowed))
        found.append(halves.widened(problem.out.array[b, h][p], problem.dtype))
    return halves.compared(
        module.concatenate(found), module.concatenate(wanted), problem.out,
        halves.TOLERANCE[problem.dtype], sum(len(x) for x in found),
    )  # fmt: skip
