"""Mapping files and tables of choices: what is refused and in which words, values by rule."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from accelsim.errors import InputError
from accelsim.explore.export import specification
from accelsim.ir.mapping import Mapping, short_ranks
from accelsim.ir.problem import Problem
from accelsim.load.arch import load_architecture
from accelsim.load.cascade import cascade_from_text, load_cascade
from accelsim.load.mapping import MappingRule, load_mapping, mapping_rule
from accelsim.load.source import from_text, read
from accelsim.models.estimate import Estimate, estimate

GOLDEN = Path(__file__).parent.parent / "golden"
UPDATE = os.environ.get("ACCELSIM_UPDATE_GOLDEN")
SIZES = {"M": 8, "N": 4, "K": 8}
OK = (GOLDEN / "mapping" / "ok.yaml").read_text(encoding="utf-8")


def bound(rule: MappingRule, **choose: str | int | float) -> tuple[Problem, Mapping]:
    attention = {"B": 1, "H": 1, "P": 4, "M": 8, "E": 4, "F": 4}
    sizes = attention if rule.text.cascade == "attention-3pass" else SIZES
    cascade = load_cascade("attention-3pass" if sizes is attention else "matmul")
    return rule.bind(cascade, sizes, load_architecture("teaching"), choose)


def price(file: str) -> Estimate:
    problem, mapping = bound(load_mapping(file))
    return estimate(problem, load_architecture("teaching"), mapping)


def golden(folder: Path, name: str, text: str) -> None:
    file = folder / f"{name}.txt"
    if UPDATE:
        file.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == file.read_text(encoding="utf-8")


def names(folder: str) -> list[str]:
    return sorted(p.stem for p in (GOLDEN / folder).glob("*.yaml") if p.stem != "ok")


@pytest.mark.parametrize("name", names("mapping"))
def test_messages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN / "mapping")
    with pytest.raises(InputError) as caught:
        price(f"{name}.yaml")
    golden(GOLDEN / "mapping", name, str(caught.value))


def test_a_last_tile_may_be_short_where_a_file_says_so() -> None:
    text = OK.replace("{M0: 4, M1: M / M0}", "{M0: 3, M1: 'ceil_div(M, M0)'}")
    with pytest.raises(InputError, match="M1 = 3 x M0 = 3 is 9, but M is 8"):
        bound(mapping_rule(from_text(text, "hand.yaml")))
    short = text.replace("groups:", "imperfect: [M]\ngroups:")
    problem, mapping = bound(mapping_rule(from_text(short, "hand.yaml")))
    assert mapping.extent["M1"] * mapping.extent["M0"] == 9
    price = estimate(problem, load_architecture("teaching"), mapping)
    assert price.groups[0].busy[0].cycles == 3 * 8  # steps over K in each of three tiles
    assert price.groups[0].read_bytes["dram"] == 2 * (8 * 8 + 3 * 8 * 4)  # A once, B for each tile


RUNNING = """
cascade: ok
ranks: [M, N]
inputs: {A: [M, N]}
output: Z
split: {M: [M1, M0]}
einsums:
  - Y[m1,n] = A[m1,m0,n] :: max(m0)
  - Z[n] = Y[m1,n] :: max(m1)
"""
TILES = """
mapping: tiles
source: nobody
cascade: ok
let: {M0: 3, M1: "ceil_div(M, M0)"}
imperfect: [M]
groups:
  - group: all
    nest:
      do:
        - {einsum: Y, unit: array_1d, for: [M1, M0, N]}
        - {einsum: Z, unit: array_1d, for: [M1, N]}
    schedule: [{run: [Y]}, {run: [Z]}]
