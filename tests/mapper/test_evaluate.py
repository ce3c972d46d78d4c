"""Many mappings at once give what the models give for each of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, given, settings

from accelsim.analysis.work import work
from accelsim.ir.mapping import Group, Leaf, Node, leaves
from accelsim.mapper.evaluate import Counts, Keep, Moved, Spread, cost
from accelsim.mapper.frame import Frame, Spot
from accelsim.models import energy
from accelsim.models.counts import group_transfers
from accelsim.models.latency import busy, cycles_a_point
from accelsim.models.nest import Nest
from accelsim.models.occupancy import occupancy
from tests.models.nests import Case, cases

PLAIN = ("matmul", "batched", "square", "siblings", "chain", "softmax", "running", "state")


def frame_of(case: Case, group: Group) -> tuple[Frame, dict[str, Spread], dict[str, list[Keep]]]:
    """A group of a mapping as a frame, spreads and holds (one of a tensor in each node)."""
    spots: list[Spot] = []
    children: list[tuple[int | str, ...]] = []
    spreads: dict[str, Spread] = {}
    keeps: dict[str, list[Keep]] = {}
    levels = list(case.arch.level)

    def grow(node: Node, path: tuple[str, ...], chain: tuple[int, ...]) -> int:
        number = len(spots)
        own = tuple(p.part for p in node.loops)
        spots.append(Spot(own, (*path, *own), (*chain, number)))
        children.append(())
        for hold in node.holds:
            keeps.setdefault(hold.tensor, []).append(Keep(levels.index(hold.level), number))
        found: list[int | str] = []
        for child in node.children:
            if isinstance(child, Leaf):
                rows, cols, loops = (
                    tuple(p.part for p in side) for side in (child.rows, child.cols, child.loops)
                )
                spreads[child.einsum] = Spread(child.unit, rows, cols, loops)
                found.append(child.einsum)
            else:
                found.append(grow(child, spots[number].path, spots[number].chain))
        children[number] = tuple(found)
        return number

    grow(group.tree, (), ())
    names = tuple(leaf.einsum for leaf in leaves(group.tree))
    parts = tuple((rank, tuple(p.part for p in found)) for rank, found in case.mapping.parts)
    return Frame("t", names, tuple(spots), tuple(children), parts), spreads, keeps


def counted(case: Case, group: Group) -> None:
    frame, spreads, keeps = frame_of(case, group)
    batch = 3
    trips = {p: np.full(batch, float(n)) for p, n in case.mapping.extent.items()}
    counts = Counts(case.problem.cascade, frame, case.arch, trips)
    nest = Nest(case.problem, case.mapping, group)
    zero = Moved((0.0,) * counts.levels, (0.0,) * counts.levels)
    total = zero
    for tensor, found in counts.uses.items():
        held = keeps.get(tensor, [])
        total = total + counts.moves(tensor, held)
        for use in found:
            words = counts.leaf(use, spreads[use.einsum])
            level = counts.serves(tensor, held, use.spot)
            total = total + counts.touches(use, words, level)
    reads = dict.fromkeys(case.arch.level, 0.0)
    writes = dict.fromkeys(case.arch.level, 0.0)
    for t in group_transfers(nest, case.arch, {}):
        reads[t.level] += t.reads
        writes[t.level] += t.writes
    for n, level in enumerate(case.arch.level):
        np.testing.assert_allclose(total.reads[n] + np.zeros(batch), reads[level], rtol=1e-12)
        np.testing.assert_allclose(total.writes[n] + np.zeros(batch), writes[level], rtol=1e-12)
    for b in busy(nest, case.arch):
        einsum = case.problem.cascade.steps[b.einsum]
        unit = case.arch.unit[b.unit]
        each, joules = cost(unit, work(einsum))
        assert each == cycles_a_point(unit, einsum, Leaf(b.einsum, b.unit))
        assert joules == energy.operation_joules(unit, einsum, 1.0)
        np.testing.assert_array_equal(
            counts.steps(b.einsum, spreads[b.einsum]) * each + np.zeros(batch), b.cycles
        )
    rooms(case, group, counts, keeps, nest)


def rooms(
    case: Case, group: Group, counts: Counts, keeps: dict[str, list[Keep]], nest: Nest
) -> None:
    """Room, where holds neither share nor have copies."""
    holds = [h for n in nodes(group.tree) for h in n.holds]
    if any(h.copies > 1 or h.shares for h in holds):
        return
    for n, level in enumerate(case.arch.level):
        peak = 0.0
        for moment in counts.frame.moments:
            held = sum(
                counts.there(tensor, keep, moment)
                for tensor, found in keeps.items()
                for keep in found
                if keep.level == n
            )
            peak = max(peak, float(np.max(held)))
        assert peak == occupancy(nest, level, 1.0).total_bytes


def nodes(tree: Node) -> list[Node]:
    return [tree, *(x for c in tree.children if isinstance(c, Node) for x in nodes(c))]


def deepening(case: Case) -> bool:
    """Whether every tensor is held at levels further in the further in its node is."""
    order = list(case.arch.level)
    for group in case.mapping.groups:
        for leaf in leaves(group.tree):
            del leaf
        for path in paths(group.tree):
            held: dict[str, list[int]] = {}
            for node in path:
                for h in node.holds:
                    held.setdefault(h.tensor, []).append(order.index(h.level))
            if any(a > b for levels in held.values() for a, b in pairwise(levels)):
                return False
    return True


def paths(tree: Node, above: tuple[Node, ...] = ()) -> list[tuple[Node, ...]]:
    here = (*above, tree)
    return [here, *(p for c in tree.children if isinstance(c, Node) for p in paths(c, here))]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(PLAIN, 5))
def test_batches_equal_the_models(case: Case) -> None:
    if not case.mapping.partial_sums or not deepening(case):
        return
    for group in case.mapping.groups:
        counted(case, group)
