"""A stage of a cascade on a GPU that no kernel descriptor realises.

Either *as one kernel would run it*: products on tensor cores in 16-bit
instructions of 16 x 8 x 16, everything else in lanes, each kind of work after
the other as in kernels whose warps run in phase, intermediate results on
chip, inputs and results through memory once.  Or its *bound*: all kinds of
work beside each other at the best path.  It knows no tile, no shared memory
and no tail of a last wave.
"""

from __future__ import annotations

from accelsim.ir.gpu import Gpu
from accelsim.models.gpu_einsum import LANES, PIPES
from accelsim.models.gpu_launch import Launch
from accelsim.models.staged import Stage, Step

#: Rows, columns and depth of a tensor-core instruction, mma.sync with 16-bit operands (PTX ISA).
INSTRUCTION = (16, 8, 16)
KIND = "bf16"


def launch(gpu: Gpu, stage: Stage, *, bound: bool = False) -> Launch:
    """What the stage asks of a GPU in one launch: cycles, bytes, operations of each kind.

    >>> from accelsim.load.gpu import load_gpu
    >>> from accelsim.models.staged import Extents
    >>> product = Step("S", 4096.0**3, {"mac": 1}, Extents(1, 4096, 4096, 4096))
    >>> found = launch(load_gpu("h100-sxm"), Stage("attention", (product,), {}, {}), bound=True)
    >>> found.stages[0][0], found.operations["wgmma.bf16"] == 2 * 4096.0**3
    ('tensor', True)
    """
    paths = {name: rate for name, rate in gpu.tensor if name.endswith(f".{KIND}")}
    path = max(paths, key=lambda name: paths[name])
    if not bound and f"mma.{KIND}" in paths:
        path = f"mma.{KIND}"
    operations: dict[str, float] = {}
    tensor = 0.0
    for step in stage.steps:
        padded = _padded(step)
        on_tensor = padded and 2 * padded / paths[path] < step.points / gpu.rate("fma")
        if on_tensor:
            tensor += 2 * padded
        for name, count in step.work.items():
            if name == "mac" and on_tensor:
                continue
            for lane, each in LANES[name].items():
                operations[lane] = operations.get(lane, 0.0) + each * count * step.points
    cycles = {
        pipe: sum(operations.get(lane, 0.0) / gpu.rate(lane) for lane in lanes)
        / gpu.multiprocessors
        for pipe, lanes in PIPES.items()
    }
    cycles["tensor"] = tensor / paths[path] / gpu.multiprocessors
    if tensor:
        operations[path] = tensor
    read, written = stage.moved
    return Launch(
        stage.name,
        max(cycles.values()) if bound else sum(cycles.values()),
        read,
        written,
        read + written,
        operations,
        stages=tuple((pipe, n, pipe) for pipe, n in sorted(cycles.items(), key=lambda c: -c[1])),
        shape="bound" if bound else "one kernel",
        lead_s=0.0 if bound else gpu.waits.memory / gpu.clock_hz,
    )


def _padded(step: Step) -> float:
    """Multiply-adds of a product with rows, columns and depth filled up to an instruction's."""
    product = step.product
    if product is None:
        return 0.0
    high, wide = sorted((product.rows, product.columns), reverse=True)
    extents = zip((high, wide, product.depth), INSTRUCTION, strict=True)
    full = product.batch
    for extent, side in extents:
        full *= -(-extent // side) * side
    dense = product.batch * product.rows * product.columns * product.depth
    return full * step.points / dense
