"""``estimate --kernel``: a described kernel, sizes and a GPU in; time, bytes, energy, clock out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from accelsim.errors import one_of, refuse
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import KernelDescriptor, Realised, Tile
from accelsim.load.arch import scalar
from accelsim.load.gpu import load_gpu
from accelsim.load.json_text import read_counts
from accelsim.load.kernel import load_kernel
from accelsim.load.workload import workload
from accelsim.mapper.gpu_tiles import registers
from accelsim.models import (
    gpu_decode,
    gpu_estimation,
    gpu_gemm,
    gpu_linear,
    gpu_linear_full,
    gpu_neighbourhood,
    gpu_passes,
    gpu_rows,
    gpu_split_keys,
    gpu_stream,
)
from accelsim.models.gpu_estimate import KernelEstimate, price
from accelsim.models.gpu_keys import Attention
from accelsim.models.gpu_launch import Launch
from accelsim.units import show

Value = str | int | float | bool

#: Fields of a tile that ``--set`` may change, and the words that attention has for two of them.
_TILE: Final = {
    **{
        name: name
        for name in ("rows", "columns", "height", "warps", "depth", "row_tiles", "blocks")
    },
    "stages": "stages",
    "queries": "rows",
    "keys": "columns",
}
#: What a kernel of each family may be asked, with what is taken where nothing is said.
_OPTIONS: Final[dict[str, dict[str, Value]]] = {
    "attention": {
        "causal": False,
        "window": 0,
        "offset": 0,
        "dtype": "bf16",
        "kept": 1.0,
        "counts": "",
    },
    "unfused": {"causal": False, "offset": 0, "dtype": "bf16"},
    "neighbourhood": {"dtype": "bf16"},
    "estimation": {"bits": 8, "causal": False},
    "decode": {"bits": 16, "dtype": "f16"},
    "gemm": {"dtype": "bf16"},
    "rows": {"form": "", "dtype": "bf16"},
    "copy": {"dtype": "bf16"},
    "linear": {"dtype": "bf16"},
    "linear-full": {"dtype": "bf16"},
    "gemv": {"format": "int4"},
}
#: Rank sizes of each family; those behind the bar may be left out.
_RANKS: Final[dict[str, tuple[str, str]]] = {
    "attention": ("B H P M E", "F HK G"),
    "unfused": ("B H P M E", "F HK G"),
    "neighbourhood": ("B H X WX E", "SX Y WY SY F HK G"),
    "estimation": ("B H P M E", "HK G"),
    "decode": ("B H M E", "F HK G P"),
    "gemm": ("M N K", "B"),
    "rows": ("M N", ""),
    "copy": ("M N", ""),
    "linear": ("B H M E", "F P"),
    "linear-full": ("B H M E", "F P"),
    "gemv": ("N K", "B"),
}
#: Sizes that are taken where nothing is said: a grid is a line, its groups are single positions.
_TAKEN: Final = {"neighbourhood": {"Y": 1, "WY": 1, "SY": 1, "SX": 1}}
#: Bits of a weight, scales included, by format (gemv).
WEIGHT_BITS: Final = {"int4": 4.125, "int3": 3.125, "int2": 2.125, "ternary": 1.7}


def estimate_kernel(
    kernel: str | Path,
    *,
    arch: str | Path | None = None,
    shape: Mapping[str, int] | str | None = None,
    sets: Iterable[str] = (),
) -> KernelEstimate:
    """Time, DRAM and L2 bytes, energy and clock of a described kernel on a GPU.

    ``sets`` are options of the kernel (``causal=true``, ``dtype=f16``,
    ``window=1024``, ``bits=4``), fields of its tile (``keys=64``), or fields of
    the GPU (``memory.reads=4.8 TB/s``).  Raises InputError for sizes or
    options that the kernel does not have.

    >>> found = estimate_kernel(
    ...     "cudnn-attention", arch="h100-sxm", shape="B=1,H=16,M=16384,P=16384,E=128,F=128"
    ... )
    >>> 2.5e-3 < found.latency_s < 4.5e-3
    True
    """
    described = load_kernel(kernel)
    if arch is None:
        raise refuse(f"{described.name} needs a GPU", "--arch h100-sxm")
    options, tile_fields, rest = _sorted_out(described, sets)
    gpu = load_gpu(arch, rest)
    sizes = _sizes(described, shape)
    return predict(gpu, described, sizes, options, tile_fields)


def predict(
    gpu: Gpu,
    kernel: KernelDescriptor,
    sizes: Mapping[str, int],
    options: Mapping[str, Value] | None = None,
    tile_fields: Mapping[str, int] | None = None,
    counts: tuple[int, ...] = (),
) -> KernelEstimate:
    """The same for what is loaded already, with options and fields of the tile by name.

    ``counts`` are key tiles of every query tile that a block list keeps, head by head.
    """
    asked = {**_OPTIONS[kernel.family], **(options or {})}
    kind = str(asked.get("dtype", kernel.kinds[0]))
    _check_kind(gpu, kernel, kind)
    bits = {"bits": int(asked["bits"])} if "bits" in asked else {}
    tile = kernel.tile({**_TAKEN.get(kernel.family, {}), **sizes, **bits})
    if tile_fields:
        tile = replace(tile, **tile_fields)  # type: ignore[arg-type]
        _check_registers(gpu, kernel, tile, sizes)
    launches = _launches(gpu, kernel, tile, sizes, asked, kind, counts)
    check_room(gpu, kernel.name, max(one.footprint for one in launches))
    found = price(gpu, kernel.name, launches)
    shown: dict[str, Any] = {
        "sizes": dict(sizes),
        "options": {k: v for k, v in asked.items() if v != ""},
        "realises": [
            {"system": one.system, "stage": one.stage}
            for one in realised(kernel, {**sizes, **asked})
        ],
    }
    return replace(found, problem=tuple(shown.items()))


def realised(kernel: KernelDescriptor, asked: Mapping[str, Value]) -> list[Realised]:
    """The stages of published systems that a kernel runs with these sizes and options.

    >>> [one.system for one in realised(load_kernel("score-estimation"), {"bits": 4})]
    ['sale']
    """
    taken = {**_TAKEN.get(kernel.family, {}), **_OPTIONS[kernel.family]}
    return [one for one in kernel.realises if one.by(asked, taken)]


def check_room(gpu: Gpu, name: str, need: float) -> None:
    """Refuse what does not fit the GPU's memory."""
    if need > gpu.memory.capacity_bytes:
        room = show(gpu.memory.capacity_bytes, "bytes", 3)
        message = f"{name} needs {show(need, 'bytes', 3)} of memory, {gpu.name} has {room}"
        raise refuse(message, "smaller sizes")


