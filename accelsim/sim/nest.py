"""The loop nest of a group as a simulator sees it: steps, and what is inside one.

A *step* is one iteration of the loops that the group's work shares.  They are
found from the root inwards: through the only child, or the one that several
units work on, or the one with most of the work.  Work beside that child runs
once, before the first or after the last step of each iteration around it.
Loops with which all children begin are shared as well, where running the
children turn by turn is legal (of an only child, until there are enough
steps).  Or a step is all work below the first fork, each child whole before the
next.  A step is no shorter than ``SHORTEST_STEP`` cycles unless several
units work in turns within it: a port rounds each request up to whole cycles,
which must not be felt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from accelsim.errors import Fault, InputError, one_of
from accelsim.ir.arch import Architecture, Unit
from accelsim.ir.cascade import Access, Index, Last, rank_of
from accelsim.ir.mapping import (
    Group,
    Hold,
    Leaf,
    Loop,
    Mapping,
    Node,
    Tree,
    leaves,
    short_parts,
    walk,
)
from accelsim.ir.problem import Problem
from accelsim.sim.points import cycles_a_point
from accelsim.sim.short import Ends
from accelsim.sim.tiles import Line, Round, lines, strides

#: Cycles that a step has at least, where its loops leave the choice.
SHORTEST_STEP = 256
#: Steps after which the own loops of a lone Einsum stay inside a step.
ENOUGH_STEPS = 256


def folds(leaf: Leaf, unit: Unit) -> tuple[tuple[Round, int], ...]:
    """Rounds in which a leaf covers more than the unit's sides, each with the PEs that it takes.

    Parts take PEs in the order in which they are named.  The first that does
    not fit beside those before it goes in rounds; all after it go one by one.
    """
    found = []
    for spread, side in ((leaf.rows, unit.rows), (leaf.cols, unit.cols)):
        room = side
        for loop in spread:
            pes = min(loop.trips, room)
            if pes < loop.trips:
                found.append((Round(loop.part, -(-loop.trips // pes), pes), pes))
            room = room // loop.trips if loop.trips <= room else 1
    return tuple(found)


def several(loops: tuple[Loop, ...]) -> list[Loop]:
    """The loops with more than one trip."""
    return [loop for loop in loops if loop.trips > 1]


@dataclass(frozen=True, slots=True)
class Work:
    """A leaf in its place: nodes above, step loops around it, cycles of all it does.

    ``side`` is "first" or "last" where it runs once in all steps of the loops
    that it is not under, in their first or last iteration; else "".
    """

    leaf: Leaf
    above: tuple[Node, ...]
    depth: int
    side: str
    cycles: float


class Nest:
    """A group of a mapping, with its step loops found; ``whole``: none below a fork."""

    def __init__(
        self,
        problem: Problem,
        arch: Architecture,
        mapping: Mapping,
        group: Group,
        whole: bool = False,
    ) -> None:
        self.problem, self.arch, self.group = problem, arch, group
        self.mapping = mapping.within(group)
        self.cascade = problem.cascade
        self.parts, self.short = short_parts(self.mapping, problem.short, problem.extent)
        self.ends = Ends(
            tuple((strides(self.parts[rank]), size) for rank, size in self.short.items())
        )
        self._lines: dict[int, tuple[Line, ...]] = {}
        self.paths: dict[str, tuple[Leaf, tuple[Node, ...]]] = {
            tree.einsum: (tree, above) for tree, above in walk(group.tree) if isinstance(tree, Leaf)
        }
        self.cycles = {e: self._cycles(leaf, above) for e, (leaf, above) in self.paths.items()}
        self.stage = {e: n for n, s in enumerate(group.stages) for e in s.einsums}
        self._apart: dict[str, tuple[int, str]] = {}
        self.steps = self._steps(whole)
        self.work = {
            e: Work(leaf, above, *self._apart.get(e, (len(self.steps), "")), self.cycles[e])
            for e, (leaf, above) in self.paths.items()
        }
        self.bodies = [
            math.prod(loop.trips for loop in self.steps[n:]) for n in range(len(self.steps) + 1)
        ]

    def lines(self, access: Access) -> tuple[Line, ...]:
        """The lines of an access."""
        if id(access) not in self._lines:
            found = lines(self.problem, self.parts, access)
            if any(map(self._uncounted, found)):
                ranks = one_of(self.short)
                message = (
                    f"a window, a quotient or a recurrence along it where the last tile of {ranks} "
                    "is short"
                )
                raise InputError([Fault(access.place, message, "splits that divide")])
            self._lines[id(access)] = tuple(self._ended(list(found)))
        return self._lines[id(access)]

    def _ended(self, found: list[Line]) -> list[Line]:
        """Lines whose tiles end where their ranks do.

        The two of a rank that the cascade itself splits are one, along the whole rank; tiles
        of it that stand without their elements are all there, as slots are.
        """
        for rank, size in self.short.items():
            own = [x for x in found if not x.slot and self._along(x, rank)]
            rest = [x for x in found if x not in own]
            if own and rank in self.problem.short:
                outer, inner = self.problem.short[rank]
                tiles = next(x for x in own if self._along(x, outer))
                ended = replace(tiles, most=self.problem.extent(outer))
                for x in own:
                    if self._along(x, inner):
                        tile = self.problem.extent(inner)
                        terms = (*((p, c * tile) for p, c in tiles.terms), *x.terms)
                        ended = replace(x, terms=terms, most=size)
                found = [*rest, ended]
            else:
                found = [*rest, *(replace(x, most=size) for x in own)]
        return found

    def _along(self, line: Line, rank: str) -> bool:
        """Whether a line runs over parts of a rank."""
        own = {loop.part for loop in self.parts[rank]}
        return any(part in own for part, _ in line.terms)

    def _uncounted(self, line: Line) -> bool:
        """Whether a line bends, or tells slots along a rank that ends within its last tile."""
        if line.slot:
            inner = {self.parts[rank][-1].part for rank in self.short}
            return any(part in inner for part, _ in line.terms)
        return bool(self.short) and (line.divisor > 1 or line.most is not None)

    def _cycles(self, leaf: Leaf, above: tuple[Node, ...]) -> float:
        unit = self.arch.unit[leaf.unit]
        loops = [*(loop for node in above for loop in node.loops), *leaf.loops]
        rounds = math.prod(loop.trips for loop in loops)
        rounds *= math.prod(r.trips for r, _ in folds(leaf, unit))
        return rounds * cycles_a_point(unit, self.cascade.steps[leaf.einsum], leaf)

    # -- step loops --------------------------------------------------------------------------

    def _steps(self, whole: bool) -> tuple[Loop, ...]:
        node, steps = self.group.tree, list[Loop]()
        while True:
            for loop in several(node.loops):
                if not self._worth(node, [*steps, loop]):
                    return tuple(steps)
                steps.append(loop)
            if whole and len(node.children) > 1:
                return tuple(steps)
            child = self._main(node, steps)
            if child is None:
                return tuple(self._turns(node, steps))
            side = "first"
            for other in node.children:
                if other is child:
                    side = "last"
                    continue
                for leaf in leaves(other):
                    self._apart[leaf.einsum] = (len(steps), side)
            node = child

    def _worth(self, tree: Tree, steps: list[Loop]) -> bool:
        """Whether steps that short are wanted: several units need them, one unit a length."""
        busy: dict[str, float] = {}
        for leaf in leaves(tree):
            busy[leaf.unit] = busy.get(leaf.unit, 0.0) + self.cycles[leaf.einsum]
        times = math.prod(loop.trips for loop in steps)
        return len(busy) > 1 or max(busy.values()) >= times * SHORTEST_STEP

    def _main(self, node: Node, steps: list[Loop]) -> Node | None:
        """The child that steps go on into."""
        inner = [c for c in node.children if isinstance(c, Node)]
        if len(node.children) == 1:
            return inner[0] if inner else None
        turns = [c for c in inner if len({leaf.unit for leaf in leaves(c)}) > 1]
        if turns:
            return turns[0] if len(turns) == 1 else None
        if len({leaf.unit for leaf in leaves(node)}) > 1:
            return None
        total = sum(self.cycles[leaf.einsum] for leaf in leaves(node))
        for child in inner:
            own = sum(self.cycles[leaf.einsum] for leaf in leaves(child))
            loops = several(child.loops)
            if 2 * own > total and loops and self._worth(child, [*steps, loops[0]]):
                return child
        return None

    def _turns(self, node: Node, steps: list[Loop]) -> list[Loop]:
        """Step loops with those added that all children of the last node begin with."""
        heads = [several(child.loops) for child in node.children]
        if any(folds(leaf, self.arch.unit[leaf.unit]) for leaf in leaves(node)):
            return steps
        while heads and all(heads) and len({h[0] for h in heads}) == 1:
            loop = heads[0][0]
            if len(heads) == 1 and math.prod(x.trips for x in steps) >= ENOUGH_STEPS:
                break
            if not self._worth(node, [*steps, loop]) or not self._interleaves(node, loop):
                break
            steps.append(loop)
            heads = [h[1:] for h in heads]
        return steps

    def _interleaves(self, node: Node, loop: Loop) -> bool:
        """Whether the children may take turns in a loop that each of them has of its own.

        Not where one reads what another only completes over the whole loop,
        or elements of other iterations.
        """
        rank = self.mapping.rank[loop.part]
        child = {leaf.einsum: n for n, c in enumerate(node.children) for leaf in leaves(c)}
        for reader, own in child.items():
            for access in self.cascade.steps[reader].reads:
                for writer in self.cascade.writers.get(access.tensor, ()):
                    if child.get(writer.name, own) != own and (
                        rank in {rank_of(v) for v in writer.reduced}
                        or self._elsewhere(access, rank)
                    ):
                        return False
        return True

    def _elsewhere(self, access: Access, rank: str) -> bool:
        """Whether an access reads elements of other iterations along a rank."""
        along = self.cascade.iterative.get(access.tensor)
        ranks = self.cascade.tensors[access.tensor]
        for at, own in zip(access.indices, ranks, strict=True):
            if isinstance(at, Last):
                if own == along == rank:
                    return True
            elif own != along and at.plain is None and rank in map(rank_of, at.variables):
                return True
        return False

    # -- what is where -----------------------------------------------------------------------

    def inside(self, einsum: str) -> tuple[Round, ...]:
        """Loops inside a step around an Einsum, its rounds and own loops included."""
        work = self.work[einsum]
        loops = several(tuple(loop for node in work.above for loop in node.loops))
        own = several(work.leaf.loops)
        rounds = [r for r, _ in folds(work.leaf, self.arch.unit[work.leaf.unit])]
        found = [Round(loop.part, loop.trips, 1) for loop in loops]
        found += [*rounds, *(Round(loop.part, loop.trips, 1) for loop in own)]
        return tuple(found[work.depth :])

    def around(self, path: tuple[Node, ...]) -> tuple[int, tuple[Round, ...]]:
        """How many step loops are around a node's tiles, and the loops inside a step around them.

        ``path`` ends with the node.
        """
        loops = several(tuple(loop for node in path for loop in node.loops))
        deepest = max(self.work[leaf.einsum].depth for leaf in leaves(path[-1]))
        depth = min(len(loops), deepest)
        return depth, tuple(Round(loop.part, loop.trips, 1) for loop in loops[depth:])

    def made(self, tensor: str) -> bool:
        """Whether an Einsum of this group writes the tensor."""
        return any(w.name in self.paths for w in self.cascade.writers.get(tensor, ()))

    def local(self, tensor: str) -> bool:
        """Whether a tensor is made and used up within this group."""
        users = self.cascade.users.get(tensor, frozenset())
        written = tensor in self.cascade.writers and tensor not in self.cascade.outputs
        return written and users <= self.paths.keys()

    def users(self, tensor: str, node: Node | None = None) -> list[str]:
        """Einsums of the group that read or write a tensor, those below a node if one is given."""
        known = self.cascade.users.get(tensor, frozenset())
        return [
            e
            for e, (_, above) in self.paths.items()
            if e in known and (node is None or any(n is node for n in above))
        ]

    def accesses(self, tensor: str, einsums: list[str]) -> list[Access]:
        """Accesses of a tensor by some Einsums."""
        return [
            a
            for e in einsums
            for a in (*self.cascade.steps[e].reads, self.cascade.steps[e].output)
            if a.tensor == tensor
        ]

    def home(self, tensor: str) -> tuple[Node, Hold] | None:
        """The hold where an intermediate lives; None: the backing level.

        The innermost one that every use is below and that, for the state of a
        recurrence, is outside the loops it recurs along.
        """
        users = self.users(tensor)
        if not self.local(tensor) or not users:
            return None
        paths = [self.paths[e][1] for e in users]
        along = {p.part for p in self.parts.get(self.cascade.iterative.get(tensor, ""), ())}
        found = None
        for depth, node in enumerate(paths[0]):
            same = all(len(p) > depth and p[depth] is node for p in paths)
            if not same or any(loop.part in along for loop in node.loops):
                break
            for hold in node.holds:
                if hold.tensor == tensor and hold.staged is None:
                    found = (node, hold)
        return found

    def chain(self, tensor: str, above: tuple[Node, ...]) -> list[tuple[int, Hold]]:
        """Holds of a tensor on a path with the depth of their nodes, its home first, inwards."""
        found = [
            (depth, hold)
            for depth, node in enumerate(above)
            for hold in node.holds
            if hold.tensor == tensor and hold.staged is None
        ]
        home = self.home(tensor)
        if home is None:
            return found
        at = [n for n, (depth, h) in enumerate(found) if h is home[1] and above[depth] is home[0]]
        return found[at[0] :] if at else []

    def old(self, access: Access) -> bool:
        """Whether an access reads the slot that an earlier step of a recurrence wrote."""
        along = self.cascade.iterative.get(access.tensor)
        for at, rank in zip(access.indices, self.cascade.tensors[access.tensor], strict=True):
            if along is not None and rank == along and isinstance(at, Index):
                return bool(at.terms) and at.offset == 0
        return False

    def initial(self, access: Access) -> bool:
        """Whether an access reads but the slot that a recurrence begins with: it has no other."""
        along = self.cascade.iterative.get(access.tensor, "")
        return self.old(access) and all(p.trips == 1 for p in self.parts.get(along, ()))
