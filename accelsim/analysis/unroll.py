"""A recurrence of known length written out: its passes as a number, where the step count matters.

A rank that is swept again at each step of a recurrence has no number of passes
of its own (``UNBOUNDED``); with the steps given it has.  Each slot of the
recurrence becomes a tensor, each step its own Einsums, and ``passes`` counts
as it always does.  So the log-round loops of a hierarchical selection count
one pass a round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import reduce
from typing import Final

from accelsim.analysis.passes import Passes, passes
from accelsim.errors import one_of, refuse
from accelsim.ir.cascade import (
    Access,
    Cascade,
    Compare,
    Condition,
    Const,
    Coordinate,
    Einsum,
    Either,
    Expr,
    Index,
    Last,
    Map,
    Position,
    Reduction,
    Simple,
    Tensor,
    Threshold,
)

#: More steps than this are not written out.
MOST_STEPS: Final = 64


def passes_in_steps(cascade: Cascade, steps: Mapping[str, int]) -> Passes:
    """The passes over every rank that is left when recurrences take so many steps.

    ``steps``: for each iterative rank that is to be written out how many; the
    answer has no number for these.  Raises InputError for a rank without a
    recurrence, and for more than 64 steps.

    A weight matrix is swept at every step of an RNN:

    >>> from accelsim.load.cascade import cascade_from_text
    >>> c = cascade_from_text('''
    ... cascade: rnn
    ... ranks: [T, I, J]
    ... inputs: {W: [I, J], X: [I]}
    ... output: Y
    ... einsums:
    ...   - S[0,i]   = X[i]
    ...   - Z[t,j]   = W[i,j] * S[t,i]
    ...   - D[t]     = Z[t,j] :: max(j)
    ...   - S[t+1,i] = D[t] * S[t,i]
    ...   - Y[i]     = S[T,i]
    ... ''')
    >>> passes(c)["J"], passes_in_steps(c, {"T": 3})["J"]
    (inf, 3)
    """
    for rank, count in steps.items():
        if rank not in cascade.iterative.values():
            known = one_of(set(cascade.iterative.values())) or "no rank: nothing recurs"
            raise refuse(f"nothing recurs along {rank}", known)
        if not 1 <= count <= MOST_STEPS:
            raise refuse(f"{count} steps of {rank}", f"1 to {MOST_STEPS} steps")
        cascade = unrolled(cascade, rank, count)
    return passes(cascade)


def unrolled(cascade: Cascade, rank: str, steps: int) -> Cascade:
    """The cascade with the steps of one rank written out; tensors over it have a slot each.

    It is meant for the analysis of dependences: conditions on the step and
    numbers that it stands for are left out, reductions over it become sums.
    """
    slots = _Slots(cascade, rank, steps)
    einsums = tuple(e for one in cascade.einsums for e in slots.einsums(one))
    inputs = tuple(t for one in cascade.inputs for t in slots.inputs(one))
    outputs = tuple(n for name in cascade.outputs for n in slots.names(name))
    counts = tuple((n, r) for t, r in cascade.counts.items() for n in slots.names(t))
    return replace(
        cascade,
        ranks=tuple(r for r in cascade.ranks if r != rank),
        inputs=inputs,
        einsums=einsums,
        outputs=outputs,
        indexes=counts,
        formats=(),
        densities=(),
    )


class _Slots:
    """Accesses and Einsums of a cascade at one step after the other."""

    def __init__(self, cascade: Cascade, rank: str, steps: int) -> None:
        self.cascade, self.rank, self.steps = cascade, rank, steps
        self.variable = rank.lower()

    def names(self, tensor: str) -> Iterator[str]:
        """A tensor, or the tensors that its slots become."""
        if self.rank not in self.cascade.tensors.get(tensor, ()):
            yield tensor
            return
        more = self.cascade.iterative.get(tensor) == self.rank
        yield from (f"{tensor}@{slot}" for slot in range(self.steps + more))

    def inputs(self, tensor: Tensor) -> Iterator[Tensor]:
        """An input, or one for each of its slots."""
        ranks = tuple(r for r in tensor.ranks if r != self.rank)
        yield from (Tensor(name, ranks) for name in self.names(tensor.name))

    def einsums(self, e: Einsum) -> Iterator[Einsum]:
        """The Einsums that an Einsum becomes: one a step, or one of all steps where it reduces."""
        if self.variable not in (*e.variables, *e.output.variables):
            yield self.at(e, 0)
            return
        every = [self.at(e, step) for step in range(self.steps)]
        if self.variable in e.output.variables:
            yield from every
            return
        expr = reduce(lambda a, b: Map("add", (a, b)), (one.expr for one in every))
        where = tuple(dict.fromkeys(c for one in every for c in one.where))
        yield replace(every[0], expr=expr, where=where)

    def at(self, e: Einsum, step: int) -> Einsum:
        """An Einsum at one step."""
        reductions = []
        for r in e.reductions:
            over = tuple(v for v in r.over if v != self.variable)
            reach = None if r.reach is None else self.expr(r.reach, step)
            if over:
                reductions.append(Reduction(r.op, over, r.into, r.place, reach))
        where = tuple(c for one in e.where for c in self.condition(one, step))
        output, expr = self.access(e.output, step), self.expr(e.expr, step)
        return Einsum(output, expr, tuple(reductions), where, e.place)

    def access(self, access: Access, step: int) -> Access:
        """An access at one step: of the slot that it means, where its tensor has slots."""
        found: list[Position] = []
        name = access.tensor
        ranks = self.cascade.tensors[name]
        for index, rank in zip(access.indices, ranks, strict=True):
            if rank == self.rank and not isinstance(index, Access):
                name = f"{access.tensor}@{self.slot(index, step)}"
            else:
                found.append(self.position(index, step))
        return Access(name, tuple(found), access.place)

    def slot(self, index: Index | Last, step: int) -> int:
        """The slot at a position of the rank."""
        if isinstance(index, Last):
            return self.steps
        if set(index.variables) - {self.variable} or index.divisor != 1 or index.sizes:
            raise refuse(
                f"steps of {self.rank} that depend on one another at other than the next",
                f"{self.variable} or {self.variable}+1",
                index.place,
            )
        factor = sum(c for _, c in index.terms if isinstance(c, int))
        return min(max(factor * step + index.offset, 0), self.steps)

    def position(self, index: Position, step: int) -> Position:
        """A position of another rank, with the step as a number."""
        if isinstance(index, Access):
            return self.access(index, step)
        if isinstance(index, Last) or self.variable not in index.variables:
            return index
        terms = tuple(t for t in index.terms if t[0] != self.variable)
        moved = sum(c * step for v, c in index.terms if v == self.variable and isinstance(c, int))
        return replace(index, terms=terms, offset=index.offset + moved)

    def condition(self, condition: Condition, step: int) -> Iterator[Condition]:
        """A condition at one step; none where it is about the step alone."""
        if not isinstance(condition, Either):
            yield from self.simple(condition, step)
            return
        every = (
            tuple(c for s in one for c in self.simple(s, step)) for one in condition.alternatives
        )
        kept = tuple(one for one in every if one)
        if kept:
            yield Either(kept, condition.place)

    def simple(self, condition: Simple, step: int) -> Iterator[Simple]:
        """The same for a condition without alternatives."""
        if isinstance(condition, Access):
            yield self.access(condition, step)
        elif isinstance(condition, Threshold):
            left, right = self.access(condition.left, step), self.expr(condition.right, step)
            yield Threshold(left, condition.relation, right, condition.place)
        else:
            sides = [self.position(i, step) for i in (condition.left, condition.right)]
            first, second = (i for i in sides if isinstance(i, Index))
            if first.terms + second.terms:
                yield Compare(first, condition.relation, second, condition.place)

    def expr(self, expr: Expr, step: int) -> Expr:
        """An expression at one step."""
        if isinstance(expr, Access):
            return self.access(expr, step)
        if isinstance(expr, Coordinate) and expr.variable == self.variable:
            return Const(float(step))
        if isinstance(expr, Map):
            return Map(expr.op, tuple(self.expr(a, step) for a in expr.args))
        return expr
