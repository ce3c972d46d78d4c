"""``estimate CASCADE --arch GPU``: the price of the kernel and the tile that ``map`` would take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from accelsim.load import catalog
from accelsim.load.gpu import is_gpu
from accelsim.load.source import read

if TYPE_CHECKING:
    from accelsim.models.gpu_estimate import KernelEstimate


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

    Kernel and tile are those that ``map_gpu`` takes for latency; inputs count
    with the bits of their formats.  Raises InputError for sizes that do not fit
    the cascade.

    >>> sizes = "B=1,H=16,M=8192,P=8192,E=128,F=128"
    >>> found = estimate_cascade("attention-1pass", arch="h100-sxm", shape=sizes)
    >>> found.kernel, found.launches[0].launch.blocks > 132
    ('attention-1pass-wgmma', True)
    """
    from accelsim.explore.map_gpu import map_gpu
    from accelsim.explore.stored_gpu import stored

    found = map_gpu(
        cascade, arch=arch, model=model, seq=seq, shape=shape, config=config, sets=sets
    )  # fmt: skip
    return stored(found)
