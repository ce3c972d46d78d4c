"""Kernels against float64 on a real GPU, and how fast they are, printed and recorded."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelsim.gpu import (
    attention,
    estimation,
    linear,
    measure,
    microbench,
    rows,
    sparse,
    waits,
)
from accelsim.gpu.attention import Problem, Shape, Tile, Variant
from accelsim.gpu.device import cupy
from accelsim.gpu.record import document, fields, write
from tests.gpu.cases import (
    ALL,
    CANDIDATES,
    CAUSAL,
    ESTIMATES,
    MMA,
    ODD,
    SEQUENCES,
)


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


def ceilings(out: Path) -> None:
    told(out, "ceilings", "ceilings", microbench.ceiling_rows())


def memory(out: Path) -> None:
    """Memory and the start of blocks alone: what changes between GPUs of one processor."""
    found = microbench.memory_rows() + [microbench.dispatch_row(n) for n in microbench.THREADS]
    told(out, "memory", "memory and the start of blocks", found)


def told(out: Path, name: str, what: str, found: list[dict[str, Any]]) -> None:
    """Write ceilings to a record, and print them."""
    write(out / f"{name}.json", document(what, found))
    keys = ("threads", "buffer_bytes", "pitch_bytes", "blocks_per_sm", "per_cycle_sm",
            "cycles_each", "per_s", "seconds", "sm_hz")  # fmt: skip
    for row in found:
        print(row["what"], *(f"{k}={row[k]:.4g}" for k in keys if k in row))


def energy(out: Path) -> None:
    found = microbench.energy_rows()
    write(out / "energy.json", document("energy of operations", found))
    for row in found:
        print({k: v for k, v in row.items() if k in ("what", "joules_each", "power_w", "per_s")},
              (row.get("sustained") or {}).get("sm_hz"),
              (row.get("sustained") or {}).get("held_down_by"))  # fmt: skip


def half_energy(out: Path, rounds: int = 5) -> None:
    """Energy of a product in float16 beside bfloat16, the two in turn on one board."""
    names = ("wgmma.m64n128k16.bf16.shared", "wgmma.m64n128k16.f16.shared",
             "mma.sync.m16n8k16.bf16", "mma.sync.m16n8k16.f16")  # fmt: skip
    ops = [op for name in names for op in microbench.OPS if op.name == name]
    found = [microbench.operation_energy(op) for _ in range(rounds) for op in ops]
    write(out / "half-energy.json", document("energy of products by type, in turn", found))
    for row in found:
        print(row["what"], f"{row['joules_each'] * 1e12:.4f} pJ, {row['power_w']:.0f} W",
              row["sustained"]["sm_hz"])  # fmt: skip


def acting(out: Path) -> None:
    """Clocks of launches in trains that are long enough for the cap to act, by their length."""
    found = waits.acting_rows()
    write(out / "acting.json", document("clocks of trains that pass the cap", found))
    for row in found:
        print(row["op"], f"{1e3 * row['seconds']:.1f} ms {row['sm_hz'] / 1e9:.3f} GHz")


def limits(out: Path) -> None:
    """What a GPU with CuPy refuses, in its own words; and that energy is still measured."""
    from accelsim.gpu.device import GpuError

    for attempt in (
        lambda: Problem(Shape(64, 64, 65536, 65536, 128)).q,
        lambda: attention.fused(Problem(Shape(1, 1, 256, 256, 128)), Tile("mma", 256, 4, 2, 1)),
        lambda: attention.run_of(Problem(Shape(64, 64, 4096, 4096, 64)), Variant(3, None)),
    ):
        try:
            attempt()
            print("NOT REFUSED")
        except GpuError as error:
            print(error)
        cupy().get_default_memory_pool().free_all_blocks()
    problem = Problem(Shape(1, 16, 8192, 8192, 128), seed=1)
    run = attention.fused(problem, attention.best_tile("wgmma", 128))
    print(problem.check(run).holds, measure.timed(run, cold=True), measure.sustained(run))
