"""``import`` and ``export``: documents of other tools."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from accelsim.errors import InputError, one_of, refuse
from accelsim.explore.canonical import yaml_text
from accelsim.load import accelforge, teaal, timeloop
from accelsim.load.foreign import Foreign, Imported, read_foreign
from accelsim.load.source import from_text

Reader = Callable[[Foreign, str], Imported]

#: For each kind of foreign part: whether a document has it, and what reads it.
_READERS: Final[dict[str, tuple[Callable[[Any], bool], Reader]]] = {
    "teaal": (teaal.is_teaal, teaal.teaal),
    "accelforge-workload": (
        lambda v: accelforge.is_accelforge(v) and "workload" in v,
        accelforge.workload,
    ),
    "accelforge-arch": (lambda v: accelforge.is_accelforge(v) and "arch" in v,
                        accelforge.architecture),
    "timeloop-problem": (lambda v: timeloop.is_timeloop(v) and "problem" in v, timeloop.problem),
    "timeloop-arch": (lambda v: timeloop.is_timeloop(v) and "architecture" in v,
                      timeloop.architecture),
}  # fmt: skip
KINDS: Final = tuple(_READERS)


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A document that was read: its kind, its text in our language, sizes of ranks, notes."""

    kind: str
    text: str
    sizes: dict[str, int]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim import``."""
        return {
            "kind": self.kind,
            "text": self.text,
            "sizes": self.sizes,
            "notes": list(self.notes),
        }


def import_(file: str | Path, kind: str | None = None, name: str | None = None) -> Exchanged:
    """A document of another tool as one of ours; what has no counterpart is in the notes.

    ``kind`` is one of ``KINDS``; by default the first that the document has.
    The name is the file's unless given.  Raises InputError for what cannot be
    read, and for what would be no right document here.
    """
    found = read_foreign(file)
    if kind is not None and kind not in _READERS:
        raise refuse(f"no kind {kind!r} of document to import", one_of(KINDS))
    fits = [k for k, (has, _) in _READERS.items() if has(found.value)]
    if not fits or (kind is not None and kind not in fits):
        what = f"no {kind}" if kind else "no document of a tool that accelsim reads"
        raise found.refuse((), what, ", ".join(fits) if kind and fits else one_of(KINDS))
    chosen = kind or fits[0]
    called = re.sub(r"[^\w.-]+", "-", name or Path(file).name.split(".")[0]) or "imported"
    try:
        read = _READERS[chosen][1](found, called)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"no {error.args[0]!r}" if isinstance(error, KeyError) else "a part of another type"
        message = f"not in the form of a {chosen} document: {what}"
        raise found.refuse((), message) from None
    text = yaml_text(read.document)
    _confirm(text, str(file), chosen)
    others = tuple(f"the document also has a {k}: --kind {k}" for k in fits if k != chosen)
    return Exchanged(chosen, text, read.sizes, (*read.notes, *others))


def _confirm(text: str, file: str, kind: str) -> None:
    """Load what was made, so that nothing is handed out that is refused later."""
    from accelsim.load.arch import architecture_from
    from accelsim.load.cascade import cascade_from

    document = from_text(text, f"{file} as read here")
    try:
        if kind.endswith("arch"):
            architecture_from(document)
        else:
            cascade_from(document)
    except InputError as error:
        raise InputError(error.faults) from None
