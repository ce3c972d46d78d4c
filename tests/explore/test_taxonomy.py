"""The taxonomy of attention cascades (FuseMax, table I), as computed and as ``list`` groups it."""

from __future__ import annotations

import pytest

from accelsim.explore.documents import list_names, streamed

#: Published classes: PyTorch and FLAT three passes, TileFlow and Choi et al. two, the rest one.
PUBLISHED = {
    "attention-3pass": 3,
    "attention-2pass": 2,
    "attention-1pass": 1,
    "flash-attention-1": 1,
    "flash-attention-2": 1,
    "rabe-staats": 1,
}


@pytest.mark.parametrize("cascade", PUBLISHED)
def test_the_published_classes_are_computed(cascade: str) -> None:
    assert streamed(cascade) == PUBLISHED[cascade]


def test_list_groups_by_passes() -> None:
    family = [e for e in list_names("cascades") if e.family == "softmax attention"]
    assert {e.name for e in family} >= set(PUBLISHED)
    numbers = [e.passes for e in family]
    assert numbers == sorted(numbers, key=lambda n: -(n or 0))
    assert set(numbers) == {3, 2, 1}
    assert {e.name: e.passes for e in family if e.name in PUBLISHED} == PUBLISHED


def test_other_kinds_have_no_passes() -> None:
    assert {e.passes for e in list_names("designs")} == {None}
