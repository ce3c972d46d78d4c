"""AccelForge specifications (successor of Timeloop): workloads and memory hierarchies.

A workload is a list of Einsums, each a text (``V[b,m,e] = I[b,m,d] * W[e,d]``)
or a record of tensor accesses; an index names the rank of the same letter, or
one that it is given (``M: p``).  An architecture is a list of nodes from the
backing store inwards: memories, containers with fanout, computes.  Quantities
there are in bits, seconds and joules, written as arithmetic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

from accelsim.errors import InputError
from accelsim.ir.rule import rule
from accelsim.load.foreign import Foreign, Imported

_TEXT: Final = re.compile(r"\s*(\w+)\s*(?:\(\w+\))?\s*\[([^\]]*)\]\s*=\s*(.*?)\s*", re.S)
_ACCESS: Final = re.compile(r"(\w+)\s*(?:\(\w+\)\s*)?\[([^\]]*)\]")
_BOUND: Final = re.compile(r"\s*0\s*<=\s*(\w+)\s*<\s*(\d+)\s*")
#: Fields of a workload and of its Einsums that change nothing in what is computed.
WORKLOAD: Final = ("bits_per_value", "persistent_tensors", "renames", "version")

#: Nodes that only say how many there are of what follows, and nodes of nodes.
SPREAD: Final = ("Container", "Fanout")
GROUPS: Final = ("Hierarchical", "Array", "Fork", "Parallel")
#: Groups whose nodes do not follow one another.
BESIDE: Final = ("Fork", "Parallel")

#: One access: the tensor, and for each rank the index that stands there.
Access = tuple[str, dict[str, str]]


def is_accelforge(value: Any) -> bool:
    """Whether a document looks like an AccelForge specification.

    >>> is_accelforge({"workload": {"einsums": []}})
    True
    """
    if not isinstance(value, dict):
        return False
    workload, arch = value.get("workload"), value.get("arch")
    return (isinstance(workload, dict) and "einsums" in workload) or (
        isinstance(arch, dict) and "nodes" in arch
    )


def workload(found: Foreign, name: str) -> Imported:
    """The cascade of a workload, and the sizes of its ranks.

    Raises InputError at Einsums that cannot be read and at tensors that are
    accessed with different ranks.
    """
    text = found.value["workload"]
    notes = [f"{key}: not part of a cascade, left out" for key in WORKLOAD if key in text]
    if "renames" in found.value:
        notes.append("renames: not part of a cascade, left out")
    einsums = [
        _einsum(found, ("workload", "einsums", n), entry)
        for n, entry in enumerate(text["einsums"] or [])
    ]
    ranks: dict[str, tuple[str, ...]] = {}
    lines = []
    for n, (output, inputs, copy) in enumerate(einsums):
        for tensor, at in (output, *inputs):
            known = ranks.setdefault(tensor, tuple(at))
            if known != tuple(at):
                path = ("workload", "einsums", n)
                told = f"{tensor} has ranks {', '.join(at)} here and {', '.join(known)} before"
                raise found.refuse(path, told, "the same ranks in the same order")
        if copy:
            notes.append(
                f"{output[0]} is a copy of {inputs[0][0]}: the workload names no operation"
            )
        product = " * ".join(_read(access) for access in inputs)
        lines.append(f"{_written(output)} = {product}")
    made = [output[0] for output, _, _ in einsums]
    read = [tensor for _, inputs, _ in einsums for tensor, _ in inputs]
    results = [t for t in made if t not in read]
    sizes = _sizes(found, text)
    letters = {
        v.upper()
        for output, inputs, _ in einsums
        for _, at in (output, *inputs)
        for index in at.values()
        for v in re.findall(r"[a-z]\w*", index)
    }
    every = dict.fromkeys([*(r for own in ranks.values() for r in own), *sorted(letters)])
    document: dict[str, Any] = {
        "cascade": name,
        "source": "an AccelForge workload",
        "ranks": list(every),
        "inputs": {t: list(ranks[t]) for t in dict.fromkeys(read) if t not in made},
        **({"output": results[0]} if len(results) == 1 else {"outputs": results}),
        "einsums": lines,
    }
    return Imported(document, {r: n for r, n in sizes.items() if r in every}, tuple(notes))


def _written(access: Access) -> str:
    return f"{access[0]}[{','.join(access[1].values())}]"


def _read(access: Access) -> str:
    """An access; a variable in another letter's rank is held inside that rank."""
    at = [
        f"clamp({index})" if index.isidentifier() and index.upper() != rank else index
        for rank, index in access[1].items()
    ]
    return f"{access[0]}[{','.join(at)}]"


