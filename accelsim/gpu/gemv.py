"""Products of a few vectors and a matrix of 4-, 3-, 2- or 1.6-bit weights with float16 scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from accelsim.gpu import halves
from accelsim.gpu.device import GpuError, cupy, device
from accelsim.gpu.kernel import Kernel, load
from accelsim.ir.kernel import tiles_of

#: Warps of a block; vectors that one launch takes.
WARPS: Final = 8
MOST_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class Format:
    """How weights are stored: numbers of a group, 32-bit words of a quarter group, least number.

    ``levels`` numbers from ``least`` on; ``number`` is the format's in the source.
    """

    name: str
    number: int
    group: int
    words: int
    least: int
    levels: int

    @property
    def bits(self) -> float:
        """Bits of a weight, scales included.

        >>> [round(f.bits, 3) for f in FORMATS.values()]
        [4.125, 3.125, 2.125, 1.7]
        """
        return (4 * self.words * 32 + 16) / self.group


FORMATS: Final = {
    "int4": Format("int4", 4, 128, 4, -8, 16),
    "int3": Format("int3", 3, 128, 3, -4, 8),
    "int2": Format("int2", 2, 128, 2, -2, 4),
    "ternary": Format("ternary", 1, 160, 2, -1, 3),
}


@dataclass(frozen=True, slots=True)
class Weights:
    """A matrix of N rows of K weights."""

    N: int
    K: int
    format: str = "int4"
    batch: int = 1

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise GpuError(f"no weights are stored as {self.format}", ", ".join(FORMATS))
        group = FORMATS[self.format].group
        if self.N < 1 or self.K < 1 or self.K % group:
            raise GpuError(
                f"rows of {self.K} weights are not whole groups", f"multiples of {group}"
            )
        if not 1 <= self.batch <= MOST_BATCH:
            raise GpuError(f"{self.batch} vectors in one launch", f"1 to {MOST_BATCH}")

    @property
    def bytes(self) -> int:
        """Bytes of the weights and their scales.

        >>> Weights(4096, 4096, "int4").bytes
        8650752
        """
        return round(self.N * self.K * FORMATS[self.format].bits / 8)


def packed(numbers: Any, form: Format) -> Any:
    """Integers [N, K] (``least`` added to 0 .. levels - 1) to the words [N, K/group, 4, words].

    Works on NumPy and on CuPy arrays.

    >>> import numpy
    >>> [hex(x) for x in packed(numpy.arange(128)[None] % 16 - 8, FORMATS["int4"])[0, 0, 0][:2]]
    ['0x75316420', '0xfdb9eca8']
    """
    n, k = numbers.shape
    raw = (numbers - form.least).astype("uint32").reshape(n, k // form.group, 4, form.group // 4)
    words = raw[..., : form.words] * 0
    if form.name == "ternary":
        for number in range(40):
            word, place = divmod(number, 20)
            digit, rest = divmod(place, 4)
            byte = rest // 2 + 2 * (rest % 2)
            words[..., word] += raw[..., number] * (3 ** (4 - digit)) << (8 * byte)
        return _ternary(words)
    fields = 16 // form.number  # in half a word
    for number in range(32):
        pair, half = divmod(number, 2)
        if pair < fields * form.words:
            word, field = divmod(pair, fields)
            words[..., word] |= raw[..., number] << (form.number * field + 16 * half)
        else:  # the 16th pair of three bits: a bit of each word
            for bit in range(3):
                words[..., bit] |= ((raw[..., number] >> bit) & 1) << (15 + 16 * half)
    return words


def _ternary(words: Any) -> Any:
    """Bytes 0 .. 242 of five digits, to ceil(byte 256 / 243): digits come off the top in turn."""
    result = words * 0
    for byte in range(4):
        value = (words >> (8 * byte)) & 255
        result |= ((value * 256 + 242) // 243) << (8 * byte)
    return result


@dataclass(frozen=True)
class Problem:
    """Weights, scales and vectors on the GPU, drawn from ``seed``, and the poisoned result."""

    weights: Weights
    seed: int = 0

    @cached_property
    def numbers(self) -> Any:
        """The integers [N, K]."""
        module, w = cupy(), self.weights
        form = FORMATS[w.format]
        draw = module.random.default_rng(self.seed)
        found = draw.integers(0, form.levels, size=(w.N, w.K), dtype=module.int32)
        return (found + form.least).astype(module.int8)

    @cached_property
    def words(self) -> Any:
        """The integers as stored."""
        return packed(self.numbers.astype(cupy().int32), FORMATS[self.weights.format])

    @cached_property
    def scales(self) -> Any:
        """Float16 scales [N, groups]."""
        module, w = cupy(), self.weights
        draw = module.random.default_rng(self.seed + 1)
        size = (w.N, w.K // FORMATS[w.format].group)
        return (draw.random(size, dtype=module.float32) * 0.02 + 0.01).astype(module.float16)

    @cached_property
    def x(self) -> Any:
        """Vectors [batch, K]."""
        return halves.normal((self.weights.batch, self.weights.K), "f16", self.seed + 2)

    @cached_property
    def out(self) -> halves.Poisoned:
        """Where the kernel writes [batch, N]."""
        return halves.Poisoned.of((self.weights.batch, self.weights.N))

    def check(self, run: Callable[[], None]) -> halves.Check:
        """Run on the poisoned output and compare all of it."""
        module, w = cupy(), self.weights
        self.out.poison()
        run()
        module.cuda.runtime.deviceSynchronize()
        scale = module.repeat(self.scales.astype(module.float64), FORMATS[w.format].group, axis=1)
        wanted = halves.widened(self.x, "f16") @ (self.numbers * scale).T
        found = halves.widened(self.out.array, "f16")
        return halves.compared(found, wanted, self.out, halves.TOLERANCE["f16"], w.batch)


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of 8 rows that a block takes, groups on their way, blocks a multiprocessor."""

    tiles: int
    depth: int = 1
    blocks: int = 2


def tiling_of(weights: Weights, multiprocessors: int) -> Tiling:
    """4 tiles of rows a block, fewer where that would leave multiprocessors idle.

    >>> [tiling_of(Weights(n, 128), 132).tiles for n in (28672, 2048, 512)]
    [4, 1, 1]
    """
    return Tiling(tiles_of(weights.N, 8, multiprocessors), blocks=1 if weights.batch > 8 else 2)


def macros(weights: Weights, tiling: Tiling) -> dict[str, int]:
    """What the kernel is compiled with."""
    number = FORMATS[weights.format].number
    return {
        "FORMAT": number, "TILES": tiling.tiles, "DEPTH": tiling.depth, "BLOCKS": tiling.blocks,
        "HIGH": int(weights.batch > 8), "BF16": 0,
    }  # fmt: skip


def kernel(weights: Weights, tiling: Tiling | None = None) -> Kernel:
    """The kernel for a format, a number of rows and a batch."""
    chosen = tiling or tiling_of(weights, device().multiprocessors)
    return load("gemv.cu", "gemv", macros(weights, chosen), 32 * WARPS)


def gemv(problem: Problem, tiling: Tiling | None = None) -> Callable[[], None]:
    """A launch."""
    module, w = cupy(), problem.weights
    chosen = tiling or tiling_of(w, device().multiprocessors)
    built, number = kernel(w, chosen), module.int32
    arguments = (
        problem.words, problem.scales, problem.x, problem.out.array,
        number(w.N), number(w.K), number(w.batch),
    )  # fmt: skip
    grid = (-(-w.N // (8 * chosen.tiles)),)
    return lambda: built(grid, *arguments)
