"""Storage formats: a YAML document to ``ir.format.Format``."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, Field

from accelsim.errors import Fault, InputError, Place
from accelsim.ir.format import FORMS, Format, Metadata, Part
from accelsim.load import catalog
from accelsim.load.source import Document, from_text, read, validate

#: Shares of slices may miss 1 by this: they are decimal fractions.
EXACT = 1e-9


class MetadataText(BaseModel):
    """Bits beside the elements: a scale, a zero point, a mask, an index."""

    model_config = ConfigDict(extra="forbid", strict=True)

    bits: float = Field(description="bits for each group of elements", ge=0)
    group: int | str = Field(description="elements in a group, or the name of a size: rows")


class PartText(BaseModel):
    """A slice, a plane or a copy."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(description="what it holds", min_length=1)
    bits: float = Field(description="bits for an element", ge=0)
    share: float = Field(1.0, description="of the elements that it holds: of a slice", gt=0, le=1)
    read: float = Field(1.0, description="of it that is read when all of the tensor is", ge=0)
    metadata: dict[str, MetadataText] = Field({}, description="what goes with its elements")


class FormatText(BaseModel):
    """How a tensor is stored: bits alone, or slices, planes or copies, and metadata."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str = Field(description="the format's name", min_length=1)
    source: str = Field(description="where it was published", min_length=1)
    about: str = Field("", description="what it is, in one line")
    bits: float | None = Field(None, description="bits for every element", ge=0)
    slices: list[PartText] = Field([], description="parts that hold shares of the elements")
    planes: list[PartText] = Field([], description="parts that hold some bits of every element")
    copies: list[PartText] = Field([], description="parts that hold every element again")
    metadata: dict[str, MetadataText] = Field({}, description="what goes with the whole tensor")


def load_format(name_or_path: str | os.PathLike[str], place: Place | None = None) -> Format:
    """The format of that name among the shipped ones, or that of a file.

    ``place`` is where the name stands, for the message if there is none such.

    >>> from accelsim.ir.format import bits_per_element
    >>> bits_per_element(load_format("int4-g128"))
    4.15625
    """
    return format_from(read(catalog.find("format", name_or_path, place)))


def format_from_text(text: str, file: str = "<text>") -> Format:
    """The format of a YAML text.  Raises ``InputError`` with every fault of it.

    >>> format_from_text("{format: half, source: IEEE 754-2008, bits: 16}").parts[0].bits
    16.0
    """
    return format_from(from_text(text, file))


def format_from(document: Document) -> Format:
    """The format of a document.  Raises ``InputError`` with every fault of it."""
    text = validate(document, FormatText)
    faults: list[Fault] = []
    given = [form for form in FORMS if getattr(text, form)]
    if (text.bits is None) is not bool(given) or len(given) > 1:
        found = ", ".join([*(["bits"] if text.bits is not None else []), *given])
        message = f"a format of {found}" if found else "a format of nothing"
        faults.append(Fault(document.place(), message, "one of bits, slices, planes, copies"))
    form = given[0] if given else ""
    parts: tuple[Part, ...] = (Part("", text.bits or 0),)
    if form:
        lines: list[PartText] = getattr(text, form)
        faults += _faults(document, form, lines)
        parts = tuple(Part(p.name, p.bits, p.share, p.read, _metadata(p.metadata)) for p in lines)
    for path, found_in in _groups(text):
        if isinstance(found_in.group, int) and found_in.group < 1:
            faults.append(
                Fault(document.place(path), f"a group of {found_in.group} elements", "1 or more")
            )
    if faults:
        raise InputError(faults)
    return Format(text.format, parts, _metadata(text.metadata), form, text.source, text.about)


def _metadata(lines: Mapping[str, MetadataText]) -> tuple[Metadata, ...]:
    return tuple(Metadata(name, m.bits, m.group) for name, m in lines.items())


def _groups(text: FormatText) -> Iterable[tuple[tuple[str | int, ...], MetadataText]]:
    """Every line of metadata with the path of its group."""
    for name, m in text.metadata.items():
        yield ("metadata", name, "group"), m
    for form in FORMS:
        for n, part in enumerate(getattr(text, form)):
            for name, m in part.metadata.items():
                yield (form, n, "metadata", name, "group"), m


def _faults(document: Document, form: str, parts: list[PartText]) -> list[Fault]:
    """Faults of the parts together: their names, and their shares."""
    faults = []
    names = [p.name for p in parts]
    for n, name in enumerate(names):
        if name in names[:n]:
            faults.append(Fault(document.place((form, n, "name")), f"{name!r} twice", "once"))
    total = math.fsum(p.share for p in parts)
    if form == "slices" and abs(total - 1) > EXACT:
        message = f"slices hold {total:g} of the elements"
        faults.append(Fault(document.place((form,), key=True), message, "shares that add up to 1"))
    if form != "slices":
        for n, part in enumerate(parts):
            if part.share != 1:
                message = f"a share of {part.share:g} in {form}, each of which holds every element"
                faults.append(
                    Fault(document.place((form, n, "share")), message, "slices, or no share")
                )
    return faults
