"""Derived cascades for people, from the ``--json`` object of ``derive``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def derive(result: Mapping[str, Any]) -> str:
    """What was found in a sentence, each cascade with its rewrites, and the text of the best.

    >>> print(derive({"says": "nothing better than x was found", "found": []}))
    nothing better than x was found
    """
    lines = [result["says"]]
    for number, entry in enumerate(result["found"], 1):
        lines += ["", f"{number}. {_passes(entry)}, {_stable(entry)}"]
        lines += [f"   - {rewrite}" for rewrite in entry["rewrites"]]
        lines.append(f"   equal to the original within {entry['max_abs_error']:.1g} in float64")
        lines.append(f"   live on chip: {entry['live']}")
    if result["found"]:
        lines += ["", result["found"][0]["text"].rstrip()]
    return "\n".join(lines)


def _passes(entry: Mapping[str, Any]) -> str:
    """Ranks that are visited more than once, and how often.

    >>> _passes({"passes_by_rank": {"M": 1, "M1": 1, "M0": 2}})
    '1 pass over M, M1, 2 passes over M0'
    """
    alike: dict[int | None, list[str]] = {}
    for rank, number in entry["passes_by_rank"].items():
        alike.setdefault(number, []).append(rank)
    return ", ".join(
        f"{'unbounded' if number is None else number} pass{'' if number == 1 else 'es'} "
        f"over {', '.join(ranks)}"
        for number, ranks in alike.items()
    )


def _stable(entry: Mapping[str, Any]) -> str:
    return "stable" if entry["stable"] else f"UNSTABLE ({entry['unstable']})"
