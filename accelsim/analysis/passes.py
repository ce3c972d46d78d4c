"""How many passes a cascade makes over each rank, with the chain of Einsums that forces each.

**Definition** (Nayak et al., FuseMax, MICRO 2024, section III).  A cascade
makes N passes over rank R of a tensor when elements of a fiber of R must be
visited again after every other element of that fiber was visited, N-1 times
in a chain.  No sizes, no hardware, no order of the text: a property of the
dependence graph.

**Family.**  Fix a fiber: a tensor, its rank R, one coordinate for every other
rank.  Its *family* is the fiber and every value that depends elementwise on
it, that is whose index still carries the coordinate r: storing QK[m] and
computing it again from K[m] are both a visit of element m.  An Einsum
*visits* the fiber where it reads the family at r.  It *completes* what it
writes where it reads the family but its output no longer carries r: the value
is there only after the last element.  So are the last slot of a recurrence
along R, and a running value that is read at all slots beside another index
of the same fiber.

**Levels.**  ``stream(v) = k``: element r of v is there when pass k comes to
element r.  ``done(v) = k``: v is there at the end of pass k (0: before any).
With S the family values that an Einsum reads at r, and D everything else it
reads, an Einsum that visits runs in pass

    level = max(1, max stream(s) for s in S, 1 + max done(d) for d in D with done > 0)

and gives ``stream = level`` to an output that carries r, ``done = level`` to
one that does not.  An Einsum that does not visit passes on the ``done`` of
what it reads: it may run as soon as that is there.  Passes = the greatest
level of an Einsum that an output needs.

*No fewer will do*: by induction along an edge.  A visit in the pass in which
an operand is completed would read element r before the last element was
visited, r itself being any but the last.  *No more are needed*: sweep R in
ascending order, in pass k run at position r every Einsum of level k in
dependence order; each operand is there, ``stream`` by the same position,
``done`` by the end of an earlier pass.

**Recurrences.**  A recurrence along R (``RM[m1+1] = max(RM[m1], LM[m1])``)
reads slot m1 or m1+1 at position m1: both are there in stream order, so its
edges weigh 0 like any other read at r; only its last slot is complete.  The
levels are therefore the least solution of max-plus equations over the graph
with edges of weight 0 and 1: the longest path.  A strong component whose
cycles weigh 0 has a finite least fixpoint, reached after at most one
increase a node, since a path that weighs more would repeat a node and close
a cycle of positive weight.  A level that rises further proves such a cycle:
R is swept again for each step of a recurrence along another rank (a weight
matrix of an RNN), and the count is ``UNBOUNDED``.

**Which fiber.**  Where the fiber has a coordinate q of an iterative rank Q,
a recurrence along Q leaves it: at step q the slot q was written by step q-1,
from *other* fibers.  Each Einsum that runs over q then counts as three
nodes, q before, at and after the fiber's own coordinate; only the one *at*
visits, and reads of slots join the three as the offset says.  That is why
the running form makes 2 passes over an M0 tile and not 2*M1.

**What is taken for granted.**  Predicates (``where m <= p``) restrict values,
not dependences: a masked reduction completes like a full one.  An index of
several variables (``K[p+w]``) carries the coordinate until all of them are
reduced: a window is reuse of near elements, not a pass.  A value broadcast
along R has no fiber of R.  Two indices of one fiber (``X[m] * X[p]``) are
reuse too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from accelsim.analysis.graph import Graph, dependence_graph, strong_components
from accelsim.ir.cascade import Access, Cascade, Index, Last, Position, rank_of

#: The count for a rank that is swept again for each step of a recurrence along another rank.
UNBOUNDED: Final = math.inf


@dataclass(frozen=True, slots=True)
class Step:
    """Why pass ``number`` is opened.

    ``chain``: the Einsums from the one that opened the pass before (for pass
    2 the first that visits) to the one that must visit again; ``tensor`` and
    ``rank``: the fiber that it visits again.  ``each``: for an unbounded
    count, the recurrent ranks of which every step needs another pass.
    """

    number: float
    chain: tuple[str, ...]
    tensor: str
    rank: str
    each: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The step as a sentence.

        >>> print(Step(2, ("QK", "GM", "SN"), "QK", "M"))
        pass 2: SN visits the M fiber of QK again after GM, which needs all of it (QK -> GM -> SN)
        """
        path = " -> ".join(self.chain)
        if self.each:
            every = " and ".join(self.each)
            return (
                f"a pass for each step of {every}: the {self.rank} fiber of {self.tensor} ({path})"
            )
        return (
            f"pass {self.number}: {self.chain[-1]} visits the {self.rank} fiber of {self.tensor} "
            f"again after {self.chain[-2]}, which needs all of it ({path})"
        )


