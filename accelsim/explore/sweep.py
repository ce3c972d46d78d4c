"""``sweep``: every point of a sweep file priced, to a Parquet dataset that grows as it goes.

Points are numbered (``Sweep.point``) and priced in chunks; each chunk becomes
one file ``part-00000.parquet`` of the output folder, written beside its place
and then renamed, so a reader and a sweep that goes on after it was killed see
whole files only.  ``sweep.json`` says which sweep the folder holds: digests of
all documents that it reads are in it, and a folder of another sweep is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

from accelsim.errors import refuse
from accelsim.explore.pareto import front, what_if
from accelsim.explore.points import Points
from accelsim.explore.rows import pyarrow, write_rows
from accelsim.files import write
from accelsim.load import catalog
from accelsim.load.design import load_design
from accelsim.load.sweep import Sweep, load_sweep

#: Version of the columns and of ``sweep.json``.
SCHEMA: Final = 1
#: Points of a chunk, at least and at most; between them a sweep has about two hundred.
CHUNK: Final = (50, 1000)
_MANIFEST: Final = "sweep.json"

#: Called with the points done so far, of how many.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep left in its folder: number of points, those without figures, front, effects."""

    name: str
    folder: Path
    points: int
    failed: int
    resumed: int
    front: tuple[dict[str, Any], ...]
    what_if: dict[str, list[dict[str, Any]]]
    by: tuple[str, ...]
    objectives: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim sweep``."""
        return {
            "sweep": self.name,
            "schema": SCHEMA,
            "folder": str(self.folder),
            "points": self.points,
            "failed": self.failed,
            "resumed": self.resumed,
            "objectives": list(self.objectives),
            "by": list(self.by),
            "front": list(self.front),
            "what_if": self.what_if,
        }


def sweep(
    spec: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    restart: bool = False,
    progress: Progress | None = None,
) -> Swept:
    """Price all points of a sweep file into the folder ``out``, and what stands out among them.

    Chunks that the folder has already are kept.  ``workers`` processes (all
    cores unless said; 1: this process) or the workers of the Dask
    ``scheduler`` at an address price the rest; the files are the same either
    way.  Workers read documents by the names and paths in the file.
    ``restart`` throws away what the folder holds.  Raises InputError for bad
    input and for a folder that holds another sweep.
    """
    asked = load_sweep(spec)
    pyarrow()
    types = _types(asked, Points(asked).columns)  # refuses unknown names before anything is written
    folder = Path(out)
    size = min(max(asked.points // 200, CHUNK[0]), CHUNK[1])
    _prepare(folder, asked, size, restart)
    chunks = range(-(-asked.points // size))
    missing = [n for n in chunks if not _part(folder, n).exists()]
    done = resumed = asked.points - sum(_points(asked, size, n) for n in missing)
    if progress is not None:
        progress(done, asked.points)
    for number, rows in _run(str(spec), size, missing, workers, scheduler):
        _write(_part(folder, number), types, rows)
        done += _points(asked, size, number)
        if progress is not None:
            progress(done, asked.points)
    table = rows_of(folder)
    return Swept(
        asked.name,
        folder,
        asked.points,
        sum(fault is not None for fault in table["fault"]),
        resumed,
        tuple(front(table, asked.objectives, asked.by)),
        what_if(table, [axis.fields for axis in asked.axes], asked.objectives),
        asked.by,
        asked.objectives,
    )


def _points(asked: Sweep, size: int, number: int) -> int:
    """Points of a chunk."""
    return min(size, asked.points - number * size)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.parquet"


def price(spec: str, size: int, number: int) -> dict[str, list[Any]]:
    """The columns of one chunk: what a worker does."""
    points = _points_of(spec, Path(catalog.find("sweep", spec)).stat().st_mtime_ns)
    first = number * size
    rows = [points.row(n) for n in range(first, min(first + size, points.sweep.points))]
    return {name: [row[name] for row in rows] for name in points.columns}


@lru_cache(maxsize=2)
def _points_of(spec: str, _changed: int) -> Points:
    return Points(load_sweep(spec))


Chunk = tuple[int, dict[str, list[Any]]]


def _run(
    spec: str, size: int, missing: Sequence[int], workers: int | None, scheduler: str | None
) -> Iterator[Chunk]:
    """The missing chunks, in the order in which they are done."""
    if scheduler is not None:
        yield from _on_cluster(spec, size, missing, scheduler)
        return
    count = min(workers or os.cpu_count() or 1, max(len(missing), 1))
    if count == 1:
        for number in missing:
            yield number, price(spec, size, number)
        return
    with ProcessPoolExecutor(count) as pool:
        todo = iter(missing)
        running = {pool.submit(price, spec, size, n): n for n in islice(todo, 2 * count)}
        try:
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    number = running.pop(future)
                    following = next(todo, None)
                    if following is not None:
                        running[pool.submit(price, spec, size, following)] = following
                    yield number, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _on_cluster(spec: str, size: int, missing: Sequence[int], address: str) -> Iterator[Chunk]:
    """The chunks from the workers of a Dask cluster; one that a lost worker had is priced again."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise refuse("--scheduler needs Dask", "pip install 'accelsim[sweep]'") from None
    try:
        client = Client(address, timeout=20)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        message = f"no Dask scheduler answers at {address!r}: {error}"
        raise refuse(message, "an address as tcp://host:8786") from None
    path = str(Path(catalog.find("sweep", spec)).resolve())
    with client:
        futures = {client.submit(price, path, size, n, retries=3, pure=False): n for n in missing}
        done = as_completed(futures, with_results=True)  # type: ignore[no-untyped-call]
        for future, rows in done:
            yield futures.pop(future), rows
            future.release()


