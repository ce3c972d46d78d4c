"""``estimate`` from names: workloads, overrides, choices, batches, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accelsim.errors import InputError
from accelsim.explore.estimate import batch, bind, estimate


def messages(error: pytest.ExceptionInfo[InputError]) -> list[str]:
    return [fault.message for fault in error.value.faults]


def test_json_keys() -> None:
    found = estimate(design="fusemax", model="BERT", seq="4K").to_dict()
    wanted = [
        "latency_s",
        "energy_j",
        "area_mm2",
        "traffic_bytes",
        "utilisation",
        "peak_bytes",
        "bound_by",
        "einsums",
    ]
    assert [k for k in wanted if k not in found] == []
    assert {"name", "unit", "busy_s"} <= set(found["einsums"][0])
    json.dumps(found, allow_nan=False)


def test_a_design_is_its_parts() -> None:
    whole = estimate(design="flat", model="XLM", seq="4K")
    parts = estimate("attention-3pass", arch="flat-cloud", mapping="flat", model="XLM", seq="4K")
    assert whole == parts


def test_a_choice_replaces_the_published_one() -> None:
    published = bind(design="flat", model="BERT", seq="16K")[2]
    chosen = bind(design="flat", model="BERT", seq="16K", choose={"block": 512})[2]
    assert dict(published.values)["block"] == 1024
    assert dict(chosen.values)["block"] == 512


def test_where_flat_published_nothing_the_rule_decides() -> None:
    values = dict(bind(design="flat", shape="B=1,H=2,E=64,F=32,M=2048,P=4096")[2].values)
    assert values["scores"] == "onchip"
    assert values["block"] == 4096
    far = dict(bind(design="flat", shape="B=1,H=2,E=64,F=32,M=1M,P=1M")[2].values)
    assert far["scores"] == "offchip"
    assert far["QK_stationarity"] == "weight"


def test_the_rule_agrees_with_most_published_choices() -> None:
    """What FLAT chose for the scores, against the rule for where it published nothing."""
    agree = total = 0
    for model in ("BERT", "XLM"):
        for seq in ("1K", "2K", "4K", "16K", "32K", "64K", "256K", "512K", "1M"):
            problem, machine, published = bind(design="flat", model=model, seq=seq)
            own = {"scores", "block", "QK_stationarity"}
            from accelsim.load.mapping import load_mapping

            ruled = dict(load_mapping("flat").lets)
            scope = {**machine.level, **machine.unit, **problem.sizes, "word": machine.word_bytes}
            values: dict[str, object] = {}
            for name, text in ruled.items():
                values[name] = scope[name] = text.value(scope)
            total += 1
            agree += all(values[n] == dict(published.values)[n] for n in own)
    assert agree / total > 0.8


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"design": "fusemax"}, "no workload is given"),
        (
            {"arch": "fusemax-cloud", "model": "BERT", "seq": 1024},
            "estimate needs cascade and mapping",
        ),
        (
            {"design": "fusemax", "shape": "B=1,H=1"},
            "no size for ranks E, F, M, P of attention-1pass",
        ),
        (
            {"design": "fusemax", "shape": "B=1,H=1,E=4,F=4,M=256,P=256,X=1"},
            "cascade attention-1pass has no rank X",
        ),
        (
            {"design": "flat", "model": "BERT", "seq": 1024, "choose": {"blok": 1}},
            "the mapping flat has no value 'blok' to choose",
        ),
        (
            {"design": "fusemax", "model": "BERT", "seq": 1000},
            "M = 1000 does not split into M1 = 3.90625, M0 = 256",
        ),
        (
            {
                "design": "fusemax",
                "model": "BERT",
                "seq": 1024,
                "sets": ["buffer.capacity=100 KiB"],
            },
            "the tiles that 'attention' holds in buffer need 129 KiB, 29 KiB more than its 100 KiB",
        ),
        (
            {"design": "fusemax", "arch": "flat-cloud", "model": "BERT", "seq": 1024},
            "array_2d has no operation for 'max', which LM needs",
        ),
        (
            {"design": "flat", "cascade": "attention-1pass", "model": "BERT", "seq": 1024},
            "the mapping is for attention-3pass, not for attention-1pass",
        ),
    ],
)
def test_refusals(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        estimate(**keywords)  # type: ignore[arg-type]
    assert message in messages(caught)


def test_batch_answers_every_line(tmp_path: Path) -> None:
    requests = tmp_path / "cases.jsonl"
    lines = [
        '{"design": "fusemax", "model": "BERT", "seq": "1K"}',
        "",
        '{"design": "fusemax", "model": "BERT", "seq": 1000}',
        "nope",
        "[1]",
        '{"design": 3, "x": 1}',
    ]
    requests.write_text("\n".join(lines))
    found = list(batch(requests))
    assert found[0] == estimate(design="fusemax", model="BERT", seq="1K").to_dict()
    assert [answer["line"] for answer in found[1:]] == [3, 4, 5, 6]
    assert "M = 1000 does not split" in found[1]["faults"][0]
    assert "no JSON: Expecting value" in found[2]["faults"][0]
    assert "no JSON object" in found[3]["faults"][0]
    assert [text.split(": ")[1].split("\n")[0] for text in found[4]["faults"]] == [
        "design cannot be 3",
        "unknown key 'x'",
    ]


def test_batch_of_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        list(batch(tmp_path / "none.jsonl"))


def test_physical_accounting_only_adds() -> None:
    plain = estimate(design="fusemax", model="BERT", seq="4K")
    whole = estimate(design="fusemax", model="BERT", seq="4K", physical=True)
    extra = set(whole.energy_by_j) - set(plain.energy_by_j)
    assert extra == {"register files", "leakage"}
    assert whole.energy_j - plain.energy_j == pytest.approx(
        sum(whole.energy_by_j[name] for name in extra)
    )
    assert whole.latency_s == plain.latency_s
