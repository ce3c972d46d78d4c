"""Random cascades of what rewrites act on: statistics over a rank, and maps that use them again.

``statistics()`` is a Hypothesis strategy of legal cascades over the ranks M,
P and F: streams over M, a reduction of one, a stream made with it, and so on.
Signs are kept track of, so that divisors, roots and logarithms are of
positive values: what comes out is finite, and an unequal rewrite shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from accelsim.ir.cascade import (
    Access,
    Cascade,
    Compare,
    Coordinate,
    Einsum,
    Either,
    Expr,
    Index,
    Map,
    Reduction,
    Size,
    Tensor,
    Threshold,
)

RANKS = ("M", "P", "F")
_M, _P = Index((("m", 1),)), Index((("p", 1),))
MASKS = (
    Compare(_M, "<=", _P),
    Compare(_M, "<", _P),
    Compare(_P, "<=", Index((("m", 1),), 3)),
    Access("KEEP", (_M,)),
    Compare(Index((("p", 1), ("m", -1))), "<", Index((), 3)),
    Either(((Compare(_M, "<=", _P),), (Access("KEEP", (_M,)),))),
    Threshold(Access("X", (_M, _P)), ">=", Map("neg", (Access("U", (_P,)),))),
)
INPUTS = {"X": ("M", "P"), "Y": ("M", "P"), "V": ("M", "F"), "W": ("M",), "U": ("P",)}


def at(name: str, ranks: tuple[str, ...]) -> Access:
    return Access(name, tuple(Index(((r.lower(), 1),)) for r in ranks))


@dataclass
class _Growing:
    draw: st.DrawFn
    ranks: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(INPUTS))
    positive: set[str] = field(default_factory=set)
    einsums: list[Einsum] = field(default_factory=list)

    def one(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def named(self, *names: str) -> Access:
        name = self.one(*names)
        return at(name, self.ranks[name])

    def over(self, *reads: Access) -> tuple[str, ...]:
        found = {v.upper() for a in reads for v in a.variables}
        return tuple(r for r in RANKS if r in found)

    def add(self, expr: Expr, ranks: tuple[str, ...], positive: bool, op: str = "") -> str:
        name = f"{'G' if op else 'T'}{len(self.einsums)}"
        gone = tuple(v for v in Einsum(at(name, ranks), expr).variables if v.upper() not in ranks)
        reductions = (Reduction(op, gone),) if op else ()
        self.einsums.append(Einsum(at(name, ranks), expr, reductions))
        self.ranks[name] = ranks
        if positive:
            self.positive.add(name)
        return name

    def streams(self) -> list[str]:
        return [n for n, ranks in self.ranks.items() if "M" in ranks]

    def statistics(self) -> list[str]:
        return [n for n, ranks in self.ranks.items() if "M" not in ranks]

    def reduce(self) -> str:
        """A statistic: a reduction over m, of a stream or of a product of two."""
        x = self.named(*self.streams()[-2:])
        op = self.one("sum", "max", "sum", "min", "sum")
        positive = x.tensor in self.positive
        expr: Expr = x
        its = self.over(x)
        if op == "sum" and self.draw(st.booleans()):
            y = self.named("V", "W", *self.streams())
            positive = positive and y.tensor in self.positive
            expr, its = Map("mul", (x, y)), self.over(x, y)
            if self.draw(st.booleans()):
                expr = Map("div", (expr, Size("M")))
        return self.add(expr, tuple(r for r in its if r != "M"), positive, op)

    def use(self, statistic: str) -> str:
        """A stream made of another one and a statistic."""
        x = self.named(*self.streams())
        g = at(statistic, self.ranks[statistic])
        if self.draw(st.integers(0, 3)) == 0:
            g = self.named(*self.statistics())
        its, above = self.over(x, g), x.tensor in self.positive
        kinds = ["exp", "minus", "square", "times", "slope"]
        if g.tensor in self.positive:
            kinds += ["over", "root", "over", "log"]
        kind = self.one(*kinds)
        less = Map("sub", (x, g))
        if kind == "exp":
            return self.add(Map("exp", (less,)), its, True)
        if kind == "minus":
            return self.add(less, its, False)
        if kind == "square":
            return self.add(Map("square", (less,)), its, False)
        if kind == "slope":
            far = Map("mul", (Coordinate("m"), Map("square", (g,))))
            return self.add(Map("sub", (x, far)), its, False)
        if kind == "times":
            return self.add(Map("mul", (x, g)), its, above and g.tensor in self.positive)
        if kind == "over":
            return self.add(Map("div", (x, g)), its, above)
        if kind == "root":
            return self.add(Map("mul", (x, Map("rsqrt", (g,)))), its, above)
        return self.add(Map("sub", (x, Map("log", (g,)))), its, False)


@st.composite
def statistics(draw: st.DrawFn, most: int = 3) -> Cascade:
    """Legal random cascades of up to ``most`` statistics one after the other, some with a mask."""
    grow = _Growing(draw)
    for _ in range(draw(st.integers(1, most))):
        found = grow.reduce()
        for _ in range(draw(st.integers(1, 2))):
            grow.use(found)
    if draw(st.integers(0, 3)):
        grow.reduce()
    einsums = list(grow.einsums)
    mask = draw(st.sampled_from((None, None, *MASKS)))
    if mask is not None:
        names = set(mask.variables)
        hit = [n for n, e in enumerate(einsums) if names <= set(e.variables)]
        for n in hit if draw(st.booleans()) else hit[:1]:
            einsums[n] = replace(einsums[n], where=(mask,))
    names = [e.output.tensor for e in einsums]
    outputs = {names[-1]} | draw(st.sets(st.sampled_from(names), max_size=1))
    read = {a.tensor for e in einsums for a in e.reads}
    inputs = [Tensor(n, r) for n, r in {**INPUTS, "KEEP": ("M",)}.items() if n in read]
    return Cascade("random", RANKS, tuple(inputs), tuple(einsums), tuple(sorted(outputs)))
