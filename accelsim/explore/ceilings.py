"""Ceilings of a machine, and where designs and kernels stand under them: a roofline's numbers.

Rates against intensities (Williams, Waterman and Patterson, 2009); the times
that follow from the same ceilings are in ``explore.roofline``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from accelsim.analysis.work import work
from accelsim.explore.roofline import least_cycles, shared_cycles
from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Einsum
from accelsim.ir.gpu import Gpu
from accelsim.ir.mapping import Leaf
from accelsim.ir.problem import Problem
from accelsim.models.estimate import Estimate
from accelsim.models.latency import cycles_a_point

#: Kernels whose scores each take an exponential.
SOFTMAX_KERNELS: Final = ("attention-", "flash-attention-", "cudnn-attention", "decode-")


def design_ceilings(
    design: str, problem: Problem, machine: Architecture, estimate: Estimate
) -> dict[str, Any]:
    """Ceilings of a spatial array and where a design stands under them, as a JSON object.

    Rates are operations a second (a multiply-add is one), intensities
    operations a byte of a level.  ``ceilings``: a unit at one operation a PE
    and cycle; ``classes``: all units that can, at one class of operation
    alone; ``mix``: all units at this design's Einsums, shared out at best;
    ``slopes``: bytes a second of each level that states a bandwidth.

    >>> from accelsim.explore.estimate import bind
    >>> from accelsim.models.estimate import estimate
    >>> problem, machine, mapping = bind(design="fusemax", model="BERT", seq="4K")
    >>> found = design_ceilings("fusemax", problem, machine, estimate(problem, machine, mapping))
    >>> [f"{found[name] / 1e12:.3g} Tops/s" for name in ("rate", "mix")]
    ['57.5 Tops/s', '59.6 Tops/s']
    """
    clock = machine.clock_hz
    ops: dict[str, float] = {}
    for einsum in problem.cascade.einsums:
        for name, n in work(einsum).items():
            ops[name] = ops.get(name, 0.0) + n * problem.points(einsum)
    total = sum(ops.values())
    classes = {name: cycles for name in ops if (cycles := least_cycles(machine, {name: 1.0}))}
    mix = shared_cycles(machine, (_costs(problem, e, machine) for e in problem.cascade.einsums))
    bandwidths = {
        level.name: min(level.bandwidth, level.read_bandwidth + level.write_bandwidth)
        for level in machine.levels
    }
    return {
        "design": design,
        "arch": machine.name,
        "ceilings": {unit.name: unit.pes * clock for unit in machine.units},
        "classes": {name: clock / cycles for name, cycles in classes.items()},
        "mix": clock * total / mix,
        "slopes": {name: rate for name, rate in bandwidths.items() if rate < float("inf")},
        "rate": total / estimate.latency_s,
        "intensity": {name: total / size for name, size in estimate.traffic_bytes.items() if size},
    }


def _costs(problem: Problem, einsum: Einsum, machine: Architecture) -> dict[str, float]:
    """PE cycles of an Einsum on each unit that has its operations."""
    points = problem.points(einsum)
    return {
        unit.name: points * cycles_a_point(unit, einsum, Leaf(einsum.name, unit.name))
        for unit in machine.units
        if all(unit.operation(name) is not None for name in work(einsum))
    }


def gpu_ceilings(gpu: Gpu, width: int) -> dict[str, Any]:
    """Ceilings of a GPU for attention with heads of ``width``, as a JSON object.

    FLOP a second at the highest clock: of each 16-bit tensor path, of fused
    multiply-adds in lanes, and of the exponential unit, which allows ``4 *
    width`` FLOP of the two products for the one exponential of a score (the
    count of Shah et al., FlashAttention-3, 2024).  Bytes a second of memory
    and of L2.

    >>> from accelsim.load.gpu import load_gpu
    >>> found = gpu_ceilings(load_gpu("h100-sxm"), 128)["ceilings"]
    >>> found["exponential"] / found["wgmma"] > 1, gpu_ceilings(load_gpu("h100-sxm"), 64)["width"]
    (True, 64)
    """
    lanes = gpu.multiprocessors * gpu.clock_hz
    paths = {
        path.removesuffix(".bf16"): rate * gpu.multiprocessors * gpu.tensor_clock_hz
        for path, rate in gpu.tensor
        if path.endswith(".bf16")
    }
    return {
        "gpu": gpu.name,
        "width": width,
        "ceilings": {
            **paths,
            "exponential": 4 * width * gpu.rate("ex2") * lanes,
            "fma": 2 * gpu.rate("fma") * lanes,
        },
        "slopes": {"memory": gpu.memory.read, "L2": gpu.l2_bandwidth},
    }


def kernel_ceilings(gpu: Gpu, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ceilings for each width of heads with the attention kernels that were measured under them.

    ``rows`` are those of ``validate gpu``; a point's intensity is FLOP a
    compulsory byte, its rates FLOP a second as measured and as predicted.

    >>> from accelsim.load.gpu import load_gpu
    >>> row = {"kernel": "attention-1pass-mma", "sizes": {"E": 64}, "what": "", "flops": 1e9,
    ...        "bytes": 1e6, "measured_s": 1e-5, "predicted_s": 2e-5}
    >>> kernel_ceilings(load_gpu("h100-sxm"), [row])[0]["points"][0]["intensity"]
    1000.0
    """
    points: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if row["kernel"].startswith(SOFTMAX_KERNELS):
            points.setdefault(row["sizes"]["E"], []).append(
                {
                    "kernel": row["kernel"],
                    "what": row["what"],
                    "intensity": row["flops"] / row["bytes"],
                    "measured": row["flops"] / row["measured_s"],
                    "predicted": row["flops"] / row["predicted_s"],
                }
            )
    return [{**gpu_ceilings(gpu, width), "points": points[width]} for width in sorted(points)]
