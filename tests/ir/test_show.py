"""The canonical text: loading it gives an equal cascade, for all cascades that there can be."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.ir.cascade import (
    Access,
    Cascade,
    Compare,
    Const,
    Coordinate,
    Density,
    Einsum,
    Either,
    Index,
    Last,
    Map,
    Reduction,
    Size,
    Storage,
    Tensor,
    Threshold,
    simple,
)
from accelsim.ir.check import check
from accelsim.ir.ops import MAPS
from accelsim.ir.show import show, show_einsum, show_expr, show_position
from accelsim.load import catalog
from accelsim.load.cascade import cascade_from_text, load_cascade
from accelsim.load.format import load_format

RANKS = ("B", "H", "NULL", "E", "P", "ON", "M_2", "Y")
SPLIT = {"P": ("P1", "P0"), "Y": ("Y2", "Y1", "Y0")}
TENSORS = ("Q", "K", "E", "where1", "andy", "x", "Null_", "true2")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(
    "ab:#-'\"{}[],&* \n\t?!|>%@`\\0~", max_size=12
)


@st.composite
def cascades(draw):
    """A cascade that ``check`` finds nothing wrong with."""
    ranks = draw(st.lists(st.sampled_from(RANKS), min_size=2, max_size=5, unique=True))
    splits = {r: SPLIT[r] for r in ranks if r in SPLIT and draw(st.booleans())}
    parts = [p for r in ranks for p in splits.get(r, (r,))]
    variables = [p.lower() for p in parts]
    numbers = st.floats(allow_nan=False) | st.integers(-5, 5).map(float)
    constants = draw(st.dictionaries(st.sampled_from(["eps", "SCALE", "g"]), numbers, max_size=2))
    sizes = [*ranks, *(p for p in parts if p not in ranks)]
    known: dict[str, tuple[str, ...]] = {}
    inputs = []
    for name in draw(st.lists(st.sampled_from(TENSORS), min_size=1, max_size=3, unique=True)):
        declared = draw(st.lists(st.sampled_from(ranks), min_size=1, max_size=3))
        inputs.append(Tensor(name, tuple(declared)))
        known[name] = tuple(p for r in declared for p in splits.get(r, (r,)))

    def affine():
        terms = draw(
            st.dictionaries(
                st.sampled_from(variables),
                st.integers(-3, 3) | st.sampled_from(sizes),
                min_size=1,
                max_size=3,
            )
        )
        divisor = draw(st.sampled_from([1, 2, 16, *sizes]))
        return tuple(terms.items()), draw(st.integers(-4, 4)), divisor

    def added():
        counts = st.integers(-3, 3).filter(bool)
        return tuple(draw(st.dictionaries(st.sampled_from(sizes), counts, max_size=2)).items())

    def position(rank):
        kind = draw(st.integers(0, 6))
        if kind > 2:
            return Index(((rank.lower(), 1),))
        if kind == 2 and indexed:  # tensors that count in a rank, at plain indices
            name = draw(st.sampled_from(sorted(indexed)))
            its = indexed[name]
            if its[0] == rank:
                return Access(name, tuple(Index(((r.lower(), 1),)) for r in its[1]))
        if kind == 1:
            around, window = draw(st.permutations(variables))[:2] if variables[1:] else ("", "")
            if window:
                terms = ((around, 1), (window, draw(st.integers(1, 3))))
                return Index(terms, draw(st.integers(-4, 4)), 1, "window", sizes=added())
        index = Index(*affine(), draw(st.sampled_from(["", "clamp", "zero"])), sizes=added())
        plain = index.plain and not index.border
        return Index(((rank.lower(), 1),)) if plain else index

    def access():
        name = draw(st.sampled_from(sorted(known)))
        return Access(name, tuple(position(r) for r in known[name]))

    def leaf():
        kind = draw(st.integers(0, 6))
        if kind == 6:
            return Coordinate(draw(st.sampled_from(variables)))
        if kind == 0:
            return Const(draw(numbers))
        if kind == 1 and constants:
            name = draw(st.sampled_from(sorted(constants)))
            return Const(constants[name], name)
        if kind == 2:
            return Size(draw(st.sampled_from(sizes)))
        return access()

    def expression(depth):
        if not depth or not draw(st.integers(0, 2)):
            return leaf()
        operation = MAPS[draw(st.sampled_from(sorted(MAPS)))]
        return Map(operation.name, tuple(expression(depth - 1) for _ in range(operation.arity)))

    def condition(alone=True):
        kind = draw(st.integers(0, 6 if alone else 4))
        if kind > 4:
            count = draw(st.integers(2, 3))
            every = [draw(st.integers(1, 2)) for _ in range(count)]
            return Either(tuple(tuple(condition(False) for _ in range(n)) for n in every))
        if kind == 4:
            relation = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
            return Threshold(access(), relation, expression(2))
        if kind < 2:
            return access()
        relation = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
        sides = [Index(*affine(), sizes=added()) for _ in range(2)]
        return Compare(sides[0], relation, sides[1])

    indexed: dict[str, tuple[str, tuple[str, ...]]] = {}
    einsums = []
    for name in draw(st.sets(st.sampled_from(sorted(known)), max_size=1)):
        its = tuple(dict.fromkeys(known[name]))
        free = [v for v in variables if v.upper() not in known[name]]
        if len(its) == len(known[name]) and free:
            over, into = draw(st.sampled_from(its)), draw(st.sampled_from(free))
            reach = draw(st.none() | st.just(Const(0.5)) | st.just(Size(ranks[0])))
            chosen = Reduction(
                "topk" if reach is None else "topp", (over.lower(),), into, reach=reach
            )
            read = Access(name, tuple(Index(((r.lower(), 1),)) for r in its))
            left = (*(r for r in its if r != over), into.upper())
            output = Access("Chosen", tuple(Index(((r.lower(), 1),)) for r in left))
            einsums.append(Einsum(output, read, (chosen,)))
            known["Chosen"], indexed["Chosen"] = left, (over, left)
    for number in range(draw(st.integers(1, 4))):
        where = tuple(condition() for _ in range(draw(st.integers(0, 2))))
        bare = Einsum(Access("_"), expression(draw(st.integers(0, 3))), (), where)
        free = list(bare.variables)
        left = draw(st.permutations(free))[: draw(st.integers(0, len(free)))] if free else []
        reductions, rest = [], [v for v in free if v not in left]
        while rest:
            over = rest if draw(st.booleans()) else [draw(st.sampled_from(rest))]
            op = draw(st.sampled_from(["sum", "max", "prod"]))
            reductions.append(Reduction(op, tuple(over)))
            rest = [v for v in rest if v not in over]
        output = Access(f"T{number}", tuple(Index(((v, 1),)) for v in left))
        einsums.append(Einsum(output, bare.expr, tuple(reductions), where))
        known[f"T{number}"] = tuple(v.upper() for v in left)
    if draw(st.booleans()):
        step, last = draw(st.sampled_from(variables)), Last("")
        slot, after = Index(((step, 1),)), Index(((step, 1),), 1)
        last = Last(step.upper())
        einsums.append(Einsum(Access("R", (Index(),)), Const(draw(numbers))))
        carried = Map("max", (Access("R", (slot,)), Const(1.0)))
        einsums.append(Einsum(Access("R", (after,)), carried))
        einsums.append(Einsum(Access("Z"), Access("R", (last,))))
    read = {a.tensor for e in einsums for a in e.reads}
    written = list(dict.fromkeys(e.output.tensor for e in einsums))
    outputs = draw(st.lists(st.sampled_from(written), min_size=1, max_size=3, unique=True))
    stored = ()
    if draw(st.booleans()):
        its = load_format("ptq161")
        sizes = tuple((name, draw(st.sampled_from([64, *sizes]))) for name in its.sizes)
        stored = (Storage(written[0], its, sizes), Storage(written[-1], load_format("fp16")))
        stored = stored[: 1 + (written[0] != written[-1])]
    decided = {c.tensor for e in einsums for c in simple(e.where) if isinstance(c, Access)}
    densities = ()
    if decided and draw(st.booleans()):
        share = draw(st.floats(1e-3, 1))
        source = draw(TEXTS.filter(str.strip))
        densities = (Density(draw(st.sampled_from(sorted(decided))), share, source),)
    return Cascade(
        draw(TEXTS.filter(bool)),
        tuple(ranks),
        tuple(t for t in inputs if t.name in read),
        tuple(einsums),
        tuple(outputs),
        tuple(splits.items()),
        tuple(constants.items()),
        draw(st.sampled_from(["", "attention", "linear-attention"])),
        draw(TEXTS),
        draw(TEXTS),
        draw(TEXTS),
        formats=stored,
        densities=densities,
    )


@given(cascades())
def test_loading_the_text_gives_the_cascade(cascade):
    text = show(check(cascade))
    assert cascade_from_text(text) == cascade
    assert show(cascade_from_text(text)) == text


@pytest.mark.parametrize("name", catalog.names("cascade"))
def test_shipped_cascades(name):
    cascade = load_cascade(name)
    text = show(cascade)
    assert cascade_from_text(text) == cascade
    assert show(cascade_from_text(text)) == text
    assert text.isascii() or not catalog.find("cascade", name).read_text("utf-8").isascii()


def x(*indices):
    return Access("X", indices)


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (Map("sub", (x(), Map("sub", (x(), x())))), "X - (X - X)"),
        (Map("sub", (Map("sub", (x(), x())), x())), "X - X - X"),
        (Map("mul", (Map("add", (x(), x())), x())), "(X + X) * X"),
        (Map("add", (Map("mul", (x(), x())), x())), "X * X + X"),
        (Map("div", (x(), Map("mul", (x(), x())))), "X / (X * X)"),
        (Map("neg", (Map("mul", (x(), x())),)), "-(X * X)"),
        (Map("mul", (Map("neg", (x(),)), x())), "-X * X"),
        (Map("neg", (Map("neg", (x(),)),)), "--X"),
        (Map("neg", (Const(2.0),)), "neg(2)"),
        (Map("neg", (Const(2.0, "two"),)), "-two"),
        (Map("sub", (Const(-1.0), Const(-2.0))), "-1 - -2"),
        (Map("exp", (Map("sub", (x(), Size("E"))),)), "exp(X - E)"),
        (Map("select", (x(), Const(float("-inf")), Const(1e-5))), "select(X, -inf, 1e-5)"),
        (Const(1e22), "1e22"),
        (Const(-0.0), "-0"),
        (Const(1234567.0), "1234567"),
    ],
)
def test_expressions_have_the_parentheses_that_they_need(expr, text):
    assert show_expr(expr) == text


@pytest.mark.parametrize(
    ("position", "text"),
    [
        (Index(), "0"),
        (Index((), -2), "-2"),
        (Index((("m1", 1),), 1), "m1+1"),
        (Index((("p", -1),), 3), "-p+3"),
        (Index((("p", -2), ("w", 1))), "-2*p+w"),
        (Index((("p", 0),)), "+0*p".removeprefix("+")),
        (Index((("m1", "M0"), ("m0", 1))), "m1*M0+m0"),
        (Index((("h", 1),), 0, "G"), "h // G"),
        (Index((("m", 1),), -1, sizes=(("W", 1), ("S", -2))), "m+W-2*S-1"),
        (Index((("m", 1),), 0, 2, sizes=(("W", -1),)), "(m-W) // 2"),
        (Index(sizes=(("W", 1),)), "W"),
        (Index((("h", -1),), 0, 2), "(-h) // 2"),
        (Index((("p", 1),), 1, 2, "zero"), "zero((p+1) // 2)"),
        (Last("M1"), "M1"),
    ],
)
def test_positions(position, text):
    assert show_position(position) == text


def test_a_sum_is_left_implicit_only_where_it_is_last_and_whole():
    m, p = Index((("m", 1),)), Index((("p", 1),))
    sums = [
        ((Reduction("sum", ("m", "p")),), "Y = X[m,p]"),
        ((Reduction("sum", ("p", "m")),), "Y = X[m,p] :: sum(p, m)"),
        ((Reduction("max", ("m",)), Reduction("sum", ("p",))), "Y = X[m,p] :: max(m), sum(p)"),
        ((Reduction("sum", ("m",)), Reduction("max", ("p",))), "Y = X[m,p] :: sum(m), max(p)"),
        ((Reduction("sum", ("m",)), Reduction("sum", ("p",))), "Y = X[m,p] :: sum(m)"),
        ((Reduction("topk", ("m",), "r"),), "Y = X[m,p] :: topk(m -> r)"),
    ]
    for reductions, text in sums:
        assert show_einsum(Einsum(Access("Y"), x(m, p), reductions)) == text


def test_several_outputs_splits_and_constants():
    text = """\
