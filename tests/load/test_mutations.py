"""Shipped machines, mappings, choices and designs with parts exchanged: answered or refused.

Where the mutated documents of the command line test cut text, these keep the
YAML whole and change what it says, so that most reach binding and pricing.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.explore.canonical import yaml_text
from accelsim.load import catalog
from accelsim.load.arch import architecture_from
from accelsim.load.cascade import load_cascade
from accelsim.load.design import design_from, load_design
from accelsim.load.mapping import mapping_rule
from accelsim.load.source import from_text, read
from accelsim.load.workload import workload
from accelsim.mapper.legal import legal
from accelsim.models.estimate import estimate

DESIGNS = sorted(catalog.files("design"))
CHOICES = catalog.folder("arch_configs") / "choices" / "flat.yaml"
#: What a field may be turned into: names of the wrong kind, rules without a value, quantities.
WORDS = [
    *("x", "P0", "M1", "B", "QK", "Q", "buffer", "array_2d", "array_1d", "edge", "exp", "mac"),
    *("word", "0", "-1", "1.5", "1e400", "nan", "inf", "-5 GB/s", "8 MiB", "1 Hz", "3 pJ", "true"),
    *("buffer.nope", "buffer.capacity", "-buffer", "a.b.c", "buffer < 3", "P / 0", "1 / 0", "P %"),
    *("P % 0", "ceil_div(1, 0)", "largest_divisor(0, 0)", "largest_divisor(1e300, 5)", "not"),
    *("largest_divisor(M * 1000003 * 1000033, 7)", "largest_divisor('a', 2)", "floor('a')"),
    *("gcd(1.5, 2)", "min(P)", "max()", "max('a', 1)", "lambda: 0", "2 ** 3", "9**9", "'a'"),
    *("'a' + 1", "10 * 'a'", "'x' * 1000000000", "(1, 2)", "P == 'a'", "1 < 'a'", "floor(1e400)"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 1.5, -0.5, float("inf"), float("nan"), 10**30),
    *([], {}, ["a"], {"a": 1}, [[]], "", "\u00e9", "a\nb"),
]


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if not isinstance(value, dict | list):
        return [at]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [at, *(path for key, item in inner for path in paths(item, (*at, key)))]


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def mutated(rng: random.Random, value: Any) -> Any:
    """The value with one or two parts dropped, replaced, doubled, renamed or moved."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 2])):
        every = paths(value)[1:]
        path = rng.choice(every) if every else ()
        if not path:
            return value
        owner, last = at(value, path[:-1]), path[-1]
        match rng.randrange(6):
            case 0:
                del owner[last]
            case 1:
                owner[last] = rng.choice(VALUES)
            case 2 | 3:
                owner[last] = rng.choice(WORDS)
            case 4:
                owner[last] = copy.deepcopy(at(value, rng.choice(every)))
            case _ if isinstance(owner, dict):
                owner[rng.choice(WORDS)] = owner.pop(last)
            case _:
                owner.insert(rng.randrange(len(owner) + 1), copy.deepcopy(owner[last]))
    return value


def answered(seed: int) -> bool:
    """Whether a design with one of its documents mutated gets an answer; InputError is none."""
    rng = random.Random(seed)
    name = rng.choice(DESIGNS)
    own = load_design(name)
    which = rng.choice(["arch", "mapping", "mapping", "choices", "design"])
    files = {
        "arch": catalog.files("arch")[own.arch],
        "mapping": catalog.files("mapping")[own.mapping],
        "choices": CHOICES,
        "design": catalog.files("design")[name],
    }
    text = yaml_text(mutated(rng, read(files[which]).value))
    documents = {kind: read(path) for kind, path in files.items() if kind != which}
    try:
        documents[which] = from_text(text, f"{which}.yaml")
        own = design_from(documents["design"])
        arch = architecture_from(documents["arch"], own.sets)
        table = documents["choices"] if name == "flat" else None
        rules = mapping_rule(documents["mapping"], table)
        cascade = load_cascade(catalog.find("cascade", own.cascade))
        problem, mapping = rules.bind(cascade, workload("BERT", 1024), arch, dict(own.choose))
        reasons = legal(cascade, mapping)
        if reasons:
            raise InputError(reasons)
        found = estimate(problem, arch, mapping, physical=True)
        assert found.latency_s > 0
        json.dumps(found.to_dict(), allow_nan=False)
    except InputError as error:
        return not str(error)
    return True


def test_the_documents_as_shipped_are_answered() -> None:
    assert yaml_text(read(CHOICES).value)
    assert sum(answered(seed) for seed in range(40)) > 3  # mutations leave some as they should be


@settings(max_examples=200, deadline=5000)
@given(st.integers(0, 2**40))
def test_mutated_documents_are_answered_or_refused(seed: int) -> None:
    answered(seed)


@pytest.mark.long
@settings(max_examples=8000, deadline=5000)
@given(st.integers(0, 2**40))
def test_mutated_documents_are_answered_or_refused_long(seed: int) -> None:
    answered(seed)
