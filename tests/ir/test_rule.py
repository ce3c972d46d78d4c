"""Rules: what they compute, what they refuse in which words, and that they can do nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError, Place
from accelsim.ir.arch import Level
from accelsim.ir.rule import ceil_div, divisors, largest_divisor, rule

SCOPE = {"P": 8, "M": 12, "buffer": Level("buffer", 1024.0), "mode": "on", "half": 0.5, "yes": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("P", 8),
        (3, 3),
        (2.5, 2.5),
        (True, True),
        ("P / 2", 4),
        ("P / 3", 8 / 3),
        ("P // 3 + M % 5 - -1", 5),
        ("buffer.capacity / 2", 512),
        ("buffer.name", "buffer"),
        ("min(P, M, 3)", 3),
        ("max(P, M)", 12),
        ("floor(P / 3)", 2),
        ("ceil(P / 3)", 3),
        ("ceil_div(P, 3)", 3),
        ("gcd(P, M)", 4),
        ("largest_divisor(M, 5)", 4),
        ("largest_divisor(P / 3, 5)", 0),
        ("largest_divisor(M, 0)", 0),
        ("largest_divisor(M, half)", 0),
        ("'on' if P > 4 else 'off'", "on"),
        ("mode", "on"),
        ("mode == 'on'", True),
        ("mode == 'on' and P < 4", False),
        ("not (P < M) or M <= 12", True),
        ("P == 8.0", True),
        ("1 if yes else 2", 1),
        ("(mode == 'on') * 4", 4),
        ("largest_divisor(M, 5) if mode == 'on' else 1", 4),
        (" P ", 8),
    ],
)
def test_values(text: str | float, value: object) -> None:
    found = rule(text).value(SCOPE)
    assert found == value
    assert type(found) is type(value) or isinstance(value, float)


def test_whole_floats_become_integers() -> None:
    assert isinstance(rule("P / 2").value(SCOPE), int)
    assert isinstance(rule("P / 3").value(SCOPE), float)
    assert isinstance(rule("1e20").value(SCOPE), float)


ALLOWED = (
    "\n  allowed: numbers, names, name.field, + - * / // %, comparisons, and or not, a if c else b"
)
INVALID = {
    "": "invalid syntax",
    "P +": "invalid syntax",
    "P; M": "invalid syntax",
    "x = 3": "invalid syntax",
    "P ** 2": "Pow has no meaning in a rule",
    "[P]": "List has no meaning in a rule",
    "{1: 2}": "Dict has no meaning in a rule",
    "P[0]": "Subscript has no meaning in a rule",
    "(x := 3)": "NamedExpr has no meaning in a rule",
    "lambda: 3": "Lambda has no meaning in a rule",
    "f'{P}'": "JoinedStr has no meaning in a rule",
    "~P": "Invert has no meaning in a rule",
    "P & M": "BitAnd has no meaning in a rule",
    "P is M": "Is has no meaning in a rule",
    "P in M": "In has no meaning in a rule",
    "None": "only numbers and quoted words are constants",
    "1j": "only numbers and quoted words are constants",
    "b'x'": "only numbers and quoted words are constants",
    "...": "only numbers and quoted words are constants",
    "P.__class__": "no field '__class__'",
    "P._x": "no field '_x'",
    "'a' * 3": "a quoted word is no number",
    "P + ('a' if M else 'b')": "a quoted word is no number",
    "-'a'": "a quoted word is no number",
}


@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(InputError) as caught:
        rule(text, Place("f.yaml"))
    message = str(caught.value)
    assert message.startswith(f"f.yaml: the rule '{text}' is not valid: {INVALID[text]}")
    assert message.endswith(ALLOWED)


@pytest.mark.parametrize("text", ["open('x')", "P.real()", "min(P, default=3)", "eval('1')", "P()"])
def test_only_its_own_functions(text: str) -> None:
    with pytest.raises(InputError, match="unknown function; functions are ceil, ceil_div, floor"):
        rule(text)


def test_the_caret_stands_where_the_rule_goes_wrong() -> None:
    line = "let: {M0: P + foo(3)}"
    with pytest.raises(InputError) as caught:
        rule("P + foo(3)", Place("m.yaml", 2, 11, line))
    assert str(caught.value).splitlines()[:3] == [
        "m.yaml:2:15: the rule 'P + foo(3)' is not valid: unknown function; functions are ceil, "
        "ceil_div, floor, gcd, largest_divisor, log2, max, min",
        f"  {line}",
        "                ^",
    ]


WITHOUT_VALUE = {
    "Q + R": "<input>: unknown name 'Q' in the rule 'Q + R'\n"
    "  allowed: M, P, buffer, half, mode, yes\n"
    "<input>: unknown name 'R' in the rule 'Q + R'\n"
    "  allowed: M, P, buffer, half, mode, yes",
    "buffer.size": "<input>: no field 'size' in the rule 'buffer.size'",
    "P / 0": "<input>: the rule 'P / 0' has no value: a division by zero",
    "P % (M - 12)": "<input>: the rule 'P % (M - 12)' has no value: a division by zero",
    "P + buffer": "<input>: the rule 'P + buffer' has no value: what it combines does not go "
    "together",
    "P < 'a'": "<input>: the rule 'P < 'a'' has no value: what it combines does not go together",
    "gcd(half, 2)": "<input>: the rule 'gcd(half, 2)' has no value: what it combines does not go "
    "together",
    "mode * 1000000000000": "<input>: 'mode' is a word in the rule 'mode * 1000000000000'\n"
    "  allowed: a number there",
    "buffer": "<input>: 'buffer' is no number and no word\n"
    "  allowed: a field of it, as buffer.capacity",
    "min": "<input>: 'min' is no number and no word\n  allowed: a field of it, as buffer.capacity",
    "buffer.seconds": "<input>: 'buffer.seconds' is no number and no word\n"
    "  allowed: a field of it, as buffer.capacity",
    "buffer.bandwidth": "<input>: the rule 'buffer.bandwidth' has no finite value",
    "buffer.bandwidth - buffer.bandwidth": "<input>: the rule "
    "'buffer.bandwidth - buffer.bandwidth' has no finite value",
    "1e400": "<input>: the rule '1e400' has no finite value",
    "largest_divisor(1e300, 5)": "<input>: the rule 'largest_divisor(1e300, 5)' has no value: "
    "1e+300 is too large to look for divisors",
}


@pytest.mark.parametrize("text", WITHOUT_VALUE)
def test_what_has_no_value(text: str) -> None:
    with pytest.raises(InputError) as caught:
        rule(text).value(SCOPE)
    assert str(caught.value) == WITHOUT_VALUE[text]


@dataclass
class Trap:
    """Something that a rule must not reach into."""

    open: object = open


@pytest.mark.parametrize("text", ["trap.open", "trap"])
def test_objects_do_not_come_out(text: str) -> None:
    with pytest.raises(InputError, match="is no number and no word"):
        rule(text).value({"trap": Trap()})


@settings(max_examples=300)
@given(st.text(alphabet="PM019.+-*/%()<=> '\"abnotifelse,\n\t[]", max_size=40))
def test_no_text_gets_past_input_error(text: str) -> None:
    try:
        found = rule(text).value(SCOPE)
    except InputError:
        return
    assert isinstance(found, int | float | str)


@pytest.mark.parametrize("text", ["(" * 5000, "-" * 20000 + "1", "1+" * 20000 + "1", "9" * 5000])
def test_monsters_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        rule(text).value(SCOPE)


@given(st.integers(1, 5000), st.floats(0, 6000))
def test_largest_divisor_is_the_largest(n: int, limit: float) -> None:
    found = largest_divisor(n, limit)
    assert found == max((d for d in range(1, n + 1) if n % d == 0 and d <= limit), default=0)
    assert divisors(n) == [d for d in range(1, n + 1) if n % d == 0]


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**15))
def test_ceil_div_is_exact(a: int, b: int) -> None:
    found = ceil_div(a, b)
    assert (found - 1) * b < a <= found * b


@given(st.integers(0, 50), st.integers(1, 50), st.sampled_from("+-*/%"), st.integers(1, 9))
def test_arithmetic_is_python_s(p: int, m: int, operator: str, n: int) -> None:
    text = f"(P {operator} M) * {n} - M // {n}"
    value = eval(text, {"P": p, "M": m})
    assert math.isclose(rule(text).value({"P": p, "M": m}), value)  # type: ignore[arg-type]
