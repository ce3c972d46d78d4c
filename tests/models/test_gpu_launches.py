"""Launches of a pipeline, each beside its own time: three passes, linear attention, split keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from statistics import mean, median
from typing import Any

import pytest

from accelsim.errors import InputError
from accelsim.explore import gpu_records
from accelsim.explore.estimate_gpu import estimate_kernel, predict
from accelsim.gpu.record import read
from accelsim.load.gpu import load_gpu
from accelsim.load.kernel import load_kernel
from accelsim.models.gpu_clock import seconds_at
from accelsim.models.gpu_estimate import Priced
from accelsim.models.gpu_keys import Attention, Span, parted
from accelsim.models.gpu_launch import Launch
from accelsim.models.gpu_linear import Walk
from accelsim.models.gpu_schedule import makespan

#: What the profiler counts of a launch beside its blocks' work.
STARTED_S = 0.9e-6
H100 = load_gpu("h100-sxm")


def rows(gpu: str, name: str) -> list[dict[str, Any]]:
    return list(read(gpu_records.folder(gpu) / f"{name}.json").rows)


def launches(kernel: str, gpu: str, case: Mapping[str, Any]) -> tuple[Priced, ...]:
    """The launches that the model makes of a row's case."""
    shape = {name: case[name] for name in ("B", "H", "P", "M", "E") if name in case}
    sets = ["causal=true"] if case.get("causal") else []
    return estimate_kernel(kernel, arch=gpu, shape={**shape, "F": case["E"]}, sets=sets).launches


@pytest.mark.parametrize(("gpu", "within"), [("h100-sxm", 0.08), ("h200-sxm", 0.14)])
def test_each_launch_of_three_passes(gpu: str, within: float) -> None:
    """Scores, softmax and values apart; the H200 with only its memory's figures exchanged."""
    errors: dict[str, list[float]] = {"scores": [], "softmax": [], "values": []}
    cost = load_gpu(gpu).launch
    for row in rows(gpu, "unfused-parts"):
        for found in launches("attention-3pass-mma", gpu, row["case"]):
            name = found.launch.name
            started = cost.first_s if name == "scores" else cost.next_s
            seen = row["parts_s"][name] - started
            errors[name].append(found.timed.seconds / seen - 1)
    assert all(len(each) == 15 for each in errors.values())
    for each in errors.values():
        assert mean(map(abs, each)) < within


def test_each_launch_of_linear_attention() -> None:
    """States, outputs and the clock with one to four blocks a multiprocessor, warm and cold."""
    errors: dict[str, list[float]] = {"states": [], "outputs": []}
    for row in rows("h100-sxm", "linear-times"):
        seen = [k for k in row["kernels"] if k["entry"] == "chunks"]
        found = launches("linear-attention", "h100-sxm", row["case"])
        kept = [p for p in found if p.launch.name in errors]
        for launch, kernel in zip(kept, seen[-len(kept) :], strict=True):
            assert launch.launch.blocks == kernel["blocks"]
            errors[launch.launch.name].append(launch.timed.seconds / kernel["span_s"] - 1)
    assert len(errors["outputs"]) == 14
    assert mean(map(abs, errors["outputs"])) < 0.08
    assert mean(map(abs, errors["states"])) < 0.13


