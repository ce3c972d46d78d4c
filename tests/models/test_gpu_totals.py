"""Totals of kernels that are several launches, and what a launch's text says of its split."""

from __future__ import annotations

import pytest

from accelsim.explore.estimate_gpu import estimate_kernel

KERNELS = {
    "decode-split": "B=1,H=32,HK=8,M=64K,E=128,F=128",
    "linear-attention": "B=1,H=16,P=8K,M=8K,E=64,F=64",
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_clock_of_several_launches_lies_between_theirs(name: str) -> None:
    found = estimate_kernel(name, arch="h100-sxm", shape=KERNELS[name])
    assert len(found.launches) > 1
    clocks = [one.displayed_hz for one in found.launches]
    assert min(clocks) * (1 - 1e-9) <= found.sm_hz <= max(clocks) * (1 + 1e-9)
    assert found.latency_s > max(one.timed.seconds for one in found.launches)


def test_a_split_product_says_so_and_is_reduced() -> None:
    seen = set()
    for shape in ("M=64,N=256,K=65536", "M=8192,N=8192,K=4096"):
        launches = estimate_kernel("cublas-gemm", arch="h100-sxm", shape=shape).launches
        split = "split" in launches[0].launch.shape
        assert split is (len(launches) > 1)
        assert (launches[0].launch.write_bytes == 0) is split
        seen.add(split)
    assert seen == {True, False}
