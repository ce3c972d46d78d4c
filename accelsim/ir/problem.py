"""A problem: a cascade with a size for every rank and every part of a rank.

``bind`` fills in what follows from what is given and refuses the rest, all
findings at once.  A ``Problem`` then answers in exact Python integers how
many elements a tensor has and how many points an Einsum computes, masks
included, at any size, without visiting a point.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import prod

from accelsim.errors import Fault, InputError, Place, one_of
from accelsim.ir.cascade import (
    Cascade,
    Einsum,
    Index,
    Storage,
    rank_of,
)
from accelsim.ir.domain import Domains
from accelsim.ir.ends import ended, misfit, short_splits
from accelsim.ir.format import bits_read
from accelsim.ir.lattice import Affine, Predicate
from accelsim.ir.relations import Relation, contradiction, derive, relations
from accelsim.ir.rule import LARGEST


@dataclass(frozen=True)
class Problem:
    """A cascade bound to ``sizes``: every declared rank and every part of a split rank.

    >>> from accelsim.ir.cascade import Access, Cascade, Einsum, Index, Reduction, Tensor
    >>> i, j = Index((("i", 1),)), Index((("j", 1),))
    >>> row = Einsum(Access("Y", (i,)), Access("X", (i, j)), (Reduction("sum", ("j",)),))
    >>> c = Cascade("rowsum", ("I", "J"), (Tensor("X", ("I", "J")),), (row,), ("Y",))
    >>> p = bind(c, {"I": 3, "J": 4})
    >>> p.extent("J"), p.tensor_elements("X"), p.points(c.einsums[0])
    (4, 12, 12)
    """

    cascade: Cascade
    sizes: Mapping[str, int] = field(hash=False)

    def __hash__(self) -> int:
        """By cascade and sizes, so that results can be cached by problem."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.cascade, tuple(sorted(self.sizes.items()))))

    def extent(self, rank: str) -> int:
        """The size of a rank or of a part of one."""
        return self.sizes[rank]

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The extent of each of a tensor's ranks, parts of split ranks apart.

        A tensor that a recurrence carries has one slot more than its iterative
        rank has elements: slot 0 is the initial value.
        """
        return self._shapes[tensor]

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for name, ranks in self.cascade.tensors.items():
            extents = [self.sizes[r] if r else 1 for r in ranks]
            for writer in self.cascade.writers.get(name, ()):
                for n, at in enumerate(writer.output.indices):
                    if isinstance(at, Index):
                        lines = self.affine(at)
                        top = lines.offset + sum(
                            c * (self.sizes[rank_of(v)] - 1) for v, c in lines.terms if c > 0
                        )
                        extents[n] = max(extents[n], top // lines.divisor + 1)
            found[name] = tuple(extents)
        return found

    def tensor_elements(self, tensor: str) -> int:
        """Elements of a tensor, dense: masked elements and slot 0 count too.

        Those beyond the end of a rank, in a short last tile, do not.
        """
        found = prod(self._shapes[tensor])
        for rank, (outer, inner) in self.short.items():
            if {outer, inner} <= set(self.cascade.tensors[tensor]):
                found = found // (self.sizes[outer] * self.sizes[inner]) * self.sizes[rank]
        return found

    @cached_property
    def short(self) -> dict[str, tuple[str, str]]:
        """Ranks of which the cascade's own split leaves a short last tile, with their two parts."""
        return short_splits(self.cascade, self.sizes)

    def affine(self, at: Index) -> Affine:
        """An index with every rank name in it replaced by its size.

        A variable of a whole split rank (``m`` where M is split into M1, M0)
        becomes ``m1*M0 + m0``.
        """
        terms: dict[str, int] = {}
        for v, c in at.terms:
            scale = self.factor(c)
            for part in reversed(self._split.get(rank_of(v), (rank_of(v),))):
                terms[part.lower()] = terms.get(part.lower(), 0) + scale
                scale *= self.sizes[part]
        divisor = self.sizes[at.divisor] if isinstance(at.divisor, str) else at.divisor
        offset = at.offset + sum(c * self.sizes[r] for r, c in at.sizes)
        return Affine(tuple(terms.items()), offset, divisor)

    def factor(self, factor: int | str) -> int:
        """A factor of an index as a number: the size of a rank, negative after ``-``."""
        if isinstance(factor, int):
            return factor
        size = self.sizes[factor.removeprefix("-")]
        return -size if factor.startswith("-") else size

    @cached_property
    def _split(self) -> dict[str, tuple[str, ...]]:
        return dict(self.cascade.splits)

    def variables(self, einsum: Einsum) -> tuple[str, ...]:
        """The iteration space of an Einsum: its variables, whole split ranks as their parts."""
        found = self.cascade.spaces.get(id(einsum))
        return self.parts(einsum.variables) if found is None else found

    def parts(self, variables: Iterable[str]) -> tuple[str, ...]:
        """Variables, those of whole split ranks as those of their parts."""
        names = (rank_of(v) for v in variables)
        parts = (part.lower() for n in names for part in self._split.get(n, (n,)))
        return tuple(dict.fromkeys(parts))

    def points(self, einsum: Einsum) -> int:
        """Points that an Einsum computes: its iteration space less what is masked out.

        Exact for affine predicates, the Einsum's own and those of the tensors
        it reads.  What data decides (``where Keep[i,j]``, a threshold) counts
        with its declared density, else as true everywhere, and so does what
        depends on a border, so that then the number is an upper bound.
        """
        if not self.domains.masked:
            return self.dense_points(einsum)
        known = self._points.get(id(einsum))
        if known is not None:
            return known[1]
        box = {v: self.sizes[rank_of(v)] for v in self.variables(einsum)}
        found = self.domains.share(box, self.domains.clauses(einsum))
        self._points[id(einsum)] = einsum, found
        return found

    @cached_property
    def domains(self) -> Domains:
        """Where tensors are defined."""
        return Domains(self)

    @cached_property
    def _points(self) -> dict[int, tuple[Einsum, int]]:
        return {}  # by identity: hashing an Einsum costs more than the rest; it is kept alive here

    def predicates(self, einsum: Einsum) -> tuple[Predicate, ...]:
        """Affine predicates that restrict an Einsum's points, inherited ones last.

        Of alternatives those of the first: points that they leave are computed.
        """
        if not self.domains.masked:
            return ()
        return tuple(dict.fromkeys(p for c in self.domains.clauses(einsum) for p in c.sure))

    def dense_points(self, einsum: Einsum) -> int:
        """Points of the iteration space as if nothing were masked."""
        return prod([self._extents[v] for v in self.variables(einsum)])

    @cached_property
    def _extents(self) -> dict[str, int]:
        """Sizes by variable."""
        return {rank.lower(): n for rank, n in self.sizes.items()}

    def defined_elements(self, tensor: str) -> int:
        """Elements that are defined: under ``where m <= p`` about half (see ``points``)."""
        if tensor not in self.domains.of:
            return self.tensor_elements(tensor)
        box = {f"#{n}": extent for n, extent in enumerate(self._shapes[tensor])}
        return self.domains.share(box, self.domains.of[tensor])

    def density(self, tensor: str) -> Fraction:
        """Defined elements over dense elements."""
        return Fraction(self.defined_elements(tensor), self.tensor_elements(tensor))

    @cached_property
    def stored(self) -> dict[str, Storage]:
        """Formats by tensor."""
        return {s.tensor: s for s in self.cascade.formats}

    def bits(self, tensor: str, word: float) -> float:
        """Bits that are read for an element of a tensor; ``word`` where it has no format."""
        stored = self.stored.get(tensor)
        return word if stored is None else bits_read(stored.format, self.format_sizes(stored))

    def format_sizes(self, stored: Storage) -> dict[str, int]:
        """The sizes that a tensor's format is given in."""
        return {n: self.sizes[r] if isinstance(r, str) else r for n, r in stored.sizes}


