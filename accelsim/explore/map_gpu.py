"""``map CASCADE --arch GPU``: the kernel, its tile and pipeline, found by listing them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from accelsim.errors import one_of, refuse
from accelsim.explore.canonical import yaml_text
from accelsim.explore.gpu_choice import (
    CHOSEN,
    FUSED,
    OBJECTIVES,
    Choice,
    attention_sizes,
    choose,
    fields,
    passes,
    product_kernel,
    said,
)
from accelsim.explore.gpu_outline import outline, splits
from accelsim.ir.cascade import Cascade
from accelsim.ir.gpu import Gpu
from accelsim.ir.problem import Problem, bind, relevant, with_parts
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from accelsim.load.gpu import load_gpu
from accelsim.load.source import read
from accelsim.load.workload import asked, workload
from accelsim.mapper.gpu_tiles import Candidate, products
from accelsim.models import gpu_einsum
from accelsim.models.gpu_estimate import KernelEstimate, Priced, price

#: Candidates that are shown beside the one that was taken.
SHOWN: Final = 5
#: A ceiling that brings less than this share when doubled brings nothing.
WORTH: Final = 5e-3
#: Lane operations that share a pipe.
LANES: Final = {
    "exponential unit": ("ex2",),
    "multiply-adds": ("fma", "add"),
    "other lane operations": ("max", "cvt", "alu"),
}


@dataclass(frozen=True)
class GpuMapped:
    """What a cascade runs in on a GPU, its price, and what stood beside it.

    ``choice`` is None where the cascade is no attention and is priced Einsum
    by Einsum; then each product takes its own tile (``products``).
    """

    cascade: Cascade
    gpu: Gpu
    passes: int
    sizes: Mapping[str, int]
    objective: str
    estimate: KernelEstimate
    choice: Choice | None

    @property
    def value(self) -> float:
        """The objective's figure: seconds, joules, or their product."""
        return OBJECTIVES[self.objective](self.estimate)

    @cached_property
    def products(self) -> tuple[dict[str, Any], ...]:
        """For each product of the cascade its tile, what others would take, and what refuses some.

        Empty for fused attention.
        """
        if self.choice is not None:
            return ()
        return tuple(_products(self.gpu, _problem(self.cascade, self.sizes), self.estimate))

    @cached_property
    def grown(self) -> tuple[dict[str, Any], ...]:
        """What twice of each ceiling of the GPU would bring, chosen anew, the most first."""
        found = []
        for ceiling, gpu in doubled(self.gpu):
            again = _mapped(self.cascade, gpu, self.passes, self.sizes, self.objective)
            gain = self.value / again.value
            if gain > 1 + WORTH:
                found.append({
                    "resource": ceiling, "gain": gain,
                    "latency_s": again.estimate.latency_s, "energy_j": again.estimate.energy_j,
                    "tile": again.estimate.launches[0].launch.shape,
                })  # fmt: skip
        return tuple(sorted(found, key=lambda row: (-row["gain"], row["resource"])))

    @property
    def claim(self) -> str:
        """What was shown: the space is listed whole, prices are the model's."""
        if self.choice is None:
            return "each product in the tile and split that end first of those listed"
        count = len(self.choice.priced)
        best, price_of = self.choice.priced[0]
        if count == 1 and not self.choice.refused:
            return "the only tile that the kernel has"
        if best is self.choice.taken:
            return f"the best of {count} candidates by the model, all of them priced"
        above = self.value / OBJECTIVES[self.objective](price_of) - 1
        return (
            f"{above:.2%} above the best of {count} candidates by the model, a persistent kernel "
            "that gains less than the model can tell"
        )

    def document(self) -> dict[str, Any]:
        """The kernel as a descriptor with the tile that was found, for ``estimate --kernel``.

        Raises InputError for a cascade of several products: it is no single kernel.
        """
        if self.choice is not None:
            kernel, tile = self.choice.taken.kernel, self.choice.taken.tile
            found = _descriptor(kernel.name)
            if kernel.family in CHOSEN:
                found["tiles"] = [fields(kernel, tile)]
        else:
            single = [row for row in self.products if "tile" in row]
            if len(single) != 1 or len(self.products) != 1:
                message = f"{self.cascade.name} runs in {len(self.estimate.launches)} launches"
                raise refuse(f"{message}, which are no single kernel", "a cascade of one")
            found = _descriptor(product_kernel(self.gpu).name)
            found.pop("column_step", None)
            found["tiles"] = [single[0]["tile"]]
        found["kernel"] = f"{self.cascade.name}-{self.gpu.name}"
        found["about"] = f"found by map for {self.objective} on {self.gpu.name}"
        return {
            k: v for k, v in found.items() if k not in ("split_tiles", "merge_tiles", "realises")
        }

    @property
    def again(self) -> str:
        """The options with which ``estimate --kernel`` prices the written descriptor the same."""
        problem = dict(self.estimate.problem)
        sizes = ",".join(f"{name}={size}" for name, size in problem["sizes"].items())
        kernel = self.choice.taken.kernel if self.choice else None
        sets = [f"--set {k}={str(v).lower()}" for k, v in problem["options"].items()
                if v and (k in ("causal", "window") or (kernel and kernel.kinds[0] == "f16"
                                                        and k == "dtype"))]  # fmt: skip
        return " ".join([f"--arch {self.gpu.name}", f"--shape {sizes}", *sets])

    def yaml(self) -> str:
        """The descriptor as YAML."""
        return yaml_text(self.document())

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim map`` on a GPU."""
        found = {
            **self.estimate.to_dict(),
            "objective": self.objective,
            "value": self.value,
            "claim": self.claim,
            "nest": outline(self.gpu, self.choice, self.estimate),
            "grow": list(self.grown),
        }
        if self.choice is None:
            listed = sum(row["candidates"] for row in self.products)
            search = {"mappings": listed, "priced": listed, "refused": []}
            return {**found, "products": list(self.products), "search": search}
        choice = self.choice
        ordered = [(choice.taken, choice.estimate), *choice.priced]
        rows = [_row(c, e, self.objective) for c, e in ordered]
        distinct = {_shape(row): row for row in reversed(rows)}
        shown = [row for row in rows if distinct.get(_shape(row)) is row]
        return {
            **found,
            "tile": fields(choice.taken.kernel, choice.taken.tile),
            "splits": splits(self.estimate),
            "search": {
                "mappings": len(choice.priced) + len(choice.refused),
                "priced": len(choice.priced),
                "refused": refusals(choice.refused),
            },
            "candidates": shown[: SHOWN + 1],
            "document": self.document(),
        }


def map_gpu(
    cascade: str | Path,
    *,
    arch: str | Path,
    objective: str = "latency",
    model: str | None = None,
    seq: int | str | None = None,
    shape: Mapping[str, int] | str | None = None,
    config: str | Path | None = None,
    sets: Iterable[str] = (),
) -> GpuMapped:
    """The kernel, tile and pipeline in which a cascade is best on a GPU, by the model.

    The ``objective`` is ``latency``, ``energy`` or ``edp``.  Raises InputError for
    bad input and where no tile fits, with what binds and by how much.

    >>> found = map_gpu("attention-1pass", arch="h100-sxm", shape="M=512,E=128,H=16,B=16")
    >>> found.choice.taken.kernel.path, len(found.choice.priced), len(found.choice.refused)
    ('wgmma', 97, 119)
    """
    if objective not in OBJECTIVES:
        raise refuse(f"no objective '{objective}' on a GPU", one_of(OBJECTIVES))
    text = load_cascade(cascade)
    gpu = load_gpu(arch, sets)
    sizes = workload(model=model, seq=seq, shape=shape, config=config)
    relevant(text, sizes, asked=asked(shape))
    return _mapped(text, gpu, passes(cascade), sizes, objective)


def _mapped(
    text: Cascade, gpu: Gpu, count: int, sizes: Mapping[str, int], objective: str
) -> GpuMapped:
    """The same for what is loaded already, of so many passes."""
    choice = None
    if text.equals in FUSED and not (text.equals == "attention-window" and count == 3):
        choice = choose(gpu, text.equals, count, attention_sizes(sizes), objective)
        found = choice.estimate
    else:
        launches = gpu_einsum.launches(gpu, product_kernel(gpu), _problem(text, sizes))
        found = price(gpu, "einsum by einsum", launches)
        found = replace(found, problem=(("sizes", dict(sizes)), ("options", {})))
    found = replace(found, problem=(("cascade", text.name), *found.problem))
    return GpuMapped(text, gpu, count, sizes, objective, found, choice)


def doubled(gpu: Gpu) -> Iterable[tuple[str, Gpu]]:
    """The GPU with twice of one ceiling: pipes, bandwidths, room, multiprocessors, power.

    >>> from accelsim.load.gpu import load_gpu
    >>> [name for name, _ in doubled(load_gpu("h100-sxm"))][:3]
    ['tensor cores', 'exponential unit', 'multiply-adds']
    """
    tensor, alone = (tuple((n, 2 * v) for n, v in t) for t in (gpu.tensor, gpu.tensor_alone))
    yield "tensor cores", replace(gpu, tensor=tensor, tensor_alone=alone)
    for name, lanes in LANES.items():
        more = tuple((lane, (1 + (lane in lanes)) * rate) for lane, rate in gpu.operations)
        yield name, replace(gpu, operations=more)
    yield "shared memory bandwidth", replace(gpu, shared_bandwidth=2 * gpu.shared_bandwidth)
    yield (
        "L2 bandwidth",
        replace(gpu, l2_bandwidth=2 * gpu.l2_bandwidth,
                l2_shared_bandwidth=2 * gpu.l2_shared_bandwidth),
    )  # fmt: skip
    old = gpu.memory
    memory = replace(old, read=2 * old.read, write=2 * old.write, copy=2 * old.copy)
    yield "memory bandwidth", replace(gpu, memory=memory)
    part = gpu.multiprocessor
    yield "registers", replace(gpu, multiprocessor=replace(part, registers=2 * part.registers))
    room = replace(
        part, shared_bytes=2 * part.shared_bytes, block_shared_bytes=2 * part.block_shared_bytes
    )
    yield "shared memory capacity", replace(gpu, multiprocessor=room)
    yield "multiprocessors", replace(gpu, multiprocessors=2 * gpu.multiprocessors)
    power = replace(gpu.power, cap_w=2 * gpu.power.cap_w, peak_w=2 * gpu.power.peak_w)
    yield "power cap", replace(gpu, power=power)


def refusals(refused: Iterable[Candidate]) -> list[dict[str, Any]]:
    """How many candidates each resource refuses, and which of them is nearest to fitting.

    >>> from accelsim.load.kernel import load_kernel
    >>> from accelsim.mapper.gpu_tiles import space
    >>> found = space(load_gpu("h100-sxm"), load_kernel("attention-1pass-wgmma"), {"E": 128})
    >>> [(row["resource"], row["count"]) for row in refusals(c for c in found if c.refused)]
    [('registers', 38), ('shared memory', 8)]
    """
    by_resource: dict[str, list[Candidate]] = {}
    for one in refused:
        if one.refused is not None:
            by_resource.setdefault(one.refused.resource, []).append(one)
    found = []
    for resource, those in by_resource.items():
        least = min(those, key=lambda c: c.refused.need / c.refused.room if c.refused else 0.0)
        found.append({
            "resource": resource, "count": len(those),
            "kernel": least.kernel.name, "nearest": said(least),
        })  # fmt: skip
    return sorted(found, key=lambda row: -int(row["count"]))


def _problem(text: Cascade, sizes: Mapping[str, int]) -> Problem:
    return bind(text, with_parts(text, sizes))


def _descriptor(name: str) -> dict[str, Any]:
    """The document of a shipped kernel as a plain value."""
    return dict(read(catalog.find("kernel", name)).value)


def _row(candidate: Candidate, found: KernelEstimate, objective: str) -> dict[str, Any]:
    """A priced candidate."""
    launch = found.launches[0].launch
    return {
        "kernel": candidate.kernel.name,
        "tile": fields(candidate.kernel, candidate.tile),
        "blocks": launch.blocks,
        "waves": launch.waves,
        "splits": splits(found),
        "value": OBJECTIVES[objective](found),
        "latency_s": found.latency_s,
        "energy_j": found.energy_j,
        "bound_by": found.bound_by,
    }


def _shape(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells candidates apart for people: all but their stages."""
    return (row["kernel"], *(v for k, v in row["tile"].items() if k != "stages"))


