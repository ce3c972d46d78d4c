"""``report``: everything that one page shows of designs on workloads, gathered in one object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from accelsim import __version__
from accelsim.analysis.work import work
from accelsim.errors import refuse
from accelsim.explore.bounds import bounds
from accelsim.explore.compare import compare
from accelsim.explore.estimate import bind
from accelsim.explore.language import told
from accelsim.ir.arch import Architecture
from accelsim.ir.problem import Problem
from accelsim.load.design import load_design
from accelsim.models.estimate import Estimate
from accelsim.models.estimate import estimate as price

#: Version of the object's keys.
SCHEMA: Final = 1


def report(
    designs: Sequence[str],
    models: Sequence[str],
    seqs: Sequence[int | str],
    *,
    baseline: str | None = None,
    detail: int | str | None = None,
    sweep: str | Path | None = None,
    published: bool = True,
) -> dict[str, Any]:
    """What the page shows, as one JSON object.

    ``comparison`` of the designs by models and lengths; ``estimates``,
    ``rooflines`` and ``bounds`` of each design on the first model at the
    length ``detail`` (the first of ``seqs`` if not given); ``passes`` of each
    cascade; ``validation`` against the published rows, if ``published``; and
    the front of the sweep in the folder ``sweep``.  Raises InputError for
    unknown names.

    >>> found = report(["fusemax"], ["BERT"], ["4K"], published=False)
    >>> found["comparison"]["rows"][0]["speedup"], list(found["passes"])
    (1.0, ['attention-1pass'])
    """
    found: dict[str, Any] = {"schema": SCHEMA, "version": __version__}
    pareto = _front(Path(sweep)) if sweep is not None else None
    found["comparison"] = compare(designs, models, seqs, baseline=baseline).to_dict()
    at = detail if detail is not None else seqs[0]
    found["detail"] = {"model": models[0], "seq": str(at)}
    found["estimates"], found["rooflines"], found["bounds"], found["passes"] = {}, [], {}, {}
    for design in dict.fromkeys(designs):
        problem, machine, mapping = bind(design=design, model=models[0], seq=at)
        estimate = price(problem, machine, mapping)
        found["estimates"][design] = estimate.to_dict()
        found["rooflines"].append(roofline(design, machine, estimate, operations(problem)))
        cascade = load_design(design).cascade
        if cascade not in found["passes"]:
            found["passes"][cascade] = told(cascade)
            capacity = machine.levels[1].capacity_bytes if machine.levels[1:] else 0.0
            found["bounds"][cascade] = bounds(
                cascade, model=models[0], seq=at, capacity=f"{capacity:.0f} B", curve=True
            ).to_dict()
    if published:
        from accelsim.explore.evaluations import validate

        found["validation"] = validate("fusemax").to_dict()
    if pareto is not None:
        found["front"] = pareto
    return found


def operations(problem: Problem) -> float:
    """Operations of all Einsums on all their points; a multiply-add is one."""
    einsums = problem.cascade.einsums
    return float(sum(sum(work(e).values()) * problem.points(e) for e in einsums))


def roofline(
    design: str, machine: Architecture, estimate: Estimate, operations: float
) -> dict[str, Any]:
    """Ceilings of a machine and where a design stands under them.

    Rates are operations a second, intensities operations a byte of a level.
    A unit's ceiling is one operation a PE and cycle; the unit of an operation
    that takes more cycles stays below it.
    """
    return {
        "design": design,
        "arch": machine.name,
        "ceilings": {unit.name: unit.pes * machine.clock_hz for unit in machine.units},
        "slopes": {
            level.name: min(level.bandwidth, level.read_bandwidth + level.write_bandwidth)
            for level in machine.levels
            if min(level.bandwidth, level.read_bandwidth + level.write_bandwidth) < float("inf")
        },
        "rate": operations / estimate.latency_s,
        "intensity": {
            name: operations / size for name, size in estimate.traffic_bytes.items() if size
        },
    }


def _front(folder: Path) -> dict[str, Any]:
    """The Pareto front of a sweep's folder, by what its file asks for."""
    import json

    from accelsim.explore.pareto import front
    from accelsim.explore.sweep import rows_of

    table = rows_of(folder)
    try:
        manifest = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
        name, objectives, by = manifest["name"], manifest["objectives"], manifest["by"]
    except (OSError, ValueError, KeyError):
        message = f"{folder} holds no sweep that says what its front is"
        raise refuse(message, "the folder that `accelsim sweep` wrote") from None
    return {
        "sweep": name,
        "objectives": objectives,
        "by": by,
        "points": len(table["fault"]),
        "front": front(table, objectives, by),
    }
