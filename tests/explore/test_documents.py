"""Canonical YAML, and the schemas of documents."""

from __future__ import annotations

import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.explore.canonical import yaml_text
from accelsim.explore.documents import KEYS, list_names, schema
from accelsim.load import catalog
from accelsim.load.source import from_text, read

TEXTS = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=30) | st.sampled_from(
    ["no", "null", "~", "", "1e-5", "0o17", "0x1F", ".inf", "true", "- a", "a: b", "a\nb\n", "'a'"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.dictionaries(
    TEXTS.filter(lambda key: "\n" not in key),
    st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.just("k"), inner)),
    min_size=1,
    max_size=4,
)


@given(VALUES)
def test_canonical_text_is_read_as_the_same_value(value: dict[str, object]) -> None:
    text = yaml_text(value)
    assert from_text(text).value == value
    assert yaml_text(from_text(text).value) == text


def test_short_and_flat_is_on_one_line_and_keys_keep_their_order() -> None:
    value = {"z": {"y": [1, 2], "x": "16 bit"}, "a": [{"deep": {"deeper": [1]}}], "f": math.inf}
    assert yaml_text(value) == ("z: {y: [1, 2], x: 16 bit}\na:\n- deep: {deeper: [1]}\nf: .inf\n")


@pytest.mark.parametrize("kind", sorted(set(KEYS.values())))
def test_schema_takes_every_shipped_document(kind: catalog.Kind) -> None:
    """As editors apply it; what only the loader can see is not in a schema."""
    for path in catalog.files(kind).values():
        found = schema("gpu" if path.parent.name == "gpu" else kind)
        jsonschema.Draft202012Validator.check_schema(found)
        jsonschema.validate(read(path).value, found)


def test_every_shipped_document_says_what_it_is() -> None:
    for kind in ("cascades", "archs", "mappings", "designs", "models"):
        for entry in list_names(kind):
            assert entry.about, f"{kind}: {entry.name}"
