"""Architecture files: YAML to ``ir.arch.Architecture``, every number with its source.

A number is written as ``{value: 16 MiB, source: ...}``, or plainly in a record
that carries a ``source`` for all of its plain numbers.  A source is a text or
the name of an entry of the file's ``sources``.  ``--set path=value`` replaces a
field before the file is read; its source is then the override itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from accelsim import units
from accelsim.errors import Fault, InputError, Place, one_of, refuse
from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.ir.ops import WORK_CLASSES
from accelsim.ir.rule import rule
from accelsim.load import catalog
from accelsim.load.source import Document, read, salvage, told_once

OVERRIDE = "--set"


class Record(BaseModel):
    """A mapping of known fields, each of the type that it says."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Sourced(Record):
    """A number with its own source."""

    value: str | int | float
    source: str


Number = str | int | float | Sourced


class OperationText(Record):
    """Cost of one operation of a work class: cycles and energy, or what it is made of."""

    cycles: Number | None = Field(None, description="cycles in one PE")
    energy: Number | None = Field(None, description="energy an operation")
    area: Number | None = Field(None, description="area of one PE's circuit for it")
    uses: dict[str, Number] | None = Field(None, description="operations that it is made of")
    absorbs: list[str] = Field(
        default_factory=list, description="classes that cost no cycles of their own beside it"
    )
    source: str | None = None


class UnitText(Record):
    """An array of PEs."""

    rows: Number = 1
    cols: Number
    operations: dict[str, OperationText]
    pe_area: Number | None = Field(None, description="area of a PE without its operations")
    column_area: Number | None = Field(None, description="area of routing for each column")
    register_energy: Number | None = Field(None, description="energy of a register-file access")
    leakage: Number | None = Field(None, description="static power of one PE")
    fill: Number | None = Field(None, description="cycles to fill and drain, once a fused group")
    source: str | None = None


class LevelText(Record):
    """A memory level."""

    capacity: Number | None = None
    bandwidth: Number | None = Field(None, description="shared by reads and writes")
    read_bandwidth: Number | None = None
    write_bandwidth: Number | None = None
    access: Number | None = Field(None, description="width of one access, which energies refer to")
    energy: Number | None = Field(None, description="energy an access, read or write")
    read_energy: Number | None = None
    write_energy: Number | None = None
    area: Number | None = None
    leakage: Number | None = None
    source: str | None = None


class ArchitectureText(Record):
    """A spatial-array machine; levels from the backing store inwards."""

    architecture: str
    about: str = ""
    sources: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Sourced] = Field(
        default_factory=dict, description="numbers that rows and cols may name"
    )
    clock: Number
    word: Number = Field(description="width of a tensor element")
    levels: dict[str, LevelText] = Field(min_length=1)
    units: dict[str, UnitText] = Field(min_length=1)
    source: str | None = None


