"""``accelsim map`` from outside: exit status, JSON keys, messages, files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.load import catalog
from tests.cli.test_app import answer, run
from tests.cli.test_fuzz import holds, mutated

SMALL = ("map", "attention-3pass", "--arch", "teaching", "--shape", "B=1,H=1,M=8,P=8,E=4,F=4")
MATMUL = ("map", "matmul", "--arch", "teaching", "--shape", "M=8,N=8,K=8")
KEYS = {
    *("objective", "value", "lower_bound", "above_bound", "claim", "search", "nest", "grow"),
    *("latency_s", "energy_j", "traffic_bytes", "peak_bytes", "bound_by", "document"),
}


def test_json_has_figures_claim_search_and_mapping() -> None:
    found = answer(*SMALL)
    assert set(found) >= KEYS
    assert found["value"] == found["latency_s"] >= found["lower_bound"]
    seen = found["search"]
    assert seen["mappings"] >= seen["points"] >= seen["solved"] >= 1
    assert set(seen["given_up"]) == {"bound", "room"}


def test_people_get_nest_claim_and_what_to_grow() -> None:
    out, _ = run(*MATMUL, "--objective", "energy")
    assert "buffer holds" in out
    assert "C[m,n] = A[m,k] * B[k,n]  on array_2d" in out
    assert "lower bound" in out
    assert "what twice of it would bring" in out


def test_what_is_written_is_taken_back_with_the_same_numbers(tmp_path: Path) -> None:
    file = tmp_path / "found.yaml"
    found = answer_beside_note(*SMALL, "--out", str(file))
    back = answer("estimate", *SMALL[1:], "--mapping", str(file))
    same = ("latency_s", "energy_j", "traffic_bytes", "peak_bytes", "utilisation")
    assert [found[k] for k in same] == [back[k] for k in same]
    seen = answer("simulate", *SMALL[1:], "--mapping", str(file), "--execute")
    assert seen["holds"]
    assert seen["max_rel_error"] < 1e-12


def answer_beside_note(*arguments: str) -> dict[str, object]:
    import json

    out, err = run(*arguments, "--json")
    assert err.startswith("wrote ")
    found: dict[str, object] = json.loads(out)
    return found


def test_the_same_question_gets_the_same_answer() -> None:
    one, other = (answer(*MATMUL, "--objective", "edp") for _ in range(2))
    assert one["document"] == other["document"]


def test_a_front_in_room_latency_and_energy() -> None:
    rows = answer(*MATMUL[:-1], "M=4,N=4,K=2", "--pareto")["front"]
    figures = [(r["latency_s"], r["energy_j"], r["buffer_bytes"]) for r in rows]
    assert len(figures) > 2
    for one in figures:
        others = [o for o in figures if o != one]
        assert not any(all(a <= b for a, b in zip(o, one, strict=True)) for o in others)


def test_the_least_room() -> None:
    found = answer(*MATMUL, "--objective", "buffer")
    whole = answer(*MATMUL)
    assert found["objective"] == "buffer"
    assert found["latency_s"] <= whole["latency_s"] * (1 + 1e-3)
    assert found["peak_bytes"]["buffer"] <= whole["peak_bytes"]["buffer"]
    assert found["claim"] == "as fast as with all the room, in the least room to within 19%"


REFUSED = {
    ("--unit", "A=array_2d"): "--unit: array_2d has no operation for div, which A needs",
    ("--unit", "QK=gpu"): "--unit: no unit 'gpu' in teaching\n  allowed: array_1d, array_2d",
    ("--unit", "ZZ=array_1d"): "no Einsum 'ZZ' in attention-3pass",
    ("--unit", "QK"): "--unit: 'QK' is no pair\n  allowed: NAME=VALUE",
    ("--unit", "QK=a", "--unit", "QK=b"): "--unit: QK is given twice",
    ("--hold", "QK=l7"): "no level 'l7' in teaching\n  allowed: buffer, dram, registers",
    ("--hold", "XX=buffer"): "no tensor 'XX' in attention-3pass",
    ("--hold", "K=dram"): "--hold: K cannot be held in dram",
    ("--tile", "M0=7"): (
        "M = 8 does not split with M0=7\n"
        "  allowed: tiles of which the last is cut wherever the others are"
    ),
    ("--tile", "Q0=4"): "no rank of attention-3pass has a part 'Q0'",
    ("--tile", "M0=x"): "--tile",
    ("--spread", "QK=E"): "--spread: 'E' names no rows and columns\n  allowed: EINSUM=ROWS/COLUMNS",
    ("--spread", "ZZ=E/M"): "no Einsum 'ZZ' in attention-3pass",
    ("--spread", "QK=F/M"): "QK has no rank 'F' to spread\n  allowed: B, E, H, M, P",
    ("--buffers", "0"): "0 buffers\n  allowed: 1, or 2 for double buffering",
    ("--objective", "speed"): "no objective 'speed'\n  allowed: buffer, edp, energy, latency",
    ("--out", "/dev/null/x.yaml"): "/dev/null/x.yaml: cannot be written: Not a directory",
    ("--hold", "QK=buffer", "--hold", "K=buffer", "--set", "buffer.capacity=1B"): (
        "levels.buffer.capacity: K and QK in buffer need at least 8 B, 7 B more than its 1 B\n"
        "  allowed: a capacity of 8 B, or a level further out"
    ),
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_what_cannot_be_is_refused_with_its_reason(arguments: tuple[str, ...]) -> None:
    _, err = run(*SMALL, *arguments, status=2)
    assert REFUSED[arguments] in err


@pytest.mark.filterwarnings("error")
def test_levels_without_room_are_gone_round() -> None:
    out, err = run(*MATMUL, "--set", "buffer.capacity=0B", "--set", "registers.capacity=0B")
    assert not err
    assert "buffer holds" not in out


def test_a_wish_is_kept() -> None:
    found = answer(*SMALL, "--unit", "GM=array_2d", "--tile", "M0=2", "--spread", "QK=P/E")
    units = {e["name"]: e["unit"] for e in found["einsums"]}
    assert units["GM"] == "array_2d"
    assert found["choices"]["M0"] == 2


def test_a_tile_as_long_as_its_rank_is_the_rank_uncut() -> None:
    whole = answer(*MATMUL, "--tile", "K0=8", "--objective", "energy")
    assert whole["energy_j"] >= answer(*MATMUL, "--objective", "energy")["energy_j"] * (1 - 1e-3)


def test_no_unit_can_do_it() -> None:
    _, err = run("map", "attention-3pass", "--arch", "tpu-v4i", "--shape", SMALL[-1],
                 "--unit", "QK=scalar", status=2)  # fmt: skip
    assert "scalar has no operation for mac, which QK needs" in err


def test_windows_are_not_searched_yet() -> None:
    _, err = run("map", "attention-window", "--arch", "teaching", "--shape",
                 "B=1,H=1,M=8,E=4,F=4,W=3", status=2)  # fmt: skip
    assert "through a window, a quotient or a selection" in err


MUTATED = {
    "arch": ["teaching", "fusemax-cloud", "flat-edge", "tpu-v4i"],
    "cascade": ["softmax", "attention-3pass", "attention-1pass"],
}


def mapped(kind: str, text: str, folder: Path) -> None:
    """``map`` of a mutated document ends as it may."""
    file = folder / "mutated.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    if kind == "arch":
        holds("map", "softmax", "--arch", str(file), "--shape", "B=2,M=4", "--json")
    else:
        shape = "B=1,M=4" if "softmax of each row" in text else "B=1,H=1,P=2,M=4,E=2,F=2"
        holds("map", str(file), "--arch", "teaching", "--shape", shape, "--json")


FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.mark.parametrize("kind", list(MUTATED))
@settings(FUZZ, max_examples=4)
@given(data=st.data())
def test_mutated_documents(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    files = catalog.files(kind)
    texts = [files[name].read_text(encoding="utf-8") for name in MUTATED[kind]]
    mapped(kind, data.draw(mutated(texts)), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kind", list(MUTATED))
@settings(FUZZ, max_examples=200)
@given(data=st.data())
def test_many_mutated_documents(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    files = catalog.files(kind)
    texts = [files[name].read_text(encoding="utf-8") for name in MUTATED[kind]]
    mapped(kind, data.draw(mutated(texts)), tmp_path)
