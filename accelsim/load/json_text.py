"""A JSON file as plain Python values, refused where it is none."""

from __future__ import annotations

import json
from typing import Any

from accelsim.errors import Fault, InputError, Place
from accelsim.load.source import MOST_BYTES


def read_json(file: str, kind: type, allowed: str) -> Any:
    """The value in a JSON file, which must be of a kind; ``allowed`` says what is wanted.

    Raises InputError with line and column where it is not JSON.
    """
    place = Place(file)
    try:
        with open(file, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise InputError([Fault(place, f"more than {MOST_BYTES >> 20} MiB of text")])
        text = data.decode("utf-8-sig")
        value = json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError([Fault(place, f"cannot be read: {reason}", allowed)]) from None
    except json.JSONDecodeError as error:
        line = text.split("\n")[error.lineno - 1]
        place = Place(file, error.lineno, error.colno, line)
        raise InputError([Fault(place, f"not JSON: {error.msg}", allowed)]) from None
    except (ValueError, RecursionError) as error:
        raise InputError([Fault(place, f"not JSON: {error}", allowed)]) from None
    if not isinstance(value, kind):
        named = "object" if kind is dict else "array"
        raise InputError([Fault(place, f"not a JSON {named}", allowed)])
    return value


def read_counts(file: str) -> tuple[int, ...]:
    """Key tiles of every query tile, head by head: an array for each head, all as long.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w+", suffix=".json") as file:
    ...     _ = file.write("[[3, 1], [2, 2]]")
    ...     file.flush()
    ...     read_counts(file.name)
    (3, 1, 2, 2)
    """
    wanted = "an array a head of key tiles of its query tiles, as [[3, 1], [2, 2]]"
    found = read_json(file, list, wanted)
    if not found:
        raise InputError([Fault(Place(file), "no head", wanted)])
    each = len(found[0]) if isinstance(found[0], list) else 0
    for number, head in enumerate(found, 1):
        whole = isinstance(head, list) and all(type(n) is int and n > 0 for n in head)
        if not whole or len(head) != each or not each:
            message = f"head {number} is no list of {f'{each} ' * bool(each)}counts of 1 or more"
            raise InputError([Fault(Place(file), message, wanted)])
    return tuple(n for head in found for n in head)
