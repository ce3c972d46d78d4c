"""Fused attention on a GPU over inputs that a cascade's document stores in fewer than 16 bits.

A decoding step runs in the described kernel that reads that width.  Kernels
over many queries are described for 16 bits alone: of them memory gives fewer
bytes, and what unpacking takes is not counted, which is said.  Cascades that
run Einsum by Einsum count formats and densities there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from accelsim.explore.estimate_gpu import predict
from accelsim.explore.map_gpu import GpuMapped
from accelsim.ir.problem import bind, relevant, with_parts
from accelsim.models.gpu_estimate import KernelEstimate, price

WORD: Final = 16.0
#: Said where a kernel of 16 bits stands for one that unpacks.
UNPACKED: Final = "fewer bytes of {names}; unpacking them is not counted"


def stored(mapped: GpuMapped) -> KernelEstimate:
    """The estimate with the bits that the cascade's inputs have; itself where all have 16.

    >>> from accelsim.explore.map_gpu import map_gpu
    >>> one = map_gpu("attention-1pass", arch="h100-sxm", shape="M=512,E=128,H=16,B=16")
    >>> stored(one) is one.estimate
    True
    """
    cascade, found, gpu = mapped.cascade, mapped.estimate, mapped.gpu
    if mapped.choice is None or not cascade.formats:
        return found
    sizes = dict(dict(found.problem)["sizes"])
    problem = bind(cascade, with_parts(cascade, relevant(cascade, {**sizes, **mapped.sizes})))
    kernel = mapped.choice.taken.kernel
    bits = {t.name: problem.bits(t.name, WORD) for t in cascade.inputs}
    narrow = {name: width for name, width in bits.items() if width < WORD}
    if not narrow:
        return found
    widths = {int(width) for width in narrow.values()}
    if kernel.family == "decode" and {"K", "V"} <= narrow.keys() and len(widths) == 1:
        (width,) = widths
        if width in kernel.widths:
            options = dict(dict(found.problem)["options"]) | {"bits": width}
            return predict(gpu, kernel, sizes, options)
    saved = sum(problem.tensor_elements(n) * (WORD - width) / 8 for n, width in narrow.items())
    first, *others = (one.launch for one in found.launches)
    less = replace(first, read_bytes=max(0.0, first.read_bytes - saved))
    again = price(gpu, found.kernel, [less, *others])
    told = UNPACKED.format(names=", ".join(narrow))
    return replace(again, problem=(*found.problem, ("taken", told)))
