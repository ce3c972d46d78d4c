"""How many integer points of a box satisfy affine predicates: exact, and without visiting them.

``where m <= p`` on a million by a million points must cost microseconds, so
the count is a closed form: independent groups of variables multiply, the
parts of a split rank are joined again (``m1*M0 + m0`` is one variable), and
what is left in two variables is a sum of floors of a line, taken by the
Euclid-like ``floor_sum``.  Only a third and further variables are enumerated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from math import prod
from typing import TypeAlias

from accelsim.errors import refuse

#: More outer points than this are not enumerated: the predicate is refused.
MOST_ENUMERATED = 200_000


@dataclass(frozen=True, slots=True)
class Affine:
    """``(sum(c * v for v, c in terms) + offset) // divisor`` with integers only."""

    terms: tuple[tuple[str, int], ...] = ()
    offset: int = 0
    divisor: int = 1


@dataclass(frozen=True, slots=True)
class Predicate:
    """``left relation right`` with relation one of ``<= < >= > == !=``."""

    left: Affine
    relation: str
    right: Affine

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables on both sides, in order of first appearance."""
        return tuple(dict.fromkeys(v for v, _ in self.left.terms + self.right.terms))


#: ``(terms, bound)``: the half-space ``sum(c * v) <= bound``.
HalfSpace: TypeAlias = tuple[dict[str, int], int]
#: ``(a, b, d)``: the line ``(a * x + b) / d`` with ``d > 0``.
Line: TypeAlias = tuple[int, int, int]


def count(extents: Mapping[str, int], predicates: Iterable[Predicate]) -> int:
    """The number of integer points of the box ``0 <= v < extents[v]`` where all predicates hold.

    >>> causal = Predicate(Affine((("m", 1),)), "<=", Affine((("p", 1),)))
    >>> count({"m": 4, "p": 4, "e": 10}, [causal])
    100
    >>> count({"m": 2**20, "p": 2**20}, [causal]) == 2**20 * (2**20 + 1) // 2
    True
    """
    return _count(tuple(sorted(extents.items())), tuple(dict.fromkeys(predicates)))


@lru_cache(maxsize=4096)
def _count(box: tuple[tuple[str, int], ...], predicates: tuple[Predicate, ...]) -> int:
    for n, p in enumerate(predicates):
        if p.relation == "!=":  # all points less those where it is equal
            rest = predicates[:n] + predicates[n + 1 :]
            return _count(box, rest) - _count(box, (*rest, Predicate(p.left, "==", p.right)))
    extents = dict(box)
    spaces = [s for p in predicates for s in _half_spaces(p, extents)]
    if any(not terms and bound < 0 for terms, bound in spaces):
        return 0
    spaces = [s for s in spaces if s[0]]
    _join_parts(extents, spaces)
    total, left = 1, set(extents)
    for group, its in _groups(spaces):
        total *= _count_group({v: extents[v] for v in group}, its)
        left -= group
    return total * prod(extents[v] for v in left)


def _half_spaces(p: Predicate, extents: dict[str, int]) -> list[HalfSpace]:
    """The predicate as half-spaces.  A floor on both sides adds a variable to ``extents``."""
    left, right = p.left, p.right
    if left.divisor != 1 and right.divisor != 1:
        name = f"quotient {len(extents)}"
        low, high = _range(right, extents)
        extents[name] = high - low + 1
        quotient = Affine(((name, 1),), low)  # determined by the others: counted once
        equal = Predicate(right, "==", quotient)
        return _half_spaces(equal, extents) + _half_spaces(
            Predicate(left, p.relation, quotient), extents
        )
    if right.divisor != 1:
        turned = {"<=": ">=", "<": ">", ">=": "<=", ">": "<"}.get(p.relation, p.relation)
        left, right, p = right, left, Predicate(right, turned, left)
    # floor(L / d) <= r is L <= d*r + d - 1, and floor(L / d) >= r is L >= d*r, for integer r
    d = left.divisor
    difference = dict(left.terms)
    for v, c in right.terms:
        difference[v] = difference.get(v, 0) - d * c
    difference = {v: c for v, c in difference.items() if c}
    bound = d * right.offset - left.offset
    found: list[HalfSpace] = []
    if p.relation in ("<=", "<", "=="):
        found.append((dict(difference), bound + (-1 if p.relation == "<" else d - 1)))
    if p.relation in (">=", ">", "=="):
        found.append(
            ({v: -c for v, c in difference.items()}, -bound - (d if p.relation == ">" else 0))
        )
    return found


def _range(a: Affine, extents: Mapping[str, int]) -> tuple[int, int]:
    """The least and the greatest value of an affine form over the box."""
    low = a.offset + sum(min(0, c * (extents[v] - 1)) for v, c in a.terms)
    high = a.offset + sum(max(0, c * (extents[v] - 1)) for v, c in a.terms)
    return low // a.divisor, high // a.divisor


def _join_parts(extents: dict[str, int], spaces: list[HalfSpace]) -> None:
    """Join ``u`` and ``v`` into one variable where every half-space holds ``extent(v)*u + v``.

    The map ``(u, v) -> extent(v)*u + v`` is a bijection of the box onto
    ``0 <= w < extent(u)*extent(v)``, so the count does not change.
    """
    joined = True
    while joined:
        joined = False
        used = sorted({v for terms, _ in spaces for v in terms})
        for u, v in product(used, used):
            if u != v and all(t.get(u, 0) == extents[v] * t.get(v, 0) for t, _ in spaces):
                extents[v] *= extents.pop(u)
                for terms, _ in spaces:
                    terms.pop(u, None)
                joined = True
                break


def _groups(spaces: list[HalfSpace]) -> list[tuple[set[str], list[HalfSpace]]]:
    """Half-spaces grouped so that no variable is in two groups: their counts multiply."""
    groups: list[tuple[set[str], list[HalfSpace]]] = []
    for space in spaces:
        names, its = set(space[0]), [space]
        apart = []
        for other, theirs in groups:
            if other & names:
                names |= other
                its = theirs + its
            else:
                apart.append((other, theirs))
        groups = [*apart, (names, its)]
    return groups


def _count_group(extents: dict[str, int], spaces: list[HalfSpace]) -> int:
    """Points of one group: all but the two longest variables are enumerated."""
    order = sorted(extents, key=lambda v: (extents[v], v))
    outer, inner = order[:-2], order[-2:]
    steps = prod(extents[v] for v in outer)
    if steps > MOST_ENUMERATED:
        raise refuse(
            f"a predicate ties {len(order)} index variables together and would need {steps} steps "
            f"to count its points",
            f"at most {MOST_ENUMERATED} steps: write it over fewer variables",
        )
    x, y = inner if len(inner) == 2 else ("", inner[0])
    nx = extents[x] if x else 1
    total = 0
    for point in product(*(range(extents[v]) for v in outer)):
        at = dict(zip(outer, point, strict=True))
        cut = [
            (t.get(x, 0), t.get(y, 0), bound - sum(t.get(v, 0) * k for v, k in at.items()))
            for t, bound in spaces
        ]
        total += _count_plane(nx, extents[y], cut)
    return total


def _count_plane(nx: int, ny: int, spaces: list[tuple[int, int, int]]) -> int:
    """Points of ``[0, nx) x [0, ny)`` with ``a*x + c*y <= b`` for every ``(a, c, b)``.

    For a given x, y runs from the greatest ceiling of the lower lines to the
    least floor of the upper lines.  Between two crossings of the lines the
    same lines are greatest and least, so the sum over x is a difference of
    two sums of floors.  Where upper >= lower as real lines, floor(upper) -
    ceil(lower) + 1 >= 0; where upper < lower no integer lies between: 0.
    """
    first, last = 0, nx - 1
    uppers: list[Line] = [(0, ny - 1, 1)]
    lowers: list[Line] = [(0, 0, 1)]
    for a, c, b in spaces:
        if c > 0:
            uppers.append((-a, b, c))
        elif c < 0:
            lowers.append((a, -b, -c))
        elif a > 0:
            last = min(last, b // a)
        elif a < 0:
            first = max(first, -(b // -a))
        elif b < 0:
            return 0
    if first > last:
        return 0
    cuts = {first, last + 1}
    lines = uppers + lowers
    for n, (a1, b1, d1) in enumerate(lines):
        for a2, b2, d2 in lines[n + 1 :]:
            slope = a1 * d2 - a2 * d1
            if slope:
                cross = (b2 * d1 - b1 * d2) // slope
                cuts |= {x for x in (cross, cross + 1) if first < x <= last}
    edges = sorted(cuts)
    total = 0
    for s, e in pairwise(edges):
        upper = _extreme(uppers, s, e - 1, least=True)
        lower = _extreme(lowers, s, e - 1, least=False)
        above = all(
            (upper[0] * x + upper[1]) * lower[2] >= (lower[0] * x + lower[1]) * upper[2]
            for x in (s, e - 1)
        )
        if above:
            n = e - s
            total += floor_sum(n, upper[2], upper[0], upper[0] * s + upper[1])
            total += floor_sum(n, lower[2], -lower[0], -(lower[0] * s + lower[1])) + n
    return total


def _extreme(lines: list[Line], s: int, e: int, *, least: bool) -> Line:
    """The line that is least (or greatest) at both s and e, none crossing another between them."""
    best = lines[0]
    for line in lines[1:]:
        over = sum(
            (line[0] * x + line[1]) * best[2] - (best[0] * x + best[1]) * line[2] for x in (s, e)
        )
        if (over < 0) if least else (over > 0):
            best = line
    return best


def floor_sum(n: int, d: int, a: int, b: int) -> int:
    """``sum((a*x + b) // d for x in range(n))`` in O(log) steps; ``d > 0``.

    The Euclid-like reduction of lattice points under a line (Graham, Knuth,
    Patashnik, Concrete Mathematics, 3.5).

    >>> floor_sum(10, 7, -3, 2) == sum((-3 * x + 2) // 7 for x in range(10))
    True
    """
    total = 0
    while n > 0:
        total += (n * (n - 1) // 2) * (a // d) + n * (b // d)
        a, b = a % d, b % d
        top = a * n + b
        if top < d:
            break
        n, b = top // d, top % d
        a, d = d, a
    return total