@dataclass(frozen=True)
class Passes:
    """Passes of a cascade over every rank, whole ranks and parts of split ones.

    A split rank has the count of its outermost part: its tiles in order.
    ``why``: one step for each pass after the first.  ``bands``: for each rank
    the pass in which each needed Einsum runs, seen from the fiber that needs
    most passes.
    """

    cascade: str
    by_rank: dict[str, float]
    why: dict[str, tuple[Step, ...]]
    bands: dict[str, dict[str, float]] = field(repr=False)

    def __getitem__(self, rank: str) -> float:
        """The passes over a rank."""
        return self.by_rank[rank]


def passes(cascade: Cascade) -> Passes:
    """The passes that a cascade makes over every rank and every part of a split rank.

    >>> from accelsim.ir.cascade import Access, Einsum, Map, Reduction, Tensor
    >>> m = Index((("m", 1),))
    >>> x, g, y = Access("X", (m,)), Access("G"), Access("Y", (m,))
    >>> total = Einsum(g, x, (Reduction("sum", ("m",)),))
    >>> share = Einsum(y, Map("div", (x, g)))
    >>> c = Cascade("share", ("M",), (Tensor("X", ("M",)),), (total, share), ("Y",))
    >>> found = passes(c)
    >>> found.by_rank, str(found.why["M"][0])
    ({'M': 2}, 'pass 2: Y visits the M fiber of X again after G, which needs all of it (G -> Y)')
    """
    plan = _Plan(cascade, dependence_graph(cascade))
    named = [*cascade.ranks, *(p for _, parts in cascade.splits for p in parts)]
    by_rank: dict[str, float] = {rank: 1 for rank in named}
    why: dict[str, tuple[Step, ...]] = {rank: () for rank in named}
    names = [cascade.einsums[n].name for n in sorted(plan.graph.needed)]
    bands: dict[str, dict[str, float]] = {rank: dict.fromkeys(names, 1) for rank in named}
    for root in _roots(plan):
        sweeps = _Sweeps(plan, root)
        if sweeps.most > by_rank.get(root.rank, 1):
            by_rank[root.rank] = sweeps.most
            why[root.rank] = sweeps.steps()
            bands[root.rank] = dict.fromkeys(names, 1.0) | sweeps.bands()
    for rank, parts in cascade.splits:
        by_rank[rank], why[rank], bands[rank] = by_rank[parts[0]], why[parts[0]], bands[parts[0]]
    return Passes(cascade.name, by_rank, why, bands)


def family(cascade: Cascade) -> float:
    """The most passes over any whole rank: 3, 2 or 1 for the families of attention in FuseMax.

    Parts of a split rank other than the outermost do not count: an inner tile
    that is read twice stays on chip.
    """
    found = passes(cascade)
    return max((found[rank] for rank in cascade.ranks), default=1)


# -- what is read where, once for a cascade ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class _At:
    """One position of an access: its variables; ``plain`` where it is ``plain + offset``."""

    variables: frozenset[str]
    plain: str = ""
    offset: int = 0
    last: bool = False


@dataclass(frozen=True, slots=True)
class _Read:
    """A read of ``tensor``, and the needed Einsums that may have written the element."""

    tensor: str
    at: tuple[_At, ...]
    writers: tuple[int, ...]


