"""What can be asked of a cascade alone: how many passes it makes, and whether it is right."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from accelsim.analysis.passes import Passes
from accelsim.analysis.passes import passes as count
from accelsim.analysis.unroll import passes_in_steps, unrolled
from accelsim.errors import one_of, refuse
from accelsim.ir.cascade import Cascade, Index, rank_of
from accelsim.ir.rule import divisors
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from accelsim.load.workload import shape_from_text

#: Sizes that ``check`` gives to ranks that have none: small, and unlike their neighbours.
SIZES: Final = (2, 3, 8, 6, 4, 5)
#: And to a rank that is split, so that chunked cascades of several ranks have chunks alike.
SPLIT_SIZE: Final = 12
#: An Einsum of more points is not executed by ``check``: an intermediate would take 1 GiB.
MOST_POINTS: Final = 1 << 27


def passes(
    cascade: str | Path, rank: str | None = None, steps: Mapping[str, int] | None = None
) -> Passes:
    """How many passes a cascade makes over each rank, or over one, and the Einsums that force them.

    ``steps`` writes out recurrences along ranks, with so many steps: what is
    swept again at each of them has a number then.

    >>> passes("attention-3pass")["M"]
    3
    >>> passes("hip")["M1"], passes("hip", steps={"C": 6})["M1"]
    (inf, 7)
    """
    text = load_cascade(cascade)
    found = passes_in_steps(text, steps) if steps else count(text)
    if rank is None:
        return found
    if rank not in found.by_rank:
        raise refuse(f"cascade {found.cascade} has no rank {rank!r}", one_of(found.by_rank))
    only = {rank: found.by_rank[rank]}
    return Passes(found.cascade, only, {rank: found.why[rank]}, {rank: found.bands[rank]})


def reads(
    cascade: str | Path, steps: Mapping[str, int] | None = None
) -> dict[str, tuple[str, ...]]:
    """For each Einsum of a cascade the Einsums whose results it reads, in text order.

    >>> reads("attention-3pass")["SN"]
    ('QK', 'GM')
    """
    text = load_cascade(cascade)
    for along, number in (steps or {}).items():
        text = unrolled(text, along, number)
    return {
        einsum.name: tuple(
            dict.fromkeys(
                writer.name for read in einsum.reads for writer in text.writers.get(read.tensor, ())
            )
        )
        for einsum in text.einsums
    }


def told(
    cascade: str | Path, rank: str | None = None, steps: Mapping[str, int] | str | None = None
) -> dict[str, Any]:
    """The JSON object of ``accelsim passes``: counts, why, and what a picture of it needs.

    >>> told("attention-3pass", "M")["passes"]
    {'M': 3}
    """
    rounds = shape_from_text(steps) if isinstance(steps, str) else steps
    found = passes(cascade, rank, rounds)
    return {
        "cascade": found.cascade,
        "passes": {name: _whole(n) for name, n in found.by_rank.items()},
        "why": {name: [str(step) for step in steps] for name, steps in found.why.items()},
        "bands": {
            name: {e: _whole(n) for e, n in band.items()} for name, band in found.bands.items()
        },
        "chains": {name: [list(step.chain) for step in steps] for name, steps in found.why.items()},
        "reads": {name: list(names) for name, names in reads(cascade, rounds).items()},
    }


def _whole(passes: float) -> float | None:
    """A number of passes; None where there is none."""
    return passes if math.isfinite(passes) else None


@dataclass(frozen=True, slots=True)
class Checked:
    """A cascade executed against what it ``equals``: the verdict, its errors, the sizes tried."""

    cascade: str
    equals: str
    equal: bool
    max_abs_error: float
    max_rel_error: float
    sizes: Mapping[str, int]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim check``; an error that is not finite is None."""
        return {
            "cascade": self.cascade,
            "equals": self.equals,
            "equal": self.equal,
            "max_abs_error": _finite(self.max_abs_error),
            "max_rel_error": _finite(self.max_rel_error),
            "sizes": dict(self.sizes),
            "seed": self.seed,
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def check(
    cascade: str | Path,
    *,
    shape: Mapping[str, int] | str | None = None,
    model: str | None = None,
    seq: int | str | None = None,
    config: str | Path | None = None,
    seed: int = 0,
) -> Checked:
    """Execute a cascade on random inputs in float64 and compare with what its ``equals`` names.

    Ranks that ``shape`` leaves out get small sizes (a published system's
    cascade those it is shipped with); a split rank is cut into several tiles, of
    which the last may be shorter where the sizes say so.
    A ``model`` or ``config`` gives the sizes of all ranks.

    >>> check("attention-1pass", shape="M=8,M0=4").equal
    True
    >>> check("attention-1pass", shape="M=10,M0=4").sizes["M1"]
    3
    """
    from accelsim.ir.problem import bind, relevant, with_parts
    from accelsim.ir.reference import check as execute

    text = load_cascade(cascade)
    sizes: dict[str, int] = {}
    named: tuple[str, ...] = ()
    if any(x is not None for x in (shape, model, config)):
        from accelsim.load.workload import asked, workload

        named = asked(shape)
        sizes = dict(workload(model=model, seq=seq, shape=shape, config=config))
    if model is None and config is None:
        shipped = catalog.find("cascade", cascade).parent.name == "systems"
        sizes = _small(text, (examples().get(text.name, {}) if shipped else {}) | sizes)
    known = relevant(text, sizes, asked=named)
    sizes = with_parts(text, _several_tiles(text, known))
    problem = bind(text, sizes, imperfect=dict(text.splits))
    largest = max(text.einsums, key=problem.dense_points)
    if problem.dense_points(largest) > MOST_POINTS:
        raise refuse(
            f"{largest.name} has {problem.dense_points(largest):,} points: too many to execute",
            f"a shape with at most {MOST_POINTS:,} points an Einsum",
        )
    found = execute(problem, seed, resolve=load_cascade)
    return Checked(
        text.name,
        text.equals,
        found.equal,
        found.max_abs_error,
        found.max_rel_error,
        problem.sizes,
        seed,
    )


@cache
def examples() -> dict[str, dict[str, int]]:
    """Small sizes that fit together, by cascade, of the cascades of published systems.

    >>> examples()["sink-window"]["W"]
    7
    """
    file = catalog.folder("einsum_cascades") / "systems" / "examples.json"
    found: dict[str, dict[str, int]] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _small(cascade: Cascade, given: Mapping[str, int]) -> dict[str, int]:
    """``given`` with a small size for each rank that has none and follows from no others."""
    derived = {
        rank_of(i.terms[0][0])
        for einsum in cascade.einsums
        for read in einsum.reads
        for i in read.indices
        if isinstance(i, Index) and isinstance(i.divisor, str) and i.terms
    }
    bound = {rank for rank, parts in cascade.splits if all(p in given for p in parts)}
    split = {rank for rank, _ in cascade.splits}
    sizes = dict(given)
    for rank, size in zip(cascade.ranks, cycle(SIZES), strict=False):
        if rank not in sizes and rank not in derived | bound:
            sizes[rank] = SPLIT_SIZE if rank in split else size
    return sizes


def _several_tiles(cascade: Cascade, sizes: Mapping[str, int]) -> dict[str, int]:
    """``sizes`` with the inner part of each rank split in two: the greatest divisor up to its root.

    So that a recurrence over tiles is seen to take more than one step.
    """
    found = dict(sizes)
    for rank, parts in cascade.splits:
        if len(parts) == 2 and found.get(rank, 0) > 0 and not found.keys() & set(parts):
            found[parts[1]] = max(d for d in divisors(found[rank]) if d * d <= found[rank])
    return found
