"""What instructions wait in blocks alone on their multiprocessors, as counted and as described."""

from __future__ import annotations

import pytest

from accelsim.explore import gpu_records
from accelsim.load.kernel import load_kernel
from accelsim.models.gpu_rows import issued_of, row_threads

ROWS = [row for row, _ in gpu_records.rows("h100-sxm", "alone-waits")]
#: Of long rows under a causal mask the second warp waits for the first.
SHORT = [r for r in ROWS if "op" in r["case"] and r["case"]["columns"] == 1024]


def own_waits(found: dict[str, float]) -> float:
    """Cycles that an instruction waits for those before it of its own warp, loads apart."""
    kinds = "fixed", "short", "dispatch", "pipe", "fetch", "branch"
    return sum(found[f"{kind}_waits"] for kind in kinds)


@pytest.mark.parametrize("row", [r for r in ROWS if "cache" in r["case"]])
def test_decoding_waits_as_counted(row) -> None:
    cache = row["case"]["cache"]
    waits = load_kernel("decode-split").waited(str(cache["bits"]), cache["E"])
    assert waits == pytest.approx(own_waits(row["kernels"][0]), abs=0.011)


@pytest.mark.parametrize("row", [r for r in ROWS if "linear" in r["case"]])
def test_linear_attention_waits_as_counted(row) -> None:
    kernel, dim = load_kernel("linear-attention"), row["case"]["linear"]["E"]
    states, _, outputs = row["kernels"]
    assert kernel.waited("states", dim) == pytest.approx(own_waits(states), abs=0.011)
    waits = own_waits(outputs) + outputs["barrier_waits"]
    assert kernel.waited("outputs", dim) == pytest.approx(waits, abs=0.011)


@pytest.mark.parametrize("row", SHORT, ids=lambda r: f"{r['case']['op']} {r['case']['form']}")
def test_rows_wait_as_counted(row) -> None:
    found = row["kernels"][0]
    waits = dict(load_kernel(row["case"]["op"]).waits)[row["case"]["form"]]
    assert waits == pytest.approx(own_waits(found) + found["barrier_waits"], abs=0.011)


def test_every_width_and_form_was_counted() -> None:
    assert sum("cache" in row["case"] for row in ROWS) == 9
    forms = {(r["case"]["op"], r["case"]["form"]) for r in SHORT}
    for op in ("softmax", "rmsnorm", "layernorm"):
        assert {form for kernel, form in forms if kernel == op} == set(dict(load_kernel(op).waits))


@pytest.mark.parametrize(
    "row",
    [r for r in ROWS if r["case"].get("form", "").startswith("held")],
    ids=lambda r: f"{r['case']['op']} {r['case']['form']} {r['case']['columns']}",
)
def test_rows_issue_as_counted(row) -> None:
    """Of a causal matrix the mean over rows one as long as another."""
    case, (found,) = row["case"], row["kernels"]
    share = 0.5 + 0.5 / case["columns"] if "causal" in case["form"] else 1.0
    kernel = load_kernel(case["op"])
    threads = row_threads(kernel, "held", case["columns"])
    _, issued, _ = issued_of(kernel, "held", case["columns"], threads, share)
    assert issued == pytest.approx(found["instructions"] / case["rows"], rel=0.03)
