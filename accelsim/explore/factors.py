"""Products of two tensors: variables that are rows of one, columns of the other, a batch."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.analysis.statement import Projection, Statement
from accelsim.analysis.work import work
from accelsim.ir.cascade import Access, accesses


@dataclass(frozen=True, slots=True)
class Factors:
    """The two factors of a product, and the variables of its result by whose they are."""

    first: Projection
    second: Projection
    batch: frozenset[str]
    rows: frozenset[str]
    columns: frozenset[str]


def factors(s: Statement) -> Factors | None:
    """Rows, columns and batch of a product that is summed; of several factors the two largest.

    >>> from accelsim.analysis.statement import program
    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> problem = bind(load_cascade("matmul"), {"M": 4, "N": 5, "K": 6})
    >>> found = factors(program(problem).statements[0])
    >>> sorted(found.rows), sorted(found.columns), found.batch
    (['n'], ['m'], frozenset())
    """
    if not s.contracts or "mac" not in work(s.einsum):
        return None
    read = list(accesses(s.einsum.expr))
    lists = {at.tensor for a in read for at in a.indices if isinstance(at, Access)}
    named = {a.tensor for a in read} - lists
    reads = zip(s.reads, s.einsum.reads, strict=True)
    found = {_variables(s, r, a): r for r, a in reads if r.tensor in named}
    order = sorted(found, key=lambda names: (-s.span(names), sorted(names)))[:2]
    if len(order) < 2:
        return None
    first, second = (found[names] for names in order)
    rows_of = order[0] - (order[1] - _sliding(second))
    columns_of = order[1] - (order[0] - _sliding(first))
    out = frozenset(s.sizes) - s.reduced
    rows, columns = out & rows_of, out & columns_of
    return Factors(first, second, out - rows - columns, rows, columns)


def _variables(s: Statement, read: Projection, access: Access) -> frozenset[str]:
    """Variables that tell apart what a factor reads, clamped and looked-up positions too."""
    names = read.variables | read.looked
    if read.dull:
        names |= set(access.variables)
    lists = {at.tensor for at in access.indices if isinstance(at, Access)}
    for other in s.reads:
        names |= other.variables if other.tensor in lists else frozenset()
    return names & frozenset(s.sizes)


def _sliding(read: Projection) -> frozenset[str]:
    """Variables of windows ``p+w``: where another factor has p, the window is w wide for it."""
    return frozenset(v for row in read.rows if len(row) > 1 for v, _ in row)
