"""The model's choice among recorded tiles beside the fastest of them: replayed, no GPU needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from accelsim.errors import refuse
from accelsim.explore.estimate_gpu import predict
from accelsim.explore.gpu_choice import plainest
from accelsim.explore.gpu_records import Case, case_of, folder, rows
from accelsim.gpu.record import read
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import Tile
from accelsim.load.gpu import load_gpu
from accelsim.load.kernel import load_kernel
from accelsim.mapper.gpu_tiles import Candidate, refusal

#: Records in which several tiles of one problem were timed.
RECORDS: Final = ("tiles", "tiles-short", "persistent", "decode-walks")
#: A choice is good if it is no slower than the fastest by more than this share.
TOLERANCE: Final = 0.05
#: The share of problems in which it has to be good.
SHARE: Final = 0.9
#: The long problem of the record ``tiles``.
LONG: Final = {"B": 1, "H": 16, "P": 16384, "M": 16384}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A problem: tiles timed, the fastest, the one that the model takes, and what that costs.

    ``loss`` is the time of the taken tile over that of the fastest, less one.
    """

    record: str
    what: str
    tiles: int
    fastest: str
    taken: str
    fastest_s: float
    taken_s: float

    @property
    def loss(self) -> float:
        """Share by which the taken tile is slower than the fastest that was timed."""
        return self.taken_s / self.fastest_s - 1


@dataclass(frozen=True)
class TileValidation:
    """The choices on one GPU."""

    gpu: str
    rows: tuple[Chosen, ...]

    @property
    def within(self) -> int:
        """Problems in which the choice is within ``TOLERANCE`` of the fastest."""
        return sum(row.loss <= TOLERANCE for row in self.rows)

    @property
    def largest(self) -> float:
        """The largest loss."""
        return max(row.loss for row in self.rows)

    @property
    def holds(self) -> bool:
        """Whether the choice is good in ``SHARE`` of the problems."""
        return self.within >= SHARE * len(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim validate tiles``."""
        return {
            "gpu": self.gpu,
            "rows": [{**asdict(row), "loss": row.loss} for row in self.rows],
            "tolerance": TOLERANCE,
            "within": self.within,
            "largest": self.largest,
            "holds": self.holds,
        }


def validate_tiles(gpu: str = "h100-sxm") -> TileValidation:
    """A row for each problem of which two tiles or more were timed on a GPU.

    The model chooses among what was timed, by the rule of ``map``.  Raises
    InputError for a GPU without recorded runs.

    >>> found = validate_tiles("h100-sxm")
    >>> len(found.rows), found.holds
    (45, True)
    """
    machine = load_gpu(gpu)
    problems: dict[tuple[Any, ...], list[tuple[Case, float]]] = {}
    for record in RECORDS:
        for case, seconds in _timed(gpu, record):
            key = (record, case.sizes, tuple(o for o in case.options if o[0] != "dtype"))
            problems.setdefault(key, []).append((case, seconds))
    found = [_chosen(machine, key, tiles) for key, tiles in problems.items() if len(tiles) > 1]
    if not found:
        raise refuse(f"no two tiles of one problem were timed on {gpu}", "h100-sxm, h200-sxm")
    return TileValidation(gpu, tuple(found))


def _chosen(gpu: Gpu, key: tuple[Any, ...], tiles: list[tuple[Case, float]]) -> Chosen:
    record, sizes, options = key
    values = []
    for case, seconds in tiles:
        kernel, ranks, asked = load_kernel(case.kernel), dict(case.sizes), dict(case.options)
        tile = replace(kernel.tile(ranks), **dict[str, Any](case.tile), when=())
        found = predict(gpu, kernel, ranks, asked, dict(case.tile))
        width, bits = ranks["E"], int(asked.get("bits", 16))
        refused = refusal(gpu, kernel, tile, width, width, bits)
        values.append((Candidate(kernel, tile, refused), found.latency_s, seconds))
    taken = plainest([(one, value) for one, value, _ in values if one.refused is None])
    taken_s = next(seconds for candidate, _, seconds in values if candidate is taken)
    fastest, _, fastest_s = min(values, key=lambda one: one[2])
    what, names = _told(sizes, options), (_named(fastest), _named(taken))
    return Chosen(record, what, len(tiles), *names, fastest_s, taken_s)


def _told(sizes: Iterable[tuple[str, int]], options: Iterable[tuple[str, Any]]) -> str:
    """A problem in short: batch, heads, queries and keys, head dimension, mask or bits."""
    s, o = dict(sizes), dict(options)
    heads = f"h{s['H']}" if s["H"] == s["HK"] else f"h{s['H']}/{s['HK']}"
    words = [f"b{s['B']}", heads, f"n{s['M']}", f"d{s['E']}"]
    words += ["causal"] if o.get("causal") else []
    words += [f"w{o['window']}"] if o.get("window") else []
    return " ".join([*words, f"{o['bits']} bits"] if "bits" in o else words)


def _named(candidate: Candidate) -> str:
    """A tile in short: rows x columns, stages, blocks of a multiprocessor, from a queue or not."""
    tile: Tile = candidate.tile
    path = "decode " if candidate.kernel.family == "decode" else f"{candidate.kernel.path} "
    queue = " queue" if candidate.kernel.persistent else ""
    return f"{path}{tile.rows}x{tile.columns} s{tile.stages} b{tile.blocks}{queue}"


def _timed(gpu: str, record: str) -> Iterator[tuple[Case, float]]:
    """Cases and seconds of a record; the first of equal cases (turns of consumers aside)."""
    seen = set()
    for row, case in _long(gpu) if record == "tiles" else rows(gpu, record):
        time = row.get("time") or row.get("hot") or row.get("cold")
        if case is None or time is None:
            continue
        tile = row.get("tile") or row.get("variant", {}).get("tile")
        if tile is not None and not tile["turns"] and tile["warps"] > 4:
            continue  # a variant of the kernel that no descriptor describes
        blocks = {} if tile is None else {"blocks": tile["blocks"]}
        whole = replace(case, tile=tuple({**dict(case.tile), **blocks}.items()))
        if whole not in seen:
            seen.add(whole)
            yield whole, time["median_s"]


def _long(gpu: str) -> Iterator[tuple[Mapping[str, Any], Case | None]]:
    path = folder(gpu) / "tiles.json"
    for row in read(path).rows if path.is_file() else ():
        mask = {"causal": row["causal"], "window": 0, "offset": 0}
        shape = {**LONG, "E": row["dim"]}
        whole = {"variant": row, "shape": shape, "mask": mask, "dtype": "bf16"}
        yield row, case_of(whole, "tiles")
