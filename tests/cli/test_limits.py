"""Hostile documents and arguments: a sentence within 2 s and 500 MB, whatever they hold.

Each case runs in a process of its own, whose processor time and peak memory are those that
the kernel counted.  What is valid may take longer; what is refused may not.
"""

from __future__ import annotations

import copy
import json
import math
import os
import resource
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from accelsim.cli.app import app
from accelsim.errors import Fault, InputError, Place
from accelsim.load.foreign import from_text as foreign
from accelsim.load.source import from_text
from tests.cli.test_fuzz import SHIPPED, commands

#: A child does nothing but run its command, whatever threads its parent has.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(
        not Path("/proc/self/statm").exists(), reason="memory is read as Linux has it"
    ),
]

#: What input that is refused may take, and where a case is ended, refused or not.
MOST_S, MOST_BYTES = 2.0, 500 << 20
END_S, END_BYTES = 60, 3 << 30
LIMITS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(LIMITS, max_examples=600)


@dataclass(frozen=True)
class Ended:
    """How a case ended: exit status, seconds of processor time, peak bytes, what it printed."""

    status: int
    seconds: float
    peak: int
    output: str
    errors: str


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@cache
def warm() -> int:
    """Import what commands import, so that a case costs what its input costs; bytes of that."""
    for command in (
        ["passes", "attention-1pass"],
        ["bounds", "matmul", "--shape", "M=4,N=4,K=4"],
        ["map", "matmul", "--arch", "teaching", "--shape", "M=4,N=4,K=4"],
        ["simulate", "--design", "fusemax", "--model", "BERT", "--seq", "1K"],
        ["compare", "flat", "--seq", "1K"],
        ["systems", "sqa", "--seq", "1K"],
    ):
        CliRunner().invoke(app, command)
    return resident()


def ended(*arguments: str) -> Ended:
    """Run a command in a process of its own."""
    others = warm() - resident()  # what the test has drawn is no memory of the command's
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (END_S, END_S + 1))
        resource.setrlimit(resource.RLIMIT_AS, (END_BYTES, END_BYTES))
        status = 70
        try:
            result = CliRunner().invoke(app, list(arguments), prog_name="accelsim")
            status, error = result.exit_code, result.exc_info
            told = [result.stdout, result.stderr]
            if error is not None and not isinstance(error[1], SystemExit):
                status, told[1] = 70, "".join(traceback.format_exception(*error))
            with open(write, "w", encoding="utf-8") as pipe:
                json.dump([told[0][-(1 << 20) :], told[1][-(1 << 20) :]], pipe)
        finally:
            os._exit(status)
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        text = pipe.read()
    _, status, used = os.wait4(child, 0)
    out, err = json.loads(text) if text else ("", "ended by a limit")
    seconds, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 + others
    return Ended(os.waitstatus_to_exitcode(status), seconds, peak, out, err)


def holds(*arguments: str) -> Ended:
    """The command ends as it may, and cheaply where it refuses."""
    found = ended(*arguments)
    said = f"{arguments}: {found.status}, {found.seconds:.1f} s, {found.peak >> 20} MB"
    assert found.status in (0, 1, 2), f"{said}\n{found.errors[-3000:]}"
    if found.status == 2:
        assert found.seconds <= MOST_S, said
        assert found.peak <= MOST_BYTES, said
        if "--batch" in arguments:  # an object a line
            assert all(json.loads(line) for line in found.output.splitlines()), said
            return found
        assert found.errors.strip(), said
        if "--json" in arguments:
            assert json.loads(found.output)["faults"], said
        else:
            assert not found.output, said
    elif "--json" in arguments and found.output:
        assert isinstance(json.loads(found.output), dict), said
    return found


# -- documents ---------------------------------------------------------------------------------

DEEP: Any = 0
for _ in range(200):
    DEEP = [DEEP]
