"""Grids of cases drawn from a seed, and the measurement of one case.

The same seed gives the same cases everywhere, so that a model can be built on
one grid and judged on another.  ``attention_cases`` draws lengths log-uniform
from 512 to 64 Ki (half of them multiples of 128, the others any), batches
log-uniform from 1 to 64, heads, head dimension, mask, type, variant and tile
at random, and leaves out what needs more memory or time than ``Room`` allows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final

from accelsim.gpu import attention, decode, measure, rows, unfused
from accelsim.gpu.attention import HEAD_DIMS, Mask, Problem, Shape, Tile, Variant
from accelsim.gpu.decode import Cache, Step
from accelsim.gpu.device import device
from accelsim.gpu.record import fields

#: Tiles other than the best that a grid also takes, by path and head dimension.
OTHER_TILES: Final = {
    ("mma", 64): (Tile("mma", 64, 4, 2, 2), Tile("mma", 64, 4, 1, 4)),
    ("mma", 96): (Tile("mma", 64, 8, 1, 1), Tile("mma", 64, 8, 2, 1)),
    ("mma", 128): (Tile("mma", 32, 4, 2, 2), Tile("mma", 64, 4, 1, 3)),
    ("wgmma", 64): (Tile("wgmma", 192, 8), Tile("wgmma", 128, 8, turns=False)),
    ("wgmma", 96): (Tile("wgmma", 160, 8), Tile("wgmma", 80, 12)),
    ("wgmma", 128): (Tile("wgmma", 176, 8), Tile("wgmma", 128, 8, turns=False)),
}


@dataclass(frozen=True, slots=True)
class Room:
    """Limits of a case: operations, bytes of inputs and output, bytes of scores."""

    flops: float = 4e13
    tensor_bytes: float = 12e9
    score_bytes: float = 16e9


ROOM: Final = Room()


@dataclass(frozen=True, slots=True)
class AttentionCase:
    """Attention over many queries: what and how."""

    shape: Shape
    mask: Mask
    dtype: str
    variant: Variant

    def as_dict(self) -> dict[str, Any]:
        """For a record; also the key of the case."""
        return {
            "shape": asdict(self.shape),
            "mask": asdict(self.mask),
            "dtype": self.dtype,
            "variant": self.variant.as_dict(),
        }


def _length(draw: random.Random, least: int = 512, most: int = 65536) -> int:
    """Log-uniform, half of them multiples of 128."""
    found = float(least * (most / least) ** draw.random())
    return max(128, round(found / 128) * 128) if draw.random() < 0.5 else round(found)


def _shape(draw: random.Random) -> Shape:
    """Batch, heads, lengths and head dimension; a quarter share key heads, a few are oblong."""
    batch = round(64 ** draw.random())
    heads = draw.choice((1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 64))
    shared = draw.random() < 0.25
    divisors = [d for d in range(1, heads + 1) if heads % d == 0]
    keys = _length(draw)
    queries = keys if draw.random() < 0.85 else _length(draw)
    return Shape(
        B=batch, H=heads, P=queries, M=keys, E=draw.choice(HEAD_DIMS),
        HK=draw.choice(divisors) if shared else heads,
    )  # fmt: skip


def _mask(draw: random.Random, shape: Shape) -> Mask:
    """None, causal (only where there are as many queries as keys), or a window."""
    kind = draw.random()
    if shape.P != shape.M or kind < 0.5:
        return Mask()
    if kind < 0.85:
        return Mask(causal=True)
    return Mask(causal=True, window=draw.choice((128, 512, 1000, 4096)))


def _variant(draw: random.Random, shape: Shape, mask: Mask) -> Variant:
    """One pass on wgmma or mma (a quarter of them in another tile), two passes, or three."""
    kind = draw.random()
    if kind > 0.88 and not mask.window:
        return Variant(3, None)
    path: attention.Path = "wgmma" if kind < 0.48 else "mma"
    passes: attention.Passes = 2 if 0.78 < kind <= 0.88 else 1
    tile = attention.best_tile(path, shape.E)
    if passes == 1 and draw.random() < 0.25:
        tile = draw.choice(OTHER_TILES[path, shape.E])
    return Variant(passes, tile)


def _endless(seed: int, room: Room) -> Iterator[AttentionCase]:
    draw = random.Random(seed)
    while True:
        shape = _shape(draw)
        mask = _mask(draw, shape)
        variant = _variant(draw, shape, mask)
        case = AttentionCase(shape, mask, draw.choice(("bf16", "bf16", "f16")), variant)
        scores = 2 * shape.B * shape.H * shape.P * unfused.pitch(shape.M)
        fits = (
            shape.flops <= room.flops
            and shape.compulsory_bytes <= room.tensor_bytes
            and (variant.passes < 3 or scores <= room.score_bytes)
        )
        if fits:
            yield case


def attention_cases(seed: int, count: int, room: Room = ROOM) -> list[AttentionCase]:
    """The first ``count`` cases of a seed.

    >>> first, *_ = attention_cases(1, 3)
    >>> first == attention_cases(1, 1)[0]
    True
    """
    return list(islice(_endless(seed, room), count))


def decode_cases(seed: int, count: int) -> list[Cache]:
    """Decoding steps: lengths 512 to 128 Ki, batches 1 to 64, all widths of the cache.

    >>> {c.bits for c in decode_cases(1, 30)} == {16, 8, 4}
    True
    """
    draw = random.Random(seed)
    found: list[Cache] = []
    while len(found) < count:
        heads = draw.choice((1, 2, 4, 8, 16, 32))
        cache = Cache(
            B=round(64 ** draw.random()), H=heads * draw.choice((1, 2, 4, 8)), HK=heads,
            M=_length(draw, 512, 131072), E=draw.choice(HEAD_DIMS), bits=draw.choice((16, 8, 4)),
        )  # fmt: skip
        if cache.B * cache.HK * cache.M * cache.E < 3e9:
            found.append(cache)
    return found


def times(run: Callable[[], None]) -> dict[str, Any]:
    """Hot and cold time of a launch."""
    return {"hot": fields(measure.timed(run)), "cold": fields(measure.timed(run, cold=True))}


def attention_row(case: AttentionCase, seed: int = 0) -> dict[str, Any]:
    """Check a case on fresh inputs, then time it; stages too where it has three."""
    problem = Problem(case.shape, case.mask, case.dtype, seed)
    row = case.as_dict() | {"flops": problem.flops}
    if case.variant.tile is not None:
        row["kernel"] = attention.kernel(problem, case.variant.tile, case.variant.passes).as_dict()
    run = attention.run_of(problem, case.variant)
    check = problem.check(run)
    row["check"] = fields(check) | {"holds": check.holds}
    if check.holds:
        row |= times(run)
        if case.variant.passes == 3:
            stages = unfused.kernels(problem)
            row["stages"] = {name: fields(measure.timed(s)) for name, s in stages.items()}
    return row


def decode_row(cache: Cache, seed: int = 0, walk: decode.Walk | None = None) -> dict[str, Any]:
    """Check a decoding step on fresh inputs, then time it."""
    step, walk = Step(cache, seed), walk or decode.walk_of(cache)
    run = decode.decode(step, walk)
    check = step.check(run)
    row = decode.as_dict(cache, walk, device().multiprocessors)
    row["kernel"] = decode.kernel(step, walk).as_dict()
    row["check"] = fields(check) | {"holds": check.holds}
    return row | times(run) if check.holds else row


def rows_row(op: rows.Op, form: rows.Form, count: int, columns: int, dtype: str) -> dict[str, Any]:
    """Check a row kernel on fresh inputs, then time it."""
    check = rows.check(op, form, count, columns, dtype)
    run = rows.fresh(op, form, count, columns, dtype)
    row: dict[str, Any] = {
        "op": op, "form": form, "rows": count, "columns": columns, "dtype": dtype,
        "tile": asdict(rows.row_tile(columns, form)),
        "check": fields(check) | {"holds": check.holds},
    }  # fmt: skip
    return row | times(run) if check.holds else row
