"""Sweep files: axes of designs, machines, choices and workloads to be crossed.

The first axis moves slowest.  Fields that stand in one entry of ``axes`` move
together and have equally many values.  A field is ``design``, ``cascade``,
``arch``, ``mapping``, ``model``, ``seq``, ``shape.R`` (a rank's size),
``set.PATH`` (a field of the architecture, as ``--set``) or ``choose.NAME`` (a
value of the mapping's rules, as ``--choose``).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from accelsim.errors import Fault, InputError, one_of
from accelsim.load import catalog
from accelsim.load.source import Document, read, salvage, told_once

Scalar = str | int | float

#: Fields with a name of their own; the others have one of the ``PREFIXES``.
FIELDS: Final = ("design", "cascade", "arch", "mapping", "model", "seq")
PREFIXES: Final = ("shape.", "set.", "choose.")
#: What a sweep can be asked to make small.
OBJECTIVES: Final = ("latency_s", "energy_j", "area_mm2", "edp_js", "dram_bytes", "peak_bytes")
#: What the mapping of each point can be searched for.
SEARCHES: Final = ("latency", "energy", "edp", "buffer")
#: More values than this on one axis are refused: nobody would wait for them.
MOST_VALUES: Final = 1_000_000
_NUMBER: Final = re.compile(r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?)\s*((?:[^\W\d].*)?)")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class RangeText(_Record):
    """Values from one to another: by a step, by a factor, or a count of them."""

    from_: Scalar = Field(alias="from", description="the first value, as 1 MiB")
    to: Scalar = Field(description="the last value, in the same unit")
    step: float | None = Field(None, gt=0, description="added each time")
    times: float | None = Field(None, gt=1, description="multiplied each time")
    count: int | None = Field(None, ge=2, description="so many values at equal distances")


def _kind(value: Any) -> str:
    if isinstance(value, dict | RangeText):
        return "a range"
    return "a list" if isinstance(value, list) else "a value"


ValuesText = Annotated[
    Annotated[RangeText, Tag("a range")]
    | Annotated[list[Scalar], Tag("a list")]
    | Annotated[Scalar, Tag("a value")],
    Discriminator(_kind),
]


class FrontText(_Record):
    """The Pareto front that is wanted."""

    objectives: list[str] = Field(
        default_factory=lambda: ["latency_s", "energy_j"],
        min_length=1,
        description="figures of which less is better",
    )
    by: list[str] = Field(default_factory=list, description="one front for each value of these")


class SweepText(_Record):
    """A sweep file."""

    sweep: str
    about: str = ""
    source: str = ""
    axes: list[dict[str, ValuesText]] = Field(min_length=1)
    search: str | None = Field(
        None, description="search the mapping of each point for this objective, not by its rule"
    )
    physical: bool = Field(False, description="count register files of every PE, and leakage")
    front: FrontText = Field(default_factory=FrontText)


@dataclass(frozen=True)
class Axis:
    """Fields that move together, and the values that they take, a row each."""

    fields: tuple[str, ...]
    values: tuple[tuple[Scalar, ...], ...]


@dataclass(frozen=True)
class Sweep:
    """Axes to be crossed, the first one slowest, and the front that is asked for."""

    name: str
    axes: tuple[Axis, ...]
    objectives: tuple[str, ...]
    by: tuple[str, ...] = ()
    search: str | None = None
    physical: bool = False
    about: str = ""

    @cached_property
    def points(self) -> int:
        """Number of points."""
        return math.prod(len(axis.values) for axis in self.axes)

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields, in the order of the axes."""
        return tuple(field for axis in self.axes for field in axis.fields)

    def point(self, number: int) -> dict[str, Scalar]:
        """The fields of a point, numbered from 0, the last axis fastest.

        >>> axes = (Axis(("model",), (("BERT",), ("XLM",))), Axis(("seq",), ((1,), (2,), (3,))))
        >>> Sweep("s", axes, ("latency_s",)).point(4)
        {'model': 'XLM', 'seq': 2}
        """
        found: dict[str, Scalar] = {}
        for axis in reversed(self.axes):
            number, at = divmod(number, len(axis.values))
            found.update(zip(axis.fields, axis.values[at], strict=True))
        return {field: found[field] for field in self.fields}

    def canonical(self) -> str:
        """The sweep as one line of JSON, the same for the same points and figures."""
        axes = [{"fields": axis.fields, "values": axis.values} for axis in self.axes]
        what = {"axes": axes, "search": self.search, "physical": self.physical}
        return json.dumps(what, separators=(",", ":"))


