"""One line of text to one Einsum: every form of the language, and its places."""

import pytest

from accelsim.errors import InputError, Place
from accelsim.ir.cascade import Access, Compare, Const, Index, Last, Map, Reduction, Size
from accelsim.ir.show import show_einsum
from accelsim.load import einsum
from accelsim.load.einsum import Names

NAMES = Names(
    ("B", "H", "G", "J", "M", "P", "E", "F", "W"),
    {"M": ("M1", "M0"), "P": ("P1", "P0")},
    {"eps": 1e-5, "S": 0.5},
)
b, h, e, f, w = (Index(((v, 1),)) for v in "bhefw")
m1, m0, p1, p0 = (Index(((v, 1),)) for v in ("m1", "m0", "p1", "p0"))


def parse(text):
    return einsum.parse(text, NAMES)


def test_a_product_with_its_implicit_sum():
    got = parse("QK[b,m1,m0] = Q[b,e] * K[b,m1,m0,e]")
    assert got.output == Access("QK", (b, m1, m0))
    assert got.expr == Map("mul", (Access("Q", (b, e)), Access("K", (b, m1, m0, e))))
    assert got.reductions == (Reduction("sum", ("e",)),)


def test_the_implicit_sum_stands_last():
    got = parse("A[b] = X[b,e,f,w] :: sum(f)")
    assert got.reductions == (Reduction("sum", ("f",)), Reduction("sum", ("e", "w")))
    got = parse("A[b] = X[b,e,f,w] :: sum(e, w), max(f)")
    assert got.reductions == (Reduction("sum", ("e", "w")), Reduction("max", ("f",)))
    assert parse("A[b] = X[b,e] :: sum(e)").reductions == (Reduction("sum", ("e",)),)


@pytest.mark.parametrize(
    ("text", "expr"),
    [
        ("-inf", Const(float("-inf"))),
        ("inf", Const(float("inf"))),
        ("-2", Const(-2.0)),
        ("1e-5", Const(1e-5)),
        (".5", Const(0.5)),
        ("5.", Const(5.0)),
        ("eps", Const(1e-5, "eps")),
        ("E", Size("E")),
        ("M0", Size("M0")),
        ("M", Size("M")),
        ("S", Const(0.5, "S")),
        ("T", Access("T")),
        ("T[]", Access("T")),
        ("-eps", Map("neg", (Const(1e-5, "eps"),))),
        ("neg(2)", Map("neg", (Const(2.0),))),
        ("2 - 3 - 4", Map("sub", (Map("sub", (Const(2.0), Const(3.0))), Const(4.0)))),
        ("2 - (3 - 4)", Map("sub", (Const(2.0), Map("sub", (Const(3.0), Const(4.0)))))),
        ("2 + 3 * 4", Map("add", (Const(2.0), Map("mul", (Const(3.0), Const(4.0)))))),
        ("-E * 4", Map("mul", (Map("neg", (Size("E"),)), Const(4.0)))),
        ("2 / 3 / E", Map("div", (Map("div", (Const(2.0), Const(3.0))), Size("E")))),
        ("--E", Map("neg", (Map("neg", (Size("E"),)),))),
        ("2 - -3", Map("sub", (Const(2.0), Const(-3.0)))),
        (
            "select(less(T, 2), max(T, 0), exp(T))",
            Map(
                "select",
                (
                    Map("less", (Access("T"), Const(2.0))),
                    Map("max", (Access("T"), Const(0.0))),
                    Map("exp", (Access("T"),)),
                ),
            ),
        ),
    ],
)
def test_expressions(text, expr):
    assert parse(f"Y[b] = {text}").expr == expr


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("e", e),
        ("0", Index()),
        ("m1+1", Index((("m1", 1),), 1)),
        ("2*e+w-1", Index((("e", 2), ("w", 1)), -1)),
        ("e*2", Index((("e", 2),))),
        ("-e+3", Index((("e", -1),), 3)),
        ("e-2*w", Index((("e", 1), ("w", -2)))),
        ("2*3*e", Index((("e", 6),))),
        ("m1*M0+m0", Index((("m1", "M0"), ("m0", 1)))),
        ("M0*m1+m0", Index((("m1", "M0"), ("m0", 1)))),
        ("m", Index((("m1", "M0"), ("m0", 1)))),
        ("m+1", Index((("m1", "M0"), ("m0", 1)), 1)),
        ("h // G", Index((("h", 1),), 0, "G")),
        ("h//4", Index((("h", 1),), 0, 4)),
        ("(2*e+w-1) // 2", Index((("e", 2), ("w", 1)), -1, 2)),
        ("clamp(e+w-2)", Index((("e", 1), ("w", 1)), -2, 1, "clamp")),
        ("zero((e+w) // 2)", Index((("e", 1), ("w", 1)), 0, 2, "zero")),
        ("M1", Last("M1")),
    ],
)
def test_positions(text, position):
    assert parse(f"Y[b] = K[b, {text}]").expr.indices == (b, position)


