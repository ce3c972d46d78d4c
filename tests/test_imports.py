"""The direction of imports (design, section 6), read from the sources with ``ast``."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import accelsim

PACKAGE = Path(accelsim.__file__).resolve().parent
BASES = {"errors", "units", "files"}

#: What each layer may import of accelsim, itself aside.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "units": {"errors"},
    "files": {"errors"},
    "ir": BASES,
    "load": BASES | {"ir"},
    "analysis": {"errors", "ir"},
    "mapper": BASES | {"ir", "analysis"},
    "models": BASES | {"ir", "analysis"},
    "sim": BASES | {"ir"},
    "gpu": BASES | {"ir"},
    "report": BASES | {"ir"},
    "explore": BASES | {"ir", "load", "analysis", "mapper", "models", "sim", "gpu", "report"},
    "cli": BASES | {"explore", "report"},
    "": {"explore"},  # accelsim/__init__.py: the verbs, imported late
}

#: Third-party packages that only some modules may import, by dotted prefix.
ONLY: dict[str, tuple[str, ...]] = {
    "cupy": ("gpu",),
    "sympy": ("analysis.rewrite",),
    "matplotlib": ("report",),
    "plotly": ("report",),
    "rich": ("report", "cli"),
    "typer": ("cli",),
    "dask": ("explore",),
    "distributed": ("explore",),
    "pyarrow": ("explore",),
    "lark": ("load",),
}

#: What `accelsim passes` must not import: each costs more than all that the command does.
#: (Pydantic is not among them: Typer itself reads arguments with it.)
HEAVY = ("numpy", "scipy", "networkx", "matplotlib", "plotly", "sympy", "pandas", "rich.console")

MODULES = {
    ".".join(f.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): f
    for f in sorted(PACKAGE.rglob("*.py"))
}


def layer(module: str) -> str:
    """The layer of a module, named without ``accelsim.``; ``__main__`` is command line."""
    return "cli" if module == "__main__" else module.partition(".")[0]


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"), MODULES[module].name)


def imported(module: str, nodes: Iterator[ast.AST] | None = None) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it the statement stands."""
    for node in nodes or ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import on line {node.lineno}"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("accelsim.") in MODULES else str(node.module)


def own(names: Iterator[str]) -> set[str]:
    """Those of ``accelsim``, without that word."""
    return {n.partition(".")[2] for n in names if n.split(".")[0] == "accelsim"}


def test_table_has_no_circle_and_every_module_a_layer() -> None:
    list(graphlib.TopologicalSorter(LAYERS).static_order())
    assert {layer(m) for m in MODULES} <= set(LAYERS)
    assert "models" not in LAYERS["mapper"]
    assert "mapper" not in LAYERS["models"]


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_its_layer_may(module: str) -> None:
    here = layer(module)
    found = {layer(name) for name in own(imported(module)) if name} - {here}
    assert found <= LAYERS[here], f"accelsim.{module} imports {sorted(found - LAYERS[here])}"


@pytest.mark.parametrize("module", MODULES)
def test_third_party_packages_stay_in_their_layer(module: str) -> None:
    for name in imported(module):
        allowed = ONLY.get(name.split(".")[0])
        assert allowed is None or module.startswith(allowed), f"accelsim.{module} imports {name}"


def test_modules_do_not_import_each_other_in_circles() -> None:
    """At import time: statements of the module's own body, not those inside functions."""
    graph = {}
    for module in MODULES:
        body = (node for node in tree_of(module).body)
        graph[module] = (own(imported(module, body)) & set(MODULES)) - {"", module}
    list(graphlib.TopologicalSorter(graph).static_order())


def speaks(node: ast.AST) -> bool:
    """Whether a node prints, writes to a standard stream or ends the process."""
    if isinstance(node, ast.Name):
        return node.id in {"print", "exit", "quit", "SystemExit", "breakpoint"}
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        spoken = {"sys": {"exit", "stdout", "stderr"}, "os": {"_exit", "abort"}}
        return node.attr in spoken.get(node.value.id, ())
    return False


@pytest.mark.parametrize("module", [m for m in MODULES if layer(m) != "cli"])
def test_only_the_command_line_prints_or_exits(module: str) -> None:
    lines = [node.lineno for node in ast.walk(tree_of(module)) if speaks(node)]  # type: ignore[attr-defined]
    assert not lines, f"accelsim.{module}: lines {lines}"


@pytest.mark.parametrize("arguments", [["--help"], ["passes", "attention-3pass", "--json"]])
def test_start_up_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from accelsim.cli.app import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    heavy = [m for m in {HEAVY} if m in sys.modules]\n"
        "    print('imported', *heavy, file=sys.stderr)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    last = run.stderr.splitlines()[-1].split()
    allowed = {"rich.console"} if arguments == ["--help"] else set()
    assert set(last[1:]) <= allowed


def test_importing_the_package_imports_no_layer() -> None:
    program = "import sys, accelsim; print([m for m in sys.modules if m.startswith('accelsim.')])"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert run.stdout.strip() == "[]", run.stderr
