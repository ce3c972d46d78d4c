"""The fibers of a cascade whose visits are counted, and how each Einsum addresses tensors.

``Plan`` holds, once for a cascade, every access as positions of a few kinds;
``roots`` lists the fibers that passes are counted over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from accelsim.analysis.graph import dependence_graph
from accelsim.ir.cascade import Access, Cascade, Einsum, Index, Last, Position, rank_of


@dataclass(frozen=True, slots=True)
class At:
    """One position of an access: its variables; ``plain`` where it is ``plain + offset``.

    ``free``: elements differ along it whatever is read: where a selection
    lists the chosen, or a scatter writes.
    """

    variables: frozenset[str]
    plain: str = ""
    offset: int = 0
    last: bool = False
    free: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """A read of ``tensor``, and the needed Einsums that may have written the element."""

    tensor: str
    at: tuple[At, ...]
    writers: tuple[int, ...]

    def carriers(self, label: frozenset[int]) -> frozenset[str]:
        """The variables at the positions of ``label``."""
        return frozenset(v for k in label if k < len(self.at) for v in self.at[k].variables)


class Plan:
    """Everything about a cascade's accesses that does not depend on the fiber looked at.

    Einsums go by their place in the text; only those that an output needs are
    here.  ``shifted``: ranks along which some Einsum reads or writes another
    coordinate than its own, as a recurrence does.

    >>> from accelsim.ir.cascade import Einsum
    >>> y, x = Access("Y", (Index((("i", 1),), 1),)), Access("Y", (Index((("i", 1),)),))
    >>> Plan(Cascade("steps", ("I",), (), (Einsum(y, x),), ("Y",))).shifted
    frozenset({'I'})
    """

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.graph = dependence_graph(cascade)
        self.split = dict(cascade.splits)
        self.ranks = cascade.tensors
        self.needed = tuple(sorted(self.graph.needed))
        self.names = {n: cascade.einsums[n].name for n in self.needed}
        self.target = {n: cascade.einsums[n].output.tensor for n in self.needed}
        self.variables: dict[int, frozenset[str]] = {}
        self.output: dict[int, tuple[At, ...]] = {}
        self._chosen_for = _chosen_for(cascade)
        self.reads: dict[int, tuple[Read, ...]] = {}
        for n in self.needed:
            e = cascade.einsums[n]
            self.variables[n] = self._parts(e.variables)
            self.output[n] = tuple(self._written(e, i) for i in e.output.indices)
            self.reads[n] = tuple(
                Read(
                    read.tensor,
                    self._ats(read),
                    tuple(edge.writer for edge in self.graph.into[n] if edge.access == read),
                )
                for read in dict.fromkeys(e.reads)
            )
        accesses = [*self.output.values(), *(r.at for rs in self.reads.values() for r in rs)]
        self.shifted = frozenset(
            rank_of(at.plain) for ats in accesses for at in ats if at.offset and at.plain
        )

    def _parts(self, variables: Sequence[str]) -> frozenset[str]:
        """Variables, that of a whole split rank as those of its parts."""
        return frozenset(
            part.lower() for v in variables for part in self.split.get(rank_of(v), (rank_of(v),))
        )

    def _ats(self, access: Access) -> tuple[At, ...]:
        return tuple(self._at(i) for i in access.indices)

    def _written(self, e: Einsum, position: Position) -> At:
        """A position of an output.  What is scattered is complete only with the last point."""
        if isinstance(position, Access):
            return At(frozenset(), free=True)
        at = self._at(position)
        return replace(at, free=True) if at.plain and at.plain == e.selects else at

    def _choosing(self, index: Access) -> frozenset[str]:
        """The variables of an index tensor that tell which of the chosen is meant.

        For each coordinate of the others (a query) the chosen are distinct, so
        that ``r`` of ``K[I[p,r]]`` stands for the element of K.  Of a table
        that no selection made the last rank lists.
        """
        names = self._parts(index.variables)
        others = self._chosen_for.get(index.tensor)
        if others is None:
            return self._parts(index.variables[-1:])
        return frozenset(v for v in names if rank_of(v) not in others) or names

    def _at(self, position: Position) -> At:
        if isinstance(position, Last):
            return At(frozenset(), last=True)
        if isinstance(position, Access):
            return At(self._choosing(position))
        names = self._parts(position.variables)
        if isinstance(position, Index) and len(names) == len(position.terms) == 1:
            ((v, scale),) = position.terms
            if scale == 1 and position.divisor == 1 and not position.sizes:
                return At(names, v, position.offset)
        return At(names)


@dataclass(frozen=True, slots=True)
class Root:
    """The fibers of ``rank`` of a tensor, whose coordinate stands at the positions ``label``.

    One position, or those of all the parts of a split rank, outermost first.  ``anchors``: the
    other ranks of the tensor along which an Einsum may step from fiber to
    fiber, with their positions.
    """

    tensor: str
    rank: str
    label: tuple[frozenset[int], ...]
    anchors: tuple[tuple[str, int], ...]


def roots(plan: Plan) -> Iterator[Root]:
    """The fibers to look at: of inputs, and of intermediates whose visits no other's cover.

    The visits of X cover those of Y, computed elementwise from X along the
    same rank, where Y is at X's own coordinate of every anchor of X: the
    family of X then contains that of Y, and an Einsum that stays on the fiber
    of Y stays on that of X.

    >>> from accelsim.load.cascade import load_cascade
    >>> [(root.tensor, root.rank) for root in roots(Plan(load_cascade("softmax")))]
    [('X', 'B'), ('X', 'M')]
    """
    varying = _varying(plan)
    first: dict[str, int] = {t.name: -1 for t in plan.cascade.inputs}
    for n in plan.needed:
        first.setdefault(plan.target[n], n)
    known: dict[tuple[str, tuple[frozenset[int], ...]], Root] = {}
    for tensor in sorted(first, key=lambda t: (first[t], t)):
        for root in _of_tensor(plan, tensor):
            if frozenset().union(*root.label) <= varying.get(tensor, set()):
                known[tensor, root.label] = root
                if not _covered(plan, root, known, first):
                    yield root


def _chosen_for(cascade: Cascade) -> dict[str, frozenset[str]]:
    """For each tensor out of a selection the ranks for each coordinate of which it chooses."""
    found: dict[str, frozenset[str]] = {}
    growing = True
    while growing:
        growing = False
        for e in cascade.einsums:
            name, left = e.output.tensor, frozenset(map(rank_of, e.output.variables))
            if e.selects:
                its = left - {rank_of(e.selects)}
            else:
                its = frozenset(r for a in e.reads for r in found.get(a.tensor, ())) & left
            if its - found.get(name, frozenset()):
                found[name] = its | found.get(name, frozenset())
                growing = True
    return found


def _of_tensor(plan: Plan, tensor: str) -> Iterator[Root]:
    ranks = plan.ranks.get(tensor, ())
    labels: list[tuple[str, tuple[frozenset[int], ...]]] = [
        (rank, (frozenset([i]),)) for i, rank in enumerate(ranks)
    ]
    for whole, parts in plan.split.items():
        if set(parts) <= set(ranks):
            labels.append((whole, tuple(frozenset([ranks.index(p)]) for p in parts)))
    for rank, label in labels:
        own = {ranks[i] for part in label for i in part}
        anchors = {q: k for k, q in enumerate(ranks) if q in plan.shifted - own}
        yield Root(tensor, rank, label, tuple(anchors.items()))


def _covered(
    plan: Plan,
    root: Root,
    known: Mapping[tuple[str, tuple[frozenset[int], ...]], Root],
    first: Mapping[str, int],
) -> bool:
    """Whether a root that stands earlier in the text covers this one."""
    own = {q for q, _ in root.anchors}
    for n in plan.needed:
        if plan.target[n] != root.tensor:
            continue
        out = plan.output[n]
        for read in plan.reads[n]:
            if first.get(read.tensor, len(plan.cascade.einsums)) >= first[root.tensor]:
                continue
            for (tensor, label), its in known.items():
                if tensor != read.tensor or its.rank != root.rank:
                    continue
                anchors = frozenset(q for q, _ in its.anchors)
                indices = _indices(read.at, label)
                if (
                    anchors <= own
                    and indices
                    and indices == _indices(out, root.label)
                    and _stays(plan.ranks[read.tensor], read.at, anchors)
                    and _stays(plan.ranks[root.tensor], out, anchors)
                ):
                    return True
    return False


def _indices(ats: Sequence[At], label: tuple[frozenset[int], ...]) -> tuple[str, ...]:
    """The plain variables at the positions of a label; none where one is no plain variable."""
    found = tuple(ats[i].plain for part in label for i in part if i < len(ats))
    return () if "" in found else found


def _stays(ranks: Sequence[str], ats: Sequence[At], anchors: frozenset[str]) -> bool:
    """Whether an access is at the Einsum's own coordinate of every anchor."""
    return all(
        at.plain == rank.lower() and not at.offset
        for rank, at in zip(ranks, ats, strict=False)
        if rank in anchors
    )


def _varying(plan: Plan) -> dict[str, set[int]]:
    """For each tensor the positions along which its elements differ: not those of a broadcast."""
    found = {t.name: set(range(len(plan.ranks[t.name]))) for t in plan.cascade.inputs}
    growing = True
    while growing:
        growing = False
        for n in plan.needed:
            moved = {
                v
                for read in plan.reads[n]
                for k in found.get(read.tensor, ())
                if k < len(read.at)
                for v in read.at[k].variables
            }
            its = found.setdefault(plan.target[n], set())
            new = {
                i
                for i, at in enumerate(plan.output[n])
                if at.variables & moved or (at.plain and at.offset) or at.free
            } - its
            growing = growing or bool(new)
            its |= new
    return found
