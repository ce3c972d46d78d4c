"""The published FuseMax evaluation, row by row, and the means that its abstract states."""

from __future__ import annotations

from functools import lru_cache

import pytest

from accelsim.explore.validate import Validation, failures, validate_fusemax

#: Tables, the quantities asked of them and the rows, so that no check can get lost.
ASKED = {
    "FuseMax": (10, 8),
    "+Architecture": (10, 8),
    "+Cascade": (7, 8),
    "FLAT": (7, 8),
    "unfused": (3, 8),
    "FLAT's model, cloud": (2, 20),
    "FLAT's model, edge": (2, 12),
    "linear layers on FuseMax": (3, 8),
    "linear layers on FLAT": (3, 8),
    "array edge": (1, 6),
}


@lru_cache(maxsize=1)
def whole() -> Validation:
    return validate_fusemax()


def test_every_row_holds() -> None:
    assert list(failures(whole())) == []
    assert whole().holds


@pytest.mark.parametrize("name", ASKED)
def test_nothing_that_is_asked_gets_lost(name: str) -> None:
    (table,) = (t for t in whole().tables if t.name == name)
    quantities, rows = ASKED[name]
    asked = [r for r in table.rows if r.holds is not None]
    spilled = [r for r in table.rows if r.note.startswith("not asked")]
    assert len({r.quantity for r in asked}) == quantities
    assert len(asked) + len(spilled) == quantities * rows


def test_means() -> None:
    found = {a.name: a for a in whole().averages}
    assert len(found) == 8
    assert found["attention speedup over FLAT"].ours == pytest.approx(6.72, abs=0.01)
    assert found["attention energy of FLAT's"].ours == pytest.approx(0.787, abs=0.01)
    assert found["attention speedup over unfused"].ours == pytest.approx(10.05, abs=0.01)
    assert found["end-to-end speedup over FLAT"].ours == pytest.approx(5.30, abs=0.01)
    assert found["end-to-end energy of FLAT's"].ours == pytest.approx(0.833, abs=0.01)


def test_physical_accounting_is_shown_for_energy() -> None:
    for average in whole().averages:
        assert (average.physical is not None) == ("energy" in average.name)
        if average.physical is not None:
            assert average.physical != average.ours


def test_a_wrong_prediction_is_caught() -> None:
    """The checks can fail: a figure moved by twice its tolerance no longer holds."""
    from accelsim.explore.validate import _row
    from accelsim.ir.published import Check

    check = Check("latency", 1e-6)
    assert _row("w", 1.0, 1.0 + 5e-7, check, 1024, "").holds is True
    assert _row("w", 1.0, 1.0 + 2e-6, check, 1024, "").holds is False
    above = Check("traffic", None)
    assert _row("w", 2.0, 1.9, above, 1024, "").holds is True
    assert _row("w", 2.0, 2.1, above, 1024, "").holds is False
    later = Check("energy", 0.01, up_to=65536, beyond=0.03)
    assert _row("w", 2.0, 2.04, later, 65536, "").holds is False
    assert _row("w", 2.0, 2.04, later, 262144, "").holds is True