class _Builder:
    """Turns one checked document into nouns, collecting faults and sources on the way."""

    def __init__(self, document: Document, overridden: frozenset[str]) -> None:
        self.document, self.overridden = document, overridden
        self.faults: list[Fault] = []
        self.sources: list[tuple[str, str]] = []
        self.named: Mapping[str, str] = {}
        self.scope: dict[str, float] = {}

    def fault(self, path: tuple[str, ...], message: str, allowed: str = "") -> None:
        place = self.document.place(path, key=True)
        self.faults.append(Fault(place, message, allowed))

    def number(
        self,
        path: tuple[str, ...],
        given: Number | None,
        dimension: units.Dimension,
        record: str | None,
        default: float = 0.0,
        least: float = 0.0,
    ) -> float:
        """The SI value of a number; notes a missing source, unit or a value out of range."""
        if given is None:
            return default
        dotted = ".".join(path)
        if isinstance(given, Sourced):
            text, source, path = given.value, given.source, (*path, "value")
        else:
            text, source = given, record or ""
        if dotted in self.overridden:
            source = OVERRIDE
        if not source.strip():
            self.fault(path, f"{dotted} has no source", "{value: ..., source: ...}")
        self.sources.append((dotted, self.named.get(source, source)))
        place = Place(OVERRIDE) if dotted in self.overridden else self.document.place(path)
        try:
            if dimension == "count":
                value = rule(text, place).value(self.scope)
                if isinstance(value, str | bool):
                    raise refuse(f"{dotted} is not a number", "a number", place)
            else:
                value = units.parse(text, dimension, place)
        except InputError as error:
            self.faults += error.faults
            return max(default, least)
        if not (least <= value < math.inf):
            allowed = "a finite number" + (f" of at least {least:g}" if least else ", not negative")
            shown = (
                f"{value:g}" if str(text) in (str(value), f"{value:g}") else f"{text} = {value:g}"
            )
            self.faults.append(Fault(place, f"{dotted} is {shown}", allowed))
            return max(least, 0.0)
        return float(value)

    def level(self, name: str, text: LevelText) -> Level:
        at, own = ("levels", name), text.source

        def get(field: str, dimension: units.Dimension, default: float = 0.0) -> float:
            given = getattr(text, field)
            return self.number((*at, field), given, dimension, own, default)

        if text.energy is not None and (text.read_energy or text.write_energy):
            self.fault((*at, "energy"), "energy beside read_energy or write_energy", "one of them")
        energies = (text.energy, text.read_energy, text.write_energy)
        if any(e is not None for e in energies) and text.access is None:
            self.fault(at, f"{name} has an energy but no access width", "access: 64 bit")
        both = get("energy", "joules")
        found = {
            field: get(field, "bytes_per_s", math.inf)
            for field in ("bandwidth", "read_bandwidth", "write_bandwidth")
        }
        for field, value in found.items():
            if value == 0:
                self.fault((*at, field), f"{field} is zero", "more than zero, or leave it out")
                found[field] = math.inf
        access = get("access", "bytes", 1.0)
        if not access:
            self.fault((*at, "access"), "access is zero", "more than zero")
        return Level(
            name,
            capacity_bytes=get("capacity", "bytes", math.inf),
            **found,
            access_bytes=access,
            read_energy_j=get("read_energy", "joules", both),
            write_energy_j=get("write_energy", "joules", both),
            area_m2=get("area", "square_metres"),
            leakage_w=get("leakage", "watts"),
        )

    def unit(self, name: str, text: UnitText) -> Unit:
        at, own = ("units", name), text.source
        sides: list[int] = []
        for side in ("rows", "cols"):
            given = getattr(text, side) if side in text.model_fields_set else None
            named = isinstance(given, str) and not given.strip().isdigit()  # a parameter's source
            value = self.number(
                (*at, side), given, "count", own or ("parameters" if named else ""), 1.0, 1.0
            )
            if value != int(value):
                self.fault((*at, side), f"{side} is {value:g}", "a whole number")
            sides.append(int(value))
        operations = [
            (work, self.operation((*at, "operations", work), o))
            for work, o in text.operations.items()
        ]
        for work, o in operations:
            for other in (*dict(o.uses), *o.absorbs):
                if dict(operations).get(other, o).uses or other not in dict(operations):
                    self.fault(
                        (*at, "operations", work),
                        f"{work} refers to {other}, which {name} does not do by itself",
                        one_of(w for w, p in operations if not p.uses),
                    )
        return Unit(
            name,
            sides[0],
            sides[1],
            tuple(operations),
            pe_area_m2=self.number((*at, "pe_area"), text.pe_area, "square_metres", own),
            column_area_m2=self.number(
                (*at, "column_area"), text.column_area, "square_metres", own
            ),
            register_energy_j=self.number(
                (*at, "register_energy"), text.register_energy, "joules", own
            ),
            leakage_w=self.number((*at, "leakage"), text.leakage, "watts", own),
            fill_cycles=self.number((*at, "fill"), text.fill, "count", own),
        )

    def operation(self, at: tuple[str, ...], text: OperationText) -> Operation:
        work, own = at[-1], text.source
        if work not in WORK_CLASSES:
            self.fault(at, f"no work class '{work}'", one_of(WORK_CLASSES))
        if (text.cycles is None) == (text.uses is None):
            self.fault(at, f"{work} needs either cycles or uses", "cycles: 1, or uses: {mac: 6}")
        uses = tuple(
            (other, self.number((*at, "uses", other), n, "count", own))
            for other, n in (text.uses or {}).items()
        )
        return Operation(
            cycles=self.number((*at, "cycles"), text.cycles, "count", own),
            energy_j=self.number((*at, "energy"), text.energy, "joules", own),
            area_m2=self.number((*at, "area"), text.area, "square_metres", own),
            uses=uses,
            absorbs=tuple(text.absorbs),
        )

    def build(self, text: ArchitectureText) -> Architecture:
        self.named = text.sources
        for name, given in text.parameters.items():
            self.scope[name] = self.number(("parameters", name), given, "count", None)
        clock = self.number(("clock",), text.clock, "hertz", text.source, 1.0)
        word = self.number(("word",), text.word, "bytes", text.source, 1.0)
        for name, value in (("clock", clock), ("word", word)):
            if not value:
                self.fault((name,), f"{name} is zero", "more than zero")
        levels = tuple(self.level(n, t) for n, t in text.levels.items())
        found = tuple(self.unit(n, t) for n, t in text.units.items())
        for clash in sorted({u.name for u in found} & {v.name for v in levels}):
            self.fault(("units", clash), f"'{clash}' names a level and a unit", "one name each")
        if self.faults:
            raise InputError(self.faults)
        return Architecture(
            text.architecture, clock, word, levels, found, text.about, tuple(self.sources)
        )


