"""Every shipped cascade, executed and held against the function or cascade that it must equal."""

import re

import numpy as np
import pytest
from scipy import special

from accelsim.ir import textbook
from accelsim.ir.problem import bind, relevant, with_parts
from accelsim.ir.reference import check, random_inputs, run, truth, whole
from accelsim.ir.textbook import TEXTBOOK
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from tests.oracle.shipped import textbook_cascades

NAMES = textbook_cascades()

#: Cascades whose exponentials or squares are not kept in range; the others are stable.
UNSTABLE = {"attention-naive", "softmax-naive", "layernorm-moments", "variance-moments"}

BASE = {"B": 2, "H": 4, "HK": 2, "P": 15, "M": 15, "E": 5, "F": 3, "D": 7, "S": 9, "W": 4}
BASE |= {"K": 13, "N": 11}
ONES = dict.fromkeys(BASE, 1)
SHAPES = {
    "odd": (BASE, 5),
    "ones": (ONES, 1),
    "one key": (BASE | {"P": 1, "M": 1}, 8),
    "one query": (BASE | {"P": 1, "M": 24}, 8),
    "one element": (BASE | {"E": 1, "F": 1, "D": 1, "S": 1}, 3),
    "fewer queries than keys": (BASE | {"P": 6, "M": 21}, 4),
    "prime, in tiles of one": (BASE | {"P": 13, "M": 13}, 4),
    "prime, in one tile": (BASE | {"P": 13, "M": 13}, 13),
    "a window wider than the sequence": (BASE | {"W": 40}, 15),
    "one head, one key head": (BASE | {"H": 1, "HK": 1}, 3),
    "as many key heads as heads": (BASE | {"HK": 4}, 3),
    "long": (BASE | {"P": 96, "M": 96, "D": 128, "E": 16, "W": 31}, 32),
}


def bound(name, sizes=BASE, tile=5):
    text = load_cascade(name)
    return bind(text, with_parts(text, relevant(text, sizes), tile))


