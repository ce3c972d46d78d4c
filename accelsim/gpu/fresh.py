"""A grid measured on the GPU that is here, for ``validate gpu`` to stand predictions beside.

``python -m accelsim.gpu.fresh FOLDER SEED`` launches what the profiler counts: it is started
by ``counts`` under Nsight Compute and tells its cases in ``told.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from accelsim.gpu import attention, counters, measure
from accelsim.gpu.attention import Problem
from accelsim.gpu.device import GpuError, cupy, device, within_memory
from accelsim.gpu.grid import (
    AttentionCase,
    attention_cases,
    attention_row,
    decode_cases,
    decode_row,
)
from accelsim.gpu.record import document, fields, read, write

#: Cases whose bytes are counted and whose energy is: few, since each takes a second or more.
COUNTED, SUSTAINED = 8, 4
#: Kernels of attention, as the profiler names them.
KERNELS: Final = {3: ("scores", "rows", "values")}
#: Operations below which counting a case is quick, and above which a second of it says something.
QUICK, LONG = 1e12, 3e11

Tell = Callable[[str], None]


def usable(case: AttentionCase) -> bool:
    """Whether this GPU has the instructions of a case's tile."""
    tile = case.variant.tile
    return tile is None or tile.path == "mma" or device().capability == "9.0"


def cases(seed: int, count: int) -> list[AttentionCase]:
    """That many cases of a seed that this GPU can run, of those that fit its memory."""
    found = [case for case in attention_cases(seed, 4 * count) if usable(case)]
    room = device().memory_bytes / 2
    return [case for case in found if case.shape.compulsory_bytes < room][:count]


def right(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The row, if its kernel was; ``GpuError`` where it computed something else."""
    check = row["check"]
    if not check["holds"]:
        raise GpuError(
            f"{name} is wrong on {device().name}: error {check['relative_error']:.1e},"
            f" {check['unwritten']} numbers left unwritten",
            f"an error of {check['tolerance']:g} at most",
        )
    return row


def grid(folder: Path, seed: int, count: int, tell: Tell, library: bool = False) -> Path:
    """Measure a grid of that many attention cases, with what goes with it, into ``folder``.

    Decoding steps, energies and, where Nsight Compute is there, bytes; with ``library``
    PyTorch's kernels too.  Every kernel is checked before it is timed.
    """
    mine = cases(seed, count)
    with within_memory("the grid"):
        tell(f"{device().name}: {len(mine)} cases of attention")
        found = [right(attention_row(c, seed), c.variant.name) for c in mine]
        write(folder / "attention-grid.json", document("attention-grid", found, seed=seed))
        steps = decode_cases(seed, max(1, count // 4))
        tell(f"{len(steps)} steps of decoding")
        found = [right(decode_row(c, seed), "decode-split") for c in steps]
        write(folder / "decode-grid.json", document("decode-grid", found, seed=seed))
        if library:
            _library(folder, seed, count // 4, tell)
        _energies(folder, seed, mine, tell)
    counts(folder, seed, tell)
    return folder


def _library(folder: Path, seed: int, count: int, tell: Tell) -> None:
    """PyTorch's attention, products, softmax and copy."""
    from accelsim.gpu import library

    versions = library.versions()
    tell(f"PyTorch {versions['torch']}: attention, matrix products, softmax, copy")
    found = list(library.rows(seed, count, count))
    record = document("library-grid", found, libraries=versions, seed=seed)
    write(folder / "library-grid.json", record)


def _energies(folder: Path, seed: int, mine: Iterable[AttentionCase], tell: Tell) -> None:
    """Sustained power of some long cases, where the board counts energy."""
    long = [case for case in mine if LONG < case.shape.flops < 1e13][:SUSTAINED]
    found = []
    for case in long:
        problem = Problem(case.shape, case.mask, case.dtype, seed)
        power = measure.sustained(attention.run_of(problem, case.variant), 1.0)
        if power is not None:
            found.append(case.as_dict() | {"sustained": fields(power)})
    tell(f"{len(found)} kernels back to back for their energy")
    if found:
        write(folder / "energy-kernels.json", document("energy of kernels", found))


def counts(folder: Path, seed: int, tell: Tell) -> None:
    """Bytes of some quick cases by Nsight Compute; says so and goes on where there is none."""
    names = ("attention", *KERNELS[3])
    program = [sys.executable, "-m", "accelsim.gpu.fresh", str(folder), str(seed)]
    try:
        kernels = counters.counted(program, names)
    except GpuError as error:
        return tell(f"bytes are not counted: {error.faults[0].message}")
    told = read(folder / "told.json")
    rows = [
        {"case": row["case"], "kernels": [kernels.pop(0) for _ in row["kernels"]]}
        for row in told.rows
    ]
    method = {"counters": counters.METHOD}
    write(folder / "counters.json", {**told.about, "method": method, "rows": rows})
    return tell(f"bytes of {len(rows)} cases counted")


def launched(folder: Path, seed: int) -> None:
    """Launch the cases that are counted, each once, and tell which they are."""
    told = []
    for case in [c for c in cases(seed, 100) if c.shape.flops < QUICK][:COUNTED]:
        attention.run_of(Problem(case.shape, case.mask, case.dtype, seed), case.variant)()
        cupy().cuda.runtime.deviceSynchronize()
        names = KERNELS.get(case.variant.passes, ("attention",))
        told.append({"case": case.as_dict(), "kernels": list(names)})
    write(folder / "told.json", document("told", told))


if __name__ == "__main__":
    launched(Path(sys.argv[1]), int(sys.argv[2]))
