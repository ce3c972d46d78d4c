"""Why nothing fits: what is said to be missing is, and no less does."""

from __future__ import annotations

import re
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.explore.map import map_, task_for
from accelsim.mapper import infeasible
from accelsim.mapper.fuse import fuse
from accelsim.mapper.goal import Goal
from accelsim.mapper.space import Task

SHAPES = {
    "matmul": "M=4,N=4,K=4",
    "attention-3pass": "B=1,H=1,M=4,P=4,E=2,F=2",
    "attention-2pass": "B=1,H=1,M=4,P=2,E=2,F=2",
    "attention-1pass": "B=1,H=1,M=4,P=2,E=2,F=2",
    "linear-attention": "B=1,H=1,P=4,M=4,E=2,F=2",
}
ROOMS = (0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32)


def task(name: str, room: int, *held: str, level: str = "buffer", arch: str = "teaching") -> Task:
    holds = dict.fromkeys(held, level)
    sets = [f"levels.{level}.capacity={room}B"]
    return task_for(name, arch=arch, shape=SHAPES[name], sets=sets, holds=holds)[0]


def fits(asked: Task) -> bool:
    """Whether the search finds a mapping when nothing is said beforehand."""
    with mock.patch.object(infeasible, "hopeless", return_value=()):
        try:
            fuse(asked, Goal("latency"), gap=0.5)
        except InputError:
            return False
    return True


def refused(asked: Task) -> str:
    """What is said without a search, if anything."""
    with mock.patch("accelsim.mapper.fuse.search", side_effect=SearchedError):
        try:
            fuse(asked, Goal("latency"))
        except InputError as error:
            return str(error)
        except SearchedError:
            pass
    return ""


class SearchedError(Exception):
    """Nothing was refused before the search."""


NEEDED = {
    ("matmul", "A"): 4,  # two copies of one word of two bytes
    ("matmul", "A", "B"): 8,
    ("attention-3pass", "K", "QK"): 8,
    ("attention-3pass", "SN"): 4,  # not in QK's room, which is not held there
    ("attention-1pass", "RM"): 2,  # a state of one word, in no group of one Einsum
}


@pytest.mark.parametrize("asked", NEEDED, ids=" ".join)
def test_what_is_missing_is_the_least_that_is(asked: tuple[str, ...]) -> None:
    name, *held = asked
    least = NEEDED[asked]
    for room in (0, 1, least - 1):
        said = refused(task(name, room, *held))
        assert f"at least {least} B, {least - room} B more than its {room} B" in said
    assert not fits(task(name, least - 1, *held))
    assert not refused(task(name, least, *held))
    assert fits(task(name, least, *held))


def test_groups_that_need_a_given_split_are_not_refused() -> None:
    asked = task("attention-1pass", 9, "QK", "V")  # fits where M0 is 2 and SLNV is a group
    assert not refused(asked)


@pytest.mark.parametrize("room", [4, 9])
def test_a_room_has_the_copies_of_all_that_share_it(room: int) -> None:
    held = dict.fromkeys(("PLM", "QK", "SLN"), "buffer")  # SLN stands in QK's room, twice
    shape, sets = SHAPES["attention-2pass"], [f"buffer.capacity={room}B"]
    found = map_("attention-2pass", arch="teaching", shape=shape, sets=sets, holds=held)
    assert 0 < found.estimate.peak_bytes["buffer"] <= room


def test_every_level_that_is_too_small_is_told() -> None:
    asked = task_for(
        "matmul",
        arch="dram-l2-smem-x64",
        shape=SHAPES["matmul"],
        sets=["levels.l2.capacity=3B", "levels.smem.capacity=1B"],
        holds={"A": "l2", "B": "smem", "C": "l2"},
    )[0]
    assert refused(asked).splitlines()[::2] == [
        "levels.l2.capacity: A and C in l2 need at least 4 B, 1 B more than its 3 B",
        "levels.smem.capacity: B in smem needs at least 2 B, 1 B more than its 1 B",
    ]


def test_what_no_mapping_holds_there_is_told_without_a_search() -> None:
    said = refused(task("attention-3pass", 64, "AV", level="registers"))
    assert said == "--hold: AV cannot be held in registers\n  allowed: a level between"


def test_a_spread_that_no_unit_has_is_told_without_a_search() -> None:
    shape, held = SHAPES["attention-1pass"], {"SLD": "registers"}
    spreads = {"AV": ("H", "B")}
    asked = {"arch": "fusemax-cloud", "shape": shape, "holds": held, "spreads": spreads}
    said = refused(task_for("attention-1pass", **asked)[0])
    assert "--spread: AV cannot have H along rows and B along columns of array_1d" in said


@pytest.mark.parametrize("examples", [5, pytest.param(200, marks=pytest.mark.long)])
def test_nothing_that_fits_is_refused_and_no_more_is_said_to_be_missing(examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 100,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(SHAPES)))
        tensors = sorted(task(name, 1).cascade.tensors)
        held = data.draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=3, unique=True))
        asked = task(name, data.draw(st.sampled_from(ROOMS)), *held)
        if said := refused(asked):
            assert not fits(asked)
            (least,) = re.findall(r"at least (\d+) B", said)
            assert not fits(task(name, int(least) - 1, *held))

    holds()
