"""``validate published``: analytic tables of the systems' papers, each predicted from its rows.

A prediction takes a row's configuration and nothing fitted to the paper.  What
cannot be asked (a claim above a bound, a figure not reproduced) stands in a
table of its own without checks, whose heading says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Final, TypeAlias

from accelsim.analysis.neighbourhood import tile_speedup
from accelsim.analysis.work import work
from accelsim.explore.systems import system
from accelsim.explore.validate import Row, Validation, ValidationTable
from accelsim.ir.format import bits_per_element
from accelsim.ir.problem import bind, with_parts
from accelsim.ir.published import Table
from accelsim.load.cascade import load_cascade
from accelsim.load.format import load_format
from accelsim.load.published import load_exhibits
from accelsim.load.workload import MODELS, length

#: Papers whose analytic tables are predicted; FuseMax has an evaluation of its own.
PAPERS: Final = (
    "deconstructing-attention", "dynamic-mask", "edgeqat", "gna", "luq", "paro-attention",
    "ptq161", "razor-attention", "slim-llm", "sparse-frontier", "zipcache", "zipvl",
)  # fmt: skip

#: Sizes that weight formats are given in: a matrix of 4096 x 4096.
MATRIX: Final = {"rows": 4096, "channels": 4096, "weights": 4096 * 4096}
#: Layers and vocabulary of the models of The Sparse Frontier (their config.json files).
LAYERS: Final = {"Qwen2.5-7B": 28, "Qwen2.5-14B": 48, "Qwen2.5-32B": 64, "Qwen2.5-72B": 80}
VOCABULARY: Final = 152064
#: Operations of a score beside its two products (The Sparse Frontier counts three).
SOFTMAX: Final = 3
#: How much less attention its speed-ups speak of.
SPARSER: Final = 5

#: A row's configuration with the published figures, and ours by quantity.
Config: TypeAlias = Mapping[str, Any]
Predicted: TypeAlias = dict[str, float]


def validate_published() -> Validation:
    """Every analytic row beside ours, a table each.

    >>> found = validate_published()
    >>> found.holds, len(found.tables) > 10
    (True, True)
    """
    tables = [
        _table(table, PREDICT[table.name])
        for paper in PAPERS
        for exhibit in load_exhibits(paper).values()
        for table in exhibit.tables
    ]
    return Validation("analytic tables of the systems' papers", tuple(tables))


def _table(table: Table, predict: Callable[[Config], Predicted]) -> ValidationTable:
    checks = {c.quantity: c for c in table.checks}
    rows = []
    for number in range(len(table.rows)):
        config = table.row(number)
        figures = predict(config)
        for quantity, ours in ((q, n) for q, n in figures.items() if q in config):
            truth = float(config[quantity])
            share = truth <= 1
            error = ours - truth if share else ours / truth - 1
            check = checks.get(quantity)
            asked = check.within if check is not None else None
            holds = None if asked is None else abs(error) <= asked
            rows.append(Row(str(config["row"]), quantity, truth, ours, error, asked, holds))
    return ValidationTable(table.name, table.about, tuple(rows))


# -- sizes and bits ----------------------------------------------------------------------------


def _bits(name: str) -> float:
    """Bits an element of a weight format."""
    found = load_format(name)
    return bits_per_element(found, {size: MATRIX[size] for size in found.sizes})


def _gigabytes(row: Config) -> Predicted:
    """Bytes of all parameters in 1e9, and the bits of each."""
    bits = _bits(row["format"])
    return {"gigabytes": bits * row["parameters"] / 8e9, "bits": bits}


def _mean_bits(row: Config) -> Predicted:
    return {"bits": _bits(row["format"])}


def _mebibytes(row: Config) -> Predicted:
    return {"mebibytes": _bits(row["format"]) * row["parameters"] / 8 / 2**20}


def _gibibytes(row: Config) -> Predicted:
    """Linear layers in the format, the rest at 16 bits."""
    bits = _bits(row["format"]) * row["linear"] + 16 * row["rest"]
    return {"gibibytes": bits / 8 / 2**30}


def _mask(row: Config) -> Predicted:
    blocks = -(-row["length"] // row["block"])
    return {"kibibytes": blocks**2 / 8 / 1024}


def _compressed(row: Config) -> Predicted:
    return {"compression": 16 / _bits(row["format"])}


def _mixed(row: Config) -> Predicted:
    """A share of the tokens at 4 bits, the others at 2."""
    return {"compression": 16 / (4 * row["kept"] + 2 * (1 - row["kept"]))}


def _left(row: Config) -> Predicted:
    """Kept queries with kept keys: the square of the share."""
    return {"left": row["kept"] ** 2}


def _decoded(row: Config) -> Predicted:
    """Dense bytes over the system's own, in decode."""
    cells = system(row["system"], [row["length"]]).cells
    ratio = next(c.bytes for c in cells if c.phase == "decode")
    return {"compression": 1 / ratio}


