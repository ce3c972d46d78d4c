"""Columns of a published row as what a prediction needs: numbers, words, grids of sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from accelsim.errors import one_of, refuse

Config: TypeAlias = Mapping[str, Any]

#: Positions along one dimension that are counted tile by tile.
LONGEST: Final = 1 << 24


def number(row: Config, name: str, default: float | None = None) -> float:
    """A column that is a positive number (or ``default`` where it is not there).

    >>> number({"batch": 8}, "batch"), number({}, "taps", 0)
    (8.0, 0.0)
    """
    value = row.get(name, default)
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not math.isfinite(value) or value < 0 or (default is None and not value):
        raise _refused(row, name, "a number above 0")
    return float(value)


def word(row: Config, name: str) -> str:
    """A column that is a word.

    >>> word({"format": "fp16"}, "format")
    'fp16'
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise _refused(row, name, "a name")
    return value


def grid(row: Config, name: str, *, zeros: bool = False) -> list[int]:
    """A column of sizes, one a dimension: ``30x48x80``.

    >>> grid({"lengths": "30x48x80"}, "lengths"), grid({"lengths": 2048}, "lengths")
    ([30, 48, 80], [2048])
    """
    parts = str(row.get(name, "")).split("x")
    if not all(p.isascii() and p.isdigit() and len(p) <= 8 for p in parts):
        raise _refused(row, name, "sizes as 30x48x80")
    sizes = [int(p) for p in parts]
    if any(n > LONGEST or n < (not zeros) for n in sizes):
        raise _refused(row, name, f"sizes from {int(not zeros)} to {LONGEST}")
    return sizes


def alike(row: Config, *grids: str, zeros: str = "") -> list[list[int]]:
    """Columns of sizes that have as many dimensions as the first.

    >>> alike({"lengths": "32x16", "windows": "8x8"}, "lengths", "windows")
    [[32, 16], [8, 8]]
    """
    found = [grid(row, name, zeros=name == zeros) for name in grids]
    for name, sizes in zip(grids, found, strict=True):
        if len(sizes) != len(found[0]):
            raise _refused(row, name, f"{len(found[0])} sizes as in {grids[0]}")
    return found


def _refused(row: Config, name: str, allowed: str) -> Exception:
    if name not in row:
        return refuse(f"no column {name!r}", one_of(n for n in row if n != "gpu"))
    return refuse(f"column {name!r} is {row[name]!r}", allowed)
