"""Recorded measurements: one JSON file a run, read back without a GPU.

A file under ``validation/runs/<gpu>/`` holds the device, its limits and
versions, how things were measured, and rows.  What a row holds depends on
``what`` the record is of; every row of a kernel says its case, what it was
compiled to, its check against float64, and its times in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from accelsim import files
from accelsim.errors import Fault, InputError, Place

#: Written into every record; a reader refuses another one.
SCHEMA: Final = "accelsim-gpu-run/1"
_NEEDED: Final = ("what", "made", "device", "board", "versions", "method", "rows")


@dataclass(frozen=True, slots=True)
class Record:
    """A file of measurements: what of, on which device, and the rows."""

    what: str
    device: Mapping[str, Any]
    about: Mapping[str, Any]  # all but the rows
    rows: tuple[Mapping[str, Any], ...]


def fields(value: Any) -> Any:
    """A dataclass as a dictionary, ``None`` as it is.

    >>> fields(None) is None
    True
    """
    return None if value is None else asdict(value)


def document(what: str, rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The record of rows just measured on the GPU that is here."""
    from accelsim.gpu import measure
    from accelsim.gpu.device import device, versions

    return {
        "schema": SCHEMA,
        "what": what,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device().as_dict(),
        "board": measure.board().state(),
        "versions": versions(),
        "method": measure.METHOD,
        **more,
        "rows": rows,
    }


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON, one row a line."""
    head = {k: v for k, v in record.items() if k != "rows"}
    lines = ",\n".join(json.dumps(row) for row in record["rows"])
    text = json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n{lines}\n ]\n}}\n'
    files.write(path, text.encode())


def read(path: Path) -> Record:
    """The record in a file; ``InputError`` where it is not one."""
    place = Place(str(path))
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError([Fault(place, f"cannot be read: {error.strerror}")]) from error
    except ValueError as error:
        raise InputError([Fault(place, f"is not JSON: {error}")]) from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise InputError([Fault(place, f"is not a record of a GPU run ({schema!r})", SCHEMA)])
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise InputError([Fault(place, f"a record without {', '.join(missing)}")])
    about = {k: v for k, v in found.items() if k != "rows"}
    return Record(found["what"], found["device"], about, tuple(found["rows"]))
