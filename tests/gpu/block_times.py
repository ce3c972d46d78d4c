"""Where the time of a launch goes, block by block: what blocks note of themselves (``MARKS``)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelsim.gpu import attention, decode, linear, measure, sparse, unfused
from accelsim.gpu.attention import Mask, Problem, Shape, best_tile
from accelsim.gpu.decode import Cache, Step
from accelsim.gpu.device import cupy, device
from accelsim.gpu.kernel import Kernel, load
from accelsim.gpu.linear import Decayed
from accelsim.gpu.record import document, write

#: Blocks of a launch that are noted at most.
MOST = 1 << 14
#: Heads and lengths of plain attention, from a third of the multiprocessors to many rounds of them.
LENGTHS = (
    (8, 1024), (8, 1536), (8, 2048), (16, 2048), (16, 3072), (16, 4096), (16, 6144), (32, 6144),
    (32, 8192),
)  # fmt: skip
CACHES = (
    Cache(17, 32, 4, 1886, 96, 4), Cache(24, 8, 1, 10207, 128, 4), Cache(3, 128, 16, 9256, 96, 4),
    Cache(17, 32, 4, 1886, 96, 8), Cache(17, 32, 4, 1886, 96, 16), Cache(13, 128, 16, 1929, 64, 4),
    Cache(57, 64, 32, 2176, 128, 4),
)  # fmt: skip
DECAYED = ((1, 16, 4608, 64), (1, 8, 2553, 64), (4, 8, 3550, 64), (2, 16, 2274, 128))
#: Linear attention of one to four blocks a multiprocessor, by head dimension; batch, heads, length.
RESIDENT = {
    64: ((1, 12, 2816), (1, 24, 2816), (1, 36, 11264), (1, 48, 11264)),
    96: ((1, 4, 2816), (1, 8, 2816), (1, 12, 11264), (1, 16, 11264), (2, 32, 1792)),
    128: ((1, 6, 2816), (1, 12, 2816), (1, 18, 11264), (1, 24, 11264), (4, 32, 1543)),
}
#: Linear attention with last rounds of few blocks, even and odd lengths, states that fit L1 or not.
SIBLINGS = (
    (2, 8, 3328, 96), (2, 8, 3456, 96), (2, 8, 3483, 96), (2, 8, 9911, 96), (2, 8, 9920, 96),
    (4, 32, 2163, 96), (4, 32, 2176, 96), (1, 16, 4608, 128), (2, 16, 3015, 128),
    (1, 12, 2816, 128), (2, 32, 5760, 128), (1, 24, 2816, 64), (1, 24, 5632, 64),
)  # fmt: skip
#: Caches of four bits that are one, two or three full waves: keys of a split, whole rounds or more.
WAVE_KEYS = (1280, 1296, 1408, 1536, 2560, 2576, 2816)
WAVE_SPLITS, WAVE_HEADS = 4, 66
#: Three passes: batch, heads, length, head dimension, causal.
UNFUSED = (
    (1, 16, 4096, 128, 0), (1, 16, 4096, 96, 0), (1, 16, 4096, 64, 0), (1, 32, 8192, 128, 0),
    (1, 32, 8192, 96, 0), (1, 32, 8192, 64, 0), (4, 32, 2048, 128, 0), (4, 32, 2048, 128, 1),
    (4, 32, 2048, 96, 0), (4, 32, 2048, 96, 1), (4, 32, 2048, 64, 0), (4, 32, 2048, 64, 1),
    (6, 64, 542, 96, 1), (1, 8, 1280, 96, 0), (1, 16, 1029, 96, 1),
)  # fmt: skip


@contextmanager
def noted() -> Iterator[list[Kernel]]:
    """Kernels that are loaded meanwhile note their blocks' times."""
    found: list[Kernel] = []

    def marked(source: str, entry: str, defines: Any, *sizes: int) -> Kernel:
        found.append(load(source, entry, {**defines, "MARKS": MOST}, *sizes))
        return found[-1]

    modules = (attention, decode, linear)
    for module in modules:
        module.load = marked  # type: ignore[attr-defined]
    try:
        yield found
    finally:
        for module in modules:
            module.load = load  # type: ignore[attr-defined]


def notes(kernel: Kernel) -> Any:
    """The kernel's marks on the GPU, [blocks, 8]."""
    module = cupy()
    at = kernel._module.get_global_var("marks")
    memory = module.cuda.UnownedMemory(int(getattr(at, "ptr", at)), MOST * 64, None)
    return module.ndarray((MOST, 8), module.uint64, module.cuda.MemoryPointer(memory, 0))


