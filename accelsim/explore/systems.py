"""``systems``: every published system beside the others, and how each of its numbers comes about.

Passes, live words, operations and traffic are computed from a system's
cascades, time and energy predicted from its stages and kernels; its file
gives cascades, sizes, shares and kernels, never a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from accelsim.errors import Place, refuse
from accelsim.explore.loads import Load, bound, load_of, scope_of, total
from accelsim.explore.predictions import Prediction, on_array, on_gpu
from accelsim.explore.roofline import ARRAY, GPU
from accelsim.explore.sweeping import Swept, passes_at, swept
from accelsim.explore.system_studies import Study, study_of
from accelsim.ir.format import breakdown
from accelsim.ir.problem import relevant
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from accelsim.load.source import closest, read
from accelsim.load.system import (
    Phase,
    Stored,
    System,
    kinds,
    load_system,
    system_of_cascade,
)
from accelsim.load.system_text import WANTED
from accelsim.load.workload import MODELS, length, shape_from_text

#: Lengths of the table.
LENGTHS: Final = ("4K", "32K", "128K")


@dataclass(frozen=True, slots=True)
class Cell:
    """One phase at one length: a layer of the system beside dense attention."""

    phase: str
    seq: int
    own: Load
    dense: Load
    predicted: tuple[Prediction, ...] = ()

    @property
    def kernels(self) -> dict[str, float] | None:
        """Seconds on an H100 and their ratio, where described kernels realise all of both."""
        for one in self.predicted:
            if one.machine == GPU and {one.how, one.dense_how} == {"kernel"}:
                return {
                    "own_s": one.seconds,
                    "dense_s": one.seconds * one.speedup,
                    "speedup": one.speedup,
                }
        return None

    @property
    def ops(self) -> float:
        """Operations over those of dense attention."""
        return self.own.ops / self.dense.ops

    @property
    def bytes(self) -> float:
        """Compulsory bytes over those of dense attention."""
        return self.own.bytes / self.dense.bytes

    @property
    def energy(self) -> float:
        """Energy on the array, operations and memory, over that of dense attention."""
        return self.own.energy / self.dense.energy

    @property
    def speedup(self) -> dict[str, float]:
        """The roofline's time of dense attention over the system's, by machine."""
        return {name: t / self.own.seconds[name] for name, t in self.dense.seconds.items()}

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "phase": self.phase,
            "seq": self.seq,
            "ops": self.ops,
            "bytes": self.bytes,
            "array_energy": self.energy,
            "roofline_speedup": self.speedup,
            "kernels": self.kernels,
            "predicted": [one.to_dict() for one in self.predicted],
            "own": self.own.to_dict(),
            "dense": self.dense.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits an element of a tensor has, line by line, beside what the paper implies."""

    tensor: str
    format: str
    bits: float
    lines: tuple[tuple[str, float], ...]
    published: float | None
    within: float
    source: str

    @property
    def holds(self) -> bool | None:
        """Whether ours is as near to the published figure as asked; None where there is none."""
        if self.published is None:
            return None
        return abs(self.bits - self.published) <= self.within * self.published

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return own | {"holds": self.holds, "lines": dict(self.lines)}


@dataclass(frozen=True, slots=True)
class Variant:
    """Another method of the same paper."""

    name: str
    about: str
    swept: tuple[Swept, ...]
    cells: tuple[Cell, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "name": self.name,
            "about": self.about,
            "swept": [s.to_dict() for s in self.swept],
            "cells": [c.to_dict() for c in self.cells],
        }


