"""Kernels on a real GPU against the interpreter running the cascade that each computes.

The other checks compare large cases with float64 formulas; this one holds small
cases of every family against ``ir.reference``, which is what a cascade means.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from accelsim.gpu import (
    attention,
    decode,
    gemv,
    halves,
    linear,
    linear_full,
    neighbourhood,
    rows,
    sparse,
)
from accelsim.gpu.attention import Mask, Problem, Shape, Variant
from accelsim.gpu.decode import Cache, Step
from accelsim.gpu.device import cupy
from accelsim.gpu.neighbourhood import Axis, Grid, Near
from accelsim.gpu.record import fields
from tests.gpu.campaign import steadily
from tests.gpu.cases import ALL, CAUSAL, MMA


def meant(cascade: str, sizes: dict[str, int], inputs: dict[str, np.ndarray], output: str = "AV"):
    """What the interpreter makes of a shipped cascade."""
    from accelsim.ir.problem import bind
    from accelsim.ir.reference import run
    from accelsim.load.cascade import load_cascade

    text = load_cascade(cascade)
    return run(bind(text, sizes), inputs)[output]


def wide(array: object, dtype: str) -> np.ndarray:
    return halves.widened(array, dtype).get()


def compared(name: str, out: halves.Poisoned, wanted: np.ndarray, dtype: str) -> dict[str, object]:
    """A row: the whole output beside what the interpreter says."""
    found = halves.widened(out.array, dtype)
    check = halves.compared(
        found, cupy().asarray(wanted).reshape(found.shape), out, halves.TOLERANCE[dtype], len(found)
    )
    print(name, f"{check.relative_error:.2e}", "ok" if check.holds else "WRONG", check)
    return {"cascade": name, "dtype": dtype, "check": fields(check)}


def fresh(out: halves.Poisoned, run: object) -> None:
    out.poison()
    run()
    cupy().cuda.runtime.deviceSynchronize()


def dense(shape: Shape, mask: Mask, variant: Variant, dtype: str) -> dict[str, object]:
    problem = Problem(shape, mask, dtype, 91)
    fresh(problem.out, attention.run_of(problem, variant))
    q, k, v = (wide(x, dtype) for x in (problem.q, problem.k, problem.v))
    inputs = {"Q": q * problem.factor, "K": k, "V": v}
    sizes = {"B": shape.B, "H": shape.H, "M": shape.M, "E": shape.E, "F": shape.E}
    if mask.window:
        sizes |= {"W": mask.window}
        name = "attention-window"
    else:
        sizes |= {"P": shape.P}
        name = "attention-causal" if mask.causal else "attention-3pass"
    if shape.key_heads != shape.H:
        name, sizes = "attention-gqa", sizes | {"HK": shape.key_heads}
    wanted = meant(name, sizes, inputs)
    return compared(f"{name} {variant.name}", problem.out, wanted, dtype)


def masked(problem: Problem, keep: np.ndarray, run: object, what: str) -> dict[str, object]:
    fresh(problem.out, run)
    s = problem.shape
    inputs = {"Q": wide(problem.q, problem.dtype) * problem.factor}
    inputs |= {"K": wide(problem.k, problem.dtype), "V": wide(problem.v, problem.dtype)}
    inputs |= {"KEEP": keep.astype(float)}
    sizes = {"B": s.B, "H": s.H, "P": s.P, "M": s.M, "E": s.E, "F": s.E}
    wanted = meant("attention-masked", sizes, inputs)
    return compared(f"attention-masked {what}", problem.out, wanted, problem.dtype)


def cached(cache: Cache) -> dict[str, object]:
    step = Step(cache, 92)
    fresh(step.out, decode.decode(step))
    heads = cache.B * cache.HK
    k, v = (
        np.stack([step._wide(x, h).get() for h in range(heads)]).reshape(
            cache.B, cache.HK, cache.M, cache.E
        )
        for x in (step.k, step.v)
    )
    q = wide(step.q, "f16").reshape(cache.B, cache.H, 1, cache.E) / cache.E**0.5
    sizes = {"B": cache.B, "H": cache.H, "HK": cache.HK, "P": 1, "M": cache.M}
    wanted = meant("attention-gqa", sizes | {"E": cache.E, "F": cache.E}, {"Q": q, "K": k, "V": v})
    return compared(f"attention-gqa decode {cache}", step.out, wanted, "f16")


def recurrent(module: object, problem: object, name: str) -> dict[str, object]:
    fresh(problem.out, module.linear(problem))
    s = problem.shape
    q, k, v = (wide(x, problem.dtype) for x in problem.inputs)
    inputs = {"Q": q, "K": k, "V": v}
    sizes = {"B": s.B, "H": s.H, "M": s.M, "E": s.E, "F": s.E}
    if name == "linear-attention-decay":
        decays = problem.decays.get()
        inputs["GATE"] = np.log(decays / (1 - decays))
    else:
        sizes["P"] = s.P
    return compared(name, problem.out, meant(name, sizes, inputs), problem.dtype)


def product(weights: gemv.Weights) -> dict[str, object]:
    problem = gemv.Problem(weights, 93)
    fresh(problem.out, gemv.gemv(problem))
    scales = np.repeat(problem.scales.get().astype(float), gemv.FORMATS[weights.format].group, 1)
    inputs = {"A": wide(problem.x, "f16"), "B": (problem.numbers.get() * scales).T}
    sizes = {"M": weights.batch, "N": weights.N, "K": weights.K}
    return compared(f"matmul {weights}", problem.out, meant("matmul", sizes, inputs, "C"), "f16")


def row(op: rows.Op, form: rows.Form) -> dict[str, object]:
    count, columns = 7, 1000
    x = halves.normal((count, columns), "f16", 94, 2.0)
    weight, bias = (halves.normal((columns,), "f16", i) for i in (95, 96))
    out = halves.Poisoned.of((count, columns))
    fresh(out, rows.launch(op, form, x, out.array, columns, "f16", weight, bias))
    if op == "softmax":
        wanted = meant(op, {"B": count, "M": columns}, {"X": wide(x, "f16")}, "Y")
        return compared(f"{op} {form}", out, wanted, "f16")
    inputs = {"X": wide(x, "f16")[None], "GAIN": wide(weight, "f16")}
    if op == "layernorm":
        inputs["BIAS"] = wide(bias, "f16")
    wanted = meant(op, {"B": 1, "P": count, "D": columns}, inputs, "Y")
    return compared(f"{op} {form}", out, wanted, "f16")


def cases() -> Iterator[dict[str, object]]:
    wgmma = attention.best_tile("wgmma", 64)
    for variant in (Variant(1, MMA), Variant(1, wgmma), Variant(2, MMA), Variant(3, None)):
        yield dense(Shape(2, 2, 200, 333, 64), ALL, variant, "f16")
        yield dense(Shape(1, 2, 300, 300, 64), CAUSAL, variant, "bf16")
        yield dense(Shape(1, 4, 200, 200, 64, HK=2), ALL, variant, "bf16")
        if variant.tile:
            yield dense(Shape(1, 2, 300, 300, 64), Mask(True, 70), variant, "f16")
    for grid in (
        Grid(1, 2, Axis(1, 1), Axis(300, 40, 3), 64),
        Grid(1, 2, Axis(17, 5), Axis(19, 7, 2), 96),
    ):
        near = Near(grid, "f16", 97)
        keep = near.seen(cupy().arange(grid.shape.P)).get()
        yield masked(near.dense, keep, neighbourhood.neighbourhood(near), f"{grid.y} {grid.x}")
    problem = Problem(Shape(1, 1, 500, 600, 64), ALL, "f16", 98)
    tiles = sparse.random_tiles(problem, wgmma, 0.4, 2)
    keep = np.repeat(np.repeat(tiles[0], wgmma.queries, 0), wgmma.keys, 1)[:500, :600]
    yield masked(problem, keep, sparse.sparse(problem, wgmma, tiles), "blocks")
    for bits in decode.BITS:
        yield cached(Cache(2, 8, 2, 700, 128, bits))
        yield cached(Cache(1, 12, 1, 500, 96, bits))
    decayed = linear.Decayed(Shape(1, 2, 300, 300, 64), "bf16", 99)
    yield recurrent(linear, decayed, "linear-attention-decay")
    featured = linear_full.Featured(Shape(1, 2, 200, 300, 96), "f16", 99)
    yield recurrent(linear_full, featured, "linear-attention")
    for name in gemv.FORMATS:
        yield product(gemv.Weights(100, 4 * gemv.FORMATS[name].group, name, 3))
    for op in ("softmax", "rmsnorm", "layernorm"):
        for form in ("textbook", "held"):
            yield row(op, form)


def main(out: Path) -> None:
    steadily(out, "interpreter", cases())
