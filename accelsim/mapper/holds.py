"""Where each tensor of a frame may be held, and which rooms may be shared.

Every tensor is held at most once at each level on the way to each of its uses.
Options that another one is never worse than are left out:

- *home*: an intermediate that is made and used up in the frame lives at the
  innermost spot around all its uses.  Nothing moves in or out of its home, and
  what moves below does not depend on how far out it is, while further out the
  tile is larger.
- *raised*: a tile held inside a loop that it does not need is the same tile,
  brought as often, as one held outside that loop.  If nothing else stands
  between the two spots, it takes the same room at every moment.
- *lowered*: a tile at a spot whose own loop it needs, where all uses are inside
  the next spot and it needs the loop of that one too, moves the same words when
  it is held there instead, once for each iteration, and takes less room.  (Of
  loops of one trip see the argument for *raised*.)

*Registers* are an innermost level whose accesses are free and that states no
bandwidth.  What PEs hand on to one another stays there: a tensor that is made
at a spot and read at the same one.  Inputs do not stay there: an array keeps
the operands of one step, no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from accelsim.analysis.work import work
from accelsim.ir.arch import Architecture
from accelsim.mapper.evaluate import Counts, Keep

#: Combinations of branches that are looked at for one tensor and level.
MOST_BRANCHES = 27


@dataclass(frozen=True, slots=True)
class Registers:
    """The level of PEs' registers: its number, the words that fit, and those of a tile that do."""

    level: int
    words: float
    words_a_tile: float


def registers(arch: Architecture) -> Registers | None:
    """The machine's registers, or None.

    Where the level gives a capacity, that is their room.  Else each PE keeps
    one word of each tile: a tile is no larger than the largest unit has PEs.
    """
    last = arch.levels[-1]
    free = not (last.read_energy_j or last.write_energy_j)
    ports = (last.bandwidth, last.read_bandwidth, last.write_bandwidth)
    if len(arch.levels) < 3 or not free or not all(math.isinf(b) for b in ports):
        return None
    number = len(arch.levels) - 1
    if math.isfinite(last.capacity_bytes):
        return Registers(number, last.capacity_bytes / arch.word_bytes, math.inf)
    return Registers(number, math.inf, float(max(u.pes for u in arch.units)))


def levels_between(arch: Architecture) -> tuple[int, ...]:
    """Numbers of the levels between the backing level and the registers."""
    inner = registers(arch)
    return tuple(n for n in range(1, len(arch.levels)) if inner is None or n != inner.level)


def handed_on(counts: Counts, tensor: str) -> tuple[int, ...]:
    """Spots at which a tensor is made and read, so that registers may hand it on."""
    made = {u.spot for u in counts.uses[tensor] if u.writes}
    return tuple(sorted(made & {u.spot for u in counts.uses[tensor] if not u.writes}))


def options(
    counts: Counts, tensor: str, inner: Registers | None, asked: str | None = None
) -> tuple[tuple[Keep, ...], ...]:
    """Sets of holds of a tensor, outermost first; ``asked`` is a level that it must be held at."""
    levels = levels_between(counts.arch)
    names = [level.name for level in counts.arch.levels]
    found: list[tuple[Keep, ...]] = []
    choices = [list(_at_level(counts, tensor, level)) for level in levels]
    for combined in product(*choices):
        keeps = tuple(k for some in combined for k in some)
        if _inwards(counts, keeps):
            found.append(keeps)
    if inner is not None:
        found = [kept for base in found for kept in _with_registers(counts, tensor, base, inner)]
    if asked is not None:
        found = [f for f in found if any(names[k.level] == asked for k in f)]
    return tuple(dict.fromkeys(found))


def _with_registers(
    counts: Counts, tensor: str, base: tuple[Keep, ...], inner: Registers
) -> Iterator[tuple[Keep, ...]]:
    """A choice of holds with registers where they hand the tensor on, and without."""
    spots = handed_on(counts, tensor)
    alone = len({u.spot for u in counts.uses[tensor]}) == 1
    lives = alone and counts.inside(tensor) and tensor not in counts.cascade.iterative
    if spots and not (lives and base):
        yield (*base, *(Keep(inner.level, s) for s in spots))
    yield base


