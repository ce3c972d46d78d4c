"""How tests run: as wide as no terminal is, properties without a clock, the same cases each time.

Machines are shared, so no property has a deadline; timings are benchmarks.  CI tries the
same examples in every run, so that its answer depends on the code alone; new examples are
drawn by `make test-long`, which sets ``ACCELSIM_RANDOM=1`` and keeps what failed.  What a
terminal or a library says of its width does not reach the tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "accelsim",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="ACCELSIM_RANDOM" not in os.environ,
)
settings.load_profile("accelsim")


@pytest.fixture(autouse=True)
def _no_terminal() -> Iterator[None]:
    """A test that wants a width says so."""
    with pytest.MonkeyPatch.context() as patch:  # not the test's own, which is undone later then
        patch.delenv("COLUMNS", raising=False)
        yield
