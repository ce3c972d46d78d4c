"""Keeping a program settled: maps written out, equal reductions one, nothing that is not needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from accelsim.analysis.rewrite.algebra import Atom, Sum, of, times
from accelsim.analysis.rewrite.indices import plain_variables, renamed_access, with_accesses
from accelsim.analysis.rewrite.normal import reads, replaced
from accelsim.analysis.rewrite.program import Def, Program, atom_of
from accelsim.ir.cascade import Access, Size, rank_of


def changed(
    program: Program,
    defs: Iterable[Def],
    gone: Iterable[str] = (),
    said: str = "",
    **fields: Any,
) -> Program:
    """The program with definitions added, replaced and gone, and settled again."""
    found = {n: d for n, d in program.defs.items() if n not in set(gone)}
    found |= {d.name: d for d in defs}
    log = (*program.log, said) if said else program.log
    names = program.names | set(program.defs) | set(found)
    return settled(replace(program, defs=found, log=log, names=names, **fields))


def settled(program: Program) -> Program:
    """The program with maps written out in their readers, equal reductions one, dead ones gone."""
    while True:
        defs = {n: _simplified(d) for n, d in program.defs.items()}
        program = replace(program, defs=_ordered(defs))
        program = _one_for_equals(_written_out(program))
        if all(_simplified(d) is d for d in program.defs.values()):
            return _needed(program)


def _simplified(d: Def) -> Def:
    """A reduction over a variable that nothing carries is a multiple, or no reduction."""
    if not d.op:
        return d
    carried = d.body.variables.union(*(c.variables for c in d.where))
    absent = d.over - carried
    if not absent:
        return d
    body = d.body
    if d.op == "sum":
        body = times(body, *(of(Atom(Size(rank_of(v)), True)) for v in sorted(absent)))
    over = d.over - absent
    return replace(d, op=d.op if over else "", over=over, body=body)


def _is_map(d: Def | None) -> bool:
    return d is not None and d.is_map


def _written_out(program: Program) -> Program:
    """Maps written out where they are read at plain variables."""
    memo: dict[Access, Sum | None] = {}
    reading: set[str] = set()

    def by(atom: Atom) -> Sum | None:
        access = atom.expr
        if not isinstance(access, Access) or not _is_map(program.defs.get(access.tensor)):
            return None
        if access not in memo:
            memo[access] = None
            d, at = program.defs[access.tensor], plain_variables(access)
            if at is not None and access.tensor not in reading:
                reading.add(access.tensor)
                names = dict(zip(d.out, at, strict=True))
                memo[access] = renamed(replaced(d.body, by), names)
                reading.discard(access.tensor)
        return memo[access]

    def written(d: Def) -> Def:
        touched = any(_is_map(program.defs.get(a.tensor)) for a in reads(d.body))
        return replace(d, body=replaced(d.body, by)) if touched else d

    defs = {n: written(d) for n, d in program.defs.items()}
    phrases = tuple(written(d) for d in program.phrases)
    return replace(program, defs=defs, phrases=phrases)


def renamed(s: Sum, names: Mapping[str, str]) -> Sum | None:
    """A normal form with variables renamed; None where an index has no such form."""
    if all(v == w for v, w in names.items()):
        return s
    if any(renamed_access(a, names) is None for a in reads(s)):
        return None
    return with_accesses(s, lambda a: renamed_access(a, names) or a)


def _one_for_equals(program: Program) -> Program:
    """Reductions of equal bodies over the same points computed once."""
    first: dict[object, Def] = {}
    same: dict[str, Def] = {}
    for d in program.defs.values():
        if d.op:
            key = (d.op, d.over, d.body.key, d.where, frozenset(d.out))
            chosen = first.setdefault(key, d)
            if chosen is not d:
                same[d.name] = chosen
    if not same:
        return program
    defs = dict(program.defs)
    for name, chosen in same.items():
        d = defs[name]
        defs[name] = replace(d, op="", over=frozenset(), body=atom_of(chosen), where=d.domain)
    said = tuple(f"compute {n} once, as {c.name}" for n, c in same.items())
    return _written_out(replace(program, defs=defs, log=(*program.log, *said)))


def _needed(program: Program) -> Program:
    """Only what is kept, or is read on the way to it."""
    outputs = set(program.cascade.outputs)
    todo = [*outputs, *(a.tensor for e in program.fixed for a in e.reads)]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in seen and name in program.defs:
            seen.add(name)
            todo += [a.tensor for a in program.defs[name].reads]
    return replace(program, defs={n: d for n, d in program.defs.items() if n in seen})


def _ordered(defs: Mapping[str, Def]) -> dict[str, Def]:
    """Definitions, each after those that it reads."""
    found: dict[str, Def] = {}
    begun: set[str] = set()

    def visit(d: Def) -> None:
        if d.name in begun:
            return
        begun.add(d.name)
        for tensor in sorted({a.tensor for a in d.reads}):
            if tensor in defs:
                visit(defs[tensor])
        found[d.name] = d

    for d in defs.values():
        visit(d)
    return found
