"""The ski slope of a cascade: the least attainable traffic against capacity.

A cascade is run as a sequence of groups of Einsums, each group fused
(``fused``) or a single Einsum with any tiling (``attainable``); what one group
hands to another goes through memory.  The best partition at each capacity is
found by dynamic programming over the order of the text, and over one in which
each Einsum comes as late as it is needed.  Groups begin and end at products of
two tensors and where few words pass, since cutting can pay there, or hold one
statement, or all of them.

After Huang et al., Mind the Gap (Orojenesis), ISCA 2024, whose fusion is of
whole chains at the granularity of a tile, with passes, recomputation and what
is kept between passes added here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, TypeAlias

import numpy as np

from accelsim.analysis.attainable import Mapspace, Tiling
from accelsim.analysis.fused import Fused, slope
from accelsim.analysis.graph import dependence_graph
from accelsim.analysis.group import Group
from accelsim.analysis.hbl import Array
from accelsim.analysis.statement import Program, Statement

#: Products in one group at most, unless it is the whole cascade.
MOST_PRODUCTS: Final = 3
#: Places at which groups may begin and end because few words pass there.
NARROW: Final = 3

Mapping: TypeAlias = Tiling | Fused
_Found: TypeAlias = tuple[float, tuple[tuple[str, Mapping], ...]]


@dataclass(frozen=True, slots=True)
class Attainable:
    """For each capacity the fewest words moved in the mapspace (infinite: nothing fits), and how.

    ``how``: the mapping of each group, in order; empty where nothing fits.
    """

    capacities_words: tuple[int, ...]
    words: tuple[float, ...]
    how: tuple[tuple[tuple[str, Mapping], ...], ...]


def attainable(
    program: Program, capacities_words: Sequence[int], every: bool = False
) -> Attainable:
    """The least traffic over the mapspace at each capacity.

    ``every``: see ``Mapspace.slope``.

    >>> from accelsim.ir.cascade import Access, Cascade, Einsum, Index, Reduction, Tensor
    >>> from accelsim.analysis.statement import program
    >>> from accelsim.ir.problem import bind
    >>> i, j = Index((("i", 1),)), Index((("j", 1),))
    >>> row = Einsum(Access("Y", (i,)), Access("X", (i, j)), (Reduction("sum", ("j",)),))
    >>> c = Cascade("rowsum", ("I", "J"), (Tensor("X", ("I", "J")),), (row,), ("Y",))
    >>> attainable(program(bind(c, {"I": 3, "J": 4})), [1, 2]).words
    (inf, 15.0)
    """
    caps = list(capacities_words)
    found = _Partition(program, program.statements, caps, every).least()
    late = _late(program)
    if late != program.statements:
        enough = np.array([words for words, _ in found])
        other = _Partition(program, late, caps, every).least(enough)
        found = [min(both, key=lambda x: x[0]) for both in zip(found, other, strict=True)]
    words, how = zip(*found, strict=True) if found else ((), ())
    return Attainable(tuple(caps), tuple(words), tuple(how))


class _Partition:
    """The best partition into groups of statements in one order, at each capacity.

    Dynamic programming over where groups end.  What a group costs is asked
    only where it can matter: a group moves its ``floor`` at least, so the
    partition that is best with floors for what is not yet known is best of
    all once everything in it is known.
    """

    def __init__(
        self, program: Program, statements: Sequence[Statement], caps: list[int], every: bool
    ) -> None:
        self.program, self.statements = program, statements
        self.caps, self.every = caps, every
        self.known: dict[tuple[int, int], tuple[Array, list[Mapping | None]]] = {}
        self.costs: dict[tuple[int, int], Array] = {
            (begin, end): np.full(len(caps), _group(program, statements[begin:end]).floor)
            for begin, end in _intervals(program, statements)
        }

    def least(self, enough: Array | None = None) -> list[_Found]:
        """For each capacity the fewest words and the mappings; none where ``enough`` is as few."""
        bar = np.full(len(self.caps), inf) if enough is None else enough
        while True:
            best, last = self._solve()
            unknown: set[tuple[int, int]] = set()
            for c in np.flatnonzero(best < bar).tolist():
                unknown |= {i for i in self._chosen(last, c) if i not in self.known}
            if not unknown:
                break
            for begin, end in sorted(unknown):
                found = _cost(self.program, self.statements[begin:end], self.caps, self.every)
                self.known[begin, end] = found
                self.costs[begin, end] = found[0]
        return [
            (float(best[c]), self._how(last, c)) if best[c] < bar[c] else (inf, ())
            for c in range(len(self.caps))
        ]

    def _solve(self) -> tuple[Array, list[list[int]]]:
        """The least cost at each capacity, and for each end where the last group begins."""
        n, count = len(self.statements), len(self.caps)
        best = [np.zeros(count)] + [np.full(count, inf) for _ in range(n)]
        last: list[list[int]] = [[0] * count for _ in range(n + 1)]
        for (begin, end), words in sorted(self.costs.items(), key=lambda x: x[0][1]):
            total = best[begin] + words
            for c in np.flatnonzero(total < best[end]).tolist():
                best[end][c] = total[c]
                last[end][c] = begin
        return best[n], last

    def _chosen(self, last: list[list[int]], c: int) -> list[tuple[int, int]]:
        """The groups of the best partition at one capacity, in order."""
        found: list[tuple[int, int]] = []
        end = len(self.statements)
        while end:
            found.insert(0, (last[end][c], end))
            end = last[end][c]
        return found

    def _how(self, last: list[list[int]], c: int) -> tuple[tuple[str, Mapping], ...]:
        steps: list[tuple[str, Mapping]] = []
        for begin, end in self._chosen(last, c):
            how = self.known[begin, end][1][c]
            if how is not None:
                steps.append((" ".join(s.name for s in self.statements[begin:end]), how))
        return tuple(steps)


def _late(program: Program) -> tuple[Statement, ...]:
    """The statements in another order that they can run in: each as late as it is needed.

    Of those that may wait as long the ones with the longest chain behind them
    come first.  A recurrence stays together.
    """
    graph = dependence_graph(program.problem.cascade)
    home = {n: c for c, members in enumerate(graph.components) for n in members}
    edges = {(home[e.writer], home[e.reader]) for e in graph.edges if e.writer in home}
    count = len(graph.components)
    behind, ahead = [0] * count, [0] * count
    for c in range(count):
        behind[c] = max((behind[w] + 1 for w, r in edges if r == c != w), default=0)
    for c in reversed(range(count)):
        ahead[c] = max((ahead[r] + 1 for w, r in edges if w == c != r), default=0)
    order = sorted(range(count), key=lambda c: (-ahead[c], -behind[c], graph.components[c]))
    known = {s.number: s for s in program.statements}
    return tuple(known[n] for c in order for n in graph.components[c] if n in known)


def _group(program: Program, statements: Sequence[Statement]) -> Group:
    """Statements as a group that hands on what others read, or the outputs are."""
    inside = {s.output.tensor for s in statements}
    outside = {r.tensor for s in program.statements if s not in statements for r in s.reads}
    return Group(program, statements, frozenset(inside & (outside | set(program.outputs))))


def _cost(
    program: Program, statements: Sequence[Statement], caps: list[int], every: bool
) -> tuple[Array, list[Mapping | None]]:
    """The least traffic of one group at each capacity."""
    if len(statements) > 1 or _recurs(program, statements[0]):
        fused = slope(_group(program, statements), caps)
        return fused.words, list[Mapping | None](fused.how)
    words, tilings = Mapspace(program, statements[0]).slope(caps, every)
    return words, list[Mapping | None](tilings)


def _recurs(program: Program, s: Statement) -> bool:
    return s.output.tensor in program.cycles or bool(s.output.shifted)


def _intervals(program: Program, statements: Sequence[Statement]) -> list[tuple[int, int]]:
    """Groups that are considered, as ranges of statements.  None cuts a recurrence."""
    n = len(statements)
    heavy = [i for i, s in enumerate(statements) if s.contracts]
    edges = sorted({0, n, *heavy, *(i + 1 for i in heavy), *_narrow(program, statements)})
    found = {(0, n), *((i, i + 1) for i in range(n))}
    for a in edges:
        for b in edges:
            if a < b and sum(a <= h < b for h in heavy) <= MOST_PRODUCTS:
                found.add((a, b))
    rings = [
        [i for i, s in enumerate(statements) if s.output.tensor in ring]
        for ring in set(program.cycles.values())
    ]
    whole = [(min(r), max(r)) for r in rings]
    for low, high in whole:  # the recurrence alone, with what stands between its statements
        found.add((low, high + 1))
    return sorted(
        (a, b)
        for a, b in found
        if all(b <= low or a > high or (a <= low and high < b) for low, high in whole)
        and _connected(statements[a:b])
    )


def _narrow(program: Program, statements: Sequence[Statement]) -> list[int]:
    """The places where the fewest words pass from the statements before to those after."""
    passing = []
    for i in range(1, len(statements)):
        before = {s.output.tensor for s in statements[:i]}
        after = {r.tensor for s in statements[i:] for r in s.reads}
        words = sum(program.problem.tensor_elements(t) for t in before & after)
        passing.append((words, i))
    return [i for _, i in sorted(passing)[:NARROW]]


def _connected(statements: Sequence[Statement]) -> bool:
    """Whether statements hang together by tensors: apart they would do as well."""
    tensors = [{s.output.tensor, *(r.tensor for r in s.reads)} for s in statements]
    reached, rest = set(tensors[0]), tensors[1:]
    while joined := [t for t in rest if t & reached]:
        reached.update(*joined)
        rest = [t for t in rest if t not in joined]
    return not rest
