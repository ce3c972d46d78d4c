"""What a profiler counted, joined to the cases: ``python -m tests.gpu.counted TOLD CSV OUT``.

``on_device counters --here`` runs under the profiler, which writes one line a
kernel and metric; ``counters.json`` tells the cases and kernels in order.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from accelsim.gpu.record import read, write

METRICS = {
    "dram__bytes_read.sum": "dram_read_bytes",
    "dram__bytes_write.sum": "dram_write_bytes",
    "lts__t_bytes.sum": "l2_bytes",
    "lts__t_sectors_srcunit_tex.sum": "l2_sectors_from_sm",
    "l1tex__m_xbar2l1tex_read_bytes.sum": "to_sm_bytes",
    "l1tex__m_l1tex2xbar_write_bytes.sum": "from_sm_bytes",
    "gpu__time_duration.sum": "duration_ns",
    "sm__cycles_elapsed.max": "cycles",
    "sm__inst_executed_pipe_xu.sum": "xu_instructions",
    "smsp__inst_executed.sum": "instructions",
}
METHOD = "Nsight Compute, kernel replay, caches flushed before each kernel, clocks left alone"


def counted(path: Path) -> list[dict[str, object]]:
    """Kernels in launch order: name and metrics."""
    found: dict[int, dict[str, object]] = {}
    with path.open(newline="") as file:
        for line in csv.reader(file):
            if len(line) > 14 and line[0].isdigit():
                kernel = found.setdefault(int(line[0]), {"kernel": line[4], "grid": line[8]})
                if line[12] in METRICS:
                    kernel[METRICS[line[12]]] = int(float(line[14].replace(",", "")))
    return [found[number] for number in sorted(found)]


def main(told: Path, table: Path, out: Path) -> None:
    record, kernels = read(told), counted(table)
    rows = []
    for row in record.rows:
        mine = [kernels.pop(0) for _ in row["kernels"]]
        assert [k["kernel"] for k in mine] == row["kernels"], (mine, row)
        rows.append({"case": row["case"], "kernels": mine})
    assert not kernels, f"{len(kernels)} kernels belong to no case"
    write(out, {**record.about, "method": {"counters": METHOD}, "rows": rows})


if __name__ == "__main__":
    main(*(Path(x) for x in sys.argv[1:4]))
