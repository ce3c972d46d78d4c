"""The law of the loss that quantised weights cost, and the widths that it allows."""

from __future__ import annotations

import pytest

from accelsim.analysis.degradation import least_bits, loss_increase
from accelsim.errors import InputError
from accelsim.load.system import load_system


def test_worked_points() -> None:
    """N = 1e9, D = 1e11: 0.046, 0.22 and 2.1 nats at 4, 3 and 2 bits."""
    found = [loss_increase(1e9, 1e11, bits) for bits in (4, 3, 2)]
    assert found == pytest.approx([0.046, 0.22, 2.1], rel=0.03)


def test_more_training_costs_more_and_a_larger_model_less() -> None:
    assert loss_increase(1e9, 1e12, 3) > loss_increase(1e9, 1e11, 3)
    assert loss_increase(1e10, 1e11, 3) < loss_increase(1e9, 1e11, 3)


def test_a_loss_that_is_just_allowed_is_allowed() -> None:
    for bits in (2, 3, 4):
        assert least_bits(1e9, 1e11, loss_increase(1e9, 1e11, bits)) == bits


def test_the_row_has_the_bits_that_the_law_allows() -> None:
    found = load_system("low-bit-undertrained")
    known = found.parameters
    (stored,) = found.formats
    least = least_bits(known["PARAMETERS"], known["TOKENS"], known["ALLOWED"])
    assert stored.bits({}) == least == 4


def test_what_no_width_allows_and_what_is_not_positive() -> None:
    with pytest.raises(InputError, match="no width up to 16 bits keeps the loss"):
        least_bits(1e9, 1e11, 1e-9)
    with pytest.raises(InputError, match="0 bits"):
        loss_increase(1e9, 1e11, 0)
