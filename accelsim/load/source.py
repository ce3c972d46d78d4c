"""A document: YAML as plain Python values, the place of every part, and its fit to a model."""

from __future__ import annotations

import copy
import gc
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_args

from accelsim import units
from accelsim.errors import Fault, InputError, Place, one_of
from accelsim.load import tree

if TYPE_CHECKING:
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)

#: Beyond these a document is refused rather than read slowly.
MOST_BYTES: Final = 4 << 20
LONGEST_LINE: Final = 10_000

#: A path into a document: keys and positions.
Steps = Sequence[str | int]

_BREAKS: Final = re.compile("\r\n|[\r\x85\u2028\u2029]")
_FORBIDDEN: Final = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class Document:
    """A YAML document: ``value`` in plain Python, and ``place`` for any path into it."""

    value: Any
    lines: list[str]
    file: str
    _root: tree.Node

    def place(self, path: Steps = (), key: bool = False, column: int | None = None) -> Place:
        r"""Where the part of the document at ``path`` begins (its key, if ``key``).

        ``column`` counts characters into the text of a scalar, whatever its
        quotes, escapes, folding or indentation in the file.  A step of the
        path that is not in the document is passed over, so the place of what
        is missing is that of what it is missing from.

        >>> d = from_text("a:\n  - 'it''s'\n")
        >>> d.place(["a", 0], column=3).line, d.place(["a", 0], column=3).column
        (2, 10)
        """
        if column is not None:
            return self.within(path, key)(column)
        return self._at(*self._find(path, key).start)

    def within(self, path: Steps, key: bool = False) -> Callable[[int], Place]:
        """``place`` of a scalar as a function of the column, for many columns of one scalar."""
        node = self._find(path, key)
        table: list[tuple[int, int]] = []

        def place(column: int) -> Place:
            if not table:
                table.extend(tree.offsets(node, self.lines))
            return self._at(*table[min(column, len(table) - 1)])

        return place

    def _find(self, path: Steps, key: bool) -> tree.Node:
        """The node at a path, as far as the path goes in the document."""
        node, owner = self._root, None
        for step in path:
            parts = node.parts
            if isinstance(parts, dict):
                if str(step) in parts:
                    owner, node = parts[str(step)]
            elif parts and isinstance(step, int) and 0 <= step < len(parts):
                node, owner = parts[step], None
        return owner if key and owner is not None else node

    def _at(self, line: int, column: int) -> Place:
        """A place from the parser's counts."""
        text = self.lines[line] if line < len(self.lines) else ""
        return Place(self.file, line + 1, column + 1, text)


