"""Legality with meaning: whether a mapping computes the cascade at all, and if not, why.

An Einsum may read a tensor only where it is complete.  Let R write the tensor
and C read it, and take the loops that enclose both.  C is legal if

1. no enclosing loop runs over a rank that R reduces: otherwise C would see
   partial results.  (A recurrence writes a new slot in each step, so its slots
   are complete in stream order; its *last* slot is complete only outside the
   loop that it recurs along.)
2. R stands before C where their paths part, except that the old slot of a
   recurrence may be read before the new one is written, where the enclosing
   loops are all those that it recurs along;
3. loops that enclose a recurrence and run along it are in order, outermost part
   first, and an Einsum that reads its own old slot takes slots one by one;
4. no enclosing loop cuts a rank that C reads through an affine index: C needs
   elements of other iterations.

These conditions are sufficient: under 1 each iteration of the enclosing loops
runs all of R's reduction for the elements it touches, under 2 it does so
before C, under 3 a recurrence makes its slots in their order, and under 4 C
touches no other elements.  Space is checked when a mapping is priced.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from accelsim.errors import Fault, Place
from accelsim.ir.cascade import Access, Cascade, Einsum, Index, Last, rank_of
from accelsim.ir.mapping import Leaf, Loop, Mapping, Node

#: A leaf's way down: its group, and the child taken at each node.
Path = tuple[tuple[int, ...], tuple[Node, ...], Leaf]


class Read(NamedTuple):
    """What an Einsum reads of another, or of itself: all that no mapping changes.

    ``unready`` are ranks that the writer still runs over, ``bent`` those of which other
    coordinates are read, by position; ``along`` is the rank of a recurrence, of which
    ``last`` says that its last slot is read and ``old`` one that an earlier step wrote.
    """

    tensor: str
    writer: str
    unready: frozenset[str]
    bent: tuple[frozenset[str], ...]
    along: str | None
    last: bool
    old: bool


@lru_cache(maxsize=256)
def _reads(cascade: Cascade) -> dict[str, tuple[Read, ...]]:
    """By Einsum, what it reads that an Einsum writes."""
    return {
        name: tuple(
            _found(cascade, access, writer)
            for access in accesses
            for writer in cascade.writers.get(access.tensor, ())
        )
        for name, accesses in cascade.operands.items()
    }


def _found(cascade: Cascade, access: Access, writer: Einsum) -> Read:
    unready = {rank_of(v) for v in writer.reduced}
    unready |= {rank_of(v) for i in writer.output.through for v in i.variables}
    along = cascade.iterative.get(access.tensor)
    last = any(isinstance(i, Last) for i in access.indices)
    if last and along is not None:
        unready.add(along)
    bent = tuple(
        frozenset(rank_of(v) for v in i.variables) | ({rank} if isinstance(i, Access) else set())
        for i, rank in zip(access.indices, cascade.tensors[access.tensor], strict=True)
        if not isinstance(i, Last) and not i.plain and rank != along
    )
    old = _old_slot(access, along, cascade)
    return Read(access.tensor, writer.name, frozenset(unready), bent, along, last, old)


def _paths(mapping: Mapping) -> dict[str, Path]:
    """Every placed Einsum with the positions and nodes on its path, the group first."""
    found: dict[str, Path] = {}

    def down(node: Node, above: tuple[Node, ...], steps: tuple[int, ...]) -> None:
        nodes = (*above, node)
        for n, child in enumerate(node.children):
            if isinstance(child, Leaf):
                found[child.einsum] = (*steps, n), nodes, child
            else:
                down(child, nodes, (*steps, n))

    for number, group in enumerate(mapping.groups):
        down(group.tree, (), (number,))
    return found


def _shared(one: Path, other: Path) -> tuple[Loop, ...]:
    """Loops that enclose both leaves."""
    loops: list[Loop] = []
    if one[0][0] == other[0][0]:
        for a, b in zip(one[1], other[1], strict=False):
            if a is not b:
                break
            loops += a.loops
    return tuple([loop for loop in loops if loop.trips > 1])


def legal(cascade: Cascade, mapping: Mapping) -> tuple[Fault, ...]:
    """The reasons why a mapping does not compute its cascade; none if it does."""
    paths, reads = _paths(mapping), _reads(cascade)
    groups = [mapping.within(group) for group in mapping.groups]
    faults = []
    for name, reader in paths.items():
        here = groups[reader[0][0]]
        for read in reads[name]:
            if read.writer == name:
                faults += _slot_by_slot(here, read, reader)
            elif read.writer in paths:
                faults += _read(here, read, paths[read.writer], reader)
    return tuple(dict.fromkeys(faults))


def _read(mapping: Mapping, read: Read, writer: Path, reader: Path) -> list[Fault]:
    shared = _shared(writer, reader)
    place, einsum = reader[2].place, reader[2].einsum
    faults = []
    for loop in shared:
        rank = mapping.rank[loop.part]
        if rank in read.unready:
            what = "its last slot is not" if read.last and rank == read.along else "it is not"
            faults.append(
                Fault(
                    place,
                    f"{einsum} reads {read.tensor} under the loop over {loop.part}, where "
                    f"{what} complete: {read.writer} still runs over {rank}",
                    f"{einsum} outside that loop",
                )
            )
        elif any(rank in ranks for ranks in read.bent):
            faults.append(
                Fault(
                    place,
                    f"{einsum} reads {read.tensor} of other iterations of the loop over "
                    f"{loop.part}",
                    f"{read.writer} and {einsum} apart, or the loop below both",
                )
            )
    before = writer[0] > reader[0]
    if not read.old:
        if before:
            message = f"{einsum} reads {read.tensor} before {read.writer} has written it"
            faults.append(Fault(place, message, f"{read.writer} before {einsum}"))
        return faults
    parts = _parts(mapping, read.along)
    around = [loop.part for loop in shared if loop.part in parts]
    if before and len(around) != len(parts):
        message = f"{einsum} reads {read.tensor} before {read.writer} has written it"
        faults.append(Fault(place, message, f"both under the loops over {', '.join(parts)}"))
    elif around != [part for part in parts if part in around]:
        faults.append(_disordered(einsum, read.tensor, parts, place))
    return faults


def _slot_by_slot(mapping: Mapping, read: Read, reader: Path) -> list[Fault]:
    """Whether an Einsum that reads its own old slot takes its slots in order, one by one."""
    if not read.old:
        return []
    _, above, leaf = reader
    parts = _parts(mapping, read.along)
    abreast = [loop.part for loop in (*leaf.rows, *leaf.cols) if loop.part in parts]
    if abreast:
        return [
            Fault(
                leaf.place,
                f"{leaf.einsum} spreads {', '.join(abreast)} over PEs, but each slot of "
                f"{read.tensor} needs the one before",
                "loops in time along a recurrence",
            )
        ]
    loops = [*(loop for node in above for loop in node.loops), *leaf.loops]
    if [loop.part for loop in loops if loop.part in parts] != parts:
        return [_disordered(leaf.einsum, read.tensor, parts, leaf.place)]
    return []


def _disordered(einsum: str, tensor: str, parts: list[str], place: Place) -> Fault:
    return Fault(
        place,
        f"{einsum} reads slots of {tensor} out of order",
        f"loops in the order {', '.join(parts)}",
    )


def _parts(mapping: Mapping, rank: str | None) -> list[str]:
    """Parts of a rank that are loops, outermost first."""
    found = next((parts for name, parts in mapping.parts if name == rank), ())
    return [loop.part for loop in found if loop.trips > 1]


def _old_slot(access: Access, along: str | None, cascade: Cascade) -> bool:
    """Whether the access reads a slot that an earlier step of the recurrence wrote."""
    if along is None:
        return False
    position = cascade.tensors[access.tensor].index(along)
    index = access.indices[position]
    return isinstance(index, Index) and index.offset == 0
