"""Documents of other tools: YAML with tags and aliases as plain values that know their places.

Our own documents have neither (``load.tree``).  A tagged mapping keeps its tag
under the key ``!``.  Nothing is constructed but texts, numbers, truth values,
lists and dictionaries; templates are refused, since running them is not
reading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from accelsim.errors import Fault, InputError, Place

#: Beyond these a document is refused: aliases can make a short text enormous.
MOST_BYTES: Final = 4 << 20
MOST_NODES: Final = 100_000
DEEPEST: Final = 60
_TEMPLATE: Final = re.compile(r"\{%|\{\{")
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Foreign:
    """A document of another tool: its value, and the places of the parts of it."""

    value: Any
    file: str
    lines: tuple[str, ...]
    places: dict[tuple[str | int, ...], tuple[int, int]] = field(repr=False)

    def place(self, path: Sequence[str | int] = ()) -> Place:
        """Where the part at a path begins; what is not there is where it is missing from."""
        steps = tuple(path)
        while steps and steps not in self.places:
            steps = steps[:-1]
        line, column = self.places.get(steps, (0, 0))
        text = self.lines[line] if line < len(self.lines) else ""
        return Place(self.file, line + 1, column + 1, text)

    def fault(self, path: Sequence[str | int], message: str, allowed: str = "") -> Fault:
        """A finding at a path."""
        return Fault(self.place(path), message, allowed)

    def refuse(self, path: Sequence[str | int], message: str, allowed: str = "") -> InputError:
        """An error of one finding at a path."""
        return InputError([self.fault(path, message, allowed)])


@dataclass(frozen=True, slots=True)
class Imported:
    """What a document of another tool is here: a document of ours, sizes of ranks, and notes.

    Each note names one thing that has no counterpart and what became of it.
    """

    document: dict[str, Any]
    sizes: dict[str, int]
    notes: tuple[str, ...]


def read_foreign(path: str | Path) -> Foreign:
    """The document in a file.

    Raises InputError for what is no YAML, is too large, or is a template.
    """
    name = str(path)
    try:
        data = Path(path).read_bytes()[: MOST_BYTES + 1]
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError([Fault(Place(name), f"cannot be read: {reason}")]) from None
    if len(data) > MOST_BYTES:
        raise InputError([Fault(Place(name), f"more than {MOST_BYTES >> 20} MiB of text")])
    return from_text(text, name)


def from_text(text: str, file: str = "<text>") -> Foreign:
    """The document in a text.

    >>> from_text("a: !Memory {size: 2, name: no}").value
    {'a': {'!': 'Memory', 'size': 2, 'name': 'no'}}
    """
    lines = tuple(text.splitlines())
    for number, line in enumerate(lines):
        found = _TEMPLATE.search(line)
        if found is not None:
            place = Place(file, number + 1, found.start() + 1, line)
            raise InputError([Fault(place, "a template", "YAML: fill the template in first")])
    try:
        _refuse_size(text, file, lines)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        place = _place(getattr(error, "problem_mark", None), file, lines)
        reason = getattr(error, "problem", None) or "cannot be read"
        raise InputError([Fault(place, f"no YAML: {reason}")]) from None
    except (RecursionError, ValueError) as error:
        raise InputError([Fault(Place(file), f"no YAML: {error}")]) from None
    places: dict[tuple[str | int, ...], tuple[int, int]] = {}
    reader = _Reader(file, places)
    return Foreign(reader.value(node, ()), file, lines, places)


def _place(mark: Any, file: str, lines: tuple[str, ...]) -> Place:
    """The place of PyYAML's mark."""
    if mark is None:
        return Place(file)
    text = lines[mark.line] if mark.line < len(lines) else ""
    return Place(file, mark.line + 1, mark.column + 1, text)


def _refuse_size(text: str, file: str, lines: tuple[str, ...]) -> None:
    """Raise where there are too many parts to compose, or they are nested too deep to do so."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if number > MOST_NODES:
            raise InputError([Fault(Place(file), f"more than {MOST_NODES:,} keys and values")])
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(
                [
                    Fault(
                        _place(event.start_mark, file, lines),
                        "nested too deep",
                        f"{DEEPEST} levels",
                    )
                ]
            )


class _Reader:
    """Turns nodes into plain values."""

    def __init__(self, file: str, places: dict[tuple[str | int, ...], tuple[int, int]]) -> None:
        self.file, self.places, self.left = file, places, MOST_NODES

    def value(self, node: yaml.Node | None, path: tuple[str | int, ...]) -> Any:
        """The value of a node."""
        self.left -= 1
        if self.left < 0 or len(path) > DEEPEST:
            raise InputError([Fault(Place(self.file), "too large when its aliases are followed")])
        if node is None:
            return None
        self.places[path] = (node.start_mark.line, node.start_mark.column)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, n)) for n, child in enumerate(node.value)]
        found: dict[str, Any] = {}
        if node.tag.startswith("!"):
            found["!"] = node.tag[1:]
        for key, child in node.value:
            name = str(key.value)
            inner = self.value(child, (*path, name))
            if name == "<<":
                for part in inner if isinstance(inner, list) else [inner]:
                    found.update({k: v for k, v in dict(part).items() if k not in found})
            else:
                self.places[*path, name] = (key.start_mark.line, key.start_mark.column)
                found[name] = inner
        return found


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    """A number where the plain text is one, a truth value, None, or the text."""
    text = str(node.value)
    if node.style in ("'", '"'):
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if text in ("", "~", "null"):
        return None
    return {"true": True, "false": False, "True": True, "False": False}.get(text, text)
