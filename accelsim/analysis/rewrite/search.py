"""Which cascades the rewrites lead to: a best-first search over programs.

A state is a program; its identity is the text it lowers to, so that two orders
of the same rewrites are one state.  Only rewrites that can help are tried: each
is aimed at a rank that is still visited more than once, and at what waits
there.  A state in which every rank is visited once is final.

**Bound.**  Every rewrite takes at least one reduction out of the set that waits
for a statistic over the rank (``defer``, ``moments``, ``bare_exponentials``,
``running``), or replaces that statistic by its tiles' (``local``, which leaves
nothing more for itself to do), and none puts one in; so a path is no longer
than reductions times ranks, and the graph is finite.  It is explored in the
order of the measure, as far as ``MOST_EINSUMS`` allows: what comes
first is what has fewest passes, so that what is cut off is what is worse.  Once
a final state is reached no state has fewer passes; a few more are expanded for
the sake of footprint and operations.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from accelsim.analysis.footprint import footprint
from accelsim.analysis.passes import Passes, passes
from accelsim.analysis.rewrite.local import local
from accelsim.analysis.rewrite.lower import lowered
from accelsim.analysis.rewrite.program import Program
from accelsim.analysis.rewrite.reading import program_of
from accelsim.analysis.rewrite.rules import bare_exponentials, defer, merge, moments
from accelsim.analysis.rewrite.running import running
from accelsim.analysis.work import work
from accelsim.errors import InputError
from accelsim.ir.cascade import Cascade, Einsum, Expr, Map
from accelsim.ir.check import faults
from accelsim.ir.problem import Problem, bind, with_parts

#: Einsums of all states made: fewer states of longer cascades, whose every step takes longer.
MOST_EINSUMS = 2000
#: Of states made after a final one was.
LAST_EINSUMS = 600
#: No expression is deeper: what is longer is no text to read.
DEEPEST = 64

#: A rewrite aimed at a rank.
Rule = Callable[[Program, str], Program | None]


def _along(rule: Callable[[Program, str], Program | None]) -> Rule:
    """A rule over a variable, aimed at the outermost part of a rank."""
    return lambda program, rank: rule(program, program.parts(rank)[0])


def _deferred_and(rule: Rule, program: Program, rank: str) -> Program | None:
    """A rule after the factors that stand in its way were taken out, and no others.

    A sum that cannot be kept even so is better left with its factors: they
    keep it small.
    """
    variable = program.parts(rank)[0]
    deferred = defer(program, variable)
    found = rule(deferred or program, rank)
    if deferred is None or found is None:
        return found
    whole = set(found.parts(rank))
    left = {n for n, d in found.defs.items() if d.op and whole <= d.over and n not in program.defs}
    but = {
        n
        for n, d in deferred.defs.items()
        if n in program.defs and program.defs[n].op and not d.op
        if left & {a.tensor for a in d.reads}
    }
    return rule(defer(program, variable, but) or program, rank) if but else found


RULES: tuple[Rule, ...] = (
    _along(defer),
    _along(moments),
    lambda program, rank: _deferred_and(running, program, rank),
    lambda program, rank: _deferred_and(local, program, rank),
    _along(bare_exponentials),
)


@dataclass(frozen=True, order=True, slots=True)
class Measure:
    """What is better: fewer passes, over ranks and then over tiles, less live, fewer operations.

    ``passes``: over each declared rank, the most first; ``tiles``: the same
    over the outermost part of each, which counts summaries of tiles as well.
    ``live``: words on chip for one point in flight, to touch memory once.
    """

    passes: tuple[float, ...]
    tiles: tuple[float, ...]
    live: int
    operations: int


@dataclass(frozen=True, slots=True)
class State:
    """A cascade that equals the original over the reals, and the rewrites that lead to it."""

    cascade: Cascade
    program: Program
    passes: Passes
    measure: Measure

    @property
    def order(self) -> tuple[tuple[float, ...], bool, Measure]:
        """By passes, then what does not overflow, then the rest of the measure."""
        return (self.measure.passes[:1], self.program.bare, self.measure)

    @property
    def final(self) -> bool:
        """Whether every rank and tile is visited once, with nothing that overflows."""
        return not self.program.bare and self.measure.tiles[:1] <= (1,)

    @property
    def rewrites(self) -> tuple[str, ...]:
        """The rewrites, in order, in words."""
        return self.program.log


def search(cascade: Cascade, sizes: Mapping[str, int]) -> list[State]:
    """The cascade itself in normal form, then what the rewrites lead to, best first."""
    first = _state(program_of(cascade), sizes)
    if first is None:
        return []
    left = MOST_EINSUMS
    seen = {_text(first.cascade)}
    ticket = count()
    todo = [(first.order, next(ticket), first)]
    found: list[State] = []
    while todo and left > 0:
        _, _, state = heapq.heappop(todo)
        left = min(left, LAST_EINSUMS) if state.final else left
        for new in _next(state, sizes):
            left -= len(new.cascade.einsums)
            text = _text(new.cascade)
            if text not in seen:
                seen.add(text)
                found.append(new)
                heapq.heappush(todo, (new.order, next(ticket), new))
    return [first, *sorted(found, key=lambda s: s.order)]


def _next(state: State, sizes: Mapping[str, int]) -> Iterator[State]:
    """The states one rewrite away."""
    merged = merge(state.program)
    new = None if merged is None else _state(merged, sizes)
    if new is not None:
        yield new
    for rank in state.cascade.ranks:
        if state.passes[state.cascade.parts[rank][0]] > 1:
            for rule in RULES:
                program = rule(state.program, rank)
                new = None if program is None else _state(program, sizes)
                if new is not None:
                    yield new


def _state(program: Program, sizes: Mapping[str, int]) -> State | None:
    """The state of a program; None where it has no text: an index or a number is beyond it."""
    try:
        cascade = lowered(program)
    except OverflowError:
        return None
    deep = any(_depth(e.expr) > DEEPEST for e in cascade.einsums)
    if deep or any(True for _ in faults(cascade)):
        return None
    found = passes(cascade)
    return State(cascade, program, found, measured(cascade, found, sizes))


def _depth(expr: Expr) -> int:
    """Operations within each other."""
    return 1 + max(map(_depth, expr.args)) if isinstance(expr, Map) else 0


def measured(cascade: Cascade, found: Passes, sizes: Mapping[str, int]) -> Measure:
    """The measure of a cascade at given sizes, tiles of 64 where none are given."""
    problem = bind(cascade, with_parts(cascade, sizes))
    live = footprint(cascade).words(problem.sizes)
    operations = sum(_points(problem, e) * sum(work(e).values()) for e in cascade.einsums)
    outermost = (parts[0] for parts in cascade.parts.values())
    return Measure(_falling(found, cascade.ranks), _falling(found, outermost), live, operations)


def _falling(found: Passes, ranks: Iterable[str]) -> tuple[float, ...]:
    return tuple(sorted((found[rank] for rank in ranks), reverse=True))


def _points(problem: Problem, e: Einsum) -> int:
    """Points of an Einsum, as if nothing were masked where a mask is too costly to count."""
    try:
        return problem.points(e)
    except InputError:
        return problem.dense_points(e)


def _text(cascade: Cascade) -> tuple[object, ...]:
    """What tells one state from another."""
    return (cascade.splits, frozenset(cascade.einsums))
