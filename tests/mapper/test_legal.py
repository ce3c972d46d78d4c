"""Legality: every shipped mapping computes its cascade, and each way not to is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accelsim.errors import Fault, InputError
from accelsim.explore.estimate import bind
from accelsim.ir.cascade import Cascade
from accelsim.ir.mapping import Leaf, Loop, Mapping, Node
from accelsim.load.cascade import cascade_from_text
from accelsim.mapper.legal import legal

TWO = """
cascade: two
ranks: [P, M]
inputs: {X: [P, M]}
output: S
einsums:
  - G[p]   = X[p,m] :: max(m)
  - S[p,m] = X[p,m] - G[p]
"""

RUNNING = """
cascade: running
ranks: [P, M]
inputs: {X: [P, M]}
output: S
einsums:
  - R[p,0]   = 0
  - R[p,m+1] = R[p,m] + X[p,m]
  - S[p]     = R[p,M] * R[p,M]
"""

WINDOW = """
cascade: window
ranks: [P, W]
inputs: {X: [P]}
output: S
einsums:
  - Y[p] = exp(X[p])
  - S[p] = Y[clamp(p+w)]
"""


def mapping(cascade: Cascade, tree: Node, **extent: int) -> Mapping:
    from accelsim.ir.mapping import Group, Stage

    names = tuple(e.name for e in cascade.einsums if e.reads)
    parts = tuple((rank, (Loop(rank, n),)) for rank, n in extent.items())
    return Mapping("t", (Group("g", tree, (Stage(names),)),), parts)


def leaf(name: str, **extent: int) -> Leaf:
    return Leaf(name, "u", tuple(Loop(part, n) for part, n in extent.items()))


def node(loops: dict[str, int], *children: Node | Leaf) -> Node:
    return Node(tuple(Loop(part, n) for part, n in loops.items()), (), children)


@pytest.mark.parametrize(
    "design", ["fusemax", "fusemax-architecture", "fusemax-cascade", "flat", "unfused"]
)
@pytest.mark.parametrize("seq", ["1K", "64K", "1M"])
def test_shipped_mappings_are_legal(design: str, seq: str) -> None:
    problem, _, bound = bind(design=design, model="XLM", seq=seq)
    assert legal(problem.cascade, bound) == ()


def test_a_reduction_is_complete_outside_its_loop() -> None:
    cascade = cascade_from_text(TWO)
    good = node({"P": 4}, leaf("G", M=8), leaf("S", M=8))
    assert legal(cascade, mapping(cascade, good, P=4, M=8)) == ()
    bad = node({"P": 4, "M": 8}, leaf("G"), leaf("S"))
    (fault,) = legal(cascade, mapping(cascade, bad, P=4, M=8))
    assert fault.message == (
        "S reads G under the loop over M, where it is not complete: G still runs over M"
    )
    assert fault.allowed == "S outside that loop"


def test_a_loop_of_one_trip_encloses_nothing() -> None:
    cascade = cascade_from_text(TWO)
    tree = node({"P": 4, "M": 1}, leaf("G"), leaf("S"))
    assert legal(cascade, mapping(cascade, tree, P=4, M=1)) == ()


def test_a_tensor_is_written_before_it_is_read() -> None:
    cascade = cascade_from_text(TWO)
    tree = node({"P": 4}, leaf("S", M=8), leaf("G", M=8))
    (fault,) = legal(cascade, mapping(cascade, tree, P=4, M=8))
    assert fault.message == "S reads G before G has written it"
    assert fault.allowed == "G before S"


def test_the_last_slot_is_complete_outside_the_recurrence() -> None:
    cascade = cascade_from_text(RUNNING)
    good = node({"P": 4}, leaf("R", M=8), leaf("S"))
    assert legal(cascade, mapping(cascade, good, P=4, M=8)) == ()
    bad = node({"P": 4, "M": 8}, leaf("R"), leaf("S"))
    (fault,) = legal(cascade, mapping(cascade, bad, P=4, M=8))
    assert fault.message == (
        "S reads R under the loop over M, where its last slot is not complete: R still runs over M"
    )


LOOPED = """
cascade: looped
ranks: [P, M]
inputs: {X: [P, M]}
output: S
einsums:
  - R[p,0]   = 0
  - U[p,m]   = R[p,m] * X[p,m]
  - R[p,m+1] = R[p,m] + U[p,m]
  - S[p]     = R[p,M] * R[p,M]
