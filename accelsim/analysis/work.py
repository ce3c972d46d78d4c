"""Operations of an Einsum by work class, for each point of its iteration space.

Every map is applied once a point, before any reduction.  A product that is
summed is one multiply-add, a square that is summed too; any other reduction is
one operation a point of its class (a reduction accumulates into an initialised
register: n operations for n elements).  Plain copies cost nothing, nor does
what is computed from constants and sizes alone (``1 / sqrt(E)``): that is one
number for all points.  A threshold is one comparison a point, beside what its
right side computes, reduced points too; written as an Einsum of its own
(``KEEP[p,m] = less(T, S[p,m])``) it is charged once a decision.  A scatter is
one addition a point; a selection looks at each point once (class ``topk``),
whatever it chooses.
"""

from __future__ import annotations

from accelsim.ir.cascade import Einsum, Map, Threshold, accesses, maps, simple
from accelsim.ir.ops import MAPS, REDUCTIONS


def work(einsum: Einsum) -> dict[str, int]:
    """Operations a point by work class; empty for a copy.

    >>> from accelsim.ir.cascade import Access, Reduction
    >>> product = Map("mul", (Access("A"), Access("B")))
    >>> work(Einsum(Access("Z"), product, (Reduction("sum", ("k",)),)))
    {'mac': 1}
    >>> work(Einsum(Access("S"), Map("exp", (Map("sub", (Access("A"), Access("B"))),))))
    {'exp': 1, 'add': 1}
    """
    known = _KNOWN.get(id(einsum))
    if known is None or known[0] is not einsum:
        if len(_KNOWN) >= MOST_KEPT:
            _KNOWN.clear()
        known = _KNOWN[id(einsum)] = einsum, _work(einsum)
    return known[1]


#: Results by identity, which the Einsum kept beside them makes safe: hashing one costs more.
_KNOWN: dict[int, tuple[Einsum, dict[str, int]]] = {}
MOST_KEPT = 4096


def _work(einsum: Einsum) -> dict[str, int]:
    found: dict[str, int] = {}
    reductions = [REDUCTIONS[r.op] for r in einsum.reductions if r.op in REDUCTIONS]
    fused = (
        isinstance(einsum.expr, Map)
        and einsum.expr.op in ("mul", "square")
        and any(r.name == "sum" for r in reductions)
    )
    tests = [c for c in simple(einsum.where) if isinstance(c, Threshold)]
    if tests:
        found["max"] = len(tests)
    for operation in (m for e in (einsum.expr, *(c.right for c in tests)) for m in maps(e)):
        if not any(accesses(operation)):
            continue
        is_fused = fused and operation is einsum.expr
        name = "mac" if is_fused else MAPS[operation.op].work
        found[name] = found.get(name, 0) + 1
    for reduction in reductions:
        if not (fused and reduction.name == "sum"):
            found[reduction.work] = found.get(reduction.work, 0) + 1
    if einsum.output.through:
        found["add"] = found.get("add", 0) + 1
    return found
