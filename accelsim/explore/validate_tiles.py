"""The model's choice among recorded tiles beside the fastest of them: replayed, no GPU needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from accelsim.explore.estimate_gpu import predict
from accelsim.explore.gpu_choice import plainest
from accelsim.explore.gpu_records import Case, case_of, folder, rows
from accelsim.gpu.record import read
from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import Tile
from accelsim.load.gpu import load_gpu
from accelsim.load.kernel import load_kernel
from accelsim.mapper.gpu_tiles import Candidate

#: Records in which several tiles of one problem were timed.
RECORDS: Final = ("tiles", "tiles-short", "persistent", "decode-walks")
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


def validate_tiles(gpu: str = "h100-sxm") -> tuple[Chosen, ...]:
    """A row for each problem of which two tiles or more were timed on a GPU.

    The model chooses among what was timed, by the rule of ``map``.  Raises
    InputError for a GPU without recorded runs.

    >>> found = validate_tiles("h100-sxm")
    >>> len(found), sum(row.loss <= 0.05 for row in found) > 0.8 * len(found)
    (45, True)
    """
    machine = load_gpu(gpu)
    problems: dict[tuple[Any, ...], list[tuple[Case, float]]] = {}
    for record in RECORDS:
        for case, seconds in _timed(gpu, record):
            key = (record, case.sizes, tuple(o for o in case.options if o[0] != "dtype"))
            problems.setdefault(key, []).append((case, seconds))
    return tuple(
        _chosen(machine, key, tiles) for key, tiles in problems.items() if len(tiles) > 1
    )  # fmt: skip


def _chosen(gpu: Gpu, key: tuple[Any, ...], tiles: list[tuple[Case, float]]) -> Chosen:
    record, sizes, options = key
    values = []
    for case, seconds in tiles:
        kernel = load_kernel(case.kernel)
        tile = replace(kernel.tile(dict(case.sizes)), **dict(case.tile), when=())
        found = predict(gpu, kernel, dict(case.sizes), dict(case.options), dict(case.tile))
        values.append((Candidate(kernel, tile), found.latency_s, seconds))
    taken = plainest([(candidate, value) for candidate, value, _ in values])
    taken_s = next(seconds for candidate, _, seconds in values if candidate is taken)
    fastest, _, fastest_s = min(values, key=lambda one: one[2])
    shown = " ".join(f"{k}={v}" for k, v in (*sizes, *(o for o in options if o[1])))
    return Chosen(record, shown, len(tiles), _named(fastest), _named(taken), fastest_s, taken_s)


def _named(candidate: Candidate) -> str:
    tile: Tile = candidate.tile
    queue = ", queue" if candidate.kernel.persistent else ""
    path = candidate.kernel.path if candidate.kernel.family == "attention" else "decode"
    return f"{path} {tile.rows}x{tile.columns}, {tile.stages} stages, {tile.blocks} blocks{queue}"


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
