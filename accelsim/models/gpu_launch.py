"""What a kernel asks of a GPU, apart from its clock: cycles, bytes, operations of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accelsim.ir.gpu import Gpu

#: Bytes a cycle that one multiprocessor can take from L2 (NVIDIA, A100 and H100 white papers).
PORT_BYTES = 64.0


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch: cycles of its busiest multiprocessor, bytes by level, operations by kind.

    ``operations`` are FLOP of a tensor path (``wgmma.bf16``), lane operations
    (``ex2``), bytes of shared memory (``shared``): what energy is counted by.
    ``stages`` are cycles by stage of one tile of a multiprocessor, ``lead_s``
    seconds that pass before bytes flow, ``held_bytes`` what is in memory where
    that is not what is moved, ``busy`` the share of time in which all
    multiprocessors that it uses are at work, ``cold_s`` what its first blocks
    wait for memory beyond what they wait for L2, ``found_bytes`` what of its
    reads the launch before it has written and left in L2.
    """

    name: str
    cycles: float
    read_bytes: float
    write_bytes: float
    l2_bytes: float
    operations: Mapping[str, float]
    blocks: int = 1
    slots: int = 1
    stages: tuple[tuple[str, float, str], ...] = ()
    shape: str = ""
    lead_s: float = 0.0
    held_bytes: float | None = None
    busy: float = 1.0
    cold_s: float = 0.0
    found_bytes: float = 0.0

    @property
    def footprint(self) -> float:
        """Bytes of memory that its inputs and outputs take: those it reads and writes."""
        moved = self.read_bytes + self.write_bytes
        return moved if self.held_bytes is None else self.held_bytes

    @property
    def waves(self) -> float:
        """Blocks over slots."""
        return self.blocks / self.slots

    @property
    def uses_tensor(self) -> bool:
        """Whether it has tensor-core work."""
        return any("." in name and count for name, count in self.operations.items())


def left_in_l2(gpu: Gpu, launch: Launch) -> float:
    """Bytes written that have not reached memory when the launch ends.

    L2 holds the lines that passed last, read and written as they came; no
    more than half of them are written ones (each half of L2 keeps its own).

    >>> from accelsim.load.gpu import load_gpu
    >>> left_in_l2(load_gpu("h100-sxm"), Launch("k", 0.0, 1e9, 1e9, 2e9, {}))
    21626880.0
    """
    passed = launch.read_bytes + launch.write_bytes
    share = launch.write_bytes / passed if passed else 0.0
    return min(launch.write_bytes, min(share, 0.5) * gpu.l2_reach_bytes)


def kept_in_l2(gpu: Gpu, footprint: float) -> float:
    """The share of so many bytes that L2 still has when all of them are asked for again.

    All up to its reach, and none from half as much more: read again and again,
    52 MB of an H100 come at a rate of 0.6 to 0.7 hits, 69 MB at memory's
    (``l2.read.own`` of validation/runs/h100-sxm/ceilings.json and calibration).

    >>> from accelsim.load.gpu import load_gpu
    >>> gpu = load_gpu("h100-sxm")
    >>> [round(kept_in_l2(gpu, size), 2) for size in (43e6, 51.9e6, 69.2e6)]
    [1.0, 0.6, 0.0]
    """
    return min(1.0, max(0.0, 3.0 - 2.0 * footprint / gpu.l2_reach_bytes))


def kept_again(gpu: Gpu, footprint: float, written: float = 0.0) -> float:
    """The share of a launch's bytes that L2 still has when the next one asks for them.

    Launches that go over their bytes in one order lose them sooner than those
    that come back to a few: of what is read they find all up to 0.9 of L2's
    reach and nothing from 1.1 of it on; where half of it is ``written`` or more,
    all up to 0.65 of it (caches of 39 to 48 MB, copies and unfused attention of
    28 to 48 MB: grids of validation/runs/h100-sxm).

    >>> from accelsim.load.gpu import load_gpu
    >>> gpu = load_gpu("h100-sxm")
    >>> [round(kept_again(gpu, size), 2) for size in (38.9e6, 43.25e6, 47.6e6)]
    [1.0, 0.5, 0.0]
    >>> [round(kept_again(gpu, size, size / 2), 2) for size in (28.1e6, 37.8e6, 47.6e6)]
    [1.0, 0.5, 0.0]
    """
    whole = 0.9 - 0.5 * min(0.5, written / footprint if footprint else 0.0)
    return min(1.0, max(0.0, (1.1 - footprint / gpu.l2_reach_bytes) / (1.1 - whole)))


def ingest(gpu: Gpu, active: float) -> float:
    """Bytes a cycle that a multiprocessor takes from L2 while ``active`` of them do.

    >>> from accelsim.load.gpu import load_gpu
    >>> ingest(load_gpu("h100-sxm"), 1), round(ingest(load_gpu("h100-sxm"), 132), 1)
    (64.0, 28.9)
    """
    return min(PORT_BYTES, gpu.l2_bandwidth / gpu.clock_hz / max(1, active))


def shared_ingest(gpu: Gpu, active: int) -> float:
    """The same of lines that all of them read at about the same time, at the tensor clock.

    >>> from accelsim.load.gpu import load_gpu
    >>> round(shared_ingest(load_gpu("h100-sxm"), 132), 1)
    37.6
    """
    return min(PORT_BYTES, gpu.l2_shared_bandwidth / gpu.tensor_clock_hz / max(1, active))
