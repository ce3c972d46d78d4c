"""``validate gpu``: predictions beside recorded runs, and beside what simpler models say.

Three baselines stand on the same rows: the data sheet's roofline; a roofline
of three numbers (shares of compute and of bandwidth, and a fixed cost) fitted
on a fifth of the rows of each group; and, for a GPU that shares cases with
another, the other's measured times unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from accelsim.errors import refuse
from accelsim.explore import gpu_records
from accelsim.explore.gpu_records import Case, Measured
from accelsim.explore.gpu_rows import Pair, Row, Spread, banded, counted, models, spread, told
from accelsim.explore.gpu_systems import by_system
from accelsim.explore.gpu_verdicts import TIME, Verdict, nearer, verdicts
from accelsim.ir.gpu import Gpu
from accelsim.load.gpu import load_gpu

#: The GPU whose times are taken unchanged for others.
NEIGHBOUR: Final = "h100-sxm"
#: The folder of rows that were not looked at while the model was built.
UNSEEN: Final = "unseen"


@dataclass(frozen=True, slots=True)
class GpuValidation:
    """Predictions beside the recorded runs of one GPU."""

    gpu: str
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    too_hot: int = 0

    def errors(self) -> dict[str, dict[str, dict[str, Spread]]]:
        """Mean, 90th percentile and maximum by kind of row, band and model."""
        return banded(self.rows, lambda row: row.kind)

    def quantities(self) -> dict[str, Spread]:
        """Errors of bytes, energy, clock and speedups, by quantity."""
        names = dict.fromkeys(p.quantity for p in self.pairs)
        return {
            name: spread([abs(p.error) for p in self.pairs if p.quantity == name]) for name in names
        }

    def verdicts(self) -> list[Verdict]:
        """What is asked, what was got, and whether it holds, line by line."""
        return verdicts(self.rows, self.pairs, transferred=transferred(self.gpu))

    @property
    def holds(self) -> bool:
        """Whether every line holds."""
        return all(verdict.held for verdict in self.verdicts())

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim validate gpu``."""
        long = counted(self.rows)
        return {
            "gpu": self.gpu,
            "holds": self.holds,
            "asked": TIME,
            "acceptance": [v.to_dict() for v in self.verdicts()],
            "errors": self.errors(),
            "by_family": banded(self.rows, lambda row: row.family),
            "baseline_nearer": nearer(self.rows),
            "by_kernel": {
                name: models([r for r in long if r.kernel == name])
                for name in dict.fromkeys(r.kernel for r in long)
            },
            "by_system": [stage.to_dict() for stage in by_system(self.rows)],
            "quantities": self.quantities(),
            "too_hot": self.too_hot,
            "rows": [r.to_dict() for r in self.rows],
            "pairs": [p.to_dict() for p in self.pairs],
        }


def validate_gpu(gpu: str = "h100-sxm", runs: Path | None = None) -> GpuValidation:
    """Every recorded row of a GPU (or of the folder ``runs``) beside the model and the baselines.

    Nothing is run: no GPU is needed.
    """
    chip, where = load_gpu(gpu), runs or gpu
    measured = gpu_records.measured(where)
    elsewhere = _elsewhere(gpu, runs)
    rows = []
    for group in dict.fromkeys(m.group for m in measured):
        mine = [m for m in measured if m.group == group]
        fit = fitted(chip, mine[::5])
        for m in mine:
            baselines = {
                "data sheet": roofline(chip, m.case, 1.0, 1.0, 0.0),
                "three numbers": roofline(chip, m.case, *fit),
            }
            there = elsewhere.get(gpu_records.key(m.case))
            if there is not None:
                baselines[f"{NEIGHBOUR} measured"] = there
            predicted = m.case.predicted(chip).latency_s
            rows.append(Row(group, m.case, m.seconds, predicted, tuple(baselines.items())))
    pairs = (
        *bytes_pairs(chip, where), *energy_pairs(chip, where), *speedups(chip, where, measured)
    )  # fmt: skip
    return GpuValidation(gpu, tuple(rows), pairs, gpu_records.left_out(where))


