"""``bounds``: how little traffic, how much buffer and how many operations a cascade needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from accelsim import units
from accelsim.analysis.live import Once, once
from accelsim.analysis.slope import attainable
from accelsim.analysis.statement import Program, program
from accelsim.analysis.traffic import Lower, Traffic
from accelsim.analysis.work import work
from accelsim.errors import refuse
from accelsim.ir.problem import Problem, bind, relevant, with_parts
from accelsim.load.cascade import load_cascade
from accelsim.load.workload import asked, workload

#: The least capacity of the curve, in words, and its points in a doubling of capacity.
LEAST_WORDS: Final = 8
POINTS: Final = 1


@dataclass(frozen=True, slots=True)
class Point:
    """One capacity of the curve: what no schedule beats, and the least of the mapspace.

    ``attainable_bytes`` is infinite where no mapping of the space fits.
    """

    capacity_bytes: float
    lower_bytes: float
    attainable_bytes: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of a point; what is infinite is None."""
        return {
            "capacity_bytes": self.capacity_bytes,
            "lower_bytes": self.lower_bytes,
            "attainable_bytes": _finite(self.attainable_bytes),
        }


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a cascade at given sizes needs on any machine with a capacity.

    Three numbers of traffic between memory and the chip that are never
    confused: ``compulsory_bytes`` (inputs once, outputs once), ``lower_bytes``
    (what no schedule with the capacity can beat; ``arguments`` say why) and
    ``attainable_bytes`` (the least of a mapspace; ``mapping`` says how).
    ``live``: what must be on chip for the compulsory traffic alone, as a formula.
    """

    cascade: str
    sizes: Mapping[str, int]
    word_bytes: float
    capacity_bytes: float
    compulsory_bytes: float
    lower_bytes: float
    attainable_bytes: float
    live: Once
    ops_by_class: Mapping[str, int]
    arguments: tuple[str, ...]
    mapping: tuple[str, ...]
    curve: tuple[Point, ...]

    @property
    def live_bytes(self) -> float:
        """Bytes of room in which memory is touched once."""
        return self.live.words * self.word_bytes

    def _live(self) -> dict[str, Any]:
        """The footprint: the formula of one point in flight, how many there are, and tensors."""
        found = self.live.footprint
        return {
            "streamed": found.streamed,
            "in_flight": list(found.in_flight),
            "formula": found.formula,
            "keeps": self.live.keeps,
            "tensors": {h.tensor: list(h.whole) for h in found.held if h.whole},
        }

    @property
    def ops(self) -> int:
        """Operations in all; a multiply-add is one."""
        return sum(self.ops_by_class.values())

    @property
    def holds(self) -> bool:
        """Whether the lower bounds lie below what is attainable, at every capacity shown."""
        own = Point(self.capacity_bytes, self.lower_bytes, self.attainable_bytes)
        return all(p.lower_bytes <= p.attainable_bytes for p in (own, *self.curve))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim bounds``; what nothing attains is None."""
        gap = self.attainable_bytes / self.lower_bytes if self.lower_bytes else math.inf
        return {
            "cascade": self.cascade,
            "sizes": dict(self.sizes),
            "word_bytes": self.word_bytes,
            "capacity_bytes": self.capacity_bytes,
            "compulsory_bytes": self.compulsory_bytes,
            "lower_bytes": self.lower_bytes,
            "attainable_bytes": _finite(self.attainable_bytes),
            "gap": _finite(gap),
            "live_bytes": self.live_bytes,
            "live": self._live(),
            "ops": self.ops,
            "ops_by_class": dict(self.ops_by_class),
            "arguments": list(self.arguments),
            "mapping": list(self.mapping),
            "curve": [p.to_dict() for p in self.curve],
        }


