"""The running form and the local form: sums that are corrected instead of made to wait.

Let G be a reduction over r, and T = sum_r f(x[r], G) with f(x, g) = a(x) * s(g),
s the factors that carry no r.  For any values g and g' where s is finite and
not 0, a sum taken under g becomes the sum under g' by one factor:

    sum a(x) * s(g') = (s(g') / s(g)) * sum a(x) * s(g)

**Running** (FlashAttention; FuseMax, section IV): cut r into tiles r1 of r0
elements, let RG be the running value of G over the tiles seen, and correct at
each tile:

    RG[r1+1] = op(RG[r1], LG[r1])
    RT[r1+1] = RT[r1] * s(RG[r1+1]) / s(RG[r1]) + sum_{r0} a(x) * s(RG[r1+1])

By induction RT[r1] = sum over the elements of the first r1 tiles of
a(x) * s(RG[r1]), so the last slot is T, because the last RG is G.  Nothing
waits for G any longer: one pass.  G may itself be such a T, and s may be of
several.

**Local** (TileFlow; Rabe and Staats): sum each tile under its own LG[r1], and
correct once G is known:

    T = sum_{r1} LT[r1] * s(G) / s(LG[r1])

Before the first element G is its identity (-inf, 0), where s may be no number
and RT is 0.  Where the correction is not 0 there by itself (exp(-inf) is), or
where a mask may leave a tile without any element, it is guarded: 0 until
something was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from math import isinf

from accelsim.analysis.rewrite.algebra import added, called, exponential, factored, raised, times
from accelsim.analysis.rewrite.corrected import Corrected, Kept, stem
from accelsim.analysis.rewrite.forms import ONE, ZERO, Atom, Base, Sum, Term
from accelsim.analysis.rewrite.guards import seen
from accelsim.analysis.rewrite.indices import plain
from accelsim.analysis.rewrite.program import Def, Names, Program, atom_of
from accelsim.analysis.rewrite.settle import changed
from accelsim.analysis.rewrite.tiling import tilings
from accelsim.ir.cascade import Access, Last, rank_of


def running(program: Program, rank: str) -> Program | None:
    """Every sum over a rank that waits for a statistic over it, kept running with a correction.

    The rank is split where it is not yet, and can be; else it is walked element by element.
    """
    for tiled in tilings(program, rank):
        found = _Running(tiled).result()
        if found is not None:
            return found
    return None


class _Running(Corrected):
    """The rewrite of one program.  ``slots``: for each reduction kept its running tensor."""

    slots: Mapping[str, str]

    def result(self) -> Program | None:
        """The program with every sum that can be kept running."""
        if not self.corrected:
            return None
        names = self.program.taken()
        needed = self._needed()
        self.slots = {k.of.name: names.fresh("R" + stem(k.of.name)) for k in needed}
        new: list[Def] = []
        hollow = dict(self.program.hollow)
        for k in needed:
            tile, value = self._tile(names, k)
            new += [*tile, self._step(k, value)]
            if k.of.name in hollow:
                hollow |= {d.name: k.of.identity for d in tile} | {new[-1].name: k.start}
        last = Last(rank_of(self.tiled.outer))
        phrases = self.corrections(names, ((k, self._correction(k)) for k in needed))
        phrases += self.by_tiles(names, lambda s: self._at_slot(s, 1))
        phrases += (
            replace(p, body=self.moved(p.body, self.slots, last)) for p in self.program.phrases
        )
        return changed(
            self.program,
            [*new, *self._readers(last)],
            self.slots.keys() - self.program.kept,
            f"keep {', '.join(self.slots)} running along {last.rank}",
            phrases=tuple(phrases),
            hollow=hollow,
            tiled=True,
        )

    def _needed(self) -> list[Kept]:
        """The corrected sums and the statistics that they need, in dependence order."""
        wanted = {k.of.name for k in self.corrected}
        todo = list(wanted)
        while todo:
            new = (self.kept[todo.pop()].statistics & self.kept.keys()) - wanted
            wanted |= new
            todo += new
        return [k for name, k in self.kept.items() if name in wanted]

    def _readers(self, last: Last) -> list[Def]:
        """All other definitions, with the last slots for what is now running."""
        found = []
        for d in self.program.defs.values():
            if d.name not in self.slots:
                found.append(replace(d, body=self.moved(d.body, self.slots, last)))
            elif d.name in self.program.kept:
                body = self.moved(atom_of(d), self.slots, last)
                found.append(replace(d, op="", over=frozenset(), body=body, where=d.domain))
        return found

    def _at_slot(self, s: Sum, offset: int) -> Sum:
        """A normal form with the running values of one slot for the statistics."""
        return self.moved(s, self.slots, plain(self.tiled.outer, offset))

    def _tile(self, names: Names, k: Kept) -> tuple[list[Def], Sum]:
        """The reduction over one tile under the running statistics, if it is one, and its value."""
        body = self._at_slot(k.of.body, 1)
        if k.of.over == {self.tiled.outer}:
            return [], body
        tile = self.tile(names.fresh("L" + stem(k.of.name)), k.of, body)
        return [tile], atom_of(tile)

    def _step(self, k: Kept, value: Sum) -> Def:
        """The recurrence."""
        d, slot = k.of, self.tiled.outer
        step = Def(self.slots[d.name], self.out(d), "", frozenset(), ZERO, d.domain, slot, k.start)
        before = times(atom_of(step), self._correction(k))
        body = added(before, value) if d.op == "sum" else called(d.op, before, value)
        return replace(step, body=body)

    def _correction(self, k: Kept) -> Sum:
        """s(new) / s(old), 0 where nothing was seen."""
        if not k.statistics:
            return ONE
        ratio = times(self._at_slot(k.factor, 1), raised(self._at_slot(k.factor, 0), Fraction(-1)))
        exponent = factored(ratio).exponent or ZERO
        ratio = exponential(Sum((factored(exponent),)))  # (g - g') * c, as g*c - g'*c cancels
        guards = []
        for a in sorted(k.factor.reads, key=str):
            stat = self.kept.get(a.tensor)
            if stat is None or not isinf(stat.start):
                continue
            if k.of.name in self.program.hollow or not _vanishes(k.factor, stat.of):
                at = self.at(a, self.slots[a.tensor], plain(self.tiled.outer))
                guards.append(seen(at, stat.start))
        return called("select", times(*guards), ratio, ZERO) if guards else ratio


def _vanishes(factor: Sum, statistic: Def) -> bool:
    """Whether 1/s is 0 by itself where a statistic is still its identity.

    So it is where the exponent is linear in it, with a positive number or size as factor.
    """
    exponent = factored(factor).exponent
    sign = 1 if statistic.op == "min" else -1

    def linear(t: Term) -> bool:
        its = all(q == 1 if _tensor(b) == statistic.name else _positive(b) for b, q in t.powers)
        return t.coefficient * sign > 0 and its and t.exponent is None

    found = exponent.terms if exponent is not None else ()
    return all(linear(t) for t in found if _holds(t, statistic))


def _holds(t: Term, d: Def) -> bool:
    return d.name in {a.tensor for a in t.reads}


def _tensor(base: Base) -> str:
    return base.expr.tensor if isinstance(base, Atom) and isinstance(base.expr, Access) else ""


def _positive(base: Base) -> bool:
    """Whether a factor beside a statistic in an exponent is a positive number."""
    return isinstance(base, Atom) and not isinstance(base.expr, Access) and base.nonnegative
