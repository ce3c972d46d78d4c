"""The package: the same bytes wherever and whenever it is built, and whole without the checkout."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import accelsim
from accelsim.cli.app import app

ROOT = Path(accelsim.__file__).resolve().parent.parent
#: Made, not written.
MADE = shutil.ignore_patterns(".*_cache", ".git", ".venv", ".hypothesis", "__pycache__", "out")
DATA = ("einsum_cascades", "arch_configs", "formats", "systems", "validation")
CODE = {".py", ".cu", ".cuh", ".lark", ".json", ".typed"}

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not a checkout")


def built(source: Path, to: Path, *what: str) -> dict[str, Path]:
    """What hatchling builds of a tree, by ending, without an environment of its own."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(to), *what]
    found = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    return {path.suffix: path for path in to.iterdir()}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    source = tmp_path_factory.mktemp("one") / "source"
    shutil.copytree(ROOT, source, ignore=MADE)
    return built(source, source.parent / "dist")


def test_another_folder_time_and_umask_give_the_same_bytes(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    source = tmp_path / "deep" / "below" / "another name"
    shutil.copytree(packages[".whl"].parents[1] / "source", source)
    for path in source.rglob("*"):
        path.chmod(0o700 if path.is_dir() or os.access(path, os.X_OK) else 0o600)
        os.utime(path, (981_173_106, 981_173_106))
    again = built(source, tmp_path / "dist")
    assert {k: digest(p) for k, p in again.items()} == {k: digest(p) for k, p in packages.items()}


def test_the_wheel_of_the_sdist_is_the_wheel(packages: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(packages[".gz"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    again = built(source, tmp_path / "dist", "-t", "wheel")
    assert digest(again[".whl"]) == digest(packages[".whl"])


def test_the_wheel_holds_the_code_and_the_data_and_nothing_else(packages: dict[str, Path]) -> None:
    names = {n for n in zipfile.ZipFile(packages[".whl"]).namelist() if ".dist-info/" not in n}
    tree = packages[".whl"].parents[1] / "source"
    code = {f for f in (tree / "accelsim").rglob("*") if f.suffix in CODE}
    wanted = {f.relative_to(tree).as_posix() for f in code}
    for folder in DATA:
        files = (f for f in (tree / folder).rglob("*") if f.is_file())
        wanted |= {f"accelsim/data/{f.relative_to(tree).as_posix()}" for f in files}
    assert names == wanted


SMALL = "B=1,H=2,P=512,M=512,E=64,F=64"
SWEEP = """\
sweep: small
about: two edges
axes:
  - set.parameters.edge: [64, 128]
  - {design: fusemax, model: BERT, seq: 4K}
front: {objectives: [area_mm2, latency_s]}
"""
#: A command of every verb; {runs} is where recorded runs are.
COMMANDS = (
    "list systems",
    "show fusemax-cloud",
    "passes attention-1pass --plot passes.svg",
    "check attention-1pass",
    "derive attention-3pass",
    f"bounds attention-3pass --shape {SMALL}",
    "map matmul --arch dram-l2-smem-x64 --shape M=8,N=8,K=64 --out mapping.yaml",
    "estimate --design fusemax --model BERT --seq 4K",
    "estimate --kernel attention-1pass-mma --arch h100-sxm --shape B=1,H=16,P=4K,M=4K,E=128,F=128",
    f"simulate --design fusemax --shape {SMALL} --trace trace.json",
    "compare flat fusemax --seq 1K --plot speedup.png --export rows.csv",
    "systems --seq 4K",
    "report flat fusemax --seq 1K,4K --out report.html",
    "validate fusemax",
    "validate published",
    "schema mapping",
    "import foreign.yaml",
    "export matmul --arch dram-l2-smem-x64 --shape M=8,N=8,K=64 --mapping mapping.yaml",
    "calibrate --out mine.yaml --from {runs}/h100-sxm --name mine",
    "sweep small.yaml --out swept --export swept.parquet",
)
FOREIGN = """\
workload:
  rank_sizes: {M: 8, N: 8, K: 8}
  einsums:
  - name: Z
    tensor_accesses:
    - {name: A, projection: [m, k]}
    - {name: B, projection: [k, n]}
    - {name: Z, projection: [m, n], output: true}
"""


def test_every_verb_is_tried_in_an_empty_environment() -> None:
    assert {c.name for c in app.registered_commands} == {c.split()[0] for c in COMMANDS}


@pytest.mark.long
def test_every_command_runs_in_an_empty_environment(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    """Pip brings what the wheel needs, so this wants an index of packages."""
    venv.create(tmp_path / "env", with_pip=True)
    python, here = tmp_path / "env" / "bin" / "python", tmp_path / "elsewhere"
    here.mkdir()
    (here / "small.yaml").write_text(SWEEP, encoding="utf-8")
    (here / "foreign.yaml").write_text(FOREIGN, encoding="utf-8")
    pip = [python, "-m", "pip", "install", "--quiet", f"{packages['.whl']}[plot,sweep]"]
    subprocess.run(pip, check=True, cwd=here, timeout=1200)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ACCELSIM"))}
    told = "import accelsim; print(accelsim.__path__[0])"
    place = subprocess.check_output([python, "-c", told], cwd=here, env=clean, text=True).strip()
    assert place.startswith(str(tmp_path / "env"))
    for command in COMMANDS:
        words = command.format(runs=f"{place}/data/validation/runs").split()
        found = subprocess.run(
            [python, "-m", "accelsim", *words, "--json"],
            cwd=here, env=clean, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert found.returncode == 0, f"{command}\n{found.stderr}"
        assert isinstance(json.loads(found.stdout), dict), command
