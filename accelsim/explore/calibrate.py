"""``calibrate``: measure this GPU's ceilings, or take recorded ones, and write its file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelsim.errors import Fault, InputError, Place
from accelsim.files import write as write_file
from accelsim.gpu import ceilings
from accelsim.gpu.record import Record, document, read, write
from accelsim.ir.gpu import Gpu
from accelsim.load.gpu import load_gpu


@dataclass(frozen=True, slots=True)
class Calibration:
    """A GPU file that was written, what it says, and from which records."""

    path: Path
    gpu: Gpu
    records: tuple[Path, ...]
    device: str

    def to_dict(self) -> dict[str, Any]:
        """In SI units, for ``--json``."""
        gpu = self.gpu
        return {
            "out": str(self.path),
            "gpu": gpu.name,
            "device": self.device,
            "records": [str(path) for path in self.records],
            "clock_hz": gpu.clock_hz,
            "memory_bytes_per_s": {
                "read": gpu.memory.read, "write": gpu.memory.write, "copy": gpu.memory.copy,
            },
            "l2_bytes_per_s": gpu.l2_bandwidth,
            "tensor_flop_per_cycle": dict(gpu.tensor),
            "operations_per_cycle": dict(gpu.operations),
            "launch_s": gpu.launch.first_s,
            "power_w": {"cap": gpu.power.cap_w, "idle": gpu.power.idle_w},
        }  # fmt: skip


def _recorded(folder: Path) -> list[tuple[Path, Record]]:
    """The records of ceilings and of energies in a folder of a recorded run."""
    paths = [folder / f"{name}.json" for name in ("ceilings", "energy")]
    if not folder.is_dir():
        raise InputError([Fault(Place(str(folder)), "is no folder of a recorded run")])
    return [(path, read(path)) for path in paths]


def _measured(keep: Path, tell: Callable[[str], None]) -> list[tuple[Path, Record]]:
    """Measure, and keep what was measured as records."""
    from accelsim.gpu import microbench, waits
    from accelsim.gpu.device import device, within_memory

    ceilings.limits(device().as_dict())  # refuses what it knows nothing of before it measures
    tell(f"{device().name}: rates, bandwidths and latencies, some 20 s")
    with within_memory("calibrating"):
        found = [
            *microbench.ceiling_rows(),
            *waits.wait_rows(),
            *waits.beside_rows(),
            *waits.brief_rows(),
            *waits.acting_rows(),
            waits.train_row(),
        ]
        write(keep / "ceilings.json", document("ceilings", found))
        tell("energies, 2 s each")
        write(keep / "energy.json", document("energy of operations", microbench.energy_rows()))
    return _recorded(keep)


def calibrate(
    out: str | Path,
    *,
    source: str | Path | None = None,
    keep: str | Path | None = None,
    name: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> Calibration:
    """Write the file of the GPU that is here, or of a recorded run's (``source``, a folder).

    What is measured is kept as records in the folder ``keep``, beside ``out`` if none is
    given, so that the file can be made again from them.  Raises InputError where there is no
    GPU, no CuPy or no energy counter, or where records are missing or of two GPUs.

    >>> import tempfile
    >>> out = tempfile.mkdtemp() + "/mine.yaml"
    >>> found = calibrate(out, source="validation/runs/h100-sxm", name="mine")
    >>> found.gpu.name, found.gpu.tensor_rate("wgmma", "bf16")
    ('mine', 4096.0)
    """
    import yaml

    path = Path(out)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError([Fault(Place(str(path)), "a GPU file is YAML", "a name ending in .yaml")])
    if not path.parent.is_dir():
        raise InputError([Fault(Place(str(path.parent)), "is no folder")])
    if source is not None:
        records = _recorded(Path(source))
    else:
        records = _measured(Path(keep) if keep else path.with_suffix(""), tell)
    found = ceilings.listed([record for _, record in records])
    text = ceilings.text(found, name)
    plain = [k for k, v in text.items() if k == "sources" or not isinstance(v, dict)]
    parts = (  # a number and its source share a line, sources have one each
        yaml.safe_dump(
            {k: v}, sort_keys=False, default_flow_style=False if k in plain else None, width=100
        )
        for k, v in text.items()
    )
    write_file(path, "".join(parts).encode())
    return Calibration(
        path, load_gpu(path), tuple(p for p, _ in records), found.ceilings.device["name"]
    )
