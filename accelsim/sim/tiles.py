"""Which tile of a tensor an iteration needs: coordinates, elements, and visits one by one.

A position of an access is a *line*, ``sum(coefficient * part) // divisor``.
The tile that an iteration needs is told from others by the values of its
lines where the parts inside the tile stand at 0.  Visits are counted by
stepping through the iterations with NumPy and comparing neighbours, in the
order in which they run.  Where each loop moves to other tiles or stays at one,
that many are counted without stepping; a test holds the two against each other.

Assumptions that could be wrong: elements beyond a border count as if they
were there, up to the rank's extent; the parts of a quotient's variable fall
on multiples or divisors of the divisor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from accelsim.errors import refuse
from accelsim.ir.cascade import Access, Index, rank_of
from accelsim.ir.mapping import Loop
from accelsim.ir.problem import Problem

#: More iterations inside one step than this are not stepped through.
MOST_INSIDE = 1 << 25

Words: TypeAlias = npt.NDArray[np.int64]


class Round(NamedTuple):
    """A loop inside a step: ``trips`` iterations, ``stride`` coordinates of the part apart."""

    part: str
    trips: int
    stride: int

    @property
    def loop(self) -> Loop:
        """The loop by itself."""
        return Loop(self.part, self.trips)


@dataclass(frozen=True, slots=True)
class Line:
    """One position of an access; ``most``: its rank's extent, where the index is affine.

    ``slot``: the position of a recurrence's slot, which tells tiles apart but
    takes no room, because the state is updated in place.
    """

    terms: tuple[tuple[str, int], ...]
    offset: int = 0
    divisor: int = 1
    most: int | None = None
    slot: bool = False

    def coefficient(self, part: str) -> int:
        """How far one coordinate of a part moves the line.

        >>> Line((("p", 2), ("w", 1))).coefficient("p")
        2
        """
        return sum(c for p, c in self.terms if p == part)

    def elements(self, taken: Mapping[str, int]) -> int:
        """Different values where each part takes ``taken[part]`` coordinates.

        >>> Line((("p", 1), ("w", 1))).elements({"p": 4, "w": 3})
        6
        """
        inside = [(abs(c), taken[p]) for p, c in self.terms if taken[p] > 1 and c]
        found = self._values(inside)
        return found if self.most is None else min(found, self.most)

    def _values(self, inside: list[tuple[int, int]]) -> int:
        runs = [(0, 0)]  # first and last value of each unbroken run of values
        for c, n in sorted(inside):
            if all(c <= high - low + 1 for low, high in runs):
                runs = [(low, high + c * (n - 1)) for low, high in runs]
            else:
                if len(runs) * n > MOST_INSIDE:
                    raise refuse(f"a tile in more than {MOST_INSIDE} pieces", "larger inner parts")
                runs = [(low + c * i, high + c * i) for low, high in runs for i in range(n)]
            runs = joined(runs)
        if self.divisor > 1:
            runs = joined([(low // self.divisor, high // self.divisor) for low, high in runs])
        return sum(high - low + 1 for low, high in runs)


def joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs of whole numbers, those that touch or overlap joined.

    >>> joined([(4, 5), (0, 1), (2, 2)])
    [(0, 2), (4, 5)]
    """
    found: list[tuple[int, int]] = []
    for low, high in sorted(runs):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def lines(
    problem: Problem, parts: Mapping[str, tuple[Loop, ...]], access: Access
) -> tuple[Line, ...]:
    """The lines of an access over the parts of a mapping, one for each position with a variable."""
    found = []
    recurrent = problem.cascade.iterative.get(access.tensor)
    ranks = problem.cascade.tensors[access.tensor]
    for at, rank in zip(access.indices, ranks, strict=True):
        if isinstance(at, Access):  # another element for each coordinate of the index tensor
            found.append(Line(_apart(at, parts), most=problem.sizes.get(rank)))
            continue
        if not isinstance(at, Index) or not at.terms:
            continue
        affine = problem.affine(at)
        terms: dict[str, int] = {}
        for variable, factor in affine.terms:
            stride = factor
            for loop in reversed(parts[rank_of(variable)]):
                terms[loop.part] = terms.get(loop.part, 0) + stride
                stride *= loop.trips
        most = problem.sizes.get(rank) if at.plain is None else None
        offset = affine.offset if affine.divisor > 1 else 0
        found.append(Line(tuple(terms.items()), offset, affine.divisor, most, rank == recurrent))
    return tuple(found)


