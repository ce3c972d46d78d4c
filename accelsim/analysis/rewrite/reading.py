"""From a cascade to a program: what fits is written in normal form, what does not is fixed."""

from __future__ import annotations

from accelsim.analysis.graph import dependence_graph
from accelsim.analysis.rewrite.algebra import of
from accelsim.analysis.rewrite.forms import Atom, Sum
from accelsim.analysis.rewrite.indices import condition_reads, plain_variables, renamed_condition
from accelsim.analysis.rewrite.normal import normal
from accelsim.analysis.rewrite.program import Def, Program, Where, sorted_where
from accelsim.analysis.rewrite.settle import settled
from accelsim.ir.cascade import Access, Cascade, Einsum, Expr
from accelsim.ir.order import order


def program_of(cascade: Cascade) -> Program:
    """The program of a cascade, equal reductions computed once and dead code gone.

    >>> from accelsim.analysis.rewrite.indices import plain
    >>> from accelsim.ir.cascade import Map, Reduction, Tensor
    >>> x, g, y = Access("X", (plain("m"),)), Access("G"), Access("Y", (plain("m"),))
    >>> total = Einsum(g, x, (Reduction("sum", ("m",)),))
    >>> c = Cascade("share", ("M",), (Tensor("X", ("M",)),),
    ...             (total, Einsum(y, Map("div", (x, g)))), ("Y",))
    >>> [(d.name, d.op, d.body.key) for d in program_of(c).defs.values()]
    [('G', 'sum', '1*(X[m])'), ('Y', '', '1*(G)^-1*(X[m])')]
    """
    return _Reading(cascade).program()


class _Reading:
    """One cascade on its way to a program."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.defs: dict[str, Def] = {}
        self.fixed: list[Einsum] = []
        self.domains: dict[str, Where | None] = {t.name: () for t in cascade.inputs}
        self.texts: list[tuple[Sum, Expr]] = []

    def program(self) -> Program:
        """The program, settled."""
        for group in order(self.cascade):
            for e in group.einsums:
                where = self.where(e)
                if group.along or where is None or not self.fits(e):
                    self.fix(e, where)
                else:
                    self.define(e, where)
        kept = {*self.cascade.outputs, *(a.tensor for e in self.fixed for a in e.reads)}
        conditions = [c for d in self.defs.values() for c in d.where]
        kept |= {a.tensor for c in conditions for a in condition_reads(c)}
        phrases = tuple(d for d in self.defs.values() if not d.op)
        program = Program(
            self.cascade,
            self.defs,
            frozenset(kept),
            tuple(self.fixed),
            phrases,
            tuple(self.texts),
            {d.name: d.identity for d in self.defs.values() if d.op and d.may_be_empty},
            log=self.dropped(),
            names=frozenset(self.cascade.tensors) | {n for n, _ in self.cascade.constants},
        )
        return settled(program)

    def dropped(self) -> tuple[str, ...]:
        """What is said of Einsums that no output needs."""
        needed = dependence_graph(self.cascade).needed
        dead = [e.name for n, e in enumerate(self.cascade.einsums) if n not in needed]
        return (f"drop {', '.join(dead)}, which no output needs",) if dead else ()

    def where(self, e: Einsum) -> Where | None:
        """Every condition of an Einsum, inherited ones too; None where they cannot be written."""
        found = list(e.where)
        for read in e.reads:
            domain = self.domains.get(read.tensor, ())
            if domain is None:
                return None
            if domain:
                at = plain_variables(read)
                writer = self.cascade.writers[read.tensor][0]
                out = [i.plain or "" for i in writer.output.indices]
                if at is None or "" in out:
                    return None
                moved = [renamed_condition(c, dict(zip(out, at, strict=True))) for c in domain]
                if None in moved:
                    return None
                found += [c for c in moved if c is not None]
        return sorted_where(found)

    def fits(self, e: Einsum) -> bool:
        """Whether an Einsum is a definition: plain distinct variables, one kind of reduction."""
        out = plain_variables(e.output)
        return (
            len(self.cascade.writers[e.output.tensor]) == 1
            and out is not None
            and len(set(out)) == len(out)
            and len({r.op for r in e.reductions}) <= 1
            and all(r.op in ("sum", "max", "min") and not r.into for r in e.reductions)
        )

    def fix(self, e: Einsum, where: Where | None) -> None:
        """Keep an Einsum as it is.  Where it is defined is known only if that is everywhere."""
        self.fixed.append(e)
        everywhere = where is not None and all(set(c.variables) & set(e.reduced) for c in where)
        if not everywhere or self.domains.get(e.output.tensor, ()) is None:
            self.domains[e.output.tensor] = None
        else:
            self.domains[e.output.tensor] = ()

    def define(self, e: Einsum, where: Where) -> None:
        """Write an Einsum in normal form."""
        body = normal(e.expr, self.as_atom)
        self.texts.append((body, e.expr))
        out = plain_variables(e.output) or ()
        op = e.reductions[0].op if e.reductions else ""
        d = Def(e.output.tensor, out, op, frozenset(e.reduced), body, where)
        self.defs[d.name] = d
        self.domains[d.name] = d.domain

    def as_atom(self, access: Access) -> Sum:
        """What an access stands for: itself, with what is known of its tensor."""
        written = self.defs.get(access.tensor)
        return of(Atom(access, written is not None and written.nonnegative))
