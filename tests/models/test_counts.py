"""Closed forms of transfers, occupancy and cycles against the element-by-element replay."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from accelsim.ir.mapping import Node, leaves
from accelsim.models.counts import group_transfers
from accelsim.models.latency import busy, cycles_a_point
from accelsim.models.nest import Nest
from accelsim.models.occupancy import occupancy
from tests.models.nests import Case, cases, exact
from tests.oracle.nest import Key, replay

SLOW = list(HealthCheck)
LINEAR = ("matmul", "batched", "square", "siblings")
BENT = ("convolution", "strided", "dilated", "gaps", "convolution 2-D", "heads")
CHAINS = ("chain", "softmax")
STATES = ("running", "state")


def counted(case: Case, nest: Nest) -> tuple[dict[Key, float], dict[Key, float]]:
    """Reads and writes of a group by level, tensor and Einsum, by the closed form."""
    reads: Counter[Key] = Counter()
    writes: Counter[Key] = Counter()
    for t in group_transfers(nest, case.arch, {}):
        reads[t.level, t.tensor, t.einsum] += t.reads  # type: ignore[assignment]
        writes[t.level, t.tensor, t.einsum] += t.writes  # type: ignore[assignment]
    return (
        {k: round(v, 9) for k, v in reads.items() if v},
        {k: round(v, 9) for k, v in writes.items() if v},
    )


def many_siblings(node: Node) -> bool:
    """Whether a node has three nodes below it.

    Their tiles that stay are counted as if they stayed all at once, which two
    iterations never see: the last one's tile comes when the first one's goes.
    """
    below = [child for child in node.children if isinstance(child, Node)]
    return len(below) > 2 or any(many_siblings(child) for child in below)


def holds(case: Case) -> None:
    """The closed form equals the replay, or is above it where it claims no more."""
    equal = exact(case)
    for group in case.mapping.groups:
        done = replay(case.problem, case.mapping, group, case.arch)
        nest = Nest(case.problem, case.mapping, group)
        for leaf in leaves(group.tree):
            einsum = case.problem.cascade.steps[leaf.einsum]
            done.steps[leaf.einsum] *= cycles_a_point(case.arch.unit[leaf.unit], einsum, leaf)
        assert {b.einsum: b.cycles for b in busy(nest, case.arch)} == done.steps
        reads, writes = counted(case, nest)
        peaks = {n: occupancy(nest, n, 1.0).total_bytes for n in case.arch.level}
        if equal:
            assert (reads, writes) == (done.reads, done.writes)
            assert all(peaks[k] >= n for k, n in done.peak_words.items())
            short = bool(nest.short) and len([*leaves(group.tree)]) > 1  # full tiles count
            assert short or many_siblings(group.tree) or peaks == done.peak_words
        elif case.problem.cascade.name == "heads":
            assert all(reads[k] >= n for k, n in done.reads.items())
            assert all(writes[k] >= n for k, n in done.writes.items())
            assert all(peaks[k] >= n for k, n in done.peak_words.items())


@pytest.mark.parametrize(
    ("names", "most"), [(LINEAR, 6), (BENT, 6), (CHAINS, 4), (STATES, 3)], ids=str
)
def test_transfers_room_and_cycles_equal_the_replay(names: tuple[str, ...], most: int) -> None:
    @settings(max_examples=90, deadline=None, suppress_health_check=SLOW)
    @given(cases(names, most))
    def check(case: Case) -> None:
        holds(case)

    check()


@pytest.mark.long
@pytest.mark.parametrize("names", [LINEAR, BENT, CHAINS, STATES], ids=str)
def test_transfers_room_and_cycles_equal_the_replay_long(names: tuple[str, ...]) -> None:
    @settings(max_examples=2500, deadline=None, suppress_health_check=SLOW)
    @given(cases(names))
    def check(case: Case) -> None:
        holds(case)

    check()
