"""``estimate``: names or files in, a priced mapping out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from accelsim.errors import InputError, refuse
from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.problem import Problem
from accelsim.load.arch import load_architecture
from accelsim.load.cascade import load_cascade
from accelsim.load.design import load_design
from accelsim.load.mapping import load_mapping
from accelsim.load.workload import workload
from accelsim.mapper.legal import legal
from accelsim.models.estimate import Estimate
from accelsim.models.estimate import estimate as price

Name = str | Path


def bind(
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
) -> tuple[Problem, Architecture, BoundMapping]:
    """The problem, machine and mapping that ``estimate`` prices; same arguments, same errors."""
    base = load_design(design) if design is not None else None
    parts = {"cascade": cascade, "arch": arch, "mapping": mapping}
    if base is not None:
        parts = {name: given or getattr(base, name) for name, given in parts.items()}
    missing = [name for name, given in parts.items() if given is None]
    if missing:
        raise refuse(f"estimate needs {' and '.join(missing)}", "a design, or all three parts")
    own = base.sets if base is not None and arch is None else ()
    machine = load_architecture(parts["arch"] or "", (*own, *sets))
    text = load_cascade(str(parts["cascade"]))
    sizes = workload(model=model, seq=seq, shape=shape, config=config)
    chosen = dict(base.choose) if base is not None and mapping is None else {}
    rules = load_mapping(parts["mapping"] or "")
    problem, bound = rules.bind(text, sizes, machine, {**chosen, **(choose or {})})
    reasons = legal(text, bound)
    if reasons:
        raise InputError(reasons)
    return problem, machine, bound


def estimate(
    cascade: Name | None = None,
    *,
    physical: bool = False,
    **parts: Any,
) -> Estimate:
    """Latency, energy, area, traffic, utilisation and occupancy of a mapping of a cascade.

    Keywords are those of ``bind``: a ``design`` names cascade, architecture
    and mapping (each may be replaced by its own argument), or all three are
    given.  The workload is a ``model`` with a length ``seq``, a ``shape`` of
    rank sizes, or a Hugging Face ``config``.  ``sets`` overrides architecture
    fields (``path=value``), ``choose`` the mapping's rules.  ``physical`` adds
    register files of every PE and leakage.  Raises InputError for anything
    that does not fit together.

    >>> round(estimate(design="fusemax", model="BERT", seq=4096).latency_s, 6)
    0.0297
    """
    problem, machine, mapping = bind(cascade, **parts)
    return price(problem, machine, mapping, physical=physical)
