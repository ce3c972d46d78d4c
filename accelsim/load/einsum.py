"""One line of text to one ``Einsum``: the grammar of ``einsum.lark``, then what the names mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, TypeAlias

from lark import Token

from accelsim.errors import Fault, InputError, Place, one_of
from accelsim.ir.cascade import (
    Access,
    Compare,
    Condition,
    Const,
    Coordinate,
    Einsum,
    Either,
    Expr,
    Index,
    Last,
    Map,
    Position,
    Reduction,
    Size,
    Threshold,
    rank_of,
)
from accelsim.ir.ops import MAPS, REDUCTIONS
from accelsim.load import syntax
from accelsim.load.source import closest
from accelsim.load.syntax import At, leftmost

_BORDERS: Final = ("clamp", "window", "zero")

#: A tree or a token: the grammar says which stands where.
_Tree: TypeAlias = Any


@dataclass(frozen=True)
class Names:
    """The names that a cascade declares: ranks, how they are split, constants with their values."""

    ranks: Sequence[str]
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The ranks that index variables run over: parts of split ranks, and the unsplit ones."""
        return tuple(p for r in self.ranks for p in self.splits.get(r, (r,)))

    @cached_property
    def sizes(self) -> frozenset[str]:
        """The ranks that have a size: the declared ones and the parts."""
        return frozenset((*self.ranks, *self.parts))

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """Every index variable."""
        return tuple(p.lower() for p in self.parts)


def parse(text: str, names: Names, at: At | None = None) -> Einsum:
    """The Einsum that ``text`` says.  Raises ``InputError`` with every fault of the line.

    The implicit sum over variables that are absent on the left comes out as an
    explicit ``Reduction``, last.  Beside a reduction that is no sum it is
    refused: a maximum of sums is not the sum of maxima.

    >>> e = parse("QK[m,p] = Q[p,e] * K[m,e]", Names(("M", "P", "E")))
    >>> e.name, e.expr.op, e.reductions[0].over
    ('QK', 'mul', ('e',))
    """
    at = at or (lambda offset: Place("<einsum>", 1, offset + 1, text))
    tree = syntax.parse(text, at)
    lowering = _Lowering(names, at)
    einsum = lowering.einsum(tree)
    if lowering.faults:
        raise InputError(lowering.faults)
    return einsum