def _check_registers(
    gpu: Gpu, kernel: KernelDescriptor, tile: Tile, sizes: Mapping[str, int]
) -> None:
    """Refuse a tile that its path cannot have, or of attention that no thread has registers for."""
    if kernel.path == "wgmma" and tile.warps % 4:
        raise refuse(f"{tile.warps} warps on wgmma, which takes them by four", "a multiple of 4")
    if kernel.family != "attention":
        return
    need, most = registers(kernel, tile, sizes.get("F", sizes["E"]), gpu)
    if need > most:
        raise refuse(
            f"a tile of {tile.rows} x {tile.columns} needs {need} registers a thread of the"
            f" {max(0, most)} that {gpu.name} gives",
            "fewer keys or rows",
        )


def _check_kind(gpu: Gpu, kernel: KernelDescriptor, kind: str) -> None:
    if kind not in kernel.kinds:
        raise refuse(f"{kernel.name} has no dtype {kind!r}", one_of(kernel.kinds))
    if kernel.path and kernel.family != "gemv" and not gpu.tensor_rate(kernel.path, kind):
        there = one_of(f"{name}" for name, _ in gpu.tensor)
        raise refuse(f"{kernel.name} needs {kernel.path}.{kind}, {gpu.name} has none", there)


def _launches(
    gpu: Gpu,
    kernel: KernelDescriptor,
    tile: Tile,
    sizes: Mapping[str, int],
    asked: Mapping[str, Value],
    kind: str,
    counts: tuple[int, ...] = (),
) -> list[Launch]:
    """The launches of a kernel of any family."""
    if kernel.family == "gemm":
        case = gpu_gemm.Gemm(sizes["M"], sizes["N"], sizes["K"], kind, sizes.get("B", 1))
        return gpu_gemm.launch(gpu, kernel, case)
    if kernel.family in ("rows", "copy"):
        of = gpu_rows.Rows(sizes["M"], sizes["N"], str(asked.get("form", "")), kind)
        return [(gpu_rows.rows if kernel.family == "rows" else gpu_stream.copy)(gpu, kernel, of)]
    if kernel.family == "gemv":
        form = str(asked["format"])
        if form not in WEIGHT_BITS:
            raise refuse(f"{kernel.name} has no format {form!r}", one_of(WEIGHT_BITS))
        matrix = (sizes["N"], sizes["K"])
        return [gpu_stream.gemv(gpu, kernel, tile, matrix, form, WEIGHT_BITS[form])]
    heads, keys = _heads(sizes)
    if kernel.family == "decode":
        step = gpu_decode.Decode(
            sizes["B"], heads, keys, sizes["M"], sizes["E"], int(asked["bits"]), kind
        )
        return gpu_decode.decode(gpu, kernel, tile, step)
    if kernel.family == "estimation":
        scores = gpu_estimation.Scores(
            sizes["B"], heads, keys, sizes["P"], sizes["M"], sizes["E"], int(asked["bits"]),
            bool(asked["causal"]),
        )  # fmt: skip
        check_room(gpu, kernel.name, scores.read_bytes + scores.written_bytes)
        return [gpu_estimation.launch(gpu, kernel, tile, scores)]
    if kernel.family == "neighbourhood":
        return [gpu_neighbourhood.launch(gpu, kernel, tile, _grid(gpu, kernel, sizes, kind))]
    return _attention(gpu, kernel, tile, sizes, asked, kind, counts)


