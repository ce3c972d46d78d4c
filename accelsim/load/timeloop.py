"""Timeloop problems and architectures (Parashar et al., ISPASS 2019; formats 0.2 to 0.4).

A problem's shape has dimensions and data spaces; each projection is a sum of
products of dimensions and coefficients.  Its one Einsum multiplies what is
read and sums over the dimensions that the written data space lacks.
"""

from __future__ import annotations

import re
from typing import Any, Final

from accelsim.load.foreign import Foreign, Imported

_SPAN: Final = re.compile(r"(.*?)\[\s*(\d+)\s*\.\.\s*(\d+)\s*\]")
#: Classes of components that hold data, by a part of their name.
STORAGE: Final = ("dram", "sram", "storage", "regfile", "buffer", "register")
COMPUTE: Final = ("mac", "compute")


def is_timeloop(value: Any) -> bool:
    """Whether a document looks like a Timeloop problem or architecture.

    >>> is_timeloop({"problem": {"shape": {}}})
    True
    """
    if not isinstance(value, dict):
        return False
    problem, arch = value.get("problem"), value.get("architecture")
    return (isinstance(problem, dict) and "shape" in problem) or (
        isinstance(arch, dict) and ("subtree" in arch or "nodes" in arch)
    )


def problem(found: Foreign, name: str) -> Imported:
    """The cascade of a problem, of one Einsum, and the sizes of its dimensions.

    Raises InputError at projections of dimensions that there are not, and
    where not one data space is written.
    """
    text = found.value["problem"]
    shape = text["shape"]
    instance = {**text, **(text.get("instance") or {})}
    dimensions = [str(d) for d in shape.get("dimensions") or []]
    coefficients = {}
    for entry in shape.get("coefficients") or []:
        coefficient = str(entry["name"])
        coefficients[coefficient] = int(instance.get(coefficient, entry.get("default", 1)))
    spaces = shape.get("data-spaces") or shape.get("data_spaces") or []
    rows: dict[str, list[tuple[str, str]]] = {}
    written = []
    for n, space in enumerate(spaces):
        path = ("problem", "shape", "data-spaces", n)
        rows[str(space["name"])] = [
            _position(found, path, terms, dimensions, coefficients)
            for terms in space.get("projection") or []
        ]
        if space.get("read-write") or space.get("read_write"):
            written.append(str(space["name"]))
    if len(written) != 1:
        message = f"{len(written)} data spaces are written"
        raise found.refuse(("problem", "shape"), message, "read-write: true on one of them")
    accesses = {t: f"{t}[{','.join(at for _, at in own)}]" for t, own in rows.items()}
    read = [t for t in rows if t not in written]
    ranks = dict.fromkeys([*dimensions, *(rank for own in rows.values() for rank, _ in own)])
    document: dict[str, Any] = {
        "cascade": name,
        "source": "a Timeloop problem",
        "ranks": list(ranks),
        "inputs": {t: [rank for rank, _ in rows[t]] for t in read},
        "output": written[0],
        "einsums": [f"{accesses[written[0]]} = " + " * ".join(accesses[t] for t in read)],
    }
    sizes = {d: int(instance[d]) for d in dimensions if isinstance(instance.get(d), int)}
    notes = []
    if "densities" in instance:
        notes.append("densities: left out; a cascade's document states them under density")
    return Imported(document, sizes, tuple(notes))


def _position(
    found: Foreign,
    path: tuple[str | int, ...],
    terms: Any,
    dimensions: list[str],
    coefficients: dict[str, int],
) -> tuple[str, str]:
    """The rank and the index of one position of a projection."""
    sums = []
    names = []
    for term in terms if isinstance(terms, list) else [[terms]]:
        parts = [str(p) for p in (term if isinstance(term, list) else [term])]
        own = [p for p in parts if p in dimensions]
        factors = [p for p in parts if p not in dimensions]
        unknown = [p for p in factors if p not in coefficients]
        if len(own) != 1 or unknown:
            message = f"no product of a dimension and coefficients: {' * '.join(parts)}"
            raise found.refuse(path, message, ", ".join([*dimensions, *coefficients]))
        factor = 1
        for p in factors:
            factor *= coefficients[p]
        names.append(own[0])
        sums.append(own[0].lower() if factor == 1 else f"{factor}*{own[0].lower()}")
    return (names[0] if len(sums) == 1 else "".join(sorted(names))), "+".join(sums)


