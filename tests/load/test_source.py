"""Documents: values, places of every part, faults of what is no YAML, fit to a model."""

import math
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from accelsim.errors import InputError
from accelsim.load import source, tree
from accelsim.load.source import from_text, read, validate


def faults(call, *args, **more):
    with pytest.raises(InputError) as caught:
        call(*args, **more)
    return caught.value.faults


def only(call, *args, **more):
    (fault,) = faults(call, *args, **more)
    return fault


@pytest.fixture(params=["libyaml", "pure"])
def parser(request, monkeypatch):
    if request.param == "pure":
        monkeypatch.setattr(tree, "_LOADER", yaml.SafeLoader)
    return request.param


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: [1, -2, 0x10, 0o17, 1.5, 1e-5, .5, 5.]", [1, -2, 16, 15, 1.5, 1e-5, 0.5, 5.0]),
        ("a: [-.inf, .INF]", [-math.inf, math.inf]),
        ("a: [true, False, null, ~]", [True, False, None, None]),
        ("a: [no, on, Y, N, 12:30:00, 2024-01-01]", ["no", "on", "Y", "N", "12:30:00"]),
        ("a: ['1', \"true\"]", ["1", "true"]),
        ("a: 3.35 TB/s", "3.35 TB/s"),
        ("a:", None),
        ("a: |\n  x\n  y\n", "x\ny\n"),
    ],
)
def test_values(parser, text, value):
    got = from_text(text).value["a"]
    assert (got[:5] if text.startswith("a: [no") else got) == value


def test_keys_are_text(parser):
    assert from_text("{1024: a, null: b, true: c}").value == {"1024": "a", "null": "b", "true": "c"}


def test_not_a_number():
    assert math.isnan(from_text("a: .nan").value["a"])


# --- places ------------------------------------------------------------------------------------

TEXT = """\
cascade: x   # a comment
inputs: {Q: [B, H], K: [B]}
einsums:
  - A[b] = B[b]
  - 'it''s C[b]'
  - "a\\tb \\x41 C[b]"
  - >-
    folded text
    goes on
  - |
      literal
       text
  - plain text that
    goes on
"""


def spot(document, *path, **more):
    place = document.place(path, **more)
    assert place.text == document.lines[place.line - 1]
    return place.line, place.column


def test_places(parser):
    d = from_text(TEXT)
    assert spot(d) == (1, 1)
    assert spot(d, "cascade") == (1, 10)
    assert spot(d, "cascade", key=True) == (1, 1)
    assert spot(d, "inputs", "Q", 1) == (2, 17)
    assert spot(d, "inputs", "K", key=True) == (2, 21)
    assert spot(d, "einsums", 0) == (4, 5)
    assert spot(d, "einsums", 0, column=7) == (4, 12)
    assert spot(d, "einsums", 1, column=3) == (5, 10)  # the s of it's
    assert spot(d, "einsums", 2, column=6) == (6, 16)  # the C
    assert spot(d, "einsums", 3, column=12) == (9, 5)  # goes
    assert spot(d, "einsums", 4, column=9) == (12, 8)  # text, one in
    assert spot(d, "einsums", 5, column=16) == (14, 5)  # goes
    assert spot(d, "einsums", 5, column=23) == (14, 12)  # the end


def test_the_place_of_what_is_missing_is_that_of_its_owner():
    d = from_text(TEXT)
    assert spot(d, "inputs", "V") == (2, 9)
    assert spot(d, "einsums", 99) == (4, 3)


def test_lines_end_as_yaml_says():
    d = from_text("a: 1\r\nb: 2\rc: 3\u2028d: 4\x85e: 5\n")
    assert d.value == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    assert [spot(d, k)[0] for k in "abcde"] == [1, 2, 3, 4, 5]