@dataclass(frozen=True, slots=True)
class Row:
    """A system of the table; ``variants`` and ``study`` are there where it is opened alone.

    ``passes_at``: passes over the keys at each length, where they grow with it.
    """

    system: System
    swept: tuple[Swept, ...]
    cells: tuple[Cell, ...]
    stored: tuple[Bits, ...]
    variants: tuple[Variant, ...] = ()
    study: Study | None = None
    passes_at: tuple[tuple[int, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The row as a JSON object; the passes are the most of its parts in prefill."""
        text = self.system.text
        most = max(self.swept, key=lambda s: s.over_k, default=None)
        return {
            "name": self.system.name,
            "number": text.number,
            "title": text.title,
            "paper": text.paper,
            "kind": text.kind,
            "sure": text.sure,
            "rests": text.rests,
            "about": text.about,
            "model": text.model,
            "passes_k": most.over_k if most else None,
            "passes_at": {str(seq): n for seq, n in self.passes_at},
            "passes_v": max((s.over_v for s in self.swept), default=None),
            "passes_estimation": max((s.estimation for s in self.swept), default=None),
            "live": most.live if most else None,
            "in_flight": list(most.in_flight) if most else [],
            "bits": [s.to_dict() for s in self.stored],
            "cells": [c.to_dict() for c in self.cells],
            "swept": [s.to_dict() for s in self.swept],
            "parameters": {
                name: {"value": p.value, "source": p.source, "about": p.about}
                for name, p in text.parameters.items()
            },
            "leaves": dict(text.leaves),
            "variants": [v.to_dict() for v in self.variants],
            "study": self.study.to_dict() if self.study else None,
            "notes": list(text.notes),
        }


def system(
    name: str | Path,
    lengths: Sequence[str] = LENGTHS,
    *,
    shape: Mapping[str, int] | str | None = None,
    model: str | None = None,
) -> Row:
    """One system: its passes and live words, and each phase at each length beside dense attention.

    The name or file may also be a cascade's, as a variant of one's own; then
    ``shape`` gives the sizes that follow from neither the length nor the
    ``model``.  Raises InputError for what cannot be read or bound.

    >>> row = system("fusemax", ["4K"])
    >>> row.swept[0].over_k, row.cells[0].ops
    (1, 1.0)
    """
    found = _found(name, shape, model)
    sizes = [length(n) for n in lengths]
    variants = tuple(
        Variant(title, phase.about, _swept(phase), tuple(_cell(found, phase, n) for n in sizes))
        for title, phase in found.variants
    )
    return replace(_row(found, sizes), variants=variants, study=study_of(found, sizes))


def _row(found: System, sizes: Sequence[int]) -> Row:
    """A system as the table has it."""
    return Row(
        found,
        tuple(s for phase in found.phases[:1] for s in _swept(phase)),
        tuple(_cell(found, phase, n) for phase in found.phases for n in sizes),
        tuple(_bits(f, scope_of(found, 1)) for f in found.formats),
        passes_at=tuple(_passes_at(found, sizes)),
    )


def _passes_at(found: System, sizes: Sequence[int]) -> Iterator[tuple[int, float]]:
    """Passes over the keys at each length, of parts that have no number of their own."""
    for part in (part for phase in found.phases[:1] for part in phase.parts):
        if not part.estimation or math.isfinite(swept(part).over_k):
            continue
        for seq in sizes:
            problem = bound(part, scope_of(found, seq))
            text = problem.cascade
            along = {r for r in text.iterative.values() if text.whole[r] == r}
            yield seq, passes_at(part, {rank: problem.extent(rank) for rank in sorted(along)})


def _swept(phase: Phase) -> tuple[Swept, ...]:
    """Passes of each part that reads keys, once a cascade."""
    parts = dict.fromkeys(
        part
        for part in phase.parts
        if part.key in {t.name for t in load_cascade(part.cascade).inputs}
    )
    return tuple(dict.fromkeys(swept(part) for part in parts))


def _found(name: str | Path, shape: Mapping[str, int] | str | None, model: str | None) -> System:
    """The system of a name or file, or one made of a cascade."""
    text = str(name)
    if _is_cascade(text):
        cascade = load_cascade(text)
        sizes = shape_from_text(shape) if isinstance(shape, str) else dict(shape or {})
        relevant(cascade, sizes, asked=sizes)
        own = system_of_cascade(cascade, sizes)
    elif shape:
        message = f"sizes for {text}, which has its own"
        raise refuse(message, "a shape for a cascade", Place("--shape"))
    else:
        own = load_system(name)
    if model is None:
        return own
    if model not in MODELS:
        raise refuse(f"no model is called {model!r}", closest(model, MODELS), Place("--model"))
    return replace(own, text=own.text.model_copy(update={"model": model}))


def _is_cascade(name: str) -> bool:
    """Whether a name or file is a cascade's, and no system's."""
    if name in catalog.names("system") or name in catalog.names("cascade"):
        return name not in catalog.names("system")
    if not Path(name).is_file():
        return False
    value = read(name).value
    return isinstance(value, dict) and "cascade" in value and "system" not in value


@dataclass(frozen=True, slots=True)
class Table:
    """All shipped systems, by kind and number, and the numbers of those not described."""

    rows: tuple[Row, ...]
    absent: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim systems``."""
        return {
            "systems": [row.to_dict() for row in self.rows],
            "absent": list(self.absent),
            "wanted": WANTED,
        }


def systems(lengths: Sequence[str] = LENGTHS) -> Table:
    """Every shipped system at some lengths, in the order of their kinds, then of their numbers.

    >>> table = systems(["4K"])
    >>> len({row.system.text.number for row in table.rows} - {0}) + len(table.absent)
    40
    """
    order = kinds()
    sizes = [length(n) for n in lengths]
    rows = [_row(load_system(name), sizes) for name in catalog.names("system")]
    rows.sort(key=lambda r: (order.index(r.system.text.kind), r.system.text.number))
    there = {row.system.text.number for row in rows}
    return Table(tuple(rows), tuple(n for n in range(1, WANTED + 1) if n not in there))


def _cell(found: System, phase: Phase, seq: int) -> Cell:
    """One phase at one length."""
    scope = scope_of(found, seq)
    own = total([load_of(part, scope) for part in phase.parts])
    predicted = [
        on_array(ARRAY, phase.parts, phase.dense, scope),
        on_gpu(GPU, phase.parts, phase.dense, scope),
    ]
    hardware = found.text.hardware
    if hardware is not None:
        predicted.append(on_array(hardware.arch, phase.parts, phase.dense, scope, hardware))
    return Cell(phase.name, seq, own, load_of(phase.dense, scope), tuple(predicted))


def _bits(stored: Stored, scope: Mapping[str, Any]) -> Bits:
    """The bits of a stored tensor, line by line."""
    lines = tuple((b.name, b.stored) for b in breakdown(stored.format, stored.bound(scope)))
    return Bits(
        stored.tensor,
        stored.format.name,
        sum(n for _, n in lines),
        lines,
        stored.published,
        stored.within,
        stored.source,
    )
