"""The order in which a cascade's Einsums can run: one by one, recurrences slot by slot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from accelsim.errors import one_of, refuse
from accelsim.ir.cascade import Access, Cascade, Einsum, Index


@dataclass(frozen=True, slots=True)
class Group:
    """Einsums that run together: one alone, or those of a recurrence ``along`` a variable."""

    einsums: tuple[Einsum, ...]
    along: str = ""


@lru_cache(maxsize=64)
def order(cascade: Cascade) -> tuple[Group, ...]:
    """The Einsums in an order in which they can run, recurrences grouped.

    A group is a strongly connected component of "reads what the other writes".
    A recurrence's Einsums are in the order of one slot.
    """
    einsums = cascade.einsums
    writes: dict[str, set[int]] = {}
    for n, e in enumerate(einsums):
        writes.setdefault(e.output.tensor, set()).add(n)
    needs = [set[int]().union(*(writes.get(r.tensor, ()) for r in e.reads)) for e in einsums]
    reach = [_reachable(n, needs) for n in range(len(einsums))]
    done: set[int] = set()
    groups: list[Group] = []
    while len(done) < len(einsums):
        for n in range(len(einsums)):
            members = {m for m in reach[n] if n in reach[m]} | {n}
            if n not in done and all(k in done or k in members for m in members for k in needs[m]):
                done |= members
                its = tuple(einsums[m] for m in sorted(members))
                groups.append(_recurrence(its) if n in reach[n] else Group(its))
                break
    return tuple(groups)


def _reachable(start: int, edges: list[set[int]]) -> set[int]:
    found: set[int] = set()
    front = [start]
    while front:
        for n in edges[front.pop()] - found:
            found.add(n)
            front.append(n)
    return found


def _recurrence(einsums: tuple[Einsum, ...]) -> Group:
    """The group of a recurrence, ordered within a slot.  A cycle that is none is refused."""
    stepped = {
        i.terms[0][0]
        for e in einsums
        for i in e.output.indices
        if isinstance(i, Index) and i.terms and i.offset
    }
    tensors = one_of(e.output.tensor for e in einsums)
    if len(stepped) != 1:
        raise refuse(
            f"a cycle: {tensors} need each other"
            + (f" along {one_of(stepped)} at once" if stepped else ""),
            "a recurrence along one rank, which writes the next slot: RM[m1+1] = ...RM[m1]...",
            einsums[0].place,
        )
    along = stepped.pop()
    needs: list[set[int]] = []
    for e in einsums:
        needed = set()
        for read in e.reads:
            for m, w in enumerate(einsums):
                if w.output.tensor == read.tensor:
                    ahead = _slots_ahead(read, w.output, along)
                    if ahead is None or ahead > 0:
                        raise refuse(
                            f"{e.name} reads a slot of {read.tensor} that is not written yet",
                            f"slot {along} or, once it is written, {along}+1",
                            read.place,
                        )
                    if ahead == 0:
                        needed.add(m)
        needs.append(needed)
    ordered: list[int] = []
    while len(ordered) < len(einsums):
        ready = [n for n in range(len(einsums)) if n not in ordered and needs[n] <= set(ordered)]
        if not ready:
            raise refuse(f"a cycle within one slot of {along}: {tensors} need each other")
        ordered.append(ready[0])
    return Group(tuple(einsums[n] for n in ordered), along)


def _slots_ahead(read: Access, write: Access, along: str) -> int | None:
    """Slots of ``along`` that the read is ahead of the write; None where they are not aligned."""
    for r, w in zip(read.indices, write.indices, strict=True):
        if isinstance(w, Index) and along in w.variables:
            aligned = isinstance(r, Index) and r.terms == w.terms and r.divisor == w.divisor
            aligned = aligned and isinstance(r, Index) and r.sizes == w.sizes
            return r.offset - w.offset if aligned and isinstance(r, Index) else None
    return None
