"""Any cascade on a GPU, Einsum by Einsum: contractions on tensor cores, the rest in between.

What stands between two contractions is one launch, as a compiler that fuses
elementwise work and reductions would have it: tensors that are made and read
within it stay on chip, all others go through memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from accelsim.analysis.work import work
from accelsim.ir.cascade import Einsum, accesses, rank_of
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor
from accelsim.ir.problem import Problem
from accelsim.models.gpu_gemm import Gemm
from accelsim.models.gpu_gemm import launch as gemm
from accelsim.models.gpu_launch import Launch

#: Lane operations of one operation of a work class.  A quotient, a root and a logarithm go through
#: the exponential's unit, with a multiply-add or two around (CUDA programming guide, intrinsics).
LANES: dict[str, dict[str, float]] = {
    "mac": {"fma": 1},
    "mul": {"fma": 1},
    "add": {"add": 1},
    "max": {"max": 1},
    "topk": {"max": 1},
    "exp": {"ex2": 1, "fma": 1},
    "log": {"ex2": 1, "fma": 1},
    "sqrt": {"ex2": 1, "fma": 1},
    "div": {"ex2": 1, "fma": 2},
    "round": {"cvt": 1},
    "select": {"alu": 1},
}
#: Pipes of lane operations: those of one group run on one pipe.
PIPES = {"ex2": ("ex2",), "alu": ("max", "cvt", "alu"), "issue": ("fma", "add")}
#: Bytes of a number that no format says more of.
WORD = 2.0


def launches(gpu: Gpu, product: KernelDescriptor, problem: Problem) -> list[Launch]:
    """The launches of a bound cascade, in text order."""
    found: list[Launch] = []
    run: list[Einsum] = []
    for einsum in problem.cascade.einsums:
        if contraction(einsum):
            found += _between(gpu, problem, run)
            found += _product(gpu, product, problem, einsum)
            run = []
        else:
            run.append(einsum)
    return found + _between(gpu, problem, run)


def contraction(einsum: Einsum) -> bool:
    """Whether it is a product of two tensors that is summed: work of a tensor core.

    >>> from accelsim.load.cascade import load_cascade
    >>> [e.output.tensor for e in load_cascade("attention-3pass").einsums if contraction(e)]
    ['QK', 'AV']
    """
    reads = list(accesses(einsum.expr))
    if work(einsum) != {"mac": 1} or len(reads) != 2:
        return False
    first, second = (set(read.variables) for read in reads)
    return bool(first - second) and bool(second - first) and bool(first & second)


def _bytes(problem: Problem, tensor: str) -> float:
    return problem.defined_elements(tensor) * problem.bits(tensor, 8 * WORD) / 8


def _extent(problem: Problem, variables: Iterable[str]) -> int:
    return prod(problem.extent(rank_of(v)) for v in variables)


def _product(gpu: Gpu, kernel: KernelDescriptor, problem: Problem, einsum: Einsum) -> list[Launch]:
    """A contraction as a batch of matrix products; masked points are left out of its time."""
    first, second = (set(read.variables) for read in accesses(einsum.expr))
    out = set(einsum.output.variables)
    case = Gemm(
        M=_extent(problem, (first - second) & out),
        N=_extent(problem, (second - first) & out),
        K=_extent(problem, (first & second) - out),
        batch=_extent(problem, first & second & out),
    )
    full = case.M * case.N * case.K * case.batch
    share = min(1.0, problem.points(einsum) / full)
    reads = [read.tensor for read in accesses(einsum.expr)]
    read = sum(_bytes(problem, tensor) for tensor in dict.fromkeys(reads))
    written = _bytes(problem, einsum.output.tensor)
    found = gemm(gpu, kernel, case)
    main = found[0]
    scaled = Launch(
        einsum.output.tensor,
        main.cycles * share,
        read,
        written if len(found) == 1 else 0.0,
        main.l2_bytes * share,
        {name: count * share for name, count in main.operations.items()},
        blocks=main.blocks,
        slots=main.slots,
        stages=main.stages,
        shape=main.shape,
    )
    return [scaled, *found[1:]]


def _between(gpu: Gpu, problem: Problem, run: list[Einsum]) -> list[Launch]:
    """One launch of Einsums that are no contractions, intermediate results on chip."""
    if not run:
        return []
    made = {e.output.tensor for e in run}
    inside = {id(e) for e in run}
    outside = {
        a.tensor for e in problem.cascade.einsums if id(e) not in inside for a in accesses(e.expr)
    } | set(problem.cascade.outputs)
    reads = dict.fromkeys(a.tensor for e in run for a in accesses(e.expr) if a.tensor not in made)
    operations: dict[str, float] = {}
    for einsum in run:
        points = problem.points(einsum)
        for name, count in work(einsum).items():
            for lane, each in LANES[name].items():
                operations[lane] = operations.get(lane, 0.0) + each * count * points
    pipes = {
        pipe: sum(operations.get(lane, 0.0) / gpu.rate(lane) for lane in lanes)
        / gpu.multiprocessors
        for pipe, lanes in PIPES.items()
    }
    read = sum(_bytes(problem, tensor) for tensor in reads)
    written = sum(_bytes(problem, tensor) for tensor in made & outside)
    return [
        Launch(
            " ".join(dict.fromkeys(e.output.tensor for e in run)),
            max(pipes.values()),
            read,
            written,
            read + written,
            operations,
            stages=tuple((pipe, cycles, pipe) for pipe, cycles in pipes.items()),
            shape="elementwise",
            lead_s=gpu.waits.memory / gpu.clock_hz,
        )
    ]
