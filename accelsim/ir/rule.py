"""Rules: small arithmetic expressions in mapping files, such as ``largest_divisor(P / P0, n)``.

A rule is Python's expression syntax cut down to numbers, strings, names,
``name.field``, arithmetic, comparisons, ``and or not``, ``a if c else b`` and
the functions of ``FUNCTIONS``.  Nothing else is parsed, so a rule cannot do
anything but compute.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any, TypeAlias

from accelsim.errors import Fault, InputError, Place, one_of

Value: TypeAlias = int | float | str | bool

#: Divisors of larger numbers are not looked for: that takes their square root's time.
LARGEST = 10**12
#: A value as large as this counts as infinite.
MOST = 10**300


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
    if n < 1 or n != int(n):
        return 0
    if n > LARGEST:
        raise ValueError(f"{n} is too large to look for divisors")
    return max((d for d in divisors(int(n)) if d <= limit), default=0)


def ceil_div(a: float, b: float) -> int:
    """``a / b`` rounded up, exactly for integers.

    >>> ceil_div(7, 2)
    4
    """
    return -int(-a // b)


def shown(value: Value | None) -> str:
    """A value in a message.

    >>> shown(8 / 3), shown("output")
    ('2.66667', 'output')
    """
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def multiples_near(size: Value | None, unit: int) -> str:
    """The multiples of ``unit`` next to a size, for a message; empty where any size is one.

    >>> multiples_near(8, 3)
    'a multiple of 3, as 6 or 9'
    """
    if not isinstance(size, int) or unit <= 1:
        return ""
    low = size // unit * unit
    return f"a multiple of {unit}, as " + " or ".join(str(n) for n in (low, low + unit) if n)


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "min": min,
    "max": max,
    "floor": math.floor,
    "ceil": math.ceil,
    "ceil_div": ceil_div,
    "gcd": math.gcd,
    "log2": math.log2,
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
    operands: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    place: Place = field(default=Place(), compare=False, repr=False)

    def value(self, scope: Mapping[str, Any]) -> Value:
        """The rule's value with the names of ``scope``.

        Raises InputError for an unknown name or field, a division by zero,
        operands that do not go together, or a value that is no finite number
        and no word.

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
        words = sorted(n for n in self.operands if isinstance(scope.get(n), str))
        if words:
            raise InputError(
                [Fault(self.place, f"'{n}' is a word in the rule '{self.text}'", "a number there")
                 for n in words]
            )  # fmt: skip
        try:
            found: Value = eval(self.code, {"__builtins__": {}, **FUNCTIONS}, scope)
        except AttributeError as error:
            raise InputError(
                [Fault(self.place, f"no field '{error.name}' in the rule '{self.text}'")]
            ) from None
        except ZeroDivisionError:
            raise self._without_value("a division by zero") from None
        except TypeError:
            raise self._without_value("what it combines does not go together") from None
        except (ArithmeticError, ValueError) as error:
            raise self._without_value(str(error)) from None
        if isinstance(found, float) and found.is_integer() and abs(found) < 2**53:
            return int(found)
        if not isinstance(found, int | float | str):
            what = f"'{self.text}' is no number and no word"
            raise InputError([Fault(self.place, what, "a field of it, as buffer.capacity")])
        if not isinstance(found, str) and not abs(found) < MOST:
            raise InputError([Fault(self.place, f"the rule '{self.text}' has no finite value")])
        return found

    def _without_value(self, why: str) -> InputError:
        return InputError([Fault(self.place, f"the rule '{self.text}' has no value: {why}")])


def _operands(tree: ast.AST) -> Iterator[ast.Name | ast.Constant]:
    """Names and quoted words that an expression calculates with, not only compares or chooses."""
    open_: list[tuple[ast.AST, bool]] = [(tree, False)]
    while open_:
        node, inside = open_.pop()
        if inside and isinstance(node, ast.Name | ast.Constant):
            yield node
        inside = (inside or isinstance(node, ast.BinOp | ast.UnaryOp)) and not isinstance(
            node, ast.Compare | ast.Attribute
        )
        open_ += [(child, inside) for child in ast.iter_child_nodes(node)]


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why a text is no rule, and at which of its columns."""

    reason: str
    column: int


@lru_cache(maxsize=4096)
def _compiled(text: str) -> tuple[CodeType, frozenset[str], frozenset[str]] | _Refused:
    """Code, names and operands of a rule's text."""
    try:
        with warnings.catch_warnings():  # of things like "0if 1"
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval")
            code = compile(tree, "<rule>", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or "cannot be read"
        return _Refused(reason, getattr(error, "offset", 1) or len(text) + 1)
    names = set()
    for node in ast.walk(tree):
        column = getattr(node, "col_offset", 0) + 1
        if not isinstance(node, _NODES):
            return _Refused(f"{type(node).__name__} has no meaning in a rule", column)
        if isinstance(node, ast.Name):
            names.add(node.id)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            return _Refused(f"no field '{node.attr}'", column)
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
            return _Refused("only numbers and quoted words are constants", column)
        if isinstance(node, ast.Call) and (
            not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords
        ):
            return _Refused(f"unknown function; functions are {one_of(FUNCTIONS)}", column)
    operands = list(_operands(tree))
    for word in operands:
        if isinstance(word, ast.Constant) and isinstance(word.value, str):
            return _Refused("a quoted word is no number", word.col_offset + 1)
    calculated = frozenset(n.id for n in operands if isinstance(n, ast.Name))
    return code, frozenset(names), calculated - set(FUNCTIONS)


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
    parsed = _compiled(source.strip())
    if isinstance(parsed, _Refused):
        place = where.moved(parsed.column - 1)
        raise InputError(
            [Fault(place, f"the rule '{source}' is not valid: {parsed.reason}", _ALLOWED)]
        )
    code, names, operands = parsed
    return Rule(source, names, code, operands, where)
