"""Latency step by step: what the published overlap of a stage's units does not give.

``models.latency`` adds up what each unit does in a stage over the whole run
and takes the busiest, as the published models do.  Four things make a stage
longer than that, and all follow from the mapping alone:

- An Einsum that runs once in many steps (``AV`` after the loop over keys) is
  done within one of them.  Units that work on the steps together have no more
  to do in that step than in any other, so the busiest is to be taken step by step.
- A tile that is held once cannot be written anew before it was read.  Where a
  stage makes it, works on it and reads it on several units, these take turns:
  a step takes the longest way from the writer to the last reader, over the
  copies (the mean cycle of a marked graph, Karp, 1978; Cormen et al., 24-5).
  What reads a copy, held further in, leaves the tile to the next before.
- A state that several units work on (the running sum that one scales and the
  other adds to) goes from one to the next in every step of its recurrence.
- Words that an array reads and writes straight at a level on chip come at the
  pace of its port while their Einsum runs; other Einsums of the unit do not
  bring them any sooner, so that a unit takes the sum of what each takes.

All are lower bounds of what a schedule takes that goes through the mapping's own
steps; one of longer steps (where these are shorter than ``sim.nest.SHORTEST_STEP``)
may do what is beside them piece by piece, and take less.  Work that can
go on piece by piece (loops with which all of a node's children begin) divides
the way by the number of pieces.  Not counted: tiles held once that wait for
memory, which the simulator shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from graphlib import TopologicalSorter

from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Access, Index
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.mapping import Node, Tree, leaves, walk
from accelsim.ir.problem import Problem
from accelsim.models.estimate import Estimate, GroupEstimate
from accelsim.models.latency import fill_cycles
from accelsim.models.nest import Nest


def in_turn_s(
    problem: Problem,
    arch: Architecture,
    mapping: BoundMapping,
    found: Estimate,
    nests: Sequence[Nest] | None = None,
) -> float:
    """Seconds of a mapping step by step; never below the estimate's ``latency_s``.

    ``found`` is the estimate of the same, ``nests`` its groups where they are known.

    FLAT at 64K fills its buffer with one block of scores, so that QK, the softmax and AV
    take turns:

    >>> from accelsim.explore.estimate import bind
    >>> from accelsim.models.estimate import estimate
    >>> bound = bind(design="flat", model="BERT", seq="64K")
    >>> overlapped = estimate(*bound)
    >>> round(in_turn_s(*bound, overlapped) / overlapped.latency_s, 4)
    1.3125
    """
    if nests is None:
        nests = [Nest(problem, mapping, group) for group in mapping.groups]
    return sum(
        max(g.latency_s, _Turns(nest, arch, g).cycles() / arch.clock_hz)
        for nest, g in zip(nests, found.groups, strict=True)
    )


class _Turns:
    """One group: the nodes down to where several units share a step, and what stands beside."""

    def __init__(self, nest: Nest, arch: Architecture, found: GroupEstimate) -> None:
        self.nest, self.arch, self.found = nest, arch, found
        ports = self._ports()
        self.cycles_of = {b.einsum: max(b.cycles, ports.get(b.einsum, 0.0)) for b in found.busy}
        self.unit_of = {b.einsum: b.unit for b in found.busy}
        self.path: list[Node] = [nest.group.tree]
        self.runs: dict[str, int] = {}  # of Einsums beside the path: iterations around them
        while (child := self._down(self.path[-1])) is not None:
            for beside in self.path[-1].children:
                if beside is not child:
                    times = _trips(self.path)
                    self.runs |= {leaf.einsum: times for leaf in leaves(beside)}
            self.path.append(child)
        children = self.path[-1].children
        self.block = {x.einsum: n for n, child in enumerate(children) for x in leaves(child)}
        self.pieces = _common(children)

    def cycles(self) -> float:
        """Cycles of the group's stages, one after the other, and of filling the arrays."""
        total = fill_cycles(self.found.busy, self.arch)
        for stage in self.found.stages:
            waits = sum(cycles for _, cycles in stage.stalls)
            longest = max(stage.cycles - waits, self._by_step(stage.einsums))
            total += max(longest, self._in_turn(stage.einsums)) + waits
        return total

    def _ports(self) -> dict[str, float]:
        """Cycles of the busiest port on chip for the words of each Einsum's array."""
        moved: dict[tuple[str, str], tuple[float, float]] = {}
        for level, _, einsum, reads, writes in self.found.transfers:
            before = moved.get((level, einsum), (0.0, 0.0))
            moved[level, einsum] = before[0] + reads, before[1] + writes
        longest: dict[str, float] = {}
        word = self.arch.word_bytes
        for (name, einsum), (reads, writes) in moved.items():
            if name != self.arch.backing.name:
                seconds = self.arch.level[name].seconds(reads * word, writes * word)
                cycles = seconds * self.arch.clock_hz
                longest[einsum] = max(longest.get(einsum, 0.0), cycles)
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
        differ, and that is all that is said; so it is where the steps of the stage are of
        one unit alone, which may do all of them while another does what is beside them.
        """
        steps = _trips(self.path)
        each: dict[str, float] = dict.fromkeys((self.unit_of[e] for e in einsums), 0.0)
        whole = dict(each)
        for e in einsums:
            whole[self.unit_of[e]] += self.cycles_of[e]
            if e not in self.runs:
                each[self.unit_of[e]] += self.cycles_of[e] / steps
        abreast = {self.unit_of[e] for e in einsums if e not in self.runs}
        if self.nest.short or len(abreast) < 2:
            return max(*whole.values(), 0.0)
        busiest = max(each.values(), default=0.0)
        more = dict.fromkeys(each, 0.0)
        for e in einsums:
            if e in self.runs:
                unit, times = self.unit_of[e], self.runs[e]
                own = each[unit] + self.cycles_of[e] / times
                more[unit] += times * max(0.0, own - busiest)
        return max(steps * busiest + max(more.values(), default=0.0), *whole.values(), 0.0)

    def _in_turn(self, einsums: tuple[str, ...]) -> float:
        """Cycles of the slowest tile or state that a stage's units work on in turn."""
        node = self.path[-1]
        block = {e: n for e, n in self.block.items() if e in einsums}
        if len(set(block.values())) < 2 or len({self.unit_of[e] for e in block}) < 2:
            return 0.0
        return max(self._one_slot(node, block), self._state(block))

    def _one_slot(self, node: Node, block: dict[str, int]) -> float:
        """Cycles of the slowest tile that is made and used in turn."""
        longest = 0.0
        for hold in node.holds:
            home = self.nest.home(hold.tensor)
            if home is None or home.hold is not hold or hold.shares:
                continue
            room = {h.tensor for h in node.holds if hold.tensor in (h.tensor, h.shares)}
            users = {e for t in room for e in self.nest.cascade.users[t]}
            if room & set(self.nest.cascade.iterative) or not users <= block.keys():
                continue
            copied = {e for t in room for e in _copied(node, t)}
            way = self._way(self._made(hold.tensor, block), users - copied, block)
            longest = max(longest, way / (hold.copies * self.pieces))
        return longest

    def _state(self, block: dict[str, int]) -> float:
        """Cycles of the slowest state that goes from step to step through several Einsums.

        What reads the slot of the step before waits for what wrote it, and so
        on through all steps of the innermost loops, if they are those of the
        recurrence.  With the next iteration of the loops around them a new
        state begins, when the reader has done its last step of this one.
        """
        loops = [loop for n in self.path for loop in n.loops if loop.trips > 1]
        longest = 0.0
        for tensor, rank in self.nest.cascade.iterative.items():
            own = {loop.part for loop in self.nest.by_rank.get(rank, ())}
            slots = 1
            for loop in reversed(loops):
                if loop.part not in own:
                    break
                slots *= loop.trips
            for e in block:
                if any(
                    self._old(a, rank) for a in self.nest.cascade.operands[e] if a.tensor == tensor
                ):
                    way = self._way({e}, self._made(tensor, block), block)
                    more = (slots - 1) * way / self.pieces
                    longest = max(longest, (more + self.cycles_of[e]) / slots)
        return longest

    def _old(self, access: Access, rank: str) -> bool:
        """Whether an access reads the slot that the step before has written."""
        ranks = self.nest.cascade.tensors[access.tensor]
        at = access.indices[ranks.index(rank)]
        return isinstance(at, Index) and bool(at.terms) and at.offset == 0

    def _made(self, tensor: str, block: dict[str, int]) -> set[str]:
        """The Einsums that write a tensor."""
        return {e for e in block if self.nest.cascade.steps[e].output.tensor == tensor}

    def _way(self, first: set[str], last: set[str], block: dict[str, int]) -> float:
        """Cycles from the beginning of the first Einsums to the end of the last, in one step.

        ``block`` says in which child of the node each Einsum of the stage is.
        Of the Einsums only those count that the first hand on to and that the
        last need: what else is in a block may be done at another time.  What
        comes from another block is there when its Einsum has done all of the
        step.  Within a block Einsums may go on piece by piece: from the first
        piece of one to the last of another each unit does all that lies
        between the two, and the busiest needs no less than that.
        """
        cascade, steps = self.nest.cascade, self.nest.cascade.steps
        made = {steps[e].output.tensor: e for e in block}
        reads = {
            e: {made[a.tensor] for a in cascade.operands[e]
                if a.tensor in made and a.tensor not in cascade.iterative}
            for e in block
        }  # fmt: skip
        needs: dict[str, set[str]] = {}
        ends: dict[str, float] = {}
        for e in TopologicalSorter(reads).static_order():
            needs[e] = {e}.union(*(needs[w] for w in reads[e]))
            here = {x for x in needs[e] if block[x] == block[e]}
            found = []
            for x in here:
                begins = [ends[w] for w in reads[x] - here if w in ends]
                begins += [0.0] * (x in first)
                if begins:
                    found.append(max(begins) + self._takes({z for z in here if x in needs[z]}))
            if found:
                ends[e] = max(found)
        return max((end for e, end in ends.items() if e in last), default=0.0)

    def _takes(self, einsums: set[str]) -> float:
        """Cycles of some Einsums of a block: their busiest unit."""
        busy: dict[str, float] = {}
        for e in einsums:
            busy[self.unit_of[e]] = busy.get(self.unit_of[e], 0.0) + self.cycles_of[e]
        return max(busy.values())


def _copied(node: Node, tensor: str) -> set[str]:
    """Einsums that a hold of a tensor below a node stands around.

    >>> from accelsim.ir.mapping import Hold, Leaf
    >>> inner = Node((), (Hold("A", "registers"),), (Leaf("Y", "u"),))
    >>> _copied(Node((), (Hold("A", "buffer"),), (inner, Leaf("Z", "u"))), "A")
    {'Y'}
    """
    return {
        leaf.einsum
        for child in node.children
        if isinstance(child, Node)
        for found, _ in walk(child)
        if isinstance(found, Node) and any(h.tensor == tensor for h in found.holds)
        for leaf in leaves(found)
    }


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
