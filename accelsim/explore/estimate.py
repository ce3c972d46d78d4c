"""``estimate``: names or files in, a priced mapping out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from accelsim.errors import refuse
from accelsim.load.arch import load_architecture
from accelsim.load.cascade import load_cascade
from accelsim.load.design import Design, load_design
from accelsim.load.mapping import load_mapping
from accelsim.load.workload import workload
from accelsim.models.estimate import Estimate
from accelsim.models.estimate import estimate as price

Name = str | Path


def estimate(
    cascade: Name | None = None,
    *,
    arch: Name | None = None,
    mapping: Name | None = None,
    design: Name | None = None,
    model: str | None = None,
    seq: int | str | None = None,
    shape: Mapping[str, int] | str | None = None,
    config: Name | None = None,
    sets: Iterable[str] = (),
    choose: Mapping[str, str | int | float] | None = None,
    physical: bool = False,
) -> Estimate:
    """Latency, energy, area, traffic, utilisation and occupancy of a mapping of a cascade.

    Either a ``design`` names cascade, architecture and mapping (each may be
    replaced by its own argument), or all three are given.  The workload is a
    ``model`` with a length ``seq``, a ``shape`` of rank sizes, or a Hugging
    Face ``config``.  ``sets`` overrides architecture fields (``path=value``),
    ``choose`` the mapping's rules.  Raises InputError for anything that does
    not fit together.

    >>> round(estimate(design="fusemax", model="BERT", seq=4096).latency_s, 6)
    0.0297
    """
    base = load_design(design) if design is not None else None
    parts = {"cascade": cascade, "arch": arch, "mapping": mapping}
    if base is not None:
        parts = {name: given or getattr(base, name) for name, given in parts.items()}
    missing = [name for name, given in parts.items() if given is None]
    if missing:
        raise refuse(f"estimate needs {' and '.join(missing)}", "a design, or all three parts")
    own = base if base is not None and arch is None else None
    overrides = (*(own.sets if own else ()), *sets)
    machine = load_architecture(parts["arch"] or "", overrides)
    text = load_cascade(str(parts["cascade"]))
    sizes = workload(model=model, seq=seq, shape=shape, config=config)
    chosen = {**_choices(base, mapping), **(choose or {})}
    problem, bound = load_mapping(parts["mapping"] or "").bind(text, sizes, machine, chosen)
    return price(problem, machine, bound, physical=physical)


def _choices(base: Design | None, mapping: Name | None) -> dict[str, str | int | float]:
    """A design's own choices, unless its mapping was replaced."""
    return dict(base.choose) if base is not None and mapping is None else {}
