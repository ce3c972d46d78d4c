"""The one table of operations: arity, work class, identity, text form and NumPy meaning.

NumPy is named here by function name only, so that this module imports nothing
heavy; ``ir.reference`` looks the names up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    ``work`` is the class that machines price (a machine without the class
    falls back on ``fallback``); ``numpy`` names the NumPy function, or a
    function of ``ir.reference`` where NumPy has none; ``symbol`` is the infix
    form and ``binding`` its strength.
    """

    name: str
    arity: int
    work: str
    numpy: str
    symbol: str = ""
    binding: int = 0
    fallback: str = ""


MAPS: dict[str, Operation] = {
    o.name: o
    for o in (
        Operation("add", 2, "add", "add", "+", 1),
        Operation("sub", 2, "add", "subtract", "-", 1),
        Operation("mul", 2, "mul", "multiply", "*", 2, "mac"),
        Operation("div", 2, "div", "divide", "/", 2),
        Operation("neg", 1, "add", "negative", "-", 3),
        Operation("exp", 1, "exp", "exp"),
        Operation("log", 1, "log", "log"),
        Operation("sqrt", 1, "sqrt", "sqrt"),
        Operation("rsqrt", 1, "sqrt", "rsqrt"),
        Operation("reciprocal", 1, "div", "reciprocal"),
        Operation("sigmoid", 1, "exp", "sigmoid"),
        Operation("tanh", 1, "exp", "tanh"),
        Operation("square", 1, "mul", "square", fallback="mac"),
        Operation("pow", 2, "exp", "power"),
        Operation("abs", 1, "max", "abs"),
        Operation("relu", 1, "max", "relu"),
        Operation("silu", 1, "exp", "silu"),
        Operation("max", 2, "max", "maximum"),
        Operation("min", 2, "max", "minimum"),
        Operation("round", 1, "round", "rint"),
        Operation("floor", 1, "round", "floor"),
        Operation("clip", 3, "max", "clip"),
        Operation("select", 3, "select", "where"),
        Operation("less", 2, "max", "less"),
        Operation("equal", 2, "max", "equal"),
        Operation("sign", 1, "max", "sign"),
        Operation("mod", 2, "round", "mod"),
        Operation("elu", 1, "exp", "elu"),
        Operation("gelu", 1, "exp", "gelu"),
        Operation("softplus", 1, "exp", "softplus"),
        Operation("sin", 1, "exp", "sin"),
        Operation("cos", 1, "exp", "cos"),
        Operation("quant", 3, "round", "quant"),
        Operation("uquant", 3, "round", "uquant"),
        Operation("dequant", 2, "mul", "multiply", fallback="mac"),
    )
}


@dataclass(frozen=True, slots=True)
class Reducer:
    """One reduction: its work class, its identity element and its NumPy meaning.

    ``selects``: it lists the indices of what it chooses along a variable of
    its own (``topk(j -> r)``); ``reaches``: up to a given sum.
    """

    name: str
    work: str
    identity: float
    numpy: str
    selects: bool = False
    reaches: bool = False


REDUCTIONS: dict[str, Reducer] = {
    r.name: r
    for r in (
        Reducer("sum", "add", 0.0, "sum"),
        Reducer("prod", "mul", 1.0, "prod"),
        Reducer("max", "max", -math.inf, "max"),
        Reducer("min", "max", math.inf, "min"),
        Reducer("argmax", "max", -math.inf, "argmax"),
        Reducer("topk", "topk", -math.inf, "chosen", selects=True),
        Reducer("topp", "topk", -math.inf, "chosen", selects=True, reaches=True),
    )
}

#: Work classes that a machine may price.  ``mac`` is a product that is summed, ``topk`` an element
#: looked at by a selection (at least one comparison; an engine that needs more states its rate).
WORK_CLASSES: tuple[str, ...] = tuple(
    sorted({"mac"} | {o.work for o in MAPS.values()} | {r.work for r in REDUCTIONS.values()})
)
#: Class that stands in where a unit does not price one: a lone product runs on a multiply-add unit,
#: a selection on comparators, one comparison an element.
FALLBACK: dict[str, str] = {"mul": "mac", "topk": "max"}
