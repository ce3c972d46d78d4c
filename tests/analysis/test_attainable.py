"""Attainable traffic: mappings are replayed, small mapspaces enumerated, ends and forms checked."""

from __future__ import annotations

import math
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.analysis.attainable import Mapspace, Tiling, tile_sizes
from accelsim.analysis.fused import Fused, slope
from accelsim.analysis.group import Group
from accelsim.analysis.masks import UNMASKED, met
from accelsim.analysis.occupancy import Occupancy
from accelsim.analysis.plan import Plan
from accelsim.analysis.slope import attainable
from accelsim.analysis.statement import Program, program
from accelsim.analysis.traffic import Traffic
from accelsim.ir.cascade import Cascade, Compare, Index
from accelsim.ir.lattice import Affine, Predicate
from accelsim.ir.problem import bind, relevant, with_parts
from accelsim.load.cascade import cascade_from_text, load_cascade
from tests.oracle.cascades import RANKS, cascades, masked, spelled
from tests.oracle.passes import unroll
from tests.oracle.replay import Nest, inner_orders, replay
from tests.oracle.schedules import traffic
from tests.oracle.shipped import textbook_cascades

SLOW: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}
CHAIN = """
cascade: chain
ranks: [P, D, S, F]
inputs: {X: [P, D], A: [D, S], B: [S, F]}
output: Y
einsums:
  - H[p,s] = X[p,d] * A[d,s]
  - Y[p,f] = H[p,s] * B[s,f]
"""


def bound(cascade: str | Cascade, **sizes: int) -> Program:
    text = load_cascade(cascade) if isinstance(cascade, str) else cascade
    return program(bind(text, with_parts(text, relevant(text, sizes), 4)))


# -- one Einsum -----------------------------------------------------------------------------------