def _einsum(
    found: Foreign, path: tuple[str | int, ...], entry: Any
) -> tuple[Access, tuple[Access, ...], bool]:
    """Output, inputs and whether it is a copy."""
    if isinstance(entry, dict) and "tensor_accesses" in entry:
        return _record(found, path, entry)
    text = entry.get("einsum") if isinstance(entry, dict) else entry
    match = _TEXT.fullmatch(str(text))
    if match is None:
        raise found.refuse(path, f"{str(text)[:80]!r} is no Einsum", "Z[m,n] = A[m,k] * B[k,n]")
    expression = re.sub(r"\bcopy\s*\((.*)\)", r"\1", match[3])
    inputs = tuple((t, _indices(found, path, at)) for t, at in _ACCESS.findall(expression))
    rest = _ACCESS.sub("", expression).replace("*", "").strip()
    if rest or not inputs:
        raise found.refuse(path, f"{rest[:40] or match[3]!r} has no counterpart", "A[...] * B[...]")
    return (match[1], _indices(found, path, match[2])), inputs, len(inputs) == 1


def _record(
    found: Foreign, path: tuple[str | int, ...], entry: dict[str, Any]
) -> tuple[Access, tuple[Access, ...], bool]:
    outputs: list[Access] = []
    inputs: list[Access] = []
    for access in entry["tensor_accesses"] or []:
        given = access.get("projection")
        if isinstance(given, dict):
            at = {str(rank): _index(found, path, str(index)) for rank, index in given.items()}
        else:
            at = _indices(found, path, ",".join(str(v) for v in given or []))
        (outputs if access.get("output") else inputs).append((str(access["name"]), at))
    if len(outputs) != 1 or not inputs:
        raise found.refuse(path, "not one output and some inputs", "output: true on one access")
    return outputs[0], tuple(inputs), len(inputs) == 1


def _indices(found: Foreign, path: tuple[str | int, ...], text: str) -> dict[str, str]:
    """Indices by rank, of a list such as ``b, M: p, h``."""
    at: dict[str, str] = {}
    for part in (p.strip() for p in text.split(",") if p.strip()):
        rank, _, index = (s.strip() for s in re.sub("=", ":", part).rpartition(":"))
        rank = (rank or index).upper()
        if not re.fullmatch(r"[A-Z]\w*", rank):
            allowed = "the rank that it stands in, as M: p+w"
            raise found.refuse(path, f"no rank for the index {index!r}", allowed)
        at[rank] = _index(found, path, index)
    return at


def _index(found: Foreign, path: tuple[str | int, ...], text: str) -> str:
    if not re.fullmatch(r"[\w+*\s-]+", text):
        raise found.refuse(path, f"no index {text!r}", "a variable, or a sum as p + w")
    return re.sub(r"[A-Za-z]\w*", lambda m: m[0].lower(), text).replace(" ", "")