"""


def test_an_old_slot_is_read_first_only_under_the_loops_that_it_recurs_along() -> None:
    cascade = cascade_from_text(LOOPED)
    good = node({}, node({"P": 4, "M": 8}, leaf("U"), leaf("R")), leaf("S", P=4))
    assert legal(cascade, mapping(cascade, good, P=4, M=8)) == ()
    bad = node({"P": 4}, leaf("U", M=8), leaf("R", M=8), leaf("S"))
    (fault,) = legal(cascade, mapping(cascade, bad, P=4, M=8))
    assert fault.message == "U reads R before R has written it"
    assert fault.allowed == "both under the loops over M"


def test_slots_of_a_recurrence_come_in_order() -> None:
    cascade = cascade_from_text(LOOPED)

    def of(*order: str) -> tuple[Fault, ...]:
        inner = node(dict.fromkeys(order, 2), leaf("U"), leaf("R"))
        bound = mapping(cascade, node({}, inner, leaf("S", P=4)), P=4)
        parts = (("P", (Loop("P", 4),)), ("M", (Loop("M.0", 2), Loop("M.1", 2))))
        return legal(cascade, replace(bound, parts=parts))

    assert of("M.0", "M.1") == ()
    told = {f.message for f in of("M.1", "M.0")}
    assert told == {"U reads slots of R out of order", "R reads slots of R out of order"}
    assert {f.allowed for f in of("M.1", "M.0")} == {"loops in the order M.0, M.1"}


def test_slots_of_a_recurrence_come_one_by_one() -> None:
    cascade = cascade_from_text(RUNNING)
    tree = node({"P": 4}, Leaf("R", "u", cols=(Loop("M", 8),)), leaf("S"))
    (fault,) = legal(cascade, mapping(cascade, tree, P=4, M=8))
    assert fault.message == ("R spreads M over PEs, but each slot of R needs the one before")
    assert fault.allowed == "loops in time along a recurrence"


def test_a_window_needs_other_iterations() -> None:
    cascade = cascade_from_text(WINDOW)
    good = node({}, leaf("Y", P=4), leaf("S", P=4, W=2))
    assert legal(cascade, mapping(cascade, good, P=4, W=2)) == ()
    bad = node({"P": 4}, leaf("Y"), leaf("S", W=2))
    (fault,) = legal(cascade, mapping(cascade, bad, P=4, W=2))
    assert fault.message == "S reads Y of other iterations of the loop over P"
    assert fault.allowed == "Y and S apart, or the loop below both"


def test_groups_run_in_order() -> None:
    problem, _, bound = bind(design="unfused", model="BERT", seq="1K")
    turned = replace(bound, groups=bound.groups[::-1])
    told = {f.message for f in legal(problem.cascade, turned)}
    assert told == {
        "GM reads QK before QK has written it",
        "SN reads QK before QK has written it",
        "AV reads A before A has written it",
    }


def test_estimate_refuses_an_illegal_mapping(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from accelsim.load import catalog

    text = catalog.find("mapping", "unfused").read_text()
    head, _, rest = text.partition("groups:\n")
    groups = rest.split("  - group: ")[1:]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(head + "groups:\n" + "".join("  - group: " + g for g in groups[::-1]))
    with pytest.raises(InputError, match="GM reads QK before QK has written it") as caught:
        bind(design="unfused", mapping=wrong, model="BERT", seq="1K")
    assert all(fault.place.file == str(wrong) and fault.place.line for fault in caught.value.faults)
