"""``validate gpu`` on the GPU that is here: a fresh grid measured, predictions beside it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from accelsim.errors import one_of, refuse
from accelsim.explore.validate_gpu import GpuValidation, validate_gpu
from accelsim.gpu.device import Device, GpuError
from accelsim.load import catalog

#: What can stand beside our kernels.
LIBRARIES = ("torch",)


def present() -> tuple[Device | None, str]:
    """The GPU that is here; or None, and why not in a sentence.

    >>> gpu, why = present()
    >>> (gpu is None) == bool(why)
    True
    """
    from accelsim.gpu.device import device

    try:
        return device(), ""
    except GpuError as error:
        return None, error.faults[0].message


def validate_here(
    gpu: str | None = None,
    *,
    rows: int = 60,
    seed: int | None = None,
    library: str | None = None,
    keep: str | Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> GpuValidation:
    """Measure ``rows`` cases of attention, and what goes with them, here; then compare.

    Cases are drawn from ``seed``, another one each time if none is given;
    records go to the folder ``keep``.  ``gpu`` is the file to predict with, the
    one named as the GPU that is here if none is given.  Raises InputError
    where there is no GPU, no file for it, no such library, or a kernel is wrong.
    """
    from accelsim.gpu import fresh
    from accelsim.gpu.device import device

    if library is not None and library not in LIBRARIES:
        raise refuse(f"no library {library!r}", one_of(LIBRARIES))
    if rows < 1:
        raise refuse(f"a grid of {rows} rows", "1 or more")
    here = device()
    name = gpu or here.slug
    if gpu is None and name not in catalog.names("arch"):
        raise refuse(
            f"there is no GPU file for {here.name} ({name})",
            f"accelsim calibrate --out {name}.yaml, then --gpu {name}.yaml",
        )
    drawn = random.SystemRandom().randrange(1 << 31) if seed is None else seed
    tell(f"cases drawn from seed {drawn}")
    folder = Path(keep or tempfile.mkdtemp(prefix="accelsim-gpu-"))
    fresh.grid(folder, drawn, rows, tell, library is not None)
    tell(f"records in {folder}")
    return validate_gpu(name, folder)
