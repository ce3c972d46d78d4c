"""Keeping a program settled: maps written out, equal reductions one, nothing that is not needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from accelsim.analysis.rewrite.algebra import of, times
from accelsim.analysis.rewrite.forms import Atom, Sum
from accelsim.analysis.rewrite.indices import plain_variables, renamed
from accelsim.analysis.rewrite.normal import replaced
from accelsim.analysis.rewrite.program import Def, Program, atom_of
from accelsim.ir.cascade import Access, Size, rank_of

#: Maps are not written out in what would get longer than this, in letters of its key.
LONGEST: Final = 2000


def changed(
    program: Program,
    defs: Iterable[Def],
    gone: Iterable[str] = (),
    said: str = "",
    **fields: Any,
) -> Program:
    """The program with definitions added, replaced and gone, and settled again."""
    return settled(with_defs(program, defs, gone, said, **fields))


def with_defs(
    program: Program,
    defs: Iterable[Def],
    gone: Iterable[str] = (),
    said: str = "",
    **fields: Any,
) -> Program:
    """The program with definitions added, replaced and gone, not settled yet."""
    found = {n: d for n, d in program.defs.items() if n not in set(gone)}
    found |= {d.name: d for d in defs}
    log = (*program.log, said) if said else program.log
    names = program.names | set(program.defs) | set(found)
    return replace(program, defs=found, log=log, names=names, **fields)


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


def _written_out(program: Program) -> Program:
    """Maps written out where they are read at plain variables, unless that gets too long."""
    maps: dict[str, Def] = {}

    def by(atom: Atom) -> Sum | None:
        access = atom.expr
        if not isinstance(access, Access) or access.tensor not in maps:
            return None
        d, at = maps[access.tensor], plain_variables(access)
        return None if at is None else renamed(d.body, dict(zip(d.out, at, strict=True)))

    def written(d: Def) -> Def:
        if not any(a.tensor in maps for a in d.body.reads):
            return d
        body = replaced(d.body, by)
        return replace(d, body=body) if len(body.key) <= LONGEST else d

    defs: dict[str, Def] = {}
    for d in program.defs.values():
        new = written(d)
        long = new is d and any(a.tensor in maps and a.tensor != d.name for a in d.body.reads)
        new = replace(new, closed=True) if long and d.is_map else new
        defs[d.name] = new
        if new.is_map:
            maps[d.name] = new
    return replace(program, defs=defs, phrases=tuple(map(written, program.phrases)))


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
    needs = {n: sorted({a.tensor for a in d.reads}) for n, d in defs.items()}
    return {n: defs[n] for n in sources_first(needs, needs)}


def sources_first(names: Iterable[str], needs: Mapping[str, Iterable[str]]) -> list[str]:
    """The names that have needs, each after those that it needs, and otherwise where first met.

    >>> sources_first(["a", "b"], {"a": ["c"], "b": [], "c": ["b"]})
    ['b', 'c', 'a']
    """
    found: dict[str, None] = {}
    begun: set[str] = set()
    for first in names:
        path = [(first, iter(needs.get(first, ())))]
        begun.add(first)
        while path:
            name, left = path[-1]
            new = next((n for n in left if n in needs and n not in begun), None)
            if new is not None:
                begun.add(new)
                path.append((new, iter(needs[new])))
            else:
                found[name] = None
                path.pop()
    return list(found)
