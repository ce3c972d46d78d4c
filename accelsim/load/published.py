"""Published results: YAML of ``validation/published`` to ``ir.published``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from accelsim.errors import Fault, InputError
from accelsim.ir.published import Average, Check, Exhibit, Table
from accelsim.load import catalog
from accelsim.load.source import Document, read, validate
from accelsim.load.workload import length

NotAbove = Literal["not above"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CheckText(_Record):
    """How closely a quantity must agree."""

    within: float | NotAbove
    up_to: str | None = None
    beyond: float | NotAbove | None = None
    where: str = ""


class TableText(_Record):
    """A table of rows."""

    table: str
    about: str = ""
    design: str = ""
    arch: str = ""
    columns: list[str]
    checks: dict[str, CheckText]
    rows: list[list[str | int | float]]


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


def _limit(text: float | NotAbove | None) -> float | None:
    return None if text == "not above" or text is None else float(text)


def _check(name: str, text: CheckText) -> Check:
    up_to = None if text.up_to is None else length(text.up_to)
    return Check(name, _limit(text.within), up_to, _limit(text.beyond), text.where)


def exhibit_from(document: Document) -> Exhibit:
    """The exhibit of a document.  Raises InputError for rows of a wrong width."""
    text = validate(document, ExhibitText)
    faults = [
        Fault(
            document.place(("tables", t, "rows", r)), f"{len(row)} columns", f"{len(table.columns)}"
        )
        for t, table in enumerate(text.tables)
        for r, row in enumerate(table.rows)
        if len(row) != len(table.columns)
    ]
    if faults:
        raise InputError(faults)
    tables = tuple(
        Table(
            t.table,
            t.about,
            t.design,
            t.arch,
            tuple(t.columns),
            tuple(_check(n, c) for n, c in t.checks.items()),
            tuple(tuple(row) for row in t.rows),
        )
        for t in text.tables
    )
    averages = tuple(Average(**a.model_dump()) for a in text.averages)
    return Exhibit(
        text.published,
        text.paper,
        text.exhibit,
        tables,
        averages,
        tuple(text.models),
        tuple(text.lengths),
    )


def load_exhibits(paper: str) -> dict[str, Exhibit]:
    """Every exhibit of a paper's folder, by name."""
    folder: Path = catalog.folder("validation") / "published" / paper
    found = [exhibit_from(read(path)) for path in sorted(folder.glob("*.yaml"))]
    return {e.name: e for e in found}