#: What stands where something else should.
HOSTILE = st.sampled_from(
    [
        *(0, -1, 1, 2, 10**6, 10**12, 10**18, 2**63, 10**300, 10**400, -(10**18), 0.5, -0.0),
        *(math.nan, math.inf, -math.inf, 1e308, 5e-324, True, False, None, "", " ", [], {}, [[]]),
        *(
            "x" * 5000,
            "M" * 300,
            "-",
            "{}",
            "[]",
            "a b",
            "é",
            "0 B",
            "1e308 TB",
            "1e-300 B",
            "-5 GHz",
        ),
        *(
            "nan",
            "inf",
            "1e999 B/s",
            "999999999999999999999 GB",
            "0 pJ",
            "10 ** 10 ** 10",
            "1 // 0",
        ),
        *("9" * 400, "9" * 5000, "M * M * M", "(" * 500, "-" * 500 + "1", "max(" * 99, DEEP),
        *("1 + " * 2000 + "1", "exp(exp(exp(1000)))", "m <= p", "M0", "QK", {"value": 10**18}),
        *("A[i] = B[i]", "Z[m] = " + "A[m] + " * 900 + "A[m]", "Z[m] = A[m" + "+1" * 400 + "]"),
        *("Z[m] = " + "exp(" * 400 + "A[m]" + ")" * 400, "Z = A[99999999999999999999 * m]"),
    ]
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is something in a document."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += paths(inner, (*path, key))
    return found


@st.composite
def documents(draw: st.DrawFn, kind: str) -> str:
    """A shipped document with one to four values that are not what they should be."""
    text = draw(st.sampled_from(SHIPPED[kind]))
    value = (foreign if kind == "foreign" else from_text)(text, "shipped").value
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(paths(value)))
        owner = value
        for step in path[:-1]:
            owner = owner[step]
        match draw(st.sampled_from(["value", "value", "value", "gone", "many", "other", "name"])):
            case "value":
                owner[path[-1]] = copy.deepcopy(draw(HOSTILE))
            case "gone":
                del owner[path[-1]]
            case "many" if isinstance(owner, list):
                owner *= draw(st.sampled_from([2, 30, 300]))
            case "other":
                owner[path[-1]] = copy.deepcopy(draw(st.sampled_from([value, owner])))
            case "name" if isinstance(owner, dict):
                owner[str(draw(HOSTILE))[:2000]] = owner.pop(path[-1])
        if not paths(value):
            break
    return written(value)


def written(value: Any) -> str:
    """A value as YAML, numbers too long for Python's own digits as text."""
    try:
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    except (ValueError, RecursionError, yaml.YAMLError):
        return str(value)[:100_000]


def more(kind: str, name: str) -> list[tuple[str, ...]]:
    """Commands beside those of the other fuzz test: dearer ones, at small sizes."""
    if kind == "cascade":
        small = ("--model", "BERT", "--seq", "64")
        return [
            ("derive", name, "--json"), ("bounds", name, *small), ("systems", name),
            ("map", name, "--arch", "teaching", *small),
            ("estimate", name, "--arch", "h100-sxm", *small, "--json"),
        ]  # fmt: skip
    if kind == "arch":
        return [("map", "matmul", "--arch", name, "--shape", "M=8,N=8,K=8", "--json")]
    return []


KINDS = pytest.mark.parametrize("kind", list(SHIPPED))


def refused(kind: str, text: str, folder: Path) -> None:
    file = folder / "hostile.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    for arguments in (*commands(kind, file), *more(kind, str(file))):
        holds(*arguments)


