"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

#: The evaluation of FuseMax (MICRO 2024): what ``compare`` and ``report`` take if not told.
DESIGNS: Final = ("unfused", "flat", "fusemax")
MODEL: Final = "BERT"
LENGTHS: Final = "1K,4K,16K,64K,256K,1M"

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object (numbers in SI) instead of tables.")
]
Cascade = Annotated[str, typer.Argument(help="A cascade's name or file.")]
MaybeCascade = Annotated[str | None, typer.Argument(help="A cascade's name or file.")]
Arch = Annotated[str, typer.Option(metavar="NAME", help="An architecture's name or file.")]
MaybeArch = Annotated[
    str | None, typer.Option(metavar="NAME", help="An architecture's name or file.")
]
Mapping = Annotated[str | None, typer.Option(metavar="NAME", help="A mapping's name or file.")]
Design = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Cascade, architecture and mapping under one name."),
]
Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="A model, as `list models` names them.")
]
Length = Annotated[
    str | None,
    typer.Option("--seq", metavar="N", help="Sequence length: 4096, 4K, 1M (K is 1024)."),
]
Shape = Annotated[
    str | None, typer.Option(metavar="R=N,...", help="Sizes of ranks: B=64,H=12,M=4096,...")
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A Hugging Face config.json to take the sizes from."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a field of the architecture, as buffer.capacity=8MiB. May be repeated.",
    ),
]
Choose = Annotated[
    list[str] | None,
    typer.Option(
        "--choose",
        metavar="NAME=VALUE",
        help="Override a value of the mapping's rules, as P1=4. May be repeated.",
    ),
]
Physical = Annotated[
    bool,
    typer.Option(
        "--physical", help="Count register files of every PE, and leakage, in the energy."
    ),
]
Designs = Annotated[
    list[str] | None, typer.Argument(help=f"Designs; {', '.join(DESIGNS)} if none.")
]
Models = Annotated[
    str, typer.Option("--model", metavar="NAME,...", help="Models, as `list models` names them.")
]
Lengths = Annotated[
    str,
    typer.Option("--seq", metavar="N,...", help="Sequence lengths: 4096, 4K, 1M (K is 1024)."),
]
Baseline = Annotated[
    str | None,
    typer.Option(metavar="DESIGN", help="What to compare with; the first design if none."),
]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write it there instead of printing it.")
]
Rows = Annotated[
    Path | None,
    typer.Option(
        "--export", metavar="FILE", help="Write the rows to a .csv, .json or .parquet too."
    ),
]


def parts(text: str) -> list[str]:
    """The parts of a list written with commas.

    >>> parts("1K, 4K,")
    ['1K', '4K']
    """
    return [part.strip() for part in text.split(",") if part.strip()]


def choices(texts: list[str] | None) -> dict[str, str | int | float]:
    """Values of ``--choose``: numbers where they are numbers.

    >>> choices(["P1=4", "scores=onchip"])
    {'P1': 4, 'scores': 'onchip'}
    """
    from accelsim.explore.estimate import choice

    return dict(choice(text) for text in texts or ())
