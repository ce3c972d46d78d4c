"""Grids of cases measured on a real GPU for ``validation/runs``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from accelsim.gpu import attention, decode, library, linear, measure, rows
from accelsim.gpu.attention import Problem, Shape, Variant
from accelsim.gpu.decode import Step
from accelsim.gpu.device import cupy, device
from accelsim.gpu.grid import (
    AttentionCase,
    attention_cases,
    attention_row,
    decode_cases,
    decode_row,
    rows_row,
)
from accelsim.gpu.record import document, fields, write
from tests.gpu.cases import ALL, CACHES, CAUSAL, COUNTED, GRID_COUNT, GRID_SEED, MMA, ROWS


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


def steadily(out: Path, name: str, made: Iterator[dict], **more: object) -> None:
    """Measure rows one after the other; a case that fails says so and is left out."""
    found = []
    for row in made:
        found.append(row)
        if not row.get("check", {"holds": True})["holds"]:
            print("WRONG", row)
        cupy().get_default_memory_pool().free_all_blocks()
        if len(found) % 20 == 0:
            write(out / f"{name}.json", document(name, found, **more))
            print(name, len(found), "rows", flush=True)
    write(out / f"{name}.json", document(name, found, **more))
    worst = max((r["hot"]["spread"] for r in found if "hot" in r), default=0)
    errors = max((r["check"]["relative_error"] for r in found if "check" in r), default=0)
    print(name, len(found), "rows, worst spread", worst, "largest error", errors)


def grid(out: Path, part: int) -> None:
    cases = attention_cases(GRID_SEED, GRID_COUNT)[part::2]
    steadily(out, f"attention-grid-{part}", (attention_row(c, 21) for c in cases))


def decode_grid(out: Path) -> None:
    steadily(out, "decode-grid", (decode_row(c, 22) for c in decode_cases(GRID_SEED, 60)))


def rows_grid(out: Path) -> None:
    steadily(out, "rows-grid", (rows_row(*r, "bf16") for r in ROWS))


def library_grid(out: Path) -> None:
    def made() -> Iterator[dict[str, object]]:
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

    steadily(out, "library-grid", made(), libraries=library.versions())


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