@pytest.mark.long
@KINDS
@MANY
@given(data=st.data())
def test_hostile_values(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    refused(kind, data.draw(documents(kind)), tmp_path)


#: Texts that are hostile as a whole.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
WHOLE: dict[str, bytes] = {
    "bomb": BOMB.encode(),
    "bomb below a name": b"workload:\n" + BOMB.replace("a", " a").encode(),
    "itself": b"a: &a [*a]",
    "merged": b"a: &a {x: 1}\nb: {<<: [*a, *a, *a], <<: *a}",
    "sequences": b"[" * 200_000,
    "mappings": b"{a: " * 50_000,
    "dashes": b"- " * 100_000,
    "indented": b"".join(b" " * n + b"a:\n" for n in range(2_000)),
    "one line": b"a: " + b"x" * 10_000_000,
    "many lines": b"a: 1\n" * 2_000_000,
    "many names": b"".join(b"a%d: 1\n" % n for n in range(300_000)),
    "many items": b"a:\n" + b"- 1\n" * 1_000_000,
    "zeros": bytes(1 << 20),
    "junk": bytes(range(256)) * 4096,
    "utf-16": "cascade: a\n".encode("utf-16"),
    "utf-32": "cascade: a\n".encode("utf-32"),
    "latin-1": "cascade: é\n".encode("latin-1"),
    "cut": "cascade: é".encode()[:-1],
    "tags": b"!!python/object/apply:os.system ['touch harmed']",
    "tag": b"cascade: !!python/name:os.system\n",
    "json": b'{"a": ' * 100_000,
    "digits": b"a: " + b"9" * 9_000,
    "exponent": b"a: 1e999999999999999999999",
    "sexagesimal": b"a: " + b"1:" * 4_000 + b"1",
    "block": b"a: |\n" + b"  x\n" * 1_000_000,
    "quotes": b'a: "' + b"\\u0041" * 1_600,
    "comments": b"# x\n" * 2_000_000 + b"a: 1",
    "documents": b"---\na: 1\n" * 100_000,
    "directives": b"%YAML 9.9\n---\na: 1\n",
    "controls": (b"\x01" * 9_000 + b"\n") * 400,
    "keys": b"? [a, b]\n: 1\n? {c: d}\n: 2\n",
}
READERS = (
    ("show", "{}"),
    ("passes", "{}"),
    ("estimate", "attention-1pass", "--model", "BERT", "--seq", "1K", "--arch", "{}"),
    ("estimate", "attention-1pass", "--shape", "B=1", "--config", "{}"),
    ("estimate", "--batch", "{}"),
    ("sweep", "{}", "--out", "{}.d"),
    ("systems", "{}"),
    ("import", "{}"),
    ("import", "{}", "--kind", "timeloop-arch"),
)


@pytest.mark.long
@pytest.mark.parametrize("content", WHOLE)
@pytest.mark.parametrize("reader", READERS, ids=lambda r: " ".join(r[:2]).replace(" {}", ""))
def test_hostile_texts(
    content: str, reader: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "hostile.yaml"
    file.write_bytes(WHOLE[content])
    if "--batch" not in reader or WHOLE[content].count(b"\n") < 1000:  # each line has its answer
        assert holds(*(word.format(file) for word in reader)).status == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hostile.yaml"]


@pytest.mark.parametrize("content", ["bomb", "sequences", "one line", "junk", "tags"])
def test_hostile_texts_are_refused_cheaply(content: str, tmp_path: Path) -> None:
    file = tmp_path / "hostile.yaml"
    file.write_bytes(WHOLE[content])
    for reader in (("show", str(file)), ("import", str(file))):
        assert holds(*reader).status == 2


# -- the command line --------------------------------------------------------------------------

HUGE = 10**18
#: Whole commands; the enormous ranks are in every verb that takes a size.
LINES = (
    f"bounds attention-1pass --model BERT --seq {HUGE}",
    f"bounds matmul --shape M={HUGE - 11},N={HUGE},K={HUGE}",
    f"check attention-1pass --shape M={HUGE}",
    f"estimate --design fusemax --model BERT --seq {HUGE}",
    f"estimate attention-1pass --arch h100-sxm --model BERT --seq {HUGE}",
    f"estimate --kernel attention-1pass-mma --shape B=1,H=1,P={HUGE},M={HUGE},E=64,F=64",
    f"simulate --design flat --model BERT --seq {HUGE}",
    "simulate --design fusemax --model BERT --seq 1G --full",
    f"map attention-1pass --arch fusemax-cloud --model BERT --seq {HUGE}",
    f"map attention-1pass --arch h100-sxm --model BERT --seq {HUGE}",
    f"compare --seq {HUGE}",
    f"compare --study binding --seq {HUGE}",
    f"report --seq {HUGE} --out never.html",
    f"systems --seq {HUGE}",
    f"export matmul --arch dram-l2-smem-x64 --mapping fusemax --shape M={HUGE}",
    "bounds attention-1pass --model BERT --seq 4K --capacity nan",
    "bounds attention-1pass --model BERT --seq 4K --word 0B",
    "map matmul --arch teaching --shape M=4,N=4,K=4 --gap nan",
    "map matmul --arch teaching --shape M=4,N=4,K=4 --gap -1",
    "map matmul --arch teaching --shape M=4,N=4,K=4 --buffers 65",
)


@pytest.mark.parametrize("line", LINES)
def test_enormous_sizes_are_refused_cheaply(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert holds(*line.split(), "--json").status == 2
    assert not list(tmp_path.iterdir())


def test_what_is_said_of_sizes_and_shares() -> None:
    for line, said in (
        (f"check matmul --shape M={HUGE}", "--shape:1:3: '1000000000000000000' is no size"),
        ("check matmul --shape M=9999G", "--shape:1:3: '9999G' is more than 1,000,000,000,000"),
        (
            "bounds attention-1pass --shape B=1,H=1,E=4,F=4,P=256,M1=4000000000,M0=1024",
            "size M is more than 1,000,000,000,000",
        ),
        ("map matmul --arch teaching --shape M=4,N=4,K=4 --gap 1", "a gap of 1\n  allowed: 0 or"),
        ("map matmul --arch teaching --shape M=4,N=4,K=4 --buffers 65", "65 buffers\n  allowed: 1"),
    ):
        found = ended(*line.split())
        assert found.status == 2
        assert said in found.errors


def test_what_is_said_of_documents_that_are_too_large(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    for content, verb, said in (
        (b"a:\n" + b"- 1\n" * 200_001, "show", "large.yaml:199999:3: more than 200,000 keys and"),
        (b"a:\n" + b"- 1\n" * 100_001, "import", "large.yaml: more than 100,000 keys and values"),
        (b"a: 1\n" * 101, "show", "large.yaml:101:1: 'a' is given twice"),
        (b"#" * (4 << 20) + b"\n", "show", "large.yaml: more than 4 MiB of text"),
    ):
        file.write_bytes(content)
        found = ended(verb, str(file))
        assert found.status == 2
        assert said in found.errors


def test_faults_beyond_a_hundred_are_counted() -> None:
    faults = [Fault(Place("a.yaml", n), "wrong") for n in range(1, 104)]
    told = str(InputError(faults)).splitlines()
    assert len(told) == 101
    assert told[-1] == "and 3 more"


def test_too_little_memory_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(_: str) -> None:
        raise MemoryError

    monkeypatch.setattr("accelsim.explore.documents.list_names", greedy)
    found = CliRunner().invoke(app, ["list", "--json"])
    assert found.exit_code == 2
    assert "there is not enough memory for that\n  allowed: smaller sizes" in found.stderr
    assert json.loads(found.stdout)["faults"][0]["allowed"] == "smaller sizes"


VERBS = {c.name: c for c in app.registered_commands}
#: Options of all verbs, and what each may be told.
OPTIONS = (
    *("--arch", "--mapping", "--design", "--kernel", "--model", "--seq", "--shape", "--config"),
    *("--set", "--choose", "--batch", "--capacity", "--word", "--curve", "--gap", "--buffers"),
    *("--tile", "--hold", "--unit", "--spread", "--objective", "--pareto", "--json", "--kind"),
    *("--rank", "--seed", "--baseline", "--study", "--ours", "--simulate", "--detail", "--title"),
    *("--full", "--execute", "--physical", "--linear", "--brief", "--from", "--name", "--gpu"),
    *("--workers", "--to", "--h", "-h", "--version", "--", "-"),
)
TOLD = (
    *(
        "attention-1pass",
        "attention-3pass",
        "matmul",
        "fusemax",
        "flat",
        "fusemax-cloud",
        "teaching",
    ),
    *("h100-sxm", "BERT", "1K", "64", "0", "-1", "1e18", str(HUGE), "nan", "inf", "-inf", "", " "),
    *("M=4,N=4,K=4", "M=0", "M", "=", ",", "M=4,M=5", "B=1,H=1,P=64,M=64,E=16,F=16", "M=1e3"),
    *("clock=0 Hz", "clock=nan", "buffer.capacity=0 B", "dram.bandwidth=1e308 TB/s", "x.y.z=1"),
    *("M0=4", "M0=0", "QK=array_2d", "QK=", "latency", "energy", "16MiB", "-5 B", "1e300 B", "/"),
    *(
        "/dev/null",
        "/",
        ".",
        "..",
        "~",
        "nosuch.yaml",
        "M0=" + "9" * 400,
        "\x00",
        "\ud800",
        "é" * 99,
    ),
    *("a" * 5000, "../" * 50 + "etc/passwd", "binding", "resources", "gpu", "fusemax", "list"),
)


@pytest.mark.long
@settings(LIMITS, max_examples=3000)
@given(
    st.sampled_from(sorted(set(VERBS) - {"calibrate", "sweep", "report", "validate"})),
    st.lists(st.sampled_from(TOLD), max_size=2),
    st.lists(st.tuples(st.sampled_from(OPTIONS), st.sampled_from(TOLD)), max_size=4),
)
def test_hostile_arguments(verb: str, plain: list[str], told: list[tuple[str, str]]) -> None:
    holds(verb, *plain, *(word for pair in told for word in pair))