def _with_reductions(gpu: Gpu, launches: Sequence[Priced]) -> Iterable[tuple[Priced, float]]:
    """Launches and their seconds; those that add the parts of a split product count with it."""
    found: list[tuple[Priced, float]] = []
    for one in launches:
        if one.launch.name == "reduction" and found:
            part, seconds = found.pop()
            found.append((part, seconds + gpu.launch.next_s + one.timed.seconds))
        else:
            found.append((one, one.timed.seconds))
    return found


def _products(gpu: Gpu, problem: Problem, found: KernelEstimate) -> Iterable[dict[str, Any]]:
    """The launches of a cascade that is priced Einsum by Einsum; products with their candidates.

    The library goes by cycles: a tile that draws less may lose fewer of them to the droop.
    """
    kernel = product_kernel(gpu)
    names = {e.output.tensor for e in problem.cascade.einsums if gpu_einsum.contraction(e)}
    listed = products(gpu, kernel)
    fit = [c for c in listed if c.refused is None]
    times: dict[str, list[tuple[float, float, str]]] = {}
    for one in fit if names else ():
        single = replace(kernel, tiles=(one.tile,), column_step=0)
        priced = price(gpu, "", gpu_einsum.launches(gpu, single, problem)).launches
        for part, seconds in _with_reductions(gpu, priced):
            cycles = seconds * part.timed.sm_hz
            times.setdefault(part.launch.name, []).append((cycles, seconds, part.launch.shape))
    for part, seconds in _with_reductions(gpu, found.launches):
        row: dict[str, Any] = {"name": part.launch.name, "seconds": seconds}
        if part.launch.name in names:
            others = sorted(t for t in times[part.launch.name] if t[2] != part.launch.shape)
            rows, columns = map(int, part.launch.shape.split("x")[:2])
            tile = next(t for t in kernel.tiles if t.rows == rows and t.columns >= columns)
            row |= {
                "tile": fields(kernel, tile) | {
                    "columns": columns, "depth": tile.depth, "cluster": tile.cluster,
                },
                "shape": part.launch.shape,
                "candidates": len(fit),
                "next": {"shape": others[0][2], "seconds": others[0][1]} if others else None,
            }  # fmt: skip
        else:
            row["candidates"] = 0
        yield row
