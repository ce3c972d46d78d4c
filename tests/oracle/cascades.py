"""Random cascades for tests: chains of maps, reductions, broadcasts, recurrences, branches.

``cascades()`` is a Hypothesis strategy of legal ``Cascade`` nouns over the
ranks I, J, K, T.  A read's index variable is always that of the rank, so no
tensor is read at two indices at once.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume
from hypothesis import strategies as st

from accelsim.ir.cascade import (
    Access,
    Cascade,
    Compare,
    Condition,
    Const,
    Einsum,
    Either,
    Expr,
    Index,
    Last,
    Map,
    Position,
    Reduction,
    Tensor,
    Threshold,
)
from accelsim.ir.problem import Problem

RANKS = ("I", "J", "K", "T")
UNARY = ("exp", "neg", "square", "abs", "tanh")
BINARY = ("add", "sub", "mul", "max", "min")


def plain(rank: str, offset: int = 0) -> Index:
    """The index ``rank + offset``."""
    return Index(((rank.lower(), 1),), offset)


class _Builder:
    """Grows a legal cascade Einsum by Einsum; every choice is drawn."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.ranks: dict[str, tuple[str, ...]] = {}
        self.along: dict[str, str] = {}  # of a tensor that a recurrence carries, its rank
        self.einsums: list[Einsum] = []
        self.inputs: list[Tensor] = []

    def name(self, letter: str) -> str:
        return f"{letter}{len(self.ranks)}"

    def input(self) -> None:
        ranks = tuple(sorted(self.draw(st.sets(st.sampled_from(RANKS), min_size=1, max_size=3))))
        tensor = Tensor(self.name("X"), ranks)
        self.inputs.append(tensor)
        self.ranks[tensor.name] = ranks

    def read(self, name: str, within: str = "") -> Access:
        """A read; slots of a recurrence that is still being written (``within``) only at t."""
        indices: list[Position] = []
        for rank in self.ranks[name]:
            if self.along.get(name) != rank or within == name:
                indices.append(plain(rank))
            else:
                slots = (plain(rank), plain(rank, 1), Last(rank))
                indices.append(self.draw(st.sampled_from(slots)))
        return Access(name, tuple(indices))

    def operand(self, names: list[str], within: str = "") -> Access:
        return self.read(self.draw(st.sampled_from(names)), within)

    def expr(self, operands: list[Access]) -> Expr:
        found: Expr = operands[0]
        for other in operands[1:]:
            found = Map(self.draw(st.sampled_from(BINARY)), (found, other))
        if self.draw(st.integers(0, 3)) == 0:
            found = Map(self.draw(st.sampled_from(UNARY)), (found,))
        return found

    def write(self, output: Access, expr: Expr, operands: list[Access]) -> None:
        gone = {v for a in operands for v in a.variables} - set(output.variables)
        op = self.draw(st.sampled_from(("sum", "max", "min"))) if gone else ""
        reductions = (Reduction(op, tuple(sorted(gone))),) if gone else ()
        self.einsums.append(Einsum(output, expr, reductions))

    def chosen(self, operands: list[Access], must: str = "") -> tuple[str, ...]:
        """Ranks of an output: some of those read, ``must``, and rarely one more (a broadcast)."""
        known = sorted({v.upper() for a in operands for v in a.variables})
        kept = {r for r in known if self.draw(st.integers(0, 9)) < 6}
        if self.draw(st.integers(0, 9)) == 0:
            kept.add(self.draw(st.sampled_from(RANKS)))
        return tuple(sorted(kept | ({must} if must else set())))

    def map(self, names: list[str], must: str = "", within: str = "") -> str:
        operands = [
            self.operand(names, within)
            for _ in range(self.draw(st.sampled_from((1, 1, 2, 2, 2, 3))))
        ]
        ranks = self.chosen(operands, must)
        name = self.name("Y")
        self.write(Access(name, tuple(plain(r) for r in ranks)), self.expr(operands), operands)
        self.ranks[name] = ranks
        return name

    def again(self, names: list[str]) -> None:
        """A reduction of a tensor, and a map that reads both: what makes a pass."""
        x = self.draw(st.sampled_from(names))
        whole = self.read(x)
        if not whole.variables:
            return
        gone = self.draw(st.sampled_from(whole.variables))
        kept = tuple(v.upper() for v in whole.variables if v != gone)
        total, share = self.name("G"), f"Z{len(self.ranks) + 1}"
        self.write(Access(total, tuple(plain(r) for r in kept)), self.expr([whole]), [whole])
        self.ranks[total] = kept
        operands = [self.read(x), self.read(total)]
        if self.draw(st.integers(0, 2)) == 0:
            operands.append(self.operand(names))
        ranks = self.chosen(operands, must=gone.upper())
        self.write(Access(share, tuple(plain(r) for r in ranks)), self.expr(operands), operands)
        self.ranks[share] = ranks

    def recurrence(self) -> None:
        """Slot 0, up to two Einsums that read slot t, and ``S[.., t+1] = f(S[.., t], ..)``."""
        before = list(self.ranks)
        rank = self.draw(st.sampled_from(RANKS))
        others = self.draw(st.sets(st.sampled_from([r for r in RANKS if r != rank]), max_size=2))
        ranks = tuple(sorted({rank, *others}))
        name = self.name("S")
        self.ranks[name], self.along[name] = ranks, rank
        slot = Access(name, tuple(Index() if r == rank else plain(r) for r in ranks))
        starts = [t for t in before if set(self.ranks[t]) <= others]
        start: Expr = Const(0.5)
        if starts and self.draw(st.booleans()):
            start = self.read(self.draw(st.sampled_from(starts)))
        self.einsums.append(Einsum(slot, start))
        body: list[str] = []
        for _ in range(self.draw(st.sampled_from((0, 0, 1, 2)))):
            body.append(self.map([*before, *body, name], must=rank, within=name))
        last = [self.read(name, name)]
        if body:
            last.append(self.read(body[-1], name))
        if not body or self.draw(st.booleans()):
            last.append(self.operand(before))
        step = Access(name, tuple(plain(r, int(r == rank)) for r in ranks))
        self.write(step, self.expr(last), last)


