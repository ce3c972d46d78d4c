"""What the report page says below the pictures: its sections as tables of HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from accelsim.report.numbers import amount, deviation, percent, ratio
from accelsim.report.sweep import figure
from accelsim.report.systems import _count as count
from accelsim.report.systems import _short as short

Result: TypeAlias = Mapping[str, Any]


def sections(result: Result) -> Iterator[tuple[str, str, str]]:
    """Anchor, heading and inner HTML of each section, in the order of the page."""
    yield "speedup", "Speedup and energy", _comparison(result["comparison"])
    yield "roofline", "Roofline", _roofline(result["rooflines"])
    yield "schedule", "Schedule", ""
    yield "passes", "Passes", "".join(map(_passes, result["passes"], result["passes"].values()))
    if result["bounds"]:
        yield "traffic", "Traffic and its bounds", _bounds(result["bounds"])
    if "validation" in result:
        yield "validation", "Predicted and published: FuseMax", _published(result["validation"])
    if "published" in result:
        yield "published", "Predicted and published: other papers", _published(result["published"])
    if "gpu" in result:
        yield "gpu", f"Predicted and measured: {result['gpu']['gpu']}", _gpu(result["gpu"])
    if "systems" in result:
        yield "systems", "Published systems", _systems(result["systems"])
    if "front" in result:
        yield "front", "Pareto front", _front(result["front"])


def _comparison(found: Result) -> str:
    averages = "".join(
        f"<li>{html.escape(name)}<b>{ratio(row['speedup'])}</b>"
        f"{percent(row['energy_ratio'])} of the energy</li>"
        for name, row in found["averages"].items()
        if name != found["baseline"]
    )
    columns = ("model", "length", "design", "latency", "speedup", "energy", "relative", "bound by")
    rows = [
        (
            row["model"],
            row["seq"],
            row["design"],
            amount(row["latency_s"], "seconds"),
            ratio(row["speedup"]),
            amount(row["energy_j"], "joules"),
            percent(row["energy_ratio"]),
            row["bound_by"],
        )
        for row in found["rows"]
    ]
    return f'<ul class="numbers">{averages}</ul>{table(columns, rows, left=3)}'


def _roofline(found: Sequence[Result]) -> str:
    rows = [
        (
            r["design"],
            r["arch"],
            f"{r['rate'] / 1e12:.4g}",
            f"{r['mix'] / 1e12:.4g}",
            percent(r["rate"] / r["mix"]),
            *(f"{r['intensity'].get(level, math.nan):.4g}" for level in _levels(found)),
        )
        for r in found
    ]
    columns = (
        *("design", "machine", "Tops a second", "its Einsums allow", "reached"),
        *(f"operations a byte of {level}" for level in _levels(found)),
    )
    return table(columns, rows, left=2)


def _levels(found: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(level for r in found for level in r["intensity"]))


def _passes(cascade: str, found: Result) -> str:
    steps = "".join(
        f"<li>{html.escape(rank)}: {html.escape(step)}</li>"
        for rank, why in found["why"].items()
        for step in why
    )
    heading = f"{html.escape(cascade)}: what forces each pass"
    return f"<details><summary>{heading}</summary><ul>{steps}</ul></details>"


def _bounds(found: Mapping[str, Result]) -> str:
    columns = ("cascade", "capacity", "compulsory", "lower bound", "attainable", "live footprint")
    names = ("capacity_bytes", "compulsory_bytes", "lower_bytes", "attainable_bytes", "live_bytes")
    rows = [
        (cascade, *(amount(one[name], "bytes") for name in names)) for cascade, one in found.items()
    ]
    return table(columns, rows)


def _published(found: Result) -> str:
    """How many figures hold, the averages or verdicts that are stated, and errors by table."""
    rows = [row for one in found["tables"] for row in one["rows"]]
    held = [row["holds"] for row in rows if row["holds"] is not None]
    said = f"{len(rows)} figures; {held.count(True)} of {len(held)} with a tolerance are within it."
    if found.get("timed_rows"):
        said += (
            f" {found['timed_rows']} kernel times on described GPUs: median error "
            f"{percent(found['median_error'])} (allowed {percent(found['median_allowed'])})."
        )
    errors = [
        (
            one["name"],
            quantity,
            str(sum(row["quantity"] == quantity for row in one["rows"])),
            deviation(mean),
            deviation(one["max_error"][quantity]),
        )
        for one in found["tables"]
        for quantity, mean in one["mean_error"].items()
    ]
    columns = ("table", "quantity", "rows", "mean error", "largest")
    rest = folded(f"Errors of {len(errors)} quantities", table(columns, errors, left=2))
    averages = [
        (row["name"], f"{row['published']:g}", f"{row['ours']:.4g}") for row in found["averages"]
    ]
    means = table(("mean over the evaluation", "published", "ours"), averages) if averages else ""
    return f"<p>{said}</p>{means}{_verdicts(found.get('verdicts', ()))}{rest}"


def _verdicts(found: Sequence[Result]) -> str:
    """What became of each paper's figures, in its own words."""
    if not found:
        return ""
    rows = [(one["number"], one["title"], "; ".join(one["verdict"]), one["rows"]) for one in found]
    missing = [
        (one["title"], one["argument"] or "-", one["missing"] or "-")
        for one in found
        if one["argument"] or one["missing"]
    ]
    why = folded("Why, and what is missing", table(("paper", "why", "missing"), missing, left=3))
    return table(("", "paper", "verdict", "rows"), rows, left=3) + why


