"""From a program back to a cascade: which products get a name, and in what order they stand.

A definition becomes one Einsum; a part of it becomes an Einsum of its own

* where it is a phrase: a map of the original text, under its old name;
* where definitions share it, if it costs more than a product;
* where it carries fewer indices than the Einsum it stands in, so that it is
  computed once for each of its own elements and not at every point.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeVar

from accelsim.analysis.rewrite.algebra import added, number, of, scaled, times
from accelsim.analysis.rewrite.forms import Atom, Base, Sum, Term
from accelsim.analysis.rewrite.indices import plain, plain_variables, renamed_condition
from accelsim.analysis.rewrite.phrases import differences, folded, shared
from accelsim.analysis.rewrite.program import Def, Program, Where, atom_of
from accelsim.analysis.rewrite.settle import sources_first
from accelsim.analysis.rewrite.text import expression, is_costly, paired
from accelsim.ir.cascade import (
    Access,
    Cascade,
    Const,
    Einsum,
    Expr,
    Index,
    Reduction,
    accesses,
    variables,
)

P = TypeVar("P")


def lowered(program: Program) -> Cascade:
    """The cascade of a program."""
    return _Lowering(program).cascade()


@dataclass
class _Lowering:
    """One program on its way to a cascade."""

    program: Program
    phrases: list[Def] = field(default_factory=list)
    #: every tensor that becomes an Einsum, by name
    found: dict[str, Def] = field(default_factory=dict)
    einsums: dict[str, list[Einsum]] = field(default_factory=dict)
    #: exponents, such as X - G: small where exp of them is to be a number
    pairs: list[Sum] = field(default_factory=list)
    made: dict[tuple[str, Where], Def] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = self.program.taken()

    def cascade(self) -> Cascade:
        program = self.program
        self.texts = {
            s.key: e
            for s, e in program.texts
            if set(variables(e)) <= s.variables and set(accesses(e)) <= s.reads  # nothing cancels
        }
        self.phrases = sorted(
            (p for p in program.phrases if self.usable(p)),
            key=lambda p: (-len(p.body.key), p.name),
        )
        for d in program.defs.values():
            self.found[d.name] = replace(d, body=self.fold(d))
        self.join_phrases()
        self.join_shared()
        self.pairs = sorted(differences((*self.found.values(), *self.phrases)), key=lambda s: s.key)
        for d in list(self.found.values()):
            self.write(d)
        for e in program.fixed:
            self.einsums.setdefault(e.output.tensor, []).append(e)
        its = program.cascade
        einsums = tuple(in_order(self.einsums, its))
        read = {a.tensor for e in einsums for a in e.reads}
        inputs = tuple(t for t in its.inputs if t.name in read)
        known = {t.name for t in inputs} | {e.output.tensor for e in einsums}
        indexes = tuple((t, r) for t, r in its.indexes if t in known)
        formats = tuple(f for f in its.formats if f.tensor in known)
        densities = tuple(d for d in its.densities if d.tensor in known)
        return replace(
            its,
            einsums=einsums,
            inputs=inputs,
            indexes=indexes,
            formats=formats,
            densities=densities,
        )

    # -- parts that get a name -------------------------------------------------------------------

    def usable(self, p: Def) -> bool:
        """Whether a phrase can be written: over just the indices it carries, of what there is."""
        carried = p.body.variables.union(*(c.variables for c in p.where))
        known = {*self.program.defs, *(e.output.tensor for e in self.program.fixed)}
        known |= {t.name for t in self.program.cascade.inputs}
        taken = self.program.defs.get(p.name)
        free = taken is None or (not taken.op and not taken.slot and taken.body == p.body)
        return free and carried == set(p.out) and all(a.tensor in known for a in p.reads)

    def fold(self, d: Def) -> Sum:
        """A body with phrases in it as reads."""
        names = [p.name for p in self.phrases]
        later = names.index(d.name) + 1 if d.name in names else 0
        fitting = [p for p in self.phrases[later:] if set(p.where) <= set(d.where)]
        return folded(d.body, [p for p in fitting if p.name != d.name])

    def join_phrases(self) -> None:
        """Take in the phrases that are read."""
        known = {p.name: p for p in self.phrases}
        todo = list(self.found.values())
        while todo:
            for a in todo.pop().reads:
                if a.tensor in known and a.tensor not in self.found:
                    p = known[a.tensor]
                    self.found[p.name] = replace(p, body=self.fold(p))
                    todo.append(self.found[p.name])

    def join_shared(self) -> None:
        """Give a name to what several definitions share."""
        for part in shared(d.body for d in self.found.values()):
            users = [d for d in self.found.values() if _holds(d.body, part)]
            wheres = {_restricted(d.where, part.variables) for d in users}
            if len(users) > 1 and len(wheres) == 1:
                new = self.named(part, wheres.pop())
                for d in users:
                    self.found[d.name] = replace(d, body=folded(d.body, [new]))
                self.found[new.name] = new

    def named(self, body: Sum, where: Where) -> Def:
        """A map of its own for a part of a body."""
        key = (body.key, where)
        if key not in self.made:
            name = self.names.fresh("T")
            out = tuple(v for v in self.ordered(body.variables))
            self.made[key] = Def(name, out, "", frozenset(), body, where)
        return self.made[key]

    def ordered(self, variables: Iterable[str]) -> list[str]:
        """Variables in the order of the ranks."""
        parts = [p.lower() for p in self.program.cascade.whole]
        return sorted(variables, key=parts.index)

    # -- Einsums ---------------------------------------------------------------------------------

    def write(self, d: Def) -> None:
        """Write one definition, and what gets a name on the way."""
        if d.name in self.einsums:
            return
        self.einsums[d.name] = []
        space = frozenset(d.out) | d.over
        body = d.body if d.body.key in self.texts else self.cut(d.body, space, d.where)
        expr = self.texts.get(d.body.key) or expression(body, self.pairs)
        for a in accesses(expr):
            new = next((m for m in self.made.values() if m.name == a.tensor), None)
            if new is not None:
                self.found[new.name] = new
                self.write(new)
        where = self.own_conditions(d, expr)
        write = [plain(v, int(v == d.slot)) for v in d.out]
        if d.slot:
            first = Access(d.name, tuple(Index() if v == d.slot else plain(v) for v in d.out))
            self.einsums[d.name].append(Einsum(first, Const(d.start)))
        e = Einsum(Access(d.name, tuple(write)), expr, (), where)
        if d.op:
            over = tuple(v for v in e.variables if v in d.over)
            e = replace(e, reductions=(Reduction(d.op, over),))
        self.einsums[d.name].append(e)

    def own_conditions(self, d: Def, expr: Expr) -> Where:
        """The conditions that no tensor read brings along."""
        brought = set()
        for a in accesses(expr):
            its = self.found.get(a.tensor)
            at = plain_variables(a)
            if its is not None and at is not None and not its.slot:
                names = dict(zip(its.out, at, strict=True))
                brought |= {renamed_condition(c, names) for c in its.domain}
        return tuple(c for c in d.where if c not in brought)

    def cut(self, s: Sum, space: frozenset[str], where: Where) -> Sum:
        """A body with every part that carries fewer indices, and costs something, as a read."""
        if s.key in self.texts:
            return s
        kept = {t.like for pair in paired(s, self.pairs) for t in pair.terms}
        small = [t for t in s.terms if t.variables and t.variables < space and t.like not in kept]
        groups = _grouped([(t.variables, t) for t in small])
        for group in groups:
            part = Sum(tuple(sorted(group, key=lambda t: t.like)))
            if len(s.terms) > len(group) and (len(group) > 1 or _term_costs(group[0])):
                leading = part.terms[0].coefficient
                new = self.named(scaled(part, 1 / leading), _restricted(where, part.variables))
                s = added(s, scaled(part, -1), scaled(atom_of(new), leading))
        return added(*(self.cut_term(t, space, where) for t in s.terms))

    def cut_term(self, t: Term, space: frozenset[str], where: Where) -> Sum:
        """A term with its smaller products as reads."""
        factors: list[tuple[Base | None, Fraction]] = list(t.powers)
        if t.exponent is not None:
            factors.append((None, Fraction(1)))

        def carried(base: Base | None) -> frozenset[str]:
            if base is not None:
                return base.variables
            return t.exponent.variables if t.exponent is not None else frozenset()

        small = [(carried(b), (b, q)) for b, q in factors if carried(b) and carried(b) < space]
        parts = [number(t.coefficient)]
        taken: list[tuple[Base | None, Fraction]] = []
        for group in _grouped(small):
            if len(group) == 1 and not is_costly(*group[0]):
                continue
            powers = tuple(sorted(((b, q) for b, q in group if b is not None), key=_base_key))
            exponent = t.exponent if any(b is None for b, _ in group) else None
            body = Sum((Term(Fraction(1), powers, exponent),))
            if body.variables < space:
                new = self.named(body, _restricted(where, body.variables))
                parts.append(atom_of(new))
                taken += group
        for base, q in factors:
            if (base, q) in taken:
                continue
            if base is None:
                assert t.exponent is not None
                inner = self.cut(t.exponent, space, where)
                parts.append(Sum((Term(Fraction(1), (), inner),)))
            elif isinstance(base, Atom):
                parts.append(of(base, q))
            elif isinstance(base, Sum):
                parts.append(of(self.cut(base, space, where), q))
            else:
                args = (self.cut(a, space, where) for a in base.args)
                parts.append(of(replace(base, args=tuple(args)), q))
        return times(*parts)


def _base_key(factor: tuple[Base, Fraction]) -> str:
    return factor[0].key


def _term_costs(t: Term) -> bool:
    return t.exponent is not None or len(t.powers) > 1 or is_costly(*t.powers[0])


def _grouped(parts: list[tuple[frozenset[str], P]]) -> list[list[P]]:
    """Parts by the indices they carry: each with the largest that carries all of its own."""
    groups: list[tuple[frozenset[str], list[P]]] = []
    for carried, part in sorted(parts, key=lambda p: (-len(p[0]), sorted(p[0]))):
        home = next((g for c, g in groups if carried <= c), None)
        if home is None:
            groups.append((carried, [part]))
        else:
            home.append(part)
    return [g for _, g in groups]


def _restricted(where: Where, variables: frozenset[str]) -> Where:
    """The conditions on these variables alone."""
    return tuple(c for c in where if set(c.variables) <= variables)


def _holds(s: Sum, part: Sum) -> bool:
    new = Def("?", (), "", frozenset(), part)
    return folded(s, [new]) != s


# -- order --------------------------------------------------------------------------------------


def in_order(einsums: dict[str, list[Einsum]], cascade: Cascade) -> list[Einsum]:
    """Einsums, each after what it reads, and otherwise near what reads it.

    A read of a recurrence at the slot before needs only its slot 0.
    """
    needs = {n: [a.tensor for e in its for a in e.reads] for n, its in einsums.items()}
    names = sources_first([*cascade.outputs, *einsums], needs)
    return _ready_first([e for n in names for e in einsums[n]])


def _ready_first(todo: list[Einsum]) -> list[Einsum]:
    """The order of ``todo``, with what is not ready yet put off."""
    left = list(todo)
    steps = {e.output.tensor for e in todo if any(_is_step(i) for i in e.output.indices)}
    done: list[Einsum] = []
    while left:
        unwritten = {e.output.tensor for e in left}
        starts = {e.output.tensor for e in left if Index() in e.output.indices}

        def ready(e: Einsum, unwritten: set[str] = unwritten, starts: set[str] = starts) -> bool:
            for a in e.reads:
                before = a.tensor in steps and not any(_is_step(i) for i in a.indices)
                earlier = before and all(isinstance(i, Index) for i in a.indices)
                if a.tensor in (starts if earlier else unwritten):
                    return False
            return True

        n = next((n for n, e in enumerate(left) if ready(e)), 0)
        done.append(left.pop(n))
    return done


def _is_step(i: object) -> bool:
    return isinstance(i, Index) and bool(i.terms) and i.offset == 1
