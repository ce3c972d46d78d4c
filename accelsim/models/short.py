"""Ranks that a mapping cuts with ceil-division: the last tile of each is short.

The parts of such a rank multiply to more than its size (Horeni et al., Ruby,
ISPASS 2022, call the split imperfect): a loop has as many trips as its tile needs,
and what lies beyond the end of the rank is not there, neither points nor words.
Iterations that would begin beyond the end are left out.

Such a loop has fewer trips in the short tile than in others, perhaps just one, so
that a tile there may stay where it changes elsewhere.  Words are therefore summed
over the nest, loop by loop from the inside.  A rank's tile at any depth is a full
one or the last one, so that there are few different nests inside a loop, and each
is summed once.  ``tests/oracle/nest.py`` replays the same element by element.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from accelsim.errors import Fault, InputError, Place
from accelsim.ir.mapping import Group, Leaf, Loop, Node, walk
from accelsim.models.tiles import Fold, Span


def checked(
    group: Group, parts: Mapping[str, Sequence[Loop]], short: Mapping[str, int]
) -> dict[str, int]:
    """A group's ranks with a short last tile; raises InputError where it cannot have them.

    Loops over such a rank stand outermost part first on the way to every Einsum that
    has it.  The innermost part may be spread, where the others are loops around the
    Einsum: rounds of what is spread stand outside its own loops.
    """
    if not short:
        return {}
    faults = []
    found = {}
    for leaf, above in walk(group.tree):
        if isinstance(leaf, Leaf):
            loops = [loop for node in above for loop in node.loops]
            its = {p.part for p in (*loops, *leaf.loops, *leaf.rows, *leaf.cols)}
            for rank in (r for r in short if its & {p.part for p in parts[r]}):
                found[rank] = short[rank]
                faults += _disordered(leaf, above, rank, [p.part for p in parts[rank]])
    if faults:
        raise InputError(faults)
    return found


def _disordered(leaf: Leaf, above: Sequence[Node], rank: str, parts: Sequence[str]) -> list[Fault]:
    """The fault of loops over a rank that do not stand in order, spread parts last."""
    around = [loop.part for node in above for loop in node.loops if loop.part in parts]
    own = [loop.part for loop in leaf.loops if loop.part in parts]
    spread = [loop.part for loop in (*leaf.rows, *leaf.cols) if loop.part in parts]
    found = [*around, *own, *spread]
    whole = [part for part in parts if part in found]  # of tiles of a cascade's own split: fewer
    if found == whole and len(spread) <= 1 and not (own and spread):
        return []
    message = f"{leaf.einsum} takes the parts of {rank} out of order, but its last tile is short"
    return [Fault(leaf.place, message, f"loops over {', '.join(parts)} in this order")]


def uncertain(parts: Sequence[Loop], size: int) -> frozenset[str]:
    """Parts with several iterations in other tiles, but just one in the last.

    >>> sorted(uncertain((Loop("M1", 3), Loop("M0", 4)), 9))
    ['M0']
    """
    found, tile = set(), 1
    for loop in reversed(parts):
        around = tile * loop.trips
        if loop.trips > 1 and (size - 1) % around < tile:
            found.add(loop.part)
        tile = around
    return frozenset(found)


def inside(parts: Sequence[Loop], size: int, around: Iterable[str]) -> int:
    """Coordinates of a full tile of a rank inside loops over some of its parts, the outer ones.

    >>> inside((Loop("M1", 4), Loop("M0", 3)), 10, ("M1",))
    3
    >>> inside((Loop("M1", 4), Loop("M0", 3)), 10, ())
    10
    """
    some = set(around)
    left = [p.trips for p in parts if p.part not in some]
    return min(size, math.prod(left))


def ends(
    loops: Sequence[Loop | Fold], parts: Mapping[str, Sequence[Loop]], short: Mapping[str, int]
) -> list[tuple[str, int]]:
    """Of each loop its rank and the coordinates that an iteration takes; nothing of whole ranks.

    >>> cut = {"M": (Loop("M1", 4), Loop("M0", 3))}
    >>> ends([Loop("P", 2), *cut["M"]], cut, {"M": 10})
    [('', 0), ('M', 3), ('M', 1)]
    """
    found = []
    rank = {p.part: r for r in short for p in parts[r]}
    for loop in loops:
        end = 0
        if loop.part in rank:
            own = parts[rank[loop.part]]
            at = [p.part for p in own].index(loop.part)
            end = math.prod(p.trips for p in own[at + 1 :])
            end *= loop.pes if isinstance(loop, Fold) else 1
        found.append((rank.get(loop.part, ""), end))
    return found


def steps(
    loops: Sequence[Loop | Fold], parts: Mapping[str, Sequence[Loop]], short: Mapping[str, int]
) -> int:
    """Iterations of all loops together.

    >>> cut = {"M": (Loop("M1", 3), Loop("M0", 4))}
    >>> steps([*cut["M"], Loop("P", 2)], cut, {"M": 9})
    18
    """
    pairs = ends(loops, parts, short)
    total = math.prod(loop.trips for loop, (r, _) in zip(loops, pairs, strict=True) if not r)
    for rank, size in short.items():
        total *= _pieces(size, [end for r, end in pairs if r == rank])
    return total


class Sweep:
    """Words that a nest brings of one tensor's tile, with short ranks.

    ``loops`` are outermost first; ``parts`` are those of each rank, and ``short``
    the sizes of those with a short last tile.
    """

    def __init__(
        self,
        loops: Sequence[Loop | Fold],
        parts: Mapping[str, Sequence[Loop]],
        short: Mapping[str, int],
        span: Span,
    ) -> None:
        if span.bent or any(parts[r][-1].part in span.slots for r in short):
            names = ", ".join(sorted(short))
            message = (
                f"a window, a quotient or a recurrence along it where the last tile of {names} "
                "is short"
            )
            raise InputError([Fault(Place("<mapping>"), message, "splits that divide")])
        self.loops = [loop for loop in loops if loop.trips > 1]
        self.ends = ends(self.loops, parts, short)
        self.span, self.short = {*span.parts, *span.slots}, short
        #: of ranks that the tile has, the coordinates that one of its elements stands for
        self.grain = {
            r: _grain(parts[r], span.parts)
            for r in short
            if any(p.part in span.parts for p in parts[r])
        }
        self.known: dict[tuple[int, tuple[int, ...]], tuple[float, bool]] = {}

    def words(self, taken: float) -> tuple[float, float]:
        """Words that all visits bring, and the different ones among them.

        ``taken`` are words of a tile over one coordinate of each short rank.
        """
        moving = [
            (x, r, end)
            for x, (r, end) in zip(self.loops, self.ends, strict=True)
            if x.part in self.span
        ]
        first = math.prod(x.trips for x, r, _ in moving if not r)
        for rank, size in self.short.items():
            if rank in self.grain:
                first *= -(-size // self.grain[rank])
            else:  # slots of a recurrence take no room: as many as the loops step through
                first *= _pieces(size, [end for _, r, end in moving if r == rank])
        return taken * self._sum(0, tuple(self.short.values()))[0], taken * first

    def _sum(self, n: int, at: tuple[int, ...]) -> tuple[float, bool]:
        """Words by the loops from the n-th on, and whether they need more than one tile.

        ``at`` are coordinates of each short rank that the loops around leave.
        """
        if n == len(self.loops):
            pairs = zip(self.short, at, strict=True)
            return float(
                math.prod(-(-n // self.grain[r]) for r, n in pairs if r in self.grain)
            ), False
        if (n, at) not in self.known:
            self.known[n, at] = self._loop(n, at)
        return self.known[n, at]

    def _loop(self, n: int, at: tuple[int, ...]) -> tuple[float, bool]:
        loop, (rank, end) = self.loops[n], self.ends[n]
        runs = [(loop.trips, at)]
        if rank:
            place = list(self.short).index(rank)
            full, rest = divmod(at[place], end)
            runs = [
                (times, (*at[:place], size, *at[place + 1 :]))
                for times, size in ((full, end), (int(rest > 0), rest))
                if times
            ]
        needed = loop.part in self.span
        found = [(times, *self._sum(n + 1, inner)) for times, inner in runs]
        moves = any(more for _, _, more in found)
        if not needed and not moves:
            return found[0][1], False
        several = sum(times for times, _, _ in found) > 1
        return sum(times * words for times, words, _ in found), moves or several


def _grain(parts: Sequence[Loop], span: Sequence[str]) -> int:
    """Coordinates of a rank that one element stands for: those of a tile, where it has tiles alone.

    >>> _grain((Loop("M1", 4), Loop("M0", 3)), ("P", "M1"))
    3
    """
    inner = max(n for n, p in enumerate(parts) if p.part in span)
    return math.prod(p.trips for p in parts[inner + 1 :])


def _pieces(size: int, ends: Sequence[int]) -> int:
    """Iterations of loops over a rank of some size, each of whose iterations takes so much.

    >>> _pieces(10, (4, 3))
    5
    """
    if not ends:
        return 1
    full, rest = divmod(size, ends[0])
    return full * _pieces(ends[0], ends[1:]) + (_pieces(rest, ends[1:]) if rest else 0)
