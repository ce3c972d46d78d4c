"""The nouns of a GPU: its multiprocessor, tensor cores, memories, launch and power.

Every number is a physical ceiling: of one instruction, one level of memory or
one event, measured alone or taken from a data sheet.  None belongs to a kernel.
Where each comes from is kept beside them in ``Gpu.sources``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal

#: Operations of one lane that ``operations`` may give a rate for.
LANE_OPERATIONS: Final = ("ex2", "fma", "add", "max", "cvt", "shuffle", "alu")
#: Instruction paths to the tensor cores; types after the dot.
TENSOR_PATHS: Final = ("mma", "wgmma", "tcgen05")
TENSOR_TYPES: Final = ("bf16", "f16", "s8", "e4m3")
#: Bytes that ``energy`` may price: of shared memory, of L2, and read and written behind it.
BYTE_ENERGIES: Final = ("shared", "l2", "read", "write")

Basis = Literal["measured", "data sheet"]


@dataclass(frozen=True, slots=True)
class Multiprocessor:
    """Limits of one multiprocessor: what may be resident, and how many schedulers issue."""

    registers: int = 65536
    threads: int = 2048
    blocks: int = 32
    shared_bytes: float = 233472.0
    block_shared_bytes: float = 232448.0
    schedulers: int = 4


@dataclass(frozen=True, slots=True)
class Waits:
    """Latencies in cycles: of a dependent instruction, of a load, of a barrier.

    ``barrier`` is what a block of no warps would take; each warp adds
    ``barrier_warp``.  ``mma`` is from an mma to one that adds to its result,
    ``mma_issue`` how long another instruction of its scheduler keeps the tensor core from it,
    ``slot`` from a block's end to the first instruction of the next one in its place.
    """

    mma: float = 0.0
    mma_issue: float = 0.0
    wgmma: float = 0.0
    shared: float = 0.0
    shuffle: float = 0.0
    ex2: float = 0.0
    alu: float = 0.0
    l2: float = 0.0
    memory: float = 0.0
    barrier: float = 0.0
    barrier_warp: float = 0.0
    slot: float = 0.0


@dataclass(frozen=True, slots=True)
class Joules:
    """Energy of one operation or byte above what the board draws awake, at a clock."""

    energy_j: float
    clock_hz: float


@dataclass(frozen=True, slots=True)
class Power:
    """What the board draws and allows.

    ``cap_w`` holds on the average over ``response_s`` and begins to act in trains
    of ``acts_s``; ``peak_w`` holds at once, or from there on the clock falls by the
    power ``droop`` of what is drawn; ``awake_w`` is drawn at the highest clock with
    nothing to do.
    """

    cap_w: float
    idle_w: float
    awake_w: float
    peak_w: float
    response_s: float
    acts_s: float
    droop: float = 0.0

    def acted(self, seconds: float) -> float:
        """How far the cap has brought the clock down in a train of launches so long, 0 to 1.

        >>> power = Power(700.0, 100.0, 150.0, 750.0, response_s=1.0, acts_s=0.5)
        >>> [power.acted(s) for s in (0.25, 0.75, 2.0)]
        [0.0, 0.5, 1.0]
        """
        if seconds > self.response_s:
            return 1.0
        if seconds <= self.acts_s:
            return 0.0
        return (seconds - self.acts_s) / (self.response_s - self.acts_s)


@dataclass(frozen=True, slots=True)
class Launch:
    """Seconds of an empty kernel: alone between two events, behind another, on the host.

    ``blocks_hz`` is how many blocks are started a second, 0 where that is not known,
    ``cold_s`` how much later a kernel is where L2 has lost its instructions.
    """

    first_s: float
    next_s: float
    host_s: float = 0.0
    blocks_hz: float = 0.0
    cold_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory behind L2: bytes, bytes a second of reads, of writes, of both at once.

    ``panels`` is the rate of reads that take 128 bytes of many rows at a time, 0 where unknown.
    """

    capacity_bytes: float
    read: float
    write: float
    copy: float
    panels: float = 0.0

    def seconds(self, read_bytes: float, write_bytes: float) -> float:
        """Time of a mixture: its rate lies between those of reads, a copy and writes.

        The cost of a byte is linear between the three points that are known
        (all reads, half and half, all writes).

        >>> Memory(80e9, 100.0, 100.0, 80.0).seconds(40.0, 40.0)
        1.0
        """
        total = read_bytes + write_bytes
        if not total:
            return 0.0
        share = write_bytes / total
        if share <= 0.5:
            each = (1 / self.read) * (1 - 2 * share) + (1 / self.copy) * 2 * share
        else:
            each = (1 / self.copy) * (2 - 2 * share) + (1 / self.write) * (2 * share - 1)
        return total * each


