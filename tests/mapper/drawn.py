"""Random small problems on random machines, and random mappings of them that no rule pruned.

A mapping is drawn from more than the mapspace: tiles may be held at any spot of
any level, loops of an Einsum may stand in any order, loops may have one trip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.arch import Architecture, Level, Operation, Unit
from accelsim.ir.mapping import Mapping
from accelsim.mapper.evaluate import Counts, Keep, Spread
from accelsim.mapper.frame import frames
from accelsim.mapper.plan import bound_mapping
from accelsim.mapper.point import Choice
from accelsim.mapper.schedule import WAYS, in_flight, lags, orders
from accelsim.mapper.space import Space, Task, Wishes
from accelsim.mapper.spreads import Run
from accelsim.mapper.stow import Kept
from accelsim.models.estimate import Estimate, estimate
from tests.models.nests import cascade

WORK = ("mac", "add", "max", "exp", "div")
NAMES = ("matmul", "square", "siblings", "chain", "softmax", "running")


@st.composite
def machines(draw: st.DrawFn) -> Architecture:
    """A backing level, a small buffer, perhaps registers, and one or two units."""
    rates = st.sampled_from([1.0, 4.0, 16.0, float("inf")])
    joules = st.sampled_from([0.0, 1.0, 3.0])
    dram = Level("dram", bandwidth=draw(st.sampled_from([1.0, 4.0])), read_energy_j=8.0,
                 write_energy_j=draw(st.sampled_from([8.0, 11.0])))  # fmt: skip
    buffer = Level(
        "buffer",
        capacity_bytes=float(draw(st.integers(2, 40))),
        bandwidth=draw(rates),
        read_bandwidth=draw(rates),
        read_energy_j=draw(joules),
        write_energy_j=draw(joules),
    )
    levels = [dram, buffer]
    if draw(st.booleans()):
        levels.append(Level("registers", capacity_bytes=draw(st.sampled_from([4.0, float("inf")]))))
    units = [_unit(draw, "array", draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        units.append(_unit(draw, "lanes", 1))
    return Architecture("drawn", 1.0, 1.0, tuple(levels), tuple(units))


def _unit(draw: st.DrawFn, name: str, rows: int) -> Unit:
    cost = st.sampled_from([1.0, 2.0, 5.0])
    operations = tuple((w, Operation(draw(cost), draw(cost))) for w in WORK)
    fill = draw(st.sampled_from([0.0, 3.0]))
    return Unit(name, rows, draw(st.integers(1, 4)), operations, fill_cycles=fill)


@st.composite
def tasks(draw: st.DrawFn, names: tuple[str, ...] = NAMES, most: int = 4) -> Task:
    """A cascade with sizes on a machine."""
    found = cascade(draw(st.sampled_from(names)))
    parts = {p for _, ps in found.splits for p in ps}
    sizes = {r: draw(st.integers(1, most)) for r in found.ranks if r not in parts}
    return Task(found, sizes, draw(machines()), Wishes(buffers=draw(st.integers(1, 2))))


def einsums(task: Task) -> tuple[str, ...]:
    return tuple(e.name for e in task.cascade.einsums if e.reads)


@dataclass(frozen=True)
class Drawn:
    """A mapping with its place in the mapspace, and its price; None where it does not fit."""

    space: Space
    number: int
    mapping: Mapping
    price: Estimate | None


@st.composite
def drawn(draw: st.DrawFn, task: Task) -> Drawn:
    """Any mapping of all Einsums of a task, fused in one group."""
    space = Space(task, draw(st.sampled_from(frames(task.cascade, einsums(task)))))
    number = draw(st.integers(0, space.grid.size - 1))
    counts = space.counts_at(number)
    runs = {e: Run(_spread(draw, counts, space, e), 0.0, ()) for e in space.frame.einsums}
    way = draw(st.sampled_from(WAYS))
    after = orders(counts)
    trail = lags(space.frame, after, {e: (r.spread.unit,) for e, r in runs.items()}, way)
    kept: list[Kept] = []
    for tensor in counts.uses:
        keeps = _keeps(draw, counts, tensor)
        for keep in keeps:
            copies = int(in_flight(counts, (tensor,), keep.spot, after, trail or {}))
            tile = counts.held(tensor, keep.spot)
            again = float(tile.visits) > float(tile.tile) * (1 + 1e-9)
            inner = task.inner is not None and keep.level == task.inner.level
            if again and not inner and keep != counts.home(tensor, keeps):
                copies = max(copies, task.wishes.buffers)
            kept.append(Kept(tensor, keep, copies))
    trips = {p: int(n) for p, n in counts.full.items()}
    choice = Choice(space, trips, runs, tuple(kept), way, 0.0, 0.0)
    mapping = bound_mapping([choice], "drawn")
    price = (
        None if trail is None or not _in_registers(task, counts, kept) else _price(task, mapping)
    )
    return Drawn(space, number, mapping, price)


def _in_registers(task: Task, counts: Counts, kept: list[Kept]) -> bool:
    """Whether registers hold only what they may: no more than their PEs do, no inputs."""
    if task.inner is None:
        return True
    held = [k for k in kept if k.keep.level == task.inner.level]
    made = {t: {u.spot for u in us if u.writes} for t, us in counts.uses.items()}
    read = {t: {u.spot for u in us if not u.writes} for t, us in counts.uses.items()}
    return all(
        float(counts.held(k.tensor, k.keep.spot).tile) <= task.inner.words_a_tile
        and k.keep.spot in made[k.tensor] & read[k.tensor]
        for k in held
    )


def _price(task: Task, mapping: Mapping) -> Estimate | None:
    problem = task.problem({p: n for p, n in mapping.extent.items() if p in task.cascade.whole})
    try:
        return estimate(problem, task.arch, mapping)
    except InputError:
        return None


def _spread(draw: st.DrawFn, counts: Counts, space: Space, einsum: str) -> Spread:
    """Any unit, any parts along its sides, the rest in any order."""
    own = list(counts.frame.own(einsum, counts.ranks[einsum]))
    unit = draw(st.sampled_from(space.units[einsum]))
    machine = counts.arch.unit[unit]
    order = draw(st.permutations(own))
    rows = draw(st.integers(0, 1)) if machine.rows > 1 else 0
    cols = draw(st.integers(0, 1)) if machine.cols > 1 else 0
    return Spread(
        unit,
        tuple(order[:rows]),
        tuple(order[rows : rows + cols]),
        tuple(order[rows + cols :]),
    )


def _keeps(draw: st.DrawFn, counts: Counts, tensor: str) -> tuple[Keep, ...]:
    """Any holds of a tensor, inner levels further in, one a level on any way."""
    spots = sorted({n for u in counts.uses[tensor] for n in counts.frame.spots[u.spot].chain})
    found: list[Keep] = []
    for level in range(1, len(counts.arch.levels)):
        for spot in spots:
            chain = counts.frame.spots[spot].chain
            below = [k for k in found if spot in counts.frame.spots[k.spot].chain[:-1]]
            taken = [k for k in found if k.level == level and k.spot in chain]
            if not below and not taken and draw(st.integers(0, 3)) == 0:
                found.append(Keep(level, spot))
    return tuple(found)


def point(found: Drawn) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([found.number])
