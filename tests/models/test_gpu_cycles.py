"""Cycles of a key tile that were counted, beside what the model makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import mean, median
from typing import Any

import pytest

from accelsim.explore import gpu_records
from accelsim.gpu.record import read
from accelsim.load.gpu import load_gpu
from accelsim.load.kernel import load_kernel
from accelsim.models.gpu_attention import stages
from accelsim.models.gpu_keys import Attention, moved
from accelsim.models.gpu_pipeline import IN_STEP, Stage, in_order

H100 = load_gpu("h100-sxm")
ROWS = read(gpu_records.folder("h100-sxm") / "tile-cycles.json").rows
#: Of how many tiles the longer and the shorter block were whose difference was counted.
MANY, FEW = 64, 16


def parts(row: Mapping[str, Any]) -> tuple[int, list[list[Stage]]]:
    """Warps of a scheduler, and the stages of every pass over a tile of keys."""
    told = row["tile"]
    kernel = load_kernel(f"attention-{row['passes']}pass-mma")
    rows = 16 * told["row_tiles"]
    tile = replace(
        kernel.tiles[-1], rows=rows * told["warps"], columns=told["keys"], warps=told["warps"],
        row_tiles=told["row_tiles"], blocks=told["blocks"],
    )  # fmt: skip
    case = Attention(1, 132, 1, tile.rows, MANY * tile.columns, row["dim"], row["dim"])
    corrected = (MANY * moved(MANY, rows) - FEW * moved(FEW, rows)) / (MANY - FEW)
    halves = (0,) if row["passes"] == 1 else (1, 2)
    found = [stages(H100, kernel, tile, case, corrected, half) for half in halves]
    return row["residents"] * told["warps"] // H100.multiprocessor.schedulers, found


def error(row: Mapping[str, Any]) -> float:
    warps, found = parts(row)
    beside = H100.waits.mma_issue
    said = sum(in_order(part, warps, row["residents"], beside) for part in found)
    return said / float(row["tile_cycles"]) - 1


def test_tiles_take_the_cycles_that_were_counted() -> None:
    errors = [error(row) for row in ROWS if not row["lag"]]
    assert len(errors) >= 35
    assert mean(map(abs, errors)) < 0.035
    assert max(map(abs, errors)) < 0.11
    assert abs(mean(errors)) < 0.02


def test_blocks_take_the_same_whenever_they_start() -> None:
    """What ``in_order`` rests on: a distance at the start is no distance in the end."""
    by: dict[str, list[float]] = {}
    for row in ROWS:
        if row["residents"] == 2:
            by.setdefault(f"{row['dim']} {row['tile']} {row['passes']}", []).append(
                float(row["tile_cycles"])
            )
    assert len(by) >= 13
    for found in by.values():
        assert len(found) == 3
        assert max(found) < 1.02 * min(found)


@pytest.mark.parametrize("row", [r for r in ROWS if not r["lag"] and r["residents"] > 1], ids=str)
def test_blocks_are_neither_independent_nor_in_step(row: Mapping[str, Any]) -> None:
    warps, found = parts(row)
    beside, said = H100.waits.mma_issue, IN_STEP
    bounds = [sum(in_order(part, warps, n, beside) for part in found) for n in (1, 2)]
    together, mixed = bounds
    apart = (mixed - said * together) / (1 - said)
    counted = float(row["tile_cycles"])
    assert 0.97 * apart < counted < 1.05 * together


def test_what_an_instruction_takes_from_mma_is_what_was_counted() -> None:
    rows = read(gpu_records.folder("h100-sxm") / "beside.json").rows
    kept = [r["lost_cycles"] for r in rows if r["cycles_each"] < 2 * r["alone_cycles_each"]]
    assert len(kept) >= 4
    assert H100.waits.mma_issue == pytest.approx(median(kept), abs=0.005)
