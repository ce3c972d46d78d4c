"""What holds of the price of any mapping: bounds, and that more of anything is never slower."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.ir.arch import Architecture, Level
from accelsim.ir.mapping import leaves
from accelsim.models.estimate import Estimate, estimate
from accelsim.models.latency import busy, cycles_a_point
from accelsim.models.nest import Nest
from tests.models.nests import Case, cases

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
PLAIN = ("matmul", "batched", "siblings", "chain", "softmax", "running")


def machine(case: Case, bandwidth: float, pes: int) -> Architecture:
    levels = tuple(
        Level(v.name, bandwidth=bandwidth * scale, read_energy_j=1.0, write_energy_j=2.0)
        for v, scale in zip(case.arch.levels, (1.0, 4.0, 16.0), strict=True)
    )
    units = tuple(replace(u, rows=u.rows * pes, cols=u.cols * pes) for u in case.arch.units)
    return Architecture("any", 1.0, 2.0, levels, units)


@QUIET
@given(cases(PLAIN, 3), st.sampled_from([0.1, 1.0, 10.0]), st.sampled_from([2, 3, 5]))
def test_more_of_anything_is_never_slower(case: Case, bandwidth: float, more: int) -> None:
    def latency(bandwidth: float, pes: int) -> Estimate:
        return estimate(case.problem, machine(case, bandwidth, pes), case.mapping)

    base = latency(bandwidth, 1)
    assert latency(bandwidth * more, 1).latency_s <= base.latency_s
    wide = machine(case, bandwidth, more)
    for group in case.mapping.groups:
        nest = Nest(case.problem, case.mapping, group)
        before = {b.einsum: b.cycles for b in busy(nest, case.arch)}
        assert all(b.cycles <= before[b.einsum] for b in busy(nest, wide))


@QUIET
@given(cases(PLAIN, 3), st.sampled_from([0.1, 1.0, 10.0]))
def test_bounds_hold_for_any_mapping(case: Case, bandwidth: float) -> None:
    arch = machine(case, bandwidth, 1)
    got = estimate(case.problem, arch, case.mapping)
    cascade = case.problem.cascade
    inputs = sum(case.problem.tensor_elements(t.name) for t in cascade.inputs)
    outputs = sum(case.problem.tensor_elements(t) for t in cascade.outputs)
    assert got.read_bytes["dram"] >= 2.0 * inputs
    assert got.write_bytes["dram"] >= 2.0 * outputs
    assert all(0 < u <= 1 + 1e-12 or u == 0 for u in got.utilisation.values())
    assert sum(got.binding.values()) == pytest.approx(1.0)
    assert got.bound_by in got.binding
    assert got.latency_s == pytest.approx(sum(g.latency_s for g in got.groups))
    for group, priced in zip(case.mapping.groups, got.groups, strict=True):
        assert priced.latency_s >= max(priced.compute_s, *priced.memory_s.values()) * (1 - 1e-12)
        for leaf in leaves(group.tree):
            unit = arch.unit[leaf.unit]
            einsum = cascade.steps[leaf.einsum]
            cost = cycles_a_point(unit, einsum, leaf)
            assert priced.compute_s >= case.problem.points(einsum) * cost / unit.pes * (1 - 1e-12)
