"""Softmax, RMSNorm and LayerNorm of the rows of a matrix, in textbook and derived forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from accelsim.gpu import halves
from accelsim.gpu.device import GpuError, cupy
from accelsim.gpu.kernel import load

Op = Literal["softmax", "rmsnorm", "layernorm"]
Form = Literal["textbook", "derived", "held"]

_OPS: Final = {"softmax": 0, "rmsnorm": 1, "layernorm": 2}
_FORMS: Final = {"textbook": 0, "derived": 1, "held": 2}
#: Chunks of 8 numbers that a thread can keep in registers.
MOST_HELD: Final = 8
EPSILON: Final = 1e-5


@dataclass(frozen=True, slots=True)
class RowTile:
    """Threads that share a row, and chunks of 8 numbers that each keeps (form ``held``)."""

    threads: int
    held: int


def row_tile(columns: int, form: Form) -> RowTile:
    """The block for a row: whole warps of threads, few enough that several rows share a processor.

    Rows that are held keep 32 numbers a thread, long ones 64; else about 16 a thread.

    >>> row_tile(4096, "held"), row_tile(5000, "held"), row_tile(100, "derived")
    (RowTile(threads=128, held=4), RowTile(threads=160, held=4), RowTile(threads=32, held=1))
    """
    chunks = -(-columns // 8)
    if form != "held":
        return RowTile(min(1024, -(-chunks // 64) * 32), 1)
    held = MOST_HELD if chunks > 2048 else max(1, min(4, -(-chunks // 32)))
    threads = -(-chunks // (32 * held)) * 32
    if threads > 1024:
        raise GpuError(
            f"a row of {columns} numbers does not fit the registers of a block",
            f"at most {1024 * MOST_HELD * 8}, or the derived form",
        )
    return RowTile(threads, held)


def launch(
    op: Op,
    form: Form,
    source: Any,
    target: Any,
    columns: int,
    dtype: str,
    weight: Any = None,
    bias: Any = None,
    causal_offset: int | None = None,
    fill: int = 128,
) -> Callable[[], None]:
    """A launch over all rows of ``source`` [..., P, pitch] into ``target``, of equal shape.

    With ``causal_offset`` row p of each matrix has p + 1 + offset numbers and
    zeros behind, as far as the longest of its ``fill`` rows.
    """
    if op not in _OPS or form not in _FORMS:
        raise GpuError(f"no kernel {op} in form {form}", ", ".join([*_OPS, *_FORMS]))
    pitch = source.shape[-1]
    if pitch % 8 or columns > pitch or columns < 1:
        raise GpuError(f"rows of {columns} numbers lie {pitch} apart", "a multiple of 8, no less")
    tile = row_tile(columns, form)
    defines = {
        "OP": _OPS[op], "FORM": _FORMS[form], "THREADS": tile.threads, "HELD": tile.held,
        "CAUSAL": int(causal_offset is not None), "BF16": halves.flag(dtype),
    }  # fmt: skip
    built, module = load("rows.cu", "rows", defines, tile.threads), cupy()
    nothing = module.zeros(8, dtype=module.uint16)
    number = module.int32
    arguments = (
        source, target, nothing if weight is None else weight, nothing if bias is None else bias,
        number(columns), number(pitch), module.float32(EPSILON), number(source.shape[-2]),
        number(causal_offset or 0), number(fill),
    )  # fmt: skip
    grid = (source.size // pitch,)
    return lambda: built(grid, *arguments)


def softmax(
    scores: Any,
    columns: int,
    dtype: str,
    causal_offset: int | None = None,
    form: Form | None = None,
) -> Callable[[], None]:
    """Softmax in place; rows too long for registers take the derived form."""
    chosen: Form = form or ("held" if columns <= 1024 * MOST_HELD * 8 else "derived")
    return launch("softmax", chosen, scores, scores, columns, dtype, causal_offset=causal_offset)


def expected(op: Op, x: Any, weight: Any = None, bias: Any = None) -> Any:
    """The same in float64."""
    module = cupy()
    if op == "softmax":
        e = module.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    if op == "layernorm":
        x = x - x.mean(axis=-1, keepdims=True)
    scaled = x / module.sqrt((x * x).mean(axis=-1, keepdims=True) + EPSILON)
    return scaled * weight + (0 if bias is None else bias)


def fresh(op: Op, form: Form, count: int, columns: int, dtype: str) -> Callable[[], None]:
    """A launch over fresh rows, for timing."""
    width = -(-columns // 8) * 8
    x = halves.normal((count, width), dtype, 1, 2.0)
    weight, bias = (halves.normal((width,), dtype, i) for i in (2, 3))
    return launch(
        op, form, x, halves.Poisoned.of((count, width)).array, columns, dtype, weight, bias
    )


def check(op: Op, form: Form, count: int, columns: int, dtype: str, seed: int = 0) -> halves.Check:
    """Run on fresh rows with a poisoned output and compare all of them."""
    module = cupy()
    pitch = -(-columns // 8) * 8
    x = halves.normal((count, pitch), dtype, seed, 2.0)
    weight = halves.normal((pitch,), dtype, seed + 1)
    bias = halves.normal((pitch,), dtype, seed + 2)
    out = halves.Poisoned.of((count, pitch))
    launch(op, form, x, out.array, columns, dtype, weight, bias)()
    module.cuda.runtime.deviceSynchronize()
    wide = [halves.widened(a, dtype)[..., :columns] for a in (x, weight, bias, out.array)]
    wanted = expected(op, wide[0], wide[1], wide[2] if op == "layernorm" else None)
    return halves.compared(wide[3], wanted, out, halves.TOLERANCE[dtype], count)