# -- operations --------------------------------------------------------------------------------


def _sizes(text: str) -> list[int]:
    """Sizes of a grid.

    >>> _sizes("30x48x80")
    [30, 48, 80]
    """
    return [int(n) for n in text.split("x")]


def _tiles(row: Config) -> float:
    """Dense key tiles over those that neighbourhood attention visits."""
    names = ("lengths", "windows", "strides", "query_tiles", "key_tiles")
    lengths, windows, strides, queries, keys = (_sizes(row[name]) for name in names)
    return tile_speedup(lengths, windows, strides, queries, keys)


def _simulated(row: Config) -> Predicted:
    """Amdahl's law with the attention's share of the time, by tiles and by operations."""
    density = prod(_sizes(row["windows"])) / prod(_sizes(row["lengths"]))
    share = row["share"]
    return {
        "simulated": 1 / (1 - share + share / _tiles(row)),
        "flops": 1 / (1 - share + share * density),
    }


def _operator(row: Config) -> Predicted:
    return {"operator": _tiles(row)}


def _claims(row: Config) -> Predicted:
    """Products of causal attention over those of the kept keys: no kernel gains more."""
    n, kept = length(row["length"]), row["kept"]
    bound = (n * (n + 1) / 2) / (kept * (kept + 1) / 2 + (n - kept) * kept)
    return {"forward": bound}


def _prefill(row: Config) -> Predicted:
    """The mean over models of attention's share, and of the speedup with a fifth of it."""
    shares, speedups = [], []
    for name, layers in LAYERS.items():
        m, n = MODELS[name].ranks, length(row["length"])
        keys = m["HK"] * m["E"]
        attention = layers * 2 * n * m["D"] * (2 * m["D"] + 2 * keys)
        attention += layers * m["H"] * n**2 * (4 * m["E"] + SOFTMAX)
        rest = 2 * layers * n * m["S"] * (3 * m["D"] + 1) + 2 * n * m["D"] * (1 + VOCABULARY)
        shares.append(attention / (attention + rest))
        speedups.append((attention + rest) / (attention / SPARSER + rest))
    return {"share": sum(shares) / len(shares), "speedup": sum(speedups) / len(speedups)}


def _decode(row: Config) -> Predicted:
    """The mean over models of the cache's share of the elements, and of the speedup."""
    shares, speedups = [], []
    for name, layers in LAYERS.items():
        m = MODELS[name].ranks
        keys = m["HK"] * m["E"]
        weights = layers * (2 * m["D"] ** 2 + 2 * m["D"] * keys + 3 * m["D"] * m["S"])
        weights += m["D"] * (VOCABULARY + 1)
        cache = 2 * layers * length(row["length"]) * keys * row["batch"]
        shares.append(cache / (cache + weights))
        speedups.append((cache + weights) / (cache / SPARSER + weights))
    return {"share": sum(shares) / len(shares), "speedup": sum(speedups) / len(speedups)}


def _state(row: Config) -> Predicted:
    """Bytes of what a cascade's recurrences carry, at 16 bits."""
    text = load_cascade(row["cascade"])
    sizes = {"B": 1, "H": row["heads"], "E": row["width"], "F": row["width"], "M": 2}
    problem = bind(text, sizes)
    words = sum(
        prod(problem.extent(r) for r in text.tensors[name] if r != rank)
        for name, rank in text.iterative.items()
    )
    return {"state": 2.0 * words}


def _products(row: Config) -> Predicted:
    """Two operations for each multiply-add of a cascade."""
    text = load_cascade(row["cascade"])
    sizes = {"B": 1, "H": row["heads"], "E": row["width"], "F": row["width"]}
    sizes |= {"P": row["length"], "M": row["length"]}
    problem = bind(text, with_parts(text, sizes))
    macs = sum(work(e).get("mac", 0) * problem.points(e) for e in text.einsums)
    return {"flops": 2.0 * macs}


#: How each table is predicted.
PREDICT: Final[dict[str, Callable[[Config], Predicted]]] = {
    "gna end to end": _simulated,
    "gna end to end, not reproduced": _simulated,
    "gna operator": _operator,
    "sparse frontier prefill": _prefill,
    "sparse frontier decode": _decode,
    "ptq161 sizes": _gigabytes,
    "luq bits": _mean_bits,
    "edgeqat sizes": _mebibytes,
    "slim-llm memory": _gibibytes,
    "slim-llm packed memory, not reproduced": _gibibytes,
    "razor-attention compression": _decoded,
    "zipcache compression": _compressed,
    "zipvl compression": _mixed,
    "zipvl operations": _left,
    "paro-attention mask": _mask,
    "dynamic-mask claims": _claims,
    "deconstructing state": _state,
    "deconstructing products": _products,
}
