"""The published rules of FuseMax's evaluation as closed forms, against ``estimate`` on any machine.

Written from the text of the rules alone: no loop nests, no YAML, nothing of
``accelsim`` but the question.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from accelsim.explore.estimate import estimate
from tests.models.machines import (
    ADD,
    DIV,
    DRAM,
    EXP,
    MAC,
    MAX,
    MIB,
    PICO,
    Machine,
    Shape,
    close,
    largest_divisor,
    machines,
    priced,
    shapes,
)

# -- the one-pass cascade: FuseMax, +Architecture, +Cascade ---------------------------------------


@dataclass(frozen=True)
class OnePass:
    """Latency, DRAM bytes, buffer words and operation energy of a one-pass design."""

    cycles: float
    dram: float
    reads: float
    writes: float
    picojoules: float


def one_pass(design: str, m: Machine, s: Shape) -> OnePass | None:
    """The rules; None where not even one tile of queries fits."""
    n, w = m.edge, m.word
    room = m.buffer - n * (s.E + s.F) * w
    each = s.E + n + 1 + n + 1 + s.F if design == "fusemax-cascade" else s.E + s.F + 2
    p1 = largest_divisor(s.P // n, room / (w * n * each))
    if p1 == 0:
        return None
    p2, steps = s.P // (n * p1), s.scores / n**2
    last = s.B * s.H * s.P / n * s.F  # AV: a division for each output
    if design == "fusemax-cascade":  # FLAT's PEs: subtraction and exponential are an operation each
        two = steps * (s.E + s.F)
        # LM, SLN, SLD for each score; RM, PRM, SPD, RD, SPNV, RNV for each query of a step
        one = steps * (n * (1 + 2 + 1) + 1 + 2 + 1 + 1 + s.F + s.F) + last
        cycles = max(two, one)
    else:
        exp = 7  # a subtraction and six multiply-adds
        first = steps * (s.E + 1)  # QK and LM beside RD, and in FuseMax RNV
        division = steps * (1 + s.F) + last if design == "fusemax" else steps * 1 + last
        wait = 0 if design == "fusemax" else steps * n
        second = max(exp + 1, exp + 1)  # SLN and SLD beside PRM and SPD
        third = max(s.F, s.F if design == "fusemax" else s.F + s.F)  # SLNV beside SPNV (and RNV)
        cycles = max(first, division) + wait + steps * (1 + second + third)
    dram = s.B * s.H * (s.P * (s.E + s.F) + p2 * s.M * (s.E + s.F)) * w
    reads = (2 * s.E + 2 * s.F + 2) / n + (s.F + 1) / s.M
    writes = (s.F + 2) / n + s.E / s.M + p2 * (s.E + s.F) / s.P
    exponential = EXP if design == "fusemax-cascade" else 6 * MAC
    for_score = (s.E + s.F) * MAC + MAX + ADD + exponential + ADD
    for_query = MAX + ADD + exponential + MAC + ADD + s.F * (MAC + ADD)  # of each step
    operations = s.scores * (for_score + for_query / n) + s.B * s.H * s.P * s.F * DIV
    return OnePass(cycles, dram, s.scores * reads, s.scores * writes, operations)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from(["fusemax", "fusemax-architecture", "fusemax-cascade"]), machines)
def test_one_pass_designs_follow_the_published_rules(
    data: st.DataObject, design: str, m: Machine
) -> None:
    s = data.draw(shapes(m.edge))
    want = one_pass(design, m, s)
    assume(want is not None)
    assert want is not None
    got = priced(design, m, s)
    assert close(sum(got.traffic_bytes[k] for k in ["dram"]), want.dram)
    assert close(got.latency_s, max(want.cycles / m.clock, want.dram / m.bandwidth))
    assert close(got.energy_by_j["dram"], want.dram * DRAM * PICO)
    arrays = got.energy_by_j["array_2d"] + got.energy_by_j["array_1d"]
    assert close(arrays, want.picojoules * PICO)
    if design != "fusemax-cascade":  # the rules give no buffer words for +Cascade
        assert close(got.read_bytes["buffer"], want.reads * m.word)
        assert close(got.write_bytes["buffer"], want.writes * m.word)
        words = want.reads * 50.24 + want.writes * 60.34
        assert close(got.energy_by_j["buffer"], words * PICO * m.word / 2)


@pytest.mark.parametrize("design", ["fusemax", "fusemax-architecture", "fusemax-cascade"])
def test_utilisation_is_useful_cycles_over_latency(design: str) -> None:
    m, s = Machine(edge=128, buffer=8 * MIB), Shape(4, 12, 4096, 8192, 64, 64)
    got, want = priced(design, m, s), one_pass(design, m, s)
    assert want is not None
    steps = s.scores / m.edge**2
    two = s.E + s.F if design == "fusemax-cascade" else s.E + s.F + 1 + 7 + 1
    seconds = max(want.cycles / m.clock, want.dram / m.bandwidth)
    assert close(got.utilisation["array_2d"], steps * two / m.clock / seconds)


# -- unfused and linear layers ---------------------------------------------------------------------


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), machines)
def test_unfused_is_three_kernels_through_dram(data: st.DataObject, m: Machine) -> None:
    s, n = data.draw(shapes(m.edge)), m.edge
    wide = max(s.E, s.F)
    assume(m.buffer / m.word >= 2 * n * wide)
    copies = 2 if m.buffer / m.word >= 4 * n * wide else 1  # of each tile
    queries = (m.buffer / m.word / copies - n * wide) / (n * wide)
    passes = s.P // n // largest_divisor(s.P // n, queries)
    got = priced("unfused", m, s)
    scores, tiles = s.M * s.P, s.M // n * s.P // n
    share = 1 - min(1.0, m.buffer / (s.M * m.word))  # of a row of scores that does not fit
    dram = (
        s.P * s.E + passes * s.M * s.E + scores,
        scores * ((1 - share) + 4 * share + 1),
        passes * s.M * s.F + scores + s.P * s.F,
    )
    cycles = (tiles * s.E, 4 * scores / n, tiles * s.F)
    each = s.B * s.H
    assert close(got.traffic_bytes["dram"], each * sum(dram) * m.word)
    times = [
        max(each * c / m.clock, each * d * m.word / m.bandwidth)
        for c, d in zip(cycles, dram, strict=True)
    ]
    assert close(got.latency_s, sum(times))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([64, 128, 256]),
    st.integers(1, 16),
    st.integers(1, 16),
    st.sampled_from([4, 8, 12, 16]),
    st.sampled_from([(32, 32), (64, 64), (128, 64)]),
    st.sampled_from([4, 8, 24]),
)
def test_linear_layers_keep_the_array_busy(
    edge: int, p: int, q: int, h: int, wide: tuple[int, int], d: int
) -> None:
    (e, f), b, P, M, D, S = wide, 2, p * edge, q * edge, d * edge, 4 * d * edge
    sizes = {"B": b, "H": h, "P": P, "M": M, "E": e, "F": f, "D": D, "S": S}
    m = Machine(edge=edge, bandwidth=1e18)
    got = estimate(design="linear-layers", shape=sizes, sets=m.sets)
    beside = max(1, largest_divisor(h, edge // max(e, f) or 1))  # heads that share the rows
    rows = {x: min(x, edge) for x in (e, f)}
    cycles = (
        b * P / edge * D * (h / beside) * (e / rows[e])
        + b * M / edge * D * (h / beside) * (e / rows[e])
        + b * M / edge * D * (h / beside) * (f / rows[f])
        + b * P / edge * (D / edge) * h * f
        + b * P / edge * D * (S / edge)
        + b * P / edge * (D / edge) * S
    )
    assert close(got.latency_s, cycles / m.clock)
    macs = b * D * h * (P * e + M * e + M * f + P * f) + 2 * b * P * D * S
    assert close(got.energy_by_j["array_2d"], macs * MAC * PICO)
    inputs = 2 * b * P * D + 2 * b * M * D + b * h * P * f + b * P * S
    weights = D * h * (2 * e + 2 * f) + 2 * D * S
    outputs = b * h * (P * e + M * e + M * f) + 2 * b * P * D + b * P * S
    compulsory = (inputs + weights + outputs) * m.word
    assert got.traffic_bytes["dram"] >= compulsory * (1 - 1e-12)