def architecture_from(document: Document, sets: Iterable[str] = ()) -> Architecture:
    """The architecture of a document with overrides ``path=value`` applied.

    Raises InputError with every fault: unknown or missing fields, a number
    without source or unit, a negative bandwidth, an override of nothing.
    """
    if isinstance(document.value, dict) and "gpu" in document.value:
        message = f"{document.value['gpu']} is a GPU, and what is asked is of a spatial array"
        place = document.place(["gpu"], key=True)
        raise InputError([Fault(place, message, "estimate without a mapping, or a spatial array")])
    overridden = frozenset(override(document.value, text) for text in sets)
    text, faults = salvage(document, ArchitectureText)
    if text is None:
        raise InputError(faults)
    try:
        found = _Builder(document, overridden).build(text)
    except InputError as error:
        raise told_once(faults, error.faults) from None
    if faults:
        raise InputError(faults)
    return found


def override(value: Any, text: str) -> str:
    """Apply one ``path=value`` to the document's value in place; returns the full dotted path."""
    path, equals, new = text.partition("=")
    if not equals or not path.strip() or not new.strip():
        raise refuse(f"--set {text!r} is no override", "path=value, as levels.buffer.capacity=8MiB")
    paths = dict.fromkeys(_paths(value)) if isinstance(value, dict) else {}
    wanted = path.strip().removesuffix(".value")
    hits = [p for p in paths if p == wanted] or [
        p for p in paths if p.endswith("." + wanted) and p.count(".") >= 1
    ]
    if not hits and "." in wanted:
        hits = _absent(value, wanted)
    if len(hits) != 1:
        what = "is ambiguous" if hits else "names nothing in the file"
        raise refuse(f"--set {path.strip()} {what}", one_of(hits or paths, 60))
    *parents, last = hits[0].split(".")
    target = value
    for step in parents:
        target = target[step]
    if isinstance(target.get(last), dict) and "value" in target[last]:
        target[last]["value"] = scalar(new)
    else:
        target[last] = scalar(new)
    return hits[0]


def _absent(value: Any, wanted: str) -> list[str]:
    """Full path of a field that a level, unit or operation may have but does not state yet."""
    above, _, field = wanted.rpartition(".")
    found = []
    for kind, model in (("levels", LevelText), ("units", UnitText)):
        records = value.get(kind)
        for owner, record in records.items() if isinstance(records, dict) else ():
            if not isinstance(record, dict):
                continue
            if field in model.model_fields and f".{kind}.{owner}".endswith(f".{above}"):
                found.append(f"{kind}.{owner}.{field}")
            operations = record.get("operations")
            for work, operation in operations.items() if isinstance(operations, dict) else ():
                path = f"{kind}.{owner}.operations.{work}"
                fits = field in OperationText.model_fields and isinstance(operation, dict)
                if fits and f".{path}".endswith(f".{above}"):
                    found.append(f"{path}.{field}")
    return found


def _paths(value: Mapping[str, Any], above: str = "") -> Iterable[str]:
    """Dotted paths of every scalar or sourced number."""
    for key, inner in value.items():
        if isinstance(inner, dict) and "value" not in inner:
            yield from _paths(inner, f"{above}{key}.")
        elif not isinstance(inner, list):
            yield f"{above}{key}"


def scalar(text: str) -> str | int | float:
    """A number where the text is one, else the text.

    >>> scalar("8MiB"), scalar("64")
    ('8MiB', 64)
    """
    for kind in (int, float):
        try:
            return kind(text.strip())
        except ValueError:
            continue
    return text.strip()


def load_architecture(name: str | Path, sets: Iterable[str] = ()) -> Architecture:
    """The architecture of a name or a file, with overrides; cached until the file changes.

    >>> load_architecture("fusemax-cloud", ["buffer.capacity=8 MiB"]).level["buffer"].capacity
    8388608.0
    """
    path = catalog.find("arch", name)
    return _loaded(path, path.stat().st_mtime_ns, tuple(sets))


@lru_cache(maxsize=256)
def _loaded(path: Path, _changed: int, sets: tuple[str, ...]) -> Architecture:
    return architecture_from(read(path), sets)
