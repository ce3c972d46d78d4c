"""Predictions of every described kernel on every GPU file, at sizes that nobody measured.

No nonsense: positive and finite, never faster than the data sheet allows,
within the cap and the clock, and no faster for more work than a tile or a
launch that falls away explains.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.explore.estimate_gpu import Value, predict
from accelsim.ir.gpu import TENSOR_PATHS, Gpu
from accelsim.ir.kernel import KernelDescriptor
from accelsim.load import catalog
from accelsim.load.gpu import load_gpu
from accelsim.load.kernel import load_kernel
from accelsim.models.gpu_estimate import KernelEstimate

GPUS = ("h100-sxm", "h200-sxm", "a100-sxm", "rtx4090", "b200")
Asked = tuple[dict[str, int], dict[str, Value]]
LENGTHS = st.one_of(
    st.sampled_from([1, 2, 63, 64, 65, 127, 128, 129, 1024, 4096, 65536, 1_000_000]),
    st.integers(1, 5000),
)


@st.composite
def attention(draw: st.DrawFn, kernel: KernelDescriptor) -> Asked:
    """Attention in any form: sizes and options that its family has."""
    heads = draw(st.sampled_from([1, 2, 8, 12, 64]))
    keys = draw(LENGTHS)
    sizes = {"B": draw(st.sampled_from([1, 3, 64])), "H": heads, "M": keys}
    sizes["E"] = draw(st.sampled_from([64, 96, 128, 80]))
    options: dict[str, Value] = {}
    family = kernel.family
    if family in ("attention", "unfused", "estimation", "linear-full"):
        sizes["P"] = draw(st.sampled_from([keys, draw(LENGTHS)]))
    if family not in ("linear", "linear-full"):
        sizes["HK"] = draw(st.sampled_from([n for n in (1, 2, 4, heads) if heads % n == 0]))
    if family in ("attention", "unfused", "estimation"):
        options["causal"] = draw(st.booleans())
    if family == "attention" and options["causal"]:
        options["offset"] = draw(st.sampled_from([0, 5, max(0, keys - sizes["P"])]))
        options["window"] = draw(st.sampled_from([0, 1, 100, 4096, 2_000_000]))
    if family == "attention" and not kernel.split_tiles:
        options["kept"] = draw(st.sampled_from([1.0, 1.0, 1e-6, 0.1, 0.9]))
    if family in ("decode", "estimation"):
        options["bits"] = draw(st.sampled_from(kernel.widths))
    return sizes, options


@st.composite
def grids(draw: st.DrawFn, kernel: KernelDescriptor) -> Asked:
    """Neighbourhood attention in one or two dimensions."""
    sizes = {"B": draw(st.integers(1, 4)), "H": draw(st.sampled_from([1, 2, 16]))}
    sizes["E"] = draw(st.sampled_from([64, 96, 128]))
    for name in draw(st.sampled_from(["X", "XY"])):
        size = draw(LENGTHS if name == "X" and "Y" not in sizes else st.integers(1, 200))
        if name == "Y":
            sizes["X"] = min(sizes["X"], 300)
            sizes["WX"] = min(sizes["WX"], sizes["X"])
            sizes["SX"] = min(sizes["SX"], sizes["WX"])
        window = draw(st.one_of(st.integers(1, size), st.just(size)))
        stride = draw(st.one_of(st.just(1), st.integers(1, window)))
        sizes |= {name: size, f"W{name}": window, f"S{name}": stride}
    return sizes, {}


@st.composite
def requests(draw: st.DrawFn, kernel: KernelDescriptor) -> Asked:
    """What a kernel may be asked."""
    family = kernel.family
    if family == "neighbourhood":
        sizes, options = draw(grids(kernel))
    elif family in ("gemm", "rows", "copy", "gemv"):
        names = {"gemm": "MNK", "gemv": "NK"}.get(family, "MN")
        sizes, options = {name: draw(LENGTHS) for name in names}, {}
        if family == "rows":
            options["form"] = draw(st.sampled_from(kernel.forms))
        if family == "gemv":
            options["format"] = draw(st.sampled_from(["int4", "int3", "int2", "ternary"]))
    else:
        sizes, options = draw(attention(kernel))
    if family not in ("gemv", "estimation"):
        options["dtype"] = draw(st.sampled_from(kernel.kinds))
    return sizes, options


def pairs(sizes: dict[str, int], options: dict[str, Value]) -> float:
    """Fewest pairs of query and key that are seen, rounded down where there is a mask."""
    queries, keys = sizes["P"], sizes["M"]
    kept = float(options.get("kept", 1.0))
    if options.get("window") or kept < 1:
        return 0.0  # a list keeps a tile at least: not bounded from here
    if not options.get("causal"):
        return float(queries * keys)
    offset, whole = int(options.get("offset", 0)), 0
    first = max(0, min(queries, keys - offset))  # queries that see a triangle, then all keys
    whole = first * offset + first * (first + 1) // 2
    return float(min(whole, first * keys) + (queries - first) * keys)


def least_work(kernel: KernelDescriptor, asked: Asked) -> tuple[float, float]:
    """FLOP of tensor cores, and bytes that must move where L2 cannot hold them."""
    sizes, options = asked
    s, family = sizes, kernel.family
    if family in ("rows", "copy"):
        return 0.0, 4.0 * s["M"] * s["N"]
    if family == "gemm":
        small = 1.0 if options["dtype"] in ("s8", "e4m3") else 2.0
        moved = small * s["K"] * (s["M"] + s["N"]) + 2.0 * s["M"] * s["N"]
        return 2.0 * s["M"] * s["N"] * s["K"], moved
    if family == "gemv":
        return 0.0, s["N"] * s["K"] * 1.6 / 8
    each = float(s["B"] * s["H"] * s["E"])
    if family == "neighbourhood":
        places = s["X"] * s.get("Y", 1)
        return 4.0 * each * places * s["WX"] * s.get("WY", 1), 8.0 * each * places
    if family == "decode":
        return 0.0, 2.0 * s["B"] * s["HK"] * s["M"] * s["E"] * int(options["bits"]) / 8
    if family == "estimation":
        return 2.0 * each * pairs(s, options), each * s["P"] * int(options["bits"]) / 8
    if family in ("linear", "linear-full"):  # of its largest launch
        return 0.0, 4.0 * each * max(s["M"], s.get("P", s["M"]))
    return 4.0 * each * pairs(s, options), 4.0 * each * s["P"]


def roofline(gpu: Gpu, kernel: KernelDescriptor, asked: Asked) -> float:
    """Seconds that the data sheet allows no kernel to be under."""
    work, moved = least_work(kernel, asked)
    kind = str(asked[1].get("dtype", kernel.kinds[0]))
    rates = dict(gpu.tensor)
    faster = max(
        (rates[f"{path}.{kind}"] / rates[f"{path}.bf16"] for path in TENSOR_PATHS
         if f"{path}.{kind}" in rates),
        default=1.0,
    )  # fmt: skip
    rate = gpu.sheet_flops * max(1.0, faster, 2.0 * (kind in ("s8", "e4m3")))
    return max(work / rate, moved / gpu.sheet_bandwidth if moved > gpu.l2_bytes else 0.0)


def priced(name: str, gpu: Gpu, asked: Asked) -> KernelEstimate | None:
    """The prediction; None where it is refused, which takes a reason that a user can act on."""
    try:
        return predict(gpu, load_kernel(name), *asked)
    except InputError as error:
        text = str(error)
        reasons = ("of memory, ", " has none", "registers a thread", "of shared memory, ")
        assert any(reason in text for reason in reasons), text
        return None


KERNELS = catalog.names("kernel")
TILES = ("rows", "columns", "warps", "depth", "row_tiles", "blocks", "stages", "height")


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=12)
@given(data=st.data())
def test_no_nonsense(name: str, data: st.DataObject) -> None:
    kernel = load_kernel(name)
    gpu = load_gpu(data.draw(st.sampled_from(GPUS)))
    asked = data.draw(requests(kernel))
    found = priced(name, gpu, asked)
    if found is None:
        return
    told: dict[str, Any] = found.to_dict()
    for key in ("latency_s", "dram_bytes", "l2_bytes", "energy_j", "sm_hz", "sustained_s"):
        assert 0 < told[key] < math.inf, (key, asked)
    for one in found.launches:
        assert min(one.timed.seconds, one.dram_bytes, one.launch.cycles) >= 0, asked
        assert min(one.launch.operations.values(), default=0) >= 0, asked
    assert told["power_w"] <= gpu.power.cap_w * 1.0001, asked
    assert told["sm_hz"] <= gpu.clock_hz * 1.0001, asked
    least = roofline(gpu, kernel, asked)
    assert found.latency_s >= least * 0.999, asked
    assert found.sustained_s >= least * 0.999, asked


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=12)
@given(data=st.data())
def test_more_work_takes_no_less_time(name: str, data: st.DataObject) -> None:
    """Twice and more of a length, of the batch or of the heads.

    Where launches fall away (keys are split over blocks, and positions over
    segments, only where there is little else to do) the longest is left to
    compare with; the choice of splits itself may cost a quarter.
    """
    kernel = load_kernel(name)
    gpu = load_gpu(data.draw(st.sampled_from(GPUS)))
    sizes, options = data.draw(requests(kernel))
    grown = data.draw(st.sampled_from([n for n in "BHMPNKX" if n in sizes]))
    more = dict(sizes) | {grown: sizes[grown] * 2 + (512 if grown not in "BH" else 0)}
    if grown == "H" and "HK" in more:
        more["HK"] *= 2
    before, after = priced(name, gpu, (sizes, options)), priced(name, gpu, (more, options))
    if before is None or after is None:
        return
    least = before.latency_s
    if len(after.launches) < len(before.launches):
        least = max(one.timed.seconds for one in before.launches)
    splits = kernel.family == "decode" or bool(kernel.split_tiles)
    share = 0.75 if splits else 0.9
    assert after.latency_s >= share * least, (grown, sizes, options)
    if len(after.launches) >= len(before.launches):
        assert after.l2_bytes >= share * before.l2_bytes, (grown, sizes, options)


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=8)
@given(data=st.data())
def test_any_tile_has_a_price_or_a_reason(name: str, data: st.DataObject) -> None:
    kernel, gpu = load_kernel(name), load_gpu(data.draw(st.sampled_from(GPUS)))
    sizes, options = data.draw(requests(kernel))
    fields = st.dictionaries(st.sampled_from(TILES), st.integers(1, 300), max_size=4)
    try:
        told = predict(gpu, kernel, sizes, options, data.draw(fields)).to_dict()
    except InputError:
        return
    for key in ("latency_s", "dram_bytes", "l2_bytes", "energy_j", "sm_hz"):
        assert 0 < told[key] < math.inf, key
