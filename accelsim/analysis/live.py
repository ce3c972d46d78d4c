"""Room in which a cascade touches memory once: every input read once, every output written once.

``footprint`` says what one point in flight needs (one query of attention).
But an input that lacks a rank in flight (keys know no query) would come again
for each of its points.  So either all points of that rank are in flight at
once, and the input streams by once, or the input is kept whole.  Each such
rank has this choice; the least room counts.  Ranks in flight that every
streamed input has (batch, head) come one point after the other.

It suffices by construction.  That it is necessary is not claimed: an input may
be kept in part, and values may be computed again (``traffic`` bounds what any
schedule must move).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from accelsim.analysis.footprint import Footprint, footprint
from accelsim.ir.cascade import Cascade


@dataclass(frozen=True, slots=True)
class Once:
    """The least room to touch memory once: words, and how, in words."""

    words: int
    keeps: str
    footprint: Footprint


def once(cascade: Cascade, sizes: Mapping[str, int]) -> Once:
    """The room at given sizes of ranks and parts.

    >>> from accelsim.ir.cascade import Access, Einsum, Index, Map, Reduction, Tensor
    >>> m = Index((("m", 1),))
    >>> x, g, y = Access("X", (m,)), Access("G"), Access("Y", (m,))
    >>> total = Einsum(g, x, (Reduction("sum", ("m",)),))
    >>> share = Einsum(y, Map("div", (x, g)))
    >>> c = Cascade("share", ("M",), (Tensor("X", ("M",)),), (total, share), ("Y",))
    >>> found = once(c, {"M": 100})
    >>> found.words, found.keeps
    (102, 'one point in flight')
    """
    found = footprint(cascade)
    own = set(cascade.parts[cascade.whole.get(found.streamed, found.streamed)])
    streamed = [t.name for t in cascade.inputs if own & set(cascade.tensors[t.name])]
    lacking = [
        r for r in found.in_flight if any(r not in cascade.tensors[name] for name in streamed)
    ]
    always = set(found.in_flight) - set(lacking)
    options = []
    for bits in range(1 << len(lacking)):
        single = {r for n, r in enumerate(lacking) if bits >> n & 1}
        together = [r for r in lacking if r not in single]
        kept = [name for name in streamed if single - set(cascade.tensors[name])]
        words = found.words(sizes, {r: sizes[r] for r in together})
        words += sum(prod(sizes[r] for r in cascade.tensors[n] if r not in always) for n in kept)
        keeps = f"all of {', '.join(together)} in flight" if together else "one point in flight"
        options.append(
            Once(words, f"{', '.join(kept)} kept whole, {keeps}" if kept else keeps, found)
        )
    return min(options, key=lambda o: o.words)
