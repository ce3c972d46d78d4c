"""Latency step by step: what the published overlap of a stage's units does not give.

``models.latency`` adds up what each unit does in a stage over the whole run
and takes the busiest, as the published models do.  Three things make a stage
longer than that, and all follow from the mapping alone:

- An Einsum that runs once in many steps (``AV`` after the loop over keys) is
  done within one of them.  The other unit has no more to do in that step than
  in any other, so the busiest unit is to be taken step by step.
- A tile that is held once cannot be written anew before it was read.  Where a
  stage makes it, works on it and reads it on several units, these take turns:
  a step takes the longest way from the writer to the last reader, over the
  copies (the mean cycle of a marked graph, Karp, 1978; Cormen et al., 24-5).
- Words that an array reads and writes straight at a level on chip come at the
  pace of its port while their Einsum runs; other Einsums of the unit do not
  bring them any sooner, so that a unit takes the sum of what each takes.

All are lower bounds of what a schedule of whole tiles takes.  Work that can
go on piece by piece (loops with which all of a node's children begin) divides
the way by the number of pieces.  Not counted: tiles held once that wait for
memory, which the simulator shows.
"""

from __future__ import annotations

import math

from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.mapping import Node, Tree, leaves
from accelsim.ir.problem import Problem
from accelsim.models.estimate import Estimate, GroupEstimate
from accelsim.models.latency import fill_cycles
from accelsim.models.nest import Nest


def in_turn_s(
    problem: Problem, arch: Architecture, mapping: BoundMapping, found: Estimate
) -> float:
    """Seconds of a mapping step by step; never below the estimate's ``latency_s``.

    ``found`` is the estimate of the same.  FLAT at 64K fills its buffer with one
    block of scores, so that QK, the softmax and AV take turns:

    >>> from accelsim.explore.estimate import bind
    >>> from accelsim.models.estimate import estimate
    >>> bound = bind(design="flat", model="BERT", seq="64K")
    >>> overlapped = estimate(*bound)
    >>> round(in_turn_s(*bound, overlapped) / overlapped.latency_s, 4)
    1.3125
    """
    return sum(
        max(g.latency_s, _Turns(Nest(problem, mapping, group), arch, g).cycles() / arch.clock_hz)
        for group, g in zip(mapping.groups, found.groups, strict=True)
    )


