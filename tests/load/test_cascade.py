"""Documents to cascades: what may be written how, limits, and that no input gives a traceback."""

import json
import os
import resource
import subprocess
import sys
import time

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import InputError
from accelsim.ir.cascade import Index, Last, Reduction
from accelsim.ir.show import show
from accelsim.ir.textbook import TEXTBOOK
from accelsim.load import cascade, catalog
from accelsim.load.cascade import CascadeText, cascade_from_text, load_cascade
from accelsim.load.source import from_text

SHIPPED = {n: catalog.find("cascade", n).read_text("utf-8") for n in catalog.names("cascade")}


def faults(text):
    with pytest.raises(InputError) as caught:
        cascade_from_text(text, "c.yaml")
    return caught.value.faults


def document(*lines, ranks="[B, M, P, E]", inputs="{X: [B, M]}", output="Y", more=""):
    einsums = "\n".join(f"  - {line}" for line in lines)
    return (
        f"cascade: c\nranks: {ranks}\ninputs: {inputs}\noutput: {output}\n{more}einsums:\n{einsums}"
    )


# --- what may be written -----------------------------------------------------------------------


def test_everything_that_a_document_says():
    c = cascade_from_text(SHIPPED["attention-1pass"], "f.yaml")
    assert c.name == "attention-1pass"
    assert c.ranks == ("B", "H", "P", "M", "E", "F")
    assert c.splits == (("M", ("M1", "M0")),)
    assert [t.name for t in c.inputs] == ["Q", "K", "V"]
    assert c.tensors["K"] == ("B", "H", "M1", "M0", "E")
    assert c.iterative == {"RM": "M1", "RD": "M1", "RNV": "M1"}
    assert c.outputs == ("AV",)
    assert c.equals == "attention"
    assert "FuseMax" in c.source
    assert c.einsums[-1].reads[0].indices[2] == Last("M1")
    assert (c.place.file, c.place.line) == ("f.yaml", 1)


@pytest.mark.parametrize(
    "item",
    [
        "Y[b] = X[b,m] :: max(m)",
        "Y[b] = X[b,m] ::   max(m)   # the maximum",
        "Y[b] = X[b,m]::max(m)",
        "'Y[b] = X[b,m] :: max(m)'",
        '"Y[b] = X[b,m] :: max(m)"',
        ">-\n    Y[b] = X[b,m]\n    :: max(m)",
        "|\n    Y[b] =\n      X[b,m] :: max(m)",
        "Y[b] = X[b,m] ::\n      max(m)",
        "Y[b] =\n      X[b,m] ::max(m)",
    ],
)
def test_ways_to_write_a_line(item):
    (einsum,) = cascade_from_text(document(item)).einsums
    assert einsum.reductions == (Reduction("max", ("m",)),)


@pytest.mark.parametrize(
    ("item", "line", "column"),
    [
        ("Y[b] = X[b,m] :: maxx(m)", 6, 22),
        ("Y[b] = X[b,m] ::    maxx(m)", 6, 25),
        ("'Y[b] = X[b,m] :: maxx(m)'", 6, 23),
        ('"Y[b] \\x3d X[b,m] :: maxx(m)"', 6, 26),
        ("Y[b] = X[b,m] ::\n      maxx(m)", 7, 7),
        (">\n    Y[b] = X[b,m]\n    :: maxx(m)", 8, 8),
        ("|\n    Y[b] =\n\n      X[b,m] :: maxx(m)", 9, 17),
    ],
)
def test_places_in_every_way_to_write_a_line(item, line, column):
    (fault,) = faults(document(item))
    assert (fault.place.line, fault.place.column) == (line, column)
    assert fault.place.text[column - 1 :].startswith("maxx")


def test_a_causal_tiling():
    c = cascade_from_text(
        document(
            "S[b,m1,m0,p1,p0] = Q[b,p1,p0,e] * K[b,m1,m0,e] where m <= p",
            "Y[b,p1,p0] = S[b,m1,m0,p1,p0]",
            inputs="{Q: [B, P, E], K: [B, M, E]}",
            more="split: {M: [M1, M0], P: [P1, P0]}\n",
        )
    )
    (condition,) = c.einsums[0].where
    assert condition.left == Index((("m1", "M0"), ("m0", 1)))
    assert condition.right == Index((("p1", "P0"), ("p0", 1)))
    assert "where m1*M0+m0 <= p1*P0+p0" in show(c)


