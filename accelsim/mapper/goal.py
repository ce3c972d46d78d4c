"""What a search minimises: latency, energy, or their product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from accelsim.errors import one_of, refuse

OBJECTIVES: Final = ("latency", "energy", "edp")
#: Two figures closer than this share of each other are equal.
EQUAL: Final = 1e-12

#: What is minimised first, and what tells equals apart.
Figures: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Goal:
    """An objective; equals are told apart by energy (by latency, where energy is the objective)."""

    name: str

    def value(self, latency_s: Any, energy_j: Any) -> tuple[Any, Any]:
        """First and second figure to minimise; arrays give arrays.

        >>> Goal("edp").value(2.0, 3.0)
        (6.0, 2.0)
        """
        if self.name == "latency":
            return latency_s, energy_j
        if self.name == "energy":
            return energy_j, latency_s
        return latency_s * energy_j, latency_s


def goal(name: str) -> Goal:
    """The objective of a name.  Raises InputError for an unknown one.

    >>> goal("latency").name
    'latency'
    """
    if name not in OBJECTIVES:
        raise refuse(f"no objective '{name}'", one_of(OBJECTIVES))
    return Goal(name)


def better(one: Figures, other: Figures) -> bool:
    """Whether figures are less, the second counting where the first are equal up to rounding.

    >>> better((1.0, 5.0), (1.0 + 1e-15, 6.0)), better((1.0, 5.0), (1.0, 5.0))
    (True, False)
    """
    if one[0] < other[0] * (1 - EQUAL):
        return True
    return one[0] <= other[0] * (1 + EQUAL) and one[1] < other[1] * (1 - EQUAL)