def unseen(gpu: str = "h100-sxm") -> GpuValidation:
    """The same over rows that were not looked at while the model was built.

    They were measured after it, with other seeds, and stand in the folder
    ``unseen`` of the GPU's runs.  InputError where there is none.
    """
    runs = gpu_records.folder(gpu) / UNSEEN
    if not runs.is_dir():
        raise refuse(f"no unseen runs of {gpu!r}", "a GPU whose runs have a folder 'unseen'")
    return validate_gpu(gpu, runs)


def _elsewhere(gpu: str, runs: Path | None) -> dict[str, float]:
    """Times of the same cases on the neighbouring GPU."""
    if gpu == NEIGHBOUR:
        return {}
    there = gpu_records.folder(NEIGHBOUR)
    rows = [gpu_records.measured(there)]
    if runs is not None and runs.name == UNSEEN:
        rows.append(gpu_records.measured(there / UNSEEN))
    return {gpu_records.key(m.case): m.seconds for own in rows for m in own}


def transferred(gpu: str) -> bool:
    """Whether a GPU's multiprocessors are the neighbour's figure by figure, its memory its own.

    >>> transferred("h200-sxm"), transferred("h100-sxm"), transferred("a100-sxm")
    (True, False, False)
    """
    own, there = load_gpu(gpu), load_gpu(NEIGHBOUR)
    alike = all(
        getattr(own, name) == getattr(there, name)
        for name in ("tensor", "operations", "clock_hz", "tensor_clock_hz", "shared_bandwidth")
    )
    return alike and own.memory != there.memory


def peaks(gpu: Gpu) -> tuple[float, float]:
    """FLOP and bytes a second of the data sheet; of the ceilings where the file has no sheet.

    >>> [f"{x:.3g}" for x in peaks(load_gpu("h100-sxm"))]
    ['9.89e+14', '3.35e+12']
    """
    rate = max(rate for name, rate in gpu.tensor if name.endswith(("bf16", "f16")))
    flops = rate * gpu.multiprocessors * gpu.tensor_clock_hz
    return gpu.sheet_flops or flops, gpu.sheet_bandwidth or gpu.memory.read


def roofline(gpu: Gpu, case: Case, compute: float, bandwidth: float, fixed_s: float) -> float:
    """Seconds of a roofline at shares of the data sheet's peak and bandwidth."""
    flops, moved = peaks(gpu)
    return fixed_s + max(case.flops / (compute * flops), case.bytes / (bandwidth * moved))


def fitted(gpu: Gpu, rows: Sequence[Measured]) -> tuple[float, float, float]:
    """The three numbers with the least mean error on these rows, on a grid refined once."""

    def badness(numbers: tuple[float, float, float]) -> float:
        return fmean(abs(roofline(gpu, r.case, *numbers) / r.seconds - 1) for r in rows)

    shares = [0.05 * n for n in range(1, 21)]
    best = min(product(shares, shares, (2e-6, 4e-6, 6e-6, 1e-5, 2e-5)), key=badness)
    near = [[x * f for f in (0.85, 0.9, 0.95, 1.0, 1.05, 1.1)] for x in best]
    return min(product(*near), key=badness)  # type: ignore[arg-type,return-value]


def bytes_pairs(gpu: Gpu, name: str | Path) -> Iterator[Pair]:
    """Bytes of memory and of L2 against the profiler's counters."""
    records = ("counters", *gpu_records.drawn(name, "counters"))
    for row, case in (found for record in records for found in gpu_records.rows(name, record)):
        if case is None:
            continue
        found = case.predicted(gpu)
        counted = row["kernels"]
        dram = sum(k["dram_read_bytes"] + k["dram_write_bytes"] for k in counted)
        level2 = sum(k["to_sm_bytes"] + k["from_sm_bytes"] for k in counted)
        what = f"{case.kernel} {told(case)}"
        yield Pair(what, "dram_bytes", dram, found.dram_bytes)
        yield Pair(what, "l2_bytes", level2, found.l2_bytes)


