"""Tiles that are counted against tiles that are visited one by one."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from accelsim.sim.tiles import Line, Loop, Round, Visits

PARTS = ("a", "b", "c")


@given(st.data())
def test_counted_tiles_are_those_that_are_visited(data: st.DataObject) -> None:
    terms = st.lists(
        st.tuples(st.sampled_from(PARTS), st.sampled_from([1, 2, 3, 4, 12, -1])), max_size=2
    )
    lines = [Line(tuple(dict(some).items())) for some in data.draw(st.lists(terms, max_size=3))]
    rounds = st.builds(
        Round, st.sampled_from(PARTS), st.integers(1, 4), st.sampled_from([1, 1, 3, 4])
    )
    inside = data.draw(st.lists(rounds, max_size=4))
    steps = (Loop("m", 2), Loop("a", 3))
    again, words = data.draw(st.booleans()), data.draw(st.integers(0, 5))
    for at in ((0, 0), (0, 1), (1, 0), (1, 2)):
        one, other = (Visits(lines, steps, inside, words, again) for _ in range(2))
        with patch.object(Visits, "_regular", False):
            expected = one.visit(at)
        assert other.visit(at) == expected