def same(problem, inputs, tolerance=1e-9):
    """Whether outputs equal the truth relative to its magnitude; NaN equals NaN only."""
    found, true = run(problem, inputs), truth(problem, inputs, load_cascade)
    for name in problem.cascade.outputs:
        ours, theirs = whole(problem, name, found[name]), true[name]
        finite = np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0)
        np.testing.assert_allclose(
            ours, theirs, rtol=0, atol=tolerance * max(finite, 1e-300), equal_nan=True
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_equals_what_it_says(name, shape):
    sizes, tile = SHAPES[shape]
    for seed in range(3):
        found = check(bound(name, sizes, tile), seed, load_cascade)
        assert found.equal, found


def adversarial(problem):
    """Inputs of the right shapes that break what is not stable or not quite right."""
    rng = np.random.default_rng(7)
    shapes = {t.name: tuple(problem.extent(r) for r in t.ranks) for t in problem.cascade.inputs}
    keep = [name for name in shapes if name == "KEEP"]

    def made(maker):
        found = {name: maker(name, shape) for name, shape in shapes.items()}
        return found | {name: np.ones(shapes[name]) for name in keep}

    def ramp(name, shape):
        return np.broadcast_to(np.linspace(1, 30, shape[-2])[:, None], shape).copy()

    normal = made(lambda name, shape: rng.standard_normal(shape))
    yield "all equal", made(lambda name, shape: np.ones(shape))
    yield "large", {n: x * (1 if n in {"V", "GATE"} else 30) for n, x in normal.items()}
    yield (
        "large and negative",
        {n: -np.abs(x) * 30 for n, x in normal.items()} | {n: normal[n] for n in keep},
    )
    if all(len(s) > 1 for s in shapes.values()):
        yield "rising", made(ramp)
        yield "falling", {n: x[..., ::-1, :] for n, x in made(ramp).items()}
    spike = {n: x.copy() for n, x in normal.items()}
    for x in spike.values():
        x.flat[x.size // 2] = 1e3
    yield "one of a thousand", spike | {n: normal[n] for n in keep}


@pytest.mark.parametrize("name", sorted(set(NAMES) - UNSTABLE))
def test_equals_what_it_says_for_adversarial_values(name):
    for sizes, tile in ((BASE, 5), (BASE | {"P": 13, "M": 13}, 1)):
        problem = bound(name, sizes, tile)
        for _, inputs in adversarial(problem):
            same(problem, inputs)


@pytest.mark.parametrize("name", ["softmax", "softmax-online", "logsumexp", "logsumexp-online"])
@pytest.mark.parametrize("offset", [1e3, -1e3, 1e5])
def test_rows_far_from_zero(name, offset):
    problem = bound(name)
    same(problem, {"X": random_inputs(problem, 1)["X"] + offset})


@pytest.mark.parametrize("name", ["attention-naive", "softmax-naive"])
def test_without_the_maximum_exponentials_overflow(name):
    problem = bound(name)
    inputs = {n: x * 1e3 for n, x in random_inputs(problem).items()}
    assert np.isnan(run(problem, inputs)[problem.cascade.outputs[0]]).any()


@pytest.mark.parametrize("name", ["layernorm-moments", "variance-moments"])
def test_moments_cancel_far_from_zero(name):
    problem = bound(name)
    near = random_inputs(problem)
    same(problem, near)
    far = near | {"X": near["X"] + 1e8}
    with pytest.raises(AssertionError):
        same(problem, far, 1e-3)


def test_einsums_have_the_names_that_mappings_use():
    def written(name):
        return [e.name for e in load_cascade(name).einsums if "@" not in e.name]

    assert written("attention-3pass") == ["QK", "GM", "SN", "SD", "A", "AV"]
    assert set(written("attention-1pass")) == {
        *("QK", "LM", "RM", "SLN", "SLD", "SLNV", "PRM", "SPD", "RD", "SPNV", "RNV", "AV")
    }
    assert written("encoder-linear-layers") == ["Q", "K", "V", "Z", "FFN1", "FFN2"]


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name):
    text = load_cascade(name)
    assert text.name == name
    assert text.about
    assert len(text.about) <= 90
    assert text.family
    assert re.search(r"(19|20)\d\d", text.source), "a source has a year"
    assert text.equals in TEXTBOOK or text.equals in NAMES


def test_every_textbook_function_is_what_some_cascade_must_equal():
    every = {load_cascade(name).equals for name in catalog.names("cascade")}
    assert set(TEXTBOOK) <= every


# -- the textbook itself ---------------------------------------------------------------------


def tensors(*shapes, seed=3):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def test_softmax_and_logsumexp_are_scipys():
    (x,) = tensors((4, 9))
    np.testing.assert_allclose(textbook.softmax(x), special.softmax(x, axis=-1), rtol=1e-14)
    np.testing.assert_allclose(textbook.logsumexp(x), special.logsumexp(x, axis=-1), rtol=1e-14)


def test_attention_is_a_weighted_mean_of_values():
    q, k, v = tensors((1, 1, 3, 4), (1, 1, 5, 4), (1, 1, 5, 2))
    for p in range(3):
        weights = [np.exp(q[0, 0, p] @ k[0, 0, m]) for m in range(5)]
        mean = sum(w * v[0, 0, m] for m, w in enumerate(weights)) / sum(weights)
        np.testing.assert_allclose(textbook.attention(q, k, v)[0, 0, p], mean, rtol=1e-12)


def test_masks_are_attention_over_the_keys_that_are_left():
    q, k, v = tensors(*[(2, 3, 6, 4)] * 3)
    causal = textbook.attention_causal(q, k, v)
    window = textbook.attention_window(q, k, v, 2)
    for p in range(6):
        row = slice(p, p + 1)
        left = textbook.attention(q[:, :, row], k[:, :, : p + 1], v[:, :, : p + 1])
        np.testing.assert_allclose(causal[:, :, row], left, rtol=1e-12)
        near = slice(max(p - 1, 0), p + 1)
        left = textbook.attention(q[:, :, row], k[:, :, near], v[:, :, near])
        np.testing.assert_allclose(window[:, :, row], left, rtol=1e-12)


def test_decay_is_the_recurrence():
    q, k, v = tensors((1, 2, 7, 3), (1, 2, 7, 3), (1, 2, 7, 5))
    gate = np.array([0.5, -1.0])
    state = np.zeros((2, 3, 5))
    for p in range(7):
        state = special.expit(gate)[:, None, None] * state + k[0, :, p, :, None] * v[0, :, p, None]
        out = (q[0, :, p, :, None] * state).sum(axis=1)
        found = textbook.linear_attention_decay(q, k, v, gate)[0, :, p]
        np.testing.assert_allclose(found, out, rtol=1e-12)


def test_layernorm_has_mean_zero_and_variance_one():
    (x,) = tensors((2, 3, 50))
    y = textbook.layernorm(x, np.ones(50), np.zeros(50), 0.0)
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-14)
    np.testing.assert_allclose(y.var(axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(
        np.square(textbook.rmsnorm(x, np.ones(50), 0.0)).mean(axis=-1), 1, rtol=1e-12
    )
