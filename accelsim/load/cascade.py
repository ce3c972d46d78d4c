"""Cascades: a YAML document to a checked ``Cascade``, all that is wrong with it told at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from accelsim.errors import Fault, InputError, Place
from accelsim.ir import check
from accelsim.ir.cascade import Cascade, Density, Einsum, Storage, Tensor
from accelsim.ir.show import show_number
from accelsim.ir.textbook_names import SYSTEMS
from accelsim.load import catalog, einsum, syntax
from accelsim.load.source import Document, closest, from_text, read, validate

if TYPE_CHECKING:
    from accelsim.load.cascade_text import CascadeText

#: More Einsums, or a longer one, are refused rather than read slowly.
MOST_EINSUMS: Final = 2048
LONGEST_EINSUM: Final = 10_000
#: Faults after which nobody reads on.
MOST_FAULTS: Final = 300

_RANK: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RANK_FORM: Final = "an upper-case letter, then upper-case letters, digits and _"
_NAME_FORM: Final = "a letter, then letters, digits and _"

#: The textbook functions, known here so that loading a cascade need not import NumPy.
#: (One that is missing here is still found, only later.)
_TEXTBOOK: Final = SYSTEMS | frozenset((
    "softmax", "logsumexp", "attention", "attention-scaled", "attention-causal",
    "attention-window", "attention-masked", "attention-gqa", "attention-cosine",
    "linear-attention", "linear-attention-causal", "linear-attention-decay", "matmul",
    "encoder-linear-layers", "mlp", "swiglu", "variance", "layernorm", "rmsnorm",
    "rmsnorm-matmul",
))  # fmt: skip
_TEXTS: Final = ("cascade", "source", "about", "family", "output", "equals")
_LISTS: Final = ("ranks", "outputs", "einsums")
_MAPPINGS: Final = ("inputs", "split", "constants")
_NAMED: Final = ("indexes",)
_NEEDED: Final = ("cascade", "ranks", "inputs", "einsums")


def __getattr__(name: str) -> type[CascadeText]:
    """``CascadeText``, the model of the document, which few need and Pydantic makes slow."""
    if name == "CascadeText":
        from accelsim.load.cascade_text import CascadeText

        return CascadeText
    raise AttributeError(name)


def load_cascade(name_or_path: str | os.PathLike[str], place: Place | None = None) -> Cascade:
    """The cascade of that name among the shipped ones, or that of a file.

    ``place`` is where the name stands, for the message if there is none such.

    >>> load_cascade("attention-3pass").outputs
    ('AV',)
    """
    path = catalog.find("cascade", name_or_path, place)
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0
    return _loaded(path, changed)


@lru_cache(maxsize=256)
def _loaded(path: Path, _changed: int) -> Cascade:
    """The cascade of a file, kept until the file changes."""
    return cascade_from(read(path))


def cascade_from_text(text: str, file: str = "<text>") -> Cascade:
    """The cascade of a YAML text.  Raises ``InputError`` with every fault of it.

    >>> cascade_from_text('''
    ... cascade: rows
    ... ranks: [P, E]
    ... inputs: {Q: [P, E]}
    ... output: S
    ... einsums:
    ...   - S[p] = Q[p,e] :: max(e)
    ... ''').einsums[0].reductions[0].op
    'max'
    """
    return cascade_from(from_text(text, file))


def cascade_from(document: Document) -> Cascade:
    """The cascade of a document.  Raises ``InputError`` with every fault of it."""
    return _Loading(document).cascade()


@dataclass(frozen=True, slots=True)
class _Line:
    """An Einsum's text, and the place of each of its characters."""

    text: str
    at: Callable[[int], Place]


