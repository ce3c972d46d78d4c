"""The kernel and the tile that a cascade runs in on a GPU: ``estimate`` and ``map`` both ask here.

A cascade that equals softmax attention runs fused, in as many passes as it
makes over the keys; one query a head is a decoding step.  All candidates of
``mapper.gpu_tiles`` that fit are priced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from accelsim.errors import refuse
from accelsim.explore.documents import streamed
from accelsim.explore.estimate_gpu import predict
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Tile
from accelsim.load.kernel import load_kernel
from accelsim.mapper.gpu_tiles import Candidate, Refusal, products, space
from accelsim.models.gpu_estimate import KernelEstimate

#: Textbook functions that the fused kernels compute, and the mask of each.
FUSED: Final[dict[str, dict[str, bool]]] = {
    "attention": {},
    "attention-scaled": {},
    "attention-gqa": {},
    "attention-causal": {"causal": True},
    "attention-gqa-causal": {"causal": True},
    "attention-window": {"causal": True},
}
#: Kernels by passes over the keys.
KERNELS: Final = {
    1: ("attention-1pass-wgmma", "attention-1pass-mma", "attention-1pass-wgmma-persistent"),
    2: ("attention-2pass-mma",),
    3: ("attention-3pass-mma",),
}
DECODE: Final = "decode-split"
#: Families of kernels whose tile is chosen here.
CHOSEN: Final = ("attention", "decode")
#: What each objective takes of a price.
OBJECTIVES: Final[dict[str, Callable[[KernelEstimate], float]]] = {
    "latency": lambda found: found.latency_s,
    "energy": lambda found: found.energy_j,
    "edp": lambda found: found.latency_s * found.energy_j,
}
#: A persistent kernel has to gain more than this to be taken before a plain one.  The model tells
#: them apart only by how a block begins; recorded beside each other (persistent.json) they differ
#: by -3 to +12 % either way.
PLAIN: Final = 0.05


@dataclass(frozen=True)
class Choice:
    """The candidate that was taken, its price, and all that stood beside it.

    ``priced`` are candidates that fit with their prices, best first; ``refused``
    those that do not.
    """

    taken: Candidate
    estimate: KernelEstimate
    priced: tuple[tuple[Candidate, KernelEstimate], ...]
    refused: tuple[Candidate, ...]


def choose(
    gpu: Gpu, equals: str, passes: int, sizes: Mapping[str, int], objective: str = "latency"
) -> Choice:
    """The best of the described kernels of so many passes, over the whole space of their tiles.

    ``equals`` is a key of ``FUSED``.  Raises InputError where nothing fits, with
    the resource that binds and by how much.

    >>> from accelsim.load.gpu import load_gpu
    >>> sizes = {"B": 1, "H": 16, "P": 8192, "M": 8192, "E": 128, "F": 128}
    >>> found = choose(load_gpu("h100-sxm"), "attention", 1, sizes)
    >>> found.taken.kernel.name, len(found.priced) > 50, len(found.refused) > 50
    ('attention-1pass-wgmma', True, True)
    """
    options: dict[str, Any] = dict(FUSED[equals])
    if equals == "attention-window":
        options["window"] = sizes["W"]
    shape = {name: size for name, size in sizes.items() if name != "W"}
    kernels = [load_kernel(name) for name in KERNELS[passes]]
    if passes == 1 and not options and sizes["P"] == 1 and sizes["E"] == sizes["F"]:
        kernels = [load_kernel(DECODE)]  # the others were never measured with one query
    there = [k for k in kernels if gpu.tensor_rate(k.path, "bf16")]
    if not there:
        raise refuse(f"{gpu.name} has no tensor cores that a kernel here uses", "mma or wgmma")
    candidates = [c for kernel in there for c in space(gpu, kernel, shape)]
    return choice_of(
        candidates,
        lambda c: predict(gpu, alone(c), shape, _asked(c, options)),
        objective,
        gpu.name,
    )


def choice_of(
    candidates: Sequence[Candidate],
    price: Callable[[Candidate], KernelEstimate],
    objective: str,
    name: str,
) -> Choice:
    """The choice among candidates that ``price`` prices, on a GPU of that name."""
    refused = tuple(c for c in candidates if c.refused is not None)
    priced = [(c, price(c)) for c in candidates if c.refused is None]
    if not priced:
        raise nothing_fits(refused, name)
    value = OBJECTIVES[objective]
    priced.sort(key=lambda pair: value(pair[1]))
    taken = plainest([(c, value(found)) for c, found in priced])
    estimate = next(found for c, found in priced if c is taken)
    return Choice(taken, estimate, tuple(priced), refused)


def plainest(values: Iterable[tuple[Candidate, float]]) -> Candidate:
    """The candidate of the least value; a persistent kernel only where it gains more than `PLAIN`.

    >>> from accelsim.load.kernel import load_kernel
    >>> plain, queue = (
    ...     Candidate(load_kernel(f"attention-1pass-wgmma{end}"), Tile(192, 80, 12))
    ...     for end in ("", "-persistent")
    ... )
    >>> [plainest([(queue, gained), (plain, 1.0)]) is plain for gained in (0.97, 0.9)]
    [True, False]
    """
    ordered = sorted(values, key=lambda pair: pair[1])
    best, least = ordered[0]
    if not best.kernel.persistent:
        return best
    return next(
        (c for c, v in ordered if not c.kernel.persistent and v <= least * (1 + PLAIN)), best
    )


def nothing_fits(refused: Sequence[Candidate], name: str) -> Exception:
    """The error that no tile fits: of each resource, the candidate that is nearest to fitting."""
    nearest = min(refused, key=lambda c: _over(c.refused))
    kernels = ", ".join(dict.fromkeys(c.kernel.name for c in refused))
    return refuse(
        f"none of {len(refused)} tiles of {kernels} fits {name}; the nearest, {said(nearest)}",
        "smaller head dimensions, or a GPU with more",
    )


def said(candidate: Candidate) -> str:
    """Why a candidate does not fit, in words.

    >>> from accelsim.load.kernel import load_kernel
    >>> refusal = Refusal("shared memory", 264192.0, 232448.0)
    >>> said(Candidate(load_kernel("attention-1pass-wgmma"), Tile(192, 256, 12), refusal))
    '192 x 256, 2 stages, needs 258 KiB of shared memory a block of 227 KiB'
    """
    tile, refused = candidate.tile, candidate.refused
    assert refused is not None
    amounts = {
        "shared memory": f"{kib(refused.need)} of shared memory a block of {kib(refused.room)}",
        "registers": f"{refused.need:.0f} registers a thread of {refused.room:.0f}",
        "threads": f"{refused.need:.0f} threads a multiprocessor of {refused.room:.0f}",
    }
    stages = f"{tile.stages} stage{'s' * (tile.stages > 1)}"
    return f"{tile.rows} x {tile.columns}, {stages}, needs {amounts[refused.resource]}"


def alone(candidate: Candidate) -> KernelDescriptor:
    """The kernel with no tile but the candidate's; as it is where its tiles are no choice.

    >>> alone(Candidate(load_kernel("attention-1pass-wgmma"), Tile(64, 96, 4))).tiles[0].columns
    96
    """
    if candidate.kernel.family not in CHOSEN:
        return candidate.kernel
    return replace(candidate.kernel, tiles=(candidate.tile,), split_tiles=(), merge_tiles=())


def kib(size_bytes: float) -> str:
    """Bytes in KiB, for people.

    >>> kib(232448.0)
    '227 KiB'
    """
    return f"{size_bytes / 1024:.4g} KiB"


def fields(kernel: KernelDescriptor, tile: Tile) -> dict[str, int]:
    """A tile as fields by name, as ``predict`` takes them."""
    names = ["rows", "columns", "warps", "row_tiles", "blocks", "stages"]
    if kernel.family == "decode":
        names.append("depth")
    return {name: getattr(tile, name) for name in names}


def product_kernel(gpu: Gpu) -> KernelDescriptor:
    """The library's matrix product in those of its tiles that fit the GPU.

    Raises InputError where none does.

    >>> from accelsim.load.gpu import load_gpu
    >>> [len(product_kernel(load_gpu(name)).tiles) for name in ("h100-sxm", "rtx4090")]
    [5, 3]
    """
    kernel = load_kernel("cublas-gemm")
    if not gpu.tensor_rate(kernel.path, "bf16"):
        kernel = load_kernel("cublas-gemm-ampere")
    found = products(gpu, replace(kernel, column_step=0))
    if not any(c.refused is None for c in found):
        raise nothing_fits(found, gpu.name)
    return replace(kernel, tiles=tuple(c.tile for c in found if c.refused is None))


def passes(cascade: str | Path) -> int:
    """Passes over the keys as a kernel makes them: one, two, or three.

    >>> passes("attention-3pass"), passes("flash-attention-2")
    (3, 1)
    """
    return int(max(1, min(3, streamed(cascade))))


def attention_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    """The ranks of attention among sizes; what is left out is one, or as its partner.

    >>> attention_sizes({"M": 64, "E": 16})
    {'M': 64, 'E': 16, 'B': 1, 'H': 1, 'P': 64, 'F': 16}
    """
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


def _asked(candidate: Candidate, options: Mapping[str, Any]) -> dict[str, Any]:
    """The kernel's options: a decoding step is of the same type as the rest."""
    return {"dtype": "bf16"} if candidate.kernel.family == "decode" else dict(options)


def _over(refused: Refusal | None) -> float:
    return math.inf if refused is None else refused.need / max(refused.room, 1e-9)
