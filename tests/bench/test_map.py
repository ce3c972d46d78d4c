"""How fast the mapper is, on one core: ``make bench`` prints it, beside a peer's figures.

The peer is AccelForge 1.0.467: wall seconds of its released package on two cores.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np
import pytest

from accelsim.explore.estimate import bind
from accelsim.explore.map import map_, task_for
from accelsim.load.cascade import cascade_from_text
from accelsim.mapper.closer import Closer
from accelsim.mapper.evaluate import Counts, Keep, Spread
from accelsim.mapper.frame import frame
from accelsim.mapper.fuse import fuse
from accelsim.mapper.goal import Goal
from accelsim.mapper.space import Space, Task, Wishes
from accelsim.models.estimate import estimate as price
from tests.bench.test_estimate import least
from tests.explore.test_map import CORE

pytestmark = pytest.mark.bench

#: Wall seconds of the peer, 50 times less as the goal.
PEER = {"matmul, tpu-v4i": 5.4, "matmul, dram-l2-smem-x64": 11.9, "attention core": 66.0}


def told(problem: str, seconds: float, what: str) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = PEER[problem] / seconds
    print(f"\n{problem}: {what} in {seconds:.2f} s, 1/{times:.0f} of the peer's {PEER[problem]} s; "
          f"{memory:.0f} MiB")  # fmt: skip


def test_mappings_evaluated_a_second() -> None:
    """Words at every level, room, cycles and joules of whole mappings, one point each."""
    task, _ = task_for("matmul", arch="tpu-v4i", shape="M=4096,N=4096,K=4096")
    found = frame(task.cascade, ("C",), ("M", "N", "K", "M"))
    space = Space(task, found)
    shape = space.grid.shape
    trips = {p: np.broadcast_to(t, shape).ravel() for p, t in space.grid.trips.items()}
    inside = len(found.spots) - 1
    keeps = {"A": [Keep(1, 1), Keep(2, inside)], "B": [Keep(1, 2)], "C": [Keep(2, 2)]}
    own = found.own("C", ("M", "K", "N"))
    spread = Spread("array_2d", (own[1],), (own[2],), (own[0],))

    def evaluate() -> Any:
        counts = Counts(task.cascade, found, task.arch, trips)
        energy: Any = 0.0
        memory: Any = 0.0
        fits: Any = True
        for tensor, uses in counts.uses.items():
            moved = counts.moves(tensor, keeps[tensor])
            for use in uses:
                level = counts.serves(tensor, keeps[tensor], use.spot)
                moved = moved + counts.touches(use, counts.leaf(use, spread), level)
            energy = energy + task.joules(moved)
            memory = memory + task.seconds(moved)
            for keep in keeps[tensor]:
                words = counts.there(tensor, keep, inside)
                fits = fits & (words <= task.room(keep.level)[0])
        return np.maximum(memory, counts.steps("C", spread) / task.arch.clock_hz), energy, fits

    seconds = least(evaluate, 20)
    print(f"\n{space.grid.size / seconds / 1e6:.1f} million mappings a second and core "
          f"({space.grid.size} at a time); the peer: 30")  # fmt: skip
    assert space.grid.size / seconds >= 1e6


def test_bounds_of_many_mappings_at_once() -> None:
    """Exact bounds of one Einsum: all sets of holds that fit with all spreads, at each point."""
    task, _ = task_for("matmul", arch="tpu-v4i", shape="M=4096,N=4096,K=4096")
    space = Space(task, frame(task.cascade, ("C",), ("M", "N", "K", "M")))
    numbers = np.arange(1024)
    seconds = least(lambda: Closer(space, numbers).bounds(Goal("energy")), 5)
    each = space.size / space.grid.size
    print(f"\n{each * len(numbers) / seconds / 1e6:.0f} million mappings a second and core bounded")


def test_one_given_mapping() -> None:
    bound = bind(design="fusemax", model="BERT", seq="4K")
    seconds = least(lambda: price(*bound), 50)
    print(f"\none mapping of 12 Einsums priced in {seconds * 1e3:.2f} ms; the peer: 85 ms of 2")
    assert seconds < 1e-3


def test_one_mapping_never_seen_before() -> None:
    """Each of another length, bound anew: nothing of it can have been kept."""
    new = iter([bind(design="fusemax", model="BERT", seq=256 * n) for n in range(3, 60)])
    seconds = least(lambda: price(*next(new)), 50)
    print(f"\none new mapping of 12 Einsums priced in {seconds * 1e3:.2f} ms")
    assert seconds < 1e-3


@pytest.mark.parametrize("arch", ["tpu-v4i", "dram-l2-smem-x64"])
def test_the_peers_matmuls(arch: str) -> None:
    wanted = {"C": ("K", "N")} if arch == "tpu-v4i" else {}
    begin = time.process_time()
    found = map_(
        "matmul",
        arch=arch,
        shape="M=4096,N=4096,K=4096",
        objective="energy",
        spreads=wanted,
        buffers=1,
        gap=0.0,
    )
    seconds = time.process_time() - begin
    what = f"{found.estimate.energy_j * 1e3:.3f} mJ ({found.claim})"
    told(f"matmul, {arch}", seconds, what)


def test_the_peers_attention_core() -> None:
    task, _ = task_for("matmul", arch="tpu-v4i", shape="M=2,N=2,K=2")
    wishes = Wishes(buffers=1, spreads={"QK": ("E", "M"), "AV": ("M", "F")})
    sizes = {"H": 32, "P": 2048, "M": 2048, "E": 128, "F": 128}
    core = Task(cascade_from_text(CORE), sizes, task.arch, wishes)
    begin = time.process_time()
    found = fuse(core, Goal("energy"))
    seconds = time.process_time() - begin
    told("attention core", seconds, f"{found.energy_j * 1e3:.3f} mJ, shown best {found.shown}")


@pytest.mark.parametrize("model", ["BERT", "XLM"])
@pytest.mark.parametrize("seq", ["1K", "64K", "1M"])
def test_fusemax_cloud(model: str, seq: str) -> None:
    begin = time.process_time()
    found = map_("attention-1pass", arch="fusemax-cloud", model=model, seq=seq)
    print(f"\n{model} {seq}: {time.process_time() - begin:.1f} s, {found.claim}")


@pytest.mark.parametrize("size", [4096, 4099])
@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
@pytest.mark.parametrize("arch", ["tpu-v4i", "dram-l2-smem-x64"])
def test_a_matmul_and_one_of_a_prime(arch: str, objective: str, size: int) -> None:
    shape = f"M={size},N={size},K={size}"
    begin = time.process_time()
    found = map_("matmul", arch=arch, shape=shape, objective=objective)
    seconds = time.process_time() - begin
    figures = f"{found.estimate.latency_s * 1e3:.4f} ms, {found.estimate.energy_j * 1e3:.3f} mJ"
    print(f"\n{size}^3, {arch}, {objective}: {seconds:.2f} s, {figures}, {found.claim}")
