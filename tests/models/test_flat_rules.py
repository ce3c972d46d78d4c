"""FLAT's published rules as closed forms, against ``estimate`` for any choice on any machine.

Written from the text of the published rules alone: no loop nests, no YAML.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.models.estimate import Estimate
from tests.models.machines import (
    ADD,
    DIV,
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


@dataclass(frozen=True)
class Choice:
    """One of FLAT's decisions."""

    block: int
    scores: str
    Q_loc: str
    K_loc: str
    V_loc: str
    AV_loc: str
    QK_stationarity: str
    AV_stationarity: str


@dataclass
class Words:
    """Words between array and memory of one tensor, for one head: reads and writes."""

    reads: float = 0.0
    writes: float = 0.0


@dataclass(frozen=True)
class Flat:
    """What the rules say of FLAT."""

    latency: float
    dram: float
    reads: float  # buffer, words
    writes: float
    share: float


def flat(m: Machine, s: Shape, c: Choice) -> Flat | None:
    """FLAT by its rules; None where the tiles cannot fit."""
    n = m.edge
    e0, f0 = largest_divisor(s.E, n), largest_divisor(s.F, n)
    e1, f1, m1, p1, blocks = s.E // e0, s.F // f0, s.M // n, c.block // n, s.P // c.block
    # The array: innermost rank in time, the other two in tiles of its edge.
    scores = s.M * c.block
    qk = {"output": m1 * p1 * s.E, "weight": m1 * e1 * c.block, "input": p1 * e1 * s.M}
    av = {"output": p1 * f1 * s.M, "weight": m1 * f1 * c.block, "input": p1 * m1 * s.F}
    cycles_2d = blocks * (qk[c.QK_stationarity] + av[c.AV_stationarity])
    cycles_1d = 4 * s.M * s.P / n
    # What the array asks for, for one block.
    q = Words(c.block * s.E * (1 if c.QK_stationarity == "input" else m1))
    k = Words(s.M * s.E * (1 if c.QK_stationarity == "weight" else p1))
    again = 1 if c.QK_stationarity == "output" else e1  # visits of a score while E is summed
    made = Words(scores * (again - 1), scores * again)
    a = Words(scores * (1 if c.AV_stationarity == "input" else f1))
    v = Words(s.M * s.F * (1 if c.AV_stationarity == "weight" else p1))
    visits = 1 if c.AV_stationarity == "output" else m1
    out = Words(c.block * s.F * (visits - 1), c.block * s.F * visits)
    # Room: a tile of the block for what is on chip, what the array takes for what is not; double.
    tile = {
        "Q": (c.block if c.Q_loc == "onchip" or c.QK_stationarity == "weight" else n)
        * (s.E if c.Q_loc == "onchip" or c.QK_stationarity == "output" else e0),
        "K": (s.M if c.K_loc == "onchip" else n)
        * (s.E if c.K_loc == "onchip" or c.QK_stationarity == "output" else e0),
        "V": (s.M if c.V_loc == "onchip" else n)
        * (s.F if c.V_loc == "onchip" or c.AV_stationarity == "input" else f0),
        "AV": (c.block if c.AV_loc == "onchip" or c.AV_stationarity == "weight" else n)
        * (s.F if c.AV_loc == "onchip" or c.AV_stationarity == "input" else f0),
    }
    others = 2 * sum(tile.values()) * m.word
    row = s.M * m.word
    if c.scores == "onchip":
        share = 1 - min(1.0, m.buffer / (scores * m.word + others))
    else:
        if others > m.buffer:
            return None
        share = 1 - min(1.0, (m.buffer - others) / row)
    spilled = share if c.scores == "onchip" else 0.0
    dram = buffer_reads = buffer_writes = 0.0
    once = blocks if c.block < s.P else 1
    own = {"Q": c.block * s.E, "K": s.M * s.E / once, "V": s.M * s.F / once, "AV": c.block * s.F}
    for name, use in (("Q", q), ("K", k), ("V", v), ("AV", out)):
        if getattr(c, f"{name}_loc") == "offchip":
            dram += use.reads + use.writes
            continue
        dram += (1 - spilled) * own[name] + spilled * (use.reads + use.writes)
        buffer_reads += use.reads
        buffer_writes += use.writes
        if name == "AV":
            buffer_reads += (1 - spilled) * own[name]
        else:
            buffer_writes += (1 - spilled) * own[name]
    if c.scores == "onchip":
        reads, writes = made.reads + 3 * scores + a.reads, made.writes + 2 * scores
        dram += share * (reads + writes)
        buffer_reads, buffer_writes = buffer_reads + reads, buffer_writes + writes
    else:
        dram += made.reads + made.writes + a.reads
        dram += scores * ((1 - share) + 3 * share + share + 1)
        buffer_reads, buffer_writes = buffer_reads + 3 * scores, buffer_writes + scores
        buffer_writes += (1 - share) * scores
    each = s.B * s.H * blocks
    moved = each * dram * m.word
    compute = s.B * s.H * max(cycles_2d, cycles_1d) / m.clock
    latency = max(compute, moved / m.bandwidth)
    return Flat(latency, moved, each * buffer_reads, each * buffer_writes, share)