def bounds(
    cascade: str | Path,
    *,
    shape: Mapping[str, int] | str | None = None,
    model: str | None = None,
    seq: int | str | None = None,
    config: str | Path | None = None,
    capacity: str | float = "16 MiB",
    word: str | float = "2 B",
    curve: bool = False,
) -> Bounds:
    """Compulsory traffic, a lower bound and the attainable traffic of a cascade, and its work.

    ``capacity`` and ``word`` (the size of every element) are quantities such
    as ``"16 MiB"`` and ``"16 bit"``, or bytes.  Parts of a split rank that the
    sizes leave out get a divisor; those that they give may leave a short last tile.
    ``curve``: also at capacities from a few words up to where everything is attained.
    Raises InputError for sizes or quantities that do not fit.

    >>> found = bounds("matmul", shape="M=64,N=64,K=64", capacity="2 KiB")
    >>> found.compulsory_bytes, found.lower_bytes <= found.attainable_bytes
    (24576.0, True)
    """
    text = load_cascade(cascade)
    sizes = workload(model=model, seq=seq, shape=shape, config=config)
    known = relevant(text, sizes, asked=asked(shape))
    problem = bind(text, with_parts(text, known), imperfect=dict(text.splits))
    word_bytes = _bytes(word, "word")
    capacity_bytes = _bytes(capacity, "capacity")
    words = int(capacity_bytes // word_bytes)
    if words < 1:
        raise refuse(
            f"a capacity of {units.show(capacity_bytes, 'bytes')} holds no word of "
            f"{units.show(word_bytes, 'bytes')}",
            f"at least {units.show(word_bytes, 'bytes')}",
        )
    statements = program(problem)
    traffic = Traffic(statements)
    light, heavy = _element_bytes(problem, word_bytes)
    best = attainable(statements, [int(capacity_bytes // heavy)], every=True)
    lower = traffic.lower(int(capacity_bytes // light), best.words[0])
    ops: dict[str, int] = {}
    for einsum in problem.cascade.einsums:
        for name, times in work(einsum).items():
            ops[name] = ops.get(name, 0) + times * problem.points(einsum)
    return Bounds(
        text.name,
        problem.sizes,
        word_bytes,
        capacity_bytes,
        compulsory(statements, word_bytes),
        _lower(traffic, lower, word_bytes),
        _upper(statements, best.words[0], word_bytes),
        once(text, problem.sizes),
        ops,
        tuple(a.text for a in lower.arguments),
        tuple(f"{name}: {how}" for name, how in best.how[0]),
        _curve(statements, traffic, word_bytes) if curve else (),
    )


def compulsory(statements: Program, word_bytes: float) -> float:
    """Bytes that every schedule moves: inputs that are read once, outputs once, in their formats.

    >>> from accelsim.analysis.statement import program
    >>> c = load_cascade("matmul")
    >>> compulsory(program(bind(c, dict.fromkeys(c.ranks, 4))), 2)
    96.0
    """
    moved = (*statements.touched.items(), *statements.written.items())
    return sum(n * statements.problem.bits(t, 8 * word_bytes) / 8 for t, n in moved)


def _lower(traffic: Traffic, lower: Lower, word_bytes: float) -> float:
    """Bytes of a lower bound: what is moved once in its format, each further word at its least."""
    problem = traffic.program.problem
    light, _ = _element_bytes(problem, word_bytes)
    once = {**traffic.flow.sure, **traffic.program.written}
    surely = sum(n * problem.bits(t, 8 * word_bytes) / 8 for t, n in once.items())
    return surely + (lower.words - lower.compulsory_words) * light


def _upper(statements: Program, words: float, word_bytes: float) -> float:
    """Bytes of what is attainable: compulsory ones, and each further word at its most."""
    _, heavy = _element_bytes(statements.problem, word_bytes)
    return compulsory(statements, word_bytes) + (words - statements.compulsory) * heavy


def _element_bytes(problem: Problem, word_bytes: float) -> tuple[float, float]:
    """The least and the most bytes that an element of any tensor takes.

    On chip as many words fit as the lightest would for a lower bound, as the
    heaviest would for what is attainable: both hold whatever the formats.
    """
    found = [problem.bits(t, 8 * word_bytes) / 8 for t in problem.cascade.tensors]
    return min(found), max(found)


def _curve(statements: Program, traffic: Traffic, word_bytes: float) -> tuple[Point, ...]:
    """The ski slope: capacities in doublings, until nothing is gained any more."""
    light, heavy = _element_bytes(statements.problem, word_bytes)
    everything = sum(
        statements.problem.tensor_elements(t) for t in statements.problem.cascade.tensors
    )
    doublings = math.ceil(math.log2(max(2 * everything / LEAST_WORDS, 2)))
    capacities = [round(LEAST_WORDS * 2 ** (n / POINTS)) for n in range(doublings * POINTS + 1)]
    best = attainable(statements, capacities)
    points = []
    for words, moved in zip(capacities, best.words, strict=True):
        low = _lower(traffic, traffic.lower(int(words * heavy // light), moved), word_bytes)
        points.append(Point(words * heavy, low, _upper(statements, moved, word_bytes)))
        if moved == traffic.compulsory:
            break
    return tuple(points)


def _bytes(quantity: str | float, what: str) -> float:
    """A quantity of information in bytes, more than none of it."""
    found = units.parse(quantity, "bytes") if isinstance(quantity, str) else float(quantity)
    if not 0 < found < math.inf:
        raise refuse(f"a {what} of {found:g} bytes", f"more than none: {units.EXAMPLES['bytes']}")
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
