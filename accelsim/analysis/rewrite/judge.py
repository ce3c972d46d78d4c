"""Whether a derived cascade equals the original and survives small floats: by execution.

**Equal**: in float64, at several sizes, on random inputs and on inputs made to
break algebra (long fibers, zeros, ties, masks that keep nothing): the
same undefined elements, and finite wherever the original is, within
``BENIGN`` of the largest magnitude.  What is not equal is not returned.

**Stable**: in float32 and float16, with each input in turn far larger or far
from 0 than a standard normal (a score of a few hundred, a mean of a thousand).
The truth is the original in float64 on the same rounded inputs, errors are
relative to its largest magnitude (at least ``CANCELLED`` of the usual one).  A case where
the truth does not fit the type says nothing; nor does one where the original
itself is useless in it (but for an original that overflows in float32: scores
of a few hundred must pass).  In what is left a cascade is unstable
that gives infinity or NaN, or errs more than ``TIMES`` the original in that
type and more than ``ROUNDINGS`` roundings.  So ``exp`` without the maximum
overflows, and the moment form of a variance cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice
from random import Random
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from accelsim.errors import InputError, refuse
from accelsim.ir.cascade import Cascade, Index, rank_of
from accelsim.ir.problem import Problem, bind, with_parts
from accelsim.ir.reference import random_inputs, run, whole

Array: TypeAlias = npt.NDArray[Any]
Inputs: TypeAlias = dict[str, Array]

#: Equality in float64, relative to the largest magnitude of a tensor.
BENIGN = 1e-12
#: The same on inputs that are made to break algebra, where what cancels to 0 may be off by this.
HOSTILE = 1e-9
#: What is still stable, in roundings and in errors of the original.
ROUNDINGS = 64
TIMES = 8
#: Of the magnitude at standard normal inputs: what is smaller counts as cancelled to nothing.
CANCELLED = 0.01
#: An error of the original, relative to its magnitude, from which a case says nothing.
USELESS = 0.1
#: Inputs are made large one by one, or where there are many of them in so many groups.
MOST_GROUPS = 4
#: Elements of a long fiber, by how many ranks are walked, and of its tiles.
FAR = {1: 256, 2: 32}
FAR_TILE = 32
#: Elements of a tile, at most, at each of the sizes tried.
TILES = (8, 3, 1)
#: An Einsum of more points is not executed.
MOST_POINTS = 1 << 22


@dataclass(frozen=True, slots=True)
class Verdict:
    """What execution says of a derived cascade; ``why`` it is not equal or not stable."""

    equal: bool
    stable: bool
    max_abs_error: float
    why: str = ""


@dataclass
class Judge:
    """The original, executed once on every case."""

    original: Cascade
    streamed: frozenset[str]
    exact: list[_Case] = field(default_factory=list)
    small: list[_Case] = field(default_factory=list)

    def __post_init__(self) -> None:
        for n, sizes in enumerate(_some_sizes(self.original, self.streamed)):
            problem = bind(self.original, sizes)
            for name, inputs in _hostile(problem, n):
                true = _outputs(problem, inputs, np.float64)
                tolerance = BENIGN if name == "random" else HOSTILE
                self.exact.append(_Case(name, sizes, inputs, true, tolerance, TILES[n]))
            if n == 0:
                self._far(sizes)
                self.small = list(self._small_cases(problem, sizes))

    def _far(self, sizes: Mapping[str, int]) -> None:
        """A case with long fibers: what grows with them overflows, if it does."""
        walked = self.streamed & sizes.keys()
        length = FAR.get(len(walked), 0)
        long = {r: length if r in walked else 2 for r in free_ranks(self.original)}
        sizes = with_parts(self.original, long, TILES[0]) if length else {}
        if length and _executes(self.original, sizes):
            problem = bind(self.original, sizes)
            inputs = random_inputs(problem, 3)
            true = _outputs(problem, inputs, np.float64)
            self.exact.append(_Case("random, long", sizes, inputs, true, HOSTILE, FAR_TILE))

    def _small_cases(self, problem: Problem, sizes: dict[str, int]) -> Iterator[_Case]:
        usual: dict[str, float] = {}
        for name, inputs, kinds in _realistic(problem):
            for kind in map(np.dtype, kinds):
                rounded = {k: v.astype(kind).astype(np.float64) for k, v in inputs.items()}
                true = _outputs(problem, rounded, np.float64)
                ours = _outputs(problem, rounded, kind)
                usual = usual or {o: CANCELLED * _magnitude(t) for o, t in true.items()}
                fits = all(_fits(true[o], kind) for o in true)
                its = max(_relative(ours[o], true[o], usual[o]) for o in true)
                lost = np.isinf(its) and kind.itemsize > 2
                if fits and (its < USELESS or lost):
                    allowed = max(
                        ROUNDINGS * float(np.finfo(kind).eps), 0.0 if lost else TIMES * its
                    )
                    said = f"{kind.name}, {name}"
                    yield _Case(said, sizes, rounded, true, allowed, TILES[0], kind, usual)

    def verdict(self, cascade: Cascade) -> Verdict:
        """What execution says of one derived cascade."""
        worst = 0.0
        for case in self.exact:
            found = case.run(cascade)
            for o, true in case.true.items():
                if not case.agrees(o, found[o], same_undefined=case.name.startswith("random")):
                    error = _relative(found[o], true)
                    return Verdict(False, False, error, f"{case.name}: {o} is off by {error:.1g}")
                if case.name == "random":
                    worst = max(worst, _absolute(found[o], true))
        for case in self.small:
            found = case.run(cascade)
            for o, true in case.true.items():
                if not case.agrees(o, found[o]):
                    return Verdict(True, False, worst, case.told(found[o], true, o))
        if not self.small:
            return Verdict(True, False, worst, "the original itself is of no use in float32")
        return Verdict(True, True, worst)


@dataclass(frozen=True, eq=False)
class _Case:
    """Inputs, the true outputs, and how far off another cascade may be."""

    name: str
    sizes: Mapping[str, int]
    inputs: Inputs
    true: Inputs
    tolerance: float
    tile: int
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float64))
    #: for each output a magnitude below which it counts as cancelled
    floor: Mapping[str, float] = field(default_factory=dict)

    def run(self, cascade: Cascade) -> Inputs:
        """The outputs of a cascade in this case, parts of split ranks joined."""
        problem = bind(cascade, with_parts(cascade, self.sizes, self.tile))
        known = {t.name for t in cascade.inputs}
        inputs = {name: values for name, values in self.inputs.items() if name in known}
        return _outputs(problem, inputs, self.dtype)

    def agrees(self, output: str, found: Array, same_undefined: bool = False) -> bool:
        """Whether an output is right wherever the truth is finite."""
        true = self.true[output]
        if found.shape != true.shape:
            return False
        if same_undefined and (np.isfinite(found) != np.isfinite(true)).any():
            return False
        floor = 1.0 if self.tolerance == HOSTILE else self.floor.get(output, 0.0)
        return _relative(found, true, floor) <= self.tolerance

    def told(self, found: Array, true: Array, output: str) -> str:
        """What is wrong with an output."""
        error = _relative(found, true)
        if not np.isfinite(error):
            return f"{self.name}: {output} overflows"
        return f"{self.name}: {output} is off by {error:.1g} of its magnitude"


def _outputs(problem: Problem, inputs: Inputs, dtype: npt.DTypeLike) -> Inputs:
    found = run(problem, inputs, dtype)
    return {o: whole(problem, o, found[o].astype(np.float64)) for o in problem.cascade.outputs}


def _absolute(found: Array, true: Array) -> float:
    """The largest error where the truth is finite."""
    here = np.isfinite(true)
    if not np.isfinite(found[here]).all():
        return float("inf")
    return float(np.abs(found[here] - true[here]).max(initial=0.0))


def _relative(found: Array, true: Array, floor: float = 0.0) -> float:
    """The largest error over the largest true magnitude."""
    error = _absolute(found, true)
    scale = max(_magnitude(true), floor)
    return error / scale if scale else error


def _magnitude(true: Array) -> float:
    """The largest finite magnitude."""
    return float(np.abs(true[np.isfinite(true)]).max(initial=0.0))


def _fits(true: Array, dtype: np.dtype[Any]) -> bool:
    """Whether some truth is finite, and none is beyond a type."""
    finite = np.isfinite(true)
    return bool(finite.any()) and bool(np.abs(true[finite]).max() < np.finfo(dtype).max / 4)


# -- inputs -------------------------------------------------------------------------------------


def _hostile(problem: Problem, seed: int) -> Iterator[tuple[str, Inputs]]:
    """Random inputs, and those that break what is only nearly an identity."""
    drawn = random_inputs(problem, seed)
    masks = _masks(problem)
    given = masks | problem.cascade.counts.keys()
    yield "random", drawn
    if seed:
        return
    if masks:
        for name, value in (("masks that keep nothing", 0.0), ("masks that keep all", 1.0)):
            yield name, {k: np.full_like(v, value) if k in masks else v for k, v in drawn.items()}
        first = {k: _all_but_first(v) if k in masks else v for k, v in drawn.items()}
        yield "masks that keep the end", first
    for name, change in (
        ("zeros", np.zeros_like),
        ("ties", np.ones_like),
        ("whole numbers", np.round),
        ("alternating signs", lambda v: np.where(np.indices(v.shape).sum(0) % 2, -1.0, 1.0)),
        ("ascending", lambda v: np.sort(v.reshape(-1)).reshape(v.shape)),
        ("tiny", lambda v: v * 1e-6),
        ("positive", np.abs),
    ):
        yield name, {k: v if k in given else change(v) for k, v in drawn.items()}


def _all_but_first(mask: Array) -> Array:
    kept = np.zeros_like(mask)
    kept[..., mask.shape[-1] // 2 :] = 1.0
    return kept


def _masks(problem: Problem) -> set[str]:
    """Inputs that are only read as predicates."""
    drawn, counts = random_inputs(problem), problem.cascade.counts
    return {k for k, v in drawn.items() if k not in counts and set(np.unique(v)) <= {0.0, 1.0}}


def _realistic(problem: Problem) -> Iterator[tuple[str, Inputs, tuple[str, ...]]]:
    """Magnitudes as they occur (large scores, activations far from 0), and types to try."""
    drawn = random_inputs(problem, 7)
    given = _masks(problem) | problem.cascade.counts.keys()
    free = [k for k in drawn if k not in given]
    both = ("float32", "float16")
    yield "standard normal inputs", drawn, both
    for factor, kinds in ((4, both), (8, ("float64",))):
        scaled = {k: v * factor if k in free else v for k, v in drawn.items()}
        yield f"inputs times {factor}", scaled, kinds
    for n in range(min(len(free), MOST_GROUPS)):
        group = free[n::MOST_GROUPS]
        name = " and ".join(group)
        large = {k: drawn[k] * 100 for k in group}
        yield f"{name} times 100", drawn | large, both
        for offset, kind in ((30, "float16"), (1000, "float32")):
            yield f"{name} plus {offset}", drawn | {k: drawn[k] + offset for k in group}, (kind,)


# -- sizes --------------------------------------------------------------------------------------


def _some_sizes(cascade: Cascade, streamed: frozenset[str]) -> list[dict[str, int]]:
    """Sizes at which the cascade can be executed: three of them, the first the largest.

    Ranks that are walked (``streamed``) get sizes with divisors, smaller ones
    the more of them there are.  A size that follows from others (a head
    group's) is left out; where an index runs beyond its tensor, others are drawn.
    """
    free = free_ranks(cascade)
    long = {0: 24, 1: 24, 2: 8}.get(len(streamed & set(free)), 4)
    wishes = [
        {r: long if r in streamed else n for r, n in zip(free, cycle((2, 3, 5, 4)), strict=False)},
        {
            r: long // 2 if r in streamed else n
            for r, n in zip(free, cycle((3, 2, 4)), strict=False)
        },
        {r: 1 if r in streamed else 2 for r in free},
        dict.fromkeys(free, 6),
    ]
    random = Random(0)
    drawn = ({r: random.choice((2, 3, 4, 6, 12, 24)) for r in free} for _ in range(60))
    whole_sizes = (*wishes, *drawn)
    possible = (s for w in whole_sizes if _executes(cascade, s := with_parts(cascade, w, TILES[0])))
    found = list(islice(possible, len(TILES)))
    if not found:
        raise refuse(f"cascade {cascade.name} can be executed at none of the sizes tried")
    return found


def free_ranks(cascade: Cascade) -> list[str]:
    """Ranks whose size does not follow from others, as that of the heads of a head group does."""
    follow = {
        rank_of(i.terms[0][0])
        for e in cascade.einsums
        for a in e.reads
        for i in a.indices
        if isinstance(i, Index) and isinstance(i.divisor, str) and i.terms
    }
    parts = {p for _, parts in cascade.splits for p in parts}
    return [r for r in cascade.ranks if r not in follow - parts]


def _executes(cascade: Cascade, sizes: dict[str, int]) -> bool:
    """Whether a cascade runs at these sizes, in a moment."""
    try:
        problem = bind(cascade, sizes)
        if max(map(problem.dense_points, cascade.einsums), default=0) > MOST_POINTS:
            return False
        run(problem, random_inputs(problem))
    except InputError:
        return False
    return True
