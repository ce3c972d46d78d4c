"""Cases of the checks and measurements on a real GPU."""

from __future__ import annotations

from accelsim.gpu import attention
from accelsim.gpu.attention import Mask, Shape, Tile, Variant
from accelsim.gpu.decode import Cache, Walk
from accelsim.gpu.estimation import Quantised
from accelsim.gpu.gemv import Tiling, Weights
from accelsim.gpu.grid import AttentionCase
from accelsim.gpu.neighbourhood import Axis, Grid

#: The grid that the model is built on; the one it is judged on has another seed.
GRID_SEED, GRID_COUNT = 1, 220
#: Drawn once the model stood; nothing was looked at before.
JUDGED_SEED, JUDGED_COUNT = 20271201, 190
#: Drawn after the last change of a kernel: variants beside their baselines.
FRESH_SEED = 20271217
#: Of the small cases whose counters are read.
COUNTED_SEED = 5

ALL, CAUSAL = Mask(), Mask(causal=True)
MMA = Tile("mma", 64, 4, row_tiles=2, blocks=2)
ODD = (
    (Shape(1, 2, 256, 256, 128), ALL, "bf16"),
    (Shape(2, 3, 333, 517, 128), ALL, "f16"),
    (Shape(1, 8, 517, 517, 64, HK=2), CAUSAL, "bf16"),
    (Shape(1, 2, 1, 1, 96), ALL, "bf16"),
    (Shape(1, 2, 129, 1000, 96), Mask(True, 0, 871), "f16"),
    (Shape(2, 2, 700, 700, 128), Mask(True, 100), "bf16"),
    (Shape(1, 2, 1000, 77, 64), ALL, "f16"),
    (Shape(1, 4, 2048, 2048, 128, HK=1), CAUSAL, "f16"),
)
CANDIDATES = {
    128: [
        MMA,
        Tile("mma", 64, 8, row_tiles=2, blocks=1),
        Tile("wgmma", 64, 12),
        Tile("wgmma", 80, 12),
        Tile("wgmma", 80, 12, stages=3),
        Tile("wgmma", 80, 12, turns=False),
        Tile("wgmma", 112, 8),
        Tile("wgmma", 128, 8),
        Tile("wgmma", 144, 8),
        Tile("wgmma", 176, 8),
        Tile("wgmma", 64, 4, stages=4),
        Tile("wgmma", 128, 4),
    ],
    96: [
        MMA,
        Tile("mma", 64, 8, row_tiles=2, blocks=1),
        Tile("wgmma", 160, 8),
        Tile("wgmma", 192, 8),
        Tile("wgmma", 80, 12),
        Tile("wgmma", 96, 12),
        Tile("wgmma", 112, 12),
        Tile("wgmma", 96, 12, stages=3),
    ],
    64: [
        Tile("mma", 128, 4, row_tiles=2, blocks=2),
        Tile("mma", 96, 4, row_tiles=2, blocks=2),
        Tile("mma", 64, 8, row_tiles=2, blocks=1),
        Tile("wgmma", 176, 8),
        Tile("wgmma", 208, 8),
        Tile("wgmma", 80, 12),
        Tile("wgmma", 96, 12),
        Tile("wgmma", 112, 12),
        Tile("wgmma", 128, 12),
        Tile("wgmma", 128, 12, stages=3),
    ],
}
#: Tiles whose cycles are counted on the multiprocessor, alone and beside others.
CLOCKED = [
    (dim, Tile("mma", keys, warps, row_tiles=row_tiles, blocks=blocks))
    for dim, keys, warps, row_tiles, blocks in (
        (64, 128, 4, 2, 2), (64, 64, 4, 2, 2), (64, 32, 4, 2, 2), (96, 64, 4, 2, 2),
        (96, 32, 4, 2, 2), (128, 64, 4, 2, 2), (128, 32, 4, 2, 2), (64, 64, 4, 1, 4),
        (64, 128, 4, 1, 3), (128, 64, 4, 1, 2), (128, 32, 4, 1, 3), (96, 64, 4, 1, 3),
        (64, 64, 8, 2, 1), (96, 64, 8, 2, 1), (128, 64, 8, 2, 1),
    )
]  # fmt: skip
CACHES = [
    Cache(B, H, HK, M, E, bits)
    for bits in (16, 8, 4)
    for B, H, HK, M, E in (
        (1, 1, 1, 1, 64),
        (2, 12, 3, 1000, 96),
        (1, 32, 8, 4097, 128),
        (3, 16, 1, 777, 64),
        (64, 32, 8, 8192, 128),
        (16, 32, 32, 8192, 128),
        (1, 32, 8, 131072, 128),
        (64, 16, 16, 4096, 64),
        (64, 16, 16, 4096, 96),
    )
]
WALKS = {
    16: [Walk(32), Walk(32, blocks=3), Walk(32, blocks=4)],
    8: [Walk(64, blocks=3), Walk(64, blocks=4), Walk(32, blocks=4), Walk(16, blocks=3, ahead=True)],
    4: [
        Walk(32, blocks=3, ahead=True),
        Walk(64, blocks=3),
        Walk(64, blocks=4),
        Walk(16, blocks=4, ahead=True),
        Walk(64, ahead=True),
    ],
}
MATRICES = [
    Weights(N, K, name, batch)
    for name, unit in (("int4", 128), ("int3", 128), ("int2", 128), ("ternary", 160))
    for N, K, batch in (
        (8, unit, 1),
        (1001, 7 * unit, 16),
        (4096, 4096 // unit * unit, 1),
        (14336, 4096 // unit * unit, 1),
        (4096, 14336 // unit * unit, 4),
        (28672, 8192 // unit * unit, 1),
    )
]
ESTIMATES = [
    Quantised(shape, bits, causal, 3)
    for bits in (8, 4)
    for shape, causal in (
        (Shape(1, 2, 100, 300, 64), False),
        (Shape(2, 4, 777, 777, 128, HK=2), True),
        (Shape(1, 16, 16384, 16384, 128), False),
        (Shape(1, 16, 16384, 16384, 128), True),
        (Shape(4, 16, 8192, 8192, 64), False),
    )
]
SEQUENCES = [
    (Shape(1, 2, 64, 64, 64), "bf16", 8),
    (Shape(2, 3, 1000, 1000, 96), "f16", 4),
    (Shape(1, 2, 3001, 3001, 128), "bf16", 8),
    (Shape(1, 16, 16384, 16384, 128), "bf16", None),
    (Shape(1, 16, 65536, 65536, 128), "bf16", None),
    (Shape(8, 16, 8192, 8192, 64), "bf16", None),
    (Shape(1, 16, 16384, 16384, 96), "f16", None),
]


COUNTED = [
    AttentionCase(Shape(1, 16, n, n, dim), mask, "bf16", Variant(passes, tile))
    for n, dim, mask, passes, tile in (
        (16384, 128, ALL, 1, MMA),
        (16384, 128, ALL, 1, attention.best_tile("wgmma", 128)),
        (16384, 128, CAUSAL, 1, MMA),
        (16384, 128, CAUSAL, 1, attention.best_tile("wgmma", 128)),
        (16384, 64, ALL, 1, attention.best_tile("mma", 64)),
        (16384, 64, ALL, 1, attention.best_tile("wgmma", 64)),
        (8192, 96, ALL, 1, attention.best_tile("wgmma", 96)),
        (8192, 128, ALL, 2, MMA),
        (4096, 128, ALL, 3, None),
        (3000, 128, CAUSAL, 3, None),
        (16384, 128, Mask(True, 1024), 1, attention.best_tile("wgmma", 128)),
        (1000, 96, CAUSAL, 1, MMA),
    )
]


ROWS = [
    (op, form, count, columns)
    for op in ("softmax", "rmsnorm", "layernorm")
    for form in ("textbook", "derived", "held")
    for count, columns in ((65536, 1024), (8192, 8192), (4096, 4096), (3001, 5000), (1024, 65536))
    if not (op == "rmsnorm" and form == "derived")
]


#: Tilings of the weight-only product that are tried on its large matrices.
TILINGS = [
    Tiling(4), Tiling(2, 2), Tiling(2, 4), Tiling(2, 1, 3), Tiling(4, 2),
    Tiling(4, 1, 1), Tiling(4, 2, 1), Tiling(8, 1, 1),
]  # fmt: skip
#: Tiles for lengths of a few tiles, where what comes before and after the walk counts.
SHORT = {
    64: [Tile("wgmma", 128, 12), Tile("wgmma", 128, 8), Tile("wgmma", 128, 12, persistent=True),
         Tile("wgmma", 128, 4, blocks=2, turns=False), Tile("wgmma", 96, 4, blocks=2, turns=False)],
    96: [Tile("wgmma", 96, 12, stages=3), Tile("wgmma", 96, 4, blocks=2, turns=False)],
    128: [Tile("wgmma", 80, 12), Tile("wgmma", 128, 8), Tile("wgmma", 80, 12, persistent=True),
          Tile("wgmma", 80, 4, blocks=2, turns=False), Tile("wgmma", 64, 4, blocks=2, turns=False)],
}  # fmt: skip


#: Neighbourhoods: videos' and images' sizes, odd ones, strides, one dimension and two.
GRIDS = [
    Grid(B, H, Axis(*y), Axis(*x), dim)
    for B, H, y, x, dim in (
        (1, 2, (1, 1), (100, 7), 64),
        (1, 2, (1, 1), (1001, 64, 3), 128),
        (2, 3, (13, 5), (19, 7), 96),
        (1, 2, (30, 13, 4), (45, 12, 5), 64),
        (1, 1, (8, 8), (8, 8, 8), 128),
        (1, 16, (1, 1), (16384, 1024), 128),
        (1, 16, (1, 1), (16384, 1024, 256), 64),
        (1, 24, (128, 33), (128, 33), 64),
        (1, 24, (128, 32, 16), (128, 32, 16), 128),
        (8, 4, (56, 7), (56, 7), 64),
        (4, 8, (64, 13), (64, 13), 96),
    )
]
