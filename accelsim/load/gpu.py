"""GPU files: YAML to ``ir.gpu.Gpu``, every number with its source.

A number is written as ``{value: 50 MiB, source: ...}``, or plainly in a record
that carries a ``source`` for all of its plain numbers, as in architecture
files.  Rates are a cycle and a multiprocessor unless they have a unit a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from accelsim import units
from accelsim.errors import Fault, InputError, Place, one_of
from accelsim.ir.gpu import (
    BYTE_ENERGIES,
    LANE_OPERATIONS,
    TENSOR_PATHS,
    TENSOR_TYPES,
    Gpu,
    Joules,
    Launch,
    Memory,
    Multiprocessor,
    Power,
    Waits,
)
from accelsim.load import catalog
from accelsim.load.arch import OVERRIDE, Number, Sourced, override
from accelsim.load.gpu_text import GpuText, JoulesText, MultiprocessorText, WaitsText
from accelsim.load.source import Document, read, salvage, told_once


class _Builder:
    """Turns one checked document into nouns, collecting faults and sources on the way."""

    def __init__(self, document: Document, text: GpuText, overridden: frozenset[str]) -> None:
        self.document, self.text, self.overridden = document, text, overridden
        self.faults: list[Fault] = []
        self.sources: list[tuple[str, str]] = []

    def fault(self, path: tuple[str, ...], message: str, allowed: str = "") -> None:
        self.faults.append(Fault(self.document.place(path, key=True), message, allowed))

    def number(
        self,
        path: tuple[str, ...],
        given: Number | JoulesText | None,
        dimension: units.Dimension,
        record: str | None = None,
        positive: bool = True,
    ) -> float:
        """The SI value of a number; notes a missing source, unit or a value out of range."""
        if given is None:
            return 0.0
        dotted = ".".join(path)
        if isinstance(given, Sourced | JoulesText):
            written, source, path = given.value, given.source, (*path, "value")
        else:
            written, source = given, record or self.text.source or ""
        if dotted in self.overridden:
            source = OVERRIDE
        if not source.strip():
            self.fault(path, f"{dotted} has no source", "{value: ..., source: ...}")
        self.sources.append((dotted, self.text.sources.get(source, source)))
        place = Place(OVERRIDE) if dotted in self.overridden else self.document.place(path)
        try:
            value = units.parse(written, dimension, place)
        except InputError as error:
            self.faults += error.faults
            return 1.0
        if positive and not 0 < value < math.inf:
            self.faults.append(Fault(place, f"{dotted} is {value:g}", "more than zero"))
            return 1.0
        return value

    def record(
        self, name: str, dimensions: Mapping[str, units.Dimension], positive: bool = True
    ) -> dict[str, float]:
        """Numbers of one record by field."""
        text = getattr(self.text, name)
        return {
            field: self.number(
                (name, field), getattr(text, field), dimension, text.source, positive
            )
            for field, dimension in dimensions.items()
        }

    def known(self, path: tuple[str, ...], name: str, names: Iterable[str]) -> None:
        """Note a name that is none of ``names``."""
        if name not in names:
            self.fault((*path, name), f"{'.'.join(path)} has no {name!r}", one_of(names))

    def tensor(self, name: str) -> tuple[tuple[str, float], ...]:
        found = []
        for path, kinds in getattr(self.text, name).items():
            self.known((name,), path, TENSOR_PATHS)
            for kind, given in kinds.items():
                self.known((name, path), kind, TENSOR_TYPES)
                rate = self.number((name, path, kind), given, "count")
                found.append((f"{path}.{kind}", rate))
        return tuple(found)

    def operations(self) -> tuple[tuple[str, float], ...]:
        found = []
        for name, given in self.text.operations.items():
            self.known(("operations",), name, LANE_OPERATIONS)
            found.append((name, self.number(("operations", name), given, "count")))
        missing = [name for name in LANE_OPERATIONS if name not in self.text.operations]
        if missing:
            message = f"no rate of {', '.join(missing)}"
            self.fault(("operations",), message, "all of " + one_of(LANE_OPERATIONS))
        return tuple(found)

    def energies(self, clock_hz: float) -> tuple[tuple[str, Joules], ...]:
        text, found = self.text.energy, []
        listed: list[tuple[tuple[str, ...], str, JoulesText]] = [
            *((("operations", name), name, j) for name, j in text.operations.items()),
            *((("bytes", name), name, j) for name, j in text.bytes.items()),
        ]
        for path, kinds in text.tensor.items():
            self.known(("energy", "tensor"), path, TENSOR_PATHS)
            listed += [(("tensor", path, kind), f"{path}.{kind}", j) for kind, j in kinds.items()]
        names = {"operations": LANE_OPERATIONS, "bytes": BYTE_ENERGIES}
        for steps, name, given in listed:
            at = ("energy", *steps)
            self.known(at[:-1], at[-1], names.get(steps[0], TENSOR_TYPES))
            clock = clock_hz
            if given.clock is not None:
                clock = self.number((*at, "clock"), given.clock, "hertz", given.source)
            found.append((name, Joules(self.number(at, given, "joules", positive=False), clock)))
        return tuple(found)

    def brief(self) -> tuple[tuple[str, tuple[tuple[float, float], ...]], ...]:
        """Clocks of brief launches by path, shortest launch first."""
        found = []
        text = self.text.brief
        for path, clocks in text.clocks.items() if text is not None else ():
            self.known(("brief", "clocks"), path, TENSOR_PATHS)
            place = self.document.place(["brief", "clocks", path])
            points = []
            for length, clock in clocks.items():
                try:
                    points.append((units.parse(length, "seconds", place), 0.0))
                except InputError as error:
                    self.faults += error.faults
                    continue
                at = ("brief", "clocks", path, length)
                hertz = self.number(at, clock, "hertz", text.source if text else None)
                points[-1] = (points[-1][0], hertz)
            found.append((path, tuple(sorted(points))))
        return tuple(found)

    def multiprocessor(self) -> Multiprocessor:
        count = {"registers", "threads", "blocks", "schedulers"}
        limits = self.record(
            "multiprocessor",
            {
                f: "count" if f in count else "bytes"
                for f in MultiprocessorText.model_fields
                if f != "source"
            },
        )
        return Multiprocessor(
            registers=round(limits["registers"]),
            threads=round(limits["threads"]),
            blocks=round(limits["blocks"]),
            shared_bytes=limits["shared"],
            block_shared_bytes=limits["block_shared"],
            schedulers=round(limits["schedulers"]),
        )

    def rates(self, name: str, sizes: Iterable[str], rates: Iterable[str]) -> dict[str, float]:
        """Fields of a memory: sizes in bytes, rates in bytes a second."""
        dimensions: dict[str, units.Dimension] = dict.fromkeys(sizes, "bytes")
        return self.record(name, dimensions | dict.fromkeys(rates, "bytes_per_s"))

    def power(self) -> Power:
        power = self.record("power", dict.fromkeys(("cap", "idle", "awake"), "watts"))
        given = self.text.power
        peak = self.number(("power", "peak"), given.peak, "watts", given.source)
        response = self.number(("power", "response"), given.response, "seconds", given.source)
        acts = self.number(("power", "acts"), given.acts, "seconds", given.source)
        droop = self.number(("power", "droop"), given.droop, "count", given.source)
        return Power(
            cap_w=power["cap"],
            idle_w=power["idle"],
            awake_w=power["awake"],
            peak_w=peak or power["cap"],
            response_s=response,
            acts_s=min(acts or response, response),
            droop=droop,
        )

    def waits(self) -> Waits:
        waits: dict[str, units.Dimension] = {
            f: "count" for f in WaitsText.model_fields if f != "source"
        }
        return Waits(**self.record("waits", waits, False))

    def build(self) -> Gpu:
        text = self.text
        clock = self.number(("clock",), text.clock, "hertz")
        multiprocessor = self.multiprocessor()
        l2 = self.rates("l2", ("capacity", "reach"), ("bandwidth", "shared_bandwidth"))
        memory = self.rates("memory", ("capacity",), ("reads", "writes", "copies", "panels"))
        started: dict[str, units.Dimension] = dict.fromkeys(("first", "next", "host"), "seconds")
        more: dict[str, units.Dimension] = {"blocks": "hertz", "cold": "seconds"}
        launch = self.record("launch", started | more, False)
        power = self.power()
        tensor_clock = self.number(("tensor_clock",), text.tensor_clock, "hertz")
        sheet = {"flops": 0.0, "bandwidth": 0.0}
        if text.sheet is not None:
            sheet = self.record("sheet", {"flops": "count", "bandwidth": "bytes_per_s"})
        found = Gpu(
            name=text.gpu,
            capability=text.capability,
            multiprocessors=round(
                self.number(("multiprocessors",), text.multiprocessors, "count")
            ),
            clock_hz=clock,
            tensor_clock_hz=tensor_clock or clock,
            brief_clocks=self.brief(),
            multiprocessor=multiprocessor,
            tensor=self.tensor("tensor"),
            tensor_alone=self.tensor("tensor_alone"),
            operations=self.operations(),
            shared_bandwidth=self.record("shared", {"bandwidth": "count"})["bandwidth"],
            l2_bytes=l2["capacity"],
            l2_reach_bytes=l2["reach"] or l2["capacity"],
            l2_bandwidth=l2["bandwidth"],
            l2_shared_bandwidth=l2["shared_bandwidth"] or l2["bandwidth"],
            memory=Memory(*memory.values()),
            waits=self.waits(),
            launch=Launch(*launch.values()),
            power=power,
            energy=self.energies(clock),
            sheet_flops=sheet["flops"],
            sheet_bandwidth=sheet["bandwidth"],
            basis=text.basis,
            about=text.about,
            sources=tuple(self.sources),
        )  # fmt: skip
        if self.faults:
            raise InputError(self.faults)
        return found


def gpu_from(document: Document, sets: Iterable[str] = ()) -> Gpu:
    """The GPU of a document with overrides ``path=value`` applied.

    Raises InputError with every fault: unknown or missing fields, a number
    without source or unit, a rate of zero, an override of nothing.
    """
    overridden = frozenset(override(document.value, text) for text in sets)
    text, faults = salvage(document, GpuText)
    if text is None:
        raise InputError(faults)
    try:
        found = _Builder(document, text, overridden).build()
    except InputError as error:
        raise told_once(faults, error.faults) from None
    if faults:
        raise InputError(faults)
    return found


def is_gpu(value: Any) -> bool:
    """Whether a document's value is a GPU rather than a spatial architecture.

    >>> is_gpu({"gpu": "h100-sxm"}), is_gpu({"architecture": "teaching"})
    (True, False)
    """
    return isinstance(value, dict) and "gpu" in value


def load_gpu(name: str | Path, sets: Iterable[str] = ()) -> Gpu:
    """The GPU of a name or a file, with overrides; cached until the file changes.

    >>> load_gpu("h100-sxm", ["memory.reads=4 TB/s"]).memory.read
    4000000000000.0
    """
    path = catalog.find("arch", name)
    return _loaded(path, path.stat().st_mtime_ns, tuple(sets))


@lru_cache(maxsize=256)
def _loaded(path: Path, _changed: int, sets: tuple[str, ...]) -> Gpu:
    document = read(path)
    if not is_gpu(document.value):
        place = document.place()
        raise InputError([Fault(place, f"{path.stem} is no GPU", "a document that begins gpu:")])
    return gpu_from(document, sets)
