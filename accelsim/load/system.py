"""System files: a published system, what it is made of, and how sure each part of that is.

A system names cascades and sizes; passes, operations and traffic are computed
from those, and stand in no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, get_args

from accelsim.errors import Fault, InputError, Place, refuse
from accelsim.ir.cascade import Access, Cascade, Einsum, accesses
from accelsim.ir.format import Format, bits_per_element, bits_read
from accelsim.ir.rule import MOST, Rule, rule, shown
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from accelsim.load.format import load_format
from accelsim.load.source import Document, closest, read, validate
from accelsim.load.system_text import (
    KernelText,
    Kind,
    Number,
    PartText,
    PhaseText,
    StoredText,
    SystemText,
)
from accelsim.load.workload import MODELS

#: The length of the sequence in rules of sizes and shares.
LENGTH: Final = "N"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A GPU kernel at sizes and with options given by rules."""

    name: str
    shape: tuple[tuple[str, Rule], ...]
    sets: tuple[tuple[str, Rule | bool], ...]
    times: Rule


@dataclass(frozen=True, slots=True)
class Part:
    """A cascade at sizes given by rules; see ``PartText``."""

    cascade: str
    sizes: tuple[tuple[str, Rule], ...]
    times: Rule
    estimation: tuple[str, ...]
    bits: tuple[tuple[str, Rule], ...]
    density: tuple[tuple[str, Rule, str], ...]
    visits: Rule | None
    summaries: tuple[str, ...]
    key: str
    value: str
    rank: str
    place: Place
    kernels: tuple[Kernel, ...] = ()
    around: tuple[str, ...] = ()
    estimators: tuple[Kernel, ...] = ()
    bound: str = ""
    units: tuple[tuple[str, tuple[str, ...]], ...] = ()
    layers: Rule | None = None


@dataclass(frozen=True, slots=True)
class Phase:
    """Prefill or decode."""

    name: str
    about: str
    parts: tuple[Part, ...]
    dense: Part


@dataclass(frozen=True, slots=True)
class Stored:
    """How a tensor is stored, with the bits an element that the paper implies."""

    name: str
    tensor: str
    format: Format
    sizes: tuple[tuple[str, Rule], ...]
    published: float | None
    within: float
    source: str

    def bits(self, scope: Mapping[str, Any]) -> float:
        """Bits an element, metadata included, with the numbers that ``scope`` names.

        >>> load_system("luq").formats[-1].bits({})
        4.15625
        """
        return bits_per_element(self.format, self.bound(scope))

    def read(self, scope: Mapping[str, Any]) -> float:
        """Bits an element that are read when all of the tensor is read once."""
        return bits_read(self.format, self.bound(scope))

    def bound(self, scope: Mapping[str, Any]) -> dict[str, int]:
        """The sizes that the format is given in.  Raises InputError for one below 1."""
        return {name: whole(r, scope, f"size {name}") for name, r in self.sizes}


@dataclass(frozen=True)
class System:
    """A published system; ``text`` holds what is said in words, and the parameters' sources."""

    name: str
    text: SystemText
    phases: tuple[Phase, ...]
    formats: tuple[Stored, ...]
    variants: tuple[tuple[str, Phase], ...] = ()

    @property
    def parameters(self) -> dict[str, int | float]:
        """The system's numbers by name."""
        return {name: p.value for name, p in self.text.parameters.items()}


