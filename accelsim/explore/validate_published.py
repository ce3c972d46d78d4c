"""``validate published``: every published figure that carries its configuration beside ours.

A table names how its rows are predicted; a prediction sees a row's
configuration and never a published figure.  What each check asks is said in
``ir.published.Asked``; what papers come to is in ``explore.verdicts``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, Final

from accelsim.errors import one_of, refuse
from accelsim.explore.published_analytic import PREDICT
from accelsim.explore.published_kernels import amount, seconds
from accelsim.ir.published import Asked, Check, Paper, Table
from accelsim.load.gpu import load_gpu
from accelsim.load.published import find_paper, load_exhibit, load_exhibits, load_papers
from accelsim.load.workload import length

#: Seconds of a unit of time; all other units are ours as they stand.
SECONDS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
#: Median error of all kernel times on described GPUs that is allowed.
MEDIAN: Final = 0.15
#: Slack of bounds: the last digit of a transcribed figure.
LAST_DIGIT: Final = 1e-6
_SIZE: Final = re.compile(r"\d+[KMG]")


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One published figure beside ours.

    ``error`` is relative; for shares (unit ``share``) absolute.  ``holds`` is
    None where nothing is asked.  ``cause`` is what the table names as the
    reason of a difference.
    """

    workload: str
    quantity: str
    unit: str
    published: float
    ours: float
    error: float
    asked: Asked
    tolerance: float | None
    holds: bool | None
    cause: str

    @property
    def times(self) -> float:
        """How many times the larger is the smaller of the two figures."""
        low, high = sorted((abs(self.ours), abs(self.published)))
        return high / low if low else float("inf")

    def to_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        own = {name: getattr(self, name) for name in self.__slots__ if name != "cause"}
        return {**own, "note": self.cause}


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """Rows of one published table, with its paper, its hardware and how sure it is."""

    paper: str
    name: str
    about: str
    hardware: str
    page: str
    sure: str
    rows: tuple[PublishedRow, ...]

    @property
    def holds(self) -> bool:
        """Whether every row holds of which something is asked."""
        return all(r.holds is not False for r in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The table as a JSON object."""
        errors: dict[str, list[float]] = {}
        for row in self.rows:
            errors.setdefault(row.quantity, []).append(abs(row.error))
        return {
            **{name: getattr(self, name) for name in self.__slots__ if name != "rows"},
            "holds": self.holds,
            "mean_error": {q: sum(e) / len(e) for q, e in errors.items()},
            "max_error": {q: max(e) for q, e in errors.items()},
            "rows": [r.to_dict() for r in self.rows],
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a paper's rows come to: counts and errors by what was asked, and the argument."""

    paper: Paper
    rows: tuple[PublishedRow, ...]

    def of(self, *asked: Asked) -> list[PublishedRow]:
        """Rows of which that is asked."""
        return [row for row in self.rows if row.asked in asked]

    @property
    def stands(self) -> tuple[str, ...]:
        """Reproduced, timed, bounded, contradicted, shown, not predictable: all that applies."""
        found = []
        if exact := self.of("within"):
            found.append(f"reproduced within {max(abs(r.error) for r in exact):.2%}")
        if timed := self.of("timing"):
            middle = median(abs(r.error) for r in timed)
            most = max(r.times for r in timed)
            found.append(f"timed, median error {middle:.1%}, at most a factor {most:.2g}")
        if self.of("not above", "not below"):
            found.append("bounded")
        if self.of("claimed above", "claimed below"):
            found.append("contradicted")
        if not found and self.rows:
            found.append("shown")
        return tuple(found) or ("not predictable",)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as a JSON object."""
        timed = [abs(r.error) for r in self.of("timing")]
        exact = [abs(r.error) for r in self.of("within")]
        return {
            "number": self.paper.number,
            "paper": self.paper.name,
            "title": self.paper.title,
            "verdict": list(self.stands),
            "rows": len(self.rows),
            "reproduced": {"rows": len(exact), "max_error": max(exact, default=None)},
            "timed": {
                "rows": len(timed),
                "median_error": median(timed) if timed else None,
                "most_times": max((r.times for r in self.of("timing")), default=None),
            },
            "bounded": len(self.of("not above", "not below")),
            "contradicted": len(self.of("claimed above", "claimed below")),
            "argument": self.paper.argument,
            "missing": self.paper.missing,
        }


@dataclass(frozen=True, slots=True)
class Published:
    """Published tables beside ours, and the verdict on each paper."""

    tables: tuple[PublishedTable, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def timed(self) -> list[PublishedRow]:
        """All kernel times."""
        return [row for table in self.tables for row in table.rows if row.asked == "timing"]

    @property
    def median_error(self) -> float | None:
        """Median error of all kernel times; None where there is none."""
        return median(abs(r.error) for r in self.timed) if self.timed else None

    @property
    def holds(self) -> bool:
        """Whether every row holds, and the median of all kernel times."""
        return all(t.holds for t in self.tables) and (self.median_error or 0.0) <= MEDIAN

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim validate published``."""
        return {
            "paper": "published tables of the systems' papers",
            "holds": self.holds,
            "timed_rows": len(self.timed),
            "median_error": self.median_error,
            "median_allowed": MEDIAN,
            "verdicts": [v.to_dict() for v in self.verdicts],
            "tables": [t.to_dict() for t in self.tables],
            "averages": [],
        }


def validate_published(paper: str | Path | None = None) -> Published:
    """Every published row beside ours; of one ``paper``, or of a file of rows of your own.

    Raises InputError for a paper that is not there, and for rows that cannot be
    predicted as their table says.

    >>> found = validate_published("zipcache")
    >>> found.holds, found.verdicts[0].stands
    (True, ('reproduced within 0.97%',))
    """
    if paper is not None and Path(paper).is_file():
        own = load_exhibit(paper)
        return Published(tuple(predicted(own.name, table) for table in own.tables), ())
    papers = load_papers() if paper is None else (find_paper(str(paper)),)
    tables = tuple(table for one in papers for table in tables_of(one.name))
    rows = {one.name: [r for t in tables if t.paper == one.name for r in t.rows] for one in papers}
    return Published(tables, tuple(Verdict(one, tuple(rows[one.name])) for one in papers))


@lru_cache(maxsize=64)
def tables_of(paper: str) -> tuple[PublishedTable, ...]:
    """The tables of a paper; FuseMax's are those of its own evaluation.

    >>> [len(table.rows) for table in tables_of("razor-attention")]
    [1]
    """
    if paper == "fusemax":
        return _fusemax()
    exhibits = load_exhibits(paper).values()
    return tuple(predicted(paper, table) for exhibit in exhibits for table in exhibit.tables)


def predicted(paper: str, table: Table) -> PublishedTable:
    """A table's rows beside ours.

    Raises InputError where nothing predicts a quantity, or a row's configuration cannot be used.

    >>> (table,) = load_exhibits("bitnet-reloaded")["bitnet-reloaded-bits"].tables
    >>> predicted("bitnet-reloaded", table).rows[0].holds
    True
    """
    units = dict(table.units)
    printed = dict(table.printed)
    rows = []
    for number in range(len(table.rows)):
        published = table.row(number)
        ours = figures(table, table.configuration(number))
        for check in table.checks:
            if check.quantity not in ours:
                raise refuse(f"nothing in {table.name!r} predicts {check.quantity!r}", one_of(ours))
            unit = units.get(check.quantity, "")
            label, last = str(published.get("row", number + 1)), printed.get(check.quantity, 0.0)
            why = table.why(label, check.quantity)
            truth, own = float(published[check.quantity]), ours[check.quantity]
            rows.append(judged(label, check, unit, truth, own / SECONDS.get(unit, 1.0), last, why))
    return PublishedTable(
        paper, table.name, table.about, table.hardware, table.page, table.sure, tuple(rows)
    )


def figures(table: Table, configuration: Mapping[str, Any]) -> dict[str, float]:
    """What is predicted for a configuration: by the table's model, its kernels, its rules.

    Sizes such as ``64K`` are numbers; ``gpu`` are the ceilings of the column ``arch``.

    >>> table = load_exhibits("zipvl")["zipvl-compression"].tables[0]
    >>> figures(table, {"kept": 0.5})["compression"]
    5.333333333333333
    """
    if table.predict not in PREDICT:
        there = one_of(n for n in PREDICT if n)
        raise refuse(f"no prediction {table.predict!r}", there, table.place)
    scope: dict[str, Any] = {
        name: length(value) if isinstance(value, str) and _SIZE.fullmatch(value) else value
        for name, value in configuration.items()
    }
    if isinstance(scope.get("arch"), str):
        scope["gpu"] = load_gpu(scope["arch"])
    found = PREDICT[table.predict](scope)
    scope |= found
    timed = seconds(table, scope)
    scope |= timed
    found = {**found, **timed}
    for name, rule in table.figures:
        found[name] = scope[name] = amount(rule, scope)
    return found


def judged(
    workload: str, check: Check, unit: str, truth: float, ours: float, last: float, cause: str
) -> PublishedRow:
    """A figure beside ours, and whether what is asked of it holds.

    A figure that is printed to ``last`` may be half of that from what it stands for.

    >>> judged("a", Check("q", 0.01), "ms", 2.0, 2.01, 0.0, "").holds
    True
    """
    share = unit == "share"
    error = ours - truth if share else (ours - truth) / truth
    tolerance: float | None = None
    holds: bool | None = None
    if check.asked == "within":
        rounded = last / 2 * (1 + LAST_DIGIT)
        tolerance = max(check.within or 0.0, rounded if share else rounded / abs(truth))
        holds = abs(error) <= tolerance
    elif check.asked == "timing":
        low, high = sorted((ours, truth))
        tolerance = check.within
        holds = bool(cause) or high <= (1 + (tolerance or 0.0)) * low
    elif check.asked in ("not above", "claimed above"):
        holds = error <= LAST_DIGIT
    elif check.asked in ("not below", "claimed below"):
        holds = error >= -LAST_DIGIT
    return PublishedRow(
        workload, check.quantity, unit, truth, ours, error, check.asked, tolerance, holds, cause
    )


def _fusemax() -> tuple[PublishedTable, ...]:
    """FuseMax's own evaluation (``validate fusemax``) as tables here."""
    from accelsim.explore.validate import validate_fusemax

    found = validate_fusemax()
    return tuple(
        PublishedTable(
            "fusemax",
            table.name,
            table.about,
            "FuseMax",
            "artifact",
            "authors' code",
            tuple(
                PublishedRow(
                    row.workload,
                    row.quantity,
                    "",
                    row.published,
                    row.ours,
                    row.error,
                    _asked(row.tolerance, row.holds),
                    row.tolerance,
                    row.holds,
                    row.note,
                )
                for row in table.rows
            ),
        )
        for table in found.tables
    )


def _asked(tolerance: float | None, holds: bool | None) -> Asked:
    """What FuseMax's evaluation asks of a row."""
    if holds is None:
        return "shown"
    return "not above" if tolerance is None else "within"
