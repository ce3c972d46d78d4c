"""How a command answers: one JSON object, or Rich tables, on standard output."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import typer

from accelsim.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Columns where standard output is no terminal and COLUMNS says nothing.
WIDTH: Final = 140

DONE: Final = 0
DOES_NOT_HOLD: Final = 1
BAD_INPUT: Final = 2


def print_json(result: Mapping[str, Any]) -> None:
    """Print one object; a number that JSON has no word for (infinity) is null."""
    sys.stdout.write(json.dumps(_plain(result), indent=2, ensure_ascii=False, allow_nan=False))
    sys.stdout.write("\n")


def print_line(result: Mapping[str, Any]) -> None:
    """Print one object on one line."""
    sys.stdout.write(json.dumps(_plain(result), ensure_ascii=False, allow_nan=False) + "\n")


def print_faults(error: InputError) -> None:
    """Print what is wrong with an input as one object."""
    print_json({"faults": [fault.to_dict() for fault in error.faults]})


def _plain(value: Any) -> Any:
    """Lists, dictionaries and scalars that JSON can say.

    >>> _plain({"M": (1.5, math.inf)})
    {'M': [1.5, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_tables(tables: Iterable[RenderableType]) -> None:
    """Print tables for people, as wide as the terminal, an empty line between them."""
    from rich.console import Console

    wide = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if wide else WIDTH, highlight=False)
    for number, table in enumerate(tables):
        if number:
            console.print()
        console.print(table)


def print_text(text: str) -> None:
    """Print a text as it is."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a file, whole or not at all, and the folders that are missing; returns it."""
    from accelsim.files import write

    return write(path, text.encode())


def note(text: str) -> None:
    """Say something beside the answer, on standard error."""
    with contextlib.suppress(OSError):  # a full disk behind it: there is nobody left to tell
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def bad_input() -> NoReturn:
    """End the command with the status of bad input, its faults already told."""
    raise typer.Exit(BAD_INPUT)


def finish(holds: bool) -> NoReturn:
    """End the command: 0 where what it checked holds, else 1."""
    raise typer.Exit(DONE if holds else DOES_NOT_HOLD)
