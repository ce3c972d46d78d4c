"""Where tensors are defined and how many points Einsums compute: masks, own and inherited.

A condition becomes a *clause*: alternatives, one of which must hold, each of
affine predicates and of tensors whose values decide.  Affine predicates are
counted exactly (``ir.lattice``), alternatives by inclusion and exclusion.  A
tensor that decides counts with its declared density, and as true everywhere
without one, so that then a count is an upper bound.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations, product
from typing import TYPE_CHECKING

from accelsim.ir.cascade import (
    Access,
    Compare,
    Condition,
    Einsum,
    Either,
    Index,
    Last,
    Threshold,
    rank_of,
    simple,
)
from accelsim.ir.lattice import Affine, Predicate, count

if TYPE_CHECKING:
    from accelsim.ir.problem import Problem


@dataclass(frozen=True, slots=True)
class Alternative:
    """Affine predicates that hold together, and the tensors whose values must allow it."""

    predicates: tuple[Predicate, ...] = ()
    data: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Clause:
    """One of the alternatives holds.  ``names``: the variables, or positions, it stands for.

    Those of the condition, or all of the read that brings it in.
    """

    alternatives: tuple[Alternative, ...]
    names: frozenset[str]

    @property
    def sure(self) -> tuple[Predicate, ...]:
        """Predicates that leave only points that the clause leaves, if one is without data.

        Of the first such alternative, else of the first: data may then leave fewer.
        """
        affine = (a for a in self.alternatives if not a.data)
        return next(affine, self.alternatives[0]).predicates


class Domains:
    """The clauses of a problem's Einsums and tensors.  Positions of a tensor are #0, #1, ..."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.cascade = problem.cascade

    @cached_property
    def masked(self) -> bool:
        """Whether anything takes points away: an affine predicate, or a declared density."""
        return bool(self.cascade.densities) or self.cascade.masked

    @cached_property
    def of(self) -> dict[str, tuple[Clause, ...]]:
        """Where each tensor is defined; what only some of its writers say is left out.

        In text order, so that a tensor is complete before it is read.  Only a
        recurrence reads itself earlier: what its own slots lack is left out.
        """
        found: dict[str, tuple[Clause, ...]] = {}
        if not self.masked:
            return found
        partly: dict[str, tuple[Clause, ...]] = {}
        for e in self.cascade.einsums:
            name, said = e.output.tensor, self._of_output(e, found)
            partly[name] = tuple(c for c in partly.get(name, said) if c in said)
            if self.cascade.writers[name][-1] is e:
                found[name] = partly[name]
        return found

    def clauses(
        self, einsum: Einsum, known: Mapping[str, tuple[Clause, ...]] | None = None
    ) -> tuple[Clause, ...]:
        """The clauses that restrict an Einsum's points, inherited ones last."""
        known = self.of if known is None else known
        found: dict[Clause, None] = {}
        for condition in einsum.where:
            clause = self._own(condition, einsum.output.tensor)
            if clause is not None:
                found[clause] = None
        for read in einsum.reads:
            names = frozenset(self._variables(read))
            for clause in known.get(read.tensor, ()):
                moved = _moved(clause, self._positions(read), names)
                if moved is not None:
                    found[moved] = None
        return tuple(found)

    def share(self, extents: Mapping[str, int], clauses: Iterable[Clause]) -> int:
        """Points of a box that all clauses leave, those that data decides by their densities."""
        total = Fraction(0)
        for chosen in product(*(_overlaps(c.alternatives) for c in dict.fromkeys(clauses))):
            sign, predicates, data = 1, list[Predicate](), set[str]()
            for s, alternative in chosen:
                sign *= s
                predicates += alternative.predicates
                data |= alternative.data
            weight = Fraction(sign)
            for tensor in data & self.cascade.density.keys():
                weight *= Fraction(str(self.cascade.density[tensor].value))
            total += weight * count(extents, predicates)
        return round(total)

    def data(self, einsum: Einsum) -> frozenset[str]:
        """Tensors with a density that decide about points of an Einsum."""
        every = (a.data for c in self.clauses(einsum) for a in c.alternatives)
        return frozenset[str]().union(*every) & self.cascade.density.keys()

    def decided(self, einsum: Einsum, ranks: Collection[str]) -> frozenset[str]:
        """Tensors with a density that decide alone, for coordinates of ``ranks``, about points."""
        found = set[str]()
        for clause in self.clauses(einsum):
            if len(clause.alternatives) == 1 and all(rank_of(v) in ranks for v in clause.names):
                found |= clause.alternatives[0].data & self.cascade.density.keys()
        return frozenset(found)

    # -- conditions, reads and writes ------------------------------------------------------------

    def _own(self, condition: Condition, output: str) -> Clause | None:
        """The clause of a condition; None where nothing is known of it."""
        every = condition.alternatives if isinstance(condition, Either) else ((condition,),)
        alternatives = []
        for conjunction in every:
            predicates = tuple(self._affine(c) for c in conjunction if isinstance(c, Compare))
            data = {c.tensor for c in conjunction if isinstance(c, Access)}
            data |= {output for c in conjunction if isinstance(c, Threshold)}
            alternatives.append(Alternative(predicates, frozenset(data)))
        if not any(a.predicates or a.data & self.cascade.density.keys() for a in alternatives):
            return None
        parts = (p for c in simple([condition]) for p in self._names(c))
        return Clause(tuple(alternatives), frozenset(parts))

    def _affine(self, c: Compare) -> Predicate:
        return Predicate(self.problem.affine(c.left), c.relation, self.problem.affine(c.right))

    def _names(self, condition: Condition) -> Iterator[str]:
        for v in condition.variables:
            yield from (name for name, _ in self.problem.affine(Index(((v, 1),))).terms)

    def _variables(self, read: Access) -> Iterator[str]:
        for index in read.indices:
            if isinstance(index, Index):
                yield from (v for v, _ in self.problem.affine(index).terms)
            elif isinstance(index, Access):
                yield from self._variables(index)

    def _positions(self, read: Access) -> dict[str, Affine]:
        """The affine index at each position of a read that has one and no border."""
        shape = self.problem.shape(read.tensor)
        found = {}
        for n, at in enumerate(read.indices):
            if isinstance(at, Last):
                found[f"#{n}"] = Affine((), shape[n] - 1)
            elif isinstance(at, Index) and not at.border:
                found[f"#{n}"] = self.problem.affine(at)
        return found

    def _of_output(
        self, einsum: Einsum, known: Mapping[str, tuple[Clause, ...]]
    ) -> tuple[Clause, ...]:
        """The clauses of an Einsum that say where its output is defined.

        One that stands for a reduced variable restricts the reduction instead,
        whose value over no points is the identity: defined.  A selection that
        chooses fewer than there is room for leaves the rest undefined.
        """
        position: dict[str, Affine] = {}
        for n, at in enumerate(einsum.output.indices):
            if not isinstance(at, Index):
                continue
            lines = self.problem.affine(at)
            if len(lines.terms) == 1 and lines.terms[0][1] == 1 and lines.divisor == 1:
                position.setdefault(lines.terms[0][0], Affine(((f"#{n}", 1),), -lines.offset))
        names = frozenset(f"#{n}" for n in range(len(einsum.output.indices)))
        found = []
        for clause in self.clauses(einsum, known):
            moved = _moved(clause, position, names) if clause.names <= position.keys() else None
            if moved is not None:
                found.append(moved)
        name = einsum.output.tensor
        if einsum.selects and name in self.cascade.density:
            found.append(Clause((Alternative((), frozenset([name])),), names))
        return tuple(found)


