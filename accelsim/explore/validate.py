"""``validate``: predictions beside published results, error by row, mean and maximum."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from accelsim.explore.compare import LINEAR, Comparison, compare
from accelsim.explore.estimate import bind, estimate
from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Mapping
from accelsim.ir.problem import Problem
from accelsim.ir.published import Average, Check, Exhibit, Table
from accelsim.load.design import load_design
from accelsim.load.published import load_exhibits
from accelsim.load.workload import length
from accelsim.models.estimate import Estimate
from accelsim.models.estimate import estimate as price

#: The Einsums that FLAT's own model prices: its scores and its product with V, no softmax.
FLAT_PRICES = ("QK", "AV")
FLAT_TENSORS = ("Q", "K", "V", "AV")
#: Relative slack under which "not above" still holds: the last digit of a transcribed figure.
LAST_DIGIT = 1e-6


@dataclass(frozen=True, slots=True)
class Row:
    """One published figure beside ours.  ``error`` is relative; absolute for shares of time.

    ``tolerance`` is None where ours must not be above, and ``holds`` is None
    where nothing is asked (the figure is shown for comparison).
    """

    workload: str
    quantity: str
    published: float
    ours: float
    error: float
    tolerance: float | None
    holds: bool | None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class ValidationTable:
    """Rows of one published table, with errors by quantity."""

    name: str
    about: str
    rows: tuple[Row, ...]

    @property
    def errors(self) -> dict[str, tuple[float, float]]:
        """Mean and maximum of the absolute error, by quantity."""
        found = {}
        for quantity in dict.fromkeys(r.quantity for r in self.rows):
            sizes = [abs(r.error) for r in self.rows if r.quantity == quantity]
            found[quantity] = (sum(sizes) / len(sizes), max(sizes))
        return found

    @property
    def holds(self) -> bool:
        """Whether every row holds of which something is asked."""
        return all(r.holds is not False for r in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The table as a JSON object."""
        return {
            "name": self.name,
            "about": self.about,
            "holds": self.holds,
            "mean_error": {q: mean for q, (mean, _) in self.errors.items()},
            "max_error": {q: worst for q, (_, worst) in self.errors.items()},
            "rows": [r.to_dict() for r in self.rows],
        }


@dataclass(frozen=True, slots=True)
class AverageRow:
    """A published mean of ratios beside ours, and ours with physical accounting of energy."""

    name: str
    published: float
    ours: float
    tolerance: float
    physical: float | None

    @property
    def holds(self) -> bool:
        """Whether ours is within the tolerance, which is absolute."""
        return abs(self.ours - self.published) <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return {**own, "error": self.ours - self.published, "holds": self.holds}