class _Plan:
    """Everything about a cascade that does not depend on the fiber looked at."""

    def __init__(self, cascade: Cascade, graph: Graph) -> None:
        self.cascade = cascade
        self.graph = graph
        self.split = dict(cascade.splits)
        self.ranks = cascade.tensors
        self.variables: dict[int, frozenset[str]] = {}
        self.output: dict[int, tuple[_At, ...]] = {}
        self.reads: dict[int, tuple[_Read, ...]] = {}
        for n in sorted(graph.needed):
            e = cascade.einsums[n]
            self.output[n] = self._ats(e.output)
            self.reads[n] = tuple(
                _Read(
                    read.tensor,
                    self._ats(read),
                    tuple(edge.writer for edge in graph.into[n] if edge.access is read),
                )
                for read in e.reads
            )
            self.variables[n] = self._parts(e.variables)
        self.shifted = self._shifted()

    def _parts(self, variables: Sequence[str]) -> frozenset[str]:
        """Variables, that of a whole split rank as those of its parts."""
        return frozenset(
            part.lower() for v in variables for part in self.split.get(rank_of(v), (rank_of(v),))
        )

    def _ats(self, access: Access) -> tuple[_At, ...]:
        return tuple(self._at(i) for i in access.indices)

    def _at(self, position: Position) -> _At:
        if isinstance(position, Last):
            return _At(frozenset(), last=True)
        names = self._parts(position.variables)
        if isinstance(position, Index) and len(names) == len(position.terms) == 1:
            ((v, scale),) = position.terms
            if scale == 1 and position.divisor == 1:
                return _At(names, v, position.offset)
        return _At(names)

    def _shifted(self) -> frozenset[str]:
        """Ranks along which some Einsum reads or writes another coordinate than its own."""
        accesses = [*self.output.values(), *(r.at for rs in self.reads.values() for r in rs)]
        return frozenset(
            rank_of(at.plain) for ats in accesses for at in ats if at.offset and at.plain
        )


@dataclass(frozen=True, slots=True)
class _Root:
    """The fibers of ``rank``, at ``position`` of ``tensor``.

    ``anchors``: the other ranks of the tensor along which an Einsum may step
    from fiber to fiber, with their positions.
    """

    tensor: str
    position: int
    rank: str
    anchors: tuple[tuple[str, int], ...]


def _roots(plan: _Plan) -> Iterator[_Root]:
    """The fibers to look at: of inputs, and of intermediates that no earlier one's family covers.

    The family of X covers that of Y, computed elementwise from X along the
    same rank, if X has no more anchors: then a visit of Y is one of X.
    """
    varying = _varying(plan)
    chosen: dict[tuple[str, int], frozenset[str]] = {}
    first: dict[str, int] = {t.name: -1 for t in plan.cascade.inputs}
    for n in sorted(plan.graph.needed):
        first.setdefault(plan.cascade.einsums[n].output.tensor, n)
    for tensor in sorted(first, key=lambda t: (first[t], t)):
        for i, rank in enumerate(plan.ranks.get(tensor, ())):
            if i not in varying.get(tensor, ()):
                continue
            anchors = {
                q: k
                for k, q in enumerate(plan.ranks[tensor])
                if k != i and q in plan.shifted - {rank}
            }
            chosen[tensor, i] = frozenset(anchors)
            if not _covered(plan, tensor, i, chosen, first):
                yield _Root(tensor, i, rank, tuple(anchors.items()))


def _covered(
    plan: _Plan,
    tensor: str,
    i: int,
    chosen: dict[tuple[str, int], frozenset[str]],
    first: dict[str, int],
) -> bool:
    anchors = chosen[tensor, i]
    for n in plan.graph.needed:
        if plan.cascade.einsums[n].output.tensor != tensor:
            continue
        out = plan.output[n]
        for read in plan.reads[n]:
            if first.get(read.tensor, len(plan.cascade.einsums)) >= first[tensor]:
                continue
            for k, at in enumerate(read.at):
                its = chosen.get((read.tensor, k))
                if (
                    its is not None
                    and its <= anchors
                    and plan.ranks[read.tensor][k] == plan.ranks[tensor][i]
                    and at.plain
                    and at.plain == out[i].plain
                    and _stays(plan.ranks[read.tensor], read.at, its)
                    and _stays(plan.ranks[tensor], out, its)
                ):
                    return True
    return False


def _stays(ranks: Sequence[str], ats: Sequence[_At], anchors: frozenset[str]) -> bool:
    """Whether an access is at the Einsum's own coordinate of every anchor."""
    return all(
        at.plain == rank.lower() and not at.offset
        for rank, at in zip(ranks, ats, strict=True)
        if rank in anchors
    )


def _varying(plan: _Plan) -> dict[str, set[int]]:
    """For each tensor the positions along which its elements differ: not those of a broadcast."""
    found = {t.name: set(range(len(plan.ranks[t.name]))) for t in plan.cascade.inputs}
    growing = True
    while growing:
        growing = False
        for n in sorted(plan.graph.needed):
            moved = {
                v
                for read in plan.reads[n]
                for k in found.get(read.tensor, ())
                if k < len(read.at)
                for v in read.at[k].variables
            }
            its = found.setdefault(plan.cascade.einsums[n].output.tensor, set())
            new = {
                i
                for i, at in enumerate(plan.output[n])
                if at.variables & moved or (at.plain and at.offset)
            } - its
            growing = growing or bool(new)
            its |= new
    return found


