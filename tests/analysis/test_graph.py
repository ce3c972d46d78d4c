"""The dependence graph: edges, what an output needs, components; Tarjan against networkx."""

from __future__ import annotations

import networkx
from hypothesis import given
from hypothesis import strategies as st

from accelsim.analysis.graph import dependence_graph, least, may_read, strong_components
from accelsim.ir.cascade import Access, Index, Last
from accelsim.load.cascade import cascade_from_text, load_cascade


def by_name(cascade_name: str) -> set[tuple[str, str]]:
    cascade = load_cascade(cascade_name)
    names = [e.name for e in cascade.einsums]
    return {(names[e.writer], names[e.reader]) for e in dependence_graph(cascade).edges}


def test_edges_of_three_passes() -> None:
    assert by_name("attention-3pass") == {
        ("QK", "GM"), ("QK", "SN"), ("GM", "SN"), ("SN", "SD"), ("SN", "A"), ("SD", "A"),
        ("A", "AV"),
    }  # fmt: skip


def test_slot_zero_is_read_by_the_step_and_not_by_what_reads_the_next_slot_or_the_last() -> None:
    edges = by_name("attention-1pass")
    assert ("RM@0", "RM") in edges
    assert ("RM", "RM") in edges
    assert ("RM", "SLN") in edges
    assert ("RM@0", "SLN") not in edges
    assert ("RD", "AV") in edges
    assert ("RD@0", "AV") not in edges


def test_what_no_output_needs_is_left_out() -> None:
    cascade = cascade_from_text(
        "cascade: c\nranks: [I]\ninputs: {X: [I]}\noutput: Y\n"
        "einsums: ['U[i] = exp(X[i])', 'Y[i] = -X[i]']\n"
    )
    graph = dependence_graph(cascade)
    assert graph.needed == {1}
    assert graph.edges == ()
    assert graph.readers == {"X": (1,)}
    assert graph.components == ((1,),)


def test_a_recurrence_is_one_component_and_writers_come_first() -> None:
    cascade = load_cascade("attention-1pass")
    graph = dependence_graph(cascade)
    names = [{cascade.einsums[n].name for n in c} for c in graph.components]
    assert {"RD", "SPD"} in names
    assert {"RNV", "SPNV"} in names
    place = {n: k for k, c in enumerate(graph.components) for n in c}
    assert all(place[e.writer] <= place[e.reader] for e in graph.edges)


def test_a_falling_index_may_read_any_slot() -> None:
    slot = Access("R", (Index(),))
    assert may_read(Access("R", (Index((("i", -1),), 3),)), slot)
    assert least(Index((("i", 1),), -2, border="clamp")) == float("-inf")
    assert least(Index((("i", 2),), 3)) == 3
    assert not may_read(Access("R", (Last("I"),)), slot)


@given(st.lists(st.lists(st.integers(0, 8), max_size=4), min_size=9, max_size=9))
def test_components_equal_those_of_networkx(follow: list[list[int]]) -> None:
    graph = networkx.DiGraph([(a, b) for a, its in enumerate(follow) for b in its])
    graph.add_nodes_from(range(9))
    found = strong_components(follow)
    expected = {tuple(sorted(c)) for c in networkx.strongly_connected_components(graph)}
    assert set(found) == expected
    place = {n: k for k, c in enumerate(found) for n in c}
    assert all(place[a] <= place[b] for a, its in enumerate(follow) for b in its)


def test_a_long_chain_does_not_overflow_the_stack() -> None:
    n = 20_000
    found = strong_components([[k + 1] for k in range(n)] + [[]])
    assert found == [(k,) for k in range(n + 1)]
