"""``compare``: designs by workloads, speedup and energy against a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from accelsim.errors import refuse
from accelsim.explore.estimate import estimate
from accelsim.load.design import load_design
from accelsim.models.estimate import Estimate

#: The design that maps an encoder's linear layers, on whatever machine a design names.
LINEAR = "linear-layers"


@dataclass(frozen=True, slots=True)
class Row:
    """One design on one workload; speedup and energy ratio are against the baseline's row."""

    design: str
    model: str
    seq: str
    latency_s: float
    energy_j: float
    speedup: float
    energy_ratio: float
    utilisation: dict[str, float]
    bound_by: str

    def to_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows of designs by workloads; ``linear`` says that linear layers are included."""

    baseline: str
    linear: bool
    rows: tuple[Row, ...]

    def averages(self) -> dict[str, dict[str, float]]:
        """Arithmetic means over workloads of the ratios, by design."""
        found: dict[str, dict[str, float]] = {}
        for design in dict.fromkeys(r.design for r in self.rows):
            own = [r for r in self.rows if r.design == design]
            found[design] = {
                "speedup": sum(r.speedup for r in own) / len(own),
                "energy_ratio": sum(r.energy_ratio for r in own) / len(own),
            }
        return found

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim compare``."""
        return {
            "baseline": self.baseline,
            "linear": self.linear,
            "rows": [r.to_dict() for r in self.rows],
            "averages": self.averages(),
        }


@dataclass(frozen=True, slots=True)
class Whole:
    """A design on a workload: its estimate of attention, and totals with linear layers if asked."""

    attention: Estimate
    latency_s: float
    energy_j: float


def whole(
    design: str, model: str, seq: int | str, linear: bool, sets: Iterable[str], physical: bool
) -> Whole:
    """A design on a workload.  The linear layers run on its own machine, around attention."""
    found = estimate(design=design, model=model, seq=seq, sets=sets, physical=physical)
    latency, joules = found.latency_s, found.energy_j
    if linear:
        own = load_design(design)
        layers = estimate(
            design=LINEAR,
            arch=own.arch,
            model=model,
            seq=seq,
            sets=(*own.sets, *sets),
            physical=physical,
        )
        latency, joules = latency + layers.latency_s, joules + layers.energy_j
    return Whole(found, latency, joules)


def compare(
    designs: Sequence[str],
    models: Sequence[str],
    seqs: Sequence[int | str],
    *,
    baseline: str | None = None,
    linear: bool = False,
    sets: Sequence[str] = (),
    physical: bool = False,
) -> Comparison:
    """Designs by models by lengths.  ``baseline`` is the first design unless named.

    ``linear`` adds the six linear layers of an encoder on each design's own
    machine.  Raises InputError for unknown names.

    >>> found = compare(["flat", "fusemax"], ["BERT"], ["4K"])
    >>> [round(r.speedup, 2) for r in found.rows]
    [1.0, 7.21]
    """
    if not designs or not models or not seqs:
        raise refuse("compare needs at least one design, one model and one length")
    base = baseline or designs[0]
    rows = []
    for model in models:
        for seq in seqs:
            found = {
                design: whole(design, model, seq, linear, sets, physical)
                for design in dict.fromkeys((base, *designs))
            }
            for design in designs:
                own, other = found[design], found[base]
                rows.append(
                    Row(
                        design,
                        model,
                        str(seq),
                        own.latency_s,
                        own.energy_j,
                        other.latency_s / own.latency_s,
                        own.energy_j / other.energy_j,
                        own.attention.utilisation,
                        own.attention.bound_by,
                    )
                )
    return Comparison(base, linear, tuple(rows))
