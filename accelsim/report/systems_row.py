"""One published system as tables: what it is, and how each of its numbers comes about."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from accelsim.report.numbers import amount, percent
from accelsim.report.systems import Result, count, several, short, systems_table


def system(row: Result) -> Iterable[RenderableType]:
    """One system: what is said of it, how its passes and loads come about, its formats."""
    summary = Table(box=None, show_header=False, pad_edge=False)
    summary.add_column(style="bold", no_wrap=True)
    summary.add_column(overflow="fold")
    for name in ("title", "about", "paper", "kind", "sure", "rests", "model"):
        if row[name]:
            summary.add_row(name, escape(str(row[name])))
    for name, p in row["parameters"].items():
        summary.add_row(name, escape(f"{p['value']:g}: {p['about'] or p['source']}"))
    for phase, why in row["leaves"].items():
        summary.add_row(phase, escape(why))
    for note in row["notes"]:
        summary.add_row("note", escape(note))
    yield summary
    for swept in row["swept"]:
        yield _passes(swept)
    if row["cells"]:
        yield _loads(row["cells"])
        yield _stages(row["cells"])
        yield from dict.fromkeys(
            f"{one['machine']}, {c['phase']}: "
            + ("a bound, since " if one["how"] == "bound" else "")
            + one["why"]
            for c in row["cells"]
            for one in c["predicted"]
            if one["why"]
        )
    if row["bits"]:
        yield _formats(row["bits"])
    if row["variants"]:
        yield _variants(row["variants"])
    if row["study"]:
        yield from _study(row["study"])


def _passes(swept: Result) -> str:
    """The passes of one cascade as sentences."""
    lines = [
        f"{swept['cascade']}: {count(swept['over_k'])} over K, {count(swept['over_v'])} over V"
        + (f", {count(swept['estimation'])} of them estimation" if swept["estimation"] else "")
    ]
    lines += [f"  {step}" for step in swept["why"]]
    of = f" for one point of {', '.join(swept['in_flight'])}" if swept["in_flight"] else ""
    lines.append(f"  live words{of}: {swept['live']}")
    return escape("\n".join(lines))


def _loads(cells: Iterable[Result]) -> Table:
    """Operations by class and bytes by tensor, of the system and of dense attention."""
    table = systems_table(
        "Each phase and length, a layer",
        *("phase", "length", "what", "operations", "by class", "bytes", "by tensor", "rooflines"),
        left=3,
    )
    for cell in cells:
        for what in ("own", "dense"):
            load = cell[what]
            first = what == "own"
            table.add_row(
                cell["phase"] if first else "",
                short(cell["seq"]) if first else "",
                "system" if first else "dense",
                f"{load['ops']:.4g}",
                " ".join(f"{n}:{v:.3g}" for n, v in load["ops_by_class"].items()),
                amount(load["bytes"], "bytes"),
                " ".join(f"{n}:{v:.3g}" for n, v in load["bytes_by_tensor"].items()),
                " ".join(amount(t, "seconds") for t in load["roofline_s"].values()),
            )
    return table


def _stages(cells: Iterable[Result]) -> Table:
    """Each prediction taken apart: stages, how each is priced, operations, bytes, time, energy."""
    columns = ("phase", "length", "machine", "what", "stage", "by", "bound by")
    table = systems_table(
        "Predictions, a layer", *columns, "operations", "bytes", "time", "energy", left=7
    )
    for cell in cells:
        for one in cell["predicted"]:
            for what, found in (("system", one["stages"]), ("dense", one["dense_stages"])):
                for number, stage in enumerate(found):
                    head = (cell["phase"], short(cell["seq"]), one["machine"], what)
                    names = ", ".join(stage["where"].get("kernel", ())) or stage["how"]
                    table.add_row(
                        *(head if not number else ("",) * 4),
                        stage["name"],
                        names,
                        stage["bound_by"],
                        f"{stage['ops']:.3g}",
                        amount(stage["bytes"], "bytes"),
                        amount(stage["seconds"], "seconds"),
                        amount(stage["joules"], "joules"),
                    )
    return table


def _formats(stored: Iterable[Result]) -> Table:
    """Bits an element, line by line of each format."""
    table = systems_table(
        "Bits an element, metadata included",
        *("tensor", "format", "made of", "source", "bits", "published", "allowed"),
        left=4,
    )
    for one in stored:
        table.add_row(
            escape(one["tensor"]),
            one["format"],
            escape(", ".join(f"{name} {n:.4g}" for name, n in one["lines"].items())),
            escape(one["source"]),
            f"{one['bits']:.5g}",
            "-" if one["published"] is None else f"{one['published']:g}",
            "-" if one["published"] is None else percent(one["within"]),
        )
    return table


def _variants(variants: Iterable[Result]) -> Table:
    """Other methods of the paper: passes, and each phase and length beside dense attention."""
    variants = list(variants)
    lengths = list(dict.fromkeys(c["seq"] for v in variants for c in v["cells"]))
    at = ", ".join(short(n) for n in lengths)
    machines = [one["machine"] for one in variants[0]["cells"][0]["predicted"]]
    table = systems_table(
        f"Methods of the paper beside dense attention, at {at}",
        *("method", "phase", "passes K", "V", "estimation", "operations, %", "bytes, %"),
        *(f"speedup, {name}" for name in machines),
        left=2,
    )
    for variant in variants:
        passes = [
            count(max((s[name] for s in variant["swept"]), default=None))
            for name in ("over_k", "over_v", "estimation")
        ]
        shares = (several(100 * c[what] for c in variant["cells"]) for what in ("ops", "bytes"))
        speedups = (
            several(c["predicted"][n]["speedup"] for c in variant["cells"])
            for n in range(len(machines))
        )
        table.add_row(variant["name"], variant["cells"][0]["phase"], *passes, *shares, *speedups)
    return table


def _study(study: Result) -> Iterable[RenderableType]:
    """A study's own table, and what it says."""
    table = systems_table(study["title"], *study["columns"], left=2)
    for row in study["rows"]:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    yield table
    yield escape(study["says"])
