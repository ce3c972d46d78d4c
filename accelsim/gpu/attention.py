"""Attention over many queries: one pass (mma.sync or wgmma), two passes, three passes unfused.

What is computed is ``softmax(scale Q K^T) V`` by head, ``scale`` = 1/sqrt(E)
unless given, over the keys that the mask allows.  Arrays are [B, H, P, E],
[B, HK, M, E] and contiguous; the head dimensions of K and V are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final, Literal

from accelsim.gpu import halves, tensormap
from accelsim.gpu.device import GpuError, cupy, device
from accelsim.gpu.kernel import Kernel, load
from accelsim.gpu.wgmma_text import WIDTHS

#: Head dimensions that the kernels are written for.
HEAD_DIMS: Final = (64, 96, 128)
LOG2E: Final = 1.4426950408889634

Path = Literal["mma", "wgmma"]
Passes = Literal[1, 2, 3]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the ranks: batch, query heads, key heads, queries, keys, head dimension.

    >>> Shape(B=1, H=16, P=16384, M=16384, E=128).flops
    2199023255552
    """

    B: int
    H: int
    P: int
    M: int
    E: int
    HK: int = 0  # 0: as many as H

    def __post_init__(self) -> None:
        for name in ("B", "H", "P", "M"):
            if getattr(self, name) < 1:
                raise GpuError(f"rank {name} has size {getattr(self, name)}", "1 or more")
        if self.E not in HEAD_DIMS:
            raise GpuError(f"no kernel has head dimension {self.E}", ", ".join(map(str, HEAD_DIMS)))
        if self.HK < 0 or self.H % self.key_heads:
            raise GpuError(
                f"{self.H} query heads do not share {self.HK} key heads evenly", "a divisor of H"
            )
        if self.B > 65535 or self.H > 65535:
            raise GpuError(f"a grid takes no B={self.B}, H={self.H}", "65535 at most")

    @property
    def key_heads(self) -> int:
        """Heads of K and V."""
        return self.HK or self.H

    @property
    def flops(self) -> int:
        """Floating-point operations of both products with nothing masked."""
        return 4 * self.B * self.H * self.P * self.M * self.E

    @property
    def compulsory_bytes(self) -> int:
        """Q, K, V read once and the output written once, 16 bits a number."""
        queries, keys = self.H * self.P, self.key_heads * self.M
        return 2 * self.B * self.E * 2 * (queries + keys)


@dataclass(frozen=True, slots=True)
class Mask:
    """Which keys m a query p sees.

    All; with ``causal`` m <= p + offset; with a ``window`` W of those only m > p + offset - W.
    """

    causal: bool = False
    window: int = 0
    offset: int = 0

    def __post_init__(self) -> None:
        if self.window < 0 or self.offset < 0:
            raise GpuError("a window and an offset are 0 or more")
        if (self.window or self.offset) and not self.causal:
            raise GpuError("a window or an offset needs a causal mask", "causal=True")

    def span(self, p: int, keys: int) -> tuple[int, int]:
        """First key that query ``p`` sees, and the first behind those.

        >>> Mask(causal=True, window=4).span(10, 100)
        (7, 11)
        """
        end = min(keys, p + self.offset + 1) if self.causal else keys
        return (max(0, p + self.offset - self.window + 1) if self.window else 0), end

    def pairs(self, queries: int, keys: int) -> int:
        """How many pairs of query and key are seen.

        >>> Mask(causal=True).pairs(4, 4), Mask(causal=True, window=2).pairs(4, 4)
        (10, 7)
        """
        if not self.causal:
            return queries * keys
        return sum(max(0, e - f) for f, e in (self.span(p, keys) for p in range(queries)))


