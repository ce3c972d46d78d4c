"""Machines, shapes and constants of the published evaluation, and random ones like them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

from accelsim.explore.estimate import estimate
from accelsim.models.estimate import Estimate

MIB = 2**20
PICO = 1e-12
MAC, ADD, MAX, DIV, EXP = 17.1645, 8.3395, 0.028036, 36.251153, 94.6475
DRAM = 249.6 / 8  # a byte
CLOSE = 1e-6


@dataclass(frozen=True)
class Machine:
    """What the tests vary: array edge, buffer, word, bandwidth and clock."""

    edge: int = 256
    buffer: int = 16 * MIB
    word: int = 2
    bandwidth: float = 400.0 * 2**30
    clock: float = 940e6

    @property
    def sets(self) -> list[str]:
        return [
            f"edge={self.edge}",
            f"buffer.capacity={self.buffer} B",
            f"word={8 * self.word} bit",
            f"dram.bandwidth={self.bandwidth!r} B/s",
            f"clock={self.clock!r} Hz",
        ]


@dataclass(frozen=True)
class Shape:
    """Sizes of attention."""

    B: int
    H: int
    P: int
    M: int
    E: int
    F: int

    @property
    def sizes(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in "BHPMEF"}

    @property
    def scores(self) -> int:
        return self.B * self.H * self.M * self.P


def priced(design: str, machine: Machine, shape: Shape, **choose: str | int) -> Estimate:
    return estimate(design=design, shape=shape.sizes, sets=machine.sets, choose=choose)


def close(ours: float, theirs: float) -> bool:
    return ours == pytest.approx(theirs, rel=CLOSE, abs=1e-30)


def largest_divisor(n: int, limit: float) -> int:
    return max((d for d in range(1, n + 1) if n % d == 0 and d <= limit), default=0)


heads = st.builds(
    lambda b, h: (b, h), st.sampled_from([1, 2, 64]), st.sampled_from([1, 3, 8, 12, 16, 40])
)
machines = st.builds(
    Machine,
    edge=st.sampled_from([64, 128, 256, 512]),
    buffer=st.sampled_from([1, 2, 4, 8, 16, 24, 32, 128]).map(lambda n: n * MIB),
    word=st.sampled_from([1, 2, 4]),
    bandwidth=st.sampled_from([5e9, 50.0 * 2**30, 400.0 * 2**30, 3.35e12]),
    clock=st.sampled_from([500e6, 940e6, 1.8e9]),
)


@st.composite
def shapes(draw: st.DrawFn, edge: int) -> Shape:
    """Shapes whose lengths are multiples of the edge, M of at least two tiles; P and M apart."""
    b, h = draw(heads)
    lengths = st.one_of(st.integers(1, 40), st.sampled_from([64, 256, 4096]))
    wide = st.sampled_from([16, 32, 64, 80, 96, 128, 256])
    return Shape(
        b, h, draw(lengths) * edge, draw(st.integers(2, 64)) * edge, draw(wide), draw(wide)
    )
