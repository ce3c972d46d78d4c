"""What a profiler counted, joined to the cases: ``python -m tests.gpu.counted TOLD CSV OUT``.

``on_device counters --here`` runs under the profiler, which writes one line a
kernel and metric; ``counters.json`` tells the cases and kernels in order.
"""

from __future__ import annotations

import sys
from pathlib import Path

from accelsim.gpu.counters import METHOD, table
from accelsim.gpu.record import read, write


def main(told: Path, lines: Path, out: Path) -> None:
    record, kernels = read(told), table(lines.read_text(encoding="utf-8").splitlines())
    rows = []
    for row in record.rows:
        mine = [kernels.pop(0) for _ in row["kernels"]]
        assert [k["kernel"] for k in mine] == row["kernels"], (mine, row)
        rows.append({"case": row["case"], "kernels": mine})
    assert not kernels, f"{len(kernels)} kernels belong to no case"
    write(out, {**record.about, "method": {"counters": METHOD}, "rows": rows})


if __name__ == "__main__":
    main(*(Path(x) for x in sys.argv[1:4]))