@pytest.mark.parametrize(
    "lines",
    [
        ("Y[b,p] = X[b,p+e] where e <= 4",),  # a window, within M
        ("Y[b,p] = X[b,clamp(p+e-2)]",),
        ("Y[b,p] = X[b // 2,zero(2*p+e-1)] * E",),
        ("N = X[b,m] / B / M", "Y[b,m] = X[b,m] - N"),  # scalars
        ("R[0,b] = 0", "R[m+1,b] = R[m,b] + X[b,m]", "Y[b] = R[M,b]"),
        ("R[0,b] = 1", "R[m+1,b] = 2", "Y[b,m] = R[m,b] * R[m+1,b] + R[0,b] + X[b,m]"),
        (  # recurrences that carry one another, and a line between that needs the earlier slot
            "R[b,0] = 0",
            "S[b,0] = 1",
            "T[b,m] = S[b,m] * X[b,m]",
            "R[b,m+1] = R[b,m] + T[b,m]",
            "S[b,m+1] = S[b,m] * R[b,m+1]",
            "Y[b] = R[b,M] + S[b,M]",
        ),
        ("Y[b] = X[b,m] :: argmax(m)",),
        ("Y[b] = X[b,m] where X[b,m]",),
        ("F[b,m] = 1", "Y[b] = X[b,m] * F[b,m]"),
        ("Y[p] = 1 where m <= p and X[b,m]",),  # a count
        ("E[b] = X[b,m]", "Y[b] = E[b] / E"),  # a tensor and a rank of one name
    ],
)
def test_what_is_right(lines):
    c = cascade_from_text(document(*lines))
    assert cascade_from_text(show(c)) == c


def test_an_input_over_a_part():
    text = document(
        "Y[b] = X[b,m1,m0] * S[m1]",
        inputs="{X: [B, M], S: [M1]}",
        more="split: {M: [M1, M0]}\n",
    )
    assert cascade_from_text(text).tensors["S"] == ("M1",)


# --- equals ------------------------------------------------------------------------------------


def test_textbook_names_are_known_without_numpy():
    assert set(TEXTBOOK) == cascade._TEXTBOOK


def test_equals(tmp_path):
    assert cascade_from_text(document("Y[b] = X[b,m]", more="equals: attention-3pass\n"))
    (fault,) = faults(document("Y[b] = X[b,m]", more="equals: atention\n"))
    assert str(fault).startswith("c.yaml:5:9: unknown function or cascade 'atention'")
    assert fault.allowed.startswith("attention or attention-gqa")
    (tmp_path / "other.yaml").write_text(document("Y[b] = X[b,m]"))
    mine = tmp_path / "mine.yaml"
    mine.write_text(document("Y[b] = X[b,m]", more="equals: other.yaml\n"))
    assert load_cascade(mine).equals == "other.yaml"


def test_a_name_that_is_no_cascade():
    with pytest.raises(InputError, match="unknown cascade 'attention-3pas'"):
        load_cascade("attention-3pas")


# --- the model of the document -----------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.sampled_from(["", "M", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("MXY"), inner),
    max_leaves=4,
)
GOOD = {
    "cascade": "c",
    "ranks": ["M"],
    "inputs": {"X": ["M"]},
    "output": "Y",
    "einsums": ["Y = X[m]"],
    "constants": {"eps": 1},
    "split": {"M": ["M1"]},
}


@given(
    st.dictionaries(st.sampled_from([*GOOD, *cascade._TEXTS, "outputs", "no"]), VALUES), st.data()
)
def test_what_fits_is_what_the_model_takes(changes, data):
    value = {**GOOD, **changes}
    for key in data.draw(st.sets(st.sampled_from(sorted(value)), max_size=1)):
        del value[key]
    try:
        CascadeText.model_validate(value)
    except ValueError:
        assert not cascade._fits(value)
    else:
        assert cascade._fits(value)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_schema_takes_shipped_cascades_as_yaml_reads_them(name):
    jsonschema.validate(from_text(SHIPPED[name]).value, CascadeText.model_json_schema())


@pytest.mark.parametrize(
    "change",
    [{"ranks": ["m"]}, {"einsums": [1]}, {"einsums": [{"a": "b"}]}, {"extra": 1}, {"ranks": "M"}],
)
def test_the_schema_refuses(change):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(GOOD | change, CascadeText.model_json_schema())
    assert json.dumps(CascadeText.model_json_schema())


def test_no_other_attribute():
    with pytest.raises(AttributeError):
        cascade.Nonsense  # noqa: B018


# --- limits and speed --------------------------------------------------------------------------


def promptly(call, *arguments):
    """The answer to a large input, which a slow algorithm would not give within the test run."""
    return call(*arguments)


def test_a_hundred_thousand_lines():
    lines = [f"T{i}[b] = X[b,m]" for i in range(100_000)]
    found = promptly(faults, document(*lines, output="T7"))
    assert [f.message for f in found] == ["100000 Einsums"]
    assert found[0].place.line == 6 + 2048
    assert found[0].allowed == "2048 Einsums in a cascade"


def test_a_hundred_thousand_faults():
    found = promptly(faults, document(*["Y[b = "] * 100_000))
    assert [f.message for f in found] == ["100000 Einsums"]
    found = promptly(faults, document(*["Y[b = "] * 2048))
    assert len(found) == 301  # nobody reads on


