"""Ranks whose last tile is short: closed forms against the element-by-element replay."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, Stage, short_ranks
from accelsim.ir.problem import bind
from accelsim.models.counts import group_transfers
from accelsim.models.nest import Nest
from accelsim.models.occupancy import occupancy
from tests.models.nests import CASCADES, Case, cases
from tests.models.test_counts import holds

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}
LINEAR = ("matmul", "batched", "square")
FUSED = ("siblings", "chain", "softmax")
STATES = ("running", "state")


@st.composite
def shortened(draw: st.DrawFn, names: tuple[str, ...] = LINEAR, most: int = 12) -> Case:
    """A drawn case of which ranks are shorter than their parts multiply to."""
    case = draw(cases(names, most))
    sizes = {
        rank: draw(st.integers(1, prod(p.trips for p in parts)))
        for rank, parts in case.mapping.parts
    }
    return replace(case, problem=bind(case.problem.cascade, sizes))


@settings(max_examples=300, **QUIET)
@given(shortened())
def test_transfers_room_and_cycles_equal_the_replay(case: Case) -> None:
    try:
        for group in case.mapping.groups:
            Nest(case.problem, case.mapping, group)
    except InputError:  # loops over a rank that are out of order
        reject()
    holds(case)


@pytest.mark.parametrize(("names", "most"), [(FUSED, 5), (STATES, 3)], ids=str)
def test_fused_einsums_equal_the_replay(names: tuple[str, ...], most: int) -> None:
    @settings(max_examples=60, **QUIET)
    @given(shortened(names, most))
    def check(case: Case) -> None:
        try:
            for group in case.mapping.groups:
                group_transfers(Nest(case.problem, case.mapping, group), case.arch, {})
        except InputError:  # out of order, or along a recurrence
            reject()
        holds(case)

    check()


def test_a_tile_takes_room_where_it_may_stay_in_the_short_tile_alone() -> None:
    """In the last tile of I, one row long, A stays while S and Z take turns over J."""
    cascade = CASCADES["chain"]
    i, j, k, x = (Loop("I1", 3), Loop("I0", 4)), Loop("J", 2), Loop("K", 5), Loop("L", 2)
    made = Node((i[1],), (Hold("A", "buffer"),), (Leaf("S", "grid", (k,)),))
    used = Node((i[1],), (Hold("Z", "buffer"),), (Leaf("Z", "grid", (x,)),))
    group = Group("g", Node((i[0], j), (Hold("S", "buffer"),), (made, used)), (Stage(("S", "Z")),))
    parts = (("I", i), ("J", (j,)), ("K", (k,)), ("L", (x,)))
    mapping = Mapping("t", (group,), parts)
    for size, stays in ((12, 0), (11, 0), (9, 5)):
        problem = bind(cascade, {"I": size, "J": 2, "K": 5, "L": 2})
        nest = Nest(problem, mapping, group)
        # a full tile of S, then one row of A, or one of Z beside the row of A that stays
        assert occupancy(nest, "buffer", 1.0).total_bytes == max(4 + 5 + (2 if stays else 0), 6)


def test_a_group_cuts_a_rank_in_a_way_of_its_own() -> None:
    cascade = CASCADES["siblings"]
    problem = bind(cascade, {"I": 7, "K": 2})
    cut, k = (Loop("I1", 2), Loop("I0", 4)), Loop("K", 2)
    one = Group("y", Node(cut, (), (Leaf("Y", "grid", (k,)),)), (Stage(("Y",)),))
    whole = Loop("I", 7)
    two = Group("z", Node((), (), (Leaf("Z", "grid", (whole, k)),)), (Stage(("Z",)),),
                (("I", (whole,)),))  # fmt: skip
    mapping = Mapping("t", (one, two), (("I", cut), ("K", (k,))))
    assert Nest(problem, mapping, one).short == {"I": 7}
    assert Nest(problem, mapping, two).short == {}


def mapped(leaf: Leaf, *loops: Loop, holds: tuple[Hold, ...] = ()) -> tuple[Mapping, Group]:
    group = Group("g", Node(loops, holds, (leaf,)), (Stage((leaf.einsum,)),))
    parts = (
        ("I", (Loop("I1", 3), Loop("I0", 4))),
        ("J", (Loop("J", 2),)),
        ("K", (Loop("K", 5),)),
    )
    return Mapping("t", (group,), parts), group


def test_a_tile_that_does_not_change_in_the_short_one_stays() -> None:
    """I = 9 in tiles of 4, 4 and 1: in the last, one row of A serves both iterations of J."""
    cascade = CASCADES["matmul"]
    problem = bind(cascade, {"I": 9, "J": 2, "K": 5})
    leaf = Leaf("Z", "grid", (Loop("I0", 4), Loop("K", 5)))
    mapping, group = mapped(
        leaf, Loop("I1", 3), Loop("J", 2), holds=(Hold("A", "buffer"), Hold("Z", "buffer"))
    )
    assert short_ranks(mapping, problem.extent) == {"I": 9}
    nest = Nest(problem, mapping, group)
    rows = nest.paths[0].tiles[0]
    assert nest.filled(rows) == (45.0, 45.0)
    assert nest.words(rows) == 20.0
    assert occupancy(nest, "buffer", 1.0).total_bytes == 24.0
    inner = Node((Loop("I0", 4),), (Hold("A", "buffer"),), (Leaf("Z", "grid", (Loop("K", 5),)),))
    outer = Node((Loop("I1", 3), Loop("J", 2)), (), (inner,))
    group = replace(group, tree=outer)
    nest = Nest(problem, replace(mapping, groups=(group,)), group)
    # rows of A come for each of two J in the full tiles, and once in the short one
    assert nest.filled(nest.paths[1].tiles[0]) == ((8 * 2 + 1) * 5.0, 45.0)


def test_what_cannot_have_a_short_tile_is_refused() -> None:
    cascade = CASCADES["matmul"]
    problem = bind(cascade, {"I": 9, "J": 2, "K": 5})
    leaf = Leaf("Z", "grid", (Loop("J", 2), Loop("I1", 3), Loop("K", 5)))
    mapping, group = mapped(leaf, Loop("I0", 4))
    with pytest.raises(InputError, match="Z takes the parts of I out of order") as caught:
        Nest(problem, mapping, group)
    assert caught.value.faults[0].allowed == "loops over I1, I0 in this order"
