"""Steps of which some are short: ranks that their parts reach beyond (``ir.mapping.short_ranks``).

Iterations that would begin beyond the end of such a rank are not there, and a tile
at its end holds fewer elements.  Step loops keep all their trips, so that steps have
the same numbers as in a mapping that divides: one that is not there takes no cycles
and needs no words.  What a step has depends on whether each loop stands at its first
or last index or between; of loops whose last index may never come, as those of a
rank's inner parts, on the index itself, so that these are run step by step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accelsim.ir.mapping import Loop
from accelsim.sim.tiles import Key, Line, Round, Visit, Visits, Words, along, previous, steppable


@dataclass(frozen=True)
class Ends:
    """Ranks that end within their last tile: the stride of each part, and the size."""

    ranks: tuple[tuple[dict[str, int], int], ...]  # strides of inner parts first

    def there(
        self, steps: Sequence[Loop], at: Sequence[int], inside: Sequence[Round]
    ) -> npt.NDArray[np.bool_]:
        """Which iterations inside a step are there, an axis for each of the loops inside.

        >>> ends = Ends((({"m1": 4, "m0": 1}, 10),))
        >>> ends.there((Loop("m1", 3),), (2,), (Round("m0", 4, 1),)).tolist()
        [True, True, False, False]
        """
        found = np.ones([1] * len(inside), dtype=np.bool_)
        for strides, size in self.ranks:
            first = sum(strides.get(x.part, 0) * i for x, i in zip(steps, at, strict=True))
            found = found & (first + along(strides, inside) < size)
        return np.broadcast_to(found, tuple(r.trips for r in inside))

    def once(self) -> frozenset[str]:
        """Parts that may have but one iteration in a tile that is short.

        >>> sorted(Ends((({"m0": 1, "m1": 4}, 9),)).once())
        ['m0']
        """
        found = set()
        for strides, size in self.ranks:
            around = size
            for part, stride in reversed(strides.items()):
                if (size - 1) % around < stride:
                    found.add(part)
                around = stride
        return frozenset(found)

    def irregular(self, steps: Sequence[Loop]) -> tuple[bool, ...]:
        """For each step loop whether what a step has depends on its very index."""
        found = []
        for n, loop in enumerate(steps):
            outer = {x.part for x in steps[:n]}
            found.append(any(
                loop.part in own
                and (outer & own.keys() or (loop.trips - 1) * own[loop.part] >= size)
                for own, size in self.ranks
            ))  # fmt: skip
        return tuple(map(bool, found))


@dataclass(frozen=True)
class Length:
    """Cycles of a task by step: those of the iterations that are there."""

    ends: Ends
    steps: tuple[Loop, ...]
    inside: tuple[Round, ...]
    each: float

    def cycles(self, at: Sequence[int]) -> int:
        """Whole cycles of the step with loop indices ``at``."""
        steppable(self.inside)
        there = self.ends.there(self.steps, at, self.inside)
        return math.ceil(self.each * int(np.count_nonzero(there)) - 1e-9)


class ShortVisits(Visits):
    """Visits of tiles of which the last are short; its ``words`` are those of whole ranks.

    ``taken`` are coordinates of each part in a full tile, ``folds`` the rounds of parts
    that are spread, with the PEs that each takes, of ``extent`` coordinates.
    """

    whole = False

    def __init__(
        self,
        found: Iterable[Line],
        steps: Sequence[Loop],
        inside: Sequence[Round],
        words: Words | int,
        ends: Ends,
        taken: Mapping[str, int],
        folds: Sequence[tuple[Round, int]] = (),
        extent: Mapping[str, int] | None = None,
        again: bool = False,
    ) -> None:
        super().__init__(found, steps, inside, words, again)
        self.ends, self.taken, self.folds = ends, taken, folds
        self.extent = extent or {}
        self.irregular = ends.irregular(self.steps)

    def key(self, at: Sequence[int]) -> Key:
        """Where the step stands in each loop: first, between or last; or its very index."""
        places = zip(at, self.steps, self.irregular, strict=True)
        return True, True, tuple(
            i if exact else 0 if not i else 2 if i == loop.trips - 1 else 1
            for i, loop, exact in places
        )  # fmt: skip

    def there(self, at: Sequence[int]) -> bool:
        """Whether the step with loop indices ``at`` begins within all ranks."""
        return all(
            sum(own.get(x.part, 0) * i for x, i in zip(self.steps, at, strict=True)) < size
            for own, size in self.ends.ranks
        )

    def _walk(self, at: Sequence[int], key: Key) -> Visit:
        steppable(self.inside)
        there = self.ends.there(self.steps, at, self.inside).ravel()
        if not there.any():
            return Visit(False, 0, 0)
        tiles, words = self._tiles(())[there], self._sizes(at).ravel()[there]
        return self._seen(tiles, words, self._carried(at), self._visited(at))

    def _sizes(self, at: Sequence[int]) -> Words:
        """Words of a tile in each iteration inside a step."""
        shape = tuple(r.trips for r in self.inside)
        found: Words = np.broadcast_to(self.words, shape)
        for line in self.lines:
            if line.most is None or line.slot:
                continue
            strides = dict(line.terms)
            full: Words = np.asarray(math.prod(self.taken[p] for p in strides), dtype=np.int64)
            for r, pes in self.folds:
                if r.part in strides:
                    rest = self.extent[r.part] - along({r.part: 1}, self.inside)
                    full = full // pes * np.minimum(pes, rest)
            first = sum(strides.get(x.part, 0) * i for x, i in zip(self.steps, at, strict=True))
            found = found * np.minimum(full, line.most - first - along(strides, self.inside))
        return np.broadcast_to(found, shape)

    def _carried(self, at: Sequence[int]) -> bool:
        """Whether the first tile of a step is there from the last step before that is there."""
        before = previous(at, self.steps)
        while before is not None:
            there = np.flatnonzero(self.ends.there(self.steps, before, self.inside).ravel())
            if len(there):
                break
            before = previous(before, self.steps)
        if before is None:
            return False
        where = np.unravel_index(there[-1], tuple(r.trips for r in self.inside))
        return self.first(at) == tuple(
            value + sum(x.coefficient(r.part) * r.stride * int(i)
                        for r, i in zip(self.inside, where, strict=True))
            for x, value in zip(self.lines, self.first(before), strict=True)
        )  # fmt: skip