def test_a_hundred_thousand_comments():
    text = "# a comment\n" * 100_000 + document("Y[b] = X[b,m]") + "\n" + "\n" * 100_000
    assert promptly(cascade_from_text, text).einsums[0].place.line == 100_006


@pytest.mark.parametrize("backwards", [False, True])
def test_a_chain_of_as_many_lines_as_there_may_be(backwards):
    lines = ["T0[b] = X[b,m]", *(f"T{i}[b] = exp(T{i - 1}[b])" for i in range(1, 2048))]
    if backwards:
        found = promptly(faults, document(*lines[::-1], output="T0"))
        assert len(found) == 300
        assert found[0].message == "T2046 is read before it is written (in line 7)"
    else:
        assert len(promptly(cascade_from_text, document(*lines, output="T9")).einsums) == 2048


def test_a_long_line():
    text = document(">\n" + "    + X[b,m]\n" * 4000)
    (fault, *_) = promptly(faults, text)
    assert fault.message == "output Y is never written"
    assert faults(text)[1].message == "an Einsum of 36000 characters"


def test_a_deep_line_and_a_deep_document():
    deep = document("Y[b] = " + "exp(" * 1900 + "X[b,m]" + ")" * 1900)
    assert "nested deeper than 100" in promptly(faults, deep)[-1].message
    assert "nested deeper than 64" in promptly(faults, "cascade: " + "[" * 9000)[-1].message


def test_many_faults_in_one_folded_line():
    text = document(">\n" + "    Y[b] =\n" + "    X[x,y] +\n" * 1000 + "    1")
    assert promptly(faults, text)


@pytest.mark.bench
def test_start_up_of_one_cascade(capsys):
    """Bounds processor time: with other work on the machine wall time says little of the load."""
    program = "from accelsim.load.cascade import load_cascade; load_cascade('attention-1pass')"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    found = []
    for _ in range(5):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, env=environment)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append((used, wall))
    used, wall = min(found)
    with capsys.disabled():
        print(
            f"\nload one cascade, start-up included: {used:.3f} s of processor, {wall:.3f} s wall"
        )
    assert used < 0.25


def test_loading_imports_nothing_heavy():
    program = (
        "import sys\nfrom accelsim.load.cascade import load_cascade\n"
        "load_cascade('attention-1pass')\n"
        "print([m for m in ('numpy', 'pydantic', 'rich', 'typer', 'scipy') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


# --- anything at all ---------------------------------------------------------------------------

PIECES = [*"[]{}()=:,-+*/|>'\"#&!%@`\\\t\n mMp01", "::", "//", "where ", "and ", "max(m)", "-inf"]
PIECES += ["topk(m -> r)", "clamp(", "\x00", "\x85", "\ufeff", "é", "\ud800", "1e999", "null", "~"]
PIECES += ["\n  - ", "\n- ", "ranks: ", "split: {M: [M1, M0]}\n", "?", "...", "---\n", "(" * 300]


@st.composite
def mutants(draw):
    """A shipped document after a few cuts, insertions, exchanges, and lines moved or lost."""
    text = SHIPPED[draw(st.sampled_from(sorted(SHIPPED)))]
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 12))
        lines = text.split("\n")
        line = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                text = text[:start] + text[end:]
            case 1:
                text = text[:start] + draw(st.sampled_from(PIECES)) + text[start:]
            case 2:
                text = (
                    text[:start] + draw(st.sampled_from(PIECES) | st.text(max_size=4)) + text[end:]
                )
            case 3:
                text = "\n".join(lines[:line] + lines[line + 1 :])
            case 4:
                other = draw(st.integers(0, len(lines) - 1))
                lines[line], lines[other] = lines[other], lines[line]
                text = "\n".join(lines)
            case 5:
                text = "\n".join([*lines[: line + 1], *lines[line:]])
    return text


def only_input_errors(text):
    try:
        found = cascade_from_text(text, "m.yaml")
    except InputError as error:
        located(error)
        return
    assert cascade_from_text(show(found)) == found


def located(error):
    """Every fault is in the document, within a line of it."""
    assert error.faults
    for fault in error.faults:
        place = fault.place
        assert place.file == "m.yaml"
        assert place.line == 0 or 1 <= place.column <= len(place.text) + 1
        assert fault.message


@given(mutants())
@settings(max_examples=300)
def test_mutated_documents_give_only_input_errors(text):
    only_input_errors(text)


@pytest.mark.long
@given(mutants())
@settings(max_examples=20_000, deadline=None)
def test_many_mutated_documents_give_only_input_errors(text):
    only_input_errors(text)


@given(st.text() | st.binary())
def test_any_text_or_bytes_give_only_input_errors(tmp_path_factory, text):
    if isinstance(text, str):
        only_input_errors(text)
        return
    path = tmp_path_factory.mktemp("any") / "any.yaml"
    path.write_bytes(text)
    with pytest.raises(InputError):
        load_cascade(path)
