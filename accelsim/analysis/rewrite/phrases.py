"""Finding the maps of a text again in normal forms, and factors that several definitions share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction

from accelsim.analysis.rewrite.algebra import (
    added,
    called,
    exponential,
    factored,
    logarithm,
    number,
    of,
    raised,
    scaled,
    times,
)
from accelsim.analysis.rewrite.forms import ZERO, Atom, Base, Call, Sum, Term
from accelsim.analysis.rewrite.program import Def, atom_of


def folded(s: Sum, phrases: Iterable[Def]) -> Sum:
    """A normal form with each phrase, wherever it stands in it, as a read of its tensor.

    >>> from accelsim.ir.cascade import Access
    >>> x, g, d = (of(Atom(Access(n))) for n in "XGD")
    >>> sn = Def("SN", (), "", frozenset(), exponential(added(x, scaled(g, -1))))
    >>> folded(times(sn.body, raised(d, Fraction(-1))), [sn]).key
    '1*(D)^-1*(SN)'
    """
    its = s.reads
    for p in phrases:
        if p.body.atom is None and p.body.number is None and p.body.reads <= its:
            new = _everywhere(s, p)
            if new is not s:
                s, its = new, new.reads
    return s


def _everywhere(s: Sum, p: Def) -> Sum:
    """A sum with a phrase replaced in it and in every sum within it, outermost first."""

    def base_of(base: Base) -> Base | Sum:
        if isinstance(base, Atom):
            return base
        if isinstance(base, Sum):
            return visit(base)
        args = tuple(map(visit, base.args))
        if all(new is old for new, old in zip(args, base.args, strict=True)):
            return base
        return logarithm(args[0]) if base.op == "log" else called(base.op, *args)

    def term(t: Term) -> Sum | None:
        """A term with what changed in it, or None."""
        bases = [base_of(b) for b, _ in t.powers]
        exponent = visit(t.exponent) if t.exponent is not None else None
        same = all(new is old for new, (old, _) in zip(bases, t.powers, strict=True))
        if same and exponent is t.exponent:
            return None
        factors = [
            raised(b if isinstance(b, Sum) else of(b), q)
            for b, (_, q) in zip(bases, t.powers, strict=True)
        ]
        return times(number(t.coefficient), *factors, exponential(exponent or ZERO))

    def visit(s: Sum) -> Sum:
        s = _part_folded(s, p)
        new = [term(t) for t in s.terms]
        if all(n is None for n in new):
            return s
        return added(*(n or Sum((t,)) for n, t in zip(new, s.terms, strict=True)))

    return visit(s)


def _part_folded(s: Sum, p: Def) -> Sum:
    """A phrase found among the terms of a sum, all in one proportion, or in single terms of it."""
    its = {t.like: t.coefficient for t in s.terms}
    shares = {its.get(t.like, Fraction(0)) / t.coefficient for t in p.body.terms}
    share = shares.pop()
    if share and not shares:
        s = added(s, scaled(p.body, -share), scaled(atom_of(p), share))
    return _terms_folded(s, p)


def _terms_folded(s: Sum, p: Def) -> Sum:
    """A phrase, as one term, found as a part or a whole power of the terms of a sum."""
    phrase = factored(p.body)
    if not any(_power_of(t, phrase) for t in s.terms):
        return s
    parts = []
    for t in s.terms:
        power = _power_of(t, phrase)
        if power:
            rest = times(Sum((t,)), raised(p.body, Fraction(-power)))
            parts.append(times(rest, raised(atom_of(p), Fraction(power))))
        else:
            parts.append(Sum((t,)))
    return added(*parts)


def _power_of(t: Term, phrase: Term) -> int:
    """The whole power of a phrase that a term has as a factor; 0 for none."""
    if phrase.exponent is not None and t.exponent != phrase.exponent:
        return 0
    its = dict(t.powers)
    powers = {its.get(b, Fraction(0)) / q for b, q in phrase.powers}
    if phrase.exponent is not None:
        powers.add(Fraction(1))
    if len(powers) != 1:
        return 0
    power = powers.pop()
    return int(power) if power.denominator == 1 else 0


# -- what is shared -----------------------------------------------------------------------------


def shared(bodies: Iterable[Sum]) -> list[Sum]:
    """Costly factors that occur more than once and carry an index, largest first."""
    count: Counter[Sum] = Counter()
    for s in bodies:
        for part in costly(s):
            count[part] += 1
    found = [s for s, n in count.items() if n > 1 and s.variables]
    return sorted(found, key=lambda s: (-len(s.key), s.key))


def costly(s: Sum) -> Iterator[Sum]:
    """Every exponential, call and root in a normal form."""
    for t in s.terms:
        for base, q in t.powers:
            if isinstance(base, Call) or (q.denominator != 1 and q != 1):
                yield of(base, q if q.denominator != 1 else 1)
            if isinstance(base, Sum):
                yield from costly(base)
            elif isinstance(base, Call):
                for a in base.args:
                    yield from costly(a)
        if t.exponent is not None:
            yield Sum((Term(Fraction(1), (), t.exponent),))
            yield from costly(t.exponent)


def differences(defs: Iterable[Def]) -> set[Sum]:
    """The exponents of several terms in definitions."""
    found: set[Sum] = set()
    for part in (p for d in defs for p in costly(d.body)):
        found |= {t.exponent for t in part.terms if t.exponent and len(t.exponent.terms) > 1}
    return found
