"""The parser's tables that are kept, against those worked out from the grammar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lark
import pytest

from accelsim.errors import Place
from accelsim.load import syntax


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Reads other tables than those that are kept."""

    def grammar(**other: Any) -> lark.Lark:
        path = tmp_path / "tables.json"
        if other:
            known = json.loads(syntax.TABLES.read_text("utf-8"))
            path.write_text(json.dumps(known | other), "utf-8")
        monkeypatch.setattr(syntax, "TABLES", path)
        found: lark.Lark = syntax._grammar.__wrapped__()
        return found

    return grammar


def table(grammar: lark.Lark) -> Any:
    return grammar.parser.parser._parse_table  # type: ignore[attr-defined]


def told(rule: Any) -> Any:
    options = rule.options.serialize()
    return rule, rule.alias, {**options, "empty_indices": list(options["empty_indices"])}


def terminal(of: Any) -> Any:
    return of.name, of.pattern.type, of.pattern.value, set(of.pattern.flags), of.priority


def same(one: Any, other: Any) -> int:
    """How many states two tables have that are the same but for their numbers, from the start."""
    pairs = {one.start_states["start"]: other.start_states["start"]}
    todo = list(pairs)
    while todo:
        state = todo.pop()
        here, there = one.states[state], other.states[pairs[state]]
        assert set(here) == set(there)
        for token, (does, to) in here.items():
            assert does.name == there[token][0].name
            if does.name == "Reduce":
                assert told(to) == told(there[token][1])
            elif to not in pairs:
                pairs[to] = there[token][1]
                todo.append(to)
            else:
                assert pairs[to] == there[token][1]
    assert pairs[one.end_states["start"]] == other.end_states["start"]
    assert len(set(pairs.values())) == len(pairs)
    return len(pairs)


def test_the_kept_tables_are_those_of_the_grammar() -> None:
    known = json.loads(syntax.TABLES.read_text("utf-8"))
    assert known["of"][0] == syntax.GRAMMAR.read_text("utf-8"), "make grammar"
    if known["of"][1] != lark.__version__:
        pytest.skip("kept by another version of Lark, so they are not used")
    kept, built = syntax._grammar(), syntax.built()
    assert kept.source_path == "<deserialized>" != built.source_path
    assert same(table(kept), table(built)) == len(table(built).states) == len(table(kept).states)
    assert [terminal(t) for t in kept.terminals] == [terminal(t) for t in built.terminals]
    assert list(kept.lexer_conf.ignore) == list(built.lexer_conf.ignore)


@pytest.mark.parametrize("other", [{}, {"of": ["another text", lark.__version__]}])
def test_other_tables_are_not_used(read: Any, other: dict[str, Any]) -> None:
    """Nor are any needed."""
    assert read(**other).source_path != "<deserialized>"


def test_tables_of_another_lark_are_not_used(read: Any) -> None:
    found = read(of=[syntax.GRAMMAR.read_text("utf-8"), "0.0"])
    assert found.parse("C[m] = A[m]") == syntax.parse("C[m] = A[m]", lambda at: Place("", 1, at))


def test_tables_are_written_once(read: Any) -> None:
    read()
    syntax.write_tables()
    assert syntax._grammar.__wrapped__().source_path == "<deserialized>"
    before = syntax.TABLES.stat().st_ino
    syntax.write_tables()
    assert syntax.TABLES.stat().st_ino == before
