"""What documents there are, what one says in canonical form, and the schema of each kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from accelsim.errors import Fault, InputError, one_of, refuse
from accelsim.explore.canonical import yaml_text
from accelsim.load import catalog
from accelsim.load.source import Document, closest, read

if TYPE_CHECKING:
    from pydantic import BaseModel

#: Kinds that ``list`` knows, in its plural, and the catalog's word for each.
LISTED: Final[dict[str, catalog.Kind]] = {
    "cascades": "cascade",
    "archs": "arch",
    "mappings": "mapping",
    "designs": "design",
    "kernels": "kernel",
    "sweeps": "sweep",
    "systems": "system",
    "formats": "format",
}
#: The key that a document of each kind begins with: its name stands there.
KEYS: Final[dict[str, catalog.Kind]] = {
    "cascade": "cascade",
    "architecture": "arch",
    "gpu": "arch",
    "mapping": "mapping",
    "design": "design",
    "kernel": "kernel",
    "sweep": "sweep",
    "system": "system",
    "format": "format",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of ``list``: a name, what it is, and the group it belongs to (may be empty)."""

    name: str
    about: str = ""
    family: str = ""
    passes: float | None = None  # of a cascade: the most that it makes over a whole rank


def list_names(kind: str) -> tuple[Entry, ...]:
    """Every shipped document of a kind (``cascades``, ``models`` ...), by family and name.

    >>> [entry.name for entry in list_names("designs")][:2]
    ['flat', 'fusemax']
    """
    if kind == "models":
        from accelsim.load.workload import MODELS

        return tuple(Entry(name, model.about) for name, model in MODELS.items())
    if kind not in LISTED:
        raise refuse(f"no list of {kind!r}", one_of([*LISTED, "models"]))
    found = [_entry(name, path) for name, path in catalog.files(LISTED[kind]).items()]
    if kind == "cascades":
        found = [replace(entry, passes=streamed(entry.name)) for entry in found]
    return tuple(sorted(found, key=lambda e: (e.family, -(e.passes or 0), e.name)))


def streamed(cascade: str | Path) -> float:
    """The most passes that a cascade makes over a whole rank, as the taxonomy of FuseMax counts.

    >>> streamed("attention-3pass"), streamed("flash-attention-2")
    (3, 1)
    """
    from accelsim.analysis.passes import most_passes
    from accelsim.load.cascade import load_cascade

    return most_passes(load_cascade(cascade))


def _entry(name: str, path: Path) -> Entry:
    """A document's name with what it says about itself, unchecked."""
    value = read(path).value
    said = value if isinstance(value, dict) else {}
    return Entry(name, _line(said.get("about")), _line(said.get("family")))


def _line(text: object) -> str:
    return " ".join(text.split()) if isinstance(text, str) else ""


def show(file: str | Path, kind: str | None = None) -> str:
    """The canonical text of a shipped document or a file; loading it gives the same again.

    A name is looked for among cascades first, then architectures, mappings
    and designs; ``kind`` (``cascade``, ``arch``, ``mapping``, ``design``, ``sweep``,
    ``system``, ``format``) says which where two have the same name.  The document is checked first:
    InputError holds every fault.

    >>> print(show("attention-1pass").splitlines()[0])
    cascade: attention-1pass
    """
    path = _find(str(file), kind)
    document = read(path)
    found = _kind_of(document)
    if kind not in (None, found):
        raise InputError([Fault(document.place(), f"a document of kind {found}, not {kind}")])
    if found == "cascade":
        from accelsim.ir.show import show as cascade_text
        from accelsim.load.cascade import cascade_from

        return cascade_text(cascade_from(document))
    _check(found, path)
    return yaml_text(document.value)


def _check(kind: catalog.Kind, path: Path) -> None:
    """Load a document for its faults alone."""
    from accelsim.load.arch import load_architecture
    from accelsim.load.design import load_design
    from accelsim.load.format import load_format
    from accelsim.load.gpu import is_gpu, load_gpu
    from accelsim.load.kernel import load_kernel
    from accelsim.load.mapping import load_mapping
    from accelsim.load.sweep import load_sweep
    from accelsim.load.system import load_system

    if kind == "arch" and is_gpu(read(path).value):
        load_gpu(path)
        return
    loaders: dict[str, Callable[[Path], object]] = {
        "arch": load_architecture,
        "design": load_design,
        "format": load_format,
        "kernel": load_kernel,
        "mapping": load_mapping,
        "sweep": load_sweep,
        "system": load_system,
    }
    loaders[kind](path)


def _find(name: str, kind: str | None) -> Path:
    """The file of a name, looked for in one kind or in all."""
    kinds = list(KEYS.values())
    if kind is not None:
        if kind not in kinds:
            raise refuse(f"no kind of document {kind!r}", one_of(kinds))
        return catalog.find(next(k for k in kinds if k == kind), name)
    known = {n: path for k in reversed(kinds) for n, path in catalog.files(k).items()}
    if name in known or os.path.exists(name):
        return known.get(name, Path(name))
    raise refuse(f"no document {name!r}", closest(name, known) or "a file, or a name of `list`")


def _kind_of(document: Document) -> catalog.Kind:
    """What a document is, from its first key."""
    keys = list(document.value) if isinstance(document.value, dict) else []
    for key in keys[:1]:
        if key in KEYS:
            return KEYS[key]
    allowed = "one that begins with " + one_of(f"{key}:" for key in KEYS)
    raise InputError([Fault(document.place(), "no document of accelsim", allowed)])


def schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind of document.

    ``arch``, ``gpu``, ``kernel``, ``cascade``, ``mapping``, ``design``, ``sweep``,
    ``system``, ``format``.

    >>> schema("arch")["title"]
    'accelsim arch'
    """
    from accelsim.load.arch import ArchitectureText
    from accelsim.load.cascade_text import CascadeText
    from accelsim.load.design import DesignText
    from accelsim.load.format import FormatText
    from accelsim.load.gpu_text import GpuText
    from accelsim.load.kernel import KernelText
    from accelsim.load.mapping_text import MappingText
    from accelsim.load.sweep import SweepText
    from accelsim.load.system_text import SystemText

    models: dict[str, type[BaseModel]] = {
        "arch": ArchitectureText,
        "cascade": CascadeText,
        "design": DesignText,
        "format": FormatText,
        "gpu": GpuText,
        "kernel": KernelText,
        "mapping": MappingText,
        "sweep": SweepText,
        "system": SystemText,
    }
    if kind not in models:
        raise refuse(f"no schema of {kind!r}", one_of(models))
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **models[kind].model_json_schema(), "title": f"accelsim {kind}"}
