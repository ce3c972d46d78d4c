"""The published evaluations that ``validate`` knows, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from accelsim.errors import one_of, refuse
from accelsim.explore.validate import Validation, validate_fusemax
from accelsim.explore.validate_published import validate_published

EVALUATIONS: Final[dict[str, Callable[[], Validation]]] = {
    "fusemax": validate_fusemax,
    "published": validate_published,
}


def validate(what: str = "fusemax") -> Validation:
    """Predictions beside what was published: error by row, mean, maximum, and whether it holds.

    >>> validate("fusemax").holds
    True
    """
    if what not in EVALUATIONS:
        raise refuse(f"no evaluation {what!r}", one_of([*EVALUATIONS, "gpu"]))
    return EVALUATIONS[what]()
