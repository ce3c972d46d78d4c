"""What points of a statement touch: the words whose traffic one argument counts.

The argument itself, and why each kind of words may be counted, is in ``traffic``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import log
from typing import Final, TypeAlias

import numpy as np

from accelsim.analysis.flow import Flow, apart
from accelsim.analysis.hbl import Exponents, Term, exponents
from accelsim.analysis.statement import Projection, Row, Statement

#: Sizes of what is touched, evenly in their logarithm, for which exponents are looked for.
LEVELS: Final = 5
#: At most so many intermediate operands of one statement are resolved; others are left out.
MOST_RESOLVED: Final = 2

#: What ends the name under which partial sums of a tensor are counted.
PARTIAL: Final = " stored in parts"

#: Terms of one kind of points, and whether words on chip at the end of a block count too.
_Counted: TypeAlias = tuple[tuple[Term, ...], bool]


@dataclass(frozen=True)
class Kind:
    """One kind of points of a statement: the terms that they touch, and how many that allows.

    ``doubled``: words on chip at the last point of a block count beside those
    at the first; they have the weight of the last term.
    """

    terms: tuple[Term, ...]
    most: Exponents
    doubled: bool = False


@dataclass(frozen=True)
class Account:
    """A statement with ``points`` needed, its kinds of points, and whose words are counted.

    ``inputs``: input tensors among them; ``chain``: tensors that its result
    passes through, ``outputs`` those of them that are outputs.
    """

    statement: Statement
    points: int
    kinds: tuple[Kind, ...]
    inputs: tuple[str, ...]
    chain: frozenset[str]
    outputs: tuple[str, ...]

    @property
    def tensors(self) -> frozenset[str]:
        """All tensors whose words some kind counts."""
        return frozenset(t for k in self.kinds for term in k.terms for t in term.tensors)

    @property
    def apart(self) -> bool:
        """Whether there are two kinds, and only the first counts the words of its first term."""
        if len(self.kinds) != 2 or any(k.doubled for k in self.kinds):
            return False
        own = self.kinds[0].terms[0].tensors
        others = (*self.kinds[0].terms[1:], *self.kinds[1].terms)
        return not any(own & t.tensors for t in others)


def stores_of(tensor: str) -> str:
    """The name under which only stores of a tensor's partial sums are counted.

    >>> stores_of("QK")
    'QK stored in parts'
    """
    return tensor + PARTIAL


def accounts(flow: Flow) -> list[Account]:
    """The accounts of all statements whose traffic no later statement's account covers.

    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.analysis.statement import program
    >>> matmul = program(bind(load_cascade("matmul"), {"M": 4, "N": 4, "K": 4}))
    >>> [(a.statement.name, a.points, sorted(a.tensors)) for a in accounts(Flow(matmul))]
    [('C', 64, ['A', 'B', 'C'])]
    """
    found = []
    for s in flow.program.statements:
        points = flow.needed(s)
        if points < 2 or not s.reads or _seen_later(flow, s):
            continue
        for kinds, chain in _formulations(flow, s):
            if all(terms for terms, _ in kinds):
                found.append(_account(flow, s, points, kinds, chain))
    return found


def _seen_later(flow: Flow, s: Statement) -> bool:
    """Whether this is no product, and a statement further on has at least its variables."""
    if s.contracts:
        return False
    passing = flow.ways[s.output.tensor].passing
    return any(s.sizes.keys() <= after.sizes.keys() for after in passing if after is not s)


def _account(
    flow: Flow, s: Statement, points: int, kinds: list[_Counted], chain: frozenset[str]
) -> Account:
    tensors = {t for terms, _ in kinds for term in terms for t in term.tensors}
    return Account(
        s,
        points,
        tuple(Kind(terms, _exponents(s, terms), doubled) for terms, doubled in kinds),
        tuple(t for t in flow.program.inputs if t in tensors),
        chain,
        tuple(t for t in flow.program.outputs if t in chain),
    )


def _exponents(s: Statement, terms: tuple[Term, ...]) -> Exponents:
    whole = [log(s.span(t.variables)) for t in terms]
    costs = [whole]
    costs += [
        [min(w, max(words - log(t.weight), 0.0)) for w, t in zip(whole, terms, strict=True)]
        for words in np.linspace(0.3, max(whole), LEVELS)
    ]
    return exponents(terms, s.sizes, costs)


def _formulations(flow: Flow, s: Statement) -> Iterator[tuple[list[_Counted], frozenset[str]]]:
    """Ways to count the words that points touch, each a list of kinds, and the result's chain."""
    operands = _operands(flow, s)
    tensors = {t for choice in operands for terms in choice for x in terms for t in x.tensors}
    way = flow.ways[s.output.tensor]
    label = way.label & frozenset(s.sizes)
    apart_from = not way.chain & tensors
    result = [Term(_rows(label), 1.0, way.chain)] if label and apart_from else []
    kinds = [(apart([*_flat(c), *result]), False) for c in product(*operands)]
    yield kinds, way.chain if result else frozenset()
    own = s.output.tensor
    if s.reduced and label != s.output.variables and own not in tensors and s.output.plain:
        yield _inner(flow, s, operands), frozenset()


def _inner(flow: Flow, s: Statement, operands: list[list[list[Term]]]) -> list[_Counted]:
    """Kinds of points by where in a block the reduction that they belong to lies.

    Wholly inside: whole rows of operands were there.  Otherwise its element
    was there in part, at the first point or the last, loaded or stored.
    """
    inside = [term for read in s.reads for term in flow.rows(s, read)]
    part = Term(_rows(s.output.variables), 0.5, frozenset([stores_of(s.output.tensor)]))
    kinds: list[_Counted] = [(apart(inside), False)]
    kinds += [((*apart(_flat(c)), part), True) for c in product(*operands)]
    return kinds


def _operands(flow: Flow, s: Statement) -> list[list[list[Term]]]:
    """For each operand that counts: its words, or those of each kind (there, or fresh)."""
    found: list[list[list[Term]]] = []
    resolved = 0
    seen: set[Projection] = set()
    outside = flow.program.inputs
    for read in sorted(s.reads, key=lambda r: (r.tensor in outside, -s.span(r.variables))):
        if read in seen:
            continue
        seen.add(read)
        if read.tensor in outside:
            if read.rows:
                found.append([[Term(read.rows, 1.0, frozenset([read.tensor]))]])
            continue
        source = flow.source(read)
        if source is None or not source.label or resolved == MOST_RESOLVED:
            continue
        resolved += 1
        there = [Term(_rows(source.label), 1.0, source.cluster)]
        found.append([there] if source.fresh is None else [there, list(source.fresh)])
    return found


def _rows(variables: Iterable[str]) -> tuple[Row, ...]:
    return tuple(((v, 1),) for v in sorted(variables))


def _flat(parts: Sequence[list[Term]]) -> list[Term]:
    return [term for part in parts for term in part]
