"""A roofline: the time that no schedule on a machine beats, from operations and bytes alone.

The larger of two bounds (Williams, Waterman and Patterson, 2009): bytes over
the bandwidth of the backing memory, and operations over the rate of what can
do them.  It knows no tile, no dependence and no launch: a speedup of two
rooflines is what the machine allows, not what a kernel reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Final

from accelsim.ir.arch import Architecture, Unit
from accelsim.load.arch import load_architecture
from accelsim.load.gpu import load_gpu

#: The machines of the table: FuseMax's array, and an H100 with its measured ceilings.
ARRAY: Final = "fusemax-cloud"
GPU: Final = "h100-sxm"
#: Classes that the array's units do not price, and what they are taken to cost there.
STANDS_IN: Final[dict[str, str]] = {
    "mul": "mac",
    "round": "add",
    "select": "max",
    "topk": "max",
    "log": "exp",
    "sqrt": "div",
}
#: The pipe of a multiprocessor that a class runs on, named by an operation that it is measured by;
#: reciprocals, roots and logarithms are those of the special function unit, as ex2 is.
PIPES: Final[dict[str, str]] = {
    "mac": "fma",
    "mul": "fma",
    "add": "fma",
    "exp": "ex2",
    "div": "ex2",
    "log": "ex2",
    "sqrt": "ex2",
    "max": "max",
    "topk": "max",
    "select": "alu",
    "round": "cvt",
}


def array_roofline(ops: Mapping[str, float], moved_bytes: float, arch: str = ARRAY) -> float:
    """Seconds that an array needs at least for operations by class and bytes of memory.

    Work that several units can do is shared among them; for every set of
    units, what only those can do takes at least its cycles over their PEs.

    >>> array_roofline({"mac": 940e6 * (256 * 256 + 256)}, 0.0)
    1.0
    """
    machine = load_architecture(arch)
    return max(moved_bytes / machine.backing.bandwidth, _cycles(machine, ops) / machine.clock_hz)


def array_energy(ops: Mapping[str, float], moved_bytes: float, arch: str = ARRAY) -> float:
    """Joules of the operations on the cheapest unit, and of the bytes at memory, read or written.

    What buffers and registers between them take is left out: a mapping decides it.

    >>> round(array_energy({"mac": 1e12}, 0.0), 3)
    17.165
    """
    machine = load_architecture(arch)
    backing = machine.backing
    each = min(backing.read_energy_j, backing.write_energy_j) / backing.access_bytes
    total = moved_bytes * each
    for name, n in ops.items():
        costs = [cost for u in machine.units if (cost := _joules(u, name)) is not None]
        total += n * min(costs, default=0.0)
    return total


def _joules(unit: Unit, work: str) -> float | None:
    """Energy of an operation on a unit; None where it cannot do it."""
    operation = unit.operation(work) or unit.operation(STANDS_IN.get(work, ""))
    if operation is None:
        return None
    own = sum(n * (_joules(unit, name) or 0.0) for name, n in operation.uses)
    return operation.energy_j + own


def _cycles(machine: Architecture, ops: Mapping[str, float]) -> float:
    """The most, over all sets of units, of the work that only they can do over their PEs."""
    able = {name: [u for u in machine.units if _cost(u, name) is not None] for name in ops}
    worst = 0.0
    for size in range(1, len(machine.units) + 1):
        for units in combinations(machine.units, size):
            theirs = 0.0
            for name, n in ops.items():
                if able[name] and all(u in units for u in able[name]):
                    theirs += n * min(_cost(u, name) or 0.0 for u in able[name])
            worst = max(worst, theirs / sum(u.pes for u in units))
    return worst


def _cost(unit: Unit, work: str) -> float | None:
    """PE cycles of an operation on a unit; None where it cannot do it."""
    operation = unit.operation(work) or unit.operation(STANDS_IN.get(work, ""))
    if operation is None:
        return None
    if operation.uses:
        return sum(n * (_cost(unit, name) or 0.0) for name, n in operation.uses)
    return operation.cycles


def gpu_roofline(
    ops: Mapping[str, float], product_macs: float, moved_bytes: float, gpu: str = GPU
) -> float:
    """Seconds that a GPU needs at least; ``product_macs`` of the multiply-adds on tensor cores.

    Each pipe works beside the others: the slowest counts.  Tensor cores take
    16-bit operands at their best path; everything else is in 32-bit lanes.

    >>> round(gpu_roofline({"mac": 1e15}, 1e15, 0.0), 2)
    2.02
    """
    machine = load_gpu(gpu)
    lanes: dict[str, float] = {}
    for name, n in ops.items():
        pipe = PIPES[name]
        lanes[pipe] = lanes.get(pipe, 0.0) + n - (product_macs if name == "mac" else 0.0)
    cores = machine.multiprocessors
    paths = [rate for path, rate in machine.tensor if path.endswith(".bf16")]
    times = [n / (machine.rate(pipe) * cores * machine.clock_hz) for pipe, n in lanes.items()]
    times.append(2 * product_macs / (max(paths) * cores * machine.tensor_clock_hz))
    times.append(moved_bytes / machine.memory.read)
    return max(times)
