"""The text of a GPU file as Pydantic models: which fields there are and what they mean."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from accelsim.load.arch import Number, Record


class MultiprocessorText(Record):
    """What may be resident on one multiprocessor."""

    registers: Number = Field(description="32-bit registers")
    threads: Number
    blocks: Number
    shared: Number = Field(description="shared memory of all its blocks")
    block_shared: Number = Field(description="the most that one block may have")
    schedulers: Number = Field(description="each issues one warp instruction a cycle")
    source: str | None = None


class WaitsText(Record):
    """Latencies in cycles."""

    mma: Number | None = Field(None, description="from an mma.sync to one that adds to its result")
    mma_issue: Number | None = Field(
        None, description="how long another instruction keeps the tensor core from mma.sync"
    )
    wgmma: Number | None = Field(None, description="from issue of a lone wgmma to its result")
    shared: Number | None = Field(None, description="a load from shared memory")
    shuffle: Number | None = None
    ex2: Number | None = None
    alu: Number | None = Field(None, description="an add or a maximum")
    l2: Number | None = Field(None, description="a load that hits L2")
    memory: Number | None = Field(None, description="a load that misses L2")
    barrier: Number | None = Field(None, description="a block's barrier, warps aside")
    barrier_warp: Number | None = Field(None, description="what each warp adds to it")
    slot: Number | None = Field(
        None, description="from a block's end to the first instruction of the next in its place"
    )
    source: str | None = None


class SharedText(Record):
    """Shared memory of one multiprocessor."""

    bandwidth: Number = Field(description="bytes a cycle")
    source: str | None = None


class L2Text(Record):
    """The cache that all multiprocessors share."""

    capacity: Number
    reach: Number | None = Field(
        None, description="largest buffer that is read again from L2 alone; the capacity if none"
    )
    bandwidth: Number = Field(description="read by all multiprocessors at once, each its own")
    shared_bandwidth: Number | None = Field(
        None, description="the same lines read by all of them; the bandwidth if none"
    )
    source: str | None = None


class MemoryText(Record):
    """The memory behind L2."""

    capacity: Number
    reads: Number = Field(description="bytes a second that are read, nothing written")
    writes: Number = Field(description="bytes a second that are written, nothing read")
    copies: Number = Field(description="bytes a second, half read and half written")
    panels: Number | None = Field(
        None, description="read 128 bytes of many rows at a time; as all reads if none"
    )
    source: str | None = None


class LaunchText(Record):
    """An empty kernel."""

    first: Number = Field(description="alone, between two events")
    next: Number = Field(description="each further one in the same stream")
    host: Number | None = Field(None, description="on the host, a launch")
    blocks: Number | None = Field(
        None, description="empty blocks started a second; no limit if none"
    )
    cold: Number | None = Field(None, description="later where L2 has lost the instructions")
    source: str | None = None


class PowerText(Record):
    """What the board draws and allows."""

    cap: Number
    idle: Number = Field(description="nothing running")
    awake: Number = Field(description="clock up, multiprocessors resident but idle")
    peak: Number | None = Field(None, description="drawn at once, before the cap acts")
    droop: Number | None = Field(
        None, description="power of peak over what is drawn by which the clock falls beyond it"
    )
    acts: Number | None = Field(None, description="until the cap begins to take clock away")
    response: Number | None = Field(None, description="until the cap has taken it")
    source: str | None = None


class JoulesText(Record):
    """One operation or one byte, above what the board draws awake."""

    value: str | int | float
    source: str
    clock: str | None = Field(None, description="at which it was found; the highest if none")


class EnergyText(Record):
    """Energies of tensor cores (by FLOP), lane operations and bytes."""

    tensor: dict[str, dict[str, JoulesText]] = Field(default_factory=dict)
    operations: dict[str, JoulesText] = Field(default_factory=dict)
    bytes: dict[str, JoulesText] = Field(default_factory=dict)


class SheetText(Record):
    """What the data sheet promises, for a roofline to compare with."""

    flops: Number = Field(description="FLOP a second of dense 16-bit products")
    bandwidth: Number = Field(description="bytes a second of memory")
    source: str | None = None


class BriefText(Record):
    """The clock of tensor work in a single launch after a rest, by how long it lasts."""

    source: str
    clocks: dict[str, dict[str, str]] = Field(description="by path: length of a launch, clock")


class GpuText(Record):
    """A GPU; rates are a cycle and a multiprocessor."""

    gpu: str
    about: str = ""
    basis: Literal["measured", "data sheet"]
    capability: str
    sources: dict[str, str] = Field(default_factory=dict)
    multiprocessors: Number
    clock: Number = Field(description="the highest clock")
    tensor_clock: Number | None = Field(
        None, description="the highest while tensor cores work; the highest clock if none"
    )
    brief: BriefText | None = Field(
        None, description="clocks of brief launches; the highest with tensor cores if none"
    )
    multiprocessor: MultiprocessorText
    tensor: dict[str, dict[str, Number]] = Field(description="FLOP by path (wgmma) and type")
    tensor_alone: dict[str, dict[str, Number]] = Field(
        default_factory=dict, description="the same of one warp a scheduler, where it is less"
    )
    operations: dict[str, Number] = Field(description="lane operations: ex2, fma, max ...")
    shared: SharedText
    l2: L2Text
    memory: MemoryText
    waits: WaitsText
    launch: LaunchText
    power: PowerText
    sheet: SheetText | None = None
    energy: EnergyText = Field(default_factory=EnergyText)
    source: str | None = None
