"""The GPU that is here: its properties, and one clear sentence where there is none."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

from accelsim.errors import Fault, InputError, Place

#: CUDA 12 and 13 drivers, by the first number of what the driver supports.
INSTALL: Final = "pip install cupy-cuda12x, or cupy-cuda13x where nvidia-smi says CUDA 13"


class GpuError(InputError):
    """Something that this machine or its GPU cannot do, in one sentence."""

    def __init__(self, message: str, allowed: str = "") -> None:
        super().__init__([Fault(Place("gpu"), message, allowed)])


@dataclass(frozen=True, slots=True)
class Device:
    """An NVIDIA GPU as its driver describes it; SI units."""

    name: str
    capability: str  # "9.0"
    multiprocessors: int
    max_sm_hz: float
    max_memory_hz: float
    memory_bus_bits: int
    memory_bytes: int
    l2_bytes: int
    shared_bytes_per_sm: int
    shared_bytes_per_block: int  # with the opt-in
    registers_per_sm: int
    threads_per_sm: int
    pci_bus: str

    @property
    def arch(self) -> str:
        """What the compiler is asked for; Hopper's own instructions need the ``a``.

        >>> Device("", "9.0", 1, 1.0, 1.0, 1, 1, 1, 1, 1, 1, 1, "").arch
        'sm_90a'
        """
        number = self.capability.replace(".", "")
        return f"sm_{number}{'a' if number == '90' else ''}"

    @property
    def slug(self) -> str:
        """The name of its folder under ``validation/runs`` and of its architecture file."""
        return slug(self.name)

    def as_dict(self) -> dict[str, Any]:
        """For a record."""
        return asdict(self)


def slug(name: str) -> str:
    """A short name for a GPU's product name.

    >>> slug("NVIDIA H100 80GB HBM3"), slug("NVIDIA H200"), slug("NVIDIA GeForce RTX 4090")
    ('h100-sxm', 'h200-sxm', 'rtx-4090')
    >>> slug("NVIDIA H100 PCIe"), slug("NVIDIA A100-SXM4-80GB")
    ('h100-pcie', 'a100-sxm4-80gb')
    """
    words = name.lower().replace("nvidia", "").replace("geforce", "").split()
    known = {"h100 80gb hbm3": "h100-sxm", "h200": "h200-sxm"}
    return known.get(" ".join(words), "-".join(words))


@cache
def cupy() -> Any:
    """The module ``cupy``, with a GPU that answers behind it.

    Raises ``GpuError`` in one sentence: CuPy missing, broken, or no GPU.
    """
    try:
        import cupy as module
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise GpuError(f"CuPy does not load: {error}", INSTALL) from error
        raise GpuError("running on a GPU needs CuPy, which is not installed", INSTALL) from error
    except ImportError as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GpuError(f"CuPy does not load: {first}", INSTALL) from error
    try:
        count = module.cuda.runtime.getDeviceCount()
    except RuntimeError as error:  # the runtime's own errors, whose text is the reason
        raise GpuError(f"no NVIDIA GPU answers here ({error})", "a machine with a GPU") from error
    if not count:
        raise GpuError("no NVIDIA GPU answers here", "a machine with a GPU")
    return module


@cache
def device(index: int = 0) -> Device:
    """The GPU of that number, 0 the first that CUDA shows."""
    module = cupy()
    count = module.cuda.runtime.getDeviceCount()
    if not 0 <= index < count:
        raise GpuError(f"there is no GPU {index}", f"0 to {count - 1}")
    found = module.cuda.Device(index)
    limits, digits = found.attributes, found.compute_capability
    name = module.cuda.runtime.getDeviceProperties(index)["name"]
    return Device(
        name=name.decode() if isinstance(name, bytes) else str(name),
        capability=f"{digits[:-1]}.{digits[-1]}",
        multiprocessors=limits["MultiProcessorCount"],
        max_sm_hz=1e3 * limits["ClockRate"],
        max_memory_hz=1e3 * limits["MemoryClockRate"],
        memory_bus_bits=limits["GlobalMemoryBusWidth"],
        memory_bytes=found.mem_info[1],
        l2_bytes=limits["L2CacheSize"],
        shared_bytes_per_sm=limits["MaxSharedMemoryPerMultiprocessor"],
        shared_bytes_per_block=limits["MaxSharedMemoryPerBlockOptin"],
        registers_per_sm=limits["MaxRegistersPerMultiprocessor"],
        threads_per_sm=limits["MaxThreadsPerMultiProcessor"],
        pci_bus=found.pci_bus_id,
    )


def check_room(size: int, what: str) -> None:
    """Raise ``GpuError`` where ``size`` bytes of device memory are not free."""
    module = cupy()
    pool = module.get_default_memory_pool()
    free = module.cuda.runtime.memGetInfo()[0] + pool.free_bytes()
    if size > free:
        raise GpuError(
            f"{what} of {size / 2**30:.1f} GiB do not fit the {free / 2**30:.1f} GiB of memory that"
            f" are free on {device().name}",
            "a shorter length or a smaller batch",
        )


@contextmanager
def within_memory(what: str) -> Iterator[None]:
    """Turn CuPy's own error for a full device memory into one sentence about ``what``."""
    module = cupy()
    try:
        yield
    except module.cuda.memory.OutOfMemoryError as error:
        free = module.cuda.runtime.memGetInfo()[0] / 2**30
        raise GpuError(
            f"{what} needs more than the {free:.1f} GiB of memory that are free on {device().name}",
            "a GPU that nothing else uses",
        ) from error


def versions() -> dict[str, str]:
    """Versions of what a measurement ran on: Python, NumPy, CuPy, CUDA runtime, NVRTC."""
    import numpy

    module = cupy()
    runtime = module.cuda.runtime.runtimeGetVersion()
    major, minor = module.cuda.nvrtc.getVersion()
    return {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "cupy": module.__version__,
        "cuda_runtime": f"{runtime // 1000}.{runtime % 1000 // 10}",
        "nvrtc": f"{major}.{minor}",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
    }
