"""A part of a system as stages: scores, estimation, selection and attention, with what each moves.

The file's ``estimation`` names the Einsums that choose what the others
compute.  Of them, those that select (or, where none does, decide the others'
masks and indices) and the elementwise work that only they read are the
selection.  Einsums that estimation needs but that are not of it come before
(scores); what is left is the attention.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from math import prod
from typing import Any, Final

from accelsim.analysis.statement import Program, Statement
from accelsim.analysis.work import work
from accelsim.explore.factors import factors
from accelsim.explore.loads import (
    BITS,
    BYTE,
    bits_of,
    bound,
    number,
    reached,
    stated,
    stepping,
)
from accelsim.ir.cascade import Einsum, rank_of, simple
from accelsim.ir.problem import Problem
from accelsim.load.cascade import load_cascade
from accelsim.load.system import Part
from accelsim.models.staged import Extents, Stage, Step

ORDER: Final = ("around", "scores", "estimation", "selection", "attention")


def stages(
    part: Part, scope: Mapping[str, Any], room_bytes: float = 0.0, apart: bool = False
) -> tuple[Stage, ...]:
    """The stages of a part in their order, each with its Einsums and the bytes it moves.

    What a stage hands to a later one, or both read, goes through memory but
    for what ``room_bytes`` hold of it for one point in flight.  ``apart``:
    what the attention's kernel leaves to others is a stage of its own.

    >>> from accelsim.explore.loads import scope_of
    >>> from accelsim.load.system import load_system
    >>> found = load_system("sale")
    >>> [s.name for s in stages(found.phases[0].parts[0], scope_of(found, 4096))]
    ['estimation', 'selection', 'attention']
    """
    problem = bound(part, scope)
    known = stated(problem)
    where = {s.name: stage for s, stage in _placed(part, known).items()}
    if apart:
        where |= {name: "around" for name in part.around if name in where}
    moving = _Moving(part, scope, known, where, room_bytes)
    found = []
    for name in ORDER:
        here = [s for s in known.statements if where[s.name] == name]
        if here:
            made = frozenset(s.output.tensor for s in here)
            steps = tuple(_step(part, scope, problem, s, made) for s in here)
            read, written = moving.of(name, here)
            found.append(Stage(name, steps, read, written))
    return tuple(found)


def joined(found: Iterable[Stage], name: str) -> Stage:
    """Stages as one, for what runs them together; what they hand on stays within."""
    found = tuple(found)
    made = {t for s in found for t in s.write_bytes}
    handed = {t for s in found for t in s.read_bytes} & made
    reads: dict[str, float] = {}
    for s in found:
        for tensor, n in s.read_bytes.items():
            reads[tensor] = max(reads.get(tensor, 0.0), n)
    reads = {t: n for t, n in reads.items() if t not in handed}
    writes = {t: n for s in found for t, n in s.write_bytes.items() if t not in handed}
    return Stage(name, tuple(step for s in found for step in s.steps), reads, writes)


def _placed(part: Part, known: Program) -> dict[Statement, str]:
    """The stage of each statement."""
    choosing = set(part.estimation)
    ours = [s for s in known.statements if s.name in choosing]
    last = {s.name for s in ours if s.einsum.selects}
    rest = [s for s in known.statements if s.name not in choosing]
    if not last:
        asked = {t for s in rest for t in _deciding(s.einsum)}
        last = {s.name for s in ours if s.output.tensor in asked}
    growing = True
    while growing:
        before = len(last)
        for s in ours:
            readers = {r.name for r in known.readers.get(s.output.tensor, ())}
            if readers and readers <= last and not s.contracts and not s.reduced:
                last.add(s.name)
        growing = len(last) > before
    needed = {r.tensor for s in ours for r in s.reads}
    early: set[str] = set()
    for s in reversed(rest):
        if s.output.tensor in needed:
            early.add(s.name)
            needed |= {r.tensor for r in s.reads}
    return {
        s: "selection"
        if s.name in last
        else "estimation"
        if s.name in choosing
        else "scores"
        if s.name in early
        else "attention"
        for s in known.statements
    }


def _deciding(einsum: Einsum) -> Collection[str]:
    """Tensors that decide what an Einsum computes: its masks' and its indices'."""
    masks = {getattr(c, "tensor", "") for c in simple(einsum.where)}
    looked = {getattr(at, "tensor", "") for a in (*einsum.reads, einsum.output) for at in a.indices}
    return (masks | looked) - {""}


def _step(
    part: Part, scope: Mapping[str, Any], problem: Problem, s: Statement, made: Collection[str]
) -> Step:
    """An Einsum's points and operations; of key tiles that are visited every point counts."""
    einsum = s.einsum
    times = number(part.times, scope, "times")
    points = float(problem.points(einsum))
    if part.visits is not None and einsum.name not in part.estimation:
        share = number(part.visits, scope, "visits", most=1)
        if einsum.name in stepping(part, problem):
            points *= share
        elif points < problem.dense_points(einsum) and _along(problem, part, einsum):
            points = max(points, share * problem.dense_points(einsum))
    classes = work(einsum)
    return Step(einsum.name, points * times, classes, _extents(s, times, made))