@dataclass(frozen=True, slots=True)
class Validation:
    """A paper's published results beside ours."""

    paper: str
    tables: tuple[ValidationTable, ...]
    averages: tuple[AverageRow, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether everything that is asked holds."""
        return all(t.holds for t in self.tables) and all(a.holds for a in self.averages)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``accelsim validate``."""
        return {
            "paper": self.paper,
            "holds": self.holds,
            "tables": [t.to_dict() for t in self.tables],
            "averages": [a.to_dict() for a in self.averages],
        }


#: What is predicted for one published row: figures by quantity, and notes by quantity.
Figures = tuple[dict[str, float], dict[str, str]]


def validate_fusemax() -> Validation:
    """Every published FuseMax figure beside ours, and the averages that the paper states."""
    exhibits = load_exhibits("fusemax")
    predict: dict[str, Callable[[Table, dict[str, Any]], Figures]] = {
        "fusemax-attention": _attention,
        "fusemax-linear": _linear,
        "fusemax-flat-model": _flat_model,
        "fusemax-pareto": _pareto,
    }
    tables = [
        _table(table, predict[name])
        for name, exhibit in exhibits.items()
        if name in predict
        for table in exhibit.tables
    ]
    averages = _averages(exhibits["fusemax-averages"])
    return Validation(exhibits["fusemax-averages"].paper, tuple(tables), averages)


def _table(table: Table, predict: Callable[[Table, dict[str, Any]], Figures]) -> ValidationTable:
    rows = []
    checks = {c.quantity: c for c in table.checks}
    for number in range(len(table.rows)):
        published = table.row(number)
        figures, notes = predict(table, published)
        named = [str(published["model"]), str(published["seq"])]
        if "edge" in published:
            named.append(f"edge {published['edge']}")
        for quantity, ours in figures.items():
            truth = float(published[quantity])
            rows.append(
                _row(
                    " ".join(named),
                    truth,
                    ours,
                    checks.get(quantity) or Check(quantity, None, where="not asked"),
                    length(str(published["seq"])),
                    notes.get(quantity, ""),
                )
            )
    return ValidationTable(table.name, table.about, tuple(rows))


def _row(workload: str, truth: float, ours: float, check: Check, seq: int, note: str) -> Row:
    share = 0.0 < truth <= 1.0 + LAST_DIGIT and check.quantity not in (
        "latency",
        "energy",
        "ideal_latency",
    )
    error = ours - truth if share else (ours - truth) / truth
    if check.where == "not asked" or note.startswith("not asked"):
        return Row(workload, check.quantity, truth, ours, error, None, None, note)
    tolerance = check.tolerance(seq)
    holds = error <= LAST_DIGIT if tolerance is None else abs(error) <= tolerance
    return Row(workload, check.quantity, truth, ours, error, tolerance, holds, note)


def _attention(table: Table, row: dict[str, Any]) -> Figures:
    found = estimate(design=table.design, model=row["model"], seq=row["seq"])
    busy = {e["name"]: e["utilisation"] for e in found.to_dict()["einsums"]}
    figures = {**_totals(found), **found.utilisation, **busy}
    return _asked(figures, row), {"energy": _energy_note(found, float(row["energy"]))}


def _linear(table: Table, row: dict[str, Any]) -> Figures:
    arch = load_design(table.design).arch
    found = estimate(design=LINEAR, arch=arch, model=row["model"], seq=row["seq"])
    return _asked(_totals(found), row), {"energy": _energy_note(found, float(row["energy"]))}


def _totals(found: Estimate) -> dict[str, float]:
    backing = next(iter(found.traffic_bytes))
    traffic = found.traffic_bytes[backing]
    return {"traffic": traffic, "latency": found.latency_s, "energy": found.energy_j}


def _asked(figures: dict[str, float], row: dict[str, Any]) -> dict[str, float]:
    return {name: figures[name] for name in row if name in figures}


def _energy_note(found: Estimate, published: float) -> str:
    """The difference by component: operations and DRAM follow from counts, the rest is buffer."""
    buffer = found.energy_by_j.get("buffer", 0.0)
    rest = published - (found.energy_j - buffer)
    parts = ", ".join(f"{n} {v / published:.2%}" for n, v in found.energy_by_j.items())
    left = f"the published total leaves {rest / published:.2%} for the buffer"
    return f"ours in shares of the published total: {parts}; {left}"


def _flat_model(table: Table, row: dict[str, Any]) -> Figures:
    """FLAT's own accounting of its own choice: no softmax, outputs once, own traffic kept."""
    problem, machine, mapping = bind(
        design=table.design, arch=table.arch, model=row["model"], seq=row["seq"]
    )
    own = replace(mapping, partial_sums=False, spill_adds=True)
    found = price(problem, machine, own)
    moved = sum(
        t.reads + t.writes
        for g in found.groups
        for t in g.transfers
        if t.level == machine.backing.name
        and (t.einsum in FLAT_PRICES or (not t.einsum and t.tensor in FLAT_TENSORS))
    )
    useful = sum(b.useful_cycles for g in found.groups for b in g.busy if b.einsum in FLAT_PRICES)
    notes = {}
    if float(row["spilled"]) > 0:
        notes["mem_traffic"] = "not asked: something spills, which FLAT's own model books otherwise"
    return {
        "mem_traffic": moved * machine.word_bytes,
        "ideal_latency": useful / machine.clock_hz,
    }, notes


def _pareto(table: Table, row: dict[str, Any]) -> Figures:
    """The design at another edge; its buffer doubles from two query tiles till compute binds.

    The buffer's area goes with its capacity, from the one that the machine states.
    """
    edge = int(row["edge"])
    problem, machine, mapping = bind(
        design=table.design, model=row["model"], seq=row["seq"], sets=[f"parameters.edge={edge}"]
    )
    stated = machine.level["buffer"]

    def at(capacity: float) -> Estimate:
        area = stated.area_m2 * capacity / stated.capacity_bytes
        sets = [
            f"parameters.edge={edge}",
            f"levels.buffer.capacity={capacity:.0f} B",
            f"levels.buffer.area={area * 1e12} um2",
        ]
        return estimate(design=table.design, model=row["model"], seq=row["seq"], sets=sets)

    found = at(capacity := _two_tiles(problem, machine, mapping))
    while found.bound_by == machine.backing.name:
        found = at(capacity := capacity * 2)
    areas = {name: area * 1e6 for name, area in found.area_by_m2.items()}
    total = sum(areas.values())
    figures = {
        "latency": found.latency_s,
        "area": total,
        "array_2d_area": areas["array_2d"],
        "traffic": _totals(found)["traffic"],
    }
    each, theirs = (a * 1e6 / edge**2 for a in (areas["array_2d"], float(row["array_2d_area"])))
    array = (float(row["array_2d_area"]) - areas["array_2d"]) / (float(row["area"]) - total)
    shown = ", ".join(f"{n} {v:.4g} mm2" for n, v in areas.items())
    notes = {
        "area": f"ours: {shown}; the 2-D array makes {array:.0%} of the difference",
        "array_2d_area": f"a PE: ours {each:.0f} um2 from the artifact's component areas, "
        f"theirs {theirs:.0f} um2",
    }
    return figures, notes


def _two_tiles(problem: Problem, machine: Architecture, mapping: Mapping) -> float:
    """Bytes of the buffer that the mapping needs with two query tiles."""
    size = problem.extent
    values = dict(mapping.values)
    rows, cols = int(values["M0"]), int(values["P0"])
    kept = cols * (size("E") + size("F") + 2) * 2
    return (kept + rows * (size("E") + size("F"))) * machine.word_bytes


def _averages(exhibit: Exhibit) -> tuple[AverageRow, ...]:
    comparisons: dict[tuple[str, str, bool, bool], Comparison] = {}

    def mean(average: Average, physical: bool) -> float:
        key = (average.of, average.over, average.linear, physical)
        if key not in comparisons:
            comparisons[key] = compare(
                [average.of, average.over],
                exhibit.models,
                exhibit.lengths,
                baseline=average.over,
                linear=average.linear,
                physical=physical,
            )
        ratio = "speedup" if average.quantity == "speedup" else "energy_ratio"
        return comparisons[key].averages()[average.of][ratio]

    return tuple(
        AverageRow(
            average.name,
            average.value,
            mean(average, False),
            average.tolerance,
            mean(average, True) if average.quantity == "energy" else None,
        )
        for average in exhibit.averages
    )


def failures(validation: Validation) -> Iterable[Row]:
    """Rows that do not hold."""
    return (r for t in validation.tables for r in t.rows if r.holds is False)
