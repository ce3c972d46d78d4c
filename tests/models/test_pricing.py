"""Latency, energy, area, room and spilling on the teaching machine, computed by hand beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accelsim.errors import InputError
from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.ir.mapping import Leaf
from accelsim.load.arch import load_architecture
from accelsim.load.mapping import mapping_rule
from accelsim.load.source import from_text
from accelsim.models.estimate import Estimate, estimate
from accelsim.models.latency import cycles_a_point
from tests.models.nests import CASCADES

PICO, NANO = 1e-12, 1e-9

#: Z[i,j] = A[i,k] * B[k,j] on the 4x4 array: rows of A stay in the buffer while B streams by.
MATMUL = """
mapping: hand
source: worked out beside it
cascade: matmul
let: {I0: 4, I1: I / I0, J0: 4, J1: J / J0}
split: {I: [I1, I0], J: [J1, J0]}
groups:
  - group: product
    nest:
      for: [I1]
      hold: {buffer: [A]}
      do:
        - for: [J1]
          hold: {buffer: [B]}
          do:
            - {einsum: Z, unit: array_2d, rows: [I0], cols: [J0], for: [K]}
    schedule:
      - run: [Z]
"""

#: Scores, their maximum and so on, in one loop over rows: every unit has work.
SOFTMAX = """
mapping: hand
source: worked out beside it
cascade: softmax
groups:
  - group: rows
    nest:
      for: ["N", I]
      hold: {registers: [S, G, E, D]}
      do:
        - {einsum: S, unit: array_2d, cols: [J], for: [K]}
        - {einsum: G, unit: array_1d, cols: [J]}
        - {einsum: E, unit: array_1d, cols: [J]}
        - {einsum: D, unit: array_1d, cols: [J]}
        - {einsum: Z, unit: array_1d, cols: [J]}
    schedule: SCHEDULE
