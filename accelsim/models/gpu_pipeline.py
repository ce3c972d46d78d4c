"""Cycles of one tile on one scheduler: what its warps ask of each pipe, and how they share it.

A multiprocessor is four schedulers alike, each with its own tensor core,
exponential unit and lanes, and a quarter of the shared memory's bandwidth.
A stage says what one warp asks of each pipe in one tile, in cycles of that
pipe, and what its own chain of dependences waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from accelsim.ir.gpu import Gpu
from accelsim.ir.kernel import Overlap

#: Pipes that a stage may ask for; ``shared`` runs beside the tensor core that it feeds, ``memory``
#: is a scheduler's part of the bandwidth behind it.
PIPES = ("tensor", "ex2", "alu", "issue", "shared", "memory")

#: How far blocks that share a scheduler fall into step, from independent (0) to in step (1): cycles
#: of 15 tiles of attention with two to four resident blocks lie at 0.3 to 0.7, whatever the
#: distance at which blocks start (validation/runs/h100-sxm/tile-cycles.json).
IN_STEP = 0.35


@dataclass(frozen=True, slots=True)
class Stage:
    """What one warp asks in one tile: cycles by pipe, and cycles that its chain waits.

    What is ``beside`` was issued ahead: its tensor work runs while its own warp goes on.
    """

    name: str
    tensor: float = 0.0
    ex2: float = 0.0
    alu: float = 0.0
    issue: float = 0.0
    shared: float = 0.0
    memory: float = 0.0
    wait: float = 0.0
    beside: bool = False

    def cycles(self, warps: float) -> float:
        """Cycles of so many warps in this stage at once: the busiest pipe, or a chain alone.

        What one chain waits for the other warps' work fills, but for memory: all
        wait for the first bytes.

        >>> exp = Stage("exp", ex2=100.0, issue=30.0, wait=20.0)
        >>> exp.cycles(1), exp.cycles(2)
        (120.0, 200.0)
        """
        most = max(float(getattr(self, pipe)) for pipe in PIPES)
        if self.memory == most > 0:
            return warps * most + self.wait
        return max(warps * most, most + self.wait)

    @property
    def busiest(self) -> str:
        """The pipe that bounds the stage.

        >>> Stage("exp", ex2=100.0, issue=30.0).busiest
        'ex2'
        """
        return max(PIPES, key=lambda pipe: float(getattr(self, pipe)))


def lane_cycles(gpu: Gpu, operation: str, each: float) -> float:
    """Cycles of one scheduler for ``each`` operations of every lane of a warp.

    >>> from accelsim.load.gpu import load_gpu
    >>> lane_cycles(load_gpu("h100-sxm"), "ex2", 10)
    80.0
    """
    return each * 32 * gpu.multiprocessor.schedulers / gpu.rate(operation)


def in_phase(stages: Iterable[Stage], warps: float) -> float:
    """Cycles of a tile where the warps of a scheduler go through the stages together.

    Round robin between warps that start a tile together keeps them together:
    while one waits for a pipe the others wait for the same pipe, and stages add up.

    >>> in_phase([Stage("a", tensor=10.0), Stage("b", ex2=5.0, wait=1.0)], 2)
    30.0
    """
    return sum(stage.cycles(warps) for stage in stages)


def staggered(stages: Sequence[Stage], warps: int, even: bool = False) -> float:
    """Cycles in which each of ``warps`` warps of a scheduler finishes a tile, at its own place.

    The pipes serve their warps in turn (processor sharing), for which mean
    value analysis is exact whatever the lengths of service (Reiser and
    Lavenberg, 1980; Baskett et al., 1975): a warp that arrives finds what it
    would find with one warp less.  Shared memory feeds the tensor core, so the
    slower of the two counts.  Tensor work that was issued ahead is served as any
    other, but its own warp meanwhile computes: the shorter of the two is no part
    of the warp's way, and no pipe gives more than all of its time.  Where memory's
    transfers are ``even``, all of one size, who arrives finds the one under way
    half done.

    >>> staggered([Stage("a", tensor=10.0), Stage("b", ex2=10.0)], 1)
    20.0
    >>> staggered([Stage("a", tensor=10.0), Stage("b", ex2=10.0)], 2)
    30.0
    >>> staggered([Stage("a", tensor=10.0, beside=True), Stage("b", ex2=15.0)], 1)
    15.0
    """
    demands = [
        sum(max(s.tensor, s.shared if s.tensor else 0.0) for s in stages),
        *(sum(getattr(s, pipe) for s in stages) for pipe in ("ex2", "alu", "issue", "memory")),
    ]
    wait = sum(s.wait for s in stages)
    beside = sum(s.tensor for s in stages if s.beside)
    alike = [False] * (len(demands) - 1) + [even]
    return served(demands, warps, wait, alike, lambda times: min(beside, sum(times[1:4])))


def served(
    demands: Sequence[float],
    customers: int,
    wait: float = 0.0,
    even: Sequence[bool] = (),
    hidden: Callable[[Sequence[float]], float] = lambda times: 0.0,
    shares: Sequence[float] = (),
) -> float:
    """Cycles in which each of ``customers`` goes once round stations that ask ``demands`` of it.

    Mean value analysis: who arrives finds what it would find with one customer
    less, and at an ``even`` station, whose services are all alike, the one under
    way half done.  ``wait`` passes beside all stations; of the times at the
    stations some may be ``hidden`` behind others.  A station may have several
    servers, of which each customer has one and finds there its ``shares`` of all
    who wait.  No station gives more than all of its time.

    >>> served([10.0, 10.0], 1), served([10.0, 10.0], 2), served([10.0, 10.0], 2, even=(1, 1))
    (20.0, 30.0, 25.0)
    >>> served([10.0], 4, shares=(0.25,)), served([10.0], 4)
    (17.5, 40.0)
    """
    waiting, busy = [0.0] * len(demands), [0.0] * len(demands)
    alike = even or [False] * len(demands)
    shares = shares or [1.0] * len(demands)
    most = max(demand * share for demand, share in zip(demands, shares, strict=True))
    cycles = 0.0
    for number in range(1, customers + 1):
        times = [
            demand * (1 + share * (ahead - (rest / 2 if same else 0.0)))
            for demand, share, ahead, rest, same in zip(
                demands, shares, waiting, busy, alike, strict=True
            )
        ]
        cycles = max(wait + sum(times) - hidden(times), number * most)
        waiting = [number * time / cycles if cycles else 0.0 for time in times]
        busy = [number * demand / cycles if cycles else 0.0 for demand in demands]
    return cycles


def at_mean(warps: float, cycles: Callable[[int], float]) -> float:
    """Cycles of a mean number of warps, one at least, between those of the whole numbers beside it.

    >>> at_mean(2.5, lambda n: 10.0 * n), at_mean(0.5, lambda n: 10.0 * n)
    (25.0, 10.0)
    """
    low = max(1, int(warps))
    rest = max(0.0, warps - low)
    return cycles(low) * (1 - rest) + (cycles(low + 1) * rest if rest else 0.0)


def in_order(
    stages: Sequence[Stage],
    warps: int,
    residents: int = 1,
    beside: float = 0.0,
    interleaved: bool = False,
) -> float:
    """Cycles of a tile of warps that issue their own mma instructions, one stage behind the other.

    A warp alone takes the busiest pipe of each stage and what its chain waits;
    where the compiler has ``interleaved`` its stages, the busiest of the tile.
    Each instruction that a scheduler issues keeps its tensor core from mma for
    ``beside`` cycles, so that both ask for the same pipe.  Warps
    of one block meet at a barrier in every tile and are in step: each finds all
    others at the pipe that is asked most of.  Independent warps would find them
    there in proportion (mean value analysis, stage by stage).  Blocks that share
    a scheduler lie between the two whatever the distance that they start at,
    ``IN_STEP`` of the way.

    >>> one = [Stage("a", tensor=10.0, wait=2.0), Stage("b", ex2=10.0)]
    >>> in_order(one, 1), in_order(one, 2), round(in_order(one, 2, residents=2), 1)
    (22.0, 32.0, 31.4)
    """
    ways = [
        [s.tensor + beside * s.issue, s.issue, s.shared, s.ex2, s.alu, s.memory] for s in stages
    ]
    wait = sum(s.wait for s in stages)
    demands = [float(sum(pipe)) for pipe in zip(*ways, strict=True)]
    if interleaved:
        ways = [demands]
    busiest = max(demands)
    queues = [0.0] * len(demands)
    alone = cycles = 0.0
    for number in range(1, warps + 1):
        longer = [1 + queue for queue in queues]
        each = (max(d * q for d, q in zip(way, longer, strict=True)) for way in ways)
        cycles = max(wait + sum(each), number * busiest)
        alone = alone or cycles
        queues = [number * d * q / cycles for d, q in zip(demands, longer, strict=True)]
    share = 1.0 if residents == 1 else IN_STEP
    return share * (alone + (warps - 1) * busiest) + (1 - share) * cycles


def tile_cycles(stages: Sequence[Stage], warps: int, blocks: int, overlap: Overlap) -> float:
    """Cycles of a tile of every resident block of a multiprocessor.

    Blocks of a kernel whose warps run in phase drift apart where three or more
    reside: none of them waits for another's barrier.
    """
    if overlap == "in phase" and blocks < 3:
        return in_phase(stages, max(1, warps))
    return staggered(stages, max(1, warps))