@given(
    st.text(st.sampled_from("ab'\"\\:#[]{}-,é\U0001f600 \n\t\xa0!&*|>%@`"), max_size=60),
    st.sampled_from(["'", '"', "|", ">", None]),
    st.integers(8, 40),
    st.booleans(),
)
def test_places_within_scalars(text, style, width, in_unicode):
    """Whatever the style in which PyYAML writes a text, each character is found where it stands."""
    written = yaml.dump(
        {"k": [text]}, default_style=style, width=width, allow_unicode=in_unicode, indent=3
    )
    document = from_text(written)
    assert document.value == {"k": [text]}
    for offset, character in enumerate(text):
        place = document.place(["k", 0], column=offset)
        shown = document.lines[place.line - 1][place.column - 1 :]
        if not character.isspace() and not shown.startswith("\\"):
            assert shown[0] == character
    end = document.place(["k", 0], column=len(text))
    assert end.column <= len(document.lines[end.line - 1]) + 1


# --- what is no YAML ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "message", "allowed"),
    [
        ("", (1, 1), "the document is empty", "YAML"),
        ("  \n# only a comment\n", (1, 1), "the document is empty", "YAML"),
        ("---\n...\n", (1, 1), "the document is empty", "YAML"),
        ("a: 1\nb:\n\tc: 2\n", (3, 1), "a tab in the indentation", "spaces"),
        ("a: 1\na: 2\n", (2, 1), "'a' is given twice", "once (it is in line 1)"),
        ("a: &x 1\nb: *x\n", (1, 4), "an anchor, '&x'", "the value written out"),
        ("a: *x\n", (1, 4), "an alias, '*x'", "the value written out"),
        ("a: !!python/object:os.system x", (1, 4), "a tag, 'tag:yaml.org,2002:python", "plain"),
        ("a: [1, 2\nb: 3\n", None, "a list is not closed here", "',' or ']'"),
        ("a: {x: 1\nb]", (2, 2), "a mapping is not closed here", "',' or '}'"),
        ("a: b: c", (1, 5), "a ':' inside plain text", "quotes around the text"),
        ("a: 'b", None, "a quote is not closed", "a closing quote"),
        ("a: 1\nb\n", None, "this line is neither 'key: value' nor '- item'", "'key: value'"),
        ("a: @b", (1, 4), "a character that cannot begin a value", "quotes around the text"),
        ("a: 1\n---\nb: 2\n", (2, 1), "a second document", "one document a file"),
        ("[a]: 1\n", (1, 1), "a key that is a list or a mapping", "a word as the key"),
        ("? {b: 1}\n: 1\n", (1, 3), "a key that is a list or a mapping", "a word as the key"),
        ("a: " + "9" * 500, (1, 4), "a number of 500 digits", "400 digits"),
        ("a: x\x07y\n", (1, 5), "character U+0007 is not allowed in YAML", "printable text"),
        ("a: x\x00\n", (1, 5), "character U+0000 is not allowed in YAML", "printable text"),
        ("a: x\ud800\n", (1, 5), "character U+D800 is not allowed in YAML", "printable text"),
        ("a: " + "x" * 10000, (1, 10001), "a line of 10003 characters", "10000 characters a line"),
        ("[" * 5000, (1, 65), "nested deeper than 64", "a flatter document"),
        ("a:\n" + "".join(" " * i + "-\n" for i in range(1, 99)), None, "nested deeper than", ""),
    ],
)
def test_refused(parser, text, where, message, allowed):
    fault = only(from_text, text, "x.yaml")
    assert fault.place.file == "x.yaml"
    if where:
        assert (fault.place.line, fault.place.column) == where
    assert fault.message.startswith(message)
    assert allowed in fault.allowed


def test_all_tabs_and_all_duplicates_are_found():
    assert [f.place.line for f in faults(from_text, "a:\n\tb: 1\n\tc: 2\n")] == [2, 3]
    assert [f.place.line for f in faults(from_text, "a: 1\na: 2\nb: 1\nb: 1\nb: 3")] == [2, 4, 5]


def test_an_anchor_bomb_costs_nothing():
    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*a, *a]\n" for c in "bcdefgh")
    assert only(from_text, bomb).message == "an anchor, '&a'"


def test_a_place_in_another_line_is_told():
    fault = only(from_text, "a: [1,\n 2\nb: 3\n")
    assert fault.message == "a list is not closed here (it begins in line 1, column 4)"