def _prepare(folder: Path, asked: Sweep, size: int, restart: bool) -> None:
    """Make the folder ready for this sweep, or refuse it."""
    wanted = {"schema": SCHEMA, "sweep": asked.canonical(), "chunk": size, "digest": _digest(asked)}
    shown = {"name": asked.name, "objectives": list(asked.objectives), "by": list(asked.by)}
    manifest = folder / _MANIFEST
    if folder.exists() and not folder.is_dir():
        raise refuse(f"{folder} is no folder", "a folder to write to")
    found = _manifest(manifest)
    if found is None and folder.exists() and any(folder.iterdir()):
        raise refuse(f"{folder} is not empty and holds no sweep", "an empty or a new folder")
    differs = found is not None and any(found.get(key) != wanted[key] for key in wanted)
    if found is not None and differs and not restart:
        same = found.get("sweep") == wanted["sweep"]
        what = "this sweep with documents that have changed since" if same else "another sweep"
        allowed = "another folder, or --restart to throw away what is there"
        raise refuse(f"{folder} holds {what}", allowed)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.partial"):
        left.unlink()
    if restart:
        for part in folder.glob("part-*.parquet"):
            part.unlink()
    if found != {**wanted, **shown}:
        write(manifest, json.dumps({**wanted, **shown}, indent=2).encode() + b"\n")


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _digest(asked: Sweep) -> dict[str, str]:
    """SHA-256 of every document that the sweep reads."""
    named: set[Path] = set()
    for axis in asked.axes:
        for values in axis.values:
            for field, value in zip(axis.fields, values, strict=True):
                if field == "design":
                    design = load_design(str(value))
                    named.add(catalog.find("design", str(value)))
                    named |= {
                        catalog.find("cascade", design.cascade),
                        catalog.find("arch", design.arch),
                        catalog.find("mapping", design.mapping),
                    }
                elif field in ("cascade", "arch", "mapping"):
                    named.add(catalog.find(field, str(value)))  # type: ignore[arg-type]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(named)}


def _write(path: Path, types: dict[str, str], rows: dict[str, list[Any]]) -> None:
    """One chunk as a Parquet file."""
    import io

    arrow, parquet = pyarrow()
    data = {}
    for name, kind in types.items():
        texts = [v if v is None else str(v) for v in rows[name]] if kind == "string" else rows[name]
        data[name] = arrow.array(texts, arrow.type_for_alias(kind))
    sink = io.BytesIO()
    parquet.write_table(arrow.table(data), sink, compression="zstd")
    write(path, sink.getvalue())


def _types(asked: Sweep, columns: Sequence[str]) -> dict[str, str]:
    """Arrow's name of each column's type; a field of an axis has that of all its values."""
    found = dict.fromkeys(columns, "double")
    found.update(bound_by="string", fault="string")
    for axis in asked.axes:
        for n, field in enumerate(axis.fields):
            kinds = {type(values[n]) for values in axis.values}
            whole = kinds == {int} and all(abs(int(v[n])) < 2**63 for v in axis.values)
            found[field] = "int64" if whole else "string" if str in kinds else "double"
    return found


def rows_of(folder: str | Path) -> dict[str, list[Any]]:
    """The columns of all parts of a folder, in the order of the points."""
    arrow, parquet = pyarrow()
    parts = sorted(Path(folder).glob("part-*.parquet"))
    if not parts:
        raise refuse(f"{folder} holds no part of a sweep", "the folder that a sweep wrote")
    found: dict[str, list[Any]] = arrow.concat_tables(
        [parquet.read_table(part) for part in parts]
    ).to_pydict()
    return found


def export_rows(folder: str | Path, target: str | Path) -> Path:
    """All rows of a sweep's folder as one CSV, JSON or Parquet file, by its ending."""
    table = rows_of(folder)
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    return write_rows(rows, target)
