"""Kernel descriptors: YAML to ``ir.kernel.KernelDescriptor``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from accelsim.errors import Fault, InputError, one_of
from accelsim.ir.gpu import TENSOR_PATHS, TENSOR_TYPES
from accelsim.ir.kernel import Family, KernelDescriptor, Realised, Tile
from accelsim.load import catalog
from accelsim.load.arch import Record
from accelsim.load.source import Document, read, salvage, told_once


class TileText(Record):
    """A block's tile and the sizes for which it is taken."""

    when: dict[str, int] = Field(default_factory=dict, description="rank sizes, all of them")
    rows: int = Field(ge=1, description="queries, or rows of a product")
    columns: int = Field(ge=1, description="keys, or columns of a product")
    warps: int = Field(ge=1, le=32, description="warps that compute")
    depth: int = Field(0, ge=0, description="of a step of a product")
    row_tiles: int = Field(1, ge=1, description="fragments of 16 rows of a warp")
    blocks: int = Field(1, ge=1, le=32, description="blocks that its registers let reside")
    stages: int = Field(2, ge=1, description="tiles in flight")
    cluster: int = Field(1, ge=1, description="blocks that share the columns they load")
    height: int = Field(1, ge=1, description="rows of the grid that a rectangle of queries spans")
    way: Literal["", "warp", "registers", "shared", "again"] = Field(
        "", description="who holds a row, and where; again: it is read for each statistic"
    )


class RealisedText(Record):
    """A stage of a published system that the kernel runs."""

    system: str = Field(description="as `systems/` has it")
    stage: str = Field(min_length=1, description="which part of the system")
    options: dict[str, str | int | bool] = Field(
        default_factory=dict, description="options or sizes: a value, set or unset"
    )


class KernelText(Record):
    """A kernel as its source has it: no times, no efficiencies."""

    kernel: str
    about: str = ""
    family: Family
    source: str = Field(min_length=1, description="where tile and pipeline stand")
    path: str = Field("", description="instructions of the tensor cores: mma, wgmma")
    kinds: list[str] = Field(default_factory=lambda: ["bf16", "f16"])
    passes: int = Field(1, ge=1, le=3)
    overlap: Literal["in phase", "staggered"] = "in phase"
    interleaved: bool = Field(
        False, description="a warp's own stages run beside each other, as far as pipes allow"
    )
    correction: Literal["always", "when moved", "never"] = "always"
    longest_first: bool = Field(False, description="longest blocks of a head are dealt first")
    persistent: bool = Field(False, description="one block a multiprocessor takes tile after tile")
    queries_ahead: bool = Field(
        False, description="a persistent block asks for its next queries before it ends these"
    )
    ahead: bool = Field(
        False, description="the product runs beside the next tile's exponentials of its warp"
    )
    skips: bool = Field(False, description="a warp passes over key tiles that it sees nothing of")
    masks_all: bool = Field(
        False, description="where keys end within a tile, scores of all tiles are compared"
    )
    overhead: float = Field(
        0, ge=0, description="instructions of a warp and tile beside arithmetic"
    )
    load_bytes: int = Field(0, ge=0, description="bytes of a copy instruction; 0: a copy engine")
    padded_columns: int = Field(0, ge=0, description="head dimension is padded to a multiple")
    padded_work: bool = Field(False, description="the padding is multiplied as well")
    column_step: int = Field(0, ge=0, description="narrower tiles are there in such steps")
    instructions: dict[str, float] = Field(
        default_factory=dict, description="counted instructions of a warp, by variant"
    )
    alu: dict[str, float] = Field(
        default_factory=dict, description="share of them in the integer lanes, by variant"
    )
    waits: dict[str, float] = Field(
        default_factory=dict,
        description="cycles that one of them waits for those before it, by variant",
    )
    numbers: int = Field(16, ge=1, description="of a row that a thread takes")
    form: str = ""
    realises: list[RealisedText] = Field(
        default_factory=list, description="stages of published systems that it runs"
    )
    tiles: list[TileText] = Field(min_length=1)
    split_tiles: list[TileText] = Field(
        default_factory=list, description="tiles where few queries have their keys split"
    )
    merge_tiles: list[TileText] = Field(
        default_factory=list, description="rows that a block merges of what the split ones give"
    )


def kernel_from(document: Document) -> KernelDescriptor:
    """The descriptor of a document.  Raises InputError with every fault."""
    text, faults = salvage(document, KernelText)
    if text is None:
        raise InputError(faults)
    more = []
    if text.path and text.path not in TENSOR_PATHS:
        message = f"no instructions {text.path!r}"
        more.append(Fault(document.place(["path"]), message, one_of(TENSOR_PATHS)))
    for number, kind in enumerate(text.kinds):
        if kind not in TENSOR_TYPES:
            place = document.place(["kinds", number])
            more.append(Fault(place, f"no type {kind!r}", one_of(TENSOR_TYPES)))
    for number, one in enumerate(text.realises):
        try:
            catalog.find("system", one.system, document.place(["realises", number, "system"]))
        except InputError as error:
            more += error.faults
    if faults or more:
        raise told_once(faults, more)
    own = {
        "kernel",
        "tiles",
        "split_tiles",
        "merge_tiles",
        "source",
        "kinds",
        "instructions",
        "alu",
        "waits",
        "realises",
    }
    fields = text.model_dump(exclude=own)
    return KernelDescriptor(
        text.kernel,
        tiles=tuple(map(_tile, text.tiles)),
        split_tiles=tuple(map(_tile, text.split_tiles)),
        merge_tiles=tuple(map(_tile, text.merge_tiles)),
        kinds=tuple(text.kinds),
        instructions=tuple(text.instructions.items()),
        alu=tuple(text.alu.items()),
        waits=tuple(text.waits.items()),
        realises=tuple(
            Realised(one.system, one.stage, tuple(one.options.items())) for one in text.realises
        ),
        source=text.source,
        **fields,
    )


def _tile(text: TileText) -> Tile:
    return Tile(**{**text.model_dump(), "when": tuple(text.when.items())})


def load_kernel(name: str | Path) -> KernelDescriptor:
    """The descriptor of a name or a file; cached until the file changes.

    >>> load_kernel("attention-1pass-wgmma").tile({"E": 128}).columns
    80
    """
    path = catalog.find("kernel", name)
    return _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _loaded(path: Path, _changed: int) -> KernelDescriptor:
    return kernel_from(read(path))
