"""``estimate CASCADE --arch GPU``: the kernel and the tile that the cascade would run in.

A cascade that equals softmax attention runs fused, in as many passes as it
makes over the keys: on the path and in the tile that the model finds fastest
of those that fit registers and shared memory.  Any other cascade is priced
Einsum by Einsum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from accelsim.errors import refuse
from accelsim.explore.documents import streamed
from accelsim.explore.estimate_gpu import predict
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import Tile
from accelsim.ir.problem import bind, relevant, with_parts
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from accelsim.load.gpu import is_gpu, load_gpu
from accelsim.load.kernel import load_kernel
from accelsim.load.source import read
from accelsim.load.workload import asked, workload
from accelsim.mapper.gpu_tiles import legal
from accelsim.models import gpu_einsum
from accelsim.models.gpu_estimate import KernelEstimate, price

#: Textbook functions that the fused kernels compute, and the mask of each.
FUSED: Final[dict[str, dict[str, bool]]] = {
    "attention": {},
    "attention-scaled": {},
    "attention-gqa": {},
    "attention-causal": {"causal": True},
    "attention-gqa-causal": {"causal": True},
    "attention-window": {"causal": True},
}
#: Kernels by passes over the keys, the better path first.
KERNELS: Final = {
    1: ("attention-1pass-wgmma", "attention-1pass-mma"),
    2: ("attention-2pass-mma",),
    3: ("attention-3pass-mma",),
}


def runs_on_gpu(arch: str | Path | None) -> bool:
    """Whether an architecture's name or file is a GPU's.

    >>> runs_on_gpu("h100-sxm"), runs_on_gpu("fusemax-cloud"), runs_on_gpu(None)
    (True, False, False)
    """
    if arch is None:
        return False
    path = catalog.find("arch", arch)
    return path.parent.name == "gpu" or is_gpu(read(path).value)


def estimate_cascade(
    cascade: str | Path,
    *,
    arch: str | Path,
    model: str | None = None,
    seq: int | str | None = None,
    shape: Mapping[str, int] | str | None = None,
    config: str | Path | None = None,
    sets: Iterable[str] = (),
) -> KernelEstimate:
    """Time, bytes, energy and clock of a cascade on a GPU, and in which kernel and tile.

    Raises InputError for sizes that do not fit the cascade.

    >>> sizes = "B=1,H=16,M=8192,P=8192,E=128,F=128"
    >>> found = estimate_cascade("attention-1pass", arch="h100-sxm", shape=sizes)
    >>> found.kernel, found.launches[0].launch.shape
    ('attention-1pass-wgmma', '192x80')
    """
    text = load_cascade(cascade)
    gpu = load_gpu(arch, sets)
    sizes = workload(model=model, seq=seq, shape=shape, config=config)
    relevant(text, sizes, asked=asked(shape))
    count = passes(cascade)
    if text.equals in FUSED and not (text.equals == "attention-window" and count == 3):
        found = fused(gpu, text.equals, count, _attention_sizes(sizes))
    else:
        problem = bind(text, with_parts(text, sizes))
        product = load_kernel("cublas-gemm")
        if not gpu.tensor_rate(product.path, "bf16"):
            product = replace(product, path="mma")
        found = price(gpu, "einsum by einsum", gpu_einsum.launches(gpu, product, problem))
        found = replace(found, problem=(("sizes", dict(sizes)), ("options", {})))
    return replace(found, problem=(("cascade", text.name), *found.problem))


def passes(cascade: str | Path) -> int:
    """Passes over the keys as a kernel makes them: one, two, or three.

    >>> passes("attention-3pass"), passes("flash-attention-2")
    (3, 1)
    """
    return int(max(1, min(3, streamed(cascade))))


def fused(gpu: Gpu, equals: str, count: int, sizes: Mapping[str, int]) -> KernelEstimate:
    """The fastest of the described kernels of so many passes, over the tiles that fit."""
    options: dict[str, Any] = dict(FUSED[equals])
    if equals == "attention-window":
        options["window"] = sizes["W"]
    shape = {name: size for name, size in sizes.items() if name != "W"}
    for name in KERNELS[count]:
        kernel = load_kernel(name)
        if not gpu.tensor_rate(kernel.path, "bf16"):
            continue
        if kernel.family != "attention":
            return predict(gpu, kernel, shape, options)
        tiles = [kernel.tile(dict(shape)), *legal(gpu, kernel, shape["E"], shape["F"])]
        found = [predict(gpu, kernel, shape, options, _fields(t)) for t in dict.fromkeys(tiles)]
        return min(found, key=lambda one: one.latency_s)
    raise refuse(f"{gpu.name} has no tensor cores that a kernel here uses", "mma or wgmma")


def _fields(tile: Tile) -> dict[str, int]:
    names = ("rows", "columns", "warps", "row_tiles", "blocks", "stages")
    return {name: getattr(tile, name) for name in names}


def _attention_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    """The ranks of attention among sizes; what is left out is one, or as its partner."""
    found = {name: sizes[name] for name in ("B", "H", "P", "M", "E", "F", "W") if name in sizes}
    found.setdefault("B", 1)
    found.setdefault("H", 1)
    missing = [name for name in ("M", "E") if name not in found]
    if missing:
        raise refuse(f"attention needs a size of {missing[0]}", f"--shape {missing[0]}=...")
    found.setdefault("P", found["M"])
    found.setdefault("F", found["E"])
    if sizes.get("G"):
        found["HK"] = max(1, found["H"] // sizes["G"])
    elif sizes.get("HK"):
        found["HK"] = sizes["HK"]
    return found