# -- the levels as seen from one fiber --------------------------------------------------------

#: Where a node stands on an anchor: before, at or after the fiber's coordinate, or nowhere.
_BEFORE, _HERE, _AFTER, _NOWHERE = -1, 0, 1, 2
#: An Einsum and where it stands on each anchor.
_Node = tuple[int, tuple[int, ...]]
#: Positions of a tensor that together carry the coordinate r.
_Label = frozenset[int]


@dataclass(frozen=True, slots=True)
class _Use:
    """How a node reads one access, as far as the family is concerned.

    ``direct``: the fiber itself; ``kept`` and ``dropped``: at r, and the
    output carries r, or does not; ``last``: the last slot; ``fixed``: one
    element; ``all_slots``: a running value at slots that r does not tell.
    """

    read: _Read
    sources: tuple[_Node, ...]
    direct: bool
    kept: bool
    dropped: bool
    last: bool
    fixed: bool
    all_slots: bool


@dataclass(slots=True)
class _Level:
    """The result of one node: see the module's text.  0: not from this fiber.  ``visits``: pass."""

    stream: float = 0
    done: float = 0
    visits: float = 0


class _Sweeps:
    """The levels of every Einsum as seen from the fibers of one root."""

    def __init__(self, plan: _Plan, root: _Root) -> None:
        self.plan = plan
        self.root = root
        self.labels = self._labels()
        self.running = self._running()
        self.uses: dict[_Node, tuple[_Use, ...]] = {}
        self.levels: dict[_Node, _Level] = {}
        self.endless: list[_Node] = []
        if self._may_complete():
            self._nodes()
            self._solve()
        self.most: float = max((v.visits for v in self.levels.values()), default=1)

    # the family: which positions of which tensors carry the coordinate

    def _labels(self) -> dict[str, set[_Label]]:
        found: dict[str, set[_Label]] = {self.root.tensor: {frozenset([self.root.position])}}
        todo = [self.root.tensor]
        while todo:
            tensor = todo.pop()
            for n in self.plan.graph.readers.get(tensor, ()):
                target = self.plan.cascade.einsums[n].output.tensor
                its = found.get(target, set())
                new = {
                    label
                    for read in self.plan.reads[n]
                    if read.tensor == tensor
                    for of in found[tensor]
                    if (label := self._moved(n, read, of))
                } - its
                if new:
                    found[target] = its | new
                    todo.append(target)
        return found

    @staticmethod
    def _carriers(read: _Read, label: _Label) -> frozenset[str]:
        return frozenset(v for k in label if k < len(read.at) for v in read.at[k].variables)

    def _moved(self, n: int, read: _Read, label: _Label) -> _Label:
        """The positions of what Einsum ``n`` writes that carry r where ``read`` carries it."""
        carriers = self._carriers(read, label)
        return frozenset(i for i, at in enumerate(self.plan.output[n]) if at.variables & carriers)

    def _running(self) -> set[str]:
        """Family tensors whose element r depends on those before it: recurrences along R."""
        found: set[str] = set()
        growing = True
        while growing:
            growing = False
            for n in sorted(self.plan.graph.needed):
                target = self.plan.cascade.einsums[n].output.tensor
                if target in found or target not in self.labels:
                    continue
                steps = any(
                    self.plan.output[n][i].offset > 0
                    for label in self.labels[target]
                    for i in label
                )
                if steps or any(
                    r.tensor in found and any(self._moved(n, r, of) for of in self.labels[r.tensor])
                    for r in self.plan.reads[n]
                ):
                    found.add(target)
                    growing = True
        return found

    def _may_complete(self) -> bool:
        """Whether anything completes the fiber at all; if nothing does, there is one pass."""
        for tensor, labels in self.labels.items():
            for n in self.plan.graph.readers.get(tensor, ()):
                for read in self.plan.reads[n]:
                    if read.tensor == tensor and any(
                        not self._moved(n, read, label) for label in labels
                    ):
                        return True
        return bool(self.running)

    # nodes and edges

    def _nodes(self) -> None:
        reached = {self.root.tensor}
        todo = [self.root.tensor]
        einsums: set[int] = set()
        while todo:
            for n in self.plan.graph.readers.get(todo.pop(), ()):
                if n not in einsums:
                    einsums.add(n)
                    target = self.plan.cascade.einsums[n].output.tensor
                    if target not in reached:
                        reached.add(target)
                        todo.append(target)
        for n in sorted(einsums):
            stands = [
                (_BEFORE, _HERE, _AFTER) if q.lower() in self.plan.variables[n] else (_NOWHERE,)
                for q, _ in self.root.anchors
            ]
            for stand in product(*stands):
                self.uses[n, stand] = ()
        for n, stand in self.uses:
            self.uses[n, stand] = tuple(
                use for read in self.plan.reads[n] if (use := self._use(n, stand, read))
            )

    def _use(self, n: int, stand: tuple[int, ...], read: _Read) -> _Use | None:
        sources = tuple(
            node
            for w in read.writers
            for where in product(
                *(self._joined(n, at, read, w, q) for at, (q, _) in zip(stand, self.root.anchors))
            )
            if (node := (w, where)) in self.uses
        )
        direct = read.tensor == self.root.tensor and all(
            self._on_fiber(n, at, read, k, q) for at, (q, k) in zip(stand, self.root.anchors)
        )
        if not sources and not direct:
            return None
        kept = dropped = last = fixed = all_slots = False
        for label in self.labels.get(read.tensor, ()):
            carriers = self._carriers(read, label)
            if carriers:
                carried = bool(self._moved(n, read, label))
                kept, dropped = kept or carried, dropped or not carried
                all_slots = all_slots or (
                    read.tensor in self.running and self._other_index(n, read, carriers)
                )
            elif any(read.at[k].last for k in label if k < len(read.at)):
                last = True
            else:
                fixed = True
        return _Use(read, sources, direct, kept, dropped, last, fixed, all_slots)

    def _other_index(self, n: int, read: _Read, carriers: frozenset[str]) -> bool:
        """Whether the Einsum reads the family at another index than ``carriers`` too."""
        return any(
            (its := self._carriers(other, label)) and not its & carriers
            for other in self.plan.reads[n]
            if other is not read
            for label in self.labels.get(other.tensor, ())
        )

    def _on_fiber(self, n: int, stand: int, read: _Read, k: int, q: str) -> bool:
        """Whether a read of the root's tensor may be of the fiber, as far as anchor q goes."""
        at = read.at[k]
        if at.plain != q.lower() or stand == _NOWHERE:
            return True
        return stand == (at.offset < 0) - (at.offset > 0)

    def _joined(self, n: int, stand: int, read: _Read, w: int, q: str) -> tuple[int, ...]:
        """Where on anchor q the writer may stand whose element is read from where ``stand`` says."""
        if q.lower() not in self.plan.variables[w]:
            return (_NOWHERE,)
        for k, out in enumerate(self.plan.output[w]):
            if q.lower() not in out.variables:
                continue
            at = read.at[k]
            if at.last:
                return (_HERE, _AFTER)
            if at.plain == out.plain == q.lower() and stand != _NOWHERE:
                return _shift(stand, at.offset - out.offset)
        return (_BEFORE, _HERE, _AFTER)

    # the least fixpoint, strong component by strong component

    def _solve(self) -> None:
        nodes = list(self.uses)
        number = {node: i for i, node in enumerate(nodes)}
        follow: list[list[int]] = [[] for _ in nodes]
        for node, uses in self.uses.items():
            for use in uses:
                for source in use.sources:
                    follow[number[source]].append(number[node])
        self.levels = {node: _Level() for node in nodes}
        for component in strong_components(follow):
            members = [nodes[i] for i in component]
            alone = len(members) == 1 and component[0] not in follow[component[0]]
            entry = max(
                (
                    max(self.levels[s].stream, self.levels[s].done)
                    for node in members
                    for use in self.uses[node]
                    for s in use.sources
                ),
                default=0,
            )
            highest = entry + len(members) + 1
            growing = True
            while growing:
                growing = False
                for node in members:
                    level = self._level(node)
                    if max(level.stream, level.done, level.visits) > highest:
                        level = _Level(*(UNBOUNDED if x else 0 for x in _fields(level)))
                        if entry < UNBOUNDED and not self.endless:
                            self.endless = members
                    if _fields(level) != _fields(self.levels[node]):
                        self.levels[node] = level
                        growing = not alone

    def _level(self, node: _Node) -> _Level:
        stream = done = soft = 0.0
        visits = kept = dropped = False
        for use in self.uses[node]:
            at, end = self._there(use)
            done = max(done, end)
            if not at:
                continue
            if use.last or use.all_slots:
                done = max(done, at)
            if use.fixed:
                soft = max(soft, at)
            if use.kept or use.dropped:
                stream = max(stream, at)
                visits = visits or use.direct or all(s in (_HERE, _NOWHERE) for s in node[1])
                kept, dropped = kept or use.kept, dropped or use.dropped
        if visits:
            level = max(1, stream, soft, done + 1 if done else 0)
            return _Level(level if kept else 0, level if dropped else 0, level)
        return _Level(stream if kept else 0, max(done, stream if dropped else 0, soft - 1), 0)

    def _there(self, use: _Use) -> tuple[float, float]:
        """``stream`` and ``done`` of what is read."""
        at: float = 1 if use.direct else 0
        end: float = 0
        for source in use.sources:
            level = self.levels[source]
            at, end = max(at, level.stream), max(end, level.done)
        return at, end

    # the proof

    def bands(self) -> dict[str, float]:
        """For each Einsum that depends on the fiber the pass in which, or after which, it runs."""
        found: dict[str, float] = {}
        for (n, _), level in self.levels.items():
            name = self.plan.cascade.einsums[n].name
            found[name] = max(found.get(name, 1), *_fields(level))
        return found

    def steps(self) -> tuple[Step, ...]:
        """One step for each pass after the first, along one chain of Einsums."""
        if self.endless:
            return (self._each(),)
        path = self._path()
        opened: dict[float, int] = {}
        for i, node in enumerate(path):
            if self.levels[node].visits:
                opened.setdefault(self.levels[node].visits, i)
        return tuple(
            Step(
                number,
                tuple(self._name(n) for n in path[opened[number - 1] : opened[number] + 1]),
                self._visited(path[opened[number]]),
                self.root.rank,
            )
            for number in range(2, int(self.most) + 1)
        )

    def _path(self) -> list[_Node]:
        """A shortest chain of tight edges from a first visit to an Einsum in the last pass."""
        start = min(n for n, level in self.levels.items() if level.visits == self.most)
        after: dict[tuple[_Node, bool], tuple[_Node, bool] | None] = {(start, True): None}
        todo = [(start, True)]
        for here in todo:
            node = here[0]
            if self.levels[node].visits == 1 and any(use.direct for use in self.uses[node]):
                path: list[_Node] = []
                at: tuple[_Node, bool] | None = here
                while at is not None:
                    path.append(at[0])
                    at = after[at]
                return path
            for source in self._tight(*here):
                if source not in after:
                    after[source] = here
                    todo.append(source)
        return [start]

    def _tight(self, node: _Node, stream: bool) -> Iterator[tuple[_Node, bool]]:
        """The results (of which node; ``stream`` or else ``done``) that give a node its level."""
        level = self.levels[node]
        value = level.visits or (level.stream if stream else level.done)
        for use in self.uses[node]:
            for s in use.sources:
                of = self.levels[s]
                if level.visits:
                    if of.done and of.done == value - 1:
                        yield s, False
                    if of.stream and of.stream == value - (use.last or use.all_slots):
                        yield s, True
                elif stream:
                    if of.stream == value:
                        yield s, True
                else:
                    if of.done == value:
                        yield s, False
                    if of.stream and of.stream == value + (use.fixed and not use.dropped):
                        yield s, True

    def _each(self) -> Step:
        """Why the count is unbounded: the cycle, and the recurrences that close it."""
        names = tuple(dict.fromkeys(self._name(n) for n in sorted(self.endless)))
        written = [self.plan.cascade.einsums[n].output.tensor for n, _ in self.endless]
        along = self.plan.cascade.iterative
        each = {along[t] for t in written if t in along} - {self.root.rank}
        visitor = next(n for n in self.endless if self.levels[n].visits)
        return Step(UNBOUNDED, names, self._visited(visitor), self.root.rank, tuple(sorted(each)))

    def _name(self, node: _Node) -> str:
        return self.plan.cascade.einsums[node[0]].name

    def _visited(self, node: _Node) -> str:
        """The tensor of the family that an Einsum reads at r."""
        return next(use.read.tensor for use in self.uses[node] if use.kept or use.dropped)


def _fields(level: _Level) -> tuple[float, float, float]:
    return level.stream, level.done, level.visits


def _shift(stand: int, by: int) -> tuple[int, ...]:
    """Where q + by stands, seen from the fiber's coordinate, if q stands at ``stand``."""
    if by == 0:
        return (stand,)
    if stand == _HERE:
        return (_AFTER,) if by > 0 else (_BEFORE,)
    if (stand == _AFTER) == (by > 0):
        return (stand,)
    if abs(by) == 1:
        return (_HERE, stand)
    return (_BEFORE, _HERE, _AFTER)
