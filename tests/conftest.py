"""How properties are searched: without a clock, and the same cases each time unless asked.

Machines are shared, so no property has a deadline; timings are benchmarks.  CI tries the
same examples in every run, so that its answer depends on the code alone; new examples are
drawn by `make test-long`, which sets ``ACCELSIM_RANDOM=1`` and keeps what failed.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "accelsim",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="ACCELSIM_RANDOM" not in os.environ,
)
settings.load_profile("accelsim")
