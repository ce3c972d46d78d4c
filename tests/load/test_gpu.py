"""GPU files: what is refused and in which words, sources, overrides."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import pytest

from accelsim.errors import InputError
from accelsim.explore.canonical import yaml_text
from accelsim.ir.gpu import LANE_OPERATIONS
from accelsim.load import catalog
from accelsim.load.arch import load_architecture
from accelsim.load.gpu import gpu_from, load_gpu
from accelsim.load.source import from_text, read

GPUS = sorted(p for p in catalog.files("arch").values() if p.parent.name == "gpu")
H100 = catalog.find("arch", "h100-sxm")


@pytest.mark.parametrize("path", GPUS, ids=lambda p: p.stem)
def test_every_shipped_number_has_a_source_in_words(path: Path) -> None:
    gpu = load_gpu(path)
    assert gpu.name == path.stem
    for field, source in gpu.sources:
        assert len(source) > 10, f"{field}: {source!r}"
    assert {"clock", "memory.reads", "operations.ex2", "power.cap"} <= {f for f, _ in gpu.sources}
    assert set(dict(gpu.operations)) == set(LANE_OPERATIONS)
    assert gpu.tensor_rate("mma", "bf16")


def test_canonical_text_is_the_same_gpu() -> None:
    document = read(H100)
    assert gpu_from(from_text(yaml_text(document.value))) == gpu_from(document)


#: A line of the shipped file, what stands there instead, and what is said of it.
CHANGED = [
    (
        "multiprocessors: {value: 132, source: device}",
        "multiprocessors: 132",
        "multiprocessors has no source",
    ),
    ("clock: {value: 1.98 GHz", "clock: {value: 1.98", "a number without a unit: '1.98'"),
    ("clock: {value: 1.98 GHz", "clock: {value: 0 GHz", "clock is 0\n"),
    ("ex2: {value: 16,", "exp: {value: 16,", "operations has no 'exp'"),
    ("ex2: {value: 16,", "exp: {value: 16,", "no rate of ex2\n"),
    ("  wgmma:\n    bf16: {value: 4096", "  wmma:\n    bf16: {value: 4096", "tensor has no 'wmma'"),
    ("s8: {value: 5460,", "s4: {value: 5460,", "tensor.mma has no 's4'"),
    ("shared: {value: 8.726 pJ", "lds: {value: 8.726 pJ", "energy.bytes has no 'lds'"),
    ("basis: measured", "basis: guessed", "basis: should be 'measured' or 'data sheet'"),
    ("capacity: {value: 52428800 B", "size: {value: 52428800 B", "l2: unknown field 'size'"),
    ("cap: {value: 700 W", "cap: {value: -700 W", "a negative quantity: '-700 W'"),
    ("clock: 1.76 GHz", "clock: 1.76 W", "'W' is a unit of watts, not of hertz"),
]


@pytest.mark.parametrize(("old", "new", "message"), CHANGED, ids=lambda x: x[:24])
def test_messages(old: str, new: str, message: str) -> None:
    text = H100.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(InputError) as caught:
        gpu_from(from_text(text.replace(old, new, 1), "h.yaml"))
    found = str(caught.value)
    assert message in found + "\n"
    assert "h.yaml:" in found


def test_faults_are_told_together() -> None:
    text = H100.read_text(encoding="utf-8").replace("ex2: {value: 16,", "ex2: {value: 16 W,")
    text = text.replace("cap: {value: 700 W,", "cap: {value: 700,")
    with pytest.raises(InputError) as caught:
        gpu_from(from_text(text, "h.yaml"))
    assert len(caught.value.faults) == 2


def test_override_of_a_field_and_of_none() -> None:
    assert load_gpu("h100-sxm", ["clock=1 GHz"]).clock_hz == 1e9
    assert load_gpu("h100-sxm", ["operations.ex2=32"]).rate("ex2") == 32
    with pytest.raises(InputError, match="names nothing in the file"):
        load_gpu("h100-sxm", ["operations.tan=1"])


def test_a_gpu_is_no_spatial_array_and_the_other_way_round() -> None:
    with pytest.raises(InputError, match="h100-sxm is a GPU, and what is asked is of a spatial"):
        load_architecture("h100-sxm")
    with pytest.raises(InputError, match="teaching is no GPU"):
        load_gpu("teaching")


def test_mutations_are_refused_or_read_never_more() -> None:
    rng, value = random.Random(1), read(H100).value
    refused = []
    for _ in range(150):
        mutated = copy.deepcopy(value)
        owner = mutated
        while True:
            key = rng.choice(list(owner))
            if not isinstance(owner[key], dict) or not owner[key] or rng.random() < 0.2:
                break
            owner = owner[key]
        owner[key] = rng.choice([None, -1, 0, "", "x", [], {}, "1 W", 1e400, True, {"value": 1}])
        try:
            gpu_from(from_text(yaml_text(mutated)))
        except InputError as error:
            refused.append(error.faults)
    assert len(refused) > 50
    assert all(refused)
