"""What is asked of the GPU model, what was got on recorded runs, and whether it holds.

Each line is one that the predictions of an accelerator model are judged by:
time by kind of kernel, bytes, energy, clock, speedups, and the baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from accelsim.explore.gpu_rows import BANDS, Pair, Row, banded, counted, spread

#: Mean errors of time that are asked for, over rows of 20 us and more.
TIME: Final = {"ours": 0.05, "library": 0.08}
#: On a GPU of which only memory figures were exchanged.
TRANSFERRED: Final = 0.07
#: The share of our kernels' rows that must be within a distance, and how many rows at least.
SHARE, WITHIN, ROWS = 0.95, 0.12, 150
#: Mean errors of other quantities.
QUANTITIES: Final = {
    "dram_bytes": ("DRAM bytes", 0.03),
    "l2_bytes": ("L2 bytes", 0.10),
    "energy_j": ("energy, back to back", 0.08),
    "sm_hz": ("clock, back to back", 0.05),
}
#: The distance of every predicted speedup, and how near to 1 two ways count as equally fast: what
#: two measurements of one kernel differ by.
SPEEDUP, TIE = 0.10, 0.02


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line: what is asked, what was got over how many rows, and whether it holds."""

    line: str
    asked: str
    got: str
    rows: int
    held: bool

    def to_dict(self) -> dict[str, Any]:
        """The verdict as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def verdicts(
    rows: Sequence[Row], pairs: Sequence[Pair], transferred: bool = False
) -> list[Verdict]:
    """Every line of which there are rows.

    ``transferred`` says that the GPU's file is another's but for its memory.

    >>> verdicts([], [])
    []
    """
    return [
        *_times(counted(rows), transferred),
        *_quantities(pairs),
        *_speedups(pairs),
        *_baselines(rows),
    ]


def _times(rows: Sequence[Row], transferred: bool) -> Iterable[Verdict]:
    """Mean errors of time, and the share of our rows that is near."""
    if transferred and rows:
        line = "time of all kernels, only memory figures exchanged"
        yield _mean(line, [r.error for r in rows], TRANSFERRED)
    ours = [r for r in rows if r.kind == "ours"]
    if ours:
        yield _mean("time of our kernels", [r.error for r in ours], TIME["ours"])
        near = sum(abs(r.error) <= WITHIN for r in ours) / len(ours)
        yield Verdict(
            f"our rows within {WITHIN:.0%}",
            f"at least {SHARE:.0%} of at least {ROWS}",
            f"{near:.1%}",
            len(ours),
            near >= SHARE and len(ours) >= ROWS,
        )
        attention = [r.error for r in ours if r.family in ("attention", "unfused")]
        if attention and len(attention) < len(ours):
            yield _mean("time of our attention kernels alone", attention, TIME["ours"])
    library = [r.error for r in rows if r.kind == "library"]
    if library:
        yield _mean("time of library kernels", library, TIME["library"])


def _mean(line: str, errors: Sequence[float], most: float) -> Verdict:
    """A line about the mean absolute error."""
    found = spread([abs(error) for error in errors])
    got = (
        f"mean {found['mean']:.1%}, 90th percentile {found['p90']:.1%}, largest {found['max']:.1%}"
    )
    return Verdict(line, f"mean at most {most:.0%}", got, len(errors), found["mean"] <= most)


def _quantities(pairs: Sequence[Pair]) -> Iterable[Verdict]:
    """Bytes, energy and clock."""
    for name, (line, most) in QUANTITIES.items():
        errors = [p.error for p in pairs if p.quantity == name]
        if errors:
            yield _mean(line, errors, most)


def ordered(pair: Pair) -> bool:
    """Whether a speedup is predicted to the right side of 1, or what was measured is a tie.

    >>> ordered(Pair("", "", 1.3, 1.1)), ordered(Pair("", "", 1.3, 0.9))
    (True, False)
    """
    return abs(pair.measured - 1) <= TIE or (pair.measured > 1) == (pair.predicted > 1)


def _speedups(pairs: Sequence[Pair]) -> Iterable[Verdict]:
    """Each way to be faster: its order in every pair, and the factor."""
    for name in dict.fromkeys(p.quantity for p in pairs if " over " in p.quantity):
        mine = [p for p in pairs if p.quantity == name]
        errors = spread([abs(p.error) for p in mine])
        right = sum(map(ordered, mine))
        near = sum(abs(p.error) <= SPEEDUP for p in mine)
        yield Verdict(
            f"speedup of {name}",
            f"order always right, factor within {SPEEDUP:.0%}",
            f"order right in {right}, factor near in {near}; mean {errors['mean']:.1%},"
            f" largest {errors['max']:.1%}",
            len(mine),
            right == near == len(mine),
        )


def _baselines(rows: Sequence[Row]) -> Iterable[Verdict]:
    """Whether our mean is below every baseline's in every band of 20 us and more.

    Over all rows of a band, and over ours and the libraries' apart.
    """
    long = counted(rows)
    for name in dict.fromkeys(n for row in long for n, _ in row.baselines):
        same = [row for row in long if name in dict(row.baselines)]
        yield _beside(name, f"better than {name} in every band", same, lambda _: "")
        line = f"better than {name}, ours and libraries apart"
        yield _beside(name, line, same, lambda row: f" ({row.kind})")


def _beside(name: str, line: str, rows: Sequence[Row], kind: Callable[[Row], str]) -> Verdict:
    """Our mean beside a baseline's on the same rows, by band and ``kind``."""
    told, lost = [], False
    for which, bands in banded(rows, kind).items():
        for band in [band for band in BANDS if band in bands]:
            ours, theirs = (bands[band][model]["mean"] for model in ("ours", name))
            told.append(f"{band}{which}: {ours:.1%} against {theirs:.1%}")
            lost = lost or ours >= theirs
    return Verdict(line, "a lower mean", "; ".join(told), len(rows), not lost)


def nearer(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Families and bands of 20 us and more in which a baseline's mean is below ours, by how much.

    A family's own rows may be few, and the three numbers are fitted on a fifth of them.

    >>> nearer([])
    []
    """
    found = []
    for family, bands in banded(counted(rows), lambda row: row.family).items():
        for band in [band for band in BANDS if band in bands]:
            ours = bands[band]["ours"]
            for name, theirs in bands[band].items():
                if theirs["mean"] < ours["mean"]:
                    found.append(
                        {
                            "family": family,
                            "band": band,
                            "baseline": name,
                            "rows": theirs["rows"],
                            "theirs": theirs["mean"],
                            "ours": ours["mean"],
                        }
                    )
    return found
