"""``export``: a problem, a machine and a mapping as an AccelForge specification.

AccelForge counts an access of the innermost memory for every operation; here
an Einsum keeps its last operands latched.  The specification therefore has a
memory ``latch`` in every PE that costs nothing and holds one tile of each
tensor, so that both count the same transfers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from accelsim.errors import refuse
from accelsim.explore.canonical import yaml_text
from accelsim.explore.estimate import bind
from accelsim.ir.arch import Architecture, Level, Unit
from accelsim.ir.cascade import Access, Einsum, Index, Map, rank_of
from accelsim.ir.mapping import Group, Leaf, Loop, Mapping, Node, short_ranks
from accelsim.ir.problem import Problem

LATCH: Final = "latch"
TARGETS: Final = ("accelforge",)


@dataclass(frozen=True, slots=True)
class Exported:
    """The text of another tool's document, and what it cannot say."""

    target: str
    text: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim export``."""
        return {"target": self.target, "text": self.text, "notes": list(self.notes)}


def export(to: str = "accelforge", **parts: Any) -> Exported:
    """The specification of what ``bind`` finds; keywords are those of ``estimate``.

    The mapping is exported where every group runs one Einsum; else workload
    and architecture are, and a note says so.  Raises InputError for Einsums
    that are no products and sums of plain accesses.

    >>> export("excel")
    Traceback (most recent call last):
    ...
    accelsim.errors.InputError: <command line>: no export to 'excel'
      allowed: accelforge
    """
    if to not in TARGETS:
        raise refuse(f"no export to {to!r}", ", ".join(TARGETS))
    problem, machine, mapping = bind(**parts)
    return specification(problem, machine, mapping)


def specification(problem: Problem, machine: Architecture, mapping: Mapping) -> Exported:
    """The specification of a bound problem."""
    views = [mapping.within(group) for group in mapping.groups]
    if short := {r for view in views for r in short_ranks(view, problem.extent)} | {*problem.short}:
        ranks = ", ".join(sorted(short))
        message = f"the last tile of {ranks} is short, which AccelForge does not have"
        raise refuse(message, "splits that divide")
    notes = [f"{u.name}.{w}: AccelForge has one action for every operation, exported is mac"
             for u in machine.units for w, _ in u.operations if w != "mac"]  # fmt: skip
    simple = all(_lone(group) is not None for group in mapping.groups)
    document: dict[str, Any] = {"arch": {"nodes": _architecture(machine)}}
    document["workload"] = _workload(problem, machine.word_bytes)
    if simple:
        document["mapping"] = {"nodes": _mapping(problem, machine, mapping, notes)}
    else:
        notes.append("mapping: a group of several Einsums has no counterpart, left out")
    return Exported("accelforge", _tagged(yaml_text(document)), tuple(notes))


def _tagged(text: str) -> str:
    """The text with the key ``!`` of each record turned into its YAML tag."""
    lines = []
    for line in text.splitlines():
        head, found, rest = line.partition("'!': ")
        if not found:
            lines.append(line)
        elif head.endswith("{"):
            tag, _, inner = rest.partition(", ")
            lines.append(f"{head[:-1]}!{tag} {{{inner}")
        else:
            lines.append(f"{head}!{rest}")
    return "\n".join(lines) + "\n"


def _architecture(machine: Architecture) -> list[dict[str, Any]]:
    nodes = [_memory(level) for level in machine.levels]
    if len(machine.units) > 1:
        used = ", ".join(unit.name for unit in machine.units[1:])
        raise refuse(f"{machine.name} has several units ({used} too)", "a machine of one unit")
    unit = machine.units[0]
    nodes.append(
        {
            "!": "Container",
            "name": f"{unit.name}_pes",
            "spatial": [
                {"name": "rows", "fanout": unit.rows, "may_reuse": "All"},
                {"name": "cols", "fanout": unit.cols, "may_reuse": "All"},
            ],
        }
    )
    nodes.append(_memory(Level(LATCH)))
    nodes.append(
        {
            "!": "Compute",
            "name": unit.name,
            "leak_power": 0,
            "area": 0,
            "actions": [{"name": "compute", "energy": _joules(unit), "latency": _period(machine)}],
        }
    )
    return nodes


def _memory(level: Level) -> dict[str, Any]:
    """A level; AccelForge counts in bits, and shared bandwidth as one sum of latencies."""
    bits = level.access_bytes * 8

    def seconds(own: float) -> float:
        rate = min(own, level.bandwidth)
        return 1 / (8 * rate) if math.isfinite(rate) else 0.0

    found: dict[str, Any] = {
        "!": "Memory",
        "name": level.name,
        "size": level.capacity_bytes * 8 if math.isfinite(level.capacity_bytes) else "inf",
        "leak_power": 0,
        "area": 0,
        "tensors": {"may_keep": "All"},
        "actions": [
            {
                "name": "read",
                "energy": level.read_energy_j / bits,
                "latency": seconds(level.read_bandwidth),
            },
            {
                "name": "write",
                "energy": level.write_energy_j / bits,
                "latency": seconds(level.write_bandwidth),
            },
        ],
    }
    return found


def _joules(unit: Unit) -> float:
    mac = dict(unit.operations).get("mac")
    if mac is None:
        raise refuse(f"{unit.name} has no operation 'mac'", "a unit that multiplies and adds")
    return mac.energy_j


def _period(machine: Architecture) -> float:
    mac = dict(machine.units[0].operations)["mac"]
    return mac.cycles / machine.clock_hz


def _workload(problem: Problem, word_bytes: float) -> dict[str, Any]:
    einsums = []
    ranks: dict[str, int] = {}
    for einsum in problem.cascade.einsums:
        reads = _product(einsum)
        accesses = [_access(problem, a) for a in dict.fromkeys(reads)]
        output = {**_access(problem, einsum.output), "output": True}
        einsums.append({"name": einsum.name, "tensor_accesses": [*accesses, output]})
        for variable in problem.cascade.spaces[id(einsum)]:
            ranks[variable] = problem.extent(rank_of(variable))
    return {
        "iteration_space_shape": {v: f"0 <= {v} < {size}" for v, size in ranks.items()},
        "bits_per_value": {"All": int(word_bytes * 8)},
        "einsums": einsums,
    }


def _product(einsum: Einsum) -> list[Access]:
    """The factors of an Einsum that is a product of accesses, summed."""
    sums = all(r.op == "sum" for r in einsum.reductions)
    todo, found = [einsum.expr], []
    while todo:
        expr = todo.pop(0)
        if isinstance(expr, Access):
            found.append(expr)
        elif isinstance(expr, Map) and expr.op == "mul":
            todo = [*expr.args, *todo]
        else:
            sums = False
            break
    if not sums or not found or einsum.where:
        raise refuse(f"{einsum.name} is no sum of products", "Einsums as Z[m,n] = A[m,k] * B[k,n]")
    return found


def _access(problem: Problem, access: Access) -> dict[str, Any]:
    projection = {}
    for rank, at in zip(problem.cascade.tensors[access.tensor], access.indices, strict=True):
        if not isinstance(at, Index) or at.plain is None:
            raise refuse(f"{access.tensor} is read at an index that is no variable", "X[m,k]")
        projection[rank] = at.plain
    return {"name": access.tensor, "projection": projection}


def _lone(group: Group) -> Leaf | None:
    """The leaf of a group that runs one Einsum; None where there are several."""
    node: Node | Leaf = group.tree
    while isinstance(node, Node):
        if len(node.children) != 1:
            return None
        node = node.children[0]
    return node


def _mapping(
    problem: Problem, machine: Architecture, mapping: Mapping, notes: list[str]
) -> list[dict[str, Any]]:
    tensors = [
        *(t.name for t in problem.cascade.inputs),
        *(e.name for e in problem.cascade.einsums),
    ]
    backing = {"!": "Storage", "tensors": tensors, "component": machine.backing.name}
    groups = [
        _nest(problem, machine, mapping.within(group), group, notes) for group in mapping.groups
    ]
    if len(groups) == 1:
        return [backing, *groups[0]]
    nested = [{"!": "Nested", "nodes": nodes} for nodes in groups]
    return [backing, {"!": "Sequential", "nodes": nested}]


def _nest(
    problem: Problem, machine: Architecture, mapping: Mapping, group: Group, notes: list[str]
) -> list[dict[str, Any]]:
    """One group as nodes from the outside in; adds to the notes.

    AccelForge fetches a tile anew in every iteration of the loops above it;
    here one that the innermost of them leave alone stays.  So a tile stands
    outside the innermost run of loops that its tensor does not depend on.
    """
    rank = {loop.part: name for name, parts in mapping.parts for loop in parts}
    loops: list[Loop] = []
    tiles: list[tuple[int, str, str]] = []  # loops above, level, tensor
    node: Node | Leaf = group.tree
    while isinstance(node, Node):
        loops += [loop for loop in node.loops if loop.trips > 1]
        tiles += [(len(loops), hold.level, hold.tensor) for hold in node.holds]
        node = node.children[0]
    loops += [loop for loop in node.loops if loop.trips > 1]
    unit, einsum = machine.unit[node.unit], problem.cascade.steps[node.einsum]
    depends = {
        access.tensor: {rank_of(v) for at in access.indices for v in at.variables}
        for access in (*einsum.reads, einsum.output)
        if all(isinstance(at, Index) for at in access.indices)
    }

    def above(count: int, tensor: str) -> int:
        while count and rank[loops[count - 1].part] not in depends[tensor]:
            count -= 1
        return count

    tiles = [(above(count, tensor), level, tensor) for count, level, tensor in tiles]
    latches = [(above(len(loops), tensor), LATCH, tensor) for tensor in depends]
    spread = max([count for count, _, _ in tiles], default=0)
    spread = max(spread, min(count for count, _, _ in latches))
    for count, _, tensor in latches:
        if count < spread:
            notes.append(
                f"{tensor}: latched here while other tiles in memory change, in AccelForge not: "
                "it counts more reads"
            )
    latches = [(max(count, spread), level, tensor) for count, level, tensor in latches]
    return _placed(mapping, rank, loops, [*tiles, *latches], spread, node, unit)


def _placed(
    mapping: Mapping,
    rank: dict[str, str],
    loops: list[Loop],
    tiles: list[tuple[int, str, str]],
    spread: int,
    leaf: Leaf,
    unit: Unit,
) -> list[dict[str, Any]]:
    """Loops with the tiles between them, the array below the first ``spread`` loops."""
    left = {name: math.prod(loop.trips for loop in parts) for name, parts in mapping.parts}
    nodes: list[dict[str, Any]] = []

    def over(kind: str, loop: Loop, **more: str) -> None:
        name = rank[loop.part]
        left[name] //= loop.trips
        if loop.trips > 1:
            nodes.append(
                {"!": kind, "rank_variable": name.lower(), "tile_shape": left[name], **more}
            )

    for count in range(len(loops) + 1):
        here = [(level, tensor) for at, level, tensor in tiles if at == count]
        nodes += [{"!": "Storage", "tensors": [tensor], "component": level}
                  for level, tensor in here if level != LATCH]  # fmt: skip
        if count == spread:
            for own, side, name in ((leaf.rows, unit.rows, "rows"), (leaf.cols, unit.cols, "cols")):
                if math.prod(loop.trips for loop in own) > side:
                    told = f"{leaf.einsum} is spread over more PEs than there are"
                    raise refuse(told, "no more than one round")
                for loop in own:
                    over("Spatial", loop, name=name, component=f"{unit.name}_pes")
        nodes += [{"!": "Storage", "tensors": [tensor], "component": LATCH}
                  for level, tensor in here if level == LATCH]  # fmt: skip
        if count < len(loops):
            over("Temporal", loops[count])
    return [*nodes, {"!": "Compute", "einsum": leaf.einsum, "component": unit.name}]
