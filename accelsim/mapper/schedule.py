"""The steady state: by how many steps each Einsum trails, and the buffers that this takes.

In the steady state all units work at once, an Einsum ``lag`` steps behind the
first.  A step is one iteration of the loops that two Einsums share.  What an
Einsum reads must be there:

- a reader on the writer's unit comes after it in the same step, since a unit
  works through its Einsums in text order; it need not trail;
- a reader on another unit trails the writer by at least a step, else the two
  would wait for each other within it;
- the old slot of a recurrence was written as many steps ago as fit between two
  iterations of the loop along it, and the same holds with that many less.

These are difference constraints; the least lags are longest paths, and there
are none where the constraints run in a circle: then that choice of units
cannot overlap (Cormen et al., Introduction to Algorithms, section 24.4).

A tile written ``n`` steps before it is last read is one of ``n + 1`` in flight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from accelsim.ir.cascade import Index, Last
from accelsim.mapper.evaluate import Counts


@dataclass(frozen=True, slots=True)
class After:
    """``reader`` reads in a step what ``writer`` wrote ``steps`` steps before."""

    writer: str
    reader: str
    tensor: str
    steps: int
    apart: bool  # the reader stands outside a loop that the writer is in


def orders(counts: Counts) -> tuple[After, ...]:
    """What must come after what in a frame at one point."""
    cascade, frame = counts.cascade, counts.frame
    makers = {
        w.name: w
        for ws in cascade.writers.values()
        for w in ws
        if w.name in frame.einsums
    }
    found = []
    for reader in frame.einsums:
        for access in dict.fromkeys(cascade.steps[reader].reads):
            along = cascade.iterative.get(access.tensor)
            for writer in makers.values():
                if writer.output.tensor != access.tensor or writer.name == reader:
                    continue
                steps = 0
                if along is not None and _old(cascade.tensors[access.tensor], access.indices, along):
                    steps = _between(counts, writer.name, reader, along)
                apart = len(frame.spots[frame.at[reader]].chain) < len(
                    frame.spots[frame.at[writer.name]].chain
                )
                found.append(After(writer.name, reader, access.tensor, steps, apart))
    return tuple(found)


def _old(ranks: Sequence[str], indices: Sequence[Index | Last], along: str) -> bool:
    """Whether an access reads the slot that the step before wrote."""
    at = indices[ranks.index(along)]
    return isinstance(at, Index) and bool(at.terms) and at.offset == 0


def _between(counts: Counts, writer: str, reader: str, along: str) -> int:
    """Steps between two iterations of the loop along a recurrence."""
    frame = counts.frame
    one, other = (frame.spots[frame.at[e]].chain for e in (writer, reader))
    shared = [a for a, b in zip(one, other, strict=False) if a == b]
    loops = [p for n in shared for p in frame.spots[n].loops]
    at = max(n for n, p in enumerate(loops) if frame.rank[p] == along)
    return int(np.prod([float(counts.trips[p]) for p in loops[at + 1 :]]))


def lags(
    einsums: Sequence[str], found: Sequence[After], unit: Mapping[str, str]
) -> dict[str, int] | None:
    """The least lag of each Einsum; None where the units cannot overlap.

    >>> found = [After("a", "b", "T", 0, False)]
    >>> lags(("a", "b"), found, {"a": "x", "b": "y"})
    {'a': 0, 'b': 1}
    """
    late = dict.fromkeys(einsums, 0)
    for _ in range(len(einsums) + 1):
        settled = True
        for o in found:
            apart = unit[o.writer] != unit[o.reader]
            least = late[o.writer] + apart - o.steps
            if least > late[o.reader]:
                late[o.reader], settled = least, False
        if settled:
            return late
    return None


def in_flight(found: Sequence[After], late: Mapping[str, int]) -> dict[str, int]:
    """For each tensor how many of its tiles are there at once: 1 where nothing trails.

    >>> in_flight([After("a", "b", "T", 0, False)], {"a": 0, "b": 2})
    {'T': 3}
    """
    copies: dict[str, int] = {}
    for o in found:
        if not o.steps:
            copies[o.tensor] = max(copies.get(o.tensor, 1), 1 + late[o.reader] - late[o.writer])
    return copies