"""
SIZES = {"I": 8, "J": 8, "K": 16}
ROWS = {"N": 2, "I": 5, "J": 8, "K": 3}


def price(
    text: str, sizes: dict[str, int], sets: tuple[str, ...] = (), *, physical: bool = False
) -> Estimate:
    rule = mapping_rule(from_text(text, "hand.yaml"))
    arch = load_architecture("teaching", sets)
    problem, mapping = rule.bind(CASCADES[rule.text.cascade], sizes, arch)
    return estimate(problem, arch, mapping, physical)


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-12)


# -- one matrix product ----------------------------------------------------------------------------


def test_words_between_the_levels_of_a_product() -> None:
    got = price(MATMUL, SIZES)
    # dram: A once (128), B for both rows of tiles (2 * 128), Z once (64); 2 bytes a word
    assert got.read_bytes["dram"] == 2 * (128 + 256)
    assert got.write_bytes["dram"] == 2 * 64
    # buffer: the array takes 4 words of A and 4 of B in each of 64 steps; tiles come in once each
    assert got.read_bytes["buffer"] == 2 * (256 + 256)
    assert got.write_bytes["buffer"] == 2 * (128 + 256)
    assert got.traffic_bytes == {"dram": 896, "buffer": 1792, "registers": 0}


def test_time_of_a_product_is_its_steps_and_the_fill() -> None:
    got = price(MATMUL, SIZES)
    assert got.latency_s == near((2 * 2 * 16 + 8) * NANO)
    assert got.groups[0].memory_s["dram"] == near(896 / 16 * NANO)
    assert got.groups[0].memory_s["buffer"] == near(1792 / 64 * NANO)
    assert got.utilisation["array_2d"] == near(64 / 72)
    assert got.utilisation["array_1d"] == 0
    assert got.bound_by == "array_2d"
    assert got.binding == {"fill and drain": near(8 / 72), "array_2d": near(64 / 72)}


def test_slow_memory_binds_instead() -> None:
    got = price(MATMUL, SIZES, ("dram.bandwidth=8 GB/s",))
    assert got.latency_s == near(112 * NANO)
    assert got.bound_by == "dram"
    assert got.binding == {"dram": near(1.0)}
    assert price(MATMUL, SIZES, ("buffer.bandwidth=16 GB/s",)).binding == {"buffer": near(1.0)}


def test_separate_ports_work_at_once() -> None:
    ports = ("dram.read_bandwidth=8 GB/s", "dram.write_bandwidth=1 GB/s")
    got = price(MATMUL, SIZES, ports)
    assert got.groups[0].memory_s["dram"] == near(max(896 / 16, 768 / 8, 128 / 1) * NANO)


def test_energy_is_words_and_operations() -> None:
    got = price(MATMUL, SIZES)
    assert got.energy_by_j == {
        "dram": near(448 * 100 * PICO),
        "buffer": near(896 * 5 * PICO),
        "array_2d": near(1024 * PICO),
    }
    assert got.energy_j == near((44800 + 4480 + 1024) * PICO)


def test_physical_accounting_adds_registers_and_leakage() -> None:
    got = price(MATMUL, SIZES, physical=True)
    assert got.energy_by_j["register files"] == near(1024 * 4 * 0.1 * PICO)
    assert got.energy_by_j["leakage"] == near((16 + 4) * 1e-6 * 72 * NANO)
    assert got.energy_by_j["array_2d"] == near(1024 * PICO)


def test_area_is_pes_with_their_operations_and_levels() -> None:
    square = 1e-12
    assert price(MATMUL, SIZES).area_by_m2 == {
        "buffer": near(10000 * square),
        "array_2d": near(16 * (100 + 100 + 10) * square),
        "array_1d": near(4 * (100 + 100 + 10 + 500) * square),
    }


def test_room_is_both_tiles() -> None:
    got = price(MATMUL, SIZES)
    assert got.peak_bytes == {"dram": 0, "buffer": 2 * (4 * 16 + 16 * 4), "registers": 0}
    doubled = MATMUL.replace("buffer: [B]", "buffer: [{tensor: B, copies: 2}]")
    assert price(doubled, SIZES).peak_bytes["buffer"] == 2 * (64 + 2 * 64)
    shared = MATMUL.replace("{buffer: [A]}", "{buffer: [A, {tensor: B, shares: A}]}").replace(
        "hold: {buffer: [B]}", "hold: {}"
    )
    assert price(shared, SIZES).peak_bytes["buffer"] == 2 * 128  # all of B, A in its room


# -- what does not fit -----------------------------------------------------------------------------


def test_too_large_tiles_are_refused_by_how_much() -> None:
    with pytest.raises(InputError) as caught:
        price(MATMUL, SIZES, ("buffer.capacity=200 B",))
    assert str(caught.value) == (
        "hand.yaml:11:23: the tiles that 'product' holds in buffer need 256 B, 56 B more than its "
        "200 B\n"
        "        hold: {buffer: [A]}\n"
        "                        ^\n"
        "  allowed: smaller tiles, or a larger capacity"
    )


def test_capacity_is_enough_when_it_is_exactly_enough() -> None:
    assert price(MATMUL, SIZES, ("buffer.capacity=256 B",)).groups[0].spilled == {}


SPILLING = MATMUL.replace("[A]", "[{tensor: A, spill: true}]").replace(
    "[B]", "[{tensor: B, spill: true}]"
)


@pytest.mark.parametrize(("capacity", "share"), [(256, 0.0), (192, 0.25), (64, 0.75), (0, 1.0)])
def test_what_does_not_fit_is_served_from_outside(capacity: int, share: float) -> None:
    got = price(SPILLING, SIZES, (f"buffer.capacity={capacity} B",))
    assert got.groups[0].spilled == ({"buffer": near(share)} if share else {})
    fills, uses = 128 + 256, 256 + 256
    # kept tiles come in once; of the array's reads the spilled share goes on to dram
    assert got.read_bytes["dram"] == near(2 * ((1 - share) * fills + share * uses))
    assert got.write_bytes["dram"] == 2 * 64
    # the words pass the buffer's port all the same
    assert got.read_bytes["buffer"] == near(2 * uses)
    assert got.write_bytes["buffer"] == near(2 * (1 - share) * fills)
    assert got.peak_bytes["buffer"] == min(capacity, 256)


def test_only_what_may_spill_spills() -> None:
    only_b = MATMUL.replace("[B]", "[{tensor: B, spill: true}]")
    got = price(only_b, SIZES, ("buffer.capacity=192 B",))
    assert got.groups[0].spilled == {"buffer": near(0.5)}  # 64 of B's 128 bytes
    assert got.read_bytes["dram"] == near(2 * (128 + 0.5 * 256 + 0.5 * 256))
    with pytest.raises(InputError, match=r"need 128 B, 8 B more than its 120 B"):
        price(only_b, SIZES, ("buffer.capacity=120 B",))


SIBLINGS = """
mapping: hand
source: worked out beside it
cascade: siblings
groups:
  - group: two
    nest:
      do:
        - hold: {buffer: [{tensor: A, spill: true}]}
          do:
            - {einsum: Y, unit: array_1d, for: [I, K]}
        - hold: {buffer: [C]}
          do:
            - {einsum: Z, unit: array_1d, for: [I, K]}
    schedule:
      - run: [Y, Z]
