"""Predictions beside measurements of a GPU: rows of time, pairs of other quantities, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from accelsim.explore.gpu_records import Case
from accelsim.load.kernel import load_kernel

#: Bands of measured time, in seconds; rows in the first are told apart.
BANDS: Final = {
    "under 20 us": (0.0, 20e-6),
    "20 to 50 us": (20e-6, 50e-6),
    "50 to 500 us": (50e-6, 500e-6),
    "above 500 us": (500e-6, float("inf")),
}
#: From which measured time on rows count, in seconds, and the name of them all.
LEAST_S: Final = BANDS["20 to 50 us"][0]
COUNTED: Final = "20 us and above"
LIBRARY: Final = (
    "flash-attention-2",
    "cudnn-attention",
    "cublas-gemm",
    "torch-softmax",
    "torch-copy",
)
#: Mean, 90th percentile, largest and number of absolute errors.
Spread = dict[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One measured kernel beside what each model says, in seconds."""

    group: str
    case: Case
    measured_s: float
    predicted_s: float
    baselines: tuple[tuple[str, float], ...]

    @property
    def kernel(self) -> str:
        """Its descriptor's name."""
        return self.case.kernel

    @property
    def kind(self) -> str:
        """Whose kernel it is: ours, or a library's."""
        return "library" if self.kernel in LIBRARY else "ours"

    @property
    def family(self) -> str:
        """Its descriptor's family, marked where it is a library's."""
        family = load_kernel(self.kernel).family
        return f"{family}, library" if self.kind == "library" else family

    @property
    def what(self) -> str:
        """Its sizes and options, for a table."""
        return told(self.case)

    @property
    def error(self) -> float:
        """Relative error of ours."""
        return self.predicted_s / self.measured_s - 1

    def to_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {
            "group": self.group,
            "kernel": self.kernel,
            "what": self.what,
            "sizes": dict(self.case.sizes),
            "flops": self.case.flops,
            "bytes": self.case.bytes,
            "measured_s": self.measured_s,
            "predicted_s": self.predicted_s,
            "error": self.error,
            "baselines_s": dict(self.baselines),
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """A quantity measured and predicted: bytes, joules, a clock, a speedup."""

    what: str
    quantity: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Relative error."""
        return self.predicted / self.measured - 1

    def to_dict(self) -> dict[str, Any]:
        """The pair as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__} | {"error": self.error}


def told(case: Case) -> str:
    """Sizes and what is not left as it is, for a table."""
    sizes = " ".join(f"{n}={v}" for n, v in case.sizes if n != "F")
    options = " ".join(
        f"{n}={v:.2g}" if isinstance(v, float) else f"{n}={v}"
        for n, v in case.options
        if v is True or v not in (0, "bf16", 1.0)
    )
    return f"{sizes} {options}".strip()


def spread(sizes: Sequence[float]) -> Spread:
    """Mean, 90th percentile, maximum and number of absolute errors.

    >>> spread([0.1, 0.3])
    {'rows': 2, 'mean': 0.2, 'p90': 0.3, 'max': 0.3}
    """
    ordered = sorted(sizes)
    at = min(len(ordered) - 1, int(0.9 * len(ordered)))
    return {"rows": len(ordered), "mean": fmean(ordered), "p90": ordered[at], "max": ordered[-1]}


def counted(rows: Iterable[Row]) -> list[Row]:
    """The rows of 20 us and more."""
    return [row for row in rows if row.measured_s >= LEAST_S]


def models(rows: Sequence[Row]) -> dict[str, Spread]:
    """Errors of ours and of each baseline over the same rows."""
    found = {"ours": spread([abs(r.error) for r in rows])}
    for name in dict.fromkeys(n for r in rows for n, _ in r.baselines):
        sizes = [
            abs(seconds / r.measured_s - 1) for r in rows for n, seconds in r.baselines if n == name
        ]
        found[name] = spread(sizes)
    return found


def banded(
    rows: Iterable[Row], part: Callable[[Row], str]
) -> dict[str, dict[str, dict[str, Spread]]]:
    """Errors by ``part`` of the rows, by band of measured time and all of 20 us and more, by model.

    >>> banded([], lambda row: row.kind)
    {}
    """
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(part(row), []).append(row)
    found: dict[str, dict[str, dict[str, Spread]]] = {}
    for name, mine in parts.items():
        bands = {
            band: [r for r in mine if low <= r.measured_s < high]
            for band, (low, high) in BANDS.items()
        }
        bands[COUNTED] = counted(mine)
        found[name] = {band: models(some) for band, some in bands.items() if some}
    return found
