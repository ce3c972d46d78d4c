"""Published results: YAML of ``validation/published`` to ``ir.published``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from accelsim.errors import Fault, InputError, Place, one_of, refuse
from accelsim.ir.published import Average, Cause, Check, Exhibit, Paper, Table, Timed
from accelsim.ir.rule import Rule, rule
from accelsim.load import catalog
from accelsim.load.source import Document, Steps, closest, read, validate
from accelsim.load.workload import length

NotAbove = Literal["not above"]
_Asked = Literal["not above", "not below", "timing", "claimed above", "claimed below", "shown"]
_Number = int | float | str

#: How far a described kernel's time may be from the published one without a named cause.
FACTOR: Final = 2.0
#: Options of a kernel that are words, never rules.
WORDS: Final = ("dtype", "form", "format")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CheckText(_Record):
    """How closely a quantity must agree."""

    within: float | NotAbove
    up_to: str | None = None
    beyond: float | NotAbove | None = None
    where: str = ""


class TimedText(_Record):
    """A described kernel as a part of a time."""

    kernel: str
    arch: str = "arch"
    shape: dict[str, _Number]
    sets: dict[str, bool | _Number] = Field(default_factory=dict)
    times: _Number = 1


class CauseText(_Record):
    """Why a figure is not ours."""

    row: str = ""
    quantity: str = ""
    cause: str = Field(min_length=1)


class TableText(_Record):
    """A table of rows."""

    table: str
    about: str = ""
    design: str = ""
    arch: str = ""
    predict: str = ""
    hardware: str = ""
    page: str = ""
    sure: str = ""
    given: dict[str, bool | _Number] = Field(default_factory=dict)
    units: dict[str, str] = Field(default_factory=dict)
    printed: dict[str, float] = Field(default_factory=dict)
    columns: list[str]
    checks: dict[str, CheckText | _Asked]
    kernels: dict[str, list[TimedText]] = Field(default_factory=dict)
    figures: dict[str, _Number] = Field(default_factory=dict)
    causes: list[CauseText] = Field(default_factory=list)
    rows: list[list[_Number]]


class AverageText(_Record):
    """A mean of ratios."""

    name: str
    of: str
    over: str
    linear: bool
    quantity: Literal["speedup", "energy"]
    value: float
    tolerance: float


class ExhibitText(_Record):
    """A file of published results."""

    published: str
    paper: str
    exhibit: str
    units: dict[str, str] = Field(default_factory=dict)
    batch: int | None = None
    tables: list[TableText] = Field(default_factory=list)
    models: list[str] = Field(default_factory=list)
    lengths: list[str] = Field(default_factory=list)
    averages: list[AverageText] = Field(default_factory=list)


class PaperText(_Record):
    """A paper in the list of all."""

    number: int = Field(ge=1)
    name: str = Field(description="folder of its rows, and name of its system")
    title: str
    argument: str = ""
    missing: str = Field("", description="what of it cannot be predicted, and why")


class PapersText(_Record):
    """The list of papers."""

    papers: list[PaperText] = Field(min_length=1)


def _limit(text: float | NotAbove | None) -> float | None:
    return None if text == "not above" or text is None else float(text)


def _check(name: str, text: CheckText | _Asked) -> Check:
    if isinstance(text, str):
        return Check(name, FACTOR - 1 if text == "timing" else None, asked=text)
    up_to = None if text.up_to is None else length(text.up_to)
    asked: Literal["within", "not above"] = "within" if text.within != "not above" else "not above"
    return Check(name, _limit(text.within), up_to, _limit(text.beyond), text.where, asked)


def exhibit_from(document: Document) -> Exhibit:
    r"""The exhibit of a document.

    Raises InputError for rows of a wrong width, rules that cannot be read, and
    for quantities, rows or names of causes that are not in their table.

    >>> from accelsim.load.source import from_text
    >>> exhibit_from(from_text("published: a\npaper: b\nexhibit: c\n")).tables
    ()
    """
    text = validate(document, ExhibitText)
    faults: list[Fault] = []
    tables = []
    for number, one in enumerate(text.tables):
        path = ("tables", number)
        found = list(_faults(document, one, path))
        faults += found
        if not found:
            try:
                tables.append(_table(document, one, path, text.units))
            except InputError as error:
                faults += error.faults
    if faults:
        raise InputError(faults)
    return Exhibit(
        text.published,
        text.paper,
        text.exhibit,
        tuple(tables),
        tuple(Average(**a.model_dump()) for a in text.averages),
        tuple(text.models),
        tuple(text.lengths),
    )


def _faults(document: Document, text: TableText, path: Steps) -> Iterator[Fault]:
    """Rows, quantities and causes that do not go with the columns."""
    for number, row in enumerate(text.rows):
        if len(row) != len(text.columns):
            place = document.place((*path, "rows", number))
            yield Fault(place, f"{len(row)} columns", f"{len(text.columns)}")
    if text.design:  # columns of a spatial design are its units and Einsums
        return
    for name in text.checks:
        if name not in text.columns:
            place = document.place((*path, "checks", name), key=True)
            yield Fault(place, f"no column {name!r}", closest(name, text.columns))
            continue
        at = text.columns.index(name)
        for number, row in enumerate(text.rows):
            cell = row[at] if at < len(row) else 1
            if isinstance(cell, str) or not math.isfinite(cell) or not cell:
                place = document.place((*path, "rows", number, at))
                yield Fault(place, f"{name} is {cell!r}", "a published figure, not 0")
    if len(set(text.columns)) < len(text.columns):
        yield Fault(document.place((*path, "columns")), "a column twice", "each name once")
    named = {str(row[0]) for row in text.rows if row and text.columns[:1] == ["row"]}
    for number, one in enumerate(text.causes):
        known = (("row", one.row, sorted(named)), ("quantity", one.quantity, list(text.checks)))
        for what, name, names in known:
            if name and name not in names:
                place = document.place((*path, "causes", number, what))
                yield Fault(place, f"no {what} {name!r}", closest(name, names))


def _table(document: Document, text: TableText, path: Steps, units: Mapping[str, str]) -> Table:
    def rules(texts: Mapping[str, _Number], *step: str | int) -> tuple[tuple[str, Rule], ...]:
        return tuple((n, rule(t, document.place((*path, *step, n)))) for n, t in texts.items())

    def timed(one: TimedText, *step: str | int) -> Timed:
        sets: list[tuple[str, Rule | str]] = []
        for name, value in one.sets.items():
            if isinstance(value, bool) or name in WORDS:
                sets.append((name, str(value).lower()))
            else:
                sets.append((name, rule(value, document.place((*path, *step, "sets", name)))))
        times = rule(one.times, document.place((*path, *step, "times")))
        return Timed(one.kernel, one.arch, rules(one.shape, *step, "shape"), tuple(sets), times)

    return Table(
        text.table,
        text.about,
        text.design,
        text.arch,
        tuple(text.columns),
        tuple(_check(n, c) for n, c in text.checks.items()),
        tuple(tuple(row) for row in text.rows),
        text.predict,
        text.hardware,
        text.page,
        text.sure,
        tuple(text.given.items()),
        tuple({**units, **text.units}.items()),
        tuple(text.printed.items()),
        tuple(
            (name, tuple(timed(one, "kernels", name, n) for n, one in enumerate(parts)))
            for name, parts in text.kernels.items()
        ),
        rules(text.figures, "figures"),
        tuple(Cause(c.cause, c.row, c.quantity) for c in text.causes),
        document.place((*path, "table")),
    )


def _folder() -> Path:
    return catalog.folder("validation") / "published"


def load_exhibits(paper: str) -> dict[str, Exhibit]:
    """Every exhibit of a paper's folder, by name; none where there is no such folder.

    >>> list(load_exhibits("sale"))
    ['sale-table-3']
    """
    found = [exhibit_from(read(path)) for path in sorted((_folder() / paper).glob("*.yaml"))]
    return {e.name: e for e in found}


def load_exhibit(path: str | Path) -> Exhibit:
    """The exhibit of a file, as one of your own.  Raises InputError for what cannot be read.

    >>> load_exhibit(catalog.folder("validation") / "published" / "sale" / "table3.yaml").name
    'sale-table-3'
    """
    return exhibit_from(read(path))


def load_papers() -> tuple[Paper, ...]:
    """All papers of the list, by number.

    >>> len(load_papers()), load_papers()[2].name
    (40, 'fusemax')
    """
    found = validate(read(_folder() / "papers.yaml"), PapersText).papers
    return tuple(sorted((Paper(**p.model_dump()) for p in found), key=lambda p: p.number))


def find_paper(name: str) -> Paper:
    """The paper of a name.  Raises InputError where none has it.

    >>> find_paper("sale").number
    1
    """
    papers = {p.name: p for p in load_papers()}
    if name not in papers:
        near = closest(name, papers) or one_of(papers)
        raise refuse(f"no paper {name!r}", near, Place("--paper"))
    return papers[name]
