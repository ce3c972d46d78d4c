"""What a run of an Einsum touches of all its tensors together, beyond the least of each.

A bound that takes for every access the fewest words that some run touches is below
what any run takes, and often far: a spread that touches few words of one operand
touches many of another.  Let the levels that serve an Einsum be known.  Then its
energy, that of its operations and of the words that it touches, is a sum over its
accesses for every run, and no mapping with these levels takes less than the best run
does: what this is *more* than the sum of the least of each is added to the bound.
The same holds of the time of one port, at prices of seconds a word.  Where a level is
not decided, each run is given the level at which its access takes the least beyond the
fewest words: that is no more than at the level that is chosen.  Each Einsum has a run
of its own, so what they take more adds up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from accelsim.mapper.evaluate import Counts, Words
from accelsim.mapper.frame import Use
from accelsim.mapper.short import Array
from accelsim.mapper.spreads import Run

#: A level by its number, or None where it is not decided.
Decided: TypeAlias = int | None
#: Of each access of an Einsum.
Levels: TypeAlias = tuple[Decided, ...]


class Jointly:
    """What the best run of every Einsum takes beyond the least of each access, at some prices.

    ``lists`` are the runs of each Einsum with what each takes besides words;
    ``least`` the fewest words of each access, which a bound counts already, with the
    least of what runs take besides.  ``prices`` of a word, read and written, are by
    level; ``served`` are the levels that may serve each Einsum with a tensor.
    """

    def __init__(
        self,
        prices: Sequence[tuple[float, float]],
        counts: Counts,
        lists: Mapping[str, Sequence[tuple[Run, float]]],
        least: Mapping[Use, Words],
        served: Mapping[tuple[str, str], Sequence[int]],
    ) -> None:
        self._extra: dict[str, list[dict[Decided, Array]]] = {}
        self._own: dict[str, Array] = {}
        self._known: dict[tuple[str, Levels], float] = {}
        for einsum, some in lists.items():
            own = np.array([besides for _, besides in some])
            self._own[einsum], self._extra[einsum] = own - own.min(), []
            for n, use in enumerate(counts.uses_by_einsum(einsum)):
                fewest = least[use]
                every = np.array([float(r.touched[n].visits) for r, _ in some])
                again = every - np.array([float(r.touched[n].first) for r, _ in some])
                every = every - float(fewest.visits)
                again = again - float(fewest.visits - fewest.first)
                more: dict[Decided, Array] = {}
                for level in served[einsum, use.tensor]:
                    read, write = prices[level]
                    more[level] = read * again + write * every if use.writes else read * every
                more[None] = np.min(list(more.values()), axis=0)
                self._extra[einsum].append(more)

    def more(self, einsum: str, levels: Levels) -> float:
        """What the best run takes more where these levels serve the Einsum, access by access.

        >>> from accelsim.explore.map import task_for
        >>> from accelsim.mapper.evaluate import Spread
        >>> from accelsim.mapper.frame import frame
        >>> from accelsim.mapper.space import Space
        >>> task, _ = task_for("matmul", arch="teaching", shape="M=4,N=4,K=4")
        >>> counts = Space(task, frame(task.cascade, ("C",), ())).counts_at(np.array([0]))
        >>> (a, b, c) = counts.uses_by_einsum("C")
        >>> one = Run(Spread("", (), (), ()), 0.0, (Words(1, 1, 1), Words(1, 9, 1), Words(1, 1, 1)))
        >>> two = Run(Spread("", (), (), ()), 0.0, (Words(1, 9, 1), Words(1, 1, 1), Words(1, 1, 1)))
        >>> each = dict.fromkeys((a, b, c), Words(1, 1, 1))
        >>> served = {("C", t): (0, 1) for t in "ABC"}
        >>> prices = ((3.0, 3.0), (1.0, 1.0))
        >>> jointly = Jointly(prices, counts, {"C": [(one, 0.0), (two, 0.0)]}, each, served)
        >>> [jointly.more("C", levels) for levels in ((0, 0, 0), (0, 1, 0), (0, None, 0))]
        [24.0, 8.0, 8.0]
        """
        key = einsum, levels
        if key not in self._known:
            total = self._own[einsum]
            for extra, level in zip(self._extra[einsum], levels, strict=True):
                total = total + extra[level]
            self._known[key] = float(total.min())
        return self._known[key]
