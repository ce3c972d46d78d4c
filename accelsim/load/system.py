"""System files: a published system, what it is made of, and how sure each part of that is.

A system names cascades and sizes; passes, operations and traffic are computed
from those, and stand in no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from accelsim.errors import Fault, InputError, Place
from accelsim.ir.rule import Rule, rule
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from accelsim.load.source import Document, closest, read, validate
from accelsim.load.workload import MODELS

#: What a description rests on, the surest first.
Sure = Literal["primary text", "authors' code", "secondary", "abstract only", "labelled hypothesis"]
Kind = Literal[
    "exact",
    "sparse static",
    "sparse dynamic",
    "linear",
    "kv-cache",
    "quantised",
    "calibrated",
    "accelerator",
    "study",
]
#: The systems that accelsim sets out to describe.
WANTED: Final = 40
#: The length of the sequence in rules of sizes and shares.
LENGTH: Final = "N"

_Number = int | float | str


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ParameterText(_Record):
    """A number of the system, and where it stands."""

    value: int | float
    source: str
    about: str = ""


class PartText(_Record):
    """A cascade at sizes that follow from the length, the parameters and the model's ranks."""

    cascade: str
    sizes: dict[str, _Number] = Field({}, description="rules for ranks: {M: N, W: WINDOW}")
    times: _Number = Field(1, description="how often it runs in a layer, as a share of the heads")
    estimation: list[str] = Field([], description="Einsums that choose what the others compute")
    bits: dict[str, _Number] = Field({}, description="bits an element of an input has; 16 else")
    density: dict[str, _Number] = Field({}, description="the share of a mask that is kept")
    key: str = Field("K", description="the input whose passes are counted as those over K")
    value: str = Field("V", description="and as those over V")
    rank: str = Field("M", description="the rank of keys, whose passes are counted")


class PhaseText(_Record):
    """Prefill or decode: parts that run one after the other, beside dense attention."""

    phase: Literal["prefill", "decode"]
    about: str = ""
    parts: list[PartText] = Field(min_length=1)
    dense: PartText


class MetadataText(_Record):
    """Bits beside the elements: a scale, a zero point, a mask."""

    what: str
    bits: _Number
    per: _Number = Field(description="elements that share them")


class SliceText(_Record):
    """A share of a tensor's elements that have bits of their own."""

    share: _Number = 1
    bits: _Number
    metadata: list[MetadataText] = Field([])


class FormatText(_Record):
    """How a tensor is stored, metadata included."""

    tensor: str
    about: str
    slices: list[SliceText] = Field(min_length=1)
    metadata: list[MetadataText] = Field([], description="beside all the slices")
    published: float | None = Field(None, description="bits an element that the paper implies")
    within: float = Field(0.0, description="relative distance that is allowed from that")
    source: str = ""


class SystemText(_Record):
    """A published system: citation, how sure, and its cascades or formats."""

    system: str = Field(min_length=1)
    number: int = Field(0, ge=0, le=WANTED, description="among the forty; 0 for one of your own")
    title: str
    paper: str = Field("", description="the citation")
    sure: Sure = "primary text"
    rests: str = Field("", description="what was read, and what is inferred")
    kind: Kind
    about: str
    model: str = "Llama-3.1-8B"
    parameters: dict[str, ParameterText] = Field({})
    phases: list[PhaseText] = Field([])
    formats: list[FormatText] = Field([])
    notes: list[str] = Field([])


@dataclass(frozen=True, slots=True)
class Part:
    """A cascade at sizes given by rules; see ``PartText``."""

    cascade: str
    sizes: tuple[tuple[str, Rule], ...]
    times: Rule
    estimation: tuple[str, ...]
    bits: tuple[tuple[str, Rule], ...]
    density: tuple[tuple[str, Rule], ...]
    key: str
    value: str
    rank: str
    place: Place


@dataclass(frozen=True, slots=True)
class Phase:
    """Prefill or decode."""

    name: str
    about: str
    parts: tuple[Part, ...]
    dense: Part


@dataclass(frozen=True, slots=True)
class Metadata:
    """``bits`` that ``per`` elements share."""

    what: str
    bits: Rule
    per: Rule


@dataclass(frozen=True, slots=True)
class Slice:
    """A share of the elements with bits of their own."""

    share: Rule
    bits: Rule
    metadata: tuple[Metadata, ...]


@dataclass(frozen=True, slots=True)
class Format:
    """How a tensor is stored."""

    tensor: str
    about: str
    slices: tuple[Slice, ...]
    metadata: tuple[Metadata, ...]
    published: float | None
    within: float
    source: str
    place: Place

    def bits(self, scope: Mapping[str, Any]) -> float:
        """Bits an element, metadata included, with the numbers that ``scope`` names.

        >>> load_system("luq").formats[-1].bits({"GROUP": 128, "SALIENT": 0.08})
        4.15625
        """

        def beside(metadata: tuple[Metadata, ...]) -> float:
            return sum(float(m.bits.value(scope)) / float(m.per.value(scope)) for m in metadata)

        return beside(self.metadata) + sum(
            float(s.share.value(scope)) * (float(s.bits.value(scope)) + beside(s.metadata))
            for s in self.slices
        )


