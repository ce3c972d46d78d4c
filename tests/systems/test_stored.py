"""Formats and densities of a document in ``estimate``, on an array and on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelsim.explore.estimate_cascade import estimate_cascade
from tests.systems.test_variant import HEAD as ONE_PASS_HEAD
from tests.systems.test_variant import ONE_PASS

HEAD = """cascade: mine
ranks: [B, H, P, M, E, F]
inputs: {Q: [B, H, P, E], K: [B, H, M, E], V: [B, H, M, F]}
output: AV
"""
BODY = """einsums:
  - QK[b,h,m,p] = Q[b,h,p,e] * K[b,h,m,e]
  - GM[b,h,p]   = QK[b,h,m,p] :: max(m)
  - SN[b,h,m,p] = exp(QK[b,h,m,p] - GM[b,h,p])
  - SD[b,h,p]   = SN[b,h,m,p]
  - AN[b,h,p,f] = SN[b,h,m,p] * V[b,h,m,f]
  - AV[b,h,p,f] = AN[b,h,p,f] / SD[b,h,p]
"""
FOUR = "formats: {K: int4-g128, V: int4-g128}\n"
SIZES = "B=1,H=16,M=16384,P={},E=128,F=128"
KEYS = 2 * 16 * 16384 * 128


def on_h100(tmp_path: Path, text: str, queries: int):
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    return estimate_cascade(file, arch="h100-sxm", shape=SIZES.format(queries))


def test_a_fused_prefill_reads_fewer_bytes_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    plain = on_h100(tmp_path, HEAD + "equals: attention\n" + BODY, 16384)
    small = on_h100(tmp_path, HEAD + "equals: attention\n" + FOUR + BODY, 16384)
    assert small.kernel == plain.kernel
    read = [found.launches[0].launch.read_bytes for found in (plain, small)]
    assert read[0] - read[1] == pytest.approx(KEYS * (16 - 4.15625) / 8)
    assert small.energy_j < plain.energy_j
    assert dict(small.problem)["taken"] == (
        "fewer bytes of K, V; unpacking them is not counted"
    )  # fmt: skip


def test_a_decoding_step_runs_in_the_kernel_of_that_width(tmp_path: Path) -> None:
    scores = "einsums:\n  - QK[b,h,j,m0,p]  = Q[b,h,p,e] * K[b,h,j,m0,e]\n"
    head = ONE_PASS_HEAD + "equals: attention\n"
    plain = on_h100(tmp_path, head + scores + ONE_PASS, 1)
    small = on_h100(tmp_path, head + FOUR + scores + ONE_PASS, 1)
    assert small.kernel == plain.kernel == "decode-split"
    assert small.dram_bytes < plain.dram_bytes * 0.3
    assert small.latency_s < plain.latency_s * 0.6


def test_einsum_by_einsum_formats_and_densities_count(tmp_path: Path) -> None:
    masked = BODY.replace("K[b,h,m,e]\n", "K[b,h,m,e] where KEEP[p,m]\n")
    head = HEAD.replace("V: [B, H, M, F]", "V: [B, H, M, F], KEEP: [P, M]")
    share = "density: {KEEP: {value: 0.25, source: assumed}}\n"
    every = on_h100(tmp_path, head + masked, 4096)
    some = on_h100(tmp_path, head + share + masked, 4096)
    assert some.dram_bytes < every.dram_bytes * 0.5
    assert some.latency_s < every.latency_s * 0.6
    small = on_h100(tmp_path, head + share + FOUR + masked, 4096)
    assert some.dram_bytes - small.dram_bytes == pytest.approx(KEYS * (16 - 4.15625) / 8, rel=0.01)
