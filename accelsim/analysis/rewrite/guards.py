"""Guards: what a rewritten reduction must be where it is over nothing.

Under a mask a reduction may be over no point at all: its value is the identity
(0, -inf), whatever a factor f inside it is.  Once f has left it, ``f * 0`` is
that only if f is a number, and f may be 1/0 or exp(inf) there, because the
statistics that it is made of are over nothing as well.  So the rewritten
tensor is ``select(c, f * S, 0)``, with c that every divisor in f is not 0 and
every extremum that may be over nothing is not its identity.

If c is 0 where S is over something, f is not finite, and neither was the
original.  The tensor stays under its own name (``closed``), so that the guard
covers just what it replaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf

from accelsim.analysis.rewrite.algebra import called, of, scaled, times
from accelsim.analysis.rewrite.forms import ZERO, Atom, Call, Sum
from accelsim.analysis.rewrite.program import Def, Program
from accelsim.ir.cascade import Access, Const


def guarded(program: Program, d: Def, body: Sum) -> Def:
    """The reduction ``d`` as a map with this body, guarded and closed if it may be over nothing."""
    as_map = replace(d, op="", over=frozenset(), body=body, where=d.domain)
    if d.name not in program.hollow:
        return as_map
    if d.op == "sum":
        return replace(as_map, body=select_finite(program, body, ZERO), closed=True)
    its = [a for a in body.reads if program.identity(a)]
    identity = of(Atom(Const(inf), True))
    identity = scaled(identity, -1) if d.op == "max" else identity
    conditions = [seen(a, program.identity(a)) for a in sorted(its, key=str)]
    return replace(as_map, body=called("select", times(*conditions), body, identity), closed=True)


def select_finite(program: Program, body: Sum, otherwise: Sum) -> Sum:
    """``body`` where all that it divides by, or takes the log of, and all extrema are numbers."""
    conditions = {c.key: c for c in _conditions(program, body)}
    return called("select", times(*conditions.values()), body, otherwise) if conditions else body


def _conditions(program: Program, s: Sum) -> Iterator[Sum]:
    """What must not be 0 for a sum to be a number.  A select takes care of itself."""
    for t in s.terms:
        for base, q in t.powers:
            if isinstance(base, Call) and base.op == "select":
                continue
            if q < 0 and base.variables:
                yield of(base)
            if isinstance(base, Atom):
                if isinstance(base.expr, Access) and program.identity(base.expr):
                    yield seen(base.expr, program.identity(base.expr))
                continue
            if isinstance(base, Call) and base.op == "log":
                yield base.args[0]
            for inner in base.args if isinstance(base, Call) else (base,):
                yield from _conditions(program, inner)
        if t.exponent is not None:
            yield from _conditions(program, t.exponent)


def seen(extremum: Access, identity: float) -> Sum:
    """1 where an extremum is no longer the infinity that is its identity, else 0."""
    value, infinite = of(Atom(extremum)), of(Atom(Const(inf), True))
    if identity < 0:
        return called("less", scaled(infinite, -1), value)
    return called("less", value, infinite)
