"""A described kernel for an attention of one's own: the one whose work is that of its two products.

An attention that keeps a maximum and an exponential between a product of
queries and keys and one with the values runs in a block-sparse kernel over
the share of the scores that its mask leaves, or, with fewer queries than an
instruction has rows, in a decoding kernel over the keys that are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accelsim.errors import InputError
from accelsim.explore.estimate_gpu import estimate_kernel
from accelsim.explore.factors import factors
from accelsim.explore.loads import stated
from accelsim.ir.problem import Problem
from accelsim.models.gpu_estimate import KernelEstimate
from accelsim.models.staged import Stage
from accelsim.models.staged_gpu import INSTRUCTION

#: Kernels over many queries, the faster path first, and that over few.
PREFILL = ("attention-1pass-wgmma", "attention-1pass-mma")
DECODE = "decode-split"
#: Widths of a cache that the decoding kernel reads.
WIDTHS = (4, 8, 16)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A described kernel at the sizes of an attention; ``why``: what it takes instead."""

    estimate: KernelEstimate
    why: str


def fitted(gpu: str, problem: Problem, stage: Stage) -> Fitted | str:
    """The fastest described kernel that does the work of a stage, or why there is none.

    >>> from accelsim.explore.loads import bound, scope_of
    >>> from accelsim.explore.stages import stages
    >>> from accelsim.load.system import load_system
    >>> found = load_system("flash-attention")
    >>> part, scope = found.phases[0].parts[0], scope_of(found, 4096)
    >>> fitted("h100-sxm", bound(part, scope), stages(part, scope)[0]).estimate.kernel
    'attention-1pass-wgmma'
    """
    here = {step.name: step for step in stage.steps}
    found = [(s, factors(s)) for s in stated(problem).statements if s.name in here]
    products = [(s, f) for s, f in found if f is not None]
    if len(products) != 2 or not {"max", "exp"} <= stage.ops.keys():
        return "no described kernel has other work than two products around a softmax"
    (scores, one), (values, two) = products
    of_keys = one.columns if one.columns & values.reduced else one.rows
    of_queries = (one.rows | one.columns) - of_keys
    if not of_keys & values.reduced or not two.batch <= one.batch | of_keys:
        return "no described kernel sums values over anything but the keys of the scores"
    heads, queries, keys, depth = (
        scores.span(names) for names in (one.batch, of_queries, of_keys, scores.reduced)
    )
    left = min(1.0, here[scores.name].points / scores.dense)
    narrow = _narrow(problem)
    if queries < INSTRUCTION[0]:
        told = next(w for w in WIDTHS if w >= int(max(narrow.values()))) if len(narrow) > 1 else 16
        shape = {"B": 1, "H": heads * queries, "HK": heads, "M": max(1, round(keys * left)),
                 "E": depth}  # fmt: skip
        return _priced(gpu, (DECODE,), shape, [f"bits={told}"], _why(narrow, told))
    causal = keys == queries and bool(_affine(problem, scores.name))
    if causal:
        left = min(1.0, left * 2 * keys / (keys + 1))
    width = values.span((two.rows | two.columns) - of_queries)
    shape = {"B": 1, "H": heads, "P": queries, "M": keys, "E": depth, "F": width}
    sets = [f"causal={str(causal).lower()}", *([f"kept={left}"] if left < 1 else [])]
    return _priced(gpu, PREFILL, shape, sets, _why(narrow, 16))


def _affine(problem: Problem, name: str) -> tuple[object, ...]:
    return problem.predicates(problem.cascade.steps[name])


def _narrow(problem: Problem) -> dict[str, float]:
    """Bits of inputs whose format is narrower than 16."""
    found = {t.name: problem.bits(t.name, 16.0) for t in problem.cascade.inputs}
    return {name: bits for name, bits in found.items() if bits < 16}


def _why(narrow: Mapping[str, float], told: int) -> str:
    taken = [name for name in narrow if told == 16]
    if not taken:
        return ""
    return f"the described kernel reads {' and '.join(taken)} at 16 bits"


def _priced(
    gpu: str, kernels: tuple[str, ...], shape: Mapping[str, int], sets: list[str], why: str
) -> Fitted | str:
    """The first of some kernels that has room for the sizes."""
    said = ""
    for name in kernels:
        try:
            return Fitted(estimate_kernel(name, arch=gpu, shape=shape, sets=sets), why)
        except InputError as error:
            said = error.faults[0].message
    return said