@dataclass(frozen=True)
class System:
    """A published system; ``text`` holds what is said in words, and the parameters' sources."""

    name: str
    text: SystemText
    phases: tuple[Phase, ...]
    formats: tuple[Format, ...]

    @property
    def parameters(self) -> dict[str, int | float]:
        """The system's numbers by name."""
        return {name: p.value for name, p in self.text.parameters.items()}


def system_from(document: Document) -> System:
    """The system of a document.  Raises InputError with every fault, at its place."""
    text = validate(document, SystemText)
    loading = _Loading(document)
    if text.model not in MODELS:
        place = document.place(("model",))
        loading.faults.append(
            Fault(place, f"no model is called {text.model!r}", closest(text.model, MODELS))
        )
    if not text.phases and not text.formats:
        place = document.place()
        loading.faults.append(
            Fault(place, "a system of no cascade and no format", "'phases' or 'formats'")
        )
    phases = tuple(
        Phase(
            p.phase,
            p.about,
            tuple(loading.part(part, ("phases", n, "parts", k)) for k, part in enumerate(p.parts)),
            loading.part(p.dense, ("phases", n, "dense")),
        )
        for n, p in enumerate(text.phases)
    )
    formats = tuple(loading.format(f, ("formats", n)) for n, f in enumerate(text.formats))
    if loading.faults:
        raise InputError(loading.faults)
    return System(text.system, text, phases, formats)


class _Loading:
    """Rules and cascades of one document, with the faults found on the way."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults: list[Fault] = []

    def rule(self, text: _Number, path: tuple[str | int, ...]) -> Rule:
        """A rule, or 1 where it cannot be read."""
        try:
            return rule(text, self.document.place(path))
        except InputError as error:
            self.faults += error.faults
            return rule(1)

    def rules(
        self, texts: Mapping[str, _Number], path: tuple[str | int, ...]
    ) -> tuple[tuple[str, Rule], ...]:
        """Rules by name."""
        return tuple((name, self.rule(text, (*path, name))) for name, text in texts.items())

    def part(self, text: PartText, path: tuple[str | int, ...]) -> Part:
        """A part, whose cascade must exist and have the names that the part uses."""
        place = self.document.place((*path, "cascade"))
        try:
            cascade = load_cascade(text.cascade, place)
            names = {t.name for t in cascade.inputs}
            known = {
                "estimation": (text.estimation, set(cascade.steps), "Einsum"),
                "bits": (list(text.bits), names, "input"),
                "density": (list(text.density), set(cascade.tensors), "tensor"),
                "rank": ([text.rank], set(cascade.ranks), "rank"),
            }
            for field, (used, allowed, what) in known.items():
                for number, name in enumerate(used):
                    if name not in allowed:
                        step: tuple[str | int, ...] = (name,) if field != "estimation" else ()
                        at = step if field in ("bits", "density") else (number,)
                        where = self.document.place(
                            (*path, field, *(at if field != "rank" else ())), field == "bits"
                        )
                        message = f"{cascade.name} has no {what} {name}"
                        self.faults.append(Fault(where, message, closest(name, allowed)))
        except InputError as error:
            self.faults += error.faults
        return Part(
            text.cascade,
            self.rules(text.sizes, (*path, "sizes")),
            self.rule(text.times, (*path, "times")),
            tuple(text.estimation),
            self.rules(text.bits, (*path, "bits")),
            self.rules(text.density, (*path, "density")),
            text.key,
            text.value,
            text.rank,
            place,
        )

    def metadata(
        self, texts: list[MetadataText], path: tuple[str | int, ...]
    ) -> tuple[Metadata, ...]:
        """Metadata with their rules."""
        return tuple(
            Metadata(
                m.what, self.rule(m.bits, (*path, n, "bits")), self.rule(m.per, (*path, n, "per"))
            )
            for n, m in enumerate(texts)
        )

    def format(self, text: FormatText, path: tuple[str | int, ...]) -> Format:
        """A format with its rules."""
        slices = tuple(
            Slice(
                self.rule(s.share, (*path, "slices", n, "share")),
                self.rule(s.bits, (*path, "slices", n, "bits")),
                self.metadata(s.metadata, (*path, "slices", n, "metadata")),
            )
            for n, s in enumerate(text.slices)
        )
        return Format(
            text.tensor,
            text.about,
            slices,
            self.metadata(text.metadata, (*path, "metadata")),
            text.published,
            text.within,
            text.source,
            self.document.place(path),
        )


def load_system(name_or_path: str | Path, place: Place | None = None) -> System:
    """The system of that name among the shipped ones, or that of a file.

    >>> load_system("sqa").text.kind
    'exact'
    """
    path = catalog.find("system", name_or_path, place)
    return _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=128)
def _loaded(path: Path, _changed: int) -> System:
    """The system of a file, kept until the file changes."""
    return system_from(read(path))


def kinds() -> tuple[str, ...]:
    """The kinds of systems, in the order of the table."""
    return get_args(Kind)