def _sizes(found: Foreign, text: dict[str, Any]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for rank, size in (text.get("rank_sizes") or {}).items():
        if not isinstance(size, int) or size < 1:
            path = ("workload", "rank_sizes", rank)
            raise found.refuse(path, f"the size of {rank} is {size!r}", "a whole number")
        sizes[str(rank).upper()] = size
    for variable, bound in (text.get("iteration_space_shape") or {}).items():
        match = _BOUND.fullmatch(str(bound))
        if match is None:
            path = ("workload", "iteration_space_shape", variable)
            raise found.refuse(path, f"no size in {bound!r}", "0 <= m < 128")
        sizes[str(variable).upper()] = int(match[2])
    return sizes


def architecture(found: Foreign, name: str) -> Imported:
    """The spatial architecture of a specification; instances of a memory count as one.

    Raises InputError at quantities that are no arithmetic of numbers.
    """
    return _Nodes(found).build(name)


def _computes(
    path: tuple[str | int, ...], nodes: list[dict[str, Any]]
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """The computes among nodes and in their groups, with their paths."""
    for n, node in enumerate(nodes):
        if node.get("!") == "Compute":
            yield (*path, n), node
        elif node.get("!") in GROUPS:
            yield from _computes((*path, n, "nodes"), node.get("nodes") or [])


class _Nodes:
    """Walks the nodes of an architecture, collecting levels, units and notes."""

    def __init__(self, found: Foreign) -> None:
        self.found = found
        self.notes: list[str] = []
        self.levels: dict[str, Any] = {}
        self.units: dict[str, Any] = {}
        self.fanouts: list[int] = []
        self.clock = 0.0

    def build(self, name: str) -> Imported:
        nodes = self.found.value["arch"]["nodes"] or []
        periods = [self._latency(path, node) for path, node in _computes(("arch", "nodes"), nodes)]
        self.clock = min((1 / p for p in periods if p), default=1e9)
        self._nodes(("arch", "nodes"), nodes)
        document = {
            "architecture": name,
            "about": "read from an AccelForge specification",
            "clock": {"value": f"{self.clock:.12g} Hz", "source": "latency of the computes"},
            "word": {"value": "8 bit", "source": "assumed: the workload says bits_per_value"},
            "levels": self.levels,
            "units": self.units,
        }
        self.notes.append("word: 8 bit assumed; an AccelForge workload states bits_per_value")
        return Imported(document, {}, tuple(self.notes))

    def _nodes(self, path: tuple[str | int, ...], nodes: list[dict[str, Any]]) -> None:
        for n, node in enumerate(nodes):
            self._node((*path, n), node)

    def _node(self, path: tuple[str | int, ...], node: dict[str, Any]) -> None:
        kind = node.get("!")
        name = str(node.get("name", kind))
        own = []
        for spatial in node.get("spatial") or []:
            own.append(int(self._number((*path, "spatial"), spatial.get("fanout", 1))))
            ignored = [k for k in spatial if k not in ("name", "fanout")]
            if ignored:
                self.notes.append(
                    f"{name}.{spatial.get('name')}: {', '.join(ignored)} left out; "
                    "a mapping says what is spread and shared"
                )
        if own and kind not in SPREAD:
            self.notes.append(f"{name}: {math.prod(own)} instances")
        self.fanouts += own
        if kind == "Memory":
            self._memory(path, node, name)
        elif kind == "Compute":
            self._compute(path, node, name)
        elif kind in GROUPS:
            if kind in BESIDE:
                self.notes.append(
                    f"{name}: its nodes are beside each other, here one behind another"
                )
            self._nodes((*path, "nodes"), node.get("nodes") or [])
        elif kind not in SPREAD:
            self.notes.append(f"{name}: a {kind} has no counterpart, left out")
        for key in ("tensors", "enabled", "total_latency", "support_concurrent_binding"):
            if key in node:
                self.notes.append(f"{name}.{key}: {node[key]!s} left out; a mapping says it")
        if node.get("leak_power"):
            self.notes.append(f"{name}.leak_power: {node['leak_power']!s} left out")

    def _memory(self, path: tuple[str | int, ...], node: dict[str, Any], name: str) -> None:
        level: dict[str, Any] = {"source": "AccelForge specification"}
        instances = math.prod(self.fanouts)
        try:
            size = self._number((*path, "size"), node.get("size", "inf"))
        except InputError:
            self.notes.append(f"{name}.size: {node['size']!s} is no number, left out")
            size = math.inf
        if math.isfinite(size):
            level["capacity"] = f"{size * instances / 8:.12g} B"
        energy = {}
        for action in node.get("actions") or []:
            kind = str(action.get("name"))
            at = (*path, "actions")
            if kind in ("read", "write"):
                energy[kind] = self._number(at, action.get("energy", 0))
                rate = self._rate(at, action)
                if math.isfinite(rate):
                    level[f"{kind}_bandwidth"] = f"{rate * instances / 8:.12g} B/s"
        if any(energy.values()):
            level["access"] = "1 bit"
            for kind, joules in energy.items():
                level[f"{kind}_energy"] = f"{joules * 1e12:.12g} pJ"
        separate = "max(" in str(node.get("total_latency", ""))
        rates = [level.get(f"{kind}_bandwidth") for kind in ("read", "write")]
        if rates[0] is not None and rates[0] == rates[1] and not separate:
            level["bandwidth"] = level.pop("read_bandwidth")
            del level["write_bandwidth"]
        if area := self._number((*path, "area"), node.get("area", 0)):
            level["area"] = f"{area * instances * 1e12:.12g} um2"
        self.levels[name] = level

    def _compute(self, path: tuple[str | int, ...], node: dict[str, Any], name: str) -> None:
        actions = node.get("actions") or [{}]
        energy = self._number((*path, "actions"), actions[0].get("energy", 0))
        period = self._latency(path, node)
        scalar = "2" in str(node.get("enabled", ""))
        rows = math.prod(self.fanouts[:-1]) if len(self.fanouts) > 1 else 1
        cols = self.fanouts[-1] if self.fanouts else 1
        cycles = period * self.clock
        if 0 < cycles < 1:  # lanes that the description folds into a shorter latency
            cols, cycles = cols * round(1 / cycles), cycles * round(1 / cycles)
        works = ("add", "max", "exp", "div") if scalar else ("mac", "mul", "add")
        operation = {"cycles": round(cycles, 9), "energy": f"{energy * 1e12:.12g} pJ"}
        source = "AccelForge specification"
        self.units[name] = {
            "rows": rows,
            "cols": cols,
            "source": source,
            "operations": {work: {**operation, "source": source} for work in works},
        }
        self.notes.append(
            f"{name}: AccelForge has one action for every operation; taken as {', '.join(works)}"
        )

    def _latency(self, path: tuple[str | int, ...], node: dict[str, Any]) -> float:
        """Seconds an operation."""
        rate = self._rate((*path, "actions"), (node.get("actions") or [{}])[0])
        return 1 / rate if rate else math.inf

    def _rate(self, path: tuple[str | int, ...], action: dict[str, Any]) -> float:
        """Values a second of an action: its throughput, or one over its latency."""
        if "throughput" in action:
            return self._number(path, action["throughput"])
        latency = self._number(path, action.get("latency", 0))
        return 1 / latency if latency else math.inf

    def _number(self, path: tuple[str | int, ...], text: Any) -> float:
        if str(text).strip() in ("inf", ".inf"):
            return math.inf
        value = rule(str(text), self.found.place(path)).value({})
        if isinstance(value, str | bool):
            raise self.found.refuse(path, f"{text!r} is no number", "arithmetic of numbers")
        return float(value)
