"""Documents of other tools: read with their places, and what is said of the faulty ones."""

from __future__ import annotations

import pytest

from accelsim.errors import InputError
from accelsim.load.foreign import from_text


def test_tags_aliases_and_merges_are_followed() -> None:
    text = "a: &x {n: 1, s: '2'}\nb: !Memory {<<: *x, n: 3}\nc: [*x, true, null, 1e-12]\n"
    found = from_text(text)
    assert found.value == {
        "a": {"n": 1, "s": "2"},
        "b": {"!": "Memory", "s": "2", "n": 3},
        "c": [{"n": 1, "s": "2"}, True, None, 1e-12],
    }
    assert found.place(("b", "n")).line == 2
    assert found.place(("c", 1, "not there")).column == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {{N}}\n", "x.yaml:2:4: a template"),
        ("{% set N = 1 %}\n", "x.yaml:1:1: a template"),
        ("a: [1\n", "x.yaml:2:1: no YAML: "),
        ("a: &a [1]\n" + "".join(
            f"{chr(97 + n + 1)}: &{chr(97 + n + 1)} [{', '.join(['*' + chr(97 + n)] * 20)}]\n"
            for n in range(8)
        ), "x.yaml: too large when its aliases are followed"),
        ("[" * 100 + "]" * 100, "x.yaml:1:61: nested too deep"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_document_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        from_text(text, "x.yaml")
    assert message in str(caught.value)


def test_nothing_is_constructed() -> None:
    found = from_text("a: !!python/object/apply:os.system ['true']\nb: !x 3\n")
    assert found.value == {"a": ["true"], "b": 3}
