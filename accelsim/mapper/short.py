"""What average trips do not say of ranks whose last tile is short."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Trips: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Short:
    """What average trips do not say of ranks whose last tile is short (``cuts``).

    ``full`` are the trips of their parts in full tiles and ``last`` those in the last
    one, of the innermost ones the elements; ``tiles`` gives of each innermost part how
    many of its tiles there are; ``sizes`` are those of the ranks, by all their parts.
    """

    full: Trips
    last: Trips
    tiles: Trips
    sizes: Mapping[tuple[str, ...], int]

    def at(self, chosen: Callable[[Any], Any]) -> Short:
        """The same with some of the mappings chosen from each array."""
        full, last, tiles = (
            {p: chosen(v) for p, v in some.items()} for some in (self.full, self.last, self.tiles)
        )
        return Short(full, last, tiles, self.sizes)

    def rounds(self, part: str, side: int) -> Any:
        """Rounds in time of an innermost part over a side, on the average of its tiles."""
        full, tiles, last = self.full[part], self.tiles[part], self.last[part]
        many = np.ceil(full / np.minimum(full, side)) * (tiles - 1)
        return (many + np.ceil(last / np.minimum(last, side))) / tiles

    def family(self, part: str) -> tuple[str, ...]:
        """All parts of the rank with a short last tile that a part is one of; none of others."""
        return next((parts for parts in self.sizes if part in parts), ())

    def spreads(self, part: str, own: Sequence[str], trips: Trips) -> Any:
        """Whether an Einsum with several parts of a rank in its own hands may spread one.

        ``own`` are these parts, outermost first.  Rounds of what is spread stand outside
        the Einsum's own loops, so that a short last tile would be taken out of order.  It
        may where all tiles are full, and the innermost part where the others have one trip.
        """
        whole: Any = np.bool_(True)
        alone: Any = np.bool_(part == own[-1])
        for one in own:
            whole = whole & (self.full[one] == trips[one])
        for one in own[:-1]:
            alone = alone & (self.full[one] == 1)
        return whole | alone
