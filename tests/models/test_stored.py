"""Formats, densities and gathers in transfers, occupancy and cycles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.ir.cascade import Access, Cascade, Density, Index, Storage
from accelsim.ir.format import Format, Part
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, Stage
from accelsim.ir.problem import Problem, bind
from accelsim.load.cascade import cascade_from_text
from accelsim.models.counts import group_transfers
from accelsim.models.latency import busy
from accelsim.models.nest import Nest
from accelsim.models.occupancy import occupancy
from accelsim.models.tiles import line

FOUR = Format("four", (Part("", 4),))
DENSE = """cascade: scores
ranks: [I, J, E]
inputs: {Q: [I, E], K: [J, E], KEEP: [I, J]}
output: S
einsums: ["S[i,j] = Q[i,e] * K[j,e] where KEEP[i,j]"]
"""
GATHERED = """cascade: gathered
ranks: [I, J, R, E]
inputs: {Q: [I, E], K: [J, E], N: [I, R]}
output: S
einsums: ["S[i,r] = Q[i,e] * K[N[i,r],e]"]
"""
SIZES = {"I": 4, "J": 8, "E": 16}
OPERATIONS = tuple((work, Operation(1.0)) for work in ("mac", "max", "add"))
ARCH = Architecture(
    "a", 1e9, 2.0, (Level("dram"), Level("buffer")), (Unit("pe", 1, 1, OPERATIONS),)
)


def nest(text: str | Cascade, sizes: dict[str, int], outer: str, inner: str, held: str) -> Nest:
    """Loops over ``outer`` above a hold of one tensor, loops over ``inner`` below it."""
    cascade = cascade_from_text(text) if isinstance(text, str) else text
    problem = bind(cascade, sizes)
    (einsum,) = cascade.einsums
    loops = {v: Loop(v.upper(), sizes[v.upper()]) for v in outer + inner}
    leaf = Leaf(einsum.name, "pe", tuple(loops[v] for v in inner))
    root = Node(tuple(loops[v] for v in outer), (Hold(held, "buffer"),), (leaf,))
    group = Group("g", root, (Stage((einsum.name,)),))
    parts = tuple((rank, (Loop(rank, problem.extent(rank)),)) for rank in cascade.whole)
    mapping = Mapping("m", (group,), parts)
    return Nest(problem, mapping, group)


def words(found: Nest) -> dict[tuple[str, str], float]:
    """Words read at each level, by tensor."""
    total: dict[tuple[str, str], float] = {}
    for t in group_transfers(found, ARCH, {}):
        key = t.level, t.tensor
        total[key] = total.get(key, 0.0) + t.reads
    return total


def test_elements_of_a_format_are_as_many_words_as_their_bits_fill() -> None:
    plain = nest(DENSE, SIZES, "ij", "e", "K")
    cascade = replace(plain.cascade, formats=(Storage("K", FOUR),))
    small = nest(cascade, SIZES, "ij", "e", "K")
    before, after = words(plain), words(small)
    assert before["dram", "K"] == 4 * 8 * 16
    assert after["dram", "K"] == before["dram", "K"] / 4
    assert after["buffer", "K"] == before["buffer", "K"] / 4
    assert after["dram", "Q"] == before["dram", "Q"]
    assert occupancy(plain, "buffer", 2.0).total_bytes == 16 * 2
    assert occupancy(small, "buffer", 2.0).total_bytes == 16 * 0.5


def sparse(text: str, share: float) -> Cascade:
    return replace(cascade_from_text(text), densities=(Density("KEEP", share, "assumed"),))


def test_what_a_mask_excludes_is_skipped_where_the_loops_above_tell_it() -> None:
    dense = nest(DENSE, SIZES, "ij", "e", "K")
    apart = nest(sparse(DENSE, 0.25), SIZES, "ij", "e", "K")
    assert words(apart)["dram", "K"] == words(dense)["dram", "K"] / 4
    assert busy(apart, ARCH)[0].cycles == busy(dense, ARCH)[0].cycles / 4
    assert busy(apart, ARCH)[0].useful_cycles == busy(dense, ARCH)[0].useful_cycles / 4


def test_a_mask_that_varies_within_a_tile_skips_nothing() -> None:
    dense = nest(DENSE, SIZES, "i", "je", "K")
    within = nest(sparse(DENSE, 0.25), SIZES, "i", "je", "K")
    assert words(within)["dram", "K"] == words(dense)["dram", "K"]
    assert busy(within, ARCH)[0].cycles == busy(dense, ARCH)[0].cycles
    assert busy(within, ARCH)[0].useful_cycles == busy(dense, ARCH)[0].useful_cycles / 4


def test_gathered_tiles_have_an_element_for_each_coordinate_that_is_told() -> None:
    one = nest(GATHERED, SIZES | {"R": 2}, "ir", "e", "K")
    assert words(one)["dram", "K"] == 4 * 2 * 16  # another key at each of 4 x 2 steps
    assert occupancy(one, "buffer", 2.0).total_bytes == 16 * 2
    tile = nest(GATHERED, SIZES | {"R": 2}, "i", "re", "K")
    assert occupancy(tile, "buffer", 2.0).total_bytes == 2 * 16 * 2
    every = nest(GATHERED, SIZES | {"R": 6}, "e", "ir", "K")
    assert occupancy(every, "buffer", 2.0).total_bytes == 8 * 2  # never more than all there are


def test_the_line_of_an_index_tensor_moves_with_each_of_its_variables() -> None:
    problem: Problem = bind(cascade_from_text(GATHERED), SIZES | {"R": 6})
    index = Access("N", (Index((("i", 1),)), Index((("r", 1),))))
    found = line(index, "J", problem, {"I": (Loop("I", 4),), "R": (Loop("R", 6),)})
    assert found.terms == (("I", 6), ("R", 1))
    assert found.most == 8
    assert found.elements({"I": 1, "R": 6}) == pytest.approx(6)
