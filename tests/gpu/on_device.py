"""Checks and measurements on a real GPU: ``python -m tests.gpu.on_device STEP... --out DIR``.

Not a test that CI runs (it has no GPU).  Every step runs in a process of its
own under a time limit (``STEP:SECONDS``), so that a fault in one leaves the others.  ``compile``
compiles what the steps need, on all cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from accelsim.gpu import (
    attention,
    decode,
    estimation,
    gemv,
    microbench,
    neighbourhood,
    waits,
)
from accelsim.gpu.attention import Mask, Problem, Shape, Variant
from accelsim.gpu.grid import attention_cases, decode_cases
from accelsim.gpu.kernel import Build, compiled
from tests.gpu import block_times, campaign, checks, interpreted, library_splits
from tests.gpu.cases import (
    ALL,
    CACHES,
    CANDIDATES,
    CAUSAL,
    COUNTED_SEED,
    ESTIMATES,
    FRESH_SEED,
    GRID_COUNT,
    GRID_SEED,
    GRIDS,
    JUDGED_COUNT,
    JUDGED_SEED,
    MATRICES,
    MMA,
    ODD,
    SHORT,
    TILINGS,
    WALKS,
)


def build(source: str, entry: str, defines: dict[str, int]) -> Build:
    return Build(source, entry, "sm_90a", tuple(sorted(defines.items())))


def fused(problem: Problem, variant: Variant, sparse: bool = False) -> list[Build]:
    """What a variant of attention is built from."""
    if variant.tile is None:
        base = {"D": problem.shape.E, "BF16": int(problem.dtype == "bf16")}
        base |= {"CAUSAL": int(problem.mask.causal)}
        return [build("attention_unfused.cu", x, base) for x in ("scores", "values")]
    defines = attention.macros(problem, variant.tile, variant.passes, sparse)
    return [build(f"attention_{variant.tile.path}.cu", "attention", defines)]


def of_attention() -> list[Build]:
    """Grids, pairs, odd shapes, tiles that are tried."""
    found = []
    for dim, tiles in CANDIDATES.items():
        for mask in (ALL, CAUSAL):
            problem = Problem(Shape(1, 1, 8, 8, dim), mask)
            for tile in tiles:
                found += fused(problem, Variant(1, tile))
            for path in ("mma", "wgmma"):
                best = Variant(1, attention.best_tile(path, dim))
                for dtype in ("bf16", "f16"):
                    found += fused(replace(problem, dtype=dtype), best)
                found += fused(problem, best, sparse=True)
            wgmma = replace(attention.best_tile("wgmma", dim), persistent=True)
            found += fused(problem, Variant(1, wgmma))
            found += fused(problem, Variant(2, attention.best_tile("mma", dim)))
            found += fused(problem, Variant(3, None))
        window = Problem(Shape(1, 1, 8, 8, dim), Mask(True, 100))
        found += fused(window, Variant(1, attention.best_tile("wgmma", dim)))
    for shape, mask, dtype in ODD:
        problem = Problem(shape, mask, dtype)
        best = attention.best_tile("wgmma", shape.E)
        for variant in (Variant(1, MMA), Variant(1, best), Variant(2, MMA)):
            found += fused(problem, variant)
    for dim, tiles in SHORT.items():
        for mask in (ALL, CAUSAL):
            problem = Problem(Shape(1, 1, 8, 8, dim), mask)
            found += [b for tile in tiles for b in fused(problem, Variant(1, tile))]
    for seed, count in (
        (GRID_SEED, GRID_COUNT),
        (COUNTED_SEED, 200),
        (JUDGED_SEED, JUDGED_COUNT),
    ):
        for case in attention_cases(seed, count):
            found += fused(Problem(case.shape, case.mask, case.dtype), case.variant)
    return found


def of_judged() -> list[Build]:
    """What the cases of the judged sets are built from."""
    found = []
    for seed in (JUDGED_SEED, COUNTED_SEED):
        for case in attention_cases(seed, JUDGED_COUNT):
            found += fused(Problem(case.shape, case.mask, case.dtype), case.variant)
    for dim in attention.HEAD_DIMS:
        wgmma, mma = (attention.best_tile(path, dim) for path in ("wgmma", "mma"))
        for mask in (ALL, CAUSAL, Mask(True, 512)):
            problem = Problem(Shape(1, 1, 8, 8, dim), mask)
            for variant in (Variant(1, wgmma), Variant(1, mma), Variant(2, mma), Variant(3, None)):
                found += fused(problem, variant)
        found += fused(Problem(Shape(1, 1, 8, 8, dim), ALL), Variant(1, wgmma), sparse=True)
    for cache in decode_cases(JUDGED_SEED, 45):
        defines = decode.macros(cache, decode.walk_of(cache), "f16")
        found += [build("decode.cu", x, defines) for x in ("split", "merge")]
    found += [build("tools.cu", x, {}) for x in ("empty", "delay", "sweep", "probe")]
    return list(dict.fromkeys([*found, *of_others()]))


def of_decode() -> list[Build]:
    """Every walk on every cache, and the grids with any walk."""
    found = []
    cases = [*CACHES, *decode_cases(GRID_SEED, 60), *decode_cases(JUDGED_SEED, 45)]
    for cache in cases:
        walks = [decode.walk_of(cache), *(WALKS[cache.bits] if cache.group <= 8 else [])]
        for walk in walks:
            defines = decode.macros(cache, walk, "f16")
            found += [build("decode.cu", x, defines) for x in ("split", "merge")]
    return found


def of_ceilings() -> list[Build]:
    """Microbenchmarks and tools."""
    found = [build("microbench.cu", x, {}) for x in ("read", "write", "copy", "level2", "chase")]
    found += [build("tools.cu", x, {}) for x in ("empty", "delay", "sweep", "probe")]
    for op in (*microbench.OPS, *waits.WAITS):
        for n in op.threads:
            defines = {"ILP": op.ilp, "OP": op.number, "REPEAT": op.repeat, "THREADS": n}
            found.append(build("microbench.cu", "rate", defines))
    return found


def of_others() -> list[Build]:
    """Linear attention, neighbourhoods, products, estimates, rows."""
    found = []
    for dim in attention.HEAD_DIMS:
        for flag in (0, 1):
            base = {"D": dim, "BF16": flag}
            found += [build("linear.cu", "chunks", base | {"OUTPUT": i}) for i in (0, 1)]
            found.append(build("linear.cu", "prefix", base | {"OUTPUT": 0}))
            found += [build("linear_full.cu", x, base) for x in ("states", "total", "outputs")]
    for grid in GRIDS:
        defines = neighbourhood.macros(grid, neighbourhood.tile_of(grid), "bf16")
        found.append(build("neighbourhood.cu", "neighbourhood", defines))
    for weights in MATRICES:
        for tiling in (gemv.tiling_of(weights, 132), *TILINGS):
            found.append(build("gemv.cu", "gemv", gemv.macros(weights, tiling)))
    for problem in ESTIMATES:
        found.append(build("estimation.cu", "estimate", estimation.macros(problem)))
    return found


def builds() -> list[Build]:
    """What the steps will compile, for compiling it beforehand."""
    return list(dict.fromkeys([*of_ceilings(), *of_attention(), *of_decode(), *of_others()]))


def one(build: Build) -> int:
    return len(compiled(build))


def compile_all(wanted: list[Build]) -> None:
    start = time.time()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(one, wanted, chunksize=2))
    print(f"{len(sizes)} kernels in {time.time() - start:.1f} s")


STEPS = {
    "smoke": checks.smoke,
    "limits": checks.limits,
    "correct-mma": lambda o: checks.correct(o, "mma"),
    "correct-wgmma": lambda o: checks.correct(o, "wgmma"),
    **{
        f"tiles-{p}-{d}": (lambda o, p=p, d=d: checks.tiles(o, d, p))
        for p in ("mma", "wgmma")
        for d in CANDIDATES
    },
    "passes": checks.passes,
    "rows": checks.row_forms,
    "decode": campaign.decoding,
    "linear": checks.linears,
    "linear-full": campaign.linear_fulls,
    "neighbourhood": campaign.nears,
    "persistent": campaign.persistents,
    "gemv": campaign.gemvs,
    "estimation": checks.estimates,
    "sparse": checks.sparses,
    "counters": campaign.counters,
    "decode-counters": campaign.decode_counters,
    "alone-waits": campaign.alone_waits,
    "slots": campaign.slots,
    "judged-counters": lambda o: campaign.counters(o, JUDGED_SEED),
    "judged-attention": campaign.judged,
    "judged-decode": campaign.judged_decode,
    "judged-library": campaign.judged_library,
    "judged-speedups": campaign.judged_speedups,
    "judged-energy": campaign.judged_energy,
    "fresh-speedups": lambda o: campaign.judged_speedups(o, FRESH_SEED, "fresh"),
    "later-speedups": lambda o: campaign.judged_speedups(o, FRESH_SEED + 7, "later"),
    "tiles-short": campaign.short,
    "tile-cycles": campaign.tile_cycles,
    "beside": campaign.besides,
    "block-times": block_times.block_times,
    "linear-times": block_times.linear_times,
    "linear-siblings": block_times.linear_siblings,
    "decode-waves": block_times.decode_waves,
    "library-splits": library_splits.library_splits,
    "unfused-parts": block_times.unfused_parts,
    "interpreter": interpreted.main,
    "grid-0": lambda o: campaign.grid(o, 0),
    "grid-1": lambda o: campaign.grid(o, 1),
    "decode-grid": campaign.decode_grid,
    "rows-grid": campaign.rows_grid,
    "library-grid": campaign.library_grid,
    "energy-kernels": campaign.attention_energy,
    "ceilings": checks.ceilings,
    "energy": checks.energy,
    "acting": checks.acting,
    "half-energy": checks.half_energy,
    "memory": checks.memory,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("steps", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--here", action="store_true", help="run the step in this process")
    given = parser.parse_args()
    if given.steps[0].startswith("compile"):
        return compile_all(of_judged() if given.steps == ["compile-judged"] else builds())
    if given.here:
        for step in given.steps:
            STEPS[step](given.out)
        return None
    for told in given.steps:
        step, _, own = told.partition(":")
        start = time.time()
        command = [sys.executable, "-u", "-m", "tests.gpu.on_device", step, "--here", "--out",
                   str(given.out)]  # fmt: skip
        try:
            subprocess.run(command, timeout=int(own or given.limit), check=True)
            ended = "done"
        except subprocess.TimeoutExpired:
            ended = "TIMED OUT"
        except subprocess.CalledProcessError as error:
            ended = f"FAILED {error.returncode}"
        print(f"== {step}: {ended}, {time.time() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
