"""A mapping as a program: step loops, tasks of each step, tiles that come and go, waits.

Within a step (see ``sim.nest``) every Einsum is one *task* of whole cycles on
its unit.  Words move in three ways:

- a *buffer* is a tile that is filled from further out and drained back: its
  copies are slots; a fill starts when a slot is free, whatever else runs.  An
  operand that streams from the backing level without being held is a buffer
  of two slots, a step's words each; so is a result that streams out.
- a *flow* is what a task's array reads and writes at levels on chip while it
  runs; the task takes at least as long as the ports need.
- everything else stays where it is.

A tile finer than a step is a buffer that holds a step's words at a time: with
one copy it is filled, used and drained in turn, with two it overlaps.  Where
Einsums take turns within a step (``sim.cuts``), it holds those of a turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from accelsim.errors import Place
from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Loop
from accelsim.sim.short import Length
from accelsim.sim.tiles import Round, Visits

#: For each loop around a task the coordinate of its part, or several.
Fixed: TypeAlias = Mapping[str, int | range]
#: Slots of a stream that no level holds: one in use, one on its way.
STREAM_SLOTS = 2
#: How the name of a source that is a tile begins.
TILE = "tile "


class Way(NamedTuple):
    """Words that pass a level: which of a visit's ("met", "again" or "fresh"), bytes of each."""

    level: str
    which: str
    writes: bool
    word_bytes: float


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """Words of one tensor that a task's array reads or writes on chip in each step."""

    tensor: str
    visits: Visits
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """A tile with slots; ``depth`` step loops are around it.

    ``sources`` are what a fill waits for besides its slot: buffers (by number)
    that drain what it brings back, Einsums that make it on chip, or the buffer
    around it (see ``tile_of``), whose tile must be there; a tile is filled when
    they have done with all steps before its own first step plus ``ahead``.
    ``hold`` and ``outside`` identify its hold and the one that it fills from, 0
    for none.  ``writers`` are the users behind the last of which it drains;
    its slot is free when all others are done, too.  ``guests`` are the users
    that only share its room: they keep its slot from the next tile, but need
    not wait for this one.
    Its steps may come in so many ``turns``, each with its share of the words;
    with ``by_step`` all turns of a step wait for the same of their sources.
    Of so many tiles of a step that it ``leaves`` behind one another all but the last
    do so while they are written.
    ``slot_bytes`` is its room in ``level`` for each tile, 0 where room is laid
    out once for the whole group.  ``lead``: cycles that those take that are
    filled from its tile, which is due by so much earlier.
    It is a ``copy`` where its users read nothing but it once it has come, all of it at once,
    and nobody else has its room.
    ``onto``: users that read nothing of its tile but what another buffer is filled with
    from it, each with that buffer; they are done with it when that has come.
    """

    tensor: str
    level: str
    outer: str
    copies: int
    depth: int
    visits: Visits
    fill: tuple[Way, ...]
    drain: tuple[Way, ...]
    users: tuple[str, ...]
    slot_bytes: float = 0.0
    sources: tuple[int | str, ...] = ()
    ahead: int = 0
    hold: int = 0
    outside: int = 0
    writers: frozenset[str] = frozenset()
    guests: frozenset[str] = frozenset()
    turns: int = 1
    by_step: bool = True
    leaves: int = 1
    lead: int = 0
    copy: bool = False
    onto: Mapping[str, int] = field(default_factory=dict)

    @property
    def holders(self) -> tuple[str | int, ...]:
        """Who keeps its tile: users that work on it, and buffers that are filled from it."""
        return tuple(dict.fromkeys(self.onto.get(e, e) for e in self.users))

    @property
    def made(self) -> bool:
        """Whether what fills it is made in this group."""
        return any(isinstance(s, int) or not s.startswith(TILE) for s in self.sources)

    @property
    def cause(self) -> str:
        """Why a task waits for it."""
        comes = any(way.which == "met" for way in self.fill)
        slots = ", held once" if self.copies == 1 else ""
        return f"{self.outer}: waits for {self.tensor}{'' if comes else ' to drain'}{slots}"


