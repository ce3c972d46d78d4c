"""Where the shipped documents are, and how a name becomes a file.

In a checkout the data folders stand beside the package; in an installed wheel
they are inside it, under ``accelsim/data``.  The name of a document is its
file's name without the ending.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final, Literal

from accelsim.errors import Place, refuse
from accelsim.load.source import closest

Kind = Literal["cascade", "arch", "mapping", "design", "sweep", "system", "format", "kernel"]
Folder = Literal["einsum_cascades", "arch_configs", "formats", "validation", "systems"]

#: For each kind of document its data folder, and the folders in that (``**``: at any depth).
_WHERE: Final[dict[Kind, tuple[Folder, tuple[str, ...]]]] = {
    "cascade": ("einsum_cascades", ("**",)),
    "arch": ("arch_configs", ("spatial", "gpu")),
    "mapping": ("arch_configs", ("mappings",)),
    "design": ("arch_configs", ("designs",)),
    "kernel": ("arch_configs", ("kernels",)),
    "system": ("systems", (".",)),
    "sweep": ("arch_configs", ("sweeps",)),
    "format": ("formats", ("**",)),
}
_ENDINGS: Final = (".yaml", ".yml")


def folder(name: Folder) -> Path:
    """The data folder of that name.

    >>> folder("einsum_cascades").name
    'einsum_cascades'
    """
    package = Path(__file__).resolve().parent.parent
    data = package / "data"
    return (data if data.is_dir() else package.parent) / name


@cache
def files(kind: Kind) -> dict[str, Path]:
    """Every shipped document of a kind, by name, in the order of the names."""
    base, parts = _WHERE[kind]
    found = [p for part in parts for p in folder(base).glob(f"{part}/*")]
    return {p.stem: p for p in sorted(found, key=lambda p: p.stem) if p.suffix in _ENDINGS}


def names(kind: Kind) -> tuple[str, ...]:
    """Names of the shipped documents of a kind, sorted."""
    return tuple(files(kind))


def find(kind: Kind, name: str | os.PathLike[str], place: Place | None = None) -> Path:
    """The file that ``name`` means: a shipped document's name, or else the path of a file.

    What has a folder or an ending in it is a path.  Raises ``InputError`` at
    ``place`` where there is no such document.
    """
    text = os.fspath(name)
    known = files(kind)
    if text in known:
        return known[text]
    try:
        if os.path.exists(text) and not os.path.isdir(text):
            return Path(text)
    except ValueError:  # a null character
        pass
    if os.path.dirname(text) or text.endswith(_ENDINGS):
        message = f"no such file: {text!r}"
    else:
        message = f"unknown {kind} {text!r}"
    raise refuse(message, closest(text, known) or "the path of a file", place)
