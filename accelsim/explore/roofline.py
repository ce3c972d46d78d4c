"""A roofline: the time that no schedule on a machine beats, from operations and bytes alone.

The larger of two bounds (Williams, Waterman and Patterson, 2009): bytes over
the bandwidth of the backing memory, and operations over the rate of what can
do them.  It knows no tile, no dependence and no launch: a speedup of two
rooflines is what the machine allows, not what a kernel reaches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Final

from accelsim.ir.arch import Architecture
from accelsim.load.arch import load_architecture
from accelsim.load.gpu import load_gpu
from accelsim.models.staged import cycles_of, joules_of

#: The machines of the table: FuseMax's array, and an H100 with its measured ceilings.
ARRAY: Final = "fusemax-cloud"
GPU: Final = "h100-sxm"
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
    computed = least_cycles(machine, ops) / machine.clock_hz
    return max(moved_bytes / machine.backing.bandwidth, computed)


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
        costs = [cost for u in machine.units if (cost := joules_of(u, name)) is not None]
        total += n * min(costs, default=0.0)
    return total


def least_cycles(machine: Architecture, ops: Mapping[str, float]) -> float:
    """Cycles that operations by class take at least, shared among the units that can do them.

    Classes that no unit can do are left out.

    >>> least_cycles(load_architecture("fusemax-cloud"), {"mac": 256.0 * 256 + 256})
    1.0
    """
    costs = ((n, {u: cycles_of(u, name) for u in machine.units}) for name, n in ops.items())
    return shared_cycles(
        machine, [{u.name: n * c for u, c in own.items() if c is not None} for n, own in costs]
    )


def shared_cycles(machine: Architecture, jobs: Iterable[Mapping[str, float]]) -> float:
    """Cycles that jobs take at least: each is PE cycles by the units that can do it.

    The most, over all sets of units, of the work that only they can do over
    their PEs; how a job is shared out is left open, so that no mapping is faster.

    >>> machine = load_architecture("fusemax-cloud")
    >>> shared_cycles(machine, [{"array_1d": 512.0}, {"array_1d": 1e9, "array_2d": 65536.0}])
    2.0
    """
    own = [job for job in jobs if job]
    worst = 0.0
    for size in range(1, len(machine.units) + 1):
        for units in combinations(machine.units, size):
            names = {u.name for u in units}
            theirs = sum(min(job.values()) for job in own if job.keys() <= names)
            worst = max(worst, theirs / sum(u.pes for u in units))
    return worst


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
