"""Tensor maps for Hopper's bulk tensor copy engine, encoded by the driver."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final

from accelsim.gpu.device import GpuError

#: CUtensorMapDataType of what a kernel calls its type.
_TYPES: Final = {"f16": 6, "bf16": 9}
_SWIZZLE_128: Final = 3
_PROMOTE_L2_256: Final = 3


@cache
def _encode() -> Any:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        return driver.cuTensorMapEncodeTiled
    except (OSError, AttributeError) as error:
        raise GpuError(
            "the CUDA driver here cannot encode tensor maps", "CUDA 12 or later"
        ) from error


def rows_of(pointer: int, dtype: str, width: int, rows: int, tensors: int, box_rows: int) -> Any:
    """A map of ``tensors`` contiguous matrices of ``rows`` x ``width`` 16-bit numbers.

    Its boxes are ``box_rows`` rows of 64 columns, 128-byte swizzled, zeros
    past either edge.  A NumPy array of one element that a launch passes by value.
    """
    import numpy

    raw = numpy.zeros(128 + 64, dtype=numpy.uint8)
    skip = -raw.ctypes.data % 64
    aligned = raw[skip : skip + 128]
    dims = (ctypes.c_uint64 * 3)(width, rows, tensors)
    strides = (ctypes.c_uint64 * 2)(width * 2, rows * width * 2)
    box = (ctypes.c_uint32 * 3)(64, box_rows, 1)
    steps = (ctypes.c_uint32 * 3)(1, 1, 1)
    status = _encode()(
        ctypes.c_void_p(aligned.ctypes.data), _TYPES[dtype], 3, ctypes.c_void_p(pointer),
        dims, strides, box, steps, 0, _SWIZZLE_128, _PROMOTE_L2_256, 0,
    )  # fmt: skip
    if status:
        raise GpuError(
            f"the driver refuses a tensor map of {tensors} x {rows} x {width} ({status})"
        )
    return aligned.view("V128")
