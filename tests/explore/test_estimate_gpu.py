"""Described kernels: what may be asked, what is refused and in which words, what comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accelsim.errors import InputError
from accelsim.explore.estimate import batch
from accelsim.explore.estimate_gpu import estimate_kernel
from accelsim.load import catalog
from accelsim.load.gpu import load_gpu
from accelsim.load.kernel import kernel_from, load_kernel
from accelsim.load.source import from_text

SHAPES = {
    "attention": "B=1,H=16,M=4096,P=4096,E=128,F=128",
    "unfused": "B=1,H=16,M=2048,P=2048,E=64,F=64",
    "decode": "B=8,H=32,HK=8,M=8192,E=128",
    "gemm": "M=4096,N=4096,K=4096",
    "rows": "M=8192,N=4096",
    "copy": "M=8192,N=4096",
    "linear": "B=1,H=16,M=16384,E=128",
    "linear-full": "B=1,H=16,M=16384,E=128",
    "neighbourhood": "B=1,H=16,Y=64,WY=13,X=64,WX=13,E=64",
    "estimation": "B=1,H=16,M=4096,P=4096,E=128",
    "gemv": "N=4096,K=4096",
}
KERNELS = catalog.names("kernel")


def asked(name: str, *sets: str, arch: str = "h100-sxm", shape: str | None = None) -> object:
    family = load_kernel(name).family
    return estimate_kernel(name, arch=arch, shape=shape or SHAPES[family], sets=sets)


@pytest.mark.parametrize("name", KERNELS)
def test_every_described_kernel_has_a_price(name: str) -> None:
    arch = "b200" if load_kernel(name).path == "tcgen05" else "h100-sxm"
    found = asked(name, arch=arch).to_dict()  # type: ignore[attr-defined]
    for key in ("latency_s", "dram_bytes", "l2_bytes", "energy_j", "sm_hz", "sustained_s"):
        assert found[key] > 0, key
    assert found["latency_s"] > 3.8e-6
    assert found["power_w"] <= load_gpu(arch).power.cap_w * 1.000002
    assert found["launches"][0]["tile"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("arch", ["a100-sxm", "rtx4090", "b200", "h200-sxm"])
def test_other_gpus(arch: str) -> None:
    for name in ("flash-attention-2", "torch-copy", "decode-split", "softmax"):
        found = asked(name, arch=arch).to_dict()  # type: ignore[attr-defined]
        assert found["latency_s"] > 0


def latency(name: str, *sets: str, **more: str) -> float:
    return asked(name, *sets, **more).latency_s  # type: ignore[attr-defined,no-any-return]


def test_more_memory_bandwidth_helps_what_memory_bounds_alone() -> None:
    faster = "memory.reads=10 TB/s", "memory.copies=10 TB/s"
    assert latency("torch-copy", *faster) < 0.7 * latency("torch-copy")
    name = "attention-1pass-wgmma"
    assert 0.99 < latency(name, *faster) / latency(name) <= 1  # what its first blocks wait for
    assert latency("torch-copy", arch="h200-sxm") < 0.8 * latency("torch-copy")


def test_options_of_a_kernel_and_fields_of_its_tile() -> None:
    name = "attention-1pass-wgmma"
    assert latency(name, "causal=true") < latency(name)
    assert latency(name, "causal=true", "window=256") < latency(name, "causal=true")
    assert latency(name, "keys=64") != latency(name)
    assert latency("decode-split", "bits=4") < latency("decode-split", "bits=16")
    long = {"shape": "M=1024,N=65536"}
    assert latency("softmax", "form=textbook", **long) > latency("softmax", "form=held", **long)
    assert latency("cublas-gemm", "dtype=e4m3") < latency("cublas-gemm")


REFUSED = [
    ("softmax", {"shape": "M=8"}, "softmax needs N="),
    ("softmax", {"shape": "M=8,N=8,Z=3"}, "softmax has no rank Z"),
    ("softmax", {"arch": "teaching"}, "teaching is no GPU"),
    ("softmax", {"sets": ["form=best"]}, "softmax has no form 'best'"),
    ("softmax", {"sets": ["causal=true"]}, "softmax has no option 'causal'"),
    ("softmax", {"sets": ["memory.speed=3"]}, "memory.speed names nothing in the file"),
    ("softmax", {"sets": ["dtype=e4m3"]}, "softmax has no dtype 'e4m3'"),
    ("flash-attention-2", {"sets": ["causal=maybe"]}, "causal cannot be 'maybe'"),
    ("flash-attention-2", {"sets": ["window=-1"]}, "window cannot be -1"),
    ("flash-attention-2", {"sets": ["window=8"]}, "a window needs a causal mask"),
    ("flash-attention-2", {"sets": ["kept=2"]}, "kept cannot be 2"),
    ("flash-attention-2", {"sets": ["keys=0"]}, "keys cannot be '0'"),
    ("flash-attention-2", {"sets": ["stages=9"]}, "needs 320 KiB of shared memory, h100-sxm has"),
    (
        "flash-attention-2",
        {"sets": ["keys=512"]},
        "a tile of 128 x 512 needs 656 registers a thread",
    ),
    (
        "attention-1pass-wgmma",
        {"sets": ["warps=6"]},
        "6 warps on wgmma, which takes them by four",
    ),
    (
        "linear-attention-full",
        {"shape": "B=1,H=1,M=64,E=2048"},
        "a block of 64 x 128 needs 1024 KiB of shared memory",
    ),
    (
        "score-estimation",
        {"sets": ["queries=4096"]},
        "a block of 4096 x 128 needs 528 KiB of shared memory",
    ),
    ("attention-1pass-wgmma", {"sets": ["keys=128"]}, "needs 186 registers a thread of the 160"),
    (
        "torch-copy",
        {"shape": "M=1Mi,N=64Ki"},
        "torch-copy needs 256 GiB of memory, h100-sxm has 85 GB",
    ),
    (
        "attention-3pass-mma",
        {"shape": "B=64,H=64,M=16384,P=16384,E=64"},
        "attention-3pass-mma needs",
    ),
    (
        "flash-attention-2",
        {"shape": "B=1,H=6,HK=4,M=8,P=8,E=64"},
        "6 query heads do not share 4 key heads",
    ),
    (
        "cudnn-attention",
        {"arch": "a100-sxm"},
        "cudnn-attention needs wgmma.bf16, a100-sxm has none",
    ),
    ("decode-split", {"sets": ["bits=3"]}, "decode-split reads no cache of 3 bits"),
    ("gemv", {"sets": ["format=int5"]}, "gemv has no format 'int5'"),
    ("no-such-kernel", {}, "unknown kernel 'no-such-kernel'"),
]


@pytest.mark.parametrize(("name", "changed", "message"), REFUSED, ids=lambda x: str(x)[:28])
def test_refusals(name: str, changed: dict[str, object], message: str) -> None:
    family = load_kernel(name).family if name in KERNELS else "rows"
    given: dict[str, object] = {"arch": "h100-sxm", "shape": SHAPES[family], **changed}
    with pytest.raises(InputError) as caught:
        estimate_kernel(name, **given)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_kernel_needs_a_gpu() -> None:
    with pytest.raises(InputError, match="softmax needs a GPU"):
        estimate_kernel("softmax", shape="M=8,N=8")


def test_batch_answers_one_line_a_request_in_order(tmp_path: Path) -> None:
    requests = [
        {"kernel": "torch-copy", "arch": "h100-sxm", "shape": "M=64,N=64"},
        {"kernel": "torch-copy", "arch": "h100-sxm", "shape": {"M": 8192, "N": 8192}},
        {"kernel": "torch-copy", "arch": "h100-sxm", "shape": "M=64"},
        {"kernel": "torch-copy", "arch": "h100-sxm", "shape": "M=64,N=64", "seq": 3},
        {"kernel": "decode-split", "arch": "h100-sxm", "shape": SHAPES["decode"],
         "sets": ["bits=4"]},
    ]  # fmt: skip
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(json.dumps(r) for r in requests), encoding="utf-8")
    answers = list(batch(file))
    assert [a.get("kernel") for a in answers] == [
        "torch-copy", "torch-copy", None, None, "decode-split",
    ]  # fmt: skip
    assert answers[0]["latency_s"] < answers[1]["latency_s"]
    assert "torch-copy needs N=" in answers[2]["faults"][0]
    assert "a kernel is asked without seq" in answers[3]["faults"][0]


DESCRIBED = """\
kernel: mine
family: attention
source: here
path: mma
tiles:
- {rows: 128, columns: 64, warps: 4, row_tiles: 2}
"""


def test_a_descriptor_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(DESCRIBED, encoding="utf-8")
    found = estimate_kernel(file, arch="h100-sxm", shape=SHAPES["attention"])
    assert found.kernel == "mine"


CHANGED = [
    ("source: here\n", "", "'source' is missing"),
    ("path: mma", "path: wmma", "no instructions 'wmma'"),
    ("path: mma", "path: mma\nkinds: [bf17]", "no type 'bf17'"),
    (
        "path: mma",
        "path: mma\nrealises: [{system: sael, stage: all}]",
        "unknown system 'sael'",
    ),
    ("path: mma", "path: mma\nefficiency: 0.8", "unknown field 'efficiency'"),
    ("warps: 4", "warps: 0", "should be greater than or equal to 1, not 0"),
    ("family: attention", "family: fft", "family: should be 'attention'"),
    ("tiles:\n- {rows: 128, columns: 64, warps: 4, row_tiles: 2}\n", "tiles: []\n", "at least 1"),
]


@pytest.mark.parametrize(("old", "new", "message"), CHANGED, ids=lambda x: str(x)[:20])
def test_messages_of_descriptors(old: str, new: str, message: str) -> None:
    assert old in DESCRIBED
    with pytest.raises(InputError) as caught:
        kernel_from(from_text(DESCRIBED.replace(old, new), "mine.yaml"))
    assert message in str(caught.value)
    assert "mine.yaml:" in str(caught.value)


@pytest.mark.parametrize("name", KERNELS)
def test_descriptors_say_where_they_come_from_and_hold_no_times(name: str) -> None:
    kernel = load_kernel(name)
    assert kernel.name == name
    assert len(kernel.source) > 10
    assert kernel.about


def test_a_prediction_says_which_stages_of_systems_it_is_of() -> None:
    def systems(name: str, *sets: str) -> set[str]:
        found = asked(name, *sets).to_dict()  # type: ignore[attr-defined]
        return {one["system"] for one in found["realises"]}

    assert systems("score-estimation", "bits=4") == {"sale"}
    assert systems("score-estimation") == set()
    plain = systems("attention-1pass-wgmma", "causal=true")
    assert {"flash-attention", "duo-attention"} <= plain
    kept = systems("attention-1pass-wgmma", "causal=true", "kept=0.2")
    assert {"sale", "s2-attention"} <= kept
    assert not plain & kept
    assert "hip" in systems("attention-1pass-mma", "causal=true", "kept=0.2")
    assert systems("attention-1pass-wgmma", "causal=true", "window=64") == {"duo-attention"}
    assert systems("decode-split", "bits=4") == {"zipcache"}
    assert systems("neighbourhood") == {"fna"}
    strided = estimate_kernel(
        "neighbourhood", arch="h100-sxm", shape="B=1,H=2,X=4096,WX=256,SX=64,E=64"
    )
    assert [one["system"] for one in strided.to_dict()["realises"]] == ["gna"]


def test_neighbourhoods_that_the_grid_has_no_room_for() -> None:
    for shape, message in (
        ("B=1,H=1,X=64,WX=65,E=64", "a window of 65 along 64 positions of X"),
        ("B=1,H=1,X=64,WX=8,Y=4,WY=5,E=64", "a window of 5 along 4 positions of Y"),
        ("B=1,H=1,X=64,WX=8,SX=9,E=64", "a stride of 9 along X for a window of 8"),
    ):
        with pytest.raises(InputError) as caught:
            estimate_kernel("neighbourhood", arch="h100-sxm", shape=shape)
        assert message in str(caught.value)
    with pytest.raises(InputError, match="128 queries and 64 keys in 5 rows"):
        estimate_kernel(
            "neighbourhood", arch="h100-sxm", shape=SHAPES["neighbourhood"], sets=["height=5"]
        )
    with pytest.raises(InputError, match="score-estimation reads no numbers of 3 bits"):
        estimate_kernel(
            "score-estimation", arch="h100-sxm", shape=SHAPES["estimation"], sets=["bits=3"]
        )
