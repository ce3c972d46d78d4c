"""Time of one prediction of a GPU kernel, printed."""

from __future__ import annotations

import time

import pytest

from accelsim.explore.estimate_gpu import estimate_kernel

CASES = [
    ("attention-1pass-wgmma", "B=1,H=16,M=16384,P=16384,E=128", "causal=true"),
    ("flash-attention-2", "B=4,H=32,M=65536,P=65536,E=64", "causal=true"),
    ("attention-3pass-mma", "B=1,H=16,M=16384,P=16384,E=128", "causal=true"),
    ("cublas-gemm", "M=8192,N=8192,K=8192", "dtype=bf16"),
    ("decode-split", "B=64,H=32,HK=8,M=8192,E=128", "bits=4"),
    ("softmax", "M=8192,N=8192", "form=held"),
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
