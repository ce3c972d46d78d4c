"""Design files: a cascade, an architecture, overrides and a mapping under one name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from accelsim.load import catalog
from accelsim.load.source import Document, read, validate


class DesignText(BaseModel):
    """A design file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    design: str
    about: str = ""
    source: str
    cascade: str
    arch: str
    mapping: str
    set: list[str] = Field(default_factory=list, description="overrides path=value of the arch")
    choose: dict[str, str | int | float] = Field(
        default_factory=dict, description="values of the mapping's rules"
    )


@dataclass(frozen=True)
class Design:
    """A design: names of its parts, overrides of the architecture, choices of the mapping."""

    name: str
    cascade: str
    arch: str
    mapping: str
    sets: tuple[str, ...] = ()
    choose: tuple[tuple[str, str | int | float], ...] = ()
    about: str = ""


def design_from(document: Document) -> Design:
    """The design of a document.  Raises InputError for unknown or missing fields."""
    text = validate(document, DesignText)
    return Design(
        text.design,
        text.cascade,
        text.arch,
        text.mapping,
        tuple(text.set),
        tuple(text.choose.items()),
        text.about,
    )


def load_design(name: str | Path) -> Design:
    """The design of a name or a file; cached until the file changes.

    >>> load_design("flat").cascade
    'attention-3pass'
    """
    path = catalog.find("design", name)
    return _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _loaded(path: Path, _changed: int) -> Design:
    return design_from(read(path))
