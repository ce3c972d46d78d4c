"""Every cascade of a published system, executed and held against its reference to 1e-10."""

from __future__ import annotations

import numpy as np
import pytest

from accelsim.errors import InputError
from accelsim.explore.language import check, examples
from accelsim.ir.problem import Problem, bind
from accelsim.ir.reference import random_inputs, run, truth, whole
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from tests.oracle.shipped import textbook_cascades

SYSTEMS = sorted(set(catalog.names("cascade")) - set(textbook_cascades()))

#: Where a sum of signed products is divided by another, positive inputs keep it away from 0.
POSITIVE = {"approximate-attention"}


def bound(name: str, **sizes: int) -> Problem:
    """The cascade at the small sizes that it is shipped with, tiles smaller than the sequence."""
    return bind(load_cascade(name), examples()[name] | sizes)


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


def test_every_system_has_its_example_and_the_command_uses_it() -> None:
    assert sorted(examples()) == SYSTEMS
    for name in SYSTEMS:
        found = check(name)
        assert found.equal, found
        assert examples()[name].items() <= found.sizes.items()


def test_sizes_that_do_not_fit_the_reference_are_bad_input() -> None:
    with pytest.raises(InputError, match="neighbourhood-1d has no value at these sizes"):
        check("neighbourhood-1d", shape="P=8,M=12,M0=4")


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
