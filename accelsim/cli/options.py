"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object (numbers in SI) instead of tables.")
]
Cascade = Annotated[str, typer.Argument(help="A cascade's name or file.")]
Model = Annotated[
    Optional[str],  # noqa: UP045 (Typer reads it at run time)
    typer.Option(metavar="NAME", help="A model, as `list models` names them."),
]
Length = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--seq", metavar="N", help="Sequence length: 4096, 4K, 1M (K is 1024)."),
]
Shape = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="R=N,...", help="Sizes of ranks: B=64,H=12,M=4096,..."),
]
Config = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(metavar="FILE", help="A Hugging Face config.json to take the sizes from."),
]
Sets = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a field of the architecture, as buffer.capacity=8MiB. May be repeated.",
    ),
]
Choose = Annotated[
    Optional[list[str]],  # noqa: UP045
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