def _heads(sizes: Mapping[str, int]) -> tuple[int, int]:
    """Heads of queries and of keys.  InputError where one is no multiple of the other."""
    heads = sizes["H"]
    keys = sizes.get("HK") or (heads // sizes["G"] if sizes.get("G") else heads)
    if keys < 1 or heads % keys:
        raise refuse(f"{heads} query heads do not share {keys} key heads", "a divisor of H")
    return heads, keys


def _grid(
    gpu: Gpu, kernel: KernelDescriptor, sizes: Mapping[str, int], kind: str
) -> gpu_neighbourhood.Grid:
    """The grid of neighbourhood attention, if the GPU has the memory for it."""
    given = {**_TAKEN["neighbourhood"], **sizes}
    y, x = (gpu_neighbourhood.Axis(given[n], given[f"W{n}"], given[f"S{n}"]) for n in "YX")
    width = given.get("F", given["E"])
    grid = gpu_neighbourhood.Grid(given["B"], *_heads(sizes), y, x, given["E"], width, kind)
    check_room(gpu, kernel.name, sum(grid.dense.compulsory))  # before tiles are counted
    return grid


def _attention(
    gpu: Gpu,
    kernel: KernelDescriptor,
    tile: Tile,
    sizes: Mapping[str, int],
    asked: Mapping[str, Value],
    kind: str,
    counts: tuple[int, ...],
) -> list[Launch]:
    """The launches of attention in full, masked or unfused, and of linear attention."""
    heads, keys = _heads(sizes)
    problem = Attention(
        sizes["B"],
        heads,
        keys,
        sizes.get("P", sizes["M"]),
        sizes["M"],
        sizes["E"],
        sizes.get("F", sizes["E"]),
        causal=bool(asked.get("causal", kernel.family == "linear")),
        window=int(asked.get("window", 0)),
        offset=int(asked.get("offset", 0)),
        kind=kind,
        kept=float(asked.get("kept", 1.0)),
    )
    if counts := counts or (read_counts(str(asked["counts"])) if asked.get("counts") else ()):
        problem = _listed(problem, tile, counts)
    if problem.window and not problem.causal:
        raise refuse("a window needs a causal mask", "causal=true")
    if problem.window >= problem.P + problem.offset:  # nobody's first key is behind the first
        problem = replace(problem, window=0)
    scores = 2.0 * problem.B * heads * problem.P * problem.M * (kernel.family == "unfused")
    check_room(gpu, kernel.name, sum(problem.compulsory) + scores)  # before tiles are counted
    if kernel.family == "linear-full":
        return gpu_linear_full.launches(gpu, kernel, tile, problem)
    if kernel.family == "linear":
        return gpu_linear.linear(gpu, kernel, tile, problem)
    if kernel.family == "unfused":
        return gpu_passes.unfused(gpu, kernel, load_kernel("softmax"), tile, problem)
    return gpu_split_keys.launches(gpu, kernel, tile, problem)


def _listed(problem: Attention, tile: Tile, counts: tuple[int, ...]) -> Attention:
    """The problem with a block list's counts of key tiles."""
    query_tiles, tiles = -(-problem.P // tile.rows), -(-problem.M // tile.columns)
    wanted = problem.H * query_tiles
    if len(counts) != wanted or max(counts) > tiles:
        raise refuse(
            f"counts: a list of {len(counts)} query tiles of at most {max(counts)} key tiles,"
            f" where {problem.H} heads have {wanted} of {tiles}",
            f"{problem.H} heads of {query_tiles} tiles of {tile.rows} queries,"
            f" with tiles of {tile.columns} keys",
        )
    return replace(problem, counts=counts, kept=sum(counts) / (wanted * tiles))


def _sizes(kernel: KernelDescriptor, shape: Mapping[str, int] | str | None) -> dict[str, int]:
    """Sizes of the ranks that the kernel's family has."""
    found = dict(workload(shape=shape)) if shape is not None else {}
    needed, extra = (names.split() for names in _RANKS[kernel.family])
    missing = [name for name in needed if name not in found]
    if missing:
        text = f"{kernel.name} needs {', '.join(f'{m}=' for m in missing)}"
        raise refuse(text, "--shape " + ",".join(f"{n}=..." for n in needed))
    strange = [name for name in found if name not in (*needed, *extra)]
    if strange:
        raise refuse(f"{kernel.name} has no rank {strange[0]}", one_of((*needed, *extra)))
    return found


def _sorted_out(
    kernel: KernelDescriptor, sets: Iterable[str]
) -> tuple[dict[str, Value], dict[str, int], tuple[str, ...]]:
    """``path=value`` texts as the kernel's options, fields of its tile, and those of the GPU."""
    options: dict[str, Value] = {}
    fields: dict[str, int] = {}
    rest = []
    known = _OPTIONS[kernel.family]
    for text in sets:
        name, _, given = text.partition("=")
        name, value = name.strip(), scalar(given)
        if name in known:
            options[name] = _option(name, value, known[name])
        elif name.removeprefix("tile.") in _TILE:
            if not isinstance(value, int) or value < 1:
                raise refuse(f"{name} cannot be {given!r}", "a whole number of 1 or more")
            fields[_TILE[name.removeprefix("tile.")]] = value
        elif "." in name or name in ("clock", "multiprocessors", "tensor_clock"):
            rest.append(text)
        else:
            raise refuse(
                f"{kernel.name} has no option {name!r}",
                f"{one_of([*known, *_TILE])}, or a field of the GPU as memory.reads",
            )
    return options, fields, tuple(rest)


def _option(name: str, value: str | int | float, default: Value) -> Value:
    """The value of an option in the type that it has."""
    if isinstance(default, bool):
        if str(value).lower() not in ("true", "false"):
            raise refuse(f"{name} cannot be {value!r}", "true, false")
        return str(value).lower() == "true"
    if isinstance(default, str):
        return str(value)
    if isinstance(value, str) or value < 0 or (isinstance(default, int) and value != int(value)):
        wanted = "a whole number, 0 or more" if isinstance(default, int) else "a share, 0 to 1"
        raise refuse(f"{name} cannot be {value!r}", wanted)
    if isinstance(default, float) and not 0 < value <= 1:
        raise refuse(f"{name} cannot be {value!r}", "a share, above 0, at most 1")
    return value
