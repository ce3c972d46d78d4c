"""The grammar of ``einsum.lark`` applied to a line: its parse tree, or what is expected where.

Working out a parser's tables takes ten times as long as reading them, so they are kept
in ``einsum.json`` (``make grammar``).  Tables of another text of the grammar, or of
another version of Lark, whose form of them may differ, are not used.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import lark
from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.grammar import Rule
from lark.lexer import TerminalDef

from accelsim.errors import Fault, InputError, Place
from accelsim.files import write

#: The grammar, and the tables worked out from it.
GRAMMAR: Final = Path(__file__).parent / "einsum.lark"
TABLES: Final = GRAMMAR.with_suffix(".json")

#: An expression whose operations are nested deeper is refused.
DEEPEST: Final = 100

#: What a terminal of the grammar is to a reader.
_WORDS: Final = {
    "NAME": "a name",
    "NUMBER": "a number",
    "RELATION": "<=, <, >=, >, == or !=",
    "WHERE": "'where'",
    "AND": "'and'",
    "$END": "the end of the Einsum",
}
_OPERATORS: Final = frozenset(("PLUS", "MINUS", "STAR", "SLASH"))
_CLOSES: Final = {"(": ")", "[": "]"}
#: The place of the character at an offset of the Einsum's text.
At: TypeAlias = Callable[[int], Place]


@cache
def _grammar() -> Lark:
    known = _kept()
    if known is None:
        return built()
    memo = {int(n): found for n, found in known["memo"].items()}
    table = known["data"]["parser"]["parser"]
    table["tokens"] = {int(n): token for n, token in table["tokens"].items()}
    table["states"] = {
        int(n): {int(token): action for token, action in actions.items()}
        for n, actions in table["states"].items()
    }
    return Lark.load({"data": known["data"], "memo": memo})


def _kept() -> Any:
    """The tables that are kept; None where they are not those of this grammar and Lark."""
    known = json.loads(TABLES.read_text("utf-8")) if TABLES.exists() else {}
    return known if known.get("of") == _origin() else None


def _origin() -> list[str]:
    """What tables are worked out from: the grammar's text, and by which Lark."""
    return [GRAMMAR.read_text("utf-8"), lark.__version__]


def built() -> Lark:
    """The parser, worked out from the text of the grammar."""
    return Lark(GRAMMAR.read_text("utf-8"), parser="lalr")


def write_tables() -> None:
    """Write the parser's tables, unless they are kept: their states have no fixed order."""
    if _kept() is not None:
        return
    data, memo = built().memo_serialize([TerminalDef, Rule])
    found = json.dumps({"of": _origin(), "data": data, "memo": memo}, separators=(",", ":"))
    write(TABLES, (found + "\n").encode())


def parse(text: str, at: At) -> Tree[Token]:
    """The parse tree of an Einsum.  Raises ``InputError`` with what was expected, in words."""
    try:
        tree = _grammar().parse(text)
    except UnexpectedInput as error:
        raise InputError([_unbalanced(text, at) or _unexpected(text, error, at)]) from None
    deep = _deeper_than(tree, DEEPEST)
    if deep is not None:
        message = f"operations nested deeper than {DEEPEST}"
        raise InputError([Fault(at(deep), message, "several Einsums")])
    return tree


def _unbalanced(text: str, at: At) -> Fault | None:
    """The fault of the first bracket that has no partner."""
    open_: list[tuple[str, int]] = []
    for offset, character in enumerate(text):
        if character in _CLOSES:
            open_.append((character, offset))
        elif character in _CLOSES.values():
            if not open_:
                return Fault(at(offset), f"unbalanced {character!r}: nothing is open here", "")
            last, begin = open_.pop()
            if _CLOSES[last] != character:
                message = f"unbalanced {character!r}: {last!r} in column {at(begin).column} is open"
                return Fault(at(offset), message, repr(_CLOSES[last]))
    if open_:
        last, begin = open_[-1]
        return Fault(at(begin), f"unbalanced {last!r}: it is never closed", repr(_CLOSES[last]))
    return None


def _unexpected(text: str, error: UnexpectedInput, at: At) -> Fault:
    """The fault of a token that cannot stand where it stands."""
    if isinstance(error, UnexpectedCharacters):
        offset = error.pos_in_stream or 0
        allowed = "names in plain letters, numbers, operators, brackets"
        return Fault(at(offset), f"unexpected {text[offset]!r}", allowed)
    assert isinstance(error, UnexpectedToken)
    token, parser = error.token, error.interactive_parser
    offset, found = token.start_pos or 0, f"unexpected {str(token)[:40]!r}"
    if token.type == "$END":
        offset, found = len(text.rstrip()), "the Einsum ends too early"
    wanted = set(parser.accepts() if parser else ())  # type: ignore[no-untyped-call]
    words = {"an operator"} if wanted >= _OPERATORS else set()
    wanted -= _OPERATORS if words else set()
    literals = {t.name: t.pattern.value for t in _grammar().terminals}
    words |= {_WORDS.get(w, f"'{literals.get(w, w)}'") for w in wanted}
    return Fault(at(offset), found, ", ".join(sorted(words)))


def _deeper_than(tree: Tree[Token], most: int) -> int | None:
    """The offset of something nested deeper than ``most``, if there is such a thing."""
    todo: list[tuple[Tree[Token], int]] = [(tree, 0)]
    while todo:
        node, depth = todo.pop()
        if depth > most:
            return leftmost(node).start_pos or 0
        todo += [(child, depth + 1) for child in node.children if isinstance(child, Tree)]
    return None


def leftmost(tree: Tree[Token] | Token) -> Token:
    """The first token of a tree."""
    while isinstance(tree, Tree):
        tree = tree.children[0]
    assert isinstance(tree, Token)
    return tree
