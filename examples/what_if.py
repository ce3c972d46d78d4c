"""What if the memory were faster?  The verbs of the command line, as Python functions.

Run it with ``python examples/what_if.py``.
"""

import accelsim

WORKLOAD = {"model": "BERT", "seq": "64K"}

for gibibytes in (25, 50, 100, 200, 400):
    found = accelsim.estimate(
        design="fusemax", sets=[f"dram.bandwidth={gibibytes} GiB/s"], **WORKLOAD
    )
    print(f"{gibibytes:4} GiB/s: {found.latency_s:7.3f} s, bound by {found.bound_by}")
