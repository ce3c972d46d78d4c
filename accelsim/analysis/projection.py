"""An access as a projection: each index a linear row over the variables of its Einsum.

Split ranks stand as their parts, head groups are taken apart (``h // G`` with
h = hk*G + g reads hk), so that most accesses are plain projections onto a
subset of the variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TypeAlias

from accelsim.ir.cascade import Access, Index, Last, rank_of
from accelsim.ir.problem import Problem

#: A linear form over index variables: ``((variable, coefficient), ...)``.
Row: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """An access: the tensor, and for each position that depends linearly on variables its row.

    ``dull``: some position is left out, because it is clamped, divided or
    looked up: then distinct rows still mean distinct elements, but not the
    other way round.  ``shifted``: variables of plain positions with an offset
    (slots of a recurrence); ``last``: some position is the last slot.
    ``looked``: variables of the index tensors of a gather; ``chosen``: those of
    them that tell different elements while all others stand still.
    """

    tensor: str
    rows: tuple[Row, ...]
    dull: bool = False
    shifted: frozenset[str] = frozenset()
    last: bool = False
    looked: frozenset[str] = frozenset()
    chosen: frozenset[str] = frozenset()

    @property
    def plain(self) -> bool:
        """Whether every row is one variable alone: a projection onto a subset of the variables."""
        return not self.dull and all(len(r) == 1 and r[0][1] == 1 for r in self.rows)

    @property
    def variables(self) -> frozenset[str]:
        """Variables of all rows."""
        return _variables(self.rows)

    @property
    def told(self) -> frozenset[str]:
        """Variables that are the coordinate of the element itself, not of a neighbour of it."""
        return frozenset(r[0][0] for r in self.rows if len(r) == 1 and r[0][1] == 1) - self.shifted


@lru_cache(maxsize=4096)
def _variables(rows: tuple[Row, ...]) -> frozenset[str]:
    return frozenset(v for row in rows for v, _ in row)


def head_groups(problem: Problem) -> dict[str, tuple[str, str, int]]:
    """For each variable h read as ``h // G`` alone: the names of its two parts, and G.

    The quotient is named after the rank it indexes, so that it is one
    variable with ``hk`` of the same rank elsewhere; else ``h/``.
    """
    found: dict[str, set[tuple[str, int]]] = {}
    bad: set[str] = set()
    tensors = problem.cascade.tensors
    for e in problem.cascade.einsums:
        for access in (e.output, *e.reads):
            for k, i in enumerate(access.indices):
                if not isinstance(i, Index) or not i.terms:
                    continue
                lines = problem.affine(i)
                if lines.divisor == 1:
                    continue
                if len(lines.terms) == 1 and lines.terms[0][1] == 1 and not lines.offset:
                    ranks = tensors.get(access.tensor, ())
                    rank = ranks[k] if k < len(ranks) else ""
                    found.setdefault(lines.terms[0][0], set()).add((rank, lines.divisor))
                else:
                    bad |= {v for v, _ in lines.terms}
    groups = {}
    for v, uses in found.items():
        whole = problem.extent(rank_of(v))
        if v in bad or len({g for _, g in uses}) != 1:
            continue
        rank, g = sorted(uses)[0]
        if whole % g:
            continue
        named = rank and rank != rank_of(v) and problem.sizes.get(rank) == whole // g
        groups[v] = (rank.lower() if named else f"{v}/", f"{v}%", g)
    return groups


def projection(
    problem: Problem, access: Access, groups: Mapping[str, tuple[str, str, int]]
) -> Projection:
    """An access as a projection; ``groups`` of ``head_groups``.

    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.ir.problem import bind
    >>> c = load_cascade("matmul")
    >>> its = bind(c, dict.fromkeys(c.ranks, 4))
    >>> projection(its, c.einsums[0].reads[1], {}).rows
    ((('k', 1),), (('n', 1),))
    """
    rows: list[Row] = []
    dull = last = False
    shifted: set[str] = set()
    looked: set[str] = set()
    chosen: set[str] = set()
    for i in access.indices:
        if isinstance(i, Access):
            looked |= set(problem.parts(i.variables))
            chosen |= _told_apart(problem, i)
        if isinstance(i, Last):
            last = True
            continue
        if not isinstance(i, Index):
            dull = True
            continue
        lines = problem.affine(i)
        terms = tuple((v, c) for v, c in lines.terms if c)
        if not terms:
            continue
        if lines.divisor != 1:
            v = terms[0][0]
            if v in groups and len(terms) == 1 and lines.divisor == groups[v][2]:
                rows.append(((groups[v][0], 1),))
            else:
                dull = True
            continue
        if i.border and (len(terms) > 1 or lines.offset or abs(terms[0][1]) != 1):
            dull = True
            continue
        if lines.offset:
            shifted |= {v for v, _ in terms}
        rows.extend(_taken_apart(terms, groups))
    its = (access.tensor, tuple(dict.fromkeys(rows)), dull, frozenset(shifted), last)
    return Projection(*its, frozenset(looked), frozenset(chosen))


def _told_apart(problem: Problem, index: Access) -> set[str]:
    """The variable along which a selection lists, if it always fills its room.

    What it lists for one coordinate of all others are different coordinates.
    """
    writers = problem.cascade.writers.get(index.tensor, ())
    if len(writers) != 1 or not writers[0].selects or writers[0].where:
        return set()
    last = writers[0].reductions[-1]
    room = problem.extent(rank_of(last.into))
    if last.reach is not None or room > prod(problem.extent(rank_of(v)) for v in last.over):
        return set()
    listed = [i.plain for i in writers[0].output.indices].index(last.into)
    own = index.indices[listed].plain
    return {own} if own else set()


def _taken_apart(terms: Row, groups: Mapping[str, tuple[str, str, int]]) -> Iterator[Row]:
    """The rows of an index: those of both parts of a head ``h``, which is plain in them."""
    if len(terms) == 1 and terms[0][0] in groups and terms[0][1] == 1:
        outer, inner, _ = groups[terms[0][0]]
        yield ((outer, 1),)
        yield ((inner, 1),)
        return
    found: dict[str, int] = {}
    for v, c in terms:
        if v in groups:
            outer, inner, g = groups[v]
            found[outer] = found.get(outer, 0) + c * g
            found[inner] = found.get(inner, 0) + c
        else:
            found[v] = found.get(v, 0) + c
    yield tuple(found.items())
