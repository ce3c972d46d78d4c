"""Kinetics' cost of test-time scaling: FLOP and memory accesses added up as one number, eFLOPs.

Sadhukhan et al., Kinetics: Rethinking Test-Time Scaling Laws, arXiv
2506.05333, 2025, as its released cost model has it (``cost_model/*.py``): an
element that is read costs as much as 562.5 FLOP, what a B200's 2.25 PFLOP/s
and 8 TB/s make of 2 bytes.  Compute and memory are added, as if nothing
overlapped; weights are not read, for a large batch.  N trials of a prompt of
``lin`` tokens generate ``lout`` tokens each and share the prompt's keys.

Its code counts an element of K or V twice where keys are read; the closed
form that is cited (``paper_eflops``) counts it once, and halves the products
too, so that ratios of dense to sparse agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from accelsim.errors import refuse

#: FLOP that an element read from memory costs.
INTENSITY: Final = 562.5


@dataclass(frozen=True, slots=True)
class Decoder:
    """A model: parameters, and widths of queries and of keys over all heads and layers.

    ``queries`` is H times the head dimension times layers, ``keys`` the same
    with the heads that keys have.
    """

    parameters: float
    queries: float
    keys: float


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOP, and elements as the cost model counts them."""

    flop: float
    elements: float

    @property
    def eflops(self) -> float:
        """FLOP with memory's part added."""
        return self.flop + INTENSITY * self.elements

    def __add__(self, other: Cost) -> Cost:
        """Work that comes one after the other."""
        return Cost(self.flop + other.flop, self.elements + other.elements)


def dense(model: Decoder, lin: float, lout: float, trials: float = 1) -> Cost:
    """Attention over all keys.  Raises InputError for lengths that are not positive.

    >>> dense(Decoder(0.0, 4096.0, 1024.0), 0, 1000).flop
    8192000000.0
    """
    _positive(lin, lout, trials)
    flop = (2 * model.parameters * lout + 2 * (2 * lin + lout) * lout * model.queries) * trials
    return Cost(flop, 2 * (2 * lin + lout * trials) * lout * model.keys)


def top_k(model: Decoder, lin: float, lout: float, budget: float, trials: float = 1) -> Cost:
    """Attention over ``budget`` keys a token, known without a search; over fewer, all there are.

    >>> model = Decoder(0.0, 4096.0, 1024.0)
    >>> top_k(model, 0, 1000, 1e9).flop == dense(model, 0, 1000).flop
    True
    """
    _positive(lin, lout, trials)
    read = _read(lin, lout, budget)
    flop = 2 * model.parameters * lout + 4 * read * model.queries
    return Cost(flop * trials, 4 * read * model.keys * trials)


def block_top_k(
    model: Decoder,
    lin: float,
    lout: float,
    *,
    blocks: float,
    block: float,
    local: float = 0,
    trials: float = 1,
) -> Cost:
    """Blocks chosen by a product with one vector each: the search, then top-k.

    >>> model = Decoder(0.0, 4096.0, 1024.0)
    >>> found = block_top_k(model, 16384, 1, blocks=64, block=16, local=16)
    >>> round(dense(model, 16384, 1).eflops / found.eflops, 2)
    10.56
    """
    _positive(lin, lout, trials)
    search = (2 * lin + lout) / block * lout * trials
    found = Cost(search * model.queries, search * model.keys)
    return found + top_k(model, lin, lout, local + block * blocks, trials)


def paper_eflops(model: Decoder, lin: float, lout: float, trials: float = 1) -> float:
    """The closed form of dense attention that summaries of the paper print.

    2 N P Lo + 2 r N Li D Lo + r N D Lo^2 + 2 I Li D Lo + I N D Lo^2, with r D
    the width of the queries and D that of the keys.

    >>> model = Decoder(0.0, 4096.0, 1024.0)
    >>> dense(model, 100, 1000).eflops / paper_eflops(model, 100, 1000)
    2.0
    """
    _positive(lin, lout, trials)
    flop = 2 * trials * model.parameters * lout
    flop += trials * model.queries * (2 * lin * lout + lout**2)
    return flop + INTENSITY * model.keys * (2 * lin * lout + trials * lout**2)


def _read(lin: float, lout: float, budget: float) -> float:
    """Keys read by all tokens: the budget, or those that are there where they are fewer."""
    short = min(max(budget - lin, 0.0), lout)
    return short * (lin + short / 2) + (lout - short) * budget


def _positive(lin: float, lout: float, trials: float) -> None:
    for what, value, least in (
        ("tokens of prompt", lin, 0),
        ("generated tokens", lout, 1),
        ("trials", trials, 1),
    ):
        if not value >= least:
            raise refuse(f"{value:g} {what}", f"{least} or more")
