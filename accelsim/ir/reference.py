"""The meaning of the cascade language: a NumPy interpreter, and ``check`` against the textbook.

An Einsum is computed at every point of its iteration space: reads, maps,
reductions, then the write.  What the rest of accelsim says about a cascade is
said about these values.

* A tensor has one axis for each of its ranks, parts of split ranks apart.  An
  input is reshaped to its parts.
* ``where`` restricts the iteration space.  A condition on variables of the
  output leaves the other elements of the output **undefined**; a condition
  that involves a reduced variable restricts the reduction, which over no
  points gives its identity (0, -inf, ...): defined.
* A read of an undefined element takes that point out of the reader's
  iteration space, with the same two consequences.  Undefined elements are
  returned as NaN.
* An index beyond the tensor is the nearest element under ``clamp``, the value
  0 under ``zero``, and without either an ``InputError``, unless the point is
  masked out.
* Einsums that need each other along an iterative rank run slot by slot: slot
  0 is initialised, ``m1+1`` is the next slot, an upper-case index the last.
  All others run at once.
* ``argmax`` gives the index along the reduced rank (the first of equals).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from accelsim.errors import Fault, InputError, Place, one_of, refuse
from accelsim.ir.cascade import (
    Access,
    Cascade,
    Einsum,
    Index,
    Last,
    Position,
    accesses,
    rank_of,
    simple,
)
from accelsim.ir.evaluate import Array, Points, Stored
from accelsim.ir.order import order
from accelsim.ir.problem import Problem, bind, relevant, with_parts
from accelsim.ir.textbook import TEXTBOOK

Tensors: TypeAlias = dict[str, Array]

#: ``check`` calls two results equal within this, relative to the largest true magnitude.
TOLERANCE = 1e-9


def run(
    problem: Problem, inputs: Mapping[str, npt.ArrayLike], dtype: npt.DTypeLike = np.float64
) -> Tensors:
    """Every tensor of the cascade, by name, each with the shape ``problem.shape(name)``.

    ``inputs`` have their declared shape or that of their parts.  Undefined
    elements are NaN.  ``dtype``: float64 is the meaning; another one shows
    what the cascade does in that precision.

    >>> import numpy as np
    >>> from accelsim.ir.cascade import Access, Cascade, Einsum, Index, Reduction, Tensor
    >>> i, j = Index((("i", 1),)), Index((("j", 1),))
    >>> row = Einsum(Access("Y", (i,)), Access("X", (i, j)), (Reduction("sum", ("j",)),))
    >>> c = Cascade("rowsum", ("I", "J"), (Tensor("X", ("I", "J")),), (row,), ("Y",))
    >>> run(bind(c, {"I": 2, "J": 3}), {"X": np.arange(6.0).reshape(2, 3)})["Y"].tolist()
    [3.0, 12.0]
    """
    state = _State(problem, np.dtype(dtype))
    state.load(inputs)
    with np.errstate(all="ignore"):
        for group in order(problem.cascade):
            if group.along:
                for slot in range(problem.extent(rank_of(group.along))):
                    for e in group.einsums:
                        state.execute(e, {group.along: slot})
            else:
                state.execute(group.einsums[0], {})
    return {name: tensor.shown() for name, tensor in state.tensors.items()}


def random_inputs(problem: Problem, seed: int = 0) -> Tensors:
    """Standard normal values for each input in its declared shape; 0 or 1 for a mask's tensor.

    A tensor that is only read as a predicate (``where Keep[i,j]``) is a mask,
    and three quarters of it are 1, or its declared density.  An index tensor
    holds coordinates of the rank that it counts in, along its last rank all
    different if there are enough.
    """
    rng = np.random.default_rng(seed)
    einsums = problem.cascade.einsums
    predicates = {c.tensor for e in einsums for c in simple(e.where) if isinstance(c, Access)}
    masks = predicates - {a.tensor for e in einsums for a in accesses(e.expr)}
    densities = problem.cascade.density
    counts = problem.cascade.counts
    found: Tensors = {}
    for t in problem.cascade.inputs:
        shape = tuple(problem.extent(r) for r in t.ranks)
        if t.name in counts:
            found[t.name] = _coordinates(rng, shape, problem.extent(counts[t.name]))
        elif t.name in masks:
            share = densities[t.name].value if t.name in densities else 0.75
            found[t.name] = (rng.random(shape) < share).astype(np.float64)
        else:
            found[t.name] = rng.standard_normal(shape)
    return found


def _coordinates(rng: np.random.Generator, shape: tuple[int, ...], extent: int) -> Array:
    """Random coordinates below ``extent``, each block of as many different along the last axis."""
    last = shape[-1] if shape else 1
    blocks = -(-last // extent)
    every = np.broadcast_to(np.arange(extent, dtype=np.float64), (*shape[:-1], blocks, extent))
    mixed = rng.permuted(every, axis=-1).reshape(*shape[:-1], blocks * extent)
    return mixed[..., :last].reshape(shape)


def whole(problem: Problem, tensor: str, values: Array) -> Array:
    """``values`` with adjacent parts of one split rank joined: ``[m1, m0]`` becomes ``[m]``.

    What is beyond the end of a rank, in a short last tile, is left out.
    """
    ranks = problem.cascade.tensors[tensor]
    split = dict(problem.cascade.splits)
    shape: list[int] = []
    kept: list[slice] = []
    at = 0
    while at < len(ranks):
        parts = split.get(problem.cascade.whole.get(ranks[at], ""), ())
        n = len(parts) if parts and ranks[at : at + len(parts)] == parts else 1
        shape.append(int(np.prod(values.shape[at : at + n])))
        rank = problem.cascade.whole.get(ranks[at], "")
        kept.append(slice(problem.extent(rank) if n > 1 and rank in problem.short else None))
        at += n
    return values.reshape(shape)[tuple(kept)]


def parted(problem: Problem, tensor: str, values: Array) -> Array:
    """An input's values of its declared shape with an axis for each part of a split rank.

    What a short last tile lacks is 0; no Einsum reads it.
    """
    ranks = next(t.ranks for t in problem.cascade.inputs if t.name == tensor)
    if problem.short.keys() & set(ranks):
        room = [prod(problem.extent(p) for p in problem.cascade.parts.get(r, (r,))) for r in ranks]
        more = [(0, wide - n) for wide, n in zip(room, values.shape, strict=True)]
        values = np.pad(values, more)
    return values.reshape(problem.shape(tensor))


# -- execution -------------------------------------------------------------------------------


@dataclass
class _State:
    """Tensors computed so far."""

    problem: Problem
    dtype: np.dtype[Any]
    tensors: dict[str, Stored] = field(default_factory=dict)

    def load(self, inputs: Mapping[str, npt.ArrayLike]) -> None:
        """Reshape the inputs to parts; refuse missing, unknown and misshapen ones together."""
        declared = {t.name: t for t in self.problem.cascade.inputs}
        here = Place("<inputs>")
        faults = [
            Fault(here, f"no input tensor {n}", one_of(declared))
            for n in inputs
            if n not in declared
        ]
        for name, tensor in declared.items():
            shapes = [
                tuple(self.problem.extent(r) for r in tensor.ranks),
                self.problem.shape(name),
            ]
            if name not in inputs:
                faults.append(Fault(here, f"input tensor {name} is missing", f"shape {shapes[0]}"))
                continue
            values = np.asarray(inputs[name]).astype(self.dtype)
            if values.shape not in shapes:
                faults.append(
                    Fault(here, f"input {name} has shape {values.shape}", f"shape {shapes[0]}")
                )
            elif values.shape == shapes[0]:
                self.tensors[name] = Stored(parted(self.problem, name, values))
            else:
                self.tensors[name] = Stored(values)
        if faults:
            raise InputError(faults)

    def execute(self, e: Einsum, fixed: Mapping[str, int]) -> None:
        """Compute one Einsum, with the variables of ``fixed`` at one value each."""
        points = Points(self.problem, self.tensors, e, fixed, self.dtype)
        values, defined = points.compute()
        shape = self.problem.shape(e.output.tensor)
        if e.output.through:
            self._scatter(points, values, defined)
            return
        where = tuple(self._slice(at, fixed, shape[n], e) for n, at in enumerate(e.output.indices))
        values = np.broadcast_to(values, tuple(points.extent(v) for v in points.kept))
        alone = len(self.problem.cascade.writers[e.output.tensor]) == 1 and not fixed
        if alone and values.shape == shape:
            if defined is not None:
                defined = np.broadcast_to(defined, shape)
            self.tensors[e.output.tensor] = Stored(np.array(values), defined)
            return
        tensor = self.tensors.get(e.output.tensor)
        if tensor is None:
            tensor = Stored(np.full(shape, np.nan, self.dtype), np.zeros(shape, np.bool_))
            self.tensors[e.output.tensor] = tensor
        tensor.values[where] = values
        assert tensor.defined is not None
        tensor.defined[where] = True if defined is None else defined

    def _scatter(self, points: Points, values: Array, defined: Array | None) -> None:
        """Add each point to the element that its index tensors tell; elsewhere the sum is 0."""
        e = points.einsum
        name, shape = e.output.tensor, self.problem.shape(e.output.tensor)
        size = tuple(points.extent(v) for v in points.kept)
        there = np.broadcast_to(True if defined is None else defined, size)
        at = [a[there] for a in points.written(size)]
        for extent, index in zip(shape, at, strict=True):
            if ((index < 0) | (index >= extent)).any():
                raise refuse(
                    f"{e.name} is written beyond its extent {'x'.join(map(str, shape))}",
                    f"coordinates from 0 to {extent - 1}",
                    e.output.place,
                )
        tensor = self.tensors.setdefault(name, Stored(np.zeros(shape, self.dtype)))
        np.add.at(tensor.values, tuple(at), np.broadcast_to(values, size)[there])

    def _slice(self, at: Position, fixed: Mapping[str, int], extent: int, e: Einsum) -> int | slice:
        """The slots that a write's index covers."""
        if isinstance(at, Last):
            return extent - 1
        assert isinstance(at, Index)
        form = self.problem.affine(at)
        first = form.offset + sum(c * fixed[v] for v, c in form.terms if v in fixed)
        free = [(v, c) for v, c in form.terms if v not in fixed]
        if form.divisor != 1 or len(free) > 1 or any(c < 1 for _, c in free) or first < 0:
            raise refuse(
                f"{e.name} is written at an index that is no variable plus a constant",
                "p, or m1+1 for the next slot",
                e.output.place,
            )
        if not free:
            return first
        (_, c), size = free[0], self.problem.extent(rank_of(free[0][0]))
        return slice(first, first + c * (size - 1) + 1, c)


