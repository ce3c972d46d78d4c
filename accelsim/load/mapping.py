"""Mapping files: rules in YAML, bound to a problem and a machine as an ``ir.mapping.Mapping``.

A file states tile sizes as rules over rank sizes and the machine's fields, so
that one file serves every model, length and machine.  ``bind`` computes the
rules, checks that splits divide and that every Einsum is placed once with all
of its ranks, and returns plain numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence, Set
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from accelsim.errors import Fault, InputError, one_of, refuse
from accelsim.ir.arch import Architecture
from accelsim.ir.cascade import Cascade, rank_of
from accelsim.ir.mapping import Group, Hold, Leaf, Loop, Mapping, Node, Stage, Stall, Tree
from accelsim.ir.problem import Problem, relevant
from accelsim.ir.problem import bind as bind_problem
from accelsim.ir.rule import Rule, Value, multiples_near, rule, shown
from accelsim.load import catalog
from accelsim.load.choices import choices, table_of
from accelsim.load.mapping_text import (
    GroupText,
    HoldText,
    LeafText,
    MappingText,
    NodeText,
    Scalar,
    StageText,
)
from accelsim.load.source import Document, read, salvage, told_once

Step = str | int
Parts = tuple[tuple[str, tuple[Loop, ...]], ...]
_FIELD = re.compile(r"\.\s*([a-z_][a-z_0-9]*)")


@dataclass(frozen=True)
class MappingRule:
    """A mapping file, read and parsed but not bound."""

    text: MappingText
    document: Document
    table: MappingType[tuple[Scalar, ...], dict[str, Scalar]]
    table_keys: tuple[str, ...]
    lets: tuple[tuple[str, Rule], ...]

    @cached_property
    def fields(self) -> frozenset[str]:
        """Names of the fields of machines that the file's rules may read (and maybe more names).

        A mapping bound for one machine is the same for another whose levels
        and units have the same values of these.

        >>> "bandwidth" in load_mapping("fusemax").fields, "rows" in load_mapping("fusemax").fields
        (False, True)
        """
        return frozenset(_FIELD.findall("\n".join(self.document.lines)))

    def bind(
        self,
        cascade: Cascade,
        sizes: MappingType[str, int],
        arch: Architecture,
        choose: MappingType[str, Scalar] | None = None,
    ) -> tuple[Problem, Mapping]:
        """The problem with all parts bound, and the mapping in plain numbers.

        ``choose`` overrides values of ``let``.  Raises InputError with every
        fault: rules without a value, splits that do not divide, unknown parts,
        levels, units or tensors, an Einsum that is placed twice or nowhere.
        """
        return _Binder(self, cascade, arch).bind(dict(sizes), choose or {})


def _rules(text: MappingText, document: Document) -> tuple[tuple[str, Rule], ...]:
    """The rules of ``let``, parsed."""
    found: list[tuple[str, Rule]] = []
    faults: list[Fault] = []
    for name, value in text.let.items():
        try:
            found.append((name, rule(value, document.place(("let", name)))))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return tuple(found)


class _Binder:
    """Binds one mapping file; collects faults."""

    def __init__(self, source: MappingRule, cascade: Cascade, arch: Architecture) -> None:
        self.source, self.cascade, self.arch = source, cascade, arch
        self.faults: list[Fault] = []
        self.scope: dict[str, Any] = {}
        self.extent: dict[str, int] = {}
        self.rank: dict[str, str] = {}
        self.own: list[Parts] = []  # of each group
        self.placed: dict[str, str] = {}

    def fault(self, path: Iterable[Step], message: str, allowed: str = "") -> None:
        self.faults.append(Fault(self.source.document.place(tuple(path)), message, allowed))

    def bind(
        self, sizes: dict[str, int], choose: MappingType[str, Scalar]
    ) -> tuple[Problem, Mapping]:
        text = self.source.text
        if text.cascade != self.cascade.name:
            self.fault(
                ("cascade",), f"the mapping is for {text.cascade}, not for {self.cascade.name}"
            )
            raise InputError(self.faults)
        values = self._values(sizes, choose)
        for name, rank in self.cascade.whole.items():
            if name != rank and isinstance(values.get(name), int):
                sizes.setdefault(name, values[name])  # type: ignore[arg-type]
        self._whole_numbers(sizes, values)
        problem = bind_problem(self.cascade, relevant(self.cascade, sizes))
        parts = self._parts(problem, values)
        if self.faults:
            raise InputError(self.faults)
        for i, group in enumerate(text.groups):
            if any(g.group == group.group for g in text.groups[:i]):
                self.fault(
                    ("groups", i, "group"), f"a second group '{group.group}'", "one name each"
                )
        if self.faults:
            raise InputError(self.faults)
        groups = tuple(
            self._group(g, ("groups", i), parts, self.own[i]) for i, g in enumerate(text.groups)
        )
        constant = {e.name for e in self.cascade.einsums if not e.reads}
        for einsum in self.cascade.einsums:
            if einsum.name not in self.placed and einsum.name not in constant:
                self.fault(("groups",), f"{einsum.name} is placed nowhere")
        if self.faults:
            raise InputError(self.faults)
        return problem, Mapping(
            text.mapping, groups, parts, tuple(values.items()), source=text.source
        )

    def _values(
        self, sizes: MappingType[str, int], choose: MappingType[str, Scalar]
    ) -> dict[str, Value]:
        arch, lets = self.arch, self.source.lets
        self.scope = {**arch.level, **arch.unit, **sizes, "word": arch.word_bytes}
        unknown = [n for n in choose if n not in dict(lets)]
        if unknown:
            raise refuse(
                f"the mapping {self.source.text.mapping} has no value '{unknown[0]}' to choose",
                one_of(dict(lets)),
            )
        known: dict[str, Scalar] = {**sizes, "arch": arch.name}
        key = tuple(known.get(k, "") for k in self.source.table_keys)
        absent = {n for _, text in lets for n in text.names if n in self.cascade.whole.values()}
        missing = sorted(absent - set(sizes) - set(dict(lets)))
        if missing:
            raise refuse(
                f"no size for rank{'s' * (len(missing) > 1)} {', '.join(missing)} of "
                f"{self.cascade.name}",
                ",".join(f"{rank}=..." for rank in missing) + ", or a model with a length",
            )
        given = {name: sizes[name] for name in dict(lets) if name in sizes}
        chosen: dict[str, Scalar] = {**self.source.table.get(key, {}), **given, **choose}
        values: dict[str, Value] = {}
        for name, text in lets:
            value = chosen[name] if name in chosen else text.value(self.scope)
            values[name] = self.scope[name] = value
        return values

    def _whole_numbers(self, sizes: MappingType[str, int], values: MappingType[str, Value]) -> None:
        splits = [*{**dict(self.cascade.splits), **self.source.text.split}.items()]
        splits += [own for group in self.source.text.groups for own in group.split.items()]
        for whole, parts in splits:
            for part in parts:
                value = values.get(part, sizes.get(part))
                if value is None or (isinstance(value, int) and value > 0):
                    continue
                given = {p: values.get(p, sizes.get(p)) for p in parts}
                known = ", ".join(f"{p} = {shown(v)}" for p, v in given.items())
                size = sizes.get(whole, values.get(whole))
                message = f"{whole} = {size} does not split into {known}"
                unit = math.prod(
                    v for p in parts if p != part and isinstance(v := values.get(p), int)
                )
                self.fault(("let", part), message, multiples_near(size, unit))
        if self.faults:
            raise InputError(self.faults)

    def _parts(self, problem: Problem, values: MappingType[str, Value]) -> Parts:
        used = {rank_of(v) for space in self.cascade.spaces.values() for v in space}
        found = self._cut(problem, values, used, self.source.text, ())
        for i, group in enumerate(self.source.text.groups):
            ranks = set(group.split)
            self.own.append(self._cut(problem, values, ranks, group, ("groups", i), used))
        return found

    def _cut(
        self,
        problem: Problem,
        values: MappingType[str, Value],
        ranks: Set[str],
        text: MappingText | GroupText,
        path: tuple[Step, ...],
        known: Set[str] | None = None,
    ) -> Parts:
        """The parts of some ranks as the mapping cuts them, or a group in a way of its own."""
        found, splits, used = [], text.split, ranks if known is None else known
        for name in splits:
            if name not in used:
                allowed = one_of(used)
                self.fault((*path, "split", name), f"{name} is no rank of the cascade", allowed)
        for i, name in enumerate(text.imperfect):
            if name not in splits:
                self.fault((*path, "imperfect", i), f"{name} is not split", one_of(splits))
        for name in sorted(ranks & used):
            size = problem.extent(name)
            parts = []
            for part in splits.get(name, [name]):
                value = values.get(part, size if part == name else None)
                if not isinstance(value, int):
                    allowed = f"let: {{{part}: ...}}"
                    self.fault((*path, "split", name), f"no rule for {part}", allowed)
                    continue
                parts.append(Loop(part, value))
            if len(parts) == len(splits.get(name, [name])):
                self._fits(name, parts, size, name in text.imperfect, (*path, "split", name))
            found.append((name, tuple(parts)))
        return tuple(found)

    def _fits(
        self, name: str, parts: Sequence[Loop], size: int, short: bool, path: tuple[Step, ...]
    ) -> None:
        """Fault parts that do not make up a rank; a short last tile may reach beyond its end."""
        product = math.prod(p.trips for p in parts)
        shown = " x ".join(f"{p.part} = {p.trips}" for p in parts)
        if not short:
            if product != size:
                self.fault(path, f"{shown} is {product}, but {name} is {size}")
            return
        first = next((p for p in parts if p.trips > 1), parts[0])
        tile = product // first.trips if product else 0
        if not product - tile < size <= product:
            trips = -(-size // tile) if tile else 1
            allowed = f"{first.part} = {trips}: tiles of {tile}, the last one short"
            self.fault(path, f"{shown} is {product}, but {name} is {size}", allowed)

    def _true(self, text: bool | str | None, path: Iterable[Step], default: bool) -> bool:
        if text is None:
            return default
        if isinstance(text, bool):
            return text
        return bool(rule(text, self.source.document.place(tuple(path))).value(self.scope))

    def _loops(self, names: Iterable[str], path: tuple[Step, ...]) -> tuple[Loop, ...]:
        loops = []
        for i, name in enumerate(names):
            if name not in self.extent:
                self.fault((*path, i), f"no part '{name}' of a rank", one_of(self.extent))
            else:
                loops.append(Loop(name, self.extent[name]))
        return tuple(loops)

    def _group(self, text: GroupText, path: tuple[Step, ...], parts: Parts, own: Parts) -> Group:
        cut = {**dict(parts), **dict(own)}
        self.extent = {p.part: p.trips for found in cut.values() for p in found}
        self.rank = {p.part: rank for rank, found in cut.items() for p in found}
        tree = self._node(text.nest, (*path, "nest"), (), {})
        run: dict[str, int] = {}
        stages = []
        for i, stage in enumerate(text.schedule):
            at = (*path, "schedule", i)
            for j, name in enumerate(stage.run):
                if self.placed.get(name) != text.group:
                    allowed = one_of(n for n, g in self.placed.items() if g == text.group)
                    self.fault((*at, "run", j), f"{name} is not placed in this group", allowed)
                if name in run:
                    self.fault((*at, "run", j), f"{name} runs in two stages", "one stage")
                run[name] = i
            stages.append(Stage(tuple(stage.run), self._stalls(stage, at, text.group)))
        for name, group in self.placed.items():
            if group == text.group and name not in run:
                self.fault((*path, "schedule"), f"{name} is in no stage of the schedule")
        return Group(text.group, tree, tuple(stages), own)

    def _stalls(self, stage: StageText, at: tuple[Step, ...], group: str) -> tuple[Stall, ...]:
        stalls = []
        for k, stall in enumerate(stage.stall):
            where = (*at, "stall", k, "times")
            times = rule(stall.times, self.source.document.place(where)).value(self.scope)
            if self.placed.get(stall.einsum) != group:
                allowed = one_of(n for n, g in self.placed.items() if g == group)
                message = f"{stall.einsum} is not placed in this group"
                self.fault((*at, "stall", k, "einsum"), message, allowed)
            if isinstance(times, str) or times < 0:
                self.fault(where, f"times is {times}", "a number, not negative")
                continue
            stalls.append(Stall(stall.einsum, float(times), stall.why))
        return tuple(stalls)

    def _node(
        self, text: NodeText, path: tuple[Step, ...], above: tuple[str, ...], held: dict[str, str]
    ) -> Node:
        """A node; ``held`` gives the level where an enclosing node holds a tensor."""
        loops = self._loops(text.for_, (*path, "for"))
        inside = (*above, *(loop.part for loop in loops))
        holds: list[Hold] = []
        for level, items in text.hold.items():
            if level not in self.arch.level:
                allowed = one_of(self.arch.level)
                self.fault((*path, "hold", level), f"no level '{level}' in the machine", allowed)
            for i, item in enumerate(items):
                one = self._hold(item, level, (*path, "hold", level, i))
                if one is not None:
                    self._nested(one, (*path, "hold", level, i), holds, held)
                    holds.append(one)
        held = {**held, **{h.tensor: h.level for h in holds if h.staged is None}}
        children: list[Tree] = []
        for i, child in enumerate(text.do):
            at = (*path, "do", i)
            if not self._true(child.when, (*at, "when"), True):
                continue
            if isinstance(child, LeafText):
                children.append(self._leaf(child, at, inside, str(path[1])))
            else:
                children.append(self._node(child, at, inside, held))
        return Node(loops, tuple(holds), tuple(children))

    def _nested(
        self, hold: Hold, path: tuple[Step, ...], beside: list[Hold], held: dict[str, str]
    ) -> None:
        """Refuse a tile that is held twice, or further out than the tile that it is cut from."""
        order = list(self.arch.level)
        if hold.staged is not None or hold.level not in order:
            return
        if hold.level == order[0]:
            self.fault(path, f"{hold.tensor} is held in {hold.level}, where it is anyway",
                       one_of(order[1:]))  # fmt: skip
        if any(h.tensor == hold.tensor and h.staged is None for h in beside):
            self.fault(path, f"{hold.tensor} is held twice", "once for each node")
        outer = held.get(hold.tensor)
        if outer in order and order.index(outer) > order.index(hold.level):
            self.fault(
                path,
                f"{hold.tensor} is held in {hold.level} inside a tile held in {outer}",
                one_of(order[order.index(outer) :]),
            )

    def _hold(self, item: str | HoldText, level: str, path: tuple[Step, ...]) -> Hold | None:
        text = item if isinstance(item, HoldText) else HoldText(tensor=item)
        if not self._true(text.when, (*path, "when"), True):
            return None
        tensors = self.cascade.tensors
        for name in (text.tensor, text.shares):
            if name and name not in tensors:
                self.fault(path, f"no tensor '{name}' in the cascade", one_of(tensors))
        staged = None
        if text.staged is not None:
            where = {k: self.source.document.place((*path, "staged", k)) for k in text.staged}
            extents = {k: rule(v, where[k]).value(self.scope) for k, v in text.staged.items()}
            for k, v in extents.items():
                if not isinstance(v, int) or v < 1:
                    self.fault((*path, "staged", k), f"{k} is {v}", "a positive whole number")
            staged = tuple((k, v) for k, v in extents.items() if isinstance(v, int))
        spill = self._true(text.spill, (*path, "spill"), False)
        place = self.source.document.place(path)
        copies = self._copies(text.copies, path)
        return Hold(text.tensor, level, copies, spill, text.shares, staged, place)

    def _copies(self, text: int | str, path: tuple[Step, ...]) -> int:
        """How many buffers a tile has: a number, or a rule for one."""
        place = self.source.document.place((*path, "copies"))
        value = rule(text, place).value(self.scope)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.faults.append(Fault(place, f"copies is {value}", "1, 2, 3, ..."))
            return 1
        return value

    def _leaf(
        self, text: LeafText, path: tuple[Step, ...], above: tuple[str, ...], group: str
    ) -> Leaf:
        steps = self.cascade.steps
        einsum = steps.get(text.einsum)
        place = self.source.document.place(path)
        own = self._loops(text.for_, (*path, "for"))
        rows = self._loops(text.rows, (*path, "rows"))
        cols = self._loops(text.cols, (*path, "cols"))
        leaf = Leaf(text.einsum, text.unit, own, rows, cols, place)
        if text.unit not in self.arch.unit:
            self.fault((*path, "unit"), f"no unit '{text.unit}' in the machine",
                       one_of(self.arch.unit))  # fmt: skip
        if einsum is None:
            self.fault((*path, "einsum"), f"no Einsum '{text.einsum}' in the cascade",
                       one_of(steps))  # fmt: skip
            return leaf
        if text.einsum in self.placed:
            self.fault((*path, "einsum"), f"{text.einsum} is placed twice", "one place")
        self.placed[text.einsum] = self.source.text.groups[int(group)].group
        inside = [*above, *(loop.part for loop in (*own, *rows, *cols))]
        ranks = {rank_of(v) for v in self.cascade.spaces[id(einsum)]}
        for name in dict.fromkeys(inside):
            if inside.count(name) > 1:
                self.fault(path, f"{text.einsum} runs twice over {name}", "once")
            if self.rank.get(name, "") not in ranks:
                self.fault(path, f"{text.einsum} has no rank {self.rank.get(name, name)}, "
                           f"but runs under a loop over {name}", one_of(ranks))  # fmt: skip
        for part, rank in self.rank.items():
            if rank in ranks and part not in inside:
                self.fault(path, f"{text.einsum} never runs over {part}", f"a loop over {part}")
        return leaf


def mapping_rule(document: Document, table: Document | None = None) -> MappingRule:
    """Parse a mapping and its table of choices; InputError tells every fault of form."""
    text, faults_of_form = salvage(document, MappingText)
    if text is None:
        raise InputError(faults_of_form)
    try:
        lets = _rules(text, document)
    except InputError as error:
        raise told_once(faults_of_form, error.faults) from None
    if faults_of_form:
        raise InputError(faults_of_form)
    if table is None:
        return MappingRule(text, document, {}, (), lets)
    rows, keys = choices(table, text.let)
    return MappingRule(text, document, rows, keys, lets)


def load_mapping(name: str | Path) -> MappingRule:
    """The mapping of a name or a file; cached until the file changes.

    >>> load_mapping("fusemax").text.cascade
    'attention-1pass'
    """
    path = catalog.find("mapping", name)
    return _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _loaded(path: Path, _changed: int) -> MappingRule:
    document = read(path)
    return mapping_rule(document, table_of(document, path))
