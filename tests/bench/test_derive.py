"""How long `derive` takes in process, on one core: ``make bench`` prints it."""

from __future__ import annotations

import time
from pathlib import Path

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


def softmaxes(count: int) -> str:
    """A sum of so many softmax rows, four Einsums each."""
    heads = range(count)
    lines = []
    for n in heads:
        lines += [f"G{n}[p] = X{n}[p,m] :: max(m)", f"S{n}[p,m] = exp(X{n}[p,m] - G{n}[p])"]
        lines += [f"D{n}[p] = S{n}[p,m]", f"A{n}[p,m] = S{n}[p,m] / D{n}[p]"]
    lines.append("Y[p] = " + " + ".join(f"A{n}[p,m] * V[m]" for n in heads))
    inputs = ", ".join(f"X{n}: [P, M]" for n in heads)
    head = f"cascade: many\nranks: [P, M]\ninputs: {{{inputs}, V: [M]}}\noutput: Y\neinsums:\n"
    return head + "".join(f"  - {line}\n" for line in lines)


def test_derive_of_a_hundred_einsums(tmp_path: Path) -> None:
    """A few seconds."""
    file = tmp_path / "many.yaml"
    file.write_text(softmaxes(24))
    begin = time.process_time()
    best = derive(file).derivation.found[0]
    print(f"derive of 97 Einsums: {time.process_time() - begin:.2f} s")
    assert (best.measure.passes[0], best.stable) == (1, True)
