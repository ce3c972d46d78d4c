"""Storage formats: bits for an element with everything counted, and what is refused."""

import pytest

from accelsim.errors import InputError
from accelsim.ir.format import Format, Metadata, Part, bits_per_element, bits_read, breakdown
from accelsim.ir.problem import bind
from accelsim.load import catalog
from accelsim.load.cascade import cascade_from_text
from accelsim.load.format import format_from_text, load_format

SQUARE = {"rows": 4096, "channels": 4096}


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp16", 16),
        ("int4-g128", 4.15625),  # 4 + 16/128 + 4/128
        ("ptq161", 1.613),  # as published, PTQ1.61, section on bit-width
        ("keys-4-8-16", 28.5),  # 4 + 32/128, 8 + 32/128, 16
        ("msb8-lsb4", 12),
    ],
)
def test_bits_per_element(name, bits):
    assert bits_per_element(load_format(name), SQUARE) == pytest.approx(bits, abs=5e-4)


@pytest.mark.parametrize("name", catalog.names("format"))
def test_a_breakdown_adds_up(name):
    format = load_format(name)
    sizes = dict.fromkeys(format.sizes, 4096)
    lines = breakdown(format, sizes)
    assert sum(b.stored for b in lines) == pytest.approx(bits_per_element(format, sizes))
    assert sum(b.read for b in lines) == pytest.approx(bits_read(format, sizes))
    assert format.source
    assert len({b.name for b in lines}) == len(lines)


def test_low_bits_are_read_only_sometimes():
    assert bits_read(load_format("msb8-lsb4")) == pytest.approx(8 + 0.059 * 4)
    part = Part("", 4, share=0.5, read=0.5, metadata=(Metadata("scale", 16, 8),))
    assert breakdown(Format("f", (part,)))[1].read == 0.5 * 16 / 8 * 0.5


def test_sizes_that_a_format_needs():
    with pytest.raises(InputError) as caught:
        bits_per_element(load_format("ptq161"), {"rows": 8})
    (fault,) = caught.value.faults
    assert fault.message == "the bits of format ptq161 depend on channels"
    assert fault.allowed == "channels=<size>"


HEAD = "format: f\nsource: nobody\n"


@pytest.mark.parametrize(
    ("text", "message", "allowed"),
    [
        (HEAD, "a format of nothing", "one of bits, slices, planes, copies"),
        (
            HEAD + "bits: 4\nplanes: [{name: a, bits: 4}]\n",
            "a format of bits, planes",
            "one of bits, slices, planes, copies",
        ),
        (
            HEAD + "slices: [{name: a, bits: 4, share: 0.5}, {name: b, bits: 2, share: 0.4}]\n",
            "slices hold 0.9 of the elements",
            "shares that add up to 1",
        ),
        (
            HEAD + "planes: [{name: a, bits: 4, share: 0.5}]\n",
            "a share of 0.5 in planes, each of which holds every element",
            "slices, or no share",
        ),
        (HEAD + "copies: [{name: a, bits: 4}, {name: a, bits: 8}]\n", "'a' twice", "once"),
        (
            HEAD + "bits: 4\nmetadata: {scale: {bits: 16, group: 0}}\n",
            "a group of 0 elements",
            "1 or more",
        ),
    ],
)
def test_what_is_refused(text, message, allowed):
    with pytest.raises(InputError) as caught:
        format_from_text(text)
    (fault,) = caught.value.faults
    assert (fault.message, fault.allowed) == (message, allowed)


def test_a_field_that_is_missing_is_told_with_its_place():
    with pytest.raises(InputError, match="<text>:1:1: 'source' is missing"):
        format_from_text("format: f\nbits: 4\n")


def test_an_unknown_format_of_a_tensor():
    with pytest.raises(InputError) as caught:
        cascade_from_text(
            "cascade: c\nranks: [J]\ninputs: {X: [J]}\nformats: {X: int5-g3}\noutput: Y\n"
            "einsums: ['Y[j] = X[j]']\n"
        )
    (fault,) = caught.value.faults
    assert fault.message == "unknown format 'int5-g3'"
    assert (fault.place.line, fault.place.column) == (4, 14)


def test_sizes_of_a_tensor_are_ranks_or_numbers():
    text = cascade_from_text(
        "cascade: c\nranks: [O, C, P]\ninputs: {W: [O, C], X: [P, C]}\n"
        "formats: {W: {format: ptq161, rows: O, channels: 4096}}\noutput: Y\n"
        "einsums: ['Y[p,o] = W[o,c] * X[p,c]']\n"
    )
    problem = bind(text, {"O": 4096, "C": 4096, "P": 1})
    assert problem.bits("W", 16) == pytest.approx(1.61274, abs=1e-5)
    assert problem.bits("X", 16) == 16
