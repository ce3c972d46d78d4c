"""One HTML page of a whole comparison: no network, no script, pictures inside.

It reads on a phone (tables scroll, pictures shrink), in the dark (pictures are
inverted with their hues kept) and in print (nothing is cut between pages).
"""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from accelsim.report.bounds import slope_figure
from accelsim.report.machine_plots import errors_figure, roofline_figure, schedule_figure
from accelsim.report.numbers import amount, deviation, percent, ratio
from accelsim.report.plots import passes_figure, speedup_figure
from accelsim.report.sweep import figure, front_figure

Result: TypeAlias = Mapping[str, Any]

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #ffffff; --line: #d8dde5;
  --soft: #5b6677; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --paper: #14181f; --line: #343c49;
  --soft: #9aa5b5; --card: #1b212b; } figure img { filter: invert(0.92) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.2rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { margin-top: 2.4rem; font-size: 1.2rem; }
nav a { margin-right: 1rem; color: inherit; } p.about, figcaption { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
th { border-bottom-width: 2px; } th.left, td.left { text-align: left; }
figure { margin: 1rem 0; } figure img { display: block; min-width: 34rem; max-width: 100%;
  height: auto; }
details { margin: 0.6rem 0; } summary { cursor: pointer; }
.numbers { display: flex; flex-wrap: wrap; gap: 0.8rem; padding: 0; list-style: none; }
.numbers li { padding: 0.7rem 1rem; background: var(--card); border-radius: 0.5rem; }
.numbers b { display: block; font-size: 1.4rem; }
@media print { body { max-width: none; padding: 0; } nav { display: none; }
  figure, tr { break-inside: avoid; } figure img { min-width: 0; }
  h2 { break-after: avoid; } details > * { display: block; } }
"""


def page(result: Result, title: str) -> str:
    """The page of what ``explore.report`` gathered, as the text of an HTML file.

    Every picture is an SVG inside the page.  Raises InputError where
    Matplotlib is missing.
    """
    sections = list(_sections(result))
    links = "".join(f'<a href="#{key}">{html.escape(name)}</a>' for key, name, _ in sections)
    body = "".join(
        f'<section id="{key}"><h2>{html.escape(name)}</h2>{inner}</section>'
        for key, name, inner in sections
    )
    about = html.escape(_about(result))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        '<link rel="icon" href="data:,"></head>'
        f'<body><h1>{html.escape(title)}</h1><p class="about">{about}</p>'
        f"<nav>{links}</nav>{body}</body></html>\n"
    )


def _about(result: Result) -> str:
    rows = result["comparison"]["rows"]
    designs = ", ".join(dict.fromkeys(row["design"] for row in rows))
    models = ", ".join(dict.fromkeys(row["model"] for row in rows))
    lengths = ", ".join(dict.fromkeys(str(row["seq"]) for row in rows))
    detail = result["detail"]
    return (
        f"{designs} on {models} at {lengths} tokens, against {result['comparison']['baseline']}. "
        f"Details are of {detail['model']} at {detail['seq']}. accelsim {result['version']}."
    )


def _sections(result: Result) -> Iterable[tuple[str, str, str]]:
    """Anchor, heading and inner text of each part of the page."""
    yield "speedup", "Speedup and energy", _comparison(result["comparison"])
    yield "roofline", "Roofline", _roofline(result["rooflines"])
    estimates, passes, bounds = result["estimates"], result["passes"], result["bounds"]
    yield "schedule", "Schedule", "".join(map(_schedule, estimates, estimates.values()))
    yield "passes", "Passes", "".join(map(_passes, passes, passes.values()))
    yield "traffic", "Traffic and its bounds", "".join(map(_bounds, bounds, bounds.values()))
    if "validation" in result:
        yield "validation", "Predicted and published", _validation(result["validation"])
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
    shown = _drawn(lambda p: speedup_figure(found, p), "Speedup and energy by length")
    return f'<ul class="numbers">{averages}</ul>{shown}{_table(columns, rows, left=3)}'


def _roofline(found: Sequence[Result]) -> str:
    rows = [
        (r["design"], r["arch"], f"{r['rate'] / 1e12:.4g}", level, f"{intensity:.4g}")
        for r in found
        for level, intensity in r["intensity"].items()
    ]
    columns = ("design", "machine", "Tops a second", "level", "operations a byte")
    shown = _drawn(lambda p: roofline_figure(found, p), "Ceilings of each machine, designs below")
    return shown + _table(columns, rows, left=2)


def _schedule(design: str, found: Result) -> str:
    return _drawn(lambda p: schedule_figure(found, p), f"{design}: work of each unit by stage")


def _passes(cascade: str, found: Result) -> str:
    steps = "".join(
        f"<li>{html.escape(rank)}: {html.escape(step)}</li>"
        for rank, why in found["why"].items()
        for step in why
    )
    shown = _drawn(lambda p: passes_figure(found, p), f"{cascade}: Einsums in bands of passes")
    return f"{shown}<details><summary>What forces each pass</summary><ul>{steps}</ul></details>"


def _bounds(cascade: str, found: Result) -> str:
    shown = _drawn(lambda p: slope_figure(found, p), f"{cascade}: traffic against capacity")
    rows = [
        (name, amount(found[key], "bytes"))
        for name, key in (
            ("compulsory", "compulsory_bytes"),
            ("lower bound", "lower_bytes"),
            ("attainable", "attainable_bytes"),
            ("live footprint", "live_bytes"),
        )
    ]
    return shown + _table((f"at {amount(found['capacity_bytes'], 'bytes')}", "bytes"), rows)


def _validation(found: Result) -> str:
    errors = [
        (
            table["name"],
            quantity,
            str(sum(row["quantity"] == quantity for row in table["rows"])),
            deviation(mean),
            deviation(table["max_error"][quantity]),
        )
        for table in found["tables"]
        for quantity, mean in table["mean_error"].items()
    ]
    averages = [
        (row["name"], f"{row['published']:g}", f"{row['ours']:.4g}") for row in found["averages"]
    ]
    shown = _drawn(lambda p: errors_figure(found, p), "Each published figure beside ours")
    return (
        shown
        + _table(("table", "quantity", "rows", "mean error", "largest"), errors, left=2)
        + _table(("mean over the evaluation", "published", "ours"), averages)
    )


def _front(found: Result) -> str:
    rows = found["front"]
    fields = [*found["by"], *(n for n in (rows[0] if rows else {}) if n.startswith("set."))]
    table = [
        (*(str(row[n]) for n in fields), *(figure(n, row[n]) for n in found["objectives"]))
        for row in rows
    ]
    caption = f"{found['sweep']}: what none of {found['points']} points beats"
    shown = _drawn(lambda p: front_figure(found, p), caption)
    return shown + _table((*fields, *found["objectives"]), table, left=len(fields))


def _drawn(draw: Callable[[Path], Path], caption: str) -> str:
    """A picture inside the page, with its caption."""
    with tempfile.TemporaryDirectory() as folder:
        svg = draw(Path(folder) / "figure.svg").read_bytes()
    data = base64.b64encode(svg).decode()
    text = html.escape(caption)
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{text}">'
    return f'<figure><div class="wide">{image}</div><figcaption>{text}</figcaption></figure>'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first ``left`` columns are words."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=left' if n < left else ''}>{html.escape(str(value))}</{tag}>"
            for n, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{cells("th", columns)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
