"""Every cascade of a published system, executed and held against its reference to 1e-10."""

from __future__ import annotations

import numpy as np
import pytest

from accelsim.ir.problem import Problem, bind, names
from accelsim.ir.reference import random_inputs, run, truth, whole
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from tests.oracle.shipped import textbook_cascades

SYSTEMS = sorted(set(catalog.names("cascade")) - set(textbook_cascades()))

SIZES = {
    "B": 2,
    "H": 4,
    "HK": 2,
    "E": 6,
    "F": 5,
    "D": 7,
    "R": 3,
    "P": 24,
    "M": 24,
    "M0": 4,
    "P0": 4,
}
#: Window, sinks, chunk; blocks kept near, and their stride; a hidden layer.
SIZES |= {"W": 7, "N": 3, "C": 8, "LB": 2, "VS": 3, "S": 2}
#: A grid of positions, its windows and strides, and a kernel over it.
SIZES |= {"Z": 4, "Y": 8, "X": 10, "WZ": 2, "WY": 3, "WX": 5, "SZ": 2, "SY": 2, "SX": 1}
SIZES |= {"PZ": 4, "PY": 8, "PX": 10, "U": 5, "T": 5}

#: Sizes that a cascade asks for: the first key alone, tiles alike, a smaller grid or kernel.
OWN: dict[str, dict[str, int]] = {
    "zero-tuning": {"N": 1},
    "qkr-layer": {"C": 7, "A": 6},
    "inline-local": {"U": 3, "T": 3},
    "neighbourhood-3d": {"Y": 4, "X": 5, "PY": 4, "PX": 5},
    "lightning-attention-2": {"I": 6, "M0": 6},
    "sale": {"W": 3, "N": 2},
    "sea": {"H": 2, "L": 2, "R": 4, "C": 3, "D": 6, "A": 4, "N": 8, "G": 4, "U": 3, "T": 3, "S": 6}
    | {"X": 16},
    "hip": {"P": 32, "M": 32, "P0": 4, "M0": 2, "R": 4, "C": 2, "Z": 8, "X": 4},
    "block-topk": {"R": 4},
    "quest": {"G": 2, "R": 3},
    "page-mean-topk": {"G": 2, "R": 3},
    "delta-layer": {"G": 2, "R": 4, "L": 2},
    "paged-attention": {"G": 2, "R": 3},
    "biformer": {"S": 5, "N": 5, "I": 4, "T": 4, "R": 2},
    "routing-attention": {"C": 3, "W": 6, "U": 6},
    "vertical-slash": {"P": 96, "M": 96, "L": 8, "R": 6, "S": 66, "O": 96, "J": 12, "T": 8},
    "zipvl": {"L": 5, "R": 24, "S": 24, "J": 6, "T": 4},
    "zipcache": {"L": 5, "R": 9, "J": 6, "T": 4},
    "spatten": {"R": 5, "S": 12},
    "dhsa": {"N": 6, "R": 12, "J": 3, "T": 4, "W": 4, "G": 2},
    "dynamic-mask": {"R": 6, "J": 2, "T": 3},
}
#: Where a sum of signed products is divided by another, positive inputs keep it away from 0.
POSITIVE = {"approximate-attention"}


def bound(name: str, **sizes: int) -> Problem:
    """The cascade at small sizes, tiles smaller than the sequence."""
    text = load_cascade(name)
    known = SIZES | OWN.get(name, {}) | sizes
    return bind(text, {rank: known[rank] for rank in names(text) if rank in known})


def error(problem: Problem, seed: int) -> float:
    """The largest difference from the reference, relative to the largest true value."""
    inputs = random_inputs(problem, seed)
    if problem.cascade.name in POSITIVE:
        inputs = {name: np.abs(values) for name, values in inputs.items()}
    found, true = run(problem, inputs), truth(problem, inputs, load_cascade)
    worst = 0.0
    for name in problem.cascade.outputs:
        ours, theirs = whole(problem, name, found[name]), true[name]
        assert np.isfinite(theirs).all(), name
        worst = max(worst, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    return worst


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_systems_cascade_is_its_reference(name: str) -> None:
    for seed in range(4):
        assert error(bound(name), seed) < 1e-10


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_wrong_output_would_be_seen(name: str) -> None:
    """With other values the reference is another one, so that the comparison can fail."""
    problem = bound(name)
    inputs = random_inputs(problem, 0)
    before = truth(problem, inputs, load_cascade)
    changed = "V" if "V" in inputs else problem.cascade.inputs[-1].name
    after = truth(problem, inputs | {changed: inputs[changed] + 1}, load_cascade)
    assert any(not np.array_equal(before[o], after[o]) for o in problem.cascade.outputs)


WINDOWS = [(1, 1), (24, 2), (40, 24), (3, 20)]


@pytest.mark.parametrize(("window", "sinks"), WINDOWS)
def test_sinks_and_windows_of_any_width(window: int, sinks: int) -> None:
    assert error(bound("sink-window", W=window, N=sinks), 0) < 1e-10


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (24, 1), (5, 5), (6, 4), (7, 24)])
def test_neighbourhoods_of_any_window_and_stride(window: int, stride: int) -> None:
    assert error(bound("neighbourhood-1d", W=window, S=stride), 0) < 1e-10


@pytest.mark.parametrize("tile", [1, 2, 12, 24])
def test_lightning_in_blocks_of_any_size(tile: int) -> None:
    assert error(bound("lightning-attention-2", I=tile, M0=tile), 0) < 1e-10