@st.composite
def cascades(draw: st.DrawFn, most: int = 6, recurrences: bool = True) -> Cascade:
    """Legal random cascades of at most ``most`` maps and reductions, or recurrences."""
    build = _Builder(draw)
    for _ in range(draw(st.integers(1, 3))):
        build.input()
    for _ in range(draw(st.integers(1, most))):
        recent = list(build.ranks)[-3:] if draw(st.booleans()) else list(build.ranks)
        kind = draw(st.integers(0, 5))
        if recurrences and kind == 0:
            build.recurrence()
        elif kind < 3:
            build.again(recent)
        else:
            build.map(recent)
    written = list(dict.fromkeys(e.output.tensor for e in build.einsums))
    outputs = {written[-1]} | draw(st.sets(st.sampled_from(written), max_size=1))
    return Cascade(
        name="random",
        ranks=RANKS,
        inputs=tuple(build.inputs),
        einsums=tuple(build.einsums),
        outputs=tuple(sorted(outputs)),
    )


@st.composite
def choosing(draw: st.DrawFn, most: int = 3) -> Cascade:
    """A random cascade, then a selection of J into R, gathers through it, and a pass over those.

    ``S :: topk(j -> r)`` for each of some other ranks, maybe under a threshold; elements of
    inputs at the chosen coordinates; a map and a reduction of these, read again.  Nothing is
    read at j and at a chosen j at once: two indices of one fiber are reuse.
    """
    build = _Builder(draw)
    for _ in range(draw(st.integers(1, 3))):
        build.input()
    build.inputs.append(Tensor("XJ", tuple(sorted({"J", *draw(st.sets(st.sampled_from(RANKS)))}))))
    build.ranks["XJ"] = build.inputs[-1].ranks
    for _ in range(draw(st.integers(1, most))):
        build.again(list(build.ranks)) if draw(st.booleans()) else build.map(list(build.ranks))
    scored = build.operand([t for t, ranks in build.ranks.items() if "J" in ranks])
    others = tuple(r for r in build.ranks[scored.tensor] if r != "J")
    op = draw(st.sampled_from(("topk", "topk", "topp")))
    reach: Expr | None = Const(0.5) if op == "topp" else None
    where: tuple[Threshold, ...] = ()
    bounds = [t for t, ranks in build.ranks.items() if set(ranks) <= set(others)]
    if bounds and draw(st.booleans()):
        least = build.read(draw(st.sampled_from(bounds)))
        where = (Threshold(scored, draw(st.sampled_from((">=", "<"))), least),)
    listed = Access("I", tuple(plain(r) for r in (*others, "R")))
    chosen = (Reduction(op, ("j",), "r", reach=reach),)
    build.einsums.append(Einsum(listed, scored, chosen, where))
    name = draw(st.sampled_from([t for t, ranks in build.ranks.items() if "J" in ranks]))
    at = tuple(listed if r == "J" else plain(r) for r in build.ranks[name])
    operands = [Access(name, at)]
    apart = [t for t, ranks in build.ranks.items() if "J" not in ranks]
    if apart and draw(st.booleans()):
        operands.append(build.operand(apart))
    known = sorted({v.upper() for a in operands for v in a.variables} - {"R", "J"})
    kept = (*(r for r in known if draw(st.integers(0, 3))), "R")
    gathered = Access("G", tuple(plain(r) for r in kept))
    build.write(gathered, build.expr(operands), operands)
    build.ranks["G"] = kept
    if draw(st.booleans()):
        before = set(build.ranks)
        build.again(["G"])
        assume(not any("J" in build.ranks[t] for t in build.ranks.keys() - before))
    written = list(dict.fromkeys(e.output.tensor for e in build.einsums))
    if draw(st.integers(0, 3)) == 0:
        to = tuple(listed if r == "R" else plain(r) for r in dict.fromkeys((*others, *kept)))
        build.einsums.append(Einsum(Access("SC", to), gathered))
        rows = tuple(plain("J" if r == "R" else r) for r in dict.fromkeys((*others, *kept)))
        top = Reduction("max", ("j",))
        left = tuple(i for i in rows if i.plain != "j")
        build.einsums.append(Einsum(Access("TOP", left), Access("SC", rows), (top,)))
        share = Map("sub", (Access("SC", rows), Access("TOP", left)))
        build.einsums.append(Einsum(Access("LESS", rows), share))
        written.append("LESS")
    outputs = {written[-1]} | draw(st.sets(st.sampled_from(written), max_size=1))
    read = {a.tensor for e in build.einsums for a in e.reads}
    inputs = tuple(t for t in build.inputs if t.name in read)
    return Cascade("choosing", (*RANKS, "R"), inputs, tuple(build.einsums), tuple(sorted(outputs)))


