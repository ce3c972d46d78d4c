"""Executes a run's tasks on NumPy tiles, in the order of the simulation.

A task computes its Einsum at the points of its step and nothing else, and may
read only what tasks before it have produced: a mapping or a schedule that
breaks a dependence is found here, not by looking at it.  Reductions over
parts that several steps share are joined step by step.  What comes out must
equal the interpreter (``ir.reference``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.errors import Fault, InputError, refuse
from accelsim.ir.cascade import Access, Cascade, Einsum, Index, Last, rank_of
from accelsim.ir.evaluate import Array, Points, Stored
from accelsim.ir.lattice import Affine
from accelsim.ir.mapping import Loop, leaves
from accelsim.ir.mapping import Mapping as BoundMapping
from accelsim.ir.problem import Problem
from accelsim.ir.reference import Tensors, parted, run
from accelsim.sim.program import Fixed

#: How the results of two steps of one reduction are joined.
JOINED = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


class Executor:
    """All tensors of a run, and which of their elements have been produced."""

    def __init__(
        self, problem: Problem, mapping: BoundMapping, inputs: Mapping[str, Array]
    ) -> None:
        self.problem = problem
        self.parts = {
            leaf.einsum: dict(mapping.within(group).parts)
            for group in mapping.groups
            for leaf in leaves(group.tree)
        }
        self.cascade = problem.cascade
        self.tensors: dict[str, Stored] = {}
        self.produced: dict[str, npt.NDArray[np.bool_]] = {}
        for t in self.cascade.inputs:
            shape = problem.shape(t.name)
            values = np.asarray(inputs[t.name], np.float64)
            self.tensors[t.name] = Stored(parted(problem, t.name, values))
            self.produced[t.name] = np.ones(shape, np.bool_)
        for name in self.cascade.writers:
            shape = problem.shape(name)
            self.tensors[name] = Stored(np.full(shape, np.nan), np.zeros(shape, np.bool_))
            self.produced[name] = np.zeros(shape, np.bool_)
        self.rings = rings(self.cascade)
        self.waiting: dict[str, Fixed] = {}
        for e in self.cascade.einsums:
            if not e.reads:
                self.task(e.name, {})

    def task(self, einsum: str, fixed: Fixed) -> None:
        """Compute an Einsum in one step: parts of ``fixed`` there, all others whole.

        Einsums that need one another along a recurrence whose slots are inside
        a step go slot by slot, together, when the last of them runs.  Of a step
        beyond the end of a rank there is nothing to compute.  Raises InputError
        where one reads what is not there yet, or where a reduction cannot be
        joined from steps.
        """
        e = self.cascade.steps[einsum]
        values = self._values(e, fixed)
        if not all(map(len, values.values())):
            return
        ring = self.rings.get(einsum, ())
        if not any(len(self._values(one, fixed)[v]) > 1 for one, v in ring):
            self._points(e, values, fixed)
            return
        self.waiting[einsum] = dict(fixed)
        if all(self.waiting.get(e.name) == fixed for e, _ in ring):
            slots = self._values(ring[0][0], fixed)[ring[0][1]]
            for slot in slots:
                for e, v in ring:
                    self._points(e, self._values(e, fixed) | {v: np.array([slot])}, fixed)
            for e, _ in ring:
                del self.waiting[e.name]

    def _values(self, e: Einsum, fixed: Fixed) -> dict[str, npt.NDArray[np.int64]]:
        return {v: self._coordinates(e, v, fixed) for v in self.problem.variables(e)}

    def _points(
        self,
        e: Einsum,
        values: Mapping[str, npt.NDArray[np.int64]],
        fixed: Fixed,
    ) -> None:
        """Compute an Einsum at some values of its variables."""
        points = _Box(self.problem, self.tensors, e, values)
        self._check(e, points)
        with np.errstate(all="ignore"):
            found, defined = points.compute()
        shape = tuple(points.extent(v) for v in points.kept)
        found = np.broadcast_to(found, shape)
        there = np.broadcast_to(True if defined is None else defined, shape)
        self._write(e, values, points.kept, found, there, fixed)

    def _coordinates(self, e: Einsum, variable: str, fixed: Fixed) -> npt.NDArray[np.int64]:
        """The values of a variable of an Einsum in a step, rising."""
        found = np.zeros(1, np.int64)
        parts = self.parts.get(e.name, {})
        for loop in parts.get(rank_of(variable), (_whole(variable, self.problem),)):
            own = np.atleast_1d(fixed.get(loop.part, range(loop.trips)))
            own = own[own < loop.trips]  # of several, the last ones may not be there
            found = (found[:, None] * loop.trips + own).ravel()
        return found[found < self.problem.extent(rank_of(variable))]

    def _check(self, e: Einsum, points: _Box) -> None:
        """Everything that the points read has been produced."""
        for read in dict.fromkeys(e.reads):
            where = points.where(read)
            made = self.produced[read.tensor][where] if where else self.produced[read.tensor]
            if not made.all():
                raise InputError(
                    [
                        Fault(
                            read.place,
                            f"{e.name} reads {read.tensor} before it is produced",
                            f"{e.name} after what it reads, a recurrence's loop around the step",
                        )
                    ]
                )

    def _write(
        self,
        e: Einsum,
        values: Mapping[str, npt.NDArray[np.int64]],
        kept: list[str],
        found: Array,
        there: Array,
        fixed: Fixed,
    ) -> None:
        tensor, produced = self.tensors[e.output.tensor], self.produced[e.output.tensor]
        where = []
        for n, at in enumerate(e.output.indices):
            if isinstance(at, Last):
                where.append(np.array([produced.shape[n] - 1]))
                continue
            if isinstance(at, Access):
                raise refuse(
                    f"{e.name} is scattered, which cannot be executed tile by tile",
                    "a simulation without values",
                    e.output.place,
                )
            form = self.problem.affine(at)
            total = np.array([form.offset])
            for v, c in form.terms:
                total = (total[:, None] + c * values[v]).ravel()
            where.append(total // form.divisor)
        assert tensor.defined is not None
        box = np.ix_(*where)
        shape = tuple(len(w) for w in where)
        new, defined = found.reshape(shape), there.reshape(shape)
        if self._joins(e, fixed) and produced[box].any():
            join = JOINED[e.reductions[0].op]
            new = np.where(tensor.defined[box], join(tensor.values[box], new), new)
            defined = defined | tensor.defined[box]
        tensor.values[box], tensor.defined[box], produced[box] = new, defined, True

    def _joins(self, e: Einsum, fixed: Fixed) -> bool:
        """Whether a step computes but a part of a reduction.  Raises InputError if none can."""
        parts = self.parts.get(e.name, {})
        over = {p.part for v in e.reduced for p in parts.get(rank_of(v), ()) if p.trips > 1}
        if not over & set(fixed):
            return False
        ops = {r.op for r in e.reductions}
        if len(ops) > 1 or not ops <= JOINED.keys():
            raise refuse(
                f"{e.name} reduces by {' and '.join(sorted(ops))} over several steps, which cannot "
                "be executed tile by tile",
                f"one of {', '.join(JOINED)}, or its loops inside a step",
                e.place,
            )
        return True


def rings(cascade: Cascade) -> dict[str, tuple[tuple[Einsum, str], ...]]:
    """For each Einsum of a recurrence all that need one another, each with its slot's variable.

    >>> from accelsim.load.cascade import load_cascade
    >>> found = rings(load_cascade("attention-1pass"))
    >>> [(e.name, v) for e, v in found["RD"]]
    [('SPD', 'm1'), ('RD', 'm1')]
    """
    feeds = {
        e.name: {w.name for a in e.reads for w in cascade.writers.get(a.tensor, ())}
        for e in cascade.einsums
    }
    needs: dict[str, set[str]] = {}
    for name, near in feeds.items():
        found, new = set[str](), near
        while new:
            found |= new
            new = {far for one in new for far in feeds[one]} - found
        needs[name] = found
    answer = {}
    for name, found in needs.items():
        ring = [e for e in cascade.einsums if e.name in found and name in needs[e.name]]
        along = {cascade.iterative.get(e.output.tensor) for e in ring} - {None}
        slots = [[v for v in e.variables if rank_of(v) in along] for e in ring]
        if ring and all(len(variables) == 1 for variables in slots):
            answer[name] = tuple((e, v) for e, (v,) in zip(ring, slots, strict=True))
    return answer


def _whole(variable: str, problem: Problem) -> Loop:
    rank = rank_of(variable)
    return Loop(rank, problem.extent(rank))


class _Box(Points):
    """The points of one step: each variable takes some of its values."""

    def __init__(
        self,
        problem: Problem,
        tensors: Mapping[str, Stored],
        e: Einsum,
        values: Mapping[str, npt.NDArray[np.int64]],
    ) -> None:
        self.values = values
        super().__init__(problem, tensors, e, {}, np.dtype(np.float64))

    def extent(self, variable: str) -> int:
        """How many values a variable takes."""
        return len(self.values[variable])

    def _along(self, variable: str) -> Array:
        shape = [1] * len(self.axes)
        shape[self.axes.index(variable)] = -1
        return self.values[variable].reshape(shape)

    def _by_slices(self, _forms: list[Affine], _shape: tuple[int, ...]) -> None:
        """No views: a step's values need not be neighbours."""

    def where(self, read: Access) -> tuple[Any, ...]:
        """The elements that a read needs, as an index; those beyond a border are the nearest."""
        shape = self.tensors[read.tensor].values.shape
        found = []
        for n, at in enumerate(read.indices):
            if isinstance(at, Access):
                found.append(np.clip(self.coordinates(at), 0, shape[n] - 1))
            elif isinstance(at, Index):
                found.append(np.clip(self._affine(self.problem.affine(at)), 0, shape[n] - 1))
            else:
                found.append(np.full([1] * len(self.axes), shape[n] - 1))
        return tuple(found)


def largest_difference(
    problem: Problem, inputs: Mapping[str, Array], found: Mapping[str, Stored], names: Iterable[str]
) -> float:
    """The largest difference from the interpreter, relative to a tensor's largest magnitude."""
    true: Tensors = run(problem, inputs)
    worst = 0.0
    for name in names:
        ours, theirs = found[name].shown(), true[name]
        with np.errstate(invalid="ignore"):
            same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
            gap = np.where(same, 0.0, np.abs(ours - theirs))
        scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0) or 1.0
        worst = max(worst, float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0) / scale))
    return worst
