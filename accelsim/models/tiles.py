"""Tiles: how many elements one has, and how often another one is needed.

Each position of an access is a *line*: a sum of coordinates of rank parts,
each times a coefficient.  The elements of a tile along a line are the values
of that sum while the parts inside the tile run.  When a loop advances, the
loops inside it start anew, so each line moves by one constant distance, and
the tile becomes another one just if some line moves.  Both are exact for
plain indices, windows, strides and dilations (``p``, ``p+w``, ``2*p+w``).

Assumptions that could be wrong: two positions with the same variable
(``X[p,p]``) count as independent; beyond a border elements count as if they
were there, up to the rank's extent; a quotient (``h // G``) is exact where
the parts of its variable fall on multiples or divisors of the divisor, and
otherwise counts no less than there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from accelsim.ir.cascade import Access, Index, rank_of
from accelsim.ir.mapping import Loop
from accelsim.ir.problem import Problem

#: Sums that reach further are counted as if there were no gaps between them.
FURTHEST = 1 << 20


class Fold(NamedTuple):
    """A part in ``trips`` rounds of ``pes`` coordinates, the last one of ``last``."""

    part: str
    trips: int
    pes: int
    last: int


@dataclass(frozen=True, slots=True)
class Line:
    """One position: ``sum(coefficient * part) // divisor``, at most ``most`` elements."""

    terms: tuple[tuple[str, int], ...]
    divisor: int = 1
    most: float = math.inf
    aligned: bool = True  # the sum runs over one variable from 0: a quotient may be exact

    def elements(self, sizes: Mapping[str, int]) -> int:
        """Elements of a tile in which each part takes ``sizes[part]`` coordinates.

        >>> Line((("p", 1), ("w", 1))).elements({"p": 4, "w": 3})
        6
        """
        inside = [(abs(c), sizes[part]) for part, c in self.terms if sizes[part] > 1]
        if len(inside) < 2 and self.divisor == 1:
            found = inside[0][1] if inside else 1
        else:
            found = sums(tuple(inside))
        if self.divisor > 1:
            found = self._quotients(inside, found, sizes)
        return found if found < self.most else int(self.most)

    def _quotients(
        self, inside: list[tuple[int, int]], values: int, sizes: Mapping[str, int]
    ) -> int:
        """Values of the quotient: exact where the tile begins on a multiple, else no fewer."""
        d, count = self.divisor, 1
        for c, n in inside:
            if c % d == 0:
                count *= n
                continue
            lined = self.aligned and (d % (c * n) == 0 or (d % c == 0 and (c * n) % d == 0))
            cell = min(d, c * n)
            if not lined or any(o % cell for part, o in self.terms if o > c and sizes[part] == 1):
                reach = sum(c * (n - 1) for c, n in inside)
                return min(values, -(-reach // d) + 1)
            count *= c * n // cell if cell == d else 1
        return count


@dataclass(frozen=True, slots=True)
class Span:
    """What an access spans: parts of plain indices, lines of others, slots of a recurrence.

    A slot says which tile is needed and not how large it is: the state is
    updated in place.  Coordinates of the parts of one plain index never
    collide, so each part can stand for itself.
    """

    parts: tuple[str, ...] = ()
    bent: tuple[Line, ...] = ()
    slots: tuple[str, ...] = ()

    def __or__(self, other: Span) -> Span:
        """Both: another tile is needed when either access needs another one."""
        return Span(self.parts + other.parts, self.bent + other.bent, self.slots + other.slots)

    def elements(self, sizes: Mapping[str, int]) -> int:
        """Elements of a tile in which each part takes ``sizes[part]`` coordinates.

        >>> Span(("p1", "p0"), (Line((("m", 2), ("w", 1))),)).elements(
        ...     {"p1": 2, "p0": 4, "m": 3, "w": 2}
        ... )
        48
        """
        words = 1
        for part in self.parts:
            words *= sizes[part]
        for bent in self.bent:
            words *= bent.elements(sizes)
        return words


@lru_cache(maxsize=4096)
def sums(terms: tuple[tuple[int, int], ...]) -> int:
    """How many values ``sum(c * i)`` takes where ``0 <= i < n`` for each ``(c, n)``.

    >>> sums(((1, 4), (1, 3))), sums(((2, 4), (4, 2))), sums(((5, 3), (2, 3)))
    (6, 6, 9)
    """
    # The values so far: `blocks` of them within `reach`, repeated `count` times `step` apart.
    blocks, reach, step, count = 1, 0, 1, 1
    for c, n in sorted(terms):
        if n == 1 or c == 0:
            continue
        end = reach + (count - 1) * step
        if count > 1 and c % step == 0 and c <= count * step:
            count += c // step * (n - 1)
        elif c > end:
            blocks, reach, step, count = blocks * count, end, c, n
        else:
            return _sums_one_by_one(terms)
    return blocks * count


def _sums_one_by_one(terms: tuple[tuple[int, int], ...]) -> int:
    reach = sum(c * (n - 1) for c, n in terms)
    if reach > FURTHEST:
        return reach // math.gcd(*(c for c, n in terms if n > 1)) + 1
    values = 1  # bit v: the value v is taken
    for c, n in terms:
        values = sum_of_shifts(values, c, n)
    return values.bit_count()


def sum_of_shifts(values: int, c: int, n: int) -> int:
    """The bits of ``values`` shifted by ``0, c, ..., (n - 1) * c``, joined.

    >>> bin(sum_of_shifts(1, 2, 4))
    '0b1010101'
    """
    done, found = 1, values
    while done < n:
        more = min(done, n - done)
        found |= found << (c * more)
        done += more
    return found


def line(
    index: Index | Access, rank: str, problem: Problem, parts: Mapping[str, tuple[Loop, ...]]
) -> Line:
    """The line of an index into a rank, over the parts of a mapping.

    What an index tensor tells is another coordinate for each of its own: a
    tile holds as many elements as it has coordinates, at most all there are.

    >>> from accelsim.explore.estimate import bind
    >>> problem, _, mapping = bind(design="fusemax", model="BERT", seq=4096)
    >>> line(Index((("p", 2),)), "P", problem, dict(mapping.parts)).terms
    (('P2', 8192), ('P1', 512), ('P0', 2))
    """
    most = problem.sizes.get(rank, math.inf)
    if isinstance(index, Access):
        its = [p for v in index.variables for p in parts[rank_of(v)]]
        return Line(strides(tuple(its)), 1, most)
    affine = problem.affine(index)
    terms: dict[str, int] = {}
    for variable, factor in affine.terms:
        for part, stride in strides(parts[rank_of(variable)]):
            terms[part] = terms.get(part, 0) + factor * stride
    alone = len(affine.terms) == 1 and affine.terms[0][1] == 1
    aligned = alone and affine.offset % affine.divisor == 0
    return Line(tuple(terms.items()), affine.divisor, most, aligned)


def strides(parts: tuple[Loop, ...]) -> tuple[tuple[str, int], ...]:
    """Each part with the distance of its coordinates, the parts being outermost first.

    >>> strides((Loop("P1", 4), Loop("P0", 8)))
    (('P1', 8), ('P0', 1))
    """
    found, stride = [], 1
    for loop in reversed(parts):
        found.append((loop.part, stride))
        stride *= loop.trips
    return tuple(reversed(found))


def transitions(span: Span, loops: Iterable[Loop | Fold]) -> tuple[tuple[int, bool, bool], ...]:
    """Each loop's trips, whether its advance needs another tile, and whether a line depends on it.

    Outermost first.  Loops of one trip are left out; one that a quotient cuts
    is two.  Here p goes to p+1 and w back from 1 to 0, which is the same tile:

    >>> window = Span(bent=(Line((("p", 1), ("w", 1))),))
    >>> transitions(window, [Loop("p", 4), Loop("w", 2)])
    ((4, False, True), (2, True, True))
    """
    if not span.bent:
        return _plain_transitions({*span.parts, *span.slots}, loops)
    plain = dict.fromkeys((*span.parts, *span.slots))
    lines = (*span.bent, *(Line(((part, 1),)) for part in plain))
    steps = []
    for loop in loops:
        if loop.trips > 1:
            stride = loop.pes if isinstance(loop, Fold) else 1
            moves = [stride * dict(each.terms).get(loop.part, 0) for each in lines]
            steps.append((loop.trips, moves))
    for n, each in enumerate(lines):
        if each.divisor > 1 and each.aligned:
            steps = _divided(steps, n, each.divisor)
    back = [0] * len(lines)
    found = []
    for trips, moves in reversed(steps):
        found.append((trips, moves != back, any(moves)))
        back = [b + m * (trips - 1) for b, m in zip(back, moves, strict=True)]
    return tuple(reversed(found))


def _plain_transitions(
    parts: set[str], loops: Iterable[Loop | Fold]
) -> tuple[tuple[int, bool, bool], ...]:
    """The same for plain indices: a loop moves the tile if it or a loop inside it does."""
    moves = False
    found = []
    for loop in reversed([loop for loop in loops if loop.trips > 1]):
        depends = loop.part in parts
        moves = moves or depends
        found.append((loop.trips, moves, depends))
    return tuple(reversed(found))


def _divided(
    steps: list[tuple[int, list[int]]], n: int, divisor: int
) -> list[tuple[int, list[int]]]:
    """The steps with line ``n`` as a quotient; unchanged where that would not be exact."""
    found: list[tuple[int, list[int]]] = []
    for trips, moves in steps:
        move = moves[n]
        whole = divisor // move if move and divisor % move == 0 else 0
        if move % divisor == 0:
            found.append((trips, [*moves[:n], move // divisor, *moves[n + 1 :]]))
        elif whole and trips % whole == 0:
            outer = [m * whole for m in moves]
            found.append((trips // whole, [*outer[:n], 1, *outer[n + 1 :]]))
            found.append((whole, [*moves[:n], 0, *moves[n + 1 :]]))
        elif whole and whole % trips == 0:
            found.append((trips, [*moves[:n], 0, *moves[n + 1 :]]))
        else:
            return steps
    return found


def fetches(span: Span, loops: Iterable[Loop | Fold]) -> tuple[int, int]:
    """How often a tile under these loops is needed anew, and how many different ones there are.

    For plain indices the first is the classical product, trips of all loops
    without the innermost run of loops that the tile does not depend on: a
    loop that advances never undoes what the loops inside it take back.

    >>> nest = [Loop("p", 4), Loop("m", 8), Loop("f", 2)]
    >>> fetches(Span(("p",)), nest), fetches(Span(("m",)), nest)
    ((4, 4), (32, 8))
    """
    count = around = different = 1
    if span.bent:
        for trips, changed, depends in transitions(span, loops):
            count += changed * (trips - 1) * around
            around *= trips
            different *= trips if depends else 1
        return count, different
    parts, slots = span.parts, span.slots
    for loop in loops:
        trips = loop.trips
        if trips > 1:
            around *= trips
            if loop.part in parts or loop.part in slots:
                count = around
                different *= trips
    return count, different
