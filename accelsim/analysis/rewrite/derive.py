"""Better cascades than a given one: found by search, kept only if execution confirms them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, islice

from accelsim.analysis.passes import Passes, passes
from accelsim.analysis.rewrite.judge import Judge, Verdict, free_ranks
from accelsim.analysis.rewrite.search import Measure, State, measured, search
from accelsim.errors import InputError
from accelsim.ir.cascade import Cascade
from accelsim.ir.problem import bind, with_parts

#: Sizes at which footprint and operations are compared: of a rank visited again, and of others.
LONG, SHORT = 4096, 64
#: Of cascades with equally many passes so many are returned.
MOST_STABLE, MOST_UNSTABLE = 3, 1
#: Of a longer cascade than this just one.
LONG_CASCADE = 40
#: And so many executed: by the Einsums that takes, and at least.
MOST_EXECUTED, LEAST_TRIED = 200, 4
#: Some inputs make a sum of bare exponentials overflow, whether the judge met them or not.
BARE = "exponentials taken out of a sum overflow where the original does not"


@dataclass(frozen=True, slots=True)
class Derived:
    """A cascade that equals the original.  ``unstable``: why it is not stable, or nothing."""

    cascade: Cascade
    passes: Passes
    measure: Measure
    rewrites: tuple[str, ...]
    max_abs_error: float
    unstable: str

    @property
    def stable(self) -> bool:
        """Whether it survives float16 and float32 where the original does."""
        return not self.unstable


@dataclass(frozen=True, slots=True)
class Derivation:
    """What was found, best first, and the passes of the original."""

    original: Cascade
    passes: Passes
    measure: Measure
    found: tuple[Derived, ...]


def derive(cascade: Cascade) -> Derivation:
    """Cascades that equal this one and are better, best first.

    Better is fewer passes, then a smaller live footprint, then fewer
    operations; of equally many passes what is stable comes first.

    >>> from accelsim.ir.cascade import Access, Einsum, Index, Map, Reduction, Tensor
    >>> m = Index((("m", 1),))
    >>> w, v, g, y = Access("W", (m,)), Access("V", (m,)), Access("G"), Access("Y")
    >>> total = Einsum(g, w, (Reduction("sum", ("m",)),))
    >>> mean = Map("mul", (Map("div", (w, g)), v))
    >>> inputs = (Tensor("W", ("M",)), Tensor("V", ("M",)))
    >>> c = Cascade("mean", ("M",), inputs, (total, Einsum(y, mean, total.reductions)), ("Y",))
    >>> [(d.passes["M"], d.stable, d.rewrites) for d in derive(c).found]
    [(1, True, ('defer 1 / G past the sum over m in Y',))]
    """
    counted = passes(cascade)
    sizes = _sizes(cascade, counted)
    measure = measured(cascade, counted, sizes)
    better = [s for s in search(cascade, sizes) if _is_better(s, measure)]
    found: list[Derived] = []
    if better:
        judge = Judge(cascade, frozenset(r for r in cascade.ranks if counted[r] > 1))
        for _, alike in groupby(better, key=lambda s: s.measure.passes[0]):
            found += _confirmed(judge, alike)
    found.sort(key=lambda d: (d.measure.passes[:1], not d.stable, d.measure))
    return Derivation(cascade, counted, measure, tuple(found))


def _confirmed(judge: Judge, states: Iterable[State]) -> Iterator[Derived]:
    """Of states with equally many passes the first few that are equal, stable and not."""
    most = max(LEAST_TRIED, MOST_EXECUTED // len(judge.original.einsums))
    short = len(judge.original.einsums) <= LONG_CASCADE
    wanted = {True: MOST_STABLE if short else 1, False: MOST_UNSTABLE}
    for state in islice(states, most):
        if not wanted[False] and state.program.bare:
            continue
        if not wanted[True] and not state.program.bare and not short:
            continue
        verdict = judge.verdict(state.cascade)
        if verdict.stable and state.program.bare:
            verdict = replace(verdict, stable=False, why=BARE)
        if verdict.equal and wanted[verdict.stable]:
            wanted[verdict.stable] -= 1
            yield _derived(state, verdict)
        if not any(wanted.values()):
            return


def _derived(state: State, verdict: Verdict) -> Derived:
    source = f"derived by accelsim from {state.cascade.name}"
    cascade = replace(state.cascade, source=source, about=_sentence(state), family="")
    unstable = "" if verdict.stable else verdict.why
    return Derived(
        cascade, state.passes, state.measure, state.rewrites, verdict.max_abs_error, unstable
    )


def _is_better(state: State, original: Measure) -> bool:
    """Whether a state beats the original: with exponentials taken out, by passes alone."""
    fewer = state.measure.passes < original.passes
    return bool(state.rewrites) and state.measure < original and (fewer or not state.program.bare)


def _sentence(state: State) -> str:
    """The rewrites, and what the first letters of new names say."""
    legend = "named L: of a tile, R: running over tiles, C: correction of what was summed before"
    return "; ".join((*state.rewrites, legend) if state.program.tiled else state.rewrites)


def _sizes(cascade: Cascade, found: Passes) -> Mapping[str, int]:
    """Sizes to compare at: those of ranks that are visited again long."""
    free = free_ranks(cascade)
    sizes = {r: LONG if found[r] > 1 else SHORT for r in free}
    for wish in (sizes, dict.fromkeys(free, SHORT), dict.fromkeys(free, 4)):
        try:
            return bind(cascade, with_parts(cascade, wish)).sizes
        except InputError:
            continue
    return sizes
