"""What one point of an Einsum takes in one PE."""

from __future__ import annotations

from collections import Counter

from accelsim.errors import Fault, InputError, one_of
from accelsim.ir.arch import Unit
from accelsim.ir.cascade import Einsum, Map, Threshold, accesses, maps, simple
from accelsim.ir.mapping import Leaf
from accelsim.ir.ops import MAPS, REDUCTIONS


def operations(einsum: Einsum) -> dict[str, int]:
    """Operations a point by work class; a product or square that is summed is one multiply-add.

    What has no access is one number for all points and costs nothing.  A threshold is a
    comparison, what is written through an index an addition.

    >>> from accelsim.ir.cascade import Access
    >>> operations(Einsum(Access("S"), Map("exp", (Access("A"),))))
    {'exp': 1}
    """
    reducers = [REDUCTIONS[r.op] for r in einsum.reductions if r.op in REDUCTIONS]
    whole, tests = einsum.expr, [c for c in simple(einsum.where) if isinstance(c, Threshold)]
    product = isinstance(whole, Map) and whole.op in ("mul", "square")
    fused = product and any(r.name == "sum" for r in reducers)
    names = [
        "mac" if fused and one is whole else MAPS[one.op].work
        for root in (whole, *(c.right for c in tests))
        for one in maps(root)
        if any(accesses(one))
    ]
    names += [r.work for r in reducers if not (fused and r.name == "sum")]
    names += ["max"] * len(tests) + ["add"] * bool(einsum.output.through)
    return dict(Counter(names))


def cycles_a_point(unit: Unit, einsum: Einsum, leaf: Leaf) -> float:
    """Cycles of one point in one PE.  Raises InputError if the unit cannot do it."""
    wanted = operations(einsum)
    known = dict(unit.operations)
    costs = {}
    for name in wanted:
        operation = unit.operation(name)
        if operation is None:
            message = f"{unit.name} has no operation for '{name}', which {einsum.name} needs"
            raise InputError([Fault(leaf.place, message, one_of(known))])
        costs[name] = operation
    hidden = {other for o in costs.values() for other in o.absorbs}
    total = 0.0
    for name, o in costs.items():
        if name not in hidden:
            each = sum(n * known[p].cycles for p, n in o.uses) if o.uses else o.cycles
            total += wanted[name] * each
    return total