def _between(points: tuple[tuple[float, float], ...], seconds: float) -> float:
    """The clock of a length between (seconds, clock), shortest first; the end's beyond an end."""
    before = points[0]
    for point in points:
        if seconds <= point[0]:
            if before is point:
                break
            share = math.log(seconds / before[0]) / math.log(point[0] / before[0])
            return before[1] + share * (point[1] - before[1])
        before = point
    return before[1]


@dataclass(frozen=True)
class Gpu:
    """A GPU: ``multiprocessors`` alike, behind one L2 and one memory.

    They run at most at ``clock_hz``, with tensor cores at work at most at
    ``tensor_clock_hz``, and at ``brief_clocks`` (by path, over the seconds of
    a launch) in single launches after a rest.  ``tensor`` is FLOP a cycle a multiprocessor by path
    and type (``wgmma.bf16``), ``tensor_alone`` the same of one warp a
    scheduler, ``operations`` lane operations a cycle a multiprocessor,
    ``shared_bandwidth`` bytes a cycle a multiprocessor.  ``l2_reach_bytes`` is
    the size of a buffer that is still served by L2 alone when it is read again,
    ``l2_shared_bandwidth`` the rate of lines that all read, ``sheet_flops`` and
    ``sheet_bandwidth`` what the data sheet promises.
    """

    name: str
    capability: str
    multiprocessors: int
    clock_hz: float
    multiprocessor: Multiprocessor
    tensor_clock_hz: float
    tensor: tuple[tuple[str, float], ...]
    tensor_alone: tuple[tuple[str, float], ...]
    operations: tuple[tuple[str, float], ...]
    shared_bandwidth: float
    l2_bytes: float
    l2_reach_bytes: float
    l2_bandwidth: float
    l2_shared_bandwidth: float
    memory: Memory
    waits: Waits
    launch: Launch
    power: Power
    energy: tuple[tuple[str, Joules], ...]
    brief_clocks: tuple[tuple[str, tuple[tuple[float, float], ...]], ...] = ()
    sheet_flops: float = 0.0
    sheet_bandwidth: float = 0.0
    basis: Basis = "measured"
    about: str = ""
    sources: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __hash__(self) -> int:
        """By name and what it can do."""
        return hash((self.name, self.clock_hz, self.tensor, self.operations, self.memory))

    def brief_clock_hz(self, seconds: float) -> float:
        """The clock of tensor work in a launch so long: linear in the length's logarithm.

        That of the path that draws least; what others lose beside it is the droop.

        >>> from accelsim.load.gpu import load_gpu
        >>> gpu = load_gpu("rtx4090")
        >>> gpu.brief_clock_hz(1e-4) == gpu.tensor_clock_hz
        True
        """
        paths = [points for _, points in self.brief_clocks if points]
        return max((_between(points, seconds) for points in paths), default=self.tensor_clock_hz)

    def tensor_rate(self, path: str, kind: str) -> float | None:
        """FLOP a cycle a multiprocessor of a path and a type; None where there is no such path."""
        return dict(self.tensor).get(f"{path}.{kind}")

    def tensor_alone_rate(self, path: str, kind: str) -> float | None:
        """The same where a scheduler has one warp; as with many where the file says nothing."""
        return dict(self.tensor_alone).get(f"{path}.{kind}", self.tensor_rate(path, kind))

    def rate(self, operation: str) -> float:
        """Lane operations a cycle a multiprocessor."""
        return dict(self.operations)[operation]

    def joules(self, what: str, clock_hz: float) -> float:
        """Energy of one operation or byte at a clock; nothing where the file prices no such thing.

        Voltage is taken to go with the clock, so that energy goes with its
        square and dynamic power with its cube (Weste and Harris, CMOS VLSI
        Design, 5.2); near the lowest voltage that is too little.
        """
        found = dict(self.energy).get(what)
        if found is None:
            return 0.0
        return found.energy_j * (clock_hz / found.clock_hz) ** 2
