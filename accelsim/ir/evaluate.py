"""One Einsum at all points of its iteration space at once, by broadcasting.

Every value has one axis for each variable of the Einsum, of length 1 where it
does not depend on it.  Masks are kept apart, each with its variables, because
one on reduced variables restricts the reduction and any other leaves elements
of the output undefined.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from accelsim.errors import Place, refuse
from accelsim.ir.cascade import (
    Access,
    Compare,
    Condition,
    Const,
    Coordinate,
    Einsum,
    Either,
    Expr,
    Index,
    Last,
    Map,
    Position,
    Reduction,
    Size,
    Threshold,
    rank_of,
)
from accelsim.ir.functions import OURS, RELATIONS, first_inside, largest
from accelsim.ir.lattice import Affine
from accelsim.ir.ops import MAPS, REDUCTIONS
from accelsim.ir.problem import Problem

Array: TypeAlias = npt.NDArray[Any]


#: What an index beyond a tensor needs.
_WITHIN: Final = "clamp(...) or zero(...) around the index, or a where that excludes the point"


@dataclass(slots=True, eq=False)
class Stored:
    """Values, and where they are defined (None: everywhere)."""

    values: Array
    defined: Array | None = None

    def shown(self) -> Array:
        """The values with NaN where they are undefined."""
        if self.defined is None or self.defined.all():
            return self.values
        shown: Array = np.where(self.defined, self.values, np.nan).astype(self.values.dtype)
        return shown


@dataclass(slots=True, eq=False)
class _Field:
    """A value at the points of an Einsum, and the variables that it depends on."""

    values: Array
    variables: frozenset[str]


class Points:
    """One Einsum at all its points, less the variables that are fixed."""

    def __init__(
        self,
        problem: Problem,
        tensors: Mapping[str, Stored],
        e: Einsum,
        fixed: Mapping[str, int],
        dtype: np.dtype[Any],
    ) -> None:
        self.problem, self.tensors, self.einsum, self.fixed = problem, tensors, e, fixed
        self.dtype = dtype
        every = [v for v in self.problem.variables(e) if v not in fixed]
        #: variables of the output in the order of its indices, then the reduced ones
        self.kept = [v for v in e.output.variables if v not in fixed]
        self.axes = [*self.kept, *(v for v in every if v not in self.kept)]
        self.reads: dict[Access, _Field] = {}
        self.masks: list[_Field] = []
        #: what is wrong, at points that a mask may yet exclude
        self._wrong: list[tuple[Array, str, str, Place]] = []
        for read in dict.fromkeys(e.reads):
            self._read(read)
        for condition in e.where:
            self.masks.append(self._holds(condition))
        for wrong, message, allowed, place in self._wrong:
            unmasked = wrong
            for mask in self.masks:
                unmasked = unmasked & mask.values
            if unmasked.any():
                raise refuse(f"{e.name} {message}", allowed, place)

    def extent(self, variable: str) -> int:
        """The size of a variable's rank."""
        return self.problem.extent(rank_of(variable))

    # -- reads ---------------------------------------------------------------------------

    def _along(self, variable: str) -> Array:
        """0, 1, 2, ... along a variable's axis."""
        shape = [1] * len(self.axes)
        shape[self.axes.index(variable)] = -1
        return np.arange(self.extent(variable)).reshape(shape)

    def _affine(self, form: Affine) -> Array:
        """The value of an affine form at every point."""
        total = np.full([1] * len(self.axes), form.offset, np.int64)
        for v, c in form.terms:
            total = total + c * (self.fixed[v] if v in self.fixed else self._along(v))
        return total // form.divisor

    def _holds(self, condition: Condition) -> _Field:
        if isinstance(condition, Either):
            some = _Field(np.zeros([1] * len(self.axes), np.bool_), frozenset())
            for alternative in condition.alternatives:
                every = [self._holds(c) for c in alternative]
                names = some.variables.union(*(f.variables for f in every))
                both = functools.reduce(np.logical_and, (f.values for f in every))
                some = _Field(some.values | both, names)
            return some
        if isinstance(condition, Compare):
            return self._compare(condition)
        if isinstance(condition, Threshold):
            left, right = self._value(condition.left), self._value(condition.right)
            holds = RELATIONS[condition.relation](left.values, right.values)
            return _Field(holds, left.variables | right.variables)
        there = self.reads[condition]
        return _Field(there.values != 0, there.variables)

    def _compare(self, c: Compare) -> _Field:
        left, right = self.problem.affine(c.left), self.problem.affine(c.right)
        names = frozenset(v for v, _ in left.terms + right.terms) - self.fixed.keys()
        return _Field(RELATIONS[c.relation](self._affine(left), self._affine(right)), names)

    def _read(self, read: Access) -> None:
        """A tensor's elements at every point; what is undefined or beyond it goes to the masks."""
        tensor = self.tensors.get(read.tensor)
        if tensor is None:
            raise refuse(
                f"{self.einsum.name} reads {read.tensor} before it is written", place=read.place
            )
        shape = tensor.values.shape
        lines: dict[int, Affine] = {}
        names: set[str] = set()
        for n, at in enumerate(read.indices):
            if isinstance(at, Access):
                names |= self.reads[at].variables
            else:
                slot = shape[n] - 1
                lines[n] = Affine((), slot) if isinstance(at, Last) else self.problem.affine(at)
                names |= {v for v, _ in lines[n].terms} - self.fixed.keys()
        moved = any(isinstance(i, Index) and i.border == "window" for i in read.indices)
        pick = None if read.through or moved else self._by_slices(list(lines.values()), shape)
        outside: Array | None = None
        if pick is None:
            at_points, outside = self._by_points(read, lines, shape)
            pick = lambda a: a[at_points] if at_points else a.reshape([1] * len(self.axes))  # noqa: E731
        values = pick(tensor.values)
        if tensor.defined is not None:
            defined = pick(tensor.defined)
            if outside is not None:
                defined = defined | outside
            if not defined.all():
                self.masks.append(_Field(defined, frozenset(names)))
        if outside is not None:
            values = np.where(outside, np.zeros((), values.dtype), values)
        self.reads[read] = _Field(values, frozenset(names))

    def _by_points(
        self, read: Access, lines: Mapping[int, Affine], shape: tuple[int, ...]
    ) -> tuple[tuple[Array, ...], Array | None]:
        """The coordinates of a read at every point, and where they are beyond a zero border."""
        outside: Array | None = None
        where = []
        for n, at in enumerate(read.indices):
            index = self._affine(lines[n]) if n in lines else self.coordinates(at)
            if isinstance(at, Index) and at.border == "window":
                index = self._window(at, lines[n], shape[n])
            out = (index < 0) | (index >= shape[n])
            if out.any():
                border = at.border if isinstance(at, Index) else ""
                if border == "":
                    extent = "x".join(map(str, shape))
                    message = f"reads {read.tensor} beyond its extent {extent}"
                    self._wrong.append((out, message, _WITHIN, read.place))
                elif border == "zero":
                    outside = out if outside is None else outside | out
            where.append(np.clip(index, 0, shape[n] - 1))
        return tuple(where), outside

    def _window(self, at: Index, line: Affine, extent: int) -> Array:
        """Coordinates of a window that is moved inside the tensor by multiples of its dilation."""
        ((variable, dilation),) = self.problem.affine(Index(at.terms[-1:])).terms
        others = tuple(t for t in line.terms if t[0] != variable)
        centre = self._affine(Affine(others, line.offset, line.divisor))
        first = first_inside(centre, dilation, self.extent(variable), extent)
        return np.asarray(first + dilation * self._along(variable))

    def coordinates(self, index: Position) -> Array:
        """The elements of an index tensor at every point, as whole numbers; undefined ones as 0."""
        assert isinstance(index, Access)
        values = self.reads[index].values
        rounded: Array = np.where(np.isfinite(values), values, 0).astype(np.int64)
        message = f"takes coordinates from {index.tensor}, not all of which are whole numbers"
        if (rounded != values).any():
            allowed = "0, 1, 2, ..., or a where that excludes the point"
            self._wrong.append((rounded != values, message, allowed, index.place))
        return rounded

    def _by_slices(
        self, forms: list[Affine], shape: tuple[int, ...]
    ) -> Callable[[Array], Array] | None:
        """A view of a tensor at every point, where each index is a variable plus a constant."""
        where: list[int | slice] = []
        seen: list[str] = []
        for form, size in zip(forms, shape, strict=True):
            first = form.offset + sum(c * self.fixed[v] for v, c in form.terms if v in self.fixed)
            free = [(v, c) for v, c in form.terms if v not in self.fixed]
            if form.divisor != 1 or len(free) > 1 or first < 0:
                return None
            if not free:
                if first >= size:
                    return None
                where.append(first)
                continue
            v, c = free[0]
            if c != 1 or v in seen or first + self.extent(v) > size:
                return None
            where.append(slice(first, first + self.extent(v)))
            seen.append(v)
        ordered = sorted(range(len(seen)), key=lambda n: self.axes.index(seen[n]))
        full = [self.extent(v) if v in seen else 1 for v in self.axes]
        return lambda a: a[tuple(where)].transpose(ordered).reshape(full)

    # -- values --------------------------------------------------------------------------

    def compute(self) -> tuple[Array, Array | None]:
        """The output's values over the kept variables, and where they are defined."""
        shape = [self.extent(v) for v in self.axes]
        reductions = list(self.einsum.reductions)
        values: Array | None = None
        if reductions and reductions[0].op == "sum":
            values = self._contract(reductions[0])
            if values is not None:
                reductions.pop(0)
                shape = [
                    1 if v in self.einsum.reductions[0].over else n
                    for v, n in zip(self.axes, shape, strict=True)
                ]
        if values is None:
            values = self._value(self.einsum.expr).values
        for reduction in reductions:
            values = self._reduce(values, reduction, shape)
        values = values.reshape(values.shape[: len(self.kept)])
        defined: Array | None = None
        for mask in self.masks:
            if mask.variables <= set(self.kept):
                here = mask.values.reshape(mask.values.shape[: len(self.kept)])
                defined = here if defined is None else defined & here
        return values, defined

    def written(self, size: tuple[int, ...]) -> Iterator[Array]:
        """For each position of the output the coordinate that each kept point is written at."""
        for at in self.einsum.output.indices:
            if isinstance(at, Index):
                index = self._affine(self.problem.affine(at))
            else:
                index = self.coordinates(at)
            yield np.broadcast_to(index.reshape(index.shape[: len(size)]), size)

    def _value(self, expr: Expr) -> _Field:
        if isinstance(expr, Access):
            return self.reads[expr]
        ones = [1] * len(self.axes)
        if isinstance(expr, Coordinate):
            if expr.variable in self.fixed:
                return _Field(np.full(ones, self.fixed[expr.variable], self.dtype), frozenset())
            along = self._along(expr.variable).astype(self.dtype)
            return _Field(along, frozenset([expr.variable]))
        if isinstance(expr, Const):
            return _Field(np.full(ones, expr.value, self.dtype), frozenset())
        if isinstance(expr, Size):
            size = float(self.problem.extent(expr.rank))
            return _Field(np.full(ones, size).astype(self.dtype), frozenset())
        args = [self._value(a) for a in expr.args]
        name = MAPS[expr.op].numpy
        function: Callable[..., Array] = OURS.get(name) or getattr(np, name)
        values = function(*(a.values for a in args)).astype(self.dtype, copy=False)
        return _Field(values, frozenset().union(*(a.variables for a in args)))

    def _reduce(self, values: Array, reduction: Reduction, shape: list[int]) -> Array:
        """One reduction.  Its axes stay, of length 1; ``shape`` is updated to say so."""
        reducer = REDUCTIONS[reduction.op]
        over = [v for v in reduction.over if v not in self.fixed]
        axes = tuple(self.axes.index(v) for v in over)
        gone = {v for v, n in zip(self.axes, shape, strict=True) if n < self.extent(v)}
        here = [m for m in self.masks if m.variables & set(over) and not m.variables & gone]
        size = list(values.shape)
        for m in here:
            size = list(np.broadcast_shapes(tuple(size), m.values.shape))
        for a in axes:
            size[a] = shape[a]
            shape[a] = 1
        values = np.broadcast_to(values, size)
        keep: Array | None = None
        for m in here:
            keep = m.values if keep is None else keep & m.values
        if keep is not None:
            values = np.where(keep, values, np.asarray(reducer.identity, values.dtype))
        if reduction.into:
            return self._chosen(values, keep, reduction)
        if reduction.op == "argmax":
            if len(axes) != 1:
                raise refuse("argmax reduces one rank", "argmax(m)", self.einsum.place)
            found: Array = np.argmax(values, axis=axes[0], keepdims=True).astype(values.dtype)
            if keep is not None:
                some = np.broadcast_to(keep, size).any(axis=axes[0], keepdims=True)
                found = np.where(some, found, reducer.identity)
            return found
        reduced: Array = getattr(np, reducer.numpy)(values, axis=axes, keepdims=True)
        return reduced

    def _chosen(self, values: Array, keep: Array | None, reduction: Reduction) -> Array:
        """The indices that a selection lists, largest first, the first of equals first.

        Where it chooses fewer than there is room for, the rest is undefined.
        """
        over, into = reduction.over, reduction.into
        axes = [self.axes.index(v) for v in over]
        rest = [n for n in range(values.ndim) if n not in axes]
        reach = None if reduction.reach is None else self._value(reduction.reach).values

        def together(a: Array) -> Array:
            moved = a.transpose([*rest, *axes])
            return moved.reshape(*moved.shape[: len(rest)], -1)

        mask = None if keep is None else together(np.broadcast_to(keep, values.shape))
        limit = None if reach is None else together(reach)
        found = largest(together(values), mask, self.extent(into), limit)
        to = rest.index(self.axes.index(into))
        chosen, used = (
            np.expand_dims(np.swapaxes(a, to, -1)[..., 0], tuple(sorted(axes))) for a in found
        )
        self.masks.append(_Field(used, frozenset(self.kept)))
        return chosen.astype(values.dtype)

    def _contract(self, reduction: Reduction) -> Array | None:
        """A sum of products by ``np.einsum``, without the product over all points in memory.

        None where the expression is no product, or where a mask cannot be
        written as zeros in the factors.  None, too, where the sum is not finite:
        it takes factors in an order of its own, and a product of some of them
        may overflow where that of all does not, or where a mask leaves it out.
        """
        factors = [self._value(f) for f in _factors(self.einsum.expr)]
        over = {v for v in reduction.over if v not in self.fixed}
        covered = frozenset[str]().union(*(f.variables for f in factors))
        restricting = [m for m in self.masks if m.variables & over]
        if len(factors) < 2 or not over <= covered:
            return None
        for mask in restricting:
            for n, f in enumerate(factors):
                if mask.variables <= f.variables:
                    zero = np.zeros((), f.values.dtype)
                    factors[n] = _Field(np.where(mask.values, f.values, zero), f.variables)
                    break
            else:
                factors.append(_Field(mask.values.astype(self.dtype), mask.variables))
                covered |= mask.variables
        if restricting and not all(np.isfinite(f.values).all() for f in factors):
            return None
        kept = [n for n, v in enumerate(self.axes) if v in covered and v not in over]
        operands: list[Any] = []
        for f in factors:
            mine = [n for n, v in enumerate(self.axes) if v in f.variables]
            operands += [f.values.reshape([f.values.shape[n] for n in mine]), mine]
        total: Array = np.einsum(*operands, kept, optimize="greedy")
        if not np.isfinite(total).all():
            return None
        return total.reshape([self.extent(v) if n in kept else 1 for n, v in enumerate(self.axes)])


def _factors(expr: Expr) -> Iterable[Expr]:
    if isinstance(expr, Map) and expr.op == "mul":
        for arg in expr.args:
            yield from _factors(arg)
    else:
        yield expr
