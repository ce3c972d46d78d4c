"""Mutants of a module: one small change each, such as ``<`` for ``<=`` or ``+`` for ``-``.

Changed is what a function computes.  Annotations, decorators, docstrings, texts, what is
raised, and code outside of functions are left as they are.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
#: What is not looked into.
CLOSED = (ast.Raise, ast.JoinedStr, ast.Assert)


@dataclass(frozen=True)
class Mutant:
    """A changed module: the function (a number, see ``functions``), the line, and the change."""

    function: int
    line: int
    change: str
    tree: ast.Module


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """The functions and methods of a module, in the order of the text; those inside others too."""
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    return sorted(found, key=lambda f: f.lineno)


def sites(tree: ast.Module) -> list[tuple[int, int]]:
    """Where a module can be changed: the position of a node in ``ast.walk``, and its function."""
    owner: dict[int, int] = {}
    for number, function in enumerate(functions(tree)):
        for statement in function.body:
            for node in _open(statement):
                owner[id(node)] = number  # of two functions the inner one, which comes later
    nodes = enumerate(ast.walk(tree))
    return [(n, owner[id(node)]) for n, node in nodes if id(node) in owner and _changes(node)]


def mutant(tree: ast.Module, site: tuple[int, int]) -> Mutant:
    """The module changed at a site."""
    changed = copy.deepcopy(tree)
    node = list(ast.walk(changed))[site[0]]
    line = getattr(node, "lineno", 0)
    told = _change(node)
    return Mutant(site[1], line, told, ast.fix_missing_locations(changed))


def _open(node: ast.AST) -> Iterator[ast.AST]:
    """A node and what is in it, without what is left as it is."""
    if isinstance(node, CLOSED) or _is_text(node):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and not isinstance(
            node, ast.Call
        ):
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, ast.AST):
                yield from _open(inner)


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changes(node: ast.AST) -> bool:
    """Whether there is a change for a node."""
    match node:
        case ast.Compare(ops=[op]):
            return type(op) in COMPARISONS
        case ast.BinOp(op=op, left=left) | ast.AugAssign(op=op, target=left):
            text = isinstance(left, ast.Constant | ast.JoinedStr) and not isinstance(
                getattr(left, "value", None), int | float
            )
            return type(op) in ARITHMETIC and not text
        case ast.BoolOp() | ast.Continue() | ast.Break() | ast.IfExp() | ast.If():
            return True
        case ast.UnaryOp(op=op):
            return isinstance(op, ast.Not | ast.USub)
        case ast.Constant(value=value):
            return isinstance(value, int | float)
        case ast.Call(func=ast.Name(id=name)):
            return name in CALLS
        case ast.Expr(value=ast.Call()):
            return True
    return False


def _change(node: ast.AST) -> str:
    """Change a node in place, and say how."""
    before = ast.unparse(node)
    match node:
        case ast.Compare():
            node.ops = [COMPARISONS[type(node.ops[0])]()]
        case ast.BinOp() | ast.AugAssign():
            node.op = ARITHMETIC[type(node.op)]()
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.IfExp() | ast.If():
            node.test = ast.UnaryOp(ast.Not(), node.test)
            before, node = ast.unparse(node.test.operand), node.test
        case ast.UnaryOp():
            node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
            if isinstance(node.op, ast.Not):
                node.operand = ast.UnaryOp(ast.Not(), node.operand)
        case ast.Constant():
            node.value = (not node.value) if isinstance(node.value, bool) else node.value + 1
        case ast.Call():
            assert isinstance(node.func, ast.Name)
            node.func.id = CALLS[node.func.id]
        case ast.Expr():
            node.value = ast.Constant(None)
        case ast.Continue() | ast.Break():
            return _leave(node, before)
    return f"{before}  ->  {ast.unparse(node)}"


def _leave(node: ast.AST, before: str) -> str:
    node.__class__ = ast.Break if isinstance(node, ast.Continue) else ast.Continue
    return f"{before}  ->  {ast.unparse(node)}"
