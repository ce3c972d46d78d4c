"""The steady state: how a group's Einsums overlap, and the buffers that this takes.

A group runs in one of three ways.

- *together*: in one stage, all units at once.  Its time is that of the busiest
  unit.
- *by segment*: the spot where a frame first parts into several children runs
  them one after the other, a stage each; units overlap within a stage.
- *in turns*: one unit at a time.

What an Einsum reads must be there.  Let a reader and the writer of what it
reads share the loops down to a spot, and call an iteration of these a step.

- If both stand in that spot itself and on one unit, the reader comes after the
  writer in the same step: a unit works through its Einsums in text order.
- Else, where the two overlap, the reader trails the writer by a step: on two
  units they would otherwise wait for each other, and of two loops side by side
  the second would run before the first is done.
- The old slot of a recurrence was written as many steps ago as fit between two
  iterations of the loop along it, so a reader of it may be that much earlier.

These are difference constraints, at each spot among the pairs that part there;
the least lags are longest paths, and there are none where the constraints run
in a circle: then the units cannot overlap so (Cormen et al., Introduction to
Algorithms, section 24.4).  A tile written ``n`` steps before it is last read is
one of ``n + 1`` that are in flight.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from accelsim.ir.cascade import Index, Position
from accelsim.mapper.evaluate import Counts
from accelsim.mapper.frame import Frame

TOGETHER: Final = "together"
BY_SEGMENT: Final = "by segment"
IN_TURNS: Final = "in turns"
WAYS: Final = (TOGETHER, BY_SEGMENT, IN_TURNS)

#: For each spot by how many of its steps each Einsum trails.
Trail: TypeAlias = Mapping[int, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class After:
    """``reader`` reads in a step what ``writer`` wrote ``steps`` steps before.

    ``spot`` is the last that encloses both; ``apart``: not both stand in that
    spot itself.
    """

    writer: str
    reader: str
    tensor: str
    steps: Any
    spot: int
    apart: bool

    @property
    def old(self) -> bool:
        """Whether the reader reads the slot of a recurrence that the step before wrote."""
        return bool(np.any(self.steps))


def segments(frame: Frame) -> tuple[tuple[str, ...], ...]:
    """Einsums of each child of the spot where a frame first parts into several, or all in one.

    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.mapper.frame import frame
    >>> c = load_cascade("attention-3pass")
    >>> segments(frame(c, tuple(c.steps), ("P", "M")))
    (('QK', 'GM'), ('SN', 'SD'), ('A', 'AV'))
    """
    spot = branching(frame)
    if spot is None:
        return (frame.einsums,)
    found: list[list[str]] = []
    alone = False
    for child in frame.children[spot]:
        if isinstance(child, int):
            found.append([e for e in frame.einsums if child in frame.spots[frame.at[e]].chain])
            alone = False
        elif alone:
            found[-1].append(child)
        else:
            found.append([child])
            alone = True
    return tuple(tuple(some) for some in found)


def branching(frame: Frame) -> int | None:
    """The first spot with several children of which one is a spot; None if there is none."""
    spot = 0
    while True:
        inside = [c for c in frame.children[spot] if isinstance(c, int)]
        if not inside:
            return None
        if len(frame.children[spot]) > 1:
            return spot
        spot = inside[0]


def orders(counts: Counts) -> tuple[After, ...]:
    """What must come after what in a frame at one point."""
    cascade, frame = counts.cascade, counts.frame
    found = []
    for reader in frame.einsums:
        for access in dict.fromkeys(cascade.steps[reader].reads):
            along = cascade.iterative.get(access.tensor)
            for made in cascade.writers.get(access.tensor, ()):
                writer = made.name
                if writer not in frame.einsums or writer == reader:
                    continue
                one, other = frame.spots[frame.at[writer]], frame.spots[frame.at[reader]]
                shared = [a for a, b in zip(one.chain, other.chain, strict=False) if a == b]
                apart = not len(one.chain) == len(other.chain) == len(shared)
                steps: Any = 0
                ranks = cascade.tensors[access.tensor]
                if along is not None and _old(ranks, access.indices, along):
                    steps = _between(counts, shared, along)
                found.append(After(writer, reader, access.tensor, steps, shared[-1], apart))
    return tuple(found)


def _old(ranks: Sequence[str], indices: Sequence[Position], along: str) -> bool:
    """Whether an access reads the slot that the step before wrote."""
    at = indices[ranks.index(along)]
    return isinstance(at, Index) and bool(at.terms) and at.offset == 0


def _between(counts: Counts, shared: Sequence[int], along: str) -> Any:
    """Steps of the shared loops between two iterations of the loop along a recurrence."""
    frame = counts.frame
    loops = [p for n in shared for p in frame.spots[n].loops]
    at = max(n for n, p in enumerate(loops) if frame.rank[p] == along)
    return counts.fewest(loops[at + 1 :])


def lags(
    frame: Frame, found: Sequence[After], unit: Mapping[str, Sequence[str]], way: str
) -> dict[int, dict[str, int]] | None:
    """For each spot by how many of its steps each Einsum trails; None where they cannot.

    ``unit`` gives each Einsum the units it may have; where two may have the same
    one they need not wait, so with several each the lags are the least.

    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.mapper.frame import frame
    >>> both = frame(load_cascade("attention-3pass"), ("QK", "GM"), ("P",))
    >>> lags(both, [After("QK", "GM", "QK", 0, 1, False)], {"QK": ["a"], "GM": ["b"]}, TOGETHER)
    {1: {'QK': 0, 'GM': 1}}
    """
    if way == IN_TURNS:
        return {}
    free = branching(frame) if way == BY_SEGMENT else None
    trail: dict[int, dict[str, int]] = {}
    for spot in dict.fromkeys(o.spot for o in found):
        late = dict.fromkeys(frame.einsums, 0)
        for _ in range(len(late) + 1):
            settled = True
            for o in found:
                if o.spot != spot and o.old:
                    continue
                waits = o.spot == spot and (o.apart or not _meet(unit[o.writer], unit[o.reader]))
                least = late[o.writer] + (waits and spot != free) - int(o.steps)
                if least > late[o.reader]:
                    late[o.reader], settled = least, False
            if settled:
                break
        else:
            return None
        trail[spot] = late
    return trail


def _meet(some: Sequence[str], others: Sequence[str]) -> bool:
    return any(one in others for one in some)


def in_flight(
    counts: Counts, family: Container[str], spot: int, found: Sequence[After], trail: Trail
) -> Any:
    """Tiles that are there at once of tensors in one room, held at a spot.

    From the first writer to the last reader.  A tile that covers several steps
    of the loops that writer and reader share takes that many in at once.
    """
    return flights(counts, family, spot, found, (trail,))[0]


def flights(
    counts: Counts,
    family: Container[str],
    spot: int,
    found: Sequence[After],
    trails: Sequence[Trail],
) -> list[Any]:
    """``in_flight`` for each of several lags."""
    frame = counts.frame
    inside = [
        o
        for o in found
        if o.tensor in family
        and not o.old
        and all(spot in frame.spots[frame.at[e]].chain for e in (o.writer, o.reader))
    ]
    covered: dict[int, Any] = {}
    for o in inside:
        steps = _steps_of_a_tile(counts, spot, o)
        covered[o.spot] = np.minimum(covered.get(o.spot, np.inf), steps)
    most: list[Any] = []
    for trail in trails:
        here: Any = np.float64(1.0)
        for at, late in trail.items():
            if at in covered:
                ends = max(late[o.reader] for o in inside) - min(late[o.writer] for o in inside)
                here = np.maximum(here, np.ceil((1 + ends) / covered[at]))
        most.append(here)
    return most


def _steps_of_a_tile(counts: Counts, spot: int, o: After) -> Any:
    """Steps of the loops that writer and reader share which one tile at a spot covers."""
    frame = counts.frame
    path = frame.spots[spot].path
    tile = {r for u in counts.uses[o.tensor] if u.writes for r in u.tile}
    loops = (p for p in frame.spots[o.spot].path if p not in path)
    return counts.fewest(p for p in loops if frame.rank[p] in tile)
