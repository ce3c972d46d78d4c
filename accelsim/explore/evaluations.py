"""The published evaluations that ``validate`` knows, by name."""

from __future__ import annotations

from pathlib import Path

from accelsim.errors import Place, one_of, refuse
from accelsim.explore.validate import Validation, validate_fusemax
from accelsim.explore.validate_published import Published, validate_published

#: What is confronted with what was published.
EVALUATIONS = ("fusemax", "published")


def validate(what: str = "fusemax", paper: str | Path | None = None) -> Validation | Published:
    """Predictions beside what was published: error by row, mean, maximum, and whether it holds.

    ``paper`` narrows ``published`` to one of the forty papers, or to a file of rows of your own.

    >>> validate("fusemax").holds, validate("published", "s2-attention").holds
    (True, True)
    """
    if what not in EVALUATIONS:
        raise refuse(f"no evaluation {what!r}", one_of([*EVALUATIONS, "gpu"]))
    if what == "published":
        return validate_published(paper)
    if paper is not None:
        raise refuse(f"a paper for {what}", "validate published --paper NAME", Place("--paper"))
    return validate_fusemax()
