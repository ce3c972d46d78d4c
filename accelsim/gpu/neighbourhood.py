"""Neighbourhood attention in one and two dimensions, with strides (Hassani et al. 2023, 2025).

Positions lie on a grid of ``height`` x ``width``, row by row (one dimension: height 1); arrays are
[B, H, height width, E].  A query sees a window around the leader of its group of ``stride``
positions along either axis, moved inside the grid where it would stick out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from accelsim.gpu import halves
from accelsim.gpu.attention import LOG2E, Problem, Shape
from accelsim.gpu.device import GpuError, cupy
from accelsim.gpu.kernel import Kernel, load


@dataclass(frozen=True, slots=True)
class Axis:
    """Positions along an axis, how many of them a query sees, and the stride of its groups."""

    size: int
    window: int
    stride: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.window <= self.size:
            raise GpuError(
                f"a window of {self.window} along {self.size} positions", "1 to the axis"
            )
        if not 1 <= self.stride <= self.window:
            raise GpuError(f"a stride of {self.stride}", f"1 to the window, {self.window}")

    def start(self, place: Any) -> Any:
        """First position that the query at ``place`` sees; ``place`` a number or an array.

        >>> [Axis(10, 5).start(i) for i in (0, 2, 3, 9)], Axis(10, 4, stride=2).start(5)
        ([0, 0, 1, 5], 3)
        """
        least = (place // self.stride) * self.stride + self.stride // 2
        leader = least - (least >= self.size) * (least - self.size + 1)
        start = leader - self.window // 2
        start = start * (start > 0)
        most = self.size - self.window
        return start - (start > most) * (start - most)


@dataclass(frozen=True, slots=True)
class Grid:
    """Batch, heads, the two axes (a height of 1 for one dimension), head dimension."""

    B: int
    H: int
    y: Axis
    x: Axis
    E: int
    HK: int = 0  # 0: as many as H

    @property
    def shape(self) -> Shape:
        """As dense attention would have it; its refusals are this one's."""
        positions = self.y.size * self.x.size
        return Shape(self.B, self.H, positions, positions, self.E, self.HK)

    @property
    def flops(self) -> int:
        """Floating-point operations of both products over the pairs that are seen.

        >>> Grid(1, 1, Axis(1, 1), Axis(100, 10), 64).flops
        256000
        """
        seen = self.y.size * self.x.size * self.y.window * self.x.window
        return 4 * self.B * self.H * self.E * seen


@dataclass(frozen=True, slots=True)
class Tile:
    """Queries and keys of a block, each ``rows`` x ``columns``; fragments of a warp; blocks."""

    queries: tuple[int, int]
    keys: tuple[int, int]
    row_tiles: int
    blocks: int = 2
    warps: int = 4

    def shared_bytes(self, head_dim: int) -> int:
        """Q's tile, and two each of K's and V's.

        >>> tile_of(Grid(1, 1, Axis(64, 7), Axis(64, 7), 128)).shared_bytes(128)
        81920
        """
        queries, keys = self.queries[0] * self.queries[1], self.keys[0] * self.keys[1]
        return 2 * head_dim * (queries + 4 * keys)


def tile_of(grid: Grid) -> Tile:
    """128 queries a block where the registers hold them (head dimension 64), 64 elsewhere."""
    row_tiles = 2 if grid.E == 64 else 1
    if grid.y.size == 1:
        return Tile((1, 64 * row_tiles), (1, 64), row_tiles)
    return Tile((8, 8 * row_tiles), (8, 8), row_tiles)


def macros(grid: Grid, tile: Tile, dtype: str) -> dict[str, int]:
    """What the kernel is compiled with."""
    (qy, qx), (ky, kx) = tile.queries, tile.keys
    return {
        "D": grid.E, "QY": qy, "QX": qx, "KY": ky, "KX": kx, "WARPS": tile.warps,
        "MI": tile.row_tiles, "BLOCKS_PER_SM": tile.blocks, "BF16": halves.flag(dtype),
    }  # fmt: skip


@dataclass(frozen=True)
class Near:
    """Inputs and a poisoned output on the GPU, drawn from ``seed``."""

    grid: Grid
    dtype: str = "bf16"
    seed: int = 0

    @cached_property
    def dense(self) -> Problem:
        """The same tensors as dense attention has them."""
        return Problem(self.grid.shape, dtype=self.dtype, seed=self.seed)

    def seen(self, queries: Any) -> Any:
        """Which positions those queries see: booleans [queries, positions]."""
        module, grid = cupy(), self.grid
        place = module.arange(grid.y.size * grid.x.size)[None, :]
        found = module.ones((len(queries), place.size), dtype=bool)
        for axis, mine, theirs in (
            (grid.y, queries // grid.x.size, place // grid.x.size),
            (grid.x, queries % grid.x.size, place % grid.x.size),
        ):
            start = axis.start(mine)[:, None]
            found &= (theirs >= start) & (theirs < start + axis.window)
        return found

    def check(self, run: Callable[[], None], heads: int = 4, rows: int = 96) -> halves.Check:
        """Run on the poisoned output and compare some queries, the first and last among them."""
        module, s, out = cupy(), self.grid.shape, self.dense.out
        out.poison()
        run()
        module.cuda.runtime.deviceSynchronize()
        draw = module.random.default_rng(self.seed + 3)
        places = {0, s.B * s.H - 1, *(int(x) for x in draw.integers(0, s.B * s.H, heads - 2))}
        found, wanted = [], []
        for place in sorted(places):
            b, h = divmod(place, s.H)
            edge = module.asarray([0, s.P - 1])
            p = module.concatenate([edge, draw.integers(0, s.P, rows)])
            wanted.append(self.dense.expected(b, h, p, self.seen(p)))
            found.append(halves.widened(out.array[b, h][p], self.dtype))
        return halves.compared(
            module.concatenate(found), module.concatenate(wanted), out,
            halves.TOLERANCE[self.dtype], sum(len(x) for x in found),
        )  # fmt: skip


def kernel(problem: Near, tile: Tile) -> Kernel:
    """The kernel, compiled and loaded."""
    defines = macros(problem.grid, tile, problem.dtype)
    shared = tile.shared_bytes(problem.grid.E)
    return load("neighbourhood.cu", "neighbourhood", defines, 32 * tile.warps, shared)


def neighbourhood(problem: Near, tile: Tile | None = None) -> Callable[[], None]:
    """A launch."""
    module, grid, dense = cupy(), problem.grid, problem.dense
    chosen = tile or tile_of(grid)
    built, number, s = kernel(problem, chosen), module.int32, grid.shape
    blocks = -(-grid.y.size // chosen.queries[0]) * -(-grid.x.size // chosen.queries[1])
    arguments = (
        dense.q, dense.k, dense.v, dense.out.array, number(grid.y.size), number(grid.x.size),
        number(s.H // s.key_heads), module.float32(dense.factor * LOG2E),
        number(grid.y.window), number(grid.x.window), number(grid.y.stride), number(grid.x.stride),
    )  # fmt: skip
    return lambda: built((blocks, s.H, s.B), *arguments)