class Pair(NamedTuple):
    """Two Einsums side by side: the ``second`` reads what the ``first`` makes, tile by tile.

    One tile of the faster takes ``lead`` cycles.
    """

    first: str
    second: str
    lead: int

    @property
    def both(self) -> tuple[str, str]:
        """Their names."""
        return self.first, self.second

    def other(self, einsum: str) -> str:
        """The one beside an Einsum."""
        return self.second if einsum == self.first else self.first


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One Einsum in one step, ``lag`` iterations late; see ``nest.Work`` for depth and side.

    ``length`` gives the cycles where they differ from step to step.  It is one
    ``turn`` of those that a step has, an iteration of ``loops`` inside it, and
    waits until some others have done so many turns in the same iteration.  If
    nothing else keeps it, it begins so many cycles after its iteration.  The two
    of a pair begin together, and end when both are done and the lead has passed.
    Tiles of some buffers pass its ports before it begins: it ``yields`` to them.
    What it overwrites has been ``copied`` to some buffers so many ticks before its step.
    """

    einsum: str
    unit: str
    cycles: int
    lag: int
    depth: int
    side: str
    flows: tuple[Flow, ...]
    buffers: tuple[int, ...]
    waits: tuple[tuple[str, int], ...]
    place: Place
    length: Length | None = None
    turn: int = 0
    loops: tuple[Round, ...] = ()
    begin: int = 0
    pair: Pair | None = None
    yields: frozenset[int] = frozenset()
    copied: tuple[tuple[int, int], ...] = ()

    @property
    def turns(self) -> int:
        """Turns in a step: iterations of loops inside it."""
        return math.prod(loop.trips for loop in self.loops)

    @property
    def last(self) -> bool:
        """Whether a step ends with it."""
        return self.turn == self.turns - 1


def share(amount: int, turn: int, turns: int) -> int:
    """What one of several turns takes of a whole number.

    >>> [share(10, turn, 3) for turn in range(3)]
    [3, 3, 4]
    """
    return amount * (turn + 1) // turns - amount * turn // turns


class Wait(NamedTuple):
    """A stall of the schedule: cycles at the end of a stage whenever its Einsum runs, and why."""

    einsum: str
    cycles: int
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """For each unit its tasks in order, and the waits at the end."""

    units: tuple[tuple[str, tuple[Task, ...]], ...]
    waits: tuple[Wait, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """One group: its step loops (outermost first), stages, buffers, and room laid out.

    Steps are counted in so many ``ticks`` each, so that each turn ends at one:
    so are ``bodies``, lags, and how far buffers are ahead.
    """

    name: str
    steps: tuple[Loop, ...]
    bodies: tuple[int, ...]
    stages: tuple[Stage, ...]
    buffers: tuple[Buffer, ...]
    laid_bytes: dict[str, float]
    fill_cycles: int
    ticks: int = 1

    @property
    def count(self) -> int:
        """All steps."""
        return self.bodies[0] // self.ticks

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks, in order of stages and units."""
        return tuple(t for s in self.stages for _, ts in s.units for t in ts)


def tile_of(number: int) -> str:
    """The source that a buffer's tile is for the buffers inside it.

    >>> tile_of(3)
    'tile 3'
    """
    return f"{TILE}{number}"


def ways_words(which: str, met: int, again: int) -> int:
    """The words of a visit that a way takes.

    >>> ways_words("met", 5, 2), ways_words("again", 5, 2), ways_words("fresh", 5, 2)
    (5, 2, 3)
    """
    return {"met": met, "again": again, "fresh": met - again}[which]


def rates(arch: Architecture) -> Mapping[tuple[str, str], float]:
    """Bytes a cycle of every port: (level, "" or "read" or "write"), those with a limit.

    >>> from accelsim.ir.arch import Level
    >>> rates(Architecture("a", 10.0, 1.0, (Level("dram", bandwidth=40.0), Level("l1")), ()))
    {('dram', ''): 4.0}
    """
    found = {}
    for level in arch.levels:
        for port, rate in (
            ("", level.bandwidth),
            ("read", level.read_bandwidth),
            ("write", level.write_bandwidth),
        ):
            if math.isfinite(rate):
                found[level.name, port] = rate / arch.clock_hz
    return found
