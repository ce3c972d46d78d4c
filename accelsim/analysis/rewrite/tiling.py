"""Walking a rank tile by tile: the parts that it has, or those that it is cut into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from accelsim.analysis.rewrite.forms import Sum
from accelsim.analysis.rewrite.indices import NoFormError, Split
from accelsim.analysis.rewrite.program import Def, Program, sorted_where
from accelsim.ir.cascade import Expr, rank_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tiled:
    """A rank to walk tile by tile: the variable of its tiles, those within one."""

    program: Program
    outer: str
    inner: frozenset[str]


def tilings(program: Program, rank: str) -> list[Tiled]:
    """The ways to walk a rank, best first; none once exponentials were taken out of sums."""
    if program.bare:
        return []
    parts = program.parts(rank)
    if len(parts) > 1:
        return [Tiled(program, parts[0], frozenset(parts[1:]))]
    whole = Tiled(program, parts[0], frozenset())
    cut = split(program, rank)
    if cut is None:
        return [whole]
    outer, inner = cut.parts(rank)
    return [Tiled(cut, outer, frozenset((inner,))), whole]


def split(program: Program, rank: str) -> Program | None:
    """The program with a rank cut in two; None where an index has no form over the parts."""
    taken = program.taken().taken
    names = ((f"{rank}1", f"{rank}0"), (f"{rank}_1", f"{rank}_0"))
    outer, inner = next((n for n in names if not set(n) & taken), ("", ""))
    walked = {v for e in program.fixed for v in (*e.output.variables, *e.variables)}
    if not outer or rank.lower() in walked:
        return None
    known = (*program.defs.values(), *program.phrases)
    ranks = {t.name: t.ranks for t in program.cascade.inputs}
    ranks |= {d.name: tuple(map(rank_of, d.out)) for d in known}
    cut = Split(rank, outer, inner, ranks)

    def moved(d: Def) -> Def:
        over = frozenset(cut.variables(d.over))
        where = sorted_where(cut.condition(c) for c in d.where)
        body = cut.form(d.body)
        return replace(d, out=cut.variables(d.out), over=over, body=body, where=where)

    def text(pair: tuple[Sum, Expr]) -> tuple[Sum, Expr]:
        return cut.form(pair[0]), cut.expr(pair[1])

    try:
        defs = {n: moved(d) for n, d in program.defs.items()}
    except NoFormError:
        return None
    return replace(
        program,
        cascade=replace(program.cascade, splits=(*program.cascade.splits, (rank, (outer, inner)))),
        defs=defs,
        phrases=tuple(_each(moved, program.phrases)),
        texts=tuple(_each(text, program.texts)),
        log=(*program.log, f"split {rank} into {outer}, {inner}"),
    )


def _each(change: Callable[[T], T], its: Iterable[T]) -> Iterator[T]:
    """What has a form over the parts."""
    for one in its:
        with suppress(NoFormError):
            yield change(one)
