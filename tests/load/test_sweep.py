"""Sweep documents: their axes, and what is said of the faulty ones."""

from __future__ import annotations

import pytest

from accelsim.errors import InputError
from accelsim.load.source import from_text
from accelsim.load.sweep import sweep_from


def faults(axes: str, more: str = "") -> list[str]:
    with pytest.raises(InputError) as caught:
        sweep_from(from_text(f"sweep: s\naxes:\n{axes}\n{more}", "s.yaml"))
    return [str(f) for f in caught.value.faults]


def values(axis: str) -> list[object]:
    return [v[0] for v in sweep_from(from_text(f"sweep: s\naxes: [{axis}]")).axes[0].values]


def test_a_range_goes_by_a_step_a_factor_or_a_count() -> None:
    assert values("{seq: {from: 1024, to: 4096, step: 1024}}") == [1024, 2048, 3072, 4096]
    assert values("{set.b.capacity: {from: 1 MiB, to: 9 MiB, times: 2}}") == [
        "1 MiB", "2 MiB", "4 MiB", "8 MiB",
    ]  # fmt: skip
    assert values("{set.clock: {from: 1 GHz, to: 2 GHz, count: 3}}") == [
        "1 GHz", "1.5 GHz", "2 GHz",
    ]  # fmt: skip
    assert values("{set.a.area: {from: 1.5 um2, to: 3.1 um2, times: 2}}") == ["1.5 um2", "3 um2"]


def test_points_go_with_the_last_axis_fastest() -> None:
    text = "sweep: s\naxes:\n- {seq: [1, 2], model: [A, B]}\n- {choose.x: [5, 6, 7]}"
    found = sweep_from(from_text(text))
    assert found.points == 6
    assert [found.point(n)["seq"] for n in range(6)] == [1, 1, 1, 2, 2, 2]
    assert found.point(4) == {"seq": 2, "model": "B", "choose.x": 6}


@pytest.mark.parametrize(
    ("axes", "more", "message"),
    [
        ("- {modell: [BERT]}", "", "s.yaml:3:4: no axis can be 'modell'"),
        ("- {set.: [1]}", "", "s.yaml:3:4: no axis can be 'set.'"),
        ("- {seq: [1]}\n- {seq: [2]}", "", "s.yaml:4:4: a second axis of 'seq'"),
        ("- {seq: []}", "", "s.yaml:3:4: 'seq' has no values"),
        ("- {}", "", "s.yaml:3:3: an axis without a field"),
        (
            "- {seq: [1, 2], model: [BERT]}",
            "",
            "s.yaml:3:3: fields that move together have different numbers of values: "
            "seq has 2, model has 1",
        ),
        (
            "- {set.x: {from: 1 MiB, to: 2 GiB, times: 2}}",
            "",
            "s.yaml:3:4: no range from 1 MiB to 2 GiB",
        ),
        ("- {seq: {from: 4, to: 2, step: 1}}", "", "s.yaml:3:4: a range from 4 to 2 without end"),
        ("- {seq: {from: 0, to: 2, times: 2}}", "", "s.yaml:3:4: a range from 0 to 2 without end"),
        ("- {seq: {from: 1, to: 2}}", "", "s.yaml:3:4: a range from 1 to 2 without end"),
        ("- {seq: {from: 1, to: 1e9, step: 1}}", "", "s.yaml:3:4: 1000000000 values"),
        (
            "- {seq: {from: 1, to: 4, step: 0}}",
            "",
            "s.yaml:3:32: axes[0].seq.step: should be greater than 0",
        ),
        ("- {seq: [1]}", "front: {objectives: [fun]}", "s.yaml:4:22: nothing computes 'fun'"),
        ("- {seq: [1]}", "search: luck", "s.yaml:4:9: no search for 'luck'"),
        ("- {seq: [1]}", "front: {by: [model]}", "s.yaml:4:14: 'model' is no axis of this sweep"),
    ],
)
def test_what_is_said_of_a_faulty_sweep(axes: str, more: str, message: str) -> None:
    assert message in "\n".join(faults(axes, more))


def test_all_faults_are_told_at_once() -> None:
    told = faults("- {modell: [BERT]}\n- {seq: []}", "front: {objectives: [fun]}")
    assert len(told) == 3
