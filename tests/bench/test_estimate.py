"""How long prices take in process, on one core: ``make bench`` prints them.

Each figure is processor time, the least of several runs: what else the machine
does can only add to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from accelsim.explore.estimate import bind, estimate
from accelsim.models.estimate import estimate as price

pytestmark = pytest.mark.bench

DESIGNS = ("fusemax", "fusemax-architecture", "fusemax-cascade", "flat", "unfused")
MODELS = ("BERT", "TrXL", "T5-small", "XLM")
LENGTHS = ("1K", "4K", "16K", "64K", "256K", "1M")


def least(what: Callable[[], object], times: int) -> float:
    """Seconds of the fastest of several runs, after one that is not counted."""
    what()
    found = []
    for _ in range(times):
        begin = time.process_time()
        what()
        found.append(time.process_time() - begin)
    return min(found)


@pytest.mark.parametrize("design", DESIGNS)
def test_one_estimate_of_a_given_mapping(design: str) -> None:
    """At most 2 ms, with the mapping bound and without."""
    bound = bind(design=design, model="BERT", seq="4K")
    alone = least(lambda: price(*bound), 50)
    whole = least(lambda: estimate(design=design, model="BERT", seq="4K"), 50)
    print(f"\n{design}: priced in {alone * 1e3:.2f} ms, from names in {whole * 1e3:.2f} ms")
    assert alone <= 2e-3


def test_all_designs_models_and_lengths() -> None:
    """Under half a second."""

    def grid() -> None:
        for design in DESIGNS:
            for model in MODELS:
                for seq in LENGTHS:
                    estimate(design=design, model=model, seq=seq)

    seconds = least(grid, 3)
    print(f"\n{len(DESIGNS) * len(MODELS) * len(LENGTHS)} estimates in {seconds * 1e3:.0f} ms")
    assert seconds < 0.5


def test_a_machine_of_its_own() -> None:
    """An override makes the architecture anew: the file is read, checked and parsed."""
    clocks = iter(range(940_000_000, 950_000_000))

    def anew() -> None:
        estimate(design="fusemax", model="BERT", seq="4K", sets=[f"clock={next(clocks)} Hz"])

    print(f"\nwith a machine of its own: {least(anew, 10) * 1e3:.1f} ms")
