"""Grids of cases measured on a real GPU for ``validation/runs``."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from accelsim.gpu import (
    attention,
    decode,
    gemv,
    halves,
    library,
    linear,
    linear_full,
    measure,
    microbench,
    neighbourhood,
    rows,
    sparse,
    waits,
)
from accelsim.gpu.attention import Mask, Problem, Shape, Tile, Variant
from accelsim.gpu.decode import Cache, Step, Walk
from accelsim.gpu.device import cupy, device
from accelsim.gpu.grid import (
    AttentionCase,
    attention_cases,
    attention_row,
    decode_cases,
    decode_row,
    rows_row,
    times,
)
from accelsim.gpu.kernel import Kernel, load
from accelsim.gpu.record import document, fields, write
from tests.gpu.cases import (
    ALL,
    CACHES,
    CAUSAL,
    CLOCKED,
    COUNTED,
    COUNTED_SEED,
    GRID_COUNT,
    GRID_SEED,
    GRIDS,
    JUDGED_COUNT,
    JUDGED_SEED,
    MATRICES,
    MMA,
    ROWS,
    SEQUENCES,
    SHORT,
    TILINGS,
    WALKS,
)

#: Shared memory with which a multiprocessor has room for one block.
ALONE_BYTES: Final = 120 << 10
#: Operations on rows and their forms, for counting what a block alone waits.
ALONE_ROWS: Final[tuple[tuple[rows.Op, rows.Form], ...]] = (
    ("softmax", "held"), ("softmax", "textbook"), ("softmax", "derived"),
    ("rmsnorm", "held"), ("rmsnorm", "textbook"), ("rmsnorm", "derived"),
    ("layernorm", "held"), ("layernorm", "textbook"), ("layernorm", "derived"),
)  # fmt: skip


def counters(out: Path, seed: int = COUNTED_SEED) -> None:
    """Launches for a profiler, in the order that counters.json tells."""
    told = []

    def tell(case: dict[str, object], run: object, kernels: list[str]) -> None:
        run()
        cupy().cuda.runtime.deviceSynchronize()
        told.append({"case": case, "kernels": kernels})

    small = [c for c in attention_cases(seed, 200) if c.shape.flops < 2e12][:14]
    for case in (COUNTED if seed == COUNTED_SEED else []) + small:
        names = ["scores", "rows", "values"] if case.variant.passes == 3 else ["attention"]
        run = attention.run_of(Problem(case.shape, case.mask, case.dtype, 2), case.variant)
        tell(case.as_dict(), run, names)
    for cache in CACHES[4:5] + CACHES[13:14] + CACHES[22:23] + CACHES[6:7]:
        run = decode.decode(Step(cache, 3))
        walk = decode.walk_of(cache)
        splits, _ = decode.splits_of(cache, walk, device().multiprocessors)
        tell({"cache": asdict(cache)}, run, ["split", "merge"] if splits > 1 else ["split"])
    shape = Shape(1, 16, 16384, 16384, 128)
    run = linear.linear(linear.Decayed(shape, seed=2))
    tell({"linear": asdict(shape)}, run, ["chunks", "prefix", "chunks"])
    for op, form, count, columns in ROWS[::5]:
        run = rows.fresh(op, form, count, columns, "bf16")
        tell({"op": op, "form": form, "rows": count, "columns": columns}, run, ["rows"])
    write(out / "counters.json", document("counters", told))


def decode_counters(out: Path) -> None:
    """Long caches of every width and head dimension for a profiler, as ``counters`` tells them."""
    told = []
    for bits, dim in ((bits, dim) for bits in decode.BITS for dim in attention.HEAD_DIMS):
        cache = Cache(32, 16, 16, 8192, dim, bits)
        decode.decode(Step(cache, 3))()
        cupy().cuda.runtime.deviceSynchronize()
        splits, _ = decode.splits_of(cache, decode.walk_of(cache), device().multiprocessors)
        kernels = ["split", "merge"] if splits > 1 else ["split"]
        told.append({"case": {"cache": asdict(cache)}, "kernels": kernels})
    write(out / "counters.json", document("decode-counters", told))


@contextmanager
def alone() -> Iterator[None]:
    """Kernels that are loaded meanwhile take shared memory until a multiprocessor has one block."""

    def roomy(source: str, entry: str, defines: Any, threads: int, shared: int = 0) -> Kernel:
        wide = entry in ("split", "chunks", "rows")
        return load(source, entry, defines, threads, max(shared, ALONE_BYTES) if wide else shared)

    modules: tuple[Any, ...] = (decode, linear, rows)
    for module in modules:
        module.load = roomy
    try:
        yield
    finally:
        for module in modules:
            module.load = load


def alone_waits(out: Path) -> None:
    """Blocks alone on their multiprocessors for a profiler: what their own instructions wait."""
    told = []

    def tell(case: dict[str, object], run: Callable[[], None], kernels: list[str]) -> None:
        run()
        cupy().cuda.runtime.deviceSynchronize()
        told.append({"case": case, "kernels": kernels})

    with alone():
        for bits, dim in ((bits, dim) for bits in decode.BITS for dim in attention.HEAD_DIMS):
            cache = Cache(32, 16, 16, 8192, dim, bits)
            splits, _ = decode.splits_of(cache, decode.walk_of(cache), device().multiprocessors)
            kernels = ["split", "merge"] if splits > 1 else ["split"]
            tell({"cache": asdict(cache)}, decode.decode(Step(cache, 3)), kernels)
        for dim, heads in ((64, 24), (96, 8), (128, 12)):
            shape = Shape(1, heads, 2816, 2816, dim)
            run = linear.linear(linear.Decayed(shape, seed=2))
            tell({"linear": asdict(shape)}, run, ["chunks", "prefix", "chunks"])
        for op, form in ALONE_ROWS:
            sizes = {"op": op, "form": form, "rows": 8192, "columns": 1024}
            tell(sizes, rows.fresh(op, form, 8192, 1024, "bf16"), ["rows"])
        for columns in (1024, 2048):
            scores = halves.normal((8, columns, columns), "bf16", 1, 2.0)
            sizes = {"op": "softmax", "form": "held causal", "rows": 8 * columns}
            run = rows.softmax(scores, columns, "bf16", causal_offset=0)
            tell({**sizes, "columns": columns}, run, ["rows"])
    write(out / "counters.json", document("alone-waits", told))


def slots(out: Path) -> None:
    """Cycles between blocks in one place."""
    found = [microbench.slot_row(threads) for threads in microbench.THREADS]
    write(out / "slots.json", document("cycles between blocks", found))


def steadily(out: Path, name: str, made: Iterator[dict], **more: object) -> None:
    """Measure rows one after the other, each written as soon as it is there.

    One file takes the rows of all sets, a JSON object a line; ``tests.gpu.assembled`` sorts them.
    """
    count, worst, error, start = 0, 0.0, 0.0, time.time()
    with (out / "rows.jsonl").open("a", encoding="utf-8") as file:
        head = {k: v for k, v in document(name, [], **more).items() if k != "rows"}
        file.write(json.dumps({"set": name, "head": head}) + "\n")
        for row in made:
            file.write(json.dumps({"set": name, "row": row}) + "\n")
            file.flush()
            count += 1
            worst = max(worst, (row.get("hot") or {}).get("spread", 0.0))
            check = row.get("check")
            if check is not None:
                error = max(error, check["relative_error"])
                if not halves.Check(**{k: check[k] for k in FIELDS}).holds:
                    print("WRONG", row, flush=True)
            cupy().get_default_memory_pool().free_all_blocks()
    print(name, count, "rows in", f"{time.time() - start:.1f} s, worst spread {worst:.3f},",
          f"largest error {error:.2e}", flush=True)  # fmt: skip


FIELDS = tuple(halves.Check.__dataclass_fields__)


def grid(out: Path, part: int) -> None:
    cases = attention_cases(GRID_SEED, GRID_COUNT)[part::2]
    steadily(out, f"attention-grid-{part}", (attention_row(c, 21) for c in cases), seed=GRID_SEED)


def judged(out: Path, seed: int = JUDGED_SEED, name: str = "judged") -> None:
    """The grid that the model is judged on: cases never used while it was built."""
    made = (attention_row(c, 31) for c in attention_cases(seed, JUDGED_COUNT))
    steadily(out, f"{name}-attention-grid", made, seed=seed)


def walk_found(out: Path, cache: Cache) -> Walk:
    """The walk that ``decoding`` found best in this run, where it ran."""
    path = out / "walks.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    given = found.get(f"{cache.bits}-{cache.E}") if cache.group <= 8 else None
    return Walk(**given) if given else decode.walk_of(cache)


def decode_grid(out: Path) -> None:
    cases = decode_cases(GRID_SEED, 60)
    made = (decode_row(c, 22, walk_found(out, c)) for c in cases)
    steadily(out, "decode-grid", made, seed=GRID_SEED)


def judged_decode(out: Path, seed: int = JUDGED_SEED, name: str = "judged") -> None:
    made = (decode_row(c, 32, walk_found(out, c)) for c in decode_cases(seed, 45))
    steadily(out, f"{name}-decode-grid", made, seed=seed)


def rows_grid(out: Path) -> None:
    steadily(out, "rows-grid", (rows_row(*r, "bf16") for r in ROWS))


def library_grid(out: Path) -> None:
    made = library.rows(GRID_SEED + 1, 50, 60)
    steadily(out, "library-grid", made, libraries=library.versions(), seed=GRID_SEED + 1)


def judged_library(out: Path, seed: int = JUDGED_SEED, name: str = "judged") -> None:
    made = library.rows(seed + 1, 36, 40)
    steadily(out, f"{name}-library-grid", made, libraries=library.versions(), seed=seed + 1)


def speedup_shapes(seed: int, count: int) -> list[Shape]:
    """Shapes whose scores fit device memory, so that every variant runs on them."""
    draw, found = random.Random(seed), []
    while len(found) < count:
        length = round(1024 * 16 ** draw.random())
        length = length // 128 * 128 if draw.random() < 0.5 else length
        heads = draw.choice((8, 16, 32))
        shape = Shape(draw.choice((1, 2, 4)), heads, length, length, draw.choice((64, 96, 128)))
        if shape.B * heads * length**2 < 4e9:
            found.append(shape)
    return found


def variants_of(shape: Shape) -> Iterator[tuple[dict[str, object], object, object]]:
    """Every way to compute attention of one shape: what it is, its launch, its check."""
    wgmma, mma = (attention.best_tile(path, shape.E) for path in ("wgmma", "mma"))
    dense = Problem(shape, ALL, "bf16", 41)
    told = (
        (dense, Variant(1, wgmma)), (dense, Variant(1, mma)), (dense, Variant(2, mma)),
        (dense, Variant(3, None)), (Problem(shape, CAUSAL, "bf16", 41), Variant(1, wgmma)),
        (Problem(shape, CAUSAL, "bf16", 41), Variant(3, None)),
        (Problem(shape, Mask(True, 512), "bf16", 41), Variant(1, wgmma)),
    )  # fmt: skip
    for problem, variant in told:
        run = attention.run_of(problem, variant)
        row = AttentionCase(shape, problem.mask, "bf16", variant).as_dict()
        yield row | {"flops": problem.flops}, run, partial(problem.check, run)
    for share in (0.1, 0.3, 0.5):
        keep = sparse.random_tiles(dense, wgmma, share, 1)
        run = sparse.sparse(dense, wgmma, keep)
        row = {"name": "block-sparse", "tile": asdict(wgmma), "asked": share, "seed": 1}
        row |= {"share": float(keep.mean()), "mask": asdict(ALL), "dtype": "bf16"}
        yield row, run, partial(sparse.check, dense, wgmma, keep, run)
    for name, module, problem in (
        ("linear-decay", linear, linear.Decayed(shape, "bf16", 41)),
        ("linear-full", linear_full, linear_full.Featured(shape, "bf16", 41)),
    ):
        run = module.linear(problem)
        yield {"name": name, "flops": problem.flops}, run, partial(problem.check, run)


def judged_speedups(out: Path, seed: int = JUDGED_SEED, name: str = "judged") -> None:
    """Variants beside their dense baselines, and caches of 16, 8 and 4 bits."""

    def made() -> Iterator[dict[str, object]]:
        for shape in speedup_shapes(seed + 2, 7):
            for row, run, check in variants_of(shape):
                found = check()
                yield {"shape": asdict(shape), **row, "check": fields(found)} | times(run)
        for cache in decode_cases(seed + 2, 30):
            if cache.bits == 16 and cache.cache_bytes > 1 << 26:
                for bits in (16, 8, 4):
                    one = replace(cache, bits=bits)
                    yield decode_row(one, 42, walk_found(out, one))

    steadily(out, f"{name}-speedups", made(), seed=seed + 2)


def short(out: Path, rest_s: float = 0.2) -> None:
    """Tiles at short lengths; a rest before each, so that none inherits a hot board."""

    def made() -> Iterator[dict[str, object]]:
        for dim, tiles in SHORT.items():
            for n, mask in ((512, ALL), (1024, ALL), (1024, CAUSAL), (2048, ALL)):
                shape = Shape(8192 // n, 16, n, n, dim)
                for tile in tiles:
                    time.sleep(rest_s)
                    case = AttentionCase(shape, mask, "bf16", Variant(1, tile))
                    row = attention_row(case, 51)
                    told = f"{row['flops'] / row['hot']['median_s'] / 1e12:.0f} TF"
                    print(
                        shape, mask.causal, tile, told, row["kernel"]["blocks_per_sm"], flush=True
                    )
                    yield row

    steadily(out, "tiles-short", made())


def persistents(out: Path) -> None:
    """Tiles in a queue beside the same tiles in a grid, short and long."""

    def made() -> Iterator[dict[str, object]]:
        for B, H, n, dim, mask in (
            (16, 16, 512, 64, ALL), (16, 16, 512, 128, ALL), (16, 16, 1024, 128, CAUSAL),
            (64, 12, 512, 64, ALL), (8, 16, 2048, 128, ALL), (4, 16, 2048, 128, CAUSAL),
            (4, 16, 4096, 96, ALL), (2, 16, 8192, 128, CAUSAL), (1, 16, 16384, 128, ALL),
            (3, 7, 777, 96, CAUSAL), (1, 16, 16384, 128, CAUSAL), (2, 5, 1000, 64, Mask(True, 100)),
        ):  # fmt: skip
            shape, best = Shape(B, H, n, n, dim), attention.best_tile("wgmma", dim)
            for tile in (best, replace(best, persistent=True)):
                yield attention_row(AttentionCase(shape, mask, "bf16", Variant(1, tile)), 51)

    steadily(out, "persistent", made())


def nears(out: Path) -> None:
    """Neighbourhood attention in one and two dimensions."""

    def made() -> Iterator[dict[str, object]]:
        for grid in GRIDS:
            problem = neighbourhood.Near(grid, "bf16", 61)
            tile = neighbourhood.tile_of(grid)
            run = neighbourhood.neighbourhood(problem, tile)
            yield {
                "name": "neighbourhood", "grid": asdict(grid), "tile": asdict(tile),
                "flops": grid.flops, "kernel": neighbourhood.kernel(problem, tile).as_dict(),
                "check": fields(problem.check(run)),
            } | times(run)  # fmt: skip

    steadily(out, "neighbourhood", made())


def linear_fulls(out: Path) -> None:
    """Linear attention without a mask."""

    def made() -> Iterator[dict[str, object]]:
        for shape, dtype, _ in (*SEQUENCES, (Shape(1, 2, 100, 777, 128), "bf16", None)):
            problem = linear_full.Featured(shape, dtype, 71)
            run = linear_full.linear(problem)
            yield {
                "name": "linear-full", "shape": asdict(shape), "dtype": dtype,
                "flops": problem.flops, "check": fields(problem.check(run)),
            } | times(run)  # fmt: skip

    steadily(out, "linear-full", made())


def decoding(out: Path) -> None:
    """Every cache and walk, checked; large ones timed cold; the best walks kept for the grids."""
    spent: dict[str, dict[Walk, float]] = {}

    def made() -> Iterator[dict[str, object]]:
        for cache in CACHES:
            step = Step(cache, 9)
            walks = WALKS[cache.bits] if cache.group <= 8 else [decode.walk_of(cache)]
            for walk in walks:
                run = decode.decode(step, walk)
                check = step.check(run)
                row = decode.as_dict(cache, walk, device().multiprocessors)
                row["check"] = fields(check)
                row["kernel"] = decode.kernel(step, walk).as_dict()
                if cache.cache_bytes > 1 << 26 and check.holds:
                    timing = measure.timed(run, cold=True)
                    row["cold"] = fields(timing)
                    mine = spent.setdefault(f"{cache.bits}-{cache.E}", {})
                    mine[walk] = mine.get(walk, 0.0) + timing.median_s / cache.cache_bytes
                    print(cache, walk, f"{cache.cache_bytes / timing.median_s / 1e12:.3f} TB/s",
                          row["kernel"]["spilled_bytes"], flush=True)  # fmt: skip
                yield row

    steadily(out, "decode-walks", made())
    best = {key: asdict(min(found, key=found.__getitem__)) for key, found in spent.items()}
    (out / "walks.json").write_text(json.dumps(best))


def gemvs(out: Path) -> None:
    """Weight-only products; the large ones in every tiling."""

    def made() -> Iterator[dict[str, object]]:
        for weights in MATRICES:
            problem = gemv.Problem(weights, 3)
            tilings = [gemv.tiling_of(weights, device().multiprocessors)]
            if weights.N >= 14336 and weights.batch == 1:
                tilings += [t for t in TILINGS if t != tilings[0]]
            for tiling in tilings:
                run = gemv.gemv(problem, tiling)
                check = problem.check(run)
                kernel = gemv.kernel(weights, tiling).as_dict()
                cold = measure.timed(run, cold=True)
                print(weights, tiling, f"{check.relative_error:.1e} {cold.median_s * 1e6:.1f} us",
                      f"{weights.bytes / cold.median_s / 1e12:.2f} TB/s", flush=True)  # fmt: skip
                yield {
                    "weights": asdict(weights), "tiling": asdict(tiling), "bytes": weights.bytes,
                    "check": fields(check), "kernel": kernel, "cold": fields(cold),
                    "hot": fields(measure.timed(run)),
                }  # fmt: skip

    steadily(out, "gemv", made())


def judged_energy(out: Path) -> None:
    """Kernels back to back at shapes of their own."""

    def told() -> Iterator[tuple[dict[str, object], object, object]]:
        for B, n, dim, mask, passes, path in (
            (2, 9700, 128, ALL, 1, "wgmma"), (1, 12345, 96, CAUSAL, 1, "wgmma"),
            (2, 7168, 64, ALL, 1, "wgmma"), (2, 5555, 128, CAUSAL, 1, "mma"),
            (1, 8192, 64, ALL, 1, "mma"), (2, 4864, 64, ALL, 2, "mma"),
            (2, 3900, 96, ALL, 3, ""),
        ):  # fmt: skip
            problem = Problem(Shape(B, 16, n, n, dim), mask, "bf16", 81)
            variant = Variant(passes, attention.best_tile(path, dim) if path else None)
            run = attention.run_of(problem, variant)
            row = AttentionCase(problem.shape, mask, "bf16", variant).as_dict()
            yield row | {"flops": problem.flops}, run, partial(problem.check, run)
        for bits in (16, 4):
            cache = Cache(24, 64, 16, 9100, 64, bits)
            step, walk = Step(cache, 82), walk_found(out, cache)
            run = decode.decode(step, walk)
            told = decode.as_dict(cache, walk, device().multiprocessors)
            yield told, run, partial(step.check, run)
        problem = linear.Decayed(Shape(4, 16, 17000, 17000, 64), seed=83)
        run = linear.linear(problem)
        yield {"linear": asdict(problem.shape)}, run, partial(problem.check, run)

    def made() -> Iterator[dict[str, object]]:
        for row, run, check in told():
            found = check()
            yield row | {"check": fields(found), "sustained": fields(measure.sustained(run))}

    steadily(out, "judged-energy", made())


def attention_energy(out: Path) -> None:
    found = []
    for case in [
        *COUNTED,
        AttentionCase(
            Shape(1, 16, 16384, 16384, 96),
            ALL,
            "bf16",
            Variant(1, attention.best_tile("wgmma", 96)),
        ),
        AttentionCase(
            Shape(8, 16, 2048, 2048, 64),
            CAUSAL,
            "bf16",
            Variant(1, attention.best_tile("wgmma", 64)),
        ),
        AttentionCase(Shape(32, 16, 512, 512, 128), ALL, "f16", Variant(1, MMA)),
    ]:
        problem = Problem(case.shape, case.mask, case.dtype, 6)
        run = attention.run_of(problem, case.variant)
        check = problem.check(run)
        power = measure.sustained(run)
        row = case.as_dict() | {
            "flops": problem.flops,
            "check": fields(check),
            "sustained": fields(power),
        }
        found.append(row)
        print(case.variant.name, case.shape, case.mask.causal, power)
    for cache in CACHES[4:5] + CACHES[13:14] + CACHES[22:23]:
        step = Step(cache, 3)
        run = decode.decode(step)
        check, power = step.check(run), measure.sustained(run)
        found.append({"cache": asdict(cache), "check": fields(check), "sustained": fields(power)})
        print(cache, power)
    problem = linear.Decayed(Shape(1, 16, 65536, 65536, 128), seed=2)
    run = linear.linear(problem)
    check, power = problem.check(run), measure.sustained(run)
    found.append(
        {"linear": asdict(problem.shape), "check": fields(check), "sustained": fields(power)}
    )
    print("linear", power)
    for op, form, count, columns in (
        ("softmax", "held", 8192, 8192),
        ("layernorm", "textbook", 8192, 8192),
    ):
        power = measure.sustained(rows.fresh(op, form, count, columns, "bf16"))
        found.append(
            {"op": op, "form": form, "rows": count, "columns": columns, "sustained": fields(power)}
        )
    write(out / "energy-kernels.json", document("energy of kernels", found))


def tile_cycles(out: Path) -> None:
    """Cycles of a key tile in blocks that share multiprocessors, started together or apart.

    One query head is one block; all share their keys.  A tile takes the
    difference between blocks of 64 and of 16 tiles over 48; medians of blocks
    and of five launches.
    """
    module, units = cupy(), device().multiprocessors

    def block(tile: Tile, dim: int, passes: int, residents: int, keys: int, lag: int) -> float:
        heads = units * residents
        problem = Problem(Shape(1, heads, tile.queries, keys, dim, 1), ALL, "bf16", 3)
        defines = attention.macros(problem, tile, passes) | {"CLOCKED": 1}
        source, shared = "attention_mma.cu", tile.shared_bytes(dim)
        kernel = load(source, "attention", defines, tile.threads, shared)
        taken = module.zeros(heads, dtype=module.uint64)
        number, nowhere = module.int32, module.zeros(1, dtype=module.int32)
        found = []
        for _ in range(5):
            kernel(
                (1, heads, 1), problem.q, problem.k, problem.v, problem.out.array,
                number(tile.queries), number(keys), number(heads),
                module.float32(problem.factor * attention.LOG2E), number(0), number(0),
                nowhere, nowhere, module.uint64(lag), taken,
            )  # fmt: skip
            found.append(float(module.median(taken.astype(module.float64))))
        return sorted(found)[2]

    def made() -> Iterator[dict[str, object]]:
        for dim, tile in CLOCKED:
            for passes in (1, 2) if tile == attention.best_tile("mma", dim) else (1,):
                for residents in range(1, tile.blocks + 1):
                    for lag in (0, 300, 3000) if residents == 2 else (0,):
                        few, many = (
                            block(tile, dim, passes, residents, n * tile.keys, lag)
                            for n in (16, 64)
                        )
                        yield {
                            "dim": dim, "tile": asdict(tile), "passes": passes,
                            "residents": residents, "lag": lag,
                            "tile_cycles": (many - few) / 48, "around": few - (many - few) / 3,
                        }  # fmt: skip

    write(out / "tile-cycles.json", document("tile cycles", list(made())))


def besides(out: Path) -> None:
    """What other instructions take from mma.sync."""
    write(out / "beside.json", document("instructions beside mma", waits.beside_rows()))
