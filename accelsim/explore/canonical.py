"""The canonical YAML text of a plain value: reading it gives the same value again."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

#: What takes more characters than this, or holds more than two levels, is not put on one line.
LONGEST: Final = 88

#: The scalars of YAML 1.2's core schema, as ``load.source`` reads them.
_CORE: Final = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}


class _Dumper(yaml.SafeDumper):
    """Quotes just the texts that a reader of the core schema would take for something else."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own form)


class _Nodes(yaml.representer.SafeRepresenter):
    """Makes a node of each value, equal ones too: accelsim's YAML has no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern in _CORE.items():
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"({_pattern})\\Z"), None)


def yaml_text(value: Any) -> str:
    """YAML of lists, mappings with text keys, texts, numbers, truth values and None.

    What is short and flat stands on one line; keys keep their order.

    >>> print(yaml_text({"word": "16 bit", "text": "1e-5", "ranks": ["M", "P"]}), end="")
    word: 16 bit
    text: '1e-5'
    ranks: [M, P]
    """
    node = _Nodes(sort_keys=False).represent_data(value)
    _lay_out(node)
    if isinstance(node, yaml.CollectionNode):
        node.flow_style = False
    return str(yaml.serialize(node, Dumper=_Dumper, allow_unicode=True, width=1 << 16))


def _lay_out(node: yaml.Node) -> tuple[int, int]:
    """Choose each node's style; returns its depth and the characters it takes on one line."""
    if isinstance(node, yaml.ScalarNode):
        if "\n" in node.value:
            node.style = "|"
            return 0, LONGEST + 1
        if node.value.startswith("'") and '"' not in node.value:
            node.style = '"'
        return 0, len(node.value)
    assert isinstance(node, yaml.CollectionNode)
    children = node.value
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    measured = [_lay_out(child) for child in children]
    depth = 1 + max((d for d, _ in measured), default=0)
    width = 2 * (1 + len(measured)) + sum(w for _, w in measured)
    node.flow_style = depth <= 2 and width <= LONGEST
    return depth, width