def told(kernel: Kernel) -> dict[str, Any]:
    """What the blocks of the last launch noted: span, clock, medians of their parts in cycles."""
    rows = [row for row in notes(kernel).get().astype("int64").tolist() if row[1]]
    units: dict[int, list[Any]] = {}
    for row in rows:
        units.setdefault(row[0], []).append(row)
    clocks = []
    for own in units.values():
        first, last = min(own, key=lambda r: r[1]), max(own, key=lambda r: r[7])
        if last[7] > first[1]:
            clocks.append((last[6] - first[2]) / (last[7] - first[1]) * 1e9)

    def middle(start: int, end: int) -> float | None:
        each = [row[end] - row[start] for row in rows if row[start] and row[end]]
        return statistics.median(each) if each else None

    return {
        "entry": kernel.build.entry,
        "blocks": len(rows),
        "span_s": (max(r[7] for r in rows) - min(r[1] for r in rows)) * 1e-9,
        "sm_hz": statistics.median(clocks) if clocks else None,
        "to_first_tile": middle(2, 3), "first_tile": middle(3, 4), "walk": middle(3, 5),
        "ending": middle(5, 6), "block": middle(2, 6),
    }  # fmt: skip


def row(case: dict[str, Any], make: Callable[[], Callable[[], None]]) -> dict[str, Any]:
    """A launch timed as all are, with marks; what its blocks noted in the last one."""
    with noted() as kernels:
        run = make()
    for kernel in kernels:
        notes(kernel)[...] = 0
    marked = measure.timed(run).median_s
    found = [told(kernel) for kernel in kernels if notes(kernel)[0, 1]]
    print(case, f"{1e6 * marked:.1f} us", flush=True)
    return {"case": case, "marked_s": marked, "kernels": found}


def rows() -> Iterator[dict[str, Any]]:
    """Plain and causal attention, windows, block lists, decoding, linear attention."""

    def attended(path: Any, shape: Shape, mask: Mask, share: float = 1.0) -> dict[str, Any]:
        problem, tile = Problem(shape, mask, "bf16", 3), best_tile(path, shape.E)
        keep = sparse.random_tiles(problem, tile, share, 7) if share < 1 else None
        case = {"path": path, "B": shape.B, "H": shape.H, "P": shape.P, "E": shape.E,
                "causal": mask.causal, "window": mask.window, "share": share}  # fmt: skip

        def make() -> Callable[[], None]:
            if keep is None:
                return attention.fused(problem, tile)
            return sparse.sparse(problem, tile, keep)

        return row(case, make)

    for path, dim in (("wgmma", 64), ("wgmma", 96), ("wgmma", 128), ("mma", 64), ("mma", 128)):
        for heads, length in LENGTHS:
            yield attended(path, Shape(1, heads, length, length, dim), Mask())
    for dim in (64, 128):
        for heads, length in ((8, 2048), (16, 4096), (32, 6144)):
            yield attended("wgmma", Shape(1, heads, length, length, dim), Mask(causal=True))
        shape = Shape(1, 16, 4608, 4608, dim)
        yield attended("wgmma", shape, Mask(causal=True, window=512))
        yield attended("wgmma", shape, Mask(), 0.2)
    for cache in CACHES:
        step = Step(cache, 5)
        sizes = {"B": cache.B, "H": cache.H, "HK": cache.HK, "M": cache.M, "E": cache.E}
        yield row({"path": "decode", **sizes, "bits": cache.bits}, lambda s=step: decode.decode(s))
    for b, h, m, e in DECAYED:
        problem = Decayed(Shape(b, h, m, m, e), "bf16", 3)
        case = {"path": "linear", "B": b, "H": h, "M": m, "E": e}
        yield row(case, lambda p=problem: linear.linear(p))


def linear_times(out: Path) -> None:
    """Linear attention with more and more blocks a multiprocessor."""
    found = []
    for dim, shapes in RESIDENT.items():
        for b, h, m in shapes:
            problem = Decayed(Shape(b, h, m, m, dim), "bf16", 3)
            case = {"path": "linear", "B": b, "H": h, "M": m, "E": dim}
            found.append(row(case, lambda p=problem: linear.linear(p)))
    write(out / "linear-times.json", document("block times of linear attention", found))


