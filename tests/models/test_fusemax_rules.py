"""The published rules of FuseMax's evaluation as closed forms, against ``estimate`` on any machine.

Written from the text of the reference (``reference/fusemax/README.md``) alone:
no loop nests, no YAML, nothing of ``accelsim`` but the question.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.explore.estimate import estimate
from accelsim.models.estimate import Estimate

MIB = 2**20
PICO = 1e-12
MAC, ADD, MAX, DIV, EXP = 17.1645, 8.3395, 0.028036, 36.251153, 94.6475
DRAM = 249.6 / 8  # a byte
CLOSE = 1e-6


@dataclass(frozen=True)
class Machine:
    """What the tests vary: array edge, buffer, word, bandwidth and clock."""

    edge: int = 256
    buffer: int = 16 * MIB
    word: int = 2
    bandwidth: float = 400.0 * 2**30
    clock: float = 940e6

    @property
    def sets(self) -> list[str]:
        return [
            f"edge={self.edge}",
            f"buffer.capacity={self.buffer} B",
            f"word={8 * self.word} bit",
            f"dram.bandwidth={self.bandwidth!r} B/s",
            f"clock={self.clock!r} Hz",
        ]


@dataclass(frozen=True)
class Shape:
    """Sizes of attention."""

    B: int
    H: int
    P: int
    M: int
    E: int
    F: int

    @property
    def sizes(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in "BHPMEF"}

    @property
    def scores(self) -> int:
        return self.B * self.H * self.M * self.P


def priced(design: str, machine: Machine, shape: Shape, **choose: str | int) -> Estimate:
    return estimate(design=design, shape=shape.sizes, sets=machine.sets, choose=choose)


def close(ours: float, theirs: float) -> bool:
    return ours == pytest.approx(theirs, rel=CLOSE, abs=1e-30)


def largest_divisor(n: int, limit: float) -> int:
    return max((d for d in range(1, n + 1) if n % d == 0 and d <= limit), default=0)


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


heads = st.builds(
    lambda b, h: (b, h), st.sampled_from([1, 2, 64]), st.sampled_from([1, 3, 8, 12, 16, 40])
)
machines = st.builds(
    Machine,
    edge=st.sampled_from([64, 128, 256, 512]),
    buffer=st.sampled_from([1, 2, 4, 8, 16, 24, 32, 128]).map(lambda n: n * MIB),
    word=st.sampled_from([1, 2, 4]),
    bandwidth=st.sampled_from([5e9, 50.0 * 2**30, 400.0 * 2**30, 3.35e12]),
    clock=st.sampled_from([500e6, 940e6, 1.8e9]),
)


@st.composite
def shapes(draw: st.DrawFn, edge: int) -> Shape:
    """Shapes whose lengths are multiples of the edge, M of at least two tiles; P and M apart."""
    b, h = draw(heads)
    lengths = st.one_of(st.integers(1, 40), st.sampled_from([64, 256, 4096]))
    wide = st.sampled_from([16, 32, 64, 80, 96, 128, 256])
    return Shape(
        b, h, draw(lengths) * edge, draw(st.integers(2, 64)) * edge, draw(wide), draw(wide)
    )


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


# -- FLAT ----------------------------------------------------------------------------------------


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


# -- unfused and linear layers ---------------------------------------------------------------------


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), machines)
def test_unfused_is_three_kernels_through_dram(data: st.DataObject, m: Machine) -> None:
    s, n = data.draw(shapes(m.edge)), m.edge
    wide = max(s.E, s.F)
    queries = (m.buffer / m.word - n * wide) / (n * wide)
    assume(queries >= 1)
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
