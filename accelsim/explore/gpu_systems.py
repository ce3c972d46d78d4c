"""Published systems by name, each stage beside the measured rows of the kernels that run it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from accelsim.explore.estimate_gpu import realised
from accelsim.explore.gpu_rows import Row, Spread, counted, models
from accelsim.load.kernel import load_kernel


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a system and the kernel that runs it: errors over rows of 20 us and more."""

    system: str
    stage: str
    kernel: str
    short: int
    errors: dict[str, Spread]

    def to_dict(self) -> dict[str, Any]:
        """The stage as a JSON object; ``short`` rows took less than 20 us."""
        return {name: getattr(self, name) for name in self.__slots__}


def by_system(rows: Iterable[Row]) -> list[Stage]:
    """Every stage that a measured kernel runs, by system.

    >>> by_system([])
    []
    """
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        asked = dict(row.case.sizes) | dict(row.case.options)
        for one in realised(load_kernel(row.kernel), asked):
            found.setdefault((one.system, one.stage, row.kernel), []).append(row)
    return [
        Stage(*names, len(mine) - len(long), models(long) if long else {})
        for names, mine in sorted(found.items())
        for long in [counted(mine)]
    ]
