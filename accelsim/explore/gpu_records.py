"""Recorded GPU runs as cases: which kernel, sizes and options a measured row is of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from accelsim.errors import one_of, refuse
from accelsim.explore.estimate_gpu import WEIGHT_BITS, Value, predict
from accelsim.gpu.record import read
from accelsim.gpu.sparse import drawn_tiles
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import Tile
from accelsim.load import catalog
from accelsim.load.kernel import load_kernel
from accelsim.models.gpu_estimate import KernelEstimate
from accelsim.models.gpu_keys import Attention, spans

#: Sets of rows that are timed; what is not here tells of ceilings, tilings or counters.
TIMED: Final = (
    "attention-grid", "persistent", "decode-grid", "rows-grid", "linear", "linear-full",
    "neighbourhood", "estimation", "sparse", "gemv", "library-grid",
)  # fmt: skip
#: Sets that were drawn anew stand beside them under a name of their own: judged-attention-grid.
DRAWN: Final = ("attention-grid", "decode-grid", "library-grid", "speedups")


@dataclass(frozen=True, slots=True)
class Case:
    """A measured kernel: its descriptor's name, sizes, options, fields of its tile, and work.

    ``counts`` are key tiles of every query tile, head by head, where a block list keeps some.
    """

    kernel: str
    sizes: tuple[tuple[str, int], ...]
    options: tuple[tuple[str, Value], ...]
    tile: tuple[tuple[str, int], ...]
    flops: float
    bytes: float
    counts: tuple[int, ...] = ()

    def predicted(self, gpu: Gpu) -> KernelEstimate:
        """What the model says of it on a GPU."""
        kernel = load_kernel(self.kernel)
        options, tile = dict(self.options), dict(self.tile)
        return predict(gpu, kernel, dict(self.sizes), options, tile, self.counts)


@dataclass(frozen=True, slots=True)
class Measured:
    """A row: the set it stands in, the case, seconds, and what else was recorded."""

    group: str
    case: Case
    seconds: float
    row: Mapping[str, Any]


def folder(gpu: str | Path) -> Path:
    """Where the runs of a GPU are, or the folder itself.  InputError where there are none."""
    if isinstance(gpu, Path):
        return gpu
    runs = catalog.folder("validation") / "runs"
    there = sorted(p.name for p in runs.glob("*") if p.is_dir())
    if gpu not in there:
        raise refuse(f"no recorded runs of {gpu!r}", one_of(there))
    return runs / gpu


def drawn(gpu: str | Path, ending: str) -> list[str]:
    """Names of the records that end so, drawn anew under names of their own.

    >>> drawn(folder("h100-sxm") / "unseen", "counters")
    ['judged-counters']
    """
    return sorted(path.stem for path in folder(gpu).glob(f"*-{ending}.json"))


def measured(gpu: str | Path) -> list[Measured]:
    """Every timed row of a GPU's records that a descriptor describes."""
    found = []
    for name in (*TIMED, *(name for ending in DRAWN for name in drawn(gpu, ending))):
        path = folder(gpu) / f"{name}.json"
        if path.is_file():
            found += [
                Measured(name, case, row["hot"]["median_s"], row)
                for row, case in _cases(path, name)
                if case is not None
                and row.get("hot")
                and not too_hot(row["hot"])
                and not of_earlier_kernel(row)
            ]
    return found


def too_hot(times: Mapping[str, Any]) -> bool:
    """Whether the board's heat held its clock down while a kernel ran; no model speaks of that.

    >>> too_hot({"held_down_by": ["power cap"]}), too_hot({"held_down_by": ["software thermal"]})
    (False, True)
    """
    return any("thermal" in reason for reason in times.get("held_down_by") or ())


def of_earlier_kernel(row: Mapping[str, Any]) -> bool:
    """Whether a decoding row is of the kernel before the one that asks memory for whole lines.

    >>> of_earlier_kernel({"cache": {}}), of_earlier_kernel({"cache": {}, "loads": "lines"})
    (True, False)
    """
    return "cache" in row and row.get("loads") != "lines"


def left_out(gpu: str | Path) -> int:
    """How many recorded times and energies are left out because the board was too hot."""
    return sum(
        too_hot(row.get(part) or {})
        for path in folder(gpu).glob("*.json")
        for row in read(path).rows
        for part in ("hot", "sustained")
    )


def rows(gpu: str | Path, name: str) -> list[tuple[Mapping[str, Any], Case | None]]:
    """The rows of one record with their cases; none where there is no such record."""
    path = folder(gpu) / f"{name}.json"
    return list(_cases(path, name)) if path.is_file() else []


def _cases(path: Path, name: str) -> Iterator[tuple[Mapping[str, Any], Case | None]]:
    for row in read(path).rows:
        yield row, case_of(row.get("case", row), name)