# -- binding ---------------------------------------------------------------------------------


def names(cascade: Cascade) -> tuple[str, ...]:
    """The names that ``bind`` takes sizes for: declared ranks and parts."""
    return tuple(dict.fromkeys([*cascade.ranks, *(p for _, ps in cascade.splits for p in ps)]))


def relevant(
    cascade: Cascade, sizes: Mapping[str, int], asked: Iterable[str] = ()
) -> dict[str, int]:
    """The sizes that the cascade has a rank for: a workload knows more than one cascade needs.

    Ranks that the user ``asked`` for by name must be the cascade's: others are
    an ``InputError``.
    """
    known = names(cascade)
    faults = [
        _fault(f"cascade {cascade.name} has no rank {r}", one_of(known), None)
        for r in asked
        if r not in known
    ]
    if faults:
        raise InputError(faults)
    return {r: n for r, n in sizes.items() if r in known}


def with_parts(cascade: Cascade, sizes: Mapping[str, int], tile: int = 64) -> dict[str, int]:
    """``sizes`` with parts chosen where none is given: each inner part the largest divisor <= tile.

    For callers that need some legal split and no particular one (``check``,
    ``bounds``).  Parts that are given, or follow from given ones, stay.
    """
    known = dict(sizes)
    for whole, parts in cascade.splits:
        left = known.get(whole, 0)
        missing = [p for p in parts if p not in known]
        if not isinstance(left, int) or left < 1:
            continue
        for p in parts:
            given = known.get(p, 1)
            left = left // given if isinstance(given, int) and given > 0 else 0
        for p in reversed(missing[1:]):
            known[p] = max((d for d in range(1, min(tile, left) + 1) if left % d == 0), default=1)
            left //= known[p]
    return known


