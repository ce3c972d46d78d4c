"""Which reductions over a tiled rank can be kept tile by tile, and what corrects them.

Separability is read off the normal form: every factor of a term, and every
summand of its exponent (multiplied out), either waits for statistics over the
rank and carries no index of the reduction, or does not wait at all.  Powers
that wait were taken out before (``rules.defer``), so that what is left of
them is an exponential: positive, and a number wherever the statistics are.

**When s(g') / s(g) is well defined.**  Over the reals always; among floats
only where no running value makes an exponential that the original has not.
So every statistic in an exponent must be **anchored**: a maximum or minimum G
of elements B[m] that stand beside it in the same proportion, c * (B[m] - G)
or c * (B[m] - max(G, S)).  Its running values lie between the elements seen
so far and G, so for every element m that is summed

    |B[m] - RG| <= |B[m] - G|, both of one sign

(for a maximum B[m] <= RG <= G), and the exponentials under RG are at most 1
where the original's are, else at most the original's own.  The correction
exp(c * (RG - RG')) lies between 1 and such a one too, because RG is an
element that was seen.  The masks of G must be among those of the sum: an
element that G leaves out is not bounded by it.  What else stands in the
exponent waits for nothing: exp of it is a factor of a(x), and execution says
whether that overflows alone.  Elements are taken to be finite: what is left
out of an extremum is a mask, ``where``, and not an added -inf.

A partial sum bounds nothing: the sum of x may be -1000 half-way and 0 at the end, and
exp(x - RG) infinite half-way, 0 * infinity from there on.  A statistic that
is not anchored is no reason to keep anything running: with the exponential
taken out altogether (``rules.bare_exponentials``) the sum overflows no more
often and takes fewer operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from accelsim.analysis.rewrite.algebra import exponential, factored, of, product, quotient, times
from accelsim.analysis.rewrite.axis import Axis
from accelsim.analysis.rewrite.forms import ONE, Atom, Base, Call, Sum, Term, nonnegative
from accelsim.analysis.rewrite.indices import plain_variables, renamed, renamed_condition
from accelsim.analysis.rewrite.normal import expanded, replaced
from accelsim.analysis.rewrite.program import Def, Names
from accelsim.analysis.rewrite.tiling import Tiled
from accelsim.ir.cascade import Access, Position
from accelsim.ir.ops import REDUCTIONS


@dataclass(frozen=True, slots=True)
class Kept:
    """A reduction that is kept tile by tile; ``factor``: what it owes to statistics (s)."""

    of: Def
    factor: Sum = ONE

    @property
    def start(self) -> float:
        """The value before the first element."""
        return 0.0 if self.statistics else REDUCTIONS[self.of.op].identity

    @property
    def statistics(self) -> frozenset[str]:
        """The tensors that the factor is made of."""
        return frozenset(a.tensor for a in self.factor.reads)


class Corrected:
    """The reductions over a tiled rank that can be kept with a correction."""

    def __init__(self, tiled: Tiled) -> None:
        self.tiled, self.program = tiled, tiled.program
        self.axis = Axis(tiled.program, tiled.outer)
        self.kept: dict[str, Kept] = {}
        for d in self.program.defs.values():
            kept = self._kept(d) if tiled.outer in d.over and self._localises(d) else None
            if kept is not None:
                self.kept[d.name] = kept
        self.corrected = [k for k in self.kept.values() if k.statistics]

    def _localises(self, d: Def) -> bool:
        """Whether a tile's own reduction is defined for every tile: it has all masks on r1."""
        rest = d.over - {self.tiled.outer}
        return all(self.tiled.outer not in c.variables or set(c.variables) & rest for c in d.where)

    def _kept(self, d: Def) -> Kept | None:
        """How a reduction can be kept, if it can."""
        waits = self.axis.waits
        if not waits(d.body):
            return Kept(d)
        t = factored(d.body)
        flat = expanded(t.exponent, waits).terms if t.exponent is not None else ()
        out = Sum(tuple(u for u in flat if waits(u)))
        rest = Sum(tuple(u for u in flat if not waits(u)))
        streamed = not waits(Sum((Term(t.coefficient, t.powers),))) and not waits(rest)
        known = all(
            a.tensor in self.kept and self.axis.barrier(a)
            for a in out.reads
            if self.axis.barrier(a) or self.axis.late(a)
        )
        linear = d.op == "sum" or self._least_is_0(d)
        kept = Kept(d, exponential(out))
        if not (streamed and known and linear) or out.variables & d.over:
            return None
        whole = Term(t.coefficient, t.powers, expanded(rest))
        return kept if self._anchored(d, out, whole) else None

    def _least_is_0(self, d: Def) -> bool:
        """Whether a maximum may start from 0, which a correction leaves 0, instead of -inf."""
        return d.op == "max" and nonnegative(d.body) and d.name not in self.program.hollow

    def _anchored(self, d: Def, out: Sum, streamed: Term) -> bool:
        """Whether beside each statistic in an exponent stand the elements that it is made of."""
        for u in out.terms:
            elements = (factored(exponential(e)) for e in self._elements(d, u))
            found = next((e for e in elements if _cancels(e, streamed)), None)
            if found is None:
                return False
            streamed = product((streamed, found))
        return True

    def _elements(self, d: Def, u: Term) -> Iterator[Sum]:
        """``c * B`` for a summand ``c * G`` or ``c * max(G, S)`` of an exponent, each such G."""
        waiting = [b for b, q in u.powers if self.axis.waits(of(b))]
        if len(waiting) != 1 or u.exponent is not None:
            return
        factor = Sum((quotient(u, factored(of(waiting[0]))),))
        its = [self.kept[a.tensor] for a in waiting[0].reads if a.tensor in self.kept]
        if self.axis.waits(factor) or any(k.statistics for k in its):
            return
        if {k.of.op for k in its} in ({"max"}, {"min"}):
            for a in _choices(waiting[0]):
                for body in self._bodies(d, a, its[0].of.op):
                    yield expanded(times(factor, body))

    def _bodies(self, d: Def, a: Access, op: str) -> Iterator[Sum]:
        """The elements of an extremum, at the variables of a read, if ``d`` is over no others.

        Where these are extrema themselves (of tiles), the elements of those as well.
        """
        its, at = self.program.defs.get(a.tensor), plain_variables(a)
        if its is None or at is None or its.op != op:
            return
        names = dict(zip(its.out, at, strict=True))
        body = renamed(its.body, names)
        if {renamed_condition(c, names) for c in its.where} <= set(d.where) and body is not None:
            yield body
            if body.atom is not None and isinstance(body.atom.expr, Access):
                yield from self._bodies(d, body.atom.expr, op)

    # -- names and places ------------------------------------------------------------------------

    def out(self, d: Def) -> tuple[str, ...]:
        """The variables of a definition and that of the tiles, in the order of the ranks."""
        if self.tiled.outer in d.out:
            return d.out
        parts = [p.lower() for p in self.program.cascade.whole]
        at = parts.index(self.tiled.outer)
        before = sum(parts.index(v) < at for v in d.out)
        return (*d.out[:before], self.tiled.outer, *d.out[before:])

    def at(self, a: Access, name: str, index: Position) -> Access:
        """A read of a reduction as one of its tensor by tiles, at one of these."""
        before = self.out(self.kept[a.tensor].of).index(self.tiled.outer)
        return Access(name, (*a.indices[:before], index, *a.indices[before:]))

    def moved(self, s: Sum, names: Mapping[str, str], index: Position) -> Sum:
        """A normal form with reductions read as their tensors by tiles, at one of these."""

        def by(atom: Atom) -> Sum | None:
            a = atom.expr
            if not isinstance(a, Access) or a.tensor not in names:
                return None
            return of(Atom(self.at(a, names[a.tensor], index), atom.nonnegative))

        return replaced(s, by)

    def tile(self, name: str, d: Def, body: Sum) -> Def:
        """The reduction over one tile, with this body."""
        over = d.over - {self.tiled.outer}
        return replace(d, name=name, out=self.out(d), over=over, body=body)

    # -- what is to be found by name again -------------------------------------------------------

    def corrections(self, names: Names, its: Iterable[tuple[Kept, Sum]]) -> list[Def]:
        """Each correction under a name, equal ones once."""
        found: dict[str, Def] = {}
        parts = [p.lower() for p in self.program.cascade.whole]
        for k, body in its:
            if k.statistics and body.key not in found and body.variables:
                name = names.fresh("C" + stem(min(k.statistics & set(self.kept))))
                out = tuple(sorted(body.variables, key=parts.index))
                found[body.key] = Def(name, out, "", frozenset(), body)
        return list(found.values())

    def by_tiles(self, names: Names, under: Callable[[Sum], Sum]) -> list[Def]:
        """The maps of the original under the statistics of tiles."""
        found = []
        for p in self.program.phrases:
            body = under(p.body)
            if body != p.body and p.out:
                name = names.fresh("L" + p.name)
                found.append(replace(p, name=name, out=self.out(p), body=body))
        return found


def _choices(base: Base) -> Iterator[Access]:
    """The accesses that an extremum, perhaps of several, is the value of."""
    if isinstance(base, Atom) and isinstance(base.expr, Access):
        yield base.expr
    elif isinstance(base, Call) and base.op in ("max", "min"):
        for t in (a.term for a in base.args):
            if t is not None and of(t.powers[0][0] if t.powers else base) == Sum((t,)):
                yield from _choices(t.powers[0][0])


def _cancels(t: Term, streamed: Term) -> bool:
    """Whether every factor of a term stands, inverted, in another one."""
    powers = dict(streamed.powers)
    its = t.exponent.terms if t.exponent is not None else ()
    other = streamed.exponent.terms if streamed.exponent is not None else ()
    summands = {u.like: u.coefficient for u in other}
    return (
        bool(t.like)
        and all(powers.get(b) == -q for b, q in t.powers)
        and all(summands.get(u.like) == -u.coefficient for u in its)
    )


def stem(name: str) -> str:
    """A tensor's name without the G of global.

    >>> stem("GM"), stem("SD")
    ('M', 'SD')
    """
    return name[1:] if len(name) > 1 and name[0] == "G" else name