"""


def test_a_split_of_the_cascade_may_leave_a_short_tile_where_a_file_says_so() -> None:
    cascade, machine = cascade_from_text(RUNNING), load_architecture("fusemax-cloud")

    def tiled(text: str) -> tuple[Problem, Mapping]:
        return mapping_rule(from_text(text, "hand.yaml")).bind(cascade, {"M": 8, "N": 5}, machine)

    problem, mapping = tiled(TILES)
    assert mapping.extent == {"M1": 3, "M0": 3, "N": 5}
    assert problem.short == {"M": ("M1", "M0")}
    group = estimate(problem, machine, mapping).groups[0]
    pes = machine.unit["array_1d"].pes
    assert [(b.cycles, b.useful_cycles * pes) for b in group.busy] == [(40, 40), (15, 15)]
    # A and Y, and what was summed up before of Y and of Z
    assert group.read_bytes["dram"] == 2 * (40 + 15 + (40 - 15) + (15 - 5))
    with pytest.raises(InputError, match="M = 8 is not M1 = 3"):
        tiled(TILES.replace("imperfect: [M]\n", ""))
    with pytest.raises(InputError, match="M1 = 2 tiles of M0 = 3 do not make up M = 8"):
        tiled(TILES.replace("ceil_div(M, M0)", "M // M0"))
    cut = TILES.replace("imperfect: [M]", "split: {M0: [M0_1, M0_0]}\nimperfect: [M, M0]")
    cut = cut.replace("let: {", "let: {M0_1: 2, M0_0: 2, ")
    bound = tiled(cut.replace("M1, M0, N", "M1, M0_1, M0_0, N"))
    with pytest.raises(InputError, match="M0 is cut into tiles of which the last is short, and so"):
        estimate(bound[0], machine, bound[1])
    with pytest.raises(InputError, match="the last tile of M is short, which AccelForge does not"):
        specification(problem, machine, mapping)


def test_a_group_may_cut_a_rank_in_a_way_of_its_own() -> None:
    text = OK.replace("{M0: 4, M1: M / M0}", "{M0: 4, M1: M / M0, M_2: 3, M_1: 3}")
    own = "split: {M: [M_2, M_1]}\n    imperfect: [M]\n    nest:"
    text = text.replace("nest:", own).replace("[M1]", "[M_2]").replace("[M0]", "[M_1]")
    problem, mapping = bound(mapping_rule(from_text(text, "hand.yaml")))
    assert set(mapping.extent) == {"K", "M0", "M1", "N"}
    here = mapping.within(mapping.groups[0])
    assert short_ranks(here, problem.extent) == {"M": 8}
    assert here.extent["M_2"] * here.extent["M_1"] == 9
    price = estimate(problem, load_architecture("teaching"), mapping)
    assert price.groups[0].busy[0].cycles == 3 * 8
    lone = text.replace("for: [M_2]", "for: [M1]")
    with pytest.raises(InputError, match="no part 'M1' of a rank"):
        bound(mapping_rule(from_text(lone, "hand.yaml")))


@pytest.mark.parametrize("name", names("choices"))
def test_messages_of_choices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN / "choices")
    with pytest.raises(InputError) as caught:
        mapping_rule(from_text(OK, "ok.yaml"), read(f"{name}.yaml"))
    golden(GOLDEN / "choices", name, str(caught.value))


def test_values_of_a_bound_mapping() -> None:
    problem, mapping = bound(mapping_rule(from_text(OK)))
    assert dict(mapping.values) == {"M0": 4, "M1": 2}
    assert mapping.extent == {"K": 8, "M1": 2, "M0": 4, "N": 4}
    assert mapping.rank == {"K": "K", "M1": "M", "M0": "M", "N": "N"}
    assert problem.sizes["M"] == 8


def test_a_choice_replaces_a_rule_and_what_follows_from_it() -> None:
    _, mapping = bound(mapping_rule(from_text(OK)), M0=2)
    assert dict(mapping.values) == {"M0": 2, "M1": 4}


TABLE = """
choices: ok
source: nobody
when: [arch, M]
let: [M0]
rows:
  - [teaching, 8, 1]
  - [other, 8, 2]
"""


def test_a_table_gives_values_and_a_choice_goes_before_it() -> None:
    rule = mapping_rule(from_text(OK), from_text(TABLE))
    assert dict(bound(rule)[1].values) == {"M0": 1, "M1": 8}
    assert dict(bound(rule, M0=8)[1].values) == {"M0": 8, "M1": 1}
    elsewhere = mapping_rule(from_text(OK), from_text(TABLE.replace("teaching", "another")))
    assert dict(bound(elsewhere)[1].values) == {"M0": 4, "M1": 2}


def test_a_size_that_a_rule_names_is_asked_for() -> None:
    rule = mapping_rule(from_text(OK))
    with pytest.raises(InputError) as caught:
        rule.bind(load_cascade("matmul"), {"N": 4, "K": 8}, load_architecture("teaching"))
    assert str(caught.value) == (
        "<command line>: no size for rank M of matmul\n  allowed: M=..., or a model with a length"
    )


def test_a_choice_of_nothing() -> None:
    with pytest.raises(InputError) as caught:
        bound(mapping_rule(from_text(OK)), M2=4)
    assert str(caught.value) == (
        "<command line>: the mapping hand has no value 'M2' to choose\n  allowed: M0, M1"
    )


def test_when_and_spill_are_rules() -> None:
    text = OK.replace(
        "[A]", "[{tensor: A, spill: M > 4, when: M0 == 4}, {tensor: B, when: M0 == 3}]"
    )
    holds = bound(mapping_rule(from_text(text)))[1].groups[0].tree.holds
    assert [(h.tensor, h.spill) for h in holds] == [("A", True)]
