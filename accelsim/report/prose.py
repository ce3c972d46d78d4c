"""Results that read best as sentences.  As in ``report.tables``, from the ``--json`` object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def passes(result: Mapping[str, Any]) -> str:
    """Ranks with more than one pass and the chain that forces each, then all the others.

    >>> why = {"M": ["pass 2: Y visits X again"], "E": []}
    >>> print(passes({"cascade": "share", "passes": {"M": 2, "E": 1}, "why": why}))
    share
      2 passes over M
        pass 2: Y visits X again
      1 pass over E
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for rank in result["passes"]:
        alike.setdefault(tuple(result["why"][rank]), []).append(rank)
    lines = [result["cascade"]]
    for steps, ranks in sorted(alike.items(), key=lambda item: not item[0]):
        number = result["passes"][ranks[0]]
        count = "unbounded" if number is None else str(number)
        noun = "pass" if number == 1 else "passes"
        lines.append(f"  {count} {noun} over {', '.join(ranks)}")
        lines += [f"    {step}" for step in steps]
    return "\n".join(lines)


def check(result: Mapping[str, Any]) -> str:
    """Whether a cascade is what it says it equals, with the error and the sizes tried.

    >>> tried = {"sizes": {"M": 4}, "seed": 0, "max_abs_error": 2.2e-16}
    >>> print(check({"cascade": "a", "equals": "attention", "equal": True, **tried}))
    a equals attention: largest absolute error 2.2e-16
      tried with M=4, seed 0
    """
    verb = "equals" if result["equal"] else "DOES NOT EQUAL"
    error = result["max_abs_error"]
    sizes = ", ".join(f"{rank}={size}" for rank, size in result["sizes"].items())
    return (
        f"{result['cascade']} {verb} {result['equals']}: "
        f"largest absolute error {'unbounded' if error is None else f'{error:.2g}'}\n"
        f"  tried with {sizes}, seed {result['seed']}"
    )
