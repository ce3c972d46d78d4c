"""Which reductions over a tiled rank can be kept tile by tile, and what corrects them.

Separability is read off the normal form: every factor of a term, and every
summand of its exponent (multiplied out), either waits for statistics over the
rank and carries no index of the reduction, or does not wait at all.  Powers
that wait were taken out before (``rules.defer``), so that what is left of
them is an exponential: positive, and a number wherever the statistics are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import isinf

from accelsim.analysis.rewrite.algebra import exponential, factored, of
from accelsim.analysis.rewrite.axis import Axis
from accelsim.analysis.rewrite.forms import ONE, Atom, Sum, Term, nonnegative
from accelsim.analysis.rewrite.normal import expanded, reads, replaced
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
        return frozenset(a.tensor for a in reads(self.factor))


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
            for a in reads(out)
            if self.axis.barrier(a) or self.axis.late(a)
        )
        linear = d.op == "sum" or self._least_is_0(d)
        kept = Kept(d, exponential(out))
        if not (streamed and known and linear) or out.variables & d.over:
            return None
        return kept if all(self._covers(name, d) for name in kept.statistics) else None

    def _least_is_0(self, d: Def) -> bool:
        """Whether a maximum may start from 0, which a correction leaves 0, instead of -inf."""
        return d.op == "max" and nonnegative(d.body) and d.name not in self.program.hollow

    def _covers(self, statistic: str, d: Def) -> bool:
        """Whether a statistic has seen something wherever the reduction has: it has no more masks.

        Else it is still an infinity where the reduction already needs its value.
        """
        its = self.kept.get(statistic)
        if its is None or not isinf(its.start) or statistic not in self.program.hollow:
            return True
        return set(its.of.where) <= set(d.where)

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


def stem(name: str) -> str:
    """A tensor's name without the G of global.

    >>> stem("GM"), stem("SD")
    ('M', 'SD')
    """
    return name[1:] if len(name) > 1 and name[0] == "G" else name
