"""Elements of a tile along a quotient against every tile written out."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.models.tiles import Line


def tiles(trips: list[int], inside: list[int], divisor: int) -> list[int]:
    """Elements of each tile of ``inside[n]`` of ``trips[n]`` coordinates, outermost part first."""
    strides = [1]
    for n in reversed(trips[1:]):
        strides.insert(0, strides[0] * n)
    starts = product(*(range(0, n - k + 1, k) for n, k in zip(trips, inside, strict=True)))
    return [
        len({sum((a + i) * s for a, i, s in zip(at, step, strides, strict=True)) // divisor
             for step in product(*(range(k) for k in inside))})
        for at in starts
    ]  # fmt: skip


def test_three_heads_that_begin_in_the_middle_of_a_pair_need_two_keys() -> None:
    heads = Line((("outer", 3), ("inner", 1)), divisor=2)
    assert heads.elements({"outer": 1, "inner": 2}) == 2  # heads 3 and 4: keys 1 and 2
    assert max(tiles([2, 3], [1, 2], 2)) == 2


@settings(max_examples=400)
@given(st.data())
def test_a_quotient_counts_no_less_than_any_tile_has(data: st.DataObject) -> None:
    trips = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    inside = [data.draw(st.integers(1, n)) for n in trips]
    divisor = data.draw(st.integers(1, 6))
    stride, terms = 1, []
    for n, count in reversed(list(enumerate(trips))):
        terms.append((str(n), stride))
        stride *= count
    sizes = {str(n): k for n, k in enumerate(inside)}
    assert Line(tuple(terms), divisor).elements(sizes) >= max(tiles(trips, inside, divisor))
