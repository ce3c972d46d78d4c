"""Tilings of a sliding window: every tile, order and stream, walked over element by element."""

from __future__ import annotations

import math
from itertools import permutations, product

import pytest

from accelsim.analysis.attainable import Mapspace
from accelsim.analysis.statement import Program, program
from accelsim.ir.problem import bind
from accelsim.load.cascade import cascade_from_text

CONVOLUTION = """
cascade: convolution
ranks: [K, P, R, X]
inputs: {I: [X], W: [K, R]}
output: Z
einsums:
  - Z[k,p] = I[p+r] * W[k,r]
"""
RANKS = {"I": "pr", "W": "kr", "Z": "kp"}


def convolution(extents: dict[str, int]) -> Program:
    sizes = {v.upper(): n for v, n in extents.items()} | {"X": extents["p"] + extents["r"] - 1}
    return program(bind(cascade_from_text(CONVOLUTION), sizes))


def elements(tensor: str, box: dict[str, range]) -> set[tuple[int, ...]]:
    """What a tile reads of a tensor."""
    if tensor == "I":
        return {(p + r,) for p in box["p"] for r in box["r"]}
    return set(product(*(box[v] for v in RANKS[tensor])))


def walked(extents: dict[str, int], tiles: dict[str, int], order: str, past: str) -> int:
    """Words moved: a tile is fetched when it is not the one before, what streams each time."""
    last: dict[str, tuple[int, ...]] = {}
    begun: set[tuple[int, ...]] = set()
    words = 0
    for at in product(*(range(-(-extents[v] // tiles[v])) for v in order)):
        here = dict(zip(order, at, strict=True))
        box = {v: range(n * tiles[v], min((n + 1) * tiles[v], extents[v])) for v, n in here.items()}
        for tensor, vs in RANKS.items():
            tile = tuple(here[v] for v in vs)
            if last.get(tensor) == tile and tensor != past:
                continue
            last[tensor] = tile
            size = len(elements(tensor, box))
            words += size
            if tensor == "Z":
                words += size * (tile in begun)
                begun.add(tile)
    return words


@pytest.mark.parametrize("capacity", [4, 7, 10, 16, 24, 40])
@pytest.mark.parametrize("extents", [{"k": 4, "p": 6, "r": 2}, {"k": 6, "p": 4, "r": 3}])
def test_the_least_of_the_mapspace_is_that_of_all_tilings(
    extents: dict[str, int], capacity: int
) -> None:
    """Not below any, and not above those whose tiles divide their ranks.

    A ragged last tile counts as a whole one where windows overlap, so between the two there
    may be room.
    """
    every = divisible = math.inf
    for chosen in product(*(range(1, n + 1) for n in extents.values())):
        t = dict(zip(extents, chosen, strict=True))
        size = {"I": t["p"] + t["r"] - 1, "W": t["k"] * t["r"], "Z": t["k"] * t["p"]}
        for past in RANKS:
            if sum(size.values()) - size[past] + 1 > capacity:
                continue
            for order in permutations("kpr"):
                moved = walked(extents, t, "".join(order), past)
                every = min(every, moved)
                if all(extents[v] % t[v] == 0 for v in t):
                    divisible = min(divisible, moved)
    statements = convolution(extents)
    found, how = Mapspace(statements, statements.statements[0]).slope([capacity], every=True)
    assert every <= found[0] <= divisible
    if how[0] is not None:
        t = dict(how[0].tiles)
        size = {"I": t["p"] + t["r"] - 1, "W": t["k"] * t["r"], "Z": t["k"] * t["p"]}
        assert how[0].words_held == sum(size.values()) - size[how[0].streams] + 1 <= capacity
