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

from accelsim.errors import Fault, Place
from accelsim.ir.cascade import Access, Cascade, Einsum, Index, Last, rank_of
from accelsim.ir.mapping import Leaf, Loop, Mapping, Node, walk

#: A leaf's way down: its group, and the child taken at each node.
Path = tuple[tuple[int, ...], tuple[Node, ...], Leaf]


def _paths(mapping: Mapping) -> dict[str, Path]:
    """Every placed Einsum with the positions and nodes on its path, the group first."""
    found: dict[str, Path] = {}
    for number, group in enumerate(mapping.groups):
        for leaf, above in walk(group.tree):
            if isinstance(leaf, Leaf):
                steps = [number]
                for node, child in zip(above, (*above[1:], leaf), strict=True):
                    steps.append(next(i for i, c in enumerate(node.children) if c is child))
                found[leaf.einsum] = (tuple(steps), above, leaf)
    return found


def _shared(one: Path, other: Path) -> tuple[Loop, ...]:
    """Loops that enclose both leaves."""
    loops: list[Loop] = []
    if one[0][0] == other[0][0]:
        for a, b in zip(one[1], other[1], strict=False):
            if a is not b:
                break
            loops += a.loops
    return tuple(loop for loop in loops if loop.trips > 1)


def legal(cascade: Cascade, mapping: Mapping) -> tuple[Fault, ...]:
    """The reasons why a mapping does not compute its cascade; none if it does."""
    paths = _paths(mapping)
    faults = []
    for name, reader in paths.items():
        einsum = cascade.steps[name]
        here = mapping.within(mapping.groups[reader[0][0]])
        for access in cascade.operands[name]:
            for writer in cascade.writers.get(access.tensor, ()):
                if writer is einsum:
                    faults += _slot_by_slot(cascade, here, access, reader)
                elif writer.name in paths:
                    faults += _read(cascade, here, access, (writer, paths[writer.name]), reader)
    return tuple(dict.fromkeys(faults))


def _read(
    cascade: Cascade, mapping: Mapping, access: Access, written: tuple[Einsum, Path], reader: Path
) -> list[Fault]:
    writer, path = written
    shared = _shared(path, reader)
    place = reader[2].place
    einsum = reader[2].einsum
    faults = []
    unready = {rank_of(v) for v in writer.reduced}
    unready |= {rank_of(v) for i in writer.output.through for v in i.variables}
    along = cascade.iterative.get(access.tensor)
    last = any(isinstance(i, Last) for i in access.indices)
    if last and along is not None:
        unready.add(along)
    bent = [
        {rank_of(v) for v in i.variables} | ({rank} if isinstance(i, Access) else set())
        for i, rank in zip(access.indices, cascade.tensors[access.tensor], strict=True)
        if not isinstance(i, Last) and not i.plain and rank != along
    ]
    for loop in shared:
        rank = mapping.rank[loop.part]
        if rank in unready:
            what = "its last slot is not" if last and rank == along else "it is not"
            faults.append(
                Fault(
                    place,
                    f"{einsum} reads {access.tensor} under the loop over {loop.part}, where "
                    f"{what} complete: {writer.name} still runs over {rank}",
                    f"{einsum} outside that loop",
                )
            )
        elif any(rank in ranks for ranks in bent):
            faults.append(
                Fault(
                    place,
                    f"{einsum} reads {access.tensor} of other iterations of the loop over "
                    f"{loop.part}",
                    f"{writer.name} and {einsum} apart, or the loop below both",
                )
            )
    old = _old_slot(access, along, cascade)
    parts = _parts(mapping, along)
    around = [loop.part for loop in shared if loop.part in parts]
    if path[0] > reader[0] and not (old and len(around) == len(parts)):
        faults.append(
            Fault(place, f"{einsum} reads {access.tensor} before {writer.name} has written it",
                  f"{writer.name} before {einsum}" if not old else
                  f"both under the loops over {', '.join(parts)}")
        )  # fmt: skip
    elif old and around != [part for part in parts if part in around]:
        faults.append(_disordered(einsum, access, parts, place))
    return faults


def _slot_by_slot(cascade: Cascade, mapping: Mapping, access: Access, reader: Path) -> list[Fault]:
    """Whether an Einsum that reads its own old slot takes its slots in order, one by one."""
    along = cascade.iterative.get(access.tensor)
    if not _old_slot(access, along, cascade):
        return []
    _, above, leaf = reader
    parts = _parts(mapping, along)
    abreast = [loop.part for loop in (*leaf.rows, *leaf.cols) if loop.part in parts]
    if abreast:
        return [
            Fault(
                leaf.place,
                f"{leaf.einsum} spreads {', '.join(abreast)} over PEs, but each slot of "
                f"{access.tensor} needs the one before",
                "loops in time along a recurrence",
            )
        ]
    loops = [*(loop for node in above for loop in node.loops), *leaf.loops]
    if [loop.part for loop in loops if loop.part in parts] != parts:
        return [_disordered(leaf.einsum, access, parts, leaf.place)]
    return []


def _disordered(einsum: str, access: Access, parts: list[str], place: Place) -> Fault:
    return Fault(
        place,
        f"{einsum} reads slots of {access.tensor} out of order",
        f"loops in the order {', '.join(parts)}",
    )


def _parts(mapping: Mapping, rank: str | None) -> list[str]:
    """Parts of a rank that are loops, outermost first."""
    found = dict(mapping.parts).get(rank or "", ())
    return [loop.part for loop in found if loop.trips > 1]


def _old_slot(access: Access, along: str | None, cascade: Cascade) -> bool:
    """Whether the access reads a slot that an earlier step of the recurrence wrote."""
    if along is None:
        return False
    position = cascade.tensors[access.tensor].index(along)
    index = access.indices[position]
    return isinstance(index, Index) and index.offset == 0
