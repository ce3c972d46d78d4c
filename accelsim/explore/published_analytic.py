"""What published tables of bits, operations and bytes are predicted by, from a row's configuration.

Nothing here is fitted to a paper, and no prediction sees a published figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Final, TypeAlias

from accelsim.analysis.neighbourhood import mean_visited, tile_speedup
from accelsim.analysis.work import work
from accelsim.errors import one_of, refuse
from accelsim.explore.published_columns import Config, alike, number, word
from accelsim.explore.published_vision import backbone
from accelsim.explore.systems import system
from accelsim.ir.format import bits_per_element
from accelsim.ir.problem import bind, names, with_parts
from accelsim.load.cascade import load_cascade
from accelsim.load.format import load_format
from accelsim.load.workload import MODELS

#: Ours by quantity.
Predicted: TypeAlias = dict[str, float]

#: Sizes that weight formats are given in: a matrix of 4096 x 4096.
MATRIX: Final = {"rows": 4096, "channels": 4096, "weights": 4096 * 4096}
#: Operations of a score beside its two products (The Sparse Frontier counts three).
SOFTMAX: Final = 3
#: How much less attention its speed-ups speak of.
SPARSER: Final = 5


@dataclass(frozen=True, slots=True)
class Decoder:
    """A language model as The Sparse Frontier counts it: layers, widths, vocabulary, windows.

    ``local`` of its layers see the last ``window`` positions only.
    """

    layers: int
    D: int
    H: int
    HK: int
    E: int
    S: int
    vocabulary: int
    local: int = 0
    window: int = 0


def _decoder(name: str, layers: int, vocabulary: int) -> Decoder:
    m = MODELS[name].ranks
    return Decoder(layers, m["D"], m["H"], m["HK"], m["E"], m["S"], vocabulary)


def decoders(name: str) -> list[Decoder]:
    """The models of a name: one, or Qwen2.5's four sizes (their config.json files).

    >>> len(decoders("Qwen2.5")), decoders("Gemma3-12B")[0].local
    (4, 40)
    """
    known = {
        "Qwen2.5-7B": _decoder("Qwen2.5-7B", 28, 152064),
        "Qwen2.5-14B": _decoder("Qwen2.5-14B", 48, 152064),
        "Qwen2.5-32B": _decoder("Qwen2.5-32B", 64, 152064),
        "Qwen2.5-72B": _decoder("Qwen2.5-72B", 80, 152064),
        "Llama-3.1-8B": _decoder("Llama-3.1-8B", 32, 128256),
        "Llama-3.1-70B": _decoder("Llama-3.1-70B", 80, 128256),
        "Gemma3-4B": Decoder(34, 2560, 8, 4, 256, 10240, 262208, local=29, window=1024),
        "Gemma3-12B": Decoder(48, 3840, 16, 8, 256, 15360, 262208, local=40, window=1024),
        "Gemma3-27B": Decoder(62, 5376, 32, 16, 128, 21504, 262208, local=52, window=1024),
    }
    if name == "Qwen2.5":
        return [one for key, one in known.items() if key.startswith(name)]
    if name not in known:
        raise refuse(f"no decoder {name!r}", one_of(["Qwen2.5", *known]))
    return [known[name]]


def stored(row: Config) -> Predicted:
    """Bits of an element of a ``format``, in a matrix of 4096 x 4096, metadata included.

    >>> stored({"format": "gptq4-g128"})
    {'element_bits': 4.15625}
    """
    found = load_format(word(row, "format"))
    bits = bits_per_element(found, {size: MATRIX[size] for size in found.sizes})
    return {"element_bits": bits}


def tiles(row: Config) -> Predicted:
    """Key tiles of a neighbourhood: dense over the worst tile's, and the mean's share of all.

    ``density`` is the share of keys that a query sees, ``positions`` how many
    there are (Hassani et al., arXiv 2504.16922, section 3.3).

    >>> grid = {"lengths": "256x256", "windows": "80x80", "strides": "16x16"}
    >>> found = tiles(grid | {"query_tiles": "16x16", "key_tiles": "16x8"})
    >>> round(found["tile_speedup"], 2), round(found["density"], 4), found["positions"]
    (10.24, 0.0977, 65536.0)
    """
    grids = alike(row, "lengths", "windows", "strides", "query_tiles", "key_tiles")
    lengths, windows, _, _, keys = grids
    if any(w > n for n, w in zip(lengths, windows, strict=True)):
        raise refuse(f"windows {windows} are longer than {lengths}", "windows within the grid")
    dense = prod(-(-n // t) for n, t in zip(lengths, keys, strict=True))
    mean = prod(mean_visited(*dimension) for dimension in zip(*grids, strict=True))
    return {
        "tile_speedup": tile_speedup(*grids),
        "kept": min(1.0, mean / dense),
        "density": prod(windows) / prod(lengths),
        "positions": float(prod(lengths)),
    }


def read(row: Config) -> Predicted:
    """Operations and bytes of a shipped system's ``phase`` over those of dense attention.

    >>> round(1 / read({"system": "razor-attention", "length": "32K"})["bytes_share"], 2)
    3.12
    """
    phase = row.get("phase", "decode")
    cells = system(word(row, "system"), [str(row.get("length", ""))]).cells
    there = {c.phase: c for c in cells}
    if phase not in there:
        raise refuse(f"{row['system']} has no phase {phase!r}", one_of(there))
    cell = there[phase]
    return {"bytes_share": cell.bytes, "ops_share": cell.ops}


def prefill(row: Config) -> Predicted:
    """The mean over models of attention's share of FLOP, and of the speedup with a fifth of it.

    Projections count as attention (The Sparse Frontier, arXiv 2504.17768, section on cost).

    >>> round(prefill({"model": "Qwen2.5-14B", "length": 65536})["share"], 2)
    0.76
    """
    n = number(row, "length")
    shares, speedups = [], []
    for m in decoders(word(row, "model")):
        heads, keys = m.H * m.E, m.HK * m.E
        seen = (m.layers - m.local) * n**2 + m.local * n * min(n, m.window)
        attention = m.layers * 2 * n * m.D * (2 * heads + 2 * keys)
        attention += m.H * seen * (4 * m.E + SOFTMAX)
        rest = 2 * m.layers * n * m.S * (3 * m.D + 1) + 2 * n * m.D * (1 + m.vocabulary)
        shares.append(attention / (attention + rest))
        speedups.append((attention + rest) / (attention / SPARSER + rest))
    return {"share": sum(shares) / len(shares), "speedup": sum(speedups) / len(speedups)}


def decode(row: Config) -> Predicted:
    """The mean over models of the cache's share of what a step reads, and of the speedup.

    Elements of 16 bits, a ``batch`` of sequences (The Sparse Frontier, as ``prefill``).

    >>> round(decode({"model": "Gemma3-12B", "length": 65536, "batch": 8})["share"], 2)
    0.61
    """
    n = number(row, "length")
    shares, speedups = [], []
    for m in decoders(word(row, "model")):
        heads, keys = m.H * m.E, m.HK * m.E
        weights = m.layers * (2 * m.D * heads + 2 * m.D * keys + 3 * m.D * m.S)
        weights += m.D * (m.vocabulary + 1)
        seen = (m.layers - m.local) * n + m.local * min(n, m.window)
        cache = 2 * seen * keys * number(row, "batch")
        shares.append(cache / (cache + weights))
        speedups.append((cache + weights) / (cache / SPARSER + weights))
    return {"share": sum(shares) / len(shares), "speedup": sum(speedups) / len(speedups)}


def products(row: Config) -> Predicted:
    """Two operations for each multiply-add of a cascade, and bytes of what its recurrences carry.

    Sizes are the columns that are its ranks; the state counts 16 bits an element.

    >>> sizes = {"B": 1, "H": 14, "E": 64, "F": 64, "P": 2048, "M": 2048}
    >>> products({"cascade": "attention-1pass", **sizes})["product_flops"]
    15032385536.0
    """
    text = load_cascade(word(row, "cascade"))
    sizes = {name: int(number(row, name)) for name in names(text) if name in row}
    problem = bind(text, with_parts(text, sizes))
    macs = sum(work(e).get("mac", 0) * problem.points(e) for e in text.einsums)
    words = sum(
        prod(problem.extent(r) for r in text.tensors[name] if r != rank)
        for name, rank in text.iterative.items()
    )
    return {"product_flops": 2.0 * macs, "state_bytes": 2.0 * words}


#: What a table's ``predict`` may name.
PREDICT: Final[dict[str, Callable[[Config], Predicted]]] = {
    "": lambda row: {},
    "format": stored,
    "tiles": tiles,
    "system": read,
    "prefill shares": prefill,
    "decode shares": decode,
    "cascade": products,
    "backbone": backbone,
}