def strides(parts: Sequence[Loop]) -> dict[str, int]:
    """How far one coordinate of each part moves along its rank; parts outermost first.

    >>> strides((Loop("M1", 4), Loop("M0", 3)))
    {'M0': 1, 'M1': 3}
    """
    found, stride = {}, 1
    for loop in reversed(parts):
        found[loop.part] = stride
        stride *= loop.trips
    return found


def _apart(index: Access, parts: Mapping[str, tuple[Loop, ...]]) -> tuple[tuple[str, int], ...]:
    """Terms over the parts of an index tensor that have a value of its own at every point."""
    terms, stride = [], 1
    for variable in index.variables:
        for loop in parts[rank_of(variable)]:
            terms.append((loop.part, stride))
            stride *= loop.trips
    return tuple(terms)


def elements(found: Iterable[Line], taken: Mapping[str, int]) -> int:
    """Elements of a tile of an access with these lines.

    >>> elements((Line((("p", 1),)), Line((("e", 1),))), {"p": 4, "e": 8})
    32
    """
    return math.prod(line.elements(taken) for line in found if not line.slot)


def along(strides: Mapping[str, int], inside: Sequence[Round]) -> Words:
    """Distance from the first iteration inside a step, an axis for each loop."""
    found = np.zeros([1] * len(inside), dtype=np.int64)
    for n, r in enumerate(inside):
        shape = [1] * len(inside)
        shape[n] = r.trips
        found = found + (strides.get(r.part, 0) * r.stride * np.arange(r.trips)).reshape(shape)
    return found


class Visit(NamedTuple):
    """One step's visits: whether any tile is new, words of new tiles, and of those seen before."""

    new: bool
    met: int
    again: int


#: What the visits of a step depend on: see ``Visits.key``.
Key: TypeAlias = tuple[bool, bool, tuple[int, ...]]


