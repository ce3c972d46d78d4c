"""What is wrong with an input: where, what, and what would be allowed.

A ``Fault`` is one finding in one place of one document.  Checks collect all
the faults of a document and raise them together as one ``InputError``, which
the command line prints and turns into exit status 2.  Nothing else in
accelsim is raised for bad input.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: A source line longer than this is shown as a window around the caret.
LONGEST_SHOWN = 160
#: Faults that a message tells; the others are counted.
MOST_TOLD = 100


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a text: file name, line and column, both from 1 (0: the whole file)."""

    file: str = "<input>"
    line: int = 0
    column: int = 0
    text: str = ""  # the source line, for the caret

    def moved(self, columns: int) -> Place:
        """The place ``columns`` further right on the same line.

        >>> Place("a.yaml", 3, 5, "abc").moved(2).column
        7
        """
        return Place(self.file, self.line, self.column + columns, self.text)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One finding: its place, what was wrong, and what is allowed there (may be empty)."""

    place: Place
    message: str
    allowed: str = ""

    def __str__(self) -> str:
        """The finding in the form ``file:line:column: message``, source line and caret below.

        >>> print(Fault(Place("a.yaml", 2, 3, "x: [1"), "unbalanced '['", "']'"))
        a.yaml:2:3: unbalanced '['
          x: [1
            ^
          allowed: ']'
        """
        where = self.place
        head = where.file if not where.line else f"{where.file}:{where.line}:{where.column}"
        lines = [f"{head}: {self.message}"]
        if where.line and where.text.strip():
            text, column = where.text.replace("\t", " "), max(where.column, 1)
            start = max(0, column - LONGEST_SHOWN // 2) if len(text) > LONGEST_SHOWN else 0
            lines.append("  " + text[start : start + LONGEST_SHOWN])
            lines.append("  " + " " * (column - 1 - start) + "^")
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, str | int]:
        """The finding as a JSON object: where (line and column from 1, 0 for all), what, allowed.

        >>> Fault(Place("a.yaml", 2, 3, "x: [1"), "unbalanced '['", "']'").to_dict()["line"]
        2
        """
        return {
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "message": self.message,
            "allowed": self.allowed,
        }


class InputError(Exception):
    """Bad input.  Carries every fault that was found, in document order."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(set(faults)))
        told = [str(fault) for fault in self.faults[:MOST_TOLD]]
        if len(self.faults) > MOST_TOLD:
            told.append(f"and {len(self.faults) - MOST_TOLD} more")
        super().__init__("\n".join(told))


def refuse(message: str, allowed: str = "", place: Place | None = None) -> InputError:
    """An ``InputError`` of one fault, for input that has no document (a command-line value)."""
    return InputError([Fault(place or Place("<command line>"), message, allowed)])


def one_of(names: Iterable[str], most: int = 24) -> str:
    """A readable list of allowed names, cut after ``most``.

    >>> one_of(["b", "a"])
    'a, b'
    """
    ordered: Sequence[str] = sorted(names)
    shown = ", ".join(ordered[:most])
    return shown + (f", ... ({len(ordered)} in all)" if len(ordered) > most else "")