def sweep_from(document: Document) -> Sweep:
    """The sweep of a document.

    Raises InputError with every fault: fields that there are not, one that
    stands in two axes, values that move together but are not equally many,
    a range without end, objectives that nothing computes.
    """
    text, faults = salvage(document, SweepText)
    if text is None:
        raise InputError(faults)
    found: list[Fault] = []
    axes = [_axis(document, n, fields, found) for n, fields in enumerate(text.axes)]
    _fields(document, text, found)
    for n, name in enumerate(text.front.objectives):
        if name not in OBJECTIVES:
            place = document.place(("front", "objectives", n))
            found.append(Fault(place, f"nothing computes {name!r}", one_of(OBJECTIVES)))
    if text.search is not None and text.search not in SEARCHES:
        place = document.place(("search",))
        found.append(Fault(place, f"no search for {text.search!r}", one_of(SEARCHES)))
    if faults or found:
        raise told_once(faults, found)
    return Sweep(
        text.sweep,
        tuple(axes),
        tuple(text.front.objectives),
        tuple(text.front.by),
        text.search,
        text.physical,
        text.about,
    )


def _fields(document: Document, text: SweepText, faults: list[Fault]) -> None:
    """Faults of fields: unknown ones, ones in two axes, ones that the front asks for in vain."""
    seen: set[str] = set()
    for n, axis in enumerate(text.axes):
        for field in axis:
            place = document.place(("axes", n, field), key=True)
            known = field in FIELDS or any(
                field.startswith(p) and len(field) > len(p) for p in PREFIXES
            )
            if not known:
                allowed = ", ".join((*FIELDS, "shape.R", "set.PATH", "choose.NAME"))
                faults.append(Fault(place, f"no axis can be '{field}'", allowed))
            elif field in seen:
                faults.append(Fault(place, f"a second axis of '{field}'", "one"))
            seen.add(field)
    for n, field in enumerate(text.front.by):
        if field not in seen:
            place = document.place(("front", "by", n))
            faults.append(Fault(place, f"'{field}' is no axis of this sweep", one_of(seen)))


def _axis(
    document: Document,
    n: int,
    fields: dict[str, list[Scalar] | RangeText | Scalar],
    faults: list[Fault],
) -> Axis:
    columns: list[list[Scalar]] = []
    for field, given in fields.items():
        path = ("axes", n, field)
        if isinstance(given, RangeText):
            values = _range(document, path, given, faults)
        else:
            values = list(given) if isinstance(given, list) else [given]
        if given == []:
            faults.append(Fault(document.place(path, key=True), f"'{field}' has no values"))
        columns.append(values)
    if not fields:
        faults.append(Fault(document.place(("axes", n)), "an axis without a field"))
    lengths = {field: len(values) for field, values in zip(fields, columns, strict=True)}
    if all(columns) and len(set(lengths.values())) > 1:
        told = ", ".join(f"{field} has {count}" for field, count in lengths.items())
        message = f"fields that move together have different numbers of values: {told}"
        faults.append(Fault(document.place(("axes", n)), message, "equally many"))
    return Axis(tuple(fields), tuple(zip(*columns, strict=False)))


def _range(
    document: Document, path: tuple[str | int, ...], text: RangeText, faults: list[Fault]
) -> list[Scalar]:
    """The values of a range, in the unit that its ends are written in."""
    place = document.place(path, key=True)
    ends = [_NUMBER.fullmatch(str(end)) for end in (text.from_, text.to)]
    if ends[0] is None or ends[1] is None or ends[0][2].strip() != ends[1][2].strip():
        faults.append(
            Fault(place, f"no range from {text.from_} to {text.to}", "two numbers in one unit")
        )
        return []
    first, last, unit = float(ends[0][1]), float(ends[1][1]), ends[0][2].strip()
    by = [name for name in ("step", "times", "count") if getattr(text, name) is not None]
    if len(by) != 1 or last < first or (text.times and first == 0):
        allowed = "from, to (not below from), and one of step, times or count"
        faults.append(Fault(place, f"a range from {text.from_} to {text.to} without end", allowed))
        return []
    if text.step is not None:
        count = (last - first) / text.step
    elif text.times is not None:
        count = math.log(last / first, text.times)
    else:
        count = (text.count or 2) - 1
    count = math.floor(count + 1e-9)
    if count >= MOST_VALUES:
        faults.append(Fault(place, f"{count + 1} values", f"at most {MOST_VALUES}"))
        return []
    if text.step is not None:
        values = [first + text.step * i for i in range(count + 1)]
    elif text.times is not None:
        values = [first * text.times**i for i in range(count + 1)]
    else:
        values = [first + (last - first) * i / count for i in range(count + 1)]
    return [_written(value, unit) for value in values]


def _written(value: float, unit: str) -> Scalar:
    """A value as a person would write it: whole numbers whole, with their unit.

    >>> _written(2.0, "MiB"), _written(16.0, "")
    ('2 MiB', 16)
    """
    number: int | float = int(value) if value.is_integer() else round(value, 12)
    return f"{number} {unit}" if unit else number


def load_sweep(name: str | Path) -> Sweep:
    """The sweep of a shipped name or a file.

    >>> load_sweep("fusemax-pareto").axes[0].fields[0]
    'set.parameters.edge'
    """
    return sweep_from(read(catalog.find("sweep", name)))
