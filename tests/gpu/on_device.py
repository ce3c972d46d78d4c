"""Checks and measurements on a real GPU: ``python -m tests.gpu.on_device STEP... --out DIR``.

Not a test that CI runs (it has no GPU).  Every step runs in a process of its
own under a time limit, so that a fault in one leaves the others.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from accelsim.gpu import (
    attention,
    decode,
    estimation,
    gemv,
    linear,
    measure,
    microbench,
    rows,
    sparse,
)
from accelsim.gpu.attention import Mask, Problem, Shape, Tile, Variant
from accelsim.gpu.decode import Cache, Step, Walk
from accelsim.gpu.device import cupy
from accelsim.gpu.estimation import Quantised
from accelsim.gpu.gemv import Weights
from accelsim.gpu.grid import (
    AttentionCase,
    attention_cases,
    attention_row,
    decode_cases,
    decode_row,
    rows_row,
)
from accelsim.gpu.kernel import Build, compiled
from accelsim.gpu.record import document, fields, write

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
    16: [Walk(32), Walk(32, 8, 1)],
    8: [Walk(64), Walk(32, ahead=True), Walk(16, ahead=True), Walk(16, blocks=3, ahead=True)],
    4: [Walk(64), Walk(32, ahead=True), Walk(32, blocks=3, ahead=True), Walk(64, ahead=True)],
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


def build(source: str, entry: str, defines: dict[str, int]) -> Build:
    return Build(source, entry, "sm_90a", tuple(sorted(defines.items())))


def builds() -> list[Build]:
    """What the steps will compile, for compiling it beforehand."""
    found = []
    for dim, tiles in CANDIDATES.items():
        for mask in (ALL, CAUSAL):
            found += [(tile, Problem(Shape(1, 1, 8, 8, dim), mask), 1, False) for tile in tiles]
    for shape, mask, dtype in ODD:
        problem = Problem(shape, mask, dtype)
        best = attention.best_tile("wgmma", shape.E)
        found += [(MMA, problem, 1, False), (best, problem, 1, False), (MMA, problem, 2, False)]
        found += [(MMA, problem, 1, True), (best, problem, 1, True)]
    made = [
        build(f"attention_{t.path}.cu", "attention", attention.macros(p, t, n, sparse))
        for t, p, n, sparse in found
    ]
    for op in microbench.OPS:
        for n in op.threads:
            defines = {"ILP": op.ilp, "OP": op.number, "REPEAT": op.repeat, "THREADS": n}
            made.append(build("microbench.cu", "rate", defines))
    made += [build("microbench.cu", x, {}) for x in ("read", "write", "copy", "level2", "chase")]
    made += [build("tools.cu", x, {}) for x in ("empty", "delay", "sweep", "probe")]
    for cache in CACHES:
        for walk in WALKS[cache.bits]:
            defines = decode.macros(cache, walk, "f16")
            made += [build("decode.cu", x, defines) for x in ("split", "merge")]
    for shape, dtype, _ in SEQUENCES:
        base = {"D": shape.E, "BF16": int(dtype == "bf16")}
        made += [build("linear.cu", "chunks", base | {"OUTPUT": i}) for i in (0, 1)]
        made.append(build("linear.cu", "prefix", base | {"OUTPUT": 0}))
    for dim in (64, 96, 128):
        for flags in range(4):
            base = {"D": dim, "BF16": flags & 1, "CAUSAL": flags >> 1}
            made += [build("attention_unfused.cu", x, base) for x in ("scores", "values")]
    for case in attention_cases(GRID_SEED, GRID_COUNT) + attention_cases(5, 200):
        if case.variant.tile:
            defines = attention.macros(
                Problem(case.shape, case.mask, case.dtype), case.variant.tile, case.variant.passes
            )
            made.append(build(f"attention_{case.variant.tile.path}.cu", "attention", defines))
    return list(dict.fromkeys(made))


def one(build: Build) -> int:
    return len(compiled(build))


def compile_all() -> None:
    start = time.time()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(one, builds(), chunksize=4))
    print(f"{len(sizes)} kernels in {time.time() - start:.1f} s")


def smoke(out: Path) -> None:
    """Properties, sensors, versions."""
    from accelsim.gpu.device import device, versions

    print(json.dumps(device().as_dict()), json.dumps(versions()))
    print(json.dumps(measure.board().state()), "clock", measure.sm_clock_hz())


def line(problem: Problem, variant: Variant, check: object, timing: object = None) -> str:
    s, m = problem.shape, problem.mask
    text = (
        f"{variant.name:24s} B{s.B} H{s.H}/{s.key_heads} P{s.P} M{s.M} E{s.E} {problem.dtype}"
        f" {'causal' if m.causal else 'full'}{m.window or ''}"
    )
    if variant.tile:
        t = variant.tile
        text += f" keys{t.keys} warps{t.warps}x{t.row_tiles} blocks{t.blocks} turns{int(t.turns)}"
    text += f" err {check.relative_error:.2e} {'ok' if check.holds else 'WRONG'}"
    if not check.holds:
        text += f" {check}"
    if timing:
        text += f" {timing.median_s * 1e3:.3f} ms {problem.flops / timing.median_s / 1e12:.1f} TF"
    return text


def correct(out: Path, path: str) -> None:
    """Every shape of ``ODD`` by one path; one and, on mma, two and three passes."""
    for shape, mask, dtype in ODD:
        problem = Problem(shape, mask, dtype, seed=3)
        tile = MMA if path == "mma" else attention.best_tile("wgmma", shape.E)
        variants = [Variant(1, tile)]
        if path == "mma":
            variants.append(Variant(2, tile))
            if not mask.window:
                variants.append(Variant(3, None))
        for variant in variants:
            check = problem.check(attention.run_of(problem, variant))
            print(line(problem, variant, check))


def tiles(out: Path, dim: int, path: str) -> None:
    """Times of the candidates at b1 h16 n16384, full and causal; each checked first."""
    found = []
    for mask in (ALL, CAUSAL):
        problem = Problem(Shape(1, 16, 16384, 16384, dim), mask, seed=5)
        for tile in CANDIDATES[dim]:
            if tile.path != path:
                continue
            variant = Variant(1, tile)
            run = attention.run_of(problem, variant)
            check = problem.check(run)
            timing = measure.timed(run) if check.holds else None
            print(line(problem, variant, check, timing))
            built = attention.kernel(problem, tile, 1)
            found.append(
                variant.as_dict()
                | {"dim": dim, "causal": mask.causal, "check": fields(check)}
                | {"time": fields(timing), "kernel": built.as_dict()}
            )
            sys.stdout.flush()
    write(out / f"tiles-{path}-{dim}.json", document("tiles", found))


def passes(out: Path) -> None:
    """One, two and three passes on mma at a length that the scores fit."""
    for n in (4096, 8192):
        problem = Problem(Shape(1, 16, n, n, 128), seed=6)
        for variant in (Variant(1, MMA), Variant(2, MMA), Variant(3, None)):
            run = attention.run_of(problem, variant)
            check = problem.check(run)
            print(line(problem, variant, check, measure.timed(run)))


def row_forms(out: Path) -> None:
    for op in ("softmax", "rmsnorm", "layernorm"):
        for form in ("textbook", "derived", "held"):
            for count, columns, dtype in ((5, 1001, "bf16"), (64, 4096, "f16"), (3, 60000, "bf16")):
                check = rows.check(op, form, count, columns, dtype)
                print(op, form, count, columns, dtype, f"{check.relative_error:.2e}", check.holds)


def decoding(out: Path) -> None:
    """Every cache and walk: checked, and timed cold."""
    found = []
    for cache in CACHES:
        step = Step(cache, seed=9)
        for walk in WALKS[cache.bits]:
            run = decode.decode(step, walk)
            check = step.check(run)
            text = f"decode {cache} {walk} err {check.relative_error:.2e} {check.holds}"
            row = {"cache": asdict(cache), "walk": asdict(walk), "check": fields(check)}
            row["kernel"] = decode.kernel(step, walk).as_dict()
            if cache.cache_bytes > 1 << 26 and check.holds:
                timing = measure.timed(run, cold=True)
                row["time"] = fields(timing)
                text += f" {timing.median_s * 1e6:.1f} us"
                text += f" {cache.cache_bytes / timing.median_s / 1e12:.3f} TB/s"
            print(text, row["kernel"]["spilled_bytes"])
            found.append(row)
        del step
        cupy().get_default_memory_pool().free_all_blocks()
    write(out / "decode.json", document("decode", found))


def linears(out: Path) -> None:
    found = []
    for shape, dtype, each in SEQUENCES:
        problem = linear.Decayed(shape, dtype, seed=4)
        for per_segment in [each] if each else [None, 8, 16, 32, 64, 1024]:
            run = linear.linear(problem, per_segment)
            check = problem.check(run)
            timing = measure.timed(run)
            moved = 4 * problem.out.array.nbytes
            found.append(
                {"shape": asdict(shape), "dtype": dtype, "check": fields(check),
                 "per_segment": per_segment or linear.chunks_of(shape, 132),
                 "flops": problem.flops, "hot": fields(timing)}
            )  # fmt: skip
            print(shape, dtype, per_segment, f"{check.relative_error:.2e} {check.holds}",
                  f"{timing.median_s * 1e6:.1f} us {moved / timing.median_s / 1e12:.2f} TB/s",
                  f"{problem.flops / timing.median_s / 1e12:.1f} TF")  # fmt: skip
    write(out / "linear.json", document("linear attention with decay", found))


def gemvs(out: Path) -> None:
    found = []
    for weights in MATRICES:
        problem = gemv.Problem(weights, 3)
        run = gemv.gemv(problem)
        check = problem.check(run)
        timing = measure.timed(run, cold=True)
        text = f"{weights} {check.relative_error:.2e} {check.holds} {timing.median_s * 1e6:.1f} us"
        print(text, f"{weights.bytes / timing.median_s / 1e12:.2f} TB/s")
        found.append(
            {"weights": asdict(weights), "bytes": weights.bytes, "check": fields(check),
             "kernel": gemv.kernel(weights).as_dict(), "cold": fields(timing),
             "hot": fields(measure.timed(run))}
        )  # fmt: skip
    write(out / "gemv.json", document("weight-only products", found))


def estimates(out: Path) -> None:
    found = []
    for problem in ESTIMATES:
        run = estimation.estimate(problem)
        check = problem.check(run)
        timing = measure.timed(run)
        s = problem.shape
        print(s, problem.bits, problem.causal, check, f"{timing.median_s * 1e6:.1f} us",
              f"{s.flops / 2 / timing.median_s / 1e12:.0f} Top/s (all pairs counted)")  # fmt: skip
        found.append(
            {"shape": asdict(s), "bits": problem.bits, "causal": problem.causal,
             "check": fields(check), "kernel": estimation.kernel(problem).as_dict(),
             "hot": fields(timing)}
        )  # fmt: skip
    write(out / "estimation.json", document("estimated scores", found))


def sparses(out: Path) -> None:
    found = []
    for shape, mask, dtype, shares in (
        (Shape(1, 3, 700, 900, 64), ALL, "f16", (0.3,)),
        (Shape(2, 4, 1000, 1000, 128, HK=2), CAUSAL, "bf16", (0.5,)),
        (Shape(1, 16, 16384, 16384, 128), ALL, "bf16", (0.1, 0.3, 0.5, 1.0)),
        (Shape(1, 16, 16384, 16384, 128), CAUSAL, "bf16", (0.1, 0.5)),
    ):
        problem = Problem(shape, mask, dtype, seed=8)
        for path in ("mma", "wgmma"):
            tile = attention.best_tile(path, shape.E)
            for share in shares:
                keep = sparse.random_tiles(problem, tile, share, 1)
                run = sparse.sparse(problem, tile, keep)
                check = sparse.check(problem, tile, keep, run)
                timing = measure.timed(run)
                flops = 4 * shape.B * shape.E * int(keep.sum()) * tile.queries * tile.keys
                rate = flops / timing.median_s / 1e12
                print(path, shape, share, f"{keep.mean():.3f} {check.relative_error:.2e}",
                      check.holds, f"{timing.median_s * 1e3:.3f} ms {rate:.1f} TF")  # fmt: skip
                found.append(
                    {"shape": asdict(shape), "mask": asdict(mask), "dtype": dtype,
                     "tile": asdict(tile), "share": float(keep.mean()), "flops": flops,
                     "check": fields(check), "hot": fields(timing)}
                )  # fmt: skip
    write(out / "sparse.json", document("block-sparse attention", found))


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


def counters(out: Path) -> None:
    """Launches for a profiler, in the order that counters.json tells."""
    told = []

    def tell(case: dict[str, object], run: object, kernels: list[str]) -> None:
        run()
        cupy().cuda.runtime.deviceSynchronize()
        told.append({"case": case, "kernels": kernels})

    small = [c for c in attention_cases(5, 200) if c.shape.flops < 2e12][:14]
    for case in COUNTED + small:
        names = ["scores", "rows", "values"] if case.variant.passes == 3 else ["attention"]
        run = attention.run_of(Problem(case.shape, case.mask, case.dtype, 2), case.variant)
        tell(case.as_dict(), run, names)
    for cache in CACHES[4:5] + CACHES[13:14] + CACHES[22:23] + CACHES[6:7]:
        run = decode.decode(Step(cache, 3))
        walk = decode.walk_of(cache.bits)
        splits, _ = decode.splits_of(cache, walk, 132)
        tell({"cache": asdict(cache)}, run, ["split", "merge"] if splits > 1 else ["split"])
    shape = Shape(1, 16, 16384, 16384, 128)
    run = linear.linear(linear.Decayed(shape, seed=2))
    tell({"linear": asdict(shape)}, run, ["chunks", "prefix", "chunks"])
    for op, form, count, columns in ROWS[::5]:
        run = rows.fresh(op, form, count, columns, "bf16")
        tell({"op": op, "form": form, "rows": count, "columns": columns}, run, ["rows"])
    (out / "counters.json").write_text(json.dumps(told))


def steadily(out: Path, name: str, made: object) -> None:
    """Measure rows one after the other; a case that fails says so and is left out."""
    found = []
    for row in made:
        found.append(row)
        if not row.get("check", {"holds": True})["holds"]:
            print("WRONG", row)
        cupy().get_default_memory_pool().free_all_blocks()
        if len(found) % 20 == 0:
            write(out / f"{name}.json", document(name, found))
            print(name, len(found), "rows", flush=True)
    write(out / f"{name}.json", document(name, found))
    worst = max((r["hot"]["spread"] for r in found if "hot" in r), default=0)
    errors = max((r["check"]["relative_error"] for r in found if "check" in r), default=0)
    print(name, len(found), "rows, worst spread", worst, "largest error", errors)


def grid(out: Path, part: int) -> None:
    cases = attention_cases(GRID_SEED, GRID_COUNT)[part::2]
    steadily(out, f"attention-grid-{part}", (attention_row(c, 21) for c in cases))


def decode_grid(out: Path) -> None:
    steadily(out, "decode-grid", (decode_row(c, 22) for c in decode_cases(GRID_SEED, 60)))


ROWS = [
    (op, form, count, columns)
    for op in ("softmax", "rmsnorm", "layernorm")
    for form in ("textbook", "derived", "held")
    for count, columns in ((65536, 1024), (8192, 8192), (4096, 4096), (3001, 5000), (1024, 65536))
    if not (op == "rmsnorm" and form == "derived")
]


def rows_grid(out: Path) -> None:
    steadily(out, "rows-grid", (rows_row(*r, "bf16") for r in ROWS))


def library_grid(out: Path) -> None:
    from accelsim.gpu import library

    def made() -> object:
        names = ("flash-attention-2", "cudnn-attention")
        seen = set()
        for case in attention_cases(GRID_SEED + 1, 400):
            shape, mask = case.shape, case.mask
            if mask.window or shape in seen or shape.flops > 2e13 or len(seen) >= 50:
                continue
            seen.add(shape)
            for name in names:
                run = library.attention(name, shape, mask, case.dtype)
                yield library.row(name, run, shape=shape, mask=mask, dtype=case.dtype)
        draw = random.Random(GRID_SEED)
        for _ in range(60):
            sizes = [round(2 ** draw.uniform(7, 13.5)) for _ in range(3)]
            sizes = (
                [x // 64 * 64 for x in sizes]
                if draw.random() < 0.7
                else [x // 8 * 8 for x in sizes]
            )
            problem = library.Gemm(*sizes)
            yield library.row(
                "cublas-gemm", library.gemm(problem, "bf16"), gemm=problem, dtype="bf16"
            )
        for name in ("torch-softmax", "torch-copy"):
            for count, columns in (
                (65536, 1024),
                (8192, 8192),
                (3001, 5000),
                (1024, 65536),
                (512, 2048),
            ):
                run = library.elementwise(name, count, columns, "bf16")
                yield library.row(name, run, rows=count, columns=columns, dtype="bf16")

    steadily(out, "library-grid", made())


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


def ceilings(out: Path) -> None:
    found = microbench.ceiling_rows()
    write(out / "ceilings.json", document("ceilings", found))
    for row in found:
        keys = ("threads", "buffer_bytes", "blocks_per_sm", "per_cycle_sm", "cycles_each", "per_s",
                "seconds", "sm_hz")  # fmt: skip
        print(row["what"], *(f"{k}={row[k]:.4g}" for k in keys if k in row))


def energy(out: Path) -> None:
    found = microbench.energy_rows()
    write(out / "energy.json", document("energy", found))
    for row in found:
        print({k: v for k, v in row.items() if k in ("what", "joules_each", "power_w", "per_s")},
              (row.get("sustained") or {}).get("sm_hz"),
              (row.get("sustained") or {}).get("held_down_by"))  # fmt: skip


#: The grid that the model is built on; the one it is judged on has another seed.
GRID_SEED, GRID_COUNT = 1, 220

STEPS = {
    "smoke": smoke,
    "correct-mma": lambda o: correct(o, "mma"),
    "correct-wgmma": lambda o: correct(o, "wgmma"),
    **{
        f"tiles-{p}-{d}": (lambda o, p=p, d=d: tiles(o, d, p))
        for p in ("mma", "wgmma")
        for d in CANDIDATES
    },
    "passes": passes,
    "rows": row_forms,
    "decode": decoding,
    "linear": linears,
    "gemv": gemvs,
    "estimation": estimates,
    "sparse": sparses,
    "counters": counters,
    "grid-0": lambda o: grid(o, 0),
    "grid-1": lambda o: grid(o, 1),
    "decode-grid": decode_grid,
    "rows-grid": rows_grid,
    "library-grid": library_grid,
    "energy-kernels": attention_energy,
    "ceilings": ceilings,
    "energy": energy,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("steps", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--here", action="store_true", help="run the step in this process")
    given = parser.parse_args()
    if given.steps == ["compile"]:
        return compile_all()
    if given.here:
        for step in given.steps:
            STEPS[step](given.out)
        return None
    for step in given.steps:
        start = time.time()
        command = [sys.executable, "-u", "-m", "tests.gpu.on_device", step, "--here", "--out",
                   str(given.out)]  # fmt: skip
        try:
            subprocess.run(command, timeout=given.limit, check=True)
            ended = "done"
        except subprocess.TimeoutExpired:
            ended = "TIMED OUT"
        except subprocess.CalledProcessError as error:
            ended = f"FAILED {error.returncode}"
        except Exception:
            ended = traceback.format_exc()
        print(f"== {step}: {ended}, {time.time() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
