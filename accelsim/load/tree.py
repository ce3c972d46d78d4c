"""A YAML text as a tree whose every node knows where it stands, built without recursion.

Read by a loop over parser events (libyaml's where PyYAML has it), so that
neither depth nor length of a document costs recursion.  The scalars are those
of YAML 1.2's core schema: ``no`` is a word and ``1e-5`` a number.  Keys are
text.  Anchors, aliases and tags are refused: a document says what it means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import yaml

from accelsim.errors import Fault, InputError, Place

#: A document nested deeper is refused.
DEEPEST: Final = 64
#: Parts of a document, and faults after which nobody reads on.
MOST_NODES: Final = 200_000
MOST_FAULTS: Final = 100

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER: Final = re.compile(
    r"(?P<int>[-+]?[0-9]+)|0x(?P<hex>[0-9a-fA-F]+)|0o(?P<oct>[0-7]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<special>[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
)
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_ESCAPES: Final = {"n": "\n", "t": "\t", " ": " ", "_": "\xa0", "N": "\x85", "L": "\u2028"} | {
    "P": "\u2029",
    "r": "\r",
    "v": "\v",
    "f": "\f",
}
_DIGITS: Final = {"x": 2, "u": 4, "U": 8}

#: What the YAML parsers say, in words of ours, and what is allowed there.
_PROBLEMS: Final[tuple[tuple[str, str, str], ...]] = (
    (r"expected ',' or '\]'", "a list is not closed here", "',' or ']'"),
    (r"expected ',' or '\}'", "a mapping is not closed here", "',' or '}'"),
    (r"mapping values are not allowed", "a ':' inside plain text", "quotes around the text"),
    (r"expected ':'", "this line is neither 'key: value' nor '- item'", "'key: value', '- item'"),
    (r"expected key|expected <block end>", "this does not line up with what it belongs to", ""),
    (r"expected '-' indicator", "this does not line up with the items above", "'- item'"),
    (r"cannot start any token", "a character that cannot begin a value", "quotes around the text"),
    (r"end of stream", "a quote is not closed", "a closing quote"),
    (r"expected <document start>", "text after the end of the document", "one document a file"),
)


@dataclass(slots=True)
class Node:
    """A part of the document: its plain value, where it stands, its children by key or position."""

    value: Any
    start: tuple[int, int]  # line and column from 0, as the parser counts
    end: tuple[int, int]
    style: str = ""  # of a scalar: "", "'", '"', "|" or ">"
    parts: list[Node] | dict[str, tuple[Node, Node]] | None = None  # of a mapping: key and value


class Reader:
    """Builds the tree of nodes from parser events, with the containers that are open on a list."""

    def __init__(self, lines: list[str], file: str) -> None:
        self.lines, self.file = lines, file
        self.faults: list[Fault] = []
        self.open: list[Node] = []  # containers, outermost first
        self.keys: list[Node | None] = []  # for each container the key that waits for its value
        self.root: Node | None = None
        self.left = MOST_NODES

    def read(self, text: str) -> Node:
        """The root node of the one document in ``text``."""
        documents = 0
        try:
            for event in yaml.parse(text, Loader=_LOADER):
                self.event(event)
                documents += isinstance(event, yaml.DocumentStartEvent)
                if documents > 1:
                    self.stop(event, "a second document", "one document a file")
        except yaml.MarkedYAMLError as error:
            self.faults += self.explained(error)
        except yaml.YAMLError as error:
            self.faults.append(Fault(Place(self.file), f"not YAML: {error}".splitlines()[0]))
        if self.faults:
            raise InputError(self.faults)
        if self.root is None or self.root.value is None:
            raise InputError([Fault(Place(self.file, 1, 1), "the document is empty", "YAML")])
        return self.root

    def event(self, event: yaml.Event) -> None:
        """Take one event: add a scalar, open a container or close one."""
        if isinstance(event, yaml.ScalarEvent):
            self.refuse_marks(event)
            self.add(self.scalar(event), event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self.refuse_marks(event)
            mapping = isinstance(event, yaml.MappingStartEvent)
            start = _position(event.start_mark)
            node = Node({}, start, start, parts={}) if mapping else Node([], start, start, parts=[])
            self.add(node, event)
            self.open.append(node)
            self.keys.append(None)
            if len(self.open) > DEEPEST:
                self.stop(event, f"nested deeper than {DEEPEST}", "a flatter document")
        elif isinstance(event, yaml.CollectionEndEvent):
            self.open.pop().end = _position(event.end_mark)
            self.keys.pop()
        elif isinstance(event, yaml.AliasEvent):
            self.stop(event, f"an alias, '*{event.anchor}'", "the value written out")

    def add(self, node: Node, event: yaml.Event) -> None:
        """Put a node into the container that is open, as an item, a key or a key's value."""
        self.left -= 1
        if self.left < 0:
            self.stop(event, f"more than {MOST_NODES:,} keys and values", "a shorter document")
        if not self.open:
            self.root = node
            return
        owner = self.open[-1]
        if isinstance(owner.parts, list):
            owner.parts.append(node)
            owner.value.append(node.value)
            return
        parts, key = owner.parts, self.keys[-1]
        assert parts is not None
        if key is not None:
            self.keys[-1] = None
            if key.value not in parts:
                parts[key.value] = (key, node)
                owner.value[key.value] = node.value
            return
        if not isinstance(event, yaml.ScalarEvent):
            self.stop(event, "a key that is a list or a mapping", "a word as the key")
        node.value = event.value
        self.keys[-1] = node
        if event.value in parts:
            first = parts[event.value][0].start[0] + 1
            self.fault(node, f"{event.value!r} is given twice", f"once (it is in line {first})")

    def scalar(self, event: yaml.ScalarEvent) -> Node:
        """The node of a scalar, with its value by YAML 1.2's core schema."""
        start, end = _position(event.start_mark), _position(event.end_mark)
        node = Node(event.value, start, end, event.style or "")
        if event.implicit[0] and (event.value[:1] in "-+.0123456789~ntfNTF"):
            if event.value in _WORDS:
                node.value = _WORDS[event.value]
            elif found := _NUMBER.fullmatch(event.value):
                if len(event.value) > 400:
                    self.fault(node, f"a number of {len(event.value)} digits", "400 digits")
                else:
                    node.value = _number(found)
        return node

    def refuse_marks(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        """Note the fault of an anchor or a tag."""
        if event.anchor is not None:
            self.stop(event, f"an anchor, '&{event.anchor}'", "the value written out")
        if event.tag is not None:
            self.stop(event, f"a tag, {event.tag!r}", "a plain value")

    def fault(self, node: Node, message: str, allowed: str) -> None:
        """Note a fault at a node and read on."""
        line, column = node.start
        self.faults.append(
            Fault(Place(self.file, line + 1, column + 1, self.lines[line]), message, allowed)
        )
        if len(self.faults) >= MOST_FAULTS:
            raise InputError(self.faults)

    def stop(self, event: yaml.Event, message: str, allowed: str) -> NoReturn:
        """Raise all faults so far and this one, after which reading on makes no sense."""
        start = _position(event.start_mark)
        self.fault(Node(None, start, start), message, allowed)
        raise InputError(self.faults)

    def explained(self, error: yaml.MarkedYAMLError) -> list[Fault]:
        """The parser's complaint in words of ours; for a tab, every line that begins with one."""
        mark, context = error.problem_mark or error.context_mark, error.context_mark
        line = min(mark.line if mark else 0, len(self.lines) - 1)
        column = mark.column if mark and mark.line == line else len(self.lines[line])
        tabbed = re.compile(r" *\t")
        if tabbed.match(self.lines[line]):
            found = ((n, tabbed.match(text)) for n, text in enumerate(self.lines, 1))
            message, allowed = "a tab in the indentation", "spaces"
            return [
                Fault(Place(self.file, n, m.end(), self.lines[n - 1]), message, allowed)
                for n, m in found
                if m
            ][:MOST_FAULTS]
        problem = error.problem or "not YAML"
        message, allowed = problem, ""
        for pattern, ours, wanted in _PROBLEMS:
            if re.search(pattern, problem):
                message, allowed = ours, wanted
                break
        if context and (context.line, context.column) != (line, column):
            message += f" (it begins in line {context.line + 1}, column {context.column + 1})"
        return [Fault(Place(self.file, line + 1, column + 1, self.lines[line]), message, allowed)]


def _position(mark: Any) -> tuple[int, int]:
    """Line and column of a parser's mark, from 0."""
    return mark.line, mark.column


def _number(found: re.Match[str]) -> int | float:
    """The number that a plain scalar spells."""
    text = found[0]
    match found.lastgroup:
        case "int":
            return int(text)
        case "hex" | "oct" as base:
            return int(found[base], 16 if base == "hex" else 8)
        case "special":
            return float(text.replace(".", ""))
        case _:
            return float(text)


def offsets(node: Node, lines: Sequence[str]) -> list[tuple[int, int]]:
    """Line and column of each character of a scalar's value, and of its end.

    Characters of the value that are not white space stand in the file in
    the same order, whatever happens to the white space between them.
    """
    text = node.value if isinstance(node.value, str) else ""
    line, column = node.start
    if not node.style and line == node.end[0]:
        return [(line, column + n) for n in range(len(text) + 1)]
    there = (c for c in _characters(node, lines) if not c[3].isspace())
    found: list[tuple[int, int]] = []
    for character in text:
        if not character.isspace():
            line, at, width, _ = next(there, (line, column, 0, ""))
            found.append((line, at))
            column = at + width
        else:
            found.append((line, column))
            column = min(column + 1, len(lines[line]))
    return [*found, (line, column)]


def _characters(node: Node, lines: Sequence[str]) -> Iterator[tuple[int, int, int, str]]:
    r"""Characters of a scalar in the file: line, column, width there, and what each stands for.

    >>> node = Node("Ab", (0, 0), (0, 7), '"')
    >>> list(_characters(node, [r'"\x41b"']))
    [(0, 1, 4, 'A'), (0, 5, 1, 'b')]
    """
    quote = node.style in ("'", '"')
    (first, column), (last, end) = node.start, node.end
    for line in range(first, min(last + 1, len(lines))):
        text = lines[line]
        if line == first and node.style in ("|", ">"):
            continue
        i = column + quote if line == first else 0
        stop = end - quote if line == last else len(text)
        while i < stop:
            width, character = 1, text[i]
            if node.style == "'" and text.startswith("''", i):
                width = 2
            elif node.style == '"' and character == "\\":
                width, character = _escape(text[i + 1 :])
            yield line, i, width, character
            i += width


def _escape(rest: str) -> tuple[int, str]:
    """Width and meaning of the escape in double quotes whose text after the backslash is given."""
    digits = _DIGITS.get(rest[:1], 0)
    if digits:
        return 2 + digits, chr(int(rest[1 : 1 + digits], 16))
    return (2, _ESCAPES.get(rest[0], "x")) if rest else (1, " ")  # the last: a joined line