def case_of(row: Mapping[str, Any], group: str) -> Case | None:
    """The case of a row; None where no descriptor describes it.

    >>> case_of({"gemm": {"M": 8, "N": 8, "K": 8}, "dtype": "bf16"}, "library-grid").kernel
    'cublas-gemm'
    """
    if "variant" in row or row.get("name") in ("flash-attention-2", "cudnn-attention"):
        return _attention(row)
    if "share" in row:
        return _sparse(row)
    if "grid" in row:
        return _neighbourhood(row)
    if group == "linear-full":
        return _linear_full(row)
    if group == "estimation":
        return _estimation(row)
    if "cache" in row:
        return _decode(row)
    if "op" in row or row.get("name") in ("torch-softmax", "torch-copy"):
        name = str(row.get("op") or row["name"])
        matrix = (("M", row["rows"]), ("N", row["columns"]))
        options = [("dtype", row.get("dtype", "bf16"))]
        if "form" in row:
            options.append(("form", row["form"]))
        moved = 4.0 * row["rows"] * row["columns"]
        return Case(name, matrix, tuple(options), (), 0.0, moved)
    if "gemm" in row:
        m, n, k = (row["gemm"][name] for name in "MNK")
        sizes = (("M", m), ("N", n), ("K", k))
        moved = 2.0 * (m * k + k * n + m * n)
        return Case("cublas-gemm", sizes, (("dtype", row["dtype"]),), (), 2.0 * m * n * k, moved)
    if group == "linear" or row.get("name") == "linear-decay" or "linear" in row:
        return _linear(row)
    if "weights" in row and row["weights"]["format"] in WEIGHT_BITS:
        w = row["weights"]
        matrix = (("N", w["N"]), ("K", w["K"]))
        moved = w["N"] * w["K"] * WEIGHT_BITS[w["format"]] / 8
        flops = 2.0 * w["N"] * w["K"] * w["batch"]
        return Case("gemv", matrix, (("format", w["format"]),), (), flops, moved)
    return None


