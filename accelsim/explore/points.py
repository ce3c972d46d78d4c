"""The points of a sweep, priced: what points share is read, bound and counted once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

from accelsim.errors import InputError, refuse
from accelsim.explore.estimate import bind
from accelsim.ir.arch import Architecture
from accelsim.ir.mapping import Mapping
from accelsim.ir.problem import Problem
from accelsim.load.arch import load_architecture
from accelsim.load.design import Design, load_design
from accelsim.load.mapping import load_mapping
from accelsim.load.sweep import Scalar, Sweep
from accelsim.load.workload import workload
from accelsim.models.estimate import Estimate, Pricing, estimate

T = TypeVar("T")

#: Machines and bound mappings that are kept; one of either takes some tens of kilobytes.
KEPT: Final = 6000
#: Figures of every point, beside those by level and by unit.
FIGURES: Final = ("latency_s", "energy_j", "edp_js", "area_mm2", "dram_bytes", "peak_bytes")


class Kept:
    """The last ``KEPT`` answers to a question."""

    def __init__(self) -> None:
        self.found: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was found for the key, or else what ``make`` returns."""
        if key not in self.found:
            self.found[key] = make()
            if len(self.found) > KEPT:
                self.found.popitem(last=False)
        found: T = self.found[key]
        return found


