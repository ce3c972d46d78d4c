"""How long `derive` takes in process, on one core: ``make bench`` prints it."""

from __future__ import annotations

import time

import pytest

from accelsim.explore.derive import derive

pytestmark = pytest.mark.bench


@pytest.mark.parametrize("name", ["attention-3pass", "attention-cosine", "layernorm"])
def test_derive(name: str) -> None:
    """At most 10 s; about half a second is what it takes."""
    begin = time.process_time()
    found = derive(name)
    took = time.process_time() - begin
    print(f"derive {name}: {took:.2f} s, {len(found.texts)} found")
    assert found.texts
    assert took < 10
