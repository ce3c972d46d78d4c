"""What stands out in a table of points: the Pareto front, and what each axis does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = Mapping[str, Sequence[Any]]


def undominated(figures: NDArray[np.float64], within: float = 0.0) -> NDArray[np.intp]:
    """Rows of ``figures`` [points, objectives] that no other row beats, less being better.

    A row is beaten by one that is nowhere larger, by more than the share
    ``within`` of it, and somewhere smaller; of equal rows the first stays.  The
    answer is in rising order of the first objective.  A row that comes later in
    lexicographic order cannot beat one that comes earlier, so one scan against
    those that stay is enough.

    >>> undominated(np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0], [2.5, 2.5]])).tolist()
    [1, 2, 0]
    >>> undominated(np.array([[1.0, 2.0], [1.1, 1.9]]), within=0.1).tolist()
    [0]
    """
    order = np.lexsort(figures.T[::-1])
    kept: list[int] = []
    best = np.empty((0, figures.shape[1]))
    for at in order:
        row = figures[at]
        if not len(best) or not np.any(np.all(best <= row * (1 + within), axis=1)):
            kept.append(int(at))
            best = np.vstack([best, row])
    return np.array(kept, dtype=np.intp)


def front(table: Table, objectives: Sequence[str], by: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows of the Pareto front of ``objectives``, one front for each value of ``by``.

    >>> table = {"a": [1, 2, 2], "b": [2, 1, 3], "fault": [None, None, None]}
    >>> [(row["a"], row["b"]) for row in front(table, ["a", "b"])]
    [(1, 2), (2, 1)]
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for n, fault in enumerate(table["fault"]):
        if fault is None:
            groups.setdefault(tuple(table[name][n] for name in by), []).append(n)
    found = []
    for numbers in groups.values():
        figures = np.array([[table[name][n] for name in objectives] for n in numbers], dtype=float)
        for at in undominated(figures):
            n = numbers[at]
            found.append({name: table[name][n] for name in table if name != "fault"})
    return found


def what_if(
    table: Table, axes: Sequence[Sequence[str]], objectives: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """By axis and value: geometric mean of each objective over that at the axis's first value.

    Each point is set against the one that differs from it in this axis alone;
    pairs of which one has no figures are left out, and ``pairs`` says how
    many there are.

    >>> table = {"x": [1, 2], "t": [8.0, 2.0], "fault": [None, None]}
    >>> what_if(table, [("x",)], ["t"])["x"][1]
    {'value': '2', 'pairs': 1, 't': 0.25}
    """
    fields = [field for axis in axes for field in axis]
    keys = list(zip(*(table[field] for field in fields), strict=True))
    found: dict[str, list[dict[str, Any]]] = {}
    start = 0
    for axis in axes:
        here = slice(start, start + len(axis))
        start += len(axis)
        values = list(dict.fromkeys(key[here] for key in keys))
        if len(values) > 1:
            at = {(key[: here.start], key[here.stop :]): n
                  for n, key in enumerate(keys) if key[here] == values[0]}  # fmt: skip
            found[", ".join(axis)] = _effects(table, keys, here, at, values, objectives)
    return found


def _effects(
    table: Table,
    keys: Sequence[tuple[Any, ...]],
    here: slice,
    at: Mapping[Any, int],
    values: Sequence[tuple[Any, ...]],
    objectives: Sequence[str],
) -> list[dict[str, Any]]:
    """The means of one axis, by its values."""
    pairs = dict.fromkeys(values, 0)
    sums = {value: dict.fromkeys(objectives, 0.0) for value in values}
    for n, key in enumerate(keys):
        base = at[key[: here.start], key[here.stop :]]
        if table["fault"][n] is None and table["fault"][base] is None:
            pairs[key[here]] += 1
            for name in objectives:
                ours, theirs = table[name][n], table[name][base]
                sums[key[here]][name] += math.log(ours / theirs) if ours and theirs else 0.0
    return [
        {
            "value": ", ".join(f"{part:g}" if isinstance(part, float) else str(part)
                               for part in value),
            "pairs": pairs[value],
            **{name: math.exp(sums[value][name] / pairs[value]) if pairs[value] else None
               for name in objectives},
        }
        for value in values
    ]  # fmt: skip
