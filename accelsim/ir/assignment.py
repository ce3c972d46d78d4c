"""Single assignment: what each Einsum writes and reads, and that it is there by then.

A tensor is written once, or it is a recurrence: slot 0, and slot ``v+1`` from
slot ``v``.  The order is that of the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Final

from accelsim.errors import Fault, Place, one_of
from accelsim.ir.cascade import Access, Cascade, Einsum, Index, Last, Position, rank_of
from accelsim.ir.show import show_access, show_position

#: The place of a declaration, by its path in the document: ``("inputs", "K")``.
Declared = Callable[[tuple[str, ...]], Place]

_SLOTS: Final = "slot 0, and slot v+1 from slot v"
_RECURRENCE: Final = f"a recurrence, which writes {_SLOTS}"


class Assignment:
    """Faults of the Einsums, with what is asked of the cascade again and again looked up once."""

    def __init__(self, cascade: Cascade, unread: frozenset[str]) -> None:
        self.cascade, self.unread = cascade, unread
        self.inputs = {t.name for t in cascade.inputs}
        #: the Einsums that write each tensor, by number
        self.writers: dict[str, list[int]] = {}
        for number, einsum in enumerate(cascade.einsums):
            self.writers.setdefault(einsum.output.tensor, []).append(number)
        #: the tensors whose cycle has been told
        self.told: set[str] = set()
        #: the position at which a tensor recurs, and the variable that steps there
        self.steps: dict[str, tuple[int, str]] = {}
        for einsum in cascade.einsums:
            for position, index in enumerate(einsum.output.indices):
                if _is_step(index):
                    self.steps.setdefault(einsum.output.tensor, (position, index.variables[0]))

    # -- the left side -------------------------------------------------------------------------

    def writes(self, number: int, einsum: Einsum) -> Iterator[Fault]:
        """Faults of what an Einsum writes: its form, and that it is written once."""
        output = einsum.output
        name = output.tensor
        if name in self.inputs:
            message = f"input {name} is overwritten"
            yield Fault(output.place, message, "another name: inputs are only read")
        elif name in dict(self.cascade.constants):
            yield Fault(output.place, f"{name} is a constant and is written", "another name")
        elif not output.indices and name in (*self.cascade.ranks, *self.cascade.whole):
            yield Fault(output.place, f"{name} is a rank and is written", "another name")
        yield from self.left_indices(output)
        earlier = [w for w in self.writers[name] if w < number]
        if name in self.inputs or not earlier:
            return
        form = _slot(output)
        first = next((w for w in earlier if _slot(self.cascade.einsums[w].output) == form), None)
        if first is not None or "whole" in (form, _slot(self.cascade.einsums[earlier[0]].output)):
            before = self.cascade.einsums[earlier[0] if first is None else first].output.place
            line = f" (first in line {before.line})" if before.line else ""
            message = f"{name} is written twice{line}"
            yield Fault(output.place, message, f"once; a recurrence writes {_SLOTS}")

    def left_indices(self, output: Access) -> Iterator[Fault]:
        """Faults of the output's own indices."""
        allowed = "a variable, slot 0, or the next slot, v+1"
        for index in output.indices:
            place = place_of(index, output)
            text = show_position(index)
            if isinstance(index, Last):
                yield Fault(place, f"the last slot {text} is written", allowed)
            elif isinstance(index, Access):
                if index.tensor not in self.cascade.counts:
                    message = f"nothing tells the rank that {index.tensor} counts in"
                    wanted = f"indexes: {{{index.tensor}: <rank>}} beside the inputs"
                    yield Fault(place, message, wanted)
            elif index.plain and not index.border:
                if rank_of(index.plain) not in self.cascade.whole:
                    yield unknown(self.cascade, index.plain, place)
            elif not (_is_step(index) or index == Index()):
                yield Fault(place, f"{output.tensor} is written at {text}", allowed)
        lone = (v for i in output.indices if not isinstance(i, Access) for v in i.variables)
        twice = [v for v, n in Counter(lone).items() if n > 1]
        for variable in twice:
            message = f"{variable} stands twice on the left"
            yield Fault(output.place, message, "a variable for each position")
        if output.through and _slots(output):
            message = f"{output.tensor} is scattered along a recurrence"
            yield Fault(output.place, message, "a scatter of what the recurrence leaves behind")
        if len(_slots(output)) > 1:
            message = f"{output.tensor} recurs along {len(_slots(output))} ranks at once"
            yield Fault(output.place, message, "a recurrence along one rank")

    def recurrences(self) -> Iterator[Fault]:
        """Faults between the slot 0 of a tensor and its step."""
        for name, numbers in self.writers.items():
            einsums = [self.cascade.einsums[n] for n in numbers]
            slots = {_slot(e.output): e for e in reversed(einsums)}
            start, step = slots.get("0"), slots.get("step")
            tangled = "whole" in slots or any(len(_slots(e.output)) > 1 for e in einsums)
            if name in self.unread or tangled:
                continue
            if start is None and step is not None:
                index = next(i for i in step.output.indices if _is_step(i))
                message = f"{name} has no slot 0: {show_position(index)} is the slot after"
                wanted = Access(
                    name, tuple(Index() if i == index else i for i in step.output.indices)
                )
                yield Fault(step.output.place, message, f"{show_access(wanted)} = ... before it")
            elif step is None and start is not None:
                message = f"slot 0 of {name} is written, but no slot after it"
                yield Fault(start.output.place, message, _RECURRENCE)
            elif step is not None and start is not None:
                yield from self.aligned(start, step)

    def aligned(self, start: Einsum, step: Einsum) -> Iterator[Fault]:
        """Faults of a slot 0 that is not of the same tensor, or comes after its step."""
        name, at = step.output.tensor, self.steps[step.output.tensor][0]
        if start.output.through or step.output.through:
            return
        wanted = tuple(Index() if n == at else i for n, i in enumerate(step.output.indices))
        if [_rank(i) for i in start.output.indices] != [_rank(i) for i in wanted]:
            message = f"slot 0 of {name} is not over the ranks of its step"
            yield Fault(start.output.place, message, show_access(Access(name, wanted)))
        numbers = self.writers[name]
        if self.cascade.einsums[numbers[0]] is step:
            yield Fault(
                start.output.place, f"slot 0 of {name} is written after its step", "before it"
            )

    # -- the right side ------------------------------------------------------------------------

    def reads(self, number: int, access: Access) -> Iterator[Fault]:
        """Faults of one read: that the tensor exists by then, and its indices fit its ranks."""
        name = access.tensor
        if name in self.unread:
            return
        if name not in self.inputs:
            writers = self.writers.get(name, [])
            if not writers:
                known = {*self.inputs, *self.writers} - {self.cascade.einsums[number].output.tensor}
                yield Fault(access.place, f"unknown tensor {name}", one_of(known))
                return
            if not self.is_ready(number, access):
                yield self.unready(number, access)
        yield from self.fits(access)

    def is_ready(self, number: int, access: Access) -> bool:
        """Whether a tensor is written, in text order, before Einsum ``number`` reads it.

        The earlier slot of a recurrence needs only its slot 0 before, so that
        recurrences may carry one another.
        """
        writers = self.writers[access.tensor]
        if all(w < number for w in writers):
            return True
        position, variable = self.steps.get(access.tensor, (-1, ""))
        if not 0 <= position < len(access.indices):
            return False
        index = access.indices[position]
        if not isinstance(index, Index) or index.plain not in (variable, None) or index.offset:
            return False
        starts = [w for w in writers if _slot(self.cascade.einsums[w].output) == "0"]
        return number in writers or (bool(starts) and starts[0] < number)

    def unready(self, number: int, access: Access) -> Fault:
        """The fault of a read that comes too early; a cycle is told as one, once."""
        reader = self.cascade.einsums[number].output.tensor
        if {reader, access.tensor} <= self.tangled - self.told:
            path = self.path(access.tensor, reader)
            if path:
                self.told.update(path)
                around = " needs ".join([reader, *path])
                return Fault(access.place, f"a cycle: {around}", _RECURRENCE)
        line = self.cascade.einsums[self.writers[access.tensor][-1]].output.place.line
        message = f"{access.tensor} is read before it is written"
        message += f" (in line {line})" if line else ""
        return Fault(access.place, message, "a tensor that a line above writes")

    @cached_property
    def needs(self) -> dict[str, set[str]]:
        """The written tensors that each written tensor's Einsums read."""
        found: dict[str, set[str]] = {}
        for einsum in self.cascade.einsums:
            its = found.setdefault(einsum.output.tensor, set())
            its.update(a.tensor for a in einsum.reads if a.tensor in self.writers)
        return found

    @cached_property
    def tangled(self) -> set[str]:
        """The tensors on cycles, and between cycles: what is left without all that is before."""
        waiting = {tensor: len(its) for tensor, its in self.needs.items()}
        users: dict[str, list[str]] = {}
        for tensor, its in self.needs.items():
            for needed in its:
                users.setdefault(needed, []).append(tensor)
        ready = [tensor for tensor, count in waiting.items() if not count]
        for tensor in ready:
            for user in users.get(tensor, ()):
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
        return set(waiting) - set(ready)

    def path(self, start: str, end: str) -> list[str]:
        """Tensors from ``start`` to ``end``, each needing the next; empty where there is no way."""
        came: dict[str, str] = {start: ""}
        todo = [start]
        for tensor in todo:
            if tensor == end:
                found = [end]
                while came[found[-1]]:
                    found.append(came[found[-1]])
                return found[::-1]
            for needed in sorted(self.needs[tensor] & self.tangled - came.keys()):
                came[needed] = tensor
                todo.append(needed)
        return []

    def fits(self, access: Access) -> Iterator[Fault]:
        """Faults of a read's indices against the tensor's ranks."""
        name, ranks = access.tensor, self.cascade.tensors[access.tensor]
        outputs = [self.cascade.einsums[w].output for w in self.writers.get(name, ())]
        if any(len(output.indices) != len(ranks) for output in outputs):
            return  # which is a fault of its writers
        form = f"{name}[{','.join(r.lower() or '0' for r in ranks)}]"
        if len(ranks) != len(access.indices):
            given = f"{len(access.indices)} ind{'ex' if len(access.indices) == 1 else 'ices'}"
            yield Fault(access.place, f"{name} has {len(ranks)} ranks and is read at {given}", form)
            return
        recurs = self.steps.get(name, (-1, ""))[0]
        for position, (index, rank) in enumerate(zip(access.indices, ranks, strict=True)):
            place = place_of(index, access)
            for variable in index.variables:
                if rank_of(variable) not in self.cascade.whole:
                    yield unknown(self.cascade, variable, place)
            if isinstance(index, Last):
                if position != recurs or index.rank != rank:
                    carried = self.cascade.iterative.get(name)
                    allowed = (
                        f"{carried}, where {name} recurs" if carried else f"{name} has no slots"
                    )
                    message = f"{index.rank} is no last slot of {name} here"
                    yield Fault(place, message, allowed)
            elif isinstance(index, Access):
                yield from self.gathers(access, index, rank, position == recurs)
            elif position == recurs:
                if index != Index() and not (_is_next(index) and _rank(index) == rank):
                    slot = rank.lower()
                    message = (
                        f"{name} is read at {show_position(index)}, which is none of its slots"
                    )
                    yield Fault(place, message, f"0, {slot}, {slot}+1 or {rank}")
            elif index.plain and not index.border and rank and rank_of(index.plain) != rank:
                message = f"{name} is over {rank} here, and read at {index.plain}"
                yield Fault(place, message, rank.lower())

    def gathers(self, access: Access, index: Access, rank: str, recurs: bool) -> Iterator[Fault]:
        """Faults of a read through an index tensor at a position of ``rank``."""
        name, place = access.tensor, place_of(index, access)
        counted = self.cascade.counts.get(index.tensor, rank)
        if recurs:
            slot = rank.lower()
            message = f"{name} recurs along {rank}, and is read at {show_position(index)}"
            yield Fault(place, message, f"0, {slot}, {slot}+1 or {rank}")
        elif counted != rank:
            message = f"{name} is over {rank} here, and {index.tensor} counts in {counted}"
            yield Fault(place, message, f"an index tensor that counts in {rank}")

    def uses(self, where: Declared) -> Iterator[Fault]:
        """Outputs that nothing writes, and inputs that nothing reads."""
        for name in dict.fromkeys(self.cascade.outputs):
            key = "output" if len(self.cascade.outputs) == 1 else "outputs"
            if name in self.inputs:
                yield Fault(where((key, name)), f"output {name} is an input", one_of(self.writers))
            elif name not in self.writers and name not in self.unread:
                message = f"output {name} is never written"
                yield Fault(where((key, name)), message, one_of(self.writers))
        read = {a.tensor for e in self.cascade.einsums for a in e.reads}
        for name in sorted(self.inputs - read - self.unread):
            message = f"input {name} is never read"
            yield Fault(where(("inputs", name)), message, "inputs that an Einsum reads")


