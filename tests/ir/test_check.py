"""Checks of cascades that came from no text; those of documents are in ``golden/errors``."""

import pytest

from accelsim.errors import InputError, Place
from accelsim.ir.cascade import (
    Access,
    Cascade,
    Compare,
    Const,
    Einsum,
    Index,
    Last,
    Map,
    Reduction,
    Size,
    Tensor,
)
from accelsim.ir.check import check, faults
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade

b, m, p, z = (Index(((v, 1),)) for v in "bmpz")
x = Access("X", (b, m))
SUM = Reduction("sum", ("m",))
INPUTS = (Tensor("X", ("B", "M")),)


def cascade(*einsums, outputs=("Y",), splits=(), **more):
    return Cascade("c", ("B", "M", "P"), INPUTS, einsums, outputs, splits, **more)


def messages(c):
    with pytest.raises(InputError) as caught:
        check(c)
    return [fault.message for fault in caught.value.faults]


def test_a_right_one_comes_back():
    c = cascade(Einsum(Access("Y", (b,)), x, (SUM,)))
    assert check(c) is c
    assert list(faults(c)) == []


@pytest.mark.parametrize("name", catalog.names("cascade"))
def test_shipped_cascades_are_right(name):
    assert check(load_cascade(name))


@pytest.mark.parametrize(
    ("einsum", "message"),
    [
        (Einsum(Access("Y", (z,)), x, (Reduction("sum", ("b", "m")),)), "unknown index variable z"),
        (
            Einsum(Access("Y", (b,)), Access("X", (b, z)), (Reduction("sum", ("z",)),)),
            "unknown index variable z",
        ),
        (
            Einsum(Access("Y", (b,)), x, (Reduction("sum", ("m", "z")),), (Compare(z, "<", m),)),
            "unknown index variable z",
        ),
        (Einsum(Access("Y", (b,)), Map("div", (x, Size("Z"))), (SUM,)), "unknown rank Z"),
        (
            Einsum(Access("Y", (b,)), Access("X", (b, Index((("m", 1),), 0, "Z"))), (SUM,)),
            "unknown rank Z",
        ),
        (
            Einsum(Access("Y", (b,)), Access("X", (b, Index((("m", "Z"),)))), (SUM,)),
            "unknown rank Z",
        ),
        (Einsum(Access("Y", (b,)), Access("X", (b, Last("M")))), "M is no last slot of X here"),
        (Einsum(Access("Y", (b,)), x, (Reduction("sum", ("m", "m")),)), "m is reduced twice"),
        (
            Einsum(Access("Y", (b,)), x, (SUM, Reduction("max", ("p",)))),
            "max(p) is no reduction: nothing on the right is over p",
        ),
        (Einsum(Access("X", (b, m)), Const(0.0)), "input X is overwritten"),
    ],
)
def test_what_only_a_program_can_write(einsum, message):
    assert message in messages(cascade(einsum))


def test_a_variable_of_a_split_rank():
    c = cascade(Einsum(Access("Y", (b, m)), x), splits=(("M", ("M1", "M0")),))
    assert messages(c) == [
        "X has 3 ranks and is read at 2 indices",
        "m runs over a rank that is split",
    ]


def test_a_message_without_a_line():
    c = cascade(Einsum(Access("Y", (b,)), Access("T", (b,))), Einsum(Access("T", (b,)), x, (SUM,)))
    assert messages(c) == ["T is read before it is written"]
    c = cascade(Einsum(Access("Y", (b,)), x, (SUM,)), Einsum(Access("Y", (b,)), x, (SUM,)))
    assert messages(c) == ["Y is written twice"]


def test_each_cycle_is_told_once():
    def line(name, *needs):
        reads = Access("X", (b, Index()))
        for need in needs:
            reads = Map("add", (reads, Access(need, (b,))))
        return Einsum(Access(name, (b,)), reads)

    lines = [line("A", "C"), line("B", "A", "C"), line("C", "B"), line("D", "E"), line("E", "D")]
    found = messages(cascade(*lines, line("Y", "D")))
    assert found == [
        "C is read before it is written",
        "a cycle: A needs C needs B needs A",
        "a cycle: D needs E needs D",
    ]
    between = [line("A", "A"), line("B", "A", "C"), line("C", "C"), line("Y", "B")]
    assert messages(cascade(*between)) == [
        "C is read before it is written",
        "a cycle: A needs A",
        "a cycle: C needs C",
    ]


def test_faults_stand_where_the_caller_says():
    place = Place("d.yaml", 4, 2, "output: Z")
    asked = []

    def declared(path):
        asked.append(path)
        return place

    c = cascade(Einsum(Access("Y", (b,)), x, (SUM,)), outputs=("Z",))
    (fault,) = faults(c, declared)
    assert fault.place == place
    assert ("output", "Z") in asked


def test_nothing_is_said_of_what_could_not_be_read():
    c = cascade(Einsum(Access("Y", (b,)), Access("T", (b, p, m)), (Reduction("sum", ("p", "m")),)))
    assert [f.message for f in faults(c)] == ["unknown tensor T", "input X is never read"]
    assert list(faults(c, unread={"T", "X"})) == []
    c = cascade(Einsum(Access("A", (b,)), x, (SUM,)))
    assert list(faults(c, unread={"Y"})) == []
