"""Finding the better cascade: from a document to the texts of what was derived from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.ir.cascade import Cascade
from accelsim.ir.show import show
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade

if TYPE_CHECKING:
    from accelsim.analysis.rewrite.derive import Derivation, Derived


@dataclass(frozen=True, slots=True)
class Found:
    """What ``derive`` answers: better cascades, best first, with their texts."""

    derivation: Derivation
    texts: tuple[str, ...]

    @property
    def says(self) -> str:
        """The answer in a sentence."""
        name, found = self.derivation.original.name, self.derivation.found
        if not found:
            return f"nothing better than {name} was found: {self._why_not()}"
        best = _number(found[0].passes.by_rank, found[0].cascade)
        passes = f"{best} pass{'' if best == 1 else 'es'}"
        kind = "" if found[0].stable else ", not stable"
        return f"{len(found)} better than {name}, the best with {passes}{kind}"

    def _why_not(self) -> str:
        found = self.derivation.passes
        again = [r for r in self.derivation.original.ranks if found[r] > 1]
        if not again:
            return "it visits every rank once"
        return f"no rewrite takes away a pass over {' or '.join(again)}"

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim derive``."""
        original = self.derivation.original
        pairs = zip(self.derivation.found, self.texts, strict=True)
        return {
            "cascade": original.name,
            "passes": _number(self.derivation.passes.by_rank, original),
            "says": self.says,
            "found": [_entry(d, text) for d, text in pairs],
        }


def derive(cascade: str | Path) -> Found:
    """Cascades that equal a given one and are better, found by algebra and confirmed by execution.

    Best first: by passes, what is stable before what is not, then by live
    footprint, then by operations.

    >>> found = derive("attention-3pass").derivation.found
    >>> found[0].passes["M1"], found[0].stable
    (1, True)
    """
    from accelsim.analysis.rewrite.derive import derive as search

    original = load_cascade(cascade)
    derivation = search(original)
    texts = (show(_named(d, original, n)) for n, d in enumerate(derivation.found, 1))
    return Found(derivation, tuple(texts))


def _named(derived: Derived, original: Cascade, number: int) -> Cascade:
    """The derived cascade under a name of its own, held to what the original equals."""
    shipped = catalog.names("cascade")
    equals = original.equals or (original.name if original.name in shipped else "")
    return replace(derived.cascade, name=f"{original.name}-derived-{number}", equals=equals)


def _entry(d: Derived, text: str) -> dict[str, Any]:
    """One entry of ``found``.  ``passes``: the most over a declared rank; then rank by rank."""
    from accelsim.analysis.footprint import footprint

    return {
        "passes": _number(d.passes.by_rank, d.cascade),
        "passes_by_rank": {r: n if math.isfinite(n) else None for r, n in d.passes.by_rank.items()},
        "rewrites": list(d.rewrites),
        "stable": d.stable,
        "unstable": d.unstable,
        "max_abs_error": d.max_abs_error,
        "live": footprint(d.cascade).formula,
        "text": text,
    }


def _number(by_rank: dict[str, float], cascade: Cascade) -> float | None:
    most = max((by_rank[r] for r in cascade.ranks), default=1)
    return most if math.isfinite(most) else None
