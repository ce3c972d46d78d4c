"""The dependence graph of a cascade: which Einsum reads what which Einsum writes.

Nodes are the Einsums by their place in the text, one node an Einsum; an edge
goes from a writer to a reader.  A recurrence is a cycle.  Strong components
are found here (Tarjan), so that no graph library is imported at start-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from accelsim.ir.cascade import Access, Cascade, Einsum, Index, Last, Position


@dataclass(frozen=True, slots=True)
class Edge:
    """``reader`` reads, through ``access``, what ``writer`` writes (places in the text from 0)."""

    writer: int
    reader: int
    access: Access


@dataclass(frozen=True)
class Graph:
    """The Einsums of a cascade and the edges between them.

    ``needed`` holds the Einsums that an output depends on; edges between
    others are left out, and so are edges along which no element can pass:
    ``RM[m1+1]`` does not read what ``RM[0] = -inf`` writes.
    """

    cascade: Cascade
    edges: tuple[Edge, ...]
    needed: frozenset[int]

    @cached_property
    def into(self) -> tuple[tuple[Edge, ...], ...]:
        """For each Einsum the edges that it reads through, in text order."""
        found: list[list[Edge]] = [[] for _ in self.cascade.einsums]
        for edge in self.edges:
            found[edge.reader].append(edge)
        return tuple(tuple(edges) for edges in found)

    @cached_property
    def readers(self) -> dict[str, tuple[int, ...]]:
        """For each tensor, inputs too, the needed Einsums that read it, in text order."""
        found: dict[str, list[int]] = {}
        for n in sorted(self.needed):
            for tensor in dict.fromkeys(a.tensor for a in self.cascade.einsums[n].reads):
                found.setdefault(tensor, []).append(n)
        return {tensor: tuple(ns) for tensor, ns in found.items()}

    @cached_property
    def components(self) -> tuple[tuple[int, ...], ...]:
        """Strong components of the needed Einsums, writers first; a recurrence is one of several.

        (Or one of one, where a single Einsum reads its own earlier slots.)
        """
        follow: list[list[int]] = [[] for _ in self.cascade.einsums]
        for edge in self.edges:
            follow[edge.writer].append(edge.reader)
        found = strong_components(follow)
        return tuple(c for c in found if c[0] in self.needed)


def dependence_graph(cascade: Cascade) -> Graph:
    """The dependence graph of a cascade.

    >>> i = Index((("i", 1),))
    >>> x, y = Access("X", (i,)), Access("Y", (i,))
    >>> c = Cascade("copies", ("I",), (), (Einsum(y, x), Einsum(Access("Z", (i,)), y)), ("Z",))
    >>> [(e.writer, e.reader) for e in dependence_graph(c).edges]
    [(0, 1)]
    """
    writers: dict[str, list[int]] = {}
    for n, e in enumerate(cascade.einsums):
        writers.setdefault(e.output.tensor, []).append(n)
    edges = [
        Edge(w, n, access)
        for n, e in enumerate(cascade.einsums)
        for access in e.reads
        for w in writers.get(access.tensor, ())
        if may_read(access, cascade.einsums[w].output)
    ]
    needed = _needed(cascade.einsums, edges, cascade.outputs)
    kept = tuple(e for e in edges if e.reader in needed)
    return Graph(cascade, kept, needed)


def _needed(
    einsums: Sequence[Einsum], edges: Sequence[Edge], outputs: Sequence[str]
) -> frozenset[int]:
    """The Einsums from which an output can be reached; all of them where no output is named."""
    sources: dict[int, list[int]] = {}
    for edge in edges:
        sources.setdefault(edge.reader, []).append(edge.writer)
    todo = [n for n, e in enumerate(einsums) if e.output.tensor in outputs or not outputs]
    seen = set(todo)
    while todo:
        for w in sources.get(todo.pop(), ()):
            if w not in seen:
                seen.add(w)
                todo.append(w)
    return frozenset(seen)


def may_read(read: Access, write: Access) -> bool:
    """Whether some element that ``write`` writes can be one that ``read`` reads.

    Decided position by position from constants alone, variables counted from
    0: slot 0 is not read by ``m1+1``, nor by the last slot, and what the step
    of a recurrence writes (``m1+1``) is not slot 0.

    >>> slot, after = Access("R", (Index(),)), Access("R", (Index((("i", 1),), 1),))
    >>> may_read(slot, after), may_read(after, slot), may_read(slot, slot)
    (False, False, True)
    """
    return all(_may_meet(r, w) for r, w in zip(read.indices, write.indices, strict=False))


def _may_meet(read: Position, write: Position) -> bool:
    if isinstance(read, Index) and read.sizes:
        return True
    if isinstance(read, Index) and isinstance(write, Index):
        if not read.terms and not write.terms:
            return read.offset == write.offset
        if not read.terms:
            return read.offset >= least(write)
        if not write.terms:
            return least(read) <= write.offset
    if isinstance(read, Last) and isinstance(write, Index) and not write.terms:
        return write.offset > 0
    return True


def least(index: Index) -> float:
    """The least value of an index, variables counted from 0; minus infinity where one may fall.

    >>> least(Index((("m", 2),), 3)), least(Index((("m", -1),)))
    (3, -inf)
    """
    if any(str(c).startswith("-") for _, c in index.terms) or index.border:
        return float("-inf")
    return index.offset // index.divisor if isinstance(index.divisor, int) else 0


def strong_components(follow: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Strong components of the graph ``n -> follow[n]``, each sorted, every source before its sink.

    Tarjan (SIAM J. Comput. 1972), without recursion so that a long chain does
    not overflow the stack.

    >>> strong_components([[1], [2], [1, 3], []])
    [(0,), (1, 2), (3,)]
    """
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    open_: list[int] = []
    is_open: set[int] = set()
    found: list[tuple[int, ...]] = []
    for start in range(len(follow)):
        if start in order:
            continue
        path = [(start, 0)]
        while path:
            n, at = path.pop()
            if at == 0:
                order[n] = low[n] = len(order)
                open_.append(n)
                is_open.add(n)
            elif follow[n][at - 1] in is_open:
                low[n] = min(low[n], low[follow[n][at - 1]])
            while at < len(follow[n]) and follow[n][at] in order:
                if follow[n][at] in is_open:
                    low[n] = min(low[n], order[follow[n][at]])
                at += 1
            if at < len(follow[n]):
                path += [(n, at + 1), (follow[n][at], 0)]
                continue
            if low[n] == order[n]:
                component = [open_.pop()]
                while component[-1] != n:
                    component.append(open_.pop())
                is_open.difference_update(component)
                found.append(tuple(sorted(component)))
    return found[::-1]