def test_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes("a: é\nb: é".encode() + b"\xff!\nc: 1\n")
    fault = only(read, path)
    assert str(fault).splitlines() == [
        f"{path}:2:5: byte 0xff is not UTF-8",
        "  b: é\ufffd!",
        "      ^",
        "  allowed: text in UTF-8",
    ]


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    assert only(read, tmp_path).message == "cannot be read: Is a directory"
    assert only(read, tmp_path / "no").message == "cannot be read: No such file or directory"
    assert only(read, "a\0b").message == "cannot be read: embedded null byte"
    big = tmp_path / "big.yaml"
    big.write_text("a: 1\n" * 9)
    monkeypatch.setattr(source, "MOST_BYTES", 20)
    assert only(read, big).message == "more than 0 MiB of text"


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(path).value == {"a": 1}
    assert spot(from_text("\ufeffa: 1\n"), "a") == (1, 4)


def test_a_hundred_thousand_lines():
    text = "a:\n" + "".join(f"  - K{i}[b,h,m] = Q[b,h,e] * K[b,m,e]\n" for i in range(100_000))
    document = from_text(text)
    assert spot(document, "a", 99_999, column=5) == (100_001, 10)


# --- fit to a model ----------------------------------------------------------------------------


class Level(BaseModel):
    model_config = ConfigDict(extra="forbid")
    capacity: source.quantity("bytes")
    kind: Literal["dram", "sram"] = "sram"


class Machine(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(description="a word")
    levels: dict[str, Level] = {}
    ranks: list[str] | str = []
    count: int = 0


def fitted(text):
    return validate(from_text(text, "m.yaml"), Machine)


def test_fits():
    got = fitted("name: x\nlevels: {D: {capacity: 2 KiB}}\nranks: [A]")
    assert got.levels["D"].capacity == 2048


@pytest.mark.parametrize(
    ("text", "where", "message", "allowed"),
    [
        ("ranks: A", (1, 1), "'name' is missing", "a word"),
        ("name: x\nlevls: {}", (2, 1), "unknown field 'levls'", "levels? (count, levels, name"),
        (
            "name: x\nlevels: {D: {capcity: 2 B, capacity: 1 B}}",
            (2, 14),
            "levels.D: unknown field 'capcity'",
            "capacity? (capacity, kind)",
        ),
        ("name: x\nlevels: {D: {}}", (2, 13), "levels.D: 'capacity' is missing", ""),
        (
            "name: x\nlevels: {D: {capacity: 5}}",
            (2, 24),
            "levels.D.capacity: a number without a unit: '5'",
            "5 with a unit",
        ),
        (
            "name: x\nlevels: {D: {capacity: 5 B, kind: hbm}}",
            (2, 35),
            "levels.D.kind: should be 'dram' or 'sram', not 'hbm'",
            "",
        ),
        (
            "name: x\nranks: 5",
            (2, 8),
            "ranks: should be a valid list, not 5, or should be a valid string, not 5",
            "",
        ),
        ("name: [x]", (1, 7), "name: should be a valid string, not a list", ""),
        ("name: x\ncount:", (2, 7), "count: should be a valid integer, not nothing", ""),
        ("name: x\nlevels: [x]", (2, 9), "levels: should be a mapping of names, not a list", ""),
        ("name: x\nlevels: {D: 1}", (2, 13), "levels.D: should be a mapping of names, not 1", ""),
        ("- x", (1, 1), "should be a mapping of names, not a list", ""),
        ("x", (1, 1), "should be a mapping of names, not 'x'", ""),
    ],
)
def test_misfits(text, where, message, allowed):
    fault = only(fitted, text)
    assert fault.message == message
    assert (fault.place.line, fault.place.column) == where
    assert allowed in fault.allowed


def test_all_misfits_together():
    found = faults(fitted, "nam: x\nlevels: {D: {capacity: -5 B}}\ncount: many")
    assert [f.place.line for f in found] == [1, 1, 2, 3]
    assert found[2].message == "levels.D.capacity: a negative quantity: '-5 B'"


def test_schema_of_a_quantity():
    schema = Level.model_json_schema()
    assert schema["properties"]["capacity"]["type"] == "string"
