"""Tiles that pass several levels on their way: each keeps its room until the next one has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from accelsim.ir.arch import Architecture, Level, Unit
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, Stage
from accelsim.ir.problem import bind
from accelsim.models.estimate import estimate
from accelsim.models.turns import in_turn_s
from accelsim.sim.run import simulate
from tests.models.nests import _OPERATIONS, CASCADES


def hold(tensor: str, level: str) -> Hold:
    """A hold of two tiles."""
    return Hold(tensor, level, copies=2)


def small(memory: float, reads: float, writes: float) -> Architecture:
    """A machine of which each operation takes 256 cycles.

    So does a word of memory, or of the level's ports, over its bytes a cycle.
    """
    operations = tuple((n, replace(o, cycles=256.0)) for n, o in _OPERATIONS)
    return Architecture(
        "small", 1.0, 1.0,
        (Level("dram", bandwidth=memory / 256),
         Level("buffer", read_bandwidth=reads / 256, write_bandwidth=writes / 256),
         Level("registers")),
        tuple(Unit(u, 1, 1, operations) for u in ("grid", "lanes")),
    )  # fmt: skip


def more(
    nest: Callable[[Loop], Node], memory: float, reads: float, writes: float, sums: bool
) -> tuple[float, float]:
    """What a step more of siblings takes, simulated over modelled; the room that it took."""
    arch, found = small(memory, reads, writes), []
    for steps in (72, 216):
        parts = (("I", (Loop("I", 1),)), ("K", (Loop("K", steps),)))
        group = Group("g", nest(Loop("K", steps)), (Stage(("Y", "Z")),))
        mapping = Mapping("m", (group,), parts, partial_sums=sums)
        problem = bind(CASCADES["siblings"], {"I": 1, "K": steps})
        modelled = in_turn_s(problem, arch, mapping, estimate(problem, arch, mapping))
        run = simulate(problem, arch, mapping)
        found.append((run.cycles, modelled))
    (few, less), (many, greater) = found
    return (many - few) / (greater - less), run.peak_bytes["buffer"]


def copied(loop: Loop) -> Node:
    """Z reads the tile of A that is copied for Y, which reads the copy."""
    inner = Node((), (hold("A", "buffer"),), (Leaf("Y", "grid"),))
    return Node((loop,), (hold("A", "buffer"),), (inner, Leaf("Z", "lanes")))


@pytest.mark.parametrize(
    ("memory", "reads", "writes", "sums"),
    [(8.0, 3.0, 2.0, True), (8.0, 3.0, 3.0, True), (8.0, 3.0, 64.0, True),
     (3.0, 3.0, 2.0, False), (3.0, 8.0, 2.0, False)],
)  # fmt: skip
def test_words_let_a_tile_pass_that_goes_on_to_another(
    memory: float, reads: float, writes: float, sums: bool
) -> None:
    """Its words before the copy would keep Y waiting.

    Where memory and the level's writes are busy all the time, so would streams that are due
    when the tile itself is: it comes before them by the way of its copy.
    """
    assert 1.0 <= more(copied, memory, reads, writes, sums)[0] <= 1.02


def through(loop: Loop) -> Node:
    """Z's tile of C passes the buffer on its way to registers, after Y on the same unit."""
    both = (Leaf("Y", "grid"), Leaf("Z", "grid"))
    inner = Node((), (hold("C", "registers"),), both)
    return Node((loop,), (hold("A", "registers"), hold("C", "buffer")), (inner,))


def thrice(loop: Loop) -> Node:
    """Z's tile of A is copied from the buffer to the buffer, and once more."""
    inner = Node((), (hold("A", "buffer"),), (Leaf("Y", "grid"), Leaf("Z", "grid")))
    middle = Node((), (hold("A", "buffer"),), (inner,))
    return Node((loop,), (hold("A", "buffer"),), (middle,))


@pytest.mark.parametrize(
    ("nest", "memory", "rate"), [(through, 2.0, 0.5), (through, 8.0, 0.5), (thrice, 1.5, 2.0)]
)
def test_a_tile_leaves_room_when_the_next_level_has_it(
    nest: Callable[[Loop], Node], memory: float, rate: float
) -> None:
    """A port or the unit is busy all the time, as two tiles allow where each leaves early.

    Kept until Z is done with the copy, a tile would take its way in, on and Z's own time, more
    than the two steps for which there are slots.
    """
    ratio, room = more(nest, memory, rate, rate, sums=False)
    assert 1.0 <= ratio <= 1.02
    assert room <= 6


def handed_on(copies: int, words: int) -> tuple[float, float]:
    """What a step more takes, simulated and step by step, where Z reads a copy of what S makes.

    S makes ``words`` in the buffer in 256 cycles each, for so many ``copies`` of which there is
    room there; Z takes 256 cycles for each of those in registers, a copy of one 64.
    """
    arch, found = small(64.0, 4.0, 64.0), []
    for steps in (72, 216):
        sizes = {"I": words, "J": steps, "K": 1, "L": 1}
        inner = Node((), (hold("S", "registers"),), (Leaf("Z", "grid", (Loop("I", words),)),))
        made = Leaf("S", "lanes", (Loop("I", words),))
        home = Hold("S", "buffer", copies=copies)
        nest = Node((Loop("J", steps),), (home,), (made, inner))
        parts = tuple((rank, (Loop(rank, n),)) for rank, n in sizes.items())
        group = Group("g", Node((), (Hold("Z", "registers"),), (nest,)), (Stage(("S", "Z")),))
        mapping = Mapping("m", (group,), parts)
        problem = bind(CASCADES["chain"], sizes)
        modelled = in_turn_s(problem, arch, mapping, estimate(problem, arch, mapping))
        run = simulate(problem, arch, mapping)
        assert run.cycles <= run.serial_cycles
        found.append((run.cycles, modelled))
    (few, less), (many, greater) = found
    return (many - few) / 144, (greater - less) / 144


@pytest.mark.parametrize("words", [1, 3])
def test_what_has_been_copied_is_overwritten_while_the_copy_is_read(words: int) -> None:
    """Two tiles let both units work all the time, and one is written anew once it is copied."""
    assert handed_on(2, words) == (256 * words, 256 * words)
    assert handed_on(1, words) == (256 * words + 64 * words, 256 * words)