def energy_pairs(gpu: Gpu, name: str | Path) -> Iterator[Pair]:
    """Energy, time and clock of kernels back to back against the board's counter."""
    for record in ("energy-kernels", *gpu_records.drawn(name, "energy")):
        for row, case in gpu_records.rows(name, record):
            sustained = row.get("sustained")
            if case is None or not sustained or gpu_records.of_earlier_kernel(row):
                continue
            if gpu_records.too_hot(sustained):
                continue
            found, what = case.predicted(gpu), f"{case.kernel} {told(case)}"
            yield Pair(what, "energy_j", sustained["joules"], found.energy_j)
            yield Pair(what, "sustained_s", sustained["seconds"], found.sustained_s)
            if sustained.get("sm_hz"):
                yield Pair(what, "sm_hz", sustained["sm_hz"], found.sm_hz)


def speedups(gpu: Gpu, name: str | Path, measured: Iterable[Measured]) -> Iterator[Pair]:
    """Measured and predicted ratios of time between two ways to do the same."""
    timed: dict[str, list[Timed]] = {}
    for m in measured:
        if m.group == "sparse" or m.group.endswith("speedups"):
            predicted = m.case.predicted(gpu).latency_s
            timed.setdefault(_problem(m.case), []).append((m.case, m.seconds, predicted))
    steady: dict[str, list[Timed]] = {}
    for row, case in gpu_records.rows(name, "energy-kernels"):
        earlier = gpu_records.of_earlier_kernel(row)
        if case is not None and row.get("sustained") and not earlier:
            seconds, predicted = row["sustained"]["seconds"], case.predicted(gpu).sustained_s
            steady.setdefault(_problem(case), []).append((case, seconds, predicted))
    for mine in (*timed.values(), *steady.values()):
        for (slow, before, ours), (fast, after, theirs) in product(mine, mine):
            quantity = _compared(slow, fast)
            if quantity:
                yield Pair(told(fast), quantity, before / after, ours / theirs)


#: A case, its measured seconds and the predicted ones, both timed alike.
Timed = tuple[Case, float, float]


def _problem(case: Case) -> str:
    """What two cases must share to be compared: batch, heads, length, head dimension."""
    sizes = dict(case.sizes)
    return " ".join(f"{n}={sizes.get(n)}" for n in ("B", "H", "M", "E"))


def _compared(slow: Case, fast: Case) -> str:
    """Which speedup the second case shows over the first; nothing where it shows none."""
    first, second = dict(slow.options), dict(fast.options)
    plain = not first.get("causal") and float(first.get("kept", 1.0)) == 1.0
    one = slow.kernel.startswith("attention-1pass") and plain
    if slow.kernel == "attention-3pass-mma":
        same = first.get("causal") == second.get("causal") and not second.get("window")
        fused = fast.kernel.startswith("attention-1pass") and "kept" not in second
        return "one-pass over three-pass" if fused and same else ""
    if slow.kernel == "decode-split":
        both = fast.kernel == slow.kernel and (first["bits"], second["bits"]) == (16, 4)
        return "int4 over fp16 cache" if both else ""
    if slow.kernel == "attention-1pass-wgmma" and one and fast.kernel == "linear-attention":
        return "linear over softmax"
    if slow.kernel != fast.kernel or not one:
        return ""
    if 0.05 <= float(second.get("kept", 1.0)) <= 0.55 and not second.get("causal"):
        return "block-sparse over dense"
    if second.get("causal") and "kept" not in second and "kept" not in first:
        return "window over full" if second.get("window") else "causal over full"
    return ""