def _inwards(counts: Counts, keeps: Sequence[Keep]) -> bool:
    """Whether on every way the holds of inner levels stand further in."""
    for one in keeps:
        for other in keeps:
            inside = counts.frame.spots[one.spot].chain
            if other.level > one.level and other.spot != one.spot and other.spot in inside:
                return False
    return True


def _at_level(counts: Counts, tensor: str, level: int) -> Iterator[tuple[Keep, ...]]:
    """Holds of a tensor at one level: none, one around all uses, or some in each branch."""
    yield ()
    common = counts.common(tensor)
    if counts.inside(tensor):
        if common:
            yield (Keep(level, common[-1]),)
    else:
        for spot in common:
            if not _beaten(counts, tensor, spot):
                yield (Keep(level, spot),)
    branches = _branches(counts, tensor, len(common))
    if len(branches) > 1:
        choices = [[None, *spots] for spots in branches]
        if math.prod(map(len, choices)) <= MOST_BRANCHES:
            for some in product(*choices):
                spots = [s for s in some if s is not None]
                if spots:
                    yield tuple(Keep(level, s) for s in spots)


def _branches(counts: Counts, tensor: str, depth: int) -> list[list[int]]:
    """For each child below the common spots the spots around all uses in it that may hold."""
    spots = counts.frame.spots
    chains: dict[int, list[tuple[int, ...]]] = {}
    for use in counts.uses[tensor]:
        chain = spots[use.spot].chain
        if len(chain) > depth:
            chains.setdefault(chain[depth], []).append(chain)
    found = []
    for some in chains.values():
        shared = [c[0] for c in zip(*some, strict=False) if len(set(c)) == 1]
        found.append([s for s in shared[depth:] if not _beaten(counts, tensor, s)])
    return found


def _beaten(counts: Counts, tensor: str, spot: int) -> bool:
    """Whether a hold of a tensor that does not live there is raised or lowered instead."""
    frame = counts.frame
    needs = frozenset[str]().union(*(u.needs for u in counts.below(tensor, spot)))
    own = frame.spots[spot].loops
    if own and not any(frame.rank[p] in needs for p in own):
        above = frame.spots[spot].chain[-2:-1]
        spots = [c for c in frame.children[above[0]] if isinstance(c, int)] if above else []
        return len(spots) == 1
    inside = [c for c in frame.children[spot] if isinstance(c, int)]
    holders = [c for c in inside if counts.below(tensor, c)]
    if len(holders) != 1 or any(u.spot == spot for u in counts.below(tensor, spot)):
        return False
    return all(frame.rank[p] in needs for p in frame.spots[holders[0]].loops)


def shares(counts: Counts) -> dict[str, str]:
    """Tensors that may take the room of another: the first tensor whose room it is.

    An Einsum that reads X element by element, where no later Einsum reads X,
    may put each result where the element was.

    >>> from accelsim.load.arch import load_architecture
    >>> from accelsim.load.cascade import load_cascade
    >>> from accelsim.mapper.frame import frame
    >>> c, a = load_cascade("attention-3pass"), load_architecture("flat-cloud")
    >>> shares(Counts(c, frame(c, tuple(c.steps), ("P",)), a, {}))
    {'SN': 'QK', 'A': 'QK'}
    """
    cascade, einsums = counts.cascade, counts.frame.einsums
    found: dict[str, str] = {}
    for n, name in enumerate(einsums):
        step = cascade.steps[name]
        made = step.output
        if not counts.inside(made.tensor) or step.reductions or not work(step):
            continue
        for read in dict.fromkeys(step.reads):
            later = {a.tensor for e in einsums[n + 1 :] for a in cascade.steps[e].reads}
            ready = counts.inside(read.tensor) and read.tensor not in cascade.iterative
            if ready and read.tensor not in later and read.indices == made.indices:
                found[made.tensor] = found.get(read.tensor, read.tensor)
                break
    return {t: root for t, root in found.items() if t not in cascade.iterative}