def architecture(found: Foreign, name: str) -> Imported:
    """The spatial architecture of a Timeloop description.

    Energies and areas are not in such a file (Accelergy computes them), so
    levels and units come without; a note says of which.
    """
    return _Tree(found).build(name)


class _Tree:
    """Walks subtrees (0.3) or nodes (0.4) from the outside in."""

    def __init__(self, found: Foreign) -> None:
        self.found = found
        self.notes: list[str] = []
        self.levels: dict[str, Any] = {}
        self.units: dict[str, Any] = {}
        self.fanout = 1
        self.word_bits = 16

    def build(self, name: str) -> Imported:
        arch = self.found.value["architecture"]
        self._attributes(arch.get("attributes") or {})
        for entry in arch.get("nodes") or arch.get("subtree") or []:
            self._entry(entry)
        clock = "1 GHz"
        self.notes.append("clock: 1 GHz assumed; the description counts in cycles")
        if self.levels or self.units:
            names = ", ".join([*self.levels, *self.units])
            self.notes.append(f"energy and area of {names}: not in the file, left out")
        document = {
            "architecture": name,
            "about": "read from a Timeloop description",
            "clock": {"value": clock, "source": "assumed"},
            "word": {"value": f"{self.word_bits} bit", "source": "Timeloop description"},
            "levels": self.levels,
            "units": self.units,
        }
        return Imported(document, {}, tuple(self.notes))

    def _attributes(self, attributes: dict[str, Any]) -> None:
        bits = attributes.get("datawidth") or attributes.get("word-bits")
        if isinstance(bits, int) and not self.levels:
            self.word_bits = bits

    def _entry(self, entry: dict[str, Any]) -> None:
        name, count = _counted(str(entry.get("name")))
        spatial = entry.get("spatial") or {}
        for side in ("meshX", "meshY"):
            count *= int(spatial.get(side, 1))
        attributes = entry.get("attributes") or {}
        kind = str(entry.get("class", "")).lower() + str(entry.get("subclass", "")).lower()
        if kind:
            self._component(entry, name, count, kind, attributes)
        else:
            self._attributes(attributes)
            self.fanout *= count
        for part in ("local", "nodes", "subtree"):
            for child in entry.get(part) or []:
                self._entry(child)

    def _component(
        self, entry: dict[str, Any], name: str, count: int, kind: str, attributes: dict[str, Any]
    ) -> None:
        instances = self.fanout * count
        source = "Timeloop description"
        if any(word in kind for word in COMPUTE):
            cols = int(attributes.get("meshX", 0)) or instances
            if instances % cols:
                cols = instances
            operation = {"cycles": 1, "source": source}
            self.units[name] = {
                "rows": instances // cols,
                "cols": cols,
                "source": source,
                "operations": {"mac": operation, "mul": operation, "add": operation},
            }
        elif any(word in kind for word in STORAGE):
            level: dict[str, Any] = {"source": source}
            bits = _bits(attributes, self.word_bits)
            if bits and "dram" not in kind:
                level["capacity"] = f"{bits * instances / 8:.12g} B"
            for side in ("read_bandwidth", "write_bandwidth", "shared_bandwidth"):
                if side in attributes:
                    own = "bandwidth" if side == "shared_bandwidth" else side
                    rate = float(attributes[side]) * self.word_bits / 8 * instances * 1e9
                    level[own] = f"{rate:.12g} B/s"
            if instances > 1:
                self.notes.append(f"{name}: {instances} instances, taken as one of their size")
            self.levels[name] = level
        else:
            self.notes.append(f"{name}: a {entry.get('class')} has no counterpart, left out")


def _counted(name: str) -> tuple[str, int]:
    """A name and how many there are of it: ``PE[0..15]`` is 16."""
    found = _SPAN.fullmatch(name)
    return (found[1], int(found[3]) - int(found[2]) + 1) if found else (name, 1)


def _bits(attributes: dict[str, Any], word_bits: int) -> int:
    """Bits of one instance, from depth and width or from entries."""
    depth = attributes.get("depth", attributes.get("memory_depth"))
    width = attributes.get("width", attributes.get("memory_width", word_bits))
    if isinstance(depth, int) and isinstance(width, int):
        return depth * width
    entries = attributes.get("entries")
    return entries * word_bits if isinstance(entries, int) else 0