def _is_step(index: Position) -> bool:
    """Whether an output's index is the next slot, ``v+1``."""
    return isinstance(index, Index) and _is_next(index) and index.offset == 1


def _is_next(index: Index) -> bool:
    """Whether an index is ``v`` or ``v+1``."""
    unit = len(index.terms) == 1 and index.terms[0][1] == 1 and index.divisor == 1
    unit = unit and not index.sizes
    return unit and not index.border and index.offset in (0, 1)


def _slots(output: Access) -> list[Position]:
    """The positions of an output that are slots of a recurrence."""
    return [i for i in output.indices if _is_step(i) or i == Index()]


def _slot(output: Access) -> str:
    """What an Einsum writes of a tensor: ``0`` or ``step`` of a recurrence, or the ``whole``."""
    if any(_is_step(i) for i in output.indices):
        return "step"
    return "0" if any(i == Index() for i in output.indices) else "whole"


def _rank(index: Position) -> str:
    """The rank that a variable of an index runs over; nothing for a slot or an index tensor."""
    if isinstance(index, Access):
        return ""
    return rank_of(index.variables[0]) if index.variables else ""


def place_of(index: Position, access: Access) -> Place:
    """Where an index stands, or the access if it came from no text."""
    return index.place if index.place.line else access.place


def unknown(cascade: Cascade, variable: str, place: Place) -> Fault:
    """The fault of a variable that no rank has."""
    whole = cascade.parts.get(rank_of(variable), ())
    if len(whole) > 1:
        parts = one_of(p.lower() for p in whole)
        return Fault(place, f"{variable} runs over a rank that is split", parts)
    known = one_of(part.lower() for part in cascade.whole)
    return Fault(place, f"unknown index variable {variable}", known)
