"""Sizes that follow from each other: a rank and its parts, heads and their groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from accelsim.ir.cascade import Cascade, Index, Position, rank_of
from accelsim.ir.rule import divisors


@dataclass(frozen=True, slots=True)
class Relation:
    """``sizes[whole]`` is the product of the sizes of ``parts``."""

    whole: str
    parts: tuple[str, ...]
    text: str


@lru_cache(maxsize=256)
def relations(cascade: Cascade) -> tuple[Relation, ...]:
    """Splits, and head groups ``h // G`` at an input's rank HK: H = HK * G."""
    found = {
        (r, parts): Relation(r, parts, f"split {r}: [{', '.join(parts)}]")
        for r, parts in cascade.splits
    }
    inputs = {t.name for t in cascade.inputs}
    for read in (a for e in cascade.einsums for a in e.reads if a.tensor in inputs):
        for at, rank in zip(read.indices, cascade.tensors[read.tensor], strict=True):
            group = _group(at)
            if group is not None and group[0] != rank:
                whole, size = group
                text = f"{read.tensor}[{whole.lower()} // {size}]: {whole} = {rank} * {size}"
                found.setdefault((whole, (rank, size)), Relation(whole, (rank, size), text))
    return tuple(found.values())


def _group(at: Position) -> tuple[str, str] | None:
    """H and G of an index ``h // G``; None for any other."""
    if not isinstance(at, Index) or not isinstance(at.divisor, str) or at.offset:
        return None
    if len(at.terms) != 1 or at.terms[0][1] != 1:
        return None
    return rank_of(at.terms[0][0]), at.divisor


def derive(relation: Relation, known: dict[str, int]) -> bool:
    """Fill in the one size of a relation that is missing; True where that was done."""
    missing = [r for r in (relation.whole, *relation.parts) if r not in known]
    if len(missing) != 1:
        return False
    given = prod(known[p] for p in relation.parts if p in known)
    if missing[0] == relation.whole:
        known[relation.whole] = given
        return True
    if known[relation.whole] % given == 0:
        known[missing[0]] = known[relation.whole] // given
        return True
    return False


def contradiction(relation: Relation, known: Mapping[str, int]) -> tuple[str, str] | None:
    """What is wrong with the sizes of a relation and what would be right, or None."""
    if relation.whole not in known or not any(p in known for p in relation.parts):
        return None
    size = known[relation.whole]
    parts = [(p, known[p]) for p in relation.parts if p in known]
    given = prod(n for _, n in parts)
    text = " * ".join(f"{p} = {n}" for p, n in parts)
    if len(parts) == len(relation.parts):
        if given == size:
            return None
        return (
            f"{relation.text}: {relation.whole} = {size} is not {text}",
            f"{relation.whole} = {given}, or leave one of them out",
        )
    if size % given == 0:
        return None
    low, high = size // given * given, -(-size // given) * given
    near = " or ".join(f"{relation.whole} = {n}" for n in dict.fromkeys((low, high)) if n > 0)
    last, n = parts[-1]
    rest = given // n
    if size % rest == 0:
        divides = divisors(size // rest)
        below = max((d for d in divides if d < n), default=0)
        above = min((d for d in divides if d > n), default=0)
        near += "; " + " or ".join(f"{last} = {d}" for d in (below, above) if d)
    return f"{relation.text}: {relation.whole} = {size} does not divide by {text}", near