def split(cascade: Cascade) -> Cascade:
    """The cascade with I and J as the parts of one rank R."""
    ranks = ("R", *(r for r in cascade.ranks if r not in ("I", "J")))
    splits = (("R", ("I", "J")),)
    parts = cascade.inputs, cascade.einsums, cascade.outputs
    return Cascade(cascade.name, ranks, *parts, splits)


def masked(cascade: Cascade, mask: Compare | Either) -> Cascade:
    """The cascade with a predicate on every Einsum that has both of its variables."""
    einsums = tuple(
        Einsum(e.output, e.expr, e.reductions, (*e.where, mask))
        if set(mask.variables) <= set(e.variables)
        else e
        for e in cascade.einsums
    )
    return Cascade(cascade.name, cascade.ranks, cascade.inputs, einsums, cascade.outputs)


def spelled(problem: Problem) -> Cascade:
    """The cascade of a problem with the ends of short last tiles in parts and numbers."""

    def ended(condition: Condition) -> Condition:
        for rank, (outer, inner) in problem.short.items():
            m = Index(((rank.lower(), 1),))
            if isinstance(condition, Compare) and condition.left == m and condition.right.sizes:
                left = Index(((outer.lower(), inner), (inner.lower(), 1)))
                return Compare(left, "<", Index(offset=problem.extent(rank)))
        return condition

    einsums = [replace(e, where=tuple(map(ended, e.where))) for e in problem.cascade.einsums]
    return replace(problem.cascade, einsums=tuple(einsums))
