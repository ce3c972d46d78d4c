"""Kinetics' cost model: its formulas, and what they agree with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.analysis.eflops import (
    INTENSITY,
    Decoder,
    block_top_k,
    dense,
    paper_eflops,
    top_k,
)
from accelsim.errors import InputError

#: Qwen3-8B: 36 layers, 32 query and 8 key heads of 128; parameters as the cost model has them.
QWEN = Decoder(8.19e9, 32 * 128 * 36, 8 * 128 * 36)
lengths = st.integers(1, 10**5)


@given(lengths, lengths, st.integers(1, 64))
def test_a_token_at_a_time(lin: int, lout: int, trials: int) -> None:
    """Two products with every key there, and every key and value once an element, twice counted."""
    there = sum(range(lin, lin + lout)) + lout / 2
    found = dense(QWEN, lin, lout, 1)
    assert found.flop == pytest.approx(2 * 8.19e9 * lout + 4 * there * QWEN.queries)
    assert found.elements == pytest.approx(2 * 2 * there * QWEN.keys)
    many = dense(QWEN, lin, lout, trials)
    assert many.flop == pytest.approx(trials * found.flop)
    assert many.elements <= trials * found.elements * (1 + 1e-12)  # the prompt's keys are shared


@given(lengths, lengths, st.integers(1, 8))
def test_the_printed_form_is_half_without_parameters(lin: int, lout: int, trials: int) -> None:
    model = Decoder(0.0, QWEN.queries, QWEN.keys)
    ours = dense(model, lin, lout, trials).eflops
    assert ours == pytest.approx(2 * paper_eflops(model, lin, lout, trials))


@given(lengths, lengths, st.integers(1, 10**5))
def test_a_budget_never_costs_more_than_all_keys(lin: int, lout: int, budget: int) -> None:
    some, every = top_k(QWEN, lin, lout, budget), dense(QWEN, lin, lout)
    assert some.flop <= every.flop * (1 + 1e-12)
    assert some.elements <= every.elements * (1 + 1e-12)
    assert top_k(QWEN, lin, lout, lin + lout).flop == pytest.approx(every.flop)


def test_the_search_is_a_block_th_of_dense_scores() -> None:
    search = block_top_k(QWEN, 16384, 1, blocks=64, block=16)
    chosen = top_k(QWEN, 16384, 1, 1024)
    assert search.flop - chosen.flop == pytest.approx((2 * 16384 + 1) / 16 * QWEN.queries)
    assert search.eflops == pytest.approx(search.flop + INTENSITY * search.elements)


def test_lengths_must_be_there() -> None:
    with pytest.raises(InputError, match="0 generated tokens"):
        dense(QWEN, 10, 0)
    with pytest.raises(InputError, match="0 trials"):
        top_k(QWEN, 10, 10, 5, 0)
    with pytest.raises(InputError, match="-1 tokens of prompt"):
        block_top_k(QWEN, -1, 10, blocks=1, block=16)
