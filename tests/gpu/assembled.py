"""Rows of a run to its records: ``python -m tests.gpu.assembled ROWS.jsonl FOLDER [SET...]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelsim.gpu.record import write


def records(path: Path) -> dict[str, dict[str, object]]:
    """Records by set; a set that was cut off has the rows that it had."""
    found: dict[str, dict[str, object]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        if "head" in told:
            found.setdefault(told["set"], told["head"] | {"rows": []})
        else:
            found[told["set"]]["rows"].append(told["row"])
    return found


def main(path: Path, folder: Path, wanted: list[str]) -> None:
    for name, record in records(path).items():
        if (not wanted or name in wanted) and record["rows"]:
            write(folder / f"{name}.json", record)
            print(name, len(record["rows"]), "rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
