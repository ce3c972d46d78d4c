"""Fills the generated parts of the documentation: grammar, operators, commands, machines.

A page says where with a line ``<!-- generated: NAME -->``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from accelsim.cli.app import app
from accelsim.explore.documents import list_names, schema
from accelsim.explore.validate_gpu import unseen, validate_gpu
from accelsim.ir.ops import FALLBACK, MAPS, REDUCTIONS

MARK = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)
GRAMMAR = Path(__file__).resolve().parent.parent / "accelsim" / "load" / "einsum.lark"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"
                     for row in lines)  # fmt: skip


def grammar() -> str:
    """The grammar of one Einsum, as the loader reads it."""
    return f"```text\n{GRAMMAR.read_text(encoding='utf-8').rstrip()}\n```"


def operators() -> str:
    """Every map: how it is written, its work class, its NumPy meaning."""
    rows = []
    for name, o in MAPS.items():
        variables = ["a", "b", "c"][: o.arity]
        text = f" {o.symbol} ".join(variables) if o.symbol and o.arity == 2 else ""
        text = text or (f"{o.symbol}a" if o.symbol else f"{name}({', '.join(variables)})")
        rows.append([f"`{text}`", f"`{o.work}`", f"`{o.numpy}`"])
    return table(["written", "work class", "NumPy meaning"], rows)


def reductions() -> str:
    """Every reduction: its work class and identity."""
    rows = [
        [
            f"`:: {name}(j -> r)`" if r.selects else f"`:: {name}(j)`",
            f"`{r.work}`",
            f"`{r.identity:g}`",
        ]
        for name, r in REDUCTIONS.items()
    ]
    stands = ", ".join(f"`{other}` for `{name}`" for name, other in FALLBACK.items())
    note = f"\n\nWhere a unit does not price a class, another stands in: {stands}."
    return table(["written", "work class", "identity"], rows) + note


def listed(kind: str) -> str:
    """Names of a kind with one line each."""
    return table(["name", "about"], [[f"`{e.name}`", e.about] for e in list_names(kind)])


def commands() -> str:
    """Every command with its arguments and options."""
    group: Any = get_command(app)
    context = typer.Context(group)
    parts = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        rows = []
        for p in command.params:
            if p.name == "help":
                continue
            said = ", ".join(p.opts) if p.param_type_name == "option" else p.name.upper()
            rows.append([f"`{said}`", (p.help or "").strip()])
        parts.append(
            f"## accelsim {name}\n\n{command.help}\n\n{table(['option', 'meaning'], rows)}"
        )
    return "\n\n".join(parts)


def fields(kind: str) -> str:
    """The fields of a document, from its schema."""
    found = schema(kind)
    rows = [
        [
            f"`{name}`",
            "yes" if name in found.get("required", []) else "",
            field.get("description", ""),
        ]
        for name, field in found["properties"].items()
    ]
    return table(["field", "required", "meaning"], rows)


def share(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.1f} %"


def gpu_errors() -> str:
    """Errors of the GPU model against the recorded runs of an H100, replayed now."""
    parts = []
    for heading, found in (
        ("Rows that the model was built beside", validate_gpu("h100-sxm")),
        ("Rows measured after it, with other seeds", unseen("h100-sxm")),
    ):
        result = found.to_dict()
        rows = [
            [family, str(e["rows"]), *(share(e[name]) for name in ("mean", "p90", "max"))]
            for family, bands in result["by_family"].items()
            for band, errors in bands.items()
            if band == "20 us and above" and (e := errors["ours"])
        ]
        rows += [
            [quantity.replace("_", " "), str(e["rows"]),
             *(share(e[name]) for name in ("mean", "p90", "max"))]
            for quantity, e in result["quantities"].items()
        ]  # fmt: skip
        columns = ["times of 20 us and more, then other quantities", "rows", "mean error"]
        parts.append(f"{heading}:\n\n{table([*columns, '90th percentile', 'largest'], rows)}")
    return "\n\n".join(parts)


PARTS = {
    "grammar": grammar,
    "operators": operators,
    "reductions": reductions,
    "commands": commands,
    "cascades": lambda: listed("cascades"),
    "archs": lambda: listed("archs"),
    "designs": lambda: listed("designs"),
    "kernels": lambda: listed("kernels"),
    "gpu-errors": gpu_errors,
    "cascade-fields": lambda: fields("cascade"),
    "arch-fields": lambda: fields("arch"),
    "mapping-fields": lambda: fields("mapping"),
    "sweep-fields": lambda: fields("sweep"),
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for every page."""
    return MARK.sub(lambda found: PARTS[found[1]](), markdown)
