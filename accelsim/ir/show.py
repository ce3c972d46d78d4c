"""The canonical text of a cascade: loading it gives an equal cascade again.

What the loader adds is left out again where it would add the same: an
implicit sum is not written.  Affine indices over a split rank stay in their
parts (``m1*M0+m0``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Final

from accelsim.ir.cascade import (
    Access,
    Cascade,
    Condition,
    Const,
    Coordinate,
    Einsum,
    Either,
    Expr,
    Index,
    Last,
    Position,
    Reduction,
    Size,
    Storage,
    Threshold,
)
from accelsim.ir.ops import MAPS

#: Text that YAML reads back as the same text without quotes.
_PLAIN: Final = re.compile(
    r"(?!(?:null|true|false)\Z)[A-Za-z](?:[\w .,;()/+*=&<>'\-\[\]]*[\w.)\]])?", re.I
)
#: A key of YAML longer than this needs quotes, and ``A = B :: max(m)`` looks like a key.
_LONGEST_KEY: Final = 1000
_ATOM: Final = 9


def show(cascade: Cascade) -> str:
    """The cascade as a YAML document.

    >>> from accelsim.ir.cascade import Index, Tensor
    >>> q = Access("Q", (Index((("p", 1),)), Index((("e", 1),))))
    >>> s = Einsum(Access("S", (Index((("p", 1),)),)), q, (Reduction("sum", ("e",)),))
    >>> print(show(Cascade("rows", ("P", "E"), (Tensor("Q", ("P", "E")),), (s,), ("S",))), end="")
    cascade: rows
    ranks: [P, E]
    inputs: {Q: [P, E]}
    output: S
    einsums:
      - S[p] = Q[p,e]
    """
    c = cascade
    lines = [f"cascade: {_scalar(c.name)}"]
    said = (("source", c.source), ("about", c.about), ("family", c.family))
    lines += [f"{key}: {_scalar(value)}" for key, value in said if value]
    lines.append(f"ranks: {_list(c.ranks)}")
    if c.splits:
        lines.append(f"split: {_mapping((r, _list(parts)) for r, parts in c.splits)}")
    if c.constants:
        lines.append(f"constants: {_mapping((n, _constant(v)) for n, v in c.constants)}")
    lines.append(f"inputs: {_mapping((t.name, _list(t.ranks)) for t in c.inputs)}")
    if c.indexes:
        lines.append(f"indexes: {_mapping((t, _word(r)) for t, r in c.indexes)}")
    if len(c.outputs) == 1:
        lines.append(f"output: {_scalar(c.outputs[0])}")
    else:
        lines.append(f"outputs: {_list(c.outputs)}")
    if c.equals:
        lines.append(f"equals: {_scalar(c.equals)}")
    if c.formats:
        lines.append(f"formats: {_mapping((s.tensor, _storage(s)) for s in c.formats)}")
    if c.densities:
        lines.append("density:")
        for d in c.densities:
            source = _inside(_scalar(d.source))
            lines.append(
                f"  {_word(d.tensor)}: {{value: {show_number(d.value)}, source: {source}}}"
            )
    lines.append("einsums:")
    lines += ["  - " + _item(show_einsum(e)) for e in c.einsums]
    return "\n".join(lines) + "\n"


def show_einsum(einsum: Einsum) -> str:
    """One Einsum as text, its last sum left implicit where the loader would add the same.

    Beside a reduction that is no sum it is named: the order counts.

    >>> from accelsim.ir.cascade import Index
    >>> m = Index((("m", 1),))
    >>> show_einsum(Einsum(Access("G"), Access("S", (m,)), (Reduction("max", ("m",)),)))
    'G = S[m] :: max(m)'
    """
    reductions = list(einsum.reductions)
    sums = all(r.op == "sum" for r in reductions)
    if reductions and sums and reductions[-1] == _implicit(einsum, reductions[:-1]):
        reductions.pop()
    text = f"{show_access(einsum.output)} = {show_expr(einsum.expr)}"
    if reductions:
        text += " :: " + ", ".join(_reduction(r) for r in reductions)
    if einsum.where:
        text += " where " + " and ".join(show_condition(c) for c in einsum.where)
    return text


def _implicit(einsum: Einsum, named: Iterable[Reduction]) -> Reduction:
    """The sum that is understood beside the named reductions."""
    kept = {*einsum.output.variables, *(v for r in named for v in r.over)}
    return Reduction("sum", tuple(v for v in einsum.variables if v not in kept))


def show_expr(expr: Expr) -> str:
    """An expression as text, with only the parentheses that it needs."""
    return _bound(expr)[0]


def _bound(expr: Expr) -> tuple[str, int]:
    """Text of an expression, and how strongly its outermost operation binds."""
    match expr:
        case Access():
            return show_access(expr), _ATOM
        case Size():
            return expr.rank, _ATOM
        case Coordinate():
            return expr.variable, _ATOM
        case Const():
            return expr.name or show_number(expr.value), _ATOM
    operation = MAPS[expr.op]
    if operation.symbol and len(expr.args) == 2:
        strength = operation.binding
        left, right = (_bound(a) for a in expr.args)
        first = left[0] if left[1] >= strength else f"({left[0]})"
        second = right[0] if right[1] > strength else f"({right[0]})"
        return f"{first} {operation.symbol} {second}", strength
    inner = expr.args[0]
    if operation.symbol and not (isinstance(inner, Const) and not inner.name):
        text, strength = _bound(inner)
        text = text if strength >= operation.binding else f"({text})"
        return operation.symbol + text, operation.binding
    return f"{expr.op}({', '.join(show_expr(a) for a in expr.args)})", _ATOM


def show_number(value: float) -> str:
    """A number as the grammar reads it: ``inf``, ``-2``, ``1e-5``.

    >>> show_number(-math.inf), show_number(2.0), show_number(1e-05), show_number(0.125)
    ('-inf', '2', '1e-5', '0.125')
    """
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value)) if value or math.copysign(1, value) > 0 else "-0"
    mantissa, e, exponent = repr(value).partition("e")
    return mantissa.removesuffix(".0") + (f"e{int(exponent)}" if e else "")


def _constant(value: float) -> str:
    """A number as YAML reads it."""
    text = show_number(value)
    if text == "-0":  # which YAML takes for a whole number, and so for 0
        return "-0.0"
    return text.replace("inf", ".inf").replace("nan", ".nan")


def show_access(access: Access) -> str:
    """An access; a scalar tensor is its name alone."""
    if not access.indices:
        return access.tensor
    return f"{access.tensor}[{','.join(map(_at, access.indices))}]"


def _at(position: Position) -> str:
    """A position of an access, where the name of a rank alone would be its last slot."""
    text = show_position(position)
    return text + "+0" if isinstance(position, Index) and text.isupper() else text


def _called(access: Access) -> str:
    """An access where a name alone would be something else: a scalar tensor with its brackets."""
    return show_access(access) if access.indices else f"{access.tensor}[]"


def show_position(position: Position) -> str:
    """One index as text.

    >>> from accelsim.ir.cascade import Index
    >>> show_position(Index((("p", 1), ("w", 2)), -1, 1, "clamp"))
    'clamp(p+2*w-1)'
    >>> show_position(Index((("h", 1),), 0, "G")), show_position(Last("M1"))
    ('h // G', 'M1')
    """
    if isinstance(position, Access):
        return show_access(position)
    if isinstance(position, Last):
        return position.rank
    text = ""
    if position.border == "window":
        centre = Index(position.terms[:-1], position.offset, sizes=position.sizes)
        return f"window({show_position(centre)},{show_position(Index(position.terms[-1:]))})"
    for variable, factor in position.terms:
        if isinstance(factor, str):
            text += f"{'-' if factor[:1] == '-' else '+'}{variable}*{factor.removeprefix('-')}"
        elif abs(factor) == 1:
            text += f"{'+' if factor > 0 else '-'}{variable}"
        else:
            text += f"{factor:+d}*{variable}"
    for rank, factor in position.sizes:
        count = "" if abs(factor) == 1 else f"{abs(factor)}*"
        text += f"{'+' if factor > 0 else '-'}{count}{rank}"
    if position.offset or not text:
        text += f"{position.offset:+d}"
    text = text.removeprefix("+")
    if position.divisor != 1:
        parts = len(position.terms) + len(position.sizes) + bool(position.offset)
        lone = parts <= 1 and not text.startswith("-")
        text = f"{text if lone else f'({text})'} // {position.divisor}"
    return f"{position.border}({text})" if position.border else text


def _reduction(reduction: Reduction) -> str:
    """``max(m)``, ``topk(j -> r)``, or ``topp(j -> r, 0.9)``."""
    into = f" -> {reduction.into}" if reduction.into else ""
    if reduction.reach is not None:
        into += f", {show_expr(reduction.reach)}"
    return f"{reduction.op}({', '.join(reduction.over)}{into})"


def show_condition(condition: Condition) -> str:
    """One condition of ``where``."""
    if isinstance(condition, Access):
        return show_access(condition)
    if isinstance(condition, Threshold):
        return f"{_called(condition.left)} {condition.relation} {show_expr(condition.right)}"
    if isinstance(condition, Either):
        every = (
            " and ".join(_called(c) if isinstance(c, Access) else show_condition(c) for c in one)
            for one in condition.alternatives
        )
        return f"({' or '.join(every)})"
    left, right = show_position(condition.left), show_position(condition.right)
    return f"{left} {condition.relation} {right}"


# -- YAML --------------------------------------------------------------------------------------


def _scalar(text: str) -> str:
    """A text, in quotes where YAML would read it as something else."""
    if _PLAIN.fullmatch(text) and text.isascii():
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub(
        "[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]", lambda m: f"\\u{ord(m[0]):04x}", quoted
    )


def _item(text: str) -> str:
    """An Einsum as an item of a list."""
    return text if len(text) < _LONGEST_KEY and text.isascii() else json.dumps(text)


def _list(names: Iterable[str]) -> str:
    """Names on one line."""
    return f"[{', '.join(_word(n) for n in names)}]"


def _storage(storage: Storage) -> str:
    """A format by its name, with the sizes that it is given in."""
    name = _inside(_scalar(storage.format.name))
    sizes = [
        ("format", name),
        *((n, _word(r) if isinstance(r, str) else str(r)) for n, r in storage.sizes),
    ]
    return _mapping(sizes) if storage.sizes else name


def _inside(text: str) -> str:
    """A scalar within brackets, where commas and brackets have a meaning."""
    return text if text.startswith('"') or not set(text) & set(",[]{}") else json.dumps(text)


def _mapping(entries: Iterable[tuple[str, str]]) -> str:
    """Entries on one line."""
    return f"{{{', '.join(f'{_word(key)}: {value}' for key, value in entries)}}}"


def _word(name: str) -> str:
    """A name within brackets, where more characters have a meaning."""
    return name if re.fullmatch(r"\w+", name) and _scalar(name) == name else json.dumps(name)
