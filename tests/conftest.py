"""Properties are searched without a clock: machines are shared, and timings are benchmarks."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("accelsim", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("accelsim")
