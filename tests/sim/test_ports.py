"""Whose turn it is at a port: words of arrays first, then the tile that is due first."""

from __future__ import annotations

from typing import Any

from accelsim.sim.machine import Ports, Request, Transfer

SLOTS: Any = None


def ports() -> Ports:
    """Two ports of one byte a cycle."""
    return Ports({("buffer", "read"): 1.0, ("dram", ""): 1.0}, {})


def tile(number: int, due: int, hops: int = 1, after: int = 0) -> Transfer:
    return Transfer(SLOTS, number, False, (due, after), hops)


def passed(found: Ports) -> list[tuple[int, int]]:
    """When each tile has passed, with its number."""
    ends = []
    while (now := found.next()) is not None:
        ends += [(now, moved.tile) for moved in found.take(now)]
    return ends


def asked(cycles: int, port: int = 0) -> Request:
    return Request(((port, cycles),), ())


def test_words_of_an_array_pass_before_a_tile_that_goes_on_behind_them() -> None:
    found = ports()
    found.ask(asked(10), tile(0, due=1), 0)
    assert found.next() == 10
    assert found.words(asked(5), 4) == 9
    assert found.words(asked(2), 4) == 11
    assert passed(found) == [(17, 0)]  # 4 before the words, 6 behind them


def test_the_tile_that_is_due_first_passes_first() -> None:
    found = ports()
    found.ask(asked(10), tile(0, due=3), 0)
    found.ask(asked(5), tile(1, due=3), 0)
    found.ask(asked(4), tile(2, due=2), 6)
    assert passed(found) == [(10, 2), (14, 0), (19, 1)]


def test_of_tiles_due_in_one_iteration_that_of_the_earlier_turn_passes_first() -> None:
    found = ports()
    found.ask(asked(10), tile(0, due=3, after=7), 0)
    found.ask(asked(5), tile(1, due=3, after=2), 0)
    found.ask(asked(4), tile(2, due=4), 0)
    assert passed(found) == [(5, 1), (15, 0), (19, 2)]


def test_a_tile_is_there_when_it_has_passed_all_its_ports() -> None:
    found = ports()
    found.ask(Request(((0, 3), (1, 8)), ()), tile(0, due=1, hops=2), 0)
    found.ask(asked(4), tile(1, due=2), 0)
    assert found.take(3) == []
    assert passed(found) == [(7, 1), (8, 0)]


def test_ports_know_what_they_were_asked_for() -> None:
    found = ports()
    found.ask(asked(10), tile(0, due=1), 0)
    found.words(asked(5, port=1), 0)
    assert found.asked == [10, 5]
