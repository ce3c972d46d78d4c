"""Live words: formulas of shipped cascades, and the replay of the stated schedule."""

from __future__ import annotations

import math

import pytest

from accelsim.analysis.footprint import Footprint, Words, footprint
from accelsim.analysis.passes import passes
from accelsim.ir.cascade import Cascade
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from tests.oracle.footprint import peak

FORMULAS = {
    "attention-3pass": "max(E + M + 2, F + M + 3)",
    "attention-3pass-deferred": "max(E + M + 2, F + M + 5)",
    "attention-2pass": "max(2*M1 + E + M + M0 + 2, 2*M1 + F + M + 6)",
    "attention-1pass": "2*F + E + M0 + 12",
    "attention-cosine": "max(E + M + 5, F + M + 3)",
    "attention-gqa": "max(E + M + 2, F + M + 3)",
    "rabe-staats": "max(M1*F + 2*M1 + E + M0 + 4, M1*F + 2*M1 + F + 4)",
    "linear-attention": "E*F + 2*F + E + 6",
    "matmul": "3",
    "softmax": "M + 3",
    "softmax-online": "M + 4",
    "logsumexp": "M + 4",
    "logsumexp-online": "5",
    "variance": "D + 3",
    "variance-moments": "4",
    "layernorm": "D + 4",
    "rmsnorm-matmul": "S + 7",
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name: str) -> None:
    assert footprint(load_cascade(name)).formula == FORMULAS[name]


def test_one_pass_needs_a_tile_whatever_m_is_and_three_passes_need_a_fiber() -> None:
    one, three = (footprint(load_cascade(f"attention-{n}pass")) for n in (1, 3))
    sizes = {"B": 1, "H": 1, "P": 1, "E": 64, "F": 64, "M0": 256}
    short, long = ({**sizes, "M": m, "M1": m // 256} for m in (1024, 1 << 20))
    assert one.words(short) == one.words(long) < 1024
    assert three.words(long) - three.words(short) == long["M"] - short["M"]


def test_queries_in_flight_share_keys_and_values() -> None:
    three = footprint(load_cascade("attention-3pass"))
    assert three.in_flight == ("B", "H", "P")
    sizes = {"B": 1, "H": 1, "P": 8, "E": 4, "F": 4, "M": 100}
    assert three.words(sizes) == 100 + 4 + 3
    assert three.words(sizes, {"P": 2}) == 2 * (100 + 4 + 2) + 1  # V is shared


def test_sums_that_others_exceed_are_left_out() -> None:
    assert Words.of([(), ()]).within(Words.of([("M",), ()]))
    assert not Words.of([("M",), ("M",)]).within(Words.of([("M",), ("E",)]))
    assert str(Words.of([])) == "0"


def _bands(cascade: Cascade, found: Footprint) -> dict[str, float]:
    """The pass of each Einsum; half a pass more for one that waits for the end of it."""
    its = passes(cascade).bands[found.streamed]
    known: dict[str, float] = {}
    for e in cascade.einsums:
        before = [w.name for a in e.reads for w in cascade.writers.get(a.tensor, ())]
        after = max((math.floor(known.get(name, 0)) + 0.5 for name in before), default=0.5)
        known[e.name] = its[e.name] if found.streamed.lower() in e.variables else after
    return known


REPLAYED = (
    "attention-3pass", "attention-3pass-deferred", "attention-naive", "attention-1pass",
    "softmax", "softmax-naive", "softmax-online", "logsumexp", "logsumexp-online", "variance",
    "layernorm", "layernorm-moments", "rmsnorm",
)  # fmt: skip


@pytest.mark.parametrize("name", REPLAYED)
def test_the_replay_needs_no_more_and_little_less(name: str) -> None:
    """Elements that pass one at a time are counted at once: as many as there are tensors."""
    cascade = load_cascade(name)
    found = footprint(cascade)
    for long in (6, 12):
        sizes = {r: 1 if r in found.in_flight else 3 for r in (*cascade.ranks, *cascade.whole)}
        sizes[found.streamed] = long
        most = peak(cascade, sizes, found.streamed, _bands(cascade, found))
        assert most <= found.words(sizes) <= most + len(cascade.tensors)


@pytest.mark.parametrize("name", catalog.names("cascade"))
def test_a_longer_rank_never_needs_less(name: str) -> None:
    cascade = load_cascade(name)
    found = footprint(cascade)
    sizes = dict.fromkeys((*cascade.ranks, *cascade.whole), 4)
    base = found.words(sizes)
    assert base >= 1
    assert all(found.words({**sizes, r: 8}) >= base for r in sizes)