@dataclass
class _Loading:
    """One document on its way to a cascade, with the faults found so far."""

    document: Document
    faults: list[Fault] = field(default_factory=list)

    def cascade(self) -> Cascade:
        """The cascade; raises if there is any fault."""
        value, lines = self.rewritten()
        if not _fits(value):
            self.misfit(value, lines)
        names = self.names(value)
        einsums, unread = self.einsums(lines, names)
        outputs = self.outputs(value)
        self.equals(value)
        document = self.document
        found = Cascade(
            name=value["cascade"],
            ranks=tuple(names.ranks),
            inputs=tuple(Tensor(n, tuple(ranks)) for n, ranks in value["inputs"].items()),
            einsums=einsums,
            outputs=outputs,
            splits=tuple((r, tuple(parts)) for r, parts in names.splits.items()),
            constants=tuple(names.constants.items()),
            equals=value.get("equals", ""),
            source=value.get("source", ""),
            about=value.get("about", ""),
            family=value.get("family", ""),
            indexes=tuple(value.get("indexes", {}).items()),
            formats=self.formats(value.get("formats", {})),
            densities=self.densities(value.get("density", {})),
            place=document.place(("cascade",)),
        )
        self.faults += islice(check.faults(found, self.declared, unread), MOST_FAULTS)
        if self.faults:
            raise InputError(self.faults)
        return found

    def rewritten(self) -> tuple[Any, list[_Line]]:
        """The document's value with each Einsum as one text, and the lines with their places.

        YAML takes ``A = B :: max(m)`` for a key ``A = B :`` with a value.
        """
        value = self.document.value
        items = value.get("einsums") if isinstance(value, dict) else None
        if not isinstance(items, list):
            return value, []
        lines: list[_Line] = []
        texts: list[Any] = []
        for number, item in enumerate(items):
            path = ("einsums", number)
            if isinstance(item, dict) and len(item) == 1:
                (key, rest), *_ = item.items()
                if key.endswith(":") and (rest is None or isinstance(rest, str)):
                    lines.append(self.joined(path, key, rest))
                    texts.append(lines[-1].text)
                    continue
            elif isinstance(item, str):
                lines.append(_Line(item, self.document.within(path)))
            texts.append(item)
        return value | {"einsums": texts}, lines

    def joined(self, path: tuple[str | int, ...], key: str, rest: str | None) -> _Line:
        """The line that YAML has taken apart at its ``::``."""
        first = self.document.within((*path, key), key=True)
        if rest is None:
            return _Line(key + ":", first)
        second, start = self.document.within((*path, key)), len(key) + 2
        return _Line(f"{key}: {rest}", lambda n: first(n) if n < start else second(n - start))

    def misfit(self, value: Any, lines: Sequence[_Line]) -> None:
        """Raise with what does not fit the fields, and with what is no Einsum whatever they are."""
        from accelsim.load.cascade_text import CascadeText

        try:
            validate(self.document, CascadeText, value)
        except InputError as error:
            self.faults += error.faults
        for line in lines[:MOST_EINSUMS]:
            try:
                syntax.parse(line.text, line.at)
            except InputError as error:
                self.faults += error.faults
            if len(self.faults) > MOST_FAULTS:
                break
        raise InputError(self.faults or [Fault(self.document.place(), "not a cascade")])

    def names(self, value: Mapping[str, Any]) -> einsum.Names:
        """The declared names, those of a wrong form noted (and taken for what they may mean)."""
        ranks = [r for n, r in enumerate(value["ranks"]) if self.rank(r, ("ranks", n))]
        meant = {r.upper() for r in value["ranks"] if _RANK.fullmatch(r.upper())}
        ranks += sorted(meant - set(ranks))  # m for M: then m is no unknown variable
        splits = {}
        for rank, parts in value.get("split", {}).items():
            fine = [p for n, p in enumerate(parts) if self.rank(p, ("split", rank, n))]
            if self.rank(rank, ("split", rank), True) and len(fine) == len(parts):
                splits[rank] = parts
        for tensor, its in value["inputs"].items():
            self.name(tensor, ("inputs", tensor))
            for number, rank in enumerate(its):
                self.rank(rank, ("inputs", tensor, number))
        for tensor, rank in value.get("indexes", {}).items():
            self.name(tensor, ("indexes", tensor))
            self.rank(rank, ("indexes", tensor))
        constants = {}
        for name, number in value.get("constants", {}).items():
            self.name(name, ("constants", name))
            constants[name] = float(number)
            if constants[name] != constants[name]:
                self.fault(("constants", name), f"{name} is not a number", "a number, .inf")
        return einsum.Names(ranks, splits, constants)

    def formats(self, value: Mapping[str, Any]) -> tuple[Storage, ...]:
        """How tensors are stored: formats by name, with the ranks or numbers of their sizes."""
        if not value:
            return ()
        from accelsim.load.format import load_format

        found = []
        for tensor, entry in value.items():
            own = {"format": entry} if isinstance(entry, str) else entry
            place = self.document.place(("formats", tensor))
            sizes = tuple((n, r) for n, r in own.items() if n != "format")
            try:
                found.append(Storage(tensor, load_format(own["format"], place), sizes))
            except InputError as error:
                self.faults += error.faults
        return tuple(found)

    def densities(self, value: Mapping[str, Any]) -> tuple[Density, ...]:
        """Declared densities: a share, and where it comes from."""
        found = []
        for tensor, entry in value.items():
            share = float(entry["value"])
            if not 0 < share <= 1:
                path = ("density", tensor, "value")
                self.fault(path, f"a density of {show_number(share)}", "more than 0, at most 1")
                share = 1.0
            if not entry["source"].strip():
                self.fault(
                    ("density", tensor, "source"), "a density of no source", "where it is from"
                )
            found.append(Density(tensor, share, entry["source"]))
        return tuple(found)

    def rank(self, name: str, path: tuple[str | int, ...], key: bool = False) -> bool:
        """Whether a rank's name has the form of one; notes the fault if not."""
        fine = _RANK.fullmatch(name) is not None
        if not fine:
            self.fault(path, f"{name[:40]!r} is no name of a rank", _RANK_FORM, key)
        return fine

    def name(self, name: str, path: tuple[str | int, ...]) -> None:
        """Note the fault of a name of a tensor or constant that the grammar cannot read."""
        if not _NAME.fullmatch(name) or name in ("where", "and", "inf"):
            self.fault(path, f"{name[:40]!r} is no name of a tensor or constant", _NAME_FORM, True)

    def einsums(
        self, lines: Sequence[_Line], names: einsum.Names
    ) -> tuple[tuple[Einsum, ...], frozenset[str]]:
        """The Einsums that can be read, and the names that stand in the lines that cannot."""
        found: list[Einsum] = []
        unread: set[str] = set()
        if len(lines) > MOST_EINSUMS:
            path = ("einsums", MOST_EINSUMS)
            self.fault(path, f"{len(lines)} Einsums", f"{MOST_EINSUMS} Einsums in a cascade")
            raise InputError(self.faults)
        for line in lines:
            try:
                if len(line.text) > LONGEST_EINSUM:
                    message = f"an Einsum of {len(line.text)} characters"
                    raise InputError([Fault(line.at(0), message, f"{LONGEST_EINSUM} characters")])
                found.append(einsum.parse(line.text, names, line.at))
            except InputError as error:
                self.faults += error.faults
                unread |= set(_NAME.findall(line.text))
            if len(self.faults) > MOST_FAULTS:
                raise InputError(self.faults)
        return tuple(found), frozenset(unread)

    def outputs(self, value: Mapping[str, Any]) -> tuple[str, ...]:
        """The outputs, from ``output`` or from ``outputs``."""
        if "output" in value and "outputs" in value:
            self.fault(("outputs",), "'outputs' beside 'output'", "one of the two", True)
        elif not value.get("output") and not value.get("outputs"):
            self.fault((), "'output' is missing", "the tensor that the cascade computes")
        if "outputs" in value:
            return tuple(value["outputs"])
        return (value["output"],) if value.get("output") else ()

    def equals(self, value: Mapping[str, Any]) -> None:
        """Note an ``equals`` that is neither a textbook function nor a cascade."""
        name = value.get("equals", "")
        if not name or name in _TEXTBOOK:
            return
        if name == value.get("cascade"):
            self.fault(("equals",), f"{name[:60]} equals itself", "another cascade, or a function")
            return
        if name in catalog.names("cascade"):
            return
        beside = os.path.join(os.path.dirname(self.document.file), name)
        if "\0" not in name and os.path.isfile(beside):
            return
        from accelsim.ir.textbook import TEXTBOOK

        if name not in TEXTBOOK:
            allowed = closest(name, {*TEXTBOOK, *catalog.names("cascade")})
            self.fault(("equals",), f"unknown function or cascade {name[:60]!r}", allowed)

    def fault(
        self, path: tuple[str | int, ...], message: str, allowed: str, key: bool = False
    ) -> None:
        """Note a fault at a path of the document."""
        self.faults.append(Fault(self.document.place(path, key), message, allowed))

    def declared(self, path: tuple[str, ...]) -> Place:
        """The place of a declaration: of the key, except for an output, which is a value."""
        if path[0] == "outputs" and len(path) > 1:
            return self.document.place(("outputs", self.document.value["outputs"].index(path[1])))
        return self.document.place(path, key=path[0] != "output")


