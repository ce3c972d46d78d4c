"""Points of masked Einsums, which may depend on how the cascade's own splits are cut.

Under ``m1*M0 + m0 <= p`` as many points are left however M is split, but under
``m1 == p // M0`` the fewer the shorter the tiles are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from accelsim.mapper.frame import frame
from accelsim.mapper.grid import grid
from accelsim.mapper.short import Array

if TYPE_CHECKING:
    from accelsim.mapper.space import Task


def masked_points(task: Task, einsum: str, trips: Mapping[str, Array]) -> Array | None:
    """Points of an Einsum for each of some splits; None where nothing is masked.

    ``trips`` are those of full tiles of all parts, arrays that broadcast.

    >>> from accelsim.explore.map import task_for
    >>> shape = "B=1,H=1,E=2,F=2,M=7,P=7"
    >>> task, _ = task_for("linear-attention-causal-chunked", arch="teaching", shape=shape)
    >>> trips = {"M1": np.array([7.0, 2.0, 1.0]), "M0": np.array([1.0, 4.0, 7.0])}
    >>> masked_points(task, "A", trips).tolist(), masked_points(task, "KF", trips)
    ([14.0, 32.0, 56.0], None)
    """
    if not task.whole.domains.clauses(task.cascade.steps[einsum]):
        return None
    own = {p: trips[p] for _, its in task.cascade.splits for p in its if p in trips}
    extents = np.broadcast_arrays(*own.values()) if own else []
    found = np.zeros(extents[0].shape if own else ())
    for where in np.ndindex(found.shape):
        sizes = {p: int(n[where]) for p, n in zip(own, extents, strict=True)}
        problem = task.problem(sizes)
        found[where] = problem.points(problem.cascade.steps[einsum])
    return found


def least_points(task: Task, einsum: str) -> float:
    """The fewest points of an Einsum, however the cascade's own splits are cut.

    What is masked is counted for each split.  Else an Einsum over tiles alone has the fewest
    points where there are the fewest tiles, and one over all parts as many in any case.
    """
    if einsum not in task.fewest:
        parts = {p for _, its in task.cascade.splits for p in its}
        fixed = {p: n for p, n in task.wishes.extents.items() if p in parts}
        alone = frame(task.cascade, (einsum,), ())
        cut = grid(task.cascade, alone, task.sizes, fixed, task.lengths)
        full = cut.trips if cut.short is None else {**cut.trips, **cut.short.full}
        found = masked_points(task, einsum, full)
        problem = task.coarsest
        plain = problem.points(problem.cascade.steps[einsum])
        task.fewest[einsum] = float(plain if found is None else found.min())
    return task.fewest[einsum]
