"""Whether a cascade says something: names, ranks, single assignment, recurrences.

All findings come back together, in no order (``InputError`` sorts them).
What one line of text can be wrong in by itself (its grammar, a function or an
index variable that does not exist) the loader finds; here is what lines mean
to one another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from accelsim.errors import Fault, InputError, Place, one_of
from accelsim.ir.assignment import Assignment, Declared, place_of, unknown
from accelsim.ir.cascade import (
    Access,
    Cascade,
    Compare,
    Const,
    Einsum,
    Expr,
    Index,
    Map,
    Reduction,
    Size,
    Threshold,
    rank_of,
    simple,
    variables,
)
from accelsim.ir.ops import REDUCTIONS


def check(cascade: Cascade) -> Cascade:
    """The cascade itself.  Raises ``InputError`` with every fault it has.

    >>> check(Cascade("empty", (), (), (), ("Y",)))
    Traceback (most recent call last):
    accelsim.errors.InputError: <input>: output Y is never written
    """
    found = list(faults(cascade))
    if found:
        raise InputError(found)
    return cascade


def faults(
    cascade: Cascade, declared: Declared | None = None, unread: Collection[str] = ()
) -> Iterator[Fault]:
    """Every fault of a cascade.

    ``declared`` places what is declared outside the Einsums.  Of the tensors
    ``unread``, which lines that could not be read may write or read, nothing
    is said.
    """
    where = declared or (lambda path: cascade.place)
    yield from _ranks(cascade, where)
    yield from _names(cascade, where)
    assignment = Assignment(cascade, frozenset(unread))
    for number, einsum in enumerate(cascade.einsums):
        yield from assignment.writes(number, einsum)
        yield from _left(cascade, einsum)
        yield from _reductions(einsum)
        yield from _sizes_known(cascade, einsum)
        for access in einsum.reads:
            yield from assignment.reads(number, access)
    yield from assignment.recurrences()
    yield from assignment.uses(where)


def _ranks(cascade: Cascade, where: Declared) -> Iterator[Fault]:
    """Faults of the declared ranks and their splits."""
    parts = [p for _, ps in cascade.splits for p in ps]
    for rank, count in Counter(cascade.ranks).items():
        if count > 1:
            yield Fault(where(("ranks",)), f"rank {rank} is declared {count} times", "once")
    for rank, its in cascade.splits:
        place = where(("split", rank))
        if rank not in cascade.ranks:
            yield Fault(place, f"a split of {rank}, which is no rank", one_of(cascade.ranks))
        if len(its) < 2:
            yield Fault(place, f"{rank} is split into {len(its)} part", "two parts or more")
        for part in dict.fromkeys(its):
            if part in cascade.ranks:
                yield Fault(place, f"{part} is a rank and a part of {rank}", "a name of its own")
            elif parts.count(part) > 1:
                yield Fault(place, f"{part} is a part {parts.count(part)} times", "one part once")


def _names(cascade: Cascade, where: Declared) -> Iterator[Fault]:
    """Faults of inputs, constants and outputs: what they are over, and names that mean two things.

    A tensor with indices may have the name of a rank: what stands alone is the rank.
    """
    ranks = {*cascade.ranks, *(p for _, ps in cascade.splits for p in ps)}
    for tensor in cascade.inputs:
        place = where(("inputs", tensor.name))
        for rank in tensor.ranks:
            if rank not in ranks:
                message = f"input {tensor.name} over {rank}, which is no rank"
                yield Fault(place, message, one_of(ranks))
        if not tensor.ranks and tensor.name in ranks:
            yield Fault(place, f"{tensor.name} is a scalar input and a rank", "a name of its own")
    inputs = {t.name for t in cascade.inputs}
    for name, _ in cascade.constants:
        if name in ranks | inputs:
            taken = "a rank" if name in ranks else "an input"
            message = f"{name} is a constant and {taken}"
            yield Fault(where(("constants", name)), message, "a name of its own")
    known = inputs | {e.output.tensor for e in cascade.einsums}
    for name, rank in cascade.indexes:
        if name not in known:
            yield Fault(where(("indexes", name)), f"unknown tensor {name}", one_of(known))
        if rank not in cascade.whole:
            message = f"{name} counts in {rank}, which is no rank of an index variable"
            yield Fault(where(("indexes", name)), message, one_of(cascade.whole))
    yield from _stored(cascade, where, known)
    yield from _grids(cascade)
    yield from _decided(cascade, where)
    for name, count in Counter(cascade.outputs).items():
        if count > 1:
            yield Fault(where(("outputs",)), f"output {name} is named {count} times", "once")


def _stored(cascade: Cascade, where: Declared, known: set[str]) -> Iterator[Fault]:
    """Faults of formats: of tensors that exist, in sizes that exist."""
    ranks = {*cascade.ranks, *cascade.whole}
    for storage in cascade.formats:
        place = where(("formats", storage.tensor))
        if storage.tensor not in known:
            yield Fault(place, f"unknown tensor {storage.tensor}", one_of(known))
        sizes = dict(storage.sizes)
        for name in sorted(sizes.keys() - set(storage.format.sizes)):
            message = f"format {storage.format.name} has no size {name}"
            yield Fault(place, message, one_of(storage.format.sizes) or "no sizes")
        for name in storage.format.sizes:
            if name not in sizes:
                message = f"format {storage.format.name} is given in {name}, which is not told"
                yield Fault(place, message, f"{name}: a rank or a number")
            elif isinstance(sizes[name], str) and sizes[name] not in ranks:
                yield Fault(place, f"{name} of {storage.tensor} is {sizes[name]}", one_of(ranks))


def _grids(cascade: Cascade) -> Iterator[Fault]:
    """Faults of tensors that are quantised to other bits than their format holds."""
    formats = {s.tensor: s.format for s in cascade.formats if s.format.form in ("", "planes")}
    for e in cascade.einsums:
        if not isinstance(e.expr, Map) or e.expr.op not in ("quant", "uquant"):
            continue
        name, wanted = e.output.tensor, e.expr.args[-1]
        held = sum(p.bits for p in formats[name].parts) if name in formats else None
        if held is not None and isinstance(wanted, Const) and wanted.value != held:
            message = f"{name} is written in {wanted.value:g} bits, its format holds {held:g}"
            yield Fault(e.place, message, f"{e.expr.op}(..., {held:g})")


def _decided(cascade: Cascade, where: Declared) -> Iterator[Fault]:
    """Faults of densities: of what data decides nothing about."""
    decided = {a.tensor for e in cascade.einsums for a in simple(e.where) if isinstance(a, Access)}
    for e in cascade.einsums:
        if e.selects or any(isinstance(c, Threshold) for c in simple(e.where)):
            decided.add(e.output.tensor)
    for density in cascade.densities:
        if density.tensor not in decided:
            message = f"a density of {density.tensor}, of which data decides nothing"
            allowed = one_of(decided) or "no density: there is no mask, threshold or selection"
            yield Fault(where(("density", density.tensor)), message, allowed)


def _right(einsum: Einsum) -> set[str]:
    """Every variable on the right, conditions included."""
    found = {v for one in (*einsum.reads, *einsum.where) for v in one.variables}
    return found.union(variables(einsum.expr))


def _left(cascade: Cascade, einsum: Einsum) -> Iterator[Fault]:
    """Faults of variables that are on the left alone, which only numbers may fill."""
    if not einsum.reads:
        return
    right = _right(einsum)
    right |= {einsum.selects} - {""}
    for index in einsum.output.indices:
        for variable in index.variables:
            if variable not in right and rank_of(variable) in cascade.whole:
                message = f"{variable} is on the left, but nothing on the right is over it"
                allowed = one_of(right) if right else "a number, to fill the tensor with"
                yield Fault(place_of(index, einsum.output), message, allowed)


def _reductions(einsum: Einsum) -> Iterator[Fault]:
    """Faults of reductions: what is reduced is on the right, not on the left, and once."""
    left, right = einsum.output.variables, _right(einsum)
    seen: set[str] = set()
    for reduction in einsum.reductions:
        place = _placed(reduction.place, einsum)
        called = f"{reduction.op}({', '.join(reduction.over)})"
        for variable in reduction.over:
            if variable in left:
                message = f"{called} is no reduction: {variable} is on the left"
            elif variable in seen:
                message = f"{variable} is reduced twice"
            elif variable not in right:
                message = f"{called} is no reduction: nothing on the right is over {variable}"
            else:
                seen.add(variable)
                continue
            yield Fault(place, message, one_of(right - set(left) - seen) or "no reduction")
        if reduction.op == "argmax" and len(reduction.over) > 1:
            yield Fault(place, f"{called} has no one index", f"{reduction.op} over one variable")
        if reduction.into:
            yield from _selection(einsum, reduction, place)


def _selection(einsum: Einsum, reduction: Reduction, place: Place) -> Iterator[Fault]:
    """Faults of a selection: it comes last, once, and lists the chosen along a rank of its own."""
    called = f"{reduction.op}({', '.join(reduction.over)} -> {reduction.into})"
    if reduction is not einsum.reductions[-1]:
        message = f"{called} is followed by {einsum.reductions[-1].op}: indices are not reduced"
        yield Fault(place, message, f"{called} last: name the sum before it")
    if reduction.into not in einsum.output.variables:
        yield Fault(
            place,
            f"{called} lists along {reduction.into}, which is not on the left",
            f"{reduction.into} in {einsum.output.tensor}[...]",
        )
    if reduction.into in _right(einsum):
        message = f"{called} lists along {reduction.into}, which is on the right"
        yield Fault(place, message, "a rank of its own for what is chosen")
    if not REDUCTIONS[reduction.op].selects:
        yield Fault(place, f"{reduction.op} selects nothing", one_of(_selectors()))


def _selectors() -> list[str]:
    """The reductions that select."""
    return [r.name for r in REDUCTIONS.values() if r.selects]


def _sizes_known(cascade: Cascade, einsum: Einsum) -> Iterator[Fault]:
    """Faults of conditions over no rank, and of sizes of what is no rank."""
    for condition in simple(einsum.where):
        for variable in condition.variables if isinstance(condition, Compare) else ():
            if rank_of(variable) not in cascade.whole:
                yield unknown(cascade, variable, _placed(condition.place, einsum))
    for rank in _sizes(einsum):
        if rank not in cascade.whole and rank not in cascade.ranks:
            yield Fault(einsum.place, f"unknown rank {rank}", one_of(cascade.whole))


def _placed(place: Place, einsum: Einsum) -> Place:
    """A place, or that of the Einsum where there is none."""
    return place if place.line else einsum.place


def _sizes(einsum: Einsum) -> Iterator[str]:
    """The ranks whose sizes an Einsum uses: as scalars, factors and divisors."""
    todo: list[Expr] = [einsum.expr]
    conditions = list(simple(einsum.where))
    todo += [c.right for c in conditions if isinstance(c, Threshold)]
    todo += [r.reach for r in einsum.reductions if r.reach is not None]
    while todo:
        expr = todo.pop()
        if isinstance(expr, Size):
            yield expr.rank
        elif isinstance(expr, Map):
            todo += expr.args
    indices = [i for a in (einsum.output, *einsum.reads) for i in a.indices]
    indices += [i for c in conditions if isinstance(c, Compare) for i in (c.left, c.right)]
    for index in indices:
        if isinstance(index, Index):
            yield from (c.removeprefix("-") for _, c in index.terms if isinstance(c, str))
            yield from (rank for rank, _ in index.sizes)
            if isinstance(index.divisor, str):
                yield index.divisor