# -- check against the textbook --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """A cascade's outputs against those of its ``equals``, in float64.

    Errors are the largest over all elements of all outputs; the relative one
    is relative to the largest true magnitude of its tensor.
    """

    equal: bool
    max_abs_error: float
    max_rel_error: float
    outputs: tuple[str, ...]
    equals: str


def check(
    problem: Problem, seed: int = 0, resolve: Callable[[str], Cascade] | None = None
) -> Check:
    """Run a cascade on random inputs and compare with what its ``equals`` names.

    ``equals`` is a function of ``ir.textbook``; with ``resolve`` (a loader of
    cascades) it may also be another cascade, whose interpreter result is then
    the truth.
    """
    inputs = random_inputs(problem, seed)
    found = run(problem, inputs)
    names = problem.cascade.outputs
    true = truth(problem, inputs, resolve)
    absolute = relative = 0.0
    for name in names:
        ours, theirs = whole(problem, name, found[name]), true[name]
        if ours.shape != theirs.shape:
            raise refuse(
                f"{name} of {problem.cascade.name} has shape {ours.shape}, that of "
                f"{problem.cascade.equals} {theirs.shape}",
                "the same ranks in the same order",
                problem.cascade.place,
            )
        error = _error(ours, theirs)
        absolute = max(absolute, error)
        scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0)
        relative = max(relative, error / scale if scale and error < np.inf else error)
    equal = bool(relative <= TOLERANCE or absolute <= np.finfo(np.float64).tiny)
    return Check(equal, absolute, relative, names, problem.cascade.equals)


def _error(ours: Array, theirs: Array) -> float:
    """The largest difference; infinite where only one is NaN, or infinities differ."""
    with np.errstate(invalid="ignore"):
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        difference = np.where(same, 0.0, np.abs(ours - theirs))
    worst = np.where(np.isnan(difference), np.inf, difference).max(initial=0.0)
    return float(worst)


def truth(
    problem: Problem,
    inputs: Mapping[str, Array],
    resolve: Callable[[str], Cascade] | None = None,
) -> Tensors:
    """The outputs that the cascade must have, by name, parts of split ranks joined."""
    cascade = problem.cascade
    if cascade.equals in TEXTBOOK:
        return _from_textbook(problem, inputs)
    other = None
    if resolve is not None and cascade.equals:
        other = resolve(cascade.equals)
    if other is None:
        raise refuse(
            f"cascade {cascade.name} equals {cascade.equals or 'nothing'}, "
            "which is no textbook function",
            one_of(TEXTBOOK, 40) + ", or the name of a cascade",
            cascade.place,
        )
    sizes = with_parts(other, relevant(other, problem.sizes))
    theirs = bind(other, sizes, imperfect=dict(other.splits))
    values = run(theirs, inputs)
    named = zip(cascade.outputs, other.outputs, strict=True)
    return {ours: whole(theirs, its, values[its]) for ours, its in named}


def _from_textbook(problem: Problem, inputs: Mapping[str, Array]) -> Tensors:
    """Call a textbook function: its parameters are inputs, constants and sizes by name."""
    cascade = problem.cascade
    function = TEXTBOOK[cascade.equals]
    known: dict[str, Any] = {**problem.sizes, **dict(cascade.constants), **inputs}
    parameters = inspect.signature(function).parameters.values()
    lacking = [p.name for p in parameters if p.name not in known and p.default is p.empty]
    if lacking:
        raise refuse(
            f"cascade {cascade.name} has no {one_of(lacking)}, "
            f"which {cascade.equals} is a function of",
            "an input tensor, a constant or a rank of that name",
            cascade.place,
        )
    try:
        result = function(**{p.name: known[p.name] for p in parameters if p.name in known})
    except (ValueError, IndexError) as error:  # shapes that do not go together, as NumPy says it
        message = f"{cascade.equals} has no value at these sizes: {error}"
        raise refuse(message, "sizes that go together", cascade.place) from None
    values = result if isinstance(result, tuple) else (result,)
    if len(values) != len(cascade.outputs):
        raise refuse(
            f"cascade {cascade.name} has {len(cascade.outputs)} outputs, "
            f"{cascade.equals} has {len(values)}",
            place=cascade.place,
        )
    return dict(zip(cascade.outputs, values, strict=True))
