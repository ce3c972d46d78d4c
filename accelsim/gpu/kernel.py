"""CUDA C++ from ``kernels/`` to something that launches: NVRTC, a cache on disk, CuPy.

A kernel is built for its options (head dimension, tile, type) given as
macros.  The cubin is kept under ``$XDG_CACHE_HOME/accelsim/kernels`` by a hash
of the text, the options and the compiler's version.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from accelsim.gpu.device import Device, GpuError, cupy, device

SOURCES: Final = Path(__file__).parent / "kernels"
_INCLUDE: Final = re.compile(r'^\s*#include\s+"([^"]+)"', re.MULTILINE)
#: Shared memory that the driver keeps for itself in every block (compute capability 8 and 9).
RESERVED_SHARED_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Build:
    """A source file of ``kernels/``, its entry, its macros and what it is compiled for."""

    source: str
    entry: str
    arch: str
    defines: tuple[tuple[str, int | float], ...] = ()

    def options(self) -> tuple[str, ...]:
        """Options of the compiler.

        >>> Build("a.cu", "k", "sm_90a", (("D", 64),)).options()[1:]
        ('--gpu-architecture=sm_90a', '--device-as-default-execution-space', '-DD=64')
        """
        macros = (f"-D{name}={value}" for name, value in self.defines)
        plain = "--device-as-default-execution-space"  # a lambda that takes a lambda needs it
        return ("--std=c++17", f"--gpu-architecture={self.arch}", plain, *macros)


@cache
def texts(source: str) -> tuple[tuple[str, str], ...]:
    """A source and all that it includes, names and texts, itself first.

    >>> [name for name, _ in texts("attention_wgmma.cu")]
    ['attention_wgmma.cu', 'hopper.cuh', 'common.cuh', 'wgmma.cuh']
    """
    found: dict[str, str] = {}
    queue = [source]
    while queue:
        name = queue.pop(0)
        if name not in found:
            found[name] = (SOURCES / name).read_text(encoding="utf-8")
            queue += _INCLUDE.findall(found[name])
    return tuple(found.items())


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "accelsim" / "kernels"


def compiled(build: Build) -> bytes:
    """The cubin of a build, from the cache or from NVRTC.  Needs CuPy but no GPU."""
    try:
        from cupy.cuda import nvrtc
    except ImportError:
        cupy()  # says what is missing
        raise
    version = nvrtc.getVersion()
    key = hashlib.sha256(
        repr((texts(build.source), build.entry, build.options(), version)).encode()
    ).hexdigest()
    path = cache_folder() / f"{Path(build.source).stem}-{key[:32]}.cubin"
    if path.is_file():
        return path.read_bytes()
    (_, text), *others = texts(build.source)
    program = nvrtc.createProgram(
        text, build.source, [t.encode() for _, t in others], [n.encode() for n, _ in others]
    )
    try:
        nvrtc.compileProgram(program, build.options())
        result: bytes = nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program).strip("\0 \n")
        first = next((x for x in log.splitlines() if "error" in x), log or str(error))
        raise GpuError(f"{build.source} does not compile for {build.arch}: {first}") from error
    finally:
        nvrtc.destroyProgram(program)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
        partial.write(result)
    Path(partial.name).replace(path)
    return result


def check_shared(build: Build, shared_bytes: int, gpu: Device) -> None:
    """Raise ``GpuError`` where a block's tiles do not fit the shared memory it may have."""
    if shared_bytes > gpu.shared_bytes_per_block:
        tile = ", ".join(f"{k}={v}" for k, v in build.defines)
        raise GpuError(
            f"{build.source} with {tile} needs {shared_bytes} bytes of shared memory a block,"
            f" {gpu.name} has {gpu.shared_bytes_per_block}",
            "a smaller tile or fewer stages",
        )


class Kernel:
    """A loaded kernel.  Call it with a grid, then the arguments."""

    def __init__(self, build: Build, threads: int, shared_bytes: int = 0) -> None:
        module = cupy()
        self.build, self.threads, self.shared_bytes = build, threads, shared_bytes
        check_shared(build, shared_bytes, device())
        self._module = module.cuda.function.Module()
        self._module.load(compiled(build))
        self._function = self._module.get_function(build.entry)
        driver = module.cuda.driver
        read = driver.funcGetAttribute
        self.registers: int = read(driver.CU_FUNC_ATTRIBUTE_NUM_REGS, self._function.ptr)
        #: Bytes of a thread's stack in memory: what does not fit its registers.
        self.spilled_bytes: int = read(
            driver.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, self._function.ptr
        )
        most: int = read(driver.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, self._function.ptr)
        if threads > most:
            raise GpuError(
                f"{build.source} takes {self.registers} registers a thread, so that a block of"
                f" {threads} threads does not fit the registers of {device().name}",
                f"at most {most} threads a block, or a smaller tile",
            )
        if shared_bytes > 48 * 1024:
            driver.funcSetAttribute(
                self._function.ptr,
                driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                shared_bytes,
            )

    def __call__(self, grid: Sequence[int], *arguments: Any) -> None:
        """Launch on the current stream."""
        self._function(tuple(grid), (self.threads, 1, 1), arguments, shared_mem=self.shared_bytes)

    @property
    def blocks_per_sm(self) -> int:
        """Blocks that one multiprocessor holds, by the driver's own calculator."""
        found: int = cupy().cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
            self._function.ptr, self.threads, self.shared_bytes
        )
        return found

    def as_dict(self) -> dict[str, Any]:
        """What the compiler made of it, for a record."""
        return {
            "source": self.build.source,
            "defines": dict(self.build.defines),
            "arch": self.build.arch,
            "threads": self.threads,
            "registers": self.registers,
            "spilled_bytes": self.spilled_bytes,
            "shared_bytes": self.shared_bytes,
            "blocks_per_sm": self.blocks_per_sm,
        }


@cache
def _loaded(build: Build, threads: int, shared_bytes: int) -> Kernel:
    return Kernel(build, threads, shared_bytes)


def load(
    source: str,
    entry: str,
    defines: Mapping[str, int | float],
    threads: int,
    shared_bytes: int = 0,
) -> Kernel:
    """The kernel, compiled and loaded at most once a process."""
    build = Build(source, entry, device().arch, tuple(sorted(defines.items())))
    return _loaded(build, threads, shared_bytes)
