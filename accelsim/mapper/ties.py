"""Mappings of equal energy: prices under which only those that are faster as well are cheaper.

A mapping whose time is that of a level's port is no faster than another unless
fewer words pass that port.  Let every word that does cost ``mu`` times the
seconds that it takes there as well.  A mapping that takes no more joules than
one known, and less time, then takes less in all than the known one: less time
means fewer seconds at that port.  And if what is added to a word is at most the
share ``MORE`` of its joules, no mapping takes more than that share more in all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from accelsim.mapper.evaluate import Counts, Keep, Moved
from accelsim.mapper.point import Choice
from accelsim.mapper.touched import Prices

#: The share by which a word's joules are raised at the most.
MORE: Final = 1e-4
#: A mapping that is faster by a smaller share is as fast.
FASTER: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Dearer:
    """Prices of words with a known mapping's busiest port made dearer.

    ``most``: joules in all that every mapping is below which takes no more joules
    than the known one and is faster by the share ``FASTER``.
    """

    prices: Prices
    most: float


def dearer(choice: Choice) -> Dearer | None:
    """Prices that tell ties with a mapping apart; None where no port takes all of its time.

    Nor are there any where words that pass the port cost nothing.

    >>> from accelsim.explore.map import map_
    >>> found = map_("matmul", arch="dram-l2-smem-x64", shape="M=64,N=64,K=64", objective="energy")
    >>> other = dearer(found.result.choices[0])
    >>> [f"{read:.6e}" for read, _ in other.prices]
    ['3.200000e-11', '4.000000e-12', '4.000400e-13']
    """
    task = choice.space.task
    port = _busiest(choice)
    if port is None:
        return None
    level, seconds = port
    prices = task.word_joules[level]
    mu = min(MORE * j / s if s else math.inf for j, s in zip(prices, seconds, strict=True))
    if not 0 < mu < math.inf:
        return None
    more = tuple(j + mu * s for j, s in zip(prices, seconds, strict=True))
    found = (*task.word_joules[:level], (more[0], more[1]), *task.word_joules[level + 1 :])
    return Dearer(found, choice.energy_j + mu * choice.latency_s * (1 - FASTER))


def _busiest(choice: Choice) -> tuple[int, tuple[float, float]] | None:
    """The level whose port takes all of a mapping's time, and its seconds a word read, written."""
    arch, moved = choice.space.arch, _moved(choice)
    for n, level in enumerate(arch.levels):
        ports = (
            (1, 1, level.bandwidth),
            (1, 0, level.read_bandwidth),
            (0, 1, level.write_bandwidth),
        )
        for reads, writes, rate in ports:
            each = arch.word_bytes / rate
            words = reads * moved.reads[n] + writes * moved.writes[n]
            if words * each >= choice.latency_s * (1 - FASTER / 2):
                return n, (reads * each, writes * each)
    return None


def _moved(choice: Choice) -> Moved:
    """Words moved at every level by a mapping."""
    space = choice.space
    counts = choice.counts
    if counts is None:
        trips = {part: np.asarray(float(n)) for part, n in choice.trips.items()}
        counts = Counts(space.cascade, space.frame, space.arch, trips)
    none = (0.0,) * counts.levels
    total = Moved(none, none)
    for tensor, uses in counts.uses.items():
        keeps: list[Keep] = [k.keep for k in choice.kept if k.tensor == tensor]
        keeps.sort(key=lambda k: k.level)
        total = total + counts.moves(tensor, keeps)
        for use in uses:
            words = counts.leaf(use, choice.runs[use.einsum].spread)
            total = total + counts.touches(use, words, counts.serves(tensor, keeps, use.spot))
    return total