def siblings(kernel: Kernel) -> dict[str, Any]:
    """Of two blocks that begin on a multiprocessor: by how much the second is behind the first.

    In cycles, at its first tile, its second, and its walk's end; and how many blocks of the
    last round are alone on theirs.
    """
    rows = [r for r in notes(kernel).get().astype("int64").tolist() if r[1]]
    begun = min(r[1] for r in rows)
    first: dict[int, list[Any]] = {}
    late: dict[int, int] = {}
    for r in rows:
        if r[1] < begun + 2000:
            first.setdefault(r[0], []).append(r)
        else:
            late[r[0]] = late.get(r[0], 0) + 1
    pairs = [own for own in first.values() if len(own) == 2]

    def behind(place: int) -> float | None:
        found = [b[place] - a[place] for a, b in pairs if a[place] and b[place]]
        return statistics.median(found) if found else None

    return {
        "pairs": len(pairs), "first_tile": behind(3), "second_tile": behind(4), "walk": behind(5),
        "late": sum(late.values()), "late_alone": sum(n == 1 for n in late.values()),
    }  # fmt: skip


def linear_siblings(out: Path) -> None:
    """Linear attention: how far blocks that share a multiprocessor are behind each other."""
    found = []
    for b, h, m, e in SIBLINGS:
        problem = Decayed(Shape(b, h, m, m, e), "bf16", 3)
        plain = measure.timed(linear.linear(problem)).median_s
        with noted() as kernels:
            run = linear.linear(problem)
        for kernel in kernels:
            notes(kernel)[...] = 0
        marked = measure.timed(run).median_s
        ran = [k for k in kernels if notes(k)[0, 1]]
        each = [told(k) | siblings(k) | {"output": dict(k.build.defines)["OUTPUT"]} for k in ran]
        case = {"B": b, "H": h, "M": m, "E": e}
        found.append({"linear": case, "median_s": plain, "marked_s": marked, "kernels": each})
        print(case, f"{1e6 * plain:.1f} us", flush=True)
    write(out / "linear-siblings.json", document("blocks beside blocks", found))


def decode_waves(out: Path) -> None:
    """Decoding from four bits, E=128, in one, two and three full waves of equal blocks."""
    found, chosen = [], decode.splits_of
    for waves in (1, 2, 3):
        for length in WAVE_KEYS:
            cache = Cache(WAVE_HEADS * waves, 1, 1, WAVE_SPLITS * length, 128, 4)
            decode.splits_of = lambda *_, n=length: (WAVE_SPLITS, n)  # type: ignore[misc]
            step = Step(cache, 3)
            time_s = measure.timed(decode.decode(step)).median_s
            case = decode.as_dict(cache, decode.walk_of(cache), device().multiprocessors)
            found.append(case | {"waves": waves, "median_s": time_s})
            print(waves, length, f"{1e6 * time_s:.1f} us", flush=True)
    decode.splits_of = chosen
    write(out / "decode-waves.json", document("waves of equal decoding blocks", found))


def unfused_parts(out: Path) -> None:
    """The three launches of three-pass attention one behind the other, an event after each."""
    found = []
    for b, h, n, dim, causal in UNFUSED:
        problem = Problem(Shape(b, h, n, n, dim), Mask(causal=bool(causal)), "bf16", 3)
        stages = unfused.kernels(problem)
        case = {"B": b, "H": h, "P": n, "M": n, "E": dim, "causal": bool(causal)}
        found.append({"case": case, "parts_s": parts(stages)})
        print(case, {k: f"{1e6 * v:.1f}" for k, v in found[-1]["parts_s"].items()}, flush=True)
    how = "medians of six runs after a rest; launch cost is in each"
    write(out / "unfused-parts.json", document("launches of three passes", found, how=how))


def parts(stages: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Seconds of each of some launches, one behind the other, between events."""
    module = cupy()
    runs = [[module.cuda.Event() for _ in range(len(stages) + 1)] for _ in range(7)]
    for stage in stages.values():
        stage()
    module.cuda.runtime.deviceSynchronize()
    time.sleep(measure.REST_S)
    for events in runs:
        events[0].record()
        for stage, event in zip(stages.values(), events[1:], strict=True):
            stage()
            event.record()
    module.cuda.runtime.deviceSynchronize()
    return {
        name: 1e-3
        * statistics.median(
            module.cuda.get_elapsed_time(events[i], events[i + 1]) for events in runs[1:]
        )
        for i, name in enumerate(stages)
    }


def block_times(out: Path) -> None:
    """The record of all of them."""
    write(out / "block-times.json", document("block times", list(rows())))
