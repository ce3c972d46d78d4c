"""Files that cannot be written, or not wholly, and Ctrl-C: a sentence, a status, and no halves."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from accelsim import files
from accelsim.cli.app import app
from accelsim.load import catalog
from tests.explore.test_exchange import FORGE

SMALL = "B=1,H=1,P=512,M=512,E=64,F=64"
SWEEP = """\
sweep: small
about: two edges
axes:
  - set.parameters.edge: [64, 128, 256]
  - seq: {from: 1K, to: 64K, times: 2}
  - model: [BERT, TrXL, T5-small, XLM]
  - {design: fusemax}
front: {objectives: [area_mm2, latency_s]}
"""
RUNS = catalog.folder("validation") / "runs" / "h100-sxm"
#: What writes a file, by its ending; {0} is the file.
WRITERS = {
    ("csv", "compare", "flat", "--seq", "1K", "--export", "{0}"),
    ("json", "compare", "flat", "--seq", "1K", "--export", "{0}"),
    ("parquet", "compare", "flat", "--seq", "1K", "--export", "{0}"),
    ("png", "compare", "flat", "--seq", "1K", "--plot", "{0}"),
    ("svg", "passes", "attention-1pass", "--plot", "{0}"),
    (
        "pdf",
        "estimate",
        "--design",
        "fusemax",
        "--shape",
        SMALL,
        "--plot",
        "{0}",
    ),
    ("yaml", "map", "matmul", "--arch", "teaching", "--shape", "M=4,N=4,K=4", "--out", "{0}"),
    ("json", "simulate", "--design", "fusemax", "--model", "BERT", "--seq", "1K", "--trace", "{0}"),
    ("csv", "systems", "sqa", "--seq", "1K", "--csv", "{0}"),
    ("yaml", "calibrate", "--from", str(RUNS), "--out", "{0}"),
    ("yaml", "import", "{1}", "--out", "{0}"),
    ("svg", "validate", "fusemax", "--plot", "{0}"),
    ("html", "report", "flat", "fusemax", "--seq", "1K", "--out", "{0}"),
}
SLOW = {"report", "validate"}
WRITE = pytest.mark.parametrize(
    "command",
    [pytest.param(c, marks=pytest.mark.long if c[1] in SLOW else ()) for c in sorted(WRITERS)],
    ids=lambda c: f"{c[1]}-{c[0]}",
)


def invoke(command: tuple[str, ...], target: Path) -> Result:
    """Run a command that writes to ``target``."""
    words = [word.format(target, target.parent.parent / "theirs.yaml") for word in command[1:]]
    result = CliRunner().invoke(app, words, prog_name="accelsim")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@contextmanager
def longest(size: int) -> Iterator[None]:
    """No file of this process grows beyond a size, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@WRITE
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    target = folder / f"out.{command[0]}"
    (tmp_path / "theirs.yaml").write_text(FORGE, encoding="utf-8")
    assert invoke(command, target).exit_code == 0
    size = target.stat().st_size
    target.write_text("old", encoding="utf-8")
    with longest(size * 9 // 10):
        result = invoke(command, target)
    assert result.exit_code == 2
    assert f"{target}: cannot be written: File too large" in result.stderr
    assert target.read_text(encoding="utf-8") == "old"
    assert list(folder.iterdir()) == [target]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.csv").mkdir()
    (folder / "file").touch()
    command = ("csv", "systems", "sqa", "--seq", "1K", "--csv", "{0}")
    for name, why in (
        ("a.csv", "Is a directory"),
        ("file/a.csv", "Not a directory"),
        ("n" * 300, "File name too long"),
    ):
        result = invoke(command, folder / name)
        assert result.exit_code == 2
        assert f"{name}: cannot be written: {why}\n" in result.stderr
        assert "allowed: a file in a folder that can be written to" in result.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["a.csv", "file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    target.chmod(0o444)
    with pytest.raises(files.InputError, match="Permission denied"):
        files.write(target, b"new")
    assert target.read_bytes() == b"old"


def test_links_are_followed_and_stay_links(tmp_path: Path) -> None:
    real, link, loop = tmp_path / "real", tmp_path / "link", tmp_path / "loop"
    link.symlink_to(real)
    loop.symlink_to(loop)
    assert files.write(link, b"first") == link  # to a file that is not there yet
    real.chmod(0o600)
    files.write(link, b"second")
    assert link.is_symlink()
    assert real.read_bytes() == b"second"
    assert real.stat().st_mode & 0o777 == 0o600
    with pytest.raises(files.InputError, match="Too many levels of symbolic links"):
        files.write(loop, b"never")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "loop", "real"]


def test_devices_and_pipes_are_written_to(tmp_path: Path) -> None:
    files.write(Path("/dev/null"), b"gone")
    with pytest.raises(files.InputError, match="/dev/full: cannot be written: No space left"):
        files.write(Path("/dev/full"), b"never")
    read, write = os.pipe()
    files.write(Path(f"/proc/self/fd/{write}"), b"through")
    assert os.read(read, 100) == b"through"
    os.close(read)
    os.close(write)


def test_a_sweep_on_a_full_disk_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, out = tmp_path / "small.yaml", tmp_path / "out"
    spec.write_text(SWEEP, encoding="utf-8")
    command = ["sweep", str(spec), "--out", str(out), "--workers", "1", "--json"]
    real, calls = os.fsync, iter(range(99))

    def fsync(number: int) -> None:
        if next(calls) == 2:  # after the manifest and one part
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "part-00001.parquet: cannot be written: No space left on device" in result.stderr
    assert json.loads(result.stdout)["faults"][0]["file"].endswith("part-00001.parquet")
    assert sorted(p.name for p in out.iterdir()) == ["part-00000.parquet", "sweep.json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["resumed"] == 50


def test_standard_output_on_a_full_disk() -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "accelsim", "list", "cascades", "--json"]
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert found.returncode == 2
    assert found.stderr == "standard output: No space left on device\n"


#: A child that is interrupted when it first calls a function of accelsim's.
INTERRUPTED = """\
import importlib, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
place, name = {place!r}, {name!r}
module = importlib.import_module(place)
def interrupted(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        pass
setattr(module, name, interrupted)
from accelsim.__main__ import main
sys.argv = ["accelsim", *{words!r}]
main()
"""


@pytest.mark.parametrize(
    ("place", "name", "words"),
    [
        ("accelsim.files", "_replace", ("compare", "flat", "--seq", "1K", "--export", "a.csv")),
        ("accelsim.explore.sweep", "price", ("sweep", "{spec}", "--out", "out", "--workers", "1")),
        ("accelsim.explore.bounds", "attainable", ("bounds", "matmul", "--shape", "M=8,N=8,K=8")),
        ("accelsim.cli.app", "app", ("list",)),
    ],
)
def test_ctrl_c_is_no_traceback_and_leaves_nothing(
    place: str, name: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(SWEEP, encoding="utf-8")
    told = tuple(word.format(spec=spec) for word in words)
    program = INTERRUPTED.format(place=place, name=name, words=told)
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 130, found.stderr
    assert "Traceback" not in found.stderr
    assert not found.stdout
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) in (
        ["small.yaml"], ["small.yaml", "sweep.json"],
    )  # fmt: skip


def test_ctrl_c_while_a_file_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