def read(path: str | Path) -> Document:
    """The document in a file.  Raises ``InputError`` for a file that is not readable YAML."""
    name = str(path)
    try:
        with open(path, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError([Fault(Place(name), f"cannot be read: {reason}")]) from None
    if len(data) > MOST_BYTES:
        raise InputError([Fault(Place(name), f"more than {MOST_BYTES >> 20} MiB of text")])
    try:
        return from_text(data.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        begin = data.rfind(b"\n", 0, error.start) + 1
        end = data.find(b"\n", begin)
        line = data[begin : end if end >= 0 else len(data)].decode("utf-8", "replace")
        column = len(data[begin : error.start].decode("utf-8", "replace")) + 1
        place = Place(name, data.count(b"\n", 0, error.start) + 1, column, line[:LONGEST_LINE])
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise InputError([Fault(place, message, "text in UTF-8")]) from None


def from_text(text: str, file: str = "<text>") -> Document:
    """The document in ``text``.  Raises ``InputError`` with every fault that can be told apart.

    >>> from_text("ranks: [M, P]").value
    {'ranks': ['M', 'P']}
    """
    text = _BREAKS.sub("\n", text.removeprefix("\ufeff"))
    lines = text.split("\n")
    _refuse_characters(text, lines, file)
    if not any(line and not line.isspace() and line.lstrip()[0] != "#" for line in lines):
        raise InputError([Fault(Place(file, 1, 1), "the document is empty", "YAML")])
    collecting = gc.isenabled()
    gc.disable()  # a document is a tree: nothing to find, and looking costs more than reading
    try:
        root = tree.Reader(lines, file).read(text)
    finally:
        if collecting:
            gc.enable()
    return Document(root.value, lines, file, root)


def _refuse_characters(text: str, lines: list[str], file: str) -> None:
    """Raise if a line is too long to show, or a character is none that YAML allows."""
    faults: list[Fault] = []
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE and len(faults) < tree.MOST_FAULTS:
            place = Place(file, number, LONGEST_LINE + 1, line[: LONGEST_LINE + 1])
            message = f"a line of {len(line)} characters"
            faults.append(Fault(place, message, f"{LONGEST_LINE} characters a line"))
    if not faults and _FORBIDDEN.search(text):
        for number, line in enumerate(lines, 1):
            found = _FORBIDDEN.search(line)
            if found is not None and len(faults) < tree.MOST_FAULTS:
                place = Place(file, number, found.start() + 1, _FORBIDDEN.sub("\ufffd", line))
                message = f"character U+{ord(found[0]):04X} is not allowed in YAML"
                faults.append(Fault(place, message, "printable text"))
    if faults:
        raise InputError(faults)


class FieldError(ValueError):
    """For validators of a Pydantic model: a message, and what would be allowed."""

    def __init__(self, message: str, allowed: str = "") -> None:
        super().__init__(message)
        self.allowed = allowed


def quantity(dimension: units.Dimension) -> Any:
    """The type of a model's field that is written with a unit and kept in SI.

    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(quantity("bytes")).validate_python("228 KiB")
    233472.0
    """
    from pydantic import BeforeValidator, WithJsonSchema

    def parsed(value: object) -> float:
        try:
            return units.parse(value, dimension)
        except InputError as error:
            fault = error.faults[0]
            raise FieldError(fault.message, fault.allowed) from None

    shown = {"type": "string", "examples": units.EXAMPLES[dimension].split(", ")}
    if dimension == "count":
        shown["type"] = "number"
    return Annotated[float, BeforeValidator(parsed), WithJsonSchema(shown)]


def validate(document: Document, model: type[Model], value: Any = None) -> Model:
    """The document as a Pydantic ``model``; every misfit is a located fault of one ``InputError``.

    ``value`` stands in for ``document.value`` where the loader has rewritten
    it in the same shape.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(document.value if value is None else value)
    except ValidationError as error:
        found = error.errors(include_url=False)[: tree.MOST_FAULTS]
    gathered: dict[tuple[Place, str, str], list[str]] = {}
    for one in found:
        place, where, message, allowed = _explained(document, model, one)
        gathered.setdefault((place, where, allowed), []).append(message)
    raise InputError(
        Fault(place, where + ", or ".join(dict.fromkeys(messages)), allowed)
        for (place, where, allowed), messages in gathered.items()
    ) from None


def salvage(document: Document, model: type[Model]) -> tuple[Model | None, tuple[Fault, ...]]:
    """The document as a Pydantic ``model`` without the parts that do not fit, and their faults.

    For loaders that go on to look for faults of meaning, so that a file's
    problems are told together.  None where what is left still does not fit.
    """
    from pydantic import ValidationError

    try:
        return validate(document, model), ()
    except InputError as error:
        faults = error.faults
    rest = copy.deepcopy(document.value)
    for _ in range(2):
        try:
            return model.model_validate(rest), faults
        except ValidationError as error:
            for one in error.errors(include_url=False):
                _drop(rest, one["loc"])
    return None, faults


def _drop(value: Any, location: Iterable[str | int]) -> None:
    """Take the innermost part of ``value`` that a location leads to out of it."""
    steps: list[tuple[Any, str | int]] = []
    for step in location:
        inside = step in value if isinstance(value, dict) else False
        if isinstance(value, list) and isinstance(step, int) and step < len(value):
            inside = True
        if inside:
            steps.append((value, step))
            value = value[step]
    if steps:
        owner, step = steps[-1]
        del owner[step]


def told_once(faults: Iterable[Fault], more: Iterable[Fault]) -> InputError:
    """Faults of form and faults of meaning; of meaning only in lines that have none of form."""
    form = tuple(faults)
    lines = {f.place.line for f in form}
    return InputError([*form, *(f for f in more if f.place.line not in lines)])


def _explained(
    document: Document, model: type[BaseModel], error: Any
) -> tuple[Place, str, str, str]:
    """Place, dotted path, message and allowance of one of Pydantic's errors."""
    location, kind = error["loc"], error["type"]
    path = _within(document, location)
    last = str(location[-1]) if location else ""
    where, key, allowed = path, last == "[key]", ""
    if kind == "missing":
        message, fields = f"{last!r} is missing", _fields(model, location[:-1])
        allowed = (fields[last].description or "") if last in fields else ""
    elif kind == "extra_forbidden":
        message, where, key = f"unknown field {last!r}", path[:-1], True
        allowed = closest(last, _fields(model, location[:-1]))
    elif kind == "value_error":
        message, allowed = str(error["ctx"]["error"]), getattr(error["ctx"]["error"], "allowed", "")
    elif kind in ("model_type", "dict_type", "model_attributes_type"):
        message = f"should be a mapping of names, not {_shortly(error['input'])}"
    else:
        wanted = error["msg"].removeprefix("Input ").removeprefix("Value ")
        message = f"{wanted[0].lower()}{wanted[1:]}, not {_shortly(error['input'])}"
    return document.place(path, key), _dotted(where), message, allowed


def closest(name: str, names: Iterable[str]) -> str:
    """Allowed names for a message, with those first that look like ``name``.

    >>> closest("outptu", ["source", "output", "ranks"])
    'output? (output, ranks, source)'
    """
    import difflib  # only for a message

    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
    listed = one_of(names)
    return f"{' or '.join(near)}? ({listed})" if near else listed


def _within(document: Document, location: Steps) -> list[str | int]:
    """The steps of a location that are in the document (Pydantic adds names of union branches)."""
    value, path = document.value, []
    for step in location:
        if isinstance(value, dict) and str(step) in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            continue
        path.append(step)
    return path


def _fields(model: Any, location: Steps) -> dict[str, Any]:
    """The fields, by the name they have in a document, of the model at a location of a model."""
    found: list[Any] = [model]
    for step in (*location, None):
        models = [m for m in found if isinstance(m, type) and hasattr(m, "model_fields")]
        if step is None:
            break
        inner = [f for m in models for n, f in m.model_fields.items() if step in (n, f.alias)]
        found = _models(inner[0].annotation) if inner else found
    return {f.alias or n: f for m in models for n, f in m.model_fields.items()}


def _models(annotation: Any) -> list[Any]:
    """The classes named in an annotation: of ``dict[str, A] | list[B]`` A and B (and str)."""
    inner = get_args(annotation)
    return [m for a in inner for m in _models(a)] if inner else [annotation]


def _dotted(path: Steps) -> str:
    """A path as text: ``levels.DRAM.energy: ``; nothing for the document itself.

    >>> _dotted(["levels", 0, "energy"])
    'levels[0].energy: '
    """
    text = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path).lstrip(".")
    return text + ": " if text else ""


def _shortly(value: object) -> str:
    """A value in a message."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else repr(value)[:60]
