"""``report``: everything that one page shows of designs on workloads, gathered in one object."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

from accelsim import __version__
from accelsim.errors import Place, one_of, refuse
from accelsim.explore.bounds import bounds
from accelsim.explore.ceilings import design_ceilings, kernel_ceilings
from accelsim.explore.compare import compare
from accelsim.explore.estimate import bind
from accelsim.explore.gpu_records import folder
from accelsim.explore.language import told
from accelsim.load.design import load_design
from accelsim.load.gpu import load_gpu
from accelsim.models.estimate import estimate as price

#: Version of the object's keys.
SCHEMA: Final = 2
#: What may be left out, because it takes seconds: traffic bounds; FuseMax's published rows; the
#: other papers' tables; a GPU's recorded runs; the table of systems; the Pareto front.
PARTS: Final = ("bounds", "fusemax", "published", "gpu", "systems", "front")
#: The sweep whose front is shown where no folder of one is given.
STUDY: Final = "fusemax-pareto"
#: The GPU whose recorded runs are replayed.
GPU: Final = "h100-sxm"


def report(
    designs: Sequence[str],
    models: Sequence[str],
    seqs: Sequence[int | str],
    *,
    baseline: str | None = None,
    detail: int | str | None = None,
    sweep: str | Path | None = None,
    gpu: str = GPU,
    without: Collection[str] = (),
    tell: Callable[[str], None] = lambda part: None,
) -> dict[str, Any]:
    """What the page shows, as one JSON object.

    ``comparison`` of the designs by models and lengths; ``estimates``,
    ``rooflines`` and ``bounds`` of each design on the first model at the
    length ``detail`` (the first of ``seqs`` if not given); ``passes`` of each
    cascade; ``validation`` against FuseMax's published rows and ``published``
    against other papers' tables; ``gpu``: predictions beside the recorded
    runs of a GPU; ``systems``: the table of published systems; ``front``: the
    Pareto front of the sweep in the folder ``sweep``, or of FuseMax's study.
    ``without`` names ``PARTS`` to leave out; ``tell`` is called with what is
    being done.  Raises InputError for unknown names.

    >>> found = report(["fusemax"], ["BERT"], ["4K"], without=PARTS)
    >>> found["comparison"]["rows"][0]["speedup"], list(found["passes"])
    (1.0, ['attention-1pass'])
    """
    for name in without:
        if name not in PARTS:
            raise refuse(f"the report has no part {name!r}", one_of(PARTS), Place("--without"))
    if "gpu" not in without:
        folder(gpu)  # a GPU without runs is refused before the work begins
    found: dict[str, Any] = {"schema": SCHEMA, "version": __version__}
    if sweep is not None and "front" not in without:
        found["front"] = _front(Path(sweep))
    tell("comparison")
    found["comparison"] = compare(designs, models, seqs, baseline=baseline).to_dict()
    at = detail if detail is not None else seqs[0]
    found["detail"] = {"model": models[0], "seq": str(at)}
    found |= _details(designs, models[0], at, "bounds" not in without, tell)
    for key, name, gather in _GATHERED:
        if name not in without and key not in found:
            tell(name)
            found[key] = gather(gpu)
    return found


def _details(
    designs: Sequence[str], model: str, at: int | str, bounded: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """What each design does with one workload, and what is true of its cascade anywhere."""
    estimates, rooflines, traffic, passes = {}, [], {}, {}
    for design in dict.fromkeys(designs):
        tell(f"details of {design}")
        problem, machine, mapping = bind(design=design, model=model, seq=at)
        estimate = price(problem, machine, mapping)
        estimates[design] = estimate.to_dict()
        rooflines.append(design_ceilings(design, problem, machine, estimate))
        cascade = load_design(design).cascade
        if cascade in passes:
            continue
        passes[cascade] = told(cascade)
        if bounded:
            capacity = machine.levels[1].capacity_bytes if machine.levels[1:] else 0.0
            traffic[cascade] = bounds(
                cascade, model=model, seq=at, capacity=f"{capacity:.0f} B", curve=True
            ).to_dict()
    return {"estimates": estimates, "rooflines": rooflines, "bounds": traffic, "passes": passes}


def _fusemax(_gpu: str) -> dict[str, Any]:
    """Predictions beside FuseMax's published rows."""
    from accelsim.explore.validate import validate_fusemax

    return validate_fusemax().to_dict()


def _published(_gpu: str) -> dict[str, Any]:
    """Predictions beside other papers' tables."""
    from accelsim.explore.validate_published import validate_published

    return validate_published().to_dict()


def _recorded(gpu: str) -> dict[str, Any]:
    """Predictions beside a GPU's recorded runs and those not looked at before, and its ceilings."""
    from accelsim.explore.validate_gpu import UNSEEN, unseen, validate_gpu

    found = {"recorded": validate_gpu(gpu).to_dict()}
    if (folder(gpu) / UNSEEN).is_dir():
        found[UNSEEN] = unseen(gpu).to_dict()
    rows = [row for part in found.values() for row in part["rows"]]
    return {"gpu": gpu, "validations": found, "rooflines": kernel_ceilings(load_gpu(gpu), rows)}


def _systems(_gpu: str) -> dict[str, Any]:
    """The table of published systems."""
    from accelsim.explore.systems import systems

    return systems().to_dict()


def _study(_gpu: str) -> dict[str, Any]:
    """The Pareto front of FuseMax's study, priced here and now and written nowhere."""
    from accelsim.explore.pareto import front
    from accelsim.explore.sweep import price
    from accelsim.load.sweep import load_sweep

    asked = load_sweep(STUDY)
    table = price(STUDY, asked.points, 0)
    return {
        "sweep": asked.name,
        "objectives": list(asked.objectives),
        "by": list(asked.by),
        "points": asked.points,
        "front": front(table, asked.objectives, asked.by),
    }


#: Key of the object, name of the part, and what gathers it.
_GATHERED: Final = (
    ("validation", "fusemax", _fusemax),
    ("published", "published", _published),
    ("gpu", "gpu", _recorded),
    ("systems", "systems", _systems),
    ("front", "front", _study),
)


def _front(where: Path) -> dict[str, Any]:
    """The Pareto front of a sweep's folder, by what its file asks for."""
    import json

    from accelsim.explore.pareto import front
    from accelsim.explore.sweep import rows_of

    table = rows_of(where)
    try:
        manifest = json.loads((where / "sweep.json").read_text(encoding="utf-8"))
        name, objectives, by = manifest["name"], manifest["objectives"], manifest["by"]
    except (OSError, ValueError, KeyError):
        message = f"{where} holds no sweep that says what its front is"
        raise refuse(message, "the folder that `accelsim sweep` wrote") from None
    return {
        "sweep": name,
        "objectives": objectives,
        "by": by,
        "points": len(table["fault"]),
        "front": front(table, objectives, by),
    }
