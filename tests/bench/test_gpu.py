"""Time of one prediction of a GPU kernel, and of many from a file, start-up included; printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from accelsim.explore.estimate_gpu import estimate_kernel

CASES = [
    ("attention-1pass-wgmma", "B=1,H=16,M=16384,P=16384,E=128", "causal=true"),
    ("flash-attention-2", "B=4,H=32,M=65536,P=65536,E=64", "causal=true"),
    ("attention-3pass-mma", "B=1,H=16,M=16384,P=16384,E=128", "causal=true"),
    ("cublas-gemm", "M=8192,N=8192,K=8192", "dtype=bf16"),
    ("decode-split", "B=64,H=32,HK=8,M=8192,E=128", "bits=4"),
    ("softmax", "M=8192,N=8192", "form=held"),
    ("neighbourhood", "B=1,H=24,Y=128,X=128,WY=33,WX=33,E=64", "dtype=bf16"),
    ("neighbourhood", "B=1,H=24,X=65536,WX=2048,SX=256,E=128", "dtype=bf16"),
    ("linear-attention-full", "B=1,H=16,M=65536,E=128", "dtype=bf16"),
    ("score-estimation", "B=1,H=32,M=65536,P=65536,E=128", "bits=4"),
]


@pytest.mark.bench
@pytest.mark.parametrize(("kernel", "shape", "option"), CASES)
def test_one_prediction(kernel: str, shape: str, option: str) -> None:
    estimate_kernel(kernel, arch="h100-sxm", shape=shape, sets=[option])
    start = time.perf_counter()
    for _ in range(20):
        found = estimate_kernel(kernel, arch="h100-sxm", shape=shape, sets=[option])
    each = (time.perf_counter() - start) / 20
    print(f"{kernel} {shape}: {each * 1e3:.2f} ms, {found.latency_s * 1e6:.1f} us predicted")
    assert found.latency_s > 0


@pytest.mark.bench
@pytest.mark.parametrize("count", [200, 2000])
def test_a_batch_of_predictions(count: int, tmp_path: Path) -> None:
    lengths = [512 << (number % 8) for number in range(count)]
    shapes = [
        ("attention-1pass-wgmma", "B={1},H=16,M={0},P={0},E=128,F=128"),
        ("flash-attention-2", "B={1},H=16,M={0},P={0},E=64,F=64"),
        ("cublas-gemm", "M={0},N=4096,K={1}000"),
        ("decode-split", "B={1},H=32,HK=8,M={0},E=128"),
        ("neighbourhood", "B=1,H=16,X={0},WX=1{1},E=128"),
    ]
    lines = [
        {"kernel": kernel, "arch": "h100-sxm", "shape": shape.format(length, 1 + number % 7)}
        for number, length in enumerate(lengths)
        for kernel, shape in [shapes[number % len(shapes)]]
    ]
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    command = [sys.executable, "-m", "accelsim", "estimate", "--batch", str(file)]
    start, before = time.perf_counter(), os.times().children_user
    answers = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - start
    own = os.times().children_user - before
    print(f"{count} requests, start-up included: {seconds:.2f} s, {own:.2f} s of a processor")
    assert len(answers.splitlines()) == count
