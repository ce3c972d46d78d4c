"""Library kernels through PyTorch, where it is installed: attention, matrix product, softmax, copy.

They are timed as our own are, so that predictions of described library
kernels have something to stand beside.  Only here is PyTorch imported.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Final

from accelsim.gpu import measure
from accelsim.gpu.attention import Mask, Shape
from accelsim.gpu.device import GpuError, cupy
from accelsim.gpu.grid import attention_cases
from accelsim.gpu.record import fields

#: PyTorch's names for the backends of scaled_dot_product_attention.
BACKENDS: Final = {
    "flash-attention-2": "FLASH_ATTENTION",
    "cudnn-attention": "CUDNN_ATTENTION",
    "torch-math-attention": "MATH",
}
#: The host needs this long to launch through PyTorch; launches are enqueued behind as long a delay.
AHEAD_S: Final = 2e-4


@dataclass(frozen=True, slots=True)
class Gemm:
    """A product of M x K and K x N in a 16-bit type."""

    M: int
    N: int
    K: int

    @property
    def flops(self) -> int:
        """Floating-point operations.

        >>> Gemm(2, 3, 4).flops
        48
        """
        return 2 * self.M * self.N * self.K


def torch() -> Any:
    """The module ``torch`` with a GPU behind it; ``GpuError`` where it is not installed."""
    cupy()
    try:
        module = import_module("torch")
    except ImportError as error:
        raise GpuError("library kernels need PyTorch, which is not installed", "torch") from error
    if not module.cuda.is_available():
        raise GpuError("the installed PyTorch has no CUDA", "PyTorch built for CUDA")
    return module


def versions() -> dict[str, str]:
    """Versions of PyTorch, of the CUDA it was built for and of cuDNN, for a record."""
    module = torch()
    return {
        "torch": str(module.__version__),
        "cuda": str(module.version.cuda),
        "cudnn": str(module.backends.cudnn.version()),
    }


def _type(dtype: str) -> Any:
    return {"bf16": torch().bfloat16, "f16": torch().float16}[dtype]


def attention(backend: str, shape: Shape, mask: Mask, dtype: str) -> Callable[[], None]:
    """A call of scaled_dot_product_attention by one backend."""
    if mask.window or mask.offset:
        raise GpuError("library attention here has no window and no offset", "causal or full")
    module = torch()
    backends = import_module("torch.nn.attention")

    def drawn(heads: int, length: int) -> Any:
        size = (shape.B, heads, length, shape.E)
        return module.randn(size, device="cuda", dtype=_type(dtype))

    q = drawn(shape.H, shape.P)
    k, v = (drawn(shape.key_heads, shape.M) for _ in range(2))
    chosen = getattr(backends.SDPBackend, BACKENDS[backend])
    shared = shape.key_heads != shape.H

    def run() -> None:
        with backends.sdpa_kernel(chosen), module.no_grad():
            module.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=mask.causal, enable_gqa=shared
            )

    return run


def gemm(problem: Gemm, dtype: str) -> Callable[[], None]:
    """A matrix product through cuBLAS, the second factor transposed in memory as a weight is."""
    module = torch()
    a = module.randn((problem.M, problem.K), device="cuda", dtype=_type(dtype))
    b = module.randn((problem.N, problem.K), device="cuda", dtype=_type(dtype))
    c = module.empty((problem.M, problem.N), device="cuda", dtype=_type(dtype))
    return lambda: module.mm(a, b.T, out=c)


def elementwise(name: str, rows: int, columns: int, dtype: str) -> Callable[[], None]:
    """``torch-softmax`` over rows, or ``torch-copy`` of the same matrix."""
    if name not in ("torch-softmax", "torch-copy"):
        raise GpuError(f"no library kernel {name}", "torch-softmax, torch-copy")
    module = torch()
    x = module.randn((rows, columns), device="cuda", dtype=_type(dtype))
    y = module.empty_like(x)
    if name == "torch-copy":
        return lambda: y.copy_(x)

    def run() -> None:
        module.softmax(x, dim=1, out=y)

    return run


def row(name: str, run: Callable[[], None], **case: Any) -> dict[str, Any]:
    """Hot and cold time of a library call, with what it was called on."""
    return {
        "name": name,
        **{k: asdict(v) if hasattr(v, "__dataclass_fields__") else v for k, v in case.items()},
        "hot": fields(measure.timed(run, ahead_s=AHEAD_S)),
        "cold": fields(measure.timed(run, cold=True, ahead_s=AHEAD_S)),
    }


def rows(seed: int, shapes: int, products: int) -> Iterator[dict[str, Any]]:
    """Rows of a seed: attention by both libraries, matrix products, softmax and copy."""
    seen: set[Shape] = set()
    for case in attention_cases(seed, 8 * shapes):
        shape, mask = case.shape, case.mask
        if mask.window or shape in seen or shape.flops > 2e13 or len(seen) >= shapes:
            continue
        seen.add(shape)
        for name in ("flash-attention-2", "cudnn-attention"):
            run = attention(name, shape, mask, case.dtype)
            yield row(name, run, shape=shape, mask=mask, dtype=case.dtype)
    draw = random.Random(seed)
    for _ in range(products):
        sizes = [round(2 ** draw.uniform(7, 13.5)) for _ in range(3)]
        step = 64 if draw.random() < 0.7 else 8
        problem = Gemm(*(x // step * step for x in sizes))
        yield row("cublas-gemm", gemm(problem, "bf16"), gemm=problem, dtype="bf16")
    for name in ("torch-softmax", "torch-copy"):
        for _ in range(4):
            columns = round(2 ** draw.uniform(8, 16))
            count = round(2 ** draw.uniform(22, 28) / columns)
            run = elementwise(name, count, columns, "bf16")
            yield row(name, run, rows=count, columns=columns, dtype="bf16")