def test_blocks_of_linear_attention_that_are_in_step() -> None:
    """Where L1 holds the states of both blocks they begin at once, else one is well ahead."""
    kernel = load_kernel("linear-attention")
    seen = set()
    for row in rows("h100-sxm", "linear-siblings"):
        case = row["linear"]
        found = [k for k in row["kernels"] if k["entry"] == "chunks" and k["output"]]
        (outputs,) = found
        tile = kernel.tile({"E": case["E"]})
        problem = Attention(
            case["B"], case["H"], case["H"], case["M"], case["M"], case["E"], case["E"], True
        )
        walk = Walk(H100, kernel, tile, problem, (8,), True, 1.0)
        walk = replace(walk, chunks=(8,) * (2 * 132 // (walk.across * case["B"] * case["H"]) + 1))
        assert walk.together == 2
        assert walk.in_step == (outputs["first_tile"] < 500)
        seen.add((case["E"], walk.in_step))
        if outputs["late"] and not walk.in_step and outputs["late"] <= 120:
            assert outputs["late_alone"] > 0.9 * outputs["late"]
    assert seen == {(64, True), (96, True), (128, False)}


def test_lines_that_are_asked_for_in_parts() -> None:
    """Heads of 96 numbers that begin within a line: odd lengths take longer than even ones."""
    took = {(r["linear"]["B"], r["linear"]["M"]): r["median_s"]
            for r in rows("h100-sxm", "linear-siblings")}  # fmt: skip
    for batch, heads, odd, even in ((2, 8, 9911, 9920), (4, 32, 2163, 2176)):
        slow, fast = (
            sum(p.timed.seconds for p in launches(
                "linear-attention", "h100-sxm", {"B": batch, "H": heads, "M": m, "E": 96}))
            for m in (odd, even)
        )  # fmt: skip
        assert slow / fast > 1.02
        assert slow / fast == pytest.approx(took[batch, odd] / took[batch, even], abs=0.03)
    same = [launches("linear-attention", "h100-sxm", {"B": 2, "H": 8, "M": m, "E": 64})[-1]
            for m in (9911, 9920)]  # fmt: skip
    assert same[0].timed.seconds == same[1].timed.seconds


def test_short_last_segments_are_no_whole_ones() -> None:
    """18 chunks of a head in segments of 8, 8 and 2: some multiprocessors are done early."""
    case = {"B": 2, "H": 32, "E": 128}
    two, three, full = (launches("linear-attention", "h100-sxm", case | {"M": 64 * n})
                        for n in (16, 18, 24))  # fmt: skip
    for short, some, whole in zip(two, three, full, strict=True):
        assert short.timed.seconds < some.timed.seconds <= whole.timed.seconds
    assert three[-1].launch.blocks == full[-1].launch.blocks
    assert three[0].timed.seconds < 0.9 * full[0].timed.seconds  # memory serves what there is
    asked = [found[-1].launch.operations["mma.bf16"] for found in (two, three, full)]
    assert asked[1] == pytest.approx(18 / 16 * asked[0]) == pytest.approx(18 / 24 * asked[2])


def test_instructions_come_from_memory_where_data_passes_l2() -> None:
    """What small caches take more after L2 was filled; larger ones pay it, small ones do not."""
    found = []
    for gpu in ("h100-sxm", "h200-sxm"):
        for row in rows(gpu, "decode-grid"):
            c = row["cache"]
            numbers = 2 * c["B"] * c["HK"] * c["M"]
            if numbers * (c["E"] * c["bits"] / 8 + (2 if c["bits"] < 16 else 0)) < 4e6:
                later = row["cold"]["median_s"] - row["hot"]["median_s"]
                found.append(later / (2 if row["splits"] > 1 else 1))
    gpu = load_gpu("h100-sxm")
    way = (gpu.waits.memory - gpu.waits.l2) / gpu.clock_hz
    assert len(found) == 16
    assert gpu.launch.cold_s == pytest.approx(median(found) - way, abs=1e-8)
    small, large = (
        estimate_kernel("softmax", arch="h100-sxm", shape={"M": count, "N": 1024})
        for count in (4096, 65536)
    )
    assert small.launch_s == gpu.launch.first_s
    assert large.launch_s == gpu.launch.first_s + gpu.launch.cold_s


def test_flash_attention_splits_keys_as_it_does() -> None:
    """Blocks of both launches are those of the grids; times within a tenth on the average."""
    errors = []
    for row in rows("h100-sxm", "library-splits"):
        found = launches("flash-attention-2", "h100-sxm", row["case"])
        assert len(found) == len(row["kernels"]) == 2
        for priced, kernel in zip(found, row["kernels"], strict=True):
            x, y, z = kernel["grid"]
            assert priced.launch.blocks == x * y * z
        whole = sum(kernel["seconds"] - STARTED_S for kernel in row["kernels"])
        errors.append(sum(priced.timed.seconds for priced in found) / whole - 1)
    assert len(errors) == 18
    assert mean(map(abs, errors)) < 0.1


def test_parts_of_spans_are_the_spans() -> None:
    """Parts have, in tiles and in masked ones, what there was; none has more than its own."""
    walked = [Span(n, min(2, n)) for n in range(13)]
    for splits in (1, 2, 3, 5, 12):
        each = -(-12 // splits)
        found = parted(walked, 12, splits)
        assert max(span.tiles for span in found) <= each
        for at, span in enumerate(walked):
            own = found[at :: len(walked)]
            assert sum(s.tiles for s in own) == span.tiles
            assert sum(s.masked for s in own) == span.masked


def test_blocks_that_are_left_go_on_faster_where_they_share() -> None:
    """Between the time of blocks that share nothing and that of ones whose rates add up."""
    lengths = [9.0, 2.0, 3.0, 2.0, 1.0]
    alone = makespan(lengths, 2, 4)
    shared = makespan(lengths, 2, 4, 1e-9)
    assert sum(lengths) * 2 / 4 <= shared * (1 + 1e-9)
    assert shared < makespan(lengths, 2, 4, 0.9) < alone


def test_no_more_blocks_start_than_the_gpu_can_start() -> None:
    gpu = load_gpu("h100-sxm")
    many = Launch("many", 1.0, 0.0, 0.0, 0.0, {}, blocks=1 << 20)
    seconds, bound = seconds_at(gpu, many, gpu.clock_hz)
    assert bound == "blocks"
    assert seconds == pytest.approx((1 << 20) / gpu.launch.blocks_hz)
    assert seconds_at(load_gpu("b200"), many, 2e9)[1] != "blocks"


def test_a_window_over_everything_is_no_window() -> None:
    sizes = {"B": 8, "H": 2, "P": 8192, "M": 64, "E": 128}
    kernel = load_kernel("attention-1pass-wgmma")
    wide = predict(H100, kernel, sizes, {"causal": True, "window": 8192})
    assert wide.latency_s == predict(H100, kernel, sizes, {"causal": True}).latency_s


@pytest.mark.parametrize("kernel", ["attention-1pass-wgmma", "attention-2pass-mma"])
def test_leaving_out_blocks_costs_no_time(kernel: str) -> None:
    sizes = {"B": 8, "H": 5, "P": 4000, "M": 500, "E": 64}
    shares = (0.5, 0.9, 0.999, 1.0)
    times = [predict(H100, load_kernel(kernel), sizes, {"kept": s}).latency_s for s in shares]
    assert all(less <= 1.005 * more for less, more in pairwise(times))


def test_softmax_has_no_forms_but_its_own() -> None:
    with pytest.raises(InputError, match="softmax has no form 'held row'") as caught:
        predict(H100, load_kernel("softmax"), {"M": 1024, "N": 2048}, {"form": "held row"})
    assert caught.value.faults[0].allowed == "derived, held, textbook"
