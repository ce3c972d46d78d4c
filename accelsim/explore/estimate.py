"""``estimate``: names or files in, a priced mapping out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelsim.errors import Fault, InputError, Place, one_of, refuse
from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.problem import Problem, relevant
from accelsim.load.arch import load_architecture, scalar
from accelsim.load.cascade import load_cascade
from accelsim.load.design import load_design
from accelsim.load.mapping import load_mapping
from accelsim.load.workload import asked, workload
from accelsim.mapper.legal import legal
from accelsim.models.estimate import Estimate, Pricing
from accelsim.models.turns import in_turn_s

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
    verb: str = "estimate",
) -> tuple[Problem, Architecture, BoundMapping]:
    """The problem, machine and mapping that ``verb`` is about; same arguments, same errors."""
    base = load_design(design) if design is not None else None
    parts = {"cascade": cascade, "arch": arch, "mapping": mapping}
    if base is not None:
        parts = {name: given or getattr(base, name) for name, given in parts.items()}
    missing = [name for name, given in parts.items() if given is None]
    if missing:
        raise refuse(f"{verb} needs {' and '.join(missing)}", "a design, or all three parts")
    own = base.sets if base is not None and arch is None else ()
    machine = load_architecture(parts["arch"] or "", (*own, *sets))
    text = load_cascade(str(parts["cascade"]))
    sizes = workload(model=model, seq=seq, shape=shape, config=config)
    relevant(text, sizes, asked=asked(shape))
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
    pricing = Pricing(problem, mapping)
    found = pricing.estimate(machine, physical)
    turns = in_turn_s(problem, machine, mapping, found, pricing.nests)
    return replace(found, in_turn_s=turns)


def choice(text: str) -> tuple[str, str | int | float]:
    """A choice ``name=value``; raises InputError where there is no ``=``.

    >>> choice("P1=4")
    ('P1', 4)
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise refuse(f"--choose {text!r} is no choice", "name=value, as P1=4")
    return name.strip(), scalar(value)


#: What a request of a batch may say, and the types that JSON gives it.
_REQUEST: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("cascade", "arch", "mapping", "design", "model", "config", "kernel"), (str,)),
    "seq": (str, int),
    "shape": (str, dict),
    "sets": (list,),
    "choose": (dict,),
    "physical": (bool,),
}


def batch(file: Name) -> Iterator[dict[str, Any]]:
    """Answers to the requests in a file, one JSON object of ``estimate``'s keywords a line.

    ``-`` is standard input.  A request that cannot be answered gives ``{"line",
    "faults"}``; the others are answered all the same.  Raises InputError for a
    file that cannot be read.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise refuse(f"{file} cannot be read: {error.strerror}", "a file of JSON lines") from None
    except UnicodeDecodeError:
        raise refuse(f"{file} is not UTF-8", "text in UTF-8") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield _answer(_request(line, Place(str(file), number, 1)))
            except InputError as error:
                yield {"line": number, "faults": [str(f) for f in error.faults]}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """The estimate of one request: of a described kernel where it names one."""
    if "kernel" not in request:
        from accelsim.explore.estimate_cascade import estimate_cascade, runs_on_gpu

        if "cascade" in request and "mapping" not in request and runs_on_gpu(request.get("arch")):
            return estimate_cascade(**request).to_dict()
        return estimate(**request).to_dict()
    from accelsim.explore.estimate_gpu import estimate_kernel

    strange = [key for key in request if key not in ("kernel", "arch", "shape", "sets")]
    if strange:
        raise refuse(f"a kernel is asked without {strange[0]}", "kernel, arch, shape, sets")
    return estimate_kernel(**request).to_dict()


def _request(line: str, place: Place) -> dict[str, Any]:
    """The keywords of one request."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise refuse(f"no JSON: {error}", '{"design": "fusemax", ...}', place) from None
    if not isinstance(found, dict):
        raise refuse("no JSON object", '{"design": "fusemax", ...}', place)
    faults = [
        Fault(place, f"unknown key '{key}'", one_of(_REQUEST))
        if key not in _REQUEST
        else Fault(place, f"{key} cannot be {json.dumps(value)[:40]}")
        for key, value in found.items()
        if key not in _REQUEST or not isinstance(value, _REQUEST[key])
    ]
    if faults:
        raise InputError(faults)
    return found
