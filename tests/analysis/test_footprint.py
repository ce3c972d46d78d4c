"""The live footprint: formulas of the literature, and the room in which memory is touched once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.analysis.footprint import Footprint, Polynomial, footprint
from accelsim.explore.bounds import bounds
from accelsim.load.cascade import load_cascade


def of(name: str) -> Footprint:
    found = footprint(load_cascade(name))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("cascade", "fiber"),
    [
        ("attention-3pass", "E + F + M + 2"),  # an M fiber of scores for each query in flight
        ("attention-3pass-deferred", "E + F + M + 2"),
        ("attention-1pass", "E + F + M0 + 2"),  # an M0 tile, whatever M is
        ("flash-attention-2", "E + F + M0 + 2"),
        ("attention-2pass", "M0*M1 + E + F + M0 + 3*M1 + 2"),
        ("linear-attention", "F + 1"),
        ("softmax", "M + 2"),
        ("logsumexp-online", "2"),
    ],
)
def test_one_fiber_in_flight(cascade: str, fiber: str) -> None:
    assert str(of(cascade).fiber) == fiber


def test_keys_stream_once_for_all_queries_or_are_kept() -> None:
    queries, keys = of("attention-1pass").options
    assert queries.keeps == "all of P in flight"
    assert str(queries.elements) == "E*P + F*P + M0*P + 2*P"
    assert keys.keeps == "K, V kept whole, one fiber in flight"
    assert str(keys.elements) == "E*M0*M1 + F*M0*M1 + E + F + M0 + 2"


def test_the_state_of_linear_attention() -> None:
    sizes = {"B": 1, "H": 2, "P": 512, "M": 512, "E": 16, "F": 32}
    assert str(of("linear-attention").best(sizes).elements) == "E*F + E"


def test_the_tensors_and_why() -> None:
    told = {x.tensor: (str(x.elements), x.why) for x in of("attention-1pass").live}
    assert told == {
        "QK": ("M0", "visited again over M0"),
        "Q": ("E", "read along the stream"),
        "RM": ("1", "state of a recurrence"),
        "RD": ("1", "state of a recurrence"),
        "RNV": ("F", "state of a recurrence"),
    }


def test_pieces_that_share_nothing_run_one_after_the_other() -> None:
    cascade = load_cascade("encoder-linear-layers")
    sizes = {"B": 1, "H": 1, "P": 4, "M": 4, "D": 8, "E": 2, "F": 2, "S": 64}
    found = footprint(cascade, sizes)
    assert found is not None
    assert found.live[0].tensor in ("FFN1", "FFN2")


def test_two_streams_are_not_one() -> None:
    assert footprint(load_cascade("linear-attention-decay")) is None


SHAPES = {
    "attention-3pass": "B=1,H=2,M=512,P=256,E=16,F=32",
    "attention-1pass": "B=1,H=2,M=512,P=256,E=16,F=32",
    "attention-2pass": "B=1,H=2,M=512,P=256,E=16,F=32",
    "softmax": "B=64,M=512",
    "layernorm": "B=2,P=64,D=256",
    "matmul": "M=128,N=96,K=64",
}


@pytest.mark.parametrize("cascade", SHAPES)
def test_with_room_for_the_footprint_memory_is_touched_once(cascade: str) -> None:
    """The mapspace, which knows nothing of the footprint, attains compulsory traffic in its room."""
    live = bounds(cascade, shape=SHAPES[cascade], capacity="1 MiB").live_bytes
    assert live is not None
    enough = bounds(cascade, shape=SHAPES[cascade], capacity=live * 1.05)
    assert enough.attainable_bytes == enough.compulsory_bytes
    short = bounds(cascade, shape=SHAPES[cascade], capacity=live * 0.5)
    assert short.attainable_bytes > short.compulsory_bytes


PRODUCTS = st.lists(st.sampled_from("MPEF"), max_size=3)
SUMS = st.lists(PRODUCTS, max_size=4).map(
    lambda ps: sum((Polynomial.of(*p) for p in ps), Polynomial())
)
SIZES = st.fixed_dictionaries({r: st.integers(1, 50) for r in "MPEF"})


@settings(max_examples=100)
@given(SUMS, SUMS, SIZES)
def test_polynomials_are_a_ring(a: Polynomial, b: Polynomial, sizes: dict[str, int]) -> None:
    assert (a + b).value(sizes) == a.value(sizes) + b.value(sizes)
    assert (a * b).value(sizes) == a.value(sizes) * b.value(sizes)
    assert a + b == b + a
    assert a * b == b * a
