"""What a phase of a system is predicted to take on a machine, stage by stage, beside the dense one.

On an array every stage is priced from its Einsums (``models.staged``).  On a
GPU the attention is priced as the described kernel that realises it (for a
cascade of one's own the one that fits), the stages before it as theirs or,
where none is described, as one kernel would run them; where no kernel
realises the attention it is said why, and the prediction is a bound: no
kernel takes less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from accelsim.explore.estimate_gpu import estimate_kernel
from accelsim.explore.fitting import fitted
from accelsim.explore.loads import bound, layers_of, number
from accelsim.explore.stages import joined, stages
from accelsim.ir.gpu import Gpu
from accelsim.load.arch import load_architecture
from accelsim.load.gpu import load_gpu
from accelsim.load.system import Kernel, Part, whole
from accelsim.load.system_text import HardwareText
from accelsim.models.gpu_clock import settle, settle_as_timed
from accelsim.models.gpu_estimate import KernelEstimate
from accelsim.models.gpu_estimate import price as gpu_price
from accelsim.models.staged import Stage, StagePrice
from accelsim.models.staged import price as array_price
from accelsim.models.staged_gpu import launch

#: How a stage's figure comes about, the surest first.
HOW: Final = ("kernel", "array", "one kernel", "bound")


@dataclass(frozen=True, slots=True)
class Prediction:
    """A phase on a machine: the stages of the system, and those of dense attention.

    ``how``: the least sure of its stages'; "bound" means that the time is at
    least this, so that the speedup is at most what is said.  ``why`` says what
    is missing there.
    """

    machine: str
    own: tuple[StagePrice, ...]
    dense: tuple[StagePrice, ...]
    why: str = ""

    @property
    def how(self) -> str:
        """How the system's figure comes about: the least sure of its stages."""
        return max((s.how for s in self.own), key=HOW.index)

    @property
    def dense_how(self) -> str:
        """How that of dense attention does."""
        return max((s.how for s in self.dense), key=HOW.index)

    @property
    def seconds(self) -> float:
        """Seconds of a layer's phase."""
        return sum(s.seconds for s in self.own)

    @property
    def joules(self) -> float:
        """Joules of it."""
        return sum(s.joules for s in self.own)

    @property
    def speedup(self) -> float:
        """Seconds of dense attention over the system's."""
        return sum(s.seconds for s in self.dense) / self.seconds

    @property
    def energy(self) -> float:
        """The system's joules over those of dense attention."""
        return self.joules / sum(s.joules for s in self.dense)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "machine": self.machine,
            "how": self.how,
            "why": self.why,
            "own_s": self.seconds,
            "dense_s": sum(s.seconds for s in self.dense),
            "speedup": self.speedup,
            "own_j": self.joules,
            "dense_j": sum(s.joules for s in self.dense),
            "energy_ratio": self.energy,
            "dense_how": self.dense_how,
            "stages": [s.to_dict() for s in self.own],
            "dense_stages": [s.to_dict() for s in self.dense],
        }


def on_array(
    machine: str,
    parts: Iterable[Part],
    dense: Part,
    scope: Mapping[str, Any],
    hardware: HardwareText | None = None,
) -> Prediction:
    """A phase on a spatial array; on a system's own ``hardware`` with its pipeline and its power.

    >>> from accelsim.explore.loads import scope_of
    >>> from accelsim.load.system import load_system
    >>> found = load_system("fusemax")
    >>> phase = found.phases[0]
    >>> one = on_array("fusemax-cloud", phase.parts, phase.dense, scope_of(found, 4096))
    >>> round(one.seconds, 4), one.speedup
    (0.0287, 1.0)
    """
    arch = load_architecture(machine)
    room = arch.levels[1].capacity_bytes if len(arch.levels) > 1 else 0.0

    def priced(part: Part) -> list[StagePrice]:
        there = {u for _, own in part.units for u in own} <= set(arch.unit)
        units = dict(part.units) if there else {}
        found = stages(part, scope, room)
        if hardware is not None and hardware.pipelined:
            found = (joined(found, "pipeline"),)
        share = layers_of(part, scope)
        return [array_price(s, arch, units, hardware is not None).scaled(share) for s in found]

    own = [s for part in parts for s in priced(part)]
    return Prediction(machine, tuple(own), tuple(priced(dense)))