def _fits(value: Any) -> bool:
    """Whether ``CascadeText`` would take the value: without its cost, and without messages."""
    if not isinstance(value, dict) or not all(key in value for key in _NEEDED):
        return False
    for key, inner in value.items():
        if key in _TEXTS:
            fits = isinstance(inner, str)
        elif key in _LISTS:
            fits = isinstance(inner, list) and all(isinstance(i, str) for i in inner)
        elif key == "constants":
            fits = isinstance(inner, dict) and all(type(i) in (int, float) for i in inner.values())
        elif key == "formats":
            fits = isinstance(inner, dict) and all(map(_is_storage, inner.values()))
        elif key == "density":
            fits = isinstance(inner, dict) and all(map(_is_density, inner.values()))
        elif key in _NAMED:
            fits = isinstance(inner, dict) and all(isinstance(i, str) for i in inner.values())
        elif key in _MAPPINGS:
            lists = inner.values() if isinstance(inner, dict) else [None]
            fits = all(isinstance(i, list) and all(isinstance(r, str) for r in i) for i in lists)
        else:
            fits = False
        if not fits:
            return False
    return bool(value["cascade"])


def _is_storage(value: Any) -> bool:
    """Whether a value names a format, alone or with what its sizes are."""
    if not isinstance(value, dict):
        return isinstance(value, str)
    sizes = [v for k, v in value.items() if k != "format"]
    return isinstance(value.get("format"), str) and all(type(v) in (int, str) for v in sizes)


def _is_density(value: Any) -> bool:
    """Whether a value is a number with its source."""
    if not isinstance(value, dict) or value.keys() != {"value", "source"}:
        return False
    return type(value["value"]) in (int, float) and isinstance(value["source"], str)
