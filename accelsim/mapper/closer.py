"""Closer bounds at some points of a grid, many points at a time.

*Of any frame.*  Every access is counted with the fewest words that any spread of
its Einsum touches, and every tensor with the cheapest of its sets of holds, each
by itself but for a price on the room that it takes (``_fitting``).  Words of
different tensors add up, so no mapping at the point is below the sum.

*Of one Einsum, its energy.*  Holds and spreads are then all there is, and the
bound is what the best of them takes, for holds that fit together: joules
of a set of holds do not depend on the spread, and what the spread touches
depends on a set only through the level that serves the access.  So the cheapest
sets that fit are found once for every combination of serving levels, and each
spread is added to each of these combinations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product
from typing import Any

import numpy as np

from accelsim.mapper.evaluate import Keep, Moved, Numbers, Words
from accelsim.mapper.frame import Use
from accelsim.mapper.goal import Goal
from accelsim.mapper.schedule import IN_TURNS, TOGETHER, in_flight
from accelsim.mapper.short import Array
from accelsim.mapper.space import Space
from accelsim.mapper.spreads import spreads

#: Combinations of sets of holds that are looked at together for one Einsum.
MOST_TOGETHER = 4096

#: Combinations of sets of holds of tensors that may share a room.
MOST_SHARED = 256

#: Prices that are tried for the words of a level at one moment.
STEPS = 6

#: Moment and level.
Where = tuple[int, int]

#: Words of an Einsum's accesses for one spread over one unit.
Touched = tuple[str, Mapping[Use, Words]]


@dataclass(frozen=True, slots=True)
class Row:
    """A set of holds of one tensor at some points: what it moves, and where it serves.

    ``bad`` where a tile alone does not fit.  ``words`` of each hold by moment,
    one copy; none where its level takes any number.  ``copies`` of each hold, the
    fewest, by way.
    """

    tensor: str
    number: int
    keeps: tuple[Keep, ...]
    serves: Mapping[str, int]
    moved: Moved
    bad: Any
    words: tuple[Mapping[int, Any], ...]
    copies: Mapping[str, tuple[Any, ...]]

    def at(self, n: int) -> Row:
        """The same at one of the points, in plain numbers."""
        moved = Moved(_pick(self.moved.reads, n), _pick(self.moved.writes, n))
        words = tuple({m: _one(w, n) for m, w in some.items()} for some in self.words)
        copies = {way: _pick(some, n) for way, some in self.copies.items()}
        return Row(self.tensor, self.number, self.keeps, self.serves, moved, False, words, copies)


def _one(values: Any, n: int) -> float:
    return float(values) if np.ndim(values) == 0 else float(values[n])


def _pick(values: Iterable[Any], n: int) -> tuple[float, ...]:
    return tuple(_one(v, n) for v in values)


class Closer:
    """Some points of a space's grid, by their numbers."""

    def __init__(self, space: Space, numbers: Numbers) -> None:
        self.space, self.size = space, len(numbers)
        shape = space.grid.shape
        self.counts = space.counts_at(numbers)
        self.points = {
            e: np.broadcast_to(n, shape).ravel()[numbers] for e, n in space.points.items()
        }
        self.seconds = {way: found[numbers] for way, found in space.least.items()}
        self.touched = {e: self._touched(e) for e in space.units}
        self.rows = {
            t: [self._row(t, n, k) for n, k in enumerate(s)] for t, s in space.options.items()
        }
        self.bundles = self._bundles()
        self.rooms: list[list[dict[Where, Any]]] = []
        self.places: dict[Where, float] = {}  # moments and levels with room, and their words

    def _touched(self, einsum: str) -> list[Touched]:
        """Words of all accesses of an Einsum, for every unit and spread."""
        counts = self.counts
        found = counts.uses_by_einsum(einsum)
        return [
            (unit, {use: counts.leaf(use, spread) for use in found})
            for unit in self.space.units[einsum]
            for spread in spreads(counts, einsum, unit, self.space.wanted(einsum))
        ]

    def _row(self, tensor: str, number: int, keeps: tuple[Keep, ...]) -> Row:
        counts, space = self.counts, self.space
        serves = {u.einsum: counts.serves(tensor, keeps, u.spot) for u in counts.uses[tensor]}
        words: list[dict[int, Any]] = []
        for keep in keeps:
            unlimited = math.isinf(space.task.room(keep.level)[0])
            moments = () if unlimited else counts.frame.moments
            words.append({m: counts.there(tensor, keep, m) for m in moments})
        copies = {
            way: tuple(space.copies(counts, tensor, k, keeps, way) for k in keeps)
            for way in self.seconds
        }
        bad = ~space.fits(counts, tensor, keeps)
        moved = counts.moves(tensor, keeps)
        return Row(tensor, number, keeps, serves, moved, bad, tuple(words), copies)

    def rows_at(self, n: int) -> dict[str, list[Row]]:
        """The sets of holds of every tensor whose tiles fit at one of the points."""
        return {
            t: [row.at(n) for row in rows if not _one(row.bad, n)] for t, rows in self.rows.items()
        }

    def least_at(self, n: int) -> dict[Use, Words]:
        """The fewest words of every access at one of the points."""
        return {
            use: Words(_one(w.tile, n), _one(w.visits, n), _one(w.first, n))
            for use, w in self.least.items()
        }

    @cached_property
    def least(self) -> dict[Use, Words]:
        """The fewest words of every access that any spread of its Einsum touches."""
        return {
            use: _fewest(words[use] for _, words in found)
            for found in self.touched.values()
            for use in found[0][1]
        }

    def _room(self, rows: Sequence[Row], way: str) -> dict[Where, Any]:
        """Words of sets of holds by moment and level, with the fewest copies.

        None where a room may be shared with a tensor that is not among these.
        """
        space, counts = self.space, self.counts
        where = {
            (row.tensor, keep): copies
            for row in rows
            for keep, copies in zip(row.keeps, row.copies[way], strict=True)
        }
        found: dict[Where, Any] = {}
        for row in rows:
            root = space.shares.get(row.tensor, "")
            for keep, words in zip(row.keeps, row.words, strict=True):
                if not words or (root, keep) in where or (root and len(rows) == 1):
                    continue
                copies = where[row.tensor, keep]
                with_it = {t for t, k in where if k == keep and space.shares.get(t) == row.tensor}
                if with_it:
                    family = {row.tensor, *with_it}
                    flying = in_flight(counts, family, keep.spot, space.after, space.trail(way))
                    least = [where[t, keep] for t in family]
                    copies = reduce(np.maximum, least, flying)
                for moment, some in words.items():
                    here = moment, keep.level
                    found[here] = found.get(here, 0.0) + some * copies
        return found

    def bounds(self, goal: Goal) -> tuple[Array, Array]:
        """Latency and energy that no mapping at these points is below.

        For energy, the latency is that of the operations alone.

        >>> from accelsim.load.arch import load_architecture
        >>> from accelsim.load.cascade import load_cascade
        >>> from accelsim.mapper.frame import frame
        >>> from accelsim.mapper.space import Task
        >>> c, a = load_cascade("matmul"), load_architecture("teaching")
        >>> space = Space(Task(c, {"M": 4, "N": 4, "K": 4}, a), frame(c, ("C",), ()))
        >>> latency, energy = Closer(space, np.array([0])).bounds(Goal("energy"))
        >>> float(latency[0])
        4e-09
        """
        space = self.space
        alone = len(self.touched) == 1
        exact: Any = 0.0
        if alone and math.prod(map(len, self.rows.values())) <= MOST_TOGETHER:
            self._for(self.leanest)
            exact = self._together() + np.zeros(self.size)
            if goal.name == "energy":
                return self.seconds[TOGETHER], exact
        joules: Any = 0.0
        for e in space.units:
            joules = joules + space.least_joules(e) * self.points[e]
        latency, energy = np.full(self.size, np.inf), np.full(self.size, np.inf)
        ways = self.seconds if goal.name != "energy" else {self.leanest: self.seconds[TOGETHER]}
        for way, busy in ways.items():
            self._for(way)
            seconds, moved = self._apart(goal)
            latency = np.minimum(latency, np.maximum(seconds, busy))
            energy = np.minimum(energy, joules + moved)
        return latency, np.maximum(energy, exact)

    @property
    def leanest(self) -> str:
        """The way to overlap that takes the least room."""
        return IN_TURNS if IN_TURNS in self.seconds else TOGETHER

    def forget(self) -> None:
        """Drop what only the bounds need; the fewest words of every access stay."""
        if self.least:  # worked out from what is dropped
            self.touched, self.rooms = {}, []

    def _for(self, way: str) -> None:
        """Work out the room of every set of holds where units overlap in some way."""
        self.rooms = [[self._room(rows, way) for rows in some] for some in self.bundles]
        found = {place for rooms in self.rooms for held in rooms for place in held}
        self.places = {place: self.space.task.room(place[1])[0] for place in sorted(found)}

    def _bundles(self) -> list[list[tuple[Row, ...]]]:
        """Sets of holds of each tensor, or of tensors that may share a room, together."""
        families: dict[str, list[str]] = {}
        for tensor in self.rows:
            families.setdefault(self.space.shares.get(tensor, tensor), []).append(tensor)
        found: list[list[tuple[Row, ...]]] = []
        for family in families.values():
            some = [self.rows[t] for t in family]
            if math.prod(map(len, some)) <= MOST_SHARED:
                found.append(list(product(*some)))
            else:
                found += [[(row,) for row in rows] for rows in some]
        return found

    def _apart(self, goal: Goal) -> tuple[Array, Array]:
        """Seconds and joules of words moved, with the least that each tensor adds by itself."""
        task, counts = self.space.task, self.counts
        moved: dict[str, list[Moved]] = {}
        for tensor, rows in self.rows.items():
            moved[tensor] = []
            for row in rows:
                total = row.moved
                for use in counts.uses[tensor]:
                    total = total + counts.touches(use, self.least[use], row.serves[use.einsum])
                moved[tensor].append(total)
        bad = {t: [np.where(row.bad, np.inf, 0.0) for row in rows] for t, rows in self.rows.items()}
        joules = self._fitting(
            {
                t: [task.joules(m) + b for m, b in zip(ms, bad[t], strict=True)]
                for t, ms in moved.items()
            }
        )
        seconds = np.zeros(self.size)
        for n, level in enumerate(self.space.arch.levels if goal.name != "energy" else ()):
            for reads, writes, rate in (
                (1.0, 1.0, level.bandwidth),
                (1.0, 0.0, level.read_bandwidth),
                (0.0, 1.0, level.write_bandwidth),
            ):
                if math.isfinite(rate):
                    each = self.space.arch.word_bytes / rate
                    times = {
                        t: [
                            (reads * m.reads[n] + writes * m.writes[n]) * each + b
                            for m, b in zip(ms, bad[t], strict=True)
                        ]
                        for t, ms in moved.items()
                    }
                    seconds = np.maximum(seconds, self._fitting(times))
        return seconds, joules

    def _fitting(self, costs: Mapping[str, Sequence[Any]]) -> Array:
        """A sum over tensors that no choice of sets of holds that fit together is below.

        ``costs`` are those of each tensor's sets.  Let words at one moment of one
        level cost ``price`` each, and let the room's ``price * room`` be given back:
        a choice that fits pays no more then than without, so that the least sum
        of costs and prices, each tensor by itself, less what is given back is
        below every choice that fits, whatever the price (weak duality).  The
        price rises where the sets that it picks do not fit, and falls where they do.
        """
        best = self._priced(costs, None, np.zeros(self.size))[0]
        for place, room in self.places.items():
            price, factor = np.where(np.isfinite(best), best, 0.0) / max(room, 1.0), 8.0
            if not np.any(self._priced(costs, place, np.zeros(self.size))[1] > room):
                continue
            for _ in range(STEPS):
                total, words = self._priced(costs, place, price)
                best = np.maximum(best, total - price * room)
                price = np.where(words > room, price * factor, price / factor)
                factor = math.sqrt(factor)
        return best

    def _priced(
        self, costs: Mapping[str, Sequence[Any]], place: Where | None, price: Array
    ) -> tuple[Array, Array]:
        """The least sum of costs and of words at a place at a price, and the words of it."""
        total, words = np.zeros(self.size), np.zeros(self.size)
        for some, rooms in zip(self.bundles, self.rooms, strict=True):
            least, room = np.full(self.size, np.inf), np.zeros(self.size)
            for rows, held in zip(some, rooms, strict=True):
                here = held.get(place, 0.0) if place is not None else 0.0
                with_price = price * here
                for row in rows:
                    with_price = with_price + costs[row.tensor][row.number]
                room = np.where(with_price < least, here, room)
                least = np.minimum(least, with_price)
            total, words = total + least, words + room
        return total, words

    # -- one Einsum --------------------------------------------------------------------------

    def _together(self) -> Any:
        """Joules of the best holds that fit together and the best spread of one Einsum."""
        ((einsum, touched),) = self.touched.items()
        tensors = list(self.rows)  # each is a bundle: within one Einsum no room is shared
        cheapest = self._by_served(einsum)
        each = [self.space.point_joules(einsum, unit) * self.points[einsum] for unit, _ in touched]
        own = _beside([np.asarray(joules) for joules in each], self.size)
        costs = {}
        for tensor in tensors:
            together = {
                use: Words(
                    np.nan,
                    _beside([words[use].visits for _, words in touched], self.size),
                    _beside([words[use].first for _, words in touched], self.size),
                )
                for use in self.counts.uses[tensor]
            }
            costs[tensor] = self._by_level(tensor, together)
        best: Any = np.inf
        for served, joules in cheapest.items():
            total = joules + own
            for t, level in zip(tensors, served, strict=True):
                total = total + costs[t][level]
            best = np.minimum(best, total.min(axis=0))
        return best

    @cached_property
    def alone(self) -> dict[str, list[Any]]:
        """Joules of each set of holds, Einsums aside; infinite where a tile does not fit."""
        joules = self.space.task.joules
        return {
            t: [np.where(row.bad, np.inf, joules(row.moved)) for row in rows]
            for t, rows in self.rows.items()
        }

    def _by_level(self, tensor: str, words: Mapping[Use, Words]) -> list[Any]:
        """Joules of what an Einsum touches of a tensor, for each level that may serve it."""
        found = []
        for read, write in self.space.task.word_joules:
            total: Any = 0.0
            for use in self.counts.uses[tensor]:
                some = words[use]
                if use.writes:
                    total = total + read * (some.visits - some.first) + write * some.visits
                else:
                    total = total + read * some.visits
            found.append(total)
        return found

    def _by_served(self, einsum: str) -> dict[tuple[int, ...], Any]:
        """The least joules of sets of holds that fit together, by the levels that serve.

        Arrays have an axis for the sets of each tensor that serve from one level, and
        one for the points.
        """
        groups = []
        for axis, (tensor, rows) in enumerate(self.rows.items()):
            apart = (-1, *[1] * (len(self.rows) - axis - 1), self.size)
            found: dict[int, tuple[Array, dict[Where, Array]]] = {}
            for level in dict.fromkeys(row.serves[einsum] for row in rows):
                some = [n for n, row in enumerate(rows) if row.serves[einsum] == level]
                joules = _beside([self.alone[tensor][rows[n].number] for n in some], self.size)
                held = [self.rooms[axis][n] for n in some]
                words = {
                    p: _beside([h.get(p, 0.0) for h in held], self.size).reshape(apart)
                    for p in self.places
                    if any(p in h for h in held)
                }
                found[level] = joules.reshape(apart), words
            groups.append(found)
        return {
            served: self._cheapest([group[v] for group, v in zip(groups, served, strict=True)])
            for served in product(*groups)
        }

    def _cheapest(self, sets: Sequence[tuple[Array, Mapping[Where, Array]]]) -> Array:
        """The least joules of one of each of some sets of holds such that they fit together."""
        best: Any = np.inf
        for n in range(len(sets[0][0])):
            first = sets[0][0][n], {place: words[n] for place, words in sets[0][1].items()}
            total: Any = 0.0
            for joules, _ in (first, *sets[1:]):
                total = total + joules
            for place, room in self.places.items():
                held: Any = 0.0
                for _, words in (first, *sets[1:]):
                    held = held + words.get(place, 0.0)
                total = np.where(held > room, np.inf, total)
            best = np.minimum(best, total.reshape(-1, self.size).min(axis=0))
        return np.asarray(best)


def _beside(some: Sequence[Any], size: int) -> Array:
    """Arrays of so many points beside each other along a new first axis."""
    return np.stack([np.broadcast_to(v, size) for v in some])


def _fewest(words: Iterable[Words]) -> Words:
    """The fewest visits, with the fewest that come again."""
    visits: Any = np.inf
    again: Any = np.inf
    for some in words:
        visits = np.minimum(visits, some.visits)
        again = np.minimum(again, some.visits - some.first)
    return Words(visits, visits, visits - again)