class _Turns:
    """One group: the nodes down to where several units share a step, and what stands beside."""

    def __init__(self, nest: Nest, arch: Architecture, found: GroupEstimate) -> None:
        self.nest, self.arch, self.found = nest, arch, found
        self.cycles_of = {b.einsum: max(b.cycles, self._ports(b.einsum)) for b in found.busy}
        self.unit_of = {b.einsum: b.unit for b in found.busy}
        self.path: list[Node] = [nest.group.tree]
        self.runs: dict[str, int] = {}  # of Einsums beside the path: iterations around them
        while (child := self._down(self.path[-1])) is not None:
            for beside in self.path[-1].children:
                if beside is not child:
                    times = _trips(self.path)
                    self.runs |= {leaf.einsum: times for leaf in leaves(beside)}
            self.path.append(child)

    def cycles(self) -> float:
        """Cycles of the group's stages, one after the other, and of filling the arrays."""
        total = fill_cycles(self.nest.group, self.arch)
        for stage in self.found.stages:
            waits = sum(cycles for _, cycles in stage.stalls)
            longest = max(stage.cycles - waits, self._by_step(stage.einsums))
            total += max(longest, self._one_slot(stage.einsums)) + waits
        return total

    def _ports(self, einsum: str) -> float:
        """Cycles of the busiest port on chip for the words of an Einsum's array."""
        longest = 0.0
        for level in self.arch.levels:
            if level is self.arch.backing:
                continue
            moved = [t for t in self.found.transfers if (t.level, t.einsum) == (level.name, einsum)]
            reads, writes = sum(t.reads for t in moved), sum(t.writes for t in moved)
            word = self.arch.word_bytes
            seconds = level.seconds(reads * word, writes * word)
            longest = max(longest, seconds * self.arch.clock_hz)
        return longest

    def _down(self, node: Node) -> Node | None:
        """The child that the steps go on into: the only one, or the one of several units."""
        inner = [c for c in node.children if isinstance(c, Node)]
        if len(node.children) == 1:
            return inner[0] if inner else None
        turns = [c for c in inner if len(self._units(c)) > 1]
        return turns[0] if len(turns) == 1 else None

    def _units(self, tree: Tree) -> set[str]:
        return {leaf.unit for leaf in leaves(tree)}

    def _by_step(self, einsums: tuple[str, ...]) -> float:
        """Cycles of a stage whose Einsums beside the path are done within single steps.

        What one of them adds to its step is what its unit then takes beyond the
        busiest; of several units that which adds most is taken.  No unit takes
        less than all its Einsums one after the other.  Where last tiles are short, steps
        differ, and that is all that is said.
        """
        steps = _trips(self.path)
        each: dict[str, float] = dict.fromkeys((self.unit_of[e] for e in einsums), 0.0)
        whole = dict(each)
        for e in einsums:
            whole[self.unit_of[e]] += self.cycles_of[e]
            if e not in self.runs:
                each[self.unit_of[e]] += self.cycles_of[e] / steps
        if self.nest.short:
            return max(*whole.values(), 0.0)
        busiest = max(each.values(), default=0.0)
        more = dict.fromkeys(each, 0.0)
        for e in einsums:
            if e in self.runs:
                unit, times = self.unit_of[e], self.runs[e]
                own = each[unit] + self.cycles_of[e] / times
                more[unit] += times * max(0.0, own - busiest)
        return max(steps * busiest + max(more.values(), default=0.0), *whole.values(), 0.0)

    def _one_slot(self, einsums: tuple[str, ...]) -> float:
        """Cycles of the slowest tile of a stage that its units make and use in turn."""
        node = self.path[-1]
        blocks = [c for c in node.children if any(leaf.einsum in einsums for leaf in leaves(c))]
        if len(blocks) < 2 or len({u for c in blocks for u in self._units(c)}) < 2:
            return 0.0
        pieces = _common(node.children)
        longest = 0.0
        for hold in node.holds:
            home = self.nest.home(hold.tensor)
            if home is None or home[1] is not hold or hold.shares:
                continue
            room = {h.tensor for h in node.holds if hold.tensor in (h.tensor, h.shares)}
            users = {e for t in room for e in self.nest.cascade.users[t]}
            if room & set(self.nest.cascade.iterative) or not users <= set(einsums):
                continue
            way = self._way(blocks, users, einsums)
            longest = max(longest, way / (hold.copies * pieces))
        return longest

    def _way(self, blocks: list[Tree], users: set[str], einsums: tuple[str, ...]) -> float:
        """Cycles of the longest way along what blocks read of one another, from users to users."""
        steps = self.nest.steps
        made = [{x.einsum for x in leaves(b)} & set(einsums) for b in blocks]
        ends: list[float | None] = []
        longest = 0.0
        for n in range(len(blocks)):
            before = [
                end
                for m, end in enumerate(ends)
                if end is not None and self._reads(made[n], made[m])
            ]
            first = any(steps[e].output.tensor in self._tensors(users) for e in made[n] & users)
            if not before and not first:
                ends.append(None)
                continue
            end = max(before, default=0.0) + self._takes(made[n])
            ends.append(end)
            if made[n] & users:
                longest = max(longest, end)
        return longest

    def _tensors(self, users: set[str]) -> set[str]:
        return {self.nest.steps[e].output.tensor for e in users}

    def _reads(self, reader: set[str], writer: set[str]) -> bool:
        """Whether an Einsum of one block reads what another makes, recurrences aside."""
        cascade = self.nest.cascade
        written = {self.nest.steps[e].output.tensor for e in writer} - set(cascade.iterative)
        return any(a.tensor in written for e in reader for a in cascade.operands[e])

    def _takes(self, einsums: set[str]) -> float:
        """Cycles of a block's Einsums: their busiest unit."""
        busy: dict[str, float] = {}
        for e in einsums:
            busy[self.unit_of[e]] = busy.get(self.unit_of[e], 0.0) + self.cycles_of[e]
        return max(busy.values())


def _trips(path: list[Node]) -> int:
    return math.prod(loop.trips for node in path for loop in node.loops)


def _common(children: tuple[Tree, ...]) -> int:
    """Iterations of the loops with which all children begin.

    >>> from accelsim.ir.mapping import Leaf, Loop
    >>> one, two = Loop("P1", 4), Loop("M1", 8)
    >>> _common((Leaf("S", "u", (one, two)), Node((one,), (), ())))
    4
    """
    heads = [[loop for loop in child.loops if loop.trips > 1] for child in children]
    count = 1
    while heads and all(heads) and len({h[0] for h in heads}) == 1:
        count *= heads[0][0].trips
        heads = [h[1:] for h in heads]
    return count
