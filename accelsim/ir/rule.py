"""Rules: small arithmetic expressions in mapping files, such as ``largest_divisor(P / P0, n)``.

A rule is Python's expression syntax cut down to numbers, strings, names,
``name.field``, arithmetic, comparisons, ``and or not``, ``a if c else b`` and
the functions of ``FUNCTIONS``.  Nothing else is parsed, so a rule cannot do
anything but compute.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any, TypeAlias

from accelsim.errors import Fault, InputError, Place, one_of

Value: TypeAlias = int | float | str | bool


def divisors(n: int) -> list[int]:
    """All divisors of ``n`` in rising order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    low = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return low + [n // d for d in reversed(low) if d * d != n]


def largest_divisor(n: float, limit: float) -> int:
    """The largest divisor of ``n`` that is at most ``limit``; 0 where there is none.

    >>> largest_divisor(48, 13)
    12
    """
    if n != int(n) or n < 1:
        return 0
    return max((d for d in divisors(int(n)) if d <= limit), default=0)


def ceil_div(a: float, b: float) -> int:
    """``a / b`` rounded up, exactly for integers.

    >>> ceil_div(7, 2)
    4
    """
    return -int(-a // b)


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "min": min,
    "max": max,
    "floor": math.floor,
    "ceil": math.ceil,
    "ceil_div": ceil_div,
    "gcd": math.gcd,
    "largest_divisor": largest_divisor,
}

_NODES = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Attribute, ast.BinOp, ast.UnaryOp,
    ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.Add, ast.Sub, ast.Mult, ast.Div,
    ast.FloorDiv, ast.Mod, ast.USub, ast.Not, ast.And, ast.Or, ast.Eq, ast.NotEq,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip

_ALLOWED = "numbers, names, name.field, + - * / // %, comparisons, and or not, a if c else b"


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule: its text, the names it needs, and where it stands."""

    text: str
    names: frozenset[str]
    code: CodeType = field(repr=False, compare=False)
    place: Place = field(default=Place(), compare=False, repr=False)

    def value(self, scope: Mapping[str, Any]) -> Value:
        """The rule's value with the names of ``scope``.

        Raises InputError for an unknown name or field, a division by zero, or
        operands that do not go together.

        >>> rule("P // 4 + 1").value({"P": 8})
        3
        """
        missing = sorted(n for n in self.names if n not in scope and n not in FUNCTIONS)
        if missing:
            known = one_of(k for k in scope if not k.startswith("_"))
            raise InputError(
                [Fault(self.place, f"unknown name '{n}' in the rule '{self.text}'", known)
                 for n in missing]
            )  # fmt: skip
        try:
            found: Value = eval(self.code, {"__builtins__": {}, **FUNCTIONS}, scope)
        except AttributeError as error:
            raise InputError(
                [Fault(self.place, f"no field '{error.name}' in the rule '{self.text}'")]
            ) from None
        except (ArithmeticError, TypeError, ValueError) as error:
            raise InputError(
                [Fault(self.place, f"the rule '{self.text}' has no value: {error}")]
            ) from None
        if isinstance(found, float) and found.is_integer() and abs(found) < 2**53:
            return int(found)
        return found


@lru_cache(maxsize=4096)
def _compiled(text: str) -> tuple[CodeType, frozenset[str]] | tuple[str, int]:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return (getattr(error, "msg", None) or "cannot be read"), getattr(error, "offset", 1) or 1
    names = set()
    for node in ast.walk(tree):
        column = getattr(node, "col_offset", 0) + 1
        if not isinstance(node, _NODES):
            return f"{type(node).__name__} has no meaning in a rule", column
        if isinstance(node, ast.Name):
            names.add(node.id)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            return f"no field '{node.attr}'", column
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
            return "only numbers and quoted words are constants", column
        if isinstance(node, ast.Call) and (
            not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords
        ):
            return f"unknown function; functions are {one_of(FUNCTIONS)}", column
    return compile(tree, "<rule>", "eval"), frozenset(names)


def rule(text: str | int | float, place: Place | None = None) -> Rule:
    """Parse a rule.  A number is a rule of itself.

    >>> sorted(rule("largest_divisor(P / P0, buffer.capacity)").names)
    ['P', 'P0', 'buffer', 'largest_divisor']
    >>> rule("import os")
    Traceback (most recent call last):
    ...
    accelsim.errors.InputError: <input>: the rule 'import os' is not valid: invalid syntax
      allowed: numbers, names, name.field, + - * / // %, comparisons, and or not, a if c else b
    """
    where, source = place or Place(), str(text)
    parsed = _compiled(source)
    if isinstance(parsed[0], str):
        column = int(parsed[1]) - 1 if not isinstance(parsed[1], frozenset) else 0
        raise InputError(
            [Fault(where.moved(column), f"the rule '{source}' is not valid: {parsed[0]}", _ALLOWED)]
        )
    assert isinstance(parsed[1], frozenset)
    return Rule(source, parsed[1], parsed[0], where)
