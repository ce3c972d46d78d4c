"""``map``: the best mapping of a cascade on a machine, or all that are best at something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from accelsim.errors import one_of, refuse
from accelsim.explore.front import Front, front, leanest
from accelsim.explore.mapped import GAP, Mapped, Progress, Workload, best
from accelsim.ir.cascade import Cascade
from accelsim.ir.problem import relevant
from accelsim.load.arch import load_architecture
from accelsim.load.cascade import load_cascade
from accelsim.load.workload import asked, workload
from accelsim.mapper.frame import ranks_of
from accelsim.mapper.goal import OBJECTIVES
from accelsim.mapper.grid import names_of
from accelsim.mapper.space import Task, Wishes

Name = str | Path

#: Copies of a tile that may be wished for.
MOST_BUFFERS: Final = 64


def task_for(
    cascade: Name,
    *,
    arch: Name,
    model: str | None = None,
    seq: int | str | None = None,
    shape: Mapping[str, int] | str | None = None,
    config: Name | None = None,
    sets: Iterable[str] = (),
    units: Mapping[str, str] | None = None,
    holds: Mapping[str, str] | None = None,
    tiles: Mapping[str, int] | None = None,
    spreads: Mapping[str, tuple[str, str]] | None = None,
    buffers: int = 2,
) -> tuple[Task, Workload]:
    """What is to be mapped onto what, and the words in which its sizes were given.

    The workload is as for ``estimate``.  ``units`` gives Einsums their unit,
    ``holds`` tensors a level at which they are held, ``tiles`` parts of ranks
    their extent, ``spreads`` Einsums the ranks along an array's rows and columns;
    ``buffers`` copies are kept of a tile that is filled again and again.  Raises
    InputError for bad input.

    >>> task_for("matmul", arch="teaching", shape="M=16,N=16,K=16")[1]
    (('shape', 'M=16,N=16,K=16'),)
    """
    machine = load_architecture(arch, sets)
    text = load_cascade(str(cascade))
    sizes = workload(model=model, seq=seq, shape=shape, config=config)
    known = relevant(text, sizes, asked=asked(shape))
    wishes = Wishes(
        dict(units or {}), dict(holds or {}), dict(tiles or {}), buffers, dict(spreads or {})
    )
    task = Task(text, known, machine, wishes)
    split = {rank: task.coarsest.extent(rank) for rank, _ in text.splits}
    task = replace(task, sizes={**known, **split})
    _known(task)
    given = (("model", model), ("seq", seq), ("shape", shape), ("config", config))
    return task, () if sets else tuple((k, v) for k, v in given if v is not None)


def map_(
    cascade: Name,
    *,
    objective: str = "latency",
    gap: float = GAP,
    progress: Progress | None = None,
    **parts: Any,
) -> Mapped:
    """The best mapping of a cascade on an architecture.

    The ``objective`` is ``latency``, ``energy``, ``edp`` (their product), or
    ``buffer``: the least room on chip at which no latency is lost.  Other keywords
    are those of ``task_for``.  The search stops within the share ``gap`` of the
    best of its mapspace; where latency counts, the simulator is the witness
    (``witness.witnessed``).  Raises InputError for bad input and where no mapping
    fits, with the level that is too small.  Ctrl-C ends the search with the best
    so far.

    >>> found = map_("matmul", arch="teaching", shape="M=64,N=64,K=64")
    >>> found.claim
    'optimal: no mapping is below the lower bound'
    """
    if objective not in (*OBJECTIVES, "buffer"):
        raise refuse(f"no objective '{objective}'", one_of((*OBJECTIVES, "buffer")))
    _share(gap)
    task, said = task_for(cascade, **parts)
    if objective == "buffer":
        return leanest(task, gap, progress, said)
    found = best(task, objective, gap, progress, said)
    if objective == "energy":
        return found
    from accelsim.explore.witness import witnessed

    return witnessed(found, gap, progress)


def pareto(cascade: Name, *, gap: float = GAP, **parts: Any) -> Front:
    """Mappings of which none is better than another in room, latency and energy at once.

    Keywords and errors are those of ``map_``.

    >>> len(pareto("matmul", arch="teaching", shape="M=4,N=4,K=2").mapped) > 1
    True
    """
    _share(gap)
    return front(task_for(cascade, **parts)[0], gap=gap)


def _share(gap: float) -> None:
    """Refuse a gap that is no share of the best."""
    if not 0 <= gap < 1:
        raise refuse(f"a gap of {gap:g}", "0 or more, less than 1: 0.01 is within 1 %")


def _known(task: Task) -> None:
    """Refuse wishes about what is not there."""
    wishes, cascade = task.wishes, task.cascade
    for name in wishes.units:
        if name not in cascade.steps:
            raise refuse(f"no Einsum '{name}' in {cascade.name}", one_of(cascade.steps))
    parts = {p for rank in {*cascade.ranks, *cascade.whole.values()} for p in _parts(cascade, rank)}
    for name in wishes.extents:
        if name not in parts:
            raise refuse(f"no rank of {cascade.name} has a part '{name}'", "as M0, or P1 and P0")
    for name, sides in wishes.spreads.items():
        if name not in cascade.steps:
            raise refuse(f"no Einsum '{name}' in {cascade.name}", one_of(cascade.steps))
        for rank in filter(None, sides):
            if rank not in ranks_of(cascade.steps[name]):
                ranks = one_of(ranks_of(cascade.steps[name]))
                raise refuse(f"{name} has no rank '{rank}' to spread", ranks)
    for tensor, level in wishes.holds.items():
        if tensor not in cascade.tensors:
            raise refuse(f"no tensor '{tensor}' in {cascade.name}", one_of(cascade.tensors))
        if level not in task.arch.level:
            raise refuse(f"no level '{level}' in {task.arch.name}", one_of(task.arch.level))
    if not 1 <= wishes.buffers <= MOST_BUFFERS:
        raise refuse(f"{wishes.buffers} buffers", "1, or 2 for double buffering")


def _parts(cascade: Cascade, rank: str) -> frozenset[str]:
    return names_of(rank, cascade.parts.get(rank, (rank,)))