@st.composite
def choices(draw: st.DrawFn, m: Machine, s: Shape) -> Choice:
    tiles = s.P // m.edge
    block = draw(st.sampled_from([d for d in range(1, tiles + 1) if tiles % d == 0])) * m.edge
    where, kind = (
        st.sampled_from(["onchip", "offchip"]),
        st.sampled_from(["output", "weight", "input"]),
    )
    found = [draw(where) for _ in range(5)]
    return Choice(block, *found, draw(kind), draw(kind))


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), machines)
def test_flat_follows_the_published_rules(data: st.DataObject, m: Machine) -> None:
    s = data.draw(shapes(m.edge))
    c = data.draw(choices(m, s))
    assume(flat(m, s, c) is not None)
    holds(m, s, c, priced("flat", m, s, **c.__dict__))


def holds(m: Machine, s: Shape, c: Choice, got: Estimate) -> None:
    want = flat(m, s, c)
    assert want is not None
    assert close(got.groups[0].spilled.get("buffer", 0.0), want.share)
    assert close(got.traffic_bytes["dram"], want.dram)
    assert close(got.latency_s, want.latency)
    assert close(got.read_bytes["buffer"], want.reads * m.word)
    assert close(got.write_bytes["buffer"], want.writes * m.word)
    per_score = (s.E + s.F) * MAC + MAX + ADD + EXP + ADD + DIV
    arrays = got.energy_by_j["array_2d"] + got.energy_by_j["array_1d"]
    assert close(arrays, s.scores * per_score * PICO)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), machines)
def test_flat_chooses_by_rule_where_nothing_is_published(data: st.DataObject, m: Machine) -> None:
    s = data.draw(shapes(m.edge))
    assume(s.M != s.P)  # the published choices are for M = P
    try:
        got = priced("flat", m, s)
    except InputError as error:
        if "more than its" not in str(error):
            raise
        assume(False)
    c = Choice(**{name: got.choices[name] for name in Choice.__dataclass_fields__})  # type: ignore[arg-type]
    holds(m, s, c, got)
    fits = s.M * m.edge * m.word <= m.buffer
    assert c.scores == ("onchip" if fits else "offchip")


def test_flat_takes_the_published_choice_where_there_is_one() -> None:
    m, s = Machine(buffer=32 * MIB), Shape(64, 12, 65536, 65536, 64, 64)
    got = priced("flat", m, s)
    published = Choice(256, "onchip", "offchip", "offchip", "offchip", "onchip", "output", "output")
    assert {n: got.choices[n] for n in published.__dict__} == published.__dict__
    holds(m, s, published, got)
