"""Rewrites that move factors out of reductions: deferral, moments, and what overflows.

Each takes a program and a variable r whose fiber is visited more than once,
and returns a program in which some reductions no longer wait for a statistic
over r, or None.  All are instances of

    sum_k f * g(k) = f * sum_k g(k)        f carries no k
    max_k (f + g(k)) = f + max_k g(k)
    max_k f * g(k) = f * max_k g(k)        f not negative

``defer`` takes out powers (a division by the sum, a root of the mean square),
``moments`` first multiplies out whole powers of sums of both kinds, such as
``(x - g)**2``, and ``bare_exponentials`` takes out ``exp(-g)`` as well, which
is right over the reals and overflows on a machine: judged later, not hidden.

A reduction that may be over nothing (a mask) is guarded: see ``guards``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, product

from accelsim.analysis.rewrite.algebra import (
    added,
    exponential,
    factored,
    of,
    quotient,
    raised,
    scaled,
    sum_of,
    times,
)
from accelsim.analysis.rewrite.axis import Axis
from accelsim.analysis.rewrite.forms import Atom, Base, Sum, Term, nonnegative_term
from accelsim.analysis.rewrite.guards import guarded
from accelsim.analysis.rewrite.normal import expanded
from accelsim.analysis.rewrite.program import Def, Names, Program, atom_of
from accelsim.analysis.rewrite.settle import changed, settled, with_defs
from accelsim.analysis.rewrite.text import show_sum
from accelsim.ir.cascade import Access

#: A sum that is multiplied out into so many more terms than it has is better left as it is.
MOST_MOMENTS = 8


def defer(program: Program, variable: str, but: Collection[str] = frozenset()) -> Program | None:
    """Factors that wait for a whole fiber taken out of reductions that visit it, ``but`` some."""
    found: Program | None = None
    while True:
        here = new = found or program
        axis = Axis(here, variable)
        for d in _visiting(here, axis):
            new = new if d.name in but else _deferred(new, axis, d) or new
        if new is here:
            return found
        found = settled(new)


def moments(program: Program, variable: str) -> Program | None:
    """Sums of polynomials in what is streamed and what waits, as polynomials of plain sums."""
    return _distributed(program, variable, exponentials=False)


def bare_exponentials(program: Program, variable: str) -> Program | None:
    """Factors taken out, exponentials too: ``sum exp(x - g)`` as ``exp(-g) * sum exp(x)``.

    Not of a program with sums in running or local form: what such a form
    keeps from overflowing here overflows there, so that both together are no
    better than ``bare_exponentials`` alone.
    """
    found = None if program.tiled else _distributed(program, variable, exponentials=True)
    return None if found is None else replace(found, bare=True)


def _visiting(program: Program, axis: Axis) -> list[Def]:
    """The reductions that read the fiber element by element and wait for all of it."""
    return [
        d
        for d in program.defs.values()
        if d.op in ("sum", "max", "min")
        and axis.variable in d.over.union(d.out)
        and axis.waits(d.body)
    ]


# -- one term -----------------------------------------------------------------------------------


def _deferred(program: Program, axis: Axis, d: Def) -> Program | None:
    """One reduction with its waiting factors, or summands of a maximum, taken out."""
    if d.op != "sum":
        return _out_of_maximum(program, axis, d)
    t = factored(d.body)
    waiting = [(b, q) for b, q in t.powers if axis.waits(of(b))]
    out = [(b, q) for b, q in waiting if not b.variables & d.over]
    if out:
        return _factor_out(program, d, t, out)
    return _nested(program, axis, d, [b.variables for b, _ in waiting])


def _factor_out(program: Program, d: Def, t: Term, out: list[tuple[Base, Fraction]]) -> Program:
    """A reduction of a product, with some of its powers taken out."""
    factor = Sum((Term(Fraction(1), tuple(out)),))
    rest = Sum((quotient(t, factored(factor)),))
    name = d.name + ("N" if all(q < 0 for _, q in out) else "S")  # a quotient leaves its numerator
    inner = _inner(program.taken(), d, rest, name)
    said = f"defer {show_sum(factor)} past the {d.op} over {_over(d)} in {d.name}"
    return _as_map(program, d, times(factor, atom_of(inner)), [inner], said)


def _out_of_maximum(program: Program, axis: Axis, d: Def) -> Program | None:
    """``max(f + g(k))`` and ``max(f * g(k))`` with f taken out."""
    out = Sum(tuple(t for t in d.body.terms if not t.variables & d.over and axis.waits(t)))
    if 0 < len(out.terms) < len(d.body.terms):
        inner = _inner(program.taken(), d, added(d.body, scaled(out, -1)), d.name + "S")
        said = f"take {show_sum(out)} out of the {d.op} over {_over(d)} in {d.name}"
        return _as_map(program, d, added(out, atom_of(inner)), [inner], said)
    t = factored(d.body)
    powers = [
        (b, q)
        for b, q in t.powers
        if not b.variables & d.over
        and axis.waits(of(b))
        and nonnegative_term(Term(Fraction(1), ((b, q),)))
    ]
    return _factor_out(program, d, t, powers) if powers else None


def _nested(program: Program, axis: Axis, d: Def, carried: list[frozenset[str]]) -> Program | None:
    """``sum_{k,j} f(j) * g(k,j)`` as ``sum_j f(j) * sum_k g(k,j)``, k visited and j not."""
    kept = frozenset[str]().union(*carried) & d.over
    if axis.variable not in d.over - kept or not kept:
        return None
    name = program.taken().fresh(d.name + "S")
    inner = replace(d, name=name, out=(*d.out, *sorted(kept)), over=d.over - kept)
    outer = replace(d, over=kept, body=atom_of(inner), where=inner.domain)
    return with_defs(program, [inner, outer])


# -- several terms ------------------------------------------------------------------------------


def _distributed(program: Program, variable: str, exponentials: bool) -> Program | None:
    """Every reduction that visits and waits as a sum of factors times plain sums."""
    here = defer(program, variable) or program
    found: Program | None = None
    done: set[str] = set()
    while True:
        new = here = found or here
        axis = Axis(here, variable)
        todo = [d for d in _visiting(here, axis) if d.name not in done]
        if not todo:
            return found
        done |= {d.name for d in todo}
        for d in todo:
            new = _split_terms(new, axis, d, exponentials) or new
        found = found if new is here else settled(new)


def _split_terms(program: Program, axis: Axis, d: Def, exponentials: bool) -> Program | None:
    """One sum as ``f1 * sum g1 + f2 * sum g2 + ...``; equal factors share a sum."""
    if d.op != "sum":
        return None
    body = expanded(d.body, lambda s: axis.waits(s) and bool(s.variables & d.over))
    written = sum(len(b.terms) for t in d.body.terms for b, _ in t.powers if isinstance(b, Sum))
    if len(body.terms) > len(d.body.terms) + written + MOST_MOMENTS:
        return None
    groups: dict[Sum, list[Term]] = {}
    for t in body.terms:
        factor, rest = _apart(axis, d.over, t, exponentials)
        groups.setdefault(factor, []).append(rest)
    if not any(map(axis.waits, groups)):
        return None
    names = program.taken()
    inners: list[Def] = []
    parts: list[Sum] = []
    for factor, rests in groups.items():
        inside = sum_of(rests)
        leading = inside.terms[0].coefficient
        inners.append(_inner(names, d, scaled(inside, 1 / leading), d.name + "S"))
        parts.append(times(scaled(factor, leading), atom_of(inners[-1])))
    how = "expand" if len(body.terms) > 1 else "take exp out of"
    said = f"{how} the sum over {_over(d)} in {d.name}: {', '.join(i.name for i in inners)}"
    return _as_map(program, d, added(*parts), inners, said)


def _apart(axis: Axis, over: frozenset[str], t: Term, exponentials: bool) -> tuple[Sum, Term]:
    """A term as what may leave the sum, and the rest."""
    waits = axis.waits(t)
    powers = tuple((b, q) for b, q in t.powers if waits and not b.variables & over)
    factor = Sum((Term(Fraction(1), powers),))
    if exponentials and t.exponent is not None and not _towers(t.exponent):
        flat = expanded(t.exponent, lambda s: axis.waits(s) and bool(s.variables & over))
        out = tuple(u for u in flat.terms if not u.variables & over and axis.waits(u))
        factor = times(factor, exponential(Sum(out)))
        t = Term(t.coefficient, t.powers, flat)
    return factor, quotient(t, factored(factor))


def _towers(exponent: Sum) -> bool:
    """Whether an exponent holds an exponential: its own would overflow before anything is won."""
    return any(t.exponent is not None for t in exponent.terms)


# -- one sum for several ------------------------------------------------------------------------


def merge(program: Program) -> Program | None:
    """``sum_k f(k) + sum_k g(k)`` as ``sum_k (f(k) + g(k))``, where nothing else reads the two."""
    readers = Counter(a.tensor for d in program.defs.values() for a in d.reads)

    def sums(t: Term) -> list[tuple[Def, Sum]]:
        """The sums that are a factor of a term and read nowhere else, with the other factors."""
        its = ((program.defs.get(_tensor(b)), of(b)) for b, q in t.powers if q == 1)
        return [
            (d, times(Sum((t,)), raised(atom_of(d), Fraction(-1))))
            for d, read in its
            if d is not None
            and d.op == "sum"
            and read == atom_of(d)
            and readers[d.name] == 1
            and d.name not in program.kept
        ]

    for d in program.defs.values():
        for t, u in combinations(d.body.terms, 2):
            for (a, f), (b, g) in product(sums(t), sums(u)):
                alike = (a.over, a.where, set(a.out)) == (b.over, b.where, set(b.out))
                if alike and factored(f).like == factored(g).like and a is not b:
                    return _merged(program, d, (t, u), (a, f), (b, g))
    return None


def _merged(program: Program, d: Def, pair: tuple[Term, Term], *its: tuple[Def, Sum]) -> Program:
    """The program with the sums of two terms of a body as one."""
    (a, f), (b, g) = its
    share = factored(g).coefficient / factored(f).coefficient
    name = program.taken().fresh(a.name + "S")
    both = replace(a, name=name, body=added(a.body, scaled(b.body, share)))
    body = added(d.body, scaled(Sum((pair[0],)), -1), scaled(Sum((pair[1],)), -1))
    body = added(body, times(f, atom_of(both)))
    hollow = dict(program.hollow)
    if a.name in hollow:
        hollow[name] = hollow[a.name]
    said = f"merge the sums over {_over(a)} of {a.name} and {b.name}"
    phrases = tuple(
        p for p in program.phrases if not {x.tensor for x in p.reads} & {a.name, b.name}
    )
    return changed(
        program,
        [both, replace(d, body=body)],
        (a.name, b.name),
        said,
        hollow=hollow,
        phrases=phrases,
    )


# -- new definitions ----------------------------------------------------------------------------


def _inner(names: Names, d: Def, body: Sum, name: str) -> Def:
    """The reduction ``d`` with another body, over the outputs that it still depends on."""
    carried = body.variables.union(*(c.variables for c in d.where))
    out = tuple(v for v in d.out if v in carried)
    return replace(d, name=names.fresh(name), out=out, body=body)


def _as_map(program: Program, d: Def, body: Sum, inners: list[Def], said: str) -> Program:
    """The program with ``d`` a map of new reductions, to be found by name again."""
    hollow = dict(program.hollow)
    if d.name in hollow:
        hollow |= {i.name: i.identity for i in inners}
    program = replace(program, hollow=hollow)
    as_map = guarded(program, d, body)
    phrases = program.phrases if as_map.closed else (as_map, *program.phrases)
    return with_defs(program, [*inners, as_map], said=said, phrases=phrases)


def _over(d: Def) -> str:
    return ",".join(sorted(d.over))


def _tensor(base: Base) -> str:
    return base.expr.tensor if isinstance(base, Atom) and isinstance(base.expr, Access) else ""
