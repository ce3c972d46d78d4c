"""How an Einsum may run on the units: parts over rows and columns, and the order of its loops."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeAlias

import numpy as np

from accelsim.analysis.work import work
from accelsim.errors import Fault, InputError, Place, one_of
from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Cascade
from accelsim.mapper.evaluate import Counts, Spread, Words, cost

#: Ranks along the rows and the columns of a unit; empty for none.
Sides: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """An Einsum spread over a unit at one point: cycles, and the words it touches by access."""

    spread: Spread
    cycles: float
    touched: tuple[Words, ...]


def units_for(
    cascade: Cascade, einsum: str, arch: Architecture, wanted: Mapping[str, str]
) -> tuple[str, ...]:
    """Units that can do an Einsum's operations, or the one that is asked for.

    Raises InputError where none can, or the one that is asked for cannot.
    """
    classes = work(cascade.steps[einsum])
    able = tuple(u.name for u in arch.units if np.isfinite(cost(u, classes)[0]))
    asked = wanted.get(einsum)
    if asked is not None and asked not in arch.unit:
        raise InputError(
            [Fault(Place("--unit"), f"no unit '{asked}' in {arch.name}", one_of(arch.unit))]
        )
    if asked is not None and asked not in able:
        lacking = [c for c in classes if arch.unit[asked].operation(c) is None]
        message = f"{asked} has no operation for {one_of(lacking)}, which {einsum} needs"
        raise InputError([Fault(Place("--unit"), message, one_of(able))])
    if not able:
        units = {u.name: [c for c in classes if u.operation(c) is None] for u in arch.units}
        said = "; ".join(f"{name} lacks {one_of(found)}" for name, found in units.items())
        message = f"no unit of {arch.name} can do {einsum}: {said}"
        raise InputError([Fault(cascade.steps[einsum].place, message, "another machine")])
    return able if asked is None else (asked,)


def spreads(
    counts: Counts, einsum: str, unit: str, wanted: Sides | None = None
) -> Iterator[Spread]:
    """Every way to spread an Einsum over a unit: a part or none along each side.

    ``wanted`` are the ranks that a person wants along rows and columns.

    Of the orders of its own loops those are left out that another one beats.
    An access touches words in proportion to the trips of all loops but an
    innermost run that it does not need.  In any order let the accesses be
    sorted by the length of that run, longest first.  The order that puts
    innermost the loops that the first one does not need, of these innermost
    those that the second does not need either, and so on, has for each access
    a run that holds the old one: the runs are nested, so the old run of the
    n-th consists of loops that none of the first n needs.  No access touches
    more words then, and one order for each way to sort the accesses is enough.
    """
    rest = counts.frame.own(einsum, _in_order(counts.cascade, counts.ranks[einsum]))
    own = [p for p in rest if np.max(counts.trips[p]) > 1 or _rank(counts, p) in (wanted or ())]
    own.sort(key=lambda p: -_having(counts, counts.frame.rank[p]))
    machine = counts.arch.unit[unit]
    for col in (*own, None) if machine.cols > 1 else (None,):
        for row in (*own, None) if machine.rows > 1 else (None,):
            if row is not None and row == col:
                continue
            if wanted is not None and wanted != (_rank(counts, row), _rank(counts, col)):
                continue
            loops = tuple(p for p in rest if p not in (row, col))
            for order in _orders(counts, einsum, loops):
                yield Spread(
                    unit,
                    (row,) if row is not None else (),
                    (col,) if col is not None else (),
                    order,
                )


def _in_order(cascade: Cascade, ranks: Sequence[str]) -> list[str]:
    """Ranks with parts of the cascade's own splits outermost first, as short last tiles need."""
    found = list(ranks)
    for _, parts in cascade.splits:
        places = [n for n, rank in enumerate(found) if rank in parts]
        for n, rank in zip(places, [p for p in parts if p in ranks], strict=True):
            found[n] = rank
    return found


def _rank(counts: Counts, part: str | None) -> str:
    return "" if part is None else counts.frame.rank[part]


def _having(counts: Counts, rank: str) -> int:
    """How many Einsums of the frame have a rank: it comes first, so that columns mean the same."""
    return sum(rank in ranks for ranks in counts.ranks.values())


def _orders(counts: Counts, einsum: str, loops: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    rank = counts.frame.rank
    needed = dict.fromkeys(use.needs for use in counts.uses_by_einsum(einsum))
    found: dict[tuple[str, ...], None] = {}
    for chain in permutations(needed):
        keys = {p: tuple(rank[p] not in need for need in chain) for p in loops}
        found[tuple(sorted(loops, key=keys.__getitem__))] = None
    yield from found


def least_cycles(counts: Counts, einsum: str, unit: str, wanted: Sides | None = None) -> Any:
    """Cycles of the fastest spread on a unit, for every point of a grid."""
    cycles, _ = cost(counts.arch.unit[unit], work(counts.cascade.steps[einsum]))
    best: Any = np.inf
    sides = {(s.rows, s.cols): s for s in spreads(counts, einsum, unit, wanted)}
    for spread in sides.values():
        best = np.minimum(best, counts.steps(einsum, spread))
    return best * cycles if cycles else np.where(np.isinf(best), best, 0.0)


def runs(
    counts: Counts,
    einsum: str,
    unit: str,
    free: frozenset[str],
    wanted: Sides | None = None,
) -> list[Run]:
    """Ways to run an Einsum on a unit at one point that no other way there beats.

    One beats another that takes no fewer cycles and touches no fewer words of
    any tensor: whichever levels serve them, time and energy are no less then.
    Tensors in ``free`` are served where an access costs nothing.
    """
    cycles, _ = cost(counts.arch.unit[unit], work(counts.cascade.steps[einsum]))
    kept: list[tuple[tuple[float, ...], Run]] = []
    known = set()
    for spread in spreads(counts, einsum, unit, wanted):
        steps = float(counts.steps(einsum, spread))
        if math.isinf(steps):  # whatever a step takes: a copy takes nothing
            continue
        time = steps * cycles
        touched = tuple(counts.leaf(u, spread) for u in counts.uses_by_einsum(einsum))
        key = (
            time,
            *(
                float(w.visits)
                for u, w in zip(counts.uses_by_einsum(einsum), touched, strict=True)
                if u.tensor not in free
            ),
        )
        if key in known or any(all(a <= b for a, b in zip(k, key, strict=True)) for k, _ in kept):
            continue
        known.add(key)
        kept = [(k, r) for k, r in kept if not all(a <= b for a, b in zip(key, k, strict=True))]
        kept.append((key, Run(spread, time, touched)))
    return [run for _, run in sorted(kept, key=lambda pair: pair[0])]
