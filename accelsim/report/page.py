"""One HTML page of a whole comparison: no network, no script, pictures inside.

It reads on a phone (one column; wide tables and pictures scroll under a
shadow), in the dark (pictures are inverted with their hues kept) and in print
(nothing is cut between pages).
"""

from __future__ import annotations

import base64
import html
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from accelsim.report.figures import Picture, pictures
from accelsim.report.plots import see_through
from accelsim.report.sections import sections
from accelsim.report.style import STYLE

Result: TypeAlias = Mapping[str, Any]

#: A picture wider than this has a row of its own, in CSS pixels.
BROAD: Final = 580
#: How far a picture may shrink before it scrolls.
LEAST: Final = 0.68


def page(result: Result, title: str) -> str:
    """The page of what ``explore.report`` gathered, as the text of an HTML file.

    Every picture is an SVG inside the page.  Raises InputError where
    Matplotlib is missing.
    """
    drawn: dict[str, str] = {}
    for picture in pictures(result):
        drawn[picture.section] = drawn.get(picture.section, "") + _figure(picture)
    parts = [
        (key, name, f'<div class="figures">{drawn.get(key, "")}</div>{inner}')
        for key, name, inner in sections(result)
    ]
    links = "".join(f'<a href="#{key}">{html.escape(name)}</a>' for key, name, _ in parts)
    body = "".join(
        f'<section id="{key}"><h2>{html.escape(name)}</h2>{inner}</section>'
        for key, name, inner in parts
    )
    about = html.escape(_about(result))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        '<link rel="icon" href="data:,"></head>'
        f'<body><h1>{html.escape(title)}</h1><p class="about">{about}</p>'
        f"<nav>{links}</nav>{body}</body></html>\n"
    )


def save_pictures(result: Result, folder: Path, ending: str = ".svg") -> list[Path]:
    """Write each picture of the page to a file of its own; returns the files."""
    return [picture.draw(folder / f"{picture.name}{ending}") for picture in pictures(result)]


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


def _figure(picture: Picture) -> str:
    """A picture inside the page, with its caption."""
    with tempfile.TemporaryDirectory() as folder, see_through():
        svg = picture.draw(Path(folder) / "figure.svg").read_bytes()
    data, width = base64.b64encode(svg).decode(), _pixels(svg)
    text = html.escape(picture.caption)
    least = f"min-width:{LEAST * width:.0f}px"
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{text}" style="{least}">'
    broad = ' class="broad"' if width > BROAD else ""
    return f'<figure{broad}><div class="wide">{image}</div><figcaption>{text}</figcaption></figure>'


def _pixels(svg: bytes) -> float:
    """The width of an SVG in CSS pixels; Matplotlib writes it in points.

    >>> _pixels(b'<svg height="10pt" width="360pt">')
    480.0
    """
    found = re.search(rb'\bwidth="([\d.]+)pt"', svg)
    return float(found.group(1)) * 96 / 72 if found else 0.0