@given(st.integers(1, 3000))
def test_tile_sizes_are_the_least_for_each_number_of_tiles(extent: int) -> None:
    known = sorted({-(-extent // t) for t in range(1, extent + 1)})
    assert tile_sizes(extent, 10_000) == known


def test_thinned_tile_sizes_keep_both_ends() -> None:
    found = tile_sizes(1 << 20, 60)
    assert len(found) <= 62
    assert {1, 2, 3, 1 << 20, 1 << 19} <= set(found)


@settings(max_examples=15, **SLOW)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(3, 60))
def test_matmul_slope_is_the_least_of_all_tilings(m: int, n: int, k: int, capacity: int) -> None:
    """All tile sizes, orders and streaming tensors, priced by walking over the tiles."""
    best = math.inf
    for tiles in product(range(1, m + 1), range(1, n + 1), range(1, k + 1)):
        t = dict(zip("mnk", tiles, strict=True))
        size = {"A": t["m"] * t["k"], "B": t["k"] * t["n"], "C": t["m"] * t["n"]}
        for past in "ABC":
            if sum(size.values()) - size[past] + 1 <= capacity:
                for order in permutations("mnk"):
                    best = min(best, _walked({"m": m, "n": n, "k": k}, t, order, past))
    statements = bound("matmul", M=m, N=n, K=k)
    found, how = Mapspace(statements, statements.statements[0]).slope([capacity], every=True)
    assert found[0] == best
    assert how[0] is not None
    assert how[0].words_held <= capacity


def _walked(
    extents: dict[str, int], tiles: dict[str, int], order: tuple[str, ...], past: str
) -> int:
    """Words moved: a tile is fetched when it is not the one before, what streams each time."""
    ranks = {"A": "mk", "B": "kn", "C": "mn"}
    steps = [range(-(-extents[v] // tiles[v])) for v in order]
    last: dict[str, tuple[int, ...]] = {}
    seen: set[tuple[int, ...]] = set()
    words = 0
    for at in product(*steps):
        here = dict(zip(order, at, strict=True))
        for tensor, vs in ranks.items():
            tile = tuple(here[v] for v in vs)
            if last.get(tensor) == tile and tensor != past:
                continue
            last[tensor] = tile
            size = math.prod(min(tiles[v], extents[v] - here[v] * tiles[v]) for v in vs)
            words += size
            if tensor == "C":  # stored each time, loaded again where it was begun before
                words += size * (tile in seen)
                seen.add(tile)
    return words


@pytest.mark.parametrize("capacity", [3, 4, 6, 9, 14, 20, 33, 60])
def test_a_tiling_of_matmul_moves_what_it_says(capacity: int) -> None:
    sizes = {"M": 5, "N": 6, "K": 4}
    statements = bound("matmul", **sizes)
    found, how = Mapspace(statements, statements.statements[0]).slope([capacity], every=True)
    tiling = how[0]
    assert isinstance(tiling, Tiling)
    assert tiling.words_moved == found[0]
    ranks = {"A": "mk", "B": "kn", "C": "mn"}
    inner = [*ranks[tiling.streams], *(set("mnk") - set(ranks[tiling.streams]))]
    steps = [(x, p) for x, ps in unroll(load_cascade("matmul"), sizes).points.items() for p in ps]
    steps.sort(
        key=lambda s: ([s[1].at[v] // t for v, t in tiling.tiles], [s[1].at[v] for v in inner])
    )
    moved = traffic(load_cascade("matmul"), steps, capacity)
    assert moved is not None
    assert moved <= tiling.words_moved


def test_batch_ranks_repeat_the_rest() -> None:
    text = cascade_from_text(
        "cascade: batched\nranks: [B, M, N, K]\ninputs: {X: [B, M, K], W: [B, K, N]}\n"
        "output: Y\neinsums:\n  - Y[b,m,n] = X[b,m,k] * W[b,k,n]\n"
    )
    one, many = (bound(text, B=b, M=9, N=8, K=7) for b in (1, 5))
    for capacity in (5, 20, 80):
        assert attainable(many, [capacity]).words[0] == 5 * attainable(one, [capacity]).words[0]


# -- fused groups ---------------------------------------------------------------------------------


def replayed(cascade: Cascade, sizes: dict[str, int], capacity: int) -> tuple[int, float] | None:
    """Words that a group's best mapping moves when executed, and what it says; None: none fits."""
    problem = bind(cascade, sizes, imperfect=dict(cascade.splits))
    statements = program(problem)
    wanted = frozenset(statements.outputs)
    group = Group(statements, statements.statements, wanted)
    found = slope(group, [capacity])
    how = found.how[0]
    if how is None:
        return None
    plan = Plan(group, how.loops)
    occupancy = next(
        o for way in plan.ways() if tuple((o := Occupancy(plan, way)).way.items()) == how.crossing
    )
    assert how.column in ("", *occupancy.columns())
    numbered = list(enumerate(group.statements))
    shared = {*how.loops.tile, *(v for vs in how.loops.outer for v in vs), how.loops.stream}
    best = 1 << 60
    for first in inner_orders({s.name: _begins(s, shared) for s in group.statements}, 16):
        nest = Nest(
            [v for vs in how.loops.outer for v in vs],
            how.loops.tile,
            how.tile,
            how.loops.stream,
            how.block,
            plan.passes,
            {s.name: occupancy.runs[n] for n, s in numbered if plan.streams(s)},
            {s.name: plan.at[n] for n, s in numbered if not plan.streams(s)},
            first,
            how.column,
        )
        best = min(best, replay(spelled(problem), problem.sizes, nest, capacity))
        if best <= found.words[0]:
            break
    return best, float(found.words[0])


def _begins(s: Any, shared: set[str]) -> list[list[str]]:
    """Inner loops: a private rank as columns, then the ranks of the tensor that streams."""
    found = []
    for access in (*s.reads, s.output):
        free = sorted(access.variables - shared, key=lambda v: -s.sizes[v])[:1]
        found.append([*free, *sorted(access.variables - set(free))])
    return found


REPLAYED = {
    "softmax": {"B": 2, "M": 10},
    "attention-3pass": {"B": 1, "H": 1, "P": 6, "M": 7, "E": 3, "F": 2},
    "attention-2pass": {"B": 1, "H": 1, "P": 4, "M1": 3, "M0": 2, "E": 3, "F": 2},
    "attention-1pass": {"B": 1, "H": 1, "P": 4, "M1": 3, "M0": 2, "E": 3, "F": 2},
    "attention-causal": {"B": 1, "H": 1, "P": 6, "M": 6, "E": 3, "F": 2},
    "attention-causal-1pass": {"B": 1, "H": 1, "P": 6, "M1": 3, "M0": 2, "E": 2, "F": 2},
    "layernorm": {"B": 1, "P": 4, "D": 7},
    "rmsnorm-matmul": {"B": 1, "P": 4, "D": 5, "S": 3},
    "mlp": {"B": 1, "P": 5, "D": 4, "S": 6},
    "linear-attention-causal": {"B": 1, "H": 1, "M": 5, "E": 3, "F": 2},
}


#: The same with a short last tile of the keys.
SHORT = {
    "attention-2pass": {"B": 1, "H": 1, "P": 4, "M": 5, "M0": 2, "E": 3, "F": 2},
    "attention-1pass": {"B": 1, "H": 1, "P": 4, "M": 5, "M0": 3, "E": 3, "F": 2},
    "attention-causal-1pass": {"B": 1, "H": 1, "P": 5, "M": 5, "M0": 2, "E": 2, "F": 2},
}


@pytest.mark.parametrize(("name", "sizes"), [*REPLAYED.items(), *SHORT.items()])
def test_fused_mappings_move_no_more_than_they_say(name: str, sizes: dict[str, int]) -> None:
    fitted = 0
    for capacity in (5, 8, 14, 20, 30, 60):
        found = replayed(load_cascade(name), sizes, capacity)
        if found is not None:
            fitted += 1
            assert found[0] <= found[1], capacity
    assert fitted >= 2


@settings(max_examples=25, **SLOW)
@given(cascades(most=4), st.tuples(*[st.integers(1, 4)] * 4), st.integers(4, 40))
def test_fused_mappings_of_random_cascades_move_no_more_than_they_say(
    cascade: Cascade, sizes: tuple[int, ...], capacity: int
) -> None:
    found = replayed(cascade, dict(zip(RANKS, sizes, strict=True)), capacity)
    if found is not None:
        assert found[0] <= found[1]


@settings(max_examples=25, **SLOW)
@given(
    cascades(most=3, recurrences=False),
    st.tuples(*[st.integers(1, 4)] * 4),
    st.integers(4, 40),
    st.sampled_from(["<=", ">=", "<", "=="]),
    st.integers(-1, 1),
)
def test_fused_mappings_under_masks_move_no_more_than_they_say(
    cascade: Cascade, sizes: tuple[int, ...], capacity: int, relation: str, offset: int
) -> None:
    mask = Compare(Index((("i", 1),)), relation, Index((("j", 1),), offset))
    found = replayed(masked(cascade, mask), dict(zip(RANKS, sizes, strict=True)), capacity)
    if found is not None:
        assert found[0] <= found[1]


# -- masks ----------------------------------------------------------------------------------------


def test_causal_attention_fetches_no_key_that_a_tile_of_queries_may_not_see() -> None:
    """Tiles of 114 queries see 114, 228, ..., 1024 keys, three times K and once V."""
    sizes = {"B": 1, "H": 1, "P": 1024, "M": 1024, "E": 64, "F": 64}
    capacity = 16384
    found = attainable(bound("attention-causal", **sizes), [capacity])
    full = attainable(bound("attention-3pass", **sizes), [capacity])
    (_, how), *rest = found.how[0]
    assert not rest
    assert isinstance(how, Fused)
    assert how.loops.tile == ("p",)
    seen = sum(min(1024, how.tile * (i + 1)) for i in range(-(-1024 // how.tile)))
    moved = 2 * 1024 * 64 + seen * 4 * 64
    assert moved * 0.98 <= found.words[0] <= moved
    assert found.words[0] < 0.6 * full.words[0]


@settings(max_examples=60, **SLOW)
@given(st.data())
def test_what_a_tile_meets_is_no_less_than_what_a_mask_leaves_of_it(data: st.DataObject) -> None:
    """Affine predicates on a tiled rank p, a rank m of the tensor and a rank e of neither."""
    sizes = {v: data.draw(st.integers(1, 7), label=v) for v in "mpe"}
    tile = data.draw(st.integers(1, sizes["p"]))
    index = st.builds(
        lambda terms, by: Affine(tuple(terms.items()), by),
        st.dictionaries(st.sampled_from("mpe"), st.integers(-2, 2), max_size=3),
        st.integers(-3, 3),
    )
    relation = st.sampled_from(["<=", "<", ">=", ">", "==", "!="])
    both = data.draw(
        st.lists(st.lists(st.builds(Predicate, index, relation, index), max_size=2), max_size=2)
    )
    either = tuple(tuple(its) for its in both) or UNMASKED
    points = [dict(zip("mpe", x, strict=True)) for x in product(*map(range, sizes.values()))]
    left = {
        (at["m"], at["p"] // tile)
        for at in points
        if any(all(_holds(p, at) for p in its) for its in either)
    }
    problem = bound("matmul", M=1, N=1, K=1).problem
    found = met(problem, either, {"m": sizes["m"]}, {"p": tile}, sizes)
    assert len(left) <= found <= sizes["m"] * -(-sizes["p"] // tile)


def test_what_a_causal_tile_meets_is_exact() -> None:
    causal = Predicate(Affine((("m", 1),)), "<=", Affine((("p", 1),)))
    local = Predicate(Affine((("p", 1),), -3), "<", Affine((("m", 1),)))
    problem = bound("matmul", M=1, N=1, K=1).problem
    for p, m, tile in product((1, 5, 10), (1, 7, 12), (1, 2, 3, 7)):
        sizes = {"p": p, "m": m}
        last = [min(tile * (i + 1), p) for i in range(-(-p // tile))]
        seen = sum(min(m, n) for n in last)
        assert met(problem, ((causal,),), {"m": m}, {"p": min(tile, p)}, sizes) == seen
        near = sum(
            len({k for q in range(n - min(tile, n), n) for k in range(m) if q - 3 < k <= q})
            for n in last
            if n % tile == 0
        )
        if p % tile == 0:
            assert met(problem, ((causal, local),), {"m": m}, {"p": tile}, sizes) == near


def _holds(p: Predicate, at: dict[str, int]) -> bool:
    a, b = (sum(c * at[v] for v, c in side.terms) + side.offset for side in (p.left, p.right))
    return {"<=": a <= b, "<": a < b, ">=": a >= b, ">": a > b, "==": a == b, "!=": a != b}[
        p.relation
    ]


@settings(max_examples=25, **SLOW)
@given(cascades(most=4), st.tuples(*[st.integers(1, 5)] * 4), st.integers(2, 30))
def test_lower_bound_attainable_and_the_far_end(
    cascade: Cascade, sizes: tuple[int, ...], capacity: int
) -> None:
    statements = bound(cascade, **dict(zip(RANKS, sizes, strict=True)))
    capacities = [capacity, 3 * capacity, 10_000]
    found = attainable(statements, capacities).words
    for at, words in zip(capacities, found, strict=True):
        assert Traffic(statements).lower(at).words <= words
    assert found[0] >= found[1] >= found[2] == statements.compulsory


SIZES = {"B": 1, "H": 2, "HK": 1, "P": 24, "M": 24, "W": 4, "D": 12, "E": 6, "F": 6, "S": 18}


#: Of many tilings, and near to others that are looked at.
SLOWEST = (
    "attention-2pass", "flash-attention-1", "linear-attention-causal-chunked", "rabe-staats",
    "attention-causal-1pass",
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long) if name in SLOWEST else name
        for name in textbook_cascades()
    ],
)
def test_shipped_cascades_lie_between_their_bounds(name: str) -> None:
    text = load_cascade(name)
    sizes = {**SIZES, "K": 10, "N": 14}
    known = {r: sizes.get(r, 6) for r in text.ranks if r not in {"G"}}
    statements = bound(text, **known)
    everything = sum(statements.problem.tensor_elements(t) for t in text.tensors)
    capacities = [8, 40, 300, 2 * everything + 50]
    found = attainable(statements, capacities).words
    lower = Traffic(statements)
    for capacity, words in zip(capacities, found, strict=True):
        assert lower.lower(capacity).words <= words
    assert sorted(found, reverse=True) == list(found)
    assert found[-1] == statements.compulsory


# -- forms that the literature has ----------------------------------------------------------------


def test_one_pass_attention_streams_keys_once_for_each_tile_of_queries() -> None:
    """As FlashAttention: Q and AV once, K and V once for each of P/p tiles of p queries."""
    p = m = 512
    e = f = 16
    statements = bound("attention-1pass", B=1, H=1, P=p, M=m, M0=1, E=e, F=f)
    capacity = 1200
    found = attainable(statements, [capacity])
    how = found.how[0][0][1]
    assert isinstance(how, Fused)
    assert (how.loops.tile, how.passes) == (("p",), 1)
    tiles = -(-p // how.tile)
    whole = p * (e + f) + tiles * m * (e + f)
    assert whole * 0.95 <= found.words[0] <= whole
    assert how.tile * (e + f) < capacity < how.tile * 6 * (e + f)


def test_one_pass_attention_needs_one_state_a_query() -> None:
    """Index by index of F a running value takes one slot: tiles nearly fill Q and the state."""
    bound_ = bound("attention-1pass", B=1, H=1, P=4096, M=4096, M0=1, E=64, F=64)
    capacity = 1 << 16
    found = attainable(bound_, [capacity])
    how = found.how[0][0][1]
    assert isinstance(how, Fused)
    assert how.column == "f"
    assert how.tile * 128 > 0.85 * capacity
    assert found.words[0] < 1.3 * Traffic(bound_).lower(capacity).words
    sizes = {"B": 1, "H": 1, "P": 5, "M1": 4, "M0": 1, "E": 2, "F": 5}
    columns = 0
    for small in (16, 18, 48, 54):
        moved = replayed(load_cascade("attention-1pass"), sizes, small)
        statements = program(bind(load_cascade("attention-1pass"), sizes))
        group = Group(statements, statements.statements, frozenset(statements.outputs))
        its = slope(group, [small]).how[0]
        if moved is not None and its is not None and its.column:
            columns += 1
            assert moved[0] <= moved[1]
    assert columns >= 2


def test_three_passes_read_keys_again_or_keep_a_row_of_scores() -> None:
    """FLAT keeps M scores a query; with less on chip K is read three times, V once."""
    p, m, e = 64, 4096, 8
    three = bound("attention-3pass", B=1, H=1, P=p, M=m, E=e, F=e)
    one = bound("attention-1pass", B=1, H=1, P=p, M=m, M0=1, E=e, F=e)
    capacity = p * (4 * e + 12)
    words = attainable(three, [capacity]).words[0]
    assert words == pytest.approx(2 * p * e + 4 * m * e, rel=0.03)
    assert attainable(one, [capacity * 2]).words[0] == pytest.approx(
        2 * p * e + 2 * m * e, rel=0.02
    )
    assert attainable(three, [p * m + p * 4 * e]).words[0] == 2 * p * e + 2 * m * e


def test_fusing_a_chain_keeps_the_intermediate_on_chip() -> None:
    statements = bound(cascade_from_text(CHAIN), P=256, D=8, S=512, F=8)
    found = attainable(statements, [600])
    apart = statements.compulsory + 2 * 256 * 512
    assert found.words[0] < apart / 2
    assert len(found.how[0]) == 1


def test_a_capacity_in_which_nothing_fits_attains_nothing() -> None:
    found = attainable(bound("layernorm", B=1, P=2, D=4), [4, 5])
    assert found.words[0] == math.inf
    assert found.how[0] == ()
    assert found.words[1] < math.inf


def test_a_mapping_reads_as_a_sentence() -> None:
    found = attainable(bound("softmax", B=2, M=50), [4, 200])
    assert str(found.how[0][0][1]) == (
        "tiles of 1 of b; 3 passes over m in blocks of 1; SN computed again"
    )
    assert found.how[0][0][0] == "GM SN SD Y"