class Points:
    """Prices points of one sweep.

    >>> from accelsim.load.sweep import load_sweep
    >>> row = Points(load_sweep("fusemax-pareto")).row(0)
    >>> row["model"], row["set.parameters.edge"], round(row["latency_s"])
    ('BERT', 16, 30267)
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.machines, self.prices = Kept(), Kept()
        self.designs: dict[str, Design] = {}
        self.levels, self.units = self._names()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a row: the fields of the axes, then figures, then what went wrong."""
        own = [f"traffic_bytes.{n}" for n in self.levels] + [f"peak_bytes.{n}" for n in self.levels]
        own += [f"utilisation.{n}" for n in self.units]
        return (*self.sweep.fields, *FIGURES, *own, "bound_by", "fault")

    def row(self, number: int) -> dict[str, Any]:
        """One point's fields and figures; figures are None and ``fault`` says why if it has none.

        ``fault`` is the first finding: tiles that do not fit, splits that do
        not divide, an operation that the unit lacks.
        """
        point = self.sweep.point(number)
        found: dict[str, Any] = dict.fromkeys(self.columns)
        found.update(point)
        try:
            found.update(self._figures(self.price(point)))
        except InputError as error:
            found["fault"] = error.faults[0].message
        return found

    def price(self, point: dict[str, Scalar]) -> Estimate:
        """The estimate of a point.  Raises InputError where it has none."""
        parts = self._parts(point)
        if self.sweep.search is not None:
            return self._searched(parts, self.sweep.search)
        machine = self.machines.get(
            (parts["arch"], *parts["sets"]),
            lambda: load_architecture(str(parts["arch"]), parts["sets"]),
        )
        key = self._key(parts, machine)
        pricing = self.prices.get(key, lambda: self._pricing(parts))
        if isinstance(pricing, InputError):
            raise pricing
        return pricing.estimate(machine, self.sweep.physical)

    def _searched(self, parts: dict[str, Any], objective: str) -> Estimate:
        """The estimate of the mapping that ``map`` finds at a point."""
        from accelsim.explore.map import map_  # costs more to import than most sweeps need

        sizes = {name: parts[name] for name in ("model", "seq") if name in parts}
        found = map_(
            parts["cascade"],
            arch=parts["arch"],
            objective=objective,
            shape=parts["shape"] or None,
            sets=parts["sets"],
            **sizes,
        )
        if not self.sweep.physical:
            return found.estimate
        return estimate(found.problem, found.task.arch, found.mapping, physical=True)

    def _parts(self, point: dict[str, Scalar]) -> dict[str, Any]:
        """The keywords of ``bind`` for a point, its design resolved."""
        parts: dict[str, Any] = {"shape": {}, "choose": {}}
        own: list[str] = []
        for field, value in point.items():
            kind, dot, name = field.partition(".")
            if not dot:
                parts[field] = value
            elif kind == "set":
                own.append(f"{name}={value}")
            else:
                parts[kind][name] = value
        base = self._design(parts.pop("design", None))
        if base is not None:
            sets = base.sets if "arch" not in parts else ()
            chosen = dict(base.choose) if "mapping" not in parts else {}
            for name in ("cascade", "arch", "mapping"):
                parts.setdefault(name, getattr(base, name))
            own, parts["choose"] = [*sets, *own], {**chosen, **parts["choose"]}
        needed = ("cascade", "arch") if self.sweep.search else ("cascade", "arch", "mapping")
        missing = [n for n in needed if n not in parts]
        if missing:
            raise refuse(f"a point needs {' and '.join(missing)}", "a design, or all its parts")
        return {**parts, "sets": tuple(own)}

    def _design(self, name: Scalar | None) -> Design | None:
        if name is None:
            return None
        if str(name) not in self.designs:
            self.designs[str(name)] = load_design(str(name))
        return self.designs[str(name)]

    def _key(self, parts: dict[str, Any], machine: Architecture) -> Hashable:
        """What a bound mapping depends on: texts, sizes, choices, the fields that rules read."""
        read = load_mapping(parts["mapping"]).fields
        values = [
            getattr(part, field, None)
            for part in (*machine.levels, *machine.units)
            for field in sorted(read)
        ]
        sizes = tuple(parts["shape"].items()), parts.get("model"), parts.get("seq")
        chosen = tuple(parts["choose"].items())
        texts = parts["cascade"], parts["mapping"], machine.name
        return (*texts, *sizes, chosen, machine.word_bytes, *values)

    def _pricing(self, parts: dict[str, Any]) -> Pricing | InputError:
        try:
            problem, mapping = self._bound(parts)
        except InputError as error:
            return error
        return Pricing(problem, mapping)

    def _bound(self, parts: dict[str, Any]) -> tuple[Problem, Mapping]:
        problem, _, mapping = bind(**{**parts, "shape": parts["shape"] or None})
        return problem, mapping

    def _figures(self, found: Estimate) -> dict[str, Any]:
        traffic, peaks = found.traffic_bytes, found.peak_bytes
        outermost = next(iter(traffic))
        row: dict[str, Any] = {
            "latency_s": found.latency_s,
            "energy_j": found.energy_j,
            "edp_js": found.latency_s * found.energy_j,
            "area_mm2": sum(found.area_by_m2.values()) * 1e6,
            "dram_bytes": traffic[outermost],
            "peak_bytes": sum(size for name, size in peaks.items() if name != outermost),
            "bound_by": found.bound_by,
        }
        row.update({f"traffic_bytes.{name}": size for name, size in traffic.items()})
        row.update({f"peak_bytes.{name}": size for name, size in peaks.items()})
        row.update({f"utilisation.{name}": share for name, share in found.utilisation.items()})
        return row

    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Levels and units of all machines of the sweep.

        Reads every document once, so that a name that there is not, or an
        override of nothing, is bad input before anything is priced.
        """
        sweep, levels, units = self.sweep, dict[str, None](), dict[str, None]()
        seen: set[Hashable] = set()
        for point in (p for axis in range(len(sweep.axes)) for p in self._along(axis)):
            parts = self._parts(point)
            paths = tuple(text.partition("=")[0] for text in parts["sets"])
            texts = parts["cascade"], parts.get("mapping"), parts["arch"], paths
            if texts not in seen:
                seen.add(texts)
                if "mapping" in parts:
                    load_mapping(parts["mapping"])
                machine = load_architecture(parts["arch"], parts["sets"])
                levels.update(dict.fromkeys(machine.level))
                units.update(dict.fromkeys(machine.unit))
            sizes = parts.get("model"), parts.get("seq")
            if sizes not in seen:
                seen.add(sizes)
                workload(model=parts.get("model"), seq=parts.get("seq"), shape=parts["shape"])
        return tuple(levels), tuple(units)

    def _along(self, axis: int) -> list[dict[str, Scalar]]:
        """The points along one axis, all others at their first value."""
        first = self.sweep.point(0)
        own = self.sweep.axes[axis]
        return [{**first, **dict(zip(own.fields, values, strict=True))} for values in own.values]
