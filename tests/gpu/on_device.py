"""Checks and measurements on a real GPU: ``python -m tests.gpu.on_device STEP... --out DIR``.

Not a test that CI runs (it has no GPU).  Every step runs in a process of its
own under a time limit, so that a fault in one leaves the others.  ``compile``
compiles what the steps need, on all cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from accelsim.gpu import attention, decode, estimation, gemv, microbench
from accelsim.gpu.attention import Problem, Shape
from accelsim.gpu.grid import attention_cases, decode_cases
from accelsim.gpu.kernel import Build, compiled
from tests.gpu import campaign, checks
from tests.gpu.cases import (
    ALL,
    CACHES,
    CANDIDATES,
    CAUSAL,
    ESTIMATES,
    GRID_COUNT,
    GRID_SEED,
    MATRICES,
    MMA,
    ODD,
    SEQUENCES,
    TILINGS,
    WALKS,
)


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
    for weights in MATRICES:
        for tiling in (gemv.tiling_of(weights, 132), *TILINGS):
            made.append(build("gemv.cu", "gemv", gemv.macros(weights, tiling)))
    for problem in ESTIMATES:
        made.append(build("estimation.cu", "estimate", estimation.macros(problem)))
    for cache in decode_cases(GRID_SEED, 60):
        defines = decode.macros(cache, decode.walk_of(cache), "f16")
        made += [build("decode.cu", x, defines) for x in ("split", "merge")]
    return list(dict.fromkeys(made))


def one(build: Build) -> int:
    return len(compiled(build))


def compile_all() -> None:
    start = time.time()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(one, builds(), chunksize=4))
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
    "decode": checks.decoding,
    "linear": checks.linears,
    "gemv": checks.gemvs,
    "estimation": checks.estimates,
    "sparse": checks.sparses,
    "counters": campaign.counters,
    "grid-0": lambda o: campaign.grid(o, 0),
    "grid-1": lambda o: campaign.grid(o, 1),
    "decode-grid": campaign.decode_grid,
    "rows-grid": campaign.rows_grid,
    "library-grid": campaign.library_grid,
    "energy-kernels": campaign.attention_energy,
    "ceilings": checks.ceilings,
    "energy": checks.energy,
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
        print(f"== {step}: {ended}, {time.time() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
