"""Rows of results as a file: JSON, CSV or Parquet, each with the version of its columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from accelsim.errors import refuse
from accelsim.files import write

#: Version of the columns of exported rows.
SCHEMA: Final = 1
ENDINGS: Final = (".csv", ".json", ".parquet")


def flat(row: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A row with the parts of its mappings as columns of their own; lists are left out.

    >>> flat({"latency_s": 1.0, "traffic_bytes": {"dram": 2.0}, "einsums": []})
    {'latency_s': 1.0, 'traffic_bytes.dram': 2.0}
    """
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{above}{name}."))
        elif not isinstance(value, list | tuple):
            found[above + name] = value
    return found


def write_rows(rows: Sequence[Mapping[str, Any]], target: str | Path) -> Path:
    """Write rows in the format that the ending of ``target`` says, whole or not at all.

    Every row has a column ``schema``; what a row lacks is empty.  Raises
    InputError for another ending.
    """
    path = Path(target)
    if path.suffix not in ENDINGS:
        raise refuse(f"no rows in the format of {path}", ", ".join(ENDINGS))
    table = [{"schema": SCHEMA, **flat(row)} for row in rows]
    names = list(dict.fromkeys(name for row in table for name in row))
    if path.suffix == ".json":
        data = json.dumps({"schema": SCHEMA, "rows": list(rows)}, indent=2).encode() + b"\n"
    elif path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([row.get(name) for name in names] for row in table)
        data = text.getvalue().encode()
    else:
        arrow, parquet = pyarrow()
        columns = {name: [row.get(name) for row in table] for name in names}
        sink = io.BytesIO()
        parquet.write_table(arrow.table(columns), sink, compression="zstd")
        data = sink.getvalue()
    return write(path, data)


def pyarrow() -> tuple[Any, Any]:
    """PyArrow and its Parquet module.  Raises InputError where it is not installed."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise refuse("Parquet needs PyArrow", "pip install 'accelsim[sweep]'") from None
    return arrow, parquet