def _sizes(shape: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    heads = shape.get("HK") or shape["H"]
    found = {"B": shape["B"], "H": shape["H"], "HK": heads, "P": shape["P"], "M": shape["M"]}
    return (*found.items(), ("E", shape["E"]), ("F", shape["E"]))


def _tile(tile: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """A tile of ours in the descriptor's words."""
    blocks = tile["blocks"] if tile["path"] == "mma" else 1
    return (
        ("rows", 16 * tile["warps"] * tile["row_tiles"]),
        ("columns", tile["keys"]),
        ("warps", tile["warps"]),
        ("row_tiles", tile["row_tiles"]),
        ("blocks", blocks),
        ("stages", tile["stages"]),
    )


@cache
def _pairs(queries: int, keys: int, causal: bool, window: int, offset: int) -> int:
    """Pairs of query and key that a mask allows."""
    if not causal:
        return queries * keys
    ends = (min(keys, p + offset + 1) for p in range(queries))
    firsts = (max(0, p + offset - window + 1) if window else 0 for p in range(queries))
    return sum(max(0, end - first) for first, end in zip(firsts, ends, strict=True))


def _work(s: Mapping[str, int], mask: Mapping[str, Any], kept: float = 1.0) -> tuple[float, float]:
    """FLOP of both products over the pairs that are seen, and compulsory bytes."""
    seen = _pairs(s["P"], s["M"], mask["causal"], mask["window"], mask["offset"])
    keys = s.get("HK") or s["H"]
    moved = 4.0 * s["B"] * s["E"] * (s["H"] * s["P"] + keys * s["M"])
    return 4.0 * s["B"] * s["H"] * s["E"] * seen * kept, moved


def _attention(row: Mapping[str, Any]) -> Case | None:
    mask, variant = row["mask"], row.get("variant")
    options: dict[str, Value] = {"causal": mask["causal"], "dtype": row["dtype"]}
    options |= {"offset": mask["offset"]}
    if variant is None or variant["passes"] < 3:
        options["window"] = mask["window"]
    name = variant["name"] if variant else row["name"]
    if name not in catalog.names("kernel"):
        return None
    tile = _tile(variant["tile"]) if variant and variant["tile"] else ()
    flops, moved = _work(row["shape"], mask)
    return Case(name, _sizes(row["shape"]), tuple(options.items()), tile, flops, moved)


def _sparse(row: Mapping[str, Any]) -> Case:
    """A share of all tiles becomes a share of those that the mask leaves.

    Where the list can be drawn again, its counts are told: the share is what it was.
    """
    shape, mask, fields = row["shape"], row["mask"], dict(_tile(row["tile"]))
    tile = Tile(**fields)  # type: ignore[arg-type]
    sizes = dict(_sizes(shape))
    walked = spans(Attention(**sizes, causal=mask["causal"]), tile)  # type: ignore[arg-type]
    whole = len(walked) * -(-shape["M"] // tile.columns)
    kept = min(1.0, row["share"] * whole / sum(s.tiles for s in walked))
    options = (("causal", mask["causal"]), ("dtype", row["dtype"]), ("kept", kept))
    counts: tuple[int, ...] = ()
    if "asked" in row and not mask["causal"]:
        grid, of = (len(walked), -(-shape["M"] // tile.columns)), (tile.rows, tile.columns)
        keep = drawn_tiles(shape["H"], grid, of, row["asked"], row.get("seed", 1))
        if float(keep.mean()) == row["share"]:
            counts = tuple(keep.sum(axis=2).ravel().tolist())
    flops, moved = _work(shape, {**mask, "causal": False}, row["share"])
    name = f"attention-1pass-{row['tile']['path']}"
    return Case(name, _sizes(shape), options, tuple(fields.items()), flops, moved, counts)


def _decode(row: Mapping[str, Any]) -> Case:
    c, walk = row["cache"], row.get("walk")
    sizes = tuple((name, c[name]) for name in ("B", "H", "HK", "M", "E"))
    tile: tuple[tuple[str, int], ...] = ()
    if walk:
        fields = {"columns": walk["tokens"], "warps": walk["warps"], "blocks": walk["blocks"]}
        fields["stages"] = 2 if walk["ahead"] else 1
        tile = tuple(fields.items())
    scale = 2 if c["bits"] < 16 else 0
    moved = 2.0 * c["B"] * c["HK"] * c["M"] * (c["E"] * c["bits"] / 8 + scale)
    flops = 4.0 * c["B"] * c["H"] * c["M"] * c["E"]
    return Case("decode-split", sizes, (("bits", c["bits"]),), tile, flops, moved)


def _linear(row: Mapping[str, Any]) -> Case:
    s = row.get("shape") or row["linear"]
    sizes = tuple((name, s[name]) for name in ("B", "H", "M", "E"))
    tile = (("depth", row["per_segment"]),) if row.get("per_segment") else ()
    numbers = s["B"] * s["H"] * s["M"]
    flops = 2.0 * numbers * (2 * 64 * s["E"] + 2 * s["E"] ** 2)
    options = (("dtype", row.get("dtype", "bf16")),)
    return Case("linear-attention", sizes, options, tile, flops, 8.0 * numbers * s["E"])


def _linear_full(row: Mapping[str, Any]) -> Case:
    s = row["shape"]
    sizes = tuple((name, s[name]) for name in ("B", "H", "P", "M", "E"))
    moved = 4.0 * s["B"] * s["H"] * s["E"] * (s["P"] + s["M"])
    options = (("dtype", row["dtype"]),)
    return Case("linear-attention-full", sizes, options, (), float(row["flops"]), moved)


def _neighbourhood(row: Mapping[str, Any]) -> Case:
    g, fields = row["grid"], _tile(row["tile"] | {"path": "mma", "keys": 0, "stages": 2})
    heads = g["HK"] or g["H"]
    sizes = [("B", g["B"]), ("H", g["H"]), ("HK", heads), ("E", g["E"])]
    for name in "YX":
        axis = g[name.lower()]
        sizes += [(name, axis["size"]), (f"W{name}", axis["window"]), (f"S{name}", axis["stride"])]
    height, width = row["tile"]["keys"]
    tile = dict(fields) | {"columns": height * width, "height": height}
    moved = 4.0 * g["B"] * g["E"] * (g["H"] + heads) * g["y"]["size"] * g["x"]["size"]
    kind = "bf16" if row["kernel"]["defines"]["BF16"] else "f16"
    options = (("dtype", kind),)
    flops = float(row["flops"])
    return Case("neighbourhood", tuple(sizes), options, tuple(tile.items()), flops, moved)


def _estimation(row: Mapping[str, Any]) -> Case:
    """Products of the blocks that the mask leaves, each number of ``bits`` read once."""
    s, bits = row["shape"], row["bits"]
    keys = s["HK"] or s["H"]
    sizes = (*((n, s[n]) for n in ("B", "H")), ("HK", keys), *((n, s[n]) for n in ("P", "M", "E")))
    options = (("bits", bits), ("causal", row["causal"]))
    moved = s["B"] * (s["H"] * s["P"] + keys * s["M"]) * (s["E"] * bits / 8 + 4)
    seen = _pairs(s["P"], s["M"], row["causal"], 0, 0)
    flops = 2.0 * s["B"] * s["H"] * s["E"] * seen
    return Case("score-estimation", sizes, options, (), flops, moved)


def key(case: Case) -> str:
    """One text for the same case on another GPU."""
    return json.dumps([case.kernel, case.sizes, case.options, case.tile])