def whole(rule_of: Rule, scope: Mapping[str, Any], what: str) -> int:
    """A rule's value as a whole number of 1 or more.  Raises InputError at its place.

    >>> whole(rule("N / 2"), {"N": 8}, "P")
    4
    """
    value = rule_of.value(scope)
    if isinstance(value, str) or not 1 <= value <= MOST:
        raise refuse(f"{what} is {shown(value)}", "1 or more", rule_of.place)
    return int(value)


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
    if text.hardware is not None:
        try:
            catalog.find("arch", text.hardware.arch, document.place(("hardware", "arch")))
        except InputError as error:
            loading.faults += error.faults
    phases = tuple(loading.phase(p, ("phases", n)) for n, p in enumerate(text.phases))
    variants = tuple(
        (p.variant, loading.phase(p, ("variants", n))) for n, p in enumerate(text.variants)
    )
    formats = tuple(loading.stored(f, ("formats", n)) for n, f in enumerate(text.formats))
    if loading.faults:
        raise InputError(loading.faults)
    return System(text.system, text, phases, formats, variants)


class _Loading:
    """Rules and cascades of one document, with the faults found on the way."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults: list[Fault] = []

    def rule(self, text: Number, path: tuple[str | int, ...]) -> Rule:
        """A rule, or 1 where it cannot be read."""
        try:
            return rule(text, self.document.place(path))
        except InputError as error:
            self.faults += error.faults
            return rule(1)

    def rules(
        self, texts: Mapping[str, Number], path: tuple[str | int, ...]
    ) -> tuple[tuple[str, Rule], ...]:
        """Rules by name."""
        return tuple((name, self.rule(text, (*path, name))) for name, text in texts.items())

    def phase(self, text: PhaseText, path: tuple[str | int, ...]) -> Phase:
        """A phase: its parts, and dense attention."""
        parts = (self.part(part, (*path, "parts", k)) for k, part in enumerate(text.parts))
        return Phase(text.phase, text.about, tuple(parts), self.part(text.dense, (*path, "dense")))

    def part(self, text: PartText, path: tuple[str | int, ...]) -> Part:
        """A part, whose cascade must exist and have the names that the part uses."""
        place = self.document.place((*path, "cascade"))
        try:
            cascade = load_cascade(text.cascade, place)
            names = {t.name for t in cascade.inputs} | set(cascade.outputs)
            known = {
                "estimation": (text.estimation, set(cascade.steps), "Einsum"),
                "around": (text.around, set(cascade.steps), "Einsum"),
                "units": (list(text.units), set(cascade.steps), "Einsum"),
                "bits": (list(text.bits), set(cascade.tensors), "tensor"),
                "summaries": (text.summaries, names, "input or output"),
                "density": (list(text.density), set(cascade.tensors), "tensor"),
                "rank": ([text.rank], {*cascade.ranks, *cascade.whole}, "rank"),
            }
            for field, (used, allowed, what) in known.items():
                for number, name in enumerate(used):
                    if name not in allowed:
                        step: tuple[str | int, ...] = (name,)
                        named = field in ("bits", "density", "units")
                        at = step if named else (number,)
                        where = self.document.place(
                            (*path, field, *(at if field != "rank" else ())),
                            field in ("bits", "units"),
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
            tuple(
                (name, self.rule(d.value, (*path, "density", name, "value")), d.source)
                for name, d in text.density.items()
            ),
            None if text.visits is None else self.rule(text.visits, (*path, "visits")),
            tuple(text.summaries),
            text.key,
            text.value,
            text.rank,
            place,
            self.kernels(text.kernel, (*path, "kernel")),
            tuple(text.around),
            self.kernels(text.estimator, (*path, "estimator")),
            text.bound,
            tuple((name, tuple(units)) for name, units in text.units.items()),
            self.rule(text.layers, (*path, "layers")),
        )

    def kernels(
        self, texts: KernelText | list[KernelText], path: tuple[str | int, ...]
    ) -> tuple[Kernel, ...]:
        """A kernel, or several one behind the other."""
        if isinstance(texts, KernelText):
            return (self.kernel(texts, path),)
        return tuple(self.kernel(text, (*path, n)) for n, text in enumerate(texts))

    def kernel(self, text: KernelText, path: tuple[str | int, ...]) -> Kernel:
        """A kernel, which must be described."""
        try:
            catalog.find("kernel", text.name, self.document.place((*path, "name")))
        except InputError as error:
            self.faults += error.faults
        options = tuple(
            (name, option if isinstance(option, bool) else self.rule(option, (*path, "sets", name)))
            for name, option in text.sets.items()
        )
        shape = self.rules(text.shape, (*path, "shape"))
        return Kernel(text.name, shape, options, self.rule(text.times, (*path, "times")))

    def stored(self, text: StoredText, path: tuple[str | int, ...]) -> Stored:
        """A stored tensor with its format, which must exist."""
        found = Format(text.format, ())
        try:
            found = load_format(text.format, self.document.place((*path, "format")))
        except InputError as error:
            self.faults += error.faults
        return Stored(
            text.name,
            text.tensor,
            found,
            self.rules(text.sizes, (*path, "sizes")),
            text.published,
            text.within,
            text.source,
        )


def system_of_cascade(cascade: Cascade, shape: Mapping[str, int]) -> System:
    """A system of one's own from a cascade alone, in one part: N queries over N keys.

    ``shape`` gives the sizes that neither the length nor the model gives.
    Where P is 1 there, or outputs have neither P nor M, it is decoding of one
    token.  Estimation is what decides masks and indices of other Einsums.  It stands beside
    attention in one pass, causal in prefill.

    >>> found = system_of_cascade(load_cascade("quest"), {"M0": 16, "R": 64})
    >>> found.phases[0].name, found.phases[0].parts[0].estimation
    ('decode', ('S', 'SG', 'SF', 'I'))
    """
    along = {cascade.whole.get(r, r) for name in cascade.outputs for r in cascade.tensors[name]}
    decode = shape.get("P", 0) == 1 or not along & {"P", "M"}
    own: dict[str, Number] = {rank: LENGTH for rank in ("P", "M") if rank in cascade.ranks}
    text = SystemText(
        system=cascade.name,
        title=cascade.name,
        sure="not published",
        kind="not published",
        about=cascade.about,
    )

    def part(name: str, sizes: Mapping[str, Number], estimation: tuple[str, ...] = ()) -> Part:
        rules = tuple((rank, rule(size)) for rank, size in sizes.items())
        one = rule(1)
        return Part(name, rules, one, estimation, (), (), None, (), "K", "V", "M", cascade.place)

    dense = "attention-gqa-1pass" if decode else "attention-causal-1pass"
    grouped: dict[str, Number] = {"HK": "H"} if decode and "HK" not in cascade.ranks else {}
    if grouped and "G" in shape:
        grouped = {"HK": f"H / {shape['G']}"}
    phase = Phase(
        "decode" if decode else "prefill",
        "",
        (part(cascade.place.file, own | dict(shape), _choosing(cascade)),),
        part(dense, {"P": 1 if decode else LENGTH, "M": LENGTH} | grouped),
    )
    return System(cascade.name, text, (phase,), ())


def _choosing(cascade: Cascade) -> tuple[str, ...]:
    """Einsums whose only use is to decide masks or indices of others, in text order."""
    asked: dict[str, None] = {}
    for einsum in cascade.einsums:
        for access in (einsum.output, *einsum.reads):
            asked |= dict.fromkeys(at.tensor for at in access.indices if isinstance(at, Access))
        named = {a.tensor for a in accesses(einsum.expr)}
        asked |= dict.fromkeys(a.tensor for a in einsum.reads if a.tensor not in named)
    direct = {e.name for e in cascade.einsums if e.output.tensor in asked}
    found = set(direct)
    for einsum in reversed(cascade.einsums):
        readers = {e.name for e in cascade.einsums if einsum.output.tensor in _read(e)}
        if readers and readers <= found | {einsum.name}:
            found.add(einsum.name)
    return tuple(e.name for e in cascade.einsums if e.name in found)


def _read(einsum: Einsum) -> set[str]:
    return {a.tensor for a in einsum.reads}


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