"""


def test_every_moment_must_fit_not_only_the_fullest() -> None:
    sizes = {"I": 10, "K": 40}  # A needs 800 bytes and may spill, C needs 80 and may not
    assert price(SIBLINGS, sizes, ("buffer.capacity=80 B",)).groups[0].spilled["buffer"] == near(
        0.9
    )
    with pytest.raises(InputError, match=r"need 80 B, 20 B more than its 60 B"):
        price(SIBLINGS, sizes, ("buffer.capacity=60 B",))


def test_a_tile_that_is_needed_again_keeps_its_room() -> None:
    # both inner nodes run for each i; C does not depend on i and stays while the other runs
    text = SIBLINGS.replace(
        "      do:\n        - hold", "      for: [I]\n      do:\n        - hold", 1
    )
    got = price(text.replace("for: [I, K]", "for: [K]"), {"I": 10, "K": 40})
    assert got.peak_bytes["buffer"] == 2 * (40 + 40)  # one row of A beside C
    assert got.read_bytes["dram"] == 2 * (2 * 400 + 40 * 10 + 40)  # A twice, B each time, C once


def test_every_full_level_of_every_group_is_told() -> None:
    text = MATMUL.replace("hold: {buffer: [B]}", "hold: {buffer: [B], registers: [A]}")
    with pytest.raises(InputError) as caught:
        price(text, SIZES, ("buffer.capacity=200 B", "registers.capacity=100 B"))
    assert [f.message for f in caught.value.faults] == [
        "the tiles that 'product' holds in buffer need 256 B, 56 B more than its 200 B",
        "the tiles that 'product' holds in registers need 128 B, 28 B more than its 100 B",
    ]


# -- units, stages and stalls ----------------------------------------------------------------------

ONE = "[{run: [S, G, E, D, Z]}]"
APART = "[{run: [S]}, {run: [G]}, {run: [E]}, {run: [D]}, {run: [Z]}]"
TWO = "[{run: [S, G]}, {run: [E, D, Z]}]"
#: Cycles of each Einsum for 10 rows of 8 on 4 PEs wide: exp is a subtraction and six multiply-adds,
#: Z a division, a product and a sum.
CYCLES = {"S": 10 * 2 * 3, "G": 10 * 2, "E": 10 * 2 * 7, "D": 10 * 2, "Z": 10 * 2 * 2}


def softmax(schedule: str, sets: tuple[str, ...] = ()) -> Estimate:
    fast = ("dram.bandwidth=1 TB/s", "array_2d.fill=0")
    return price(SOFTMAX.replace("SCHEDULE", schedule), ROWS, (*fast, *sets))


def test_cycles_are_rounds_times_operations() -> None:
    got = softmax(ONE)
    assert {b.einsum: b.cycles for b in got.groups[0].busy} == CYCLES


@pytest.mark.parametrize(
    ("schedule", "cycles"), [(ONE, 220), (APART, 280), (TWO, 60 + 200)], ids=["one", "apart", "two"]
)
def test_stages_follow_each_other_and_units_work_at_once(schedule: str, cycles: int) -> None:
    assert softmax(schedule).latency_s == near(cycles * NANO)


def test_a_stall_adds_to_its_stage_and_is_named() -> None:
    stalled = "[{run: [S, G], stall: [{einsum: G, times: 2.5, why: the tree}]}, {run: [E, D, Z]}]"
    got = softmax(stalled)
    assert got.latency_s == near((60 + 50 + 200) * NANO)
    assert got.binding == {
        "array_2d": near(60 / 310),
        "the tree": near(50 / 310),
        "array_1d": near(200 / 310),
    }
    assert got.bound_by == "array_1d"
    assert got.groups[0].stages[0].cycles == 110


def test_units_that_tie_bind_together() -> None:
    got = softmax("[{run: [S, E, Z]}, {run: [G, D]}]", ("array_2d.operations.mac.cycles=3",))
    assert CYCLES["S"] * 3 == CYCLES["E"] + CYCLES["Z"]
    assert got.binding == {
        "array_2d": near(90 / 220),
        "array_1d": near((90 + 40) / 220),
    }


def test_a_missing_operation_names_unit_and_einsum() -> None:
    text = SOFTMAX.replace("SCHEDULE", ONE).replace("Z, unit: array_1d", "Z, unit: array_2d")
    with pytest.raises(InputError) as caught:
        price(text, ROWS)
    assert str(caught.value) == (
        "hand.yaml:15:11: array_2d has no operation for 'div', which Z needs\n"
        "          - {einsum: Z, unit: array_2d, cols: [J]}\n"
        "            ^\n"
        "  allowed: add, exp, mac, max"
    )


def test_absorbed_operations_cost_energy_but_no_cycles() -> None:
    alone = Unit("u", 1, 1, (("add", Operation(1, 1.0)), ("exp", Operation(2, 10.0))))
    absorbing = replace(
        alone, operations=(alone.operations[0], ("exp", Operation(2, 10.0, absorbs=("add",))))
    )
    einsum = CASCADES["softmax"].steps["E"]
    assert cycles_a_point(alone, einsum, Leaf("E", "u")) == 3
    assert cycles_a_point(absorbing, einsum, Leaf("E", "u")) == 2


def test_more_parallel_work_than_lanes_goes_in_rounds() -> None:
    got = softmax(ONE, ("array_1d.cols=3",))
    assert got.groups[0].busy[1].cycles == 10 * 3  # 8 elements on 3 lanes
    assert got.utilisation["array_1d"] < softmax(ONE).utilisation["array_1d"]
    wide = softmax(ONE, ("array_1d.cols=1000",))
    assert wide.groups[0].busy[1].cycles == 10
    assert wide.groups[0].busy[1].useful_cycles == near(80 / 1000)


def test_fill_is_paid_once_a_group_by_its_slowest_unit() -> None:
    base, slow = softmax(ONE), softmax(ONE, ("array_2d.fill=8", "array_1d.fill=5"))
    assert slow.latency_s - base.latency_s == near(8 * NANO)
    assert slow.binding["fill and drain"] == near(8 / 228)


def test_a_machine_on_which_nothing_takes_time_is_refused() -> None:
    unit = Unit("array_2d", 4, 4, (("mac", Operation(0.0)),))
    arch = Architecture("free", 1e9, 2.0, (Level("dram"), Level("buffer")), (unit,))
    rule = mapping_rule(from_text(MATMUL))
    problem, mapping = rule.bind(CASCADES["matmul"], SIZES, arch)
    with pytest.raises(InputError, match="on free nothing takes any time"):
        estimate(problem, arch, mapping)


def test_numbers_beyond_all_bounds_are_refused() -> None:
    with pytest.raises(InputError, match="latency or energy on teaching is infinite"):
        price(MATMUL, SIZES, ("array_2d.operations.mac.energy=1e308 J",))