def on_gpu(
    machine: str, parts: Iterable[Part], dense: Part, scope: Mapping[str, Any]
) -> Prediction:
    """A phase on a GPU, through described kernels where there are any.

    >>> from accelsim.explore.loads import scope_of
    >>> from accelsim.load.system import load_system
    >>> found = load_system("sale")
    >>> phase = found.phases[0]
    >>> one = on_gpu("h100-sxm", phase.parts, phase.dense, scope_of(found, 32768))
    >>> [s.name for s in one.own], one.how
    (['around', 'estimation', 'attention'], 'one kernel')
    """
    gpu = load_gpu(machine)
    own: list[StagePrice] = []
    why: dict[str, None] = {}
    for part in parts:
        found, said = _of_part(gpu, part, scope)
        own += [s.scaled(layers_of(part, scope)) for s in found]
        why |= dict.fromkeys([said] if said else [])
    return Prediction(machine, tuple(own), tuple(_of_part(gpu, dense, scope)[0]), "; ".join(why))


def _of_part(gpu: Gpu, part: Part, scope: Mapping[str, Any]) -> tuple[list[StagePrice], str]:
    """The stages of a part on a GPU, and what is missing or taken instead."""
    found: list[StagePrice] = []
    chosen = stages(part, scope, apart=True)
    why = ""
    before = [s for s in chosen if s.name in ("estimation", "selection") and part.estimators]
    for stage in chosen:
        if stage in before:
            if stage is before[0]:
                both = joined(before, "estimation")
                found.append(_kernels(gpu, both, part.estimators, scope))
        elif stage.name != "attention":
            found.append(_alone(gpu, stage, bound=False))
        elif part.kernels:
            found.append(_kernels(gpu, stage, part.kernels, scope))
        else:
            one = part.bound or fitted(gpu.name, bound(part, scope), stage)
            if isinstance(one, str):
                why = one
                found.append(_alone(gpu, stage, bound=True))
            else:
                why = one.why
                found.append(_described(stage, gpu, [(1.0, one.estimate)]))
    return found, why


def _kernels(
    gpu: Gpu, stage: Stage, kernels: Sequence[Kernel], scope: Mapping[str, Any]
) -> StagePrice:
    """A stage as the described kernels that realise it, one behind the other."""
    found = []
    for kernel in kernels:
        shape = {name: whole(r, scope, name) for name, r in kernel.shape}
        sets = [
            f"{name}={str(option).lower() if isinstance(option, bool) else option.value(scope)}"
            for name, option in kernel.sets
        ]
        one = estimate_kernel(kernel.name, arch=gpu.name, shape=shape, sets=sets)
        found.append((number(kernel.times, scope, "times"), one))
    return _described(stage, gpu, found)


def _described(stage: Stage, gpu: Gpu, found: Sequence[tuple[float, KernelEstimate]]) -> StagePrice:
    """A stage as described kernels, each so many times."""
    busy: dict[str, float] = {}
    for times, one in found:
        busy[one.bound_by] = busy.get(one.bound_by, 0.0) + times * one.latency_s
    return StagePrice(
        stage.name,
        gpu.name,
        "kernel",
        sum(times * one.latency_s for times, one in found),
        sum(times * one.energy_j for times, one in found),
        busy,
        sum(stage.ops.values()),
        sum(times * one.dram_bytes for times, one in found),
        {"kernel": tuple(dict.fromkeys(one.kernel for _, one in found))},
    )


def _alone(gpu: Gpu, stage: Stage, *, bound: bool) -> StagePrice:
    """A stage that no descriptor realises: as one kernel would run it, or its bound.

    A bound takes its bytes from memory, whatever a launch before may have left in L2.
    """
    asked = launch(gpu, stage, bound=bound)
    where = {asked.shape: tuple(step.name for step in stage.steps)}
    ops = sum(stage.ops.values())
    if bound:
        timed, lasting = settle_as_timed(gpu, asked), settle(gpu, asked, gpu.power.cap_w)
        seconds, joules, binds = timed.seconds + gpu.launch.first_s, lasting.joules, timed.bound_by
        binds = asked.stages[0][2] if binds == "multiprocessors" else binds
        moved = sum(stage.moved)
    else:
        one = gpu_price(gpu, stage.name, [asked])
        seconds, joules, binds = one.latency_s, one.energy_j, one.bound_by
        moved = one.dram_bytes
    busy = {binds: seconds}
    return StagePrice(stage.name, gpu.name, asked.shape, seconds, joules, busy, ops, moved, where)
