"""The meaning of a cascade, element by element in plain Python: the oracle of ``ir.reference``.

No arrays and no order of execution: an element is computed when it is asked
for, from the Einsum whose left side matches it, by a loop over the reduced
variables.  An undefined element is None.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from itertools import product

from accelsim.ir.cascade import Access, Compare, Const, Einsum, Expr, Index, Last, Map, Size
from accelsim.ir.problem import Problem

RELATIONS = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _divide(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)
    return a / b


def _max(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def _min(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else min(a, b)


OPERATIONS = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": _divide,
    "neg": operator.neg,
    "exp": _exp,
    "square": lambda x: x * x,
    "abs": abs,
    "tanh": math.tanh,
    "max": _max,
    "min": _min,
    "relu": lambda x: _max(x, 0),
    "less": lambda a, b: float(a < b),
    "equal": lambda a, b: float(a == b),
    "select": lambda c, a, b: a if c != 0 else b,
    "sigmoid": lambda x: 1 / (1 + _exp(-x)),
}
REDUCED = {
    "sum": (0.0, operator.add),
    "prod": (1.0, operator.mul),
    "max": (-math.inf, _max),
    "min": (math.inf, _min),
}

Element = tuple[int, ...]


class Values:
    """Elements of a bound cascade on demand; ``inputs`` are nested lists over declared ranks."""

    def __init__(self, problem: Problem, inputs: Mapping[str, object]) -> None:
        self.problem, self.cascade = problem, problem.cascade
        self.inputs = inputs
        self.known: dict[tuple[str, Element], float | None] = {}

    def size(self, variable: str) -> int:
        return self.problem.sizes[variable.upper()]

    def number(self, index: Index, point: Mapping[str, int]) -> int:
        sizes = self.problem.sizes
        total = index.offset
        for v, c in index.terms:
            total += point[v] * (sizes[c] if isinstance(c, str) else c)
        divisor = sizes[index.divisor] if isinstance(index.divisor, str) else index.divisor
        return total // divisor

    def element(self, tensor: str, at: Element) -> float | None:
        """The value of one element; None where it is undefined."""
        if (tensor, at) not in self.known:
            self.known[tensor, at] = self._computed(tensor, at)
        return self.known[tensor, at]

    def _computed(self, tensor: str, at: Element) -> float | None:
        declared = {t.name: t.ranks for t in self.cascade.inputs}
        if tensor in declared:
            value, left = self.inputs[tensor], list(at)
            for rank in declared[tensor]:
                position = 0
                for part in self.cascade.parts.get(rank, (rank,)):
                    position = position * self.problem.sizes[part] + left.pop(0)
                value = value[position]  # type: ignore[index]
            return float(value)  # type: ignore[arg-type]
        for einsum in self.cascade.writers[tensor]:
            point: dict[str, int] = {}
            for index, slot in zip(einsum.output.indices, at, strict=True):
                assert isinstance(index, Index)
                if not index.terms:
                    matches = index.offset == slot
                else:
                    v = index.terms[0][0]
                    point[v] = slot - index.offset
                    matches = 0 <= point[v] < self.size(v)
                if not matches:
                    break
            else:
                return self._einsum(einsum, point)
        return None

    def _einsum(self, e: Einsum, point: dict[str, int]) -> float | None:
        kept = set(point)
        for c in e.where:
            if set(c.variables) <= kept and not self._holds(c, point):
                return None
        for read in e.reads:
            if set(read.variables) <= kept and self._read(read, point) is None:
                return None
        return self._reduced(e, list(e.reductions), point)

    def _reduced(self, e: Einsum, reductions: list, point: dict[str, int]) -> float | None:  # type: ignore[type-arg]
        if not reductions:
            return self._value(e.expr, point)
        last = reductions[-1]  # the outermost: reductions apply first to last
        names = last.over
        total, step = REDUCED[last.op] if last.op != "argmax" else (-math.inf, None)
        best = -math.inf
        for values in product(*(range(self.size(v)) for v in names)):
            there = {**point, **dict(zip(names, values, strict=True))}
            if len(reductions) == 1 and not self._is_point(e, there):
                continue
            value = self._reduced(e, reductions[:-1], there)
            assert value is not None
            if step is not None:
                total = step(total, value)
            elif value > best or total == -math.inf:
                best, total = value, float(values[0])
        return total

    def _holds(self, c: Compare | Access, point: Mapping[str, int]) -> bool:
        if isinstance(c, Compare):
            return bool(
                RELATIONS[c.relation](self.number(c.left, point), self.number(c.right, point))
            )
        value = self._read(c, point)
        return value is not None and value != 0

    def _is_point(self, e: Einsum, point: Mapping[str, int]) -> bool:
        return all(self._holds(c, point) for c in e.where) and all(
            self._read(r, point) is not None for r in e.reads
        )

    def points(self, e: Einsum) -> int:
        """Points of an Einsum that are computed, counted one by one."""
        names = self.problem.variables(e)
        boxes = (range(self.size(v)) for v in names)
        return sum(
            self._is_point(e, dict(zip(names, values, strict=True))) for values in product(*boxes)
        )

    def _read(self, a: Access, point: Mapping[str, int]) -> float | None:
        at = []
        for index, extent in zip(a.indices, self.problem.shape(a.tensor), strict=True):
            if isinstance(index, Last):
                at.append(extent - 1)
                continue
            slot = self.number(index, point)
            if not 0 <= slot < extent:
                if index.border == "zero":
                    return 0.0
                if index.border != "clamp":
                    return None  # only where the point is masked out, else an error
                slot = min(max(slot, 0), extent - 1)
            at.append(slot)
        return self.element(a.tensor, tuple(at))

    def _value(self, x: Expr, point: Mapping[str, int]) -> float | None:
        if isinstance(x, Access):
            return self._read(x, point)
        if isinstance(x, Const):
            return x.value
        if isinstance(x, Size):
            return float(self.problem.sizes[x.rank])
        assert isinstance(x, Map)
        args = [self._value(a, point) for a in x.args]
        return float(OPERATIONS[x.op](*args))  # type: ignore[operator]

    def elements(self, tensor: str) -> Iterator[tuple[Element, float | None]]:
        for at in product(*(range(n) for n in self.problem.shape(tensor))):
            yield at, self.element(tensor, at)
