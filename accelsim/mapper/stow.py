"""Which tensor is held where, at one point of a grid: branch and bound over sets of holds.

Holds are decided tensor by tensor, the cheapest set of each first.  A partial
choice is given up where

- *room*: what is held so far does not fit a level at some moment.  What is
  held later only adds to it, so no completion fits.
- *bound*: its figures, with the least that each tensor left open adds by
  itself, are no better than the best mapping known.  Words of different
  tensors add up, and so do joules, and the time of a level's ports grows with
  its words: the figures of every completion are at least these.  What an
  Einsum touches is counted as the least that any of its runs touches, and what
  its best run takes more than that for all its tensors together (``jointly``);
  where runs are not known yet, by ``Counts.least``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import Any, TypeAlias

import numpy as np

from accelsim.mapper.closer import Row
from accelsim.mapper.evaluate import Counts, Keep, Moved, Words
from accelsim.mapper.frame import Use
from accelsim.mapper.goal import Figures, Goal, better
from accelsim.mapper.jointly import Jointly, Levels
from accelsim.mapper.schedule import Trail, flights
from accelsim.mapper.short import Array
from accelsim.mapper.space import Space, Task
from accelsim.mapper.spreads import Run

#: Partial choices that are looked at for one point.
MOST_STEPS = 20_000

#: Moment and level.
Where = tuple[int, int]

#: A level's port: its number, and seconds that a word read and one written take there.
Port: TypeAlias = tuple[int, float, float]

#: A hold of a choice: tensor, place, words by moment, the fewest copies, the tensor whose
#: room it takes, and tiles in flight for each of the lags.
Together: TypeAlias = tuple[str, Keep, Mapping[int, Any], float, str, Array]

#: Levels that serve each Einsum.
Served: TypeAlias = dict[str, Levels]

#: Joules, and words read and written by level.
Sums = tuple[float, tuple[float, ...], tuple[float, ...]]


@dataclass
class Tally:
    """What a search did.

    ``priced`` are complete mappings; ``bound`` and ``room`` were given up for
    that reason before they were complete; ``cut_short`` says that something
    was left out without a proof.
    """

    priced: int = 0
    bound: int = 0
    room: int = 0
    cut_short: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A hold that was chosen: where, how many copies, and the tensor whose room it takes."""

    tensor: str
    keep: Keep
    copies: int = 1
    shares: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A set of holds of one tensor with the least figures that it may have.

    Joules, words read and written by level, and words by moment and level of
    each hold, all with what its Einsums touch; ``row`` is without.
    """

    row: Row
    tensor: str
    keeps: tuple[Keep, ...]
    joules: float
    reads: tuple[float, ...]
    writes: tuple[float, ...]
    room: tuple[tuple[tuple[Where, float], ...], ...]


def _by_place(held: Held) -> dict[Where, float]:
    """Words of a set by moment and level."""
    found: dict[Where, float] = {}
    for items in held.room:
        for key, words in items:
            found[key] = found.get(key, 0.0) + words
    return found


def _words(held: Held) -> float:
    """Words of a set at all moments and levels together."""
    return sum(_by_place(held).values())


class Stow:
    """Sets of holds at one point for one way to overlap.

    ``rows`` are the sets of each tensor whose tiles fit; ``touched`` gives the
    least words of each use.  ``lists`` are runs of every Einsum, with the joules of
    their operations, and ``trails`` the lags that Einsums may have (``schedule.lags``),
    where they are known.
    """

    def __init__(
        self,
        space: Space,
        counts: Counts,
        goal: Goal,
        tally: Tally,
        rows: Mapping[str, Sequence[Row]],
        touched: Mapping[Use, Words],
        way: str,
        lists: Mapping[str, Sequence[tuple[Run, float]]] | None = None,
        trails: Sequence[Trail] = (),
    ) -> None:
        self.space, self.counts, self.goal, self.tally = space, counts, goal, tally
        self.task: Task = space.task
        self.arch = space.arch
        self.touched, self.way, self.trails = touched, way, trails
        self.flights: dict[tuple[frozenset[str], int], Array] = {}
        self.sets = self._ordered([self._sets(some) for some in rows.values()])
        self.steps = 0
        self.jointly = () if lists is None or not self.possible else self._jointly(lists)

    @property
    def possible(self) -> bool:
        """Whether every tensor has a set of holds whose tiles fit."""
        return all(self.sets)

    def _jointly(
        self, lists: Mapping[str, Sequence[tuple[Run, float]]]
    ) -> tuple[tuple[Port | None, Jointly], ...]:
        """What runs take beyond the least, in joules, and in seconds of each port."""
        counts, none = self.counts, [(0.0, 0.0)] * len(self.arch.levels)
        served: dict[tuple[str, str], list[int]] = {}
        for held in (held for some in self.sets for held in some):
            for einsum, at in held.row.serves.items():
                served.setdefault((einsum, held.tensor), []).append(at)
        found = Jointly(self.task.word_joules, counts, lists, self.touched, served)
        every: list[tuple[Port | None, Jointly]] = [(None, found)]
        free = {e: [(run, 0.0) for run, _ in some] for e, some in lists.items()}
        for n, level in enumerate(self.arch.levels if self.goal.name != "energy" else ()):
            for reads, writes, rate in (
                (1, 1, level.bandwidth), (1, 0, level.read_bandwidth), (0, 1, level.write_bandwidth)
            ):  # fmt: skip
                if math.isfinite(rate):
                    each = self.arch.word_bytes / rate
                    prices = [*none[:n], (reads * each, writes * each), *none[n + 1 :]]
                    one = Jointly(prices, counts, free, self.touched, served)
                    every.append(((n, *prices[n]), one))
        return tuple(every)

    def _sets(self, rows: Sequence[Row]) -> list[Held]:
        """Sets of holds of a tensor; only those with registers where the machine's suffice.

        Registers that give no capacity take a tile without crowding out another,
        and accesses to them are free: no set without them is better.
        """
        inner = self.task.inner
        if inner is not None and math.isinf(inner.words):
            most = max((sum(k.level == inner.level for k in r.keeps) for r in rows), default=0)
            rows = [r for r in rows if sum(k.level == inner.level for k in r.keeps) == most]
        held = [self._held(row) for row in rows]
        held.sort(key=lambda h: (h.joules, _words(h)))
        return [h for n, h in enumerate(held) if not any(self._beats(o, h) for o in held[:n])]

    def _beats(self, one: Held, other: Held) -> bool:
        """Whether a set moves no more words, takes no more room, and serves no worse than another.

        Serves no worse: each Einsum from the same level, or from registers,
        where an access is free.  Then whatever else is chosen, time, energy and
        room with the first are no more than with the second.
        """
        free = self.task.inner.level if self.task.inner else -1
        if any(one.row.serves[e] not in (level, free) for e, level in other.row.serves.items()):
            return False
        mine, yours = dict(_by_place(one)), dict(_by_place(other))
        if any(words > yours.get(key, 0.0) for key, words in mine.items()):
            return False
        if other.tensor in self.space.shares.values() or other.tensor in self.space.shares:
            return False
        mine_moved, yours_moved = one.row.moved, other.row.moved
        pairs = zip(
            mine_moved.reads + mine_moved.writes,
            yours_moved.reads + yours_moved.writes,
            strict=True,
        )
        return all(float(a) <= float(b) for a, b in pairs)

    def _ordered(self, sets: list[list[Held]]) -> list[list[Held]]:
        """Tensors in the order of decision: those that may take most room first, roots first."""
        shares = self.space.shares

        def size(some: list[Held]) -> tuple[float, int]:
            tensor = some[0].tensor if some else ""
            root = shares.get(tensor, tensor)
            family = [s for s in sets if s and shares.get(s[0].tensor, s[0].tensor) == root]
            return -max((_words(h) for s in family for h in s), default=0.0), tensor in shares

        order = {s[0].tensor: n for n, s in enumerate(sets) if s}
        return sorted(sets, key=lambda s: (*size(s), order.get(s[0].tensor, 0) if s else 0))

    def _held(self, row: Row) -> Held:
        """A set of holds with what its Einsums touch at the least, and its room."""
        reads, writes = list(row.moved.reads), list(row.moved.writes)
        for use in self.counts.uses[row.tensor]:
            words, level = self.touched[use], row.serves[use.einsum]
            reads[level] += float(words.visits - words.first if use.writes else words.visits)
            writes[level] += float(words.visits) if use.writes else 0.0
        copies = row.copies[self.way]
        if self.trails:  # as many as any of the lags asks for
            flying = (self._flying(frozenset({row.tensor}), k.spot).min() for k in row.keeps)
            copies = tuple(map(max, copies, map(float, flying)))
        room = tuple(
            tuple(((moment, keep.level), some * n) for moment, some in words.items())
            for keep, words, n in zip(row.keeps, row.words, copies, strict=True)
        )
        moved = Moved(tuple(reads), tuple(writes))
        joules = float(self.task.joules(moved))
        return Held(row, row.tensor, row.keeps, joules, moved.reads, moved.writes, room)

    # -- room --------------------------------------------------------------------------------

    def kept(self, chosen: Sequence[Held], number: int) -> tuple[Kept, ...]:
        """The holds of a complete choice with the copies that the lags of a number ask for."""
        return tuple(
            Kept(tensor, keep, int(max(least, flying[number])), root)
            for tensor, keep, _, least, root, flying in self._together(chosen)
        )

    def fitting(self, chosen: Sequence[Held]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether the holds of a complete choice fit, for each of the lags."""
        room: dict[Where, Any] = {}
        fits = np.ones(len(self.trails), dtype=bool)
        for _, keep, words, least, root, flying in self._together(chosen):
            copies = np.maximum(least, flying)
            for moment, some in () if root else words.items():
                key = moment, keep.level
                room[key] = room.get(key, 0.0) + some * copies
        for (_, level), words_there in room.items():
            fits &= words_there <= self.task.room(level)[0]
        return fits

    def _together(self, chosen: Sequence[Held]) -> Iterator[Together]:
        """The holds of a complete choice, with the tensor whose room each takes.

        A room has as many copies as any tensor in it needs.
        """
        where = {
            (h.tensor, keep): copies
            for h in chosen
            for keep, copies in zip(h.keeps, h.row.copies[self.way], strict=True)
        }
        for held in chosen:
            root = self.space.shares.get(held.tensor, "")
            for keep, words in zip(held.keeps, held.row.words, strict=True):
                shared = root if (root, keep) in where else ""
                family = self._family(shared or held.tensor, keep, where)
                least = max(where[tensor, keep] for tensor in family)
                yield held.tensor, keep, words, least, shared, self._flying(family, keep.spot)

    def _flying(self, family: frozenset[str], spot: int) -> Array:
        """``schedule.in_flight`` of a family for each of the lags."""
        if (family, spot) not in self.flights:
            found = flights(self.counts, family, spot, self.space.after, self.trails)
            self.flights[family, spot] = np.array(found, dtype=np.float64)
        return self.flights[family, spot]

    def _family(self, root: str, keep: Keep, where: Collection[tuple[str, Keep]]) -> frozenset[str]:
        """Tensors that take one room."""
        others = {t for t, r in self.space.shares.items() if r == root and (t, keep) in where}
        return frozenset({root, *others})

    # -- the search --------------------------------------------------------------------------

    def choices(self, seconds: float, joules: float, worst: list[Figures]) -> Iterator[list[Held]]:
        """Complete choices whose bounds beat ``worst[0]``, which may fall as one goes on.

        ``seconds`` and ``joules`` are what the mapping takes besides, at the least.
        """
        levels = range(len(self.arch.levels))
        least: list[Sums] = [(joules, (0.0,) * len(levels), (0.0,) * len(levels))]
        for some in reversed(self.sets):
            more, reads, writes = least[-1]
            least.append((
                more + min(s.joules for s in some),
                tuple(reads[n] + min(s.reads[n] for s in some) for n in levels),
                tuple(writes[n] + min(s.writes[n] for s in some) for n in levels),
            ))  # fmt: skip
        least.reverse()
        none = (0.0, (0.0,) * len(levels), (0.0,) * len(levels))
        served: Served = {}
        for einsum in self.counts.frame.einsums if self.jointly else ():
            served[einsum] = (None,) * len(self.counts.uses_by_einsum(einsum))
        yield from self._decide([], {}, none, least, seconds, worst, served)

    def _decide(
        self,
        chosen: list[Held],
        room: dict[Where, float],
        so_far: Sums,
        least: Sequence[Sums],
        seconds: float,
        worst: list[Figures],
        served: Served,
    ) -> Iterator[list[Held]]:
        """Decide the next tensor, then those after it."""
        if not better(self._figures(so_far, least[len(chosen)], seconds, served), worst[0]):
            self.tally.bound += 1
            return
        self.steps += 1
        if self.steps > MOST_STEPS:
            self.tally.cut_short = True
            return
        if len(chosen) == len(self.sets):
            yield chosen
            return
        for some in self.sets[len(chosen)]:
            held = self._with(room, some, chosen)
            if held is None:
                self.tally.room += 1
            else:
                joules, reads, writes = so_far
                more = (
                    joules + some.joules,
                    tuple(map(add, reads, some.reads)),
                    tuple(map(add, writes, some.writes)),
                )
                now = served | self._serving(some, served) if served else served
                yield from self._decide([*chosen, some], held, more, least, seconds, worst, now)

    def _serving(self, some: Held, served: Served) -> Served:
        """The levels that serve the Einsums of a tensor, with those of one more set of holds."""
        found: Served = {}
        for einsum, level in some.row.serves.items():
            pairs = zip(self.counts.uses_by_einsum(einsum), served[einsum], strict=True)
            found[einsum] = tuple(level if u.tensor == some.tensor else v for u, v in pairs)
        return found

    def _with(
        self, room: dict[Where, float], some: Held, chosen: Sequence[Held]
    ) -> dict[Where, float] | None:
        """Room with a set added, or None where it does not fit; a shared room counts once."""
        root = self.space.shares.get(some.tensor, "")
        there = {k for h in chosen if h.tensor == root for k in h.keeps}
        found = dict(room)
        for keep, items in zip(some.keeps, some.room, strict=True):
            for key, words in () if keep in there else items:
                found[key] = found.get(key, 0.0) + words
                if found[key] > self.task.room(key[1])[0]:
                    return None
        return found

    def _figures(self, so_far: Sums, least: Sums, seconds: float, served: Served) -> Figures:
        """Figures of a choice with the least that is still to come.

        ``served`` are the levels that serve each Einsum as far as they are decided.
        """
        word = self.arch.word_bytes
        joules = least[0] + so_far[0]
        for port, jointly in self.jointly:
            more = sum(jointly.more(e, levels) for e, levels in served.items())
            if port is None:
                joules += more
            else:
                n, read, write = port
                reads, writes = so_far[1][n] + least[1][n], so_far[2][n] + least[2][n]
                seconds = max(seconds, reads * read + writes * write + more)
        for n, level in enumerate(self.arch.levels):
            reads, writes = so_far[1][n] + least[1][n], so_far[2][n] + least[2][n]
            seconds = max(seconds, level.seconds(reads * word, writes * word))
        value: Figures = self.goal.value(seconds, joules)
        return value
