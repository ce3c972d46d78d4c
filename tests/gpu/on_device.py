"""Checks and measurements on a real GPU: ``python -m tests.gpu.on_device STEP... --out DIR``.

Not a test that CI runs (it has no GPU).  Every step runs in a process of its
own under a time limit, so that a fault in one leaves the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from accelsim.gpu import attention, measure
from accelsim.gpu.attention import Mask, Problem, Shape, Tile, Variant
from accelsim.gpu.kernel import Build, compiled

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
        Tile("mma", 64, 8, row_tiles=1, blocks=1),
        Tile("mma", 32, 4, row_tiles=2, blocks=2),
        Tile("mma", 64, 8, row_tiles=2, blocks=1),
        Tile("mma", 64, 4, row_tiles=1, blocks=3),
        Tile("wgmma", 128, 8),
        Tile("wgmma", 128, 8, turns=False),
        Tile("wgmma", 160, 8),
        Tile("wgmma", 176, 8),
        Tile("wgmma", 176, 8, turns=False),
        Tile("wgmma", 80, 12),
    ],
    96: [
        MMA,
        Tile("mma", 64, 8, row_tiles=1, blocks=1),
        Tile("wgmma", 128, 8),
        Tile("wgmma", 160, 8),
        Tile("wgmma", 128, 8, turns=False),
        Tile("wgmma", 96, 12),
    ],
    64: [
        MMA,
        Tile("mma", 128, 4, row_tiles=2, blocks=2),
        Tile("mma", 64, 8, row_tiles=1, blocks=2),
        Tile("mma", 64, 4, row_tiles=1, blocks=4),
        Tile("wgmma", 128, 8),
        Tile("wgmma", 192, 8),
        Tile("wgmma", 128, 12),
        Tile("wgmma", 128, 12, turns=False),
        Tile("wgmma", 128, 8, turns=False),
    ],
}


def builds() -> list[Build]:
    """What the steps will compile, for compiling it beforehand."""
    found = []
    for dim, tiles in CANDIDATES.items():
        for tile in tiles:
            for mask in (ALL, CAUSAL):
                found.append((tile, Problem(Shape(1, 1, 8, 8, dim), mask), 1))
    for shape, mask, dtype in ODD:
        for tile in (MMA, attention.best_tile("wgmma", shape.E, mask)):
            found.append((tile, Problem(shape, mask, dtype), 1))
        found.append((MMA, Problem(shape, mask, dtype), 2))
    from accelsim.gpu import microbench

    fused = [
        Build(f"attention_{t.path}.cu", "attention", "sm_90a",
              tuple(sorted(attention.macros(p, t, n).items())))
        for t, p, n in found
    ]  # fmt: skip
    rates = [
        Build("microbench.cu", "rate", "sm_90a",
              (("ILP", op.ilp), ("OP", op.number), ("THREADS", n)))
        for op in microbench.OPS
        for n in op.threads
    ]  # fmt: skip
    return list(dict.fromkeys(fused + rates))


def compile_all() -> None:
    start = time.time()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(lambda b: len(compiled(b)), builds()))
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
        tile = MMA if path == "mma" else attention.best_tile("wgmma", shape.E, mask)
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
    rows = []
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
            rows.append(
                variant.as_dict()
                | {"dim": dim, "causal": mask.causal, "check": measure.fields(check)}
                | {"time": measure.fields(timing), "kernel": built.as_dict()}
            )
            sys.stdout.flush()
    measure.write(out / f"tiles-{path}-{dim}.json", measure.document("tiles", rows))


def passes(out: Path) -> None:
    """One, two and three passes on mma at a length that the scores fit."""
    for n in (4096, 8192):
        problem = Problem(Shape(1, 16, n, n, 128), seed=6)
        for variant in (Variant(1, MMA), Variant(2, MMA), Variant(3, None)):
            run = attention.run_of(problem, variant)
            check = problem.check(run)
            print(line(problem, variant, check, measure.timed(run)))


def row_forms(out: Path) -> None:
    from accelsim.gpu import rows

    for op in ("softmax", "rmsnorm", "layernorm"):
        for form in ("textbook", "derived", "held"):
            for count, columns, dtype in ((5, 1001, "bf16"), (64, 4096, "f16"), (3, 60000, "bf16")):
                check = rows.check(op, form, count, columns, dtype)
                print(op, form, count, columns, dtype, f"{check.relative_error:.2e}", check.holds)


def ceilings(out: Path) -> None:
    from accelsim.gpu import microbench

    rows = microbench.ceiling_rows()
    measure.write(out / "ceilings.json", measure.document("ceilings", rows))
    for row in rows:
        keys = ("threads", "buffer_bytes", "blocks_per_sm", "per_cycle_sm", "cycles_each", "per_s",
                "seconds", "sm_hz")  # fmt: skip
        print(row["what"], *(f"{k}={row[k]:.4g}" for k in keys if k in row))


def energy(out: Path) -> None:
    from accelsim.gpu import microbench

    rows = microbench.energy_rows()
    measure.write(out / "energy.json", measure.document("energy", rows))
    for row in rows:
        print({k: v for k, v in row.items() if k in ("what", "joules_each", "power_w", "per_s")},
              (row.get("sustained") or {}).get("sm_hz"),
              (row.get("sustained") or {}).get("held_down_by"))  # fmt: skip


STEPS = {
    "smoke": smoke,
    "correct-mma": lambda o: correct(o, "mma"),
    "correct-wgmma": lambda o: correct(o, "wgmma"),
    **{f"tiles-{p}-{d}": (lambda o, p=p, d=d: tiles(o, d, p)) for p in ("mma", "wgmma") for d in CANDIDATES},
    "passes": passes,
    "rows": row_forms,
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
