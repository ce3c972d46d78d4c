"""Timeloop problems and architectures (Parashar et al., ISPASS 2019; formats 0.2 to 0.4).

A problem's shape has dimensions and data spaces; each projection is a sum of
products of dimensions and coefficients.  Its one Einsum multiplies what is
read and sums over the dimensions that the written data space lacks.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from accelsim.load.foreign import Foreign, Imported

_SPAN: Final = re.compile(r"(.*?)\[\s*(\d+)\s*\.\.\s*(\d+)\s*\]")
#: Classes of components that hold data, by a part of their name.
STORAGE: Final = ("dram", "sram", "storage", "regfile", "buffer", "register")
COMPUTE: Final = ("mac", "compute")
#: Attributes that are read: bits of a word, capacity, words a cycle.
WORDS: Final = ("datawidth", "word-bits")
SIZES: Final = ("depth", "width", "memory_depth", "memory_width", "entries")
BANDWIDTHS: Final = ("read_bandwidth", "write_bandwidth", "shared_bandwidth")
#: Bits of a word where a description states none.
WORD_BITS: Final = 16
SOURCE: Final = "Timeloop description"


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
    if not isinstance(shape, dict):
        message = f"the shape {str(shape)!r} stands in another file"
        raise found.refuse(("problem", "shape"), message, "the shape itself: dimensions and so on")
    instance = {**text, **(text.get("instance") or {})}
    dimensions = [str(d) for d in shape.get("dimensions") or []]
    coefficients = {}
    for entry in shape.get("coefficients") or []:
        coefficient = str(entry["name"])
        coefficients[coefficient] = int(instance.get(coefficient, entry.get("default", 1)))
    spaces = shape.get("data-spaces") or shape.get("data_spaces") or []
    rows: dict[str, list[Position]] = {}
    written = []
    spelled = "data-spaces" if "data-spaces" in shape else "data_spaces"
    for n, space in enumerate(spaces):
        path = ("problem", "shape", spelled, n)
        projection = space.get("projection") or []
        if not isinstance(projection, list):
            message = f"the projection {str(projection)[:40]!r} is no list"
            raise found.refuse((*path, "projection"), message, "[[[M]], [[K]]]")
        rows[str(space["name"])] = [
            _position(found, path, terms, dimensions, coefficients) for terms in projection
        ]
        if space.get("read-write") or space.get("read_write"):
            written.append(str(space["name"]))
    if len(written) != 1:
        message = f"{len(written)} data spaces are written"
        raise found.refuse(("problem", "shape"), message, "read-write: true on one of them")
    accesses = {t: f"{t}[{','.join(at.index for at in own)}]" for t, own in rows.items()}
    read = [t for t in rows if t not in written]
    ranks = dict.fromkeys([*dimensions, *(at.rank for own in rows.values() for at in own)])
    document: dict[str, Any] = {
        "cascade": name,
        "source": "a Timeloop problem",
        "ranks": list(ranks),
        "inputs": {t: [at.rank for at in rows[t]] for t in read},
        "output": written[0],
        "einsums": [f"{accesses[written[0]]} = " + " * ".join(accesses[t] for t in read)],
    }
    sizes = {d: int(instance[d]) for d in dimensions if isinstance(instance.get(d), int)}
    for at in (at for own in rows.values() for at in own):
        if at.rank not in sizes and all(d in sizes for d, _ in at.terms):
            sizes[at.rank] = 1 + sum(n * (sizes[d] - 1) for d, n in at.terms)
    notes = []
    if "densities" in instance:
        notes.append("densities: left out; a cascade's document states them under density")
    return Imported(document, sizes, tuple(notes))


@dataclass(frozen=True, slots=True)
class Position:
    """One position of a projection: its rank, its index, and dimensions with their factors."""

    rank: str
    index: str
    terms: tuple[tuple[str, int], ...]


def _position(
    found: Foreign,
    path: tuple[str | int, ...],
    terms: Any,
    dimensions: list[str],
    coefficients: dict[str, int],
) -> Position:
    """One position of a projection."""
    sums: list[tuple[str, int]] = []
    for term in terms if isinstance(terms, list) else [[terms]]:
        parts = [str(p) for p in (term if isinstance(term, list) else [term])]
        own = [p for p in parts if p in dimensions]
        factors = [p for p in parts if p not in dimensions]
        unknown = [p for p in factors if p not in coefficients]
        if len(own) != 1 or unknown:
            message = f"no product of a dimension and coefficients: {' * '.join(parts)}"
            raise found.refuse(path, message, ", ".join([*dimensions, *coefficients]))
        sums.append((own[0], math.prod(coefficients[p] for p in factors)))
    names = [name for name, _ in sums]
    index = "+".join(name.lower() if n == 1 else f"{n}*{name.lower()}" for name, n in sums)
    return Position(names[0] if len(sums) == 1 else "".join(sorted(names)), index, tuple(sums))


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
        self.word_bits: dict[str, int] = {}
        self.inherited = 0

    def build(self, name: str) -> Imported:
        arch = self.found.value["architecture"]
        self._attributes("architecture", arch.get("attributes") or {})
        for entry in arch.get("nodes") or arch.get("subtree") or []:
            self._entry(entry)
        self.notes.append("clock: 1 GHz assumed; the description counts in cycles")
        if self.levels or self.units:
            names = ", ".join([*self.levels, *self.units])
            self.notes.append(f"energy and area of {names}: not in the file, left out")
        document = {
            "architecture": name,
            "about": "read from a Timeloop description",
            "clock": {"value": "1 GHz", "source": "assumed"},
            "word": self._word(),
            "levels": self.levels,
            "units": self.units,
        }
        return Imported(document, {}, tuple(self.notes))

    def _word(self) -> dict[str, str]:
        """The word of the machine: what the components that state one agree on, or the widest."""
        stated = sorted(set(self.word_bits.values()) or {self.inherited} - {0})
        if not stated:
            self.notes.append(f"word: {WORD_BITS} bit assumed; no component states one")
            return {"value": f"{WORD_BITS} bit", "source": "assumed"}
        if len(stated) > 1:
            own = ", ".join(f"{name} {bits}" for name, bits in self.word_bits.items())
            self.notes.append(f"word: {stated[-1]} bit, the widest of {own}")
        return {"value": f"{stated[-1]} bit", "source": SOURCE}

    def _entry(self, entry: dict[str, Any]) -> None:
        name, count = _counted(str(entry.get("name", entry.get("!", ""))))
        spatial = entry.get("spatial") or {}
        for side in ("meshX", "meshY"):
            count *= int(spatial.get(side, 1))
        for part in ("constraints", "required_actions"):
            if part in entry:
                self.notes.append(f"{name}.{part}: left out; a mapping says what goes where")
        kind = str(entry.get("class", "")).lower() + str(entry.get("subclass", "")).lower()
        if kind:
            self._component(entry, name, count, kind)
        else:
            self.fanout *= count
            self._attributes(name, entry.get("attributes") or {})
        children = [c for part in ("local", "nodes", "subtree") for c in entry.get(part) or []]
        if entry.get("!") == "Parallel":
            names = ", ".join(str(child.get("name")) for child in children)
            self.notes.append(f"{names}: beside each other there, one behind the other here")
        for child in children:
            self._entry(child)

    def _attributes(self, name: str, attributes: dict[str, Any]) -> None:
        """What a container says of all that is in it: the bits of a word."""
        for key in WORDS:
            if isinstance(attributes.get(key), int):
                self.inherited = attributes[key]
        self._left_out(name, attributes, WORDS)

    def _component(self, entry: dict[str, Any], name: str, count: int, kind: str) -> None:
        attributes: dict[str, Any] = entry.get("attributes") or {}
        if any(word in kind for word in COMPUTE):
            self._unit(name, self.fanout * count, attributes)
        elif any(word in kind for word in STORAGE):
            self._level(name, self.fanout * count, kind, attributes)
        else:
            self.notes.append(f"{name}: a {entry.get('class')} has no counterpart, left out")

    def _unit(self, name: str, instances: int, attributes: dict[str, Any]) -> None:
        cols = int(attributes.get("meshX", 0)) or instances
        if instances % cols:
            cols = instances
        operation = {"cycles": 1, "source": SOURCE}
        self.units[name] = {
            "rows": instances // cols,
            "cols": cols,
            "source": SOURCE,
            "operations": {"mac": operation, "mul": operation, "add": operation},
        }
        self._own_bits(name, attributes)
        self._left_out(name, attributes, ("meshX", *WORDS))

    def _level(self, name: str, instances: int, kind: str, attributes: dict[str, Any]) -> None:
        level: dict[str, Any] = {"source": SOURCE}
        word = self._own_bits(name, attributes)
        bits = _bits(attributes, word)
        sizes: tuple[str, ...] = ()
        if bits and "dram" not in kind:
            level["capacity"] = f"{bits * instances / 8:.12g} B"
            sizes = SIZES
        for side in BANDWIDTHS:
            if side in attributes:
                own = "bandwidth" if side == "shared_bandwidth" else side
                rate = float(attributes[side]) * word / 8 * instances * 1e9
                level[own] = f"{rate:.12g} B/s"
        if instances > 1:
            self.notes.append(f"{name}: {instances} instances, taken as one of their size")
        self.levels[name] = level
        self._left_out(name, attributes, (*sizes, *BANDWIDTHS, *WORDS))

    def _own_bits(self, name: str, attributes: dict[str, Any]) -> int:
        """Bits of a component's words, remembered where it states them."""
        for key in WORDS:
            if isinstance(attributes.get(key), int):
                self.word_bits[name] = attributes[key]
        return self.word_bits.get(name, self.inherited or WORD_BITS)

    def _left_out(self, name: str, attributes: dict[str, Any], read: tuple[str, ...]) -> None:
        rest = [str(key) for key in attributes if key not in read and key != "!"]
        if rest:
            self.notes.append(f"{name}: {', '.join(rest)} left out")


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