class Visits:
    """The tiles that something needs in each step, visited in order.

    ``steps`` are the step loops around it, outermost first; ``inside`` the
    loops within a step; ``words`` the elements of a tile in each iteration
    inside (broadcast over those loops, or one number); ``again`` whether words
    of tiles seen before are asked for (otherwise they are 0).  ``whole``: every
    step is there.
    """

    whole: ClassVar[bool] = True

    def __init__(
        self,
        found: Iterable[Line],
        steps: Sequence[Loop],
        inside: Sequence[Round],
        words: Words | int,
        again: bool = False,
    ) -> None:
        self.again = again
        self.lines = tuple(dict.fromkeys(found))
        self.steps = tuple(steps)
        self.words = np.asarray(words, dtype=np.int64)
        kept = list(inside)
        if self.words.ndim == 0:
            while kept and not any(line.coefficient(kept[-1].part) for line in self.lines):
                kept.pop()  # innermost loops that move no tile
        self.inside = tuple(kept)
        self._by_step = [
            [line.coefficient(loop.part) for loop in self.steps] for line in self.lines
        ]
        self._reach = [
            sum(line.coefficient(r.part) * r.stride * (r.trips - 1) for r in self.inside)
            for line in self.lines
        ]
        self.moving = tuple(any(row[n] for row in self._by_step) for n in range(len(self.steps)))
        self.irregular = tuple(
            any(row[n] % x.divisor for row, x in zip(self._by_step, self.lines, strict=True))
            for n in range(len(self.steps))
        )
        self._known: dict[Key, Visit] = {}

    @cached_property
    def tiles(self) -> int:
        """Tiles in a step, one after the other."""
        return math.prod(trips for on, trips in self._rounds if on)

    @cached_property
    def _rounds(self) -> list[tuple[bool, int]]:
        """For each loop within a step whether it moves the tile, and its trips."""
        return [(any(x.coefficient(r.part) for x in self.lines), r.trips) for r in self.inside]

    @cached_property
    def apart(self) -> bool:
        """Whether no step has elements of another; not said of quotients or lines that meet.

        The slots of a recurrence hold the same elements.
        """
        own_lines = [
            (x, row) for x, row in zip(self.lines, self._by_step, strict=True) if not x.slot
        ]
        still = any(not any(row[n] for _, row in own_lines) for n in range(len(self.steps)))
        if still or any(x.divisor > 1 for x, _ in own_lines):
            return False
        for line, by_step in own_lines:
            reach = 0
            own = [(c, loop.trips) for c, loop in zip(by_step, self.steps, strict=True)]
            own += [(line.coefficient(r.part) * r.stride, r.trips) for r in self.inside]
            for c, trips in sorted((abs(c), trips) for c, trips in own if c):
                if c <= reach:
                    return False
                reach += c * (trips - 1)
        return True

    def stays(self, bodies: Sequence[int]) -> int:
        """Steps for which a tile stays; ``bodies`` are steps of one pass over a loop and all in it.

        >>> lines = (Line((("p", 1),)),)
        >>> Visits(lines, (Loop("m", 3), Loop("p", 2), Loop("f", 5)), (), 1).stays((30, 10, 5, 1))
        5
        """
        moving = [n for n, moves in enumerate(self.moving) if moves]
        return bodies[moving[-1] + 1 if moving and not self.inside else len(self.steps)]

    def others(self, bodies: Sequence[int], extent: Mapping[str, int]) -> int:
        """Steps of other tiles between two visits of a tile's elements, at least.

        The slots of a recurrence hold the same elements.  Between two visits
        are the other tiles of the loops inside the innermost loop that moves
        none.  A tile finer than a step has all its step's words; what each of
        them waits for came and went as many tiles ago, so that a tile counts
        as a step.  0, where that is not known: lines that bend or meet.

        >>> lines = (Line((("p", 1),)),)
        >>> Visits(lines, (Loop("m", 3), Loop("p", 4)), (), 1).others((12, 4, 1), {"m": 3, "p": 4})
        3
        >>> inside = (Round("p", 4, 1),)
        >>> Visits(lines, (Loop("m", 3),), inside, 1).others((3, 1), {"m": 3, "p": 4})
        3
        """
        lines = [x for x in self.lines if not x.slot]
        if any(x.divisor > 1 or x.most is not None for x in lines):
            return 0
        for line in lines:
            reach = 0
            for part, c in sorted(line.terms, key=lambda term: term[1]):
                if c <= reach:
                    return 0
                reach += c * (extent[part] - 1)
        loops = [(x.part, x.trips) for x in self.steps]
        loops += [(x.part, x.trips) for x in self.inside]
        moves = [any(x.coefficient(part) for x in lines) for part, _ in loops]
        inner = max((n for n, on in enumerate(moves) if on), default=-1)
        still = [n for n, on in enumerate(moves) if not on]
        if not still or still[-1] > inner:
            return 0
        tiles = math.prod(trips for _, trips in loops[still[-1] + 1 : inner + 1])
        return (tiles - 1) * self.stays(bodies)

    def first(self, at: Sequence[int]) -> tuple[int, ...]:
        """The first tile of the step with loop indices ``at``: the values of its lines."""
        return tuple(
            (x.offset + sum(map(int.__mul__, row, at))) // x.divisor
            for x, row in zip(self.lines, self._by_step, strict=True)
        )

    def last(self, at: Sequence[int]) -> tuple[int, ...]:
        """The last tile of the step with loop indices ``at``."""
        return tuple(
            (x.offset + reach + sum(map(int.__mul__, row, at))) // x.divisor
            for x, row, reach in zip(self.lines, self._by_step, self._reach, strict=True)
        )

    def key(self, at: Sequence[int]) -> Key:
        """What this step's visits depend on.

        Whether its first tile is there from the step before, whether the
        whole step was run before at the same tiles, and how quotients line up.
        """
        before = previous(at, self.steps)
        carried = before is not None and self.first(at) == self.last(before)
        residues = tuple(
            (x.offset + sum(map(int.__mul__, row, at))) % x.divisor
            for x, row in zip(self.lines, self._by_step, strict=True)
            if x.divisor > 1
        )
        return carried, self._visited(at), residues

    def there(self, at: Sequence[int]) -> bool:
        """Whether the step with loop indices ``at`` has anything to do."""
        return True

    def visit(self, at: Sequence[int]) -> Visit:
        """What the step with loop indices ``at`` visits."""
        key = self.key(at)
        if key not in self._known:
            self._known[key] = self._walk(at, key)
        return self._known[key]

    def _walk(self, at: Sequence[int], key: Key) -> Visit:
        carried, visited, residues = key
        if self._regular:
            return self._counted(carried, visited)
        steppable(self.inside)
        tiles = self._tiles(residues)
        words = np.broadcast_to(self.words, tuple(r.trips for r in self.inside)).ravel()
        return self._seen(tiles, words, carried, visited)

    @cached_property
    def _regular(self) -> bool:
        """Whether tiles are alike, and two in a step the same only where no loop moves one."""
        if self.words.ndim or any(line.divisor > 1 for line in self.lines):
            return False
        for line in self.lines:
            reach = 0
            own = [(abs(line.coefficient(r.part) * r.stride), r.trips) for r in self.inside]
            for c, trips in sorted((c, trips) for c, trips in own if c):
                if c <= reach:
                    return False
                reach += c * (trips - 1)
        return True

    def _counted(self, carried: bool, visited: bool) -> Visit:
        """What ``_seen`` finds where tiles are regular: another tile in each iteration."""
        loops = [(on, trips) for on, trips in self._rounds if trips > 1]
        while loops and not loops[-1][0]:
            loops.pop()  # iterations that all have the last tile
        tiles = math.prod(trips for _, trips in loops) - carried
        different = self.tiles - carried
        again = 0 if not self.again else tiles if visited else tiles - different
        return Visit(tiles > 0, tiles * int(self.words), again * int(self.words))

    def _seen(self, tiles: Words, words: Words, carried: bool, visited: bool) -> Visit:
        """Visits of tiles in turn, each of so many words.

        ``carried``: the first is there from the step before; ``visited``: all were seen before.
        """
        changed = np.empty(tiles.size, dtype=np.bool_)
        changed[0] = not carried
        np.not_equal(tiles[1:], tiles[:-1], out=changed[1:])
        met = int(words[changed].sum())
        if not self.again:
            return Visit(bool(changed.any()), met, 0)
        if visited:
            return Visit(bool(changed.any()), met, met)
        _, where = np.unique(tiles, return_index=True)
        earliest = np.zeros(tiles.size, dtype=np.bool_)
        earliest[where] = True
        earliest[0] &= not carried
        return Visit(bool(changed.any()), met, met - int(words[earliest].sum()))

    def _visited(self, at: Sequence[int]) -> bool:
        """Whether the whole step was run before at the same tiles."""
        return any(i and not moves for i, moves in zip(at, self.moving, strict=True))

    def _tiles(self, residues: tuple[int, ...]) -> Words:
        """A number for each iteration inside a step; equal numbers are equal tiles."""
        shape = tuple(r.trips for r in self.inside)
        found = np.zeros([1] * len(shape), dtype=np.int64)
        left = list(residues)
        for line in self.lines:
            strides = {r.part: line.coefficient(r.part) for r in self.inside}
            own = along(strides, self.inside)
            if line.divisor > 1:
                own = (own + left.pop(0)) // line.divisor
            own = own - own.min()
            span = int(own.max()) + 1
            if int(found.max()) + 1 > (1 << 62) // span:
                _, ranked = np.unique(found, return_inverse=True)
                found = ranked.reshape(found.shape).astype(np.int64)
            found = found * span + own
        return np.broadcast_to(found, shape).ravel()


def steppable(inside: Iterable[Round]) -> None:
    """InputError for more iterations inside a step than are stepped through."""
    total = math.prod(r.trips for r in inside)
    if total > MOST_INSIDE:
        raise refuse(
            f"{total} iterations inside one step are too many to step through",
            f"at most {MOST_INSIDE}",
        )


def previous(at: Sequence[int], loops: Sequence[Loop]) -> tuple[int, ...] | None:
    """The loop indices one iteration earlier; None before the first.

    >>> previous((1, 0), (Loop("p", 2), Loop("m", 3)))
    (0, 2)
    """
    found = list(at)
    for n in reversed(range(len(found))):
        if found[n]:
            found[n] -= 1
            return tuple(found)
        found[n] = loops[n].trips - 1
    return None
