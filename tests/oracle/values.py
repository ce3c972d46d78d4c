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
    Reduction,
    Size,
    Threshold,
)
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


def _grid(x: float, scale: float, least: float, most: float) -> float:
    return min(max(round(x / scale) if scale else 0, least), most)


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
    "sign": lambda x: float((x > 0) - (x < 0)),
    "mod": lambda a, b: a - b * math.floor(a / b),
    "floor": math.floor,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "softplus": lambda x: math.log(1 + _exp(x)),
    "sin": math.sin,
    "cos": math.cos,
    "quant": lambda x, s, b: _grid(x, s, 1 - 2 ** (b - 1), 2 ** (b - 1) - 1),
    "uquant": lambda x, s, b: _grid(x, s, 0, 2**b - 1),
    "dequant": operator.mul,
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
        total = index.offset + sum(c * sizes[r] for r, c in index.sizes)
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
            if any(isinstance(i, Access) for i in einsum.output.indices):
                return self._scattered(einsum, at)
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

    def _scattered(self, e: Einsum, at: Element) -> float:
        """The sum of all points that are written at an element."""
        total = 0.0
        names = e.output.variables
        for values in product(*(range(self.size(v)) for v in names)):
            point = dict(zip(names, values, strict=True))
            where = []
            for index in e.output.indices:
                slot = self._read(index, point) if isinstance(index, Access) else None
                where.append(self.number(index, point) if isinstance(index, Index) else slot)
            value = self._einsum(e, point) if tuple(where) == at else None
            total += value if value is not None else 0.0
        return total

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
        if last.into:
            chosen = self._chosen(e, reductions, point)
            slot = point[last.into]
            return float(chosen[slot]) if slot < len(chosen) else None
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

    def _chosen(self, e: Einsum, reductions: list[Reduction], point: dict[str, int]) -> list[int]:
        """The indices that a selection lists, by sorting."""
        last = reductions[-1]
        found = []
        boxes = [range(self.size(v)) for v in last.over]
        for number, values in enumerate(product(*boxes)):
            there = {**point, **dict(zip(last.over, values, strict=True))}
            if len(reductions) == 1 and not self._is_point(e, there):
                continue
            value = self._reduced(e, reductions[:-1], there)
            assert value is not None
            found.append((-value, number))
        found.sort()
        if last.reach is None:
            return [number for _, number in found]
        least, total, kept = self._value(last.reach, point), 0.0, []
        assert least is not None
        for negative, number in found:
            if total >= least:
                break
            total -= negative
            kept.append(number)
        return kept

    def _holds(self, c: Condition, point: Mapping[str, int]) -> bool:
        if isinstance(c, Either):
            return any(all(self._holds(x, point) for x in every) for every in c.alternatives)
        if isinstance(c, Threshold):
            a, b = self._value(c.left, point), self._value(c.right, point)
            return a is not None and b is not None and RELATIONS[c.relation](a, b)
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
            if isinstance(index, Access):
                told = self._read(index, point)
                if told is None:
                    return None
                at.append(round(told))
                continue
            if index.border == "window":
                at.append(self._window(index, point, extent))
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

    def _window(self, index: Index, point: Mapping[str, int], extent: int) -> int:
        """An element of a window: of all windows of its residue that fit, the one most central."""
        (variable, dilation), size = index.terms[-1], self.size(index.terms[-1][0])
        assert isinstance(dilation, int)
        others = Index(index.terms[:-1], index.offset, sizes=index.sizes)
        centre = self.number(others, point)
        fitting = [
            first
            for first in range(extent - dilation * (size - 1))
            if (first - centre) % dilation == 0
        ]
        wanted = centre - dilation * (size // 2)
        first = min(fitting, key=lambda f: abs(f - wanted))
        return first + dilation * point[variable]

    def _value(self, x: Expr, point: Mapping[str, int]) -> float | None:
        if isinstance(x, Access):
            return self._read(x, point)
        if isinstance(x, Const):
            return x.value
        if isinstance(x, Size):
            return float(self.problem.sizes[x.rank])
        if isinstance(x, Coordinate):
            return float(point[x.variable])
        assert isinstance(x, Map)
        args = [self._value(a, point) for a in x.args]
        return float(OPERATIONS[x.op](*args))  # type: ignore[operator]

    def elements(self, tensor: str) -> Iterator[tuple[Element, float | None]]:
        for at in product(*(range(n) for n in self.problem.shape(tensor))):
            yield at, self.element(tensor, at)