def _along(problem: Problem, part: Part, einsum: Einsum) -> bool:
    """Whether an Einsum runs over all of the keys' rank."""
    parts = problem.cascade.parts.get(part.rank, (part.rank,))
    return {rank_of(v) for v in problem.variables(einsum)} >= set(parts)


def _extents(s: Statement, times: float, made: Collection[str]) -> Extents | None:
    """The extents of a product of two tensors; None of anything else."""
    found = factors(s)
    if found is None:
        return None
    sizes = (found.batch, found.rows, found.columns, s.reduced)
    count, high, wide, deep = (float(s.span(names)) for names in sizes)
    there = (found.first.tensor in made, found.second.tensor in made)
    return Extents(count * times, high, wide, deep, there)


class _Moving:
    """Bytes that stages move, with what stays on chip between them left out."""

    def __init__(
        self,
        part: Part,
        scope: Mapping[str, Any],
        known: Program,
        where: Mapping[str, str],
        room_bytes: float,
    ) -> None:
        self.part, self.known, self.where = part, known, where
        self.problem = known.problem
        self.room = room_bytes
        self.bits = bits_of(part, scope, self.problem)
        self.times = number(part.times, scope, "times")
        self.inputs = {t.name for t in self.problem.cascade.inputs}
        self.flight = set(_in_flight(part.cascade, part.rank))

    def of(
        self, name: str, here: Collection[Statement]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Bytes read and written by the statements of a stage, by tensor."""
        made = {s.output.tensor for s in here}
        read, written = {}, {}
        for tensor in dict.fromkeys(r.tensor for s in here for r in s.reads):
            if tensor in made or not self.bits.get(tensor, BITS):
                continue
            if self._stays(tensor) and not self._first(tensor, name):
                continue
            read[tensor] = self._bytes(tensor, here)
        outputs = set(self.known.outputs)
        for tensor in made:
            later = {self.where[r.name] for r in self.known.readers.get(tensor, ())} - {name}
            if not self.bits.get(tensor, BITS):
                continue
            if tensor in outputs or (later and not self._stays(tensor)):
                written[tensor] = self._bytes(tensor, ())
        return read, written

    def _first(self, tensor: str, name: str) -> bool:
        """Whether a stage is the first to read an input."""
        if tensor not in self.inputs:
            return False
        stages_of = {self.where[s.name] for s in self.known.readers[tensor]}
        return name == min(stages_of, key=ORDER.index)

    def _stays(self, tensor: str) -> bool:
        """Whether half of the room holds what one point in flight has of a tensor."""
        return self._bytes(tensor, ()) / self.times / self._flying(tensor) <= self.room / 2

    def _flying(self, tensor: str) -> float:
        ranks = self.problem.cascade.tensors[tensor]
        return prod(self.problem.extent(r) for r in ranks if r in self.flight)

    def _bytes(self, tensor: str, here: Collection[Statement]) -> float:
        """Bytes of a tensor: of an input what statements read, of a state its last slot."""
        if tensor in self.inputs and here:
            elements = reached(self.known, here)[tensor]
        else:
            elements = float(self.problem.defined_elements(tensor))
            rank = self.problem.cascade.iterative.get(tensor)
            readers = self.known.readers.get(tensor, ())
            if rank and all(
                r.last or s.output.tensor in self.known.cycles.get(tensor, ())
                for s in readers
                for r in s.reads
                if r.tensor == tensor
            ):
                elements /= self.problem.extent(rank) + 1
        width = self.bits.get(tensor, self.problem.bits(tensor, BITS))
        return self.times * elements * width / BYTE


@lru_cache(maxsize=256)
def _in_flight(cascade: str, rank: str) -> tuple[str, ...]:
    """Ranks each of whose points is a computation of its own."""
    from accelsim.analysis.footprint import footprint
    from accelsim.explore.sweeping import outer, running

    found = running(load_cascade(cascade))
    return footprint(found, outer(found, rank)).in_flight
