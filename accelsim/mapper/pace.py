"""Time that no mapping of one Einsum is below, by the extents inside all loops of its frame.

Energy is a sum over tensors, but time is that of the busiest port, and what fills
one port less may fill another more.  So a bound that takes the least words of each
tensor by itself is far too low: no order of loops keeps all operands in the PEs.
Here the run of the Einsum and the levels that serve its tensors are the same for
all ports, as they are in a mapping:

- *PEs*: steps of a run follow from the extents inside all loops, and so do words
  that the PEs touch, exactly or at the least (``touched``).
- *holds*: a tensor that a level serves comes into it and leaves it at least once.
  Of the sets of holds that serve it so, each port's words are those of the set that
  brings it the fewest, each tile once: a tile is brought rho times (``chains``),
  and rho is at least 1.

The time of a port is no less than that of these words, and the mapping's no less
than that of its busiest port and of its steps.  So the least over all runs and all
ways to serve the tensors whose innermost tiles fit is below every mapping with
these extents.

*Product.*  So is the least of that time by the joules of the same run with the
tensors served in the same way.  At a point holds take more joules than with every
tile brought once, and those take at least the time of the fastest run: product and
what is more by that time together are below every mapping of the point.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from accelsim.mapper.chains import Chains
from accelsim.mapper.evaluate import BACKING
from accelsim.mapper.nests import Bounded, Order
from accelsim.mapper.short import Array
from accelsim.mapper.space import Space
from accelsim.mapper.touched import Served


@dataclass(frozen=True, slots=True)
class _Port:
    """A port of a level: whether words read and written pass it, and seconds a word."""

    level: int
    reads: float
    writes: float
    seconds: float


class Pace:
    """Bounds on the time of one Einsum in all frames of ``chains``."""

    def __init__(self, chains: Chains) -> None:
        self.chains, self.touched = chains, chains.touched
        self._tables: dict[str, Array] = {}
        self._known: dict[tuple[Served, str], tuple[Array, Array]] = {}

    def of(self, space: Space) -> Array:
        """Seconds that no mapping is below, for every point of a frame's grid.

        The loops of a point all have more than one trip: of others nothing is said.

        >>> from accelsim.explore.map import task_for
        >>> from accelsim.mapper.frame import frame
        >>> task, _ = task_for("matmul", arch="dram-l2-smem-x64", shape="M=64,N=64,K=64")
        >>> pace = Pace(Chains(Space(task, frame(task.cascade, ("C",), ()))))
        >>> f"{pace.of(Space(task, frame(task.cascade, ('C',), ('M', 'N')))).min():.4g}"
        '7.373e-09'
        """
        parts, loops = dict(space.frame.parts), space.frame.spots[-1].path
        at = [
            np.searchsorted(extents, space.counts.full[parts[rank][-1]])
            for rank, extents in self.chains.extents.items()
        ]
        last = space.frame.rank[loops[-1]] if len(space.frame.spots) > 1 else ""
        found = self.seconds(last)[tuple(at)]
        return np.broadcast_to(found, space.grid.shape).ravel()

    def seconds(self, last: str) -> Array:
        """The same by innermost extents, where the last loop is over a rank (none: empty)."""
        if last not in self._tables:
            best: Array = np.full([len(e) for e in self.chains.extents.values()], np.inf)
            for served in self.chains.served:
                best = np.minimum(best, self._figures(served, last)[0])
            self._tables[last] = best
        return self._tables[last]

    def points(self, orders: Sequence[Order], most: float, some: Iterable[Served]) -> Bounded:
        """Points of frames with a bound on seconds by joules of at most so much.

        It is one on mappings that serve the tensors in some of the ways.
        """
        return self.chains.among(orders, {s: self._products(s) for s in some}, most)

    def good(self, most: float) -> tuple[Served, ...]:
        """Ways to serve the tensors of which a bound by innermost extents is somewhere so low."""
        lasts = self.chains.lasts
        return tuple(
            served
            for served in self.chains.served
            if any(self._figures(served, last)[1].min() <= most for last in lasts)
        )

    def lowest(self, served: Served) -> float:
        """Seconds by joules that no mapping is below which serves the tensors so."""
        return self.chains.lowest_of(served, *self._products(served))

    def _products(self, served: Served) -> tuple[Array, Array]:
        """Seconds by joules if the tensors are served so, and seconds that more joules take.

        By the last loop and innermost extents.
        """
        seconds, products = zip(*(self._figures(served, n) for n in self.chains.lasts), strict=True)
        fastest = np.stack(seconds)
        return np.stack(products), np.where(np.isfinite(fastest), fastest, 1.0)

    def _figures(self, served: Served, last: str) -> tuple[Array, Array]:
        """Least seconds, and seconds by joules, if the tensors are served so, by extents."""
        if (served, last) not in self._known:
            seconds = self._served(served, last)
            joules = self.chains.least(served) + self.touched.joules(served, last)
            shape = [len(e) for e in self.chains.extents.values()]
            crowded = self.chains.crowded(served)
            one, two = (
                np.broadcast_to(np.where(crowded, np.inf, some.min(axis=0)), shape)
                for some in (seconds, seconds * joules)
            )
            self._known[served, last] = one, two
        return self._known[served, last]

    def _served(self, served: Served, last: str) -> Any:
        """Seconds of each run where the tensors are served so."""
        longest = self.touched.cycles / self.chains.task.arch.clock_hz
        for n, port in enumerate(self._ports):
            total: Any = sum(self._held[at, level][n] for at, level in enumerate(served))
            for at, (use, level) in enumerate(zip(self.touched.uses, served, strict=True)):
                if level == port.level:
                    words = self.touched.visits(at, not last or last in use.needs)
                    again = words - self.touched.words[at] if use.writes else words
                    passing = port.reads * again + (port.writes * words if use.writes else 0.0)
                    total = total + passing * port.seconds
            longest = np.maximum(longest, total)
        return longest

    @cached_property
    def _ports(self) -> list[_Port]:
        """Ports of all levels that state a bandwidth."""
        arch = self.chains.task.arch
        return [
            _Port(n, reads, writes, arch.word_bytes / rate)
            for n, level in enumerate(arch.levels)
            for reads, writes, rate in (
                (1.0, 1.0, level.bandwidth),
                (1.0, 0.0, level.read_bandwidth),
                (0.0, 1.0, level.write_bandwidth),
            )
            if math.isfinite(rate)
        ]

    @cached_property
    def _held(self) -> dict[tuple[int, int], list[float]]:
        """For each tensor and level that serves it seconds of fills and drains at every port."""
        found: dict[tuple[int, int], list[float]] = {}
        for n, (use, words) in enumerate(zip(self.touched.uses, self.touched.words, strict=True)):
            for some in self.chains.levels_of(use):
                reads, writes = dict[int, float](), dict[int, float]()
                for outer, level in zip((BACKING, *some), some, strict=False):
                    out, into = (level, outer) if use.writes else (outer, level)
                    reads[out] = reads.get(out, 0.0) + words
                    writes[into] = writes.get(into, 0.0) + words
                here = [
                    (p.reads * reads.get(p.level, 0.0) + p.writes * writes.get(p.level, 0.0))
                    * p.seconds
                    for p in self._ports
                ]
                key = n, some[-1] if some else BACKING
                found[key] = [min(a, b) for a, b in zip(here, found.get(key, here), strict=True)]
        return found
