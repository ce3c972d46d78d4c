"""accelsim: an analytical model and simulator of attention on accelerators.

The verbs of the command line are functions here, with the same names:
``accelsim.estimate(design="fusemax", model="BERT", seq=4096).latency_s``.
They are imported when first used, so that ``import accelsim`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelsim.explore.bounds import bounds as bounds
    from accelsim.explore.calibrate import calibrate as calibrate
    from accelsim.explore.compare import compare as compare
    from accelsim.explore.derive import derive as derive
    from accelsim.explore.documents import list_names as list_names
    from accelsim.explore.documents import schema as schema
    from accelsim.explore.documents import show as show
    from accelsim.explore.estimate import estimate as estimate
    from accelsim.explore.estimate_cascade import estimate_cascade as estimate_cascade
    from accelsim.explore.estimate_gpu import estimate_kernel as estimate_kernel
    from accelsim.explore.evaluations import validate as validate
    from accelsim.explore.exchange import import_ as import_
    from accelsim.explore.export import export as export
    from accelsim.explore.language import check as check
    from accelsim.explore.language import passes as passes
    from accelsim.explore.map import map_ as map_
    from accelsim.explore.map_gpu import map_gpu as map_gpu
    from accelsim.explore.simulate import simulate as simulate
    from accelsim.explore.sweep import sweep as sweep
    from accelsim.explore.systems import system as system
    from accelsim.explore.systems import systems as systems
    from accelsim.explore.validate_gpu import validate_gpu as validate_gpu

__version__ = "0.1.0"

#: Where each verb lives.
_VERBS = {
    "bounds": "accelsim.explore.bounds",
    "calibrate": "accelsim.explore.calibrate",
    "check": "accelsim.explore.language",
    "compare": "accelsim.explore.compare",
    "derive": "accelsim.explore.derive",
    "estimate": "accelsim.explore.estimate",
    "estimate_cascade": "accelsim.explore.estimate_cascade",
    "estimate_kernel": "accelsim.explore.estimate_gpu",
    "export": "accelsim.explore.export",
    "import_": "accelsim.explore.exchange",
    "list_names": "accelsim.explore.documents",
    "map_": "accelsim.explore.map",
    "map_gpu": "accelsim.explore.map_gpu",
    "passes": "accelsim.explore.language",
    "schema": "accelsim.explore.documents",
    "show": "accelsim.explore.documents",
    "simulate": "accelsim.explore.simulate",
    "sweep": "accelsim.explore.sweep",
    "system": "accelsim.explore.systems",
    "systems": "accelsim.explore.systems",
    "validate": "accelsim.explore.evaluations",
    "validate_gpu": "accelsim.explore.validate_gpu",
}

__all__ = ["__version__", *_VERBS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """A verb, imported on first use."""
    if name not in _VERBS:
        raise AttributeError(f"module 'accelsim' has no attribute {name!r}")
    verb = globals()[name] = getattr(import_module(_VERBS[name]), name)
    return verb


def __dir__() -> list[str]:
    return sorted([*globals(), *_VERBS])
