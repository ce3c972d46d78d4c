"""The nouns of a described GPU kernel: its tile, its pipeline, how its blocks are dealt.

A descriptor says what the kernel's source says: tile, warps, stages,
instruction path, what overlaps what.  It holds no time and no efficiency.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Family = Literal[
    "attention",
    "unfused",
    "neighbourhood",
    "estimation",
    "decode",
    "gemm",
    "rows",
    "copy",
    "linear",
    "linear-full",
    "gemv",
]
#: How warps of one scheduler share its pipes: in phase, or each at its own place in the tile.
Overlap = Literal["in phase", "staggered"]
#: When the running output is corrected: at each tile, or where a maximum moved.
Correction = Literal["always", "when moved", "never"]


@dataclass(frozen=True, slots=True)
class Tile:
    """A block: ``rows`` x ``columns`` of scores or products, a step of ``depth``, and its room.

    ``when`` holds for which sizes it is taken; ``row_tiles`` is 16-row
    fragments a warp, ``blocks`` how many its registers let
    reside together, ``cluster`` blocks that share the columns they load.
    Where positions lie on a grid, queries and keys are rectangles ``height`` high.
    A kernel that goes about long rows in other ways than short ones names the ``way``.
    """

    rows: int
    columns: int
    warps: int
    depth: int = 0
    row_tiles: int = 1
    blocks: int = 1
    stages: int = 2
    cluster: int = 1
    height: int = 1
    way: str = ""
    when: tuple[tuple[str, int], ...] = ()

    @property
    def threads(self) -> int:
        """Threads that compute.

        >>> Tile(128, 64, 4, row_tiles=2).threads
        128
        """
        return 32 * self.warps


@dataclass(frozen=True, slots=True)
class Realised:
    """A published system of which the kernel realises a stage, where its options are such.

    ``options`` by name, of options and rank sizes: a value, or whether it is
    ``set`` otherwise than it is taken where nothing is said.
    """

    system: str
    stage: str
    options: tuple[tuple[str, str | int | bool], ...] = ()

    def by(self, asked: Mapping[str, object], taken: Mapping[str, object]) -> bool:
        """Whether these options, and what is taken where they say nothing, are such.

        >>> stage = Realised("s2-attention", "blocks of a list", (("kept", "set"),))
        >>> stage.by({"kept": 0.2}, {"kept": 1.0}), stage.by({}, {"kept": 1.0})
        (True, False)
        """
        for name, wanted in self.options:
            value = asked.get(name, taken.get(name))
            if wanted in ("set", "unset"):
                if (value != taken.get(name)) != (wanted == "set"):
                    return False
            elif value != wanted:
                return False
        return True


@dataclass(frozen=True)
class KernelDescriptor:
    """A kernel, described: family, instruction path, tiles by size, and its pipeline.

    With ``ahead`` a warp issues its next scores together with this product, which
    runs beside its exponentials; a warp that ``skips`` passes over key tiles of
    which its queries see nothing.  One that ``masks_all`` compares the scores of
    all tiles where keys end within one, though no causal mask asks for it.
    With ``queries_ahead`` a persistent block asks for its next queries before
    it is done with these.
    ``overhead`` is instructions of a warp and tile that are no arithmetic of
    the algorithm (addresses, barriers, copies), ``load_bytes`` what one
    asynchronous copy instruction of a thread moves (0: a copy engine's).
    Head dimensions are padded to ``padded_columns`` in memory, and with
    ``padded_work`` in the products too.  Where queries are few the keys are
    split over blocks of ``split_tiles``, and what these give is merged by
    blocks of ``merge_tiles``.
    With a ``column_step`` narrower tiles are there as well, in such steps.
    ``numbers`` of a row a thread takes where threads suffice.
    ``instructions`` are counts of the compiled stream by variant, ``alu`` which
    share of all its instructions goes to the integer lanes, ``waits`` cycles
    that one waits for those before it on the mean, loads from memory apart.
    ``realises`` are stages of published systems that it runs.
    """

    name: str
    family: Family
    tiles: tuple[Tile, ...]
    path: str = ""
    kinds: tuple[str, ...] = ("bf16", "f16")
    passes: int = 1
    overlap: Overlap = "in phase"
    interleaved: bool = False
    correction: Correction = "always"
    longest_first: bool = False
    persistent: bool = False
    queries_ahead: bool = False
    ahead: bool = False
    skips: bool = False
    masks_all: bool = False
    overhead: float = 0.0
    load_bytes: int = 0
    padded_columns: int = 0
    padded_work: bool = False
    column_step: int = 0
    split_tiles: tuple[Tile, ...] = ()
    merge_tiles: tuple[Tile, ...] = ()
    instructions: tuple[tuple[str, float], ...] = ()
    alu: tuple[tuple[str, float], ...] = ()
    waits: tuple[tuple[str, float], ...] = ()
    numbers: int = 16
    form: str = ""
    realises: tuple[Realised, ...] = ()
    about: str = ""
    source: str = ""

    def __hash__(self) -> int:
        """By name, tiles and pipeline."""
        return hash((self.name, self.tiles, self.overlap, self.passes))

    def tile(self, sizes: dict[str, int]) -> Tile:
        """The first tile whose conditions are the problem's sizes, else the last.

        >>> narrow = Tile(128, 128, 4, when=(("E", 64),))
        >>> KernelDescriptor("k", "attention", (narrow, Tile(128, 64, 4))).tile({"E": 64}).columns
        128
        """
        return first_of(self.tiles, sizes) or self.tiles[-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Bits of a number that instructions were counted for, widest first.

        >>> KernelDescriptor("k", "decode", (), instructions=(("4 64", 9.0), ("16 64", 5.0))).widths
        (16, 4)
        """
        return tuple(sorted({int(k.split()[0]) for k, _ in self.instructions}, reverse=True))

    @property
    def forms(self) -> tuple[str, ...]:
        """Forms of an operation that instructions were counted for.

        >>> KernelDescriptor("k", "rows", (), instructions=(("held", 9.0), ("held row", 5.0))).forms
        ('held',)
        """
        return tuple(sorted(name for name, _ in self.instructions if " " not in name))

    def counted(self, name: str, head_dim: int) -> float:
        """Instructions counted under a name, of the nearest head dimension; 0 where none were.

        >>> of = KernelDescriptor("k", "linear", (), instructions=(("states 64", 9.0),))
        >>> of.counted("states", 96), of.counted("outputs", 64)
        (9.0, 0.0)
        """
        return _nearest(self.instructions, name, head_dim)

    def in_alu(self, name: str, head_dim: int) -> float:
        """Share of these instructions that goes to the integer lanes; 0 where none was counted.

        >>> KernelDescriptor("k", "decode", (), alu=(("4 64", 0.49),)).in_alu("4", 64)
        0.49
        """
        return _nearest(self.alu, name, head_dim)

    def waited(self, name: str, head_dim: int) -> float:
        """Cycles that one of these instructions waits on the mean; 0 where none were counted.

        >>> KernelDescriptor("k", "decode", (), waits=(("4 64", 1.1),)).waited("4", 96)
        1.1
        """
        return _nearest(self.waits, name, head_dim)


def _nearest(counts: Iterable[tuple[str, float]], name: str, head_dim: int) -> float:
    """What stands under a name and the nearest head dimension; 0 where nothing does."""
    found = {int(k.split()[1]): n for k, n in counts if k.split()[0] == name}
    return found[min(found, key=lambda e: abs(e - head_dim))] if found else 0.0


def splits_of(heads: int, slots: int, keys: int, least: int) -> int:
    """Parts of the keys: the fewest that fill rounds of all ``slots`` nearly as well as any number.

    In one round, or in up to eight where a block still takes ``least`` keys four times.

    >>> splits_of(32, 264, 65536, 128), splits_of(416, 396, 4480, 128)
    (8, 5)
    """
    once = max(1, min(slots // heads, -(-keys // least)))
    often = min(8 * slots // heads, keys // (4 * least))
    filled = {
        n: heads * n / slots / math.ceil(heads * n / slots) for n in range(1, max(once, often) + 1)
    }
    best = max(filled.values())
    return next(n for n, share in filled.items() if share >= 0.95 * best)


def first_of(tiles: Iterable[Tile], sizes: Mapping[str, int]) -> Tile | None:
    """The first tile whose conditions are such sizes; None where there is none.

    >>> first_of([Tile(128, 128, 4, when=(("E", 64),))], {"E": 96}) is None
    True
    """
    for tile in tiles:
        if all(sizes.get(name) == size for name, size in tile.when):
            return tile
    return None


def tiles_of(rows: int, each: int, multiprocessors: int) -> int:
    """Tiles of ``each`` rows that a block takes: four, fewer where multiprocessors would idle.

    >>> [tiles_of(n, 8, 132) for n in (28672, 4096, 512)]
    [4, 2, 1]
    """
    return next((t for t in (4, 2) if each * t * multiprocessors <= rows), 1)
