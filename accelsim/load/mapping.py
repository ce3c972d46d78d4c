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
from accelsim.ir.cascade import Cascade
from accelsim.ir.mapping import Loop, Mapping
from accelsim.ir.problem import Problem, relevant
from accelsim.ir.problem import bind as bind_problem
from accelsim.ir.rule import Rule, Value, multiples_near, rule, shown
from accelsim.load import catalog
from accelsim.load.choices import choices, table_of
from accelsim.load.mapping_text import GroupText, MappingText, Scalar
from accelsim.load.placing import Parts, Placer, Step
from accelsim.load.source import Document, read, salvage, told_once

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
        self.own: list[Parts] = []  # of each group

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
        imperfect = [name for name in text.imperfect if name in dict(self.cascade.splits)]
        problem = bind_problem(self.cascade, relevant(self.cascade, sizes), imperfect=imperfect)
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
        placer = Placer(self.source.document, self.cascade, self.arch, self.scope, self.faults)
        groups = tuple(
            placer.group(g, ("groups", i), parts, self.own[i]) for i, g in enumerate(text.groups)
        )
        for name, reads in self.cascade.operands.items():
            if reads and name not in placer.placed:
                self.fault(("groups",), f"{name} is placed nowhere")
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
        used = {rank for box in self.cascade.boxes.values() for rank in box}
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
        own = dict(self.cascade.splits) if text is self.source.text else {}
        for i, name in enumerate(text.imperfect):
            if name not in splits and name not in own:
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
