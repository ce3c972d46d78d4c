"""16-bit numbers on the device, poisoned outputs, and what a check found.

CuPy arrays of 16-bit patterns (``uint16``) stand for float16 and bfloat16
alike; only these functions know which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from accelsim.gpu.device import GpuError, check_room, cupy

#: Types that the kernels take, and ``BF16`` for their macros.
DTYPES: Final = {"bf16": 1, "f16": 0}
#: Rounding to 16 bits costs 2^-9 or 2^-12 a number at most; weights, sums and results are rounded.
TOLERANCE: Final = {"bf16": 6e-3, "f16": 1e-3}
#: Not a number in both types.
_POISON: Final = 0xFFFF
_GUARD: Final = 4096


def flag(dtype: str) -> int:
    """1 for bfloat16, 0 for float16.

    >>> flag("bf16")
    1
    """
    if dtype not in DTYPES:
        raise GpuError(f"the kernels do not take {dtype}", ", ".join(DTYPES))
    return DTYPES[dtype]


def rounded(x: Any, dtype: str) -> Any:
    """Float32 to the 16-bit patterns of ``dtype``, to nearest even."""
    module = cupy()
    if not flag(dtype):
        return x.astype(module.float16).view(module.uint16)
    bits = x.astype(module.float32).view(module.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(module.uint16)


def widened(x: Any, dtype: str) -> Any:
    """16-bit patterns to float64."""
    module = cupy()
    if not flag(dtype):
        return x.view(module.float16).astype(module.float64)
    return (x.astype(module.uint32) << 16).view(module.float32).astype(module.float64)


def normal(shape: Sequence[int], dtype: str, seed: int, deviation: float = 1.0) -> Any:
    """Fresh normal numbers in ``dtype``."""
    module = cupy()
    draw = module.random.default_rng(seed)
    total = 1
    for size in shape:
        total *= size
    step = 1 << 28
    check_room(4 * total + 12 * min(step, total), "tensors")
    parts = []
    for start in range(0, total, step):
        count = min(step, total - start)
        x = draw.standard_normal(size=count, dtype=module.float32) * module.float32(deviation)
        parts.append(rounded(x, dtype))
    return module.concatenate(parts).reshape(tuple(shape))


@dataclass(frozen=True, slots=True)
class Poisoned:
    """An output full of NaN with NaN behind it.

    So what is not written shows, and what is written past the end.
    """

    whole: Any
    array: Any

    @classmethod
    def of(cls, shape: Sequence[int]) -> Poisoned:
        """16-bit numbers of that shape."""
        module = cupy()
        total = 1
        for size in shape:
            total *= size
        check_room(2 * total, "results")
        whole = module.full(total + _GUARD, _POISON, dtype=module.uint16)
        return cls(whole, whole[:total].reshape(tuple(shape)))

    def poison(self) -> None:
        """Fill it anew."""
        self.whole.fill(_POISON)

    def unwritten(self) -> int:
        """How many numbers were left as they were."""
        return int((self.array == _POISON).sum())

    def overrun(self) -> int:
        """How many numbers past the end were written."""
        return int((self.whole[self.array.size :] != _POISON).sum())


@dataclass(frozen=True, slots=True)
class Check:
    """A result against float64: error relative to the reference's norm, and what was missed."""

    relative_error: float
    max_abs_error: float
    rows: int
    unwritten: int
    overrun: int
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the kernel computed what it should.

        >>> Check(1e-3, 0.1, 8, 0, 0, 6e-3).holds, Check(float("nan"), 0.1, 8, 0, 0, 6e-3).holds
        (True, False)
        """
        return self.relative_error <= self.tolerance and not self.unwritten and not self.overrun


def compared(found: Any, expected: Any, output: Poisoned, tolerance: float, rows: int) -> Check:
    """Compare float64 arrays of equal shape; NaN never passes."""
    module = cupy()
    error = found - expected
    scale = float(module.linalg.norm(expected.ravel()))
    relative = float(module.linalg.norm(error.ravel())) / scale if scale else float("nan")
    return Check(
        relative_error=relative,
        max_abs_error=float(module.abs(error).max()),
        rows=rows,
        unwritten=output.unwritten(),
        overrun=output.overrun(),
        tolerance=tolerance,
    )
