"""Random small problems with random legal mappings, for Hypothesis.

Legal: every Einsum runs over each of its parts once and over no other, and no
Einsum reads a sum under a loop that the sum still runs over.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from hypothesis import strategies as st

from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.ir.cascade import Cascade, Index, rank_of
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, Stage, leaves
from accelsim.ir.problem import Problem, bind
from accelsim.load.cascade import cascade_from_text
from tests.oracle.nest import rounds

#: Name, declaration and Einsums; ``I`` of a window is given by the others, and H by HK and G.
TEXTS = {
    "matmul": ("[I, J, K]", "{A: [I, K], B: [K, J]}", "Z", ["Z[i,j] = A[i,k] * B[k,j]"]),
    "batched": (
        "[N, I, J, K]",
        "{A: [N, I, K], B: [K, J]}",
        "Z",
        ["Z[n,i,j] = A[n,i,k] * B[k,j]"],
    ),
    "square": ("[I, K]", "{A: [I, K]}", "Z", ["Z[i] = A[i,k] * A[i,k]"]),
    "convolution": (
        "[X, P, W, F]",
        "{A: [X], B: [W, F]}",
        "Z",
        ["Z[p,f] = A[p+w] * B[w,f]"],
    ),
    "strided": ("[X, P, W]", "{A: [X], B: [W]}", "Z", ["Z[p] = A[2*p+w] * B[w]"]),
    "dilated": ("[X, P, W]", "{A: [X], B: [W]}", "Z", ["Z[p] = A[p+2*w] * B[w]"]),
    "gaps": ("[X, P, W]", "{A: [X], B: [W]}", "Z", ["Z[p] = A[5*p+2*w] * B[w]"]),
    "convolution 2-D": (
        "[X, Y, P, Q, W, V]",
        "{A: [X, Y], B: [W, V]}",
        "Z",
        ["Z[p,q] = A[p+w,q+v] * B[w,v]"],
    ),
    "heads": (
        "[H, HK, G, P, M]",
        "{Q: [H, P], K: [HK, M]}",
        "S",
        ["S[h,p,m] = Q[h,p] * K[h // G, m]"],
    ),
    "siblings": (
        "[I, K]",
        "{A: [I, K], B: [K], C: [K]}",
        "[Y, Z]",
        ["Y[i] = A[i,k] * B[k]", "Z[i] = A[i,k] * C[k]"],
    ),
    "chain": (
        "[I, J, K, L]",
        "{A: [I, K], B: [K, J], C: [J, L]}",
        "Z",
        ["S[i,j] = A[i,k] * B[k,j]", "Z[i,l] = S[i,j] * C[j,l]"],
    ),
    "softmax": (
        "[N, I, J, K]",
        "{A: [N, I, K], B: [N, K, J], V: [N, J]}",
        "Z",
        [
            "S[n,i,j] = A[n,i,k] * B[n,k,j]",
            "G[n,i] = S[n,i,j] :: max(j)",
            "E[n,i,j] = exp(S[n,i,j] - G[n,i])",
            "D[n,i] = E[n,i,j]",
            "Z[n,i] = E[n,i,j] / D[n,i] * V[n,j]",
        ],
    ),
    "running": (
        "[P, M1, M0, F]",
        "{S: [M1, M0, P], V: [M1, M0, F]}",
        "Z",
        [
            "L[m1,p] = S[m1,m0,p] :: max(m0)",
            "R[0,p] = -inf",
            "R[m1+1,p] = max(R[m1,p], L[m1,p])",
            "E[m1,m0,p] = exp(S[m1,m0,p] - R[m1+1,p])",
            "C[m1,p] = exp(R[m1,p] - R[m1+1,p])",
            "T[m1,p,f] = E[m1,m0,p] * V[m1,m0,f]",
            "W[0,p,f] = 0",
            "U[m1,p,f] = W[m1,p,f] * C[m1,p]",
            "W[m1+1,p,f] = U[m1,p,f] + T[m1,p,f]",
            "Z[p,f] = W[M1,p,f] / R[M1,p]",
        ],
    ),
    "state": (
        "[M, I, J]",
        "{K: [M, I], V: [M, J], Q: [M, I]}",
        "Z",
        [
            "N[m,i,j] = K[m,i] * V[m,j]",
            "S[0,i,j] = 0",
            "S[m+1,i,j] = S[m,i,j] + N[m,i,j]",
            "Z[m,j] = S[m+1,i,j] * Q[m,i]",
        ],
    ),
}

#: Ranks that follow from others.
GIVEN = {"X", "Y", "H"}


def cascade(name: str) -> Cascade:
    """One of the cascades above."""
    ranks, inputs, output, einsums = TEXTS[name]
    key = "outputs" if output.startswith("[") else "output"
    steps = "".join(f"  - {e}\n" for e in einsums)
    return cascade_from_text(
        f"cascade: {name}\nranks: {ranks}\ninputs: {inputs}\n{key}: {output}\neinsums:\n{steps}"
    )


CASCADES = {name: cascade(name) for name in TEXTS}


@dataclass(frozen=True)
class Case:
    """A problem, a machine and a mapping of one group or several."""

    problem: Problem
    arch: Architecture
    mapping: Mapping

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """Hypothesis prints a case so: short enough to read, long enough to see what happens."""
        printer.text("\n" + str(self))

    def __str__(self) -> str:
        lines = [f"{self.problem.cascade.name} {dict(self.problem.sizes)}"]
        lines += [f"{u.name}: {u.rows}x{u.cols}" for u in self.arch.units]
        lines += [f"partial_sums={self.mapping.partial_sums}"]
        for group in self.mapping.groups:
            lines += [f"group {group.name}", *_shown(group.tree, 1)]
        return "\n".join(lines)


def _shown(tree: Node | Leaf, depth: int) -> list[str]:
    def loops(found: tuple[Loop, ...]) -> str:
        return " ".join(f"{p.part}={p.trips}" for p in found)

    pad = "  " * depth
    if isinstance(tree, Leaf):
        spread = f"rows {loops(tree.rows)} cols {loops(tree.cols)}"
        return [f"{pad}{tree.einsum} on {tree.unit} {spread} for {loops(tree.loops)}"]
    holds = " ".join(
        f"{h.tensor}@{h.level}" + (f"x{h.copies}" if h.copies > 1 else "")
        + (f"~{h.shares}" if h.shares else "") for h in tree.holds
    )  # fmt: skip
    found = [f"{pad}for {loops(tree.loops)} hold {holds}"]
    for child in tree.children:
        found += _shown(child, depth + 1)
    return found


@st.composite
def parts(draw: st.DrawFn, rank: str, most: int) -> tuple[Loop, ...]:
    """A rank in one to three parts, at most ``most`` long."""
    number = draw(st.integers(1, 3))
    found: list[Loop] = []
    for n in range(number):
        left = most // prod(p.trips for p in found)
        trips = draw(st.integers(1, max(1, min(left, 5 if number == 1 else 3))))
        found.append(Loop(rank if number == 1 else f"{rank}.{n}", trips))
    return tuple(found)


@st.composite
def cases(draw: st.DrawFn, names: tuple[str, ...] = tuple(TEXTS), most: int = 6) -> Case:
    """A random case of one of the named cascades."""
    text = CASCADES[draw(st.sampled_from(names))]
    sizes: dict[str, int] = {}
    split: list[tuple[str, tuple[Loop, ...]]] = []
    ranks = {rank_of(v) for e in text.einsums for v in e.variables}
    if "G" in text.ranks and "H" in text.ranks:
        sizes["G"], sizes["HK"] = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        sizes["H"] = sizes["G"] * sizes["HK"]
        split.append(("H", draw(parts_of("H", sizes["H"]))))
        ranks -= {"H"}
    if len(ranks) > 4:
        most = min(most, 4)
    for rank in sorted(ranks):
        found = draw(parts(rank, most))
        split.append((rank, found))
        sizes[rank] = prod(p.trips for p in found)
    for rank in set(text.ranks) - set(sizes):  # long enough for any window
        sizes[rank] = 200
    problem = bind(text, sizes)
    units = (
        Unit("grid", draw(st.integers(1, 4)), draw(st.integers(1, 4)), _OPERATIONS),
        Unit("lanes", 1, draw(st.integers(1, 4)), _OPERATIONS),
    )
    arch = Architecture("small", 1.0, 1.0, _LEVELS, units)
    builder = _Mapper(draw, problem, tuple(split))
    return Case(problem, arch, builder.mapping())


@st.composite
def parts_of(draw: st.DrawFn, rank: str, size: int) -> tuple[Loop, ...]:
    """Parts of a rank of a given size."""
    first = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
    rest = size // first
    second = draw(st.sampled_from([d for d in range(1, rest + 1) if rest % d == 0]))
    return (Loop(f"{rank}.0", first), Loop(f"{rank}.1", second), Loop(f"{rank}.2", rest // second))


_COST = Operation(cycles=1.0)
_OPERATIONS = tuple((w, _COST) for w in ("mac", "mul", "add", "max", "exp", "div"))
_LEVELS = (Level("dram"), Level("buffer"), Level("registers"))


class _Mapper:
    """Draws one mapping."""

    def __init__(
        self, draw: st.DrawFn, problem: Problem, split: tuple[tuple[str, tuple[Loop, ...]], ...]
    ) -> None:
        self.draw, self.problem, self.split = draw, problem, split
        self.einsums = [e for e in problem.cascade.einsums if e.reads]
        self.ranks = {e.name: {rank_of(v) for v in e.variables} for e in self.einsums}
        self.of = {p.part: rank for rank, found in split for p in found}

    def mapping(self) -> Mapping:
        groups, left = [], [e.name for e in self.einsums]
        while left:
            take = self.draw(st.integers(1, len(left))) if self.draw(st.booleans()) else len(left)
            here, left = left[:take], left[take:]
            tree = self.node(here, {p for _, found in self.split for p in found}, {})
            placed = tuple(leaf.einsum for leaf in leaves(tree))
            groups.append(Group(f"g{len(groups)}", tree, (Stage(placed),)))
        return Mapping(
            "drawn", tuple(groups), self.split, partial_sums=self.draw(st.integers(0, 4)) > 0
        )

    def barred(self, here: list[str]) -> set[str]:
        """Ranks that one Einsum reduces before another reads the result."""
        steps = {e.name: e for e in self.einsums}
        found = set()
        for one in here:
            for other in here:
                if any(a.tensor == steps[one].output.tensor for a in steps[other].reads):
                    found |= {rank_of(v) for v in steps[one].reduced}
        return found

    def node(self, here: list[str], free: set[Loop], held: dict[str, int]) -> Node:
        common = set.intersection(*(self.ranks[e] for e in here)) - self.barred(here)
        may = sorted((p for p in free if self.of[p.part] in common), key=lambda p: p.part)
        take = self.draw(st.permutations(may))[: self.draw(st.integers(0, len(may)))]
        inner = free - set(take)
        holds, inside = self.holds(here, held)
        children: list[Node | Leaf] = []
        left = list(here)
        while left:
            some = self.draw(st.integers(1, len(left)))
            if len(here) == 1 or (some == len(here) and len(may) == 0):
                some = 1
            chunk, left = left[:some], left[some:]
            if len(chunk) == 1 and self.draw(st.integers(0, 2)):
                children.append(self.leaf(chunk[0], inner))
            elif len(chunk) == len(here) and not take and not holds:
                children += [self.leaf(e, inner) for e in chunk]
            else:
                children.append(self.node(chunk, inner, inside))
        return Node(tuple(take), holds, tuple(children))

    def holds(
        self, here: list[str], held: dict[str, int]
    ) -> tuple[tuple[Hold, ...], dict[str, int]]:
        steps = {e.name: e for e in self.einsums}
        touched = dict.fromkeys(a.tensor for e in here for a in (*steps[e].reads, steps[e].output))
        found, inside = [], dict(held)
        for tensor in touched:
            if self.draw(st.integers(0, 2)) == 0:
                level = self.draw(st.integers(max(1, held.get(tensor, 1)), 2))
                inside[tensor] = level
                copies = 2 if self.draw(st.integers(0, 5)) == 0 else 1
                shares = ""
                if self.draw(st.integers(0, 7)) == 0:
                    shares = self.draw(st.sampled_from(sorted(touched)))
                found.append(Hold(tensor, _LEVELS[level].name, copies, shares=shares))
        return tuple(found), inside

    def leaf(self, einsum: str, free: set[Loop]) -> Leaf:
        own = sorted(
            (p for p in free if self.of[p.part] in self.ranks[einsum]), key=lambda p: p.part
        )
        order = self.draw(st.permutations(own))
        unit = self.draw(st.sampled_from(["grid", "lanes"]))
        where = [self.draw(st.sampled_from(["loops", "loops", "rows", "cols"])) for _ in order]
        chosen: dict[str, tuple[Loop, ...]] = {
            side: tuple(p for p, w in zip(order, where, strict=True) if w == side)
            for side in ("loops", "rows", "cols")
        }
        return Leaf(einsum, unit, **chosen)


def exact(case: Case) -> bool:
    """Whether the closed form claims to be exact: see the assumptions of ``models.tiles``.

    Not where a last round of fewer PEs meets a window, nor where the parts of
    a quotient's variable do not line up with its divisor.
    """
    cascade, problem = case.problem.cascade, case.problem
    parts = dict(case.mapping.parts)
    bent, divisors = set(), {}
    for einsum in cascade.einsums:
        for access in (*einsum.reads, einsum.output):
            for at in access.indices:
                if isinstance(at, Index) and at.plain is None:
                    bent |= {p.part for v in at.variables for p in parts[rank_of(v)]}
                if isinstance(at, Index) and isinstance(at.divisor, str):
                    divisors[rank_of(at.variables[0])] = problem.sizes[at.divisor]
    for group in case.mapping.groups:
        for leaf in leaves(group.tree):
            unit = case.arch.unit[leaf.unit]
            for spread, side in ((leaf.rows, unit.rows), (leaf.cols, unit.cols)):
                for part, pes, _ in rounds(tuple((p.part, p.trips) for p in spread), side):
                    if part in bent and case.mapping.extent[part] != pes:
                        return False
    for rank, divisor in divisors.items():
        stride = 1
        for loop in reversed(parts[rank]):
            here = stride * loop.trips
            lined = stride % divisor == 0 or divisor % here == 0
            if not lined and not (divisor % stride == 0 and here % divisor == 0):
                return False
            stride = here
    return True
