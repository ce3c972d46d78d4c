"""Mutation testing of ``analysis`` and ``models``: how many small changes does no test notice?

``python -m tests.mutation`` draws mutants of every module, and runs for each the tests that
enter the changed function, quickest first, until one fails.  It prints the share of mutants
that survive by module, and every survivor.  The sources are never written: a mutant is put in
place of its module when that is imported, in a process of its own.

First a run without mutants notes how long each test takes and which functions it enters
(``--notes FILE`` keeps that).  What a cache hides from a test is not noted for it.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from tests.mutation.operators import Mutant, functions, mutant, sites

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("analysis", "models")
TESTS = (
    *("tests/analysis", "tests/models", "accelsim/analysis", "accelsim/models"),
    *("tests/explore/test_bounds.py", "tests/explore/test_derive.py"),
    *("tests/explore/test_estimate.py", "tests/explore/test_estimate_cascade.py"),
    *("tests/explore/test_estimate_gpu.py", "tests/explore/test_validate.py"),
    *("tests/explore/test_validate_gpu.py", "tests/systems/test_degradation.py"),
)
QUIET = (
    "-q",
    "-n0",
    "--assert=plain",
    "-p",
    "no:cacheprovider",
    "--no-header",
    "--tb=no",
    "--rootdir",
    str(ROOT),
)
SURVIVED, KILLED, NEVER_RUN = "survived", "killed", "never run"

Compiler = Callable[[str, Path], CodeType]
Notes = dict[str, tuple[float, list[str]]]


class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules of ``wanted`` through ``compiled`` instead of from their files."""

    def __init__(self, wanted: dict[str, Path], compiled: Compiler) -> None:
        self.wanted, self.compiled = wanted, compiled

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """The module's own place, with this as what loads it."""
        if name not in self.wanted:
            return None
        file = str(self.wanted[name])
        spec = importlib.machinery.ModuleSpec(name, self, origin=file)
        spec.has_location = True
        return spec

    def create_module(self, spec: object) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the code that stands for the module's."""
        exec(self.compiled(module.__name__, self.wanted[module.__name__]), module.__dict__)


def modules() -> dict[str, Path]:
    """The modules that are mutated, by name."""
    files = (f for layer in LAYERS for f in sorted((ROOT / "accelsim" / layer).rglob("*.py")))
    return {
        ".".join(f.relative_to(ROOT).with_suffix("").parts): f
        for f in files
        if f.name != "__init__.py"
    }


# -- what each test enters ---------------------------------------------------------------------


class Notebook:
    """A plugin of pytest that notes for each test how long it takes and what it enters."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.notes: Notes = {}

    def compiled(self, name: str, file: Path) -> CodeType:
        """A module whose functions say that they are entered."""
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for number, function in enumerate(functions(tree)):
            text = f"__import__('sys').modules['__main__'].NOTEBOOK.seen.add('{name}:{number}')"
            at = 1 if ast.get_docstring(function, clean=False) is not None else 0
            function.body.insert(at, ast.parse(text).body[0])
        return compile(ast.fix_missing_locations(tree), str(file), "exec")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """One test."""
        self.seen.clear()
        start = time.process_time()
        answer = yield
        self.notes[item.nodeid] = (time.process_time() - start, sorted(self.seen))
        return answer


NOTEBOOK = Notebook()


def noted(file: Path) -> Notes:
    """The notes in a file, or of a run that writes it; in a process of its own."""
    if not file.exists():
        child = os.fork()
        if not child:
            sys.meta_path.insert(0, Importer(modules(), NOTEBOOK.compiled))
            status = pytest.main([*QUIET, *TESTS], plugins=[NOTEBOOK])
            file.write_text(json.dumps(NOTEBOOK.notes), encoding="utf-8")
            os._exit(status)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            file.unlink(missing_ok=True)
            raise SystemExit("tests fail without a mutant")
    return {k: (s, names) for k, (s, names) in json.loads(file.read_text("utf-8")).items()}


# -- one mutant --------------------------------------------------------------------------------


def tests_of(notes: Notes, function: str, most_s: float) -> tuple[list[str], float]:
    """Tests that enter a function, quickest first, up to so many seconds; and their seconds."""
    enter = sorted((s, test) for test, (s, names) in notes.items() if function in names)
    chosen, total = [], 0.0
    for seconds, test in enter:
        if chosen and total + seconds > most_s:
            break
        chosen.append(test)
        total += seconds
    return chosen, total


def verdict(name: str, changed: Mutant, tests: Sequence[str], limit_s: float) -> str:
    """Whether a test fails for a mutant, or the tests take far longer than they should."""
    if not tests:
        return NEVER_RUN
    child = os.fork()
    if not child:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 2))
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        code = compile(changed.tree, str(modules()[name]), "exec")
        sys.meta_path.insert(0, Importer({name: modules()[name]}, lambda *_: code))
        order = {test: n for n, test in enumerate(tests)}
        os._exit(pytest.main([*QUIET, "-x", *tests], plugins=[_Order(order)]))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return SURVIVED if status == pytest.ExitCode.OK else KILLED


class _Order:
    """Runs tests in an order, in spite of the files that they are in."""

    def __init__(self, order: dict[str, int]) -> None:
        self.order = order

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort."""
        items.sort(key=lambda item: self.order.get(item.nodeid, len(self.order)))


# -- all of them -------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--each", type=int, default=4, help="mutants of a module")
    parser.add_argument("--seed", type=int, default=0, help="draws the mutants")
    parser.add_argument("--seconds", type=float, default=40, help="of tests for one mutant")
    parser.add_argument("--only", default="", help="modules whose name has this in it")
    parser.add_argument("--notes", type=Path, default=ROOT / "out" / "mutation.json")
    asked = parser.parse_args(arguments)
    os.chdir(ROOT)
    asked.notes.parent.mkdir(parents=True, exist_ok=True)
    notes = noted(asked.notes)
    import hypothesis  # noqa: F401 (once, before the processes of the mutants)
    import networkx  # noqa: F401
    import numpy  # noqa: F401
    import scipy.optimize  # noqa: F401

    drawn: dict[str, list[Mutant]] = {}
    for name, file in modules().items():
        if asked.only in name:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            places = sites(tree)
            draw = random.Random(f"{asked.seed} {name}")
            chosen = draw.sample(places, min(asked.each, len(places)))
            drawn[name] = [mutant(tree, site) for site in chosen]
    table: dict[str, Counter[str]] = {name: Counter() for name in drawn}
    for turn in range(asked.each):  # one of every module, then another
        for name in (n for n, own in drawn.items() if turn < len(own)):
            one = drawn[name][turn]
            tests, seconds = tests_of(notes, f"{name}:{one.function}", asked.seconds)
            found = verdict(name, one, tests, 20 + 4 * seconds)
            table[name][found] += 1
            print(".", end="" if found == KILLED else "\n", flush=True)
            if found != KILLED:
                where = f"{modules()[name].relative_to(ROOT)}:{one.line}"
                print(f"{found}: {where}: {one.change}  ({len(tests)} tests)", flush=True)
    for name, counts in table.items():
        print(_line(name, counts))
    for layer in LAYERS:
        own = [c for n, c in table.items() if n.startswith(f"accelsim.{layer}.")]
        print(_line(layer, sum(own, Counter())))


def _line(name: str, counts: Counter[str]) -> str:
    left, total = counts[SURVIVED] + counts[NEVER_RUN], counts.total()
    return f"== {name}: {left} of {total} survive" + (f" ({left / total:.0%})" if total else "")


if __name__ == "__main__":
    main()
