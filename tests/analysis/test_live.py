"""Room in which memory is touched once, against a mapspace that knows nothing of it."""

from __future__ import annotations

import pytest

from accelsim.analysis.footprint import footprint
from accelsim.analysis.live import once
from accelsim.explore.bounds import bounds
from accelsim.load.cascade import load_cascade

ATTENTION = "B=1,H=2,M=512,P=256,E=16,F=32"
SHAPES = {
    "attention-3pass": ATTENTION,
    "attention-1pass": ATTENTION,
    "attention-2pass": ATTENTION,
    "softmax": "B=64,M=512",
    "layernorm": "B=2,P=64,D=256",
    "matmul": "M=128,N=96,K=64",
}


@pytest.mark.parametrize("cascade", SHAPES)
def test_with_that_room_memory_is_touched_once(cascade: str) -> None:
    live = bounds(cascade, shape=SHAPES[cascade], capacity="1 MiB").live_bytes
    enough = bounds(cascade, shape=SHAPES[cascade], capacity=live * 1.05)
    assert enough.attainable_bytes == enough.compulsory_bytes
    short = bounds(cascade, shape=SHAPES[cascade], capacity=live * 0.5)
    assert short.attainable_bytes > short.compulsory_bytes


def test_keys_are_kept_or_all_queries_are_in_flight() -> None:
    cascade = load_cascade("attention-1pass")
    sizes = {"B": 1, "H": 2, "E": 16, "F": 32, "M0": 64, "M1": 8, "P": 256}
    one = footprint(cascade).words(sizes)
    few_keys = once(cascade, sizes)
    assert few_keys.keeps == "K, V kept whole, one point in flight"
    assert few_keys.words == 512 * (16 + 32) + one
    few_queries = once(cascade, {**sizes, "P": 4})
    assert few_queries.keeps == "all of P in flight"
    assert few_queries.words <= 4 * one
    assert few_queries.words < few_keys.words


def test_the_room_of_a_point_does_not_grow_with_the_keys() -> None:
    sizes = {"B": 1, "H": 1, "E": 16, "F": 32, "M0": 64, "P": 1}
    online, whole = load_cascade("attention-1pass"), load_cascade("attention-3pass")
    assert len({once(online, {**sizes, "M1": n}).words for n in (8, 64, 512)}) == 1
    rooms = [once(whole, {**sizes, "M": n}).words for n in (512, 1024)]
    assert rooms[1] - rooms[0] == 512
