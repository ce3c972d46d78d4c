"""How many points of an Einsum are needed at least, under the masks of all that follow it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice, product
from math import prod

from accelsim.ir.cascade import Einsum, Index
from accelsim.ir.lattice import Affine, Predicate, count
from accelsim.ir.problem import Problem

#: With more variables to eliminate than this, or after so many choices, ``fewest`` tries no more.
MOST_FREE = 4
MOST_CHOICES = 200


def needed_points(problem: Problem, einsum: Einsum, path: Iterable[Einsum]) -> int:
    """Points of an Einsum whose results pass through all the Einsums of a path, or fewer.

    The masks of all of them hold at once, for some value of the variables
    that the first Einsum does not have (see ``fewest``).

    Scores above the diagonal are not needed once a causal mask follows:

    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> sizes = {"B": 1, "H": 1, "P": 4, "M": 4, "E": 2, "F": 2}
    >>> causal = bind(load_cascade("attention-causal"), sizes)
    >>> needed_points(causal, causal.cascade.einsums[0], causal.cascade.einsums[1:2])
    20
    """
    sizes = {r.lower(): n for r, n in problem.sizes.items()}
    predicates = dict.fromkeys(
        p for e in (einsum, *path) for p in (*problem.predicates(e), *_inside(problem, e))
    )
    return fewest(problem, tuple(predicates), sizes, problem.variables(einsum))


def _inside(problem: Problem, einsum: Einsum) -> list[Predicate]:
    """That reads with a zero border are inside it: a point outside need not be computed."""
    found = []
    for read in einsum.reads:
        for extent, i in zip(problem.shape(read.tensor), read.indices, strict=False):
            if isinstance(i, Index) and i.border == "zero":
                line = problem.affine(i)
                found.append(Predicate(line, ">=", Affine((), 0)))
                found.append(Predicate(line, "<", Affine((), extent)))
    return found


def fewest(
    problem: Problem,
    predicates: tuple[Predicate, ...],
    sizes: Mapping[str, int],
    kept: Iterable[str],
) -> int:
    """Points of the box of ``kept`` for which some value of the other variables satisfies all.

    Never more than there are: each other variable is put at an end of its
    range, or made equal to one that is kept (the diagonal of a causal or
    local mask), and the best such choice counts.

    >>> from accelsim.ir.problem import bind
    >>> from accelsim.load.cascade import load_cascade
    >>> i, j = Affine((("i", 1),)), Affine((("j", 1),))
    >>> below = Predicate(j, "<=", i)
    >>> anything = bind(load_cascade("matmul"), {"M": 1, "N": 1, "K": 1})
    >>> fewest(anything, (below,), {"i": 3, "j": 3}, ["i", "j"])
    6
    >>> fewest(anything, (below,), {"i": 3, "j": 3}, ["j"])  # each j for some i
    3
    """
    box = {v: sizes[v] for v in kept}
    others = sorted({v for p in predicates for v in p.variables} - set(box))
    if any(v not in sizes for v in others):
        return 0
    wholes = [
        Affine(problem.affine(Index(((rank.lower(), 1),))).terms)
        for rank, parts in problem.cascade.splits
        if all(p.lower() in box for p in parts)
    ]
    same = [Affine(((v, 1),)) for v in box] + wholes
    choices = []
    for v in others:
        ends = [Affine((), 0), Affine((), sizes[v] - 1)]
        choices.append(ends + same if len(others) <= MOST_FREE else ends[:1])
    best = 0
    for values in islice(product(*choices), MOST_CHOICES):
        put = dict(zip(others, values, strict=True))
        bounds = [
            Predicate(value, "<", Affine((), sizes[v])) for v, value in put.items() if value.terms
        ]
        best = max(best, count(box, [*(_put(p, put) for p in predicates), *bounds]))
        if best == prod(box.values()):
            break
    return best


def _put(p: Predicate, values: Mapping[str, Affine]) -> Predicate:
    """A predicate with variables replaced by linear forms."""

    def replaced(a: Affine) -> Affine:
        terms: dict[str, int] = {}
        offset = a.offset
        for v, c in a.terms:
            inner = values.get(v, Affine(((v, 1),)))
            offset += c * inner.offset
            for w, k in inner.terms:
                terms[w] = terms.get(w, 0) + c * k
        return Affine(tuple((v, c) for v, c in terms.items() if c), offset, a.divisor)

    return Predicate(replaced(p.left), p.relation, replaced(p.right))
