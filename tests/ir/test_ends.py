"""Short last tiles of a cascade's own split: values, points and elements; what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.problem import Problem, bind
from accelsim.ir.reference import check
from accelsim.load.cascade import cascade_from_text, load_cascade

#: Shipped cascades that split M (or what stands for it) into two parts.
SHIPPED = (
    "attention-1pass",
    "attention-2pass",
    "attention-causal-1pass",
    "flash-attention-1",
    "flash-attention-2",
    "rabe-staats",
    "linear-attention-causal-chunked",
)


def bound(name: str, size: int, tile: int) -> tuple[Problem, str]:
    """A shipped cascade whose first split rank has a size and a tile, and that rank."""
    cascade = load_cascade(name)
    sizes = dict.fromkeys(cascade.ranks, 3)
    split = {}
    for rank, parts in cascade.splits:
        sizes[rank], split[rank] = size, parts
        sizes[parts[1]] = tile
    if "causal" in name and "P" in sizes:
        sizes["P"] = size
    return bind(cascade, sizes, imperfect=tuple(split)), cascade.splits[0][0]


@pytest.mark.parametrize("name", SHIPPED)
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 13), st.integers(1, 6))
def test_values_are_those_of_the_textbook(name: str, size: int, tile: int) -> None:
    problem, rank = bound(name, size, tile)
    assert check(problem, resolve=load_cascade).equal
    assert (rank in problem.short) == bool(size % tile)


@given(st.integers(1, 40), st.integers(1, 9))
def test_points_and_elements_end_with_the_rank(size: int, tile: int) -> None:
    problem, _ = bound("attention-1pass", size, tile)
    steps = problem.cascade.steps
    around = 3 * 3 * 3  # B, H and P
    assert problem.points(steps["QK"]) == around * 3 * size
    assert problem.points(steps["SLD"]) == around * size
    assert problem.points(steps["SPD"]) == around * -(-size // tile)
    assert problem.tensor_elements("K") == problem.defined_elements("K") == 3 * 3 * size * 3
    assert problem.defined_elements("QK") == around * size


def test_tiles_that_do_not_make_up_the_rank_are_refused() -> None:
    cascade = load_cascade("attention-1pass")
    sizes = dict.fromkeys(cascade.ranks, 3) | {"M": 10, "M1": 4, "M0": 4}
    with pytest.raises(InputError, match="M1 = 4 tiles of M0 = 4 do not make up M = 10") as caught:
        bind(cascade, sizes, imperfect=("M",))
    assert caught.value.faults[0].allowed == "M1 = 3, the last tile short"
    with pytest.raises(InputError, match="M = 10 is not M1 = 3"):
        bind(cascade, sizes | {"M1": 3})


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("Z[m0,p] = S[m1,m0,p] :: max(m1)", "Z is there for M0 alone"),
        ("Z[m0,p] = exp(X[m0,p])", "Z runs over M0 alone"),
        ("Z[m1,m0,p] = S[m1,clamp(m0+1),p]", "Z has no plain index into M0"),
        ("Z[m1,p] = T[m1,m1,p]", "Z has an index twice into T"),
        ("Z[m1,m0,p] = S[m1,m0,I[p]]", ""),
    ],
)
def test_what_has_no_end_is_refused(step: str, message: str) -> None:
    more = {"X": "[M0, P]", "T": "[M1, M1, P]", "I": "[P]"}
    inputs = "{S: [M, P]" + "".join(f", {t}: {r}" for t, r in more.items() if t in step) + "}"
    cascade = cascade_from_text(
        f"cascade: t\nranks: [P, M]\ninputs: {inputs}\noutputs: [Y, Z]\n"
        "split: {M: [M1, M0]}\neinsums:\n"
        f"  - Y[m1,p] = S[m1,m0,p] :: max(m0)\n  - {step}\n"
    )
    sizes = {"P": 2, "M": 5, "M0": 2}
    if not message:  # a gather along another rank
        assert bind(cascade, sizes, imperfect=("M",)).short
        return
    with pytest.raises(InputError, match=f"{message}, so that the last tile of M cannot be short"):
        bind(cascade, sizes, imperfect=("M",))