cascade: two
source: 'Someone: "a paper", 2024'
ranks: [M, 'NULL']
split: {M: [M1, M0]}
constants: {eps: 1e-5, top: -.inf}
inputs: {X: [M]}
outputs: [A, B]
einsums:
  - A[m1] = X[m1,m0] + top :: max(m0)
  - B = A[m1] * eps
"""
    shown = show(cascade_from_text(text))
    assert cascade_from_text(shown) == cascade_from_text(text)
    assert shown.splitlines()[1:5] == [
        'source: "Someone: \\"a paper\\", 2024"',
        'ranks: [M, "NULL"]',
        "split: {M: [M1, M0]}",
        "constants: {eps: 1e-5, top: -.inf}",
    ]
    assert shown.splitlines()[6] == "outputs: [A, B]"


def test_a_line_too_long_for_a_key_is_quoted():
    terms = " * ".join("(" + " + ".join(["X[m]"] * 50) + ")" for _ in range(4))
    body = "cascade: long\nranks: [M]\ninputs: {X: [M]}\noutput: Y\neinsums:\n"
    long = cascade_from_text(body + f"  - 'Y = {terms} :: max(m)'\n")
    assert len(show(long).splitlines()[-1]) > 1000
    assert cascade_from_text(show(long)) == long


def test_names_are_plain_where_they_can_be():
    assert set(string.ascii_letters) >= set("YN")  # YAML 1.1 would quote these
    text = (
        "cascade: a\nranks: [Y, N]\ninputs: {X: [Y, N]}\noutput: Z\neinsums:\n  - Z[y] = X[y,n]\n"
    )
    assert show(cascade_from_text(text)) == text