@dataclass(frozen=True, slots=True)
class Tile:
    """A block's part: ``queries`` x ``keys`` of scores, and what holds it.

    Path ``mma``: ``warps`` warps of ``row_tiles`` times 16 rows, ``blocks`` blocks a
    multiprocessor, two stages.  Path ``wgmma``: ``warps`` / 4 consumer warpgroups of 64 rows and
    a producer, ``stages`` tiles of K and of V in flight; with ``turns`` the consumers alternate.
    Two ``blocks`` of one consumer fit a multiprocessor.  A ``persistent`` block takes tiles of
    queries one after the other.
    """

    path: Path
    keys: int
    warps: int
    row_tiles: int = 1
    blocks: int = 1
    stages: int = 2
    turns: bool = True
    persistent: bool = False

    def __post_init__(self) -> None:
        if self.path == "mma" and (
            self.keys % 16 or self.warps < 1 or self.row_tiles not in (1, 2)
        ):
            raise GpuError(f"no mma tile has {self.keys} keys, {self.row_tiles} row tiles")
        if self.path == "wgmma" and (self.warps not in (4, 8, 12) or self.keys not in WIDTHS):
            raise GpuError(
                f"no wgmma tile has {self.warps} consumer warps and {self.keys} keys",
                f"4, 8 or 12 warps; keys {', '.join(map(str, WIDTHS))}",
            )

        if self.path == "wgmma" and not 1 <= self.blocks <= (2 if self.warps == 4 else 1):
            raise GpuError(
                f"{self.blocks} blocks of {self.warps} consumer warps share no registers",
                "1, or 2 of 4 warps",
            )
        if self.persistent and self.path != "wgmma":
            raise GpuError("a persistent tile runs on wgmma only", "path wgmma")

    @property
    def queries(self) -> int:
        """Query rows of a block.

        >>> Tile("wgmma", 128, 8).queries, Tile("mma", 64, 4, row_tiles=2).queries
        (128, 128)
        """
        return 16 * self.warps * self.row_tiles

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps + (128 if self.path == "wgmma" else 0)

    def shared_bytes(self, head_dim: int) -> int:
        """Shared memory of a block: Q's tile, and K's and V's in flight.

        >>> Tile("mma", 64, 4, row_tiles=2).shared_bytes(128)
        100352
        """
        if self.path == "mma":
            full = self.row_tiles * (head_dim + self.keys) >= 384  # sums wait in shared memory
            return 2 * head_dim * (self.queries + 4 * self.keys) + full * 16 * self.threads
        panels = -(-head_dim // 64)
        tiles = 128 * panels * (self.queries + 2 * self.stages * self.keys)
        return tiles + 8 + 32 * self.stages + 1024 + (16 if self.persistent else 0)

    def defines(self, head_dim: int) -> dict[str, int]:
        """Macros of the kernel."""
        if self.path == "mma":
            return {"D": head_dim, "BN": self.keys, "WARPS": self.warps, "MI": self.row_tiles,
                    "BLOCKS_PER_SM": self.blocks}  # fmt: skip
        return {"D": head_dim, "BN": self.keys, "CONSUMERS": self.warps // 4,
                "STAGES": self.stages, "TURNS": int(self.turns),
                "PERSISTENT": int(self.persistent), "BLOCKS": self.blocks}  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """For a record; ``persistent`` where it is.

        >>> "persistent" in Tile("wgmma", 128, 8).as_dict()
        False
        """
        found = asdict(self)
        return found if self.persistent else {k: found[k] for k in found if k != "persistent"}


def best_tile(path: Path, head_dim: int) -> Tile:
    """The tile that was fastest on an H100 at long lengths (``validation/runs/h100-sxm``)."""
    if path == "mma":
        return Tile("mma", 128 if head_dim == 64 else 64, 4, row_tiles=2, blocks=2)
    if head_dim == 96:
        return Tile("wgmma", 96, 12, stages=3)
    return Tile("wgmma", 80 if head_dim == 128 else 128, 12)


@dataclass(frozen=True, slots=True)
class Variant:
    """How attention is computed: passes over the keys and the tile (none for three passes)."""

    passes: Passes
    tile: Tile | None

    def __post_init__(self) -> None:
        if (self.passes == 3) != (self.tile is None):
            raise GpuError(f"{self.passes} passes and tile {self.tile} do not go together")
        if self.passes == 2 and self.tile is not None and self.tile.path != "mma":
            raise GpuError("two passes run on mma.sync only", "path mma")

    @property
    def name(self) -> str:
        """Name in records.

        >>> Variant(1, Tile("wgmma", 128, 8)).name
        'attention-1pass-wgmma'
        """
        path = self.tile.path if self.tile else "mma"
        last = "-persistent" if self.tile and self.tile.persistent else ""
        return f"attention-{self.passes}pass-{path}{last}"

    def as_dict(self) -> dict[str, Any]:
        """For a record."""
        return {"name": self.name, "passes": self.passes, "tile": self.tile and self.tile.as_dict()}


@dataclass(frozen=True)
class Problem:
    """Inputs and a poisoned output on the GPU, drawn from ``seed``."""

    shape: Shape
    mask: Mask = Mask()
    dtype: str = "bf16"
    seed: int = 0
    scale: float | None = None

    def __post_init__(self) -> None:
        halves.flag(self.dtype)
        if self.scale is not None and not self.scale > 0:
            raise GpuError(f"a scale of {self.scale}", "a positive number")

    @property
    def factor(self) -> float:
        """What scores are multiplied by."""
        return self.scale or 1 / math.sqrt(self.shape.E)

    @property
    def flops(self) -> int:
        """Floating-point operations of both products over the pairs that are seen."""
        s = self.shape
        return 4 * s.B * s.H * s.E * self.mask.pairs(s.P, s.M)

    @cached_property
    def q(self) -> Any:
        """Queries."""
        s = self.shape
        return halves.normal((s.B, s.H, s.P, s.E), self.dtype, 4 * self.seed)

    @cached_property
    def k(self) -> Any:
        """Keys."""
        s = self.shape
        return halves.normal((s.B, s.key_heads, s.M, s.E), self.dtype, 4 * self.seed + 1)

    @cached_property
    def v(self) -> Any:
        """Values."""
        s = self.shape
        return halves.normal((s.B, s.key_heads, s.M, s.E), self.dtype, 4 * self.seed + 2)

    @cached_property
    def out(self) -> halves.Poisoned:
        """Where the kernel writes."""
        s = self.shape
        return halves.Poisoned.of((s.B, s.H, s.P, s.E))

    def expected(self, b: int, h: int, rows: Any, keep: Any = None) -> Any:
        """Float64 attention of some queries of one head; ``keep`` [rows, M] replaces the mask."""
        module, s = cupy(), self.shape
        group = s.H // s.key_heads
        q = halves.widened(self.q[b, h][rows], self.dtype)
        k = halves.widened(self.k[b, h // group], self.dtype)
        v = halves.widened(self.v[b, h // group], self.dtype)
        scores = (q @ k.T) * self.factor
        p, m = rows[:, None], module.arange(s.M)[None, :]
        if keep is not None:
            scores[~keep] = -module.inf
        elif self.mask.causal:
            scores[m > p + self.mask.offset] = -module.inf
            if self.mask.window:
                scores[m <= p + self.mask.offset - self.mask.window] = -module.inf
        weights = module.exp(scores - scores.max(axis=1, keepdims=True))
        return (weights / weights.sum(axis=1, keepdims=True)) @ v

    def check(self, run: Callable[[], None], heads: int = 4, rows: int = 96) -> halves.Check:
        """Run it on the poisoned output and compare up to ``heads`` x ``rows`` queries.

        The first and last heads and queries are among them, the others random.
        """
        module, s = cupy(), self.shape
        self.out.poison()
        run()
        module.cuda.runtime.deviceSynchronize()
        draw = module.random.default_rng(self.seed + 7)
        places = sorted(
            {0, s.B * s.H - 1, *(int(x) for x in draw.integers(0, s.B * s.H, heads - 2))}
        )
        found, wanted = [], []
        for place in places:
            b, h = divmod(place, s.H)
            if rows >= s.P:
                chosen = module.arange(s.P)
            else:
                middle = draw.integers(0, s.P, rows - 16)
                edge = module.arange(8)
                chosen = module.concatenate([edge, s.P - 1 - edge, middle])
            wanted.append(self.expected(b, h, chosen))
            found.append(halves.widened(self.out.array[b, h][chosen], self.dtype))
        return halves.compared(
            module.concatenate(found), module.concatenate(wanted), self.out,
            halves.TOLERANCE[self.dtype], sum(len(x) for x in found),
        )  # fmt: skip


def macros(problem: Problem, tile: Tile, passes: int = 1, sparse: bool = False) -> dict[str, int]:
    """What the fused kernel is compiled with.

    >>> macros(Problem(Shape(1, 1, 8, 8, 64)), Tile("wgmma", 128, 8))["CONSUMERS"]
    2
    """
    defines = tile.defines(problem.shape.E) | {
        "BF16": halves.flag(problem.dtype),
        "CAUSAL": int(problem.mask.causal),
        "WINDOW": int(problem.mask.window > 0),
    }
    return defines | {"SPARSE": int(sparse)} | ({"PASSES": passes} if tile.path == "mma" else {})


def kernel(problem: Problem, tile: Tile, passes: int, sparse: bool = False) -> Kernel:
    """The fused kernel, compiled and loaded."""
    if tile.path == "wgmma" and device().capability != "9.0":
        raise GpuError(
            f"wgmma needs compute capability 9.0, {device().name} has {device().capability}",
            "path mma",
        )
    if float(device().capability) < 8.0:
        raise GpuError(f"{device().name} has no asynchronous copies", "compute capability 8.0")
    source, shared = f"attention_{tile.path}.cu", tile.shared_bytes(problem.shape.E)
    return load(source, "attention", macros(problem, tile, passes, sparse), tile.threads, shared)


def fused(
    problem: Problem, tile: Tile, passes: int = 1, lists: tuple[Any, Any] | None = None
) -> Callable[[], None]:
    """A launch of the one- or two-pass kernel; ``lists`` are starts and key tiles (``sparse``)."""
    module, s, mask = cupy(), problem.shape, problem.mask
    built = kernel(problem, tile, passes, lists is not None)
    grid: tuple[int, ...] = (-(-s.P // tile.queries), s.H, s.B)
    number = module.int32
    nowhere = module.zeros(1, dtype=module.int32)
    tail: tuple[Any, ...] = (
        problem.out.array, number(s.P), number(s.M), number(s.H // s.key_heads),
        module.float32(problem.factor * LOG2E), number(mask.offset), number(mask.window),
        *(lists or (nowhere, nowhere)),
    )  # fmt: skip
    inputs = (problem.q, problem.k, problem.v)
    if tile.path == "wgmma":
        boxes = (tile.queries, tile.keys, tile.keys)
        maps = (
            tensormap.rows_of(x.data.ptr, problem.dtype, s.E, x.shape[2], s.B * x.shape[1], rows)
            for x, rows in zip(inputs, boxes, strict=True)
        )
        inputs = tuple(maps)
    if tile.persistent:
        parts = grid[0] * s.H * s.B
        queue = module.zeros(2, dtype=module.int32)
        tail += (number(grid[0]), number(s.H), number(parts), queue)
        grid = (min(parts, device().multiprocessors),)
    return lambda: built(grid, *inputs, *tail)


def run_of(problem: Problem, variant: Variant) -> Callable[[], None]:
    """A launch, or the pipeline of three, of any variant."""
    if variant.tile is None:
        from accelsim.gpu.unfused import unfused

        return unfused(problem)
    return fused(problem, variant.tile, variant.passes)
