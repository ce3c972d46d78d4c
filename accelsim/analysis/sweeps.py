"""The pass in which each Einsum can run, as seen from one fiber.  The argument: ``passes``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Final, TypeAlias

from accelsim.analysis.fibers import Plan, Read, Root
from accelsim.analysis.graph import strong_components

#: The count for a rank that is swept again for each step of a recurrence along another rank.
UNBOUNDED: Final = math.inf

#: Where a node stands on an anchor, counted from the fiber's own coordinate (the first and the
#: last number stand for all that is further off), or nowhere: the Einsum does not run over it.
HERE, NOWHERE = 0, 99
#: Neighbours of a fiber that are told apart; a recurrence needs one.
NEAR: Final = 2
#: An Einsum and where it stands on each anchor.
Node: TypeAlias = tuple[int, tuple[int, ...]]
#: Positions of a tensor that carry the coordinate r, apart for each part of a split rank, outermost
#: first; and whether they tell it exactly.  (``GM[p]``, a maximum over w of ``K[p+w]``, and
#: ``LM[m1]``, one over m0, carry summaries of several elements.)
Label: TypeAlias = tuple[tuple[frozenset[int], ...], bool]


@dataclass(frozen=True, slots=True)
class Use:
    """How a node reads one access, as far as the family is concerned.

    ``direct``: the fiber itself; ``element``: elements of the family, not only
    summaries; ``kept`` and ``dropped``: at r, and the output carries r, or
    does not; ``last``: the last slot; ``fixed``: one element; ``all_slots``: a
    running value at slots that r does not tell.
    """

    tensor: str
    sources: tuple[Node, ...]
    direct: bool
    element: bool
    kept: bool
    dropped: bool
    last: bool
    fixed: bool
    all_slots: bool


@dataclass(frozen=True, slots=True)
class Level:
    """``stream`` and ``done`` of what a node writes, the pass it ``visits`` in; 0: none."""

    stream: float = 0
    done: float = 0
    visits: float = 0

    def values(self) -> tuple[float, float, float]:
        """The three, in that order."""
        return self.stream, self.done, self.visits


class Sweeps:
    """The levels of every Einsum as seen from the fibers of one root.

    ``most``: the passes.  ``endless``: the nodes of a cycle that makes them
    unbounded.
    """

    def __init__(self, plan: Plan, root: Root) -> None:
        self.plan = plan
        self.root = root
        self.levels: dict[Node, Level] = {}
        self.endless: list[Node] = []
        self._near = self._reach()
        self._labels = self._family()
        self._running = self._run_along()
        self.uses: dict[Node, tuple[Use, ...]] = {}
        if self._may_complete():
            self._build()
            self._solve()
        self.most: float = max((v.visits for v in self.levels.values()), default=1)

    # -- the family: which positions of which tensors carry the coordinate

    def _family(self) -> dict[str, set[Label]]:
        found: dict[str, set[Label]] = {self.root.tensor: {(self.root.label, True)}}
        todo = [self.root.tensor]
        while todo:
            tensor = todo.pop()
            for n in self.plan.graph.readers.get(tensor, ()):
                target = self.plan.target[n]
                new = {
                    label
                    for read in self.plan.reads[n]
                    if read.tensor == tensor
                    for of in found[tensor]
                    if (label := self._moved(n, read, of))[0]
                } - found.get(target, set())
                if new:
                    found[target] = found.get(target, set()) | new
                    todo.append(target)
        return found

    def _moved(self, n: int, read: Read, label: Label) -> Label:
        """The label of what Einsum ``n`` writes, from one of what it reads; empty: r is gone.

        Of a split rank parts are carried from the outermost inwards: without
        it a value is there only in the last tile.
        """
        parts: list[frozenset[int]] = []
        exact = label[1]
        for part in label[0]:
            carriers = read.carriers(part)
            moved = frozenset(
                i for i, at in enumerate(self.plan.output[n]) if at.variables & carriers
            )
            told = frozenset(v for i in moved for v in self.plan.output[n][i].variables)
            exact = exact and bool(carriers) and carriers <= told
            if not moved:
                break
            parts.append(moved)
        return tuple(parts), exact

    def _run_along(self) -> set[str]:
        """Family tensors whose element r depends on those before it: recurrences along R."""
        found: set[str] = set()
        growing = True
        while growing:
            growing = False
            for n in self.plan.needed:
                target = self.plan.target[n]
                if target in found or target not in self._labels:
                    continue
                out = self.plan.output[n]
                labels = self._labels[target]
                steps = any(out[i].offset > 0 for of, _ in labels for part in of for i in part)
                if steps or any(
                    r.tensor in found
                    and any(self._moved(n, r, of)[0] for of in self._labels[r.tensor])
                    for r in self.plan.reads[n]
                ):
                    found.add(target)
                    growing = True
        return found

    def _may_complete(self) -> bool:
        """Whether anything completes the fiber at all; if nothing does, there is one pass."""
        return bool(self._running) or any(
            read.tensor == tensor and not self._moved(n, read, label)[0]
            for tensor, labels in self._labels.items()
            for n in self.plan.graph.readers.get(tensor, ())
            for read in self.plan.reads[n]
            for label in labels
        )

    # -- nodes and edges

    def _reach(self) -> int:
        """How far along an anchor the fiber is read from: 1 where slots t and t+1 are, else 0."""
        offsets = (
            abs(read.at[k].offset)
            for n in self.plan.graph.readers.get(self.root.tensor, ())
            for read in self.plan.reads[n]
            if read.tensor == self.root.tensor
            for _, k in self.root.anchors
        )
        return min(NEAR, max(offsets, default=0))

    def _from(self, first: int) -> tuple[int, ...]:
        return tuple(range(max(first, -self._near - 1), self._near + 2))

    def _build(self) -> None:
        reached = {self.root.tensor}
        todo = [self.root.tensor]
        einsums: set[int] = set()
        while todo:
            for n in self.plan.graph.readers.get(todo.pop(), ()):
                einsums.add(n)
                if self.plan.target[n] not in reached:
                    reached.add(self.plan.target[n])
                    todo.append(self.plan.target[n])
        for n in sorted(einsums):
            stands = [
                self._from(-self._near - 1) if q.lower() in self.plan.variables[n] else (NOWHERE,)
                for q, _ in self.root.anchors
            ]
            for stand in product(*stands):
                self.uses[n, stand] = ()
        kinds = {n: [(read, self._kind(n, read)) for read in self.plan.reads[n]] for n in einsums}
        for node in self.uses:
            uses = (self._use(node, read, *kind) for read, kind in kinds[node[0]])
            self.uses[node] = tuple(u for u in uses if u.direct or u.sources)

    def _kind(self, n: int, read: Read) -> tuple[bool, bool, bool, bool, bool, bool]:
        """The last six fields of ``Use``, which do not depend on where the node stands."""
        element = kept = dropped = last = fixed = all_slots = False
        for label in self._labels.get(read.tensor, ()):
            carriers = read.carriers(label[0][0])
            if carriers:
                carried = bool(self._moved(n, read, label)[0])
                kept, dropped = kept or carried, dropped or not carried
                element = element or (label[1] and all(read.carriers(part) for part in label[0]))
                all_slots = all_slots or (
                    read.tensor in self._running and self._other_index(n, read, carriers)
                )
            elif read.tensor in self._running and any(read.at[k].last for k in label[0][0]):
                last = True
            else:
                fixed = True
        return element, kept, dropped, last, fixed, all_slots

    def _other_index(self, n: int, read: Read, carriers: frozenset[str]) -> bool:
        """Whether the Einsum reads the family at another index than ``carriers`` too."""
        return any(
            (its := other.carriers(label[0])) and not its & carriers
            for other in self.plan.reads[n]
            for label, _ in self._labels.get(other.tensor, ())
        )

    def _use(self, node: Node, read: Read, *kind: bool) -> Use:
        n, stand = node
        sources = tuple(
            source
            for w in read.writers
            for where in product(
                *(
                    self._joined(n, at, read, w, q)
                    for at, (q, _) in zip(stand, self.root.anchors, strict=True)
                )
            )
            if (source := (w, where)) in self.uses
        )
        direct = read.tensor == self.root.tensor and all(
            self._on_fiber(at, read, k, q)
            for at, (q, k) in zip(stand, self.root.anchors, strict=True)
        )
        return Use(read.tensor, sources, direct, *kind)

    def _on_fiber(self, stand: int, read: Read, k: int, q: str) -> bool:
        """Whether a read of the root's tensor may be of the fiber, as far as anchor q goes."""
        at = read.at[k]
        if at.plain != q.lower() or stand == NOWHERE:
            return True
        far = self._near + 1
        return stand == max(-far, min(far, -at.offset))

    def _joined(self, n: int, stand: int, read: Read, w: int, q: str) -> tuple[int, ...]:
        """Where on anchor q the writer of what is read may stand, the reader at ``stand``."""
        if q.lower() not in self.plan.variables[w]:
            return (NOWHERE,)
        for at, out in zip(read.at, self.plan.output[w], strict=False):
            if q.lower() in out.variables:
                if at.last:
                    return self._from(-self._near)
                if at.plain == out.plain == q.lower() and stand != NOWHERE:
                    return self._shifted(stand, at.offset - out.offset)
        return self._from(-self._near - 1)

    def _shifted(self, stand: int, by: int) -> tuple[int, ...]:
        """Where q + by may stand if q stands at ``stand``."""
        far = self._near + 1
        if stand == far and by < 0:
            return self._from(far + by)
        if stand == -far and by > 0:
            return tuple(-at for at in self._from(far - by))
        return (max(-far, min(far, stand + by)),)

    # -- the least fixpoint, strong component by strong component

    def _solve(self) -> None:
        nodes = list(self.uses)
        number = {node: i for i, node in enumerate(nodes)}
        follow: list[list[int]] = [[] for _ in nodes]
        for node, uses in self.uses.items():
            for use in uses:
                for source in use.sources:
                    follow[number[source]].append(number[node])
        self.levels = dict.fromkeys(nodes, Level())
        for component in strong_components(follow):
            members = [nodes[i] for i in component]
            if len(members) == 1 and component[0] not in follow[component[0]]:
                self.levels[members[0]] = self._level(members[0])
            else:
                self._solve_cycle(members)

    def _solve_cycle(self, members: list[Node]) -> None:
        """Raise the levels of a strong component until they stand; past ``highest`` they never do.

        A path without a cycle of positive weight rises at most once a node.
        """
        sources = {s for node in members for use in self.uses[node] for s in use.sources}
        entry = max((max(self.levels[s].stream, self.levels[s].done) for s in sources), default=0)
        highest = entry + len(members) + 1
        growing = True
        while growing:
            growing = False
            for node in members:
                level = self._level(node)
                if max(level.values()) > highest:
                    level = Level(*(UNBOUNDED if x else 0 for x in level.values()))
                    if not self.endless and entry < UNBOUNDED:
                        self.endless = members
                if level != self.levels[node]:
                    self.levels[node] = level
                    growing = True

    def _level(self, node: Node) -> Level:
        stream = done = soft = 0.0
        visits = kept = dropped = False
        here = all(s in (HERE, NOWHERE) for s in node[1])
        for use in self.uses[node]:
            at: float = 1 if use.direct else 0
            for source in use.sources:
                of = self.levels[source]
                at, done = max(at, of.stream), max(done, of.done)
            if not at:
                continue
            if use.last or use.all_slots:
                done = max(done, at)
            if use.fixed:
                soft = max(soft, at)
            if use.kept or use.dropped:
                stream = max(stream, at)
                visits = visits or (use.element and (use.direct or here))
                kept, dropped = kept or use.kept, dropped or use.dropped
        if visits:
            level = max(1, stream, soft, done + 1 if done else 0)
            return Level(level if kept else 0, level if dropped else 0, level)
        return Level(stream if kept else 0, max(done, stream if dropped else 0, soft - 1))

    def bands(self) -> dict[str, float]:
        """For each Einsum that depends on the fiber the pass in which, or after which, it runs."""
        found: dict[str, float] = {}
        for (n, _), level in self.levels.items():
            name = self.plan.names[n]
            found[name] = max(found.get(name, 1), *level.values())
        return found