def test_conditions():
    got = parse("Y[b,p1,p0] = K[b,m1,m0] where m <= p and Keep[b,m1] and e+1 != 4 and w // 2 >= f")
    assert got.where == (
        Compare(Index((("m1", "M0"), ("m0", 1))), "<=", Index((("p1", "P0"), ("p0", 1)))),
        Access("Keep", (b, m1)),
        Compare(Index((("e", 1),), 1), "!=", Index((), 4)),
        Compare(Index((("w", 1),), 0, 2), ">=", f),
    )
    assert got.reductions == (Reduction("sum", ("m1", "m0", "e", "w", "f")),)


def test_a_reduction_over_a_split_rank_is_over_its_parts():
    assert parse("Y[b] = K[b,m1,m0] :: max(m)").reductions == (Reduction("max", ("m1", "m0")),)


def test_names_may_begin_with_a_word_of_the_language():
    got = parse("where1[b] = andy[b] * info where whereof[b] and andalso[b]")
    assert [a.tensor for a in got.reads] == ["andy", "info", "whereof", "andalso"]


def test_a_scalar_tensor():
    assert parse("T = X[b] / B").output == Access("T")
    assert show_einsum(parse("T[] = X[b] / B")) == "T = X[b] / B"


def test_places():
    text = "GM[b,m1+1] = max(QK[b, h // G], T) :: max(h), sum(e) where e <= 2 and Keep[b]"
    got = parse(text)

    def there(place):
        assert place.text == text
        return text[place.column - 1 :]

    assert there(got.place).startswith("GM")
    assert [there(a.place)[:4] for a in got.reads] == ["QK[b", "T) :", "Keep"]
    assert [there(i.place)[:2] for i in got.output.indices] == ["b,", "m1"]
    assert there(got.reads[0].indices[1].place).startswith("h // G")
    assert there(got.reductions[0].place).startswith("max(h)")
    assert there(got.where[0].place).startswith("e <= 2")


def test_places_are_asked_of_the_document():
    got = einsum.parse("Y[b] = X[b]", NAMES, lambda offset: Place("d.yaml", 7, offset + 5))
    assert got.reads[0].place == Place("d.yaml", 7, 12)


def test_white_space_does_not_matter():
    spaced = " Y [ b ] = exp ( X [ b , h // G ] )\n\t:: max ( h )  where  b < 2 "
    assert parse(spaced) == parse("Y[b]=exp(X[b,h//G])::max(h)where b<2")


def test_parentheses_as_deep_as_a_line_is_long():
    assert parse("Y[b] = " + "(" * 4000 + "X[b]" + ")" * 4000).expr == Access("X", (b,))


@pytest.mark.parametrize("text", ["-" * 5000 + "X[b]", "X[b]" + "+X[b]" * 2000, "exp(" * 999])
def test_what_is_too_deep_is_refused_in_time(text):
    with pytest.raises(InputError, match=r"nested deeper than 100|is never closed"):
        parse("Y[b] = " + text)


def test_all_faults_of_a_line_come_together():
    with pytest.raises(InputError) as caught:
        parse("Y[x] = expp(X[y], 1e999) :: topk(b)")
    assert [fault.place.column for fault in caught.value.faults] == [3, 8, 15, 19, 29]