def bind(
    cascade: Cascade,
    sizes: Mapping[str, int],
    place: Place | None = None,
    imperfect: Collection[str] = (),
) -> Problem:
    """The cascade with ``sizes``, given for declared ranks and for parts; the rest is derived.

    Of a split rank and its parts one size may be left out (M=1024, M0=256
    gives M1=4).  The divisor of a head group ``h // G`` follows from the ranks
    on both sides (G = H / HK), as does either of them from the two others.
    Of ranks that are ``imperfect`` two parts need not divide: the last tile is then
    short (M=10 with M0=4 has M1=3), and the cascade of the problem leaves out what is
    beyond the end (``ir.ends``).

    Raises ``InputError`` with every size that is missing, unknown, not
    positive or contradicts another.
    """
    allowed = names(cascade)
    faults = [
        _fault(f"cascade {cascade.name} has no rank {r}", one_of(allowed), place)
        for r in sizes
        if r not in allowed
    ]
    bad = {
        r
        for r, n in sizes.items()
        if r in allowed and (isinstance(n, bool) or not isinstance(n, int) or n < 1)
    }
    faults += [
        _fault(f"size {r} = {sizes[r]!r} is not a positive whole number", "1, 2, 3, ...", place)
        for r in sorted(bad)
    ]
    known = {r: n for r, n in sizes.items() if r in allowed and r not in bad}
    bonds = relations(cascade)
    for rank, parts in cascade.splits:
        if rank in imperfect and len(parts) == 2 and {rank, parts[1]} <= known.keys():
            known.setdefault(parts[0], -(-known[rank] // known[parts[1]]))
    while any(derive(bond, known) for bond in bonds):
        pass
    huge = {r for r, n in known.items() if n > LARGEST}
    faults += [
        _fault(f"size {r} is more than {LARGEST:,}", "sizes that a machine could have", place)
        for r in sorted(huge)
    ]
    known = {r: n for r, n in known.items() if r not in huge}
    excused = bad | huge
    for bond in bonds:
        two = bond.whole in imperfect and len(bond.parts) == 2
        if two and {bond.whole, *bond.parts} <= known.keys():
            said = misfit(bond.whole, bond.parts, known)
        else:
            said = contradiction(bond, known)
        if said is not None:
            faults.append(_fault(*said, place))
            excused |= {bond.whole, *bond.parts}
    faults += _missing(cascade, bonds, known, excused, place)
    if faults:
        raise InputError(faults)
    short = short_splits(cascade, known)
    return Problem(ended(cascade, tuple(short)) if short else cascade, known)


def _missing(
    cascade: Cascade,
    bonds: tuple[Relation, ...],
    known: Mapping[str, int],
    excused: set[str],
    place: Place | None,
) -> list[Fault]:
    """A fault for each rank without a size, a split rank together with its parts.

    ``excused`` ranks were given a size that is at fault elsewhere.
    """
    faults = []
    split = dict(cascade.splits)
    for rank in cascade.ranks:
        parts = split.get(rank, ())
        lacking = [p for p in parts if p not in known]
        if excused & {rank, *parts}:
            continue
        if rank not in known:
            other = f", or sizes for all its parts {', '.join(parts)}" if parts else ""
            for bond in bonds:
                if rank in (bond.whole, *bond.parts) and not parts:
                    other = f", or what it follows from in {bond.text}"
            faults.append(_fault(f"no size for rank {rank}", f"{rank}=<size>{other}", place))
        elif len(lacking) > 1:
            text = f"rank {rank} = {known[rank]} is split into {', '.join(parts)}"
            faults.append(
                _fault(
                    f"{text}: no size for {' or '.join(lacking)}",
                    f"all of them but one, for instance {lacking[-1]}=64",
                    place,
                )
            )
    return faults


def _fault(message: str, allowed: str, place: Place | None) -> Fault:
    return Fault(place or Place("<sizes>"), message, allowed)