#: Words for whether something holds; None where there is nothing to hold.
_HELD: Final = {True: "yes", False: "no", None: "-"}
#: Columns of a spread of errors.
_SPREAD: Final = ("rows", "mean error", "90th percentile", "largest")


def _gpu(found: Result) -> str:
    """Predictions beside a GPU's runs: what was asked, errors by time, and by what was run."""
    return "".join(_runs(name, one) for name, one in found["validations"].items())


def _runs(name: str, found: Result) -> str:
    asked = [
        (one["line"], one["rows"], one["asked"], one["got"], _HELD[one["held"]])
        for one in found["acceptance"]
    ]
    bands = [
        (kind, band, *_spread(errors["ours"]),
         *(percent(errors[other]["mean"]) for other in _others(found)))
        for kind, by_band in found["errors"].items()
        for band, errors in by_band.items()
    ]  # fmt: skip
    families = [
        (family, band, *_spread(errors["ours"]))
        for family, by_band in found["by_family"].items()
        for band, errors in by_band.items()
    ]
    kernels = [(kernel, *_spread(one["ours"])) for kernel, one in found["by_kernel"].items()]
    quantities = [(quantity, *_spread(one)) for quantity, one in found["quantities"].items()]
    columns = ("rows of", "time", *_SPREAD, *(f"{other}: mean" for other in _others(found)))
    return (
        f"<h3>Rows {html.escape(name)}</h3>"
        + table(columns, bands, left=2)
        + folded("What is asked", table(("", "rows", "asked", "got", "held"), asked))
        + folded("By family", table(("family", "time", *_SPREAD), families, left=2))
        + folded("By kernel, 20 us and more", table(("kernel", *_SPREAD), kernels))
        + folded("Bytes, energy, clock, speedups", table(("quantity", *_SPREAD), quantities))
    )


def _others(found: Result) -> list[str]:
    """Baselines that stand beside ours."""
    bands = [errors for by_band in found["errors"].values() for errors in by_band.values()]
    return [name for name in dict.fromkeys(n for b in bands for n in b) if name != "ours"]


def _spread(errors: Result) -> tuple[str, ...]:
    return str(errors["rows"]), *(percent(errors[name]) for name in ("mean", "p90", "max"))


def _systems(found: Result) -> str:
    """Two tables: what each system is, and what a layer of it costs beside dense attention."""
    rows = found["systems"]
    kinds = [
        (
            row["number"] or "",
            row["name"],
            row["kind"],
            row["sure"],
            *(count(row[name]) for name in ("passes_k", "passes_v", "passes_estimation")),
            " ".join(dict.fromkeys(f"{s['bits']:.4g}" for s in row["bits"])) or "-",
        )
        for row in rows
    ]
    columns = ("", "system", "kind", "sure", "passes over K", "over V", "estimation", "bits")
    own = table(columns, kinds, left=4)
    live = [(row["name"], ", ".join(row["in_flight"]), row["live"]) for row in rows if row["live"]]
    words = table(("system", "for one point of", "words"), live, left=3)
    lengths = sorted({cell["seq"] for row in rows for cell in row["cells"]})
    costs = "".join(
        folded(f"A layer at {short(n)} beside dense attention", _costs(rows, n)) for n in lengths
    )
    said = (
        "<p>A layer beside dense attention. By: array, or described kernels; one kernel, where a "
        "stage without a description is taken as one kernel would run it; bound, where no kernel "
        "is described that realises it: at most that speedup, at least that energy.</p>"
    )
    return own + said + costs + folded("What must stay on chip", words)


def _costs(rows: Iterable[Result], seq: int) -> str:
    """Shares of dense attention's operations and bytes, predicted speedups and energy."""
    columns = ("system", "phase", "operations", "bytes", "machine", "by", "speedup", "energy")
    found = [
        (
            row["name"],
            cell["phase"],
            percent(cell["ops"]),
            percent(cell["bytes"]),
            one["machine"],
            one["how"],
            ratio(one["speedup"]),
            percent(one["energy_ratio"]),
        )
        for row in rows
        for cell in row["cells"]
        if cell["seq"] == seq
        for one in cell["predicted"]
    ]
    return table(columns, found, left=2)


def _front(found: Result) -> str:
    rows = found["front"]
    fields = [*found["by"], *(n for n in (rows[0] if rows else {}) if n.startswith("set."))]
    cells = [
        (*(str(row[n]) for n in fields), *(figure(n, row[n]) for n in found["objectives"]))
        for row in rows
    ]
    columns = (*(n.removeprefix("set.") for n in fields), *found["objectives"])
    return table(columns, cells, left=len(fields))


def folded(summary: str, inner: str) -> str:
    """Something that opens when it is asked for; in print it is open."""
    return f"<details><summary>{html.escape(summary)}</summary>{inner}</details>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A table whose first ``left`` columns are words.

    >>> "<td class=left>a</td><td>1</td>" in table(("x", "y"), [("a", 1)])
    True
    """

    def cells(tag: str, values: Sequence[object]) -> str:
        return "".join(
            f"<{tag}{' class=left' if n < left else ''}>{html.escape(str(value))}</{tag}>"
            for n, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{cells("th", columns)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