class _Lowering:
    """Trees to nouns, with the faults found on the way; a faulty part becomes a harmless one."""

    def __init__(self, names: Names, at: At) -> None:
        self.names, self.at = names, at
        self.faults: list[Fault] = []

    def fault(self, token: Token, message: str, allowed: str = "") -> None:
        """Note a fault at a token."""
        self.faults.append(Fault(self.place(token), message, allowed))

    def place(self, token: Token) -> Place:
        """Where a token stands in the document."""
        return self.at(token.start_pos or 0)

    def einsum(self, tree: _Tree) -> Einsum:
        """``start``: the whole Einsum, its implicit sum written out."""
        output, expr, reductions, conditions = tree.children
        left = self.tensor(output)
        right = self.expr(expr)
        named = [self.reduction(r) for r in reductions.children] if reductions else []
        where = tuple(self.condition(c) for c in conditions.children) if conditions else ()
        einsum = Einsum(left, right, tuple(named), where, left.place)
        kept = {*left.variables, *einsum.reduced}
        summed = tuple(v for v in einsum.variables if v not in kept)
        if summed:
            self.mixed(einsum, summed)
            named.append(Reduction("sum", summed, place=left.place))
        return Einsum(left, right, tuple(named), where, left.place)

    def mixed(self, einsum: Einsum, summed: tuple[str, ...]) -> None:
        """Note an implicit sum beside another reduction: the text does not say which is first."""
        other = next((r for r in einsum.reductions if r.op != "sum"), None)
        if other is None or self.faults:
            return
        over = ", ".join(summed)
        kept = ",".join(v for v in einsum.variables if v not in summed)
        left = f"{einsum.output.tensor}[{','.join(einsum.output.variables)}]".removesuffix("[]")
        called = ", ".join(f"{r.op}({', '.join(r.over)})" for r in einsum.reductions)
        message = f"{other.op} beside the implicit sum over {over}: which comes first is not said"
        allowed = f"two Einsums, SUM[{kept}] = ... and {left} = SUM[{kept}] :: {called}"
        self.faults.append(
            Fault(other.place, message, f"{allowed}; or in order, :: sum({over}), {called}")
        )

    # -- expressions ---------------------------------------------------------------------------

    def expr(self, tree: _Tree) -> Expr:
        """Any expression."""
        first = tree.children[0]
        match tree.data:
            case "access":
                return self.access(tree)
            case "number":
                return Const(self.number(first))
            case "bare":
                return self.bare(first)
            case "call":
                return self.call(first, tree.children[1:])
            case "neg":
                inner = self.expr(first)
                if isinstance(inner, Const) and not inner.name:
                    return Const(-inner.value)
                return Map("neg", (inner,))
        left, right = tree.children
        return Map(str(tree.data), (self.expr(left), self.expr(right)))

    def number(self, token: Token) -> float:
        """A number in an expression, which must be finite: infinity is written ``inf``."""
        value = float(token)
        if math.isinf(value):
            self.fault(token, f"too large a number: {str(token)[:40]}", "inf")
        return value

    def bare(self, token: Token) -> Expr:
        """A name alone: a constant, infinity, a rank's size, a coordinate, or a scalar tensor."""
        name = str(token)
        if name in self.names.constants:
            return Const(self.names.constants[name], name)
        if name == "inf":
            return Const(math.inf)
        if name in self.names.sizes:
            return Size(name)
        if name in self.names.variables:
            return Coordinate(name)
        if name.islower() and rank_of(name) in self.names.ranks:
            return self.joined(self.names.splits[rank_of(name)])
        return Access(name, (), self.place(token))

    def joined(self, parts: Sequence[str]) -> Expr:
        """The coordinate along a split rank, out of those of its parts: ``m1 * M0 + m0``."""
        found: Expr = Coordinate(parts[0].lower())
        for part in parts[1:]:
            found = Map("add", (Map("mul", (found, Size(part))), Coordinate(part.lower())))
        return found

    def call(self, token: Token, trees: Sequence[_Tree]) -> Expr:
        """A function of the table applied to its arguments."""
        arguments = tuple(self.expr(t) for t in trees)
        operation = MAPS.get(token)
        if operation is None:
            self.fault(token, f"unknown function {str(token)!r}", closest(token, MAPS))
            return Const(0.0)
        if len(arguments) != operation.arity:
            message = f"{operation.name} of {_counted(len(arguments), 'argument')}"
            self.fault(token, message, _counted(operation.arity, "argument"))
        return Map(operation.name, arguments)

    # -- accesses ------------------------------------------------------------------------------

    def access(self, tree: _Tree) -> Access:
        """A tensor with its positions."""
        token, *positions = tree.children
        found = tuple(self.position(p) for p in positions if p is not None)
        return Access(str(token), found, self.place(token))

    def tensor(self, tree: _Tree) -> Access:
        """A tensor where nothing else can stand, so that a name alone is a scalar tensor."""
        if tree.data == "access":
            return self.access(tree)
        return Access(str(tree.children[0]), (), self.place(tree.children[0]))

    def position(self, tree: _Tree) -> Position:
        """One position of an access: an index tensor, a last slot, or an index, maybe bordered."""
        if tree.data == "access":
            return self.access(tree)
        if tree.data == "border":
            token, inner, window = tree.children
            if token not in _BORDERS:
                self.fault(token, f"unknown border {str(token)!r}", one_of(_BORDERS))
            elif (window is None) is (token == "window"):
                form = "window(p, w)" if token == "window" else f"{token}(p)"
                self.fault(token, f"{token} of {'one index' if token == 'window' else 'two'}", form)
            if window is not None:
                return self.window(token, inner, window)
            index = self.affine(inner)
            place = self.place(token)
            return replace(index, border=str(token), place=place)
        terms = tree.children
        if len(terms) == 1 and terms[0].data == "term" and len(terms[0].children) == 1:
            token = terms[0].children[0]
            if token.type == "NAME" and token.isupper():
                if token not in self.names.parts:
                    self.unknown_rank(token, self.names.parts)
                return Last(str(token), self.place(token))
        return self.affine(tree)

    def window(self, token: Token, centre: _Tree, window: _Tree) -> Index:
        """``window(p, 2*w)``: a window of w, two apart, around p."""
        around, inside = self.affine(centre), self.affine(window)
        variable, dilation = inside.terms[0] if inside.terms else ("", 0)
        plain = Index(((variable, dilation),)) == inside and isinstance(dilation, int)
        if not plain or dilation == 0 or str(dilation).startswith("-"):
            self.fault(token, "a window is not over one variable", "window(p, w), window(p, 2*w)")
            return around
        if variable in around.variables or around.divisor != 1:
            self.fault(token, "a window around itself or a quotient", "window(p, w)")
            return around
        terms = (*around.terms, (variable, dilation))
        return Index(terms, around.offset, 1, "window", self.place(token), around.sizes)

    def affine(self, tree: _Tree) -> Index:
        """A sum of terms, floored by a divisor if there is one."""
        terms: dict[str, int | str] = {}
        sizes: dict[str, int] = {}
        offset = 0
        divisor: int | str = 1
        for child in tree.children:
            if child.data == "divisor":
                divisor = self.divisor(child.children[0])
                continue
            sign, term = (-1, child.children[0]) if child.data == "minus" else (1, child)
            variable, factor, size = self.term(term)
            if variable is None:
                if size is None:
                    offset += sign * factor
                else:
                    sizes[size] = sizes.get(size, 0) + sign * factor
                continue
            for name, scale in self.parts(variable, sign * factor, size):
                if name in terms:
                    self.fault(variable, f"{name} stands twice in one index", "one factor for each")
                terms[name] = scale
        added = tuple((str(rank), n) for rank, n in sizes.items() if n)
        place = self.place(leftmost(tree))
        return Index(tuple(terms.items()), offset, divisor, "", place, added)

    def term(self, tree: _Tree) -> tuple[Token | None, int, Token | None]:
        """The variable of a product, its whole-number factor, and the rank whose size it has."""
        variable, size, factor = None, None, 1
        for token in tree.children:
            if token.type == "NUMBER":
                factor *= self.whole(token)
            elif token.isupper() and size is None:
                size = token
            elif token.islower() and variable is None:
                variable = token
            elif token.isupper() or token.islower():
                self.fault(token, f"a product with {token} is not affine", "one variable a term")
            else:
                message = f"{str(token)[:40]!r} is neither a variable nor a rank"
                self.fault(token, message, "variables in lower case, ranks in upper case")
                return None, 0, None
        if size is not None and size not in self.names.sizes:
            self.unknown_rank(size, self.names.sizes)
        return variable, factor, size

    def parts(
        self, variable: Token, factor: int, size: Token | None
    ) -> Iterator[tuple[str, int | str]]:
        """Terms for a variable: itself, or those of the parts where its rank is split in two."""
        rank = variable.upper()
        parts = self.names.splits.get(rank, ())
        sign = "-" if factor < 0 else ""
        if rank not in self.names.ranks and rank not in self.names.parts:
            self.fault(
                variable,
                f"unknown index variable {str(variable)[:40]!r}: there is no rank {rank[:40]}",
                closest(variable, self.names.variables),
            )
        elif size is not None and abs(factor) != 1:
            self.fault(size, f"{factor} times a size is not a factor", "a whole number or a rank")
        elif parts and (len(parts) > 2 or abs(factor) != 1 or size is not None):
            message = f"{variable} runs over {rank}, which is split into {', '.join(parts)}"
            self.fault(variable, message, one_of(p.lower() for p in parts))
        elif parts:
            yield parts[0].lower(), f"{sign}{parts[1]}"
            yield parts[1].lower(), factor
        else:
            yield str(variable), factor if size is None else f"{sign}{size}"

    def divisor(self, token: Token) -> int | str:
        """A positive whole number or a rank."""
        if token.type == "NUMBER":
            if not (value := self.whole(token)):
                self.fault(token, "division by 0", "a positive number or a rank")
            return max(value, 1)
        if token not in self.names.sizes:
            self.unknown_rank(token, self.names.sizes)
        return str(token)

    def whole(self, token: Token) -> int:
        """A whole number in an index."""
        if token.isdecimal() and len(token) <= 18:
            return int(token)
        self.fault(token, f"{str(token)[:40]} in an index", "a whole number")
        return 1

    def unknown_rank(self, token: Token, allowed: Sequence[str] | frozenset[str]) -> None:
        """Note that a name is none of the ranks allowed here."""
        self.fault(token, f"unknown rank {str(token)[:40]!r}", closest(token, allowed))

    # -- reductions and conditions -------------------------------------------------------------

    def reduction(self, tree: _Tree) -> Reduction:
        """``max(m)``: a reduction over variables; that of a split rank stands for its parts."""
        token, *over, into, reach = tree.children
        reducer = REDUCTIONS.get(token)
        if reducer is None:
            self.fault(token, f"unknown reduction {str(token)!r}", one_of(REDUCTIONS))
        elif into is not None and not reducer.selects:
            self.fault(into, f"{token} selects nothing", f"{token}({', '.join(over)})")
        elif reducer.selects:
            self.selection(token, over, into, reach)
        found: list[str] = []
        for variable in over:
            rank = variable.upper()
            if variable.islower() and rank in self.names.ranks:
                found += [p.lower() for p in self.names.splits.get(rank, (rank,))]
            elif variable in self.names.variables:
                found.append(str(variable))
            else:
                message = f"unknown index variable {str(variable)[:40]!r} in {token}"
                self.fault(variable, message, closest(variable, self.names.variables))
        least = None if reach is None else self.expr(reach.children[0])
        return Reduction(str(token), tuple(found), str(into or ""), self.place(token), least)

    def selection(
        self, token: Token, over: Sequence[Token], into: Token | None, reach: _Tree | None
    ) -> None:
        """Note what a selection lacks, or has too much."""
        reaches = REDUCTIONS[token].reaches
        form = f"{token}({over[0]} -> r" + (", 0.9)" if reaches else ")")
        if into is None:
            self.fault(token, f"{token} selects into no rank", form)
        elif into not in self.names.variables:
            message = f"unknown index variable {str(into)[:40]!r} in {token}"
            self.fault(into, message, closest(into, self.names.variables))
        elif reaches and reach is None:
            self.fault(token, f"{token} reaches no sum", form)
        elif reach is not None and not reaches:
            self.fault(token, f"{token} reaches no sum: its rank says how many", form)

    def condition(self, tree: _Tree) -> Condition:
        """An affine comparison, one of values, or a tensor whose element must not be 0."""
        if tree.data in ("access", "bare"):
            return self.tensor(tree)
        if tree.data == "either":
            every = [[self.condition(c) for c in a.children] for a in tree.children]
            simple = [tuple(c for c in a if not isinstance(c, Either)) for a in every]
            return Either(tuple(simple), self.place(leftmost(tree)))
        left, relation, right = tree.children
        if tree.data == "threshold":
            tested = self.access(left)
            return Threshold(tested, str(relation), self.expr(right), tested.place)
        a, b = self.affine(left), self.affine(right)
        if not a.terms and not b.terms and not self.faults:
            self.fault(relation, "a comparison of two numbers", "an index variable in it")
        return Compare(a, str(relation), b, a.place)


def _counted(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}" + ("s" if number != 1 else "")