def _overlaps(alternatives: tuple[Alternative, ...]) -> Iterator[tuple[int, Alternative]]:
    """Inclusion and exclusion: every non-empty choice of alternatives together, with its sign."""
    for size in range(1, len(alternatives) + 1):
        for chosen in combinations(alternatives, size):
            predicates = tuple(dict.fromkeys(p for a in chosen for p in a.predicates))
            data = frozenset[str]().union(*(a.data for a in chosen))
            yield (-1) ** (size + 1), Alternative(predicates, data)


def _moved(clause: Clause, by: Mapping[str, Affine], names: frozenset[str]) -> Clause | None:
    """A clause with its variables replaced; None where one has no replacement of affine form."""
    alternatives = []
    for alternative in clause.alternatives:
        moved = tuple(_substitute(p, by) for p in alternative.predicates)
        if any(p is None for p in moved):
            return None
        kept = tuple(p for p in moved if p is not None)
        alternatives.append(Alternative(kept, alternative.data))
    return Clause(tuple(alternatives), names)


def _substitute(p: Predicate, by: Mapping[str, Affine]) -> Predicate | None:
    """``p`` with its variables replaced; None where one has no replacement of affine form."""
    left, right = _replaced(p.left, by), _replaced(p.right, by)
    return None if left is None or right is None else Predicate(left, p.relation, right)


def _replaced(a: Affine, by: Mapping[str, Affine]) -> Affine | None:
    if any(v not in by for v, _ in a.terms):
        return None
    if len(a.terms) == 1 and a.terms[0][1] == 1:  # floor(floor(x / d) + o) / e) = floor((x+od)/de)
        inner = by[a.terms[0][0]]
        return Affine(
            inner.terms, inner.offset + a.offset * inner.divisor, inner.divisor * a.divisor
        )
    terms: dict[str, int] = {}
    offset = a.offset
    for v, c in a.terms:
        inner = by[v]
        if inner.divisor != 1:
            return None
        offset += c * inner.offset
        for w, k in inner.terms:
            terms[w] = terms.get(w, 0) + c * k
    return Affine(tuple(sorted((v, c) for v, c in terms.items() if c)), offset, a.divisor)
